//! `milepost query`.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use clap::Args;

use crate::definition::pipeline::{Identity, Pipeline};
use crate::error::{Error, ErrorKind};
use crate::plan::{SystemTable, run_batch};
use crate::runtime::left_status;
use crate::runtime::outlets::{left_tables, state_directory};
use crate::runtime::socket::{Reply, Request, ask};

use super::options::{Common, Format};
use super::{Failure, Outcome, output, prepared};

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

async fn ask_or_read(
    pipeline: &Pipeline,
    common: &Common,
    sql: &str,
) -> Result<(SchemaRef, Vec<RecordBatch>), Failure> {
    let directory = state_directory(&common.home, &pipeline.name);
    if let Some(Reply::Rows(schema, rows)) = ask(&directory, &Request::Query(sql.to_owned())).await? {
        return Ok((schema, rows));
    }
    let Some(report) = left_status(&directory)? else { return Err(nothing_left(pipeline, common)) };
    let tables = left_tables(&directory, &table_names(pipeline))?;
    run_batch(&tables, sql, report.watermark_us)
        .await
        .map_err(|error| Error::new(ErrorKind::Definition, error.find_root().strip_backtrace()).into())
}

/// Every name that `query` knows.
pub(crate) fn table_names(pipeline: &Pipeline) -> Vec<Arc<str>> {
    let upserts = pipeline.sources.iter().filter(|source| matches!(source.identity, Identity::Upsert { .. }));
    let own = SystemTable::ALL.map(|table| Arc::from(table.name()));
    let jobs = pipeline.jobs.iter().map(|job| Arc::clone(&job.name));
    jobs.chain(upserts.map(|source| Arc::clone(&source.name))).chain(own).collect()
}

pub(crate) fn nothing_left(pipeline: &Pipeline, common: &Common) -> Failure {
    let doing = format!(
        "pipeline `{}` was never run with `--home {}`: run it first, or name the folder that it was run with",
        pipeline.name,
        common.home.display()
    );
    Failure::Failed(Error::new(ErrorKind::Definition, doing))
}
