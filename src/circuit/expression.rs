//! Expressions over the rows of a delta, evaluated by DataFusion; the rows that one fails on are set apart.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

use crate::plan::{as_written, plain_literals};
use crate::state::Delta;

use super::{ErrorRow, StepContext};

/// An expression, compiled once.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    expression: Arc<dyn PhysicalExpr>,
    text: String,
}

impl Compiled {
    /// Compiles an expression over rows of `schema`.
    pub(crate) fn new(expression: &Expr, schema: &DFSchema) -> Result<Self> {
        let compiled =
            create_physical_expr(expression, schema, &ExecutionProps::new(), &PhysicalPlanningContext::default())?;
        let text = match as_written(expression) {
            Expr::Alias(alias) => format!("{} AS {}", alias.expr.human_display(), alias.name),
            other => other.human_display().to_string(),
        };
        Ok(Self { expression: compiled, text: plain_literals(&text) })
    }

    /// The values for all rows, or what failed on some row.
    pub(crate) fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        self.expression.evaluate(batch)?.into_array(batch.num_rows())
    }

    /// The expression itself.
    pub(crate) fn expression(&self) -> &Arc<dyn PhysicalExpr> {
        &self.expression
    }

    /// The expression as its author would recognise it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// Evaluates all expressions over a delta. Rows on which one fails become error rows of the step and are left out of the
/// delta that comes back with the values of the others.
pub(crate) fn evaluate_all(
    expressions: &[Compiled],
    delta: &Delta,
    context: &mut StepContext,
) -> Result<(Delta, Vec<ArrayRef>)> {
    match evaluate_together(expressions, delta.batch()) {
        Ok(values) => Ok((delta.clone(), values)),
        Err(_) => {
            let (good, values) = evaluate_apart(expressions, delta, context)?;
            Ok((delta.filter(&good)?, values))
        }
    }
}

/// The same where some row is known to fail: which rows are good, and the values of these.
///
/// The batch is halved until what fails stands alone. Whether a row fails can't depend on its company: a part that does
/// not fail is taken as it is, and a condition that protects another (`x <> 0 AND 1 / x > 2`) protects it only where it
/// holds for no row of the part.
pub(super) fn evaluate_apart(
    expressions: &[Compiled],
    delta: &Delta,
    context: &mut StepContext,
) -> Result<(BooleanArray, Vec<ArrayRef>)> {
    let batch = delta.batch();
    let mut parts: Vec<Vec<ArrayRef>> = vec![Vec::new(); expressions.len()];
    let mut good = vec![true; batch.num_rows()];
    let mut left: Vec<std::ops::Range<usize>> = std::iter::once(0..batch.num_rows()).collect();
    while let Some(rows) = left.pop() {
        let part = batch.slice(rows.start, rows.len());
        match evaluate_together(expressions, &part) {
            Ok(values) => parts.iter_mut().zip(values).for_each(|(parts, value)| parts.push(value)),
            Err((expression, reason)) if rows.len() <= 1 => {
                let Some(held) = good.get_mut(rows.start) else { continue };
                *held = false;
                let weight = delta.weights()[rows.start];
                context.errors.push(ErrorRow { job: usize::MAX, expression, reason, row: row_text(&part), weight });
            }
            Err(_) => {
                let middle = rows.start + rows.len() / 2;
                left.push(middle..rows.end);
                left.push(rows.start..middle);
            }
        }
    }
    let values = expressions.iter().zip(parts).map(|(expression, parts)| {
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        match parts.is_empty() {
            true => Ok(new_empty_array(&expression.expression.data_type(batch.schema_ref())?)),
            false => Ok(concat(&parts)?),
        }
    });
    Ok((good.into(), values.collect::<Result<_>>()?))
}

/// The values of all expressions, or the first expression that fails and why.
fn evaluate_together(expressions: &[Compiled], batch: &RecordBatch) -> Result<Vec<ArrayRef>, (String, String)> {
    let failure = |expression: &Compiled, error: DataFusionError| {
        (expression.text().to_owned(), error.find_root().strip_backtrace())
    };
    expressions
        .iter()
        .map(|expression| expression.evaluate(batch).map_err(|error| failure(expression, error)))
        .collect()
}

/// The first row of a batch as `column=value` pairs.
pub(crate) fn row_text(batch: &RecordBatch) -> String {
    let options = FormatOptions::default().with_null("null");
    let pairs = batch.schema_ref().fields().iter().zip(batch.columns()).map(|(field, column)| {
        let value = ArrayFormatter::try_new(column.as_ref(), &options)
            .map_or_else(|_| "?".to_owned(), |formatter| formatter.value(0).to_string());
        format!("{}={value}", field.name())
    });
    pairs.collect::<Vec<_>>().join(", ")
}

/// The Arrow schema that the rows of a plan node have inside the circuit: its columns, all nullable.
pub(crate) fn row_schema(schema: &DFSchema) -> SchemaRef {
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

/// A column of nulls.
pub(crate) fn nulls(schema: &SchemaRef, column: usize, rows: usize) -> ArrayRef {
    arrow::array::new_null_array(schema.field(column).data_type(), rows)
}

/// Whether a mask lets every row through.
pub(crate) fn all_true(mask: &BooleanArray) -> bool {
    mask.null_count() == 0 && mask.true_count() == mask.len()
}
