//! The rows of an arrangement: immutable chunks, with marks beside them.
//!
//! A row gets its identifier when it comes and keeps it until it goes; identifiers rise and are never used again. They fall
//! into blocks of 65,536. New rows lie in parts of the last block, which merge as they become more; what a full block holds is
//! one chunk, and sealed: its rows never change and can be written once. A row that goes is only marked. When more than half
//! of a chunk's rows are gone, a new chunk with the rest takes its place, and that of small neighbours; the rows keep their
//! identifiers, so that nothing that refers to them has to follow. A row is copied a bounded number of times for each row that
//! comes or goes, whatever is held.

mod saved;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, GenericByteViewArray, GenericByteViewBuilder,
    StringViewArray, UInt32Array, new_empty_array,
};
use arrow::compute::{concat_batches, filter_record_batch, interleave};
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, SchemaRef, StringViewType};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;

use super::arrangement::RowId;
use super::delta::{take_rows, with_rows};
use super::snapshot::KeptPiece;

/// Rows in the order of their identifiers.
#[derive(Debug)]
pub(super) struct Chunks {
    schema: SchemaRef,
    /// In rising, disjoint ranges of identifiers.
    chunks: Vec<Chunk>,
    /// Of each block of identifiers the first chunk that has rows of it.
    of_block: Vec<u32>,
    next: RowId,
    next_number: u64,
    live: usize,
}

/// A chunk with what became of its rows since it was made.
#[derive(Debug)]
struct Chunk {
    rows: Arc<ChunkRows>,
    marks: Marks,
}

/// The rows of a chunk, which never change.
#[derive(Debug)]
struct ChunkRows {
    /// Names the chunk among all that the arrangement ever had.
    number: u64,
    ids: Range<RowId>,
    places: Places,
    batch: RecordBatch,
    /// The hash of each row over all columns.
    hashes: Vec<u64>,
    /// The rows as a part of snapshots, once one was taken.
    piece: OnceLock<Arc<KeptPiece>>,
}

/// Which rows of a chunk are there, and how often.
#[derive(Debug)]
struct Marks {
    /// Also those that are gone.
    rows: usize,
    alive: Vec<u64>,
    /// None while every row counts once.
    weights: Option<Vec<i64>>,
    live: usize,
}

/// Where in a chunk the row of an identifier lies.
#[derive(Debug)]
enum Places {
    /// Every identifier of the range has a row.
    All,
    /// Those whose bit is set.
    Ranked(Vec<Rank>),
    /// Those with these distances from the first of the range, which rise.
    Listed(Vec<u32>),
}

/// The bits of 64 identifiers, and how many rows lie before them.
#[derive(Debug, Clone, Copy)]
struct Rank {
    bits: u64,
    before: u32,
}

/// A chunk of an arrangement whose rows will not change any more; those that go are marked apart.
#[derive(Debug, Clone, Copy)]
pub struct Sealed<'a> {
    /// Names the chunk among all that the arrangement ever had.
    pub number: u64,
    /// All its rows, also those that are gone.
    pub rows: &'a RecordBatch,
    /// The hash of each row over all columns.
    pub hashes: &'a [u64],
    /// How many of the rows are there.
    pub left: usize,
}

/// New rows, one after the other.
pub(super) struct NewRows {
    /// All columns of the schema.
    pub(super) batch: RecordBatch,
    pub(super) weights: Vec<i64>,
    /// Over all columns.
    pub(super) hashes: Vec<u64>,
}

/// A row's chunk and its place in that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    chunk: usize,
    offset: usize,
}

impl Chunks {
    /// No rows, of this schema.
    pub(super) fn new(schema: SchemaRef) -> Self {
        Self { schema, chunks: Vec::new(), of_block: Vec::new(), next: 0, next_number: 0, live: 0 }
    }

    /// The identifier of the next row that comes.
    pub(super) fn next(&self) -> RowId {
        self.next
    }

