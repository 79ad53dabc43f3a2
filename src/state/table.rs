//! A job's table: what its deltas add up to, by declared key.

use std::sync::Arc;

use arrow::array::UInt32Array;
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

/// Some keys and what stands under each; rows are copied only when they are asked for.
#[derive(Debug)]
pub struct TouchedKeys<'t> {
    table: &'t Table,
    /// Each key once.
    keys: RecordBatch,
    present: Vec<RowId>,
    /// Positions in `keys` of those that have one row or none.
    settled: Vec<u32>,
    gone: Vec<u32>,
    ambiguous: Vec<u32>,
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
    pub fn touched_keys(&self, touched: &RecordBatch) -> Result<TouchedKeys<'_>> {
        let keys = distinct_keys(touched, self.rows.key())?;
        let matches = self.rows.probe(keys.columns(), keys.num_rows())?;
        let mut matches = matches.iter().peekable();
        let (mut present, mut settled, mut gone, mut ambiguous) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (position, _) in (0_u32..).zip(0..keys.num_rows()) {
            let first = matches.next_if(|found| found.probe == position);
            let mut alone = first.is_none_or(|found| self.rows.weight(found.stored) == 1);
            while matches.next_if(|found| found.probe == position).is_some() {
                alone = false;
            }
            match first {
                _ if !alone => ambiguous.push(position),
                Some(found) => present.push(found.stored),
                None => gone.push(position),
            }
            if alone {
                settled.push(position);
            }
        }
        Ok(TouchedKeys { table: self, keys, present, settled, gone, ambiguous })
    }
}

impl TouchedKeys<'_> {
    /// The rows of the keys that have exactly one.
    pub fn present(&self) -> Result<RecordBatch> {
        self.table.rows.gather(&self.present)
    }

    /// The keys that have no row; the key columns only, as in what follows.
    pub fn gone(&self) -> Result<RecordBatch> {
        self.at(&self.gone)
    }

    /// The keys that have one row or none.
    pub fn settled(&self) -> Result<RecordBatch> {
        self.at(&self.settled)
    }

    /// The keys that have several rows: not identified by the declared key.
    pub fn ambiguous(&self) -> Result<RecordBatch> {
        self.at(&self.ambiguous)
    }

    fn at(&self, positions: &[u32]) -> Result<RecordBatch> {
        Ok(take_record_batch(&self.keys, &UInt32Array::from(positions.to_vec()))?)
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
