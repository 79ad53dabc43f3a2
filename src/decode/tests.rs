//! What is accepted as which row, and what is refused where by which rule.

use ::arrow::array::Array;
use ::arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::definition::contract::{Column, Condition, Kind, Value};

mod csv;
mod packed;
mod traps;

pub(super) fn column(name: &str, kind: Kind) -> Column {
    let (required, nullable, default, allowed, description) = (false, false, None, None, None);
    Column { name: name.into(), kind, required, nullable, default, allowed, description }
}

pub(super) fn text() -> Kind {
    Kind::Text { max_length: None }
}

pub(super) fn integer(minimum: Option<i64>, maximum: Option<i64>) -> Kind {
    Kind::Integer { minimum, maximum }
}

fn decimal(minimum: Option<i128>) -> Kind {
    Kind::Decimal { precision: 18, scale: 3, minimum, maximum: None }
}

fn timestamp(minimum: Option<i64>, maximum: Option<i64>) -> Kind {
    Kind::Timestamp { minimum, maximum, nanoseconds: false }
}

fn array(element: Kind, nullable: bool) -> Kind {
    Kind::Array { element: Box::new(element), nullable }
}

/// One column of each kind, an enum with a default, an object, arrays, and a condition.
pub(super) fn contract() -> Contract {
    let texts = |values: &[&str]| values.iter().map(|value| Value::Text((*value).into())).collect::<Vec<_>>();
    let place = vec![
        Column { required: true, ..column("country", Kind::Text { max_length: Some(2) }) },
        Column { default: Some(Value::Integer(7)), ..column("code", integer(None, None)) },
        column("tags", array(text(), true)),
    ];
    Contract {
        id: "test.v1".into(),
        description: None,
        columns: vec![
            Column { required: true, ..column("id", Kind::Text { max_length: Some(4) }) },
            Column {
                default: Some(texts(&["A"])[0].clone()),
                allowed: Some(texts(&["A", "B"])),
                ..column("kind", text())
            },
            Column { nullable: true, ..column("flag", Kind::Boolean) },
            column("count", integer(Some(-5), Some(1_000))),
            column("big", integer(None, None)),
            column("ratio", Kind::Number { minimum: Some(0.0), maximum: Some(1.0) }),
            column("amount", decimal(Some(0))),
            column("at", timestamp(Some(946_684_800_000_000), Some(4_102_444_800_000_000))),
            column("day", Kind::Date),
            column("time", Kind::Time),
            column("span", Kind::Duration),
            Column { nullable: true, ..column("place", Kind::Object(place)) },
            column("marks", array(integer(Some(0), None), false)),
        ],
        conditions: vec![Condition {
            when: vec![(1, texts(&["B"]))],
            required: vec![6],
            bounds: vec![(3, integer(Some(10), Some(1_000)))],
        }],
        additional: true,
    }
}

pub(super) fn message(body: impl Into<Bytes>) -> RawMessage {
    RawMessage {
        stream: "TEST".into(),
        sequence: 7,
        subject: "test.a".into(),
        received_at: Some(1_000_000),
        headers: Vec::new(),
        columns: None,
        body: body.into(),
    }
}

/// The values of a row that are not null, as `name=value`, without the system columns.
pub(super) fn row_text(batch: &RecordBatch, row: usize) -> String {
    let options = FormatOptions::new();
    let schema = batch.schema();
    let columns = batch.columns().iter().zip(schema.fields()).filter_map(|(array, field)| {
        let shown = ArrayFormatter::try_new(array, &options).unwrap().value(row).to_string();
        (array.is_valid(row) && !field.name().starts_with('_')).then(|| format!("{}={shown}", field.name()))
    });
    columns.collect::<Vec<_>>().join(" ")
}

