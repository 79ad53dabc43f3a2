//! The rows of a table in their order, cut into files.
//!
//! The order is that of the key, then of the remaining columns, so it depends on the rows alone. Where a file ends
//! depends on the rows around that place alone: so rows that are added or removed change the files they fall into
//! and leave the others, with their digests, as they were.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{cast, interleave_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, Rows, SortField};
use sha2::{Digest, Sha256};

use super::manifest::hexadecimal;
use crate::error::{Error, ErrorKind, Result};

/// How rows are cut into files and row groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileLimits {
    /// No file but the last has fewer rows.
    pub rows_min: usize,
    /// From `rows_min` on, one row in so many ends its file.
    pub rows_spread: usize,
    /// No file has more rows.
    pub rows_max: usize,
    /// No row group has more rows.
    pub group_rows_max: usize,
}

impl Default for FileLimits {
    /// Files of half a million rows, give or take, and never more than a million.
    fn default() -> Self {
        Self { rows_min: 262_144, rows_spread: 262_144, rows_max: 1_048_576, group_rows_max: 131_072 }
    }
}

/// All rows of a table, sorted.
pub(super) struct SortedRows {
    batches: Vec<RecordBatch>,
    schema: SchemaRef,
    rows: Rows,
    /// (batch, row in it, row in `rows`), in the order of the table.
    order: Vec<(usize, usize, usize)>,
}

/// The rows of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileRows {
    /// Which rows of the table.
    pub(super) range: Range<usize>,
    /// The digest of `identity` and the rows, in hexadecimal.
    pub(super) content: String,
}

impl SortedRows {
    /// Sorts `batches`, whose columns are those of `schema`, by `key`.
    ///
    /// # Errors
    ///
    /// Kind `Definition` if a key column is not in the schema or a type can't be sorted; kind `Internal` if a batch
    /// does not have the schema.
    pub(super) fn new(batches: &[RecordBatch], schema: &SchemaRef, key: &[String]) -> Result<Self> {
        let columns = sort_columns(schema, key)?;
        let fields = columns.iter().map(|index| SortField::new(schema.field(*index).data_type().clone())).collect();
        let converter = RowConverter::new(fields)
            .map_err(|error| Error::caused(ErrorKind::Definition, "the table's rows cannot be sorted", error))?;
        let batches = batches.iter().map(|batch| conform(batch, schema)).collect::<Result<Vec<_>>>()?;
        let count = batches.iter().map(RecordBatch::num_rows).sum();
        let mut rows = converter.empty_rows(count, 0);
        let mut order = Vec::with_capacity(count);
        for (index, batch) in batches.iter().enumerate() {
            let first = rows.num_rows();
            let arrays: Vec<ArrayRef> = columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
            converter
                .append(&mut rows, &arrays)
                .map_err(|error| Error::caused(ErrorKind::Internal, "cannot sort the table's rows", error))?;
            order.extend((0..batch.num_rows()).map(|row| (index, row, first + row)));
        }
        order.sort_unstable_by(|a, b| rows.row(a.2).cmp(&rows.row(b.2)));
        Ok(Self { batches, schema: Arc::clone(schema), rows, order })
    }

    /// Cuts the rows into files: at least one, also of no rows.
    pub(super) fn cut(&self, limits: FileLimits, identity: &[u8]) -> Vec<FileRows> {
        let mut files = Vec::new();
        let mut start = 0;
        let mut digest = Sha256::new_with_prefix(identity);
        for (position, (_, _, row)) in self.order.iter().enumerate() {
            let row = self.rows.row(*row);
            let bytes: &[u8] = row.as_ref();
            digest.update((bytes.len() as u64).to_le_bytes());
            digest.update(bytes);
            let rows = position + 1 - start;
            let is_cut = rows >= limits.rows_min && fnv(bytes).is_multiple_of(limits.rows_spread as u64);
            if is_cut || rows >= limits.rows_max {
                let whole = std::mem::replace(&mut digest, Sha256::new_with_prefix(identity));
                files.push(FileRows { range: start..position + 1, content: hexadecimal(&whole.finalize()) });
                start = position + 1;
            }
        }
        if start < self.order.len() || files.is_empty() {
            files.push(FileRows { range: start..self.order.len(), content: hexadecimal(&digest.finalize()) });
        }
        files
    }

    /// The rows of a range, in order, in batches of a bounded size.
    pub(super) fn batches(&self, range: Range<usize>) -> impl Iterator<Item = Result<RecordBatch>> + '_ {
        let order = self.order.get(range).unwrap_or_default();
        let sources: Vec<&RecordBatch> = self.batches.iter().collect();
        order.chunks(BATCH_ROWS_MAX).map(move |chunk| {
            let places: Vec<(usize, usize)> = chunk.iter().map(|(batch, row, _)| (*batch, *row)).collect();
            interleave_record_batch(&sources, &places)
                .map_err(|error| Error::caused(ErrorKind::Internal, "cannot gather the table's rows", error))
        })
    }

    /// The columns.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }
}

