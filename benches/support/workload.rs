//! Generated milestones: five a shipment, in an order in which shipments overlap, with duplicates and faults.
//!
//! The same numbers give the same bytes on every machine.

use std::fmt::Write;
use std::sync::Arc;

use bytes::Bytes;
use milepost::types::RawMessage;

use super::Random;

/// The steps of a shipment in the order in which they happen.
const STEPS: [&str; 5] = ["pick.confirmed", "dispatch.assigned", "gate.out", "delivery.arrived", "pod.received"];
/// The step that proves delivery.
const PROOF: usize = 4;
const CARRIERS: usize = 12;
const CUSTOMERS: usize = 2_000;
/// Over how many days the shipments are spread.
const DAYS: usize = 90;
/// 2026-01-01T00:00:00Z in seconds.
const START_SECONDS: i64 = 1_767_225_600;
/// How far apart the steps of one shipment arrive, in events of others.
const STEP_DISTANCE: usize = 20_000;

/// Events in the order in which they arrive, and the master data that they refer to.
pub struct Workload {
    /// One JSON document each.
    pub events: Vec<Bytes>,
    /// Order and customer.
    pub orders: Vec<(String, String)>,
    /// All customers but one, to whom orders refer nevertheless.
    pub customers: Vec<Customer>,
}

/// Terms of a customer.
pub struct Customer {
    pub customer_id: String,
    pub credit_hold: bool,
    pub under_pct: i64,
    pub over_pct: i64,
}

/// What is decided once for a shipment.
struct Shipment {
    number: usize,
    carrier: usize,
    quantity_milli: usize,
    delivered_milli: usize,
    /// Seconds since 1970 of each step.
    at: [i64; 5],
}

impl Workload {
    /// Exactly this many events, two in a hundred of them repeated byte for byte later on.
    pub fn new(events: usize) -> Self {
        let duplicates = events / 50;
        let shipments = (events - duplicates).div_ceil(STEPS.len());
        let order = arrivals(events, duplicates, shipments);
        let mut text = String::with_capacity(events * 330);
        let mut ends = Vec::with_capacity(events);
        for (shipment, step) in order {
            write_event(&mut text, &Shipment::new(shipment, shipments), step);
            ends.push(text.len());
        }
        let bytes = Bytes::from(text);
        let mut start = 0;
        let events = ends
            .into_iter()
            .map(|end| {
                let event = bytes.slice(start..end);
                start = end;
                event
            })
            .collect();
        Self { events, orders: orders(shipments), customers: customers() }
    }

    /// The events as a stream delivers them.
    pub fn messages(&self) -> Vec<RawMessage> {
        messages("MILESTONES", &self.events)
    }

    /// The average length of an event in bytes.
    pub fn event_bytes(&self) -> usize {
        self.events.iter().map(Bytes::len).sum::<usize>() / self.events.len().max(1)
    }
}

/// Bodies as the messages of a stream.
pub fn messages(stream: &str, bodies: &[Bytes]) -> Vec<RawMessage> {
    let stream: Arc<str> = stream.into();
    let subject: Arc<str> = "milestones.bench".into();
    let message = |(sequence, body): (u64, &Bytes)| RawMessage {
        stream: Arc::clone(&stream),
        sequence,
        subject: Arc::clone(&subject),
        received_at: Some(START_SECONDS * 1_000_000 + sequence as i64),
        headers: Vec::new(),
        columns: None,
        body: body.clone(),
    };
    (1..).zip(bodies).map(message).collect()
}

/// Shipment and step of each event, in the order of arrival.
fn arrivals(events: usize, duplicates: usize, shipments: usize) -> Vec<(usize, usize)> {
    let mut random = Random(1);
    let mut order: Vec<(usize, usize, usize)> = (0..events - duplicates)
        .map(|event| {
            let (shipment, step) = (event / STEPS.len(), event % STEPS.len());
            (shipment * STEPS.len() + step * STEP_DISTANCE + random.below(STEP_DISTANCE / 2), shipment, step)
        })
        .collect();
    for _ in 0..duplicates {
        let (at, shipment, step) = order[random.below(events - duplicates)];
        order.push((at + 1 + random.below(3 * STEP_DISTANCE), shipment, step));
    }
    order.sort_unstable();
    debug_assert_eq!(order.last().map(|last| last.1 < shipments), Some(true), "no event without its shipment");
    order.into_iter().map(|(_, shipment, step)| (shipment, step)).collect()
}

impl Shipment {
    fn new(number: usize, shipments: usize) -> Self {
        let mut random = Random(number as u64 ^ 0x5348_4950);
        let quantity = 1_000 * (1 + random.below(100));
        let delivered = match random.below(100) {
            0..3 => quantity * (50 + random.below(50)) / 100,
            3 => quantity * (101 + random.below(20)) / 100,
            _ => quantity,
        };
        let mut at = [START_SECONDS + (number * DAYS * 86_400 / shipments.max(1)) as i64; 5];
        for step in 1..5 {
            at[step] = at[step - 1] + 600 + random.below(36_000) as i64;
        }
        if random.below(100) == 0 {
            at.swap(2, PROOF);
        }
        Self { number, carrier: random.below(CARRIERS), quantity_milli: quantity, delivered_milli: delivered, at }
    }
}

fn write_event(text: &mut String, shipment: &Shipment, step: usize) {
    let Shipment { number, carrier, .. } = *shipment;
    let order = number / 2;
    let happened = instant(shipment.at[step]);
    let recorded = instant(shipment.at[step] + 7);
    let quantity = match step {
        0 | 1 => Some(shipment.quantity_milli),
        PROOF => Some(shipment.delivered_milli),
        _ => None,
    };
    write!(
        text,
        concat!(
            r#"{{"event_id":"wms-1:{number:09}-{step}","event_type":"{kind}","occurred_at":"{happened}","#,
            r#""recorded_at":"{recorded}","source_system":"wms-1","order_id":"ORD-{order:08}","order_line":"10","#,
            r#""shipment_id":"SHP-{number:08}","carrier_id":"CARRIER-{carrier:02}","site":"HAM{site}","sku":"SKU-{sku:05}""#
        ),
        number = number,
        step = step,
        kind = STEPS[step],
        happened = happened,
        recorded = recorded,
        order = order,
        carrier = carrier,
        site = number % 4,
        sku = number % 900,
    )
    .expect("text grows");
    if let Some(quantity) = quantity {
        write!(text, r#","quantity":{}.{:03}"#, quantity / 1_000, quantity % 1_000).expect("text grows");
    }
    text.push_str(r#","uom":"EA"}"#);
}

fn instant(seconds: i64) -> String {
    let time = chrono::DateTime::from_timestamp(seconds, 250_000_000).expect("a time of this century");
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn orders(shipments: usize) -> Vec<(String, String)> {
    let customer = |order: usize| format!("CUST-{:05}", Random(order as u64).below(CUSTOMERS));
    (0..shipments.div_ceil(2)).map(|order| (format!("ORD-{order:08}"), customer(order))).collect()
}

fn customers() -> Vec<Customer> {
    let customer = |number: usize| {
        let mut random = Random(number as u64 ^ 0x4355_5354);
        Customer {
            customer_id: format!("CUST-{number:05}"),
            credit_hold: random.below(20) == 0,
            under_pct: random.below(6) as i64,
            over_pct: random.below(6) as i64,
        }
    };
    (1..CUSTOMERS).map(customer).collect()
}
