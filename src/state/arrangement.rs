//! A multiset of rows, indexed by key.
//!
//! Rows lie in Arrow chunks. Row identifiers rise with insertion and chunks cover contiguous ranges of them, so that
//! neighbouring chunks merge without touching the index. A removed row keeps its place with weight 0 until more than half
//! of its chunk is dead; then the live rest moves to the end under new identifiers. Both are amortised: a row is copied a
//! bounded number of times, whatever the size of the state.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringViewArray};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::{concat_batches, filter_record_batch, interleave};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::RowConverter;
use datafusion::error::{DataFusionError, Result};

use super::delta::{Delta, row_bytes, row_converter, take_rows, with_rows};
use super::hash::{hash_rows, normalise_zero};
use super::index::KeyIndex;

/// Identifies a row for as long as it is not moved by compaction, that is, until the next [`Arrangement::apply`].
pub type RowId = u64;

/// A row of a probe that has the same key as a stored row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// The position in the probe.
    pub probe: u32,
    /// The stored row.
    pub stored: RowId,
}

/// A multiset of rows of one schema, indexed by the values of its key columns.
///
/// Invariant: weights are never negative; a row whose weight is zero is not in the index.
#[derive(Debug)]
pub struct Arrangement {
    schema: SchemaRef,
    key: Vec<usize>,
    nulls: NullKeys,
    chunks: Vec<Chunk>,
    index: KeyIndex,
    next: RowId,
    live: usize,
    converter: RowConverter,
}

/// What a null in a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NullKeys {
    /// Null equals null, as in GROUP BY.
    Equal,
    /// Null equals nothing, as in an equality join.
    Distinct,
}

#[derive(Debug)]
struct Chunk {
    start: RowId,
    batch: RecordBatch,
    weights: Vec<i64>,
    hashes: Vec<u64>,
    counts: Vec<i64>,
    live: usize,
}

impl Arrangement {
    /// An empty multiset of rows of `schema`, indexed by the columns `key`.
    pub fn new(schema: SchemaRef, key: Vec<usize>, nulls: NullKeys) -> Result<Self> {
        let converter = row_converter(&schema)?;
        Ok(Self { schema, key, nulls, chunks: Vec::new(), index: KeyIndex::default(), next: 0, live: 0, converter })
    }

    /// The schema of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The key columns.
    pub fn key(&self) -> &[usize] {
        &self.key
    }

    /// How many different live rows are held (equal rows that came in one piece count once).
    pub fn rows(&self) -> usize {
        self.live
    }

