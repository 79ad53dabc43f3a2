//! Places where a test may end the process as a crash would: with the feature `harness`, and nowhere without it.
//!
//! `MILEPOST_FAILPOINT=committed:3` ends the process by SIGKILL when it comes to that place for the third time.

/// A place between two effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failpoint {
    /// The process has claimed the log; nothing else of it is seen.
    Claimed,
    /// What a manifest is going to name is stored.
    Staged,
    /// A manifest is committed, and nothing of it is published.
    Committed,
    /// One more batch of a commit is published.
    BatchSent,
    /// All of a commit is published.
    Published,
    /// A table has a new version.
    TableShown,
    /// The sources' positions are acknowledged.
    Acknowledged,
    /// The epochs of a run that has read everything again are stored, and the log doesn't say so.
    GenerationStaged,
    /// What was published before is stored, and the sinks are not adopted.
    LedgersStaged,
    /// A snapshot is stored, and the log doesn't say so.
    SnapshotStaged,
}

impl Failpoint {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Claimed,
        Self::Staged,
        Self::Committed,
        Self::BatchSent,
        Self::Published,
        Self::TableShown,
        Self::Acknowledged,
        Self::GenerationStaged,
        Self::LedgersStaged,
        Self::SnapshotStaged,
    ];

    /// The name by which `MILEPOST_FAILPOINT` means it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Claimed => "claimed",
            Self::Staged => "staged",
            Self::Committed => "committed",
            Self::BatchSent => "batch_sent",
            Self::Published => "published",
            Self::TableShown => "table_shown",
            Self::Acknowledged => "acknowledged",
            Self::GenerationStaged => "generation_staged",
            Self::LedgersStaged => "ledgers_staged",
            Self::SnapshotStaged => "snapshot_staged",
        }
    }

    /// The process is here.
    #[cfg(not(feature = "harness"))]
    pub(super) fn reached(self) {}

    /// The process is here: its end, if a test wants it so.
    #[cfg(feature = "harness")]
    #[expect(clippy::disallowed_methods, reason = "a test says in the environment where the process ends")]
    pub(super) fn reached(self) {
        use std::sync::atomic::{AtomicU64, Ordering};

        static REACHED: [AtomicU64; Failpoint::ALL.len()] = [const { AtomicU64::new(0) }; Failpoint::ALL.len()];
        let wanted = std::env::var("MILEPOST_FAILPOINT").unwrap_or_default();
        let Some((name, count)) = wanted.split_once(':').filter(|(name, _)| *name == self.name()) else { return };
        let reached = REACHED.get(self as usize).map_or(0, |reached| reached.fetch_add(1, Ordering::SeqCst)) + 1;
        if count.parse() == Ok(reached) {
            tracing::warn!(name, reached, "ends here, as a test wants it");
            let killed = std::process::Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status();
            // Only where there is no `kill`.
            drop(killed);
            std::process::abort();
        }
    }
}
