//! The rows of one source and epoch as they arrive: each is judged by the rows before it, and tells what time it is. Pure.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use datafusion::common::cast::as_boolean_array;
use datafusion::physical_expr::PhysicalExpr;

use crate::circuit::{Arrivals, ClosedKeys, RowKey};
use crate::definition::pipeline::{Late, Retention, Source};
use crate::error::{Error, ErrorKind, Result};
use crate::types::Micros;

use super::clock::{Heard, LateJudge};

/// See the module.
pub(crate) struct TimedRows<'a> {
    judge: &'a mut LateJudge,
    received: TimestampMicrosecondArray,
    /// None without an event time.
    timed: Option<Timed>,
    closing: Option<ClosingRows<'a>>,
    heard: Heard,
}

/// What a source with an event time says of its rows.
struct Timed {
    times: TimestampMicrosecondArray,
    /// Whether a row satisfies `when`; none: all do.
    counts: Option<BooleanArray>,
    lateness: Micros,
    /// How far rows may be behind the watermark before they are forgotten.
    retain: Option<Micros>,
    late: Late,
}

/// What closes keys, of a source that retains rows until theirs is closed.
pub(crate) struct Closing<'a> {
    /// The keys that are closed.
    pub(crate) keys: &'a mut ClosedKeys,
    /// Which rows close theirs.
    pub(crate) closes: &'a Arc<dyn PhysicalExpr>,
    /// How far the watermark has to pass such a row; none: not at all.
    pub(crate) after: Option<Micros>,
}

/// The same, for the rows of a batch.
struct ClosingRows<'a> {
    keys: &'a mut ClosedKeys,
    of: Vec<RowKey>,
    closes: BooleanArray,
    after: Option<Micros>,
}

impl<'a> TimedRows<'a> {
    /// The rows of a batch of `source`, whose `when` is compiled.
    pub(crate) fn new(
        source: &Source,
        when: Option<&Arc<dyn PhysicalExpr>>,
        judge: &'a mut LateJudge,
        closing: Option<Closing<'a>>,
        rows: &RecordBatch,
    ) -> Result<Self> {
        let received = rows
            .column_by_name("_received_at")
            .ok_or_else(|| Error::internal("source rows have no `_received_at`"))
            .and_then(timestamps)?;
        let timed = source.event_time.as_ref().map(|event_time| -> Result<Timed> {
            Ok(Timed {
                times: timestamps(rows.column(event_time.column))?,
                counts: when.map(|when| holds(when, rows)),
                lateness: event_time.lateness,
                retain: source.retain.as_ref().and_then(Retention::length),
                late: source.late,
            })
        });
        let closing = closing.map(|closing| -> Result<ClosingRows<'a>> {
            let of = closing
                .keys
                .keys(rows)
                .map_err(|error| Error::caused(ErrorKind::Internal, "reading the keys that a source closes", error))?;
            Ok(ClosingRows { of, closes: holds(closing.closes, rows), keys: closing.keys, after: closing.after })
        });
        let (timed, closing) = (timed.transpose()?, closing.transpose()?);
        Ok(Self { judge, received, timed, closing, heard: Heard::default() })
    }

    /// Whether a row is on time, given whether its key is open; takes what it says of time.
    fn is_on_time(&mut self, row: usize, received: Option<Micros>, open: bool) -> bool {
        let Some(timed) = &self.timed else { return open };
        let time = value(&timed.times, row);
        let counts = timed.counts.as_ref().is_none_or(|counts| counts.is_valid(row) && counts.value(row));
        let behind = self.judge.judge(time, counts && open, received, timed.lateness);
        let horizon = timed.retain.and_then(|retain| self.judge.horizon(retain));
        let forgotten = time.zip(horizon).is_some_and(|(time, horizon)| time < horizon);
        let on_time = open && !forgotten && (!behind || timed.late == Late::Apply);
        if on_time && counts {
            self.heard.newest = self.heard.newest.max(time);
        }
        on_time
    }

    /// What the rows that arrived say of time.
    pub(crate) fn heard(self) -> Heard {
        self.heard
    }
}

impl Arrivals for TimedRows<'_> {
    fn arrive(&mut self, row: usize) -> bool {
        let received = value(&self.received, row);
        self.heard.rows = true;
        self.heard.received = self.heard.received.max(received);
        let open = self.closing.as_ref().is_none_or(|closing| closing.is_open(row));
        let on_time = self.is_on_time(row, received, open);
        if let Some(closing) = &mut self.closing {
            let time = self.timed.as_ref().and_then(|timed| value(&timed.times, row));
            closing.note(row, on_time, time);
            closing.keys.advance(self.judge.watermark());
        }
        on_time
    }

    fn event_time(&self, row: usize) -> Option<Micros> {
        self.timed.as_ref().and_then(|timed| value(&timed.times, row))
    }

    fn horizon(&self) -> Option<Micros> {
        self.timed.as_ref().and_then(|timed| self.judge.horizon(timed.retain?))
    }
}

impl ClosingRows<'_> {
    fn is_open(&self, row: usize) -> bool {
        self.of.get(row).is_none_or(|key| !self.keys.contains(key))
    }

    /// Takes a row in: one that is accepted may close its key.
    fn note(&mut self, row: usize, accepted: bool, time: Option<Micros>) {
        let closes = self.closes.is_valid(row) && self.closes.value(row);
        if let Some(key) = self.of.get(row).filter(|_| accepted && closes) {
            self.keys.close(*key, self.after.zip(time).map(|(after, time)| time.saturating_add(after)));
        }
    }
}

/// Whether each row satisfies a predicate. One on which it fails does not, and that depends on no other row.
pub(super) fn holds(predicate: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> BooleanArray {
    let evaluate = |rows: &RecordBatch| -> datafusion::error::Result<BooleanArray> {
        let values = predicate.evaluate(rows)?.into_array(rows.num_rows())?;
        Ok(as_boolean_array(&values)?.clone())
    };
    let alone = |row: usize| {
        let value = evaluate(&rows.slice(row, 1)).ok()?;
        value.is_valid(0).then(|| value.value(0))
    };
    evaluate(rows).unwrap_or_else(|_| (0..rows.num_rows()).map(alone).collect())
}

pub(super) fn timestamps(column: &ArrayRef) -> Result<TimestampMicrosecondArray> {
    column
        .as_any()
        .downcast_ref::<TimestampMicrosecondArray>()
        .cloned()
        .ok_or_else(|| Error::internal("a time is not in microseconds"))
}

fn value(times: &TimestampMicrosecondArray, row: usize) -> Option<Micros> {
    times.is_valid(row).then(|| times.value(row))
}
