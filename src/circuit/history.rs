//! A history: every version of a table's rows, with the clocks between which it stood.
//!
//! The law: let S(c) be the table as the last epoch with the clock c left it; no clock at all comes before every other and
//! shows as null. Copy number k of a row stands at c where S(c) holds the row at least k times. For each row, each k and each
//! longest run of clocks from c1 to before c2 at which copy k stands, the history holds the row with c1 and c2, and with null
//! in place of c2 for as long as it stands. So it is a function of the tables that the logged epochs left and of their
//! clocks. No version is empty: what comes and goes at one clock is not in it, and what goes and comes back at one clock was
//! never away.
//!
//! Rows are the same if they agree in the first columns, the content. The others (where a source's row came from) are those
//! of the row with which the version began.
//!
//! A step costs the rows that changed and the copies of them that stand: what was closed at an earlier clock is never looked
//! at again, nor kept here; nor are versions of rows that neither come nor go any more ([`super::retention`]).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::RowConverter;
use datafusion::error::{DataFusionError, Result};
use hashbrown::HashMap;

use crate::state::{
    Arrangement, Delta, NullKeys, RowId, normalise_zero, row_bytes, row_converter, take_rows, with_rows,
};
use crate::types::Micros;

use super::retention::{Finals, Shown};
use super::{Forgetting, Held, Keeps, Kept, Operator, Outlook, Pace, StepContext};

/// See the module.
pub(super) struct History {
    /// How many columns, from the first, are content.
    content: usize,
    contents: RowConverter,
    /// The versions that stand: the row, and since when.
    open: Arrangement,
    /// Those that were closed at this clock, likewise: they may be opened again, as if nothing had happened.
    closed: Arrangement,
    clock: Option<Micros>,
    /// No row goes, so no version is ever looked for.
    grows_only: bool,
    /// Which versions no delta to come can touch.
    finals: Finals,
    pace: Pace,
    /// The row, since when, and until when.
    schema: SchemaRef,
    text: String,
}

/// How often a row came (or, negative, went) in a delta, and where it stands in it.
#[derive(Debug, Clone, Copy)]
struct Change {
    row: u32,
    copies: i64,
}

/// Some copies of a stored version.
#[derive(Debug, Clone, Copy)]
struct Taken {
    version: RowId,
    copies: i64,
}

/// Which of the stored versions of a row are taken first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    Oldest,
    Newest,
}

impl History {
    /// Of a table of which the first columns are content; `schema` has all its columns, then since when and until when.
    pub(super) fn new(content: usize, schema: SchemaRef, text: String) -> Result<Self> {
        let fields: Vec<_> = schema.fields().iter().take(schema.fields().len() - 1).cloned().collect();
        let held = Arc::new(Schema::new(fields));
        let arrangement = || Arrangement::new(Arc::clone(&held), (0..content).collect(), NullKeys::Equal);
        Ok(Self {
            content,
            contents: row_converter(&held.project(&(0..content).collect::<Vec<_>>())?)?,
            open: arrangement(),
            closed: arrangement(),
            clock: None,
            grows_only: false,
            finals: Finals::default(),
            pace: Pace::default(),
            schema,
            text,
        })
    }

    /// The content of rows, by which they are told apart.
    fn content_of(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        rows.columns().iter().take(self.content).map(normalise_zero).collect()
    }

    /// Which rows a delta adds or takes away once its weights are added up, content by content.
    fn changes(&self, delta: &Delta) -> Result<Vec<Change>> {
        let columns: Vec<usize> = (0..self.content).collect();
        let schema = Arc::new(delta.batch().schema().project(&columns)?);
        let content = with_rows(&schema, self.content_of(delta.batch()), delta.len())?;
        let bytes = row_bytes(&self.contents, &content)?;
        let mut slots: HashMap<&[u8], usize> = HashMap::new();
        let mut changes: Vec<Change> = Vec::new();
        for ((row, bytes), &weight) in (0_u32..).zip(bytes.iter()).zip(delta.weights()) {
            let slot = *slots.entry(bytes.data()).or_insert_with(|| {
                changes.push(Change { row, copies: 0 });
                changes.len() - 1
            });
            let Some(change) = changes.get_mut(slot) else { continue };
            change.copies += weight;
            // A version has the columns beside its content from a row that came.
            if weight > 0 && delta.weights().get(change.row as usize).is_some_and(|&first| first < 0) {
                change.row = row;
            }
        }
        changes.retain(|change| change.copies != 0);
        Ok(changes)
    }

