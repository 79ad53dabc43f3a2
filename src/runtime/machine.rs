//! The order in which an epoch's effects leave the process. It is decided here and nowhere else; the driver performs it.
//!
//! ```text
//! stage ─► commit ─► publish ─► show tables ─► acknowledge
//! ```
//!
//! 1. *Stage*: objects that the manifest names are stored. Nobody finds them yet.
//! 2. *Commit*: the manifest is put. From here on the epoch is real, whatever happens; before, nothing of it is.
//! 3. *Publish*: the outbox is rolled forward. If the process dies in between, the next one goes on with it.
//! 4. *Show*: tables may move to a version that has the epoch. After the commit, so that no reader sees what a crash takes back;
//!    after the publication, so that a table is never ahead of its change stream.
//! 5. *Acknowledge*: the sources' positions are told to the broker, for its lag figures.
//!
//! Each step takes what only the step before it gives: publication a [`Committed`], acknowledgement an [`AckPermit`].

use std::sync::Arc;

use crate::checkpoint::chain::Roll;
use crate::checkpoint::{AckPermit, Committed};
use crate::error::{Error, Result};

/// What is to be done next for an epoch that is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Store what the manifest is going to name, then tell [`Course::staged`].
    Stage,
    /// Put the manifest, then tell [`Course::committed`].
    Commit,
    /// Roll [`Course::rolls`] forward, then tell [`Course::published`].
    Publish,
    /// Let tables follow, then tell [`Course::shown`].
    Show,
    /// Acknowledge by [`Course::acknowledge`]: that is the end.
    Acknowledge,
}

/// How far an epoch's effects are out.
#[derive(Debug)]
pub struct Course {
    state: State,
}

#[derive(Debug)]
enum State {
    Staging,
    Committing,
    Publishing(Arc<Committed>, Vec<Roll>),
    Showing(AckPermit),
    Acknowledging(AckPermit),
}

impl Default for Course {
    /// An epoch that is computed, and of which nothing is out.
    fn default() -> Self {
        Self { state: State::Staging }
    }
}

impl Course {
    /// What is to be done.
    pub fn next(&self) -> Effect {
        match &self.state {
            State::Staging => Effect::Stage,
            State::Committing => Effect::Commit,
            State::Publishing(..) => Effect::Publish,
            State::Showing(_) => Effect::Show,
            State::Acknowledging(_) => Effect::Acknowledge,
        }
    }

    /// What the manifest names is stored.
    pub fn staged(&mut self) {
        if matches!(self.state, State::Staging) {
            self.state = State::Committing;
        }
    }

    /// The manifest is committed.
    pub fn committed(&mut self, committed: Committed) {
        if matches!(self.state, State::Committing) {
            let committed = Arc::new(committed);
            let rolls = Roll::of(&committed);
            self.state = State::Publishing(committed, rolls);
        }
    }

    /// What is to be rolled forward, stream by stream; nothing before the commit.
    pub fn rolls(&mut self) -> &mut [Roll] {
        match &mut self.state {
            State::Publishing(_, rolls) => rolls,
            _ => &mut [],
        }
    }

    /// All of it is out.
    ///
    /// # Errors
    /// `Internal` if it is not.
    pub fn published(&mut self) -> Result<()> {
        if let State::Publishing(committed, rolls) = &self.state {
            let permit = AckPermit::new(committed, rolls);
            let permit = permit.ok_or_else(|| Error::internal("an epoch was taken as published, and is not"))?;
            self.state = State::Showing(permit);
        }
        Ok(())
    }

    /// The tables may follow.
    pub fn shown(&mut self) {
        if let State::Showing(permit) = &self.state {
            self.state = State::Acknowledging(permit.clone());
        }
    }

    /// The permit to acknowledge; none before everything else is done.
    pub fn acknowledge(self) -> Option<AckPermit> {
        match self.state {
            State::Acknowledging(permit) => Some(permit),
            _ => None,
        }
    }
}
