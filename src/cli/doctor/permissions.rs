//! Which subjects a user needs, and whether it has them.

use serde_json::Value;

use crate::definition::subjects_overlap;
use crate::sink::change_target::marker_subject;
use crate::sink::subject::covers;

/// A subject that must be allowed as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needed {
    /// The subject, wildcards included.
    pub(super) subject: String,
    /// What for.
    pub(super) why: &'static str,
    direction: Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Publish,
    Subscribe,
}

impl Needed {
    fn publish(subject: String, why: &'static str) -> Self {
        Self { subject, why, direction: Direction::Publish }
    }

    /// What can't be done with it.
    pub(super) fn verb(&self) -> &'static str {
        match self.direction {
            Direction::Publish => "publish on",
            Direction::Subscribe => "subscribe to",
        }
    }
}

/// Where answers arrive.
pub(super) fn inbox() -> Needed {
    Needed { subject: "_INBOX.>".to_owned(), why: "where answers arrive", direction: Direction::Subscribe }
}

/// What reading a stream needs.
pub(super) fn reading(stream: &str) -> Vec<Needed> {
    let mut needed = vec![
        Needed::publish(format!("$JS.API.STREAM.INFO.{stream}"), "which tells a stream's settings"),
        Needed::publish(format!("$JS.API.STREAM.MSG.GET.{stream}"), "by which a stream is recognised"),
    ];
    needed.extend(consuming(stream));
    needed
}

/// What publishing changes to a stream needs; `exists`: it need not be created.
pub(super) fn publishing(pipeline: &str, stream: &str, filters: &[String], exists: bool) -> Vec<Needed> {
    let mut needed = vec![
        Needed::publish(format!("$JS.API.STREAM.INFO.{stream}"), "which tells a stream's settings"),
        Needed::publish(format!("$JS.API.STREAM.MSG.GET.{stream}"), "which tells what is published"),
        Needed::publish(marker_subject(stream, pipeline), "where the markers of changes go"),
    ];
    if !exists {
        needed.push(Needed::publish(format!("$JS.API.STREAM.CREATE.{stream}"), "which creates the stream"));
    }
    needed.extend(consuming(stream));
    needed.extend(filters.iter().map(|filter| Needed::publish(filter.clone(), "where changes go")));
    needed
}

fn consuming(stream: &str) -> [Needed; 3] {
    let consumer = |verb: &str, why| Needed::publish(format!("$JS.API.CONSUMER.{verb}.{stream}.>"), why);
    [
        consumer("CREATE", "which begins to read a stream"),
        consumer("MSG.NEXT", "which reads a stream"),
        consumer("DELETE", "which ends reading a stream"),
    ]
}

/// Whether the user may publish on a subject, by what the broker tells of the user.
pub(super) fn allows(told: &Value, subject: &str) -> bool {
    denied(told, &[Needed::publish(subject.to_owned(), "")]).is_empty()
}

/// Those that are not allowed, or not all of them, by what the broker tells of the user. A user without permissions may do
/// everything.
pub(super) fn denied<'a>(told: &Value, needed: &'a [Needed]) -> Vec<&'a Needed> {
    let permissions = &told["data"]["permissions"];
    if permissions.is_null() {
        return Vec::new();
    }
    let is_denied = |needed: &&Needed| {
        let of = match needed.direction {
            Direction::Publish => &permissions["publish"],
            Direction::Subscribe => &permissions["subscribe"],
        };
        let (allowed, denied) = (subjects(&of["allow"]), subjects(&of["deny"]));
        let is_allowed = allowed.is_empty() || allowed.iter().any(|allowed| covers(allowed, &needed.subject));
        !is_allowed || denied.iter().any(|denied| subjects_overlap(denied, &needed.subject))
    };
    needed.iter().filter(is_denied).collect()
}

fn subjects(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// A user's name as it may be shown: a public key is cut short, a token is not a name.
pub(super) fn shown(user: &str) -> String {
    match user.char_indices().nth(NAME_CHARS_MAX) {
        Some((at, _)) => format!("{}…", user.get(..at).unwrap_or_default()),
        None => user.to_owned(),
    }
}

const NAME_CHARS_MAX: usize = 12;

/// What mends a missing permission.
pub(super) const MEND: &str =
    "allow it to the user in the broker's configuration; the README lists all that are needed";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_allowed_as_a_whole_and_not_denied_in_part_is_allowed() {
        let needed = [Needed::publish("a.b.*".to_owned(), "")];
        for (publish, is_denied) in [
            (json!({}), false),
            (json!({ "allow": ["a.>"] }), false),
            (json!({ "allow": ["x", "a.*.*"] }), false),
            (json!({ "allow": ["a.b.c"] }), true),
            (json!({ "allow": ["a.>"], "deny": ["a.b.c"] }), true),
            (json!({ "deny": ["a.c.*"] }), false),
            (json!({ "deny": [">"] }), true),
        ] {
            let found = denied(&json!({ "data": { "permissions": { "publish": publish } } }), &needed);
            assert_eq!(!found.is_empty(), is_denied, "{publish}");
        }
        assert!(denied(&json!({ "data": {} }), &needed).is_empty());
    }
}
