//! `watermark()`: a comparison of its own in a circuit, a literal in a batch.
//!
//! The function itself is never evaluated. Right after planning and before anything is optimised it is replaced: in a batch
//! by the epoch's value; in a circuit each comparison with it becomes a function of the row's own time alone, which the
//! optimiser moves like any other, and which the circuit's compiler turns into a temporal operator.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

use crate::definition::contract::utc_timestamp;
use crate::types::Micros;

/// The function's name in SQL.
pub(super) const WATERMARK_FUNCTION: &str = "watermark";

/// How a row's time is compared with the watermark: `time OP watermark()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Relation {
    /// `<`
    Before,
    /// `<=`
    NotAfter,
    /// `>`
    After,
    /// `>=`
    NotBefore,
}

impl Relation {
    fn of(sign: Operator) -> Option<Self> {
        match sign {
            Operator::Lt => Some(Self::Before),
            Operator::LtEq => Some(Self::NotAfter),
            Operator::Gt => Some(Self::After),
            Operator::GtEq => Some(Self::NotBefore),
            _ => None,
        }
    }
}

/// Replaces every comparison of a row's own time with `watermark()` by a function of that time; see
/// [`watermark_comparison`]. Other uses of `watermark()` are left as they are, to be refused.
pub fn bind_comparisons(plan: LogicalPlan) -> Result<LogicalPlan> {
    bind(plan, &|part| {
        let Expr::BinaryExpr(comparison) = part else { return Ok(None) };
        let (time, sign) = match (is_watermark(&comparison.left), is_watermark(&comparison.right)) {
            (false, true) => (&comparison.left, Some(comparison.op)),
            (true, false) => (&comparison.right, comparison.op.swap()),
            _ => return Ok(None),
        };
        let relation = sign.and_then(Relation::of).filter(|_| !time.column_refs().is_empty());
        Ok(relation.map(|relation| comparison_function(relation).call(vec![time.as_ref().clone()])))
    })
}

/// Replaces `watermark()` by a value; none is null, as before every source has spoken.
pub fn bind_value(plan: LogicalPlan, watermark: Option<Micros>) -> Result<LogicalPlan> {
    let value = Expr::Literal(ScalarValue::TimestampMicrosecond(watermark, Some("UTC".into())), None);
    bind(plan, &|part| Ok(is_watermark(part).then(|| value.clone())))
}

/// Whether the expression is a comparison made by [`bind_comparisons`]: the row's time and how it is compared.
pub fn watermark_comparison(expression: &Expr) -> Option<(&Expr, Relation)> {
    let Expr::ScalarFunction(ScalarFunction { func, args }) = expression else { return None };
    let comparison = func.inner().downcast_ref::<WatermarkComparison>()?;
    args.first().map(|time| (time, comparison.relation))
}

/// Whether the expression is `watermark()` itself; with arguments it is a mistake, and no watermark.
pub(super) fn is_watermark(expression: &Expr) -> bool {
    matches!(expression, Expr::ScalarFunction(call) if call.func.name() == WATERMARK_FUNCTION && call.args.is_empty())
}

fn bind(plan: LogicalPlan, replace: &dyn Fn(&Expr) -> Result<Option<Expr>>) -> Result<LogicalPlan> {
    let bound = plan.transform_up_with_subqueries(|node| {
        let names = NamePreserver::new(&node);
        node.map_expressions(|expression| {
            let name = names.save(&expression);
            let bound = expression.transform_up(|part| {
                Ok(match replace(&part)? {
                    Some(replacement) => Transformed::yes(replacement),
                    None => Transformed::no(part),
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

fn comparison_function(relation: Relation) -> Arc<ScalarUDF> {
    Arc::new(ScalarUDF::from(WatermarkComparison {
        relation,
        signature: Signature::user_defined(Volatility::Immutable),
    }))
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
        Ok(utc_timestamp())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Internal("`watermark()` is bound before it is evaluated".to_owned()))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct WatermarkComparison {
    relation: Relation,
    signature: Signature,
}

impl ScalarUDFImpl for WatermarkComparison {
    fn name(&self) -> &str {
        match self.relation {
            Relation::Before => "before_watermark",
            Relation::NotAfter => "not_after_watermark",
            Relation::After => "after_watermark",
            Relation::NotBefore => "not_before_watermark",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [DataType::Timestamp(TimeUnit::Nanosecond, _)] => Err(DataFusionError::Plan(
                "`watermark()` is in microseconds, the other side in nanoseconds; cast that one: `CAST(… AS TIMESTAMP(6))`"
                    .to_owned(),
            )),
            [DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Null] => Ok(vec![utc_timestamp()]),
            other => {
                let types = other.iter().map(DataType::to_string).collect::<Vec<_>>().join(", ");
                Err(DataFusionError::Plan(format!("`watermark()` is a timestamp and can't be compared with {types}")))
            }
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::Internal("a comparison with `watermark()` is an operator of the circuit".to_owned()))
    }
}
