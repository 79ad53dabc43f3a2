//! What a source's rows do to its table: `unique` lets the first of a key through, `upsert` replaces the key's row.
//!
//! A pure function of the rows in stream order: how they are cut into batches can't be seen in the table.

use std::collections::HashMap as Ordered;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::cast::as_boolean_array;
use datafusion::error::{DataFusionError, Result};
use hashbrown::HashMap;
use sha2::{Digest, Sha256};

use crate::definition::contract::{Contract, SYSTEM_COLUMNS};
use crate::definition::pipeline::Identity;
use crate::state::{Arrangement, Delta, NullKeys, relabel};

/// The rows of one source so far, as far as they decide what the next ones do.
pub struct Intake {
    schema: SchemaRef,
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
    /// The latest row of each key, tombstones included.
    Upsert { key: Vec<usize>, order_by: Option<usize>, deleted: Option<usize>, latest: Arrangement },
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
            Identity::Upsert { key, order_by, deleted } => State::Upsert {
                key: key.clone(),
                order_by: *order_by,
                deleted: *deleted,
                latest: Arrangement::new(Arc::clone(&schema), key.clone(), NullKeys::Equal)?,
            },
        };
        debug_assert!(
            schema.fields().len() == contract.columns.len() + SYSTEM_COLUMNS.len(),
            "a table is its contract and the system columns"
        );
        Ok(Self { schema, state })
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
                let keys = keys.convert_columns(rows.project(key)?.columns())?;
                let contents = contents.convert_columns(rows.project(content)?.columns())?;
                take_unique(rows, &keys, &contents, seen)
            }
            State::Upsert { key, order_by, deleted, latest } => {
                let delta = upsert(&self.schema, rows, key, *order_by, *deleted, latest)?;
                Ok(Taken { delta, accepted: rows.num_rows() as u64, duplicates: Vec::new(), conflicts: Vec::new() })
            }
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

/// Where a key's row lies: among the stored ones, or in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Stored(usize),
    Batch(usize),
}

fn upsert(
    schema: &SchemaRef,
    rows: &RecordBatch,
    key: &[usize],
    order_by: Option<usize>,
    deleted: Option<usize>,
    latest: &mut Arrangement,
) -> Result<Delta> {
    let key_columns: Vec<ArrayRef> = key.iter().map(|&column| Arc::clone(rows.column(column))).collect();
    let matches = latest.probe(&key_columns, rows.num_rows())?;
    let mut ids: Vec<_> = matches.iter().map(|found| found.stored).collect();
    ids.sort_unstable();
    ids.dedup();
    let stored = latest.gather(&ids)?;
    let orders = Orders::new(schema, order_by, &stored, rows)?;
    let mut holders: Vec<Option<Holder>> = vec![None; rows.num_rows()];
    for found in &matches {
        holders[found.probe as usize] = ids.binary_search(&found.stored).ok().map(Holder::Stored);
    }
    let converter = RowConverter::new(
        key.iter().map(|&column| SortField::new(schema.field(column).data_type().clone())).collect(),
    )?;
    let keys = converter.convert_columns(&key_columns)?;
    let mut first_of_key: Ordered<&[u8], usize> = Ordered::new();
    let mut current: Vec<(Option<Holder>, Option<Holder>)> = Vec::new();
    for (row, &holder) in holders.iter().enumerate() {
        let slot = *first_of_key.entry(keys.row(row).data()).or_insert_with(|| {
            current.push((holder, holder));
            current.len() - 1
        });
        if let Some((_, now)) = current.get_mut(slot)
            && now.is_none_or(|now| orders.replaces(row, now))
        {
            *now = Some(Holder::Batch(row));
        }
    }
    let changed: Vec<(Option<Holder>, Option<Holder>)> = current.into_iter().filter(|(was, now)| was != now).collect();
    settle(schema, rows, &stored, &changed, deleted, latest)
}

/// Replaces the stored rows, and says what that changes for those who don't see tombstones.
fn settle(
    schema: &SchemaRef,
    rows: &RecordBatch,
    stored: &RecordBatch,
    changed: &[(Option<Holder>, Option<Holder>)],
    deleted: Option<usize>,
    latest: &mut Arrangement,
) -> Result<Delta> {
    let both = concat_batches(schema, [&relabel(stored, schema)?, &relabel(rows, schema)?])?;
    let place = |holder: Holder| match holder {
        Holder::Stored(row) => row,
        Holder::Batch(row) => stored.num_rows() + row,
    };
    let mut positions: Vec<u32> = Vec::new();
    let mut weights: Vec<i64> = Vec::new();
    for (holder, weight) in changed.iter().flat_map(|&(was, now)| [(was, -1), (now, 1)]) {
        if let Some(holder) = holder {
            positions.push(u32::try_from(place(holder)).map_err(|_| too_many_rows())?);
            weights.push(weight);
        }
    }
    let delta = Delta::new(take_record_batch(&both, &UInt32Array::from(positions))?, weights);
    latest.apply(&delta, None)?;
    let Some(deleted) = deleted else { return Ok(delta) };
    let flags = as_boolean_array(delta.batch().column(deleted))?;
    let visible: BooleanArray = (0..delta.len()).map(|row| Some(!(flags.is_valid(row) && flags.value(row)))).collect();
    delta.filter(&visible)
}

/// The values of `order_by`, comparable across stored rows and the batch; nulls come first.
struct Orders {
    rows: Option<(Rows, Rows)>,
}

impl Orders {
    fn new(schema: &SchemaRef, order_by: Option<usize>, stored: &RecordBatch, rows: &RecordBatch) -> Result<Self> {
        let Some(column) = order_by else { return Ok(Self { rows: None }) };
        let converter = RowConverter::new(vec![SortField::new(schema.field(column).data_type().clone())])?;
        let stored = converter.convert_columns(&[Arc::clone(stored.column(column))])?;
        let rows = converter.convert_columns(&[Arc::clone(rows.column(column))])?;
        Ok(Self { rows: Some((stored, rows)) })
    }

    /// Whether a row of the batch takes the place of the key's current one: of equal ones the last wins.
    fn replaces(&self, row: usize, current: Holder) -> bool {
        let Some((stored, rows)) = &self.rows else { return true };
        match current {
            Holder::Stored(held) => rows.row(row) >= stored.row(held),
            Holder::Batch(held) => rows.row(row) >= rows.row(held),
        }
    }
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

fn too_many_rows() -> DataFusionError {
    DataFusionError::Internal("more than 2^32 rows in one batch".to_owned())
}

/// When the source system wrote an event down is not part of its content: a re-send may differ in it.
const RECORDED_AT: &str = "recorded_at";
