//! What names may look like: pipelines, tables, streams.

/// The longest name of a pipeline, source, job or column of a history. They end in file names and consumer names.
const NAME_CHARS_MAX: usize = 64;

/// The longest name of a stream that a NATS server takes.
const STREAM_CHARS_MAX: usize = 255;

/// The schema of the engine's own tables in SQL.
const RESERVED: &str = "milepost";

/// Why a name is not that of a source or job, with what would be right; none if it is.
pub(crate) fn table_problem(name: &str) -> Option<(String, &'static str)> {
    if name.eq_ignore_ascii_case(RESERVED) {
        return Some((format!("`{name}` is reserved"), "the engine's own tables lie in the schema `milepost`"));
    }
    identifier_problem(name, "_", "use letters, digits and `_`, not starting with a digit")
}

/// Why a name is not that of a column that Milepost adds, with what would be right; none if it is.
pub(crate) fn column_problem(name: &str) -> Option<(String, &'static str)> {
    identifier_problem(name, "_", "use letters, digits and `_`, not starting with a digit")
}

/// Why a name is not that of a pipeline, with what would be right; none if it is.
pub(crate) fn pipeline_problem(name: &str) -> Option<(String, &'static str)> {
    identifier_problem(name, "_-", "use letters, digits, `_` and `-`, not starting with a digit")
}

fn identifier_problem(name: &str, more: &str, help: &'static str) -> Option<(String, &'static str)> {
    if name.chars().count() > NAME_CHARS_MAX {
        return Some((format!("the name is longer than {NAME_CHARS_MAX} characters"), "choose a shorter one"));
    }
    if name.is_empty() {
        return Some(("the name is empty".to_owned(), help));
    }
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        return Some((format!("the name `{name}` starts with a digit"), help));
    }
    match name.chars().find(|c| !c.is_ascii_alphanumeric() && !more.contains(*c)) {
        Some(' ') => Some((format!("the name `{name}` has a space in it"), help)),
        Some(c) if c.is_control() => Some(("the name has a control character in it".to_owned(), help)),
        Some(c) => Some((format!("the name `{name}` has `{c}` in it"), help)),
        None if name.starts_with('-') => Some((format!("the name `{name}` starts with `-`"), help)),
        None => None,
    }
}

/// Whether a NATS server takes this as the name of a stream.
pub(crate) fn is_stream(name: &str) -> bool {
    let allowed = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '.' | '*' | '>' | '/' | '\\');
    !name.is_empty() && name.chars().count() <= STREAM_CHARS_MAX && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_letters_digits_and_underscores() {
        let cases = [
            ("a", None),
            ("order_lines2", None),
            ("_x", None),
            ("", Some("the name is empty")),
            ("2a", Some("the name `2a` starts with a digit")),
            ("a b", Some("the name `a b` has a space in it")),
            ("größe", Some("the name `größe` has `ö` in it")),
            ("a-b", Some("the name `a-b` has `-` in it")),
            ("Milepost", Some("`Milepost` is reserved")),
        ];
        for (name, expected) in cases {
            assert_eq!(table_problem(name).map(|(message, _)| message).as_deref(), expected, "of `{name}`");
        }
        assert_eq!(pipeline_problem("a-b"), None);
        assert!(pipeline_problem("-a").is_some());
        assert!(pipeline_problem(&"a".repeat(65)).is_some());
    }

    #[test]
    fn a_stream_is_one_token_of_a_subject() {
        for (name, expected) in [("MILESTONES", true), ("a-b_c", true), ("a.b", false), ("a b", false), (">", false)] {
            assert_eq!(is_stream(name), expected, "of `{name}`");
        }
    }
}
