//! `milepost path`.

use clap::Args;

use crate::definition::pipeline::{Pipeline, SinkTarget};
use crate::diagnostic::suggest;
use crate::error::{Error, ErrorKind};
use crate::runtime::outlets::state_directory;
use crate::runtime::was_run;
use crate::sink::table::TableStore;

use super::options::Common;
use super::query::nothing_left;
use super::{Failure, Outcome, complain, output, prepared};

/// What `path` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// A job with a Parquet sink
    #[arg(value_name = "JOB")]
    job: String,
}

/// Prints the files of the table's current version.
pub(crate) fn path(arguments: &Arguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    let path = table_path(&pipeline, &arguments.job)?;
    match TableStore::open(&arguments.common.home, path)?.current()? {
        Some(version) => {
            let lines: String = version.paths().iter().map(|file| format!("{}\n", file.display())).collect();
            output::print_bytes(lines.as_bytes())
        }
        None if !was_run(&state_directory(&arguments.common.home, &pipeline.name)) => {
            Err(nothing_left(&pipeline, &arguments.common))
        }
        None => {
            complain(&format!(
                "no version of `{}` was written under `{}` yet",
                arguments.job,
                arguments.common.home.display()
            ));
            Err(Failure::No)
        }
    }
}

fn table_path<'a>(pipeline: &'a Pipeline, job: &str) -> Result<&'a std::path::Path, Error> {
    let tables = || {
        pipeline.sinks.iter().filter_map(|sink| match &sink.target {
            SinkTarget::Parquet { path, .. } => pipeline.jobs.get(sink.job).map(|job| (&*job.name, path.as_path())),
            SinkTarget::JetStream { .. } => None,
        })
    };
    tables().find(|(name, _)| *name == job).map(|(_, path)| path).ok_or_else(|| {
        let help = suggest(job, tables().map(|(name, _)| name));
        Error::new(ErrorKind::Definition, format!("no job `{job}` has a Parquet sink; {help}"))
    })
}
