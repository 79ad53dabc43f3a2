//! The commands. One short function each; data goes to standard output, everything else to standard error.
//!
//! Exit status: 0 done, 1 the answer is no, 2 wrong usage or definition, 3 environment failure or fenced by another writer.

mod check;
mod demo;
mod demo_events;
mod demo_proof;
mod demo_script;
mod dlq;
mod doctor;
mod explain;
mod options;
mod output;
mod path;
mod query;
mod run;
mod status;
mod verify;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::diagnostic::Diagnostics;
use crate::error::{Error, ErrorKind};
use crate::runtime::driver::RunFailure;

use options::Common;

/// Milestones in; reconciled stock, validated invoice triggers and KPIs out; all of it defined in SQL.
#[derive(Debug, Parser)]
#[command(name = "milepost", version, propagate_version = true, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "Exit status: 0 done, 1 the answer is no (nothing was run here yet, a check failed, too many dead letters), \
    2 wrong usage or definition,\n3 environment failure.\n\
    MILEPOST_LOG sets what is logged to standard error (default: milepost=info,async_nats=off,warn).\n\n\
    Begin with: milepost demo";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the shipped pipelines on the shipped data, end to end, with a summary at the end
    #[command(
        after_help = "Examples:\n  milepost demo --embedded\n  milepost demo --keep          and, in another terminal:\n  \
        milepost demo --send-proof"
    )]
    Demo(demo::Arguments),
    /// Compile everything; print the graph and how each job is kept up to date
    #[command(after_help = "Example: milepost check pipelines/order_to_invoice.yaml")]
    Check(check::Arguments),
    /// Run a pipeline until it is stopped
    #[command(
        after_help = "Examples:\n  milepost run pipelines/order_to_invoice.yaml --nats nats://localhost:4222\n  \
        milepost run pipelines/order_to_invoice.yaml --until-caught-up --no-publish \\\n    \
        --source milestones=data/order_to_invoice/observed.ndjson"
    )]
    Run(run::Arguments),
    /// Run one SELECT over upsert sources, all jobs, their histories, and milepost.dead_letters, .late, .intake, .epochs, .progress, .errors, .operators
    #[command(after_help = "Example: milepost query pipelines/order_to_invoice.yaml \\\n    \
        \"SELECT state, count(*) AS lines FROM shipment_state GROUP BY state\" --format csv")]
    Query(query::Arguments),
    /// Show epoch, positions, the four counts, errors, row counts and watermark
    #[command(after_help = "Example: milepost status pipelines/order_to_invoice.yaml --format json")]
    Status(status::Arguments),
    /// Print the files of a table's current version, one a line
    #[command(after_help = "Example: milepost path pipelines/order_to_invoice.yaml kpi_dispatch_sla")]
    Path(path::Arguments),
    /// Print a job's circuit: its operators, their keys, and what each holds where the pipeline runs or ran
    #[command(after_help = "Example: milepost explain pipelines/order_to_invoice.yaml shipment_state")]
    Explain(explain::Arguments),
    /// Check broker, streams, stores, files and home against what the promises need, without running
    #[command(
        after_help = "Exit status: 0 nothing is refused, 1 something is, 2 the definition has problems, 3 something could not be reached.\n\
        A client can't see the broker's `sync_interval`: set it to `always` where a power cut must lose nothing.\n\n\
        Example: milepost doctor pipelines/order_to_invoice.yaml --nats nats://localhost:4222"
    )]
    Doctor(doctor::Arguments),
    /// Recompute every table in batch from the sources, and compare with what readers find
    #[command(
        after_help = "The logged ranges are read again, and each job's SELECT is run once by DataFusion; nothing is written. Compared are the \
        tables\nas `query` shows them, the current versions of Parquet tables, and the messages of change streams: the last of each key,\n\
        and that revisions follow one another. Works while the pipeline runs, and when it does not. What can't be compared is said:\n\
        a job whose SELECT fails on some row fails as a whole in batch, and milepost.errors is not recomputed.\n\n\
        Exit status: 0 all is the same, 1 something differs or could not be compared.\n\n\
        Example: milepost verify pipelines/order_to_invoice.yaml --job invoice_triggers"
    )]
    Verify(verify::Arguments),
    /// List, show or export the dead letters: events that could not be read
    #[command(
        after_help = "Asked is the running process, or what the last one left, as `query milepost.dead_letters` does.\n\
        Not there yet: `replay` and `discard`. Until then publish a corrected event anew.\n\n\
        Example: milepost dlq list pipelines/order_to_invoice.yaml"
    )]
    Dlq(dlq::Arguments),
    /// Print the JSON Schema of the pipeline file format, or of the messages that a job publishes
    #[command(after_help = "Examples:\n  milepost schema > pipeline.schema.json\n  \
        milepost schema pipelines/order_to_invoice.yaml invoice_triggers")]
    Schema(SchemaArguments),
}