    /// How many rows are there.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.iter().map(Chunk::bytes).sum::<usize>() + self.of_block.len() * 4
    }

    /// Where a row lies. It is one that came, and was not yet gone at the last [`Chunks::tidy`].
    pub(super) fn place(&self, row: RowId) -> Place {
        let block = usize::try_from(row >> BLOCK_BITS).expect("a row that is held is in a block");
        let mut chunk = self.of_block[block] as usize;
        while self.chunks[chunk].rows.ids.end <= row {
            chunk += 1;
        }
        let rows = &self.chunks[chunk].rows;
        Place { chunk, offset: rows.places.offset(row - rows.ids.start) }
    }

    /// How often a row is there.
    pub(super) fn weight(&self, place: Place) -> i64 {
        self.chunks[place.chunk].marks.weight(place.offset)
    }

    /// Reads the hashes of rows: reads that don't wait for each other, so that memory answers them together.
    pub(super) fn touch(&self, rows: impl Iterator<Item = RowId>) {
        let read = rows.fold(0, |read, row| read ^ self.hash(self.place(row)));
        std::hint::black_box(read);
    }

    /// The hash of a row over all columns.
    pub(super) fn hash(&self, place: Place) -> u64 {
        self.chunks[place.chunk].rows.hashes[place.offset]
    }

    /// These columns of the rows at these places.
    pub(super) fn gather(&self, columns: &[usize], places: &[Place]) -> Result<Vec<ArrayRef>> {
        let mut slots: Vec<u32> = vec![u32::MAX; self.chunks.len()];
        let mut chunks: Vec<&RecordBatch> = Vec::new();
        let mut indices = Vec::with_capacity(places.len());
        for place in places {
            let slot = &mut slots[place.chunk];
            if *slot == u32::MAX {
                *slot = u32::try_from(chunks.len()).expect("fewer than 2^32 chunks");
                chunks.push(&self.chunks[place.chunk].rows.batch);
            }
            indices.push((*slot as usize, place.offset));
        }
        let column = |&column: &usize| -> Result<ArrayRef> {
            if chunks.is_empty() {
                return Ok(new_empty_array(self.schema.field(column).data_type()));
            }
            let arrays: Vec<_> = chunks.iter().map(|chunk| chunk.column(column).as_ref()).collect();
            match self.schema.field(column).data_type() {
                DataType::Utf8View => Ok(gather_text::<StringViewType>(&arrays, &indices)),
                DataType::BinaryView => Ok(gather_text::<BinaryViewType>(&arrays, &indices)),
                _ => Ok(interleave(&arrays, &indices)?),
            }
        };
        columns.iter().map(column).collect()
    }

    /// One row, all columns.
    pub(super) fn row(&self, place: Place) -> RecordBatch {
        self.chunks[place.chunk].rows.batch.slice(place.offset, 1)
    }

    /// All rows that are there, in the order in which they came, each as often as its weight says.
    pub(super) fn live_batches(&self) -> Result<Vec<RecordBatch>> {
        self.chunks.iter().filter(|chunk| chunk.marks.live > 0).map(Chunk::live_batch).collect()
    }

    /// The chunks that will not change any more.
    pub(super) fn sealed(&self) -> impl Iterator<Item = Sealed<'_>> {
        let open = self.next / BLOCK_ROWS * BLOCK_ROWS;
        self.chunks.iter().filter(move |chunk| chunk.rows.ids.end <= open).map(|chunk| Sealed {
            number: chunk.rows.number,
            rows: &chunk.rows.batch,
            hashes: &chunk.rows.hashes,
            left: chunk.marks.live,
        })
    }

    /// Takes rows in; their identifiers follow each other from [`Chunks::next`].
    pub(super) fn append(&mut self, rows: &NewRows) -> Result<()> {
        let total = rows.weights.len();
        let mut from = 0;
        while from < total {
            let room = usize::try_from(BLOCK_ROWS - self.next % BLOCK_ROWS).unwrap_or(usize::MAX);
            let taken = room.min(total - from);
            let part = from..from + taken;
            let end = self.next + taken as RowId;
            let body = ChunkRows {
                number: self.next_number,
                ids: self.next..end,
                places: Places::All,
                batch: if taken == total { rows.batch.clone() } else { rows.batch.slice(from, taken) },
                hashes: rows.hashes[part.clone()].to_vec(),
                piece: OnceLock::new(),
            };
            let known =
                self.chunks.last().is_some_and(|last| (last.rows.ids.end - 1) >> BLOCK_BITS == self.next >> BLOCK_BITS);
            if !known {
                let block = usize::try_from(self.next >> BLOCK_BITS).expect("blocks fit in memory");
                let chunk = u32::try_from(self.chunks.len()).expect("fewer than 2^32 chunks");
                self.of_block.resize(block, 0);
                self.of_block.push(chunk);
            }
            self.chunks.push(Chunk { rows: Arc::new(body), marks: Marks::new(&rows.weights[part]) });
            self.next_number += 1;
            self.next = end;
            self.live += taken;
            from += taken;
            if end.is_multiple_of(BLOCK_ROWS) {
                self.merge_newest()?;
            }
        }
        Ok(())
    }

    /// Takes up to `wanted` off a row's weight; returns how much that was. A row without weight is gone.
    pub(super) fn take_weight(&mut self, place: Place, wanted: i64) -> i64 {
        let marks = &mut self.chunks[place.chunk].marks;
        let before = marks.live;
        let taken = marks.take(place.offset, wanted);
        self.live -= before - marks.live;
        taken
    }

    /// Merges the newest parts, and gives back what rows that are gone hold: in the chunks of `thinned` and their neighbours.
    /// After that no row that is gone has a place.
    pub(super) fn tidy(&mut self, thinned: Vec<Place>) -> Result<()> {
        let mut thinned: Vec<usize> = thinned.into_iter().map(|place| place.chunk).collect();
        thinned.sort_unstable();
        thinned.dedup();
        let mut changed = false;
        // From the last, so that the numbers of those before stay as they are.
        for chunk in thinned.into_iter().rev() {
            let Some(range) = self.worn(chunk) else { continue };
            self.replace(range)?;
            changed = true;
        }
        if changed {
            self.link_blocks();
        }
        self.merge_newest()
    }

    /// The chunks that a new one should take the place of, if this one has lost most of its rows.
    fn worn(&self, chunk: usize) -> Option<Range<usize>> {
        let own = self.chunks.get(chunk)?;
        let (rows, live) = (own.rows.hashes.len(), own.marks.live);
        if live == 0 {
            return Some(chunk..chunk + 1);
        }
        if rows < COMPACTION_ROWS_MIN || rows - live <= live {
            return None;
        }
        let (mut first, mut last, mut sum) = (chunk, chunk, live);
        let sealed = |chunk: &Chunk| chunk.rows.ids.end <= self.next / BLOCK_ROWS * BLOCK_ROWS;
        if !sealed(own) {
            return Some(chunk..chunk + 1);
        }
        let fits = |other: usize, sum: usize| {
            self.chunks.get(other).is_some_and(|other| {
                sealed(other) && other.marks.live <= sum * 2 && other.marks.live + sum <= COMPACTED_ROWS_MAX
            })
        };
        while first > 0 && fits(first - 1, sum) {
            first -= 1;
            sum += self.chunks[first].marks.live;
        }
        while fits(last + 1, sum) {
            last += 1;
            sum += self.chunks[last].marks.live;
        }
        Some(first..last + 1)
    }

    /// Joins the parts of the last block while they are small against their neighbours, and all of them once it is full.
    fn merge_newest(&mut self) -> Result<()> {
        let Some(newest) = self.chunks.last() else { return Ok(()) };
        let block = (newest.rows.ids.end - 1) >> BLOCK_BITS;
        let full = newest.rows.ids.end.is_multiple_of(BLOCK_ROWS);
        let last = self.chunks.len() - 1;
        let (mut first, mut sum) = (last, newest.rows.hashes.len());
        while let Some(before) = first.checked_sub(1).map(|before| &self.chunks[before].rows) {
            if before.ids.start >> BLOCK_BITS != block || (!full && before.hashes.len() > sum * 2) {
                break;
            }
            first -= 1;
            sum += before.hashes.len();
        }
        if first < last { self.replace(first..last + 1) } else { Ok(()) }
    }

    /// Puts one chunk with the rows that are left in the place of neighbours; none where none is left.
    fn replace(&mut self, range: Range<usize>) -> Result<()> {
        let old = &self.chunks[range.clone()];
        let live = old.iter().filter(|chunk| chunk.marks.live > 0).collect::<Vec<_>>();
        let new = match (live.first(), live.last()) {
            (Some(first), Some(last)) => {
                let ids = first.rows.ids.start..last.rows.ids.end;
                Some(merged(&self.schema, self.next_number, ids, &live)?)
            }
            _ => None,
        };
        self.next_number += 1;
        self.chunks.splice(range, new);
        Ok(())
    }

    fn link_blocks(&mut self) {
        for (position, chunk) in self.chunks.iter().enumerate().rev() {
            let blocks = chunk.rows.ids.start >> BLOCK_BITS..=(chunk.rows.ids.end - 1) >> BLOCK_BITS;
            for block in blocks {
                let block = usize::try_from(block).expect("blocks fit in memory");
                self.of_block[block] = u32::try_from(position).expect("fewer than 2^32 chunks");
            }
        }
    }
}

