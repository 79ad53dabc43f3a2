//! What was compared, and how it came out.

use serde::Serialize;

use crate::runtime::verify::Difference;

use super::super::output;

/// How a comparison came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// What is there is what should be there.
    Same,
    /// It is not.
    Differs,
    /// It can't be told.
    NotCompared,
}

/// One thing that was compared, or could not be.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    /// The job or source.
    pub(super) table: String,
    /// Where its rows were found.
    pub(super) place: String,
    /// As of which epoch.
    pub(super) epoch: u64,
    pub(super) verdict: Verdict,
    /// Rows that should be there.
    pub(super) rows: u64,
    /// Rows that should be there and are not.
    pub(super) missing: u64,
    /// Rows that are there and should not be.
    pub(super) extra: u64,
    /// What is to be said beside.
    pub(super) notes: Vec<String>,
    pub(super) missing_examples: Vec<String>,
    pub(super) extra_examples: Vec<String>,
}

impl Line {
    /// Something that can't be compared, and why.
    pub(super) fn unknown(table: &str, place: String, epoch: u64, why: String) -> Self {
        Self {
            verdict: Verdict::NotCompared,
            notes: vec![why],
            ..Self::of(table, place, epoch, &Difference::default())
        }
    }

    /// Something that is not as it should be, whatever its rows are.
    pub(super) fn broken(table: &str, place: String, epoch: u64, what: String) -> Self {
        Self { verdict: Verdict::Differs, notes: vec![what], ..Self::of(table, place, epoch, &Difference::default()) }
    }

    /// A comparison of rows.
    pub(super) fn of(table: &str, place: String, epoch: u64, difference: &Difference) -> Self {
        Self {
            table: table.to_owned(),
            place,
            epoch,
            verdict: if difference.is_none() { Verdict::Same } else { Verdict::Differs },
            rows: difference.expected,
            missing: difference.missing,
            extra: difference.extra,
            notes: Vec::new(),
            missing_examples: difference.missing_examples.clone(),
            extra_examples: difference.extra_examples.clone(),
        }
    }
}

/// A table of all that was compared, then what differs with some rows, then what could not be compared.
pub(super) fn text(lines: &[Line]) -> String {
    let header = ["table", "in", "epoch", "rows", "missing", "extra", "verdict"].map(str::to_owned);
    let rows: Vec<Vec<String>> = lines.iter().map(row).collect();
    let mut text = output::plain_table(&header, &rows);
    for line in lines {
        let kinds = [("missing", &line.missing_examples), ("extra", &line.extra_examples)];
        if line.notes.is_empty() && kinds.iter().all(|(_, examples)| examples.is_empty()) {
            continue;
        }
        text.push_str(&format!("\n`{}` in {}, as of epoch {}\n", line.table, line.place, line.epoch));
        line.notes.iter().for_each(|note| text.push_str(&format!("  {note}\n")));
        for (kind, examples) in kinds {
            examples.iter().for_each(|example| text.push_str(&format!("  {kind:<7}  {}\n", short(example))));
        }
    }
    text
}

fn row(line: &Line) -> Vec<String> {
    let verdict = match line.verdict {
        Verdict::Same => "same",
        Verdict::Differs => "DIFFERS",
        Verdict::NotCompared => "not compared",
    };
    let numbers = match line.verdict {
        Verdict::NotCompared => [const { String::new() }; 3],
        _ => [line.rows, line.missing, line.extra].map(|number| number.to_string()),
    };
    let [rows, missing, extra] = numbers;
    vec![line.table.clone(), line.place.clone(), line.epoch.to_string(), rows, missing, extra, verdict.to_owned()]
}

/// A row on one line that can be read.
fn short(row: &str) -> String {
    let line = output::on_one_line(row);
    match line.char_indices().nth(EXAMPLE_CHARS_MAX) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    }
}

const EXAMPLE_CHARS_MAX: usize = 300;
