//! What a source's rows do to its table: `unique` lets the first of a key through, [`Upsert`] replaces the key's row.
//!
//! A pure function of the rows in stream order: how they are cut into batches can't be seen in the table. Row by row, a
//! repetition is recognised first; what is none [arrives](Arrivals), on time or late. With `retain`, a key is known for as long
//! as rows of its row's event time are accepted: what comes again later is late, so it doesn't get in twice.

use arrow::array::{ArrayRef, BooleanArray, Int64Array};
use arrow::compute::filter_record_batch;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::{DataFusionError, Result};
use hashbrown::HashMap;
use sha2::{Digest, Sha256};

use crate::definition::contract::{Contract, RECORDED_AT, SYSTEM_COLUMNS};
use crate::definition::pipeline::Identity;
use crate::state::{Delta, normalise_zero};
use crate::types::Micros;

use super::upsert::Upsert;

/// The rows of one source so far, as far as they decide what the next ones do.
pub struct Intake {
    state: State,
}

enum State {
    /// Every row is new.
    Append,
    /// The first row of a key; the content of each known key as a digest.
    Unique { key: Vec<usize>, content: Vec<usize>, keys: RowConverter, contents: RowConverter, seen: Seen },
    /// The latest row of each key.
    Upsert(Box<Upsert>),
}

/// 128 bits of a SHA-256: keys and contents that agree in them are taken as equal.
pub(crate) type Mark = [u8; 16];

/// The keys that are known, each with the content of its row.
enum Seen {
    /// For ever.
    Always(HashMap<Mark, Mark>),
    /// While rows of its row's event time, which stands beside it, are accepted.
    InTime { keys: HashMap<Mark, (Mark, Micros)>, left: usize },
}

/// What is known of the time of a batch's rows. Rows are asked about in stream order, each once.
pub trait Arrivals {
    /// Whether a row that is no repetition is on time.
    fn arrive(&mut self, row: usize) -> bool;

    /// The event time of a row.
    fn event_time(&self, row: usize) -> Option<Micros>;

    /// The event time before which everything is forgotten, by the rows that have arrived; it never falls.
    fn horizon(&self) -> Option<Micros>;
}

/// Rows without an event time: none is late, and nothing is forgotten.
struct Timeless;

/// The rows of a batch that are accepted, and the others; positions are rows of the batch.
#[derive(Debug)]
pub struct Admitted {
    /// The rows that are no repetition and not late, in stream order.
    pub rows: RecordBatch,
    /// Rows with the key and content of an admitted one.
    pub duplicates: Vec<usize>,
    /// Rows with the key of an admitted one and other content: dead letters `ID_CONFLICT`.
    pub conflicts: Vec<usize>,
    /// Rows that are late.
    pub late: Vec<usize>,
}

impl Intake {
    /// An intake that has seen nothing yet.
    pub fn new(contract: &Contract, identity: &Identity) -> Result<Self> {
        let schema = contract.table_schema();
        let converter = |columns: &[usize]| {
            RowConverter::new(
                columns.iter().map(|&column| SortField::new(schema.field(column).data_type().clone())).collect(),
            )
        };
        let state = match identity {
            Identity::Append { unique } if unique.is_empty() => State::Append,
            Identity::Append { unique } => {
                let content: Vec<usize> = (0..contract.columns.len())
                    .filter(|&column| contract.columns.get(column).is_some_and(|column| column.name != RECORDED_AT))
                    .collect();
                State::Unique {
                    keys: converter(unique)?,
                    contents: converter(&content)?,
                    key: unique.clone(),
                    content,
                    seen: Seen::Always(HashMap::new()),
                }
            }
            Identity::Upsert { key, order_by, deleted, snapshot } => {
                State::Upsert(Box::new(Upsert::new(&schema, key, *order_by, *deleted, snapshot.as_ref())?))
            }
        };
        debug_assert!(
            schema.fields().len() == contract.columns.len() + SYSTEM_COLUMNS.len(),
            "a table is its contract and the system columns"
        );
        Ok(Self { state })
    }

    /// The same, with keys of `unique` known only as long as [`Arrivals::horizon`] says. For an intake that has seen nothing.
    #[must_use]
    pub fn forgetting(mut self) -> Self {
        if let State::Unique { seen, .. } = &mut self.state {
            *seen = Seen::InTime { keys: HashMap::new(), left: 0 };
        }
        self
    }

    /// Looks at the next rows of the source, in stream order, none of which is late; see [`Intake::admit_in_time`].
    pub fn admit(&mut self, rows: &RecordBatch) -> Result<Admitted> {
        self.admit_in_time(rows, &mut Timeless)
    }

    /// Looks at the next rows of the source, in stream order, for repetitions of what was admitted before, and for what is
    /// late.
    pub fn admit_in_time(&mut self, rows: &RecordBatch, arrivals: &mut dyn Arrivals) -> Result<Admitted> {
        match &mut self.state {
            State::Append | State::Upsert(_) => {
                let late = (0..rows.num_rows()).filter(|&row| !arrivals.arrive(row)).collect();
                Sorted { late, ..Sorted::default() }.of(rows)
            }
            State::Unique { key, content, keys, contents, seen } => {
                let keys = keys.convert_columns(&key_columns(rows, key))?;
                let contents = contents.convert_columns(rows.project(content)?.columns())?;
                seen.sort(&keys, &contents, arrivals).of(rows)
            }
        }
    }

    /// How many keys of `unique` are known.
    pub fn keys(&self) -> usize {
        match &self.state {
            State::Unique { seen: Seen::Always(keys), .. } => keys.len(),
            State::Unique { seen: Seen::InTime { keys, .. }, .. } => keys.len(),
            State::Append | State::Upsert(_) => 0,
        }
    }

