//! Where the rows of each key lie: an open table of key hashes and rows, so that a look-up nearly always reads one line of
//! memory.
//!
//! Entries lie at the place that their hash gives them or soon behind it; the rows of a key follow each other. A key with many
//! rows keeps them apart, by the hash of the row, so that one of them goes at a cost that does not depend on how many there
//! are: all rows of a cross join have one key.

use std::collections::BTreeSet;

use super::arrangement::{Match, RowId};

/// Row identifiers by the hash of their key.
#[derive(Debug)]
pub(crate) struct KeyIndex {
    /// A power of two of them.
    slots: Vec<Slot>,
    /// How far a mixed hash is shifted to become a slot.
    shift: u32,
    used: usize,
    many: Vec<BTreeSet<(u64, RowId)>>,
    /// Places in `many` that no key has.
    unused: Vec<usize>,
}

/// A row of a key; a key with many rows has one slot, which names its place in `many`.
#[derive(Debug, Clone, Copy)]
struct Slot {
    key_hash: u64,
    row: RowId,
}

impl Default for KeyIndex {
    fn default() -> Self {
        Self {
            slots: vec![EMPTY; SLOTS_MIN],
            shift: 64 - SLOTS_MIN.ilog2(),
            used: 0,
            many: Vec::new(),
            unused: Vec::new(),
        }
    }
}

