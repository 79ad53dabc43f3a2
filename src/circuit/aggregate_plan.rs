//! An aggregation's plan node to accumulators: which are moved by weights, which keep their group's rows in order.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr::{AggregateFunction, NullTreatment, Sort};
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{Expr, lit};
use datafusion::physical_expr::aggregate::LoweredAggregateBuilder;

use crate::plan::as_written;

use super::aggregate::{Accumulate, Aggregate};
use super::compile::{Compiler, Input, Problem};
use super::distinct::Distinct;
use super::expression::row_schema;
use super::ordered::{Argument, Ordered, OrderedResult, Shows};
use super::recipe::Recipe;
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
    let mut used = Used { expressions: Vec::new() };
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
    for &output in &plan.recomputed {
        let Some(call) = calls.get(output) else { continue };
        let reason = format!("`{}` is computed over its whole group", call.short());
        compiler.recompute(reason);
    }
    let names: Vec<String> = groups.iter().map(|group| as_written(group).human_display().to_string()).collect();
    let text = description(&names, schema, &plan.recomputed);
    let recipe = Recipe::new(format!("aggregate {} {calls:?}", groups.len()));
    let texts = calls.into_iter().map(|call| call.text).collect();
    let operator = Aggregate::new(groups.len(), plan.finish()?, texts, Arc::clone(schema), text, names.join(", "))?;
    Ok(compiler.push(Box::new(operator), vec![narrowed.node], schema, recipe))
}

