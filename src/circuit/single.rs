//! A subquery as a value: exactly one row, whatever the subquery's rows are.
//!
//! No row shows as a null, one as itself. More than one has no value: an error row stands in place of it, and whatever needs
//! the value is withheld until the surplus rows go.

use std::sync::Arc;

use arrow::array::new_null_array;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result};

use crate::state::{Arrangement, Delta, NullKeys, StateReader, StateWriter, with_rows};

use super::{ErrorRow, Held, Keeps, Operator, StepContext};

/// See the module.
pub(super) struct Single {
    rows: Arrangement,
    total: i64,
    shown: Shown,
    schema: SchemaRef,
    text: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Shown {
    /// Before the first step.
    Nothing,
    /// The one row, or nulls.
    Row(RecordBatch),
    /// So many rows.
    TooMany(i64),
}

impl Single {
    /// Rows of this schema; `text` is how the author would recognise the subquery.
    pub(super) fn new(schema: SchemaRef, text: String) -> Self {
        let rows = Arrangement::new(Arc::clone(&schema), Vec::new(), NullKeys::Equal);
        Self { rows, total: 0, shown: Shown::Nothing, schema, text }
    }

    fn shows(&self) -> Result<Shown> {
        match self.total {
            0 => {
                let nulls = self.schema.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
                Ok(Shown::Row(with_rows(&self.schema, nulls, 1)?))
            }
            1 => {
                let row = self.rows.live_batches()?.into_iter().find(|batch| batch.num_rows() > 0);
                row.map(Shown::Row)
                    .ok_or_else(|| DataFusionError::Internal("the one row of a subquery is gone".to_owned()))
            }
            more => Ok(Shown::TooMany(more)),
        }
    }

    fn part(&self, shown: &Shown, weight: i64, parts: &mut Vec<Delta>, context: &mut StepContext) {
        match shown {
            Shown::Nothing => {}
            Shown::Row(row) => parts.push(Delta::new(row.clone(), vec![weight])),
            Shown::TooMany(rows) => context.errors.push(ErrorRow {
                job: usize::MAX,
                expression: self.text.clone(),
                reason: "the subquery has more than one row, so it has no value".to_owned(),
                row: format!("rows={rows}"),
                weight,
            }),
        }
    }
}

impl Operator for Single {
    fn step(&mut self, inputs: &[&Delta], context: &mut StepContext) -> Result<Delta> {
        if let Some(&input) = inputs.first() {
            self.rows.apply(input)?;
            self.total += input.weights().iter().sum::<i64>();
        }
        let now = self.shows()?;
        if now == self.shown {
            return Ok(Delta::empty(&self.schema));
        }
        let before = std::mem::replace(&mut self.shown, now.clone());
        let mut parts = Vec::new();
        self.part(&before, -1, &mut parts, context);
        self.part(&now, 1, &mut parts, context);
        Delta::concat(&self.schema, &parts)?.consolidate()
    }

    fn save(&self, state: &mut StateWriter) -> Result<()> {
        state.value(&(self.total, self.shown != Shown::Nothing))?;
        self.rows.save(state)
    }

    fn load(&mut self, state: &mut StateReader) -> Result<()> {
        let (total, shows) = state.value()?;
        self.rows.load(state)?;
        self.total = total;
        if shows {
            self.shown = self.shows()?;
        }
        Ok(())
    }

    fn keeps(&self) -> Keeps {
        Keeps::Rows
    }

    fn held(&self) -> Held {
        Held { rows: self.rows.rows(), bytes: self.rows.bytes() }
    }

    fn describe(&self) -> String {
        format!("the one row of {}", self.text)
    }
}
