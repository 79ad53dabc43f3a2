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
use crate::diagnostic::{Diagnostic, Diagnostics};

use super::place::{self, find_word};
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
    /// The tables that it reads, sorted.
    pub reads: Vec<String>,
    /// The declared key as column indexes; empty where none is declared.
    pub key: Vec<usize>,
}

/// Plans all jobs over the sources' schemas; the result is in an order in which every job stands behind those that it reads.
///
/// # Errors
/// All problems of all jobs; a job that reads one that has problems is not looked at.
pub async fn compile_jobs(pipeline: &Pipeline, sources: &TableSchemas) -> Result<Vec<PlannedJob>, Diagnostics> {
    let context = session();
    let mut problems = Vec::new();
    let mut parsed = Vec::new();
    let names: Vec<&str> =
        sources.iter().map(|(name, _)| &**name).chain(pipeline.jobs.iter().map(|job| &*job.name)).collect();
    for (name, schema) in sources {
        register(&context, name, schema, &mut problems, pipeline);
    }
    for (index, job) in pipeline.jobs.iter().enumerate() {
        match parse(&context, job, &names) {
            Ok((statement, reads)) => parsed.push((index, statement, reads)),
            Err(found) => problems.extend(found),
        }
    }
    let order = match in_order(pipeline, &parsed) {
        Ok(order) => order,
        Err(found) => {
            problems.extend(found);
            Vec::new()
        }
    };
    let mut planned: Vec<PlannedJob> = Vec::new();
    for position in order {
        let (index, statement, reads) = &parsed[position];
        let job = &pipeline.jobs[*index];
        let ready = reads.iter().all(|name| {
            sources.iter().any(|(source, _)| **source == **name) || planned.iter().any(|done| *done.name == **name)
        });
        if !ready {
            continue;
        }
        match plan_job(&context, pipeline, *index, statement.clone(), reads).await {
            Ok(done) => {
                register(&context, &job.name, &done.schema, &mut problems, pipeline);
                planned.push(done);
            }
            Err(found) => problems.extend(found),
        }
    }
    if problems.is_empty() { Ok(planned) } else { Err(Diagnostics(problems)) }
}

fn register(
    context: &SessionContext,
    name: &str,
    schema: &SchemaRef,
    problems: &mut Vec<Diagnostic>,
    pipeline: &Pipeline,
) {
    let reference = datafusion::common::TableReference::bare(name);
    if let Err(error) = context.register_table(reference, Arc::new(EmptyTable::new(Arc::clone(schema)))) {
        problems.extend(place::diagnose(&error, &pipeline.text));
    }
}

/// One statement that is a query, and the tables that it names, all of them known.
fn parse(context: &SessionContext, job: &Job, names: &[&str]) -> Result<(Statement, Vec<String>), Vec<Diagnostic>> {
    if let Some(problem) = too_large(job) {
        return Err(vec![problem]);
    }
    let state = context.state();
    let dialect = state.config().options().sql_parser.dialect;
    let statement =
        state.sql_to_statement(&job.sql.text, &dialect).map_err(|error| place::diagnose(&error, &job.sql))?;
    let references = state.resolve_table_references(&statement).map_err(|error| place::diagnose(&error, &job.sql))?;
    let reads: BTreeSet<String> = references.iter().map(|reference| reference.table().to_owned()).collect();
    let unknown: Vec<Diagnostic> = reads
        .iter()
        .filter(|name| !names.contains(&name.as_str()))
        .map(|name| unknown_table(job, name, names))
        .collect();
    if unknown.is_empty() { Ok((statement, reads.into_iter().collect())) } else { Err(unknown) }
}

fn unknown_table(job: &Job, name: &str, names: &[&str]) -> Diagnostic {
    Diagnostic {
        file: Arc::clone(&job.sql),
        span: find_word(&job.sql.text, name).unwrap_or(0..0),
        message: format!("no source or job is called `{name}`"),
        label: String::new(),
        help: Some(nearest(name, names)),
    }
}

