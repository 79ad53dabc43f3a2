//! What a stream says about itself, and whether a position in it can still be read on from.

use async_nats::datetime;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::stream::{Config, DiscardPolicy, Info, RetentionPolicy, StorageType};

use super::connect::Broker;
use super::feed;
use crate::error::{Error, ErrorKind, Result};
use crate::types::{Micros, Sequence};

/// A stream at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StreamState {
    /// When the stream was created, in nanoseconds since 1970.
    pub(super) created_nanos: i128,
    /// The sequence at which the stream began; 1 unless it was told otherwise.
    pub(super) began_at: Sequence,
    /// The first sequence that it holds, or would hold next.
    pub(super) first: Sequence,
    /// The first sequence after everything in it.
    pub(super) end: Sequence,
}

impl StreamState {
    /// Asks the broker.
    ///
    /// None where there is no such stream.
    ///
    /// # Errors
    /// `Definition` where its retention deletes what is read; `Unavailable` where the broker doesn't answer.
    pub(super) async fn ask(broker: &Broker, stream: &str) -> Result<Option<(Self, Config)>> {
        let handle = match broker.jetstream().get_stream(stream).await {
            Ok(handle) => handle,
            Err(error) => {
                return match error.kind() {
                    GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
                    GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
                        Err(Error::new(ErrorKind::Definition, format!("`{stream}` is not a stream name")))
                    }
                    _ => Err(Error::caused(
                        ErrorKind::Unavailable,
                        format!("asking for stream `{stream}`"),
                        error.to_string(),
                    )),
                };
            }
        };
        let info = handle.cached_info();
        refuse_consuming_retention(stream, info)?;
        Ok(Some((Self::of(info), info.config.clone())))
    }

    fn of(info: &Info) -> Self {
        let end = info.state.last_sequence + 1;
        let began_at = info.config.first_sequence.unwrap_or(1).max(1);
        let first = if info.state.messages == 0 { end } else { info.state.first_sequence };
        Self { created_nanos: info.created.unix_timestamp_nanos(), began_at, first, end }
    }

    /// Whether `next` can be read next: it may not lie beyond the end, and nothing at or after it may have been removed
    /// from the front of the stream.
    ///
    /// # Errors
    /// `Corrupt` with what is wrong.
    pub(super) fn check_position(&self, stream: &str, next: Sequence) -> Result<()> {
        if next > self.end {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "stream `{stream}` ends before {}, but {next} was to be read next: it lost its tail or was created anew, and \
                     its sequences stand for other messages now",
                    self.end
                ),
            ));
        }
        if next < self.first && self.first > self.began_at {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format!(
                    "stream `{stream}` holds nothing before {}, but {next} was to be read next: messages were removed \
                     before they were read; to go on without them, begin anew with another `--home`",
                    self.first
                ),
            ));
        }
        Ok(())
    }

    /// Whether this is still the stream that was created at `created_nanos`.
    ///
    /// # Errors
    /// `Corrupt` where it isn't.
    pub(super) fn check_created(&self, stream: &str, created_nanos: i128) -> Result<()> {
        if self.created_nanos == created_nanos {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "stream `{stream}` was created anew at `{}`; the one that was read is of `{}`, and positions in it mean nothing here",
                instant(self.created_nanos),
                instant(created_nanos)
            ),
        ))
    }
}

/// The first sequence of `stream` that was stored at or after `time`; the end where there is none.
///
/// # Errors
/// `Unavailable` where the broker doesn't answer.
pub(super) async fn sequence_at(broker: &Broker, stream: &str, time: Micros) -> Result<Sequence> {
    let doing = || format!("looking for the first message of `{stream}` since `{}`", instant(i128::from(time) * 1_000));
    let start_time = datetime::from_nanos(i128::from(time) * 1_000)
        .map_err(|error| Error::caused(ErrorKind::Definition, doing(), error.to_string()))?;
    // A new consumer's position says where the broker would start; the consumer itself is not read.
    let configuration = feed::configuration(&[], DeliverPolicy::ByStartTime { start_time });
    let consumer = broker
        .jetstream()
        .create_consumer_on_stream(configuration, stream)
        .await
        .map_err(|error| Error::caused(ErrorKind::Unavailable, doing(), error.to_string()))?;
    let info = consumer.cached_info();
    let removed = broker.jetstream().delete_consumer_from_stream(&info.name, stream).await;
    if let Err(error) = removed {
        tracing::debug!(consumer = %info.name, %error, "left to expire");
    }
    Ok(info.delivered.stream_sequence + 1)
}

/// A point in time for people and for [`crate::source::Source::identity`].
pub(super) fn instant(nanos: i128) -> String {
    let nanos = i64::try_from(nanos).unwrap_or(i64::MAX);
    chrono::DateTime::from_timestamp_nanos(nanos).to_rfc3339_opts(chrono::SecondsFormat::Nanos, true)
}

