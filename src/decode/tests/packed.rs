//! Messages of many events: arrays and lines of JSON.

use ::arrow::array::Int64Array;

use super::*;

fn packed(content_type: &str, body: impl Into<Bytes>) -> RawMessage {
    RawMessage { headers: vec![("Content-Type".to_owned(), content_type.to_owned())], ..message(body) }
}

fn decoder() -> Decoder {
    Decoder::new(Arc::new(contract()), Format::Json)
}

/// Each event as the index and the row, or as the index, place and rule; in the order of indexes.
fn events(decoder: &mut Decoder, message: &RawMessage) -> Vec<(u32, Outcome)> {
    let mut rejections = Vec::new();
    let appended = decoder.decode(message, &mut rejections);
    let rows = decoder.finish();
    assert_eq!(rows.num_rows(), appended);
    let indexes = rows.column_by_name("_index").unwrap().as_any().downcast_ref::<Int64Array>().unwrap();
    let rows = (0..appended).map(|row| (u32::try_from(indexes.value(row)).unwrap(), Ok(row_text(&rows, row))));
    let rejected = rejections.iter().map(|found| (found.index, Err((found.place.clone(), found.rule))));
    let mut all: Vec<(u32, Outcome)> = rows.chain(rejected).collect();
    all.sort_by_key(|(index, _)| *index);
    all
}

/// Checks the events of a message, and what a dead letter of each would keep.
fn check(content_type: &str, body: &str, expected: &[Result<&str, (&str, &str)>], kept: &[&str]) {
    let message = packed(content_type, body.to_owned());
    let mut decoder = decoder();
    let found = events(&mut decoder, &message);
    let outcomes: Vec<_> = found
        .iter()
        .map(|(_, found)| found.as_ref().map(String::as_str).map_err(|(place, rule)| (place.as_str(), *rule)))
        .collect();
    assert_eq!(outcomes, expected, "{body}");
    let indexes: Vec<u32> = found.iter().map(|(index, _)| *index).collect();
    assert_eq!(indexes, (0..).take(indexes.len()).collect::<Vec<u32>>(), "{body}");
    let bodies = decoder.event_bodies(&message, &indexes);
    let bodies: Vec<_> = bodies.iter().map(|body| String::from_utf8_lossy(body)).collect();
    assert_eq!(bodies, kept, "{body}");
    assert!(event_count_hint(&message) >= 1);
    // Sent again alone with the same headers, each comes to the same.
    for ((_, outcome), body) in found.iter().zip(&bodies) {
        let again = events(&mut decoder, &packed(content_type, body.to_string()));
        let rule = |outcome: &Outcome| outcome.as_ref().map(Clone::clone).map_err(|(_, rule)| *rule);
        assert_eq!(again.iter().map(|(_, again)| rule(again)).collect::<Vec<_>>(), [rule(outcome)], "{body}");
    }
}

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";

