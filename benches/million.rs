//! A million generated events, five milestones a shipment, from raw JSON to counts that are current at every 10,000.
//!
//! Both programs read the same bytes, drop repeated event ids, find order and customer, decide a verdict for each
//! shipment with proof of delivery, and keep the number of shipments by day, carrier and verdict; both take any step of
//! a shipment in any order. Milepost does it by the SQL in `benches/sql`, knows what changed in each of its tables, and
//! would tell a duplicate from a conflict. [`ByHand`] does just the task. The figure is the ratio of CPU seconds, from
//! one run; the master data lie ready on both sides.
//!
//! `EVENTS` in the environment says how many events. `OPERATORS=1` prints what each operator holds at the end.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench reads clocks, prints its figures, and knows how large its numbers are"
)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use hashbrown::{HashMap, HashSet};
use milepost::types::RawMessage;
use support::engine::{Counts, Daily, Engine, NARROW, SHIPPED};
use support::workload::Workload;
use support::{cpu_time, setting};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// After how many events all tables are current.
const BATCH: usize = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let events = setting("EVENTS", 1_000_000);
    let workload = Workload::new(events);
    println!("million: {events} events of {} bytes on average, current at every {BATCH}", workload.event_bytes());

    let (by_hand, expected) = run_by_hand(&workload);
    println!("million: by hand {:.2} CPU s ({:.2} M events/s)", by_hand.as_secs_f64(), rate(events, by_hand));
    let messages = workload.messages();
    for (name, contract) in [("13 columns", NARROW), ("the shipped contract", SHIPPED)] {
        let mut engine = Engine::new(contract, &workload).await;
        let spent = run_engine(&mut engine, &messages);
        assert_eq!(engine.daily(), expected.daily, "both count the same");
        let duplicates = expected.duplicates;
        assert_eq!(engine.counts, Counts { accepted: events - duplicates, duplicates, others: 0 });
        println!("million: milepost, {name}: {:.2} CPU s ({:.2} M events/s)", spent.as_secs_f64(), rate(events, spent));
        println!(
            "million: ratio {:.1} (CPU of milepost / CPU by hand), {name}",
            spent.as_secs_f64() / by_hand.as_secs_f64()
        );
    }
}

/// Millions a second.
fn rate(events: usize, time: Duration) -> f64 {
    events as f64 / time.as_secs_f64() / 1e6
}

fn run_engine(engine: &mut Engine, messages: &[RawMessage]) -> Duration {
    let before = cpu_time();
    let mut tenths = Vec::new();
    for part in messages.chunks(messages.len().div_ceil(10)) {
        let started = cpu_time();
        part.chunks(BATCH).for_each(|batch| engine.take(batch));
        tenths.push(format!("{:.2}", (cpu_time() - started).as_secs_f64()));
    }
    let spent = cpu_time() - before;
    let sections = engine.spent;
    println!("million: each tenth of the events took {} CPU s", tenths.join(", "));
    println!(
        "million: decode {:.2} s, intake {:.2} s, circuit {:.2} s, tables {:.2} s",
        sections.decode.as_secs_f64(),
        sections.intake.as_secs_f64(),
        sections.circuit.as_secs_f64(),
        sections.tables.as_secs_f64()
    );
    if setting("OPERATORS", 0) == 1 {
        engine.operators().iter().for_each(|line| println!("{line}"));
    }
    spent
}

/// What the hand-written program found.
struct Outcome {
    daily: Daily,
    duplicates: usize,
}

fn run_by_hand(workload: &Workload) -> (Duration, Outcome) {
    let mut program = ByHand::new(workload);
    let before = cpu_time();
    let mut duplicates = 0;
    for event in &workload.events {
        duplicates += usize::from(!program.take(event));
    }
    let spent = cpu_time() - before;
    (spent, Outcome { daily: program.daily(), duplicates })
}

/// The task in hash maps.
struct ByHand {
    seen: HashSet<Box<str>, Hasher>,
    shipments: HashMap<Box<str>, Shipment, Hasher>,
    orders: HashMap<Box<str>, Option<Terms>, Hasher>,
    carriers: HashMap<String, u32, Hasher>,
    daily: HashMap<Cell, i64, Hasher>,
}

type Hasher = foldhash::fast::RandomState;

/// Day, carrier, verdict.
type Cell = (i32, u32, &'static str);

/// What the task needs of an event.
#[derive(serde::Deserialize)]
struct Event<'a> {
    event_id: &'a str,
    event_type: &'a str,
    occurred_at: &'a str,
    order_id: &'a str,
    shipment_id: &'a str,
    carrier_id: &'a str,
    quantity: Option<f64>,
}

