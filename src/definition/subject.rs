//! NATS subjects: filters that a source reads, templates that a sink writes, and whether two meet.

/// A problem of a subject: what is wrong and what would be right.
pub(crate) type Wrong = (String, String);

/// Subjects longer than this are refused; a control line of the protocol is 4 KiB, and keys come on top.
const CHARS_MAX: usize = 512;

/// Checks a filter: tokens separated by `.`, `*` for one token, `>` for the rest.
pub(crate) fn check_filter(filter: &str) -> Result<(), Wrong> {
    check_tokens(filter)?;
    let tokens: Vec<&str> = filter.split('.').collect();
    for (index, token) in tokens.iter().enumerate() {
        if *token == ">" && index + 1 < tokens.len() {
            return Err(("`>` before the end".to_owned(), "`>` stands for the rest; use `*` for one token".to_owned()));
        }
        if token.len() > 1 && token.contains(['*', '>']) {
            let help = "`*` and `>` stand alone between dots, as in `milestones.*.eu`".to_owned();
            return Err((format!("a wildcard within the token `{token}`"), help));
        }
    }
    Ok(())
}

/// Checks a template of literal tokens and `{column}` tokens, and gives the columns that it names. A placeholder is a
/// whole token: two in one token would give different keys the same subject.
pub(crate) fn check_template(template: &str) -> Result<Vec<&str>, Wrong> {
    check_tokens(template)?;
    let mut columns = Vec::new();
    for token in template.split('.') {
        if let Some(column) = placeholder(token) {
            columns.push(column);
        } else if token.contains(['{', '}']) {
            let help = "write each `{column}` between dots, as in `triggers.{site}.{key}`".to_owned();
            return Err((format!("a placeholder that is not a whole token in `{token}`"), help));
        } else if token.contains(['*', '>']) {
            let help = "a message is published to one subject; write tokens and `{column}`".to_owned();
            return Err((format!("a wildcard in `{token}`"), help));
        }
    }
    Ok(columns)
}

/// Whether some subject matches both. Placeholders count as `*`.
pub(crate) fn overlap(left: &str, right: &str) -> bool {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || is_wild(a) || is_wild(b) => {}
            _ => return false,
        }
    }
}

fn is_wild(token: &str) -> bool {
    token == "*" || placeholder(token).is_some()
}

fn placeholder(token: &str) -> Option<&str> {
    let inner = token.strip_prefix('{')?.strip_suffix('}')?;
    (!inner.is_empty() && !inner.contains(['{', '}'])).then_some(inner)
}

fn check_tokens(subject: &str) -> Result<(), Wrong> {
    let help = "tokens separated by dots, as in `milestones.eu`".to_owned();
    if subject.chars().count() > CHARS_MAX {
        return Err((format!("more than {CHARS_MAX} characters"), "choose a shorter one".to_owned()));
    }
    if subject.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(("a space or control character".to_owned(), help));
    }
    if subject.split('.').any(str::is_empty) {
        return Err(("an empty token".to_owned(), help));
    }
    if subject.starts_with('$') {
        return Err(("a `$` at the start".to_owned(), "such subjects are the server's own".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_has_wildcards_only_where_nats_has_them() {
        for good in ["a", "a.b", "a.*.b", "a.>", ">", "*"] {
            assert_eq!(check_filter(good), Ok(()), "of `{good}`");
        }
        for bad in ["", "a.", ".a", "a..b", "a b", "a.>.b", "a*", "a.b>", "$JS.API.>"] {
            assert!(check_filter(bad).is_err(), "of `{bad}`");
        }
    }

    #[test]
    fn a_template_has_placeholders_as_whole_tokens() {
        assert_eq!(check_template("a.{x}.b.{y}"), Ok(vec!["x", "y"]));
        assert_eq!(check_template("a"), Ok(vec![]));
        for bad in ["a.{x}-{y}", "a.{}", "a.{x", "a.>", "a.*", "a.x}", "a.{x}b", "{{x}}"] {
            assert!(check_template(bad).is_err(), "of `{bad}`");
        }
    }

    #[test]
    fn two_subjects_meet_if_one_message_could_have_both() {
        let cases = [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.{k}", "a.b", true),
            ("a.{k}.x", "a.b", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("a.*.c", "a.b.*", true),
        ];
        for (left, right, expected) in cases {
            assert_eq!(overlap(left, right), expected, "of `{left}` and `{right}`");
            assert_eq!(overlap(right, left), expected, "of `{right}` and `{left}`");
        }
    }
}
