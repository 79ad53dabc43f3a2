//! `upsert`: the latest row of a key is the key's row, and with `snapshot` only while its version is the newest.
//!
//! The law: the table is a function of the rows taken so far. Of each key it shows the row that is last (or has the highest
//! `order_by`; of equal ones the last), unless that row says that it is deleted. With `snapshot`, first every row is left
//! out whose version is not the highest of all rows that agree with it in `by`. So a row of an older version changes
//! nothing, whenever it comes; and the first row of a newer version takes every row of the older ones away, also where the
//! rest of its version comes in a later batch: until then the table holds what of the newest version is there.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;
use hashbrown::{HashMap, HashSet};

use crate::definition::pipeline::Snapshot;
use crate::state::{Arrangement, Delta, NullKeys, RowId, StateReader, StateWriter, relabel};

use super::intake::{key_columns, too_many_rows};
use super::saved;

/// The latest rows of an upsert source.
pub(super) struct Upsert {
    schema: SchemaRef,
    key: Vec<usize>,
    order_by: Option<usize>,
    deleted: Option<usize>,
    /// The latest row of each key, tombstones included; with `snapshot`, of the newest versions only.
    latest: Arrangement,
    versions: Option<Versions>,
}

impl Upsert {
    /// Of rows of a source's table; the indexes are its columns.
    pub(super) fn new(
        schema: &SchemaRef,
        key: &[usize],
        order_by: Option<usize>,
        deleted: Option<usize>,
        snapshot: Option<&Snapshot>,
    ) -> Result<Self> {
        Ok(Self {
            key: key.to_vec(),
            order_by,
            deleted,
            latest: Arrangement::new(Arc::clone(schema), key.to_vec(), NullKeys::Equal),
            versions: snapshot.map(|snapshot| Versions::new(schema, key, snapshot)).transpose()?,
            schema: Arc::clone(schema),
        })
    }

    /// Takes the next rows in stream order; returns how the table changes.
    pub(super) fn take(&mut self, rows: &RecordBatch) -> Result<Delta> {
        let Some(versions) = &mut self.versions else {
            let delta = self.replace(rows)?;
            return self.visible(delta);
        };
        let (newest, outdated) = versions.advance(rows)?;
        let gone = self.withdraw(&outdated)?;
        let delta = self.replace(&newest)?;
        if let Some(versions) = &mut self.versions {
            versions.keys.apply(&delta.project(&self.key)?.consolidate()?)?;
        }
        self.visible(Delta::concat(&self.schema, &[gone, delta])?)
    }

    /// Writes the latest rows, and which versions are the newest.
    pub(super) fn save(&self, state: &mut StateWriter) -> Result<()> {
        self.latest.save(state)?;
        self.versions.as_ref().map_or(Ok(()), |versions| versions.save(state))
    }

    /// Takes them up.
    pub(super) fn load(&mut self, state: &mut StateReader) -> Result<()> {
        self.latest.load(state)?;
        self.versions.as_mut().map_or(Ok(()), |versions| versions.load(state))
    }

    /// The rows of the table.
    pub(super) fn rows(&self) -> Result<Vec<RecordBatch>> {
        let visible = |rows: RecordBatch| Ok(self.visible(Delta::insertions(rows))?.batch().clone());
        self.latest.live_batches()?.into_iter().map(visible).collect()
    }

    /// Lets the rows of versions that are no longer the newest go. `rows` has one row of each snapshot concerned.
    fn withdraw(&mut self, rows: &RecordBatch) -> Result<Delta> {
        let Some(versions) = &mut self.versions else { return Ok(Delta::empty(&self.schema)) };
        let keys = versions.take_keys(rows)?;
        let matches = self.latest.probe(keys.columns(), keys.num_rows())?;
        let ids: Vec<RowId> = matches.iter().map(|found| found.stored).collect();
        let gone = Delta::new(self.latest.gather(&ids)?, vec![-1; ids.len()]);
        self.latest.forget(&ids)?;
        Ok(gone)
    }

    /// Puts the rows in the place of those that they replace; tombstones are rows here.
    fn replace(&mut self, rows: &RecordBatch) -> Result<Delta> {
        let columns = key_columns(rows, &self.key);
        let matches = self.latest.probe(&columns, rows.num_rows())?;
        let mut ids: Vec<_> = matches.iter().map(|found| found.stored).collect();
        ids.sort_unstable();
        ids.dedup();
        let stored = self.latest.gather(&ids)?;
        let orders = Orders::new(&self.schema, self.order_by, &stored, rows)?;
        let mut holders: Vec<Option<Holder>> = vec![None; rows.num_rows()];
        for found in &matches {
            holders[found.probe as usize] = ids.binary_search(&found.stored).ok().map(Holder::Stored);
        }
        let keys = converter(&self.schema, &self.key)?.convert_columns(&columns)?;
        let mut first_of_key: HashMap<&[u8], usize> = HashMap::new();
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
        let changed: Vec<_> = current.into_iter().filter(|(was, now)| was != now).collect();
        let replaced = changed.iter().filter_map(|&(was, _)| match was {
            Some(Holder::Stored(row)) => ids.get(row).copied(),
            _ => None,
        });
        self.latest.forget(&replaced.collect::<Vec<_>>())?;
        self.settle(rows, &stored, &changed)
    }

