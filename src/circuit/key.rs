//! The key that a job declares: a row with a null in it is named by nothing, so it becomes an error row in place of output.
//! Δ(key(R)) = key(ΔR): the rows of the delta are looked at one by one, weights kept.

use arrow::array::{Array, BooleanArray};
use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use crate::state::{Delta, StateReader, StateWriter};

use super::expression::row_text;
use super::{ErrorRow, Operator, StepContext};

/// Lets rows through whose key columns are all there.
pub(super) struct WholeKeys {
    /// The key columns.
    pub(super) key: Vec<usize>,
    pub(super) schema: SchemaRef,
}

impl Operator for WholeKeys {
    fn step(&mut self, inputs: &[&Delta], context: &mut StepContext) -> Result<Delta> {
        let Some(&input) = inputs.first() else { return Ok(Delta::empty(&self.schema)) };
        let batch = input.batch();
        let nulls: Vec<_> = self
            .key
            .iter()
            .filter_map(|&column| Some((column, batch.column(column).logical_nulls()?)))
            .filter(|(_, nulls)| nulls.null_count() > 0)
            .collect();
        if nulls.is_empty() {
            return Ok(input.clone());
        }
        let whole: BooleanArray =
            (0..input.len()).map(|row| Some(nulls.iter().all(|(_, nulls)| nulls.is_valid(row)))).collect();
        for row in (0..input.len()).filter(|&row| !whole.value(row)) {
            let missing = nulls.iter().filter(|(_, nulls)| nulls.is_null(row));
            let names: Vec<&str> = missing.map(|(column, _)| self.schema.field(*column).name().as_str()).collect();
            context.errors.push(ErrorRow {
                job: usize::MAX,
                expression: names.join(", "),
                reason: "null in the job's key".to_owned(),
                row: row_text(&batch.slice(row, 1)),
                weight: input.weights()[row],
            });
        }
        input.filter(&whole)
    }

    fn save(&self, _: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn load(&mut self, _: &mut StateReader) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.key.iter().map(|&column| self.schema.field(column).name().as_str()).collect();
        format!("require {}", names.join(", "))
    }
}
