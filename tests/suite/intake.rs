//! What a source's rows do to its table, against a model that is nothing but the rule, whatever the batches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use milepost::circuit::{Intake, positions};
use milepost::decode::{Decoder, Format};
use milepost::definition::contract::Contract;
use milepost::definition::pipeline::{Identity, Snapshot};
use milepost::diagnostic::SourceText;
use milepost::state::Table;
use milepost::types::RawMessage;

use super::oracle::{Random, lines};

const CONTRACT: &str = r#"{"$id": "row.v1", "type": "object", "required": ["id"], "properties": {
    "id": {"type": "string"},
    "part": {"type": ["integer", "null"]},
    "value": {"type": ["integer", "null"]},
    "recorded_at": {"type": ["string", "null"], "format": "date-time"},
    "released_at": {"type": ["string", "null"], "format": "date-time"},
    "gone": {"type": ["boolean", "null"]}}}"#;

const ID: usize = 0;
const PART: usize = 1;
const VALUE: usize = 2;
const RELEASED_AT: usize = 4;
const GONE: usize = 5;

/// An event as it is sent; its place in the stream is its place in the list, from 1.
#[derive(Debug, Clone, PartialEq)]
struct Event {
    id: u64,
    part: Option<u64>,
    value: Option<u64>,
    recorded_at: Option<u64>,
    released_at: Option<u64>,
    gone: Option<bool>,
}

fn contract() -> Arc<Contract> {
    let compiled = Contract::compile(&SourceText::new("row.v1.json", CONTRACT));
    Arc::new(compiled.unwrap_or_else(|problems| panic!("{}", problems.render(false))))
}

fn random_event(random: &mut Random, ids: u64) -> Event {
    let some = |random: &mut Random, bound: u64| (random.below(100) >= 15).then(|| random.below(bound));
    Event {
        id: random.below(ids),
        part: some(random, 2),
        value: some(random, 3),
        recorded_at: some(random, 60),
        released_at: some(random, 6),
        gone: some(random, 4).map(|number| number == 0),
    }
}

fn body(event: &Event) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
    let time = |value: Option<u64>| {
        value.map_or_else(|| "null".to_owned(), |value| format!("\"2026-01-31T12:00:{value:02}Z\""))
    };
    let gone = event.gone.map_or_else(|| "null".to_owned(), |gone| gone.to_string());
    format!(
        r#"{{"id":"id-{}","part":{},"value":{},"recorded_at":{},"released_at":{},"gone":{gone}}}"#,
        event.id,
        number(event.part),
        number(event.value),
        time(event.recorded_at),
        time(event.released_at),
    )
}

/// The decoded rows of all events, in order.
fn rows(contract: &Arc<Contract>, events: &[Event]) -> RecordBatch {
    let mut decoder = Decoder::new(Arc::clone(contract), Format::Json);
    let mut rejections = Vec::new();
    for (event, sequence) in events.iter().zip(1..) {
        let message = RawMessage {
            stream: Arc::from("S"),
            sequence,
            subject: Arc::from("s"),
            received_at: None,
            headers: Vec::new(),
            columns: None,
            body: body(event).into(),
        };
        decoder.decode(&message, &mut rejections);
    }
    assert_eq!(rejections, []);
    decoder.finish()
}

/// Sequences of the rows that a table shows, and what was said of the others.
#[derive(Debug, PartialEq)]
struct Outcome {
    shown: Vec<i64>,
    accepted: u64,
    duplicates: Vec<i64>,
    conflicts: Vec<i64>,
}

