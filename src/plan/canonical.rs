//! Aggregates whose result would depend on the order of their rows, computed in one order everywhere.
//!
//! A sum of doubles differs with the order in which they are added, and so do means, variances and correlations; so does
//! DataFusion's grouped `min` and `max` of doubles among which are NaN or zeros of both signs. An analyzer rule of the shared
//! session replaces these calls by the same functions fed in canonical order: the rows of a group that lack no argument are
//! sorted by the bytes of their arguments, as Arrow's row format has them, and given to DataFusion's own accumulator in one
//! piece. The result follows from the multiset of the rows alone, in a circuit, in `query` and in the oracle.
//!
//! - `min` and `max` of doubles follow the total order: -NaN, -∞ … -0.0, 0.0 … ∞, NaN.
//! - `avg` of integers is their exact sum by their count, both as doubles; DataFusion's own adds up doubles.
//! - `sum` of integers fails where its type can't hold it; DataFusion's own wraps.
//! - `bit_xor(DISTINCT …)` is one of distinct values; DataFusion's grouped one forgets the DISTINCT.
//! - `percentile_cont` sorts for itself, and no longer asks for an order of the rows; so calls by several columns stand
//!   side by side in one SELECT.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, Aggregate, AggregateUDF, AggregateUDFImpl, Documentation, Expr, ExprSchemable, LogicalPlan, Signature,
};
use datafusion::optimizer::AnalyzerRule;

use super::exact::{ExactMean, ExactSum};

/// The analyzer rule; it runs after types are coerced.
#[derive(Debug)]
pub(super) struct CanonicalOrder;

impl AnalyzerRule for CanonicalOrder {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(|node| match node {
            LogicalPlan::Aggregate(aggregate) => in_canonical_order(aggregate),
            other => Ok(Transformed::no(other)),
        })
        .map(|transformed| transformed.data)
    }

    fn name(&self) -> &'static str {
        "canonical_order"
    }
}

fn in_canonical_order(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let input = Arc::clone(aggregate.input.schema());
    let concerns = |expression: &Expr| {
        expression
            .exists(|part| Ok(matches!(part, Expr::AggregateFunction(call) if replacement(call, &input).is_some())))
    };
    if !aggregate.aggr_expr.iter().any(|expression| concerns(expression).unwrap_or(false)) {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    }
    let plan = LogicalPlan::Aggregate(aggregate);
    let names = NamePreserver::new(&plan);
    let LogicalPlan::Aggregate(aggregate) = plan else { unreachable!("made above") };
    let calls = aggregate
        .aggr_expr
        .into_iter()
        .map(|expression| {
            let name = names.save(&expression);
            let replaced = expression.transform_up(|part| {
                let replaced = match &part {
                    Expr::AggregateFunction(call) => replacement(call, &input),
                    _ => None,
                };
                Ok(replaced
                    .map_or_else(|| Transformed::no(part), |call| Transformed::yes(Expr::AggregateFunction(call))))
            })?;
            Ok(name.restore(replaced.data))
        })
        .collect::<Result<Vec<_>>>()?;
    let rebuilt = Aggregate::try_new_with_schema(aggregate.input, aggregate.group_expr, calls, aggregate.schema)?;
    Ok(Transformed::yes(LogicalPlan::Aggregate(rebuilt)))
}

/// What stands for a call whose result would depend on the order of the rows.
fn replacement(call: &AggregateFunction, input: &DFSchema) -> Option<AggregateFunction> {
    let inner = call.func.inner();
    if inner.is::<InCanonicalOrder>() || inner.is::<ExactMean>() || inner.is::<ExactSum>() {
        return None;
    }
    let name = call.func.name();
    let mut replaced = call.clone();
    if let ("avg", Some(integer)) = (name, call.params.args.first().and_then(|argument| widened(argument, input))) {
        replaced.params.args = vec![integer.clone()];
        let mean = Arc::new(AggregateUDF::from(ExactMean::new()));
        replaced.func = if call.params.distinct { wrapped(mean) } else { mean };
        return Some(replaced);
    }
    let integer = |argument: &Expr| argument.get_type(input).is_ok_and(|kind| kind.is_integer());
    if name == "sum" && call.params.args.first().is_some_and(integer) {
        let sum = Arc::new(AggregateUDF::from(ExactSum::new()));
        replaced.func = if call.params.distinct { wrapped(sum) } else { sum };
        return Some(replaced);
    }
    let of_floats =
        call.params.args.iter().any(|argument| argument.get_type(input).is_ok_and(|kind| kind.is_floating()));
    let forgets_distinct = name == "bit_xor" && call.params.distinct;
    if name == "percentile_cont" || forgets_distinct || (of_floats && FLOATS_IN_ORDER.contains(&name)) {
        replaced.func = wrapped(Arc::clone(&call.func));
        return Some(replaced);
    }
    None
}

fn wrapped(inner: Arc<AggregateUDF>) -> Arc<AggregateUDF> {
    Arc::new(AggregateUDF::from(InCanonicalOrder { inner }))
}

