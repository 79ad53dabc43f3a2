//! `milepost explain`.

use std::collections::BTreeMap;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use clap::Args;

use crate::circuit::NodeDescription;
use crate::diagnostic::suggest;
use crate::error::{Error, ErrorKind};
use crate::runtime::engine::build_circuit;
use crate::runtime::outlets::state_directory;
use crate::runtime::was_run;

use super::check::{grows_with, maintenance};
use super::options::{Common, ReportFormat};
use super::query::ask_or_read;
use super::{Failure, Outcome, output, prepared};

/// What `explain` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The job
    #[arg(value_name = "JOB")]
    job: String,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// Rows and bytes of an operator.
type HeldNow = (i64, i64);

/// Prints the operators of a job, each behind those that it reads.
pub(crate) async fn explain(arguments: &Arguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    let circuit = build_circuit(&pipeline).await?;
    let Some(position) = circuit.jobs().iter().position(|job| *job.name == *arguments.job) else {
        let help = suggest(&arguments.job, circuit.jobs().iter().map(|job| &*job.name));
        return Err(Error::new(ErrorKind::Definition, format!("there is no job `{}`; {help}", arguments.job)).into());
    };
    let nodes = circuit.operators_of(position);
    let held = if was_run(&state_directory(&arguments.common.home, &pipeline.name)) {
        let sql = "SELECT id, operator, rows, bytes FROM milepost.operators";
        let (_, rows) = ask_or_read(&pipeline, &arguments.common, sql).await?;
        Some(held_now(&nodes, &rows)?)
    } else {
        None
    };
    let class = circuit.jobs().get(position).map_or_else(String::new, |job| maintenance(&job.maintenance));
    let grows = grows_with(&circuit, position);
    if arguments.format == ReportFormat::Json {
        return output::print_json(&serde_json::json!({
            "job": arguments.job,
            "maintenance": class,
            "state_grows_with": circuit.growth(position),
            "operators": nodes.iter().map(|node| as_json(node, held.as_ref())).collect::<Vec<_>>(),
        }));
    }
    let mut text = format!("job {}\nkept up to date: {class}\nstate grows with: {grows}\n\n", arguments.job);
    let names: Vec<String> = ["id", "reads", "rows", "bytes", "does"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = nodes.iter().map(|node| row(node, held.as_ref())).collect();
    text.push_str(&output::plain_table(&names, &rows));
    if held.is_none() {
        text.push_str(&format!(
            "\nrows and bytes are told once the pipeline has run under `--home {}`\n",
            arguments.common.home.display()
        ));
    }
    output::print_bytes(text.as_bytes())
}

/// What the operators hold, as far as those of the process are the same.
fn held_now(nodes: &[NodeDescription], batches: &[RecordBatch]) -> Result<BTreeMap<usize, HeldNow>, Failure> {
    let mut known = BTreeMap::new();
    for batch in batches {
        let number = |name: &str| batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
        let operators = batch.column_by_name("operator").and_then(|column| column.as_string_view_opt());
        let (Some(ids), Some(rows), Some(bytes), Some(operators)) =
            (number("id"), number("rows"), number("bytes"), operators)
        else {
            return Err(Error::new(ErrorKind::Internal, "`milepost.operators` has other columns than expected").into());
        };
        for (((id, rows), bytes), operator) in ids.iter().zip(rows).zip(bytes).zip(operators) {
            let node = nodes.iter().find(|node| i64::try_from(node.id).ok() == id);
            if let Some(node) = node.filter(|node| Some(node.text.as_str()) == operator) {
                known.insert(node.id, (rows.unwrap_or(0), bytes.unwrap_or(0)));
            }
        }
    }
    Ok(known)
}

fn row(node: &NodeDescription, held: Option<&BTreeMap<usize, HeldNow>>) -> Vec<String> {
    let inputs = node.inputs.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    let held = held.and_then(|held| held.get(&node.id));
    let shown = |number: Option<i64>| number.filter(|&number| number > 0).map_or_else(String::new, |n| n.to_string());
    vec![
        node.id.to_string(),
        inputs,
        shown(held.map(|&(rows, _)| rows)),
        shown(held.map(|&(_, bytes)| bytes)),
        node.text.clone(),
    ]
}

fn as_json(node: &NodeDescription, held: Option<&BTreeMap<usize, HeldNow>>) -> serde_json::Value {
    let held = held.and_then(|held| held.get(&node.id));
    serde_json::json!({
        "id": node.id,
        "inputs": node.inputs,
        "operator": node.text,
        "rows": held.map(|&(rows, _)| rows),
        "bytes": held.map(|&(_, bytes)| bytes),
    })
}
