//! The pipeline file as written: every field in its form, nothing looked up yet. What is wrong with a field leaves it
//! out and is reported; [`super::compile`] checks the rest.

use std::ops::Range;
use std::sync::Arc;

use super::fields::{Fields, Named, read_words};
use super::grammar::{self, CLOCKS, KEEP, LATE};
use super::pipeline::{Clock, Keep, Late, Start, Unset};
use super::read::{Placed, Report, Word};
use super::tree::{Content, Node, Syntax, shorten};
use crate::diagnostic::{Diagnostics, SourceText};
use crate::types::Micros;

/// The whole file.
#[derive(Debug)]
pub(crate) struct PipelineFile {
    pub(crate) text: Arc<SourceText>,
    pub(crate) name: Option<Word>,
    pub(crate) about: About,
    pub(crate) clock: Option<Placed<Clock>>,
    pub(crate) nats: Option<NatsFile>,
    pub(crate) state: Option<Word>,
    /// What of `nats` needs variables that are not set.
    pub(crate) unset: Vec<Unset>,
    pub(crate) sources: Vec<Named<SourceFile>>,
    pub(crate) jobs: Vec<Named<JobFile>>,
    pub(crate) sinks: Vec<SinkFile>,
    pub(crate) max_rows: Option<u64>,
    pub(crate) max_wait: Option<Placed<Micros>>,
}

/// For people.
#[derive(Debug, Default)]
pub(crate) struct About {
    pub(crate) owner: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) slo: Option<String>,
}

/// What is said of the connection. `has_…` tells what can't be read from what is left out.
#[derive(Debug)]
pub(crate) struct NatsFile {
    pub(crate) url: Option<Word>,
    pub(crate) credentials: Option<Word>,
    pub(crate) nkey: Option<Word>,
    pub(crate) token: Option<Word>,
    pub(crate) user: Option<Word>,
    pub(crate) has_user: bool,
    pub(crate) password: Option<Word>,
    pub(crate) has_password: bool,
    pub(crate) tls: Option<TlsFile>,
}

#[derive(Debug)]
pub(crate) struct TlsFile {
    pub(crate) ca: Option<Word>,
    pub(crate) certificate: Option<Word>,
    pub(crate) has_certificate: bool,
    pub(crate) key: Option<Word>,
    pub(crate) has_key: bool,
    pub(crate) first: Option<bool>,
}

#[derive(Debug, Default)]
pub(crate) struct SourceFile {
    pub(crate) about: About,
    pub(crate) contract: Option<Word>,
    pub(crate) jetstream: Option<StreamFile>,
    pub(crate) files: Option<Word>,
    pub(crate) watch: Option<WatchFile>,
    pub(crate) unique: Option<Placed<Vec<Word>>>,
    pub(crate) upsert: Option<UpsertFile>,
    pub(crate) deleted: Option<Word>,
    pub(crate) snapshot: Option<SnapshotFile>,
    pub(crate) event_time: Option<EventTimeFile>,
    pub(crate) late: Option<Placed<Late>>,
    pub(crate) history: Option<HistoryFile>,
    pub(crate) retain: Option<RetainFile>,
    pub(crate) dead_letters: Option<DeadLettersFile>,
}

#[derive(Debug)]
pub(crate) struct DeadLettersFile {
    pub(crate) has_max_share: bool,
    pub(crate) max_share: Option<Placed<u32>>,
    pub(crate) after: Option<u64>,
    /// Where `after` stands.
    pub(crate) after_span: Option<Range<usize>>,
    pub(crate) keep: Option<Placed<Keep>>,
}

#[derive(Debug)]
pub(crate) struct StreamFile {
    pub(crate) stream: Option<Word>,
    pub(crate) subjects: Option<Placed<Vec<Word>>>,
    pub(crate) start: Option<Start>,
}

#[derive(Debug)]
pub(crate) struct WatchFile {
    pub(crate) span: Range<usize>,
    pub(crate) on: bool,
    pub(crate) every: Option<Placed<Micros>>,
}