#[test]
fn array_is_as_many_events_and_a_bad_one_does_not_disturb_its_neighbours() {
    check(JSON, r#"{"id":"a"}"#, &[Ok("id=a kind=A")], &[r#"{"id":"a"}"#]);
    check(
        JSON,
        " [ {\"id\":\"a\"},\r\n\t{\"id\": 1 } , {\"id\":\"c\",\"count\":7}, null, 7, [{\"id\":\"x\"}], {}, {\"id\":\"ä\"} ] ",
        &[
            Ok("id=a kind=A"),
            Err(("/id", rule::WRONG_TYPE)),
            Ok("id=c kind=A count=7"),
            Err(("", rule::NOT_AN_OBJECT)),
            Err(("", rule::NOT_AN_OBJECT)),
            Err(("", rule::NOT_AN_OBJECT)),
            Err(("/id", rule::REQUIRED)),
            Ok("id=ä kind=A"),
        ],
        &[
            "{\"id\":\"a\"}",
            "{\"id\": 1 }",
            "{\"id\":\"c\",\"count\":7}",
            "null",
            "7",
            "[[{\"id\":\"x\"}]]",
            "{}",
            "{\"id\":\"ä\"}",
        ],
    );
}

#[test]
fn line_is_an_event_and_stands_for_itself_also_where_it_is_no_json() {
    let a = r#"{"id":"a"}"#;
    let b = r#"{"id":"b"}"#;
    for name in [LINES, "application/ndjson", "application/jsonl"] {
        check(name, &format!("{a}\n{b}"), &[Ok("id=a kind=A"), Ok("id=b kind=A")], &[a, b]);
    }
    check(LINES, &format!("{a}\n"), &[Ok("id=a kind=A")], &[a]);
    let windows = format!("{a}\r");
    check(LINES, &format!("\n\n{a}\r\n \t\r\n{b}\n\n"), &[Ok("id=a kind=A"), Ok("id=b kind=A")], &[&windows, b]);
    check(
        LINES,
        &format!("{a}\n{{\"id\":\n{{\"id\":\"b\"}}{{}}\n[{a}]\n{b}"),
        &[
            Ok("id=a kind=A"),
            Err(("byte 6", rule::INVALID_JSON)),
            Err(("byte 10", rule::TRAILING_DATA)),
            Err(("", rule::NOT_AN_OBJECT)),
            Ok("id=b kind=A"),
        ],
        &[a, "{\"id\":", "{\"id\":\"b\"}{}", &format!("[{a}]"), b],
    );
    let mut decoder = decoder();
    let broken = [a.as_bytes(), b"\n{\"id\":\"\xff\"}\n", b.as_bytes()].concat();
    let found = events(&mut decoder, &packed(LINES, broken));
    let rules: Vec<_> = found.iter().map(|(_, found)| found.as_ref().err().map(|(_, rule)| *rule)).collect();
    assert_eq!(rules, [None, Some(rule::INVALID_UTF8), None]);
}

#[test]
fn message_that_cannot_be_taken_apart_is_one_rejection_of_index_zero() {
    let a = r#"{"id":"a"}"#;
    let whole = |content_type: &str, body: &str, place: &str, rule: &'static str| {
        check(content_type, body, &[Err((place, rule))], &[body]);
    };
    whole(JSON, &format!("[{a},{a}"), "byte 22", rule::INVALID_JSON);
    whole(JSON, &format!("[{a},]"), "byte 12", rule::INVALID_JSON);
    whole(JSON, &format!("[{a},{{\"id\":tru}},{a}]"), "byte 21", rule::INVALID_JSON);
    whole(JSON, &format!("[{a}]{a}"), "byte 12", rule::TRAILING_DATA);
    whole(JSON, &format!("[{a}][]"), "byte 12", rule::TRAILING_DATA);
    whole(JSON, "", "", rule::EMPTY_MESSAGE);
    whole(LINES, "", "", rule::EMPTY_MESSAGE);
    whole(LINES, " \n\r\n", "", rule::EMPTY_MESSAGE);
    whole("text/csv", a, "header Content-Type", rule::UNKNOWN_CONTENT_TYPE);
    let many = "{},".repeat(EVENTS_MAX);
    whole(JSON, &format!("[{many}{{}}]"), "", rule::TOO_MANY_EVENTS);
    whole(LINES, &"{}\n".repeat(EVENTS_MAX + 1), "", rule::TOO_MANY_EVENTS);
}

