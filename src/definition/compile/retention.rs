//! Checks of `retain`: what it says must be a promise that the source can keep.

use std::sync::Arc;

use super::Compiler;
use crate::definition::contract::{Contract, RECORDED_AT};
use crate::definition::file::{RetainFile, SourceFile};
use crate::definition::pipeline::Retention;
use crate::definition::read::{Placed, Word};
use crate::definition::tree::shorten;

impl Compiler<'_> {
    /// How long rows are kept; inside none if for ever, none at all with a problem.
    pub(super) fn retention(
        &mut self,
        file: &SourceFile,
        contract: Option<&Arc<Contract>>,
    ) -> Option<Option<Retention>> {
        let Some(retain) = &file.retain else { return Some(None) };
        let contract = contract?;
        match &retain.once {
            None => self.by_time(file, retain, contract).map(Some),
            Some(once) => self.by_key(file, retain, once, contract).map(Some),
        }
    }

    fn by_time(&mut self, file: &SourceFile, retain: &RetainFile, contract: &Arc<Contract>) -> Option<Retention> {
        for (name, span) in [("key", retain.key.as_ref().map(span)), ("after", retain.after.as_ref().map(span))] {
            if let Some(span) = span {
                let help = "write `once: \"…\"`, the condition that closes a key, or leave it out";
                self.report().problem(&span, format!("`{name}` needs `once`"), help);
            }
        }
        let length = retain.length.as_ref()?.value;
        if file.upsert.is_some() {
            let help = "an event may replace the latest row of its key however old that is: leave `retain` out, or write \
                        `retain: { once: \"…\", key: [...] }`";
            self.report().problem(&retain.span, "`retain` by event time can't be safe with `upsert`", help);
            return None;
        }
        let time = self.time_of(file, &retain.span, "`retain`", "rows are forgotten by their event time", contract)?;
        if time.value.value == RECORDED_AT && file.unique.is_some() {
            let message =
                format!("`{RECORDED_AT}` may differ when an event is sent again, so `retain` can't forget keys by it");
            let help = "use the time when it happened, leave `retain` out, or leave `unique` out";
            self.report().problem(&time.span, message, help);
            return None;
        }
        Some(Retention::For(length))
    }

    /// The column of the event time, which every row has to have.
    fn time_of<'f>(
        &mut self,
        file: &'f SourceFile,
        place: &std::ops::Range<usize>,
        what: &str,
        why: &str,
        contract: &Arc<Contract>,
    ) -> Option<&'f Word> {
        let Some(event_time) = &file.event_time else {
            let help = format!("{why}; add `event_time`, or leave {what} out");
            self.report().problem(place, format!("{what} needs `event_time`"), help);
            return None;
        };
        let column = event_time.column.as_ref()?;
        // What else is wrong with it is said where the event time is looked at.
        contract.column_index(&column.value.value)?;
        self.key_columns(std::slice::from_ref(column), "`retain` can't forget rows by it", contract)?;
        Some(column)
    }

    fn by_key(
        &mut self,
        file: &SourceFile,
        retain: &RetainFile,
        once: &Word,
        contract: &Arc<Contract>,
    ) -> Option<Retention> {
        let Some(words) = &retain.key else {
            let help = "write the columns that name what is closed, as in `key: [order_id]`";
            self.report().problem(&once.span, "`once` needs `key`", help);
            return None;
        };
        let key = self.key_columns(&words.value, "`retain` can't close a key by it", contract)?;
        self.safe_with_upsert(file, retain, &words.value)?;
        if let Some(after) = &retain.after {
            let why = "a key closes when the watermark has passed";
            self.time_of(file, &after.span, "`after`", why, contract)?;
        }
        let closes = (once.value.value.clone(), once.span.clone());
        Some(Retention::Once { closes, key, after: retain.after.as_ref().map(|after| after.value) })
    }

    /// A row of an upsert source goes when another of its `upsert` key comes: that must be a row of the same closed key.
    fn safe_with_upsert(&mut self, file: &SourceFile, retain: &RetainFile, words: &[Word]) -> Option<()> {
        let Some(upsert) = &file.upsert else { return Some(()) };
        if file.snapshot.is_some() {
            let help = "the first row of a newer snapshot takes rows of all keys away: leave one of them out";
            self.report().problem(&retain.span, "`retain` can't be safe with `snapshot`", help);
            return None;
        }
        let key = &upsert.key.as_ref()?.value;
        let names = |word: &Word| key.iter().any(|column| column.value.value == word.value.value);
        let Some(word) = words.iter().find(|word| !names(word)) else { return Some(()) };
        let message = format!("`{}` is not in the key of `upsert`", shorten(&word.value.written));
        let help = "a row may be replaced by one of another closed key: use columns of the `upsert` key";
        self.report().problem(&word.span, message, help);
        None
    }
}

fn span<T>(placed: &Placed<T>) -> std::ops::Range<usize> {
    placed.span.clone()
}
