//! A job's changes as messages: which ones, with which revisions. Pure; who publishes them is another matter.
//!
//! Each key is a subject of its own. Within one call each key changes once at most, and the messages come sorted by subject: the
//! same changes after the same ledger are the same bytes, on every machine.

use std::collections::HashSet;

use arrow::datatypes::Schema;
use arrow::record_batch::RecordBatch;

use super::body::{Rows, check_schema};
use super::event::{CONTENT_TYPE, Publisher, digest};
use super::ledger::{Content, Ledger, Revision};
use super::subject::{SubjectTemplate, encode_token};
use super::{KeyedChanges, Stamp};
use crate::error::{Error, ErrorKind, Result};
use crate::types::OutboundMessage;

/// What is published where.
#[derive(Debug, Clone, Copy)]
pub struct ChangeTarget<'a> {
    /// The pipeline's name, part of every id.
    pub pipeline: &'a str,
    /// The job's name, part of every id and type.
    pub job: &'a str,
    /// The stream.
    pub stream: &'a str,
    /// The subject template: literal tokens and `{column}` for each column of the key.
    pub subject: &'a str,
    /// The job's columns.
    pub schema: &'a Schema,
    /// The names of the key's columns.
    pub key: &'a [String],
}

/// Decides a job's revisions, from a ledger that it keeps.
#[derive(Debug, Clone)]
pub struct ChangeDesk {
    stream: String,
    publisher: Publisher,
    template: SubjectTemplate,
    key: Vec<String>,
    ledger: Ledger,
}

/// A key with what its subject shall say.
struct Wanted {
    subject: String,
    key: Vec<String>,
    content: Content,
    /// The row in canonical form; empty where it is gone.
    data: Vec<u8>,
}

impl ChangeDesk {
    /// The desk of a job of which nothing was published.
    ///
    /// # Errors
    /// `Definition` where the template, the key or a column's type can't work.
    pub fn new(target: &ChangeTarget<'_>) -> Result<Self> {
        check_schema(target.schema)?;
        let template = SubjectTemplate::parse(target.subject, target.key)?;
        if let Some(missing) = target.key.iter().find(|name| target.schema.index_of(name).is_err()) {
            return Err(Error::new(
                ErrorKind::Definition,
                format!("job `{}` has no column `{missing}` of its key", target.job),
            ));
        }
        Ok(Self {
            stream: target.stream.to_owned(),
            publisher: Publisher::new(target.pipeline, target.job),
            template,
            key: target.key.to_vec(),
            ledger: Ledger::default(),
        })
    }

    /// The filter that selects every subject of the job.
    pub fn filter(&self) -> String {
        self.template.filter()
    }

    /// The stream.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// What was published so far.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Goes on from another ledger.
    pub fn set_ledger(&mut self, ledger: Ledger) {
        self.ledger = ledger;
    }

    /// Enters a subject's last message, as it stands in the stream at `sequence`.
    ///
    /// # Errors
    /// `Definition` if this job can't have published it.
    pub(super) fn enter(&self, ledger: &mut Ledger, subject: &str, sequence: u64, message: &[u8]) -> Result<()> {
        let revision = self.template.key(subject).and_then(|key| self.publisher.read(&key, message));
        let revision: Revision = revision.ok_or_else(|| {
            let doing = format!(
                "stream `{}` has a message on `{subject}` (sequence {sequence}) that this job didn't publish; give the sink subjects \
                 of its own",
                self.stream
            );
            Error::new(ErrorKind::Definition, doing)
        })?;
        ledger.record(subject, revision);
        Ok(())
    }

    /// The messages of what an epoch changed, as far as it was not published before; the ledger has them from now on.
    ///
    /// # Errors
    /// `Limit` where a key or a time is beyond what can be said; `Internal` where a key stands in the changes twice, or is null.
    pub fn changes(&mut self, stamp: Stamp, changes: &KeyedChanges) -> Result<Vec<OutboundMessage>> {
        let mut seen = HashSet::new();
        let mut wanted = self.wanted_rows(&changes.present, &mut seen)?;
        wanted.extend(self.wanted_gone(&changes.gone, &mut seen)?);
        self.decide(stamp, wanted)
    }

