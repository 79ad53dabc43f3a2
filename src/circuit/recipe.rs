//! What a node computes. Nodes of one recipe over the same inputs are one node, in whichever jobs they stand: equal parts of
//! jobs hold their state once.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::physical_expr::PhysicalExpr;

use super::expression::Compiled;

/// All that decides what an operator's output is, given its inputs.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Recipe {
    what: String,
    expressions: Vec<Arc<dyn PhysicalExpr>>,
}

impl Recipe {
    /// An operator of which this text says everything but its compiled expressions.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), expressions: Vec::new() }
    }

    /// With further expressions, and with their text, which error rows show.
    pub(super) fn with<'a>(mut self, expressions: impl IntoIterator<Item = &'a Compiled>) -> Self {
        for compiled in expressions {
            self.what.push('\n');
            self.what.push_str(compiled.text());
            self.expressions.push(Arc::clone(compiled.expression()));
        }
        self
    }
}

/// A recipe with its inputs and the columns of its output.
pub(super) type NodeIdentity = (Recipe, Vec<usize>, SchemaRef);
