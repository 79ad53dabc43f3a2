//! Comparisons with the watermark: a flag a row, which flips once, when the watermark passes the row's own time.
//!
//! The operator appends one boolean column for each comparison `t < w`, `t <= w`, `t > w`, `t >= w`; the filters and
//! CASEs above read it like any column. Rows whose flags can still flip wait, ordered by the watermark at which they do;
//! an epoch costs the rows of its delta and the rows that flip. A null on either side is a null flag, as in a batch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, TimestampMicrosecondArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::RowConverter;
use datafusion::error::{DataFusionError, Result};

use crate::plan::Relation;
use crate::state::{Delta, StateReader, StateWriter, row_bytes, row_converter, with_rows};
use crate::types::Micros;

use super::expression::{Compiled, evaluate_all};
use super::recipe::Recipe;
use super::{Held, Keeps, Operator, StepContext, saved};

/// One comparison of a row's own time with the watermark.
pub(crate) struct Comparison {
    /// The row's time.
    pub(crate) time: Compiled,
    /// `time OP watermark`.
    pub(crate) relation: Relation,
}

/// See the module.
pub(crate) struct Temporal {
    comparisons: Vec<Comparison>,
    schema: SchemaRef,
    converter: RowConverter,
    waiting: BTreeMap<Micros, BTreeMap<Box<[u8]>, i64>>,
    watermark: Option<Micros>,
}

/// The first watermark at which the flag is not what it was before.
fn flips_at(relation: Relation, time: Micros) -> Micros {
    match relation {
        Relation::NotAfter | Relation::After => time,
        Relation::Before | Relation::NotBefore => time.saturating_add(1),
    }
}

/// The flag once the watermark has reached [`flips_at`].
fn passed(relation: Relation) -> bool {
    matches!(relation, Relation::Before | Relation::NotAfter)
}

impl Temporal {
    /// Appends a flag for each comparison to the rows of `input`; `schema` is `input` and the flags.
    pub(crate) fn new(comparisons: Vec<Comparison>, input: &SchemaRef, schema: SchemaRef) -> Result<Self> {
        Ok(Self { comparisons, schema, converter: row_converter(input)?, waiting: BTreeMap::new(), watermark: None })
    }

    /// What the operator computes.
    pub(super) fn recipe(comparisons: &[Comparison]) -> Recipe {
        let relations: Vec<Relation> = comparisons.iter().map(|comparison| comparison.relation).collect();
        Recipe::new(format!("watermark {relations:?}")).with(comparisons.iter().map(|comparison| &comparison.time))
    }

    /// For each row the watermark at which each comparison flips; none where the row's time is null.
    fn flips(&self, times: &[ArrayRef]) -> Result<Vec<Vec<Option<Micros>>>> {
        self.comparisons
            .iter()
            .zip(times)
            .map(|(comparison, times)| {
                let times = times.as_any().downcast_ref::<TimestampMicrosecondArray>().ok_or_else(|| {
                    DataFusionError::Internal("a time compared with the watermark is not in microseconds".to_owned())
                })?;
                Ok(times.iter().map(|time| time.map(|time| flips_at(comparison.relation, time))).collect())
            })
            .collect()
    }

    /// The rows with their flags as of `watermark`.
    fn flagged(
        &self,
        rows: &RecordBatch,
        weights: Vec<i64>,
        flips: &[Vec<Option<Micros>>],
        watermark: Option<Micros>,
    ) -> Result<Delta> {
        let flags = self.comparisons.iter().zip(flips).map(|(comparison, flips)| {
            let flag = |flip: &Option<Micros>| {
                let (flip, watermark) = ((*flip)?, watermark?);
                Some((watermark >= flip) == passed(comparison.relation))
            };
            Arc::new(flips.iter().map(flag).collect::<BooleanArray>()) as ArrayRef
        });
        let columns: Vec<ArrayRef> = rows.columns().iter().cloned().chain(flags).collect();
        Ok(Delta::new(with_rows(&self.schema, columns, rows.num_rows())?, weights))
    }

    /// The next watermark at which a row changes, after `watermark`; the first one ever where none is known yet.
    fn next_flip(row: usize, flips: &[Vec<Option<Micros>>], watermark: Option<Micros>) -> Option<Micros> {
        let mut pending = flips.iter().filter_map(|flips| flips.get(row).copied().flatten());
        match watermark {
            None => pending.next().map(|_| Micros::MIN),
            Some(watermark) => pending.filter(|&flip| flip > watermark).min(),
        }
    }

