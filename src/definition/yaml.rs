//! YAML text to a tree: one document, no anchors, aliases or tags, no key twice, bounded depth.

use std::ops::Range;
use std::sync::Arc;

use serde_saphyr::granit_parser::{self, Event, Parser, ScalarStyle, ScanError, Span};

use super::tree::{self, Content, DEPTH_MAX, Entry, Node, Text};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceText};

/// The tree of a YAML text, or none if it can't be read on; each problem goes to `problems`. Anchors, tags and double
/// keys are problems after which reading goes on; of a double key the first stays.
///
/// Problems show `shown`, which differs from `file` at most in stars for secrets.
pub(crate) fn parse(file: &SourceText, shown: &Arc<SourceText>, problems: &mut Diagnostics) -> Option<Node> {
    let options = granit_parser::options! {
        emit_comments: false,
        disallow_directives: true,
        flow_nesting_limit: 2 * DEPTH_MAX,
        block_nesting_limit: 2 * DEPTH_MAX,
    };
    let mut builder = Builder { file: shown, problems, open: Vec::new(), root: None };
    for event in Parser::new_from_str_with_options(&file.text, options) {
        match event {
            Ok((event, span)) => builder.event(event, &span)?,
            Err(error) => {
                let problem = syntax_problem(shown, &error);
                problems.push(problem);
                return None;
            }
        }
    }
    match builder.root {
        Some(Node { content: Content::Null, .. }) | None => {
            let help = "start with `pipeline:`, `sources:` and `jobs:`";
            problems.push(Diagnostic::of_file(shown, "the file is empty").with_help(help));
            None
        }
        root => root,
    }
}

/// A collection whose end has not come yet.
enum Open {
    List { start: usize, items: Vec<Node> },
    Map { start: usize, entries: Vec<Entry>, key: Option<(String, Range<usize>)> },
}

struct Builder<'a> {
    file: &'a Arc<SourceText>,
    problems: &'a mut Diagnostics,
    open: Vec<Open>,
    root: Option<Node>,
}

impl Builder<'_> {
    /// Takes the next event; none if the rest can't be understood.
    fn event(&mut self, event: Event<'_>, span: &Span) -> Option<()> {
        let range = bytes(span);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                self.problem(range, "a second document starts here", "keep one pipeline in one file");
                return None;
            }
            Event::Alias(_) => {
                self.problem(range.clone(), "aliases are not supported", "write the value out");
                self.place(Node { span: range, content: Content::Broken });
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_properties(&range, anchor, tag.is_some());
                let content = scalar(&text, style);
                self.place(Node { span: range, content });
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.refuse_properties(&range, anchor, tag.is_some());
                self.open(range, |start| Open::List { start, items: Vec::new() })?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.refuse_properties(&range, anchor, tag.is_some());
                self.open(range, |start| Open::Map { start, entries: Vec::new(), key: None })?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range.end),
            _ => {}
        }
        Some(())
    }

    fn open(&mut self, range: Range<usize>, collection: impl Fn(usize) -> Open) -> Option<()> {
        if self.open.len() >= DEPTH_MAX {
            let message = format!("nested more than {DEPTH_MAX} levels deep");
            self.problem(range, &message, "no field of a pipeline lies that deep");
            return None;
        }
        self.open.push(collection(range.start));
        Some(())
    }

    fn close(&mut self, end: usize) {
        let node = match self.open.pop() {
            Some(Open::List { start, items }) => Node { span: start..end.max(start), content: Content::List(items) },
            Some(Open::Map { start, entries, .. }) => {
                let content = tree::map(entries, self.file, self.problems);
                Node { span: start..end.max(start), content }
            }
            None => return,
        };
        self.place(node);
    }

    /// Puts a finished value where it belongs: as the next item, key or value of the innermost open collection.
    fn place(&mut self, node: Node) {
        let (key, span) = match self.open.last_mut() {
            None => {
                self.root = Some(node);
                return;
            }
            Some(Open::List { items, .. }) => {
                items.push(node);
                return;
            }
            Some(Open::Map { key, .. }) => match key.take() {
                Some(waiting) => waiting,
                None => {
                    *key = Some((key_text(self.file, &node), node.span.clone()));
                    if matches!(node.content, Content::List(_) | Content::Map(_)) {
                        self.problem(node.span, "a key must be a name", "write `name: value`");
                    }
                    return;
                }
            },
        };
        if let Some(Open::Map { entries, .. }) = self.open.last_mut() {
            entries.push(Entry { key, key_span: span, node });
        }
    }

    fn refuse_properties(&mut self, range: &Range<usize>, anchor: usize, tagged: bool) {
        if anchor != 0 {
            self.problem(range.clone(), "anchors are not supported", "write the value out where it is needed");
        }
        if tagged {
            self.problem(range.clone(), "tags are not supported", "leave out the word that starts with `!`");
        }
    }

    fn problem(&mut self, span: Range<usize>, message: &str, help: &str) {
        self.problems.push(Diagnostic::new(self.file, span, message).with_help(help));
    }
}