    /// Closes versions, the newest first: copy number k goes before copy number k - 1.
    fn closing(&self, rows: &RecordBatch, copies: &[i64]) -> Result<[Delta; 2]> {
        let (taken, left) = self.take(&self.open, rows, copies, First::Newest)?;
        if left.iter().any(|&copies| copies > 0) {
            return Err(DataFusionError::Internal("a row goes that a history does not hold".to_owned()));
        }
        let gone = stored(&self.open, &taken, -1)?;
        let since = since(gone.batch().columns())?;
        let stood: BooleanArray = (0..since.len()).map(|row| Some(instant(&since, row) != self.clock)).collect();
        let closed = stored(&self.open, &taken, 1)?.filter(&stood)?;
        Ok([gone, closed])
    }

    /// Opens versions: first those that were closed at this clock, the oldest first, and what is left anew.
    fn opening(&self, rows: &RecordBatch, copies: &[i64]) -> Result<[Delta; 2]> {
        let (taken, left) = self.take(&self.closed, rows, copies, First::Oldest)?;
        let again = stored(&self.closed, &taken, 1)?;
        let unclosed = stored(&self.closed, &taken, -1)?;
        let (new, weights): (Vec<u32>, Vec<i64>) = (0_u32..).zip(left).filter(|&(_, copies)| copies > 0).unzip();
        let new = take_rows(rows, &UInt32Array::from(new))?;
        let held = self.open.schema();
        let columns = new.columns().iter().cloned().chain([instants(self.clock, weights.len())]).collect();
        let new = Delta::new(with_rows(held, columns, weights.len())?, weights);
        Ok([Delta::concat(held, &[again, new])?, unclosed])
    }

    /// Finds so many copies of each row among the versions of an arrangement; how many are not there.
    fn take(
        &self,
        versions: &Arrangement,
        rows: &RecordBatch,
        copies: &[i64],
        first: First,
    ) -> Result<(Vec<Taken>, Vec<i64>)> {
        let matches = versions.probe(&self.content_of(rows), rows.num_rows())?;
        let ids: Vec<RowId> = matches.iter().map(|found| found.stored).collect();
        let since = since(&versions.gather_columns(&[self.schema.fields().len() - 2], &ids)?)?;
        let mut order: Vec<usize> = (0..matches.len()).collect();
        order.sort_by(|&one, &other| {
            let probe = |at: usize| matches.get(at).map(|found| found.probe);
            let age = instant(&since, one).cmp(&instant(&since, other));
            probe(one).cmp(&probe(other)).then(if first == First::Oldest { age } else { age.reverse() })
        });
        let mut left = copies.to_vec();
        let mut taken = Vec::new();
        for found in order.into_iter().filter_map(|at| matches.get(at)) {
            let Some(wanted) = left.get_mut(found.probe as usize).filter(|wanted| **wanted > 0) else { continue };
            let copies = versions.weight(found.stored).min(*wanted);
            *wanted -= copies;
            taken.push(Taken { version: found.stored, copies });
        }
        Ok((taken, left))
    }

    /// Versions with the instant until which they stood.
    fn until(&self, versions: &Delta, instant: Option<Micros>) -> Result<Delta> {
        versions.widened(&self.schema, vec![instants(instant, versions.len())])
    }
}