#[derive(Debug, clap::Args)]
struct SchemaArguments {
    /// A pipeline, to print the schema of a job's messages instead
    #[arg(value_name = "PIPELINE", requires = "job")]
    pipeline: Option<std::path::PathBuf>,
    /// The job whose messages are described
    #[arg(value_name = "JOB")]
    job: Option<String>,
}

/// Why a command did not succeed.
pub(crate) enum Failure {
    /// The answer is no; what was said already is enough. Exit status 1.
    No,
    /// A definition has problems. Exit status 2.
    Definition(Diagnostics),
    /// Anything else, with the exit status of its kind.
    Failed(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Diagnostics> for Failure {
    fn from(problems: Diagnostics) -> Self {
        Self::Definition(problems)
    }
}

impl From<RunFailure> for Failure {
    fn from(failure: RunFailure) -> Self {
        match failure {
            RunFailure::Definition(problems) => Self::Definition(problems),
            RunFailure::Failed(error) => Self::Failed(error),
        }
    }
}

/// What a command returns.
pub(crate) type Outcome = Result<(), Failure>;

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return finish(Err(Error::caused(ErrorKind::Unavailable, "starting the runtime", error).into()));
        }
    };
    let outcome = runtime.block_on(Box::pin(perform(cli.command)));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    finish(outcome)
}

async fn perform(command: Command) -> Outcome {
    match command {
        Command::Demo(arguments) => demo::demo(arguments).await,
        Command::Check(arguments) => check::check(&arguments).await,
        Command::Run(arguments) => run::run(arguments).await,
        Command::Query(arguments) => query::query(&arguments).await,
        Command::Status(arguments) => status::status(&arguments).await,
        Command::Path(arguments) => path::path(&arguments).await,
        Command::Explain(arguments) => explain::explain(&arguments).await,
        Command::Doctor(arguments) => doctor::doctor(&arguments).await,
        Command::Verify(arguments) => verify::verify(&arguments).await,
        Command::Dlq(arguments) => dlq::dlq(&arguments).await,
        Command::Schema(arguments) => schema(&arguments).await,
    }
}

/// The format's own schema, or that of a job's messages.
async fn schema(arguments: &SchemaArguments) -> Outcome {
    let schema = match (&arguments.pipeline, &arguments.job) {
        (Some(pipeline), Some(job)) => {
            let pipeline = options::load(pipeline)?;
            let circuit = crate::runtime::engine::build_circuit(&pipeline).await?;
            let compiled = circuit.jobs().iter().find(|compiled| *compiled.name == **job).ok_or_else(|| {
                let names = circuit.jobs().iter().map(|job| &*job.name);
                let help = crate::diagnostic::suggest(job, names);
                Error::new(ErrorKind::Definition, format!("there is no job `{job}`; {help}"))
            })?;
            crate::sink::body::row_schema(job, &compiled.schema, &crate::runtime::outlets::key_names(compiled))
        }
        _ => crate::definition::pipeline_json_schema(),
    };
    output::print_json(&schema)
}

fn finish(outcome: Outcome) -> ExitCode {
    let styled = std::io::stderr().is_terminal();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::No) => ExitCode::from(1),
        Err(Failure::Definition(problems)) => {
            complain(&problems.render(styled));
            ExitCode::from(2)
        }
        Err(Failure::Failed(error)) => {
            complain(&format!("error: {}", error.chain()));
            ExitCode::from(error.exit_status())
        }
    }
}

/// Writes to standard error; if that is closed, there is nobody left to tell.
pub(crate) fn complain(text: &str) {
    let mut stderr = std::io::stderr().lock();
    if writeln!(stderr, "{}", text.trim_end()).is_err() {
        tracing::debug!("standard error is closed");
    }
}

#[expect(clippy::disallowed_methods, reason = "the environment is the edge's to read")]
fn start_log() {
    let filter = std::env::var("MILEPOST_LOG").unwrap_or_else(|_| "milepost=info,async_nats=off,warn".to_owned());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .finish();
    if tracing::subscriber::set_global_default(subscriber).is_err() {
        complain("warning: logging was started before");
    }
}

/// Flags that commands about a pipeline share.
pub(crate) fn prepared(common: &Common) -> Result<std::sync::Arc<crate::definition::pipeline::Pipeline>, Failure> {
    let mut pipeline = options::load(&common.pipeline)?;
    for (name, path) in &common.sources {
        pipeline.override_source(name, path)?;
    }
    if let Some(clock) = &common.clock {
        pipeline.override_clock(clock)?;
    }
    pipeline.check_clock()?;
    Ok(std::sync::Arc::new(pipeline))
}
