//! A case as a file: a pipeline with its sources' columns, the job's SQL (and the batch's, where the job has error rows), and
//! the rows as NDJSON, step by step.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::failing::Failing;
use super::node::{Column, Kind, Node, Piece};
use super::tables::{Row, Step, TableShape};

/// A query over tables with a history.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) tables: Vec<TableShape>,
    pub(super) query: Node,
    /// What fails, if anything may.
    pub(super) failing: Option<Failing>,
    pub(super) history: Vec<Step>,
}

const JOB: &str = "-- job.sql";
const BATCH: &str = "-- over the rows and groups that don't fail";
const STEP: &str = "# watermark ";

impl Case {
    /// The case as a file that can be kept in `tests/random_sql/`.
    pub(super) fn printed(&self) -> String {
        let mut text = String::from("pipeline: regression\nsources:\n");
        for table in &self.tables {
            let columns: Vec<String> =
                table.columns.iter().map(|(name, kind)| format!("{name}: \"{}\"", kind.sql())).collect();
            writeln!(text, "  {}: {{ {} }}", table.name, columns.join(", ")).expect("a text takes text");
        }
        let (job, batch) = (self.query.sql(), self.query.batch_sql());
        write!(text, "jobs:\n  job: {{ sql: job.sql }}\n\n{JOB}\n{job}\n").expect("a text takes text");
        if job != batch {
            write!(text, "\n{BATCH}\n{batch}\n").expect("a text takes text");
        }
        for step in &self.history {
            let watermark = step.watermark.map_or_else(|| "null".to_owned(), |watermark| watermark.to_string());
            writeln!(text, "\n{STEP}{watermark}").expect("a text takes text");
            for (table, changes) in self.tables.iter().zip(&step.changes) {
                for (row, weight) in changes {
                    let row: Map<String, Value> =
                        table.columns.iter().zip(row).map(|((name, _), value)| (name.clone(), json!(value))).collect();
                    let line = json!({ "table": table.name, "weight": weight, "row": row });
                    writeln!(text, "{line}").expect("a text takes text");
                }
            }
        }
        text
    }

    /// The case that [`Self::printed`] wrote.
    pub(super) fn parse(text: &str) -> Self {
        let mut case =
            Self { tables: Vec::new(), query: Node::query(Vec::new(), Vec::new()), failing: None, history: Vec::new() };
        let (mut job, mut batch) = (String::new(), String::new());
        let mut part = "pipeline";
        for line in text.lines() {
            match line {
                JOB => part = "job",
                BATCH => part = "batch",
                _ if line.starts_with(STEP) => {
                    part = "rows";
                    let watermark = line.trim_start_matches(STEP).parse().ok();
                    case.history.push(Step { watermark, changes: vec![Vec::new(); case.tables.len()] });
                }
                "" => {}
                _ if part == "job" => writeln!(job, "{line}").expect("a text takes text"),
                _ if part == "batch" => writeln!(batch, "{line}").expect("a text takes text"),
                _ if part == "rows" => case.read_row(line),
                _ => case.tables.extend(table(line)),
            }
        }
        if batch.is_empty() {
            batch.clone_from(&job);
        } else {
            case.failing = Some(Failing::Groups);
        }
        case.query = Node::query(Vec::new(), vec![Piece::Either { job, batch }]);
        case
    }

    fn read_row(&mut self, line: &str) {
        let line: Value = serde_json::from_str(line).expect("a row is JSON");
        let table = self.tables.iter().position(|table| line["table"] == table.name.as_str()).expect("a known table");
        let row: Row =
            self.tables[table].columns.iter().map(|(name, _)| line["row"][name].as_str().map(str::to_owned)).collect();
        let weight = line["weight"].as_i64().expect("a weight");
        self.history.last_mut().expect("a step stands first").changes[table].push((row, weight));
    }
}

/// `  t0: { k0: "TEXT", n0: "BIGINT" }`
fn table(line: &str) -> Option<TableShape> {
    let (name, columns) = line.trim().split_once(": { ")?;
    let column = |text: &str| -> Option<Column> {
        let (name, sql) = text.split_once(": ")?;
        let kind = Kind::ALL.into_iter().find(|kind| kind.sql() == sql.trim_matches('"'))?;
        Some((name.to_owned(), kind))
    };
    let columns: Option<Vec<Column>> = columns.trim_end_matches(" }").split("\", ").map(column).collect();
    Some(TableShape { name: name.to_owned(), columns: columns? })
}

/// The cases that are kept, by name.
pub(super) fn kept() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/random_sql");
    let mut cases: Vec<(String, Case)> = std::fs::read_dir(folder)
        .expect("the cases are there")
        .map(|entry| entry.expect("readable").path())
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, Case::parse(&std::fs::read_to_string(path).expect("readable")))
        })
        .collect();
    cases.sort_by(|(one, _), (other, _)| one.cmp(other));
    cases
}
