//! A pipeline, resolved and checked: everything the other modules need to know of the pipeline file.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::definition::contract::Contract;
use crate::definition::pattern::FilePattern;
use crate::diagnostic::{Diagnostic, SourceText};
use crate::types::{Micros, Secret, Sequence};

/// A pipeline file after every check that needs no SQL.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// Names the state directory, consumers and metrics: letters, digits, `_` and `-`.
    pub name: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// What its readers may expect, in the owner's words.
    pub slo: Option<String>,
    /// Where time comes from.
    pub clock: Clock,
    /// How to reach the broker.
    pub nats: NatsSettings,
    /// Where commits lie, in a folder of the pipeline's name; none: below `--home`.
    pub state: Option<Url>,
    /// In the order of the file, which is the order of rows within an epoch.
    pub sources: Vec<Source>,
    /// In the order of the file.
    pub jobs: Vec<Job>,
    /// In the order of the file.
    pub sinks: Vec<Sink>,
    /// When a micro-batch closes.
    pub batch: BatchLimits,
    /// The file itself, for diagnostics that come later.
    pub text: Arc<SourceText>,
}

/// How to reach a broker. What is left out is not used, or has a default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NatsSettings {
    /// `nats://host:port`, several separated by commas. It may hold user info, so it is shown only without it.
    pub url: Option<Secret>,
    /// Who this is.
    pub auth: Option<NatsAuth>,
    /// TLS whatever the address says.
    pub tls: Option<NatsTls>,
    /// What can't be known because a variable is not set: no connection can be made before it is.
    pub unset: Vec<Unset>,
}

/// A field of `nats` that needs a variable that is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unset {
    /// The field.
    pub field: String,
    /// What to tell whoever wants to connect.
    pub problem: Diagnostic,
}

/// How a connection shows who it is. Files are read when the connection is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatsAuth {
    /// A credentials file: a user JWT and its nkey seed.
    Credentials(NamedFile),
    /// A file with an nkey seed.
    Nkey(NamedFile),
    /// A token.
    Token(Secret),
    /// A user and a password.
    User {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// TLS of a connection. Files are PEM, read when the connection is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NatsTls {
    /// The certificates that the broker's must go back to; none: those of the system.
    pub ca: Option<NamedFile>,
    /// The client's own certificate and its key.
    pub identity: Option<(NamedFile, NamedFile)>,
    /// The handshake comes before the broker's first word.
    pub first: bool,
}

/// A file that a definition or the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The same as it may be shown: with variables in place of their values.
    pub shown: PathBuf,
}

impl NatsSettings {
    /// A broker that asks for no more than its address.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: Some(Secret::new(url)), ..Self::default() }
    }

    /// The same with what the command line says: its address wins, with user info also over other credentials; its
    /// credentials file wins over those of the pipeline.
    #[must_use]
    pub fn overridden(mut self, url: Option<String>, credentials: Option<PathBuf>) -> Self {
        let mut replaced: Vec<&str> = Vec::new();
        if let Some(url) = url {
            replaced.push("url");
            if has_user_info(&url) {
                replaced.extend(AUTH_FIELDS);
                self.auth = None;
            }
            self.url = Some(Secret::new(url));
        }
        if let Some(path) = credentials {
            replaced.extend(AUTH_FIELDS);
            self.auth = Some(NatsAuth::Credentials(NamedFile { shown: path.clone(), path }));
        }
        self.unset.retain(|unset| !replaced.contains(&unset.field.as_str()));
        self
    }
}

/// The fields of `nats` that say who this is.
const AUTH_FIELDS: [&str; 5] = ["credentials", "nkey", "token", "user", "password"];

/// Whether an address holds user info, which is a secret.
pub fn has_user_info(url: &str) -> bool {
    url.contains('@')
}

/// Where an epoch's clock comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The newest broker timestamp of the epoch.
    Broker,
    /// The newest event time itself.
    EventTime,
}

/// A stream or file that yields rows of one contract.
#[derive(Debug, Clone)]
pub struct Source {
    /// The table name in SQL.
    pub name: Arc<str>,
    /// The span of the name in the pipeline file.
    pub span: Range<usize>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// What its readers may expect, in the owner's words.
    pub slo: Option<String>,
    /// The schema of its rows.
    pub contract: Arc<Contract>,
    /// Where its rows come from.
    pub input: Input,
    /// What makes a row new.
    pub identity: Identity,
    /// Which column is event time, if any.
    pub event_time: Option<EventTime>,
    /// What happens to a row behind the source's watermark.
    pub late: Late,
    /// Its history, if it has one; only an upsert source may.
    pub history: Option<History>,
    /// Which rows are late whatever `late` says, so that state may forget those that came before; none: nothing is
    /// forgotten.
    pub retain: Option<Retention>,
    /// How many events may be bad, and what is kept of them.
    pub dead_letters: DeadLetters,
}

