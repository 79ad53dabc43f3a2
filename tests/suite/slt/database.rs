//! A circuit that looks like a database to sqllogictest.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringViewArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::sql::sqlparser::ast::{AssignmentTarget, FromTable, Statement, TableFactor, TableObject};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use milepost::circuit::{Circuit, ErrorRow};
use milepost::definition::contract::utc_timestamp;
use milepost::plan::{BatchTable, TableSchemas, run_batch};
use milepost::state::{Delta, Table};
use sqllogictest::{DB, DBOutput, DefaultColumnType};

use crate::oracle::{compiled, lines};

/// What is wrong with a statement, or with its answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Problem(String);

fn problem(error: impl ToString) -> Problem {
    Problem(error.to_string())
}

type Found<T> = Result<T, Problem>;

/// A source, and its rows.
struct Source {
    name: Arc<str>,
    rows: RecordBatch,
    /// Changes since the last step.
    changes: Vec<Delta>,
}

/// The circuit, once the first row or query came.
struct Running {
    circuit: Circuit,
    tables: Vec<Table>,
    errors: Vec<ErrorRow>,
}

/// See the module above.
pub(super) struct Database {
    runtime: tokio::runtime::Runtime,
    queries: Vec<String>,
    sources: Vec<Source>,
    running: Option<Running>,
    watermark: Option<i64>,
    /// Whether changes wait for a COMMIT.
    collecting: bool,
}

impl DB for Database {
    type Error = Problem;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Found<DBOutput<DefaultColumnType>> {
        let sql = sql.trim();
        if let Some(time) = sql.strip_prefix("SET watermark = ") {
            let time = chrono::DateTime::parse_from_rfc3339(time.trim_matches('\'')).map_err(problem)?;
            self.watermark = Some(time.timestamp_micros());
            return self.stepped(0);
        }
        match sql {
            "BEGIN" => {
                self.collecting = true;
                return Ok(DBOutput::StatementComplete(0));
            }
            "COMMIT" => {
                self.collecting = false;
                return self.stepped(0);
            }
            _ => {}
        }
        match Parser::parse_sql(&GenericDialect {}, sql).map_err(problem)?.pop() {
            Some(Statement::CreateTable(create)) => {
                let columns: Vec<(String, String)> = create
                    .columns
                    .iter()
                    .map(|column| (column.name.value.clone(), column.data_type.to_string()))
                    .collect();
                self.create(&create.name.to_string(), &columns)
            }
            Some(Statement::Insert(insert)) => {
                let TableObject::TableName(name) = &insert.table else { return Err(problem("insert into a table")) };
                let query = insert.source.as_ref().ok_or_else(|| problem("nothing to insert"))?;
                self.insert(&name.to_string(), &query.to_string())
            }
            Some(Statement::Delete(delete)) => {
                let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
                let table = from.first().ok_or_else(|| problem("delete from a table"))?;
                let selection = delete.selection.as_ref().map_or_else(|| "true".to_owned(), ToString::to_string);
                self.replace(&name_of(&table.relation)?, &selection, None)
            }
            Some(Statement::Update(update)) => {
                let selection = update.selection.as_ref().map_or_else(|| "true".to_owned(), ToString::to_string);
                let mut assignments = Vec::new();
                for assignment in &update.assignments {
                    let AssignmentTarget::ColumnName(column) = &assignment.target else {
                        return Err(problem("assign to one column"));
                    };
                    assignments.push((column.to_string(), assignment.value.to_string()));
                }
                self.replace(&name_of(&update.table.relation)?, &selection, Some(&assignments))
            }
            _ if Self::is_about_errors(sql) => self.query_errors(sql),
            _ => self.query(sql),
        }
    }
}

fn name_of(table: &TableFactor) -> Found<String> {
    match table {
        TableFactor::Table { name, .. } => Ok(name.to_string()),
        _ => Err(problem("name a table")),
    }
}

