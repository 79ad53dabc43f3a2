//! One commit, as it is stored.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::chain::Link;
use super::outbox::Outbox;
use super::record::EpochRecord;
use crate::types::Micros;

/// One commit: everything that is true because of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its number; one more than that of the manifest before it. None is ever used twice.
    pub number: u64,
    /// The log that it is part of: the nonce of the log's first writer.
    pub log: String,
    /// Who put it.
    pub writer: Writer,
    /// What it says.
    pub entry: Entry,
    /// What is published because of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox: Option<Outbox>,
}

/// A change stream of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptedSink {
    /// The job.
    pub job: String,
    /// The stream.
    pub stream: String,
    /// The subject template.
    pub subject: String,
    /// What was published to it before, as it was read back; none: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<StoredFile>,
}

/// Who puts manifests: a process. All but the nonce is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writer {
    /// Drawn when the process began to write; no two have the same.
    pub nonce: String,
    /// The name of its machine.
    pub host: String,
    /// Its number there.
    pub process: u32,
    /// When it began to write, by its machine's clock.
    pub started_at_us: Micros,
}

/// What a manifest says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Entry {
    /// A process has begun to write: whoever wrote before is fenced.
    Claim {
        /// The fingerprints of what it runs, by what they are of.
        fingerprints: BTreeMap<String, String>,
    },
    /// An epoch.
    Epoch(EpochRecord),
    /// Everything was read again: these epochs stand in the place of all before.
    Generation {
        /// Where they lie.
        epochs: StoredFile,
    },
    /// The state is stored as it was behind the manifest of this number: a restart may begin there.
    Snapshot {
        /// The number of the last manifest whose effects are in it.
        covers: u64,
        /// The object that says where the others lie.
        index: StoredFile,
    },
    /// From here on the changes of every epoch are published to these sinks, and to no others. The outbox brings them to where the
    /// tables stand.
    Adopt {
        /// The sinks.
        sinks: Vec<AdoptedSink>,
        /// Where the chain of each of their streams ended.
        ends: BTreeMap<String, Link>,
    },
}

/// An object that a manifest names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredFile {
    /// Its name, below the pipeline's place in the store.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// The digest of its bytes, in hexadecimal.
    pub sha256: String,
}

impl Entry {
    /// Whether it changes what the log says happened: a claim and a snapshot don't, and publish nothing.
    pub(super) fn happened(&self) -> bool {
        !matches!(self, Self::Claim { .. } | Self::Snapshot { .. })
    }
}

impl Manifest {
    /// The same without the messages that it published.
    pub(super) fn published(&self) -> Self {
        Self { outbox: self.outbox.as_ref().map(Outbox::published), ..self.clone() }
    }
}

impl AdoptedSink {
    /// Whether both are the same change stream of the same job.
    pub fn is_sink(&self, other: &Self) -> bool {
        (&self.job, &self.stream, &self.subject) == (&other.job, &other.stream, &other.subject)
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let started = chrono::DateTime::from_timestamp_micros(self.started_at_us).unwrap_or_default();
        let started = started.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        write!(f, "process {} on `{}`, started {started}", self.process, self.host)
    }
}
