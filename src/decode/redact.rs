//! A bad event without its values, for a source whose dead letters may not hold them.
//!
//! Law: names, order, nesting and white space stay, and each value becomes one that says nothing: a text `***`, a number 0, a
//! boolean false; null stays. What can't be taken apart as its encoding says has no structure that could be told from its
//! values, so nothing stays of it. Headers keep their names, and `Content-Type` says what it said, in
//! words of our own.

use bytes::Bytes;
use serde::de::IgnoredAny;

use crate::types::RawMessage;

use super::encoding::{ARROW, Encoding, HEADER};

/// The message of a dead letter without its values.
pub fn redacted(message: &RawMessage) -> RawMessage {
    let encoding = Encoding::of(message);
    let body = match (&message.columns, &encoding) {
        (Some(_), _) => record(&message.body),
        (None, Ok(Encoding::Unsaid | Encoding::Json | Encoding::Lines)) => document(&message.body),
        (None, Ok(Encoding::Arrow) | Err(_)) => None,
    };
    let known = match encoding {
        Ok(Encoding::Json) => "application/json",
        Ok(Encoding::Lines) => "application/x-ndjson",
        Ok(Encoding::Arrow) => ARROW,
        Ok(Encoding::Unsaid) | Err(_) => HIDDEN,
    };
    let header = |(name, _): &(String, String)| {
        let value = if name.eq_ignore_ascii_case(HEADER) { known } else { HIDDEN };
        (name.clone(), value.to_owned())
    };
    RawMessage {
        headers: message.headers.iter().map(header).collect(),
        body: body.map(Bytes::from).unwrap_or_default(),
        ..message.clone()
    }
}

/// A JSON document, or lines of them.
fn document(body: &[u8]) -> Option<Vec<u8>> {
    if serde_json::from_slice::<IgnoredAny>(body).is_ok() {
        return Some(without_values(body));
    }
    let blank = |line: &[u8]| line.iter().all(|byte| is_space(*byte));
    let is_json = |line: &[u8]| blank(line) || serde_json::from_slice::<IgnoredAny>(line).is_ok();
    let are_lines = body.split(|byte| *byte == b'\n').all(is_json) && !blank(body);
    are_lines.then(|| without_values(body))
}

/// The same bytes of sound JSON with other values.
fn without_values(json: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some(&byte) = rest.first() {
        let length = match byte {
            b'"' => text_length(rest),
            b'-' | b'0'..=b'9' | b'a'..=b'z' => rest.iter().take_while(|byte| is_word(**byte)).count(),
            _ => 1,
        };
        let (token, behind) = rest.split_at(length.clamp(1, rest.len()));
        let is_name = byte == b'"' && behind.iter().find(|byte| !is_space(**byte)) == Some(&b':');
        kept.extend_from_slice(match byte {
            _ if is_name => token,
            b'"' => b"\"***\"",
            b'-' | b'0'..=b'9' => b"0",
            b't' | b'f' => b"false",
            _ => token,
        });
        rest = behind;
    }
    kept
}

/// How long the text is that begins here, both quotes included.
fn text_length(json: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// One CSV record.
fn record(body: &[u8]) -> Option<Vec<u8>> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(body);
    let mut records = reader.byte_records();
    let record = records.next()?.ok()?;
    if records.next().is_some() {
        return None;
    }
    let fields: Vec<&str> = record.iter().map(|field| if field.is_empty() { "" } else { HIDDEN }).collect();
    Some(fields.join(",").into_bytes())
}

/// What stands in the place of a text.
const HIDDEN: &str = "***";

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &[(&str, &str)], columns: Option<&[&str]>, body: &[u8]) -> RawMessage {
        RawMessage {
            stream: "S".into(),
            sequence: 7,
            subject: "s.a".into(),
            received_at: Some(1),
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            columns: columns.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
            body: Bytes::copy_from_slice(body),
        }
    }

    #[track_caller]
    fn check(headers: &[(&str, &str)], body: &[u8], expected: &str) {
        let kept = redacted(&message(headers, None, body));
        assert_eq!(String::from_utf8_lossy(&kept.body), expected);
    }

    #[test]
    fn structure_stays_and_values_go() {
        check(
            &[],
            br#"{ "a": "sec\"r:et", "b" : [-1.5e+3, true, null, {}, []], "c:\"d": {"e":false} }"#,
            r#"{ "a": "***", "b" : [0, false, null, {}, []], "c:\"d": {"e":false} }"#,
        );
        check(&[], br#"["x",7]"#, r#"["***",0]"#);
        check(&[], "\"ü\"".as_bytes(), "\"***\"");
        let lines = [("content-type", "application/x-ndjson")];
        check(&lines, b"{\"a\":1}\n\n{\"a\":\"x\"}\n", "{\"a\":0}\n\n{\"a\":\"***\"}\n");
    }

    #[test]
    fn what_is_not_what_it_says_keeps_nothing() {
        for body in [&b"{\"a\": \"secret\", }"[..], b"secret", b"{\"a\": sec", b"\xff\xfe", b"", b"{\"a\":1} secret"] {
            check(&[], body, "");
        }
        check(&[("Content-Type", "application/vnd.apache.arrow.stream")], b"secret", "");
        check(&[("Content-Type", "secret/secret")], br#"{"a":"secret"}"#, "");
    }

    #[test]
    fn headers_keep_their_names_and_csv_its_fields() {
        let packed = [("Trace", "secret"), ("Content-Type", "application/json")];
        let kept = redacted(&message(&packed, None, b"{}"));
        let expected =
            [("Trace", "***"), ("Content-Type", "application/json")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(kept.headers, expected);
        let kept = redacted(&message(&[("Content-Type", "secret")], None, b"{}"));
        assert_eq!(kept.headers[0].1, "***");
        let kept = redacted(&message(&[], Some(&["a", "b", "c"]), b"secret,,\"se\"\"cret,\"\n"));
        assert_eq!(&kept.body[..], b"***,,***");
        assert_eq!((kept.sequence, &*kept.stream), (7, "S"));
    }
}