/// A key as it is looked up; one that is no scalar is shown as it stands in the file.
fn key_text(file: &SourceText, node: &Node) -> String {
    match &node.content {
        Content::Text(text) => text.value.clone(),
        Content::Number(written) => written.clone(),
        Content::Boolean(value) => value.to_string(),
        _ => file.text.get(node.span.clone()).unwrap_or_default().to_owned(),
    }
}

/// What a scalar means, by YAML 1.2's core schema.
fn scalar(text: &str, style: ScalarStyle) -> Content {
    if style != ScalarStyle::Plain {
        return Content::Text(Text::literal(text));
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Content::Null,
        "true" | "True" | "TRUE" => Content::Boolean(true),
        "false" | "False" | "FALSE" => Content::Boolean(false),
        _ if is_number(text) => Content::Number(text.to_owned()),
        _ => Content::Text(Text::literal(text)),
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let starts = digits.strip_prefix('.').unwrap_or(digits).starts_with(|c: char| c.is_ascii_digit());
    starts && text.parse::<f64>().is_ok()
}

fn bytes(span: &Span) -> Range<usize> {
    let start = span.start.byte_offset().unwrap_or_default();
    start..span.end.byte_offset().unwrap_or(start).max(start)
}

fn syntax_problem(file: &Arc<SourceText>, error: &ScanError) -> Diagnostic {
    let at = error.marker().byte_offset().unwrap_or_default();
    let info = error.info();
    let line = file.text.lines().nth(file.line(at).saturating_sub(1)).unwrap_or_default();
    let problem = Diagnostic::new(file, at..at, format!("not valid YAML: {info}"));
    if line.contains("${") {
        problem.with_help("put a value with `${…}` in quotes where it stands inside `{ }` or `[ ]`")
    } else if info.contains("tab") {
        problem.with_help("indent with spaces")
    } else {
        problem
            .with_help("look for a missing `:`, quote or bracket, or for indentation that is off, here or just before")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(node: &Node, file: &SourceText) -> String {
        let slice = file.text.get(node.span.clone()).unwrap_or("OUTSIDE").trim_end();
        match &node.content {
            Content::Null | Content::Broken => "null".to_owned(),
            Content::Boolean(value) => format!("bool {value}"),
            Content::Number(number) => format!("number {number}@{slice}"),
            Content::Text(text) => format!("{}@{slice}", text.value),
            Content::List(items) => {
                format!("[{}]", items.iter().map(|item| shape(item, file)).collect::<Vec<_>>().join(", "))
            }
            Content::Map(entries) => {
                let entry = |entry: &Entry| {
                    assert_eq!(&file.text[entry.key_span.clone()], entry.key, "a key's span is the key");
                    format!("{}={}", entry.key, shape(&entry.node, file))
                };
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }

    #[test]
    fn every_scalar_has_its_kind_and_its_bytes() {
        let cases = [
            ("a: 1\nb: [x, 'y z', 1.5, -2]\n", "{a=number 1@1, b=[x@x, y z@'y z', number 1.5@1.5, number -2@-2]}"),
            ("ü: é\nn:\nt: true\n", "{ü=é@é, n=null, t=bool true}"),
            ("a: { b: \"1\", c: ~ }\n", "{a={b=1@\"1\", c=null}}"),
            ("a: 5s\nb: 1e3\nc: 0x1F\nd: nan\n", "{a=5s@5s, b=number 1e3@1e3, c=0x1F@0x1F, d=nan@nan}"),
            ("- a\n- b: c\n", "[a@a, {b=c@c}]"),
        ];
        for (text, expected) in cases {
            let file = SourceText::new("x.yaml", text);
            let mut problems = Diagnostics::default();
            let node = parse(&file, &file, &mut problems).map(|node| shape(&node, &file));
            assert!(problems.is_empty(), "{}", problems.render(false));
            assert_eq!(node.as_deref(), Some(expected), "of {text}");
        }
    }

    #[test]
    fn nesting_without_end_is_refused_and_does_not_overflow() {
        for text in ["[".repeat(100_000), "a: ".to_owned() + &"{a: ".repeat(100_000), "- ".repeat(100_000)] {
            let file = SourceText::new("x.yaml", text);
            let mut problems = Diagnostics::default();
            assert_eq!(parse(&file, &file, &mut problems), None);
            assert_eq!(problems.len(), 1);
        }
    }
}
