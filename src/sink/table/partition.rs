//! The folders of a partitioned table: `day=2024-03-18/site=BER1`, as Hive and its readers have them.
//!
//! Law: two partitions have two folders, and a folder is one plain name a column, whatever its value holds. The columns
//! stay in the files as well: there they have their types, while a reader can only guess what a folder's text is. DuckDB
//! and Polars take the folder's value in the file's stead and agree with it, pyarrow reads the file's unless told otherwise.

use arrow::datatypes::{DataType, Field};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use sha2::{Digest, Sha256};

use super::manifest::{PartitionValues, hexadecimal};
use super::schema::Unsupported;
use crate::error::{Error, ErrorKind, Result};

/// What is wrong with a column as one of `partition_by`; none if it can be one.
pub fn unsupported_partition(field: &Field) -> Option<Unsupported> {
    let column = field.name();
    if column.starts_with(['_', '.']) {
        return Some(Unsupported {
            column: column.clone(),
            message: format!("`{column}` can't be in `partition_by`: readers pass over folders that begin so"),
            help: "give the column another name with `AS`".to_owned(),
        });
    }
    let (kind, help) = match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Date32 => return None,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => return None,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => return None,
        DataType::Timestamp(..) => {
            ("instants", "publish its day or month, as in `CAST(date_trunc('month', t) AS DATE)`")
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => ("floats", ANOTHER),
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            ("decimals", ANOTHER)
        }
        DataType::Boolean => ("booleans", ANOTHER),
        DataType::Time32(_) | DataType::Time64(_) => ("times of day", ANOTHER),
        nested if nested.is_nested() => ("lists and objects", "publish the part that rows are to be sorted into"),
        _ => ("values of its type", ANOTHER),
    };
    let message = format!("`{column}` can't be in `partition_by`: readers don't agree on folders for {kind}");
    Some(Unsupported { column: column.clone(), message, help: help.to_owned() })
}

/// The values of a partition's columns as text, by the column's name.
///
/// # Errors
///
/// Kind `Definition` if a column is none that [`unsupported_partition`] lets pass.
pub(super) fn texts(values: &RecordBatch) -> Result<Vec<(String, Option<String>)>> {
    let options = FormatOptions::default().with_display_error(false);
    let schema = values.schema();
    let text = |(field, array): (&arrow::datatypes::FieldRef, &arrow::array::ArrayRef)| {
        if let Some(unsupported) = unsupported_partition(field) {
            return Err(Error::new(ErrorKind::Definition, format!("{} ({})", unsupported.message, unsupported.help)));
        }
        if array.is_null(0) {
            return Ok((field.name().clone(), None));
        }
        let shown =
            ArrayFormatter::try_new(array.as_ref(), &options).and_then(|formatter| formatter.value(0).try_to_string());
        let shown = shown.map_err(|error| Error::caused(ErrorKind::Internal, "naming a partition", error))?;
        Ok((field.name().clone(), Some(shown)))
    };
    schema.fields().iter().zip(values.columns()).map(text).collect()
}

/// The folder of a partition, relative to the table; empty where there are no columns.
pub(super) fn folder(values: &[(String, Option<String>)]) -> String {
    let segment = |(column, value): &(String, Option<String>)| {
        let value = value.as_deref().map_or_else(|| NULL.to_owned(), value_text);
        format!("{}={value}", encode(column))
    };
    values.iter().map(segment).collect::<Vec<_>>().join("/")
}

/// The same values as `_current.json` has them; none where there are no columns.
pub(super) fn for_manifest(values: Vec<(String, Option<String>)>) -> Option<PartitionValues> {
    (!values.is_empty()).then(|| values.into_iter().collect())
}

fn value_text(value: &str) -> String {
    if value == NULL {
        return format!("%5F{}", &NULL[1..]);
    }
    let encoded = encode(value);
    if encoded.len() <= NAME_BYTES_MAX {
        return encoded;
    }
    // No file system has names of any length: the beginning for people, a digest for the law. `~` is in no other name.
    let mut beginning = String::new();
    for character in value.chars() {
        let encoded = encode(character.encode_utf8(&mut [0; 4]));
        if beginning.len() + encoded.len() > NAME_BYTES_MAX - DIGEST_BYTES {
            break;
        }
        beginning.push_str(&encoded);
    }
    let digest = hexadecimal(&Sha256::digest(value));
    format!("{beginning}~{}", digest.get(..DIGEST_BYTES - 1).unwrap_or(&digest))
}

