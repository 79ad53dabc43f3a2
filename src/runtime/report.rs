//! What `status` says: the same whether a running process or its leftovers are asked.

use serde::{Deserialize, Serialize};

use crate::types::Micros;

/// The four places in which every event that was read ends; they add up to `read`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCounts {
    /// Events read.
    pub read: u64,
    /// Events that became rows.
    pub accepted: u64,
    /// Events with the key and content of an accepted one.
    pub duplicate: u64,
    /// Events behind the watermark that were diverted or dropped.
    pub late: u64,
    /// Events that could not be read as their contract says.
    pub dead_letters: u64,
}

/// A source in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// Its name.
    pub source: String,
    /// Whether its rows are master data: the latest of each key.
    #[serde(default)]
    pub upsert: bool,
    /// The first sequence that was not read yet.
    pub next: u64,
    /// The first sequence after everything that the input held when it was last asked; none if it never was.
    pub end: Option<u64>,
    /// What became of its events.
    #[serde(flatten)]
    pub counts: SourceCounts,
}

/// A job in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// Its name.
    pub job: String,
    /// Rows in its table.
    pub rows: u64,
    /// Rows that an expression failed on, or that have a null in the job's key.
    pub errors: u64,
    /// Keys that stand for several rows: not published.
    pub ambiguous_keys: u64,
}

/// A history in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryReport {
    /// Its name.
    pub history: String,
    /// Versions in its table.
    pub rows: u64,
}

/// Everything that `status` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The pipeline's name.
    pub pipeline: String,
    /// Whether a process runs it now.
    pub running: bool,
    /// What is wrong with the environment now; none if nothing is.
    pub trouble: Option<String>,
    /// The last epoch.
    pub epoch: u64,
    /// Its clock.
    pub clock_us: Option<Micros>,
    /// Its watermark.
    pub watermark_us: Option<Micros>,
    /// In the pipeline's order.
    pub sources: Vec<SourceReport>,
    /// In the order of dependence.
    pub jobs: Vec<JobReport>,
    /// Of sources, then of jobs.
    #[serde(default)]
    pub histories: Vec<HistoryReport>,
}

impl StatusReport {
    /// Events read of all sources, without rows of master data.
    pub fn events_read(&self) -> u64 {
        self.sources.iter().filter(|source| !source.upsert).map(|source| source.counts.read).sum()
    }

    /// Rows of master data read: those of upsert sources.
    pub fn master_data_read(&self) -> u64 {
        self.sources.iter().filter(|source| source.upsert).map(|source| source.counts.read).sum()
    }
}

impl SourceCounts {
    /// What was counted since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            read: self.read - before.read,
            accepted: self.accepted - before.accepted,
            duplicate: self.duplicate - before.duplicate,
            late: self.late - before.late,
            dead_letters: self.dead_letters - before.dead_letters,
        }
    }

    /// Whether every event that was read ended in exactly one counted place.
    pub fn add_up(&self) -> bool {
        self.accepted + self.duplicate + self.late + self.dead_letters == self.read
    }
}