/// One chunk of the rows that are left of several, which follow each other.
fn merged(schema: &SchemaRef, number: u64, ids: Range<RowId>, parts: &[&Chunk]) -> Result<Chunk> {
    let batches = parts.iter().map(|chunk| chunk.left_batch()).collect::<Result<Vec<_>>>()?;
    let batch = shed_unused_text(&concat_batches(schema, &batches)?)?;
    let rows = batch.num_rows();
    let left = || parts.iter().flat_map(|chunk| chunk.marks.offsets().map(move |offset| (chunk, offset)));
    let hashes: Vec<u64> = left().map(|(chunk, offset)| chunk.rows.hashes[offset]).collect();
    let weights: Vec<i64> = left().map(|(chunk, offset)| chunk.marks.weight(offset)).collect();
    let start = ids.start;
    let distances = parts.iter().flat_map(|chunk| {
        let rows = &chunk.rows;
        let places = rows.places.distances(rows.hashes.len());
        let left = places.enumerate().filter(|&(offset, _)| chunk.marks.weight(offset) > 0);
        left.map(move |(_, distance)| distance + (rows.ids.start - start))
    });
    let places = Places::of(ids.end - ids.start, rows, distances);
    let rows = Arc::new(ChunkRows { number, ids, places, batch, hashes, piece: OnceLock::new() });
    Ok(Chunk { rows, marks: Marks::new(&weights) })
}

