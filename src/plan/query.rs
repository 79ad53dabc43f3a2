//! A person's query over whole tables: as [`run_batch`](super::run_batch), with what is wrong told in the author's words.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;

use crate::diagnostic::{Diagnostic, Diagnostics, SourceText, suggest};
use crate::types::Micros;

use super::batch::{BatchTable, plan_batch, session_over, table_of};
use super::explain::{diagnose, explain};
use super::place::{blank_comments_and_strings, first_code};
use super::size::too_large;
use super::statement::{second_statement, statements, table_places, too_many_reads, with_place};
use super::system::{SYSTEM_SCHEMA, table_name};

/// Under which name the text of a query is shown.
pub const QUERY_PATH: &str = "query";

/// A table that the pipeline has and a query can't see.
#[derive(Debug, Clone)]
pub struct UnseenTable {
    /// Its name.
    pub name: Arc<str>,
    /// Why.
    pub reason: Unseen,
}

/// Why a query can't see a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unseen {
    /// A source without `upsert`: its rows go through the jobs and are not kept.
    NotKept,
    /// The last run did not know it yet.
    NotYet,
}

/// Runs one SELECT over the tables, with `watermark()` bound to `watermark`. `unseen` are names that deserve an answer of
/// their own.
///
/// # Errors
/// Everything that is wrong with the text, with its place in it; or what failed on a row.
pub async fn run_query(
    tables: &[BatchTable],
    unseen: &[UnseenTable],
    sql: &str,
    watermark: Option<Micros>,
) -> Result<(SchemaRef, Vec<RecordBatch>), Diagnostics> {
    let file = SourceText::new(QUERY_PATH, sql);
    let told = |error: DataFusionError| Diagnostics(diagnose(&error, &file));
    let context = session_over(tables).map_err(told)?;
    let statement = query_statement(&context, &file)?;
    let unknown = unknown_tables(&context, &statement, tables, unseen, &file);
    if !unknown.is_empty() {
        return Err(unknown);
    }
    let plan = plan_batch(&context, sql, watermark).await.map_err(told)?;
    let frame = context.execute_logical_plan(plan).await.map_err(told)?;
    frame.clone().create_physical_plan().await.map_err(told)?;
    table_of(frame).await.map_err(|error| {
        let message = format!("a row can't be computed: {}", explain_row(&error, sql));
        let help = "leave such rows out with WHERE, or say with CASE or nullif what the value should be";
        Diagnostic::new(&file, first_code(sql), message).with_help(help).into()
    })
}

/// What failed on a row; the rules for what is wrong with a text don't apply.
fn explain_row(error: &DataFusionError, sql: &str) -> String {
    match error.find_root() {
        DataFusionError::ArrowError(cause, _) => cause.to_string().to_lowercase(),
        _ => explain(error, sql).message,
    }
}

/// The one statement of the text, if it only reads.
fn query_statement(context: &SessionContext, file: &Arc<SourceText>) -> Result<Statement, Diagnostics> {
    let refuse =
        |span, message: &str, help: &str| Err(Diagnostics::from(Diagnostic::new(file, span, message).with_help(help)));
    if let Some(found) = too_large(&file.text) {
        return refuse(found.span, &found.message, found.help);
    }
    let code = blank_comments_and_strings(&file.text);
    let mut statements = statements(context, file).map_err(Diagnostics)?;
    if statements.len() > 1 {
        let second = second_statement(&code).unwrap_or(0..0);
        return refuse(second, "a second statement starts here", "ask for one SELECT at a time");
    }
    let Some(statement) = statements.pop_front() else {
        return refuse(0..0, "there is no SELECT", "write one, as in `SELECT * FROM …`");
    };
    let only_reads = match &statement {
        Statement::Explain(_) => true,
        Statement::Statement(statement) => matches!(
            **statement,
            SqlStatement::Query(_) | SqlStatement::Explain { .. } | SqlStatement::ExplainTable { .. }
        ),
        _ => false,
    };
    let found = match &statement {
        Statement::Statement(statement) => too_many_reads(statement),
        _ => None,
    };
    if let Some((message, help)) = found.filter(|_| only_reads) {
        return refuse(with_place(&file.text), &message, help);
    }
    if only_reads {
        return Ok(statement);
    }
    let start = first_code(&file.text).start;
    let end = code[start..].find(|letter: char| !letter.is_alphanumeric()).map_or(code.len(), |length| start + length);
    let word = code[start..end].to_ascii_uppercase();
    refuse(start..end, &format!("`{word}` is not a query"), "`milepost query` only reads: write one SELECT")
}

/// A problem for each table that the statement names and that is not among those given.
fn unknown_tables(
    context: &SessionContext,
    statement: &Statement,
    tables: &[BatchTable],
    unseen: &[UnseenTable],
    file: &Arc<SourceText>,
) -> Diagnostics {
    let state = context.state();
    let references = match state.resolve_table_references(statement) {
        Ok(references) => references,
        Err(error) => return Diagnostics(diagnose(&error, file)),
    };
    let places = table_places(statement, &file.text);
    let mut problems = Diagnostics::default();
    for reference in references {
        let name = match (reference.catalog(), reference.schema()) {
            (None, None | Some("public" | SYSTEM_SCHEMA)) => table_name(&reference),
            _ => reference.to_string(),
        };
        let is_function = reference.schema().is_none() && state.table_functions().contains_key(&name);
        if is_function || tables.iter().any(|table| *table.name == *name) {
            continue;
        }
        let unseen = unseen.iter().find(|table| *table.name == *name).map(|table| table.reason);
        let (message, help) = match unseen {
            Some(Unseen::NotKept) => (
                format!("`{name}` can't be queried: the rows of a source without `upsert` are not kept"),
                format!("query a job that reads it; a job `SELECT * FROM {name}` would keep its rows"),
            ),
            Some(Unseen::NotYet) => (
                format!("the last run left no table `{name}`"),
                "run the pipeline again: it has changed since".to_owned(),
            ),
            None => {
                let mut names: Vec<&str> = tables.iter().map(|table| &*table.name).collect();
                names.sort_unstable();
                (format!("there is no table `{name}`"), suggest(&name, names))
            }
        };
        let place = places.iter().find(|(known, _)| known == reference.table()).map_or(0..0, |(_, span)| span.clone());
        problems.push(Diagnostic::new(file, place, message).with_help(help));
    }
    problems
}
