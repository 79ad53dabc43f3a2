//! What a definition says, as a digest: two files with one fingerprint compute the same from the same events.
//!
//! In it is all that can be seen in a result: names, contracts, SQL texts, identity, event time, clock, where changes go.
//! Not in it are comments and layout of the YAML and JSON, where files lie, what is said for people (owner,
//! description, slo), and how work is cut up (`batch`, `every`). Every part is written with its length or a tag before it, so that no two
//! definitions run together into the same bytes.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::contract::{Column, Condition, Contract, Kind, Value};
use super::pipeline::{
    Clock, EventTime, FileForm, FileFormat, FileNames, History, Identity, Input, Job, Keep, Late, Pipeline, Retention,
    Sink, SinkTarget, Snapshot, Source, Start, TablePlace,
};

/// Changes when the same definition shall have another fingerprint.
const VERSION: &str = "milepost-definition-1";

impl Pipeline {
    /// The fingerprint of the whole definition, 64 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let mut print = Print::new("pipeline");
        print.text(&self.name);
        print.tag(match self.clock {
            Clock::Broker => 0,
            Clock::EventTime => 1,
        });
        print.many(&self.sources, |print, source| print.text(&source.fingerprint()));
        print.many(&self.jobs, |print, job| print.text(&job.fingerprint()));
        print.many(&self.sinks, Print::sink);
        print.finish()
    }
}

impl Pipeline {
    /// The fingerprints of what rows follow from, by what each is of: `clock`, `source NAME`, `job NAME`.
    pub fn fingerprints(&self) -> BTreeMap<String, String> {
        let mut clock = Print::new("clock");
        clock.tag(u8::from(self.clock == Clock::EventTime));
        let sources = self.sources.iter().map(|source| (format!("source {}", source.name), source.fingerprint()));
        let jobs = self.jobs.iter().map(|job| (format!("job {}", job.name), job.fingerprint()));
        [("clock".to_owned(), clock.finish())].into_iter().chain(sources).chain(jobs).collect()
    }
}

impl Source {
    /// The fingerprint of the source's own definition, with its contract; 64 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let mut print = Print::new("source");
        print.text(&self.name);
        print.contract(&self.contract);
        print.input(&self.input);
        print.identity(&self.identity);
        print.option(self.event_time.as_ref(), Print::event_time);
        print.tag(match self.late {
            Late::Apply => 0,
            Late::Divert => 1,
            Late::Drop => 2,
        });
        print.option(self.history.as_ref(), Print::history);
        match &self.retain {
            None => {}
            Some(Retention::For(length)) => {
                print.text("retain");
                print.integer(*length);
            }
            Some(Retention::Once { closes: (closes, _), key, after }) => {
                print.text("retain once");
                print.text(closes);
                print.many(key, Print::index);
                print.option(*after, Print::integer);
            }
        }
        // What is kept of dead letters can be seen in `milepost.dead_letters`; how many there may be can't be seen anywhere.
        match self.dead_letters.keep {
            Keep::Full => {}
            Keep::Redacted => print.text("redacted"),
            Keep::Reference => print.text("reference"),
        }
        print.finish()
    }
}

impl Job {
    /// The fingerprint of the job's own definition: its name, SQL text, key and history; 64 hexadecimal digits. What the job reads
    /// is not in it: combine it with the fingerprints of those sources and jobs.
    pub fn fingerprint(&self) -> String {
        let mut print = Print::new("job");
        print.text(&self.name);
        print.text(&self.sql.text);
        print.many(&self.key, |print, (column, _)| print.text(column));
        print.option(self.history.as_ref(), Print::history);
        print.finish()
    }
}

/// Bytes on their way into a digest.
struct Print(Sha256);

