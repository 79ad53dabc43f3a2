//! What a version will hold, before anything is written: which files stay as they are, and which rows make new ones.
//!
//! Of a partition that no row of which changed, nothing is looked at but its entry in the manifest before. The rows of a
//! partition that is published anew are sorted and cut, and those of its files that have the rows they had stay too.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};

use super::encode::encode;
use super::manifest::{FORMAT, Manifest, ManifestColumn, PartitionValues, Retired, TableFile, TableMeta};
use super::manifest::{columns, content, identity};
use super::partition::{folder, for_manifest, texts, unsupported_partition};
use super::rows::{FileLimits, FileRows, SortedRows};
use super::schema::check_schema;
use crate::error::{Error, ErrorKind, Result};
use crate::state::Partition;
use crate::types::Micros;

/// What is published.
#[derive(Debug, Clone, Copy)]
pub struct Publication<'a> {
    /// The columns.
    pub schema: &'a SchemaRef,
    /// The columns that sort the table and identify its rows.
    pub key: &'a [String],
    /// The columns whose values make folders; none: the table has no folders.
    pub partition_by: &'a [String],
    /// Whose table it is, and what it is true of.
    pub meta: &'a TableMeta,
    /// Rows by the values of `partition_by`, each partition once; one without values where there are no such columns.
    pub partitions: &'a [Partition],
    /// What of the table the partitions are.
    pub scope: Scope,
}

/// What of a table is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All partitions that have rows.
    Whole,
    /// The partitions that changed since the last publication, also those that have no rows any more.
    Touched,
}

/// What became of a publication.
#[derive(Debug, Clone, PartialEq)]
pub enum Published<V> {
    /// The current version holds it.
    Version(V),
    /// Nothing was published: the partitions that did not change can't be taken over, so the whole table is needed.
    WholeNeeded,
}

/// One partition of all rows, for a table without partitions.
pub fn unpartitioned(rows: Vec<RecordBatch>) -> Partition {
    Partition { values: RecordBatch::new_empty(Schema::empty().into()), rows }
}

/// A version on its way.
pub(super) struct Draft<'a> {
    publication: &'a Publication<'a>,
    columns: Vec<ManifestColumn>,
    identity: Vec<u8>,
    /// By folder, and in the order of the rows in each.
    pub(super) files: Vec<DraftFile>,
    /// The sorted rows of each partition of which a file may have to be written.
    sorted: Vec<Option<SortedRows>>,
}

/// A file of a version on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DraftFile {
    /// One of the version before, in a partition that did not change.
    Kept(TableFile),
    /// Rows that were published.
    Rows(DraftRows),
}

/// Rows that make a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DraftRows {
    pub(super) folder: String,
    /// Its place in the folder.
    pub(super) index: usize,
    pub(super) rows: FileRows,
    /// The file of the version before that has the same rows.
    pub(super) known: Option<TableFile>,
    partition: usize,
    values: Option<PartitionValues>,
}

impl DraftRows {
    /// The entry of the manifest, once the file is written.
    pub(super) fn written(&self, name: String, size_bytes: u64, sha256: String) -> TableFile {
        TableFile {
            name,
            partition: self.values.clone(),
            rows: self.rows.range.len() as u64,
            size_bytes,
            sha256,
            content: self.rows.content.clone(),
        }
    }
}

impl DraftFile {
    fn content(&self) -> &str {
        match self {
            Self::Kept(file) => &file.content,
            Self::Rows(file) => &file.rows.content,
        }
    }
}

impl<'a> Draft<'a> {
    /// Plans the version that follows `before`; none if only the whole table would do.
    ///
    /// # Errors
    ///
    /// Kind `Definition`: columns that a table can't hold or be partitioned by. Kind `Internal`: rows of another schema, a
    /// partition twice.
    pub(super) fn new(
        publication: &'a Publication<'a>,
        before: Option<&Manifest>,
        limits: FileLimits,
    ) -> Result<Option<Self>> {
        let Publication { schema, key, partition_by, meta, .. } = *publication;
        check_schema(schema)?;
        check_partition_by(schema, partition_by)?;
        let columns = columns(schema)?;
        let identity = identity(&meta.pipeline, &meta.job, &columns, key, partition_by)?;
        let before = before.filter(|before| before.has_identity(&identity));
        if before.is_none() && publication.scope == Scope::Touched {
            return Ok(None);
        }
        let mut draft = Self { publication, columns, identity, files: Vec::new(), sorted: Vec::new() };
        let mut folders = draft.cut(before, limits)?;
        if let (Some(before), Scope::Touched) = (before, publication.scope) {
            for (folder, files) in kept(before, partition_by) {
                folders.entry(folder).or_insert(files);
            }
        }
        draft.files = folders.into_values().flatten().collect();
        if draft.files.is_empty() {
            // So that readers find the columns of a table without rows.
            let sorted = SortedRows::new(&[], schema, key)?;
            let files = sorted.cut(limits, &draft.identity);
            draft.files = draft.rows_of(String::new(), None, files, &known(before));
            draft.sorted.push(Some(sorted));
        }
        Ok(Some(draft))
    }