/// The operator in one line; what is computed over whole groups stands last.
fn description(names: &[String], schema: &SchemaRef, recomputed: &[usize]) -> String {
    let of = |wanted: bool| {
        let results = schema.fields().iter().skip(names.len()).enumerate();
        let shown = results.filter(|(output, _)| recomputed.contains(output) == wanted);
        shown.map(|(_, field)| field.name().as_str()).collect::<Vec<_>>().join(", ")
    };
    let (kept, anew) = (of(false), of(true));
    let results = match (kept.is_empty(), anew.is_empty()) {
        (_, true) => kept,
        (true, false) => format!("recompute {anew}"),
        (false, false) => format!("{kept}; recompute {anew}"),
    };
    match (names.is_empty(), results.is_empty()) {
        (true, _) => format!("aggregate {results}"),
        (false, true) => format!("distinct {}", names.join(", ")),
        (false, false) => format!("group by {}: {results}", names.join(", ")),
    }
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
            && !function.params.distinct
            && function
                .params
                .args
                .iter()
                .all(|argument| matches!(argument, Expr::Literal(value, _) if !value.is_null()));
        let mut rewritten = function.clone();
        let literal_after_first =
            |position: usize, argument: &Expr| position > 0 && matches!(argument, Expr::Literal(..));
        rewritten.params.args = function
            .params
            .args
            .iter()
            .enumerate()
            .map(|(position, argument)| {
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
        let text = as_written(unaliased(call)).human_display().to_string();
        Ok(Call { function: rewritten, counts_all, text })
    }
}

#[derive(Debug)]
struct Call {
    function: AggregateFunction,
    counts_all: bool,
    text: String,
}

impl Call {
    fn name(&self) -> &str {
        self.function.func.name()
    }

    fn distinct(&self) -> bool {
        self.function.params.distinct
    }

    /// The function and no more: `sum(DISTINCT …)`.
    fn short(&self) -> String {
        format!("{}({}…)", self.name(), if self.distinct() { "DISTINCT " } else { "" })
    }
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
    /// The calls whose touched groups are computed anew.
    recomputed: Vec<usize>,
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
        let name = call.name();
        let kind = argument.map(|column| self.input.field(column).data_type().clone());
        if let Some(summed) = summed(call, kind.as_ref(), result) {
            let sum = Box::new(Sum::new(inputs, summed, output));
            self.done.push(match (call.distinct(), argument, kind) {
                (true, Some(column), Some(kind)) => Box::new(Distinct::new(inputs, column, &kind, sum, output)?),
                _ => sum,
            });
            return Ok(());
        }
        match (name, call.distinct()) {
            ("bool_and" | "bool_or", _) => self.done.push(Box::new(Truth::new(inputs, name == "bool_and", output))),
            ("min" | "max", _) => {
                let order = argument.into_iter().map(|column| (column, SortOptions::default())).collect();
                let shows = if name == "min" { Shows::First } else { Shows::Last };
                self.share(inputs, order, argument, output, &|column| shows(column));
            }
            ("first_value" | "last_value" | "array_agg", false) => self.in_order(output, call, inputs, result)?,
            _ => self.recompute(output, call, inputs)?,
        }
        Ok(())
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
        match (call.name(), list) {
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
        let plan = self.multiset(inputs, order, &|_| true);
        if let Some(column) = column {
            let shows = shows(plan.place(column));
            plan.results.push(OrderedResult { output, shows });
        }
    }

    /// The multiset with this order over these rows, if it suits; else a new one.
    fn multiset(
        &mut self,
        inputs: Inputs,
        order: Vec<(usize, SortOptions)>,
        suits: &dyn Fn(&OrderedPlan) -> bool,
    ) -> &mut OrderedPlan {
        let same = |plan: &OrderedPlan| plan.order == order && plan.inputs == inputs && suits(plan);
        let position = self.ordered.iter().position(same).unwrap_or_else(|| {
            self.ordered.push(OrderedPlan { inputs, columns: order.clone(), order, results: Vec::new() });
            self.ordered.len() - 1
        });
        &mut self.ordered[position]
    }

    /// Keeps the group's rows, and lets DataFusion's own accumulator compute touched groups anew. Calls over the same
    /// values in the same order share them; a call of one argument that passes nulls over needs no row that has one, and
    /// shares with `min` and `max`.
    fn recompute(&mut self, output: usize, call: &Call, inputs: Inputs) -> Built<()> {
        let expression = Expr::AggregateFunction(call.function.clone());
        let context = PhysicalPlanningContext::default();
        let props = ExecutionProps::new();
        let schema = row_schema(self.input);
        let lowered = LoweredAggregateBuilder::new(&expression, self.input, &schema, &props, &context).build()?;
        let ordered = !lowered.aggregate.order_bys().is_empty();
        let sorts = if ordered { call.function.params.order_by.as_slice() } else { &[] };
        let given = call.function.params.args.iter().chain(sorts.iter().map(|sort| &sort.expr));
        let given = given
            .map(|argument| match argument {
                Expr::Literal(value, _) => Ok(Err(value.clone())),
                column => self.index(column).map(Ok),
            })
            .collect::<Built<Vec<Result<usize, ScalarValue>>>>()?;
        let columns: Vec<usize> = given.iter().filter_map(|given| given.as_ref().ok().copied()).collect();
        let (inputs, order) = match columns.as_slice() {
            [column] if !ordered && PASSES_NULLS_OVER.contains(&call.name()) => {
                (Inputs { argument: Some(*column), ..inputs }, vec![(*column, SortOptions::default())])
            }
            _ => (Inputs { argument: None, ..inputs }, self.sort_columns(sorts)?),
        };
        let all_there = |plan: &OrderedPlan| {
            ordered || columns.iter().all(|column| plan.columns.iter().any(|(known, _)| known == column))
        };
        let plan = self.multiset(inputs, order, &all_there);
        let places = given
            .into_iter()
            .map(|given| match given {
                Ok(column) => Argument::Column(plan.place(column)),
                Err(value) => Argument::Value(value),
            })
            .collect();
        plan.results.push(OrderedResult { output, shows: Shows::Computed(lowered.aggregate, places) });
        self.recomputed.push(output);
        Ok(())
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

/// How weights alone keep a call up to date, if they do: counts, and sums and means of exact numbers.
fn summed(call: &Call, argument: Option<&DataType>, result: &DataType) -> Option<SumResult> {
    match (call.name(), argument, result) {
        ("count", ..) => (call.function.params.args.len() <= 1).then_some(SumResult::Count),
        ("sum", Some(_), DataType::Int64 | DataType::UInt64 | DataType::Decimal128(..) | DataType::Duration(_)) => {
            Some(SumResult::Sum(result.clone()))
        }
        ("avg", Some(DataType::Decimal128(digits, from)), DataType::Decimal128(precision, scale))
            if *digits <= SUMMED_DIGITS_MAX =>
        {
            Some(SumResult::MeanDecimal { precision: *precision, scale: *scale, from: *from })
        }
        ("avg", Some(DataType::Duration(_)), DataType::Duration(_)) => Some(SumResult::MeanDuration(result.clone())),
        ("avg", Some(argument), DataType::Float64) if argument.is_integer() => Some(SumResult::MeanDouble),
        _ => None,
    }
}

/// Sums of decimals with more digits may need more than 128 bits.
const SUMMED_DIGITS_MAX: u8 = 28;

/// Aggregates of one argument to which a row without it is no row.
const PASSES_NULLS_OVER: [&str; 11] = [
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "median",
    "percentile_cont",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
];
