//! Jobs to plans: each job's SELECT, planned over the declared schemas of what it reads, in the order of dependence.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::datasource::empty::EmptyTable;
use datafusion::error::DataFusionError;
use datafusion::execution::context::{SQLOptions, SessionContext};
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;

use crate::definition::pipeline::{Job, Pipeline};
use crate::diagnostic::{Diagnostic, Diagnostics, suggest};

use super::explain::diagnose;
use super::history::{self, HistoryTable};
use super::place::{find_word, first_code};
use super::statement::{one_query, table_places};
use super::system::{self, SYSTEM_SCHEMA, SystemTable};
use super::{check, session, watermark};

/// Tables by name, in the order in which rows reach the circuit.
pub type TableSchemas = Vec<(Arc<str>, SchemaRef)>;

/// A job whose SELECT was planned and optimised, with the placeholder where it says `watermark()`.
#[derive(Debug, Clone)]
pub struct PlannedJob {
    /// Index into [`Pipeline::jobs`].
    pub job: usize,
    /// The job's name.
    pub name: Arc<str>,
    /// The optimised plan.
    pub plan: LogicalPlan,
    /// The schema of the job's table.
    pub schema: SchemaRef,
    /// The tables that it reads, sorted; Milepost's own with their schema.
    pub reads: Vec<String>,
    /// The declared key as column indexes; empty where none is declared.
    pub key: Vec<usize>,
}

/// Plans all jobs over the sources' schemas; the result is in an order in which every job stands behind those that it reads.
///
/// # Errors
/// All problems of all jobs; a job that reads one that has problems is not looked at.
pub async fn compile_jobs(pipeline: &Pipeline, sources: &TableSchemas) -> Result<Vec<PlannedJob>, Diagnostics> {
    let (planned, problems) = plan_jobs(pipeline, sources).await;
    problems.into_result(Some(planned))
}

/// As [`compile_jobs`], but with the jobs that are right beside the problems of the others.
pub async fn plan_jobs(pipeline: &Pipeline, sources: &TableSchemas) -> (Vec<PlannedJob>, Diagnostics) {
    let context = session();
    let mut problems = Vec::new();
    let mut parsed = Vec::new();
    let names: Vec<&str> = sources
        .iter()
        .map(|(name, _)| &**name)
        .chain(pipeline.jobs.iter().map(|job| &*job.name))
        .chain(pipeline.histories().map(|(_, history)| &*history.name))
        .collect();
    if let Err(error) = system::register_schema(&context) {
        problems.extend(diagnose(&error, &pipeline.text));
    }
    for (name, schema) in sources {
        register(&context, name, schema, &mut problems, pipeline);
    }
    for history in pipeline.sources.iter().filter_map(HistoryTable::of_source) {
        register(&context, &history.name, &history.schema, &mut problems, pipeline);
    }
    for table in SystemTable::ALL {
        register(&context, table.name(), &table.schema(), &mut problems, pipeline);
    }
    for (index, job) in pipeline.jobs.iter().enumerate() {
        match parse(&context, pipeline, job, &names) {
            Ok((statement, reads)) => parsed.push((index, statement, reads)),
            Err(found) => problems.extend(found),
        }
    }
    let (order, circle) = in_order(pipeline, &parsed);
    problems.extend(circle);
    let mut planned: Vec<PlannedJob> = Vec::new();
    for position in order {
        let (index, statement, reads) = &parsed[position];
        let job = &pipeline.jobs[*index];
        let ready = reads.iter().map(|name| history::origin(pipeline, name)).all(|name| {
            sources.iter().any(|(source, _)| **source == *name)
                || planned.iter().any(|done| *done.name == *name)
                || SystemTable::ALL.iter().any(|table| table.name() == name)
        });
        if !ready {
            continue;
        }
        match plan_job(&context, pipeline, *index, statement.clone(), reads).await {
            Ok(done) => {
                register(&context, &job.name, &done.schema, &mut problems, pipeline);
                if let Some(history) = HistoryTable::of_job(job, &done.schema) {
                    register(&context, &history.name, &history.schema, &mut problems, pipeline);
                }
                planned.push(done);
            }
            Err(found) => problems.extend(found),
        }
    }
    (planned, Diagnostics(problems))
}

