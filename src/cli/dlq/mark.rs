//! Where in a body the place of a rejection is.

use std::ops::Range;

use crate::definition::json_place;

use super::super::output::on_one_line;

/// The bytes of a body that a place names: those of a value by its JSON pointer (of the object that it should be in, where it
/// is missing: its opening brace), one byte by `byte 17`. None where the place is all of it, or can't be found.
pub(super) fn place_in(body: &str, place: &str) -> Option<Range<usize>> {
    if let Some(byte) = place.strip_prefix("byte ") {
        let at = byte.parse::<usize>().ok()?.min(body.len());
        let start = (0..=at).rev().find(|&start| body.is_char_boundary(start))?;
        let end = (start + 1..=body.len()).find(|&end| body.is_char_boundary(end)).unwrap_or(start);
        return Some(start..end);
    }
    if !place.starts_with('/') {
        return None;
    }
    json_place(body, place)
}

/// The body, indented, with a line of carets below the place.
pub(super) fn marked(body: &str, place: Option<Range<usize>>) -> String {
    let mut text = String::new();
    let mut start = 0;
    for line in body.split('\n') {
        let end = start + line.len();
        text.push_str(&format!("  {}\n", on_one_line(line.strip_suffix('\r').unwrap_or(line))));
        if let Some(place) = place.as_ref().filter(|place| (start..=end).contains(&place.start)) {
            let cut = |from: usize, to: usize| body.get(from..to).map_or(0, |part| on_one_line(part).chars().count());
            let (before, marked) = (cut(start, place.start), cut(place.start, place.end.min(end)).max(1));
            text.push_str(&format!("  {}{}\n", " ".repeat(before), "^".repeat(marked)));
        }
        start = end + 1;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, place: &str, expected: &str) {
        assert_eq!(marked(body, place_in(body, place)), expected);
    }

    #[test]
    fn the_place_stands_above_carets() {
        check(
            r#"{"a": 1, "b": [true, "x"]}"#,
            "/b/1",
            "  {\"a\": 1, \"b\": [true, \"x\"]}\n                       ^^^\n",
        );
        check(
            "{\n  \"a\": {\"b~/c\": 12}\n}",
            "/a/b~0~1c",
            "  {\n    \"a\": {\"b~/c\": 12}\n                  ^^\n  }\n",
        );
        check("{\"ü\":\t\"ä\", \"n\": 1}", "/n", "  {\"ü\":\\t\"ä\", \"n\": 1}\n                   ^\n");
    }

    #[test]
    fn what_is_missing_is_marked_where_it_should_be() {
        check(r#"{"a": {"x": 1}}"#, "/a/b", "  {\"a\": {\"x\": 1}}\n        ^\n");
        check("{}", "/quantity", "  {}\n  ^\n");
    }

    #[test]
    fn a_byte_is_marked_and_what_can_not_be_found_is_not() {
        check("{\"a\": x}", "byte 6", "  {\"a\": x}\n        ^\n");
        check("{", "byte 1", "  {\n   ^\n");
        check("ä", "byte 1", "  ä\n  ^\n");
        check("no json", "/a", "  no json\n");
        check("{}", "", "  {}\n");
        check("{}", "header Content-Type", "  {}\n");
    }
}
