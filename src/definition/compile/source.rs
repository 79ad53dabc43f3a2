//! Checks of one source: its input, what makes a row new, its event time.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Compiler;
use crate::definition::contract::{Contract, Kind};
use crate::definition::fields::Named;
use crate::definition::file::{
    DeadLettersFile, EventTimeFile, SnapshotFile, SourceFile, StreamFile, UpsertFile, WatchFile,
};
use crate::definition::name;
use crate::definition::pipeline::{
    DeadLetterBudget, DeadLetters, EventTime, FileSet, Identity, Input, Late, Snapshot, Source, Start,
};
use crate::definition::place;
use crate::definition::read::Word;
use crate::definition::subject;
use crate::definition::tree::shorten;
use crate::diagnostic::suggest;

impl Compiler<'_> {
    /// One source; none with a problem for each thing that is wrong with it.
    pub(super) fn source(&mut self, source: &Named<SourceFile>) -> Option<Source> {
        let file = &source.value;
        let input = self.input(file);
        let contract = file.contract.as_ref().and_then(|word| self.contract(word));
        let columns =
            contract.as_ref().map(|contract| (self.identity(file, contract), self.event_time(file, contract)));
        self.late(file);
        let history = self.source_history(source, contract.as_deref());
        let retain = self.retention(file, contract.as_ref());
        let dead_letters = file.dead_letters.as_ref().map_or_else(DeadLetters::default, |file| self.dead_letters(file));
        if let (Some(watch), Some(_)) = (&file.watch, &file.jetstream) {
            self.report().problem(
                &watch.span,
                "`watch` needs `files`",
                "a stream is followed anyway: leave `watch` out",
            );
        }
        let (identity, event_time) = columns?;
        Some(Source {
            name: source.name.as_str().into(),
            span: source.span.clone(),
            owner: file.about.owner.clone(),
            description: file.about.description.clone(),
            slo: file.about.slo.clone(),
            contract: contract?,
            input: input?,
            identity: identity?,
            event_time: event_time?,
            late: file.late.as_ref().map(|late| late.value).unwrap_or_default(),
            history: history?,
            retain: retain?,
            dead_letters,
        })
    }

    fn input(&mut self, file: &SourceFile) -> Option<Input> {
        match (&file.jetstream, &file.files) {
            (Some(stream), _) => self.stream_input(stream),
            (None, Some(files)) => self.file_input(files, file.watch.as_ref()),
            (None, None) => None,
        }
    }

    fn file_input(&mut self, word: &Word, watch: Option<&WatchFile>) -> Option<Input> {
        let folder = self.file.text.path.parent().unwrap_or(Path::new(""));
        match FileSet::parse(folder, &word.value.value) {
            Ok(files) => {
                let watch = watch.map_or(Some(None), |watch| self.watch(watch))?;
                Some(Input::Files(FileSet { watch, span: Some(word.span.clone()), ..files }))
            }
            Err((message, help)) => {
                let help = if word.value.is_expanded() { place::NAME_FILES } else { &help };
                self.value_problem(word, &message, "does not name input files", help);
                None
            }
        }
    }

    /// How often new files are looked for; none inside where they are not, none at all with a problem.
    fn watch(&mut self, watch: &WatchFile) -> Option<Option<Duration>> {
        match &watch.every {
            Some(every) if every.value == 0 => {
                let help = "the files would be listed all the time; write how long to wait, as in `5s`";
                self.report().problem(&every.span, "`every` can't be zero", help);
                None
            }
            Some(every) => Some(Some(Duration::from_micros(every.value.unsigned_abs()))),
            None => Some(watch.on.then_some(WATCH_EVERY)),
        }
    }

    fn stream_input(&mut self, file: &StreamFile) -> Option<Input> {
        let stream = file.stream.as_ref().and_then(|stream| self.stream_name(stream));
        let filters = file.subjects.as_ref().map(|subjects| subjects.value.as_slice()).unwrap_or_default();
        let mut sound: Vec<&Word> = Vec::new();
        for filter in filters {
            if let Err((message, help)) = subject::check_filter(&filter.value.value) {
                let message = format!("`{}` is not a subject: {message}", shorten(&filter.value.written));
                self.value_problem(filter, &message, "is not a subject", &help);
                continue;
            }
            if let Some(other) = sound.iter().find(|other| subject::overlap(&other.value.value, &filter.value.value)) {
                let (this, other) = (shorten(&filter.value.written), shorten(&other.value.written));
                let message = format!("`{this}` and `{other}` have subjects in common");
                let help = "NATS refuses overlapping filters; keep the wider one, or make them disjoint";
                self.report().problem(&filter.span, message, help);
            }
            sound.push(filter);
        }
        let complete = !filters.is_empty() && sound.len() == filters.len();
        let subjects = complete.then(|| sound.iter().map(|filter| filter.value.value.clone()).collect());
        Some(Input::JetStream { stream: stream?, subjects: subjects?, start: file.start.unwrap_or(Start::All) })
    }

    /// A stream's name as a server takes it.
    pub(super) fn stream_name(&mut self, word: &Word) -> Option<String> {
        if name::is_stream(&word.value.value) {
            return Some(word.value.value.clone());
        }
        let message = format!("`{}` is not the name of a stream", shorten(&word.value.written));
        let help = "a stream's name has no spaces, `.`, `*`, `>`, `/` or `\\`, as in `MILESTONES`";
        self.value_problem(word, &message, "is not the name of a stream", help);
        None
    }

    fn identity(&mut self, file: &SourceFile, contract: &Arc<Contract>) -> Option<Identity> {
        let Some(upsert) = &file.upsert else {
            if let Some(deleted) = &file.deleted {
                let help = "add `upsert: [...]` with the columns that name a row, or leave `deleted` out";
                self.report().problem(&deleted.span, "`deleted` needs `upsert`", help);
            }
            if let Some(snapshot) = &file.snapshot {
                let help = "add `upsert: [...]` with the columns that name a row, or leave `snapshot` out";
                self.report().problem(&snapshot.span, "`snapshot` needs `upsert`", help);
            }
            let unique = file.unique.as_ref().map(|unique| unique.value.as_slice()).unwrap_or_default();
            return Some(Identity::Append { unique: self.key_columns(unique, NAMES_UNIQUE, contract)? });
        };
        let deleted = match &file.deleted {
            Some(word) => self.deleted(word, contract).map(Some),
            None => Some(None),
        };
        let (key, order_by) = self.upsert(upsert, contract);
        let snapshot = match &file.snapshot {
            Some(snapshot) => self.snapshot(snapshot, key.as_deref(), contract).map(Some),
            None => Some(None),
        };
        Some(Identity::Upsert { key: key?, order_by: order_by?, deleted: deleted?, snapshot: snapshot? })
    }

    fn upsert(&mut self, file: &UpsertFile, contract: &Arc<Contract>) -> (Option<Vec<usize>>, Option<Option<usize>>) {
        let key = file.key.as_ref().and_then(|key| self.key_columns(&key.value, NAMES_UPSERT, contract));
        let order_by = match &file.order_by {
            Some(word) => self.order_by(word, contract).map(Some),
            None => Some(None),
        };
        (key, order_by)
    }

    fn order_by(&mut self, word: &Word, contract: &Arc<Contract>) -> Option<usize> {
        let (index, kind) = self.column(word, contract)?;
        if matches!(kind, Kind::Object(_) | Kind::Array { .. } | Kind::Boolean | Kind::Duration) {
            let message = format!("`{}` is {}, which has no order", shorten(&word.value.written), kind.describe());
            self.report().problem(&word.span, message, "order by a number, a text, a date or a time");
            return None;
        }
        Some(index)
    }

    fn deleted(&mut self, word: &Word, contract: &Arc<Contract>) -> Option<usize> {
        let (index, kind) = self.column(word, contract)?;
        if kind != &Kind::Boolean {
            let help = columns_help(contract, |kind| kind == &Kind::Boolean, "boolean");
            let message = format!("`{}` is {}, not a boolean", shorten(&word.value.written), kind.describe());
            self.report().problem(&word.span, message, help);
            return None;
        }
        Some(index)
    }

    /// What a version is complete for must be part of the key: else a key could stand in two snapshots, and which of them
    /// it leaves would depend on what came last.
    fn snapshot(&mut self, file: &SnapshotFile, key: Option<&[usize]>, contract: &Arc<Contract>) -> Option<Snapshot> {
        let words = file.by.as_ref().map(|by| by.value.as_slice()).unwrap_or_default();
        let by = self.key_columns(words, "`snapshot` can't be complete by it", contract);
        let version = file.version.as_ref().and_then(|word| self.version(word, contract));
        let (by, version) = (by.filter(|by| !by.is_empty())?, version?);
        for (word, column) in words.iter().zip(&by) {
            let shown = shorten(&word.value.written);
            if *column == version {
                let message = format!("`{shown}` is both in `by` and the `version`");
                let help = "each version would be complete for itself alone, and no row would ever go";
                self.report().problem(&word.span, message, help);
            } else if let Some(key) = key.filter(|key| !key.contains(column)) {
                let names = key.iter().filter_map(|&column| contract.columns.get(column));
                let names: Vec<String> = names.map(|column| format!("`{}`", column.name)).collect();
                let message = format!("`{shown}` is not in the key of `upsert`");
                let help = format!(
                    "a key may stand in one snapshot only: add `{shown}` to the key, or use some of {}",
                    names.join(", ")
                );
                self.report().problem(&word.span, message, help);
            }
        }
        Some(Snapshot { by, version })
    }

    /// A column whose values say which of two versions is newer; required, never null.
    fn version(&mut self, word: &Word, contract: &Arc<Contract>) -> Option<usize> {
        let (index, kind) = self.column(word, contract)?;
        let ordered = |kind: &Kind| {
            matches!(kind, Kind::Timestamp { .. } | Kind::Date | Kind::Integer { .. } | Kind::Text { .. })
        };
        if !ordered(kind) {
            let message = format!("`{}` is {}, not a version", shorten(&word.value.written), kind.describe());
            self.report().problem(&word.span, message, "use a date-time, a date, an integer or a string");
            return None;
        }
        self.key_columns(std::slice::from_ref(word), "it can't say which version is newer", contract)?;
        Some(index)
    }

    /// Columns that are required, never null, and have values that can be compared; `else_what` says what they are needed
    /// for where they are not.
    pub(super) fn key_columns(
        &mut self,
        words: &[Word],
        else_what: &str,
        contract: &Arc<Contract>,
    ) -> Option<Vec<usize>> {
        let mut columns = Vec::new();
        for word in words {
            let Some((index, kind)) = self.column(word, contract) else { continue };
            columns.push(index);
            let Some(column) = contract.columns.get(index) else { continue };
            let (shown, id) = (shorten(&word.value.written), &contract.id);
            if matches!(kind, Kind::Object(_) | Kind::Array { .. }) {
                let message = format!("`{shown}` is {}, so {else_what}", kind.describe());
                self.report().problem(&word.span, message, "use columns with single values");
            } else if !column.required {
                let message = format!("`{shown}` may be absent, so {else_what}");
                let help = format!("add `{shown}` to `required` of the contract `{id}`, or use another column");
                self.report().problem(&word.span, message, help);
            } else if column.nullable {
                let message = format!("`{shown}` may be null, so {else_what}");
                let help = format!("take `null` out of its `type` in the contract `{id}`, or use another column");
                self.report().problem(&word.span, message, help);
            }
        }
        (columns.len() == words.len()).then_some(columns)
    }

    fn event_time(&mut self, file: &SourceFile, contract: &Arc<Contract>) -> Option<Option<EventTime>> {
        let Some(event_time) = &file.event_time else { return Some(None) };
        let column = event_time.column.as_ref().and_then(|word| self.time_column(word, contract));
        let idle = self.idle(event_time);
        Some(Some(EventTime {
            column: column?,
            lateness: event_time.lateness.as_ref().map_or(0, |lateness| lateness.value),
            when: event_time.when.as_ref().map(|when| (when.value.value.clone(), when.span.clone())),
            idle: idle?,
        }))
    }

    fn time_column(&mut self, word: &Word, contract: &Arc<Contract>) -> Option<usize> {
        let (index, kind) = self.column(word, contract)?;
        if matches!(kind, Kind::Timestamp { .. }) {
            return Some(index);
        }
        let message = format!("`{}` is {}, not a date-time", shorten(&word.value.written), kind.describe());
        let help = columns_help(contract, |kind| matches!(kind, Kind::Timestamp { .. }), "date-time");
        self.report().problem(&word.span, message, help);
        None
    }

    fn idle(&mut self, file: &EventTimeFile) -> Option<Option<crate::types::Micros>> {
        match &file.idle {
            Some(idle) if idle.value == 0 => {
                let help =
                    "a source would always count as silent; leave `idle` out, or write how long it may be silent";
                self.report().problem(&idle.span, "`idle` can't be zero", help);
                None
            }
            idle => Some(idle.as_ref().map(|idle| idle.value)),
        }
    }

    fn late(&mut self, file: &SourceFile) {
        let Some(late) = file.late.as_ref().filter(|late| late.value != Late::Apply) else { return };
        if file.event_time.is_none() {
            let help = "without an event time no row is late; add `event_time`, or leave `late` out";
            self.report().problem(&late.span, "`late` needs `event_time`", help);
        }
    }

    fn dead_letters(&mut self, file: &DeadLettersFile) -> DeadLetters {
        if let (Some(after), false) = (&file.after_span, file.has_max_share) {
            let help = "say how large a share may be bad, as in `max_share: 1%`, or leave `after` out";
            self.report().problem(after, "`after` needs `max_share`", help);
        }
        let budget = file.max_share.as_ref().map(|share| DeadLetterBudget {
            max_share_millionths: share.value,
            after: file.after.unwrap_or(BUDGET_AFTER),
        });
        DeadLetters { budget, keep: file.keep.as_ref().map(|keep| keep.value).unwrap_or_default() }
    }

    /// A column of the contract by name.
    fn column<'c>(&mut self, word: &Word, contract: &'c Arc<Contract>) -> Option<(usize, &'c Kind)> {
        let index = contract.column_index(&word.value.value);
        let found = index.and_then(|index| contract.columns.get(index).map(|column| (index, &column.kind)));
        if found.is_none() {
            let names = contract.columns.iter().map(|column| column.name.as_str());
            let message = format!("the contract `{}` has no column `{}`", contract.id, shorten(&word.value.written));
            let help = suggest(&word.value.written, names);
            self.report().problem(&word.span, message, help);
        }
        found
    }

    /// Where in the file a subject that `subject` overlaps is read from `stream`, with the source's name.
    pub(super) fn reads(&self, stream: &str, written: &str) -> Option<(&str, Range<usize>)> {
        self.file.sources.iter().find_map(|source| {
            let input = source.value.jetstream.as_ref()?;
            let filters = input.subjects.as_ref()?;
            let same = input.stream.as_ref()?.value.value == stream;
            let filter = filters.value.iter().find(|filter| subject::overlap(&filter.value.value, written))?;
            same.then(|| (source.name.as_str(), filter.span.clone()))
        })
    }
}

/// What the columns of `unique` are for.
const NAMES_UNIQUE: &str = "`unique` can't name rows by it";
/// What the columns of `upsert` are for.
const NAMES_UPSERT: &str = "`upsert` can't name rows by it";
/// Of how many events the share of dead letters is taken where `after` does not say.
const BUDGET_AFTER: u64 = 10_000;
/// How often new files are looked for where `watch` does not say.
const WATCH_EVERY: Duration = Duration::from_secs(1);

fn columns_help(contract: &Contract, fits: impl Fn(&Kind) -> bool, what: &str) -> String {
    let fitting = contract.columns.iter().filter(|column| fits(&column.kind));
    let names: Vec<String> = fitting.map(|column| format!("`{}`", column.name)).collect();
    match names.as_slice() {
        [] => format!("the contract `{}` has no {what} column", contract.id),
        [only] => format!("the only {what} column is {only}"),
        names => format!("{what} columns are {}", names.join(", ")),
    }
}