    /// The rows of an upsert source's table; none for a source that is no table by itself.
    pub fn table(&self) -> Result<Option<Vec<RecordBatch>>> {
        match &self.state {
            State::Append | State::Unique { .. } => Ok(None),
            State::Upsert(upsert) => upsert.rows().map(Some),
        }
    }

    /// Takes admitted rows into the table; returns how it changes.
    pub fn accept(&mut self, rows: &RecordBatch) -> Result<Delta> {
        match &mut self.state {
            State::Append | State::Unique { .. } => Ok(Delta::insertions(rows.clone())),
            State::Upsert(upsert) => upsert.take(rows),
        }
    }
}

/// The rows of a batch that are not accepted.
#[derive(Default)]
struct Sorted {
    duplicates: Vec<usize>,
    conflicts: Vec<usize>,
    late: Vec<usize>,
}

impl Sorted {
    /// Sets them apart from the others.
    fn of(self, rows: &RecordBatch) -> Result<Admitted> {
        let Self { duplicates, conflicts, late } = self;
        let mut kept = vec![true; rows.num_rows()];
        for &row in duplicates.iter().chain(&conflicts).chain(&late) {
            kept[row] = false;
        }
        let all = kept.iter().all(|&kept| kept);
        let rows = if all { rows.clone() } else { filter_record_batch(rows, &BooleanArray::from(kept))? };
        Ok(Admitted { rows, duplicates, conflicts, late })
    }
}

impl Seen {
    fn sort(&mut self, keys: &Rows, contents: &Rows, arrivals: &mut dyn Arrivals) -> Sorted {
        let mut sorted = Sorted::default();
        let marks: Vec<(Mark, Mark)> =
            keys.iter().zip(contents.iter()).map(|(key, content)| (mark(key.data()), mark(content.data()))).collect();
        self.reserve(&marks);
        for (row, (key, content)) in marks.into_iter().enumerate() {
            match self.known(&key, arrivals.horizon()) {
                Some(known) if known == content => sorted.duplicates.push(row),
                Some(_) => sorted.conflicts.push(row),
                None => {
                    if !arrivals.arrive(row) {
                        sorted.late.push(row);
                    }
                    self.note(key, content, arrivals.event_time(row));
                }
            }
        }
        self.forget(arrivals.horizon());
        sorted
    }

    /// Makes room for these keys, and looks them up: looks that change nothing don't wait for each other, so that memory
    /// answers many of them together.
    fn reserve(&mut self, marks: &[(Mark, Mark)]) {
        std::hint::black_box(match self {
            Self::Always(keys) => {
                keys.reserve(marks.len());
                marks.iter().filter(|(key, _)| keys.contains_key(key)).count()
            }
            Self::InTime { keys, .. } => {
                keys.reserve(marks.len());
                marks.iter().filter(|(key, _)| keys.contains_key(key)).count()
            }
        });
    }

    /// The content of the row with a key, if that is not forgotten.
    fn known(&self, key: &Mark, horizon: Option<Micros>) -> Option<Mark> {
        match self {
            Self::Always(keys) => keys.get(key).copied(),
            Self::InTime { keys, .. } => keys
                .get(key)
                .filter(|(_, time)| horizon.is_none_or(|horizon| *time >= horizon))
                .map(|&(known, _)| known),
        }
    }

    fn note(&mut self, key: Mark, content: Mark, time: Option<Micros>) {
        match self {
            Self::Always(keys) => {
                keys.insert(key, content);
            }
            Self::InTime { keys, .. } => {
                keys.insert(key, (content, time.unwrap_or(Micros::MAX)));
            }
        }
    }

    /// Lets go of what is forgotten, once twice as much is held as was left last time: a key is looked at a bounded number of
    /// times. When that is can't be seen: [`Seen::known`] passes over what is forgotten.
    fn forget(&mut self, horizon: Option<Micros>) {
        let (Self::InTime { keys, left }, Some(horizon)) = (self, horizon) else { return };
        if keys.len() >= *left * 2 + LOOK_FROM {
            keys.retain(|_, (_, time)| *time >= horizon);
            *left = keys.len();
        }
    }
}

impl Arrivals for Timeless {
    fn arrive(&mut self, _: usize) -> bool {
        true
    }

    fn event_time(&self, _: usize) -> Option<Micros> {
        None
    }

    fn horizon(&self) -> Option<Micros> {
        None
    }
}

pub(super) fn mark(bytes: &[u8]) -> Mark {
    let digest = Sha256::digest(bytes);
    let mut mark = [0; 16];
    mark.copy_from_slice(&digest[..16]);
    mark
}

/// Some columns of rows as the parts of a key.
pub(super) fn key_columns(rows: &RecordBatch, key: &[usize]) -> Vec<ArrayRef> {
    key.iter().map(|&column| normalise_zero(rows.column(column))).collect()
}

/// The positions of a source's rows in its stream: `_sequence` and `_index` of each.
pub fn positions(rows: &RecordBatch) -> Result<Vec<(i64, i64)>> {
    let column = |name: &str| {
        rows.column_by_name(name)
            .and_then(|column| column.as_any().downcast_ref::<Int64Array>())
            .ok_or_else(|| DataFusionError::Internal(format!("source rows have no {name}")))
    };
    let (sequences, indexes) = (column("_sequence")?, column("_index")?);
    Ok(sequences.values().iter().copied().zip(indexes.values().iter().copied()).collect())
}

pub(super) fn too_many_rows() -> DataFusionError {
    DataFusionError::Internal("more than 2^32 rows in one batch".to_owned())
}

/// Fewer keys than this are not looked through.
const LOOK_FROM: usize = 1_024;
