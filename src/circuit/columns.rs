//! Expressions as columns of their input, each computed once: a row on which one fails is set apart alone, and once.

use datafusion::common::Column;
use datafusion::logical_expr::Expr;

use super::compile::{Compiler, Input, Problem, column_index};

/// An input with the expressions that are to be appended to it.
pub(super) struct Columns {
    input: Input,
    computed: Vec<(String, Expr)>,
}

impl Columns {
    /// Nothing yet beside the input's own columns.
    pub(super) fn of(input: Input) -> Self {
        Self { input, computed: Vec::new() }
    }

    /// The expression itself if it is a column of the input or a literal, which some arguments have to be; else the column that
    /// it will be.
    pub(super) fn column_of(&mut self, expression: &Expr) -> Expr {
        match expression {
            Expr::Literal(..) => expression.clone(),
            other => self.column(other),
        }
    }

    /// The expression itself if it is a column of the input; else the column that it will be.
    pub(super) fn column(&mut self, expression: &Expr) -> Expr {
        if let Expr::Alias(alias) = expression {
            return self.column(&alias.expr);
        }
        if column_index(expression, &self.input.schema).is_some() {
            return expression.clone();
        }
        let known = self.computed.iter().position(|(_, known)| known == expression);
        let place = known.unwrap_or_else(|| {
            self.computed.push((format!("__column_{}", self.computed.len()), expression.clone()));
            self.computed.len() - 1
        });
        Expr::Column(Column::new_unqualified(format!("__column_{place}")))
    }

    /// The input with its new columns behind the others.
    pub(super) fn append(self, compiler: &mut Compiler) -> Result<Input, Problem> {
        if self.computed.is_empty() { Ok(self.input) } else { compiler.append(&self.input, &self.computed) }
    }
}
