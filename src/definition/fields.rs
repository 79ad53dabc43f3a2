//! Reads the fields of a mapping as its shape in [`super::grammar`] says.

use std::ops::Range;

use super::duration;
use super::grammar::{Field, Form, Need, Shape};
use super::read::{Placed, Report, Word};
use super::share;
use super::tree::{Content, Entry, Node, shorten};
use crate::diagnostic::nearest;
use crate::types::Micros;

/// What stands under a name.
#[derive(Debug)]
pub(crate) struct Named<T> {
    pub(crate) name: String,
    pub(crate) span: Range<usize>,
    pub(crate) value: T,
}

/// The entries of a mapping of a known shape.
pub(crate) struct Fields<'n> {
    entries: &'n [Entry],
    shape: &'static Shape,
    pub(crate) span: Range<usize>,
}

impl<'n> Fields<'n> {
    /// Reports unknown and missing fields; what is missing is reported at `place`.
    pub(crate) fn open(
        node: &'n Node,
        shape: &'static Shape,
        place: &Range<usize>,
        report: &mut Report<'_>,
    ) -> Option<Self> {
        let known: Vec<&str> = shape.fields.iter().map(|field| field.name).collect();
        let entries = report.map(node, shape.what, &format!("its fields are `{}`", known.join("`, `")))?;
        report.unknown_fields(entries, &format!("{} has no field", shape.what), &known, shape.later);
        let fields = Self { entries, shape, span: node.span.clone() };
        fields.check_needs(place, report);
        Some(fields)
    }

    fn check_needs(&self, place: &Range<usize>, report: &mut Report<'_>) {
        let what = self.shape.what;
        for field in self.shape.fields.iter().filter(|field| field.need == Need::Required) {
            let misspelt =
                |entry: &Entry| self.field(&entry.key).is_none() && self.nearest(&entry.key) == Some(field.name);
            if self.get(field.name).is_none() && !self.entries.iter().any(misspelt) {
                report.problem(place, format!("{what} needs the field `{}`", field.name), as_help(field.about));
            }
        }
        for need in [Need::OneOf, Need::AtMostOne] {
            let names: Vec<&str> =
                self.shape.fields.iter().filter(|field| field.need == need).map(|field| field.name).collect();
            let given: Vec<&Entry> = self.entries.iter().filter(|entry| names.contains(&entry.key.as_str())).collect();
            let misspelt = self.entries.iter().any(|entry| {
                self.field(&entry.key).is_none() && self.nearest(&entry.key).is_some_and(|near| names.contains(&near))
            });
            if let [_, second, ..] = given.as_slice() {
                let both = names.iter().filter(|name| given.iter().any(|entry| entry.key == **name)).copied();
                let message = match both.collect::<Vec<_>>().as_slice() {
                    [one, other] => format!("{what} can't have both `{one}` and `{other}`"),
                    several => format!("{what} can't have `{}` together", several.join("`, `")),
                };
                report.problem(&second.key_span, message, "keep one of them");
            } else if given.is_empty() && need == Need::OneOf && !names.is_empty() && !misspelt {
                report.problem(place, format!("{what} needs `{}`", names.join("` or `")), "give exactly one of them");
            }
        }
    }