    /// Bytes held by rows, without the index.
    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.batch.get_array_memory_size() + chunk.weights.len() * 24).sum()
    }

    /// The stored rows whose key equals that of a probe row. `keys` are the probe's key columns, of the same types, in the
    /// order of [`Arrangement::key`]. Matches come in the order of the probe.
    pub fn probe(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<Match>> {
        if self.index.is_empty() || rows == 0 {
            return Ok(Vec::new());
        }
        let hashes = hash_rows(keys, rows)?;
        let skip = self.null_rows(keys);
        let mut matches = Vec::with_capacity(rows);
        for (probe, &hash) in hashes.iter().enumerate() {
            if skip.as_ref().is_some_and(|skip| skip.value(probe)) {
                continue;
            }
            let probe = u32::try_from(probe).map_err(|_| too_many_rows())?;
            matches.extend(self.index.rows(hash).map(|stored| Match { probe, stored }));
        }
        self.keep_equal(keys, matches)
    }

    /// Which probe rows have a null in their key, where null equals nothing; none if no row has.
    fn null_rows(&self, keys: &[ArrayRef]) -> Option<BooleanArray> {
        if self.nulls == NullKeys::Equal || keys.iter().all(|key| key.logical_null_count() == 0) {
            return None;
        }
        let rows = keys.first().map_or(0, |key| key.len());
        let nulls: Vec<_> = keys.iter().filter_map(|key| key.logical_nulls()).collect();
        Some((0..rows).map(|row| Some(nulls.iter().any(|null| null.is_null(row)))).collect())
    }

    /// Leaves out matches that share a hash but not a key.
    fn keep_equal(&self, keys: &[ArrayRef], matches: Vec<Match>) -> Result<Vec<Match>> {
        if matches.is_empty() {
            return Ok(matches);
        }
        let stored: Vec<RowId> = matches.iter().map(|found| found.stored).collect();
        let positions: arrow::array::UInt32Array = matches.iter().map(|found| Some(found.probe)).collect();
        let mut wrong: Option<Vec<bool>> = None;
        for (column, key) in self.key.iter().zip(keys) {
            let held = normalise_zero(&self.gather_column(*column, &stored)?);
            let asked = normalise_zero(&arrow::compute::take(key, &positions, None)?);
            let equal = equal_values(&held, &asked)?;
            if equal.true_count() < matches.len() {
                let flags = wrong.get_or_insert_with(|| vec![false; matches.len()]);
                for (row, flag) in flags.iter_mut().enumerate() {
                    *flag |= !equal.value(row);
                }
            }
        }
        Ok(match wrong {
            None => matches,
            Some(wrong) => {
                matches.into_iter().zip(wrong).filter(|&(_, wrong)| !wrong).map(|(found, _)| found).collect()
            }
        })
    }

    /// The weight of a stored row.
    pub fn weight(&self, row: RowId) -> i64 {
        let (chunk, offset) = self.locate(row);
        self.chunks[chunk].weights[offset]
    }

    /// The number kept beside a stored row; see [`Arrangement::set_count`].
    pub fn count(&self, row: RowId) -> i64 {
        let (chunk, offset) = self.locate(row);
        self.chunks[chunk].counts[offset]
    }

    /// Keeps a number beside a stored row: an outer join its matches. 0 for a new row.
    pub fn set_count(&mut self, row: RowId, count: i64) {
        let (chunk, offset) = self.locate(row);
        self.chunks[chunk].counts[offset] = count;
    }

    /// The rows at these identifiers, all columns.
    pub fn gather(&self, rows: &[RowId]) -> Result<RecordBatch> {
        let columns = (0..self.schema.fields().len())
            .map(|column| self.gather_column(column, rows))
            .collect::<Result<Vec<_>>>()?;
        with_rows(&self.schema, columns, rows.len())
    }

    /// One column of the rows at these identifiers.
    pub fn gather_column(&self, column: usize, rows: &[RowId]) -> Result<ArrayRef> {
        let (arrays, indices) = self.places(column, rows);
        if arrays.is_empty() {
            return Ok(arrow::array::new_empty_array(self.schema.field(column).data_type()));
        }
        Ok(interleave(&arrays, &indices)?)
    }

    /// The chunks that the rows lie in, each once, and each row's place in them.
    fn places(&self, column: usize, rows: &[RowId]) -> (Vec<&dyn Array>, Vec<(usize, usize)>) {
        let mut slots: Vec<Option<usize>> = vec![None; self.chunks.len()];
        let mut arrays: Vec<&dyn Array> = Vec::new();
        let mut indices = Vec::with_capacity(rows.len());
        for &row in rows {
            let (chunk, offset) = self.locate(row);
            let slot = *slots[chunk].get_or_insert_with(|| {
                arrays.push(self.chunks[chunk].batch.column(column).as_ref());
                arrays.len() - 1
            });
            indices.push((slot, offset));
        }
        (arrays, indices)
    }

    fn locate(&self, row: RowId) -> (usize, usize) {
        locate(&self.chunks, row)
    }

    /// All live rows, in the order of insertion, each as often as its weight says.
    pub fn live_batches(&self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        for chunk in &self.chunks {
            if chunk.live == 0 {
                continue;
            }
            if chunk.weights.iter().all(|&weight| weight == 1) {
                batches.push(chunk.batch.clone());
                continue;
            }
            let positions: arrow::array::UInt32Array = (0_u32..)
                .zip(&chunk.weights)
                .flat_map(|(row, &weight)| std::iter::repeat_n(Some(row), usize::try_from(weight).unwrap_or(0)))
                .collect();
            batches.push(take_rows(&chunk.batch, &positions)?);
        }
        Ok(batches)
    }

    /// Adds the delta to the multiset. `counts`, if given, are the numbers kept beside the rows that appear.
    ///
    /// # Errors
    /// `Internal` if a row goes that is not there: the deltas of a circuit never do that.
    pub fn apply(&mut self, delta: &Delta, counts: Option<&[i64]>) -> Result<()> {
        if delta.is_empty() {
            return Ok(());
        }
        let key_columns: Vec<ArrayRef> =
            self.key.iter().map(|&column| Arc::clone(delta.batch().column(column))).collect();
        let skip = self.null_rows(&key_columns);
        let key_hashes = hash_rows(&key_columns, delta.len())?;
        let row_hashes = hash_rows(delta.batch().columns(), delta.len())?;
        let stored = |row: usize| skip.as_ref().is_none_or(|skip| !skip.value(row));
        if delta.weights().iter().any(|&weight| weight > 0) {
            self.append(delta, counts, &key_hashes, &row_hashes, &stored)?;
        }
        if delta.has_removals() {
            self.remove(delta, &key_hashes, &row_hashes, &stored)?;
        }
        self.merge_chunks()?;
        self.compact()
    }

    fn append(
        &mut self,
        delta: &Delta,
        counts: Option<&[i64]>,
        key_hashes: &[u64],
        row_hashes: &[u64],
        stored: &dyn Fn(usize) -> bool,
    ) -> Result<()> {
        let keep: Vec<bool> = (0..delta.len()).map(|row| delta.weights()[row] > 0 && stored(row)).collect();
        let all = keep.iter().all(|&keep| keep);
        let batch = if all {
            delta.batch().clone()
        } else {
            filter_record_batch(delta.batch(), &BooleanArray::from(keep.clone()))?
        };
        if batch.num_rows() == 0 && !self.schema.fields().is_empty() {
            return Ok(());
        }
        let kept = || (0..delta.len()).filter(|&row| keep[row]);
        let chunk = Chunk {
            start: self.next,
            batch: super::delta::relabel(&batch, &self.schema)?,
            weights: kept().map(|row| delta.weights()[row]).collect(),
            hashes: kept().map(|row| row_hashes[row]).collect(),
            counts: kept().map(|row| counts.map_or(0, |counts| counts[row])).collect(),
            live: kept().count(),
        };
        let first = self.next;
        self.next += chunk.weights.len() as RowId;
        self.live += chunk.live;
        self.chunks.push(chunk);
        let chunks = &self.chunks;
        for (row, id) in kept().zip(first..) {
            self.index.insert(key_hashes[row], id, &|id| row_hash(chunks, id));
        }
        Ok(())
    }

    fn remove(
        &mut self,
        delta: &Delta,
        key_hashes: &[u64],
        row_hashes: &[u64],
        stored: &dyn Fn(usize) -> bool,
    ) -> Result<()> {
        let going: Vec<usize> = (0..delta.len()).filter(|&row| delta.weights()[row] < 0 && stored(row)).collect();
        let positions: arrow::array::UInt32Array = going.iter().map(|&row| u32::try_from(row).ok()).collect();
        let leaving = take_rows(delta.batch(), &positions)?;
        let leaving_bytes = row_bytes(&self.converter, &leaving)?;
        let held = self.newest_equal(&going, key_hashes, row_hashes, &leaving_bytes)?;
        for ((position, &row), mut known) in going.iter().enumerate().zip(held) {
            let mut left = -delta.weights()[row];
            while left > 0 {
                let wanted = leaving_bytes.row(position);
                let found = match known.take().filter(|&id| self.weight(id) > 0) {
                    Some(id) => Some(id),
                    None => self.find_equal(key_hashes[row], row_hashes[row], wanted.data())?,
                };
                let Some(id) = found else {
                    return Err(DataFusionError::Internal("a row goes that an arrangement does not hold".to_owned()));
                };
                left -= self.take_weight(key_hashes[row], id, left);
            }
        }
        Ok(())
    }

    /// For each row that goes the newest live row with its hashes, if it is equal: nearly always the right one. All of them
    /// are compared at once; [`Arrangement::find_equal`] looks for the others, one by one.
    fn newest_equal(
        &self,
        going: &[usize],
        key_hashes: &[u64],
        row_hashes: &[u64],
        wanted: &arrow::row::Rows,
    ) -> Result<Vec<Option<RowId>>> {
        let newest = |row: &usize| {
            let same_hash = |id: &RowId| row_hash(&self.chunks, *id) == row_hashes[*row];
            self.index.candidates(key_hashes[*row], row_hashes[*row]).find(same_hash)
        };
        let candidates: Vec<Option<RowId>> = going.iter().map(newest).collect();
        let found: Vec<RowId> = candidates.iter().flatten().copied().collect();
        let held = row_bytes(&self.converter, &self.gather(&found)?)?;
        let mut held = held.iter();
        let equal = |(position, candidate): (usize, Option<RowId>)| {
            let candidate = candidate?;
            held.next().is_some_and(|held| held == wanted.row(position)).then_some(candidate)
        };
        Ok(candidates.into_iter().enumerate().map(equal).collect())
    }

    /// A live row with this key hash whose bytes are `wanted`.
    fn find_equal(&self, key_hash: u64, row_hash: u64, wanted: &[u8]) -> Result<Option<RowId>> {
        for id in self.index.candidates(key_hash, row_hash) {
            let (chunk, offset) = self.locate(id);
            let chunk = &self.chunks[chunk];
            if chunk.hashes[offset] != row_hash {
                continue;
            }
            let held = row_bytes(&self.converter, &chunk.batch.slice(offset, 1))?;
            if held.row(0).data() == wanted {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Takes up to `wanted` off a row's weight; returns how much that was.
    fn take_weight(&mut self, key_hash: u64, id: RowId, wanted: i64) -> i64 {
        let (chunk, offset) = self.locate(id);
        let chunk = &mut self.chunks[chunk];
        let taken = wanted.min(chunk.weights[offset]);
        chunk.weights[offset] -= taken;
        if chunk.weights[offset] == 0 {
            chunk.live -= 1;
            self.live -= 1;
            self.index.remove(key_hash, id, chunk.hashes[offset]);
        }
        taken
    }

    /// Joins the newest chunks while they are small against their neighbours.
    fn merge_chunks(&mut self) -> Result<()> {
        while let [.., before, last] = self.chunks.as_slice() {
            let (before_rows, last_rows) = (before.weights.len(), last.weights.len());
            let adjacent = before.start + before_rows as RowId == last.start;
            if !adjacent || before_rows > last_rows * 2 || before_rows + last_rows > CHUNK_ROWS_MAX {
                return Ok(());
            }
            let batch = concat_batches(&self.schema, [&before.batch, &last.batch])?;
            let Some(last) = self.chunks.pop() else { return Ok(()) };
            let Some(before) = self.chunks.last_mut() else { return Ok(()) };
            before.batch = shed_unused_text(&batch)?;
            before.weights.extend(last.weights);
            before.hashes.extend(last.hashes);
            before.counts.extend(last.counts);
            before.live += last.live;
        }
        Ok(())
    }

    /// Moves the live rows of chunks that are mostly dead to the end.
    fn compact(&mut self) -> Result<()> {
        let mut position = 0;
        while position < self.chunks.len() {
            let chunk = &self.chunks[position];
            let dead = chunk.weights.len() - chunk.live;
            let worth_it = chunk.live == 0 || (dead > chunk.live && chunk.weights.len() >= COMPACTION_ROWS_MIN);
            if !worth_it {
                position += 1;
                continue;
            }
            let chunk = self.chunks.remove(position);
            if chunk.live > 0 {
                self.move_to_end(chunk)?;
            }
        }
        Ok(())
    }

    fn move_to_end(&mut self, chunk: Chunk) -> Result<()> {
        let keep: Vec<bool> = chunk.weights.iter().map(|&weight| weight > 0).collect();
        let old_ids: Vec<RowId> = (chunk.start..).zip(&keep).filter(|&(_, &keep)| keep).map(|(id, _)| id).collect();
        let batch = shed_unused_text(&filter_record_batch(&chunk.batch, &BooleanArray::from(keep.clone()))?)?;
        let key_columns: Vec<ArrayRef> = self.key.iter().map(|&column| Arc::clone(batch.column(column))).collect();
        let key_hashes = hash_rows(&key_columns, batch.num_rows())?;
        for ((&old, new), &hash) in old_ids.iter().zip(self.next..).zip(&key_hashes) {
            let row = usize::try_from(old - chunk.start).expect("a chunk's rows fit in memory");
            self.index.renumber(hash, old, new, chunk.hashes[row]);
        }
        fn kept<T: Copy>(values: &[T], keep: &[bool]) -> Vec<T> {
            values.iter().zip(keep).filter(|&(_, &keep)| keep).map(|(&value, _)| value).collect()
        }
        let moved = Chunk {
            start: self.next,
            weights: kept(&chunk.weights, &keep),
            hashes: kept(&chunk.hashes, &keep),
            counts: kept(&chunk.counts, &keep),
            live: chunk.live,
            batch,
        };
        self.next += moved.weights.len() as RowId;
        self.chunks.push(moved);
        Ok(())
    }
}

/// Which of the chunks a row lies in, and where.
fn locate(chunks: &[Chunk], row: RowId) -> (usize, usize) {
    let chunk = chunks.partition_point(|chunk| chunk.start <= row) - 1;
    let offset = usize::try_from(row - chunks[chunk].start).expect("a chunk's rows fit in memory");
    (chunk, offset)
}

fn row_hash(chunks: &[Chunk], row: RowId) -> u64 {
    let (chunk, offset) = locate(chunks, row);
    chunks[chunk].hashes[offset]
}

/// Whether two values are the same, null being the same as null; for any type.
fn equal_values(held: &ArrayRef, asked: &ArrayRef) -> Result<BooleanArray> {
    if !held.data_type().is_nested() && !matches!(held.data_type(), DataType::Interval(_)) {
        return Ok(not_distinct(held, asked)?);
    }
    let converter = RowConverter::new(vec![arrow::row::SortField::new(held.data_type().clone())])?;
    let held = converter.convert_columns(std::slice::from_ref(held))?;
    let asked = converter.convert_columns(std::slice::from_ref(asked))?;
    Ok(held.iter().zip(asked.iter()).map(|(held, asked)| Some(held == asked)).collect())
}

/// Copies text out of buffers that hold much else: a view keeps its whole buffer alive.
fn shed_unused_text(batch: &RecordBatch) -> Result<RecordBatch> {
    let columns = batch
        .columns()
        .iter()
        .map(|column| match column.as_any().downcast_ref::<StringViewArray>() {
            Some(text) => Arc::new(text.gc()) as ArrayRef,
            None => Arc::clone(column),
        })
        .collect();
    with_rows(batch.schema_ref(), columns, batch.num_rows())
}

fn too_many_rows() -> DataFusionError {
    DataFusionError::Internal("more than 2^32 rows in one delta".to_owned())
}

/// Chunks grow to this many rows by merging.
const CHUNK_ROWS_MAX: usize = 65_536;
/// Chunks smaller than this are compacted by merging only.
const COMPACTION_ROWS_MIN: usize = 1_024;