/// The error of a stream that is not there.
pub(super) fn missing(stream: &str, subjects: &[String]) -> Error {
    let subjects = if subjects.is_empty() { format!("{}.>", stream.to_lowercase()) } else { subjects.join(",") };
    Error::new(
        ErrorKind::Unavailable,
        format!(
            "there is no stream `{stream}`; create it with `nats stream add {stream} --subjects \"{subjects}\" --storage file \
             --retention limits --defaults`"
        ),
    )
}

/// What of a stream's settings can remove messages that a restart has to read again, each with the way to mend it.
pub(super) fn concerns(config: &Config) -> Vec<String> {
    let name = &config.name;
    let mut concerns = Vec::new();
    if config.storage == StorageType::Memory {
        concerns.push(format!(
            "it is kept in memory, so a restart of the broker loses it; create `{name}` anew with `--storage file`"
        ));
    }
    // A stream that refuses what is new when it is full loses nothing that it holds.
    let makes_room = config.discard == DiscardPolicy::Old;
    let limits = [
        (!config.max_age.is_zero(), "max_age", "--max-age=0"),
        (config.max_messages > 0 && makes_room, "max_msgs", "--max-msgs=-1"),
        (config.max_bytes > 0 && makes_room, "max_bytes", "--max-bytes=-1"),
        (
            config.max_messages_per_subject > 0 && !(config.discard_new_per_subject && !makes_room),
            "max_msgs_per_subject",
            "--max-msgs-per-subject=-1",
        ),
    ];
    for (_, setting, mend) in limits.into_iter().filter(|(limited, ..)| *limited) {
        concerns.push(format!(
            "`{setting}` removes messages, and those that a restart has to read again must still be there; \
             `nats stream edit {name} {mend}` keeps them"
        ));
    }
    concerns
}

fn refuse_consuming_retention(stream: &str, info: &Info) -> Result<()> {
    let retention = match info.config.retention {
        RetentionPolicy::Limits => return Ok(()),
        RetentionPolicy::WorkQueue => "work",
        RetentionPolicy::Interest => "interest",
    };
    Err(Error::new(
        ErrorKind::Definition,
        format!(
            "stream `{stream}` has retention `{retention}`, which deletes messages once they are delivered, and Milepost may have to \
             read them again; create it with `--retention limits`"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_readable_if_nothing_from_it_on_is_gone_and_it_is_not_beyond_the_end() {
        // (began at, first, end, next, what the refusal says)
        for (began_at, first, end, next, refusal) in [
            (1, 1, 1, 1, None),
            (1, 1, 11, 11, None),
            (1, 1, 11, 12, Some("lost its tail")),
            (1, 5, 11, 5, None),
            (1, 5, 11, 4, Some("removed before they were read")),
            (1, 11, 11, 11, None),
            (1, 11, 11, 10, Some("removed before they were read")),
            (100, 100, 111, 1, None),
            (100, 101, 111, 1, Some("removed before they were read")),
        ] {
            let state = StreamState { created_nanos: 0, began_at, first, end };
            let found = state.check_position("S", next).err();
            match refusal {
                None => assert!(found.is_none(), "{state:?} {next}: {found:?}"),
                Some(text) => {
                    let error = found.unwrap_or_else(|| panic!("{state:?} {next} is accepted"));
                    assert_eq!(error.kind(), ErrorKind::Corrupt);
                    assert!(error.to_string().contains(text), "{error}");
                }
            }
        }
    }

    /// A change of good settings, and what is said about it.
    type Case = (fn(&mut Config), &'static [&'static str]);

    #[test]
    fn settings_that_remove_messages_are_told_with_the_command_that_mends_them() {
        let cases: [Case; 9] = [
            (|_| {}, &[]),
            (|config| config.max_messages = -1, &[]),
            (|config| config.storage = StorageType::Memory, &["`--storage file`"]),
            (|config| config.max_age = std::time::Duration::from_secs(60), &["`nats stream edit S --max-age=0`"]),
            (|config| config.max_messages = 10, &["`nats stream edit S --max-msgs=-1`"]),
            (|config| config.max_bytes = 10, &["`nats stream edit S --max-bytes=-1`"]),
            (|config| config.max_messages_per_subject = 1, &["`nats stream edit S --max-msgs-per-subject=-1`"]),
            (
                |config| {
                    config.max_bytes = 10;
                    config.discard = DiscardPolicy::New;
                },
                &[],
            ),
            (
                |config| {
                    config.max_bytes = 10;
                    config.max_age = std::time::Duration::from_secs(60);
                },
                &["--max-age=0", "--max-bytes=-1"],
            ),
        ];
        for (change, expected) in cases {
            let mut config = Config { name: "S".to_owned(), ..Config::default() };
            change(&mut config);
            let found = concerns(&config);
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.contains(expected), "{expected}: {found}");
            }
        }
    }

    #[test]
    fn another_creation_time_is_another_stream() {
        let state = StreamState { created_nanos: 1_700_000_000_000_000_001, began_at: 1, first: 1, end: 1 };
        assert!(state.check_created("S", 1_700_000_000_000_000_001).is_ok());
        let error = state.check_created("S", 1_700_000_000_000_000_000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("`2023-11-14T22:13:20.000000001Z`"), "{error}");
    }
}
