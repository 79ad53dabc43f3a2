//! The stream that a change stream is published on: created with what the promises need, or checked, never altered.

use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};

use super::subject::{covers, encode_token};
use crate::error::{Concern, Error, ErrorKind, Result};

/// Creates `stream` for messages that `filters` select if it is missing: on files, without limits, without deletion,
/// with atomic batches, and with the subjects of [`marker_filter`]. An existing stream is checked and left as it is.
/// Several jobs may share a stream; create it with the filters of all of them.
///
/// # Errors
/// `Definition` where an existing stream doesn't take the subjects or may lose messages (the text names the setting and
/// the command that mends it), or where the broker refuses the settings; `Unavailable` where it doesn't answer.
pub async fn ensure_stream(context: &Context, stream: &str, filters: &[String]) -> Result<StreamSize> {
    let doing = || format!("opening the change stream `{stream}`");
    let existing = match context.get_stream(stream).await {
        Ok(existing) => existing,
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                create(context, stream, filters).await?;
                return Ok(size(context, -1));
            }
            GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
                return Err(Error::new(ErrorKind::Definition, format!("`{stream}` is not a stream name")));
            }
            _ => return Err(Error::caused(ErrorKind::Unavailable, doing(), error.to_string())),
        },
    };
    let problems = problems(&existing.cached_info().config, filters);
    if problems.is_empty() {
        return Ok(size(context, existing.cached_info().config.max_message_size));
    }
    let wrong = format!("stream `{stream}` can't carry changes: {}", Concern::all(&problems));
    Err(Error::new(ErrorKind::Definition, wrong))
}

/// What keeps an existing stream from carrying the changes that `filters` select; none where there is no such stream, which
/// is no problem: it will be created. Changes nothing.
///
/// # Errors
/// `Definition` where the name is none, `Unavailable` where the broker doesn't answer.
pub async fn examine(context: &Context, stream: &str, filters: &[String]) -> Result<Option<Vec<Concern>>> {
    match context.get_stream(stream).await {
        Ok(existing) => Ok(Some(problems(&existing.cached_info().config, filters))),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
                Err(Error::new(ErrorKind::Definition, format!("`{stream}` is not a stream name")))
            }
            _ => Err(Error::caused(ErrorKind::Unavailable, format!("asking for stream `{stream}`"), error.to_string())),
        },
    }
}

/// How much a stream takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamSize {
    /// Bytes of one message with its subject and headers.
    pub message_bytes_max: usize,
    /// Bytes of one message by the broker, whatever the stream says.
    pub payload_bytes_max: usize,
}

fn size(context: &Context, message_bytes: i32) -> StreamSize {
    let payload_bytes_max = context.client().server_info().max_payload;
    let of_stream = usize::try_from(message_bytes).ok().filter(|bytes| *bytes > 0);
    let message_bytes_max = of_stream.map_or(payload_bytes_max, |bytes| bytes.min(payload_bytes_max));
    StreamSize { message_bytes_max, payload_bytes_max }
}

/// The subject of a pipeline's markers on a stream.
pub fn marker_subject(stream: &str, pipeline: &str) -> String {
    format!("_milepost.{stream}.{}", encode_token(pipeline))
}

/// The subjects for a stream's marker messages, one a pipeline, outside what consumers of changes ask for.
pub fn marker_filter(stream: &str) -> String {
    format!("_milepost.{stream}.*")
}

async fn create(context: &Context, stream: &str, filters: &[String]) -> Result<()> {
    context.create_stream(settings(stream, filters)).await.map(|_| ()).map_err(|error| {
        let kind = match error.kind() {
            CreateStreamErrorKind::JetStream(cause) if cause.code() < 500 => ErrorKind::Definition,
            _ => ErrorKind::Unavailable,
        };
        Error::caused(
            kind,
            format!("creating stream `{stream}` for subjects `{}`", filters.join("`, `")),
            error.to_string(),
        )
    })
}

fn settings(stream: &str, filters: &[String]) -> Config {
    let mut subjects = filters.to_vec();
    subjects.push(marker_filter(stream));
    Config {
        name: stream.to_owned(),
        description: Some("changes published by milepost".to_owned()),
        subjects,
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_bytes: -1,
        discard: DiscardPolicy::New,
        num_replicas: 1,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        allow_atomic_publish: true,
        ..Config::default()
    }
}

