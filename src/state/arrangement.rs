//! A multiset of rows, indexed by key.
//!
//! Rows lie in chunks, which never change ([`super::chunk`]); an open table leads from the hash of a key to its rows
//! ([`super::index`]). A look-up compares the key itself: a hash alone is no equality.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::Rows as RowBytes;
use datafusion::error::{DataFusionError, Result};

use super::chunk::{Chunks, NewRows, Place, Sealed};
use super::delta::{Delta, relabel, take_rows, with_rows};
use super::grouping::{GroupKey, Grouping};
use super::hash::{NullKeys, Zeros, hash_rows, null_rows, unequal_rows};
use super::index::{KeyIndex, PROBES_AT_ONCE};
use super::snapshot::{StateReader, StateWriter};

/// Identifies a row of an arrangement for as long as it is there; never used again.
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
    key: Vec<usize>,
    nulls: NullKeys,
    schema: SchemaRef,
    chunks: Chunks,
    index: KeyIndex,
    groupings: Vec<Grouping>,
    gone: Vec<RowId>,
}

impl Arrangement {
    /// An empty multiset of rows of `schema`, indexed by the columns `key`.
    pub fn new(schema: SchemaRef, key: Vec<usize>, nulls: NullKeys) -> Self {
        Self {
            key,
            nulls,
            chunks: Chunks::new(Arc::clone(&schema)),
            schema,
            index: KeyIndex::default(),
            groupings: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// The same, which also knows the rows by the values of further columns: of each entry of `groupings`, in its order.
    /// For a multiset that holds nothing yet, and in which null equals null.
    pub fn grouped_by(mut self, groupings: Vec<Vec<usize>>) -> Result<Self> {
        debug_assert!(self.chunks.next() == 0 && self.nulls == NullKeys::Equal, "groupings know every row");
        self.groupings =
            groupings.into_iter().map(|columns| Grouping::new(&self.schema, columns)).collect::<Result<Vec<_>>>()?;
        Ok(self)
    }

    /// Every group of a grouping that has rows.
    pub fn groups(&self, grouping: usize) -> Vec<GroupKey> {
        self.groupings.get(grouping).map(Grouping::all).unwrap_or_default()
    }

    /// The groups of a grouping that changed since this was asked before; some may have no rows any more.
    pub fn take_touched(&mut self, grouping: usize) -> BTreeSet<GroupKey> {
        self.groupings.get_mut(grouping).map(Grouping::take_touched).unwrap_or_default()
    }

    /// The values that a group stands for, one row, and its rows, each as often as its weight says. Costs what the group
    /// holds, whatever else is held.
    pub fn group(&self, grouping: usize, key: &GroupKey) -> Result<(RecordBatch, RecordBatch)> {
        let grouping = self
            .groupings
            .get(grouping)
            .ok_or_else(|| DataFusionError::Internal("an arrangement has no such grouping".to_owned()))?;
        let times = |row: RowId| std::iter::repeat_n(row, usize::try_from(self.weight(row)).unwrap_or(0));
        let rows: Vec<RowId> = grouping.rows(key).flat_map(times).collect();
        Ok((grouping.values(key)?, self.gather(&rows)?))
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
        self.chunks.live()
    }

    /// Bytes held by rows and index, roughly.
    pub fn bytes(&self) -> usize {
        self.chunks.bytes() + self.index.bytes()
    }

    /// The stored rows whose key equals that of a probe row. `keys` are the probe's key columns, of the same types, in the
    /// order of [`Arrangement::key`]. Matches come in the order of the probe.
    pub fn probe(&self, keys: &[ArrayRef], rows: usize) -> Result<Vec<Match>> {
        if self.index.is_empty() || rows == 0 {
            return Ok(Vec::new());
        }
        let skip = null_rows(self.nulls, keys);
        let hashes = hash_rows(keys, rows)?;
        u32::try_from(rows).map_err(|_| too_many_rows())?;
        let mut matches = Vec::with_capacity(rows);
        let asked = hashes.iter().enumerate().map(|(row, &hash)| {
            let equals_nothing = skip.as_ref().is_some_and(|skip| skip.value(row));
            (!equals_nothing).then_some(hash)
        });
        self.index.find(asked, &mut matches);
        self.keep_equal(keys, matches)
    }

    /// Whether every key is known to have one row, of weight one, or none: by hashes alone, so that some may have no more than
    /// that although this says no. For keys in which null equals null.
    pub fn surely_single(&self, keys: &[ArrayRef], rows: usize) -> Result<bool> {
        let mut found = Vec::with_capacity(rows);
        self.index.find(hash_rows(keys, rows)?.into_iter().map(Some), &mut found);
        let apart = found.windows(2).all(|pair| pair[0].probe != pair[1].probe);
        Ok(apart && found.iter().all(|found| self.weight(found.stored) == 1))
    }

    /// Leaves out matches that share a hash but not a key.
    fn keep_equal(&self, keys: &[ArrayRef], matches: Vec<Match>) -> Result<Vec<Match>> {
        if matches.is_empty() || keys.is_empty() {
            return Ok(matches);
        }
        let places: Vec<Place> = matches.iter().map(|found| self.chunks.place(found.stored)).collect();
        let positions: UInt32Array = matches.iter().map(|found| Some(found.probe)).collect();
        let held = self.chunks.gather(&self.key, &places)?;
        let asked =
            keys.iter().map(|key| Ok(arrow::compute::take(key, &positions, None)?)).collect::<Result<Vec<_>>>()?;
        Ok(match unequal_rows(&held, &asked, Zeros::Same)? {
            None => matches,
            Some(wrong) => {
                matches.into_iter().zip(wrong).filter(|&(_, wrong)| !wrong).map(|(found, _)| found).collect()
            }
        })
    }

    /// The weight of a stored row.
    pub fn weight(&self, row: RowId) -> i64 {
        self.chunks.weight(self.chunks.place(row))
    }

    /// The rows at these identifiers, all columns.
    pub fn gather(&self, rows: &[RowId]) -> Result<RecordBatch> {
        let columns: Vec<usize> = (0..self.schema.fields().len()).collect();
        with_rows(&self.schema, self.gather_columns(&columns, rows)?, rows.len())
    }

    /// Some columns of the rows at these identifiers.
    pub fn gather_columns(&self, columns: &[usize], rows: &[RowId]) -> Result<Vec<ArrayRef>> {
        let places: Vec<Place> = rows.iter().map(|&row| self.chunks.place(row)).collect();
        self.chunks.gather(columns, &places)
    }

    /// The chunks whose rows will not change any more: each can be written once, under its number.
    pub fn sealed(&self) -> impl Iterator<Item = Sealed<'_>> {
        self.chunks.sealed()
    }

    /// All live rows, in the order of insertion, each as often as its weight says.
    pub fn live_batches(&self) -> Result<Vec<RecordBatch>> {
        self.chunks.live_batches()
    }

    /// Which rows of a delta with these keys and weights [`Arrangement::apply`] will take in, with the identifiers that they
    /// will have.
    pub fn coming(&self, keys: &[ArrayRef], weights: &[i64]) -> Vec<(usize, RowId)> {
        let skip = null_rows(self.nulls, keys);
        appearing(weights, skip.as_ref()).zip(self.chunks.next()..).collect()
    }

    /// The rows that went with the last [`Arrangement::apply`], and those forgotten since.
    pub fn gone(&self) -> &[RowId] {
        &self.gone
    }

    /// Writes all rows, with their identifiers.
    pub fn save(&self, state: &mut StateWriter) -> Result<()> {
        state.value(&self.gone)?;
        self.chunks.save(state)
    }

    /// Takes up what an arrangement of the same schema, key and groupings wrote; for one that holds nothing yet.
    pub fn load(&mut self, state: &mut StateReader) -> Result<()> {
        self.gone = state.value()?;
        self.chunks.load(state)?;
        let Self { chunks, index, groupings, key, .. } = self;
        chunks.each(&mut |rows, there| {
            let columns: Vec<ArrayRef> = key.iter().map(|&column| Arc::clone(rows.column(column))).collect();
            let hashes = hash_rows(&columns, rows.num_rows())?;
            let groups = groupings.iter().map(|grouping| grouping.keys(rows)).collect::<Result<Vec<_>>>()?;
            let there: Vec<(usize, RowId)> = there.collect();
            let entries: Vec<(u64, RowId)> = there.iter().map(|&(row, id)| (hashes[row], id)).collect();
            index.extend(&entries, &|id| chunks.hash(chunks.place(id)));
            for (grouping, groups) in groupings.iter_mut().zip(&groups) {
                there.iter().for_each(|&(row, id)| grouping.insert(groups.row(row).data(), id));
            }
            Ok(())
        })
    }

    /// Adds the delta to the multiset.
    ///
    /// # Errors
    /// `Internal` if a row goes that is not there: the deltas of a circuit never do that.
    pub fn apply(&mut self, delta: &Delta) -> Result<()> {
        self.gone.clear();
        if delta.is_empty() {
            return Ok(());
        }
        let key_columns = self.key_columns(delta.batch());
        let skip = null_rows(self.nulls, &key_columns);
        let hashes = Hashes {
            key: hash_rows(&key_columns, delta.len())?,
            row: hash_rows(delta.batch().columns(), delta.len())?,
        };
        let groups = self.touch_groups(delta)?;
        self.append(delta, skip.as_ref(), &hashes, &groups)?;
        let thinned =
            if delta.has_removals() { self.remove(delta, skip.as_ref(), &hashes, &groups)? } else { Vec::new() };
        self.chunks.tidy(thinned)
    }

    /// Lets rows go without a delta, however often they are there: no group counts as touched.
    pub fn forget(&mut self, rows: &[RowId]) -> Result<()> {
        let held: Vec<RowId> = rows.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let batch = self.gather(&held)?;
        let key_hashes = hash_rows(&self.key_columns(&batch), held.len())?;
        let groups = self.groupings.iter().map(|grouping| grouping.keys(&batch)).collect::<Result<Vec<_>>>()?;
        let mut thinned = Vec::with_capacity(held.len());
        for (position, &id) in held.iter().enumerate() {
            let place = self.chunks.place(id);
            self.index.remove(key_hashes[position], id, self.chunks.hash(place));
            self.chunks.take_weight(place, i64::MAX);
            for (grouping, groups) in self.groupings.iter_mut().zip(&groups) {
                grouping.remove(groups.row(position).data(), id);
            }
            self.gone.push(id);
            thinned.push(place);
        }
        self.chunks.tidy(thinned)
    }

    fn key_columns(&self, rows: &RecordBatch) -> Vec<ArrayRef> {
        self.key.iter().map(|&column| Arc::clone(rows.column(column))).collect()
    }

    /// The group of each row of the delta, by grouping; notes that they change.
    fn touch_groups(&mut self, delta: &Delta) -> Result<Vec<RowBytes>> {
        let groups = self.groupings.iter().map(|grouping| grouping.keys(delta.batch())).collect::<Result<Vec<_>>>()?;
        for (grouping, groups) in self.groupings.iter_mut().zip(&groups) {
            groups.iter().for_each(|group| grouping.touch(group.data()));
        }
        Ok(groups)
    }

    fn append(
        &mut self,
        delta: &Delta,
        skip: Option<&BooleanArray>,
        hashes: &Hashes,
        groups: &[RowBytes],
    ) -> Result<()> {
        let rows: Vec<usize> = appearing(delta.weights(), skip).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let batch = if rows.len() == delta.len() {
            delta.batch().clone()
        } else {
            let positions: UInt32Array = rows.iter().map(|&row| u32::try_from(row).ok()).collect();
            take_rows(delta.batch(), &positions)?
        };
        let first = self.chunks.next();
        self.chunks.append(&NewRows {
            batch: relabel(&batch, &self.schema)?,
            weights: rows.iter().map(|&row| delta.weights()[row]).collect(),
            hashes: rows.iter().map(|&row| hashes.row[row]).collect(),
        })?;
        let Self { chunks, index, groupings, .. } = self;
        let entries: Vec<(u64, RowId)> = rows.iter().zip(first..).map(|(&row, id)| (hashes.key[row], id)).collect();
        index.extend(&entries, &|id| chunks.hash(chunks.place(id)));
        for (grouping, groups) in groupings.iter_mut().zip(groups) {
            for (&row, id) in rows.iter().zip(first..) {
                grouping.insert(groups.row(row).data(), id);
            }
        }
        Ok(())
    }

    /// Takes the rows that go off; returns the places of those that are gone.
    fn remove(
        &mut self,
        delta: &Delta,
        skip: Option<&BooleanArray>,
        hashes: &Hashes,
        groups: &[RowBytes],
    ) -> Result<Vec<Place>> {
        let stored = |&row: &usize| delta.weights()[row] < 0 && skip.is_none_or(|skip| !skip.value(row));
        let going: Vec<usize> = (0..delta.len()).filter(stored).collect();
        let newest = self.newest_equal(delta.batch(), &going, hashes)?;
        let mut thinned = Vec::with_capacity(going.len());
        for (&row, mut known) in going.iter().zip(newest) {
            let mut left = -delta.weights()[row];
            while left > 0 {
                let found = match known.take().filter(|&place| self.chunks.weight(self.chunks.place(place)) > 0) {
                    Some(id) => Some(id),
                    None => self.find_equal(delta.batch(), row, hashes)?,
                };
                let Some(id) = found else {
                    return Err(DataFusionError::Internal("a row goes that an arrangement does not hold".to_owned()));
                };
                let place = self.chunks.place(id);
                left -= self.chunks.take_weight(place, left);
                if self.chunks.weight(place) > 0 {
                    continue;
                }
                self.index.remove(hashes.key[row], id, hashes.row[row]);
                for (grouping, groups) in self.groupings.iter_mut().zip(groups) {
                    grouping.remove(groups.row(row).data(), id);
                }
                self.gone.push(id);
                thinned.push(place);
            }
        }
        Ok(thinned)
    }

    /// For each row that goes the newest row with its hashes, if it is equal: nearly always the right one. All of them are
    /// compared at once; [`Arrangement::find_equal`] looks for the others, one by one.
    fn newest_equal(&self, rows: &RecordBatch, going: &[usize], hashes: &Hashes) -> Result<Vec<Option<RowId>>> {
        let newest = |row: &usize| {
            let same = |id: RowId| self.chunks.hash(self.chunks.place(id)) == hashes.row[*row];
            self.index.newest(hashes.key[*row], hashes.row[*row], same)
        };
        let mut candidates: Vec<Option<RowId>> = Vec::with_capacity(going.len());
        let mut near: Vec<RowId> = Vec::with_capacity(PROBES_AT_ONCE);
        for block in going.chunks(PROBES_AT_ONCE) {
            near.clear();
            self.index.some_rows(block.iter().map(|&row| hashes.key[row]), &mut near);
            self.chunks.touch(near.iter().copied());
            candidates.extend(block.iter().map(newest));
        }
        let compared = || candidates.iter().zip(going).filter_map(|(candidate, &row)| Some(((*candidate)?, row)));
        let found: Vec<RowId> = compared().map(|(id, _)| id).collect();
        let asked: UInt32Array = compared().map(|(_, row)| u32::try_from(row).ok()).collect();
        let columns: Vec<usize> = (0..self.schema.fields().len()).collect();
        let held = self.gather_columns(&columns, &found)?;
        let asked = take_rows(rows, &asked)?;
        if let Some(wrong) = unequal_rows(&held, asked.columns(), Zeros::Apart)? {
            let found = candidates.iter_mut().filter(|candidate| candidate.is_some());
            found.zip(wrong).filter(|&(_, wrong)| wrong).for_each(|(candidate, _)| *candidate = None);
        }
        Ok(candidates)
    }

    /// The newest row that equals a row of `rows`.
    fn find_equal(&self, rows: &RecordBatch, row: usize, hashes: &Hashes) -> Result<Option<RowId>> {
        let wanted = rows.slice(row, 1);
        let mut failed = Ok(());
        let found = self.index.newest(hashes.key[row], hashes.row[row], |id| {
            let place = self.chunks.place(id);
            if self.chunks.hash(place) != hashes.row[row] {
                return false;
            }
            match unequal_rows(self.chunks.row(place).columns(), wanted.columns(), Zeros::Apart) {
                Ok(wrong) => wrong.is_none(),
                Err(error) => {
                    failed = Err(error);
                    false
                }
            }
        });
        failed.map(|()| found)
    }
}

/// The hashes of a delta's rows.
struct Hashes {
    key: Vec<u64>,
    row: Vec<u64>,
}

/// The rows of the delta that appear and can be stored; `skip` are those that equal nothing.
fn appearing<'a>(weights: &'a [i64], skip: Option<&'a BooleanArray>) -> impl Iterator<Item = usize> + 'a {
    let stored = move |&row: &usize| weights[row] > 0 && skip.is_none_or(|skip| !skip.value(row));
    (0..weights.len()).filter(stored)
}

fn too_many_rows() -> DataFusionError {
    DataFusionError::Internal("more than 2^32 rows in one delta".to_owned())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrow::array::{Array, AsArray, Int64Array, StringViewArray};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    /// A row: its key, which may be null, and a value.
    type Row = (Option<i64>, i64);

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("key", DataType::Int64, true),
            Field::new("text", DataType::Utf8View, true),
        ]))
    }

    fn text(value: i64) -> String {
        format!("a text that no view holds in place: {value}")
    }

    fn delta(rows: &[(Row, i64)]) -> Delta {
        let keys: Int64Array = rows.iter().map(|((key, _), _)| *key).collect();
        let texts: StringViewArray = rows.iter().map(|((_, value), _)| Some(text(*value))).collect();
        let batch = RecordBatch::try_new(schema(), vec![Arc::new(keys), Arc::new(texts)]).expect("a batch");
        Delta::new(batch, rows.iter().map(|(_, weight)| *weight).collect())
    }

    fn read(batch: &RecordBatch) -> Vec<Row> {
        let (keys, texts) = (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string_view());
        let value = |row: usize| texts.value(row).rsplit(' ').next().expect("a number").parse().expect("a number");
        (0..batch.num_rows()).map(|row| (keys.is_valid(row).then(|| keys.value(row)), value(row))).collect()
    }

    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).expect("31 bits") % bound.max(1)
        }

        fn value(&mut self, bound: usize) -> i64 {
            i64::try_from(self.below(bound)).expect("small")
        }
    }

    /// What stands under some keys, nulls among them, equals the model; each row has the identifier that it came with.
    fn compare(
        rows: &Arrangement,
        model: &BTreeMap<Row, i64>,
        ids: &BTreeMap<RowId, Row>,
        nulls: NullKeys,
        place: &str,
    ) {
        let asked: Vec<Option<i64>> = (0..40).map(Some).chain([None]).collect();
        let keys: ArrayRef = Arc::new(asked.iter().copied().collect::<Int64Array>());
        let found = rows.probe(&[keys], asked.len()).expect("looked up");
        let stored: Vec<RowId> = found.iter().map(|found| found.stored).collect();
        let mut held: BTreeMap<Row, i64> = BTreeMap::new();
        for (row, found) in read(&rows.gather(&stored).expect("rows")).into_iter().zip(&found) {
            assert_eq!(asked[found.probe as usize], row.0, "{place}");
            assert_eq!(ids.get(&found.stored), Some(&row), "{place}");
            *held.entry(row).or_default() += rows.weight(found.stored);
        }
        let of_key = |row: &Row| asked.contains(&row.0) && (row.0.is_some() || nulls == NullKeys::Equal);
        let wanted = model.iter().filter(|&(row, _)| of_key(row)).map(|(row, weight)| (*row, *weight));
        assert_eq!(held, wanted.collect(), "{place}");
    }

    /// Random deltas against a model. `rows_max` rows a delta, of which in a hundred `removed` go; `keys` different keys.
    fn check(seed: u64, nulls: NullKeys, steps: usize, rows_max: usize, removed: usize, keys: usize) {
        let mut random = Random(seed);
        let mut rows = Arrangement::new(schema(), vec![0], nulls);
        let mut model: BTreeMap<Row, i64> = BTreeMap::new();
        let mut order: Vec<Row> = Vec::new();
        let mut ids: BTreeMap<RowId, Row> = BTreeMap::new();
        for step in 0..steps {
            let mut change: BTreeMap<Row, i64> = BTreeMap::new();
            for _ in 0..random.below(rows_max + 1) {
                if !order.is_empty() && random.below(100) < removed {
                    let at = random.below(order.len());
                    *change.entry(order.swap_remove(at)).or_default() -= 1;
                } else {
                    let key = (random.below(20) > 0).then(|| random.value(keys));
                    let values = if random.below(3) == 0 { 2 } else { 1_000_000 };
                    let row = (key, random.value(values));
                    *change.entry(row).or_default() += 1;
                    order.push(row);
                }
            }
            change.retain(|_, weight| *weight != 0);
            let change: Vec<(Row, i64)> = change.into_iter().collect();
            let delta = delta(&change);
            for (row, id) in rows.coming(&delta.batch().columns()[..1], delta.weights()) {
                ids.insert(id, change[row].0);
            }
            rows.apply(&delta).expect("applied");
            for gone in rows.gone() {
                assert!(ids.remove(gone).is_some(), "a row goes once");
            }
            for (row, weight) in change {
                *model.entry(row).or_default() += weight;
            }
            model.retain(|_, weight| *weight != 0);
            let place = format!("seed {seed}, step {step}");
            if step % 7 == 0 || step + 1 == steps {
                compare(&rows, &model, &ids, nulls, &place);
            }
            assert_eq!(rows.rows(), ids.len(), "{place}");
        }
        let mut held: BTreeMap<Row, i64> = BTreeMap::new();
        for batch in rows.live_batches().expect("rows") {
            read(&batch).into_iter().for_each(|row| *held.entry(row).or_default() += 1);
        }
        model.retain(|row, _| row.0.is_some() || nulls == NullKeys::Equal);
        assert_eq!(held, model, "seed {seed}");
    }

    #[test]
    fn rows_are_those_of_the_model_and_keep_their_identifiers() {
        for seed in 0..4 {
            check(seed, NullKeys::Equal, 80, 40, 45, 12);
            check(seed, NullKeys::Distinct, 80, 300, 49, 60);
        }
    }

    #[test]
    fn blocks_fill_and_wear_out_under_their_rows() {
        check(11, NullKeys::Equal, 60, 9_000, 48, 5_000);
        check(12, NullKeys::Distinct, 40, 30_000, 44, 100_000);
    }

    #[test]
    fn a_sealed_chunk_stays_as_it_is_until_another_takes_its_place() {
        let mut random = Random(9);
        let mut rows = Arrangement::new(schema(), vec![0], NullKeys::Equal);
        let mut held: Vec<Row> = Vec::new();
        let mut known: BTreeMap<u64, (RecordBatch, Vec<u64>)> = BTreeMap::new();
        for step in 0..60_i64 {
            let new: Vec<(Row, i64)> = (0..10_000).map(|value| ((Some(step), value), 1)).collect();
            let going = (0..held.len() / 8).map(|_| held.swap_remove(random.below(held.len()))).map(|row| (row, -1));
            let change: Vec<(Row, i64)> = going.collect::<Vec<_>>().into_iter().chain(new.iter().copied()).collect();
            held.extend(new.into_iter().map(|(row, _)| row));
            rows.apply(&delta(&change)).expect("applied");
            let now: BTreeMap<u64, _> = rows.sealed().map(|chunk| (chunk.number, chunk)).collect();
            for (number, chunk) in &now {
                let (before, hashes) =
                    known.entry(*number).or_insert_with(|| (chunk.rows.clone(), chunk.hashes.to_vec()));
                assert!(before == chunk.rows && hashes == chunk.hashes, "chunk {number} changed");
            }
            assert!(now.values().all(|chunk| chunk.left * 2 >= chunk.rows.num_rows()), "worn chunks are replaced");
        }
        assert!(known.len() > 10, "{} chunks", known.len());
    }

    #[test]
    fn the_few_rows_that_are_left_of_many_are_found_under_their_identifiers() {
        let mut random = Random(3);
        let mut rows = Arrangement::new(schema(), vec![0], NullKeys::Equal);
        let all: Vec<(Row, i64)> = (0..400_000).map(|value| ((Some(value), value), 1)).collect();
        all.chunks(30_000).for_each(|part| rows.apply(&delta(part)).expect("applied"));
        let mut held: Vec<Row> = all.into_iter().map(|(row, _)| row).collect();
        for share in [2, 3, 5, 7, 11, 13] {
            let mut going: Vec<(Row, i64)> =
                held.extract_if(.., |_| random.below(share) > 0).map(|row| (row, -1)).collect();
            for at in 0..going.len() {
                going.swap(at, random.below(at + 1));
            }
            going.chunks(20_000).for_each(|part| rows.apply(&delta(part)).expect("applied"));
            let keys: ArrayRef = Arc::new(held.iter().map(|(key, _)| *key).collect::<Int64Array>());
            let found = rows.probe(&[keys], held.len()).expect("looked up");
            let ids: Vec<RowId> = found.iter().map(|found| found.stored).collect();
            assert_eq!(read(&rows.gather(&ids).expect("rows")), held);
            assert!(ids.iter().zip(&held).all(|(id, (_, value))| i64::try_from(*id) == Ok(*value)));
            assert_eq!(rows.rows(), held.len());
        }
        assert!(!held.is_empty() && rows.bytes() < 20_000_000, "{} rows in {} bytes", held.len(), rows.bytes());
    }

    #[test]
    fn a_row_goes_that_came_in_the_same_delta() {
        let mut rows = Arrangement::new(schema(), vec![0], NullKeys::Equal);
        rows.apply(&delta(&[((Some(1), 5), 2), ((Some(1), 5), -1), ((Some(2), 6), 1)])).expect("applied");
        assert_eq!((rows.rows(), rows.weight(0)), (2, 1));
        let missing = rows.apply(&delta(&[((Some(2), 7), -1)])).expect_err("it is not there");
        assert!(missing.to_string().contains("does not hold"), "{missing}");
    }

    #[test]
    fn forgotten_rows_are_found_no_more() {
        let mut rows = Arrangement::new(schema(), vec![0], NullKeys::Equal);
        let all: Vec<(Row, i64)> = (0..3_000).map(|value| ((Some(value % 10), value), 1 + value % 2)).collect();
        rows.apply(&delta(&all)).expect("applied");
        let going: Vec<RowId> = (0..3_000).filter(|row| row % 3 > 0).chain([1]).collect();
        rows.forget(&going).expect("forgotten");
        assert_eq!((rows.rows(), rows.gone().len()), (1_000, 2_000));
        let keys: ArrayRef = Arc::new(Int64Array::from(vec![4]));
        let found = rows.probe(&[keys], 1).expect("looked up");
        assert_eq!(found.len(), 100);
        assert!(found.iter().all(|found| found.stored % 3 == 0));
    }
}