/// "did you mean" with the nearest name, or the names that there are.
fn nearest(name: &str, names: &[&str]) -> String {
    let best = names.iter().map(|known| (strsim::jaro_winkler(name, known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
    match best {
        Some((likeness, known)) if likeness > 0.8 => format!("did you mean `{known}`?"),
        _ => format!("there are: {}", names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// The planner works by recursion: what could exhaust its stack is refused before it is planned.
fn too_large(job: &Job) -> Option<Diagnostic> {
    let text = &job.sql.text;
    let operators = text.bytes().filter(|byte| b"+-*/|=<>(,".contains(byte)).count()
        + text.to_ascii_lowercase().matches(" and ").count()
        + text.to_ascii_lowercase().matches(" or ").count();
    (text.len() > SQL_BYTES_MAX || operators > OPERATORS_MAX).then(|| Diagnostic {
        file: Arc::clone(&job.sql),
        span: 0..0,
        message: format!("the SQL of `{}` is too large: {} bytes, {operators} operators", job.name, text.len()),
        label: String::new(),
        help: Some(format!(
            "split it into several jobs of at most {SQL_BYTES_MAX} bytes and {OPERATORS_MAX} operators"
        )),
    })
}

/// Positions in `parsed`, each behind what it reads.
fn in_order(pipeline: &Pipeline, parsed: &[(usize, Statement, Vec<String>)]) -> Result<Vec<usize>, Vec<Diagnostic>> {
    let mut order: Vec<usize> = Vec::new();
    let mut left: Vec<usize> = (0..parsed.len()).collect();
    loop {
        let waiting: BTreeSet<&str> = left.iter().map(|&position| &*pipeline.jobs[parsed[position].0].name).collect();
        let (ready, rest): (Vec<usize>, Vec<usize>) =
            left.iter().partition(|&&position| parsed[position].2.iter().all(|name| !waiting.contains(name.as_str())));
        if ready.is_empty() {
            return if rest.is_empty() { Ok(order) } else { Err(cycle(pipeline, parsed, &rest)) };
        }
        order.extend(ready);
        left = rest;
    }
}

fn cycle(pipeline: &Pipeline, parsed: &[(usize, Statement, Vec<String>)], rest: &[usize]) -> Vec<Diagnostic> {
    let names: Vec<String> =
        rest.iter().map(|&position| format!("`{}`", pipeline.jobs[parsed[position].0].name)).collect();
    rest.iter()
        .take(1)
        .map(|&position| {
            let job = &pipeline.jobs[parsed[position].0];
            Diagnostic {
                file: Arc::clone(&pipeline.text),
                span: job.span.clone(),
                message: format!("jobs read each other in a circle: {}", names.join(", ")),
                label: String::new(),
                help: Some("let one of them read the sources instead".to_owned()),
            }
        })
        .collect()
}

async fn plan_job(
    context: &SessionContext,
    pipeline: &Pipeline,
    index: usize,
    statement: Statement,
    reads: &[String],
) -> Result<PlannedJob, Vec<Diagnostic>> {
    let job = &pipeline.jobs[index];
    let fail = |error: DataFusionError| place::diagnose(&error, &job.sql);
    let state = context.state();
    let plan = state.statement_to_plan(statement).await.map_err(fail)?;
    only_queries().verify_plan(&plan).map_err(fail)?;
    let bound = watermark::bind_comparisons(plan).map_err(fail)?;
    let refused = check::refusals(&bound).map_err(fail)?;
    if !refused.is_empty() {
        return Err(refused.iter().map(|refusal| refusal.diagnose(&job.sql)).collect());
    }
    let plan = state.optimize(&bound).map_err(fail)?;
    let fields: Vec<_> = plan.schema().fields().iter().cloned().collect();
    let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::new(fields));
    let repeated = repeated_columns(job, &schema);
    let (key, missing) = key_columns(pipeline, job, &schema);
    let problems: Vec<Diagnostic> = repeated.into_iter().chain(missing).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(PlannedJob { job: index, name: Arc::clone(&job.name), plan, schema, reads: reads.to_vec(), key })
}

/// Definitions only read.
pub(super) fn only_queries() -> SQLOptions {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false)
}

fn repeated_columns(job: &Job, schema: &SchemaRef) -> Vec<Diagnostic> {
    let mut seen = BTreeSet::new();
    schema
        .fields()
        .iter()
        .filter(|field| !seen.insert(field.name().as_str()))
        .map(|field| Diagnostic {
            file: Arc::clone(&job.sql),
            span: find_word(&job.sql.text, field.name()).unwrap_or(0..0),
            message: format!("two columns of the result are called `{}`", field.name()),
            label: String::new(),
            help: Some("name one of them otherwise with `AS`".to_owned()),
        })
        .collect()
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
                help: Some(nearest(name, &names)),
            }),
        }
    }
    (columns, problems)
}

/// Larger definitions are refused.
const SQL_BYTES_MAX: usize = 256 * 1024;
/// More operators, parentheses and commas than this in one definition are refused.
const OPERATORS_MAX: usize = 4_000;
