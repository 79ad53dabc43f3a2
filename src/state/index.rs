//! Where the rows of each key lie.
//!
//! Most keys have one row. A key with many rows keeps them by their hash, so that one of them goes at a cost that does not
//! depend on how many there are: all rows of a cross join have one key.

use std::collections::BTreeSet;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::arrangement::RowId;

/// Row identifiers by the hash of their key.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    buckets: HashTable<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    hash: u64,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    One(RowId),
    /// In rising order.
    Few(Vec<RowId>),
    /// With the hash of each row in front.
    Many(BTreeSet<(u64, RowId)>),
}

impl KeyIndex {
    /// Whether no row is known.
    pub(super) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The rows whose key has this hash.
    pub(super) fn rows(&self, key_hash: u64) -> RowsOfKey<'_> {
        match self.buckets.find(key_hash, |bucket| bucket.hash == key_hash).map(|bucket| &bucket.rows) {
            None => RowsOfKey::Few([].iter()),
            Some(Rows::One(row)) => RowsOfKey::Few(std::slice::from_ref(row).iter()),
            Some(Rows::Few(rows)) => RowsOfKey::Few(rows.iter()),
            Some(Rows::Many(rows)) => RowsOfKey::Many(rows.iter()),
        }
    }

    /// The rows of a key that can have this row hash, the newest first; not all of them need to have it.
    pub(super) fn candidates(&self, key_hash: u64, row_hash: u64) -> Candidates<'_> {
        match self.buckets.find(key_hash, |bucket| bucket.hash == key_hash).map(|bucket| &bucket.rows) {
            None => Candidates::Few([].iter().rev()),
            Some(Rows::One(row)) => Candidates::Few(std::slice::from_ref(row).iter().rev()),
            Some(Rows::Few(rows)) => Candidates::Few(rows.iter().rev()),
            Some(Rows::Many(rows)) => Candidates::Many(rows.range((row_hash, 0)..=(row_hash, RowId::MAX)).rev()),
        }
    }

    /// Takes in a row; `hash_of` knows the row hash of every row of the key, this one included.
    pub(super) fn insert(&mut self, key_hash: u64, row: RowId, hash_of: &dyn Fn(RowId) -> u64) {
        match self.buckets.entry(key_hash, |bucket| bucket.hash == key_hash, |bucket| bucket.hash) {
            Entry::Vacant(place) => {
                place.insert(Bucket { hash: key_hash, rows: Rows::One(row) });
            }
            Entry::Occupied(mut found) => {
                let rows = &mut found.get_mut().rows;
                match rows {
                    Rows::One(first) => *rows = Rows::Few(vec![*first, row]),
                    Rows::Few(held) if held.len() < FEW_MAX => held.push(row),
                    Rows::Few(held) => {
                        held.push(row);
                        *rows = Rows::Many(held.iter().map(|&row| (hash_of(row), row)).collect());
                    }
                    Rows::Many(held) => {
                        held.insert((hash_of(row), row));
                    }
                }
            }
        }
    }

    /// Forgets a row.
    pub(super) fn remove(&mut self, key_hash: u64, row: RowId, row_hash: u64) {
        let Entry::Occupied(mut found) =
            self.buckets.entry(key_hash, |bucket| bucket.hash == key_hash, |bucket| bucket.hash)
        else {
            return;
        };
        let rows = &mut found.get_mut().rows;
        match rows {
            Rows::One(_) => {
                found.remove();
            }
            Rows::Few(held) => {
                if let Some(place) = held.iter().rposition(|&known| known == row) {
                    held.remove(place);
                }
                if let [last] = held.as_slice() {
                    *rows = Rows::One(*last);
                }
            }
            Rows::Many(held) => {
                held.remove(&(row_hash, row));
                if held.len() <= FEW_MAX / 2 {
                    let mut few: Vec<RowId> = held.iter().map(|&(_, row)| row).collect();
                    few.sort_unstable();
                    *rows = Rows::Few(few);
                }
            }
        }
    }

    /// Gives a row its new identifier, the highest of all.
    pub(super) fn renumber(&mut self, key_hash: u64, old: RowId, new: RowId, row_hash: u64) {
        let Some(bucket) = self.buckets.find_mut(key_hash, |bucket| bucket.hash == key_hash) else { return };
        match &mut bucket.rows {
            Rows::One(row) => *row = new,
            Rows::Few(rows) => {
                if let Some(place) = rows.iter().position(|&row| row == old) {
                    rows.remove(place);
                    rows.push(new);
                }
            }
            Rows::Many(rows) => {
                if rows.remove(&(row_hash, old)) {
                    rows.insert((row_hash, new));
                }
            }
        }
    }
}

/// See [`KeyIndex::rows`].
pub(super) enum RowsOfKey<'a> {
    Few(std::slice::Iter<'a, RowId>),
    Many(std::collections::btree_set::Iter<'a, (u64, RowId)>),
}

impl Iterator for RowsOfKey<'_> {
    type Item = RowId;

    fn next(&mut self) -> Option<RowId> {
        match self {
            Self::Few(rows) => rows.next().copied(),
            Self::Many(rows) => rows.next().map(|&(_, row)| row),
        }
    }
}

/// See [`KeyIndex::candidates`].
pub(super) enum Candidates<'a> {
    Few(std::iter::Rev<std::slice::Iter<'a, RowId>>),
    Many(std::iter::Rev<std::collections::btree_set::Range<'a, (u64, RowId)>>),
}

impl Iterator for Candidates<'_> {
    type Item = RowId;

    fn next(&mut self) -> Option<RowId> {
        match self {
            Self::Few(rows) => rows.next().copied(),
            Self::Many(rows) => rows.next().map(|&(_, row)| row),
        }
    }
}

/// Keys with more rows than this keep them by hash.
const FEW_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose hash is their identifier modulo 7: many share one.
    fn hash_of(row: RowId) -> u64 {
        row % 7
    }

    fn sorted(index: &KeyIndex, key: u64) -> Vec<RowId> {
        let mut rows: Vec<RowId> = index.rows(key).collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn a_key_holds_its_rows_while_they_become_many_and_few_again() {
        let mut index = KeyIndex::default();
        for row in 0..200 {
            index.insert(1, row, &hash_of);
            index.insert(2 + row, 1_000 + row, &hash_of);
            assert_eq!(sorted(&index, 1), (0..=row).collect::<Vec<_>>());
        }
        for row in 0..200 {
            let same: Vec<RowId> =
                index.candidates(1, hash_of(row)).filter(|&one| hash_of(one) == hash_of(row)).collect();
            assert!(same.contains(&row) && same.is_sorted_by(|one, next| one > next), "row {row}: {same:?}");
            index.remove(1, row, hash_of(row));
            assert_eq!(sorted(&index, 1), (row + 1..200).collect::<Vec<_>>());
        }
        assert_eq!(sorted(&index, 5), [1_003]);
        assert!(index.candidates(1, 0).next().is_none());
    }

    #[test]
    fn a_renumbered_row_is_found_under_its_new_number_only() {
        for rows in [1, 5, 100] {
            let mut index = KeyIndex::default();
            (0..rows).for_each(|row| index.insert(1, row, &hash_of));
            index.renumber(1, 0, 7_000, hash_of(0));
            let mut expected: Vec<RowId> = (1..rows).collect();
            expected.push(7_000);
            assert_eq!(sorted(&index, 1), expected);
            assert_eq!(index.candidates(1, 0).next(), Some(7_000));
        }
    }
}
