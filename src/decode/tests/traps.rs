//! What other readers of JSON let through, cut off, or die of.

use super::*;

#[test]
fn text_that_is_not_utf8_is_refused_where_it_stops_being_it() {
    check_in(&contract(), &b"{\"id\":\"a\xFF\"}"[..], Err(("byte 8", rule::INVALID_UTF8)));
    check_in(&contract(), &b"\xFF\xFE{\0}\0"[..], Err(("byte 0", rule::INVALID_UTF8)));
    check_in(&contract(), &b"{\"id\":\"a\",\"x\":\"\xED\xA0\x80\"}"[..], Err(("byte 15", rule::INVALID_UTF8)));
}

#[test]
fn message_holds_exactly_one_object() {
    check("", Err(("", rule::EMPTY_MESSAGE)));
    check(" \r\n\t", Err(("", rule::EMPTY_MESSAGE)));
    check(r#"{"id":"a"}{"id":"b"}"#, Err(("byte 10", rule::TRAILING_DATA)));
    check("{\"id\":\"a\"}\n{\"id\":\"b\"}", Err(("byte 11", rule::TRAILING_DATA)));
    check(r#"{"id":"a"} x"#, Err(("byte 11", rule::TRAILING_DATA)));
    check(r#"{"id":"a"},"#, Err(("byte 10", rule::TRAILING_DATA)));
    for body in ["[]", r#"[{"id":"a"}]"#, "1", "null", "\"a\"", " true "] {
        check(body, Err(("", rule::NOT_AN_OBJECT)));
    }
}

#[test]
fn text_that_is_not_json_is_refused_at_its_byte() {
    check("x", Err(("byte 0", rule::INVALID_JSON)));
    check(r#"{"id":"a""#, Err(("byte 9", rule::INVALID_JSON)));
    check(r#"{"id":"a"#, Err(("byte 8", rule::INVALID_JSON)));
    check(r#"{"id":"a",}"#, Err(("byte 10", rule::INVALID_JSON)));
    check(r#"{id:"a"}"#, Err(("byte 1", rule::INVALID_JSON)));
    check(r#"{'id':"a"}"#, Err(("byte 1", rule::INVALID_JSON)));
    check("{\"id\":\"a\",\n\n  \"count\":01}", Err(("byte 23", rule::INVALID_JSON)));
    check(r#"{"id":"a","count":+1}"#, Err(("byte 18", rule::INVALID_JSON)));
    check(r#"{"id":"a" /* b */}"#, Err(("byte 10", rule::INVALID_JSON)));
    check("{\"id\":\"a\tb\"}", Err(("byte 8", rule::INVALID_JSON)));
    check("{\"id\":\"a\",\"x\":\"\u{0}\"}", Err(("byte 15", rule::INVALID_JSON)));
    check(r#"{"id":"\x61"}"#, Err(("byte 8", rule::INVALID_JSON)));
    check("\u{FEFF}{\"id\":\"a\"}", Err(("byte 0", rule::INVALID_JSON)));
}

#[test]
fn not_a_number_and_infinity_are_not_json() {
    check(r#"{"id":"a","ratio":NaN}"#, Err(("byte 18", rule::INVALID_JSON)));
    check(r#"{"id":"a","ratio":-Infinity}"#, Err(("byte 19", rule::INVALID_JSON)));
    check(r#"{"id":"a","extra":[Infinity]}"#, Err(("byte 19", rule::INVALID_JSON)));
    check_property(r#""ratio": 1e999"#, Err(("/ratio", rule::OUT_OF_RANGE)));
    check_property(r#""ratio": "NaN""#, Err(("/ratio", rule::WRONG_TYPE)));
    check_property(r#""amount": "NaN""#, Err(("/amount", rule::INVALID_NUMBER)));
}

#[test]
fn key_that_is_there_twice_is_refused_wherever_it_is() {
    check(r#"{"id":"a","id":"a"}"#, Err(("/id", rule::DUPLICATE_KEY)));
    check(r#"{"id":"a","i\u0064":"b"}"#, Err(("/id", rule::DUPLICATE_KEY)));
    check(r#"{"id":"a","flag":null,"flag":true}"#, Err(("/flag", rule::DUPLICATE_KEY)));
    check(r#"{"x":1,"id":"a","x":1}"#, Err(("/x", rule::DUPLICATE_KEY)));
    check(r#"{"x":1,"id":"a","\u0078":1}"#, Err(("/x", rule::DUPLICATE_KEY)));
    check(r#"{"id":"a","x":{"y":{"z":1,"z":2}}}"#, Err(("/x", rule::DUPLICATE_KEY)));
    check(r#"{"id":"a","x":[{"z":1},{"z":1}]}"#, Ok("id=a kind=A"));
    check_property(r#""place":{"country":"DE","country":"DE"}"#, Err(("/place/country", rule::DUPLICATE_KEY)));
    check_property(r#""place":{"country":"DE","x":1,"x":1}"#, Err(("/place/x", rule::DUPLICATE_KEY)));
}

#[test]
fn nesting_deeper_than_the_cap_is_refused_without_recursion() {
    let nested =
        |name: &str, levels: usize| format!(r#"{{"id":"a","{name}":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    check(&nested("x", DEPTH_MAX - 1), Ok("id=a kind=A"));
    check(&nested("x", DEPTH_MAX), Err(("/x", rule::TOO_DEEP)));
    check(&nested("x", 500_000), Err(("/x", rule::TOO_DEEP)));
    check(&nested("marks", 500_000), Err(("/marks/0", rule::WRONG_TYPE)));
    check(&nested("id2", 500_000).replace("id2", "amount"), Err(("/amount", rule::WRONG_TYPE)));
    let objects = format!(r#"{{"id":"a","x":{}1{}}}"#, "{\"y\":".repeat(100_000), "}".repeat(100_000));
    check(&objects, Err(("/x", rule::TOO_DEEP)));
    check(&"[".repeat(1_000_000), Err(("byte 1000000", rule::INVALID_JSON)));
    check(&format!("{}{}", "[".repeat(500_000), "]".repeat(500_000)), Err(("", rule::NOT_AN_OBJECT)));
}

#[test]
fn number_of_a_hundred_thousand_digits_is_refused_unread() {
    let digits = "9".repeat(100_000);
    for name in ["count", "ratio", "amount", "x"] {
        let place = format!("/{name}");
        check_property(&format!(r#""{name}": {digits}"#), Err((&place, rule::NUMBER_TOO_LONG)));
        check_property(&format!(r#""{name}": 0.{digits}"#), Err((&place, rule::NUMBER_TOO_LONG)));
        check_property(&format!(r#""{name}": 1e{digits}"#), Err((&place, rule::NUMBER_TOO_LONG)));
    }
    check_property(&format!(r#""amount": "{digits}""#), Err(("/amount", rule::NUMBER_TOO_LONG)));
    check_property(&format!(r#""x": {{"y": [{digits}]}}"#), Err(("/x", rule::NUMBER_TOO_LONG)));
}

#[test]
fn decimal_is_never_rounded_or_cut() {
    check_property(r#""amount": 12.3456"#, Err(("/amount", rule::DECIMAL_SCALE)));
    check_property(r#""amount": "12.3456""#, Err(("/amount", rule::DECIMAL_SCALE)));
    check_property(r#""amount": 1234567890123456"#, Err(("/amount", rule::DECIMAL_PRECISION)));
    check_property(r#""amount": 1e400"#, Err(("/amount", rule::DECIMAL_PRECISION)));
    check_property(r#""amount": 1e-400"#, Err(("/amount", rule::DECIMAL_SCALE)));
    check_property(r#""amount": 1.005"#, Ok("amount=1.005"));
    check_property(r#""amount": 123456789012345.678"#, Ok("amount=123456789012345.678"));
    check_property(r#""amount": 12345e-3"#, Ok("amount=12.345"));
}

#[test]
fn instant_that_does_not_exist_or_is_absurd_is_refused() {
    check_property(r#""at": "2023-02-30T00:00:00Z""#, Err(("/at", rule::INVALID_TIMESTAMP)));
    check_property(r#""at": "2016-12-31T23:59:60Z""#, Err(("/at", rule::INVALID_TIMESTAMP)));
    check_property(r#""at": "2023-11-14T22:13:20""#, Err(("/at", rule::MISSING_OFFSET)));
    check_property(r#""at": "2023-11-14T22:13:20.1234567Z""#, Err(("/at", rule::TOO_PRECISE)));
    check_property(r#""at": "0001-01-01T00:00:00Z""#, Err(("/at", rule::OUT_OF_RANGE)));
    check_property(r#""at": "9999-12-31T23:59:59Z""#, Err(("/at", rule::OUT_OF_RANGE)));
    check_property(r#""at": "99999-12-31T23:59:59Z""#, Err(("/at", rule::INVALID_TIMESTAMP)));
    check_property(r#""day": "2023-02-29""#, Err(("/day", rule::INVALID_DATE)));
    check_property(r#""time": "24:00""#, Err(("/time", rule::INVALID_TIME)));
}

#[test]
fn half_of_a_surrogate_pair_is_refused() {
    check(r#"{"id":"\ud83d"}"#, Err(("/id", rule::LONE_SURROGATE)));
    check(r#"{"id":"\ude9a\ud83d"}"#, Err(("/id", rule::LONE_SURROGATE)));
    check(r#"{"id":"a","x":["\ud83d"]}"#, Err(("/x", rule::LONE_SURROGATE)));
    check_property(r#""place":{"country":"\ud83d"}"#, Err(("/place/country", rule::LONE_SURROGATE)));
    check_property(r#""at":"\ud83d""#, Err(("/at", rule::LONE_SURROGATE)));
    check(r#"{"id":"a","\ud83d":1}"#, Err(("byte 17", rule::INVALID_JSON)));
}

#[test]
fn message_of_more_than_a_mebibyte_is_refused_and_one_of_a_mebibyte_is_not() {
    let padded = |bytes: usize| {
        let body = r#"{"id":"a","x":""}"#;
        body.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - body.len())))
    };
    check(&padded(MESSAGE_BYTES_MAX), Ok("id=a kind=A"));
    check(&padded(MESSAGE_BYTES_MAX + 1), Err(("", rule::MESSAGE_TOO_LARGE)));
}

#[test]
fn fault_in_a_long_message_is_told_in_a_few_words() {
    let long = "x".repeat(900_000);
    check(&format!(r#"{{"id":"{long}"}}"#), Err(("/id", rule::MAX_LENGTH)));
    let place = format!("/{}…", "x".repeat(60));
    check(&format!(r#"{{"id":"a","{long}":NaN}}"#), Err(("byte 900013", rule::INVALID_JSON)));
    check(&format!(r#"{{"id":"a","{long}":{}}}"#, "9".repeat(1_000)), Err((&place, rule::NUMBER_TOO_LONG)));
}

#[test]
fn hundred_thousand_unknown_keys_are_no_trouble() {
    let keys: Vec<_> = (0..80_000).map(|key| format!("\"k{key}\":0")).collect();
    check(&format!(r#"{{"id":"a",{}}}"#, keys.join(",")), Ok("id=a kind=A"));
    check(&format!(r#"{{"id":"a",{},"k77":1}}"#, keys.join(",")), Err(("/k77", rule::DUPLICATE_KEY)));
}
