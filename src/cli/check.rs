//! `milepost check`.

use std::io::IsTerminal;

use clap::Args;

use crate::circuit::{Circuit, CompiledHistory, Maintenance};
use crate::definition::length;
use crate::definition::pipeline::{Identity, Input, Pipeline, Retention, SinkTarget, Snapshot, Source};
use crate::runtime::engine::build_circuit;
use crate::source::file::absent;

use super::options::{Common, ReportFormat};
use super::{Outcome, complain, output, prepared};

/// What `check` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// Print every operator too
    #[arg(long)]
    operators: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// Compiles everything and prints what came of it.
pub(crate) async fn check(arguments: &Arguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    let (circuit, absent) = (build_circuit(&pipeline).await, absent(&pipeline).await);
    let circuit = match circuit {
        Ok(circuit) if absent.errors.is_empty() => circuit,
        circuit => {
            let mut problems = circuit.err().unwrap_or_default();
            problems.extend(absent.errors);
            return Err(problems.into());
        }
    };
    if !absent.warnings.is_empty() {
        complain(&absent.warnings.render_warnings(std::io::stderr().is_terminal()));
    }
    if arguments.format == ReportFormat::Json {
        return output::print_json(&as_json(&pipeline, &circuit));
    }
    let mut text = format!("pipeline {}: {} operators\n\nsources\n", pipeline.name, circuit.describe().len());
    text.push_str(&output::plain_table(&header(&["name", "from", "rows"]), &source_rows(&pipeline)));
    text.push_str("\njobs, each behind those that it reads\n");
    text.push_str(&output::plain_table(&header(&["name", "kept up to date", "key", "reads"]), &job_rows(&circuit)));
    if !circuit.histories().is_empty() {
        text.push_str("\nhistories, by the clock\n");
        text.push_str(&output::plain_table(&header(&["name", "of", "since", "until"]), &history_rows(&circuit)));
    }
    text.push_str("\nstate\n");
    let jobs = circuit.jobs().iter().enumerate();
    let jobs = jobs.map(|(position, job)| vec![job.name.to_string(), grows_with(&circuit, position)]);
    let histories = circuit
        .histories()
        .iter()
        .map(|CompiledHistory { table, .. }| vec![table.name.to_string(), format!("every version of {}", table.of)]);
    let grows: Vec<Vec<String>> = jobs.chain(histories).collect();
    text.push_str(&output::plain_table(&header(&["table", "grows with"]), &grows));
    text.push_str("\nsinks\n");
    text.push_str(&output::plain_table(&header(&["job", "to"]), &sink_rows(&pipeline)));
    if arguments.operators {
        text.push_str("\noperators\n");
        text.push_str(&output::plain_table(&header(&["id", "job", "reads", "does"]), &operator_rows(&circuit)));
    }
    output::print_bytes(text.as_bytes())
}

