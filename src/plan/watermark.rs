//! `watermark()`: a placeholder in a circuit, a literal in a batch.
//!
//! The function itself is never evaluated. Right after planning and before anything is optimised it is replaced: in a
//! circuit by the placeholder [`WATERMARK_PLACEHOLDER`], which the compiler turns into temporal operators; in a batch by
//! the epoch's value.

use datafusion::arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::Placeholder;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use crate::definition::contract::utc_timestamp;
use crate::types::Micros;

/// What stands for the watermark in the plan of a circuit.
pub const WATERMARK_PLACEHOLDER: &str = "$watermark";

/// The function's name in SQL.
pub(super) const WATERMARK_FUNCTION: &str = "watermark";

/// Replaces `watermark()` by the placeholder.
pub fn bind_placeholder(plan: LogicalPlan) -> Result<LogicalPlan> {
    let field = Field::new(WATERMARK_PLACEHOLDER, utc_timestamp(), true);
    bind(plan, &Expr::Placeholder(Placeholder::new_with_field(WATERMARK_PLACEHOLDER.to_owned(), Some(Arc::new(field)))))
}

/// Replaces `watermark()` by a value; none is null, as before every source has spoken.
pub fn bind_value(plan: LogicalPlan, watermark: Option<Micros>) -> Result<LogicalPlan> {
    bind(plan, &Expr::Literal(ScalarValue::TimestampMicrosecond(watermark, Some("UTC".into())), None))
}

fn bind(plan: LogicalPlan, replacement: &Expr) -> Result<LogicalPlan> {
    let bound = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expression| {
            let name = names.save(&expression);
            let bound = expression.transform_up(|part| {
                Ok(match &part {
                    Expr::ScalarFunction(call) if call.func.name() == WATERMARK_FUNCTION => {
                        Transformed::yes(replacement.clone())
                    }
                    _ => Transformed::no(part),
                })
            })?;
            Ok(bound.update_data(|expression| name.restore(expression)))
        })
    })?;
    Ok(bound.data)
}

/// The function as SQL sees it.
pub(super) fn watermark_function() -> ScalarUDF {
    ScalarUDF::from(WatermarkFunction { signature: Signature::nullary(Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WatermarkFunction {
    signature: Signature,
}

impl ScalarUDFImpl for WatermarkFunction {
    fn name(&self) -> &str {
        WATERMARK_FUNCTION
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Internal("`watermark()` is bound before it is evaluated".to_owned()))
    }
}