/// What keeps a stream with this configuration from carrying changes, each with the way to mend it.
fn problems(config: &Config, filters: &[String]) -> Vec<Concern> {
    let name = &config.name;
    let mut problems = Vec::new();
    let needed = filters.iter().cloned().chain([marker_filter(name)]);
    let missing: Vec<String> =
        needed.filter(|filter| !config.subjects.iter().any(|subject| covers(subject, filter))).collect();
    if !missing.is_empty() {
        problems.push(Concern::new(
            format!("its subjects `{}` don't cover `{}`", config.subjects.join("`, `"), missing.join("`, `")),
            format!(
                "`nats stream edit {name} --subjects \"{}\"` adds what is missing",
                config.subjects.iter().chain(&missing).cloned().collect::<Vec<_>>().join(",")
            ),
        ));
    }
    let limits = [
        (!config.max_age.is_zero(), "max_age", "--max-age=0"),
        (config.max_messages > 0, "max_msgs", "--max-msgs=-1"),
        (config.max_messages_per_subject > 0, "max_msgs_per_subject", "--max-msgs-per-subject=-1"),
        (config.max_bytes > 0, "max_bytes", "--max-bytes=-1"),
    ];
    for (_, setting, mend) in limits.into_iter().filter(|(limited, _, _)| *limited) {
        problems.push(Concern::new(
            format!("`{setting}` removes messages that later revisions rest on"),
            format!("`nats stream edit {name} {mend}` keeps them"),
        ));
    }
    if !config.allow_atomic_publish {
        problems.push(Concern::new(
            "it takes no atomic batches".to_owned(),
            format!("`nats stream edit {name} --allow-batch` lets it take them"),
        ));
    }
    let others = [
        (
            config.retention != RetentionPolicy::Limits,
            "its retention deletes what is consumed",
            "create it with `--retention limits`",
        ),
        (
            config.storage == StorageType::Memory,
            "it forgets everything when the broker restarts",
            "create it with `--storage file`",
        ),
        (config.no_ack, "it doesn't acknowledge what it stores", "create it without `--no-ack`"),
        (config.sealed, "it is sealed", "publish on another stream"),
        (config.mirror.is_some(), "it is a mirror", "publish on its origin"),
        (config.subject_transform.is_some(), "it renames subjects", "create it without `--transform-source`"),
    ];
    let others = others.into_iter().filter(|(wrong, ..)| *wrong);
    problems.extend(others.map(|(_, wrong, mend)| Concern::new(wrong, mend)));
    problems
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A change of good settings, and the remedy that must be named.
    type Case = (fn(&mut Config), Option<&'static str>);

    #[test]
    fn each_setting_that_may_lose_messages_is_named_with_its_remedy() {
        let good = || settings("T", &["t.*".to_owned()]);
        let cases: [Case; 13] = [
            (|_| {}, None),
            (|config| config.subjects = vec!["t.>".to_owned(), "_milepost.>".to_owned()], None),
            (|config| config.allow_atomic_publish = false, Some("`nats stream edit T --allow-batch`")),
            (|config| config.max_messages = 0, None),
            (
                |config| config.subjects = vec!["t.a".to_owned(), "_milepost.T.*".to_owned()],
                Some("`nats stream edit T --subjects \"t.a,_milepost.T.*,t.*\"`"),
            ),
            (|config| config.max_age = Duration::from_secs(60), Some("`nats stream edit T --max-age=0`")),
            (|config| config.max_messages = 10, Some("`nats stream edit T --max-msgs=-1`")),
            (|config| config.max_messages_per_subject = 1, Some("`nats stream edit T --max-msgs-per-subject=-1`")),
            (|config| config.max_bytes = 10, Some("`nats stream edit T --max-bytes=-1`")),
            (|config| config.retention = RetentionPolicy::WorkQueue, Some("`--retention limits`")),
            (|config| config.storage = StorageType::Memory, Some("`--storage file`")),
            (|config| config.no_ack = true, Some("`--no-ack`")),
            (|config| config.sealed = true, Some("sealed")),
        ];
        for (change, expected) in cases {
            let mut config = good();
            change(&mut config);
            let found = problems(&config, &["t.*".to_owned()]);
            match expected {
                None => assert!(found.is_empty(), "{found:?}"),
                Some(text) => assert!(found.len() == 1 && found[0].to_string().contains(text), "{text}: {found:?}"),
            }
        }
    }
}
