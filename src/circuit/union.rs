//! UNION ALL: the deltas one after the other. Δ(L + R) = ΔL + ΔR.

use arrow::datatypes::SchemaRef;
use datafusion::error::Result;

use crate::state::Delta;

use super::{Operator, Outlook, StepContext};

/// Concatenates its inputs, by position of columns.
pub(crate) struct Union {
    pub(crate) schema: SchemaRef,
}

impl Operator for Union {
    fn step(&mut self, inputs: &[&Delta], _: &mut StepContext) -> Result<Delta> {
        let parts: Vec<Delta> = inputs.iter().map(|&input| input.clone()).collect();
        Delta::concat(&self.schema, &parts)?.consolidate()
    }

    fn learn(&mut self, inputs: &[&Outlook]) -> Outlook {
        Outlook::all(inputs)
    }

    fn describe(&self) -> String {
        "union all".to_owned()
    }
}