fn header(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn source_rows(pipeline: &Pipeline) -> Vec<Vec<String>> {
    let row = |source: &Source| {
        let from = match &source.input {
            Input::JetStream { stream, subjects, .. } => format!("stream {stream}, {}", subjects.join(" ")),
            Input::Files(files) => files.to_string(),
        };
        let names = |columns: &[usize]| {
            let name = |&column: &usize| source.contract.columns.get(column).map_or("?", |column| column.name.as_str());
            columns.iter().map(name).collect::<Vec<_>>().join(", ")
        };
        let rows = match &source.identity {
            Identity::Append { unique } if unique.is_empty() => format!("every row is new{}", forgotten(source)),
            Identity::Append { unique } => match source.retain {
                Some(Retention::For(_)) => format!("the first of each {}{}", names(unique), forgotten(source)),
                _ => format!("the first of each {}; every key is kept{}", names(unique), forgotten(source)),
            },
            Identity::Upsert { key, snapshot: None, .. } => {
                format!("the latest of each {}{}", names(key), forgotten(source))
            }
            Identity::Upsert { key, snapshot: Some(Snapshot { by, version }), .. } => {
                format!("the latest of each {}, of the newest {} of each {}", names(key), names(&[*version]), names(by))
            }
        };
        vec![source.name.to_string(), from, rows]
    };
    pipeline.sources.iter().map(row).collect()
}

/// When a source's rows are forgotten, if they are.
fn forgotten(source: &Source) -> String {
    match &source.retain {
        None => String::new(),
        Some(Retention::For(behind)) => format!("; forgotten {} behind the watermark", length(*behind)),
        Some(Retention::Once { closes: (closes, _), .. }) => format!("; forgotten once {closes}"),
    }
}

fn job_rows(circuit: &Circuit) -> Vec<Vec<String>> {
    let row = |job: &crate::circuit::CompiledJob| {
        let key = crate::runtime::outlets::key_names(job).join(", ");
        vec![job.name.to_string(), maintenance(&job.maintenance), key, job.reads.join(", ")]
    };
    circuit.jobs().iter().map(row).collect()
}

fn history_rows(circuit: &Circuit) -> Vec<Vec<String>> {
    let row = |CompiledHistory { table, .. }: &CompiledHistory| {
        let [since, until] = table.times();
        vec![table.name.to_string(), table.of.to_string(), since.to_owned(), until.to_owned()]
    };
    circuit.histories().iter().map(row).collect()
}

/// What the state of a job grows with.
pub(super) fn grows_with(circuit: &Circuit, job: usize) -> String {
    let growth = circuit.growth(job);
    if growth.is_empty() { "nothing".to_owned() } else { growth.join("; ") }
}

/// A job's maintenance class, with the reasons.
pub(super) fn maintenance(class: &Maintenance) -> String {
    match class {
        Maintenance::Incremental => "incremental".to_owned(),
        Maintenance::Recompute(reasons) => format!("recompute: {}", reasons.join("; ")),
    }
}

fn sink_rows(pipeline: &Pipeline) -> Vec<Vec<String>> {
    let row = |sink: &crate::definition::pipeline::Sink| {
        let job = pipeline.jobs.get(sink.job).map_or_else(String::new, |job| job.name.to_string());
        let target = match &sink.target {
            SinkTarget::JetStream { stream, subject } => format!("stream {stream}, {subject}"),
            SinkTarget::Parquet { place, partition_by, every } if partition_by.is_empty() => {
                format!("Parquet {place}, every {every:?}")
            }
            SinkTarget::Parquet { place, partition_by, every } => {
                let columns: Vec<&str> = partition_by.iter().map(|(column, _)| column.as_str()).collect();
                format!("Parquet {place} by {}, every {every:?}", columns.join(", "))
            }
        };
        vec![job, target]
    };
    pipeline.sinks.iter().map(row).collect()
}

fn operator_rows(circuit: &Circuit) -> Vec<Vec<String>> {
    let names = |positions: &[usize]| {
        let jobs = positions.iter().filter_map(|&position| circuit.jobs().get(position));
        jobs.map(|job| job.name.to_string()).collect::<Vec<_>>().join(", ")
    };
    let row = |node: crate::circuit::NodeDescription| {
        let inputs = node.inputs.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
        vec![node.id.to_string(), names(&node.jobs), inputs, node.text]
    };
    circuit.describe().into_iter().map(row).collect()
}

fn as_json(pipeline: &Pipeline, circuit: &Circuit) -> serde_json::Value {
    let jobs: Vec<serde_json::Value> = circuit
        .jobs()
        .iter()
        .enumerate()
        .map(|(position, job)| {
            serde_json::json!({
                "name": &*job.name,
                "maintenance": maintenance(&job.maintenance),
                "state_grows_with": circuit.growth(position),
                "key": crate::runtime::outlets::key_names(job),
                "reads": job.reads,
                "columns": job.schema.fields().iter().map(|field| {
                    serde_json::json!({ "name": field.name(), "type": field.data_type().to_string() })
                }).collect::<Vec<_>>(),
            })
        })
        .collect();
    serde_json::json!({
        "pipeline": pipeline.name,
        "sources": source_rows(pipeline).into_iter().map(|row| serde_json::json!({
            "name": row.first(), "from": row.get(1), "rows": row.get(2),
        })).collect::<Vec<_>>(),
        "jobs": jobs,
        "histories": history_rows(circuit).into_iter().map(|row| serde_json::json!({
            "name": row.first(), "of": row.get(1), "since": row.get(2), "until": row.get(3),
        })).collect::<Vec<_>>(),
        "sinks": sink_rows(pipeline).into_iter().map(|row| serde_json::json!({
            "job": row.first(), "to": row.get(1),
        })).collect::<Vec<_>>(),
        "operators": circuit.describe().len(),
    })
}
