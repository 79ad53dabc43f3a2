//! Decoding into Arrow against a bare sonic-rs parse of the same bytes into a borrowed struct.
//!
//! The figure is the ratio: what strictness, exactness and Arrow's builders cost on top of reading JSON at all. The bare
//! parse checks no type but string and number, keeps decimals as text, and throws its result away.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench reads clocks, prints its figures, and knows how large its numbers are"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use milepost::decode::{Decoder, Format};
use milepost::definition::contract::{Column, Condition, Contract, Kind, Value};
use milepost::types::RawMessage;

/// Messages in a batch, as a pipeline takes them by default.
const MESSAGES: usize = 16_384;

const EVENT_TYPES: [&str; 4] = ["dispatch.assigned", "gate.out", "delivery.arrived", "pod.received"];

fn column(name: &str, required: bool, kind: Kind) -> Column {
    Column { name: name.into(), kind, required, nullable: false, default: None, allowed: None, description: None }
}

/// Thirteen columns of a milestone: texts, an enum, a default, two timestamps, a decimal, and a condition a type.
fn contract() -> Contract {
    let text = |most| Kind::Text { max_length: Some(most) };
    let timestamp = || Kind::Timestamp {
        minimum: Some(946_684_800_000_000),
        maximum: Some(4_102_444_800_000_000),
        nanoseconds: false,
    };
    let quantity = Kind::Decimal { precision: 18, scale: 3, minimum: Some(0), maximum: None };
    let texts = |values: &[&str]| values.iter().map(|value| Value::Text((*value).into())).collect::<Vec<_>>();
    let columns = vec![
        column("event_id", true, text(64)),
        Column { allowed: Some(texts(&EVENT_TYPES)), ..column("event_type", true, text(64)) },
        Column {
            allowed: Some(texts(&["ACT", "EST", "PLN"])),
            default: Some(Value::Text("ACT".into())),
            ..column("classifier", false, text(3))
        },
        column("occurred_at", true, timestamp()),
        column("recorded_at", false, timestamp()),
        column("source_system", true, text(64)),
        column("order_id", false, text(64)),
        column("order_line", false, text(64)),
        column("shipment_id", false, text(64)),
        column("site", false, text(64)),
        column("sku", false, text(64)),
        column("quantity", false, quantity),
        column("uom", false, text(8)),
    ];
    let condition =
        |event_type: &&str| Condition { when: vec![(1, texts(&[event_type]))], required: vec![8], bounds: Vec::new() };
    let conditions = EVENT_TYPES.iter().map(condition).collect();
    Contract { id: "milestone.bench".into(), description: None, columns, conditions, additional: false }
}

fn messages() -> Vec<RawMessage> {
    let stream: Arc<str> = "MILESTONES".into();
    let message = |at: usize| {
        let body = format!(
            concat!(
                r#"{{"event_id":"wms-1:{at:012}","event_type":"{kind}","classifier":"ACT","#,
                r#""occurred_at":"2026-03-{day:02}T{hour:02}:15:30.250Z","recorded_at":"2026-03-{day:02}T{hour:02}:15:31+01:00","#,
                r#""source_system":"wms-1","order_id":"ORD-{order:08}","order_line":"{line}","shipment_id":"SHP-{order:08}","#,
                r#""site":"HAM1","sku":"SKU-{line:05}","quantity":{line}.500,"uom":"EA"}}"#
            ),
            at = at,
            kind = EVENT_TYPES[at % EVENT_TYPES.len()],
            day = at % 28 + 1,
            hour = at % 24,
            order = at / 5,
            line = at % 900 + 10,
        );
        RawMessage {
            stream: Arc::clone(&stream),
            sequence: at as u64 + 1,
            subject: "milestones.wms-1".into(),
            received_at: Some(1_774_000_000_000_000 + at as i64),
            headers: Vec::new(),
            columns: None,
            body: Bytes::from(body),
        }
    };
    (0..MESSAGES).map(message).collect()
}

/// The same thirteen fields, borrowed, unchecked.
#[derive(serde::Deserialize)]
#[allow(dead_code)]
struct Bare<'a> {
    event_id: &'a str,
    event_type: &'a str,
    classifier: Option<&'a str>,
    occurred_at: &'a str,
    recorded_at: Option<&'a str>,
    source_system: &'a str,
    order_id: Option<&'a str>,
    order_line: Option<&'a str>,
    shipment_id: Option<&'a str>,
    site: Option<&'a str>,
    sku: Option<&'a str>,
    quantity: Option<f64>,
    uom: Option<&'a str>,
}

fn decode_all(decoder: &mut Decoder, messages: &[RawMessage]) -> usize {
    let mut rejections = Vec::new();
    for message in messages {
        decoder.decode(message, &mut rejections);
    }
    assert!(rejections.is_empty(), "{rejections:?}");
    black_box(decoder.finish()).num_rows()
}

fn parse_all(messages: &[RawMessage]) -> usize {
    messages.iter().filter(|message| black_box(sonic_rs::from_slice::<Bare<'_>>(&message.body)).is_ok()).count()
}

fn decode(criterion: &mut Criterion) {
    let messages = messages();
    let mut decoder = Decoder::new(Arc::new(contract()), Format::Json);
    assert_eq!(decode_all(&mut decoder, &messages), MESSAGES);
    assert_eq!(parse_all(&messages), MESSAGES);
    let bytes: usize = messages.iter().map(|message| message.body.len()).sum();

    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(MESSAGES as u64));
    group.bench_function(BenchmarkId::new("milepost", "json"), |bencher| {
        bencher.iter(|| decode_all(&mut decoder, &messages));
    });
    group.bench_function(BenchmarkId::new("sonic-rs", "bare"), |bencher| bencher.iter(|| parse_all(&messages)));
    group.finish();

    let ours = best(|| decode_all(&mut decoder, &messages));
    let bare = best(|| parse_all(&messages));
    let rate = |time: Duration| MESSAGES as f64 / time.as_secs_f64() / 1e6;
    println!("decode: {} bytes an event on average", bytes / MESSAGES);
    println!("decode: milepost {:.2} M events/s, bare sonic-rs {:.2} M events/s", rate(ours), rate(bare));
    println!(
        "decode: ratio {:.2} (time of milepost / time of the bare parse)",
        ours.as_secs_f64() / bare.as_secs_f64()
    );
}

/// The shortest of several runs: what the code takes when nothing else disturbs it.
fn best(mut work: impl FnMut() -> usize) -> Duration {
    let run = |_| {
        let start = Instant::now();
        black_box(work());
        start.elapsed()
    };
    (0..50).map(run).min().unwrap_or_default()
}

criterion_group!(benches, decode);
criterion_main!(benches);
