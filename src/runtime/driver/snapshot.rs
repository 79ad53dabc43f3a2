//! Snapshots in the run loop: when one is taken, and how a run begins from one.
//!
//! Taking one holds the circuit up for as long as it takes to write down what changes; rows are shared. Bytes are made and stored
//! while the loop goes on, and once they are, a manifest says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::checkpoint::outbox::Draft;
use crate::checkpoint::{AdoptedSink, FoundSnapshot, SnapshotBytes, Snapshots, StagedSnapshot};
use crate::definition::pipeline::Pipeline;
use crate::error::{Error, ErrorKind, Result};
use crate::sink::ledger::Ledger;
use crate::state::{StateReader, StateWriter};

use super::super::engine::Engine;
use super::super::failpoint::Failpoint;
use super::super::publishing::Publishing;
use super::super::shared::blocking;
use super::{Driver, RunFailure, now};

/// The snapshots of a run.
pub(super) struct Snapshotting {
    snapshots: Snapshots,
    /// Epochs since the last one.
    epochs: u64,
    /// When that was begun.
    begun: Instant,
    /// The one that is being stored.
    under_way: JoinSet<Result<StagedSnapshot>>,
}

impl Snapshotting {
    /// Behind a log with these snapshots.
    pub(super) fn new(snapshots: Snapshots) -> Self {
        Self { snapshots, epochs: 0, begun: now(), under_way: JoinSet::new() }
    }

    /// An epoch more would have to be run again.
    pub(super) fn note_epoch(&mut self) {
        self.epochs += 1;
    }
}

/// An engine that goes on from a snapshot, if it is of the same definition and can be taken up; else `engine` as good as new.
/// Says whether it was.
///
/// # Errors
/// All problems of the definition.
pub(super) async fn begin_from(
    pipeline: &Arc<Pipeline>,
    mut engine: Engine,
    publishing: &mut Publishing,
    found: &FoundSnapshot,
) -> Result<(Engine, bool), RunFailure> {
    match taken_up(pipeline, &mut engine, found) {
        Ok(Some(sinks)) => {
            publishing.adopt(sinks)?;
            tracing::info!(epoch = %engine.epoch(), "begins from a snapshot");
            Ok((engine, true))
        }
        Ok(None) => Ok((engine, false)),
        Err(error) => {
            tracing::warn!(cause = error.chain(), "a snapshot is passed over: the logged epochs are run again");
            Ok((Engine::new(Arc::clone(pipeline), &[]).await?, false))
        }
    }
}

/// The sinks with their ledgers; none if the snapshot is of another definition.
fn taken_up(
    pipeline: &Pipeline,
    engine: &mut Engine,
    found: &FoundSnapshot,
) -> Result<Option<Vec<(AdoptedSink, Ledger)>>> {
    let failed = |error| Error::caused(ErrorKind::Corrupt, "taking up a snapshot", error);
    let mut piece = |name: &String| {
        found.pieces.get(name).cloned().ok_or_else(|| crate::state::damaged(&format!("the piece `{name}` is missing")))
    };
    let mut state = StateReader::new(&found.root, &mut piece).map_err(failed)?;
    let prints: BTreeMap<String, String> = state.value().map_err(failed)?;
    if prints != pipeline.fingerprints() {
        return Ok(None);
    }
    let sinks = state.value().map_err(failed)?;
    engine.load(state)?;
    Ok(Some(sinks))
}

impl Driver {
    /// Begins a snapshot if one is due, and commits the one that is stored.
    pub(super) async fn tend_snapshots(&mut self) -> Result<()> {
        if let Some(staged) = self.snapshotting.under_way.try_join_next() {
            self.settle_snapshot(staged).await?;
        }
        let waited = now().duration_since(self.snapshotting.begun);
        if self.aside.is_none() && self.snapshotting.epochs > 0 && waited >= self.options.snapshot_every {
            self.begin_snapshot()?;
        }
        Ok(())
    }

    /// Takes one more, so that the next run begins where this one ends.
    pub(super) async fn last_snapshot(&mut self) -> Result<()> {
        while let Some(staged) = self.snapshotting.under_way.join_next().await {
            self.settle_snapshot(staged).await?;
        }
        if self.aside.is_none() && self.snapshotting.epochs > 0 {
            self.begin_snapshot()?;
            if let Some(staged) = self.snapshotting.under_way.join_next().await {
                self.settle_snapshot(staged).await?;
            }
        }
        Ok(())
    }

    fn begin_snapshot(&mut self) -> Result<()> {
        if !self.snapshotting.under_way.is_empty() {
            return Ok(());
        }
        let mut state = StateWriter::default();
        let failed = |error| Error::caused(ErrorKind::Internal, "taking a snapshot", error);
        state.value(&self.pipeline.fingerprints()).map_err(failed)?;
        state.value(&self.publishing.ledgers()).map_err(failed)?;
        self.shared.lock().save(&mut state)?;
        (self.snapshotting.epochs, self.snapshotting.begun) = (0, now());
        let (covers, stored) = (self.log.head(), self.snapshotting.snapshots.pieces());
        let mut stager = self.snapshotting.snapshots.stager();
        self.snapshotting.under_way.spawn(async move {
            let bytes = blocking(move || encoded(state, covers, &stored)).await?;
            stager.stage(&bytes).await
        });
        Ok(())
    }

    /// A snapshot that can't be stored costs the next start some time, and nothing else.
    async fn settle_snapshot(&mut self, staged: Result<Result<StagedSnapshot>, tokio::task::JoinError>) -> Result<()> {
        let staged = staged.map_err(|error| Error::caused(ErrorKind::Internal, "storing a snapshot", error)).flatten();
        match staged {
            Ok(staged) => {
                Failpoint::SnapshotStaged.reached();
                self.carry_out(staged.entry(), Draft::default(), &[]).await?;
                self.snapshotting.snapshots.committed(staged).await;
            }
            Err(error) => {
                self.snapshotting.epochs += 1;
                tracing::warn!(cause = error.chain(), "a snapshot could not be stored");
            }
        }
        Ok(())
    }
}

fn encoded(state: StateWriter, covers: u64, stored: &BTreeSet<String>) -> Result<SnapshotBytes> {
    let encoded = state.encode(&|name| stored.contains(name));
    let encoded = encoded.map_err(|error| Error::caused(ErrorKind::Internal, "writing a snapshot", error))?;
    Ok(SnapshotBytes { covers, root: encoded.root, new: encoded.new, names: encoded.names })
}

/// How often a snapshot is taken unless somebody says otherwise.
pub const SNAPSHOT_EVERY: Duration = Duration::from_secs(60);
