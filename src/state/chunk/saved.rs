//! Chunks as part of a snapshot: sealed ones are written once, marks and open parts every time.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array, UInt64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, UInt32Type, UInt64Type};
use arrow::record_batch::RecordBatch;
use datafusion::error::Result;
use serde::{Deserialize, Serialize};

use crate::state::arrangement::RowId;
use crate::state::delta::with_rows;
use crate::state::snapshot::{KeptPiece, StateReader, StateWriter, damaged};

use super::{BLOCK_BITS, BLOCK_ROWS, Chunk, ChunkRows, Chunks, Marks, Places};

/// What is written of a chunk beside its rows.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    number: u64,
    ids: Range<RowId>,
    sealed: bool,
    marks: Form,
}

/// How a chunk's marks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Form {
    /// Not at all: every row is there once.
    Whole,
    /// The words of the bits.
    Alive,
    /// The weight of each row.
    Weights,
}

impl Chunks {
    /// Writes all chunks.
    pub(in crate::state) fn save(&self, state: &mut StateWriter) -> Result<()> {
        let open = self.next / BLOCK_ROWS * BLOCK_ROWS;
        state.value(&(self.next, self.next_number, self.chunks.len()))?;
        for chunk in &self.chunks {
            let sealed = chunk.rows.ids.end <= open;
            let marks = chunk.marks.form();
            state.value(&Header { number: chunk.rows.number, ids: chunk.rows.ids.clone(), sealed, marks })?;
            if sealed {
                state.kept(chunk.rows.piece()?);
            } else {
                state.rows(chunk.rows.written()?);
            }
            chunk.marks.save(marks, state)?;
        }
        Ok(())
    }

    /// Takes up the chunks that were written of rows of the same schema; for one that holds nothing yet.
    pub(in crate::state) fn load(&mut self, state: &mut StateReader) -> Result<()> {
        let (next, next_number, chunks): (RowId, u64, usize) = state.value()?;
        let mut end = 0;
        for _ in 0..chunks {
            let header: Header = state.value()?;
            let follows = end <= header.ids.start && header.ids.start < header.ids.end && header.ids.end <= next;
            if !follows {
                return Err(damaged("a chunk does not follow the one before it"));
            }
            end = header.ids.end;
            let (written, piece) = if header.sealed {
                let piece = state.kept()?;
                (piece.rows().clone(), Some(piece))
            } else {
                (state.rows()?, None)
            };
            let rows = ChunkRows::read(self.schema.fields().len(), &header, &written)?;
            if let Some(piece) = piece {
                drop(rows.piece.set(piece));
            }
            let marks = Marks::load(header.marks, rows.hashes.len(), state)?;
            self.live += marks.live;
            self.chunks.push(Chunk { rows: Arc::new(rows), marks });
        }
        (self.next, self.next_number) = (next, next_number);
        let blocks = next.checked_sub(1).map_or(0, |last| (last >> BLOCK_BITS) + 1);
        let blocks = usize::try_from(blocks).map_err(|_| damaged("it has too many rows"))?;
        self.of_block.resize(blocks, 0);
        self.link_blocks();
        Ok(())
    }

    /// Calls `take` for each chunk with its rows, and the offset and identifier of each that is there.
    pub(in crate::state) fn each(
        &self,
        take: &mut dyn FnMut(&RecordBatch, &mut dyn Iterator<Item = (usize, RowId)>) -> Result<()>,
    ) -> Result<()> {
        for chunk in &self.chunks {
            let rows = &chunk.rows;
            let distances = rows.places.distances(rows.hashes.len()).enumerate();
            let there = distances.filter(|&(offset, _)| chunk.marks.weight(offset) > 0);
            take(&rows.batch, &mut there.map(|(offset, distance)| (offset, rows.ids.start + distance)))?;
        }
        Ok(())
    }
}

impl ChunkRows {
    /// The rows as a piece that is written once.
    fn piece(&self) -> Result<&Arc<KeptPiece>> {
        if let Some(piece) = self.piece.get() {
            return Ok(piece);
        }
        let piece = KeptPiece::new(self.written()?);
        Ok(self.piece.get_or_init(|| piece))
    }

