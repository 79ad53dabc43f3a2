//! The format of the pipeline file as data: which fields there are, what each takes, which are needed, which are to come.
//! The reader and `milepost schema` both follow these tables, so neither can know a field that the other does not.

use super::read::Later;

/// A kind of mapping in the pipeline file.
#[derive(Debug)]
pub(crate) struct Shape {
    /// For messages: `a source`.
    pub(crate) what: &'static str,
    /// In the order in which help lists them.
    pub(crate) fields: &'static [Field],
    /// Fields that are recognised and refused.
    pub(crate) later: &'static [Later],
}

/// One field of a mapping.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) need: Need,
    /// One sentence for the JSON Schema.
    pub(crate) about: &'static str,
}

/// Whether a field may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Required,
    Optional,
    /// Exactly one of the fields marked so must be there.
    OneOf,
    /// At most one of the fields marked so may be there.
    AtMostOne,
}

/// What a field takes.
#[derive(Debug)]
pub(crate) enum Form {
    /// A text that is not empty.
    Text,
    /// The name of a pipeline: also `-`.
    PipelineName,
    /// A number with a unit.
    Duration,
    /// A percentage.
    Share,
    /// A whole number, both bounds included.
    Integer(u64, u64),
    /// `true` or `false`.
    Boolean,
    /// One of some words.
    Choice(&'static [&'static str]),
    /// A list of texts, at least one.
    Texts,
    /// A mapping.
    One(&'static Shape),
    /// A mapping from names to mappings.
    Named(&'static Shape),
    /// A list of mappings.
    Many(&'static Shape),
    /// The short form, or the long.
    Either(&'static Form, &'static Form),
}

/// The most events that one micro-batch may hold.
pub(crate) const BATCH_ROWS_MAX: u64 = 1_000_000;

/// The values of `clock`.
pub(crate) const CLOCKS: &[&str] = &["broker", "event_time"];

/// The values of `late`.
pub(crate) const LATE: &[&str] = &["apply", "divert", "drop"];

/// The values of `keep`.
pub(crate) const KEEP: &[&str] = &["full", "redacted", "reference"];

/// The most events that a share of dead letters may be taken over.
pub(crate) const BUDGET_EVENTS_MAX: u64 = 1_000_000_000;

const fn field(name: &'static str, form: Form, need: Need, about: &'static str) -> Field {
    Field { name, form, need, about }
}

const fn later(name: &'static str, instead: &'static str) -> Later {
    Later { name, instead }
}

const OWNER: Field = field("owner", Form::Text, Need::Optional, "Who answers for it.");
const DESCRIPTION: Field = field("description", Form::Text, Need::Optional, "What it is for.");
const SLO: Field = field("slo", Form::Text, Need::Optional, "What its readers may expect, in words.");

const HISTORY_FIELD: Field = field(
    "history",
    Form::Either(&Form::Boolean, &HISTORY_COLUMNS),
    Need::Optional,
    "Whether there is also the table `NAME_history`, with every version of the rows and when it stood; `false`.",
);

/// The whole file.
pub(crate) static PIPELINE: Shape = Shape {
    what: "a pipeline",
    fields: &[
        field("pipeline", Form::PipelineName, Need::Required, "Names the state directory, consumers and metrics."),
        OWNER,
        DESCRIPTION,
        SLO,
        field(
            "clock",
            Form::Choice(CLOCKS),
            Need::Optional,
            "Where time comes from; `broker` if a source is a JetStream one.",
        ),
        field("nats", Form::One(&NATS), Need::Optional, "How to reach the broker; `--nats` and `--nats-creds` win."),
        field(
            "state",
            Form::Text,
            Need::Optional,
            "Where commits lie, as `s3://BUCKET/PREFIX` or `file:///PATH`; below `--home`.",
        ),
        field("sources", Form::Named(&SOURCE), Need::Required, "The tables that jobs read, by the name that SQL uses."),
        field("jobs", Form::Named(&JOB), Need::Required, "One SELECT each, by the name that SQL uses."),
        field("sinks", Form::Many(&SINK), Need::Optional, "Where the rows or the changes of a job go."),
        field("batch", Form::One(&BATCH), Need::Optional, "When a micro-batch closes; also when the sources run dry."),
    ],
    later: &[],
};

pub(crate) static NATS: Shape = Shape {
    what: "`nats`",
    fields: &[
        field("url", Form::Text, Need::Optional, "Where the broker is; several addresses separated by commas."),
        field("credentials", Form::Text, Need::AtMostOne, "A credentials file (`.creds`), relative to this file."),
        field("nkey", Form::Text, Need::AtMostOne, "A file with an nkey seed, relative to this file."),
        field("token", Form::Text, Need::AtMostOne, "A token, as a variable."),
        field("user", Form::Text, Need::AtMostOne, "A user, with `password`."),
        field("password", Form::Text, Need::Optional, "The user's password, as a variable."),
        field("tls", Form::One(&TLS), Need::Optional, "TLS whatever the address says."),
    ],
    later: &[],
};

pub(crate) static TLS: Shape = Shape {
    what: "`tls`",
    fields: &[
        field(
            "ca",
            Form::Text,
            Need::Optional,
            "PEM certificates that the broker's goes back to; those of the system.",
        ),
        field("certificate", Form::Text, Need::Optional, "The client's own PEM certificate, with `key`."),
        field("key", Form::Text, Need::Optional, "The PEM key of `certificate`."),
        field(
            "first",
            Form::Boolean,
            Need::Optional,
            "Whether the handshake comes before the broker's first word; `false`.",
        ),
    ],
    later: &[],
};

pub(crate) static SOURCE: Shape = Shape {
    what: "a source",
    fields: &[
        field("contract", Form::Text, Need::Required, "The contract, a JSON Schema file, relative to this file."),
        field("jetstream", Form::One(&STREAM_INPUT), Need::OneOf, "Read from a stream."),
        field(
            "files",
            Form::Text,
            Need::OneOf,
            "Read from files (`.ndjson`, `.jsonl`, `.json`, `.csv`, also with `.gz` or `.zst`, and `.parquet`): a path \
             relative to this file, a glob, a folder that ends with `/`, or the same in a bucket (`s3://BUCKET/KEY`).",
        ),
        field(
            "watch",
            Form::Either(&Form::Boolean, &Form::One(&WATCH)),
            Need::Optional,
            "Whether files that appear later are read too; `false`.",
        ),
        field("unique", Form::Texts, Need::AtMostOne, "Of rows with the same values in these columns the first wins."),
        field(
            "upsert",
            Form::Either(&Form::Texts, &Form::One(&UPSERT)),
            Need::AtMostOne,
            "The last row of a key is the key's row.",
        ),
        field("deleted", Form::Text, Need::Optional, "A boolean column; true removes the key's row."),
        field(
            "snapshot",
            Form::One(&SNAPSHOT),
            Need::Optional,
            "Each version of an upsert source is complete for its `by`; keys that it leaves out are gone.",
        ),
        field(
            "event_time",
            Form::Either(&Form::Text, &Form::One(&EVENT_TIME)),
            Need::Optional,
            "The column that says when it happened.",
        ),
        field("late", Form::Choice(LATE), Need::Optional, "What happens to a row behind the watermark; `apply`."),
        HISTORY_FIELD,
        field(
            "retain",
            Form::Either(&Form::Duration, &Form::One(&RETAIN)),
            Need::Optional,
            "Rows this far behind the source's watermark, or of a closed key, are late, so that state may forget the others.",
        ),
        field(
            "dead_letters",
            Form::One(&DEAD_LETTERS),
            Need::Optional,
            "How many events may be bad, and what is kept of them.",
        ),
        OWNER,
        DESCRIPTION,
        SLO,
    ],
    later: &[later("archive", "leave it out: `start: all` replays from the stream, as far back as the stream reaches")],
};

pub(crate) static STREAM_INPUT: Shape = Shape {
    what: "`jetstream` of a source",
    fields: &[
        field("stream", Form::Text, Need::Required, "The stream's name."),
        field("subjects", Form::Texts, Need::Required, "The subjects to read; `*` and `>` as in NATS."),
        field(
            "start",
            Form::Either(&Form::Choice(&["all"]), &Form::One(&START)),
            Need::Optional,
            "Where to start the first time; `all`.",
        ),
    ],
    later: &[],
};

pub(crate) static START: Shape = Shape {
    what: "`start`",
    fields: &[
        field("sequence", Form::Integer(1, u64::MAX), Need::OneOf, "The first stream sequence to read."),
        field("time", Form::Text, Need::OneOf, "Messages received from this instant on, RFC 3339 with an offset."),
    ],
    later: &[],
};

pub(crate) static WATCH: Shape = Shape {
    what: "`watch`",
    fields: &[field("every", Form::Duration, Need::Required, "How often new files are looked for; `1s`.")],
    later: &[],
};

pub(crate) static UPSERT: Shape = Shape {
    what: "`upsert`",
    fields: &[
        field("key", Form::Texts, Need::Required, "The columns that name a row."),
        field("order_by", Form::Text, Need::Optional, "The row with the highest value wins, not the last."),
    ],
    later: &[],
};

pub(crate) static SNAPSHOT: Shape = Shape {
    what: "`snapshot`",
    fields: &[
        field("by", Form::Texts, Need::Required, "Columns of the key; a version is complete for each of their values."),
        field("version", Form::Text, Need::Required, "The column whose highest value is the newest version."),
    ],
    later: &[],
};

static HISTORY_COLUMNS: Form = Form::One(&HISTORY);

pub(crate) static HISTORY: Shape = Shape {
    what: "`history`",
    fields: &[
        field("from", Form::Text, Need::Optional, "The column that says since when a version stands."),
        field("to", Form::Text, Need::Optional, "The column that says until when it stood; null while it stands."),
    ],
    later: &[],
};

pub(crate) static EVENT_TIME: Shape = Shape {
    what: "`event_time`",
    fields: &[
        field("column", Form::Text, Need::Required, "A date-time column of the contract."),
        field("lateness", Form::Duration, Need::Optional, "How far the watermark stays behind the newest event; `0s`."),
        field("when", Form::Text, Need::Optional, "Only rows that satisfy this SQL predicate move the watermark."),
        field("idle", Form::Duration, Need::Optional, "After this much silence the source follows the clock; never."),
    ],
    later: &[],
};

pub(crate) static RETAIN: Shape = Shape {
    what: "`retain`",
    fields: &[
        field("for", Form::Duration, Need::OneOf, "Until they are this far behind the source's watermark."),
        field("once", Form::Text, Need::OneOf, "Until a row of their key satisfies this SQL predicate."),
        field("key", Form::Texts, Need::Optional, "The columns that name what `once` closes."),
        field(
            "after",
            Form::Duration,
            Need::Optional,
            "The key stays open until the source's watermark has passed the row that closes it by this much; not at all.",
        ),
    ],
    later: &[],
};

pub(crate) static DEAD_LETTERS: Shape = Shape {
    what: "`dead_letters`",
    fields: &[
        field(
            "max_share",
            Form::Share,
            Need::Optional,
            "More than this share of bad events, as `1%`, stops the pipeline; never.",
        ),
        field(
            "after",
            Form::Integer(1, BUDGET_EVENTS_MAX),
            Need::Optional,
            "The share is that of the last so many events, and of no fewer; 10000.",
        ),
        field("keep", Form::Choice(KEEP), Need::Optional, "What is kept of a bad event; `full`."),
    ],
    later: &[],
};

pub(crate) static JOB: Shape = Shape {
    what: "a job",
    fields: &[
        field("sql", Form::Text, Need::Required, "The file with the SELECT, relative to this file."),
        field("key", Form::Texts, Need::Optional, "The job's grain: the columns that name a row."),
        HISTORY_FIELD,
        OWNER,
        DESCRIPTION,
        SLO,
    ],
    later: &[later("retain", "say `retain` of the sources that it reads: what they forget is forgotten here")],
};

pub(crate) static SINK: Shape = Shape {
    what: "a sink",
    fields: &[
        field("job", Form::Text, Need::Required, "The job whose rows or changes go there."),
        field("jetstream", Form::One(&STREAM_SINK), Need::OneOf, "A change stream: one message a change."),
        field("parquet", Form::One(&PARQUET_SINK), Need::OneOf, "A table of Parquet files."),
    ],
    later: &[],
};

pub(crate) static STREAM_SINK: Shape = Shape {
    what: "`jetstream` of a sink",
    fields: &[
        field("stream", Form::Text, Need::Required, "The stream's name; it is created if it is missing."),
        field(
            "subject",
            Form::Text,
            Need::Required,
            "Literal tokens and, for each column of the job's key, `{column}`.",
        ),
    ],
    later: &[],
};

pub(crate) static PARQUET_SINK: Shape = Shape {
    what: "`parquet`",
    fields: &[
        field(
            "path",
            Form::Text,
            Need::Required,
            "Where the table lies: a path relative to `--home`, or `s3://BUCKET/PREFIX`.",
        ),
        field(
            "partition_by",
            Form::Texts,
            Need::Optional,
            "Rows with the same values in these columns share a folder; only folders that changed are written anew.",
        ),
        field("every", Form::Duration, Need::Optional, "A new version at most this often; `5s`."),
    ],
    later: &[],
};

pub(crate) static BATCH: Shape = Shape {
    what: "`batch`",
    fields: &[
        field("max_rows", Form::Integer(1, BATCH_ROWS_MAX), Need::Optional, "Events in a batch, at most; 16384."),
        field("max_wait", Form::Duration, Need::Optional, "How long the first row of a batch waits, at most; `100ms`."),
    ],
    later: &[],
};