/// Rows that are gathered at once.
const BATCH_ROWS_MAX: usize = 16_384;

/// All columns: those of the key first.
fn sort_columns(schema: &Schema, key: &[String]) -> Result<Vec<usize>> {
    let mut columns = Vec::with_capacity(schema.fields().len());
    for name in key {
        let index = schema.index_of(name).map_err(|_| {
            Error::new(
                ErrorKind::Definition,
                format!("the table's key names `{name}`, which is not one of its columns"),
            )
        })?;
        if !columns.contains(&index) {
            columns.push(index);
        }
    }
    let rest: Vec<usize> = (0..schema.fields().len()).filter(|index| !columns.contains(index)).collect();
    columns.extend(rest);
    Ok(columns)
}

/// The batch with exactly this schema. Names and nullability within nested types may differ and are made the same.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let wrong = |error| Error::caused(ErrorKind::Internal, "a table's rows don't have the table's schema", error);
    let column = |(array, field): (&ArrayRef, &arrow::datatypes::FieldRef)| {
        if array.data_type() != field.data_type() && array.data_type().equals_datatype(field.data_type()) {
            return cast(array, field.data_type());
        }
        Ok(Arc::clone(array))
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>, _>>();
    columns.and_then(|columns| RecordBatch::try_new(Arc::clone(schema), columns)).map_err(wrong)
}

/// FNV-1a, 64 bits: the same on every machine, for ever.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type};

    use super::*;

    const LIMITS: FileLimits = FileLimits { rows_min: 20, rows_spread: 16, rows_max: 100, group_rows_max: 10 };

    fn sorted(batches: &[&[i64]]) -> SortedRows {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let batch = |ids: &&[i64]| {
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int64Array::from(ids.to_vec()))]).expect("a batch")
        };
        let batches: Vec<RecordBatch> = batches.iter().map(batch).collect();
        SortedRows::new(&batches, &schema, &["id".to_owned()]).expect("sorted")
    }

    fn ids(sorted: &SortedRows, range: Range<usize>) -> Vec<i64> {
        let batches = sorted.batches(range).map(|batch| batch.expect("gathered"));
        batches.flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    #[test]
    fn files_depend_on_the_rows_and_not_on_how_they_came() {
        let (one, other) = (sorted(&[&[3, 1], &[], &[-2]]), sorted(&[&[1, -2, 3]]));
        assert_eq!(ids(&one, 0..3), [-2, 1, 3]);
        assert_eq!(one.cut(LIMITS, b"t"), other.cut(LIMITS, b"t"));
        assert_ne!(one.cut(LIMITS, b"t"), one.cut(LIMITS, b"u"));
        assert_ne!(one.cut(LIMITS, b"t"), sorted(&[&[1, -2, 4]]).cut(LIMITS, b"t"));
    }

    #[test]
    fn no_rows_make_one_empty_file() {
        for batches in [&[][..], &[&[][..]][..]] {
            let files = sorted(batches).cut(LIMITS, b"t");
            assert_eq!((files.len(), files[0].range.clone()), (1, 0..0));
        }
    }

    #[test]
    fn files_lie_side_by_side_within_their_limits() {
        let ids: Vec<i64> = (0..1000).collect();
        let files = sorted(&[&ids]).cut(LIMITS, b"t");
        let mut end = 0;
        for (index, file) in files.iter().enumerate() {
            assert_eq!(file.range.start, end);
            end = file.range.end;
            assert!(file.range.len() <= LIMITS.rows_max);
            assert!(file.range.len() >= LIMITS.rows_min || index + 1 == files.len());
        }
        assert_eq!(end, 1000);
        assert!(files.len() > 10, "{}", files.len());
    }

    #[test]
    fn a_row_more_changes_few_files() {
        let ids: Vec<i64> = (0..2000).collect();
        let before = sorted(&[&ids]).cut(LIMITS, b"t");
        for added in [-1, 1000, 2000] {
            let after = sorted(&[&ids, &[added]]).cut(LIMITS, b"t");
            let known = |file: &&FileRows| before.iter().any(|other| other.content == file.content);
            let kept = after.iter().filter(known).count();
            assert!(kept + 4 >= after.len(), "{added}: {kept} of {}", after.len());
        }
    }

    #[test]
    fn a_key_that_is_no_column_is_a_definition_error() {
        let schema = Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, false)]));
        let error = SortedRows::new(&[], &schema, &["idd".to_owned()]).err().expect("refused");
        assert_eq!(error.kind(), ErrorKind::Definition);
        assert!(error.to_string().contains("`idd`"));
    }
}
