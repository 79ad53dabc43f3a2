//! `milepost path`.

use std::path::Path;

use clap::Args;

use crate::definition::pipeline::{Pipeline, SinkTarget, TablePlace};
use crate::diagnostic::suggest;
use crate::error::{Error, ErrorKind};
use crate::runtime::outlets::state_directory;
use crate::runtime::was_run;
use crate::sink::table::{ObjectTable, TableStore};

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

/// Prints the files of the current versions of the job's tables: paths, or URLs where they lie in an object store.
pub(crate) async fn path(arguments: &Arguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    let mut lines = String::new();
    for place in table_places(&pipeline, &arguments.job)? {
        let Some(files) = current_files(place, &arguments.common.home).await? else {
            if !was_run(&state_directory(&arguments.common.home, &pipeline.name)) {
                return Err(nothing_left(&pipeline, &arguments.common));
            }
            let under = match place {
                TablePlace::Home(_) => format!("under `{}`", arguments.common.home.display()),
                TablePlace::Store(url) => format!("to `{url}`"),
            };
            complain(&format!("no version of `{}` was written {under} yet", arguments.job));
            return Err(Failure::No);
        };
        lines.extend(files.into_iter().map(|file| format!("{file}\n")));
    }
    output::print_bytes(lines.as_bytes())
}

async fn current_files(place: &TablePlace, home: &Path) -> Result<Option<Vec<String>>, Error> {
    match place {
        TablePlace::Home(path) => {
            let version = TableStore::open(home, path)?.current()?;
            Ok(version.map(|version| version.paths().iter().map(|file| file.display().to_string()).collect()))
        }
        TablePlace::Store(url) => Ok(ObjectTable::open(url)?.current().await?.map(|version| version.urls())),
    }
}

fn table_places<'a>(pipeline: &'a Pipeline, job: &str) -> Result<Vec<&'a TablePlace>, Error> {
    let tables = || {
        pipeline.sinks.iter().filter_map(|sink| match &sink.target {
            SinkTarget::Parquet { place, .. } => pipeline.jobs.get(sink.job).map(|job| (&*job.name, place)),
            SinkTarget::JetStream { .. } => None,
        })
    };
    let found: Vec<&TablePlace> = tables().filter(|(name, _)| *name == job).map(|(_, place)| place).collect();
    (!found.is_empty()).then_some(found).ok_or_else(|| {
        let help = suggest(job, tables().map(|(name, _)| name));
        Error::new(ErrorKind::Definition, format!("no job `{job}` has a Parquet sink; {help}"))
    })
}
