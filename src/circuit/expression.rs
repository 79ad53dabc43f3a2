//! Expressions over the rows of a delta, evaluated by DataFusion; the rows that one fails on are set apart.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};

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
        Ok(Self { expression: compiled, text: expression.human_display().to_string() })
    }

    /// The values for all rows, or what failed on some row.
    pub(crate) fn evaluate(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        self.expression.evaluate(batch)?.into_array(batch.num_rows())
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
    let values: Result<Vec<ArrayRef>> =
        expressions.iter().map(|expression| expression.evaluate(delta.batch())).collect();
    match values {
        Ok(values) => Ok((delta.clone(), values)),
        Err(_) => {
            let good = set_failures_apart(expressions, delta, context);
            let kept = delta.filter(&good)?;
            let values =
                expressions.iter().map(|expression| expression.evaluate(kept.batch())).collect::<Result<_>>()?;
            Ok((kept, values))
        }
    }
}

/// True for the rows that every expression evaluates; an error row for each of the others.
fn set_failures_apart(expressions: &[Compiled], delta: &Delta, context: &mut StepContext) -> BooleanArray {
    let good = (0..delta.len()).map(|row| {
        let single = delta.batch().slice(row, 1);
        let failure = expressions.iter().find_map(|expression| {
            expression.evaluate(&single).err().map(|error| (expression.text(), error.find_root().strip_backtrace()))
        });
        if let Some((expression, reason)) = failure {
            context.errors.push(ErrorRow {
                job: usize::MAX,
                expression: expression.to_owned(),
                reason,
                row: row_text(&single),
                weight: delta.weights()[row],
            });
            return Some(false);
        }
        Some(true)
    });
    good.collect()
}

/// The first row of a batch as `column=value` pairs.
fn row_text(batch: &RecordBatch) -> String {
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