impl Print {
    fn new(what: &str) -> Self {
        let mut print = Self(Sha256::new());
        print.text(VERSION);
        print.text(what);
        print
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn tag(&mut self, tag: u8) {
        self.0.update([tag]);
    }

    fn length(&mut self, length: usize) {
        self.0.update((length as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.0.update(text);
    }

    fn integer(&mut self, value: impl Into<i128>) {
        self.0.update(value.into().to_le_bytes());
    }

    fn index(&mut self, index: &usize) {
        self.length(*index);
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.tag(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn many<'a, T: 'a>(&mut self, items: &'a [T], mut write: impl FnMut(&mut Self, &'a T)) {
        self.length(items.len());
        for item in items {
            write(self, item);
        }
    }

    fn history(&mut self, history: &History) {
        self.text(&history.from);
        self.text(&history.to);
    }

    fn input(&mut self, input: &Input) {
        match input {
            Input::JetStream { stream, subjects, start } => {
                self.tag(0);
                self.text(stream);
                self.many(subjects, |print, subject| print.text(subject));
                match start {
                    Start::All => self.tag(0),
                    Start::Sequence(sequence) => {
                        self.tag(1);
                        self.integer(*sequence);
                    }
                    Start::Time(micros) => {
                        self.tag(2);
                        self.integer(*micros);
                    }
                }
            }
            // Where they lie can't be seen in what they hold.
            Input::Files(files) => {
                self.tag(1);
                match &files.names {
                    FileNames::One { name: _, form: FileForm { format, packing: _ } } => self.tag(match format {
                        FileFormat::Ndjson => 0,
                        FileFormat::Csv => 1,
                        FileFormat::Parquet => 2,
                    }),
                    FileNames::Pattern(_) | FileNames::Folder(_) => self.tag(3),
                }
            }
        }
    }

    fn identity(&mut self, identity: &Identity) {
        match identity {
            Identity::Append { unique } => {
                self.tag(0);
                self.many(unique, Self::index);
            }
            Identity::Upsert { key, order_by, deleted, snapshot } => {
                self.tag(1);
                self.many(key, Self::index);
                self.option(order_by.as_ref(), Self::index);
                self.option(deleted.as_ref(), Self::index);
                self.option(snapshot.as_ref(), |print, Snapshot { by, version }| {
                    print.many(by, Self::index);
                    print.index(version);
                });
            }
        }
    }

    fn event_time(&mut self, event_time: &EventTime) {
        let EventTime { column, lateness, when, idle } = event_time;
        self.index(column);
        self.integer(*lateness);
        self.option(when.as_ref(), |print, (when, _)| print.text(when));
        self.option(*idle, Self::integer);
    }

    fn sink(&mut self, sink: &Sink) {
        let Sink { job, span: _, target } = sink;
        self.index(job);
        match target {
            SinkTarget::JetStream { stream, subject } => {
                self.tag(0);
                self.text(stream);
                self.text(subject);
            }
            SinkTarget::Parquet { place, partition_by, every: _ } => {
                match place {
                    TablePlace::Home(path) => {
                        self.tag(1);
                        self.many(&path.iter().collect::<Vec<_>>(), |print, part| print.text(&part.to_string_lossy()));
                    }
                    TablePlace::Store(url) => {
                        self.tag(2);
                        self.text(url.as_str());
                    }
                }
                self.many(partition_by, |print, (column, _)| print.text(column));
            }
        }
    }

    fn contract(&mut self, contract: &Contract) {
        let Contract { id, description: _, columns, conditions, additional } = contract;
        self.text(id);
        self.many(columns, Self::column);
        self.many(conditions, Self::condition);
        self.tag(u8::from(*additional));
    }

    fn column(&mut self, column: &Column) {
        let Column { name, kind, required, nullable, default, allowed, description: _ } = column;
        self.text(name);
        self.kind(kind);
        self.tag(u8::from(*required));
        self.tag(u8::from(*nullable));
        self.option(default.as_ref(), Self::value);
        self.option(allowed.as_ref(), |print, allowed| print.many(allowed, Self::value));
    }

    fn condition(&mut self, condition: &Condition) {
        let Condition { when, required, bounds } = condition;
        self.many(when, |print, (column, values)| {
            print.index(column);
            print.many(values, Self::value);
        });
        self.many(required, Self::index);
        self.many(bounds, |print, (column, kind)| {
            print.index(column);
            print.kind(kind);
        });
    }

    fn kind(&mut self, kind: &Kind) {
        match kind {
            Kind::Text { max_length } => {
                self.tag(0);
                self.option(max_length.as_ref(), Self::index);
            }
            Kind::Boolean => self.tag(1),
            Kind::Integer { minimum, maximum } => {
                self.tag(2);
                self.option(*minimum, Self::integer);
                self.option(*maximum, Self::integer);
            }
            Kind::Number { minimum, maximum } => {
                self.tag(3);
                self.option(minimum.map(f64::to_bits), Self::integer);
                self.option(maximum.map(f64::to_bits), Self::integer);
            }
            Kind::Decimal { precision, scale, minimum, maximum } => {
                self.tag(4);
                self.integer(*precision);
                self.integer(*scale);
                self.option(*minimum, Self::integer);
                self.option(*maximum, Self::integer);
            }
            Kind::Timestamp { minimum, maximum, nanoseconds } => {
                self.tag(5);
                self.option(*minimum, Self::integer);
                self.option(*maximum, Self::integer);
                self.tag(u8::from(*nanoseconds));
            }
            Kind::Date => self.tag(6),
            Kind::Time => self.tag(7),
            Kind::Duration => self.tag(8),
            Kind::Object(columns) => {
                self.tag(9);
                self.many(columns, Self::column);
            }
            Kind::Array { element, nullable } => {
                self.tag(10);
                self.kind(element);
                self.tag(u8::from(*nullable));
            }
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.tag(0),
            Value::Text(text) => {
                self.tag(1);
                self.text(text);
            }
            Value::Boolean(value) => {
                self.tag(2);
                self.tag(u8::from(*value));
            }
            Value::Integer(value) => {
                self.tag(3);
                self.integer(*value);
            }
            Value::Number(value) => {
                self.tag(4);
                self.integer(value.to_bits());
            }
            Value::Decimal(value) => {
                self.tag(5);
                self.integer(*value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::corpus::pipeline;
    use super::History;

    #[test]
    fn what_cannot_be_seen_in_a_result_leaves_the_fingerprint_alone() {
        let plain = pipeline("").fingerprint();
        assert_eq!(plain.len(), 64);
        for change in ["# a comment", "owner: someone else", "batch: { max_rows: 1 }", "clock: broker"] {
            assert_eq!(pipeline(change).fingerprint(), plain, "after {change}");
        }
    }

    #[test]
    fn what_can_be_seen_in_a_result_changes_the_fingerprint() {
        let plain = pipeline("");
        assert_ne!(pipeline("clock: event_time").fingerprint(), plain.fingerprint());
        let mut changed = plain.clone();
        for job in &mut changed.jobs {
            job.key.clear();
        }
        assert_ne!(changed.fingerprint(), plain.fingerprint());
        let history = |from: &str| {
            let mut changed = plain.clone();
            for source in &mut changed.sources {
                let (from, to) = (from.to_owned(), "until".to_owned());
                source.history = Some(History { name: "h".into(), span: 0..0, from, to });
            }
            changed.fingerprint()
        };
        assert_ne!(history("since"), plain.fingerprint());
        assert_ne!(history("since"), history("known_since"));
        let sink = pipeline("sinks: [{ job: all_events, parquet: { path: x } }]");
        assert_ne!(sink.fingerprint(), plain.fingerprint());
        assert_eq!(sink.jobs.first().map(|job| job.fingerprint()), plain.jobs.first().map(|job| job.fingerprint()));
    }
}
