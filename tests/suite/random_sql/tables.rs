//! Random tables, and what changes in them step by step.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use milepost::definition::contract::utc_timestamp;
use milepost::state::Delta;

use crate::oracle::Random;

use super::expression::{below, chance, pick};
use super::node::{Column, Kind, columns};

/// A table's name and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableShape {
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
}

/// A row as text, column by column.
pub(super) type Row = Vec<Option<String>>;

/// What changes in each table, row by row, and the watermark.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) watermark: Option<i64>,
    pub(super) changes: Vec<Vec<(Row, i64)>>,
}

impl TableShape {
    pub(super) fn schema(&self) -> SchemaRef {
        let field = |(name, kind): &Column| Field::new(name, arrow_type(*kind), true);
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }

    pub(super) fn batch(&self, rows: &[Row]) -> RecordBatch {
        let column = |(place, (_, kind)): (usize, &Column)| -> ArrayRef {
            let texts: StringArray = rows.iter().map(|row| row[place].as_deref()).collect();
            let values = cast(&texts, &arrow_type(*kind)).expect("values of their kind");
            assert_eq!(values.null_count(), texts.iter().filter(Option::is_none).count(), "values of their kind");
            values
        };
        let columns = self.columns.iter().enumerate().map(column).collect();
        RecordBatch::try_new(self.schema(), columns).expect("columns of the schema")
    }

    pub(super) fn delta(&self, changes: &[(Row, i64)]) -> Delta {
        let (rows, weights): (Vec<Row>, Vec<i64>) = changes.iter().cloned().unzip();
        Delta::new(self.batch(&rows), weights).consolidate().expect("rows of one schema")
    }
}

fn arrow_type(kind: Kind) -> DataType {
    match kind {
        Kind::Text => DataType::Utf8View,
        Kind::Integer => DataType::Int64,
        Kind::Decimal => DataType::Decimal128(18, 3),
        Kind::Double => DataType::Float64,
        Kind::Boolean => DataType::Boolean,
        Kind::Time => utc_timestamp(),
        Kind::Date => DataType::Date32,
    }
}

/// Two or three tables; every kind is in one of them at least.
pub(super) fn tables(random: &mut Random) -> Vec<TableShape> {
    let count = 2 + below(random, 2);
    let mut kinds: Vec<Vec<Kind>> =
        (0..count).map(|_| (0..3 + below(random, 5)).map(|_| pick(random, &Kind::ALL)).collect()).collect();
    for kind in Kind::ALL {
        let table = below(random, count);
        kinds[table].push(kind);
    }
    let table =
        |(number, kinds): (usize, Vec<Kind>)| TableShape { name: format!("t{number}"), columns: columns(&kinds) };
    kinds.into_iter().enumerate().map(table).collect()
}

/// Values that many rows share, values that few do, and those that are special.
fn value(random: &mut Random, kind: Kind, hot: bool) -> Option<String> {
    if random.below(10) == 0 {
        return None;
    }
    if hot {
        return Some(values(kind)[0].to_owned());
    }
    Some(pick(random, values(kind)).to_owned())
}

fn values(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Text => {
            &["hot", "k-1", "k-2", "k-3", "K-1", "", "7", "-5", "a text that is longer than twelve bytes", "é%_"]
        }
        Kind::Integer => &["1", "0", "2", "3", "-3", "4", "7"],
        Kind::Decimal => &["1.500", "0.000", "-2.125", "99.999", "0.001", "12.000"],
        Kind::Double => &["1.5", "0.0", "-0.0", "NaN", "inf", "-inf", "0.1", "0.2", "1e16", "-2.5"],
        Kind::Boolean => &["true", "false"],
        Kind::Time => &[
            "1970-01-01T01:00:00Z",
            "1970-01-01T01:00:00.000001Z",
            "1970-01-01T02:30:00Z",
            "1970-01-01T09:59:59Z",
            "1969-12-31T23:00:00Z",
            "1970-01-02T00:00:00Z",
        ],
        Kind::Date => &["1970-01-02", "1970-01-31", "1969-12-31", "2024-02-29"],
    }
}

fn row(random: &mut Random, table: &TableShape) -> Row {
    let hot = chance(random, 30);
    let mut value = |kind: Kind| {
        let hot = hot && chance(random, 80);
        value(random, kind, hot)
    };
    table.columns.iter().map(|(_, kind)| value(*kind)).collect()
}

/// A few steps; some are empty, some take everything away, and rows may come and go in one.
pub(super) fn history(random: &mut Random, tables: &[TableShape]) -> Vec<Step> {
    let mut held: Vec<Vec<Row>> = vec![Vec::new(); tables.len()];
    let mut watermark = None;
    (0..3 + random.below(3))
        .map(|_| {
            let changes = match random.below(12) {
                0 => vec![Vec::new(); tables.len()],
                1 => held.iter_mut().map(|rows| rows.drain(..).map(|row| (row, -1)).collect()).collect(),
                _ => tables.iter().zip(&mut held).map(|(table, rows)| changes(random, table, rows)).collect(),
            };
            if random.below(2) == 0 {
                let more = i64::try_from(random.below(300)).expect("small") * 60_000_000;
                watermark = Some(watermark.unwrap_or(0) + more);
            }
            Step { watermark, changes }
        })
        .collect()
}

fn changes(random: &mut Random, table: &TableShape, held: &mut Vec<Row>) -> Vec<(Row, i64)> {
    let mut found = Vec::new();
    for _ in 0..random.below(12) {
        match held.len() {
            rows if rows > 0 && chance(random, 25) => {
                found.push((held.swap_remove(below(random, rows)), -1));
            }
            rows if rows > 0 && chance(random, 20) => {
                let place = below(random, rows);
                let mut updated = held[place].clone();
                let column = below(random, updated.len());
                updated[column] = value(random, table.columns[column].1, false);
                found.push((std::mem::replace(&mut held[place], updated.clone()), -1));
                found.push((updated, 1));
            }
            rows => {
                let again = (rows > 0 && chance(random, 12)).then(|| held[0].clone());
                let row = again.unwrap_or_else(|| row(random, table));
                held.push(row.clone());
                found.push((row, 1));
            }
        }
    }
    found
}

/// The rows that are there after a step's changes.
pub(super) fn apply(held: &mut [Vec<Row>], step: &Step) {
    for (rows, changes) in held.iter_mut().zip(&step.changes) {
        for (row, weight) in changes {
            if *weight > 0 {
                rows.push(row.clone());
            } else if let Some(place) = rows.iter().position(|held| held == row) {
                rows.swap_remove(place);
            }
        }
    }
}
