//! What a message says of itself: its header `Content-Type`.
//!
//! | `Content-Type` | the message is |
//! |---|---|
//! | none | one JSON object, as the source's format says |
//! | `application/json` | a JSON object, or an array of events |
//! | `application/x-ndjson`, `application/ndjson`, `application/jsonl` | an event a line; blank lines are none |
//! | `application/vnd.apache.arrow.stream` | an Arrow IPC stream, an event a row |
//!
//! Anything else is a dead letter of the message: nothing is guessed from its bytes. Names are read as in HTTP, whatever
//! their case; of parameters only `charset=utf-8` is known.

use super::rule::{self, Checked, Fault, shorten};
use crate::types::RawMessage;

/// How the events of a message are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As the source's format says.
    Unsaid,
    /// A JSON object, or an array of them.
    Json,
    /// A JSON object a line.
    Lines,
    /// An Arrow IPC stream.
    Arrow,
}

const KNOWN: [(&str, Encoding); 5] = [
    ("application/json", Encoding::Json),
    ("application/x-ndjson", Encoding::Lines),
    ("application/ndjson", Encoding::Lines),
    ("application/jsonl", Encoding::Lines),
    (ARROW, Encoding::Arrow),
];

/// The header.
pub(super) const HEADER: &str = "Content-Type";

/// What it says of an Arrow IPC stream.
pub(super) const ARROW: &str = "application/vnd.apache.arrow.stream";

impl Encoding {
    /// What the headers say.
    pub(crate) fn of(message: &RawMessage) -> Checked<Self> {
        let mut said = Self::Unsaid;
        for (name, value) in &message.headers {
            if !name.eq_ignore_ascii_case(HEADER) {
                continue;
            }
            let encoding = Self::parse(value).ok_or_else(|| unknown(value))?;
            if said != Self::Unsaid && said != encoding {
                let reason = format!("the header is there twice, and `{}` is not the same", shorten(value));
                return Err(Fault::of_header(HEADER, rule::UNKNOWN_CONTENT_TYPE, reason));
            }
            said = encoding;
        }
        Ok(said)
    }

    fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(';').map(str::trim);
        let name = parts.next()?;
        let utf8 = |parameter: &str| {
            let value = parameter.split_once('=').filter(|(name, _)| name.trim_end().eq_ignore_ascii_case("charset"));
            value.is_some_and(|(_, value)| value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8"))
        };
        if !parts.all(|parameter| parameter.is_empty() || utf8(parameter)) {
            return None;
        }
        KNOWN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, encoding)| *encoding)
    }
}

#[cold]
fn unknown(value: &str) -> Box<Fault> {
    let names: Vec<String> = KNOWN.iter().map(|(name, _)| format!("`{name}`")).collect();
    let reason = format!("`{}` is not read; known are {}", shorten(value), names.join(", "));
    Fault::of_header(HEADER, rule::UNKNOWN_CONTENT_TYPE, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::tests::message;

    fn check(headers: &[(&str, &str)], expected: Option<Encoding>) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let said = Encoding::of(&RawMessage { headers, ..message("{}") });
        assert_eq!(said.as_ref().ok(), expected.as_ref());
        if let Err(fault) = said {
            let rejection = fault.rejection(0);
            assert_eq!((rejection.rule, &*rejection.place), (rule::UNKNOWN_CONTENT_TYPE, "header Content-Type"));
        }
    }

    #[test]
    fn header_says_how_a_message_is_written_and_nothing_is_guessed() {
        use Encoding::{Arrow, Json, Lines, Unsaid};
        check(&[], Some(Unsaid));
        check(&[("Nats-Msg-Id", "text/plain")], Some(Unsaid));
        check(&[("Content-Type", "application/json")], Some(Json));
        check(&[("content-type", "Application/JSON; charset=UTF-8")], Some(Json));
        check(&[("Content-Type", "application/json;charset = \"utf-8\";")], Some(Json));
        check(&[("Content-Type", "application/json"), ("content-type", "application/json")], Some(Json));
        check(&[("Content-Type", "application/x-ndjson")], Some(Lines));
        check(&[("Content-Type", "application/ndjson")], Some(Lines));
        check(&[("Content-Type", "application/jsonl")], Some(Lines));
        check(&[("Content-Type", "application/vnd.apache.arrow.stream")], Some(Arrow));
        check(&[("Content-Type", "")], None);
        check(&[("Content-Type", "text/plain")], None);
        check(&[("Content-Type", "application/vnd.apache.arrow.file")], None);
        check(&[("Content-Type", "application/cloudevents+json")], None);
        check(&[("Content-Type", "application/json; charset=latin1")], None);
        check(&[("Content-Type", "application/json"), ("Content-Type", "application/ndjson")], None);
    }
}
