//! A file as a tree in which every key and value knows its place; what YAML and JSON are read into.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics, SourceText};

/// A value and the bytes it stands on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) span: Range<usize>,
    pub(crate) content: Content,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    /// A value of which a problem is known already: nobody may complain about it again.
    Broken,
    /// `null`, or nothing at all.
    Null,
    Boolean(bool),
    /// A number as it is written.
    Number(String),
    Text(Text),
    List(Vec<Node>),
    /// In the order of the file; no key twice.
    Map(Vec<Entry>),
}

/// A text, after escapes and variables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Text {
    /// What it means.
    pub(crate) value: String,
    /// What may be shown: as the author wrote it, with `${VAR}` in place of a variable's value, which may be a secret.
    pub(crate) written: String,
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Range<usize>,
    pub(crate) node: Node,
}

/// What a file is written in, for messages in its author's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    Yaml,
    Json,
}

/// Deeper nesting than this is refused, in every kind of file.
pub(crate) const DEPTH_MAX: usize = 32;

impl Syntax {
    /// A map, with its article.
    pub(crate) fn map(self) -> &'static str {
        match self {
            Self::Yaml => "a mapping",
            Self::Json => "an object",
        }
    }

    /// A list, with its article.
    pub(crate) fn list(self) -> &'static str {
        match self {
            Self::Yaml => "a list",
            Self::Json => "an array",
        }
    }

    /// A text, without an article.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Yaml => "text",
            Self::Json => "string",
        }
    }

    fn null(self) -> &'static str {
        match self {
            Self::Yaml => "nothing",
            Self::Json => "null",
        }
    }
}

impl Text {
    /// A text in which no variable stands.
    pub(crate) fn literal(value: impl Into<String>) -> Self {
        let value = value.into();
        Self { written: value.clone(), value }
    }

    /// Whether a variable's value stands in it.
    pub(crate) fn is_expanded(&self) -> bool {
        self.value != self.written
    }
}

impl Node {
    /// What the node is, for "must be …, found …": never a variable's value.
    pub(crate) fn found(&self, syntax: Syntax) -> String {
        match &self.content {
            Content::Null | Content::Broken => syntax.null().to_owned(),
            Content::Boolean(value) => format!("`{value}`"),
            Content::Number(written) => format!("the number `{}`", shorten(written)),
            Content::Text(text) => format!("the {} `{}`", syntax.text(), shorten(&text.written)),
            Content::List(_) => syntax.list().to_owned(),
            Content::Map(_) => syntax.map().to_owned(),
        }
    }

    /// The value of a key, if this is a map that has it.
    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        match &mut self.content {
            Content::Map(entries) => entries.iter_mut().find(|entry| entry.key == key).map(|entry| &mut entry.node),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }
}

/// The content of a map of which all entries were read: of a key that is given twice the first stays, and a problem is
/// reported.
pub(crate) fn map(entries: Vec<Entry>, file: &Arc<SourceText>, problems: &mut Diagnostics) -> Content {
    let mut first: HashMap<String, usize> = HashMap::with_capacity(entries.len());
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries {
        match first.get(&entry.key) {
            Some(&start) => {
                let line = file.line(start);
                let problem =
                    Diagnostic::new(file, entry.key_span, format!("`{}` is given twice", shorten(&entry.key)));
                let help = format!("it stands on line {line} already; keep one of the two");
                problems.push(problem.with_label("here again").with_help(help));
            }
            None => {
                first.insert(entry.key.clone(), entry.key_span.start);
                kept.push(entry);
            }
        }
    }
    Content::Map(kept)
}

/// A value as messages show it: one line, not too long.
pub(crate) fn shorten(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

const SHOWN_CHARS_MAX: usize = 60;
