//! A condition over the rows of one table that stands outside a job: `when` of an event time.

use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::physical_expr::PhysicalExpr;

use super::check::refuse_expression;
use super::explain::{Explained, explain};
use super::session;
use super::size::too_large;

/// Compiles a condition over rows of `schema`. It depends on the row alone.
///
/// # Errors
/// What is wrong with it; its span is in `sql`.
pub fn row_predicate(sql: &str, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>, Explained> {
    let refuse = |message: String, help: &str| Explained { message, help: Some(help.to_owned()), span: None };
    if let Some(found) = too_large(sql) {
        return Err(refuse(found.message, found.help));
    }
    let failed = |error: DataFusionError| explain(&error, sql);
    let context = session();
    let schema = DFSchema::try_from(schema.as_ref().clone()).map_err(failed)?;
    let predicate = context.parse_sql_expr(sql, &schema).map_err(failed)?;
    if let Some(refusal) = refuse_expression(&predicate) {
        return Err(refuse(refusal.message, "write a condition over the row's own columns"));
    }
    let aggregates = |part: &Expr| {
        matches!(
            part,
            Expr::AggregateFunction(_)
                | Expr::WindowFunction(_)
                | Expr::ScalarSubquery(_)
                | Expr::Exists(_)
                | Expr::InSubquery(_)
        )
    };
    let compares_rows =
        datafusion::common::tree_node::TreeNode::exists(&predicate, |part| Ok(aggregates(part))).map_err(failed)?;
    if compares_rows {
        return Err(refuse("it looks at more than one row".to_owned(), "write a condition over the row's own columns"));
    }
    let compiled = context.create_physical_expr(predicate.clone(), &schema).map_err(failed)?;
    match predicate.get_type(&schema).map_err(failed)? {
        DataType::Boolean | DataType::Null => Ok(compiled),
        _ => Err(refuse("it is not a boolean".to_owned(), "compare the column with something, as in `line > 0`")),
    }
}