fn register(
    context: &SessionContext,
    name: &str,
    schema: &SchemaRef,
    problems: &mut Vec<Diagnostic>,
    pipeline: &Pipeline,
) {
    if let Err(error) = context.register_table(system::reference(name), Arc::new(EmptyTable::new(Arc::clone(schema)))) {
        problems.extend(diagnose(&error, &pipeline.text));
    }
}

/// One query, and the tables that it names, all of them known.
fn parse(
    context: &SessionContext,
    pipeline: &Pipeline,
    job: &Job,
    names: &[&str],
) -> Result<(Statement, Vec<String>), Vec<Diagnostic>> {
    let statement = one_query(context, &job.sql)?;
    let references =
        context.state().resolve_table_references(&statement).map_err(|error| diagnose(&error, &job.sql))?;
    let places = table_places(&statement, &job.sql.text);
    let place = |name: &str| places.iter().find(|(known, _)| known == name).map_or(0..0, |(_, span)| span.clone());
    let others = || names.iter().copied().filter(|&other| *other != *job.name);
    let mut refused = Vec::new();
    let mut reads = BTreeSet::new();
    for reference in &references {
        let table = reference.table();
        let found = match reference.schema() {
            Some(SYSTEM_SCHEMA) if reference.catalog().is_none() => system_table(table),
            Some(schema) => {
                let help = format!("sources and jobs go by their names alone: {}", suggest(table, others()));
                Err((format!("there is no schema `{schema}` in a job"), help))
            }
            None if names.contains(&table) => Ok(table),
            None => {
                let help = history::how_to_keep(pipeline, table).unwrap_or_else(|| suggest(table, others()));
                Err((format!("no source or job is called `{table}`"), help))
            }
        };
        match found {
            Ok(name) => {
                reads.insert(name.to_owned());
            }
            Err((message, help)) => {
                refused.push(Diagnostic::new(&job.sql, place(table), message).with_help(help));
            }
        }
    }
    if refused.is_empty() { Ok((statement, reads.into_iter().collect())) } else { Err(refused) }
}

/// One of Milepost's own tables as a job may read it, or what is wrong and what would be right.
fn system_table(table: &str) -> Result<&'static str, (String, String)> {
    let Some(found) = SystemTable::named(table) else {
        let readable = SystemTable::ALL.into_iter().filter(|known| known.refusal().is_none());
        let help = suggest(table, readable.map(SystemTable::bare_name));
        return Err((format!("there is no table `{SYSTEM_SCHEMA}.{table}`"), help));
    };
    match found.refusal() {
        Some(help) => Err((format!("a job can't read `{}`", found.name()), help.to_owned())),
        None => Ok(found.name()),
    }
}

fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Positions in `parsed`, each behind what it reads; those that read each other are left out, with a problem.
fn in_order(pipeline: &Pipeline, parsed: &[(usize, Statement, Vec<String>)]) -> (Vec<usize>, Option<Diagnostic>) {
    let mut order: Vec<usize> = Vec::new();
    let mut left: Vec<usize> = (0..parsed.len()).collect();
    loop {
        let waiting: BTreeSet<&str> = left.iter().map(|&position| &*pipeline.jobs[parsed[position].0].name).collect();
        let (ready, rest): (Vec<usize>, Vec<usize>) = left.iter().partition(|&&position| {
            parsed[position].2.iter().all(|name| !waiting.contains(history::origin(pipeline, name)))
        });
        if ready.is_empty() {
            return (order, cycle(pipeline, parsed, &rest));
        }
        order.extend(ready);
        left = rest;
    }
}