#[derive(Debug)]
pub(crate) struct UpsertFile {
    pub(crate) key: Option<Placed<Vec<Word>>>,
    pub(crate) order_by: Option<Word>,
}

#[derive(Debug)]
pub(crate) struct SnapshotFile {
    pub(crate) span: Range<usize>,
    pub(crate) by: Option<Placed<Vec<Word>>>,
    pub(crate) version: Option<Word>,
}

#[derive(Debug)]
pub(crate) struct EventTimeFile {
    pub(crate) column: Option<Word>,
    pub(crate) lateness: Option<Placed<Micros>>,
    pub(crate) when: Option<Word>,
    pub(crate) idle: Option<Placed<Micros>>,
}

#[derive(Debug)]
pub(crate) struct RetainFile {
    pub(crate) span: Range<usize>,
    pub(crate) length: Option<Placed<Micros>>,
    pub(crate) once: Option<Word>,
    pub(crate) key: Option<Placed<Vec<Word>>>,
    pub(crate) after: Option<Placed<Micros>>,
}

#[derive(Debug, Default)]
pub(crate) struct JobFile {
    pub(crate) about: About,
    pub(crate) sql: Option<Word>,
    pub(crate) key: Option<Placed<Vec<Word>>>,
    pub(crate) history: Option<HistoryFile>,
}

#[derive(Debug)]
pub(crate) struct HistoryFile {
    pub(crate) span: Range<usize>,
    pub(crate) on: bool,
    pub(crate) from: Option<Word>,
    pub(crate) to: Option<Word>,
}

#[derive(Debug)]
pub(crate) struct SinkFile {
    pub(crate) span: Range<usize>,
    pub(crate) job: Option<Word>,
    pub(crate) jetstream: Option<StreamSinkFile>,
    pub(crate) parquet: Option<ParquetFile>,
}

#[derive(Debug)]
pub(crate) struct StreamSinkFile {
    pub(crate) stream: Option<Word>,
    pub(crate) subject: Option<Word>,
}

#[derive(Debug)]
pub(crate) struct ParquetFile {
    pub(crate) path: Option<Word>,
    pub(crate) partition_by: Option<Placed<Vec<Word>>>,
    pub(crate) every: Option<Placed<Micros>>,
}

impl PipelineFile {
    /// Reads the tree of a whole file; none if it is no mapping.
    pub(crate) fn read(root: &Node, text: &Arc<SourceText>, problems: &mut Diagnostics) -> Option<Self> {
        let report = &mut Report { file: text, problems, syntax: Syntax::Yaml };
        let fields = Fields::open(root, &grammar::PIPELINE, &(0..0), report)?;
        let batch = fields.get("batch").and_then(|node| Fields::open(node, &grammar::BATCH, &node.span, report));
        Some(Self {
            text: Arc::clone(text),
            name: fields.word("pipeline", report),
            about: About::read(&fields, report),
            clock: fields.choice("clock", CLOCKS, &[Clock::Broker, Clock::EventTime], report),
            nats: fields.get("nats").and_then(|node| NatsFile::read(node, report)),
            state: fields.word("state", report),
            unset: Vec::new(),
            sources: fields.named("sources", &grammar::SOURCE, report, SourceFile::read),
            jobs: fields.named("jobs", &grammar::JOB, report, JobFile::read),
            sinks: fields.many("sinks", &grammar::SINK, report, SinkFile::read),
            max_rows: batch.as_ref().and_then(|batch| batch.integer("max_rows", report)),
            max_wait: batch.as_ref().and_then(|batch| batch.duration("max_wait", report)),
        })
    }
}

impl About {
    fn read(fields: &Fields<'_>, report: &mut Report<'_>) -> Self {
        let mut text = |name| fields.word(name, report).map(|word| word.value.value);
        Self { owner: text("owner"), description: text("description"), slo: text("slo") }
    }
}

