//! Subjects made from keys: `invoice.triggers.{trigger_key}`.
//!
//! Law: each key has one subject and each subject one key. So a template names every key column once, each as a token
//! of its own, and a value becomes a token that can be turned back: ASCII letters, digits, `_` and `-` stand for
//! themselves, every other byte of its UTF-8 is `%` and two upper-case hexadecimal digits, and the empty value is `~`
//! (which no other value gives, since `~` itself becomes `%7E`).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::{Error, ErrorKind, Result};

/// A subject with places for the columns of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectTemplate {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(String),
    /// The value of this key column.
    Key(usize),
}

impl SubjectTemplate {
    /// Reads a template for a key of these columns.
    ///
    /// # Errors
    /// `Definition` where a token is not valid in NATS, a placeholder is not a whole token or names no column of the
    /// key, or a column of the key is missing or stands twice.
    pub fn parse(text: &str, key: &[String]) -> Result<Self> {
        let wrong = |what: String| Error::new(ErrorKind::Definition, format!("subject `{text}`: {what}"));
        let mut tokens = Vec::new();
        for token in text.split('.') {
            if let Some(column) = token.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                let index = key.iter().position(|name| name == column).ok_or_else(|| {
                    wrong(format!("`{{{column}}}` is not a column of the job's key `{}`", key.join("`, `")))
                })?;
                if tokens.contains(&Token::Key(index)) {
                    return Err(wrong(format!("`{{{column}}}` stands in it twice")));
                }
                tokens.push(Token::Key(index));
            } else {
                check_literal(token).map_err(wrong)?;
                tokens.push(Token::Literal(token.to_owned()));
            }
        }
        for (index, column) in key.iter().enumerate() {
            if !tokens.contains(&Token::Key(index)) {
                return Err(wrong(format!("`{{{column}}}` is missing: two keys would share a subject")));
            }
        }
        if key.is_empty() {
            return Err(wrong("the job declares no `key`, which a change stream needs".to_owned()));
        }
        Ok(Self { tokens })
    }

    /// The subject filter that selects every subject of this template: `*` for each placeholder.
    pub fn filter(&self) -> String {
        self.join(|_| Some("*")).unwrap_or_default()
    }

    /// The subject of a key, its values encoded by [`encode_token`] and in the order of the key.
    ///
    /// # Errors
    /// `Limit` where the subject is too long for a line of the NATS protocol; the text names the key.
    pub fn subject(&self, key: &[String]) -> Result<String> {
        let subject = self
            .join(|index| key.get(index).map(String::as_str))
            .ok_or_else(|| Error::internal(format!("key `{}` has too few values", key.join("/"))))?;
        if subject.len() > SUBJECT_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::Limit,
                format!(
                    "key `{}…` gives a subject of {} bytes; NATS takes {SUBJECT_BYTES_MAX}",
                    key.join("/").chars().take(80).collect::<String>(),
                    subject.len()
                ),
            ));
        }
        Ok(subject)
    }

    /// The encoded values of the key in a subject of this template, in the order of the key.
    pub fn key<'a>(&self, subject: &'a str) -> Option<Vec<&'a str>> {
        let found: Vec<&str> = subject.split('.').collect();
        if found.len() != self.tokens.len() {
            return None;
        }
        let mut key: Vec<(usize, &str)> = Vec::new();
        for (token, value) in self.tokens.iter().zip(found) {
            match token {
                Token::Literal(literal) if literal == value => {}
                Token::Literal(_) => return None,
                Token::Key(index) => key.push((*index, value)),
            }
        }
        key.sort_unstable();
        Some(key.into_iter().map(|(_, value)| value).collect())
    }

    fn join<'a>(&'a self, value: impl Fn(usize) -> Option<&'a str>) -> Option<String> {
        let tokens: Option<Vec<&str>> = self
            .tokens
            .iter()
            .map(|token| match token {
                Token::Literal(literal) => Some(literal.as_str()),
                Token::Key(index) => value(*index),
            })
            .collect();
        Some(tokens?.join("."))
    }
}

/// One value as one subject token, by the rule of this module.
pub fn encode_token(value: &str) -> String {
    if value.is_empty() { EMPTY.to_owned() } else { utf8_percent_encode(value, ENCODED).to_string() }
}

/// The value that [`encode_token`] made this token of; none where it made it of none.
pub fn decode_token(token: &str) -> Option<String> {
    if token == EMPTY {
        return Some(String::new());
    }
    let value = percent_decode_str(token).decode_utf8().ok()?.into_owned();
    (encode_token(&value) == token).then_some(value)
}

