//! Milepost from raw messages to tables, in memory: decoder, intake, circuit, the tables of all jobs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Date32Type, Int64Type};
use bytes::Bytes;
use milepost::circuit::{Circuit, Intake};
use milepost::decode::{Decoder, Format};
use milepost::definition::contract::Contract;
use milepost::definition::pipeline::Identity;
use milepost::diagnostic::SourceText;
use milepost::plan::TableSchemas;
use milepost::state::{Delta, Table};
use milepost::types::RawMessage;

use super::workload::{Workload, messages};

/// Shipments by day (since 1970), carrier and verdict.
pub type Daily = BTreeMap<(i32, String, String), i64>;

/// The contract with the fields that the events carry, and no others.
pub const NARROW: &str = include_str!("../contracts/milestone.json");
/// The shipped contract, with all its columns.
pub const SHIPPED: &str = include_str!("../../pipelines/contracts/milestone.v1.json");

const JOBS: [(&str, &str); 3] = [
    ("shipments", include_str!("../sql/shipments.sql")),
    ("verdicts", include_str!("../sql/verdicts.sql")),
    ("daily", include_str!("../sql/daily.sql")),
];

/// See the module.
pub struct Engine {
    decoder: Decoder,
    intake: Intake,
    circuit: Circuit,
    tables: Vec<Table>,
    /// What became of the events.
    pub counts: Counts,
    /// Where the time went.
    pub spent: Spent,
}

/// What became of the events.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub accepted: usize,
    pub duplicates: usize,
    pub others: usize,
}

/// Time by section.
#[derive(Debug, Default, Clone, Copy)]
pub struct Spent {
    pub decode: Duration,
    pub intake: Duration,
    pub circuit: Duration,
    pub tables: Duration,
}

impl Engine {
    /// The jobs over empty sources, then the master data taken in; `contract` is the events'.
    pub async fn new(contract: &str, workload: &Workload) -> Self {
        let contracts = [contract, include_str!("../contracts/order.json"), include_str!("../contracts/customer.json")]
            .map(compiled);
        let tables: TableSchemas = ["milestones", "orders", "customers"]
            .iter()
            .zip(&contracts)
            .map(|(&name, contract)| (Arc::from(name), contract.table_schema()))
            .collect();
        let mut circuit = super::circuit(&tables, &JOBS).await;
        let [milestone, order, customer] = contracts;
        let orders: Vec<Bytes> = workload
            .orders
            .iter()
            .map(|(order, customer)| format!(r#"{{"order_id":"{order}","customer_id":"{customer}"}}"#).into())
            .collect();
        let customers: Vec<Bytes> = workload
            .customers
            .iter()
            .map(|customer| {
                format!(
                    r#"{{"customer_id":"{}","credit_hold":{},"under_pct":{},"over_pct":{}}}"#,
                    customer.customer_id, customer.credit_hold, customer.under_pct, customer.over_pct
                )
                .into()
            })
            .collect();
        let deltas =
            [Delta::empty(&milestone.table_schema()), master_data(&order, &orders), master_data(&customer, &customers)];
        circuit.step(&deltas, None).expect("master data are taken in");
        let tables = circuit
            .jobs()
            .iter()
            .map(|job| Table::new(Arc::clone(&job.schema), job.key.clone()).expect("a table"))
            .collect();
        let event_id = milestone.column_index("event_id").expect("the key");
        Self {
            intake: Intake::new(&milestone, &Identity::Append { unique: vec![event_id] }).expect("an intake"),
            decoder: Decoder::new(milestone, Format::Json),
            circuit,
            tables,
            counts: Counts::default(),
            spent: Spent::default(),
        }
    }

    /// Takes the next events in and brings all tables up to date.
    pub fn take(&mut self, messages: &[RawMessage]) {
        let started = Instant::now();
        let mut rejections = Vec::new();
        for message in messages {
            self.decoder.decode(message, &mut rejections);
        }
        let rows = self.decoder.finish();
        let decoded = Instant::now();
        let taken = self.intake.take(&rows).expect("rows are taken in");
        let took = Instant::now();
        let output = self.circuit.step(&[taken.delta], None).expect("a step");
        assert!(output.errors.is_empty(), "{:?}", output.errors.first());
        let stepped = Instant::now();
        for (table, delta) in self.tables.iter_mut().zip(&output.jobs) {
            table.apply(delta).expect("a table takes its job's changes");
        }
        self.counts.accepted += taken.accepted as usize;
        self.counts.duplicates += taken.duplicates.len();
        self.counts.others += taken.conflicts.len() + rejections.len();
        self.spent.decode += decoded - started;
        self.spent.intake += took - decoded;
        self.spent.circuit += stepped - took;
        self.spent.tables += stepped.elapsed();
    }

    /// The table of the last job.
    pub fn daily(&self) -> Daily {
        let mut daily = Daily::new();
        let table = self.tables.last().expect("three jobs");
        for batch in table.batches().expect("rows") {
            let days = batch.column(0).as_primitive::<Date32Type>();
            let (carriers, verdicts) = (batch.column(1).as_string_view(), batch.column(2));
            let verdicts = arrow::compute::cast(verdicts, &arrow::datatypes::DataType::Utf8View).expect("texts");
            let counts = batch.column(3).as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                assert!(days.is_valid(row) && carriers.is_valid(row), "a verdict has its day and carrier");
                let verdict = verdicts.as_string_view().value(row).to_owned();
                daily.insert((days.value(row), carriers.value(row).to_owned(), verdict), counts.value(row));
            }
        }
        daily
    }

    /// Each operator with what it holds.
    pub fn operators(&self) -> Vec<String> {
        let line = |node: milepost::circuit::NodeDescription| {
            let held = format!("{:>9} rows {:>7} KiB", node.held.rows, node.held.bytes / 1_024);
            format!("{:>3} <- {:?} {held}  {}", node.id, node.inputs, node.text)
        };
        self.circuit.describe().into_iter().map(line).collect()
    }
}

/// The contract in a text.
pub fn compiled(text: &str) -> Arc<Contract> {
    let text = SourceText::new("contract.json", text);
    Arc::new(Contract::compile(&text).unwrap_or_else(|problems| super::refused(&problems)))
}

/// Rows of a source whose first column is its key.
fn master_data(contract: &Arc<Contract>, bodies: &[Bytes]) -> Delta {
    let mut decoder = Decoder::new(Arc::clone(contract), Format::Json);
    let mut rejections = Vec::new();
    for message in messages("master data", bodies) {
        decoder.decode(&message, &mut rejections);
    }
    assert!(rejections.is_empty(), "{:?}", rejections.first());
    let identity = Identity::Upsert { key: vec![0], order_by: None, deleted: None, snapshot: None };
    let mut intake = Intake::new(contract, &identity).expect("an intake");
    intake.take(&decoder.finish()).expect("rows are taken in").delta
}