impl Chunk {
    /// The rows that are left, each once.
    fn left_batch(&self) -> Result<RecordBatch> {
        if self.marks.live == self.rows.hashes.len() {
            return Ok(self.rows.batch.clone());
        }
        let keep: BooleanArray = (0..self.rows.hashes.len()).map(|row| Some(self.marks.weight(row) > 0)).collect();
        Ok(filter_record_batch(&self.rows.batch, &keep)?)
    }

    /// The rows that are left, each as often as its weight says.
    fn live_batch(&self) -> Result<RecordBatch> {
        if self.marks.weights.is_none() {
            return self.left_batch();
        }
        let positions: UInt32Array = (0_u32..)
            .zip(0..self.rows.hashes.len())
            .flat_map(|(position, offset)| {
                let times = usize::try_from(self.marks.weight(offset)).unwrap_or(0);
                std::iter::repeat_n(Some(position), times)
            })
            .collect();
        take_rows(&self.rows.batch, &positions)
    }

    fn bytes(&self) -> usize {
        let marks = self.marks.alive.len() * 8 + self.marks.weights.as_ref().map_or(0, |weights| weights.len() * 8);
        self.rows.batch.get_array_memory_size() + self.rows.hashes.len() * 8 + self.rows.places.bytes() + marks
    }
}

impl Marks {
    fn new(weights: &[i64]) -> Self {
        let mut alive = vec![0_u64; weights.len().div_ceil(64)];
        for (row, _) in weights.iter().enumerate().filter(|&(_, &weight)| weight > 0) {
            alive[row / 64] |= 1 << (row % 64);
        }
        let live = alive.iter().map(|bits| bits.count_ones() as usize).sum();
        let rows = weights.len();
        let weights = weights.iter().any(|&weight| weight > 1).then(|| weights.to_vec());
        Self { rows, alive, weights, live }
    }

    fn weight(&self, row: usize) -> i64 {
        if self.alive[row / 64] >> (row % 64) & 1 == 0 {
            return 0;
        }
        self.weights.as_ref().map_or(1, |weights| weights[row])
    }

    fn take(&mut self, row: usize, wanted: i64) -> i64 {
        let held = self.weight(row);
        let taken = held.min(wanted);
        if let Some(weights) = &mut self.weights {
            weights[row] -= taken;
        }
        if taken == held && held > 0 {
            self.alive[row / 64] &= !(1 << (row % 64));
            self.live -= 1;
        }
        taken
    }

    /// The rows that are left.
    fn offsets(&self) -> impl Iterator<Item = usize> + '_ {
        self.alive.iter().enumerate().flat_map(|(word, &bits)| ones(bits).map(move |bit| word * 64 + bit))
    }
}