/// How many events of a source may be bad, and what is kept of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeadLetters {
    /// What stops the pipeline; none: nothing does.
    pub budget: Option<DeadLetterBudget>,
    /// What is kept of each.
    pub keep: Keep,
}

/// The share of bad events that a pipeline bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadLetterBudget {
    /// More than so many millionths stop it.
    pub max_share_millionths: u32,
    /// Of so many events, the last that were read, the share is taken; as long as there are fewer, none is.
    pub after: u64,
}

/// What a dead letter keeps of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// All of it.
    #[default]
    Full,
    /// Its structure, with other values.
    Redacted,
    /// Where it can be found.
    Reference,
}

/// A further table: every version of the rows of a source or job, with the clocks between which it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Its name in SQL: that of the source or job, and `_history`.
    pub name: Arc<str>,
    /// The span of the field in the pipeline file.
    pub span: Range<usize>,
    /// The column that says since when a version stands.
    pub from: String,
    /// The column that says until when it stood.
    pub to: String,
}

impl History {
    /// What is added to a table's name for that of its history.
    pub(crate) const SUFFIX: &str = "_history";

    /// What to do where the table has a column of that name itself.
    pub(crate) const OTHER_NAMES: &str =
        "give the columns of the history other names: `history: { from: known_from, to: known_to }`";
}

impl Pipeline {
    /// Every history, with the name of the source or job that it is of.
    pub fn histories(&self) -> impl Iterator<Item = (&Arc<str>, &History)> {
        let sources = self.sources.iter().map(|source| (&source.name, source.history.as_ref()));
        let jobs = self.jobs.iter().map(|job| (&job.name, job.history.as_ref()));
        sources.chain(jobs).filter_map(|(name, history)| Some((name, history?)))
    }
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A JetStream stream, read in stream order.
    JetStream {
        /// The stream's name.
        stream: String,
        /// Only messages of these subjects, wildcards allowed.
        subjects: Vec<String>,
        /// Where reading starts the first time.
        start: Start,
    },
    /// Files, read one after another.
    Files(FileSet),
}

/// Which files a source reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSet {
    /// What names are relative to.
    pub root: FileRoot,
    /// Their names.
    pub names: FileNames,
    /// How often new files are looked for; none: those that are there when reading starts are all.
    pub watch: Option<Duration>,
    /// Where in the pipeline file they are named; none where the command line names them.
    pub span: Option<Range<usize>>,
}

/// What the names of files are relative to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileRoot {
    /// A folder of this machine; empty: the one that the process runs in.
    Folder(PathBuf),
    /// A bucket of an object store, by its name.
    Bucket(String),
}

/// The names of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileNames {
    /// One file.
    One {
        /// Its name.
        name: String,
        /// How it is read.
        form: FileForm,
    },
    /// All files that match.
    Pattern(FilePattern),
    /// All files in a folder whose names say how they are read; the pattern matches whatever lies there.
    Folder(FilePattern),
}

/// How a file is read, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileForm {
    /// What it holds.
    pub format: FileFormat,
    /// How that is packed.
    pub packing: Packing,
}

/// Where reading a stream starts the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The oldest message that the stream holds.
    All,
    /// This stream sequence.
    Sequence(Sequence),
    /// The first message received at or after this instant.
    Time(Micros),
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// One JSON document a line (`.ndjson`, `.jsonl`, `.json`).
    Ndjson,
    /// RFC 4180 with a header line (`.csv`).
    Csv,
    /// Rows with types (`.parquet`).
    Parquet,
}

/// How a file's content is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all, or as its format does by itself.
    Plain,
    /// One or more gzip members (`.gz`).
    Gzip,
    /// One or more Zstandard frames (`.zst`).
    Zstd,
}

