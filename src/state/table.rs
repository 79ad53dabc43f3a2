//! A job's table: what its deltas add up to, by declared key.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;

use super::arrangement::{Arrangement, RowId};
use super::delta::{Delta, with_rows};
use super::grouping::GroupKey;
use super::hash::NullKeys;
use super::snapshot::{StateReader, StateWriter};

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

/// The rows of a table that have the same values in the columns of a partitioning.
#[derive(Debug, Clone)]
pub struct Partition {
    /// These values: one row of the partitioning's columns.
    pub values: RecordBatch,
    /// The rows, all columns, each as often as it stands in the table; none if the partition is gone.
    pub rows: Vec<RecordBatch>,
}

impl Table {
    /// An empty table; `key` may be empty: then rows are held by all their columns.
    pub fn new(schema: SchemaRef, key: Vec<usize>) -> Result<Self> {
        Self::partitioned(schema, key, Vec::new())
    }

    /// The same, which also knows its rows by the columns of each of `partitionings`.
    pub fn partitioned(schema: SchemaRef, key: Vec<usize>, partitionings: Vec<Vec<usize>>) -> Result<Self> {
        let declared = !key.is_empty();
        let key = if declared { key } else { (0..schema.fields().len()).collect() };
        let rows = Arrangement::new(schema, key, NullKeys::Equal).grouped_by(partitionings)?;
        Ok(Self { rows, declared })
    }

    /// Every partition that has rows.
    pub fn partitions(&self, partitioning: usize) -> Vec<GroupKey> {
        self.rows.groups(partitioning)
    }

    /// The partitions that changed since this was asked before; some may have no rows any more.
    pub fn take_touched(&mut self, partitioning: usize) -> BTreeSet<GroupKey> {
        self.rows.take_touched(partitioning)
    }

    /// The rows of a partition. Costs what the partition holds, whatever else the table holds.
    pub fn partition(&self, partitioning: usize, key: &GroupKey) -> Result<Partition> {
        let (values, rows) = self.rows.group(partitioning, key)?;
        Ok(Partition { values, rows: if rows.num_rows() == 0 { Vec::new() } else { vec![rows] } })
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
        self.rows.apply(delta)
    }

    /// Writes its rows.
    pub fn save(&self, state: &mut StateWriter) -> Result<()> {
        self.rows.save(state)
    }

    /// Takes up the rows that a table of the same schema and key wrote.
    pub fn load(&mut self, state: &mut StateReader) -> Result<()> {
        self.rows.load(state)
    }

    /// All rows, each as often as it stands in the table.
    pub fn batches(&self) -> Result<Vec<RecordBatch>> {
        self.rows.live_batches()
    }

    /// The key columns, by index; empty where no key is declared.
    pub fn key(&self) -> &[usize] {
        if self.declared { self.rows.key() } else { &[] }
    }

    /// Whether each key of the rows of `touched` surely has one row or none. It costs less than [`Table::touched_keys`], and may
    /// say no where the answer is yes.
    pub fn surely_settled(&self, touched: &RecordBatch) -> Result<bool> {
        let keys: Vec<_> = self.rows.key().iter().map(|&column| Arc::clone(touched.column(column))).collect();
        self.rows.surely_single(&keys, touched.num_rows())
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{Array, AsArray, Int64Array, StringViewArray};
    use arrow::datatypes::{DataType, Field, Int64Type};

    use super::*;

    /// (id, site), with how often each stands in the table.
    type Model = BTreeMap<(i64, Option<String>), i64>;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("site", DataType::Utf8View, true),
        ]))
    }

    fn site(number: u64) -> Option<String> {
        (number > 0).then(|| format!("site {number} with a name that no view holds in place"))
    }

    fn delta(rows: &[((i64, Option<String>), i64)]) -> Delta {
        let ids = Int64Array::from_iter_values(rows.iter().map(|((id, _), _)| *id));
        let sites = StringViewArray::from_iter(rows.iter().map(|((_, site), _)| site.as_deref()));
        let batch = RecordBatch::try_new(schema(), vec![Arc::new(ids), Arc::new(sites)]).expect("a batch");
        Delta::new(batch, rows.iter().map(|(_, weight)| *weight).collect())
    }

    fn rows_of(batches: &[RecordBatch]) -> Model {
        let mut rows = Model::new();
        for batch in batches {
            let (ids, sites) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string_view());
            for row in 0..batch.num_rows() {
                let site = sites.is_valid(row).then(|| sites.value(row).to_owned());
                *rows.entry((ids.value(row), site)).or_default() += 1;
            }
        }
        rows
    }

    /// The same sequence for the same seed.
    fn random(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    /// Random deltas: the index of partitions agrees with the table's rows, and names what each delta touched.
    fn check(seed: u64, steps: usize, ids: u64) {
        let mut state = seed;
        let mut table = Table::partitioned(schema(), vec![0], vec![vec![1], vec![1, 0]]).expect("a table");
        let mut model = Model::new();
        for _ in 0..steps {
            let mut change = Model::new();
            for _ in 0..random(&mut state) % 200 {
                let id = i64::try_from(random(&mut state) % ids).expect("small");
                let row = (id, site(random(&mut state) % 7));
                let held = model.get(&row).copied().unwrap_or(0) + change.get(&row).copied().unwrap_or(0);
                let weight = if held > 0 && !random(&mut state).is_multiple_of(3) { -1 } else { 1 };
                *change.entry(row).or_default() += weight;
            }
            change.retain(|_, weight| *weight != 0);
            let rows: Vec<_> = change.clone().into_iter().collect();
            table.apply(&delta(&rows)).expect("applied");
            for (row, weight) in rows {
                *model.entry(row).or_default() += weight;
            }
            model.retain(|_, weight| *weight != 0);

            let touched = table.take_touched(0);
            assert_eq!(table.take_touched(0), BTreeSet::new());
            let sites = |key: &GroupKey| {
                let values = table.partition(0, key).expect("a partition").values;
                let column = values.column(0).as_string_view();
                column.is_valid(0).then(|| column.value(0).to_owned())
            };
            let touched_sites: BTreeSet<_> = touched.iter().map(sites).collect();
            assert_eq!(touched_sites, change.keys().map(|(_, site)| site.clone()).collect(), "seed {seed}");
            for key in touched.iter().chain(&table.partitions(0)) {
                let (held, site) = (rows_of(&table.partition(0, key).expect("a partition").rows), sites(key));
                let wanted = model.iter().filter(|((_, other), _)| *other == site);
                assert_eq!(held, wanted.map(|(row, weight)| (row.clone(), *weight)).collect(), "seed {seed}");
            }
        }
        let all: BTreeSet<_> = model.keys().map(|(_, site)| site.clone()).collect();
        assert_eq!(table.partitions(0).len(), all.len(), "seed {seed}");
        assert_eq!(table.partitions(1).len(), model.len(), "seed {seed}");
    }

    #[test]
    fn partitions_are_the_rows_of_the_table_by_their_values_and_deltas_name_what_they_touch() {
        for seed in 0..8 {
            check(seed, 60, 40);
        }
        // Many rows, so that chunks merge and are compacted under their rows.
        check(99, 100, 100_000);
    }
}
