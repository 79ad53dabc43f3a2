//! SQL run once over whole tables: `query`, and the oracle of every test.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::dataframe::DataFrame;
use datafusion::datasource::MemTable;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::collect;

use crate::types::Micros;

use super::job::only_queries;
use super::size::too_large;
use super::{session, system, watermark};

/// A table of a batch: its name (`milepost.errors` for a system table), schema and rows.
#[derive(Debug, Clone)]
pub struct BatchTable {
    /// The name in SQL.
    pub name: Arc<str>,
    /// The schema.
    pub schema: SchemaRef,
    /// The rows; each batch has the schema's types.
    pub batches: Vec<RecordBatch>,
}

/// Runs one SELECT over the tables, with `watermark()` bound to `watermark`.
///
/// # Errors
/// What DataFusion says of the SQL or of a row. Anything but a query is refused, and what is too large to be planned.
pub async fn run_batch(
    tables: &[BatchTable],
    sql: &str,
    watermark: Option<Micros>,
) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let context = session_over(tables)?;
    if let Some(found) = too_large(sql) {
        return Err(DataFusionError::Plan(format!("{}: {}", found.message, found.help)));
    }
    let plan = plan_batch(&context, sql, watermark).await?;
    table_of(context.execute_logical_plan(plan).await?).await
}

/// A session that sees these tables.
pub(super) fn session_over(tables: &[BatchTable]) -> Result<SessionContext> {
    let context = session();
    system::register_schema(&context)?;
    for table in tables {
        let schema = nullable(&table.schema);
        let batches = table
            .batches
            .iter()
            .map(|batch| RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()))
            .collect::<Result<Vec<_>, _>>()?;
        let provider = MemTable::try_new(schema, vec![batches])?;
        context.register_table(system::reference(&table.name), Arc::new(provider))?;
    }
    Ok(context)
}

/// The plan of one query, with `watermark()` bound; anything but a query is refused.
pub(super) async fn plan_batch(context: &SessionContext, sql: &str, watermark: Option<Micros>) -> Result<LogicalPlan> {
    let plan = context.state().create_logical_plan(sql).await?;
    only_queries().verify_plan(&plan)?;
    if matches!(plan, LogicalPlan::Statement(_)) {
        return Err(DataFusionError::Plan("only a query can be run".to_owned()));
    }
    watermark::bind_value(plan, watermark)
}

/// The rows of a planned query.
pub(super) async fn table_of(frame: DataFrame) -> Result<(SchemaRef, Vec<RecordBatch>)> {
    let planned: Vec<_> = frame.schema().fields().iter().cloned().collect();
    let task = Arc::new(frame.task_ctx());
    let physical = frame.create_physical_plan().await?;
    // Types are coerced after the frame was planned: the branches of a UNION may have had others.
    let coerced = physical.schema();
    let typed = planned.iter().zip(coerced.fields());
    let fields: Vec<_> =
        typed.map(|(field, typed)| field.as_ref().clone().with_data_type(typed.data_type().clone())).collect();
    Ok((Arc::new(Schema::new(fields)), collect(physical, task).await?))
}

/// The same columns, all of them nullable: a table's rows are not checked against what its contract said of nulls.
pub(crate) fn nullable(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<_> = schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    Arc::new(Schema::new(fields))
}