impl Database {
    /// An empty database in which these queries are kept up to date.
    pub(super) fn new(queries: Vec<String>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        Self { runtime, queries, sources: Vec::new(), running: None, watermark: None, collecting: false }
    }

    /// Whether a query reads the table of error rows, and so is none of the jobs.
    pub(super) fn is_about_errors(sql: &str) -> bool {
        sql.contains("milepost.errors")
    }

    fn create(&mut self, name: &str, columns: &[(String, String)]) -> Found<DBOutput<DefaultColumnType>> {
        if self.running.is_some() {
            return Err(problem("tables are declared before the first row and query"));
        }
        let nulls: Vec<String> = columns.iter().map(|(name, kind)| format!("CAST(NULL AS {kind}) AS {name}")).collect();
        let (schema, _) = self.batch(&format!("SELECT {}", nulls.join(", ")))?;
        let field = |field: &Arc<Field>| {
            let kind = match field.data_type() {
                DataType::Timestamp(..) => utc_timestamp(),
                other => other.clone(),
            };
            Field::new(field.name(), kind, true)
        };
        let schema = Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()));
        let rows = RecordBatch::new_empty(schema);
        self.sources.push(Source { name: Arc::from(name), rows, changes: Vec::new() });
        Ok(DBOutput::StatementComplete(0))
    }

    fn insert(&mut self, name: &str, query: &str) -> Found<DBOutput<DefaultColumnType>> {
        let source = self.source(name)?;
        let rows = self.rows_of(query, &self.sources[source].rows.schema())?;
        let count = rows.num_rows();
        self.change(source, &[self.sources[source].rows.clone(), rows.clone()], Delta::insertions(rows))?;
        self.stepped(count)
    }

    /// Takes the rows away for which `selection` is true, and puts others in their place if there are `assignments`.
    fn replace(
        &mut self,
        name: &str,
        selection: &str,
        assignments: Option<&[(String, String)]>,
    ) -> Found<DBOutput<DefaultColumnType>> {
        let source = self.source(name)?;
        let schema = self.sources[source].rows.schema();
        let rows = |select: &str, condition: String| {
            self.rows_of(&format!("SELECT {select} FROM {name} WHERE {condition}"), &schema)
        };
        let gone = rows("*", selection.to_owned())?;
        let kept = rows("*", format!("({selection}) IS NOT TRUE"))?;
        let come = match assignments {
            None => RecordBatch::new_empty(Arc::clone(&schema)),
            Some(assignments) => {
                let value = |field: &Arc<Field>| {
                    let assigned = assignments.iter().find(|(column, _)| column == field.name());
                    assigned.map_or_else(|| field.name().clone(), |(_, value)| value.clone())
                };
                let values: Vec<String> = schema.fields().iter().map(value).collect();
                rows(&values.join(", "), selection.to_owned())?
            }
        };
        let weights = [vec![-1; gone.num_rows()], vec![1; come.num_rows()]].concat();
        let changed = concat_batches(&schema, [&gone, &come]).map_err(problem)?;
        let delta = Delta::new(changed, weights).consolidate().map_err(problem)?;
        let count = gone.num_rows();
        self.change(source, &[kept, come], delta)?;
        self.stepped(count)
    }

    fn change(&mut self, source: usize, rows: &[RecordBatch], delta: Delta) -> Found<()> {
        let source = &mut self.sources[source];
        source.rows = concat_batches(&source.rows.schema(), rows).map_err(problem)?;
        source.changes.push(delta);
        Ok(())
    }

    /// Steps the circuit with what changed, unless more is to come.
    fn stepped(&mut self, count: usize) -> Found<DBOutput<DefaultColumnType>> {
        if self.collecting {
            return Ok(DBOutput::StatementComplete(count as u64));
        }
        self.start()?;
        self.step()?;
        Ok(DBOutput::StatementComplete(count as u64))
    }

    fn step(&mut self) -> Found<()> {
        let delta = |source: &mut Source| {
            let changes = std::mem::take(&mut source.changes);
            Delta::concat(&source.rows.schema(), &changes).and_then(Delta::consolidate).map_err(problem)
        };
        let deltas = self.sources.iter_mut().map(delta).collect::<Found<Vec<Delta>>>()?;
        let running = self.running.as_mut().expect("it was started");
        let output = running.circuit.step(&deltas, self.watermark).map_err(problem)?;
        for (table, delta) in running.tables.iter_mut().zip(&output.jobs) {
            table.apply(delta).map_err(problem)?;
        }
        running.errors.extend(output.errors);
        Ok(())
    }

    fn start(&mut self) -> Found<()> {
        if self.running.is_some() {
            return Ok(());
        }
        let schemas: TableSchemas =
            self.sources.iter().map(|source| (Arc::clone(&source.name), source.rows.schema())).collect();
        let name = |position: usize| format!("q{}", position + 1);
        let jobs: Vec<(String, String)> =
            self.queries.iter().enumerate().map(|(position, sql)| (name(position), sql.clone())).collect();
        let circuit = self.runtime.block_on(compiled(&jobs, &schemas)).map_err(Problem)?;
        let mut tables = Vec::new();
        for job in circuit.jobs() {
            tables.push(Table::new(Arc::clone(&job.schema), Vec::new()).map_err(problem)?);
        }
        self.running = Some(Running { circuit, tables, errors: Vec::new() });
        // What does not depend on any row appears in the first step.
        if self.sources.iter().all(|source| source.changes.is_empty()) { self.step() } else { Ok(()) }
    }

    fn query(&mut self, sql: &str) -> Found<DBOutput<DefaultColumnType>> {
        self.start()?;
        let Some(query) = self.queries.iter().position(|known| known == sql) else { return self.refused(sql) };
        let running = self.running.as_ref().expect("started above");
        let position = running.circuit.jobs().iter().position(|job| job.job == query).expect("a job for each query");
        let failed = failing_rows(&running.errors, position);
        let rows = running.tables[position].batches().map_err(problem)?;
        let schema = Arc::clone(&running.circuit.jobs()[position].schema);
        match self.batch(sql) {
            Ok((in_batch, batches)) => {
                if failed {
                    return Err(problem("the job has error rows, and the batch does not fail"));
                }
                let kinds = |schema: &SchemaRef| -> Vec<DataType> {
                    schema.fields().iter().map(|field| field.data_type().clone()).collect()
                };
                if kinds(&schema) != kinds(&in_batch) {
                    return Err(problem(format!("the job has the types {schema:?}, the batch {in_batch:?}")));
                }
                let (actual, expected) = (lines(&rows), lines(&batches));
                if actual != expected {
                    let (actual, expected) = (actual.join("\n"), expected.join("\n"));
                    return Err(problem(format!("circuit:\n{actual}\nbatch:\n{expected}")));
                }
            }
            Err(error) if !failed => return Err(problem(format!("the batch fails, and the job does not: {error}"))),
            Err(_) => {}
        }
        Ok(shown(&schema, &rows))
    }

    /// What is said of a query that is none of the jobs.
    fn refused(&self, sql: &str) -> Found<DBOutput<DefaultColumnType>> {
        let schemas: TableSchemas =
            self.sources.iter().map(|source| (Arc::clone(&source.name), source.rows.schema())).collect();
        let jobs = vec![("job".to_owned(), sql.to_owned())];
        match self.runtime.block_on(compiled(&jobs, &schemas)) {
            Ok(circuit) => Ok(shown(&circuit.jobs()[0].schema, &[])),
            Err(problems) => Err(problem(problems.trim_end())),
        }
    }

    fn query_errors(&mut self, sql: &str) -> Found<DBOutput<DefaultColumnType>> {
        self.start()?;
        let errors = self.running.as_ref().map_or_else(Vec::new, |running| standing(&running.errors));
        let text = |text: fn(&ErrorRow) -> String| -> ArrayRef {
            Arc::new(errors.iter().map(|error| Some(text(error))).collect::<StringViewArray>())
        };
        let counts: ArrayRef = Arc::new(errors.iter().map(|error| Some(error.weight)).collect::<Int64Array>());
        let columns: [(&str, ArrayRef); 5] = [
            ("job", text(|error| format!("q{}", error.job + 1))),
            ("expression", text(|error| error.expression.clone())),
            ("reason", text(|error| error.reason.clone())),
            ("row", text(|error| error.row.clone())),
            ("count", counts),
        ];
        let fields: Vec<Field> =
            columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns.map(|(_, column)| column).to_vec());
        let table = BatchTable { name: Arc::from("milepost.errors"), schema, batches: vec![rows.map_err(problem)?] };
        let (schema, batches) = self.runtime.block_on(run_batch(&[table], sql, None)).map_err(problem)?;
        Ok(shown(&schema, &batches))
    }

    fn source(&self, name: &str) -> Found<usize> {
        let found = self.sources.iter().position(|source| *source.name == *name);
        found.ok_or_else(|| problem(format!("there is no table {name}")))
    }

    fn batch(&self, sql: &str) -> Found<(SchemaRef, Vec<RecordBatch>)> {
        let table = |source: &Source| BatchTable {
            name: Arc::clone(&source.name),
            schema: source.rows.schema(),
            batches: vec![source.rows.clone()],
        };
        let tables: Vec<BatchTable> = self.sources.iter().map(table).collect();
        self.runtime.block_on(run_batch(&tables, sql, self.watermark)).map_err(problem)
    }

    /// The rows of a query as rows of a table, column by column.
    fn rows_of(&self, query: &str, schema: &SchemaRef) -> Found<RecordBatch> {
        let (found, batches) = self.batch(query)?;
        let rows = concat_batches(&found, &batches).map_err(problem)?;
        if rows.num_columns() != schema.fields().len() {
            return Err(problem(format!(
                "{} columns, and the table has {}",
                rows.num_columns(),
                schema.fields().len()
            )));
        }
        let columns = rows.columns().iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| cast(column, field.data_type()).map_err(problem));
        RecordBatch::try_new(Arc::clone(schema), columns.collect::<Found<_>>()?).map_err(problem)
    }
}