impl Places {
    /// Rows at these distances from the first identifier of a range of `ids`, in rising order, `rows` of them.
    fn of(ids: u64, rows: usize, distances: impl Iterator<Item = u64>) -> Self {
        if rows as u64 == ids {
            return Self::All;
        }
        if ids > rows as u64 * RANKED_IDS_PER_ROW_MAX {
            let place = |distance| u32::try_from(distance).expect("a merged range is short");
            return Self::Listed(distances.map(place).collect());
        }
        let words = usize::try_from(ids.div_ceil(64)).expect("a range fits in memory");
        let mut ranks = vec![Rank { bits: 0, before: 0 }; words];
        for distance in distances {
            let word = usize::try_from(distance / 64).expect("a range fits in memory");
            ranks[word].bits |= 1 << (distance % 64);
        }
        let mut before = 0;
        for rank in &mut ranks {
            rank.before = before;
            before += rank.bits.count_ones();
        }
        Self::Ranked(ranks)
    }

    fn offset(&self, distance: u64) -> usize {
        match self {
            Self::All => usize::try_from(distance).expect("a chunk fits in memory"),
            Self::Ranked(ranks) => {
                let rank = ranks[usize::try_from(distance / 64).expect("a range fits in memory")];
                let below = rank.bits & ((1 << (distance % 64)) - 1);
                (rank.before + below.count_ones()) as usize
            }
            Self::Listed(listed) => listed.partition_point(|&other| u64::from(other) < distance),
        }
    }

    /// The distances of all rows, of which there are `rows`.
    fn distances(&self, rows: usize) -> Box<dyn Iterator<Item = u64> + '_> {
        match self {
            Self::All => Box::new(0..rows as u64),
            Self::Ranked(ranks) => {
                let words = ranks.iter().enumerate();
                Box::new(words.flat_map(|(word, rank)| ones(rank.bits).map(move |bit| (word * 64 + bit) as u64)))
            }
            Self::Listed(listed) => Box::new(listed.iter().map(|&distance| u64::from(distance))),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Ranked(ranks) => ranks.len() * size_of::<Rank>(),
            Self::Listed(listed) => listed.len() * 4,
        }
    }
}

/// The positions of the bits that are set.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let bit = bits.trailing_zeros() as usize;
        bits &= bits - 1;
        Some(bit)
    })
}

/// Values of several arrays, given as array and place in it, copied together: what reads them does not have to go all over
/// the memory once more, and does not keep the arrays' buffers.
fn gather_text<T: ByteViewType>(arrays: &[&dyn Array], places: &[(usize, usize)]) -> ArrayRef {
    let arrays: Vec<&GenericByteViewArray<T>> = arrays.iter().map(|array| array.as_byte_view()).collect();
    let value = |&(array, place): &(usize, usize)| {
        let array = arrays[array];
        array.is_valid(place).then(|| array.value(place))
    };
    let values: Vec<Option<&T::Native>> = places.iter().map(value).collect();
    // Reads that don't wait for each other, so that memory answers them together.
    let (mut bytes, mut read) = (0, 0);
    for value in values.iter().flatten() {
        let value: &[u8] = value.as_ref();
        bytes += value.len();
        read ^= value.first().copied().unwrap_or(0);
    }
    std::hint::black_box(read);
    let block = u32::try_from(bytes).unwrap_or(u32::MAX).max(1);
    let mut text = GenericByteViewBuilder::<T>::with_capacity(values.len()).with_fixed_block_size(block);
    values.into_iter().for_each(|value| text.append_option(value));
    Arc::new(text.finish())
}

/// Copies text out of buffers that hold much else: a view keeps its whole buffer alive.
fn shed_unused_text(batch: &RecordBatch) -> Result<RecordBatch> {
    let shed = |column: &ArrayRef| -> ArrayRef {
        if let Some(text) = column.as_any().downcast_ref::<StringViewArray>() {
            return Arc::new(text.gc());
        }
        match column.as_any().downcast_ref::<BinaryViewArray>() {
            Some(bytes) => Arc::new(bytes.gc()),
            None => Arc::clone(column),
        }
    };
    with_rows(batch.schema_ref(), batch.columns().iter().map(shed).collect(), batch.num_rows())
}

/// A block is 2^16 identifiers.
const BLOCK_BITS: u32 = 16;
const BLOCK_ROWS: RowId = 1 << BLOCK_BITS;
/// Chunks smaller than this are compacted with a neighbour only.
const COMPACTION_ROWS_MIN: usize = 1_024;
/// A compacted chunk takes neighbours in up to this many rows.
const COMPACTED_ROWS_MAX: usize = 32_768;
/// Up to this many identifiers a row a chunk keeps a bit for each of them; beyond, a list.
const RANKED_IDS_PER_ROW_MAX: u64 = 16;
