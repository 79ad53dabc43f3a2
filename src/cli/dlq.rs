//! `milepost dlq`: the dead letters, for reading and for taking away. Nothing is changed by it.

mod letter;
mod mark;

use clap::{Args, Subcommand};

use crate::definition::pipeline::Pipeline;
use crate::diagnostic::suggest;
use crate::error::{Error, ErrorKind};

use super::options::{Common, Format, ReportFormat};
use super::query::ask_or_read;
use super::{Failure, Outcome, complain, output, prepared};

use letter::Letter;

/// What `dlq` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Count them by source and rule, or list them one by one, the newest first
    #[command(after_help = "Examples:\n  milepost dlq list pipelines/order_to_invoice.yaml\n  \
        milepost dlq list pipelines/order_to_invoice.yaml --each --of milestones --limit 5")]
    List(ListArguments),
    /// Show one whole: headers, body as text or hexadecimal, and the place that is wrong
    #[command(after_help = "Example: milepost dlq show pipelines/order_to_invoice.yaml milestones 4711")]
    Show(ShowArguments),
    /// Write them out as NDJSON, one object a letter; a body that is not text is in base64
    #[command(
        after_help = "Example: milepost dlq export pipelines/order_to_invoice.yaml --rule REQUIRED > letters.ndjson"
    )]
    Export(ExportArguments),
}

#[derive(Debug, Args)]
struct ListArguments {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    which: Which,
    /// Each dead letter instead of how many there are
    #[arg(long)]
    each: bool,
    /// With `--each`: so many, at most
    #[arg(long, value_name = "N", default_value_t = 20, requires = "each")]
    limit: u32,
    /// How they are printed
    #[arg(long, value_enum, default_value = "table")]
    format: Format,
}

#[derive(Debug, Args)]
struct ShowArguments {
    #[command(flatten)]
    common: Common,
    /// The source that read it
    #[arg(value_name = "SOURCE")]
    source: String,
    /// Its sequence, as `list --each` shows it
    #[arg(value_name = "SEQUENCE")]
    sequence: u64,
    /// Which event of the message, from 0; all of them if it is left out
    #[arg(value_name = "INDEX")]
    index: Option<u32>,
    /// How it is printed; JSON as `export` writes it
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

#[derive(Debug, Args)]
struct ExportArguments {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    which: Which,
}

/// Which dead letters.
#[derive(Debug, Args)]
struct Which {
    /// Only of this source
    #[arg(long = "of", value_name = "SOURCE")]
    of: Option<String>,
    /// Only those that break this rule
    #[arg(long, value_name = "RULE")]
    rule: Option<String>,
}

/// Does what was asked for.
pub(crate) async fn dlq(arguments: &Arguments) -> Outcome {
    match &arguments.command {
        Command::List(arguments) => list(arguments).await,
        Command::Show(arguments) => show(arguments).await,
        Command::Export(arguments) => export(arguments).await,
    }
}

async fn list(arguments: &ListArguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    let chosen = arguments.which.condition(&pipeline)?;
    let sql = match arguments.each {
        true => format!(
            "SELECT source, sequence, index, received_at, rule, place, reason FROM milepost.dead_letters {chosen} \
             ORDER BY received_at DESC NULLS LAST, sequence DESC, index DESC, source LIMIT {}",
            arguments.limit
        ),
        false => format!(
            "SELECT source, rule, count(*) AS letters, max(sequence) AS newest_sequence, max(received_at) AS newest_at \
             FROM milepost.dead_letters {chosen} GROUP BY source, rule ORDER BY letters DESC, source, rule"
        ),
    };
    let (schema, rows) = ask_or_read(&pipeline, &arguments.common, &sql).await?;
    output::print_rows(&schema, &rows, arguments.format)
}

async fn show(arguments: &ShowArguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    let which = Which { of: Some(arguments.source.clone()), rule: None };
    let mut chosen = format!("{} AND sequence = {}", which.condition(&pipeline)?, arguments.sequence);
    if let Some(index) = arguments.index {
        chosen.push_str(&format!(" AND index = {index}"));
    }
    let letters = letters(&pipeline, &arguments.common, &chosen).await?;
    if letters.is_empty() {
        let (source, sequence) = (&arguments.source, arguments.sequence);
        complain(&format!(
            "source `{source}` has no dead letter of sequence {sequence}; see `milepost dlq list --each`"
        ));
        return Err(Failure::No);
    }
    match arguments.format {
        ReportFormat::Table => {
            let texts: Vec<String> = letters.iter().map(Letter::text).collect();
            output::print_bytes(texts.join("\n").as_bytes())
        }
        ReportFormat::Json => output::print_bytes(ndjson(&letters)?.as_bytes()),
    }
}

async fn export(arguments: &ExportArguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    let chosen = arguments.which.condition(&pipeline)?;
    let letters = letters(&pipeline, &arguments.common, &chosen).await?;
    output::print_bytes(ndjson(&letters)?.as_bytes())
}

fn ndjson(letters: &[Letter]) -> Result<String, Error> {
    let mut text = String::new();
    for letter in letters {
        let line = serde_json::to_string(letter)
            .map_err(|error| Error::caused(ErrorKind::Internal, "writing a dead letter as JSON", error))?;
        text.push_str(&line);
        text.push('\n');
    }
    Ok(text)
}

async fn letters(pipeline: &Pipeline, common: &Common, chosen: &str) -> Result<Vec<Letter>, Failure> {
    let sql = format!("SELECT * FROM milepost.dead_letters {chosen} ORDER BY source, sequence, index");
    let (_, batches) = ask_or_read(pipeline, common, &sql).await?;
    let mut all = Vec::new();
    for batch in &batches {
        all.extend(Letter::of_rows(batch)?);
    }
    Ok(all)
}

impl Which {
    /// As SQL. A source that the pipeline has not is told.
    fn condition(&self, pipeline: &Pipeline) -> Result<String, Error> {
        let mut conditions = Vec::new();
        if let Some(source) = &self.of {
            let names = || pipeline.sources.iter().map(|source| &*source.name);
            if !names().any(|name| name == source) {
                let help = suggest(source, names());
                return Err(Error::new(ErrorKind::Definition, format!("there is no source `{source}`; {help}")));
            }
            conditions.push(format!("source = {}", literal(source)));
        }
        conditions.extend(self.rule.iter().map(|rule| format!("rule = {}", literal(rule))));
        Ok(if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) })
    }
}

/// A text in SQL.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