/// What the rule says, event by event. `by_part` makes the key two columns. A snapshot is what `released_at` says of a part.
fn model(events: &[Event], identity: &Identity, by_part: bool) -> Outcome {
    let key = |event: &Event| (event.id, by_part.then_some(event.part));
    let content = |event: &Event| Event { recorded_at: None, ..event.clone() };
    let mut outcome = Outcome { shown: Vec::new(), accepted: 0, duplicates: Vec::new(), conflicts: Vec::new() };
    let mut current: HashMap<_, (i64, Event)> = HashMap::new();
    let mut versions: HashMap<Option<u64>, Option<u64>> = HashMap::new();
    for (event, sequence) in events.iter().zip(1_i64..) {
        if matches!(identity, Identity::Upsert { snapshot: Some(_), .. }) {
            let newest = versions.entry(event.part).or_insert(event.released_at);
            if event.released_at < *newest {
                outcome.accepted += 1;
                continue;
            }
            if event.released_at > *newest {
                *newest = event.released_at;
                current.retain(|_, (_, held)| held.part != event.part);
            }
        }
        let held = current.get(&key(event)).map(|(_, held)| held);
        match (identity, held) {
            (Identity::Append { unique }, _) if unique.is_empty() => outcome.shown.push(sequence),
            (Identity::Append { .. }, Some(held)) => {
                let said =
                    if content(held) == content(event) { &mut outcome.duplicates } else { &mut outcome.conflicts };
                said.push(sequence);
                continue;
            }
            (Identity::Upsert { order_by: Some(VALUE), .. }, Some(held)) if event.value < held.value => {}
            (Identity::Upsert { order_by: Some(RELEASED_AT), .. }, Some(held))
                if event.released_at < held.released_at => {}
            _ => {
                current.insert(key(event), (sequence, event.clone()));
            }
        }
        outcome.accepted += 1;
    }
    let hidden =
        |event: &Event| matches!(identity, Identity::Upsert { deleted: Some(_), .. }) && event.gone == Some(true);
    outcome.shown.extend(current.values().filter(|(_, event)| !hidden(event)).map(|&(sequence, _)| sequence));
    outcome.shown.sort_unstable();
    outcome
}

fn sequences(batches: &[RecordBatch]) -> Vec<i64> {
    let mut sequences: Vec<i64> = batches
        .iter()
        .flat_map(|batch| {
            let column = batch.column_by_name("_sequence").expect("a system column");
            column.as_any().downcast_ref::<Int64Array>().expect("a number").values().to_vec()
        })
        .collect();
    sequences.sort_unstable();
    sequences
}

/// Takes the rows in, in batches of these sizes; also what the table holds as text.
fn run(
    contract: &Contract,
    identity: &Identity,
    rows: &RecordBatch,
    mut size: impl FnMut() -> usize,
) -> (Outcome, Vec<String>) {
    let mut intake = Intake::new(contract, identity).expect("an intake");
    let key = match identity {
        Identity::Append { .. } => Vec::new(),
        Identity::Upsert { key, .. } => key.clone(),
    };
    let mut table = Table::new(contract.table_schema(), key).expect("a table");
    let mut outcome = Outcome { shown: Vec::new(), accepted: 0, duplicates: Vec::new(), conflicts: Vec::new() };
    let mut start = 0;
    while start < rows.num_rows() {
        let batch = rows.slice(start, size().clamp(1, rows.num_rows() - start));
        start += batch.num_rows();
        let admitted = intake.admit(&batch).expect("the rows are looked at");
        let delta = intake.accept(&admitted.rows).expect("the rows are taken");
        table.apply(&delta).expect("no row goes that was not there");
        let places = positions(&batch).expect("places");
        outcome.accepted += admitted.rows.num_rows() as u64;
        outcome.duplicates.extend(admitted.duplicates.iter().map(|&row| places[row].0));
        outcome.conflicts.extend(admitted.conflicts.iter().map(|&row| places[row].0));
    }
    let batches = table.batches().expect("rows can be read");
    outcome.shown = sequences(&batches);
    (outcome, lines(&batches))
}

/// The table equals the model, and is the same for every way to cut the rows into batches.
fn check(identity: &Identity, by_part: bool) {
    let contract = contract();
    for seed in 0..24 {
        let mut random = Random(seed);
        let ids = [1, 4, 40, 400][usize::try_from(seed % 4).expect("small")];
        let count = 1 + random.below(if seed == 3 { 4_000 } else { 400 });
        let events: Vec<Event> = (0..count).map(|_| random_event(&mut random, ids)).collect();
        let rows = rows(&contract, &events);
        let expected = model(&events, identity, by_part);
        let (whole, table) = run(&contract, identity, &rows, || usize::MAX);
        assert_eq!(whole, expected, "seed {seed}, in one batch");
        let (single, same) = run(&contract, identity, &rows, || 1);
        assert_eq!((&single, &same), (&expected, &table), "seed {seed}, row by row");
        for bound in [7, 100, 1_000] {
            let (cut, same) =
                run(&contract, identity, &rows, || usize::try_from(1 + random.below(bound)).expect("small"));
            assert_eq!((&cut, &same), (&expected, &table), "seed {seed}, batches of 1 to {bound}");
        }
    }
}

#[test]
fn without_a_key_every_row_is_new() {
    check(&Identity::Append { unique: Vec::new() }, false);
}

#[test]
fn of_a_unique_key_the_first_row_wins_and_the_others_are_duplicates_or_conflicts() {
    check(&Identity::Append { unique: vec![ID] }, false);
    check(&Identity::Append { unique: vec![ID, PART] }, true);
}

