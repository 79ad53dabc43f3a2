//! Decoded values before they become rows: nothing reaches a builder until its whole event is known to be good.
//!
//! A slot is small and `Copy`. Texts are places in the message, nested values are places in an arena, so that decoding
//! an event allocates nothing once the buffers have grown.

use std::ops::Range;

/// One value of an event.
///
/// The tag takes a whole word, so that slots are moved in words: with a tag of one byte, moving them in pieces that
/// straddle it took a fifth of the decoder's time.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(u64)]
pub(crate) enum Slot {
    /// The event has no such property.
    Absent,
    /// An explicit null, or what an absent property without a default becomes.
    Null,
    Text(TextRef),
    Boolean(bool),
    /// An integer, a timestamp in microseconds since 1970 in UTC, or a time in microseconds since midnight.
    Integer(i64),
    Number(f64),
    /// Unscaled, at the scale of the column.
    Decimal(i128),
    /// Days since 1970-01-01.
    Date(i32),
    Duration {
        months: i32,
        days: i32,
        nanoseconds: i64,
    },
    /// An object's properties in the contract's order, or an array's elements: a range of the arena.
    Many {
        start: usize,
        len: usize,
    },
}

impl Slot {
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

/// A text, as a range of one of three buffers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextRef {
    home: Home,
    start: usize,
    len: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    /// The message, where the text stands as it is.
    Message,
    /// The event's scratch text, where it had escapes.
    Unescaped,
    /// The contract's constants; equal constants are one range.
    Contract,
}

/// The buffers that texts lie in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Texts<'a> {
    pub(crate) message: &'a str,
    pub(crate) unescaped: &'a str,
    pub(crate) contract: &'a str,
}

impl<'a> Texts<'a> {
    pub(crate) fn get(&self, text: TextRef) -> &'a str {
        let buffer = match text.home {
            Home::Message => self.message,
            Home::Unescaped => self.unescaped,
            Home::Contract => self.contract,
        };
        &buffer[text.start..text.start + text.len]
    }

    /// Whether two slots of one column hold the same value; bounds of text, not its place, decide.
    pub(crate) fn same(&self, left: &Slot, right: &Slot) -> bool {
        match (left, right) {
            (Slot::Text(a), Slot::Text(b)) if a.home == Home::Contract && b.home == Home::Contract => a == b,
            (Slot::Text(a), Slot::Text(b)) => a.len == b.len && self.get(*a) == self.get(*b),
            _ => left == right,
        }
    }
}

/// What decoding one event needs and the next one uses again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The event's own properties at the bottom, those of nested values on top while they are read.
    pub(crate) stack: Vec<Slot>,
    /// Nested values that are complete.
    pub(crate) arena: Vec<Slot>,
    /// Texts whose escapes were resolved.
    pub(crate) unescaped: String,
}

impl Scratch {
    pub(crate) fn clear(&mut self) {
        self.stack.clear();
        self.arena.clear();
        self.unescaped.clear();
    }

    /// Makes room for the properties of one object; returns where they start.
    pub(crate) fn open(&mut self, properties: usize) -> usize {
        let mark = self.stack.len();
        self.stack.resize(mark + properties, Slot::Absent);
        mark
    }

    /// Moves everything above `mark` to the arena.
    pub(crate) fn close(&mut self, mark: usize) -> Slot {
        let start = self.arena.len();
        self.arena.extend(self.stack.drain(mark..));
        Slot::Many { start, len: self.arena.len() - start }
    }

    /// A text that is a part of `message`, without copying; any other text is kept here.
    pub(crate) fn text(&mut self, message: &str, part: &str) -> TextRef {
        match offset_in(message, part) {
            Some(start) => TextRef { home: Home::Message, start, len: part.len() },
            None => self.own_text(part),
        }
    }

    /// A text of the event's own.
    pub(crate) fn own_text(&mut self, text: &str) -> TextRef {
        let Range { start, end } = append(&mut self.unescaped, text);
        TextRef { home: Home::Unescaped, start, len: end - start }
    }
}

/// Adds a constant to a contract's texts, once.
pub(crate) fn intern(texts: &mut String, text: &str) -> TextRef {
    let start = texts.find(text).unwrap_or_else(|| append(texts, text).start);
    TextRef { home: Home::Contract, start, len: text.len() }
}

/// Where `part` starts if it is a part of `whole` in memory.
pub(crate) fn offset_in(whole: &str, part: &str) -> Option<usize> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    (start + part.len() <= whole.len()).then_some(start)
}

fn append(buffer: &mut String, text: &str) -> Range<usize> {
    let start = buffer.len();
    buffer.push_str(text);
    start..buffer.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_the_message_is_not_copied_and_others_are() {
        let message = String::from("carrier DHL");
        let mut scratch = Scratch::default();
        let borrowed = scratch.text(&message, &message[8..]);
        let copied = scratch.text(&message, "DHL");
        assert_eq!(scratch.unescaped, "DHL");
        let texts = Texts { message: &message, unescaped: &scratch.unescaped, contract: "" };
        assert_eq!((texts.get(borrowed), texts.get(copied)), ("DHL", "DHL"));
        assert!(texts.same(&Slot::Text(borrowed), &Slot::Text(copied)));
    }

    #[test]
    fn equal_constants_are_one_range() {
        let mut texts = String::new();
        let first = intern(&mut texts, "ACT");
        intern(&mut texts, "EST");
        assert_eq!(first, intern(&mut texts, "ACT"));
    }

    #[test]
    fn closed_values_leave_the_stack_as_it_was() {
        let mut scratch = Scratch::default();
        scratch.open(2);
        let mark = scratch.open(1);
        assert_eq!(scratch.close(mark), Slot::Many { start: 0, len: 1 });
        assert_eq!((scratch.stack.len(), scratch.arena.len()), (2, 1));
    }
}