impl NatsFile {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let fields = Fields::open(node, &grammar::NATS, &node.span, report)?;
        Some(Self {
            url: fields.secret("url", report),
            credentials: fields.word("credentials", report),
            nkey: fields.word("nkey", report),
            token: fields.secret("token", report),
            user: fields.word("user", report),
            has_user: fields.get("user").is_some(),
            password: fields.secret("password", report),
            has_password: fields.get("password").is_some(),
            tls: fields.get("tls").and_then(|node| TlsFile::read(node, report)),
        })
    }
}

impl TlsFile {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let fields = Fields::open(node, &grammar::TLS, &node.span, report)?;
        Some(Self {
            ca: fields.word("ca", report),
            certificate: fields.word("certificate", report),
            has_certificate: fields.get("certificate").is_some(),
            key: fields.word("key", report),
            has_key: fields.get("key").is_some(),
            first: fields.boolean("first", report),
        })
    }
}

impl SourceFile {
    fn read(fields: &Fields<'_>, report: &mut Report<'_>) -> Self {
        Self {
            about: About::read(fields, report),
            contract: fields.word("contract", report),
            jetstream: fields.get("jetstream").and_then(|node| StreamFile::read(node, report)),
            files: fields.word("files", report),
            watch: fields.get("watch").and_then(|node| WatchFile::read(node, report)),
            unique: fields.words("unique", report),
            upsert: fields.get("upsert").and_then(|node| UpsertFile::read(node, report)),
            deleted: fields.word("deleted", report),
            snapshot: fields.get("snapshot").and_then(|node| SnapshotFile::read(node, report)),
            event_time: fields.get("event_time").and_then(|node| EventTimeFile::read(node, report)),
            late: fields.choice("late", LATE, &[Late::Apply, Late::Divert, Late::Drop], report),
            history: fields.get("history").and_then(|node| HistoryFile::read(node, report)),
            retain: fields.get("retain").and_then(|node| RetainFile::read(node, &fields, report)),
            dead_letters: fields.get("dead_letters").and_then(|node| DeadLettersFile::read(node, report)),
        }
    }
}

impl DeadLettersFile {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let fields = Fields::open(node, &grammar::DEAD_LETTERS, &node.span, report)?;
        Some(Self {
            has_max_share: fields.get("max_share").is_some(),
            max_share: fields.share("max_share", report),
            after: fields.integer("after", report),
            after_span: fields.get("after").map(|node| node.span.clone()),
            keep: fields.choice("keep", KEEP, &[Keep::Full, Keep::Redacted, Keep::Reference], report),
        })
    }
}

impl StreamFile {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let fields = Fields::open(node, &grammar::STREAM_INPUT, &node.span, report)?;
        Some(Self {
            stream: fields.word("stream", report),
            subjects: fields.words("subjects", report),
            start: fields.get("start").and_then(|node| read_start(node, report)),
        })
    }
}

fn read_start(node: &Node, report: &mut Report<'_>) -> Option<Start> {
    match &node.content {
        Content::Text(text) if text.value == "all" => Some(Start::All),
        Content::Map(_) => {
            let fields = Fields::open(node, &grammar::START, &node.span, report)?;
            if let Some(sequence) = fields.integer("sequence", report) {
                return Some(Start::Sequence(sequence));
            }
            let time = fields.word("time", report)?;
            let instant = chrono::DateTime::parse_from_rfc3339(&time.value.value).ok();
            if instant.is_none() {
                let message = format!("`{}` is not an instant", shorten(&time.value.written));
                report.problem(&time.span, message, "date, time and offset as in `2026-11-01T00:00:00Z`");
            }
            instant.map(|instant| Start::Time(instant.timestamp_micros()))
        }
        _ => {
            let help = "write `all`, `{ sequence: 1 }` or `{ time: 2026-11-01T00:00:00Z }`";
            report.mismatch(node, "`start`", "`all`, a sequence or a time", help);
            None
        }
    }
}

impl WatchFile {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        match &node.content {
            Content::Boolean(on) => Some(Self { span: node.span.clone(), on: *on, every: None }),
            Content::Map(_) => {
                let fields = Fields::open(node, &grammar::WATCH, &node.span, report)?;
                Some(Self { span: node.span.clone(), on: true, every: fields.duration("every", report) })
            }
            _ => {
                report.mismatch(node, "`watch`", "`true`, `false` or a mapping", "write `true`, or `{ every: 5s }`");
                None
            }
        }
    }
}