fn upsert(key: &[usize], order_by: Option<usize>, deleted: Option<usize>) -> Identity {
    Identity::Upsert { key: key.to_vec(), order_by, deleted, snapshot: None }
}

fn snapshot(key: &[usize], order_by: Option<usize>, deleted: Option<usize>) -> Identity {
    let snapshot = Some(Snapshot { by: vec![PART], version: RELEASED_AT });
    Identity::Upsert { key: key.to_vec(), order_by, deleted, snapshot }
}

#[test]
fn of_an_upsert_key_the_last_row_wins() {
    check(&upsert(&[ID], None, None), false);
    check(&upsert(&[PART, ID], None, None), true);
}

#[test]
fn of_an_upsert_key_the_highest_order_wins_and_of_equal_ones_the_last() {
    check(&upsert(&[ID], Some(RELEASED_AT), None), false);
    check(&upsert(&[ID], Some(VALUE), None), false);
}

#[test]
fn a_deleted_row_is_gone_until_a_later_one_brings_its_key_back() {
    check(&upsert(&[ID], None, Some(GONE)), false);
    check(&upsert(&[ID], Some(RELEASED_AT), Some(GONE)), false);
    check(&upsert(&[ID, PART], Some(RELEASED_AT), Some(GONE)), true);
}

#[test]
fn only_rows_of_the_newest_snapshot_of_their_part_are_shown() {
    check(&snapshot(&[ID, PART], None, None), true);
    check(&snapshot(&[PART, ID], Some(VALUE), None), true);
    check(&snapshot(&[PART, ID], None, Some(GONE)), true);
    check(&snapshot(&[ID, PART], Some(VALUE), Some(GONE)), true);
}

/// Whole snapshots, out of order, each row twice: what is shown is told by the set of rows alone.
#[test]
fn in_which_order_snapshots_come_cannot_be_seen() {
    let contract = contract();
    for seed in 0..24 {
        let mut random = Random(seed);
        let mut sent: BTreeMap<(u64, u64, u64), Event> = BTreeMap::new();
        for _ in 0..1 + random.below(600) {
            let (id, part, version) = (random.below(60), random.below(4), random.below(9));
            let (value, gone) = (Some(random.below(9)), Some(random.below(5) == 0));
            let event = Event { id, part: Some(part), value, recorded_at: None, released_at: Some(version), gone };
            sent.insert((part, version, id), event);
        }
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for &(part, version, _) in sent.keys() {
            newest.entry(part).and_modify(|newest| *newest = version.max(*newest)).or_insert(version);
        }
        for deleted in [None, Some(GONE)] {
            let stands = |&(&(part, version, _), event): &(&(u64, u64, u64), &Event)| {
                newest.get(&part) == Some(&version) && (deleted.is_none() || event.gone == Some(false))
            };
            let mut expected: Vec<Event> = sent.iter().filter(stands).map(|(_, event)| event.clone()).collect();
            expected.sort_by_key(|event| (event.id, event.part));
            let mut events: Vec<Event> = sent.values().chain(sent.values()).cloned().collect();
            for last in (1..events.len()).rev() {
                events.swap(last, usize::try_from(random.below(last as u64 + 1)).expect("small"));
            }
            let rows = rows(&contract, &events);
            for bound in [1, 20, 5_000] {
                let size = || usize::try_from(1 + random.below(bound)).expect("small");
                let (outcome, _) = run(&contract, &snapshot(&[ID, PART], None, deleted), &rows, size);
                let place = |sequence: &i64| usize::try_from(sequence - 1).expect("a place");
                let mut shown: Vec<Event> = outcome.shown.iter().map(|at| events[place(at)].clone()).collect();
                shown.sort_by_key(|event| (event.id, event.part));
                assert_eq!(shown, expected, "seed {seed}, batches of 1 to {bound}");
                assert_eq!(outcome.accepted, events.len() as u64, "what loses is accepted all the same");
            }
        }
    }
}

#[test]
fn when_an_event_was_recorded_is_not_part_of_its_content() {
    let first = Event { id: 1, part: None, value: Some(1), recorded_at: Some(1), released_at: None, gone: None };
    let again = Event { recorded_at: Some(2), ..first.clone() };
    let other = Event { value: None, ..first.clone() };
    let contract = contract();
    let rows = rows(&contract, &[first, again, other]);
    let (outcome, _) = run(&contract, &Identity::Append { unique: vec![ID] }, &rows, || 3);
    assert_eq!(outcome, Outcome { shown: vec![1], accepted: 1, duplicates: vec![2], conflicts: vec![3] });
}