/// Whether every subject that `narrow` selects is also selected by `wide`; both with `*` and `>` as in NATS.
pub fn covers(wide: &str, narrow: &str) -> bool {
    let mut wide = wide.split('.');
    let mut narrow = narrow.split('.');
    loop {
        match (wide.next(), narrow.next()) {
            (None, None) | (Some(">"), Some(_)) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

fn check_literal(token: &str) -> Result<(), String> {
    if token.is_empty() {
        return Err("a token is empty".to_owned());
    }
    if token.contains(['{', '}']) {
        return Err(format!("`{token}` mixes text and a placeholder; a placeholder is a token of its own"));
    }
    match token.chars().find(|&c| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')) {
        Some(c) => Err(format!("`{token}` has `{c}`; a token has ASCII letters, digits, `_` and `-`")),
        None => Ok(()),
    }
}

/// What stands for the empty value.
const EMPTY: &str = "~";
/// All but letters, digits, `_` and `-`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-');
/// A NATS control line is 4,096 bytes; the rest of it is for verb, reply subject and sizes.
const SUBJECT_BYTES_MAX: usize = 4_096 - 512;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(key: &[&str]) -> Vec<String> {
        key.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_value_becomes_one_token_without_meaning_in_nats() {
        for (value, token) in [
            ("S-1_a", "S-1_a"),
            ("S1/O1/10", "S1%2FO1%2F10"),
            ("a.b", "a%2Eb"),
            ("*", "%2A"),
            (">", "%3E"),
            ("two words", "two%20words"),
            ("50%", "50%25"),
            ("é", "%C3%A9"),
            ("~", "%7E"),
            ("", "~"),
        ] {
            assert_eq!(encode_token(value), token, "{value:?}");
            assert_eq!(decode_token(token).as_deref(), Some(value), "{token:?}");
        }
    }

    #[test]
    fn a_token_that_no_value_gives_has_no_value() {
        for token in ["a/b", "%2f", "%zz", "%FF", "%41", ""] {
            assert_eq!(decode_token(token), None, "{token:?}");
        }
    }

    proptest! {
        #[test]
        fn every_key_comes_back_from_its_subject(a in any::<String>(), b in ".{0,20}") {
            let template = SubjectTemplate::parse("x.{b}.y.{a}", &names(&["a", "b"])).unwrap();
            let key = vec![encode_token(&a), encode_token(&b)];
            if let Ok(subject) = template.subject(&key) {
                prop_assert_eq!(template.key(&subject).unwrap(), key.iter().map(String::as_str).collect::<Vec<_>>());
                prop_assert!(covers(&template.filter(), &subject));
                prop_assert_eq!(decode_token(&key[0]).unwrap(), a);
            }
        }
    }

    #[test]
    fn a_template_names_each_key_column_once_as_a_whole_token() {
        for (text, key, refusal) in [
            ("invoice.triggers.{trigger_key}", vec!["trigger_key"], None),
            ("{b}.x.{a}", vec!["a", "b"], None),
            ("invoice.{day}", vec!["trigger_key"], Some("`{day}` is not a column of the job's key `trigger_key`")),
            ("invoice.{a}", vec!["a", "b"], Some("`{b}` is missing: two keys would share a subject")),
            ("{a}.{a}", vec!["a"], Some("`{a}` stands in it twice")),
            (
                "invoice.x-{a}",
                vec!["a"],
                Some("`x-{a}` mixes text and a placeholder; a placeholder is a token of its own"),
            ),
            ("invoice..{a}", vec!["a"], Some("a token is empty")),
            ("invoice.*.{a}", vec!["a"], Some("`*` has `*`; a token has ASCII letters, digits, `_` and `-`")),
            ("invoice.all", vec![], Some("the job declares no `key`, which a change stream needs")),
        ] {
            let found = SubjectTemplate::parse(text, &names(&key)).err().map(|error| error.to_string());
            assert_eq!(found, refusal.map(|what: &str| format!("subject `{text}`: {what}")));
        }
    }

    #[test]
    fn a_key_that_is_too_long_for_the_protocol_is_refused_by_name() {
        let template = SubjectTemplate::parse("t.{k}", &names(&["k"])).unwrap();
        assert!(template.subject(&["x".repeat(3_582)]).is_ok());
        let error = template.subject(&["x".repeat(3_583)]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit);
        assert!(error.to_string().starts_with("key `xxxx"), "{error}");
    }

    #[test]
    fn a_filter_covers_what_it_selects_and_no_more() {
        for (wide, narrow, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "a.*", true),
            ("a.>", "a.*.c", true),
            (">", "a.*", true),
            ("a.b", "a.*", false),
            ("a.*", "a.>", false),
            ("a.*", "a.*.c", false),
            ("a.>", "a", false),
        ] {
            assert_eq!(covers(wide, narrow), expected, "{wide} {narrow}");
        }
    }
}