    /// Takes the new rows in; those that they replace are gone already. Returns the change of both.
    fn settle(
        &mut self,
        rows: &RecordBatch,
        stored: &RecordBatch,
        changed: &[(Option<Holder>, Option<Holder>)],
    ) -> Result<Delta> {
        let both = concat_batches(&self.schema, [&relabel(stored, &self.schema)?, &relabel(rows, &self.schema)?])?;
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
        let new: BooleanArray = delta.weights().iter().map(|&weight| Some(weight > 0)).collect();
        self.latest.apply(&delta.filter(&new)?)?;
        Ok(delta)
    }

    /// The change for those who don't see tombstones.
    fn visible(&self, delta: Delta) -> Result<Delta> {
        let Some(deleted) = self.deleted else { return Ok(delta) };
        let flags = as_boolean_array(delta.batch().column(deleted))?;
        let stands: BooleanArray =
            (0..delta.len()).map(|row| Some(!(flags.is_valid(row) && flags.value(row)))).collect();
        delta.filter(&stands)
    }
}

/// Where a key's row lies: among the stored ones, or in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Stored(usize),
    Batch(usize),
}

/// The values of `order_by`, comparable across stored rows and the batch; nulls come first.
struct Orders {
    rows: Option<(Rows, Rows)>,
}

impl Orders {
    fn new(schema: &SchemaRef, order_by: Option<usize>, stored: &RecordBatch, rows: &RecordBatch) -> Result<Self> {
        let Some(column) = order_by else { return Ok(Self { rows: None }) };
        let converter = converter(schema, &[column])?;
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

/// Which version of each `by` is the newest, and which keys have a row of it.
struct Versions {
    by: Vec<usize>,
    version: usize,
    groups: RowConverter,
    versions: RowConverter,
    /// The newest version of each `by`, both as comparable bytes.
    newest: HashMap<Box<[u8]>, Box<[u8]>>,
    /// The key columns of the rows that are held, by `by`.
    keys: Arrangement,
}

impl Versions {
    fn new(schema: &SchemaRef, key: &[usize], snapshot: &Snapshot) -> Result<Self> {
        let fields: Vec<_> = key.iter().map(|&column| schema.field(column).clone()).collect();
        let places = snapshot.by.iter().filter_map(|by| key.iter().position(|column| column == by)).collect();
        Ok(Self {
            by: snapshot.by.clone(),
            version: snapshot.version,
            groups: converter(schema, &snapshot.by)?,
            versions: converter(schema, &[snapshot.version])?,
            newest: HashMap::new(),
            keys: Arrangement::new(Arc::new(Schema::new(fields)), places, NullKeys::Equal),
        })
    }

    fn save(&self, state: &mut StateWriter) -> Result<()> {
        let mut newest: Vec<(&[u8], &[u8])> = self.newest.iter().map(|(by, version)| (&**by, &**version)).collect();
        newest.sort_unstable();
        state.rows(saved::batch([
            ("by", saved::bytes(newest.iter().map(|&(by, _)| by))),
            ("version", saved::bytes(newest.iter().map(|&(_, version)| version))),
        ])?);
        self.keys.save(state)
    }

    fn load(&mut self, state: &mut StateReader) -> Result<()> {
        let held = state.rows()?;
        self.newest = saved::bytes_of(&held, 0)?.into_iter().zip(saved::bytes_of(&held, 1)?).collect();
        self.keys.load(state)
    }

    /// Learns the versions of the next rows. Returns the rows whose version is the newest after all of them, and one row
    /// for each `by` whose version before is not the newest any more.
    fn advance(&mut self, rows: &RecordBatch) -> Result<(RecordBatch, RecordBatch)> {
        let groups = self.groups.convert_columns(&key_columns(rows, &self.by))?;
        let versions = self.versions.convert_columns(&[Arc::clone(rows.column(self.version))])?;
        let mut seen: HashSet<&[u8]> = HashSet::new();
        let mut outdated: Vec<u32> = Vec::new();
        for (position, row) in (0_u32..).zip(0..rows.num_rows()) {
            let (group, version) = (groups.row(row), versions.row(row));
            match self.newest.get_mut(group.data()) {
                None => {
                    seen.insert(group.data());
                    self.newest.insert(group.data().into(), version.data().into());
                }
                Some(newest) if **newest < *version.data() => {
                    *newest = version.data().into();
                    // What this batch alone brought was never stored.
                    if seen.insert(group.data()) {
                        outdated.push(position);
                    }
                }
                Some(_) => {}
            }
        }
        let is_newest = |&row: &u32| {
            let (group, version) = (groups.row(row as usize), versions.row(row as usize));
            self.newest.get(group.data()).is_some_and(|newest| **newest == *version.data())
        };
        let kept: Vec<u32> = (0_u32..).take(rows.num_rows()).filter(is_newest).collect();
        let newest = if kept.len() == rows.num_rows() {
            rows.clone()
        } else {
            take_record_batch(rows, &UInt32Array::from(kept))?
        };
        Ok((newest, take_record_batch(rows, &UInt32Array::from(outdated))?))
    }

    /// Forgets the keys that are held for the `by` of these rows, and returns them.
    fn take_keys(&mut self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = key_columns(rows, &self.by);
        let ids: Vec<RowId> = self.keys.probe(&columns, rows.num_rows())?.iter().map(|found| found.stored).collect();
        let keys = self.keys.gather(&ids)?;
        self.keys.forget(&ids)?;
        Ok(keys)
    }
}

fn converter(schema: &Schema, columns: &[usize]) -> Result<RowConverter> {
    let fields = columns.iter().map(|&column| SortField::new(schema.field(column).data_type().clone()));
    Ok(RowConverter::new(fields.collect())?)
}
