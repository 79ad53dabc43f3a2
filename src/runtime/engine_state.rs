//! The engine as a snapshot: everything that the epochs so far left in memory.
//!
//! The law: an engine that takes up what another one of the same pipeline wrote after epoch n does from n + 1 on what that
//! one would do. A snapshot is a shortcut and never a source of truth: where it can't be taken up, the logged epochs are run
//! again from their beginning.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, ErrorKind, Result};
use crate::state::{StateReader, StateWriter};

use super::budget::BudgetWindow;
use super::clock::{ClockTimes, LateJudge};
use super::engine::Engine;
use super::report::SourceCounts;

/// An error row's job, expression, reason and row.
type ErrorKey = (usize, String, String, String);

impl Engine {
    /// Writes what the epochs so far left; quick, since rows are shared and not copied.
    ///
    /// # Errors
    /// `Internal`: a state that can't be written.
    pub fn save(&self, state: &mut StateWriter) -> Result<()> {
        self.save_parts(state).map_err(|error| Error::caused(ErrorKind::Internal, "taking a snapshot", error))
    }

    /// Takes up what an engine of the same pipeline wrote, before the first epoch.
    ///
    /// # Errors
    /// `Corrupt`: it is of another pipeline, or not what was written. The engine must not be used then.
    pub fn load(&mut self, mut state: StateReader) -> Result<()> {
        self.load_parts(&mut state)
            .and_then(|()| state.finish())
            .map_err(|error| Error::caused(ErrorKind::Corrupt, "taking up a snapshot", error))
    }

    fn save_parts(&self, state: &mut StateWriter) -> datafusion::error::Result<()> {
        state.value(&self.clock.times())?;
        state.value(&self.ambiguous)?;
        state.value(&self.errors.iter().collect::<Vec<(&ErrorKey, &i64)>>())?;
        self.journal.save(state)?;
        for source in &self.sources {
            state.value(&(source.counts, &source.judge, &source.window))?;
            source.intake.save(state)?;
        }
        self.tables.iter().try_for_each(|table| table.save(state))?;
        self.circuit.save(state)
    }

    fn load_parts(&mut self, state: &mut StateReader) -> datafusion::error::Result<()> {
        let times: ClockTimes = state.value()?;
        self.clock.take_up(times);
        let ambiguous: Vec<BTreeSet<String>> = state.value()?;
        self.ambiguous = ambiguous;
        let errors: Vec<(ErrorKey, i64)> = state.value()?;
        self.errors = BTreeMap::from_iter(errors);
        self.journal.load(state)?;
        for source in &mut self.sources {
            let (counts, judge, window): (SourceCounts, LateJudge, BudgetWindow) = state.value()?;
            (source.counts, source.judge, source.window) = (counts, judge, window);
            source.intake.load(state)?;
        }
        self.tables.iter_mut().try_for_each(|table| table.load(state))?;
        self.circuit.load(state)
    }
}
