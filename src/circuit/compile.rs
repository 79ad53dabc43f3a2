//! Plan to circuit: one operator for each plan node, once, at start.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef, TableReference};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::logical_plan::TableScan;
use datafusion::logical_expr::{
    Aggregate as AggregatePlan, Distinct, EmptyRelation, Expr, LogicalPlan, Union as UnionPlan, Values,
};

use crate::diagnostic::{Diagnostic, Diagnostics, SourceText};
use crate::plan::{
    HistoryTable, PlannedJob, Refusal, Relation, TableSchemas, explain, nullable, table_name, watermark_comparison,
};
use crate::state::{Delta, with_rows};

use super::arranged::{Request, Use, settle};
use super::expression::{Compiled, row_schema};
use super::history_plan::CompiledHistory;
use super::key::WholeKeys;
use super::map::{Map, Output};
use super::recipe::{NodeIdentity, Recipe};
use super::temporal::{Comparison, Temporal};
use super::union::Union;
use super::{
    Circuit, Maintenance, Node, Operator, aggregate_plan, grouping_sets, join_plan, scalar, top_plan, unnest,
    window_plan,
};

/// A job inside a circuit.
#[derive(Debug, Clone)]
pub struct CompiledJob {
    /// Index into the pipeline's jobs.
    pub job: usize,
    /// The job's name.
    pub name: Arc<str>,
    /// The schema of its table, all columns nullable.
    pub schema: SchemaRef,
    /// The declared key as column indexes; empty where none is declared.
    pub key: Vec<usize>,
    /// The tables that it reads, sorted.
    pub reads: Vec<String>,
    /// How it is kept up to date.
    pub maintenance: Maintenance,
    pub(super) node: usize,
}

/// Why a plan could not be compiled.
pub(super) enum Problem {
    /// The author has to write it otherwise.
    Refused(Box<Refusal>),
    /// DataFusion can't compile an expression.
    Failed(DataFusionError),
}

