//! JSON text to a tree, strictly by RFC 8259: one value, no key twice, no trailing comma, bounded depth.

use std::ops::Range;
use std::sync::Arc;

use super::tree::{self, Content, DEPTH_MAX, Entry, Node, Text};
use crate::diagnostic::{Diagnostic, Diagnostics, SourceText};

/// The tree of a JSON text, or none after the first place where it is no JSON. A key that is given twice is a problem
/// after which reading goes on; the first stays.
pub(crate) fn parse(file: &Arc<SourceText>, problems: &mut Diagnostics) -> Option<Node> {
    let mut reader = Reader { file, text: &file.text, at: 0, depth: 0, problems };
    match reader.document() {
        Ok(node) => Some(node),
        Err(problem) => {
            problems.push(*problem);
            None
        }
    }
}

/// The bytes of a JSON text that an RFC 6901 pointer names. Where nothing is there, those of the opening bracket of what it
/// should be in; none where the text is no JSON.
pub(crate) fn json_place(text: &str, pointer: &str) -> Option<Range<usize>> {
    let document = parse(&SourceText::new("", text), &mut Diagnostics::default())?;
    let mut node = &document;
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        let next = match &node.content {
            Content::Map(entries) => entries.iter().find(|entry| entry.key == step).map(|entry| &entry.node),
            Content::List(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        match next {
            Some(next) => node = next,
            None => return Some(node.span.start..node.span.start + 1),
        }
    }
    Some(node.span.clone())
}

type Parsed<T> = Result<T, Box<Diagnostic>>;

struct Reader<'a> {
    file: &'a Arc<SourceText>,
    text: &'a str,
    at: usize,
    depth: usize,
    problems: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn document(&mut self) -> Parsed<Node> {
        self.space();
        if self.at == self.text.len() {
            return Err(Box::new(Diagnostic::of_file(self.file, "the file is empty")));
        }
        let node = self.value()?;
        self.space();
        if self.at < self.text.len() {
            return Err(self.unexpected("the end of the file"));
        }
        Ok(node)
    }

    fn value(&mut self) -> Parsed<Node> {
        let start = self.at;
        let content = match self.peek() {
            Some(b'{') => self.nested(Self::map)?,
            Some(b'[') => self.nested(Self::list)?,
            Some(b'"') => Content::Text(Text::literal(self.text()?)),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            _ => self.word()?,
        };
        Ok(Node { span: start..self.at, content })
    }

    fn nested(&mut self, read: impl Fn(&mut Self) -> Parsed<Content>) -> Parsed<Content> {
        if self.depth == DEPTH_MAX {
            return Err(self.problem(self.at..self.at + 1, format!("nested more than {DEPTH_MAX} levels deep")));
        }
        self.depth += 1;
        self.at += 1;
        self.space();
        let content = read(self)?;
        self.depth -= 1;
        Ok(content)
    }

    fn map(&mut self) -> Parsed<Content> {
        let mut entries: Vec<Entry> = Vec::new();
        if self.take(b'}') {
            return Ok(Content::Map(entries));
        }
        loop {
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let key = self.text()?;
            let key_span = start..self.at;
            self.space();
            if !self.take(b':') {
                return Err(self.unexpected("`:`"));
            }
            self.space();
            let node = self.value()?;
            entries.push(Entry { key, key_span, node });
            if self.end_or_comma(b'}', "`,` or `}`")? {
                return Ok(tree::map(entries, self.file, self.problems));
            }
        }
    }

    fn list(&mut self) -> Parsed<Content> {
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Content::List(items));
        }
        loop {
            items.push(self.value()?);
            if self.end_or_comma(b']', "`,` or `]`")? {
                return Ok(Content::List(items));
            }
        }
    }

    fn end_or_comma(&mut self, end: u8, expected: &str) -> Parsed<bool> {
        self.space();
        if self.take(end) {
            return Ok(true);
        }
        if !self.take(b',') {
            return Err(self.unexpected(expected));
        }
        self.space();
        Ok(false)
    }

    fn word(&mut self) -> Parsed<Content> {
        let words = [("true", Content::Boolean(true)), ("false", Content::Boolean(false)), ("null", Content::Null)];
        for (word, content) in words {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return Ok(content);
            }
        }
        Err(self.unexpected("a value"))
    }

    fn number(&mut self) -> Parsed<Content> {
        let start = self.at;
        let _sign = self.take(b'-');
        let leading_zero = self.peek() == Some(b'0');
        let integer = self.digits()?;
        if leading_zero && integer > 1 {
            return Err(self.problem(start..self.at, "a number must not start with `0`".to_owned()));
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(Content::Number(self.text[start..self.at].to_owned()))
    }

    fn digits(&mut self) -> Parsed<usize> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(self.at - start) }
    }

    fn text(&mut self) -> Parsed<String> {
        let start = self.at;
        self.at += 1;
        let mut value = String::new();
        loop {
            let rest = &self.text[self.at..];
            let Some(next) = rest.chars().next() else {
                return Err(self.problem(start..start + 1, "the string that starts here is not closed".to_owned()));
            };
            self.at += next.len_utf8();
            match next {
                '"' => return Ok(value),
                '\\' => value.push(self.escape()?),
                c if c < ' ' => {
                    let message = format!("a string must not hold the control character U+{:04X}", u32::from(c));
                    let help = if c == '\n' { "close the string, or write `\\n`" } else { "write it as an escape" };
                    return Err(Box::new(self.problem(self.at - 1..self.at, message).with_help(help)));
                }
                c => value.push(c),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Parsed<char> {
        let start = self.at - 1;
        let Some(kind) = self.text[self.at..].chars().next() else {
            return Err(self.unexpected("an escape"));
        };
        self.at += kind.len_utf8();
        let plain = match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => return self.unicode(start),
            _ => return Err(self.problem(start..self.at, format!("`\\{kind}` is not an escape of JSON"))),
        };
        Ok(plain)
    }

    fn unicode(&mut self, start: usize) -> Parsed<char> {
        let high = self.hex();
        let code = match high {
            Some(high @ 0xD800..=0xDBFF) if self.text[self.at..].starts_with("\\u") => {
                self.at += 2;
                match self.hex() {
                    Some(low @ 0xDC00..=0xDFFF) => Some(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00)),
                    _ => None,
                }
            }
            other => other,
        };
        match code.and_then(char::from_u32) {
            Some(c) => Ok(c),
            None => Err(self.problem(start..self.at, "this escape is no character".to_owned())),
        }
    }

    fn hex(&mut self) -> Option<u32> {
        let digits =
            self.text.get(self.at..self.at + 4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn unexpected(&self, expected: &str) -> Box<Diagnostic> {
        let found = self.text[self.at..].chars().next();
        let span = self.at..self.at + found.map_or(0, char::len_utf8);
        let message = match found {
            Some(c) if !c.is_control() => format!("not valid JSON: expected {expected}, found `{c}`"),
            Some(_) => format!("not valid JSON: expected {expected}, found the end of the line"),
            None => format!("not valid JSON: expected {expected}, found the end of the file"),
        };
        let problem = self.problem(span, message);
        match found {
            Some('}' | ']') => Box::new(problem.with_help("JSON has no comma after the last entry")),
            Some('\'') => Box::new(problem.with_help("JSON has double quotes only")),
            Some(c) if c.is_alphabetic() => Box::new(problem.with_help("a string stands in double quotes")),
            Some('/' | '#') => Box::new(problem.with_help("JSON has no comments; use `description`")),
            _ => problem,
        }
    }

    fn problem(&self, span: Range<usize>, message: String) -> Box<Diagnostic> {
        Box::new(Diagnostic::new(self.file, span, message))
    }
}