impl KeyIndex {
    /// Whether no row is known.
    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        let many: usize = self.many.iter().map(|rows| rows.len() * 24).sum();
        self.slots.len() * size_of::<Slot>() + many
    }

    /// The rows of each probed key, by position in the probe; `None` is a key that equals nothing.
    pub(crate) fn find(&self, key_hashes: impl Iterator<Item = Option<u64>>, found: &mut Vec<Match>) {
        let mut probes = (0_u32..).zip(key_hashes);
        let mut block: Vec<(u32, u64)> = Vec::with_capacity(PROBES_AT_ONCE);
        loop {
            block.clear();
            block.extend(probes.by_ref().filter_map(|(probe, hash)| Some((probe, hash?))).take(PROBES_AT_ONCE));
            if block.is_empty() {
                return;
            }
            self.touch(block.iter().map(|&(_, hash)| hash));
            for &(probe, hash) in &block {
                self.each(hash, |stored| found.push(Match { probe, stored }));
            }
        }
    }

    /// Reads the first slot of each key: reads that don't wait for each other, so that memory answers them together.
    fn touch(&self, key_hashes: impl Iterator<Item = u64>) {
        let read = key_hashes.fold(0, |read, hash| read ^ self.slots[self.home(hash)].row);
        std::hint::black_box(read);
    }

    /// For each key one row, if it has any, of which it can be told without a search.
    pub(super) fn some_rows(&self, key_hashes: impl Iterator<Item = u64> + Clone, rows: &mut Vec<RowId>) {
        self.touch(key_hashes.clone());
        rows.extend(key_hashes.filter_map(|hash| {
            let found = self.run(hash).find(|slot| slot.key_hash == hash)?;
            found.many().is_none().then_some(found.row)
        }));
    }

    /// Calls `take` with each row whose key has this hash.
    fn each(&self, key_hash: u64, mut take: impl FnMut(RowId)) {
        for slot in self.run(key_hash).filter(|slot| slot.key_hash == key_hash) {
            match slot.many() {
                None => take(slot.row),
                Some(place) => self.many[place].iter().for_each(|&(_, row)| take(row)),
            }
        }
    }

    /// The newest row of a key that has this row hash and passes `is_it`.
    pub(crate) fn newest(&self, key_hash: u64, row_hash: u64, mut is_it: impl FnMut(RowId) -> bool) -> Option<RowId> {
        let mut newest: Option<RowId> = None;
        for slot in self.run(key_hash).filter(|slot| slot.key_hash == key_hash) {
            let row = match slot.many() {
                None => Some(slot.row).filter(|&row| newest.is_none_or(|newest| newest < row) && is_it(row)),
                Some(place) => {
                    let same = self.many[place].range((row_hash, 0)..=(row_hash, RowId::MAX)).rev();
                    same.map(|&(_, row)| row).find(|&row| is_it(row))
                }
            };
            newest = newest.max(row);
        }
        newest
    }

    /// The slots from the place of a hash to the next empty one.
    fn run(&self, key_hash: u64) -> impl Iterator<Item = Slot> + '_ {
        let home = self.home(key_hash);
        let (wrapped, first) = self.slots.split_at(home);
        first.iter().chain(wrapped).copied().take_while(|slot| slot.row != EMPTY.row)
    }

    fn home(&self, key_hash: u64) -> usize {
        // The high bits of a product depend on all bits of the hash; and a table that grows keeps its order.
        usize::try_from(key_hash.wrapping_mul(MIX) >> self.shift).expect("a slot of a table in memory")
    }

    /// Makes room for further rows.
    fn reserve(&mut self, rows: usize) {
        let wanted = (self.used + rows) * SHARE_USED_MAX.1 / SHARE_USED_MAX.0;
        if wanted <= self.slots.len() {
            return;
        }
        let slots = wanted.next_power_of_two().max(SLOTS_MIN);
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; slots]);
        self.shift = 64 - slots.ilog2();
        for slot in old.into_iter().filter(|slot| slot.row != EMPTY.row) {
            self.place(slot);
        }
    }

    /// Puts an entry into the first empty slot of its run.
    fn place(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = self.home(slot.key_hash);
        while self.slots[at].row != EMPTY.row {
            at = (at + 1) & mask;
        }
        self.slots[at] = slot;
    }

    /// Takes in rows by the hashes of their keys; `hash_of` knows the row hash of every row.
    pub(crate) fn extend(&mut self, rows: &[(u64, RowId)], hash_of: &dyn Fn(RowId) -> u64) {
        self.reserve(rows.len());
        for block in rows.chunks(PROBES_AT_ONCE) {
            self.touch(block.iter().map(|&(key_hash, _)| key_hash));
            block.iter().for_each(|&(key_hash, row)| self.insert(key_hash, row, hash_of));
        }
    }

    /// Takes in a row; `hash_of` knows the row hash of every row of the key, this one included.
    fn insert(&mut self, key_hash: u64, row: RowId, hash_of: &dyn Fn(RowId) -> u64) {
        self.reserve(1);
        let mut known = 0;
        let many = self.run(key_hash).filter(|slot| slot.key_hash == key_hash).find_map(|slot| {
            known += 1;
            slot.many()
        });
        match many {
            Some(place) => {
                self.many[place].insert((hash_of(row), row));
            }
            None if known < FEW_MAX => {
                self.place(Slot { key_hash, row });
                self.used += 1;
            }
            None => self.keep_apart(key_hash, row, hash_of),
        }
    }

    /// Makes a key with a few rows, and one more, a key with many.
    fn keep_apart(&mut self, key_hash: u64, row: RowId, hash_of: &dyn Fn(RowId) -> u64) {
        let mut rows = BTreeSet::from([(hash_of(row), row)]);
        self.each(key_hash, |row| {
            rows.insert((hash_of(row), row));
        });
        for &(_, known) in rows.iter().filter(|&&(_, known)| known != row) {
            self.clear(key_hash, known);
        }
        let place = self.unused.pop().unwrap_or(self.many.len());
        if place == self.many.len() {
            self.many.push(rows);
        } else {
            self.many[place] = rows;
        }
        self.place(Slot { key_hash, row: MANY | place as RowId });
        self.used += 1;
    }

    /// Forgets a row.
    pub(crate) fn remove(&mut self, key_hash: u64, row: RowId, row_hash: u64) {
        if self.clear(key_hash, row) {
            return;
        }
        let many = self.run(key_hash).filter(|slot| slot.key_hash == key_hash).find_map(|slot| slot.many());
        let Some(place) = many else { return };
        self.many[place].remove(&(row_hash, row));
        if self.many[place].len() > FEW_MAX / 2 {
            return;
        }
        let few = std::mem::take(&mut self.many[place]);
        self.unused.push(place);
        self.clear(key_hash, MANY | place as RowId);
        self.reserve(few.len());
        for (_, row) in few {
            self.place(Slot { key_hash, row });
            self.used += 1;
        }
    }

    /// Empties a slot, and moves those behind it that can stand nearer to their place; false if there is no such slot.
    fn clear(&mut self, key_hash: u64, row: RowId) -> bool {
        let mask = self.slots.len() - 1;
        let mut hole = self.home(key_hash);
        while self.slots[hole].row != row {
            if self.slots[hole].row == EMPTY.row {
                return false;
            }
            hole = (hole + 1) & mask;
        }
        let mut next = hole;
        loop {
            next = (next + 1) & mask;
            let slot = self.slots[next];
            if slot.row == EMPTY.row {
                break;
            }
            let from_home = next.wrapping_sub(self.home(slot.key_hash)) & mask;
            if from_home >= next.wrapping_sub(hole) & mask {
                self.slots[hole] = slot;
                hole = next;
            }
        }
        self.slots[hole] = EMPTY;
        self.used -= 1;
        true
    }
}