    fn wait(&mut self, rows: &RecordBatch, weights: &[i64], flips: &[Vec<Option<Micros>>]) -> Result<()> {
        let encoded = row_bytes(&self.converter, rows)?;
        for (row, &weight) in weights.iter().enumerate() {
            let Some(flip) = Self::next_flip(row, flips, self.watermark) else { continue };
            let bucket = self.waiting.entry(flip).or_default();
            let count = bucket.entry(encoded.row(row).data().into()).or_insert(0);
            *count += weight;
            if *count == 0 {
                bucket.remove(encoded.row(row).data());
                if bucket.is_empty() {
                    self.waiting.remove(&flip);
                }
            }
        }
        Ok(())
    }

    /// The rows that the watermark passes on its way from the last one to `watermark`.
    fn advance(&mut self, watermark: Micros, context: &mut StepContext) -> Result<Vec<Delta>> {
        let later = watermark.checked_add(1).map_or_else(BTreeMap::new, |next| self.waiting.split_off(&next));
        let passed = std::mem::replace(&mut self.waiting, later);
        let before = self.watermark.replace(watermark);
        if passed.is_empty() {
            return Ok(Vec::new());
        }
        let (rows, weights): (Vec<Box<[u8]>>, Vec<i64>) = passed.into_values().flatten().unzip();
        let parser = self.converter.parser();
        let mut columns = self.converter.convert_rows(rows.iter().map(|row| parser.parse(row)))?;
        // Rows without columns have one in their bytes.
        columns.truncate(self.schema.fields().len() - self.comparisons.len());
        let fields: Vec<_> = self.schema.fields().iter().take(columns.len()).cloned().collect();
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        let batch = with_rows(&schema, columns, rows.len())?;
        let (delta, times) = self.times(&Delta::new(batch, weights), context)?;
        let flips = self.flips(&times)?;
        let gone = delta.weights().iter().map(|weight| -weight).collect();
        let before = self.flagged(delta.batch(), gone, &flips, before)?;
        let after = self.flagged(delta.batch(), delta.weights().to_vec(), &flips, self.watermark)?;
        self.wait(delta.batch(), delta.weights(), &flips)?;
        Ok(vec![before, after])
    }

    fn times(&self, delta: &Delta, context: &mut StepContext) -> Result<(Delta, Vec<ArrayRef>)> {
        let expressions: Vec<Compiled> = self.comparisons.iter().map(|comparison| comparison.time.clone()).collect();
        evaluate_all(&expressions, delta, context)
    }
}

impl Operator for Temporal {
    fn step(&mut self, inputs: &[&Delta], context: &mut StepContext) -> Result<Delta> {
        let mut parts = match context.watermark {
            Some(watermark) if self.watermark != Some(watermark) => self.advance(watermark, context)?,
            _ => Vec::new(),
        };
        if let Some(&input) = inputs.first().filter(|input| !input.is_empty()) {
            let (delta, times) = self.times(input, context)?;
            let flips = self.flips(&times)?;
            parts.push(self.flagged(delta.batch(), delta.weights().to_vec(), &flips, self.watermark)?);
            self.wait(delta.batch(), delta.weights(), &flips)?;
        }
        Delta::concat(&self.schema, &parts)?.consolidate()
    }

    fn follows_watermark(&self) -> bool {
        true
    }

    fn save(&self, state: &mut StateWriter) -> Result<()> {
        let rows =
            || self.waiting.iter().flat_map(|(&flip, rows)| rows.iter().map(move |(row, &weight)| (flip, row, weight)));
        state.value(&self.watermark)?;
        state.rows(saved::batch([
            ("flip", saved::numbers(rows().map(|(flip, _, _)| flip))),
            ("row", saved::bytes(rows().map(|(_, row, _)| &**row))),
            ("weight", saved::numbers(rows().map(|(_, _, weight)| weight))),
        ])?);
        Ok(())
    }

    fn load(&mut self, state: &mut StateReader) -> Result<()> {
        self.watermark = state.value()?;
        let held = state.rows()?;
        let (flips, rows) = (saved::numbers_of(&held, 0)?, saved::bytes_of(&held, 1)?);
        for ((flip, row), weight) in flips.into_iter().zip(rows).zip(saved::numbers_of(&held, 2)?) {
            self.waiting.entry(flip).or_default().insert(row, weight);
        }
        Ok(())
    }

    fn keeps(&self) -> Keeps {
        Keeps::WaitingRows
    }

    fn held(&self) -> Held {
        let rows = self.waiting.values().map(BTreeMap::len).sum();
        let bytes = self.waiting.values().flat_map(BTreeMap::keys).map(|row| row.len() + 48).sum();
        Held { rows, bytes }
    }

    fn describe(&self) -> String {
        let times: Vec<&str> = self.comparisons.iter().map(|comparison| comparison.time.text()).collect();
        format!("wait for the watermark to pass {}", times.join(", "))
    }
}
