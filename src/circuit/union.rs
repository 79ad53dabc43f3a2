//! UNION ALL: the deltas one after the other. Δ(L + R) = ΔL + ΔR.

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use crate::state::{Delta, StateReader, StateWriter};

use super::{Operator, StepContext};

/// Concatenates its inputs, by position of columns.
pub(crate) struct Union {
    pub(crate) schema: SchemaRef,
}

impl Operator for Union {
    fn step(&mut self, inputs: &[&Delta], _: &mut StepContext) -> Result<Delta> {
        let parts: Vec<Delta> = inputs.iter().map(|&input| input.clone()).collect();
        Delta::concat(&self.schema, &parts)?.consolidate()
    }

    fn save(&self, _: &mut StateWriter) -> Result<()> {
        Ok(())
    }

    fn load(&mut self, _: &mut StateReader) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        "union all".to_owned()
    }
}