    /// The files of the partitions that were published, by folder; none for a partition without rows.
    fn cut(&mut self, before: Option<&Manifest>, limits: FileLimits) -> Result<BTreeMap<String, Vec<DraftFile>>> {
        let Publication { schema, key, partition_by, partitions, .. } = *self.publication;
        let known = known(before);
        let mut folders = BTreeMap::new();
        for partition in partitions {
            let values = texts(&partition.values)?;
            let folder = folder(&values);
            let is_gone = !partition_by.is_empty() && partition.rows.iter().all(|batch| batch.num_rows() == 0);
            let files = if is_gone {
                self.sorted.push(None);
                Vec::new()
            } else {
                let sorted = SortedRows::new(&partition.rows, schema, key)?;
                let cut = sorted.cut(limits, &self.identity);
                let files = self.rows_of(folder.clone(), for_manifest(values), cut, &known);
                let is_known = |file: &DraftFile| matches!(file, DraftFile::Rows(rows) if rows.known.is_some());
                self.sorted.push((!files.iter().all(is_known)).then_some(sorted));
                files
            };
            if folders.insert(folder.clone(), files).is_some() {
                return Err(Error::internal(format!("the partition `{folder}` was published twice")));
            }
        }
        Ok(folders)
    }

    /// The files of the next partition.
    fn rows_of(
        &self,
        folder: String,
        values: Option<PartitionValues>,
        cut: Vec<FileRows>,
        known: &HashMap<&str, &TableFile>,
    ) -> Vec<DraftFile> {
        let file = |(index, rows): (usize, FileRows)| {
            let known = known.get(rows.content.as_str()).map(|&file| file.clone());
            let (folder, values) = (folder.clone(), values.clone());
            DraftFile::Rows(DraftRows { folder, index, known, partition: self.sorted.len(), values, rows })
        };
        cut.into_iter().enumerate().map(file).collect()
    }

    /// Whether `before` holds just this.
    pub(super) fn is(&self, before: &Manifest) -> bool {
        before.has_identity(&self.identity)
            && before.meta() == *self.publication.meta
            && before.files.iter().map(|file| file.content.as_str()).eq(self.files.iter().map(DraftFile::content))
    }

    /// Writes a file's rows to `output`.
    pub(super) fn encode<W: Write + Send>(&self, file: &DraftRows, limits: FileLimits, output: W) -> Result<W> {
        let Publication { schema, key, meta, partitions, .. } = *self.publication;
        if let Some(Some(sorted)) = self.sorted.get(file.partition) {
            return encode(sorted, &file.rows, key, meta, limits.group_rows_max, output);
        }
        let rows = partitions.get(file.partition).map(|partition| partition.rows.as_slice()).unwrap_or_default();
        encode(&SortedRows::new(rows, schema, key)?, &file.rows, key, meta, limits.group_rows_max, output)
    }

    /// The manifest of the version, once all its files are in place; `files` are in the draft's order.
    pub(super) fn manifest(&self, number: u64, now: Micros, files: Vec<TableFile>) -> Manifest {
        let Publication { key, partition_by, meta, .. } = *self.publication;
        Manifest {
            format: FORMAT,
            version: number,
            pipeline: meta.pipeline.clone(),
            job: meta.job.clone(),
            epoch: meta.stamp.epoch.0,
            clock_us: meta.stamp.clock,
            watermark_us: meta.stamp.watermark,
            published_at_us: now,
            directory: None,
            writer: None,
            key: key.to_vec(),
            partition_by: partition_by.to_vec(),
            schema: self.columns.clone(),
            rows: files.iter().map(|file| file.rows).sum(),
            content: content(&self.identity, &files),
            files,
            retired: Vec::<Retired>::new(),
        }
    }
}

/// The files of a manifest by their content.
fn known(before: Option<&Manifest>) -> HashMap<&str, &TableFile> {
    before.into_iter().flat_map(|before| &before.files).map(|file| (file.content.as_str(), file)).collect()
}

/// The files of a version by folder, without what only says that there is no row.
fn kept(before: &Manifest, partition_by: &[String]) -> BTreeMap<String, Vec<DraftFile>> {
    let mut folders = BTreeMap::<String, Vec<DraftFile>>::new();
    for file in before.files.iter().filter(|file| partition_by.is_empty() || file.rows > 0) {
        let values = file.partition.clone().unwrap_or_default();
        let in_order = partition_by.iter().map(|column| (column.clone(), values.get(column).cloned().flatten()));
        folders.entry(folder(&in_order.collect::<Vec<_>>())).or_default().push(DraftFile::Kept(file.clone()));
    }
    folders
}

fn check_partition_by(schema: &Schema, partition_by: &[String]) -> Result<()> {
    for column in partition_by {
        let wrong = |why: String| Err(Error::new(ErrorKind::Definition, why));
        let Ok(field) = schema.field_with_name(column) else {
            return wrong(format!("`partition_by` names `{column}`, which is not one of the table's columns"));
        };
        if let Some(found) = unsupported_partition(field) {
            return wrong(format!("{} ({})", found.message, found.help));
        }
    }
    Ok(())
}
