//! State as pieces that can be stored, and taken up again by another process.
//!
//! Whoever holds state writes it to a [`StateWriter`] and reads it back from a [`StateReader`], piece by piece in the same
//! order. Writing copies as little as it can and encodes nothing, so that the circuit waits no longer than it must;
//! [`StateWriter::encode`] does the rest elsewhere. Rows that stay as they are are a [`KeptPiece`]: a snapshot stores them
//! once, and later ones name them.
//!
//! The pieces are Arrow's rows and row encodings as this version of Milepost has them: [`STATE_FORMAT`] names it, and a
//! snapshot of another one is not read. What it held can always be computed again from the logged epochs.

use std::collections::{BTreeMap, VecDeque};
use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use datafusion::error::{DataFusionError, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a snapshot's bytes mean: to be raised with every change of what is written, and with Arrow's major version, whose
/// encoding of rows is part of it.
pub const STATE_FORMAT: &str = "1-arrow59";

/// The name of a kept piece: the SHA-256 of its bytes, in hexadecimal.
pub type PieceName = String;

/// Rows that never change, stored once.
#[derive(Debug)]
pub struct KeptPiece {
    rows: RecordBatch,
    name: OnceLock<PieceName>,
}

impl KeptPiece {
    /// Rows that were not stored yet.
    pub fn new(rows: RecordBatch) -> Arc<Self> {
        Arc::new(Self { rows, name: OnceLock::new() })
    }

    /// The rows.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }
}

#[derive(Debug)]
enum Piece {
    Value(Vec<u8>),
    Rows(RecordBatch),
    Kept(Arc<KeptPiece>),
}

/// Takes state in.
#[derive(Debug, Default)]
pub struct StateWriter {
    pieces: Vec<Piece>,
}

/// State as bytes: a root, and the kept pieces that it names.
#[derive(Debug)]
pub struct EncodedState {
    /// Everything but the kept pieces.
    pub root: Bytes,
    /// The kept pieces that are not stored yet, with their bytes.
    pub new: Vec<(PieceName, Bytes)>,
    /// Every kept piece that the root names, each once.
    pub names: Vec<PieceName>,
}

/// How the pieces lie in a root.
#[derive(Debug, Serialize, Deserialize)]
struct Table {
    format: String,
    pieces: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
enum Entry {
    Value(usize),
    Rows(usize),
    Kept(PieceName),
}

impl StateWriter {
    /// A value, small: it is encoded at once.
    pub fn value<T: Serialize>(&mut self, value: &T) -> Result<()> {
        let bytes = serde_json::to_vec(value).map_err(|error| DataFusionError::External(Box::new(error)))?;
        self.pieces.push(Piece::Value(bytes));
        Ok(())
    }

    /// Rows that are written with every snapshot.
    pub fn rows(&mut self, rows: RecordBatch) {
        self.pieces.push(Piece::Rows(rows));
    }

    /// Rows that are written once.
    pub fn kept(&mut self, piece: &Arc<KeptPiece>) {
        self.pieces.push(Piece::Kept(Arc::clone(piece)));
    }

    /// The bytes of all pieces; `is_stored` says which kept pieces need not be written again.
    pub fn encode(self, is_stored: &dyn Fn(&str) -> bool) -> Result<EncodedState> {
        let mut entries = Vec::with_capacity(self.pieces.len());
        let mut body: Vec<u8> = Vec::new();
        let mut new: BTreeMap<PieceName, Bytes> = BTreeMap::new();
        let mut names: Vec<PieceName> = Vec::new();
        for piece in self.pieces {
            entries.push(match piece {
                Piece::Value(bytes) => {
                    body.extend_from_slice(&bytes);
                    Entry::Value(bytes.len())
                }
                Piece::Rows(rows) => {
                    let bytes = to_ipc(&rows)?;
                    body.extend_from_slice(&bytes);
                    Entry::Rows(bytes.len())
                }
                Piece::Kept(piece) => {
                    let name = match piece.name.get().filter(|name| is_stored(name)) {
                        Some(name) => name.clone(),
                        None => {
                            let bytes = to_ipc(&piece.rows)?;
                            let name = piece.name.get_or_init(|| digest(&bytes)).clone();
                            if !is_stored(&name) {
                                new.insert(name.clone(), bytes.into());
                            }
                            name
                        }
                    };
                    names.push(name.clone());
                    Entry::Kept(name)
                }
            });
        }
        names.sort_unstable();
        names.dedup();
        let table = Table { format: STATE_FORMAT.to_owned(), pieces: entries };
        let table = serde_json::to_vec(&table).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let mut root = Vec::with_capacity(8 + table.len() + body.len());
        root.extend_from_slice(&(table.len() as u64).to_le_bytes());
        root.extend_from_slice(&table);
        root.extend_from_slice(&body);
        Ok(EncodedState { root: root.into(), new: new.into_iter().collect(), names })
    }
}

/// Gives state back, piece by piece, in the order in which it was written.
#[derive(Debug)]
pub struct StateReader {
    pieces: VecDeque<Piece>,
}

impl StateReader {
    /// Takes a root apart; `kept` gives the bytes of the pieces that it names, which are checked against their names.
    ///
    /// # Errors
    /// Bytes that are not what was written, or of another [`STATE_FORMAT`].
    pub fn new(root: &Bytes, kept: &mut dyn FnMut(&PieceName) -> Result<Bytes>) -> Result<Self> {
        let (length, rest) = root.split_first_chunk::<8>().ok_or_else(|| damaged("it is too short"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged("its table is too long"))?;
        let (table, mut body) = rest.split_at_checked(length).ok_or_else(|| damaged("it ends in its table"))?;
        let table: Table = serde_json::from_slice(table).map_err(|error| damaged(&error.to_string()))?;
        if table.format != STATE_FORMAT {
            return Err(damaged(&format!("it is of format `{}`, this is `{STATE_FORMAT}`", table.format)));
        }
        let mut pieces = VecDeque::with_capacity(table.pieces.len());
        let mut take = |length: usize| {
            let (bytes, rest) = body.split_at_checked(length).ok_or_else(|| damaged("it ends in a piece"))?;
            body = rest;
            Ok::<_, DataFusionError>(bytes)
        };
        for entry in table.pieces {
            pieces.push_back(match entry {
                Entry::Value(length) => Piece::Value(take(length)?.to_vec()),
                Entry::Rows(length) => Piece::Rows(from_ipc(take(length)?)?),
                Entry::Kept(name) => {
                    let bytes = kept(&name)?;
                    if digest(&bytes) != name {
                        return Err(damaged(&format!("the piece `{name}` is not what was written")));
                    }
                    let piece = KeptPiece { rows: from_ipc(&bytes)?, name: OnceLock::from(name) };
                    Piece::Kept(Arc::new(piece))
                }
            });
        }
        Ok(Self { pieces })
    }

    /// The next piece, a value.
    pub fn value<T: DeserializeOwned>(&mut self) -> Result<T> {
        match self.pieces.pop_front() {
            Some(Piece::Value(bytes)) => {
                serde_json::from_slice(&bytes).map_err(|error| damaged(&format!("a value is none: {error}")))
            }
            _ => Err(damaged("a value is missing")),
        }
    }

    /// The next piece, rows.
    pub fn rows(&mut self) -> Result<RecordBatch> {
        match self.pieces.pop_front() {
            Some(Piece::Rows(rows)) => Ok(rows),
            _ => Err(damaged("rows are missing")),
        }
    }

    /// The next piece, rows that are kept.
    pub fn kept(&mut self) -> Result<Arc<KeptPiece>> {
        match self.pieces.pop_front() {
            Some(Piece::Kept(piece)) => Ok(piece),
            _ => Err(damaged("kept rows are missing")),
        }
    }

    /// Says that everything was read.
    ///
    /// # Errors
    /// Something was not: the state was written by another circuit.
    pub fn finish(self) -> Result<()> {
        if self.pieces.is_empty() { Ok(()) } else { Err(damaged("it holds more than was asked for")) }
    }
}

/// What is wrong with a snapshot.
pub(crate) fn damaged(what: &str) -> DataFusionError {
    DataFusionError::Execution(format!("the snapshot can't be taken up: {what}"))
}

fn digest(bytes: &[u8]) -> PieceName {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn to_ipc(rows: &RecordBatch) -> Result<Vec<u8>> {
    let mut writer = StreamWriter::try_new(Vec::new(), rows.schema_ref())?;
    writer.write(rows)?;
    Ok(writer.into_inner()?)
}

fn from_ipc(bytes: &[u8]) -> Result<RecordBatch> {
    let mut reader = StreamReader::try_new(Cursor::new(bytes), None)?;
    reader.next().ok_or_else(|| damaged("a piece has no rows"))?.map_err(DataFusionError::from)
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BinaryArray, Decimal128Array, Int64Array, RecordBatchOptions, StringViewArray};
    use arrow::datatypes::Schema;

    use super::*;

    fn rows(numbers: &[i64]) -> RecordBatch {
        let texts = numbers.iter().map(|number| Some(format!("a text of some length, number {number}")));
        RecordBatch::try_from_iter([
            ("number", Arc::new(Int64Array::from(numbers.to_vec())) as ArrayRef),
            ("text", Arc::new(texts.collect::<StringViewArray>()) as ArrayRef),
            ("bytes", Arc::new(BinaryArray::from_iter_values(numbers.iter().map(|number| number.to_le_bytes()))) as _),
        ])
        .expect("columns of one length")
    }

    #[test]
    fn what_was_written_is_read_in_its_order_and_kept_pieces_are_written_once() {
        let kept = KeptPiece::new(rows(&[1, 2, 3]));
        let wide = RecordBatch::try_from_iter([(
            "wide",
            Arc::new(Decimal128Array::from(vec![i128::MAX, i128::MIN, 0])) as ArrayRef,
        )])
        .expect("one column");
        let write = || {
            let mut writer = StateWriter::default();
            writer.value(&(7_u64, "seven", Some(-1_i64))).expect("JSON");
            writer.rows(rows(&[]));
            writer.kept(&kept);
            writer.rows(wide.clone());
            writer.kept(&kept);
            writer
        };
        let first = write().encode(&|_| false).expect("encoded");
        assert_eq!((first.new.len(), first.names.len()), (1, 1));
        let again = write().encode(&|name| *name == *first.names[0]).expect("encoded");
        assert!(again.new.is_empty());
        assert_eq!((&again.names, &again.root), (&first.names, &first.root));

        let mut reader = StateReader::new(&first.root, &mut |_| Ok(first.new[0].1.clone())).expect("whole");
        let value: (u64, String, Option<i64>) = reader.value().expect("a value");
        assert_eq!(value, (7, "seven".to_owned(), Some(-1)));
        assert_eq!(reader.rows().expect("rows"), rows(&[]));
        assert_eq!(reader.kept().expect("kept").rows(), kept.rows());
        assert_eq!(reader.rows().expect("rows"), wide);
        assert!(reader.rows().is_err(), "kept rows are other pieces");
        assert!(reader.pieces.is_empty());
    }

    #[test]
    fn rows_without_columns_keep_their_number() {
        let options = RecordBatchOptions::new().with_row_count(Some(5));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options).expect("rows");
        let mut writer = StateWriter::default();
        writer.rows(rows);
        let encoded = writer.encode(&|_| false).expect("encoded");
        let mut reader = StateReader::new(&encoded.root, &mut |_| Err(damaged("none"))).expect("whole");
        assert_eq!(reader.rows().expect("rows").num_rows(), 5);
    }

    #[test]
    fn a_piece_that_is_not_what_was_written_is_noticed() {
        let mut writer = StateWriter::default();
        writer.kept(&KeptPiece::new(rows(&[1])));
        let encoded = writer.encode(&|_| false).expect("encoded");
        let mut other = encoded.new[0].1.to_vec();
        let last = other.len() - 20;
        other[last] ^= 1;
        let error = StateReader::new(&encoded.root, &mut |_| Ok(other.clone().into())).expect_err("other bytes");
        assert!(error.to_string().contains("is not what was written"), "{error}");
        for length in 0..encoded.root.len() {
            let cut = encoded.root.slice(..length);
            assert!(StateReader::new(&cut, &mut |_| Ok(encoded.new[0].1.clone())).is_err(), "{length}");
        }
    }
}
