//! What `milepost demo` runs and shows is data: `pipelines/demo/demo.yaml` and the SELECTs beside it.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use serde::Deserialize;

use crate::error::{Error, ErrorKind, Result};
use crate::plan::{BatchTable, run_batch};
use crate::types::Micros;

use super::output;

/// `demo.yaml`: the pipelines in the order in which they are played.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    pub(crate) acts: Vec<Act>,
}

/// One pipeline of the demo.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Act {
    pub(crate) pipeline: PathBuf,
    /// The source that the events arrive at.
    pub(crate) source: String,
    /// The subject that they are published on.
    pub(crate) subject: String,
    /// The field by whose time the files of events are merged.
    pub(crate) merge_by: String,
    pub(crate) events: Vec<PathBuf>,
    /// SELECTs shown as tables.
    pub(crate) panels: Vec<PathBuf>,
    /// A SELECT of one row, whose first column is told in words.
    pub(crate) story: PathBuf,
    /// An event that the row of the story waits for.
    #[serde(default)]
    pub(crate) proof: Option<Proof>,
    /// A table that the reader is shown how to open.
    pub(crate) table: PathBuf,
}

/// What `--send-proof` sends and shows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proof {
    /// A SELECT of one row, whose columns are the fields of the event. The row of the story is the table `story`.
    pub(crate) event: PathBuf,
    /// Jobs whose change streams answer; the row of the story has the columns of their keys.
    pub(crate) answers: Vec<String>,
    /// A SELECT over the running pipeline; `{column}` in it is a value of the story's row, as an SQL text.
    pub(crate) after: PathBuf,
}

impl Script {
    /// The script and the folder that it lies in, which its paths are relative to.
    pub(crate) fn find() -> Result<(PathBuf, Self)> {
        let folder = find_folder()?;
        let path = folder.join("demo.yaml");
        let script = serde_saphyr::from_str(&read(&path)?)
            .map_err(|error| Error::new(ErrorKind::Definition, format!("`{}`: {error}", path.display())))?;
        Ok((folder, script))
    }
}

/// What a SELECT of the demo gave.
pub(crate) struct Selected {
    /// The text behind `-- title:` in its first line.
    pub(crate) title: String,
    pub(crate) header: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) batches: Vec<RecordBatch>,
}

impl Selected {
    /// The title with the rows below it.
    pub(crate) fn panel(&self) -> String {
        format!("\n{}\n{}", self.title, output::plain_table(&self.header, &self.rows))
    }

    /// The rows as a table for another SELECT; none where there are none.
    pub(crate) fn as_table(&self, name: &str) -> Option<BatchTable> {
        let schema = self.batches.first()?.schema();
        Some(BatchTable { name: Arc::from(name), schema, batches: self.batches.clone() })
    }

    /// The value of a column in the first row, as text.
    pub(crate) fn first(&self, column: &str) -> Option<&str> {
        let position = self.header.iter().position(|name| name == column)?;
        self.rows.first()?.get(position).map(String::as_str)
    }
}

/// Runs one of the demo's SELECTs over finished tables.
pub(crate) async fn select(path: &Path, tables: &[BatchTable], watermark: Option<Micros>) -> Result<Selected> {
    let sql = read(path)?;
    let (schema, batches) = run_batch(tables, &sql, watermark)
        .await
        .map_err(|error| Error::new(ErrorKind::Definition, format!("`{}`: {}", path.display(), error.find_root())))?;
    selected(title_of(&sql), schema.fields().iter().map(|field| field.name().clone()).collect(), batches)
}

/// The rows of a SELECT with its title.
pub(crate) fn selected(title: &str, header: Vec<String>, batches: Vec<RecordBatch>) -> Result<Selected> {
    let rows = batches.iter().map(output::texts).collect::<Result<Vec<_>>>()?.concat();
    Ok(Selected { title: title.to_owned(), header, rows, batches })
}

/// The title of a SELECT: its first line, behind `-- title:`.
pub(crate) fn title_of(sql: &str) -> &str {
    sql.lines().next().and_then(|line| line.strip_prefix("-- title:")).unwrap_or("").trim()
}

/// `pipelines/demo` in this folder, one above it, or one above the program's own.
fn find_folder() -> Result<PathBuf> {
    let here = current_directory();
    let program = std::env::current_exe().ok();
    let above = |path: Option<PathBuf>| {
        path.into_iter().flat_map(|path| path.ancestors().map(Path::to_owned).collect::<Vec<_>>())
    };
    let found = above(here)
        .chain(above(program))
        .map(|folder| folder.join("pipelines/demo"))
        .find(|folder| folder.join("demo.yaml").is_file());
    found.map(|folder| short(&folder)).ok_or_else(|| {
        Error::new(
            ErrorKind::Definition,
            "`pipelines/demo/demo.yaml` is not above this folder: run the demo in a checkout of Milepost",
        )
    })
}

/// The path without `..`.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

/// The path relative to the current folder, if it lies in it.
pub(crate) fn short(path: &Path) -> PathBuf {
    let here = current_directory();
    here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or_else(|| path.to_owned())
}

#[expect(clippy::disallowed_methods, reason = "the demo looks for its files around the folder that it is called in")]
fn current_directory() -> Option<PathBuf> {
    std::env::current_dir().ok()
}

/// The text of one of the demo's files.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::caused(ErrorKind::Definition, format!("reading `{}`", path.display()), error))
}