impl UpsertFile {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        match &node.content {
            Content::Map(_) => {
                let fields = Fields::open(node, &grammar::UPSERT, &node.span, report)?;
                Some(Self { key: fields.words("key", report), order_by: fields.word("order_by", report) })
            }
            _ => Some(Self { key: Some(read_words(node, "upsert", report)), order_by: None }),
        }
    }
}

impl SnapshotFile {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let fields = Fields::open(node, &grammar::SNAPSHOT, &node.span, report)?;
        let (by, version) = (fields.words("by", report), fields.word("version", report));
        Some(Self { span: node.span.clone(), by, version })
    }
}

impl EventTimeFile {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        match &node.content {
            Content::Map(_) => {
                let fields = Fields::open(node, &grammar::EVENT_TIME, &node.span, report)?;
                Some(Self {
                    column: fields.word("column", report),
                    lateness: fields.duration("lateness", report),
                    when: fields.word("when", report),
                    idle: fields.duration("idle", report),
                })
            }
            Content::Text(_) => {
                let column = report.word(node, "`event_time`");
                Some(Self { column, lateness: None, when: None, idle: None })
            }
            _ => {
                let help = "write the name of a column, or `{ column: occurred_at, lateness: 1h }`";
                report.mismatch(node, "`event_time`", "a column or a mapping", help);
                None
            }
        }
    }
}

impl RetainFile {
    /// `around` are the fields among which it stands.
    fn read(node: &Node, around: &Fields<'_>, report: &mut Report<'_>) -> Option<Self> {
        let span = node.span.clone();
        match &node.content {
            Content::Map(_) => {
                let fields = Fields::open(node, &grammar::RETAIN, &node.span, report)?;
                Some(Self {
                    span,
                    length: fields.duration("for", report),
                    once: fields.word("once", report),
                    key: fields.words("key", report),
                    after: fields.duration("after", report),
                })
            }
            _ => {
                let length = around.duration("retain", report);
                Some(Self { span, length, once: None, key: None, after: None })
            }
        }
    }
}

impl JobFile {
    fn read(fields: &Fields<'_>, report: &mut Report<'_>) -> Self {
        Self {
            about: About::read(fields, report),
            sql: fields.word("sql", report),
            key: fields.words("key", report),
            history: fields.get("history").and_then(|node| HistoryFile::read(node, report)),
        }
    }
}

impl HistoryFile {
    fn read(node: &Node, report: &mut Report<'_>) -> Option<Self> {
        let span = node.span.clone();
        match &node.content {
            Content::Boolean(on) => Some(Self { span, on: *on, from: None, to: None }),
            Content::Map(_) => {
                let fields = Fields::open(node, &grammar::HISTORY, &node.span, report)?;
                Some(Self { span, on: true, from: fields.word("from", report), to: fields.word("to", report) })
            }
            _ => {
                let help = "write `true`, or name its columns: `{ from: since, to: until }`";
                report.mismatch(node, "`history`", "`true`, `false` or a mapping", help);
                None
            }
        }
    }
}

impl SinkFile {
    fn read(fields: &Fields<'_>, report: &mut Report<'_>) -> Self {
        let jetstream = fields.get("jetstream").and_then(|node| {
            let fields = Fields::open(node, &grammar::STREAM_SINK, &node.span, report)?;
            Some(StreamSinkFile { stream: fields.word("stream", report), subject: fields.word("subject", report) })
        });
        let parquet = fields.get("parquet").and_then(|node| {
            let fields = Fields::open(node, &grammar::PARQUET_SINK, &node.span, report)?;
            Some(ParquetFile {
                path: fields.word("path", report),
                partition_by: fields.words("partition_by", report),
                every: fields.duration("every", report),
            })
        });
        Self { span: fields.span.clone(), job: fields.word("job", report), jetstream, parquet }
    }
}
