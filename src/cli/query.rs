//! `milepost query`.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use clap::Args;

use crate::definition::pipeline::{Identity, Pipeline};
use crate::plan::{SystemTable, Unseen, UnseenTable, run_query};
use crate::runtime::outlets::{left_tables, state_directory};
use crate::runtime::socket::{Reply, Request, ask};
use crate::runtime::{left_status, unkept_sources};

use super::options::{Common, Format};
use super::{Failure, Outcome, complain, output, prepared};

/// What `query` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// One SELECT
    #[arg(value_name = "SELECT …")]
    sql: String,
    /// How the result is printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

/// Asks the running process, or what the last one left.
pub(crate) async fn query(arguments: &Arguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    let (schema, rows) = ask_or_read(&pipeline, &arguments.common, &arguments.sql).await?;
    output::print_rows(&schema, &rows, arguments.format)
}

/// The rows of a query over the running process, or what the last one left.
pub(crate) async fn ask_or_read(
    pipeline: &Pipeline,
    common: &Common,
    sql: &str,
) -> Result<(SchemaRef, Vec<RecordBatch>), Failure> {
    let directory = state_directory(&common.home, &pipeline.name);
    match ask(&directory, &Request::Query(sql.to_owned())).await? {
        Some(Reply::Rows(schema, rows)) => return Ok((schema, rows)),
        Some(Reply::Refused(problems)) => return Err(problems.into()),
        Some(Reply::Status(_)) | None => {}
    }
    let Some(report) = left_status(&directory)? else { return Err(nothing_left(pipeline, common)) };
    let names = table_names(pipeline);
    let tables = left_tables(&directory, &names)?;
    let missing = names.into_iter().filter(|name| tables.iter().all(|table| table.name != *name));
    let not_yet = missing.map(|name| UnseenTable { name, reason: Unseen::NotYet });
    let unseen: Vec<UnseenTable> = unkept_sources(pipeline).into_iter().chain(not_yet).collect();
    Ok(run_query(&tables, &unseen, sql, report.watermark_us).await?)
}

/// Every name that `query` knows.
pub(crate) fn table_names(pipeline: &Pipeline) -> Vec<Arc<str>> {
    let upserts = pipeline.sources.iter().filter(|source| matches!(source.identity, Identity::Upsert { .. }));
    let own = SystemTable::ALL.map(|table| Arc::from(table.name()));
    let jobs = pipeline.jobs.iter().map(|job| Arc::clone(&job.name));
    let histories = pipeline.histories().map(|(_, history)| Arc::clone(&history.name));
    jobs.chain(upserts.map(|source| Arc::clone(&source.name))).chain(histories).chain(own).collect()
}

/// Says that nothing can be asked about the pipeline: no process ran it here, or none got so far as to leave anything. The
/// answer of `query`, `status` and `path` is no then.
pub(crate) fn nothing_left(pipeline: &Pipeline, common: &Common) -> Failure {
    complain(&format!(
        "pipeline `{}` has left nothing under `--home {}` yet: run it first, or name the folder that it was run with",
        pipeline.name,
        common.home.display()
    ));
    Failure::No
}