    fn field(&self, name: &str) -> Option<&'static Field> {
        self.shape.fields.iter().find(|field| field.name == name)
    }

    fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.shape.fields.iter().map(|field| field.name))
    }

    /// The value of a field that is in the grammar.
    pub(crate) fn get(&self, name: &str) -> Option<&'n Node> {
        debug_assert!(self.field(name).is_some(), "`{name}` is in the grammar");
        self.entries.iter().find(|entry| entry.key == name).map(|entry| &entry.node)
    }

    pub(crate) fn word(&self, name: &str, report: &mut Report<'_>) -> Option<Word> {
        report.word(self.get(name)?, &format!("`{name}`"))
    }

    /// A text that nobody may see: what is wrong with it is said without showing it.
    pub(crate) fn secret(&self, name: &str, report: &mut Report<'_>) -> Option<Word> {
        let node = self.get(name)?;
        match &node.content {
            Content::Text(_) => report.word(node, &format!("`{name}`")),
            Content::Broken => None,
            _ => {
                let help = match name {
                    "url" => "write an address, as in `nats://localhost:4222`".to_owned(),
                    name => secret_help(name),
                };
                report.problem(&node.span, format!("`{name}` must be a text"), help);
                None
            }
        }
    }

    pub(crate) fn boolean(&self, name: &str, report: &mut Report<'_>) -> Option<bool> {
        report.boolean(self.get(name)?, &format!("`{name}`"))
    }

    pub(crate) fn words(&self, name: &str, report: &mut Report<'_>) -> Option<Placed<Vec<Word>>> {
        Some(read_words(self.get(name)?, name, report))
    }

    pub(crate) fn integer(&self, name: &str, report: &mut Report<'_>) -> Option<u64> {
        let node = self.get(name)?;
        let (minimum, maximum) = self.field(name).map_or((0, u64::MAX), bounds);
        report.integer(node, &format!("`{name}`"), minimum, maximum)
    }

    /// A percentage, in millionths.
    pub(crate) fn share(&self, name: &str, report: &mut Report<'_>) -> Option<Placed<u32>> {
        let node = self.get(name)?;
        let (value, written) = match &node.content {
            Content::Text(text) => (text.value.as_str(), text.written.as_str()),
            Content::Number(written) => (written.as_str(), written.as_str()),
            _ => {
                report.mismatch(node, &format!("`{name}`"), "a percentage", "write it as `1%`");
                return None;
            }
        };
        match share::parse(value) {
            Ok(value) => Some(Placed { span: node.span.clone(), value }),
            Err(_) if value != written => {
                let message = format!("the value of `{}` is not a percentage", shorten(written));
                report.problem(&node.span, message, "set it to a percentage, as in `1%`");
                None
            }
            Err((message, help)) => {
                report.problem(&node.span, format!("`{}` {message}", shorten(written)), help);
                None
            }
        }
    }

    pub(crate) fn duration(&self, name: &str, report: &mut Report<'_>) -> Option<Placed<Micros>> {
        let node = self.get(name)?;
        let (value, written) = match &node.content {
            Content::Text(text) => (text.value.as_str(), text.written.as_str()),
            Content::Number(written) => (written.as_str(), written.as_str()),
            _ => {
                report.mismatch(node, &format!("`{name}`"), "a duration", "write a number and a unit, as in `5s`");
                return None;
            }
        };
        match duration::parse(value) {
            Ok(value) => Some(Placed { span: node.span.clone(), value }),
            Err((_, _)) if value != written => {
                let message = format!("the value of `{}` is not a duration", shorten(written));
                report.problem(&node.span, message, "set it to a number and a unit, as in `5s`");
                None
            }
            Err((message, help)) => {
                report.problem(&node.span, format!("`{}` {message}", shorten(written)), help);
                None
            }
        }
    }

    pub(crate) fn choice<T: Copy>(
        &self,
        name: &str,
        words: &[&str],
        values: &[T],
        report: &mut Report<'_>,
    ) -> Option<Placed<T>> {
        let node = self.get(name)?;
        let index = report.choice(node, &format!("`{name}`"), words)?;
        values.get(index).map(|value| Placed { span: node.span.clone(), value: *value })
    }

    /// Mappings under names of their own.
    pub(crate) fn named<T: Default>(
        &self,
        name: &str,
        shape: &'static Shape,
        report: &mut Report<'_>,
        read: impl Fn(&Fields<'_>, &mut Report<'_>) -> T,
    ) -> Vec<Named<T>> {
        let help = format!("write the name of {} and under it its fields", shape.what);
        let entries = self.get(name).and_then(|node| report.map(node, &format!("`{name}`"), &help));
        if let (Some([]), Some(node)) = (entries, self.get(name)) {
            report.problem(&node.span, format!("`{name}` is empty"), help);
        }
        if let (Some([_, ..]), Some(node)) = (entries.and_then(|entries| entries.get(ENTRIES_MAX..)), self.get(name)) {
            report.problem(&node.span, format!("`{name}` has more than {ENTRIES_MAX} entries"), "split the pipeline");
            return Vec::new();
        }
        let mut named = Vec::new();
        for entry in entries.unwrap_or_default() {
            let fields = Fields::open(&entry.node, shape, &entry.key_span, report);
            let value = fields.map(|fields| read(&fields, report)).unwrap_or_default();
            named.push(Named { name: entry.key.clone(), span: entry.key_span.clone(), value });
        }
        named
    }

    /// A list of mappings.
    pub(crate) fn many<T>(
        &self,
        name: &str,
        shape: &'static Shape,
        report: &mut Report<'_>,
        read: impl Fn(&Fields<'_>, &mut Report<'_>) -> T,
    ) -> Vec<T> {
        let Some(node) = self.get(name) else { return Vec::new() };
        let help = format!("start each entry with `- {}:`", shape.fields.first().map_or("", |field| field.name));
        let items = report.list(node, &format!("`{name}`"), &help).unwrap_or_default();
        if items.len() > ENTRIES_MAX {
            report.problem(&node.span, format!("`{name}` has more than {ENTRIES_MAX} entries"), "split the pipeline");
            return Vec::new();
        }
        let mut many = Vec::new();
        for item in items {
            if let Some(fields) = Fields::open(item, shape, &item.span, report) {
                many.push(read(&fields, report));
            }
        }
        many
    }
}

/// Where a secret belongs.
pub(crate) fn secret_help(name: &str) -> String {
    format!("a secret belongs into the environment: write `${{NATS_{}}}` and set that variable", name.to_uppercase())
}

/// A list of texts, at least one, none twice. With problems, what there is of it, so that nobody takes it for left out.
pub(crate) fn read_words(node: &Node, name: &str, report: &mut Report<'_>) -> Placed<Vec<Word>> {
    let help = match &node.content {
        Content::Text(text) => format!("write `[{}]`", shorten(&text.written)),
        _ => "write them as in `[a, b]`".to_owned(),
    };
    let mut words = Placed { span: node.span.clone(), value: Vec::<Word>::new() };
    let Some(items) = report.list(node, &format!("`{name}`"), &help) else { return words };
    if items.is_empty() {
        report.problem(&node.span, format!("`{name}` is empty"), "give at least one");
    }
    if items.len() > ENTRIES_MAX {
        report.problem(
            &node.span,
            format!("`{name}` has more than {ENTRIES_MAX} entries"),
            "that many are not supported",
        );
        return words;
    }
    for item in items {
        let Some(word) = report.word(item, &format!("an entry of `{name}`")) else { continue };
        if words.value.iter().any(|other| other.value.value == word.value.value) {
            let message = format!("`{}` stands in `{name}` twice", shorten(&word.value.written));
            report.problem(&word.span, message, "keep one of the two");
            continue;
        }
        words.value.push(word);
    }
    words
}

/// More sources, jobs, sinks or columns of a key than this are refused: checks compare each with each.
const ENTRIES_MAX: usize = 1000;

/// A sentence of the JSON Schema as help: lower case, without its full stop.
fn as_help(sentence: &str) -> String {
    let mut rest = sentence.trim_end_matches('.').chars();
    rest.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(rest).collect()
}

fn bounds(field: &Field) -> (u64, u64) {
    match field.form {
        Form::Integer(minimum, maximum) => (minimum, maximum),
        _ => (0, u64::MAX),
    }
}