    /// The messages of what differs between a whole table and what was published: keys that `table` lacks are revoked.
    ///
    /// # Errors
    /// As [`ChangeDesk::changes`].
    pub fn reconcile(&mut self, stamp: Stamp, table: &RecordBatch) -> Result<Vec<OutboundMessage>> {
        let mut seen = HashSet::new();
        let mut wanted = self.wanted_rows(table, &mut seen)?;
        wanted.extend(self.wanted_missing(&seen));
        self.decide(stamp, wanted)
    }

    fn decide(&mut self, stamp: Stamp, mut wanted: Vec<Wanted>) -> Result<Vec<OutboundMessage>> {
        wanted.sort_unstable_by(|a, b| a.subject.cmp(&b.subject));
        let mut messages = Vec::new();
        for one in wanted {
            let Some(next) = self.ledger.decide(&one.subject, one.content) else { continue };
            let key: Vec<&str> = one.key.iter().map(String::as_str).collect();
            let body = String::from_utf8(self.publisher.message(stamp, &key, &next, &one.data)?)
                .map_err(|error| Error::caused(ErrorKind::Internal, "writing a change", error))?;
            self.ledger.record(&one.subject, next.revision);
            messages.push(OutboundMessage { subject: one.subject, content_type: CONTENT_TYPE.to_owned(), body });
        }
        Ok(messages)
    }
    /// What each row's subject shall say, as far as it doesn't say so yet. `seen` collects all subjects.
    fn wanted_rows(&self, batch: &RecordBatch, seen: &mut HashSet<String>) -> Result<Vec<Wanted>> {
        let rows = Rows::new(batch)?;
        let key = self.key_columns(batch)?;
        let mut wanted = Vec::new();
        for row in 0..batch.num_rows() {
            let key = self.key_of(&rows, &key, row)?;
            let subject = self.unseen(&key, seen)?;
            let mut data = Vec::new();
            rows.write(row, &mut data)?;
            let content = Content::Present(digest(&data));
            if self.ledger.decide(&subject, content).is_some() {
                wanted.push(Wanted { subject, key, content, data });
            }
        }
        Ok(wanted)
    }

    fn wanted_gone(&self, batch: &RecordBatch, seen: &mut HashSet<String>) -> Result<Vec<Wanted>> {
        let rows = Rows::new(batch)?;
        let key = self.key_columns(batch)?;
        let mut wanted = Vec::new();
        for row in 0..batch.num_rows() {
            let key = self.key_of(&rows, &key, row)?;
            let subject = self.unseen(&key, seen)?;
            wanted.push(Wanted { subject, key, content: Content::Revoked, data: Vec::new() });
        }
        Ok(wanted)
    }

    /// The keys that the ledger has and a whole table hasn't.
    fn wanted_missing(&self, seen: &HashSet<String>) -> Vec<Wanted> {
        let missing = self.ledger.present().into_iter().filter(|subject| !seen.contains(subject));
        missing
            .filter_map(|subject| {
                let key = self.template.key(&subject)?.into_iter().map(str::to_owned).collect();
                Some(Wanted { subject, key, content: Content::Revoked, data: Vec::new() })
            })
            .collect()
    }

    fn key_columns(&self, batch: &RecordBatch) -> Result<Vec<usize>> {
        let schema = batch.schema();
        let index = |name: &String| {
            schema
                .index_of(name)
                .map_err(|error| Error::caused(ErrorKind::Internal, "finding the key's columns", error))
        };
        self.key.iter().map(index).collect()
    }

    fn key_of(&self, rows: &Rows, columns: &[usize], row: usize) -> Result<Vec<String>> {
        let value = |(column, name): (&usize, &String)| match rows.text(*column, row)? {
            Some(text) => Ok(encode_token(&text)),
            None => {
                Err(Error::internal(format!("column `{name}` of the key is null in a row that was to be published")))
            }
        };
        columns.iter().zip(&self.key).map(value).collect()
    }

    fn unseen(&self, key: &[String], seen: &mut HashSet<String>) -> Result<String> {
        let subject = self.template.subject(key)?;
        if seen.insert(subject.clone()) {
            Ok(subject)
        } else {
            Err(Error::internal(format!("key `{}` stands in the changes twice", key.join("/"))))
        }
    }
}
