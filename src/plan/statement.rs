//! SQL text to one query: the shape of the text is judged before any table is looked up.

use std::collections::{HashMap, VecDeque};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use datafusion::common::Span;
use datafusion::execution::context::SessionContext;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{ObjectName, Query, Statement as SqlStatement, Visit, Visitor, visit_relations};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect, dialect_from_str};

use crate::diagnostic::{Diagnostic, SourceText};

use super::explain::diagnose;
use super::place::{blank_comments_and_strings, byte_range, find_word, first_code};
use super::size::too_large;

/// The one query of a text.
///
/// # Errors
/// What is wrong with its shape: too large, empty, not SQL, several statements, or one that is not a query.
pub(super) fn one_query(context: &SessionContext, file: &Arc<SourceText>) -> Result<Statement, Vec<Diagnostic>> {
    let refuse =
        |span: Range<usize>, message: &str, help: &str| Err(vec![Diagnostic::new(file, span, message).with_help(help)]);
    if let Some(found) = too_large(&file.text) {
        return refuse(found.span, &found.message, found.help);
    }
    let code = blank_comments_and_strings(&file.text);
    if code.trim_matches(|letter: char| letter.is_whitespace() || letter == ';').is_empty() {
        return refuse(0..0, "there is no SELECT in this file", "write one, as in `SELECT * FROM …`");
    }
    let mut statements = statements(context, file)?;
    if statements.len() > 1 {
        let second = second_statement(&code).unwrap_or(0..0);
        return refuse(
            second,
            "a second statement starts here",
            "write one SELECT a file; each further one is a job of its own",
        );
    }
    match statements.pop_front() {
        Some(Statement::Statement(statement)) if matches!(*statement, SqlStatement::Query(_)) => {
            match too_many_reads(&statement) {
                Some((message, help)) => refuse(with_place(&file.text), &message, help),
                None => Ok(Statement::Statement(statement)),
            }
        }
        _ => {
            let start = first_code(&file.text).start;
            let end = code[start..]
                .find(|letter: char| !letter.is_alphanumeric())
                .map_or(code.len(), |length| start + length);
            let word = code[start..end].to_ascii_uppercase();
            refuse(start..end, &format!("`{word}` is not a query"), help_for(&word))
        }
    }
}

/// Where WITH stands, or the first word.
pub(super) fn with_place(text: &str) -> Range<usize> {
    find_word(text, "with").unwrap_or_else(|| first_code(text))
}

/// Why a statement makes too large a plan, if it does: the planner writes a table of WITH out wherever it is named, so each that
/// names the one before it twice doubles the plan.
pub(super) fn too_many_reads(statement: &SqlStatement) -> Option<(String, &'static str)> {
    let mut reads = Reads { open: Vec::new(), tables: HashMap::new(), total: 0 };
    let seen = statement.visit(&mut reads);
    debug_assert!(seen.is_continue(), "nothing stops the visit");
    (reads.total > READS_MAX).then(|| {
        let message =
            format!("tables are read more than {READS_MAX} times in all, counted wherever a table of WITH is named");
        (message, "make a job of what is read several times, and read that")
    })
}

/// How often tables are read, the tables of WITH written out.
struct Reads {
    open: Vec<OpenQuery>,
    tables: HashMap<String, usize>,
    total: usize,
}

/// A query that is being visited: first the tables of its WITH, one after the other, then its body.
struct OpenQuery {
    tables: VecDeque<String>,
    reads: usize,
}

impl Visitor for Reads {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables =
            query.with.iter().flat_map(|with| &with.cte_tables).map(|table| table.alias.name.value.to_lowercase());
        self.open.push(OpenQuery { tables: tables.collect(), reads: 0 });
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let reads = self.tables.get(&relation.to_string().to_lowercase()).copied().unwrap_or(1);
        if let Some(query) = self.open.last_mut() {
            query.reads = query.reads.saturating_add(reads);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        let Some(done) = self.open.pop() else { return ControlFlow::Continue(()) };
        match self.open.last_mut() {
            None => self.total = done.reads,
            Some(around) => match around.tables.pop_front() {
                Some(table) => {
                    self.tables.insert(table, done.reads.max(1));
                }
                None => around.reads = around.reads.saturating_add(done.reads),
            },
        }
        ControlFlow::Continue(())
    }
}

/// More would keep the planner busy for minutes.
const READS_MAX: usize = 500;

/// Every statement of a text.
pub(super) fn statements(
    context: &SessionContext,
    file: &Arc<SourceText>,
) -> Result<VecDeque<Statement>, Vec<Diagnostic>> {
    let state = context.state();
    let options = &state.config().options().sql_parser;
    let dialect: Box<dyn Dialect> = dialect_from_str(options.dialect).unwrap_or_else(|| Box::new(GenericDialect {}));
    let parsed = DFParserBuilder::new(file.text.as_str())
        .with_dialect(dialect.as_ref())
        .with_recursion_limit(options.recursion_limit.get())
        .build()
        .and_then(|mut parser| parser.parse_statements());
    parsed.map_err(|error| diagnose(&error, file))
}

fn help_for(word: &str) -> &'static str {
    match word {
        "EXPLAIN" => "leave it out; `milepost check --operators` shows how each job is computed",
        "CREATE" => "write the SELECT alone: the job's table has the job's name",
        "COPY" | "INSERT" => "write the SELECT alone; where its rows go is said under `sinks` in the pipeline file",
        "SHOW" | "DESCRIBE" => "write the SELECT alone; `milepost check --format json` lists tables and columns",
        "SET" => "leave it out: every job runs with the same settings, so that a replay gives the same rows",
        _ => "write one SELECT: a job only reads",
    }
}

/// The first word behind the first semicolon.
pub(super) fn second_statement(code: &str) -> Option<Range<usize>> {
    let behind = code.find(';')? + 1;
    let start = behind + code[behind..].find(|letter: char| !letter.is_whitespace() && letter != ';')?;
    let word = code[start..].find(|letter: char| !letter.is_alphanumeric()).unwrap_or(code.len() - start);
    Some(start..start + word)
}

/// The tables that a statement names, without their schemas, each with its places.
pub(super) fn table_places(statement: &Statement, text: &str) -> Vec<(String, Range<usize>)> {
    let Statement::Statement(statement) = statement else { return Vec::new() };
    let mut places = Vec::new();
    let seen = visit_relations(statement.as_ref(), |relation| {
        let last = relation.0.last().and_then(|part| part.as_ident());
        places.extend(last.map(|name| {
            let lower = if name.quote_style.is_none() { name.value.to_ascii_lowercase() } else { name.value.clone() };
            let span = Span::try_from_sqlparser_span(name.span)
                .map_or_else(|| first_code(text), |span| byte_range(text, span));
            (lower, span)
        }));
        ControlFlow::<()>::Continue(())
    });
    debug_assert!(seen.is_continue(), "nothing stops the visit");
    places
}
