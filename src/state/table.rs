//! A job's table: what its deltas add up to, by declared key.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;

use super::arrangement::{Arrangement, NullKeys, RowId};
use super::delta::{Delta, with_rows};

/// The rows of a job or an upsert source, indexed by its declared key (by all columns where none is declared).
#[derive(Debug)]
pub struct Table {
    rows: Arrangement,
    declared: bool,
}

/// What stands under each of some keys.
#[derive(Debug, Clone)]
pub struct KeyStates {
    /// The rows of keys that have exactly one.
    pub present: RecordBatch,
    /// The keys that have none; the key columns only.
    pub gone: RecordBatch,
    /// The keys that have several, or a null in them: not identified by the declared key.
    pub ambiguous: RecordBatch,
}

impl Table {
    /// An empty table; `key` may be empty: then rows are held by all their columns.
    pub fn new(schema: SchemaRef, key: Vec<usize>) -> Result<Self> {
        let declared = !key.is_empty();
        let key = if declared { key } else { (0..schema.fields().len()).collect() };
        Ok(Self { rows: Arrangement::new(schema, key, NullKeys::Equal)?, declared })
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        self.rows.schema()
    }

    /// How many different rows are held.
    pub fn len(&self) -> usize {
        self.rows.rows()
    }

    /// Whether no row is held.
    pub fn is_empty(&self) -> bool {
        self.rows.rows() == 0
    }

    /// Bytes held by rows.
    pub fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// Adds a delta of the job.
    pub fn apply(&mut self, delta: &Delta) -> Result<()> {
        self.rows.apply(delta, None)
    }

    /// All rows, each as often as it stands in the table.
    pub fn batches(&self) -> Result<Vec<RecordBatch>> {
        self.rows.live_batches()
    }

    /// The key columns, by index; empty where no key is declared.
    pub fn key(&self) -> &[usize] {
        if self.declared { self.rows.key() } else { &[] }
    }

    /// What stands now under the keys of the rows of `touched`, each key once, in the order of its first row.
    pub fn states_of(&self, touched: &RecordBatch) -> Result<KeyStates> {
        let keys = distinct_keys(touched, self.rows.key())?;
        let columns: Vec<ArrayRef> = keys.columns().to_vec();
        let matches = self.rows.probe(&columns, keys.num_rows())?;
        let mut held: Vec<Vec<RowId>> = vec![Vec::new(); keys.num_rows()];
        for found in matches {
            held[found.probe as usize].push(found.stored);
        }
        let (mut present, mut gone, mut ambiguous) = (Vec::new(), Vec::new(), Vec::new());
        for (position, rows) in (0_u32..).zip(&held) {
            let has_null = columns.iter().any(|column| column.is_null(position as usize));
            match rows.as_slice() {
                [] => gone.push(position),
                [row] if self.rows.weight(*row) == 1 && !(has_null && self.declared) => present.push(*row),
                _ => ambiguous.push(position),
            }
        }
        Ok(KeyStates {
            present: self.rows.gather(&present)?,
            gone: take_record_batch(&keys, &UInt32Array::from(gone))?,
            ambiguous: take_record_batch(&keys, &UInt32Array::from(ambiguous))?,
        })
    }
}

/// The key columns of the rows, each key once, in the order of its first row.
fn distinct_keys(rows: &RecordBatch, key: &[usize]) -> Result<RecordBatch> {
    let keys = rows.project(key)?;
    let converter = super::delta::row_converter(keys.schema_ref())?;
    let bytes = converter.convert_columns(keys.columns())?;
    let mut seen = hashbrown::HashSet::new();
    let first: Vec<u32> =
        (0_u32..).zip(bytes.iter()).filter(|(_, row)| seen.insert(row.data())).map(|(position, _)| position).collect();
    let fields: Vec<_> = keys.schema_ref().fields().iter().cloned().collect();
    let schema = Arc::new(Schema::new(fields));
    let taken = take_record_batch(&keys, &UInt32Array::from(first))?;
    with_rows(&schema, taken.columns().to_vec(), taken.num_rows())
}
