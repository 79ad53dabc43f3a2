//! An aggregation's plan node to accumulators: which are moved by weights, which keep their group's rows in order.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Column, DFSchema};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, ExprSchemable, lit};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;

use crate::plan::Refusal;

use super::aggregate::{Accumulate, Aggregate};
use super::compile::{Compiler, Input, Problem};
use super::expression::row_schema;
use super::ordered::{Ordered, OrderedResult, Shows};
use super::sums::{Inputs, Sum, SumResult, Truth};

type Built<T> = Result<T, Problem>;

/// Appends an aggregation of `calls` by `groups` behind `input`; `schema` has the group columns, then the results.
pub(super) fn build(
    compiler: &mut Compiler,
    input: &Input,
    groups: &[Expr],
    calls: &[Expr],
    schema: &SchemaRef,
) -> Built<usize> {
    let mut used = Used { expressions: Vec::new(), schema: Arc::clone(&input.schema) };
    for group in groups {
        used.expressions.push((format!("__group_{}", used.expressions.len()), unaliased(group).clone()));
    }
    let calls = calls.iter().map(|call| used.call(call)).collect::<Built<Vec<_>>>()?;
    let narrowed = compiler.select(input, &used.expressions)?;
    let mut plan =
        Accumulators { input: &narrowed.schema, done: Vec::new(), ordered: Vec::new(), recomputed: Vec::new() };
    for (output, call) in calls.iter().enumerate() {
        plan.add(output, call, schema.field(groups.len() + output).data_type())?;
    }
    compiler.recomputed.append(&mut plan.recomputed);
    let names: Vec<String> = groups.iter().map(|group| group.human_display().to_string()).collect();
    let shown: Vec<&str> = schema.fields().iter().skip(groups.len()).map(|field| field.name().as_str()).collect();
    let text = match (names.is_empty(), shown.is_empty()) {
        (true, _) => format!("aggregate {}", shown.join(", ")),
        (false, true) => format!("distinct {}", names.join(", ")),
        (false, false) => format!("group by {}: {}", names.join(", "), shown.join(", ")),
    };
    let accumulators = plan.finish()?;
    let operator = Aggregate::new(groups.len(), accumulators, Arc::clone(schema), text)?;
    Ok(compiler.push(Box::new(operator), vec![narrowed.node], schema))
}

fn unaliased(expression: &Expr) -> &Expr {
    match expression {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

/// The expressions that an aggregation needs of its input, each once; calls are rewritten to read them as columns.
struct Used {
    expressions: Vec<(String, Expr)>,
    schema: Arc<DFSchema>,
}

impl Used {
    fn column(&mut self, expression: &Expr) -> Expr {
        let expression = unaliased(expression);
        let position = match self.expressions.iter().position(|(_, known)| known == expression) {
            Some(position) => position,
            None => {
                self.expressions.push((format!("__value_{}", self.expressions.len()), expression.clone()));
                self.expressions.len() - 1
            }
        };
        let name = self.expressions.get(position).map_or_else(String::new, |(name, _)| name.clone());
        Expr::Column(Column::new_unqualified(name))
    }

    fn call(&mut self, call: &Expr) -> Built<Call> {
        let Expr::AggregateFunction(function) = unaliased(call) else {
            return Err(DataFusionError::Internal(format!("not an aggregate call: {call}")).into());
        };
        let counts_all = function.func.name() == "count"
            && function
                .params
                .args
                .iter()
                .all(|argument| matches!(argument, Expr::Literal(value, _) if !value.is_null()));
        let integer = function.params.args.first().and_then(|argument| cast_integer(argument, &self.schema)).cloned();
        let integers = function.func.name() == "avg" && !function.params.distinct && integer.is_some();
        let mut rewritten = function.clone();
        let literal_after_first =
            |position: usize, argument: &Expr| position > 0 && matches!(argument, Expr::Literal(..));
        rewritten.params.args = function
            .params
            .args
            .iter()
            .enumerate()
            .map(|(position, argument)| {
                let argument = integer.as_ref().filter(|_| integers).unwrap_or(argument);
                if counts_all || literal_after_first(position, argument) {
                    argument.clone()
                } else {
                    self.column(argument)
                }
            })
            .collect();
        rewritten.params.filter = function.params.filter.as_ref().map(|filter| Box::new(self.column(filter)));
        rewritten.params.order_by = function
            .params
            .order_by
            .iter()
            .map(|sort| Sort { expr: self.column(&sort.expr), asc: sort.asc, nulls_first: sort.nulls_first })
            .collect();
        if counts_all {
            rewritten.params.args = vec![lit(1_i64)];
        }
        Ok(Call { function: rewritten, counts_all, integers, text: function.func.name().to_owned() })
    }
}

/// The integer that a double is nothing but: sums of it are exact.
fn cast_integer<'a>(expression: &'a Expr, schema: &DFSchema) -> Option<&'a Expr> {
    match unaliased(expression) {
        Expr::Cast(cast) => cast.expr.get_type(schema).is_ok_and(|kind| kind.is_integer()).then_some(&*cast.expr),
        _ => None,
    }
}

