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
use crate::state::{Delta, normalise_zero};

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

/// What became of the rows of a batch; positions are rows of the batch.
#[derive(Debug)]
pub struct Taken {
    /// The change of the source's table.
    pub delta: Delta,
    /// Rows that were accepted.
    pub accepted: u64,
    /// Rows with the key and content of an accepted one.
    pub duplicates: Vec<usize>,
    /// Rows with the key of an accepted one and other content: dead letters `ID_CONFLICT`.
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

    /// Takes the next rows of the source, in stream order.
    pub fn take(&mut self, rows: &RecordBatch) -> Result<Taken> {
        match &mut self.state {
            State::Append => Ok(Taken {
                delta: Delta::insertions(rows.clone()),
                accepted: rows.num_rows() as u64,
                duplicates: Vec::new(),
                conflicts: Vec::new(),
            }),
            State::Unique { key, content, keys, contents, seen } => {
                let keys = keys.convert_columns(&key_columns(rows, key))?;
                let contents = contents.convert_columns(rows.project(content)?.columns())?;
                take_unique(rows, &keys, &contents, seen)
            }
            State::Upsert(upsert) => Ok(Taken {
                delta: upsert.take(rows)?,
                accepted: rows.num_rows() as u64,
                duplicates: Vec::new(),
                conflicts: Vec::new(),
            }),
        }
    }
}

fn take_unique(rows: &RecordBatch, keys: &Rows, contents: &Rows, seen: &mut HashMap<Mark, Mark>) -> Result<Taken> {
    let (mut fresh, mut duplicates, mut conflicts) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..rows.num_rows() {
        let content = mark(contents.row(row).data());
        match seen.entry(mark(keys.row(row).data())) {
            hashbrown::hash_map::Entry::Vacant(place) => {
                place.insert(content);
                fresh.push(u32::try_from(row).map_err(|_| too_many_rows())?);
            }
            hashbrown::hash_map::Entry::Occupied(known) if *known.get() == content => duplicates.push(row),
            hashbrown::hash_map::Entry::Occupied(_) => conflicts.push(row),
        }
    }
    let accepted = fresh.len() as u64;
    let batch = if duplicates.is_empty() && conflicts.is_empty() {
        rows.clone()
    } else {
        take_record_batch(rows, &UInt32Array::from(fresh))?
    };
    Ok(Taken { delta: Delta::insertions(batch), accepted, duplicates, conflicts })
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
