//! `_current.json`: what a version holds, and by what its files are known to be whole.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, ErrorKind, Result};
use crate::sink::Stamp;
use crate::types::{Epoch, Micros};

/// Whose table it is, and what it is true of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMeta {
    /// The pipeline's name.
    pub pipeline: String,
    /// The job's name.
    pub job: String,
    /// The epoch, clock and watermark of the rows.
    pub stamp: Stamp,
}

/// One Parquet file of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFile {
    /// Its path below the version's directory, or below the table's URL.
    pub name: String,
    /// The values of its rows in the columns of `partition_by`, by the column's name; none in a table without partitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<PartitionValues>,
    /// Rows in it.
    pub rows: u64,
    /// Its size.
    pub size_bytes: u64,
    /// The digest of its bytes, in hexadecimal.
    pub sha256: String,
    /// The digest of its rows with their schema, in hexadecimal; the same rows have the same in every version.
    pub content: String,
}

/// The values of a partition as text, null for null, by the column's name.
pub type PartitionValues = BTreeMap<String, Option<String>>;

/// Files that left the table together, and are still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Retired {
    /// When the version was written that was the first without them.
    pub(super) at_us: Micros,
    /// Their names.
    pub(super) names: Vec<String>,
}

/// `_current.json` as it is written. Times are microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// The version of this format; [`FORMAT`].
    pub(super) format: u32,
    /// The table version's number.
    pub(super) version: u64,
    /// The pipeline's name.
    pub(super) pipeline: String,
    /// The job's name.
    pub(super) job: String,
    /// The epoch after which the table looked like this.
    pub(super) epoch: u64,
    /// That epoch's clock.
    pub(super) clock_us: Option<Micros>,
    /// That epoch's watermark.
    pub(super) watermark_us: Option<Micros>,
    /// When the version was written.
    pub(super) published_at_us: Micros,
    /// The name of the directory that holds the version, beside those of its neighbours; only on a local disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) directory: Option<String>,
    /// Who wrote it, 16 hexadecimal digits that each process draws for itself; only in object stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) writer: Option<String>,
    /// The columns that sort the table and identify its rows.
    pub(super) key: Vec<String>,
    /// The columns whose values make folders.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) partition_by: Vec<String>,
    /// The columns.
    pub(super) schema: Vec<ManifestColumn>,
    /// Rows in all files.
    pub(super) rows: u64,
    /// The digest of pipeline, job, schema, key and all rows, in hexadecimal.
    pub(super) content: String,
    /// By folder, and in the order of the rows in each.
    pub(super) files: Vec<TableFile>,
    /// Files of earlier versions that readers may still be at; only in object stores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) retired: Vec<Retired>,
}

/// A column in `_current.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestColumn {
    name: String,
    /// The Arrow type, as Arrow writes it: `Decimal128(18, 3)`.
    #[serde(rename = "type")]
    data_type: String,
    nullable: bool,
}

/// The version of the format that is written and read here. It also goes into every content digest, so that a change
/// of how files are written makes new files.
pub(super) const FORMAT: u32 = 1;

impl Manifest {
    /// The text of `_current.json`.
    pub(super) fn to_json(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::caused(ErrorKind::Internal, "cannot write a manifest", error))?;
        text.push('\n');
        Ok(text)
    }

    /// Reads `_current.json`.
    ///
    /// # Errors
    ///
    /// Kind `Corrupt` if it is not what [`Manifest::to_json`] writes, or its content digest is not that of its parts.
    pub(super) fn from_json(text: &[u8]) -> Result<Self> {
        let manifest: Self = serde_json::from_slice(text)
            .map_err(|error| Error::caused(ErrorKind::Corrupt, "the table's manifest cannot be read", error))?;
        if manifest.format != FORMAT {
            return Err(corrupt(format!("the table's manifest has format `{}`, not `{FORMAT}`", manifest.format)));
        }
        let identity =
            identity(&manifest.pipeline, &manifest.job, &manifest.schema, &manifest.key, &manifest.partition_by)?;
        if content(&identity, &manifest.files) != manifest.content {
            return Err(corrupt("the table's manifest does not have the content digest that it states"));
        }
        if manifest.files.iter().map(|file| file.rows).sum::<u64>() != manifest.rows {
            return Err(corrupt("the table's manifest does not have the rows that it states"));
        }
        let names =
            manifest.files.iter().map(|file| &file.name).chain(manifest.retired.iter().flat_map(|it| &it.names));
        if let Some(name) = names.into_iter().find(|name| !is_plain(name)) {
            return Err(corrupt(format!("the table's manifest names the file `{name}`, which lies elsewhere")));
        }
        Ok(manifest)
    }

    /// Whether pipeline, job, columns, key and folders are these; see [`identity`].
    pub(super) fn has_identity(&self, expected: &[u8]) -> bool {
        identity(&self.pipeline, &self.job, &self.schema, &self.key, &self.partition_by)
            .is_ok_and(|own| own == expected)
    }

    /// Whose table it is.
    pub(super) fn meta(&self) -> TableMeta {
        TableMeta {
            pipeline: self.pipeline.clone(),
            job: self.job.clone(),
            stamp: Stamp { epoch: Epoch(self.epoch), clock: self.clock_us, watermark: self.watermark_us },
        }
    }

    /// The schema as it was published.
    pub(super) fn arrow_schema(&self) -> Result<SchemaRef> {
        let fields = self.schema.iter().map(|column| {
            let data_type = DataType::from_str(&column.data_type).map_err(|error| {
                let doing = format!("the type `{}` of column `{}` is unknown", column.data_type, column.name);
                Error::caused(ErrorKind::Corrupt, doing, error)
            })?;
            Ok(Field::new(&column.name, data_type, column.nullable))
        });
        Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
    }
}