struct Call {
    function: AggregateFunction,
    counts_all: bool,
    integers: bool,
    text: String,
}

/// The multiset that calls with the same order, filter and null treatment share.
struct OrderedPlan {
    inputs: Inputs,
    order: Vec<(usize, SortOptions)>,
    columns: Vec<(usize, SortOptions)>,
    results: Vec<OrderedResult>,
}

struct Accumulators<'a> {
    input: &'a DFSchema,
    done: Vec<Box<dyn Accumulate>>,
    ordered: Vec<OrderedPlan>,
    recomputed: Vec<String>,
}

impl Accumulators<'_> {
    fn index(&self, expression: &Expr) -> Built<usize> {
        super::compile::column_index(expression, self.input).ok_or_else(|| {
            DataFusionError::Internal(format!("`{expression}` is not a column of an aggregation")).into()
        })
    }

    fn add(&mut self, output: usize, call: &Call, result: &DataType) -> Built<()> {
        let parameters = &call.function.params;
        let argument = match parameters.args.first() {
            Some(argument) if !call.counts_all => Some(self.index(argument)?),
            _ => None,
        };
        let filter = parameters.filter.as_deref().map(|filter| self.index(filter)).transpose()?;
        let inputs = Inputs { argument, filter };
        let name = call.function.func.name();
        let kind = argument.map(|column| self.input.field(column).data_type().clone());
        match (name, parameters.distinct) {
            ("count", false) if parameters.args.len() <= 1 => {
                self.done.push(Box::new(Sum::new(inputs, SumResult::Count, output)));
            }
            ("sum" | "avg", false) => {
                let result = self.exact(call, kind.as_ref(), result)?;
                self.done.push(Box::new(Sum::new(inputs, result, output)));
            }
            ("bool_and" | "bool_or", _) => self.done.push(Box::new(Truth::new(inputs, name == "bool_and", output))),
            ("min" | "max", _) => {
                let order = argument.into_iter().map(|column| (column, SortOptions::default())).collect();
                let shows = if name == "min" { Shows::First } else { Shows::Last };
                self.share(inputs, order, argument, output, &|column| shows(column));
            }
            ("first_value" | "last_value" | "array_agg", false) => self.in_order(output, call, inputs, result)?,
            _ => self.recompute(output, call, filter)?,
        }
        Ok(())
    }

    /// How a sum or mean is shown; sums that could wrap or depend on the order of rows are refused.
    fn exact(&self, call: &Call, kind: Option<&DataType>, result: &DataType) -> Built<SumResult> {
        let name = call.text.as_str();
        match (name, kind, result) {
            ("sum", Some(DataType::Decimal128(precision, _)), DataType::Decimal128(..)) if *precision > 28 => {
                Err(Refusal::new(
                    format!("a sum of decimals of {precision} digits can wrap"),
                    "cast the argument to at most 28 digits: `sum(CAST(x AS DECIMAL(28, 3)))`",
                    "sum",
                )
                .into())
            }
            ("sum", Some(_), DataType::Int64 | DataType::UInt64 | DataType::Decimal128(..)) => {
                Ok(SumResult::Sum(result.clone()))
            }
            ("avg", Some(DataType::Decimal128(_, from)), DataType::Decimal128(precision, scale)) => {
                Ok(SumResult::MeanDecimal { precision: *precision, scale: *scale, from: *from })
            }
            ("avg", Some(_), DataType::Float64) if call.integers => Ok(SumResult::MeanDouble),
            _ => Err(Refusal::new(
                format!("`{name}` of floating-point numbers depends on the order of the rows"),
                format!("sum exact numbers: `{name}(CAST(x AS DECIMAL(18, 6)))`"),
                name,
            )
            .into()),
        }
    }

    fn sort_columns(&self, order_by: &[Sort]) -> Built<Vec<(usize, SortOptions)>> {
        order_by
            .iter()
            .map(|sort| {
                let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
                Ok((self.index(&sort.expr)?, options))
            })
            .collect()
    }

    fn in_order(&mut self, output: usize, call: &Call, inputs: Inputs, result: &DataType) -> Built<()> {
        let parameters = &call.function.params;
        let order = self.sort_columns(&parameters.order_by)?;
        let column = inputs.argument;
        let skips_nulls = parameters.null_treatment == Some(NullTreatment::IgnoreNulls);
        let inputs = Inputs { argument: inputs.argument.filter(|_| skips_nulls), filter: inputs.filter };
        let list = match result {
            DataType::List(field) => Some(Arc::clone(field)),
            _ => None,
        };
        match (call.text.as_str(), list) {
            ("array_agg", Some(field)) => {
                self.share(inputs, order, column, output, &|column| Shows::All(column, Arc::clone(&field)));
            }
            ("first_value", _) => self.share(inputs, order, column, output, &Shows::First),
            _ => self.share(inputs, order, column, output, &Shows::Last),
        }
        Ok(())
    }

    /// Adds a result to the multiset with this order, or starts one.
    fn share(
        &mut self,
        inputs: Inputs,
        order: Vec<(usize, SortOptions)>,
        column: Option<usize>,
        output: usize,
        shows: &dyn Fn(usize) -> Shows,
    ) {
        let same = |plan: &OrderedPlan| {
            plan.order == order && plan.inputs.filter == inputs.filter && plan.inputs.argument == inputs.argument
        };
        let plan = match self.ordered.iter().position(same) {
            Some(position) => self.ordered.get_mut(position),
            None => {
                self.ordered.push(OrderedPlan { inputs, columns: order.clone(), order, results: Vec::new() });
                self.ordered.last_mut()
            }
        };
        if let (Some(plan), Some(column)) = (plan, column) {
            let shows = shows(plan.place(column));
            plan.results.push(OrderedResult { output, shows });
        }
    }

    /// Keeps the group's rows, and lets DataFusion's own accumulator compute touched groups anew.
    fn recompute(&mut self, output: usize, call: &Call, filter: Option<usize>) -> Built<()> {
        if !RECOMPUTED.contains(&call.text.as_str()) || self.sums_floats(call) {
            return Err(Refusal::new(
                format!(
                    "`{}` with these arguments depends on the order of the rows, or can't be kept up to date yet",
                    call.text
                ),
                format!("{HELD}; of exact numbers, not of floating-point ones"),
                call.text.clone(),
            )
            .into());
        }
        let expression = Expr::AggregateFunction(call.function.clone());
        let context = PhysicalPlanningContext::default();
        let props = ExecutionProps::new();
        let schema = row_schema(self.input);
        let lowered = LoweredAggregateBuilder::new(&expression, self.input, &schema, &props, &context).build()?;
        let arguments: Vec<&Expr> =
            call.function.params.args.iter().filter(|argument| matches!(argument, Expr::Column(_))).collect();
        if arguments.len() != call.function.params.args.len() {
            return Err(Refusal::new(
                format!("`{}` with these arguments can't be kept up to date yet", call.text),
                HELD,
                call.text.clone(),
            )
            .into());
        }
        let mut plan = OrderedPlan {
            inputs: Inputs { argument: None, filter },
            order: Vec::new(),
            columns: self.sort_columns(&call.function.params.order_by)?,
            results: Vec::new(),
        };
        let mut places = Vec::new();
        for argument in arguments {
            let column = self.index(argument)?;
            places.push(plan.place(column));
        }
        for sort in &call.function.params.order_by {
            let column = self.index(&sort.expr)?;
            places.push(plan.place(column));
        }
        plan.results.push(OrderedResult { output, shows: Shows::Computed(lowered.aggregate, places) });
        self.ordered.push(plan);
        let distinct = if call.function.params.distinct { "DISTINCT " } else { "" };
        self.recomputed.push(format!("`{}({distinct}…)` is computed over its whole group", call.text));
        Ok(())
    }

    /// A sum of doubles depends on the order in which they are added.
    fn sums_floats(&self, call: &Call) -> bool {
        let float = |argument: &Expr| {
            self.index(argument).is_ok_and(|column| self.input.field(column).data_type().is_floating())
        };
        matches!(call.text.as_str(), "sum" | "avg") && call.function.params.args.first().is_some_and(float)
    }

    fn finish(mut self) -> Built<Vec<Box<dyn Accumulate>>> {
        for plan in self.ordered {
            let types: Vec<DataType> =
                plan.columns.iter().map(|&(column, _)| self.input.field(column).data_type().clone()).collect();
            self.done.push(Box::new(Ordered::new(plan.columns, &types, plan.inputs, plan.results)?));
        }
        Ok(self.done)
    }
}

impl OrderedPlan {
    /// The position of a column among those of the multiset; appended if it is not there.
    fn place(&mut self, column: usize) -> usize {
        match self.columns.iter().position(|&(known, _)| known == column) {
            Some(place) => place,
            None => {
                self.columns.push((column, SortOptions::default()));
                self.columns.len() - 1
            }
        }
    }
}

/// Aggregates whose result follows from the multiset of a group's rows, or from its declared order, to the last bit.
const RECOMPUTED: [&str; 15] = [
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "count",
    "first_value",
    "last_value",
    "max",
    "median",
    "min",
    "nth_value",
    "percentile_cont",
    "string_agg",
    "sum",
];

const HELD: &str = "use count, sum, avg, min, max, median, bool_and, bool_or, first_value, last_value or array_agg";
