//! Milepost's own tables: their names and columns, and which of them a job may read.
//!
//! Their rows follow from the logged epochs alone. A job may read those that do not follow from jobs in turn.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::common::TableReference;
use datafusion::error::Result;
use datafusion::execution::context::SessionContext;

use crate::definition::contract::utc_timestamp;

/// The schema in SQL that holds them.
pub(crate) const SYSTEM_SCHEMA: &str = "milepost";

/// One of Milepost's own tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemTable {
    /// Every event that could not be read.
    DeadLetters,
    /// Every row behind its source's watermark that was diverted.
    Late,
    /// What became of the events of each source in each epoch in which it gave any.
    Intake,
    /// Every epoch.
    Epochs,
    /// The last epoch, in one row.
    Progress,
    /// Rows that an expression fails on, or that have a null in their job's key.
    Errors,
    /// Every operator of the circuit, and what it holds now.
    Operators,
}

impl SystemTable {
    /// All of them, in the order in which help lists them.
    pub const ALL: [Self; 7] =
        [Self::DeadLetters, Self::Late, Self::Intake, Self::Epochs, Self::Progress, Self::Errors, Self::Operators];

    /// The name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeadLetters => "milepost.dead_letters",
            Self::Late => "milepost.late",
            Self::Intake => "milepost.intake",
            Self::Epochs => "milepost.epochs",
            Self::Progress => "milepost.progress",
            Self::Errors => "milepost.errors",
            Self::Operators => "milepost.operators",
        }
    }

    /// The name without its schema.
    pub(super) fn bare_name(self) -> &'static str {
        self.name().rsplit('.').next().unwrap_or_default()
    }

    /// The table of this name without its schema.
    pub(super) fn named(table: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.bare_name() == table)
    }

    /// Why a job may not read it, and what to do instead; none if it may.
    pub(super) fn refusal(self) -> Option<&'static str> {
        match self {
            Self::Errors => Some(
                "error rows follow from jobs, so the job would follow from itself; ask with `milepost query`, which sees them",
            ),
            Self::Operators => Some(
                "what operators hold follows from jobs, so the job would follow from itself; ask with `milepost query`, which sees it",
            ),
            Self::DeadLetters | Self::Late | Self::Intake | Self::Epochs | Self::Progress => None,
        }
    }

    /// Those among `reads`, in the order of [`SystemTable::ALL`].
    pub fn among<'a>(reads: impl IntoIterator<Item = &'a str>) -> Vec<Self> {
        let reads: Vec<&str> = reads.into_iter().collect();
        Self::ALL.into_iter().filter(|table| reads.contains(&table.name())).collect()
    }

    /// The columns; every one may be null.
    pub fn schema(self) -> SchemaRef {
        let (text, integer, time) = (DataType::Utf8View, DataType::Int64, utc_timestamp());
        let columns: Vec<(&str, &DataType)> = match self {
            Self::DeadLetters => vec![
                ("source", &text),
                ("stream", &text),
                ("sequence", &integer),
                ("index", &integer),
                ("subject", &text),
                ("received_at", &time),
                ("rule", &text),
                ("place", &text),
                ("reason", &text),
                ("headers", &text),
                ("text", &text),
                ("body", &DataType::Binary),
            ],
            Self::Late => vec![("source", &text), ("sequence", &integer), ("index", &integer), ("event_time", &time)],
            Self::Intake => vec![
                ("epoch", &integer),
                ("source", &text),
                ("read", &integer),
                ("accepted", &integer),
                ("duplicate", &integer),
                ("late", &integer),
                ("dead_letters", &integer),
            ],
            Self::Epochs => vec![
                ("epoch", &integer),
                ("clock", &time),
                ("watermark", &time),
                ("ended", &DataType::Boolean),
                ("inputs", &text),
            ],
            Self::Progress => vec![("pipeline", &text), ("epoch", &integer), ("clock", &time), ("watermark", &time)],
            Self::Operators => vec![
                ("id", &integer),
                ("inputs", &text),
                ("jobs", &text),
                ("operator", &text),
                ("rows", &integer),
                ("bytes", &integer),
            ],
            Self::Errors => {
                vec![("job", &text), ("expression", &text), ("reason", &text), ("row", &text), ("count", &integer)]
            }
        };
        let field = |(name, kind): (&str, &DataType)| Field::new(name, kind.clone(), true);
        Arc::new(Schema::new(columns.into_iter().map(field).collect::<Vec<_>>()))
    }
}

/// Makes room for Milepost's own tables in a session.
pub(super) fn register_schema(context: &SessionContext) -> Result<()> {
    if let Some(catalog) = context.catalog("datafusion") {
        catalog.register_schema(SYSTEM_SCHEMA, Arc::new(MemorySchemaProvider::new()) as Arc<dyn SchemaProvider>)?;
    }
    Ok(())
}

/// How a session refers to a table of this name.
pub(super) fn reference(name: &str) -> TableReference {
    match name.split_once('.') {
        Some((schema, table)) => TableReference::partial(schema, table),
        None => TableReference::bare(name),
    }
}

/// The name of the table that a plan refers to.
pub(crate) fn table_name(reference: &TableReference) -> String {
    match reference.schema() {
        Some(SYSTEM_SCHEMA) => format!("{SYSTEM_SCHEMA}.{}", reference.table()),
        _ => reference.table().to_owned(),
    }
}