/// Whether a job has error rows.
fn failing_rows(errors: &[ErrorRow], job: usize) -> bool {
    standing(errors).iter().any(|error| error.job == job)
}

/// The error rows that did not go again.
fn standing(errors: &[ErrorRow]) -> Vec<ErrorRow> {
    let mut standing: Vec<ErrorRow> = Vec::new();
    for error in errors {
        let same =
            |known: &ErrorRow| ErrorRow { weight: 0, ..known.clone() } == ErrorRow { weight: 0, ..error.clone() };
        match standing.iter_mut().find(|known| same(known)) {
            Some(known) => known.weight += error.weight,
            None => standing.push(error.clone()),
        }
    }
    standing.retain(|error| error.weight != 0);
    standing
}

fn shown(schema: &SchemaRef, batches: &[RecordBatch]) -> DBOutput<DefaultColumnType> {
    let kind = |field: &Arc<Field>| match field.data_type() {
        kind if kind.is_integer() => DefaultColumnType::Integer,
        kind if kind.is_numeric() => DefaultColumnType::FloatingPoint,
        kind if kind.is_string() => DefaultColumnType::Text,
        _ => DefaultColumnType::Any,
    };
    let types = schema.fields().iter().map(kind).collect();
    let options = FormatOptions::default();
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let value = |column: &ArrayRef| {
                if column.is_null(row) {
                    return "NULL".to_owned();
                }
                let mut text = String::new();
                let formatter = ArrayFormatter::try_new(column.as_ref(), &options).expect("every type can be shown");
                write!(text, "{}", formatter.value(row)).expect("a text takes text");
                if text.is_empty() { "(empty)".to_owned() } else { text }
            };
            rows.push(batch.columns().iter().map(value).collect());
        }
    }
    DBOutput::Rows { types, rows }
}
