//! Integer arithmetic that fails where it would wrap.
//!
//! DataFusion adds, subtracts and multiplies integers modulo their width: `9223372036854775807 + 1` is negative. An analyzer
//! rule of the shared session replaces `+`, `-` and `*` of two integers, and the sign of one, by functions that fail instead:
//! in a circuit the row becomes an error row, a batch says what overflowed. Decimals are checked by Arrow itself.

use std::sync::Arc;

use arrow::compute::kernels::numeric::{add, mul, sub};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::utils::take_function_args;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, ExprSchemable, LogicalPlan, Operator, ReturnFieldArgs, ScalarFunctionArgs,
    ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr_common::datum::apply;

/// The analyzer rule; it runs after types are coerced.
#[derive(Debug)]
pub(super) struct CheckArithmetic;

impl AnalyzerRule for CheckArithmetic {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(check_node).map(|transformed| transformed.data)
    }

    fn name(&self) -> &'static str {
        "check_arithmetic"
    }
}

fn check_node(node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = match &node {
        LogicalPlan::TableScan(scan) => DFSchema::clone(&scan.projected_schema),
        other => merge_schema(&other.inputs()),
    };
    let names = NamePreserver::new(&node);
    node.map_expressions(|expression| {
        if matches!(expression, Expr::GroupingSet(_)) {
            return Ok(Transformed::no(expression));
        }
        let name = names.save(&expression);
        let checked = expression.transform_up(|part| Ok(check_part(part, &schema)))?;
        Ok(checked.update_data(|expression| name.restore(expression)))
    })?
    .map_data(LogicalPlan::recompute_schema)
}

fn check_part(part: Expr, schema: &DFSchema) -> Transformed<Expr> {
    let is_integer = |expression: &Expr| expression.get_type(schema).ok().filter(DataType::is_integer);
    match part {
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(op, Operator::Plus | Operator::Minus | Operator::Multiply)
                && is_integer(&left).is_some_and(|kind| is_integer(&right) == Some(kind)) =>
        {
            Transformed::yes(checked(op, *left, *right))
        }
        Expr::Negative(inner) => match is_integer(&inner).and_then(|kind| ScalarValue::new_zero(&kind).ok()) {
            Some(zero) if !matches!(*inner, Expr::Literal(..)) => {
                Transformed::yes(checked(Operator::Minus, Expr::Literal(zero, None), *inner))
            }
            _ => Transformed::no(Expr::Negative(inner)),
        },
        other => Transformed::no(other),
    }
}

fn checked(sign: Operator, left: Expr, right: Expr) -> Expr {
    let function = CheckedArithmetic { sign, signature: Signature::any(2, Volatility::Immutable) };
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(ScalarUDF::from(function)), vec![left, right]))
}

/// The expression as its author wrote it: with signs again in place of checked functions.
pub(crate) fn as_written(expression: &Expr) -> Expr {
    let written = expression.clone().transform_up(|part| {
        let sign = match &part {
            Expr::ScalarFunction(call) => call.func.inner().downcast_ref::<CheckedArithmetic>().map(|found| found.sign),
            _ => None,
        };
        Ok(match (sign, part) {
            (Some(op), Expr::ScalarFunction(mut call)) if call.args.len() == 2 => {
                let right = call.args.swap_remove(1);
                let left = call.args.swap_remove(0);
                Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right))))
            }
            (_, part) => Transformed::no(part),
        })
    });
    written.map_or_else(|_| expression.clone(), |written| written.data)
}

/// `+`, `-` or `*` of two integers of one type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CheckedArithmetic {
    sign: Operator,
    signature: Signature,
}

impl ScalarUDFImpl for CheckedArithmetic {
    fn name(&self) -> &str {
        match self.sign {
            Operator::Plus => "checked_add",
            Operator::Minus => "checked_subtract",
            _ => "checked_multiply",
        }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let [left, right] = take_function_args(self.name(), args)?;
        Ok(format!("{} {} {}", left.schema_name(), self.sign, right.schema_name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let [left, _] = take_function_args(self.name(), arg_types)?;
        Ok(left.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let [left, right] = take_function_args(self.name(), args.arg_fields)?;
        let nullable = left.is_nullable() || right.is_nullable();
        Ok(Arc::new(Field::new(self.name(), left.data_type().clone(), nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = take_function_args(self.name(), args.args)?;
        match self.sign {
            Operator::Plus => apply(&left, &right, add),
            Operator::Minus => apply(&left, &right, sub),
            _ => apply(&left, &right, mul),
        }
    }
}