/// The columns as `_current.json` has them.
///
/// # Errors
///
/// Kind `Internal` if a type could not be read back from its text.
pub(super) fn columns(schema: &Schema) -> Result<Vec<ManifestColumn>> {
    let column = |field: &Arc<Field>| {
        let data_type = field.data_type().to_string();
        if DataType::from_str(&data_type).ok().as_ref() != Some(field.data_type()) {
            return Err(Error::internal(format!("type `{data_type}` of column `{}` has no text", field.name())));
        }
        Ok(ManifestColumn { name: field.name().clone(), data_type, nullable: field.is_nullable() })
    };
    schema.fields().iter().map(column).collect()
}

/// What all content digests of a table begin with: everything but the rows.
pub(super) fn identity(
    pipeline: &str,
    job: &str,
    columns: &[ManifestColumn],
    key: &[String],
    partition_by: &[String],
) -> Result<Vec<u8>> {
    let identity = match partition_by {
        [] => serde_json::to_vec(&(FORMAT, pipeline, job, columns, key)),
        _ => serde_json::to_vec(&(FORMAT, pipeline, job, columns, key, partition_by)),
    };
    identity.map_err(|error| Error::caused(ErrorKind::Internal, "cannot write a schema", error))
}

/// Whether a file's name is a path below the table and nothing else.
fn is_plain(name: &str) -> bool {
    !name.contains('\\') && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// The digest of a whole table, from those of its files.
pub(super) fn content(identity: &[u8], files: &[TableFile]) -> String {
    let mut digest = Sha256::new();
    digest.update(identity);
    for file in files {
        digest.update(file.content.as_bytes());
        digest.update(file.rows.to_le_bytes());
    }
    hexadecimal(&digest.finalize())
}

/// Bytes in lower-case hexadecimal.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn corrupt(doing: impl Into<String>) -> Error {
    Error::new(ErrorKind::Corrupt, doing)
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{Fields, TimeUnit};

    use super::*;
    use crate::definition::contract::utc_timestamp;

    fn manifest() -> Manifest {
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Utf8View, true)));
        let object = DataType::Struct(Fields::from(vec![Field::new("it's", list.clone(), false)]));
        let schema = Schema::new(vec![
            Field::new("id", DataType::Utf8View, false),
            Field::new("amount", DataType::Decimal128(18, 3), true),
            Field::new("at", utc_timestamp(), true),
            Field::new("opens_at", DataType::Time64(TimeUnit::Microsecond), true),
            Field::new("tags", list, true),
            Field::new("object", object, true),
        ]);
        let (schema, key) = (columns(&schema).expect("columns"), vec!["id".to_owned()]);
        let file = TableFile {
            name: "day=2024-03-18/part-00000-a.parquet".to_owned(),
            partition: Some([("day".to_owned(), Some("2024-03-18".to_owned())), ("site".to_owned(), None)].into()),
            rows: 3,
            size_bytes: 7,
            sha256: "00".to_owned(),
            content: "11".to_owned(),
        };
        let files = vec![file];
        let partition_by = vec!["day".to_owned(), "site".to_owned()];
        let content = content(&identity("p", "j", &schema, &key, &partition_by).expect("identity"), &files);
        Manifest {
            format: FORMAT,
            version: 1,
            pipeline: "p".to_owned(),
            job: "j".to_owned(),
            epoch: 4,
            clock_us: Some(5),
            watermark_us: None,
            published_at_us: 6,
            directory: Some("00000001-0123456789abcdef".to_owned()),
            writer: Some("0123456789abcdef".to_owned()),
            key,
            partition_by,
            schema,
            rows: 3,
            content,
            files,
            retired: vec![Retired { at_us: 5, names: vec!["b".to_owned()] }],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let manifest = manifest();
        let text = manifest.to_json().expect("text");
        assert_eq!(Manifest::from_json(text.as_bytes()).expect("read"), manifest);
        let schema = manifest.arrow_schema().expect("schema");
        assert_eq!(columns(&schema).expect("columns"), manifest.schema);
    }

    #[test]
    fn a_damaged_manifest_is_corrupt() {
        let text = manifest().to_json().expect("text");
        let damages = [
            ("\"format\": 1", "\"format\": 2"),
            ("\"job\": \"j\"", "\"job\": \"k\""),
            ("\"rows\": 3,\n  \"content\"", "\"rows\": 4,\n  \"content\""),
            ("Decimal128(18, 3)", "Decimal128(18, 2)"),
            ("\"epoch\"", "\"epocj\""),
            ("part-00000-a", "../00000-a"),
            ("[\n        \"b\"", "[\n        \"/b\""),
            ("}", ""),
        ];
        for (from, to) in damages {
            assert!(text.contains(from), "{from} in {text}");
            let error = Manifest::from_json(text.replacen(from, to, 1).as_bytes()).expect_err(to);
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{to}");
        }
    }
}
