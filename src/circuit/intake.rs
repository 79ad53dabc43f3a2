//! What a source's rows do to its table: `unique` lets the first of a key through, [`Upsert`] replaces the key's row.
//!
//! A pure function of the rows in stream order: how they are cut into batches can't be seen in the table.

use arrow::array::{ArrayRef, Int64Array, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::error::{DataFusionError, Result};
use hashbrown::HashMap;
use sha2::{Digest, Sha256};

use crate::definition::contract::{Contract, SYSTEM_COLUMNS};
use crate::definition::pipeline::Identity;
use crate::state::{Delta, StateReader, StateWriter, damaged, normalise_zero};

use super::saved;
use super::upsert::Upsert;

/// The rows of one source so far, as far as they decide what the next ones do.
pub struct Intake {
    state: State,
}

enum State {
    /// Every row is new.
    Append,
    /// The first row of a key; the content of each known key as a digest.
    Unique {
        key: Vec<usize>,
        content: Vec<usize>,
        keys: RowConverter,
        contents: RowConverter,
        seen: HashMap<Mark, Mark>,
    },
    /// The latest row of each key.
    Upsert(Box<Upsert>),
}

/// 128 bits of a SHA-256: keys and contents that agree in them are taken as equal.
type Mark = [u8; 16];

/// The rows of a batch that say something new, and the others; positions are rows of the batch.
#[derive(Debug)]
pub struct Admitted {
    /// The rows that are no repetition, in stream order.
    pub rows: RecordBatch,
    /// Rows with the key and content of an admitted one.
    pub duplicates: Vec<usize>,
    /// Rows with the key of an admitted one and other content: dead letters `ID_CONFLICT`.
    pub conflicts: Vec<usize>,
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
                    seen: HashMap::new(),
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

    /// Looks at the next rows of the source, in stream order, for repetitions of what was admitted before.
    pub fn admit(&mut self, rows: &RecordBatch) -> Result<Admitted> {
        match &mut self.state {
            State::Append | State::Upsert(_) => {
                Ok(Admitted { rows: rows.clone(), duplicates: Vec::new(), conflicts: Vec::new() })
            }
            State::Unique { key, content, keys, contents, seen } => {
                let keys = keys.convert_columns(&key_columns(rows, key))?;
                let contents = contents.convert_columns(rows.project(content)?.columns())?;
                admit_unique(rows, &keys, &contents, seen)
            }
        }
    }

    /// Writes what decides what the next rows do.
    pub fn save(&self, state: &mut StateWriter) -> Result<()> {
        match &self.state {
            State::Append => Ok(()),
            State::Unique { seen, .. } => {
                let mut marks: Vec<(&Mark, &Mark)> = seen.iter().collect();
                marks.sort_unstable();
                state.rows(saved::batch([
                    ("key", saved::bytes(marks.iter().map(|(key, _)| key.as_slice()))),
                    ("content", saved::bytes(marks.iter().map(|(_, content)| content.as_slice()))),
                ])?);
                Ok(())
            }
            State::Upsert(upsert) => upsert.save(state),
        }
    }

    /// Takes up what an intake of the same contract and identity wrote.
    pub fn load(&mut self, state: &mut StateReader) -> Result<()> {
        match &mut self.state {
            State::Append => Ok(()),
            State::Unique { seen, .. } => {
                let held = state.rows()?;
                let mark = |bytes: Box<[u8]>| Mark::try_from(&*bytes).map_err(|_| damaged("a digest is cut short"));
                for (key, content) in saved::bytes_of(&held, 0)?.into_iter().zip(saved::bytes_of(&held, 1)?) {
                    seen.insert(mark(key)?, mark(content)?);
                }
                Ok(())
            }
            State::Upsert(upsert) => upsert.load(state),
        }
    }

    /// The rows of an upsert source's table; none for a source that is no table by itself.
    pub fn table(&self) -> Result<Option<Vec<RecordBatch>>> {
        match &self.state {
            State::Append | State::Unique { .. } => Ok(None),
            State::Upsert(upsert) => upsert.rows().map(Some),
        }
    }

    /// Takes accepted rows into the table: admitted ones, less those that came late; returns how it changes.
    pub fn accept(&mut self, rows: &RecordBatch) -> Result<Delta> {
        match &mut self.state {
            State::Append | State::Unique { .. } => Ok(Delta::insertions(rows.clone())),
            State::Upsert(upsert) => upsert.take(rows),
        }
    }
}

fn admit_unique(rows: &RecordBatch, keys: &Rows, contents: &Rows, seen: &mut HashMap<Mark, Mark>) -> Result<Admitted> {
    let (mut fresh, mut duplicates, mut conflicts) = (Vec::new(), Vec::new(), Vec::new());
    let marks: Vec<(Mark, Mark)> =
        keys.iter().zip(contents.iter()).map(|(key, content)| (mark(key.data()), mark(content.data()))).collect();
    seen.reserve(marks.len());
    // Looks that change nothing don't wait for each other: memory answers many of them together.
    std::hint::black_box(marks.iter().filter(|(key, _)| seen.contains_key(key)).count());
    for (row, (key, content)) in marks.into_iter().enumerate() {
        match seen.entry(key) {
            hashbrown::hash_map::Entry::Vacant(place) => {
                place.insert(content);
                fresh.push(u32::try_from(row).map_err(|_| too_many_rows())?);
            }
            hashbrown::hash_map::Entry::Occupied(known) if *known.get() == content => duplicates.push(row),
            hashbrown::hash_map::Entry::Occupied(_) => conflicts.push(row),
        }
    }
    let rows = if duplicates.is_empty() && conflicts.is_empty() {
        rows.clone()
    } else {
        take_record_batch(rows, &UInt32Array::from(fresh))?
    };
    Ok(Admitted { rows, duplicates, conflicts })
}

fn mark(bytes: &[u8]) -> Mark {
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

/// When the source system wrote an event down is not part of its content: a re-send may differ in it.
const RECORDED_AT: &str = "recorded_at";