/// A row as text, or place and rule.
type Outcome = Result<String, (String, &'static str)>;

/// Decodes a message between two good ones, which must come out as if it were not there.
fn outcome(contract: &Contract, format: Format, good: &str, body: impl Into<Bytes>) -> Outcome {
    let mut decoder = Decoder::new(Arc::new(contract.clone()), format);
    let mut rejections = Vec::new();
    assert_eq!(decoder.decode(&message(good.to_owned()), &mut rejections), 1);
    let rows = decoder.decode(&message(body), &mut rejections);
    assert_eq!(rows + rejections.len(), 1, "exactly one row or one rejection");
    assert_eq!(decoder.rows(), 1 + rows);
    assert_eq!(decoder.decode(&message(good.to_owned()), &mut rejections), 1);
    let batch = decoder.finish();
    assert_eq!((batch.num_rows(), decoder.rows()), (2 + rows, 0));
    assert_eq!(batch.schema(), contract.table_schema());
    assert_eq!(row_text(&batch, 0), row_text(&batch, 1 + rows), "neighbours differ");
    match rejections.pop() {
        None => Ok(row_text(&batch, 1)),
        Some(rejection) => {
            assert!(rejection.reason.chars().count() < 200, "{}", rejection.reason);
            assert!(rejection.place.chars().count() < 200, "{}", rejection.place);
            assert!(!rejection.reason.is_empty() && !rejection.reason.ends_with('.'), "{}", rejection.reason);
            Err((rejection.place, rejection.rule))
        }
    }
}

const GOOD: &str = r#"{"id":"good","amount":1.5,"place":{"country":"DE","tags":["x",null]},"marks":[1,2]}"#;

fn check_in(contract: &Contract, body: impl Into<Bytes>, expected: Result<&str, (&str, &str)>) {
    let body = body.into();
    let outcome = outcome(contract, Format::Json, GOOD, body.clone());
    let outcome = outcome.as_ref().map(String::as_str).map_err(|(place, rule)| (place.as_str(), *rule));
    assert_eq!(outcome, expected, "{}", String::from_utf8_lossy(&body[..body.len().min(200)]));
}

fn check(body: &str, expected: Result<&str, (&str, &str)>) {
    check_in(&contract(), body.to_owned(), expected);
}

/// Checks one property beside the required ones.
fn check_property(property: &str, expected: Result<&str, (&str, &str)>) {
    let row = expected.map(|row| format!("id=a kind=A {row}").trim_end().to_owned());
    check(&format!(r#"{{"id": "a", {property}}}"#), row.as_ref().map(String::as_str).map_err(|error| *error));
}

#[test]
fn event_becomes_a_row_with_defaults_and_system_columns() {
    check(r#"{"id":"a"}"#, Ok("id=a kind=A"));
    check(
        " {\"kind\" : \"B\",\r\n\t\"id\":\"a\", \"amount\": \"0.5\", \"count\": 10} \n",
        Ok("id=a kind=B count=10 amount=0.500"),
    );
    let mut decoder = Decoder::new(Arc::new(contract()), Format::Json);
    decoder.decode(&message(r#"{"id":"a"}"#), &mut Vec::new());
    decoder.decode(&RawMessage { received_at: None, ..message(r#"{"id":"b"}"#) }, &mut Vec::new());
    let batch = decoder.finish();
    let system = batch.project(&[13, 14, 15, 16]).unwrap();
    let shown = ::arrow::util::pretty::pretty_format_batches(&[system]).unwrap().to_string();
    assert!(shown.contains("| 1970-01-01T00:00:01Z | TEST    | 7         | 0      |"), "{shown}");
    assert!(shown.contains("|                      | TEST    | 7         | 0      |"), "{shown}");
}

#[test]
fn each_kind_takes_its_values_and_no_others() {
    check_property(r#""flag": true"#, Ok("flag=true"));
    check_property(r#""flag": null"#, Ok(""));
    check_property(r#""flag": "true""#, Err(("/flag", rule::WRONG_TYPE)));
    check_property(r#""flag": 1"#, Err(("/flag", rule::WRONG_TYPE)));
    check_property(r#""count": 1.0"#, Ok("count=1"));
    check_property(r#""count": 1e2"#, Ok("count=100"));
    check_property(r#""count": 1.9"#, Err(("/count", rule::NOT_AN_INTEGER)));
    check_property(r#""count": "1""#, Err(("/count", rule::WRONG_TYPE)));
    check_property(r#""count": null"#, Err(("/count", rule::NULL_NOT_ALLOWED)));
    check_property(r#""count": -6"#, Err(("/count", rule::OUT_OF_RANGE)));
    check_property(r#""count": 1001"#, Err(("/count", rule::OUT_OF_RANGE)));
    check_property(r#""big": 9007199254740993"#, Ok("big=9007199254740993"));
    check_property(r#""big": 9223372036854775808"#, Err(("/big", rule::OUT_OF_RANGE)));
    check_property(r#""ratio": 5e-1"#, Ok("ratio=0.5"));
    check_property(r#""ratio": 1.01"#, Err(("/ratio", rule::OUT_OF_RANGE)));
    check_property(r#""ratio": "0.5""#, Err(("/ratio", rule::WRONG_TYPE)));
    check_property(r#""amount": 12.34500"#, Ok("amount=12.345"));
    check_property(r#""amount": "12.345""#, Ok("amount=12.345"));
    check_property(r#""amount": "\u0031.5""#, Ok("amount=1.500"));
    check_property(r#""amount": "1,5""#, Err(("/amount", rule::INVALID_NUMBER)));
    check_property(r#""amount": """#, Err(("/amount", rule::INVALID_NUMBER)));
    check_property(r#""amount": -0.001"#, Err(("/amount", rule::OUT_OF_RANGE)));
    check_property(r#""amount": true"#, Err(("/amount", rule::WRONG_TYPE)));
    check_property(r#""at": "2023-11-14T23:13:20.5+01:00""#, Ok("at=2023-11-14T22:13:20.500Z"));
    check_property(r#""at": 1700000000"#, Err(("/at", rule::WRONG_TYPE)));
    check_property(r#""day": "2024-02-29""#, Ok("day=2024-02-29"));
    check_property(r#""time": "17:30""#, Ok("time=17:30:00"));
    check_property(r#""span": "P1M2DT3S""#, Ok("span=1 mons 2 days 3.000000000 secs"));
    check_property(r#""span": "3 days""#, Err(("/span", rule::INVALID_DURATION)));
    check_property(r#""kind": "C""#, Err(("/kind", rule::NOT_IN_ENUM)));
    check_property(r#""kind": 1"#, Err(("/kind", rule::WRONG_TYPE)));
}

#[test]
fn text_is_unescaped_and_counted_in_characters() {
    check(r#"{"id":"äöüß"}"#, Ok("id=äöüß kind=A"));
    check(r#"{"id":"äöüßa"}"#, Err(("/id", rule::MAX_LENGTH)));
    check(r#"{"id":"\u00e4\ud83d\ude9a\"\\"}"#, Ok("id=ä🚚\"\\ kind=A"));
    check(r#"{"i\u0064":"a","kin\u0064":"\u0041"}"#, Ok("id=a kind=A"));
    check(r#"{"id":""}"#, Ok("id= kind=A"));
    check(r#"{"id":["a"]}"#, Err(("/id", rule::WRONG_TYPE)));
}

#[test]
fn nested_values_follow_the_same_rules() {
    check_property(r#""place": {"country": "DE"}"#, Ok("place={country: DE, code: 7, tags: }"));
    check_property(
        r#""place": {"tags": ["a", null, "\u0062"], "code": 1, "country": "\u0046R", "more": [{}]}"#,
        Ok("place={country: FR, code: 1, tags: [a, , b]}"),
    );
    check_property(r#""place": null"#, Ok(""));
    check_property(r#""place": {}"#, Err(("/place/country", rule::REQUIRED)));
    check_property(r#""place": {"country": "DEU"}"#, Err(("/place/country", rule::MAX_LENGTH)));
    check_property(r#""place": {"country": null}"#, Err(("/place/country", rule::NULL_NOT_ALLOWED)));
    check_property(r#""place": {"country": "DE", "tags": ["a", 1]}"#, Err(("/place/tags/1", rule::WRONG_TYPE)));
    check_property(r#""place": []"#, Err(("/place", rule::WRONG_TYPE)));
    check_property(r#""marks": [3, 1, 2]"#, Ok("marks=[3, 1, 2]"));
    check_property(r#""marks": [ ]"#, Ok("marks=[]"));
    check_property(r#""marks": [1, null]"#, Err(("/marks/1", rule::NULL_NOT_ALLOWED)));
    check_property(r#""marks": [1, -1]"#, Err(("/marks/1", rule::OUT_OF_RANGE)));
    check_property(r#""marks": {"0": 1}"#, Err(("/marks", rule::WRONG_TYPE)));
}

#[test]
fn arrays_of_objects_and_of_arrays_keep_their_structure() {
    let pair = Kind::Object(vec![column("a", integer(None, None)), column("b", array(text(), false))]);
    let columns = vec![
        column("id", text()),
        column("pairs", array(pair, true)),
        column("grid", array(array(integer(None, None), false), false)),
    ];
    let contract = Contract { columns, conditions: Vec::new(), ..contract() };
    let good = r#"{"pairs": [{"a": 9}]}"#;
    let check = |body: &str, expected: &str| {
        assert_eq!(outcome(&contract, Format::Json, good, body.to_owned()).unwrap(), expected);
    };
    check(
        r#"{"pairs": [{"b": ["x", "y"], "a": 1}, null, {}, {"b": []}]}"#,
        "pairs=[{a: 1, b: [x, y]}, , {a: , b: }, {a: , b: []}]",
    );
    check(r#"{"grid": [[1, 2], [], [3]], "id": "x"}"#, "id=x grid=[[1, 2], [], [3]]");
}

#[test]
fn missing_and_unknown_properties_are_refused_as_the_contract_says() {
    check(r#"{}"#, Err(("/id", rule::REQUIRED)));
    check(r#"{"kind":"B"}"#, Err(("/id", rule::REQUIRED)));
    check(r#"{"id":"a","extra":{"deep":[1,{"x":null}]}}"#, Ok("id=a kind=A"));
    let strict = Contract { additional: false, ..contract() };
    check_in(&strict, r#"{"id":"a","ex/tra":1}"#, Err(("/ex~1tra", rule::UNKNOWN_PROPERTY)));
    check_in(&strict, r#"{"id":"a","place":{"country":"DE","x":1}}"#, Err(("/place/x", rule::UNKNOWN_PROPERTY)));
}

#[test]
fn condition_holds_where_its_premise_does() {
    check(r#"{"id":"a","kind":"B"}"#, Err(("/amount", rule::REQUIRED)));
    check(r#"{"id":"a","kind":"B","amount":1,"count":9}"#, Err(("/count", rule::OUT_OF_RANGE)));
    check(r#"{"id":"a","count":9,"amount":1,"kind":"B"}"#, Err(("/count", rule::OUT_OF_RANGE)));
    check(r#"{"id":"a","kind":"B","amount":1}"#, Ok("id=a kind=B amount=1.000"));
    check(r#"{"id":"a","kind":"A","count":9}"#, Ok("id=a kind=A count=9"));
}

#[test]
fn absent_property_counts_as_its_default_in_a_premise() {
    let mut contract = contract();
    contract.conditions[0].when[0].1 = vec![Value::Text("A".into())];
    check_in(&contract, r#"{"id":"a"}"#, Err(("/amount", rule::REQUIRED)));
    check_in(&contract, r#"{"id":"a","kind":"B"}"#, Ok("id=a kind=B"));
}

#[test]
fn premises_of_any_kind_are_compared_by_value() {
    let mut contract = contract();
    contract.conditions[0].when =
        vec![(0, vec![Value::Text("b".into()), Value::Text("a".into())]), (2, vec![Value::Null])];
    check_in(&contract, r#"{"id":"\u0061"}"#, Err(("/amount", rule::REQUIRED)));
    check_in(&contract, r#"{"id":"a","flag":true}"#, Ok("id=a kind=A flag=true"));
    check_in(&contract, r#"{"id":"c"}"#, Ok("id=c kind=A"));
}

#[test]
fn decoder_starts_anew_after_finish() {
    let mut decoder = Decoder::new(Arc::new(contract()), Format::Json);
    for round in 0..3 {
        assert_eq!(decoder.finish().num_rows(), 0);
        for id in 0..round {
            decoder.decode(
                &message(format!(r#"{{"id":"{id}","place":{{"country":"DE"}},"marks":[1]}}"#)),
                &mut Vec::new(),
            );
        }
        assert_eq!(decoder.finish().num_rows(), round);
    }
}

/// JSON that is nearly right: the good message with bytes changed, put in, taken out.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let edit = (0..GOOD.len(), 0..3_u8, any::<u8>());
    prop::collection::vec(edit, 0..4).prop_map(|edits| {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (at, how, byte) in edits {
            let at = at.min(bytes.len() - 1);
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_bytes_give_one_row_or_one_rejection_and_leave_neighbours_alone(body in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(outcome(&contract(), Format::Json, GOOD, body));
    }

    #[test]
    fn any_text_does_too(body in r#"[{}\[\]":,\\a-e0-9. -]{0,60}"#) {
        drop(outcome(&contract(), Format::Json, GOOD, body));
    }

    #[test]
    fn damaged_event_is_refused_when_it_is_no_json(body in damaged()) {
        let outcome = outcome(&contract(), Format::Json, GOOD, body.clone());
        if serde_json::from_slice::<serde_json::Value>(&body).is_err() {
            prop_assert!(outcome.is_err(), "{}", String::from_utf8_lossy(&body));
        }
    }
}