#[derive(Clone, Copy)]
struct Terms {
    credit_hold: bool,
    under_pct: i64,
    over_pct: i64,
}

#[derive(Default)]
struct Shipment {
    carrier: u32,
    terms: Option<Terms>,
    gone_out_at: Option<i64>,
    proven_at: Option<i64>,
    shipped_milli: Option<i64>,
    delivered_milli: Option<i64>,
    counted: Option<Cell>,
}

impl ByHand {
    fn new(workload: &Workload) -> Self {
        let terms: HashMap<&str, Terms> = workload
            .customers
            .iter()
            .map(|customer| {
                let &support::workload::Customer { credit_hold, under_pct, over_pct, .. } = customer;
                (customer.customer_id.as_str(), Terms { credit_hold, under_pct, over_pct })
            })
            .collect();
        let order =
            |(order, customer): &(String, String)| (order.as_str().into(), terms.get(customer.as_str()).copied());
        Self {
            seen: HashSet::default(),
            shipments: HashMap::default(),
            orders: workload.orders.iter().map(order).collect(),
            carriers: HashMap::default(),
            daily: HashMap::default(),
        }
    }

    /// Takes one event; false if it is a duplicate.
    fn take(&mut self, body: &Bytes) -> bool {
        let event: Event<'_> = sonic_rs::from_slice(body).expect("generated events are good");
        if self.seen.contains(event.event_id) {
            return false;
        }
        self.seen.insert(event.event_id.into());
        let shipment = match self.shipments.get_mut(event.shipment_id) {
            Some(shipment) => shipment,
            None => {
                let carriers = self.carriers.len() as u32;
                let carrier = *self.carriers.entry_ref(event.carrier_id).or_insert(carriers);
                let terms = self.orders.get(event.order_id).copied().flatten();
                let new = Shipment { carrier, terms, ..Shipment::default() };
                self.shipments.entry(event.shipment_id.into()).or_insert(new)
            }
        };
        shipment.take(&event);
        let cell = shipment.cell();
        if cell != shipment.counted {
            if let Some(old) = shipment.counted.take() {
                *self.daily.entry(old).or_default() -= 1;
            }
            if let Some(new) = cell {
                *self.daily.entry(new).or_default() += 1;
            }
            shipment.counted = cell;
        }
        true
    }

    fn daily(&self) -> Daily {
        let names: HashMap<u32, &str> = self.carriers.iter().map(|(name, &carrier)| (carrier, name.as_str())).collect();
        let cells = self.daily.iter().filter(|&(_, &count)| count != 0);
        cells
            .map(|(&(day, carrier, verdict), &count)| ((day, names[&carrier].to_owned(), verdict.to_owned()), count))
            .collect()
    }
}

impl Shipment {
    fn take(&mut self, event: &Event<'_>) {
        let at = || chrono::DateTime::parse_from_rfc3339(event.occurred_at).expect("a date-time").timestamp_micros();
        let milli = event.quantity.map(|quantity| (quantity * 1_000.0).round() as i64);
        let add = |sum: &mut Option<i64>| {
            if let Some(milli) = milli {
                *sum = Some(sum.unwrap_or(0) + milli);
            }
        };
        match event.event_type {
            "dispatch.assigned" => add(&mut self.shipped_milli),
            "gate.out" => self.gone_out_at = Some(self.gone_out_at.unwrap_or(i64::MAX).min(at())),
            "pod.received" => {
                self.proven_at = self.proven_at.max(Some(at()));
                add(&mut self.delivered_milli);
            }
            _ => {}
        }
    }

    /// Where the shipment is counted: nowhere without proof.
    fn cell(&self) -> Option<Cell> {
        let proven_at = self.proven_at?;
        let day = i32::try_from(proven_at.div_euclid(86_400_000_000)).expect("a day of this century");
        Some((day, self.carrier, self.verdict(proven_at)))
    }

    fn verdict(&self, proven_at: i64) -> &'static str {
        let Some(terms) = self.terms else { return "UNMATCHED" };
        if terms.credit_hold {
            return "CREDIT_HOLD";
        }
        if self.gone_out_at.is_none_or(|gone_out_at| proven_at < gone_out_at) {
            return "SEQUENCE_VIOLATION";
        }
        match (self.shipped_milli, self.delivered_milli) {
            (Some(shipped), Some(delivered)) if delivered * 100 < shipped * (100 - terms.under_pct) => "QTY_SHORT",
            (Some(shipped), Some(delivered)) if delivered * 100 > shipped * (100 + terms.over_pct) => "QTY_OVER",
            (Some(_), Some(_)) => "VALIDATED",
            _ => "INCOMPLETE",
        }
    }
}