impl Operator for History {
    fn step(&mut self, inputs: &[&Delta], context: &mut StepContext) -> Result<Delta> {
        let Some(&input) = inputs.first().filter(|input| !input.is_empty()) else {
            return Ok(Delta::empty(&self.schema));
        };
        if context.clock != self.clock {
            self.clock = context.clock;
            self.closed = Arrangement::new(Arc::clone(self.open.schema()), self.open.key().to_vec(), NullKeys::Equal);
        }
        let (coming, going): (Vec<Change>, Vec<Change>) =
            self.changes(input)?.into_iter().partition(|change| change.copies > 0);
        let rows = |changes: &[Change]| {
            let places: UInt32Array = changes.iter().map(|change| Some(change.row)).collect();
            take_rows(input.batch(), &places)
        };
        let copies = |changes: &[Change]| changes.iter().map(|change| change.copies.abs()).collect::<Vec<_>>();
        let [gone, closed] = self.closing(&rows(&going)?, &copies(&going))?;
        let [opened, unclosed] = self.opening(&rows(&coming)?, &copies(&coming))?;
        let open = Delta::concat(self.open.schema(), &[opened, gone])?;
        let closed = Delta::concat(self.open.schema(), &[closed, unclosed])?;
        if !self.grows_only {
            self.open.apply(&open)?;
        }
        self.closed.apply(&closed)?;
        Delta::concat(&self.schema, &[self.until(&open, None)?, self.until(&closed, self.clock)?])?.consolidate()
    }

    fn keeps(&self) -> Keeps {
        if self.grows_only { Keeps::Nothing } else { Keeps::Rows }
    }

    /// A version opens or closes only when its row comes or goes.
    fn learn(&mut self, inputs: &[&Outlook]) -> Outlook {
        let Some(&input) = inputs.first() else { return Outlook::default() };
        self.grows_only = input.grows_only;
        self.finals = input.finals(&(0..self.content).collect::<Vec<_>>());
        let shown = |column: usize| (column < self.content).then_some(Shown::Column(column));
        input.showing((0..self.schema.fields().len()).map(shown))
    }

    fn forget(&mut self, round: &Forgetting<'_>) -> Result<()> {
        if self.finals.is_empty() || !self.pace.is_due(self.open.rows(), round) {
            return Ok(());
        }
        let finals = &self.finals;
        let gone = self.open.select(&mut |rows| finals.among(rows.num_rows(), rows.columns(), round))?;
        self.open.forget(&gone)?;
        self.pace.done(self.open.rows(), round);
        Ok(())
    }

    fn forgets(&self, _: usize) -> bool {
        !self.finals.is_empty()
    }

    fn kept_for_ever(&self, _: usize) -> Option<Kept> {
        (!self.grows_only && self.finals.is_empty()).then(|| Kept {
            why: "the history of these rows closes a version when its row goes".to_owned(),
            instead: "show their event time, or leave `history` of the job out",
            by_key: "show the source's `key`, or leave `history` of the job out",
            word: "select".to_owned(),
        })
    }

    fn held(&self) -> Held {
        Held { rows: self.open.rows() + self.closed.rows(), bytes: self.open.bytes() + self.closed.bytes() }
    }

    fn describe(&self) -> String {
        self.text.clone()
    }
}

/// The rows of these versions, appearing (1) or going (-1).
fn stored(versions: &Arrangement, taken: &[Taken], sign: i64) -> Result<Delta> {
    let ids: Vec<RowId> = taken.iter().map(|taken| taken.version).collect();
    Ok(Delta::new(versions.gather(&ids)?, taken.iter().map(|taken| sign * taken.copies).collect()))
}

/// One instant, as a column.
fn instants(instant: Option<Micros>, rows: usize) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(vec![instant; rows]).with_timezone("UTC"))
}

/// Since when versions stand: their last column.
fn since(columns: &[ArrayRef]) -> Result<TimestampMicrosecondArray> {
    let times = columns.last().and_then(|column| column.as_any().downcast_ref::<TimestampMicrosecondArray>());
    let no_times = || DataFusionError::Internal("the times of a history are not in microseconds".to_owned());
    times.cloned().ok_or_else(no_times)
}

fn instant(times: &TimestampMicrosecondArray, row: usize) -> Option<Micros> {
    times.is_valid(row).then(|| times.value(row))
}
