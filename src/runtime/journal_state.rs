//! The journal as part of a snapshot.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, BinaryArray, RecordBatch};
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result};
use serde::{Deserialize, Serialize};

use crate::state::{StateReader, StateWriter};
use crate::types::{DeadLetter, Micros, RawMessage, Rejection};

use super::system_tables::Journal;

/// A dead letter without its body.
#[derive(Debug, Serialize, Deserialize)]
struct Letter {
    source: Arc<str>,
    stream: Arc<str>,
    sequence: u64,
    subject: Arc<str>,
    received_at: Option<Micros>,
    headers: Vec<(String, String)>,
    columns: Option<Arc<[String]>>,
    index: u32,
    place: String,
    rule: String,
    reason: String,
}

impl Journal {
    /// Writes all of it.
    pub(super) fn save(&self, state: &mut StateWriter) -> Result<()> {
        state.value(&self.late)?;
        state.value(&self.intake)?;
        state.value(&self.epochs)?;
        state.value(&self.dead_letters.iter().map(Letter::of).collect::<Vec<_>>())?;
        let bodies: BinaryArray = self.dead_letters.iter().map(|letter| Some(letter.message.body.as_ref())).collect();
        state.rows(RecordBatch::try_from_iter([("body", Arc::new(bodies) as _)])?);
        Ok(())
    }

    /// Takes up what was written.
    pub(super) fn load(&mut self, state: &mut StateReader) -> Result<()> {
        self.late = state.value()?;
        self.intake = state.value()?;
        self.epochs = state.value()?;
        let letters: Vec<Letter> = state.value()?;
        let rows = state.rows()?;
        let bodies = rows.columns().first().and_then(|column| column.as_binary_opt::<i32>());
        let bodies = bodies
            .filter(|bodies| bodies.len() == letters.len())
            .ok_or_else(|| DataFusionError::Execution("dead letters without their bodies".to_owned()))?;
        let body = |row: usize| Bytes::copy_from_slice(bodies.value(row));
        self.dead_letters = letters.into_iter().enumerate().map(|(row, letter)| letter.with(body(row))).collect();
        Ok(())
    }
}

impl Letter {
    fn of(letter: &DeadLetter) -> Self {
        let (message, rejection) = (&letter.message, &letter.rejection);
        Self {
            source: Arc::clone(&letter.source),
            stream: Arc::clone(&message.stream),
            sequence: message.sequence,
            subject: Arc::clone(&message.subject),
            received_at: message.received_at,
            headers: message.headers.clone(),
            columns: message.columns.clone(),
            index: rejection.index,
            place: rejection.place.clone(),
            rule: rejection.rule.to_owned(),
            reason: rejection.reason.clone(),
        }
    }

    fn with(self, body: Bytes) -> DeadLetter {
        DeadLetter {
            source: self.source,
            message: RawMessage {
                stream: self.stream,
                sequence: self.sequence,
                subject: self.subject,
                received_at: self.received_at,
                headers: self.headers,
                columns: self.columns,
                body,
            },
            rejection: Rejection { index: self.index, place: self.place, rule: rule(&self.rule), reason: self.reason },
        }
    }
}

/// The rule of this name, for as long as the process runs: there are few, and each is kept once.
fn rule(name: &str) -> &'static str {
    static RULES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut rules = RULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = rules.get(name) {
        return known;
    }
    let rule: &'static str = String::leak(name.to_owned());
    rules.insert(rule);
    rule
}
