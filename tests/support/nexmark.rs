//! Nexmark: its events as rows, and its queries as jobs (`tests/nexmark/*.sql`).

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use milepost::definition::contract::utc_timestamp;
use milepost::plan::TableSchemas;
use nexmark::EventGenerator;
use nexmark::config::NexmarkConfig;
use nexmark::event::{Auction, Bid, Event, Person};

/// The tables in the order of [`rows`], and the side input of query 13 behind them.
pub(crate) const TABLES: [&str; 4] = ["person", "auction", "bid", "side_input"];

/// The queries by name, in order.
pub(crate) fn queries() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nexmark");
    (0..=22)
        .map(|number| {
            let name = format!("q{number:02}");
            let sql = std::fs::read_to_string(folder.join(&name).with_extension("sql")).expect("a file for each query");
            (name, sql)
        })
        .collect()
}

/// Events, the same in every run: so many a second of their own time, each up to a hundred places from where it belongs.
pub(crate) fn events(rate: usize) -> EventGenerator {
    EventGenerator::new(NexmarkConfig {
        base_time: 1_700_000_000_000,
        first_rate: rate,
        next_rate: rate,
        out_of_order_group_size: 100,
        ..NexmarkConfig::default()
    })
}

/// The rows of events, table by table; `received` counts events that were received before, ten milliseconds each.
pub(crate) fn rows(events: &[Event], received: usize) -> [RecordBatch; 3] {
    let (mut people, mut auctions, mut bids, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Person(person) => people.push(person),
            Event::Auction(auction) => auctions.push(auction),
            Event::Bid(bid) => {
                bids.push(bid);
                times.push(1_700_000_100_000 + (received + number) as u64 * 10);
            }
        }
    }
    [of_people(&people), of_auctions(&auctions), of_bids(&bids, &times)]
}

/// The latest time of events, as a watermark without lateness.
pub(crate) fn latest(events: &[Event]) -> Option<i64> {
    events.iter().map(|event| integer(event.timestamp()) * 1_000).max()
}

/// The rows of the side input, which are there from the beginning.
pub(crate) fn side_input() -> RecordBatch {
    let keys = 0..1_000_i64;
    let values: StringViewArray = keys.clone().map(|key| Some(format!("value {key}"))).collect();
    table(vec![("key", Arc::new(keys.collect::<Int64Array>())), ("value", Arc::new(values))])
}

/// The schemas of [`TABLES`].
pub(crate) fn schemas() -> TableSchemas {
    let [people, auctions, bids] = rows(&[], 0);
    let tables = [people, auctions, bids, side_input()];
    TABLES.iter().zip(tables).map(|(&name, rows)| (Arc::from(name), rows.schema())).collect()
}

fn of_people(people: &[&Person]) -> RecordBatch {
    table(vec![
        ("id", integers(people, |person| person.id as u64)),
        ("name", texts(people, |person| &person.name)),
        ("email_address", texts(people, |person| &person.email_address)),
        ("credit_card", texts(people, |person| &person.credit_card)),
        ("city", texts(people, |person| &person.city)),
        ("state", texts(people, |person| &person.state)),
        ("date_time", times(people, |person| person.date_time)),
        ("extra", texts(people, |person| &person.extra)),
    ])
}

fn of_auctions(auctions: &[&Auction]) -> RecordBatch {
    table(vec![
        ("id", integers(auctions, |auction| auction.id as u64)),
        ("item_name", texts(auctions, |auction| &auction.item_name)),
        ("description", texts(auctions, |auction| &auction.description)),
        ("initial_bid", integers(auctions, |auction| auction.initial_bid as u64)),
        ("reserve", integers(auctions, |auction| auction.reserve as u64)),
        ("date_time", times(auctions, |auction| auction.date_time)),
        ("expires", times(auctions, |auction| auction.expires)),
        ("seller", integers(auctions, |auction| auction.seller as u64)),
        ("category", integers(auctions, |auction| auction.category as u64)),
        ("extra", texts(auctions, |auction| &auction.extra)),
    ])
}

fn of_bids(bids: &[&Bid], received: &[u64]) -> RecordBatch {
    table(vec![
        ("auction", integers(bids, |bid| bid.auction as u64)),
        ("bidder", integers(bids, |bid| bid.bidder as u64)),
        ("price", integers(bids, |bid| bid.price as u64)),
        ("channel", texts(bids, |bid| &bid.channel)),
        ("url", texts(bids, |bid| &bid.url)),
        ("date_time", times(bids, |bid| bid.date_time)),
        ("extra", texts(bids, |bid| &bid.extra)),
        ("_received_at", times(received, |&time| time)),
    ])
}

fn table(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let field = |(name, column): &(&str, ArrayRef)| Field::new(*name, column.data_type().clone(), true);
    let schema: SchemaRef = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect())
        .expect("columns of one length")
}

fn integer(value: u64) -> i64 {
    i64::try_from(value).expect("small")
}

fn integers<T>(rows: &[T], value: impl Fn(&T) -> u64) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(integer(value(row)))).collect::<Int64Array>())
}

fn texts<'a, T>(rows: &'a [T], value: impl Fn(&'a T) -> &'a String) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(value(row).as_str())).collect::<StringViewArray>())
}

/// Milliseconds as timestamps.
fn times<T>(rows: &[T], value: impl Fn(&T) -> u64) -> ArrayRef {
    let times: TimestampMicrosecondArray = rows.iter().map(|row| Some(integer(value(row)) * 1_000)).collect();
    let times = times.with_timezone("UTC");
    assert_eq!(times.data_type(), &utc_timestamp(), "times are as contracts have them");
    Arc::new(times)
}
