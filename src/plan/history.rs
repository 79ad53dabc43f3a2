//! Histories as tables: the columns of the table that each is of, then since when and until when a version stood.

use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};

use crate::definition::contract::utc_timestamp;
use crate::definition::pipeline::{History, Identity, Job, Pipeline, Source};
use crate::diagnostic::Diagnostic;

use super::PlannedJob;

/// The table with every version of the rows of a source or job.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryTable {
    /// The source or job.
    pub of: Arc<str>,
    /// Its own name.
    pub name: Arc<str>,
    /// How many of the table's columns, from the first, make a version: a row that differs in the others alone is the same.
    pub content: usize,
    /// The columns of the table, then since when and until when; every one may be null.
    pub schema: SchemaRef,
}

impl HistoryTable {
    fn new(of: &Arc<str>, history: &History, table: &SchemaRef, content: usize) -> Self {
        let columns = table.fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
        let times = [&history.from, &history.to].map(|name| Field::new(name, utc_timestamp(), true));
        let schema = Arc::new(Schema::new(columns.chain(times).collect::<Vec<_>>()));
        Self { of: Arc::clone(of), name: Arc::clone(&history.name), content, schema }
    }

    /// The columns that say since when and until when a version stood.
    pub fn times(&self) -> [&str; 2] {
        let name = |back: usize| {
            let column = self.schema.fields().len().checked_sub(back);
            column.and_then(|column| self.schema.fields().get(column)).map_or("", |field| field.name().as_str())
        };
        [name(2), name(1)]
    }

    /// The history of a source, if it has one. Where a row came from does not make it another version.
    pub(super) fn of_source(source: &Source) -> Option<Self> {
        let (history, contract) = (source.history.as_ref()?, &source.contract);
        Some(Self::new(&source.name, history, &contract.table_schema(), contract.columns.len()))
    }

    /// The history of a job whose table has these columns, if it has one.
    pub(super) fn of_job(job: &Job, table: &SchemaRef) -> Option<Self> {
        Some(Self::new(&job.name, job.history.as_ref()?, table, table.fields().len()))
    }
}

/// The histories of a pipeline's sources, then of its planned jobs.
pub fn histories(pipeline: &Pipeline, planned: &[PlannedJob]) -> Vec<HistoryTable> {
    let sources = pipeline.sources.iter().filter_map(HistoryTable::of_source);
    let job = |planned: &PlannedJob| HistoryTable::of_job(pipeline.jobs.get(planned.job)?, &planned.schema);
    sources.chain(planned.iter().filter_map(job)).collect()
}

/// The source or job that a table is, or is the history of.
pub(super) fn origin<'a>(pipeline: &'a Pipeline, table: &'a str) -> &'a str {
    if !table.ends_with(History::SUFFIX) {
        return table;
    }
    let history = pipeline.histories().find(|(_, history)| *history.name == *table);
    history.map_or(table, |(of, _)| of)
}

/// What to do where a table is not there that would be a history; none if it would be none.
pub(super) fn how_to_keep(pipeline: &Pipeline, table: &str) -> Option<String> {
    let of = table.strip_suffix(History::SUFFIX)?;
    let upserts = pipeline.sources.iter().filter(|source| matches!(source.identity, Identity::Upsert { .. }));
    let known =
        upserts.map(|source| &source.name).chain(pipeline.jobs.iter().map(|job| &job.name)).any(|name| **name == *of);
    known.then(|| format!("`{of}` has no history: add `history: true` to it"))
}

/// A problem at the job's `history` if the job has one of its columns itself.
pub(super) fn column_problem(pipeline: &Pipeline, job: &Job, table: &SchemaRef) -> Option<Diagnostic> {
    let history = job.history.as_ref()?;
    let taken = [&history.from, &history.to].into_iter().find(|column| table.field_with_name(column).is_ok())?;
    let message = format!("the job `{}` has a column `{taken}` already", job.name);
    Some(Diagnostic::new(&pipeline.text, history.span.clone(), message).with_help(History::OTHER_NAMES))
}