/// The jobs among `rest` that lead back to themselves, at the first of them.
fn cycle(pipeline: &Pipeline, parsed: &[(usize, Statement, Vec<String>)], rest: &[usize]) -> Option<Diagnostic> {
    let name = |position: usize| &*pipeline.jobs[parsed[position].0].name;
    let mut left: Vec<usize> = rest.to_vec();
    loop {
        let read = |position: usize| {
            let reads = |other: &usize| &parsed[*other].2;
            left.iter().flat_map(reads).any(|read| history::origin(pipeline, read) == name(position))
        };
        let kept: Vec<usize> = left.iter().copied().filter(|&position| read(position)).collect();
        if kept.len() == left.len() {
            break;
        }
        left = kept;
    }
    let (job, _, reads) = &parsed[*left.first()?];
    let job = &pipeline.jobs[*job];
    let names: Vec<&str> = left.iter().map(|&position| name(position)).collect();
    let message = match names.as_slice() {
        [only] if !reads.iter().any(|read| read == only) => format!("job `{only}` reads its own history"),
        [only] => format!("job `{only}` reads itself"),
        _ => format!("jobs read each other in a circle: {}", listed(&names)),
    };
    Some(
        Diagnostic::new(&pipeline.text, job.span.clone(), message)
            .with_help("let one of them read the sources instead"),
    )
}

async fn plan_job(
    context: &SessionContext,
    pipeline: &Pipeline,
    index: usize,
    statement: Statement,
    reads: &[String],
) -> Result<PlannedJob, Vec<Diagnostic>> {
    let job = &pipeline.jobs[index];
    let fail = |error: DataFusionError| diagnose(&error, &job.sql);
    let state = context.state();
    let plan = state.statement_to_plan(statement).await.map_err(fail)?;
    only_queries().verify_plan(&plan).map_err(fail)?;
    let bound = watermark::bind_comparisons(plan.clone()).map_err(fail)?;
    let refused = check::refusals(&bound).map_err(fail)?;
    if !refused.is_empty() {
        return Err(refused.iter().map(|refusal| refusal.diagnose(&job.sql)).collect());
    }
    let in_batch = watermark::bind_value(plan, None).map_err(fail)?;
    let plan = state.optimize(&bound).map_err(fail)?;
    let fields: Vec<_> = plan.schema().fields().iter().cloned().collect();
    let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::new(fields));
    let repeated = repeated_columns(job, &schema);
    let (key, missing) = key_columns(pipeline, job, &schema);
    let taken = history::column_problem(pipeline, job, &schema);
    let problems: Vec<Diagnostic> = repeated.into_iter().chain(missing).chain(taken).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    state.create_physical_plan(&state.optimize(&in_batch).map_err(fail)?).await.map_err(fail)?;
    Ok(PlannedJob { job: index, name: Arc::clone(&job.name), plan, schema, reads: reads.to_vec(), key })
}

/// Definitions only read.
pub(super) fn only_queries() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

fn repeated_columns(job: &Job, schema: &SchemaRef) -> Option<Diagnostic> {
    let mut seen = BTreeSet::new();
    let mut repeated: Vec<&str> = Vec::new();
    for field in schema.fields() {
        if !seen.insert(field.name().as_str()) && !repeated.contains(&field.name().as_str()) {
            repeated.push(field.name());
        }
    }
    let first = repeated.first()?;
    let star = find_word(&job.sql.text, "select *|*").filter(|_| repeated.len() > 1);
    let span = star.or_else(|| find_word(&job.sql.text, first)).unwrap_or_else(|| first_code(&job.sql.text));
    let message = format!("two columns of the result are called {}", listed(&repeated));
    Some(Diagnostic::new(&job.sql, span, message).with_help("name the columns, one of two otherwise: `b.key AS b_key`"))
}

fn key_columns(pipeline: &Pipeline, job: &Job, schema: &SchemaRef) -> (Vec<usize>, Vec<Diagnostic>) {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let mut columns = Vec::new();
    let mut problems = Vec::new();
    for (name, span) in &job.key {
        match names.iter().position(|known| known == name) {
            Some(column) => columns.push(column),
            None => problems.push(Diagnostic {
                file: Arc::clone(&pipeline.text),
                span: span.clone(),
                message: format!("job `{}` has no column `{name}`", job.name),
                label: String::new(),
                help: Some(suggest(name, names.iter().copied())),
            }),
        }
    }
    (columns, problems)
}