impl From<DataFusionError> for Problem {
    fn from(error: DataFusionError) -> Self {
        Self::Failed(error)
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// Compiles planned jobs, in their order, over sources (and those of Milepost's own tables that they read) with these
/// table schemas; [`Circuit::step`] takes the sources' deltas in the same order. `histories` are those of sources and jobs.
///
/// # Errors
/// A diagnostic for each job that uses what is not supported. `files` gives each job's SQL by its index.
pub fn compile(
    sources: &TableSchemas,
    jobs: &[PlannedJob],
    histories: &[HistoryTable],
    files: &dyn Fn(usize) -> Arc<SourceText>,
) -> Result<Circuit, Diagnostics> {
    let mut compiler = Compiler {
        nodes: Vec::new(),
        known: HashMap::new(),
        requests: Vec::new(),
        tables: Vec::new(),
        job: None,
        recomputed: Vec::new(),
    };
    let mut compiled_histories = Vec::new();
    let mut source_nodes = Vec::new();
    for (name, schema) in sources {
        let schema = nullable(schema);
        let node = compiler.nodes.len();
        compiler.nodes.push(Node {
            operator: None,
            arrangement: None,
            inputs: Vec::new(),
            uses: Vec::new(),
            jobs: Vec::new(),
            empty: Delta::empty(&schema),
            label: format!("source {name}"),
        });
        compiler.tables.push((Arc::clone(name), node));
        source_nodes.push(node);
        match compiler.histories(name, node, histories) {
            Ok(done) => compiled_histories.extend(done),
            Err(error) => return Err(unsupported(&error, &files(0)).into()),
        }
    }
    let mut compiled = Vec::new();
    let mut problems: Vec<Diagnostic> = Vec::new();
    for (position, job) in jobs.iter().enumerate() {
        compiler.job = Some(position);
        compiler.recomputed.clear();
        let known = job.reads.iter().all(|read| compiler.tables.iter().any(|(name, _)| **name == **read));
        if !known {
            continue;
        }
        match compiler.job_tables(job, histories) {
            Ok((done, kept)) => {
                compiled.push(done);
                compiled_histories.extend(kept);
            }
            Err(Problem::Refused(refusal)) => problems.push(refusal.diagnose(&files(job.job))),
            Err(Problem::Failed(error)) => problems.push(unsupported(&error, &files(job.job))),
        }
    }
    if !problems.is_empty() {
        return Err(Diagnostics(problems));
    }
    Ok(compiler.finish(source_nodes, compiled, compiled_histories))
}

fn unsupported(error: &DataFusionError, file: &Arc<SourceText>) -> Diagnostic {
    let explained = explain(error, &file.text);
    let refusal = Refusal::new(
        format!("this can't be kept up to date: {}", explained.message),
        explained.help.unwrap_or_else(|| "write it with joins, filters, UNION ALL and GROUP BY".to_owned()),
        "select",
    );
    let found = refusal.diagnose(file);
    Diagnostic { span: explained.span.unwrap_or_else(|| found.span.clone()), ..found }
}

/// Nodes as they are made; a node's inputs stand before it.
pub(super) struct Compiler {
    pub(super) nodes: Vec<Node>,
    known: HashMap<NodeIdentity, usize>,
    requests: Vec<Request>,
    /// What a scan may read, each by its node.
    pub(super) tables: Vec<(Arc<str>, usize)>,
    /// The job whose nodes are made; none for those of sources.
    pub(super) job: Option<usize>,
    /// Why groups of the job are computed anew.
    recomputed: Vec<String>,
}

/// A node, with the schema under which the expressions above see its rows.
#[derive(Clone)]
pub(super) struct Input {
    pub(super) node: usize,
    pub(super) schema: DFSchemaRef,
}

type Built<T> = Result<T, Problem>;

impl Compiler {
    fn job_node(&mut self, job: &PlannedJob) -> Built<CompiledJob> {
        let node = self.build(&job.plan)?;
        let schema = nullable(&job.schema);
        let columns = (0..schema.fields().len()).collect();
        let node = if self.schema_of(node) == schema {
            node
        } else {
            self.push_map(
                Map { predicate: None, output: Output::Columns(columns), schema: Arc::clone(&schema) },
                vec![node],
            )
        };
        let node = if job.key.is_empty() {
            node
        } else {
            let operator = WholeKeys { key: job.key.clone(), schema: Arc::clone(&schema) };
            let recipe = Recipe::new(format!("whole keys {:?}", job.key));
            self.push(Box::new(operator), vec![node], &schema, recipe)
        };
        let maintenance = if self.recomputed.is_empty() {
            Maintenance::Incremental
        } else {
            Maintenance::Recompute(std::mem::take(&mut self.recomputed))
        };
        Ok(CompiledJob {
            job: job.job,
            name: Arc::clone(&job.name),
            schema,
            key: job.key.clone(),
            reads: job.reads.clone(),
            maintenance,
            node,
        })
    }

    /// A job and its histories, each a table from here on.
    fn job_tables(
        &mut self,
        job: &PlannedJob,
        histories: &[HistoryTable],
    ) -> Built<(CompiledJob, Vec<CompiledHistory>)> {
        let done = self.job_node(job)?;
        self.tables.push((Arc::clone(&job.name), done.node));
        let histories = self.histories(&job.name, done.node, histories)?;
        Ok((done, histories))
    }

    /// The circuit of all nodes.
    fn finish(
        mut self,
        sources: Vec<usize>,
        mut jobs: Vec<CompiledJob>,
        mut histories: Vec<CompiledHistory>,
    ) -> Circuit {
        let results = jobs.iter().map(|job| job.node).collect();
        let (arrangements, renumbered) = settle(&mut self.nodes, &self.requests, &results);
        for job in &mut jobs {
            job.node = renumbered[job.node];
        }
        for history in &mut histories {
            history.node = renumbered[history.node];
        }
        let sources = sources.into_iter().map(|source| renumbered[source]).collect();
        Circuit::new(self.nodes, arrangements, sources, jobs, histories)
    }

    /// Asks for the rows of an input by a key; for the `uses` of [`Compiler::push_looking_up`].
    pub(super) fn arranged(&mut self, request: Request) -> Use {
        self.requests.push(request);
        Request::name(self.requests.len() - 1)
    }

    /// Appends a node, or finds the one that is the same.
    pub(super) fn push(
        &mut self,
        operator: Box<dyn Operator>,
        inputs: Vec<usize>,
        schema: &SchemaRef,
        recipe: Recipe,
    ) -> usize {
        self.push_looking_up(operator, inputs, Vec::new(), schema, recipe)
    }

    /// The same for an operator that looks up rows of its inputs.
    pub(super) fn push_looking_up(
        &mut self,
        operator: Box<dyn Operator>,
        inputs: Vec<usize>,
        uses: Vec<Use>,
        schema: &SchemaRef,
        recipe: Recipe,
    ) -> usize {
        let identity = (recipe, inputs, Arc::clone(schema));
        if let Some(&known) = self.known.get(&identity) {
            if let Some(node) = self.nodes.get_mut(known) {
                let new = self.job.filter(|job| !node.jobs.contains(job));
                node.jobs.extend(new);
            }
            return known;
        }
        self.nodes.push(Node {
            operator: Some(operator),
            arrangement: None,
            inputs: identity.1.clone(),
            uses,
            jobs: self.job.into_iter().collect(),
            empty: Delta::empty(schema),
            label: String::new(),
        });
        self.known.insert(identity, self.nodes.len() - 1);
        self.nodes.len() - 1
    }

    fn schema_of(&self, node: usize) -> SchemaRef {
        self.nodes.get(node).map_or_else(|| Arc::new(Schema::empty()), |node| node.empty.batch().schema())
    }

    /// A filter and projection; what would only give columns other names is its input.
    fn map(&mut self, input: usize, predicate: Option<Compiled>, output: Output, schema: SchemaRef) -> usize {
        let held = self.schema_of(input);
        if let (None, Output::Columns(columns)) = (&predicate, &output) {
            let same = |(place, &column): (usize, &usize)| {
                place == column && held.field(place).data_type() == schema.field(place).data_type()
            };
            if columns.len() == held.fields().len() && columns.iter().enumerate().all(same) {
                return input;
            }
        }
        let operator = Map { predicate, output, schema: Arc::clone(&schema) };
        self.push_map(operator, vec![input])
    }

    /// Appends a filter and projection, or finds the one that is the same.
    pub(super) fn push_map(&mut self, operator: Map, inputs: Vec<usize>) -> usize {
        let (schema, recipe) = (Arc::clone(&operator.schema), operator.recipe());
        self.push(Box::new(operator), inputs, &schema, recipe)
    }

    /// A node that appends expressions to its input; the new columns are unqualified and named as given.
    pub(super) fn append(&mut self, input: &Input, expressions: &[(String, Expr)]) -> Built<Input> {
        let schema = Arc::new(extended(&input.schema, &typed(&input.schema, expressions)?)?);
        let compiled = expressions
            .iter()
            .map(|(_, expression)| Compiled::new(expression, &input.schema))
            .collect::<Result<_, _>>()?;
        let node = self.map(input.node, None, Output::Append(compiled), row_schema(&schema));
        Ok(Input { node, schema })
    }

    /// A node of exactly these expressions; columns are unqualified and named as given.
    pub(super) fn select(&mut self, input: &Input, expressions: &[(String, Expr)]) -> Built<Input> {
        let schema = Arc::new(extended(&DFSchema::empty(), &typed(&input.schema, expressions)?)?);
        let compiled = expressions
            .iter()
            .map(|(_, expression)| Compiled::new(expression, &input.schema))
            .collect::<Result<_, _>>()?;
        let node = self.map(input.node, None, Output::Expressions(compiled), row_schema(&schema));
        Ok(Input { node, schema })
    }

    /// The node of a plan; its rows have the plan's columns.
    pub(super) fn build(&mut self, plan: &LogicalPlan) -> Built<usize> {
        match plan {
            LogicalPlan::Projection(projection) => {
                self.projection(&projection.input, &projection.expr, &projection.schema)
            }
            LogicalPlan::Filter(filter) => self.filter(&filter.input, &filter.predicate),
            LogicalPlan::SubqueryAlias(alias) => self.build(&alias.input),
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::Union(union) => self.union(union),
            LogicalPlan::Join(join) => join_plan::build(self, join),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            LogicalPlan::Sort(sort) => match sort.fetch {
                None => self.build(&sort.input),
                fetch => top_plan::slice(self, sort, 0, fetch),
            },
            LogicalPlan::Limit(limit) => top_plan::limit(self, limit),
            LogicalPlan::Window(window) => window_plan::build(self, window),
            LogicalPlan::Unnest(unnest) => unnest::build(self, unnest),
            LogicalPlan::EmptyRelation(empty) => self.constant_rows(empty),
            LogicalPlan::Values(values) => self.values(values),
            other => Err(refuse_node(other).into()),
        }
    }

    /// The rows of a plan as an input of `expressions`; see [`Compiler::prepared`].
    pub(super) fn input(&mut self, plan: &LogicalPlan, expressions: Vec<Expr>) -> Built<(Input, Vec<Expr>)> {
        let node = self.build(plan)?;
        let input = Input { node, schema: Arc::clone(plan.schema()) };
        self.prepared(input, expressions)
    }

    /// An input together with the values of the subqueries in `expressions`, then with flags for their comparisons with the
    /// watermark; they read both as columns.
    fn prepared(&mut self, input: Input, expressions: Vec<Expr>) -> Built<(Input, Vec<Expr>)> {
        let (input, expressions) = scalar::joined(self, input, expressions)?;
        self.with_flags(input, expressions)
    }

    fn with_flags(&mut self, input: Input, expressions: Vec<Expr>) -> Built<(Input, Vec<Expr>)> {
        let mut found: Vec<(Expr, Relation)> = Vec::new();
        let rewritten = expressions
            .into_iter()
            .map(|expression| replace_comparisons(expression, &mut found))
            .collect::<Result<Vec<_>, _>>()?;
        for expression in &rewritten {
            refuse_expression(expression)?;
        }
        if found.is_empty() {
            return Ok((input, rewritten));
        }
        let fields: Vec<(String, DataType)> =
            (0..found.len()).map(|flag| (flag_name(flag), DataType::Boolean)).collect();
        let schema = Arc::new(extended(&input.schema, &fields)?);
        let comparisons = found
            .into_iter()
            .map(|(time, relation)| Ok(Comparison { time: Compiled::new(&time, &input.schema)?, relation }))
            .collect::<Built<Vec<_>>>()?;
        let row = row_schema(&schema);
        let recipe = Temporal::recipe(&comparisons);
        let operator = Temporal::new(comparisons, &row_schema(&input.schema), Arc::clone(&row))?;
        let node = self.push(Box::new(operator), vec![input.node], &row, recipe);
        Ok((Input { node, schema }, rewritten))
    }

    fn projection(&mut self, plan: &LogicalPlan, expressions: &[Expr], schema: &DFSchemaRef) -> Built<usize> {
        let (input, expressions) = self.input(plan, expressions.to_vec())?;
        let columns: Option<Vec<usize>> =
            expressions.iter().map(|expression| column_index(expression, &input.schema)).collect();
        let output = match columns {
            Some(columns) => Output::Columns(columns),
            None => Output::Expressions(
                expressions
                    .iter()
                    .map(|expression| Compiled::new(expression, &input.schema))
                    .collect::<Result<_, _>>()?,
            ),
        };
        Ok(self.map(input.node, None, output, row_schema(schema)))
    }

    fn filter(&mut self, plan: &LogicalPlan, predicate: &Expr) -> Built<usize> {
        let node = self.build(plan)?;
        let input = Input { node, schema: Arc::clone(plan.schema()) };
        self.filter_behind(input, predicate.clone(), plan.schema())
    }

    /// The rows of an input that a predicate holds for; of their columns as many as `schema` has, from the first.
    pub(super) fn filter_behind(&mut self, input: Input, predicate: Expr, schema: &DFSchema) -> Built<usize> {
        let (input, predicates) = self.prepared(input, vec![predicate])?;
        let compiled = predicates.first().map(|predicate| Compiled::new(predicate, &input.schema)).transpose()?;
        let columns = (0..schema.fields().len()).collect();
        Ok(self.map(input.node, compiled, Output::Columns(columns), row_schema(schema)))
    }

    /// Says why work for the job does not follow the rows that changed alone.
    pub(super) fn recompute(&mut self, reason: String) {
        if !self.recomputed.contains(&reason) {
            self.recomputed.push(reason);
        }
    }

    fn scan(&mut self, scan: &TableScan) -> Built<usize> {
        let name = table_name(&scan.table_name);
        let Some(&(_, node)) = self.tables.iter().find(|(known, _)| **known == *name) else {
            return Err(DataFusionError::Internal(format!("no node for table `{name}`")).into());
        };
        if !scan.filters.is_empty() || scan.fetch.is_some() {
            return Err(DataFusionError::Internal(format!("a filter went into the scan of `{name}`")).into());
        }
        let columns = match &scan.projection {
            Some(columns) => columns.clone(),
            None => (0..scan.source.schema().fields().len()).collect(),
        };
        Ok(self.map(node, None, Output::Columns(columns), row_schema(&scan.projected_schema)))
    }

    fn union(&mut self, union: &UnionPlan) -> Built<usize> {
        let inputs = union.inputs.iter().map(|input| self.build(input)).collect::<Built<Vec<_>>>()?;
        let schema = row_schema(&union.schema);
        let operator = Union { schema: Arc::clone(&schema) };
        Ok(self.push(Box::new(operator), inputs, &schema, Recipe::new("union all")))
    }

    fn aggregate(&mut self, aggregate: &AggregatePlan) -> Built<usize> {
        if let [Expr::GroupingSet(sets)] = aggregate.group_expr.as_slice() {
            return grouping_sets::build(self, aggregate, sets);
        }
        let groups = aggregate.group_expr.len();
        let all = aggregate.group_expr.iter().chain(&aggregate.aggr_expr).cloned().collect();
        let (input, mut expressions) = self.input(&aggregate.input, all)?;
        let calls = expressions.split_off(groups);
        aggregate_plan::build(self, &input, &expressions, &calls, &row_schema(&aggregate.schema))
    }

    /// Named aggregates over all rows of an input: always one row.
    pub(super) fn aggregate_all(&mut self, input: &Input, calls: &[(String, Expr)]) -> Built<Input> {
        let schema = Arc::new(extended(&DFSchema::empty(), &typed(&input.schema, calls)?)?);
        let calls: Vec<Expr> = calls.iter().map(|(_, call)| call.clone()).collect();
        let node = aggregate_plan::build(self, input, &[], &calls, &row_schema(&schema))?;
        Ok(Input { node, schema })
    }

    fn distinct(&mut self, plan: &LogicalPlan) -> Built<usize> {
        let node = self.build(plan)?;
        let input = Input { node, schema: Arc::clone(plan.schema()) };
        let columns: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
        aggregate_plan::build(self, &input, &columns, &[], &row_schema(plan.schema()))
    }

    fn constant_rows(&mut self, empty: &EmptyRelation) -> Built<usize> {
        let schema = row_schema(&empty.schema);
        let rows = usize::from(empty.produce_one_row);
        let columns =
            schema.fields().iter().map(|field| arrow::array::new_null_array(field.data_type(), rows)).collect();
        let batch = with_rows(&schema, columns, rows)?;
        Ok(self.constant(Delta::insertions(batch), schema))
    }

    fn values(&mut self, values: &Values) -> Built<usize> {
        let schema = row_schema(&values.schema);
        let one = with_rows(&Arc::new(Schema::empty()), Vec::new(), 1)?;
        let mut rows = Vec::new();
        for row in &values.values {
            let columns = row
                .iter()
                .zip(schema.fields())
                .map(|(value, field)| {
                    let value = Compiled::new(value, &DFSchema::empty())?.evaluate(&one)?;
                    Ok(arrow::compute::cast(&value, field.data_type())?)
                })
                .collect::<Result<Vec<_>, DataFusionError>>()?;
            rows.push(Delta::insertions(with_rows(&schema, columns, 1)?));
        }
        let delta = Delta::concat(&schema, &rows)?;
        Ok(self.constant(delta, schema))
    }

    fn constant(&mut self, delta: Delta, schema: SchemaRef) -> usize {
        self.push_map(Map { predicate: None, output: Output::Constant(delta), schema }, Vec::new())
    }
}

fn refuse_node(plan: &LogicalPlan) -> Refusal {
    match plan {
        LogicalPlan::RecursiveQuery(_) => Refusal::new(
            "recursive queries can't be kept up to date",
            "write the steps as jobs of their own",
            "recursive",
        ),
        other => Refusal::new(
            format!(
                "`{}` can't be kept up to date",
                other.display().to_string().split_whitespace().next().unwrap_or("this")
            ),
            "write it with joins, filters, aggregates, window functions and UNION ALL",
            "select",
        ),
    }
}

/// Refuses what an expression may not hold when it reaches an operator.
pub(super) fn refuse_expression(expression: &Expr) -> Built<()> {
    let mut refused: Option<Refusal> = None;
    expression.apply(|part| {
        refused = match part {
            Expr::Placeholder(placeholder) => Some(Refusal::new(
                format!("`{}` has no value here", placeholder.id),
                "write the value itself",
                placeholder.id.clone(),
            )),
            Expr::ScalarSubquery(_)
            | Expr::Exists(_)
            | Expr::InSubquery(_)
            | Expr::SetComparison(_)
            | Expr::OuterReferenceColumn(..) => Some(Refusal::new(
                "this subquery can't be turned into a join",
                "relate it to the outer query by equalities in its WHERE, or write the join",
                "exists|in ( select|( select|select",
            )),
            _ => None,
        };
        Ok(if refused.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })?;
    refused.map_or(Ok(()), |refusal| Err(refusal.into()))
}

pub(super) fn mentions_watermark(expression: &Expr) -> Result<bool, DataFusionError> {
    expression.exists(|part| Ok(watermark_comparison(part).is_some()))
}

/// Replaces each comparison with the watermark by the column of its flag; equal comparisons share one.
fn replace_comparisons(expression: Expr, found: &mut Vec<(Expr, Relation)>) -> Result<Expr, DataFusionError> {
    let replaced = expression.transform_up(|part| {
        let Some((time, relation)) = watermark_comparison(&part) else { return Ok(Transformed::no(part)) };
        let flag = match found.iter().position(|known| known.0 == *time && known.1 == relation) {
            Some(flag) => flag,
            None => {
                found.push((time.clone(), relation));
                found.len() - 1
            }
        };
        Ok(Transformed::yes(Expr::Column(Column::new_unqualified(flag_name(flag)))))
    })?;
    Ok(replaced.data)
}

fn flag_name(flag: usize) -> String {
    format!("__watermark_{flag}")
}

/// The index of the column that an expression is, if it is nothing else.
pub(super) fn column_index(expression: &Expr, schema: &DFSchema) -> Option<usize> {
    match expression {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Alias(alias) => column_index(&alias.expr, schema),
        _ => None,
    }
}

fn typed(schema: &DFSchema, expressions: &[(String, Expr)]) -> Result<Vec<(String, DataType)>, DataFusionError> {
    use datafusion::logical_expr::ExprSchemable;
    expressions.iter().map(|(name, expression)| Ok((name.clone(), expression.get_type(schema)?))).collect()
}

/// A schema with further unqualified, nullable columns.
fn extended(schema: &DFSchema, columns: &[(String, DataType)]) -> Result<DFSchema, DataFusionError> {
    let mut fields: Vec<(Option<TableReference>, Arc<arrow::datatypes::Field>)> =
        schema.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
    fields.extend(
        columns.iter().map(|(name, kind)| (None, Arc::new(arrow::datatypes::Field::new(name, kind.clone(), true)))),
    );
    DFSchema::new_with_metadata(fields, std::collections::HashMap::new())
}
