//! Filter and projection: applied to the delta's rows, weights kept. Δσ(R) = σ(ΔR), Δπ(R) = π(ΔR).

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::common::cast::as_boolean_array;
use datafusion::error::Result;

use crate::state::{Delta, StateReader, StateWriter, with_rows};

use super::expression::{Compiled, all_true, evaluate_all};
use super::recipe::Recipe;
use super::{Operator, StepContext};

/// A predicate, then expressions over what passes it.
pub(crate) struct Map {
    pub(crate) predicate: Option<Compiled>,
    pub(crate) output: Output,
    pub(crate) schema: SchemaRef,
}

/// What a [`Map`] makes of a row.
pub(crate) enum Output {
    /// Some of its columns.
    Columns(Vec<usize>),
    /// The values of expressions.
    Expressions(Vec<Compiled>),
    /// Some of its columns, and the same values in every row.
    Placed(Vec<Place>),
    /// All its columns, then the values of expressions.
    Append(Vec<Compiled>),
    /// One row of constants, at the first step, whatever the input.
    Constant(Delta),
}

/// A column of [`Output::Placed`].
#[derive(Debug)]
pub(crate) enum Place {
    /// The input's column.
    Column(usize),
    /// A value.
    Value(ScalarValue),
}

impl Operator for Map {
    fn step(&mut self, inputs: &[&Delta], context: &mut StepContext) -> Result<Delta> {
        if let Output::Constant(delta) = &self.output {
            return Ok(if context.first { delta.clone() } else { Delta::empty(&self.schema) });
        }
        let Some(&input) = inputs.first() else { return Ok(Delta::empty(&self.schema)) };
        let passed = self.passed(input, context)?;
        if passed.is_empty() {
            return Ok(Delta::empty(&self.schema));
        }
        let result = match &self.output {
            Output::Columns(columns) => passed.project(columns)?.with_schema(&self.schema)?,
            Output::Expressions(expressions) => {
                let (kept, values) = evaluate_all(expressions, &passed, context)?;
                with_columns(&self.schema, values, &kept)?
            }
            Output::Placed(places) => {
                let column = |place: &Place| match place {
                    Place::Column(column) => Ok(Arc::clone(passed.batch().column(*column))),
                    Place::Value(value) => value.to_array_of_size(passed.len()),
                };
                with_columns(&self.schema, places.iter().map(column).collect::<Result<_>>()?, &passed)?
            }
            Output::Append(expressions) => {
                let (kept, values) = evaluate_all(expressions, &passed, context)?;
                kept.widened(&self.schema, values)?
            }
            Output::Constant(_) => Delta::empty(&self.schema),
        };
        result.consolidate()
    }

    fn save(&self, _: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn load(&mut self, _: &mut StateReader) -> Result<()> {
        Ok(())
    }

    fn columns_shown(&self) -> Option<&[usize]> {
        match &self.output {
            Output::Columns(columns) if self.predicate.is_none() => Some(columns),
            _ => None,
        }
    }

    fn describe(&self) -> String {
        let filter = self.predicate.as_ref().map(|predicate| format!("filter {}", predicate.text()));
        let names = || self.schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>().join(", ");
        let project = match &self.output {
            Output::Columns(columns) if self.predicate.is_some() && columns.len() == self.schema.fields().len() => None,
            Output::Constant(_) => Some("constant rows".to_owned()),
            _ => Some(format!("project {}", names())),
        };
        filter.into_iter().chain(project).collect::<Vec<_>>().join(", ")
    }
}

impl Map {
    /// What it computes.
    pub(super) fn recipe(&self) -> Recipe {
        let predicate = self.predicate.iter();
        let filtered = if self.predicate.is_some() { "filtered " } else { "" };
        match &self.output {
            Output::Columns(columns) => Recipe::new(format!("columns {columns:?}")).with(predicate),
            Output::Expressions(values) => Recipe::new(format!("{filtered}expressions")).with(predicate.chain(values)),
            Output::Placed(places) => Recipe::new(format!("placed {places:?}")).with(predicate),
            Output::Append(values) => Recipe::new(format!("{filtered}append")).with(predicate.chain(values)),
            Output::Constant(delta) => Recipe::new(format!("constant {delta:?}")),
        }
    }

    fn passed(&self, input: &Delta, context: &mut StepContext) -> Result<Delta> {
        let Some(predicate) = &self.predicate else { return Ok(input.clone()) };
        let (kept, mask) = evaluate_all(std::slice::from_ref(predicate), input, context)?;
        let Some(mask) = mask.first() else { return Ok(kept) };
        let mask = as_boolean_array(mask)?;
        if all_true(mask) { Ok(kept) } else { kept.filter(mask) }
    }
}

/// The columns under a schema, with the weights of `rows`.
pub(crate) fn with_columns(schema: &SchemaRef, columns: Vec<arrow::array::ArrayRef>, rows: &Delta) -> Result<Delta> {
    Ok(Delta::new(with_rows(schema, columns, rows.len())?, rows.weights().to_vec()))
}