    /// The rows with their hashes and, where they are not all of the range, their distances from its start.
    fn written(&self) -> Result<RecordBatch> {
        let mut fields: Vec<Arc<Field>> = self.batch.schema_ref().fields().iter().cloned().collect();
        let mut columns = self.batch.columns().to_vec();
        let mut add = |name: &str, column: ArrayRef| {
            fields.push(Arc::new(Field::new(name, column.data_type().clone(), false)));
            columns.push(column);
        };
        add("__hash", Arc::new(UInt64Array::from(self.hashes.clone())));
        if !matches!(self.places, Places::All) {
            let distances = self.places.distances(self.hashes.len());
            let distances = distances.map(|distance| u32::try_from(distance).ok()).collect::<UInt32Array>();
            add("__distance", Arc::new(distances));
        }
        with_rows(&Arc::new(Schema::new(fields)), columns, self.hashes.len())
    }

    fn read(width: usize, header: &Header, written: &RecordBatch) -> Result<Self> {
        let rows = written.num_rows();
        let columns: Vec<usize> = (0..width.min(written.num_columns())).collect();
        let batch = written.project(&columns)?;
        let hashes = written.columns().get(width).and_then(|column| column.as_primitive_opt::<UInt64Type>());
        let hashes = hashes.ok_or_else(|| damaged("a chunk has no hashes"))?.values().to_vec();
        let ids = header.ids.end - header.ids.start;
        let places = match written.columns().get(width + 1) {
            None if rows as u64 == ids => Places::All,
            None => return Err(damaged("a chunk has no identifiers")),
            Some(column) => {
                let distances = column.as_primitive_opt::<UInt32Type>();
                let distances = distances.ok_or_else(|| damaged("a chunk has no identifiers"))?.values();
                let rise = distances.is_sorted_by(|one, next| one < next);
                if !rise || distances.last().is_some_and(|&last| u64::from(last) >= ids) {
                    return Err(damaged("the identifiers of a chunk don't rise"));
                }
                Places::of(ids, rows, distances.iter().map(|&distance| u64::from(distance)))
            }
        };
        Ok(Self { number: header.number, ids: header.ids.clone(), places, batch, hashes, piece: Default::default() })
    }
}

impl Marks {
    fn form(&self) -> Form {
        let rows = || self.alive.iter().map(|bits| bits.count_ones()).sum::<u32>() as usize;
        match &self.weights {
            Some(_) => Form::Weights,
            None if rows() == self.rows => Form::Whole,
            None => Form::Alive,
        }
    }

    fn save(&self, form: Form, state: &mut StateWriter) -> Result<()> {
        let column: ArrayRef = match form {
            Form::Whole => return Ok(()),
            Form::Alive => Arc::new(UInt64Array::from(self.alive.clone())),
            Form::Weights => Arc::new((0..self.rows).map(|row| Some(self.weight(row))).collect::<Int64Array>()),
        };
        state.rows(RecordBatch::try_from_iter([("mark", column)])?);
        Ok(())
    }

    fn load(form: Form, rows: usize, state: &mut StateReader) -> Result<Self> {
        if form == Form::Whole {
            return Ok(Self::new(&vec![1; rows]));
        }
        let held = state.rows()?;
        let column = held.columns().first().ok_or_else(|| damaged("a chunk has no marks"))?;
        let weights: Vec<i64> = match (form, column.data_type()) {
            (Form::Alive, DataType::UInt64) => {
                let words = column.as_primitive::<UInt64Type>().values();
                let bit = |row: usize| words.get(row / 64).map(|word| i64::from(word >> (row % 64) & 1 == 1));
                (0..rows).map(bit).collect::<Option<_>>().ok_or_else(|| damaged("a chunk lacks marks"))?
            }
            (Form::Weights, DataType::Int64) => column.as_primitive::<Int64Type>().values().to_vec(),
            _ => return Err(damaged("a chunk's marks are of another kind")),
        };
        if weights.len() == rows { Ok(Self::new(&weights)) } else { Err(damaged("a chunk lacks marks")) }
    }
}