/// Of ASCII only letters, digits and `-_.` stay as they are, so that what stands behind `column=` is no path of its own.
/// Everything else of Unicode stays: Spark takes each `%` for a character, where others take it for a byte.
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || !character.is_ascii() || matches!(character, '-' | '_' | '.') {
            encoded.push(character);
        } else {
            encoded.push_str(&format!("%{:02X}", u32::from(character)));
        }
    }
    encoded
}

/// What to do about most types.
const ANOTHER: &str = "cast it to `VARCHAR`, `BIGINT` or `DATE`";

/// The folder's text for null, as Hive's readers know it.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// The longest text of a value; a file system's names have 255 bytes, and the column's name stands before it.
const NAME_BYTES_MAX: usize = 160;

/// Of that for the digest of a longer value, and the `~` before it.
const DIGEST_BYTES: usize = 17;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Date32Array, Int64Array, StringViewArray};
    use arrow::datatypes::TimeUnit;

    use super::*;

    fn of(columns: Vec<(&str, ArrayRef)>) -> String {
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        folder(&texts(&RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")).expect("texts"))
    }

    fn text(value: Option<&str>) -> String {
        of(vec![("site", Arc::new(StringViewArray::from(vec![value])))])
    }

    #[test]
    fn folders_are_named_as_hive_names_them() {
        let day: ArrayRef = Arc::new(Date32Array::from(vec![Some(19_800)]));
        let site: ArrayRef = Arc::new(StringViewArray::from(vec!["BER1"]));
        assert_eq!(of(vec![("day", Arc::clone(&day)), ("site", site)]), "day=2024-03-18/site=BER1");
        assert_eq!(of(vec![("day", Arc::new(Date32Array::from(vec![None])))]), "day=__HIVE_DEFAULT_PARTITION__");
        assert_eq!(of(vec![("n", Arc::new(Int64Array::from(vec![-7])))]), "n=-7");
        assert_eq!(of(vec![("a/b=c", day)]), "a%2Fb%3Dc=2024-03-18");
        assert_eq!(text(Some("Köln 1/2: 100%")), "site=Köln%201%2F2%3A%20100%25");
        assert_eq!(folder(&[]), "");
    }

    #[test]
    fn no_value_leaves_its_folder_and_no_two_share_one() {
        let values = [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a%2Fb",
            "a\\b",
            "a=b",
            "a b",
            "ä",
            "\0",
            "__HIVE_DEFAULT_PARTITION__",
            "x~y",
        ];
        let long = ["ä".repeat(200), "ä".repeat(201), format!("{}b", "a".repeat(300)), "a".repeat(301)];
        let mut folders: Vec<String> =
            values.iter().copied().chain(long.iter().map(String::as_str)).map(|value| text(Some(value))).collect();
        folders.push(text(None));
        for folder in &folders {
            let (column, value) = folder.split_once('=').expect("a value");
            assert_eq!(column, "site");
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"-_.%~".contains(&byte);
            assert!(value.bytes().all(is_plain), "{folder}");
            assert!(folder.len() <= "site=".len() + NAME_BYTES_MAX, "{folder}");
        }
        let count = folders.len();
        folders.sort();
        folders.dedup();
        assert_eq!(folders.len(), count);
    }

    #[test]
    fn columns_that_readers_would_see_otherwise_are_refused() {
        let refused =
            |name: &str, data_type| unsupported_partition(&Field::new(name, data_type, true)).map(|it| it.help);
        for data_type in [DataType::Utf8View, DataType::Date32, DataType::Int64, DataType::UInt32] {
            assert_eq!(refused("a", data_type), None);
        }
        for data_type in [DataType::Boolean, DataType::Float64, DataType::Decimal128(18, 3), DataType::UInt64] {
            assert!(refused("a", data_type).is_some_and(|help| help.contains("VARCHAR")));
        }
        let at = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        assert!(refused("a", at).is_some_and(|help| help.contains("date_trunc")));
        assert!(refused("_stream", DataType::Utf8View).is_some_and(|help| help.contains("AS")));
    }
}