/// What makes a row new. Indexes are contract columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Every row is new, except that of rows with one `unique` key the first wins. Empty: every row is new.
    Append {
        /// The columns of the key.
        unique: Vec<usize>,
    },
    /// The last row of a key (or the one with the highest `order_by`; of equal ones the last) is the key's row; one whose
    /// `deleted` is true removes it. With `snapshot`, of the rows of the newest version only.
    Upsert {
        /// The columns of the key.
        key: Vec<usize>,
        /// The column that says which of a key's rows is newest; none: the last.
        order_by: Option<usize>,
        /// The boolean column that says that the row's key is gone.
        deleted: Option<usize>,
        /// What makes some rows together a complete statement.
        snapshot: Option<Snapshot>,
    },
}

/// Each version of the rows that agree in `by` is complete: with the first row of a newer one every row of the older ones
/// goes, and a row of an older one changes nothing. Indexes are contract columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Columns of the key: what a version is complete for.
    pub by: Vec<usize>,
    /// The column whose highest value is the newest version.
    pub version: usize,
}

/// Which column is event time, and when the source counts as complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTime {
    /// A timestamp column of the contract.
    pub column: usize,
    /// How far behind the newest event the watermark stays, in microseconds.
    pub lateness: Micros,
    /// Only rows that satisfy this SQL predicate move the watermark.
    pub when: Option<(String, Range<usize>)>,
    /// After this much silence, in microseconds, the source follows the clock; none: never.
    pub idle: Option<Micros>,
}

/// What happens to a row behind its source's running watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Late {
    /// It is applied as any other.
    #[default]
    Apply,
    /// It is counted and kept aside.
    Divert,
    /// It is counted.
    Drop,
}

/// How long a source's rows are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retention {
    /// Until they are so many microseconds behind the source's running watermark.
    For(Micros),
    /// Until their key is closed.
    Once {
        /// A row that satisfies this SQL predicate closes its key.
        closes: (String, Range<usize>),
        /// The columns of the key.
        key: Vec<usize>,
        /// The key is closed once the source's running watermark has passed the row's event time by so many microseconds;
        /// none: with the row.
        after: Option<Micros>,
    },
}

impl Retention {
    /// How far rows may be behind the watermark, in microseconds, if that is what is said.
    pub fn length(&self) -> Option<Micros> {
        match self {
            Self::For(length) => Some(*length),
            Self::Once { .. } => None,
        }
    }

    /// How far the watermark has to pass the row that closes a key, in microseconds, if it has to.
    pub fn after(&self) -> Option<Micros> {
        match self {
            Self::For(_) => None,
            Self::Once { after, .. } => *after,
        }
    }
}

/// A named SELECT.
#[derive(Debug, Clone)]
pub struct Job {
    /// The table name in SQL.
    pub name: Arc<str>,
    /// The span of the name in the pipeline file.
    pub span: Range<usize>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// What it says.
    pub description: Option<String>,
    /// What its readers may expect, in the owner's words.
    pub slo: Option<String>,
    /// The SELECT.
    pub sql: Arc<SourceText>,
    /// The job's grain, with the place of each column's name; empty where none is declared.
    pub key: Vec<(String, Range<usize>)>,
    /// Its history, if it has one.
    pub history: Option<History>,
}

/// Where a job's rows or changes go.
#[derive(Debug, Clone)]
pub struct Sink {
    /// The job, an index into [`Pipeline::jobs`].
    pub job: usize,
    /// The span of the entry in the pipeline file.
    pub span: Range<usize>,
    /// Where.
    pub target: SinkTarget,
}

/// Where a job's rows or changes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkTarget {
    /// A change stream: one message a change.
    JetStream {
        /// The stream.
        stream: String,
        /// `invoice.triggers.{trigger_key}`: literal tokens and `{column}` of the job's key.
        subject: String,
    },
    /// A table of Parquet files.
    Parquet {
        /// Where it lies.
        place: TablePlace,
        /// The columns whose values make its folders, with the place of each name; none: the table has no folders.
        partition_by: Vec<(String, Range<usize>)>,
        /// A new version at most this often.
        every: Duration,
    },
}

/// Where a table lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TablePlace {
    /// Below `--home`: a relative path without `..`.
    Home(PathBuf),
    /// In an S3-compatible store: `s3://BUCKET/PREFIX`, with nothing more in it.
    Store(Url),
}

impl fmt::Display for TablePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Home(path) => write!(f, "{}", path.display()),
            Self::Store(url) => write!(f, "{url}"),
        }
    }
}

/// When a micro-batch closes; also when the sources run dry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchLimits {
    /// Events in a batch, at most; a message of many events is taken whole.
    pub max_rows: usize,
    /// How long the first row of a batch waits, at most.
    pub max_wait: Duration,
}
