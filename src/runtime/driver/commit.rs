//! What makes an epoch real and lets it out: the steps of [`Course`], each as often as it takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::checkpoint::outbox::Draft;
use crate::checkpoint::{AckPermit, AdoptedSink, Committed, Entry, Staged};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::ledger::Ledger;

use super::super::failpoint::Failpoint;
use super::super::machine::{Course, Effect};
use super::Driver;

impl Driver {
    /// Brings an entry of the log with its messages all the way out. `changed` are the jobs whose tables follow.
    pub(super) async fn carry_out(&mut self, entry: Entry, draft: Draft, changed: &[usize]) -> Result<()> {
        let (mut course, mut entry) = (Course::default(), Some(entry));
        let mut staged = self.publishing.outbox(draft)?.map(Staged::new);
        loop {
            match course.next() {
                Effect::Stage => {
                    if let Some(staged) = &mut staged {
                        while let Err(error) = self.log.stage_outbox(staged).await {
                            self.wait_out(error).await?;
                        }
                    }
                    course.staged();
                    Failpoint::Staged.reached();
                }
                Effect::Commit => {
                    let entry = entry.take().ok_or_else(|| Error::internal("an entry is committed twice"))?;
                    course.committed(self.commit(entry, staged.take()).await?);
                    Failpoint::Committed.reached();
                }
                Effect::Publish => {
                    for roll in course.rolls() {
                        while let Err(error) = self.publishing.roll_forward(roll).await {
                            self.wait_out(error).await?;
                        }
                    }
                    course.published()?;
                    Failpoint::Published.reached();
                }
                Effect::Show => {
                    self.show(changed);
                    course.shown();
                }
                Effect::Acknowledge => {
                    let permit = course.acknowledge().ok_or_else(|| Error::internal("an epoch is not out"))?;
                    self.acknowledge(&permit).await;
                    Failpoint::Acknowledged.reached();
                    return Ok(());
                }
            }
        }
    }

    async fn commit(&mut self, entry: Entry, staged: Option<Staged>) -> Result<Committed> {
        let mut proposal = self.log.propose(entry, staged)?;
        loop {
            match self.log.put(&mut proposal).await {
                Ok(committed) => {
                    self.log.tend().await;
                    return Ok(committed);
                }
                Err(error) => self.wait_out(error).await?,
            }
        }
    }

    /// Lets the tables of these jobs follow.
    pub(super) fn show(&mut self, changed: &[usize]) {
        for table in &mut self.tables {
            table.dirty |= changed.contains(&table.job);
        }
    }

    async fn acknowledge(&mut self, permit: &AckPermit) {
        for input in &mut self.inputs {
            let Some(end) = permit.end_of(&input.name) else { continue };
            if let Err(error) = input.source.acknowledge(end).await {
                tracing::debug!(source = %input.name, cause = %error.chain(), "an acknowledgement, for lag figures only, failed");
            }
        }
    }

    /// Puts the epochs of a run that has read everything again in the place of those before, at once.
    pub(super) async fn establish(&mut self) -> Result<()> {
        let Some(epochs) = self.aside.take() else { return Ok(()) };
        let entry = loop {
            match self.log.stage_generation(&epochs).await {
                Ok(entry) => break entry,
                Err(error) => self.wait_out(error).await?,
            }
        };
        Failpoint::GenerationStaged.reached();
        self.carry_out(entry, Draft::default(), &[]).await
    }

    /// From here on changes are published to the sinks of this run: first what differs between the tables and what was published
    /// before, by the streams themselves.
    pub(super) async fn adopt(&mut self) -> Result<()> {
        let Some(read) = self.unadopted.take() else { return Ok(()) };
        let (ends, ledgers) = read.into_parts();
        let mut sinks: Vec<(AdoptedSink, Ledger)> = Vec::new();
        for (at, (sink, ledger)) in self.publishing.wanted().to_vec().into_iter().zip(ledgers).enumerate() {
            let file = loop {
                if ledger.is_empty() {
                    break None;
                }
                match self.log.stage_ledger(at, &ledger).await {
                    Ok(file) => break Some(file),
                    Err(error) => self.wait_out(error).await?,
                }
            };
            sinks.push((AdoptedSink { ledger: file, ..sink }, ledger));
        }
        Failpoint::LedgersStaged.reached();
        let entry = Entry::Adopt { sinks: sinks.iter().map(|(sink, _)| sink.clone()).collect(), ends: ends.clone() };
        self.publishing.follow(&ends);
        self.publishing.adopt(sinks)?;
        let shared = Arc::clone(&self.shared);
        let draft = self.publishing.differences(&shared.lock())?;
        self.carry_out(entry, draft, &[]).await
    }

    /// What the log says of sinks is not what this run does: it publishes nothing before it has adopted its own.
    pub(super) async fn renounce(&mut self) -> Result<()> {
        if self.publishing.watched().is_empty() {
            return Ok(());
        }
        self.publishing.adopt(Vec::new())?;
        let entry = Entry::Adopt { sinks: Vec::new(), ends: BTreeMap::new() };
        self.carry_out(entry, Draft::default(), &[]).await
    }

    /// What an earlier process did in [`Driver::adopt`], done again: its messages are published already, and must be those.
    pub(super) async fn adopt_again(&mut self, logged: Vec<AdoptedSink>, sha256: Option<&str>) -> Result<()> {
        let mut sinks = Vec::new();
        for sink in logged {
            let ledger = match &sink.ledger {
                Some(file) => self.log.load(file).await?,
                None => Ledger::default(),
            };
            sinks.push((sink, ledger));
        }
        self.publishing.adopt(sinks)?;
        let shared = Arc::clone(&self.shared);
        let draft = self.publishing.differences(&shared.lock())?;
        same_messages(&draft, sha256, "what brought the change streams to where the tables stood")
    }
}

/// That what is run again gives the messages that it gave.
pub(super) fn same_messages(draft: &Draft, sha256: Option<&str>, what: &str) -> Result<()> {
    let found = draft.digest();
    if found.as_deref() == sha256 {
        return Ok(());
    }
    let shown =
        |digest: Option<&str>| digest.map_or_else(|| "none".to_owned(), |digest| format!("those of `{digest}`"));
    let doing = format!(
        "{what}, run again, gives other messages than it did ({} instead of {}): the sources, the program or the log are not what they \
         were; begin anew with another `--home`, which publishes differences only",
        shown(found.as_deref()),
        shown(sha256)
    );
    Err(Error::new(ErrorKind::Corrupt, doing))
}