/// The integer that a double is nothing but.
pub(super) fn widened<'a>(argument: &'a Expr, input: &DFSchema) -> Option<&'a Expr> {
    match argument {
        Expr::Alias(alias) => widened(&alias.expr, input),
        Expr::Cast(cast) => cast.expr.get_type(input).is_ok_and(|kind| kind.is_integer()).then_some(&*cast.expr),
        _ => None,
    }
}

/// Aggregates that an order of the rows can be seen in if they are doubles.
const FLOATS_IN_ORDER: [&str; 20] = [
    "avg",
    "corr",
    "covar_pop",
    "covar_samp",
    "max",
    "min",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
];

/// An aggregate that is given the rows of a group in canonical order, whatever the order in which they come.
#[derive(Debug, PartialEq, Eq, Hash)]
struct InCanonicalOrder {
    inner: Arc<AggregateUDF>,
}

impl InCanonicalOrder {
    /// Whether the rows have to be sorted: not where the accumulator compares them itself.
    fn sorts(&self) -> bool {
        !matches!(self.inner.name(), "min" | "max" | "percentile_cont")
    }
}

impl AggregateUDFImpl for InCanonicalOrder {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field(&self, arg_fields: &[FieldRef]) -> Result<FieldRef> {
        self.inner.return_field(arg_fields)
    }

    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.inner.supports_null_handling_clause()
    }

    fn supports_within_group_clause(&self) -> bool {
        self.inner.supports_within_group_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !self.sorts() {
            return self.inner.state_fields(args);
        }
        let field = |(position, field): (usize, &FieldRef)| {
            let name = format_state_name(args.name, &format!("argument {position}"));
            Arc::new(Field::new(name, list_type(field.data_type()), true))
        };
        Ok(args.input_fields.iter().enumerate().map(field).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if !self.sorts() {
            return self.inner.accumulator(args);
        }
        let distinct = args.is_distinct;
        let kinds: Vec<DataType> = args.expr_fields.iter().map(|field| field.data_type().clone()).collect();
        let fields = kinds.iter().cloned().map(SortField::new).collect();
        let inner = self.inner.accumulator(AccumulatorArgs { is_distinct: false, ..args })?;
        Ok(Box::new(Sorted { inner, distinct, converter: RowConverter::new(fields)?, kinds, batches: Vec::new() }))
    }
}

/// The rows of one group, kept until they are evaluated.
#[derive(Debug)]
struct Sorted {
    inner: Box<dyn Accumulator>,
    distinct: bool,
    converter: RowConverter,
    kinds: Vec<DataType>,
    batches: Vec<Vec<ArrayRef>>,
}

impl Sorted {
    /// All rows, column by column.
    fn gathered(&self) -> Result<Vec<ArrayRef>> {
        let column = |position: usize| {
            let parts: Vec<&dyn Array> =
                self.batches.iter().filter_map(|batch| batch.get(position)).map(AsRef::as_ref).collect();
            Ok(concat(&parts)?)
        };
        (0..self.kinds.len()).map(column).collect()
    }
}

impl Accumulator for Sorted {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        if values.first().is_some_and(|first| !first.is_empty()) {
            self.batches.push(values.to_vec());
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.batches.is_empty() {
            return self.inner.evaluate();
        }
        let columns = self.gathered()?;
        self.batches.clear();
        let rows = self.converter.convert_columns(&columns)?;
        let nulls: Vec<_> = columns.iter().filter_map(|column| column.logical_nulls()).collect();
        let counts = |row: &u32| nulls.iter().all(|nulls| nulls.is_valid(*row as usize));
        let mut order: Vec<u32> = (0_u32..).take(rows.num_rows()).filter(counts).collect();
        order.sort_unstable_by(|&one, &other| rows.row(one as usize).cmp(&rows.row(other as usize)));
        if self.distinct {
            order.dedup_by(|one, other| rows.row(*one as usize) == rows.row(*other as usize));
        }
        let order = UInt32Array::from(order);
        let sorted = columns.iter().map(|column| Ok(take(column, &order, None)?)).collect::<Result<Vec<_>>>()?;
        self.inner.update_batch(&sorted)?;
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        let held: usize = self.batches.iter().flatten().map(|column| column.get_array_memory_size()).sum();
        size_of_val(self) + self.inner.size() + held
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        if self.batches.is_empty() {
            return self.kinds.iter().map(|kind| ScalarValue::try_from(&list_type(kind))).collect();
        }
        let columns = self.gathered()?;
        columns
            .into_iter()
            .map(|column| {
                let item = Arc::new(Field::new_list_field(column.data_type().clone(), true));
                let list = ListArray::try_new(item, OffsetBuffer::from_lengths([column.len()]), column, None)?;
                Ok(ScalarValue::List(Arc::new(list)))
            })
            .collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for row in 0..states.first().map_or(0, |state| state.len()) {
            let values = states
                .iter()
                .map(|state| state.as_list_opt::<i32>().map(|list| list.value(row)))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| DataFusionError::Internal("the state of an aggregate is no list".to_owned()))?;
            self.update_batch(&values)?;
        }
        Ok(())
    }
}

fn list_type(item: &DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item.clone(), true)))
}