#[test]
fn as_many_events_as_allowed_are_read_and_one_may_be_as_long_as_alone() {
    let many = vec!["{}"; EVENTS_MAX].join(",");
    let found = events(&mut decoder(), &packed(JSON, format!("[{many}]")));
    assert_eq!(found.len(), EVENTS_MAX);
    let ignored = "x".repeat(MESSAGE_BYTES_MAX);
    let long = format!(r#"[{{"id":"a","x":"{ignored}"}},{{"id":"b"}}]"#);
    let found = events(&mut decoder(), &packed(JSON, long));
    assert_eq!(found[0].1.as_ref().unwrap_err().1, rule::MESSAGE_TOO_LARGE);
    assert_eq!(found[1].1.as_ref().unwrap(), "id=b kind=A");
    let body = vec![b' '; PACKED_BYTES_MAX + 1];
    let found = events(&mut decoder(), &packed(LINES, body));
    assert_eq!(found[0].1.as_ref().unwrap_err().1, rule::MESSAGE_TOO_LARGE);
}

#[test]
fn empty_array_holds_no_event() {
    check(JSON, "[]", &[], &[]);
    check(JSON, " [ ] ", &[], &[]);
}

#[test]
fn without_the_header_an_array_is_no_event_and_the_reason_says_what_to_send() {
    let mut rejections = Vec::new();
    decoder().decode(&message(r#"[{"id":"a"}]"#), &mut rejections);
    assert_eq!((rejections.len(), rejections[0].rule), (1, rule::NOT_AN_OBJECT));
    assert!(rejections[0].reason.contains("`Content-Type: application/json`"), "{}", rejections[0].reason);
}

#[test]
fn header_of_a_csv_source_is_not_looked_at() {
    let header = vec!["id".to_owned()];
    let mut decoder = Decoder::new(Arc::new(contract()), Format::Csv { header });
    assert_eq!(events(&mut decoder, &packed("text/csv", "a")).len(), 1);
    assert_eq!(decoder.event_bodies(&packed("text/csv", "a"), &[0]), ["a"]);
}

proptest! {
    #[test]
    fn packed_events_come_to_what_they_come_to_alone(
        bodies in prop::collection::vec(prop::sample::select(vec![
            r#"{"id":"a"}"#, r#"{"id":"b","count":7,"place":{"country":"DE"}}"#, r#"{"id":"\n"}"#, r#"{"id":"too long"}"#,
            r#"{"id":"a","id":"b"}"#, r#"{"id":"\ud800"}"#, "{}", "null", "\"{\"", "[]", "1e999", r#"{"id":"c","x":[{"y":"]"}]}"#,
        ]), 1..12),
        space in prop::sample::select(vec!["", " ", "\r"]),
    ) {
        let mut decoder = decoder();
        let alone: Vec<Outcome> = bodies
            .iter()
            .flat_map(|body| events(&mut decoder, &message(*body)))
            .map(|(_, outcome)| outcome)
            .collect();
        for (name, body) in [
            (JSON, format!("[{}]", bodies.join(&format!("{space},{space}")))),
            (LINES, bodies.join(&format!("{space}\n{space}"))),
        ] {
            let packed = events(&mut decoder, &packed(name, body.clone()));
            let indexes: Vec<usize> = packed.iter().map(|(index, _)| *index as usize).collect();
            prop_assert_eq!(indexes, (0..bodies.len()).collect::<Vec<_>>());
            for ((_, packed), alone) in packed.iter().zip(&alone) {
                let rule = |outcome: &Outcome| outcome.as_ref().map(Clone::clone).map_err(|(_, rule)| *rule);
                prop_assert_eq!(rule(packed), rule(alone), "{}", &body);
            }
        }
    }

    #[test]
    fn any_bytes_with_any_known_header_leave_the_decoder_sound(
        name in prop::sample::select(vec![JSON, LINES, "application/vnd.apache.arrow.stream", "x"]),
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "[\\[\\]{},\"a:1 \n]{0,40}".prop_map(String::into_bytes),
        ],
    ) {
        let mut decoder = decoder();
        let message = packed(name, body);
        let found = events(&mut decoder, &message);
        let indexes: Vec<u32> = found.iter().map(|(index, _)| *index).collect();
        prop_assert_eq!(decoder.event_bodies(&message, &indexes).len(), indexes.len());
        event_count_hint(&message);
        readable(&message);
        prop_assert_eq!(events(&mut decoder, &super::message(GOOD)).len(), 1);
    }
}