impl Slot {
    /// The place in `many` of a key with many rows.
    fn many(self) -> Option<usize> {
        (self.row & MANY != 0).then(|| usize::try_from(self.row & !MANY).expect("a place in memory"))
    }
}

const EMPTY: Slot = Slot { key_hash: 0, row: RowId::MAX };
/// Marks what is a place in `many`; no row's identifier is as high.
const MANY: RowId = 1 << 63;
/// Keys with more rows than this keep them apart.
const FEW_MAX: usize = 8;
/// The table grows when it is fuller than this, as a fraction.
const SHARE_USED_MAX: (usize, usize) = (5, 8);
const SLOTS_MIN: usize = 8;
/// How many look-ups are on their way at once.
pub(super) const PROBES_AT_ONCE: usize = 64;
/// 2^64 divided by the golden ratio, odd.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose hash is their identifier modulo 7: many share one.
    fn hash_of(row: RowId) -> u64 {
        row % 7
    }

    fn sorted(index: &KeyIndex, key: u64) -> Vec<RowId> {
        let mut found = Vec::new();
        index.find([None, Some(key)].into_iter(), &mut found);
        assert!(found.iter().all(|found| found.probe == 1));
        let mut rows: Vec<RowId> = found.iter().map(|found| found.stored).collect();
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
            let newest = index.newest(1, hash_of(row), |other| hash_of(other) == hash_of(row));
            assert_eq!(newest, (row..200).rev().find(|&other| hash_of(other) == hash_of(row)));
            index.remove(1, row, hash_of(row));
            assert_eq!(sorted(&index, 1), (row + 1..200).collect::<Vec<_>>());
        }
        assert_eq!(sorted(&index, 5), [1_003]);
        assert_eq!(index.newest(1, 0, |_| true), None);
    }

    /// Random keys, of which some share their place in the table, come and go as in a model.
    #[test]
    fn rows_of_colliding_keys_are_found_while_others_come_and_go() {
        let mut state = 7_u64;
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let mut index = KeyIndex::default();
        let mut model: Vec<(u64, RowId)> = Vec::new();
        for row in 0..20_000 {
            if !model.is_empty() && random(5) < 2 {
                let at = usize::try_from(random(model.len() as u64)).expect("small");
                let (key, gone) = model.swap_remove(at);
                index.remove(key, gone, hash_of(gone));
            } else {
                // Few different values in the bits that decide the slot.
                let key = random(300).wrapping_mul(0x1_0000_0001);
                index.insert(key, row, &hash_of);
                model.push((key, row));
            }
            if row % 500 == 0 {
                for key in (0..300_u64).map(|key| key.wrapping_mul(0x1_0000_0001)) {
                    let mut rows: Vec<RowId> =
                        model.iter().filter(|&&(other, _)| other == key).map(|&(_, row)| row).collect();
                    rows.sort_unstable();
                    assert_eq!(sorted(&index, key), rows, "row {row}, key {key}");
                }
            }
        }
        assert_eq!(index.is_empty(), model.is_empty());
    }
}
