//! What a stream says about itself, and whether a position in it can still be read on from.

use async_nats::datetime;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, Info};

use super::connect::Broker;
use super::feed;
use super::stream_settings::{Judged, judge};
use crate::error::{Concern, Error, ErrorKind, Result};
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
    /// Asks the broker; none where there is no such stream. With the stream's settings, of which none keeps it from being read.
    ///
    /// # Errors
    /// `Definition` where a setting does; `Unavailable` where the broker doesn't answer.
    pub(super) async fn ask(broker: &Broker, stream: &str) -> Result<Option<(Self, Config)>> {
        let handle = match broker.jetstream().get_stream(stream).await {
            Ok(handle) => handle,
            Err(error) => return not_found(stream, &error).map(|()| None),
        };
        let info = handle.cached_info();
        let refused = judge(&info.config, &[]).refused;
        if refused.is_empty() {
            return Ok(Some((Self::of(info), info.config.clone())));
        }
        Err(Error::new(ErrorKind::Definition, format!("stream `{stream}` can't be read: {}", Concern::all(&refused))))
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

/// Nothing where the broker says that there is no such stream; what else went wrong otherwise.
fn not_found(stream: &str, error: &GetStreamError) -> Result<()> {
    match error.kind() {
        GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(()),
        GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
            Err(Error::new(ErrorKind::Definition, format!("`{stream}` is not a stream name")))
        }
        _ => Err(Error::caused(ErrorKind::Unavailable, format!("asking for stream `{stream}`"), error.to_string())),
    }
}

/// The error of a stream that is not there.
pub(super) fn missing(stream: &str, subjects: &[String]) -> Error {
    Error::new(ErrorKind::Unavailable, absent(stream, subjects).to_string())
}

fn absent(stream: &str, subjects: &[String]) -> Concern {
    let subjects = if subjects.is_empty() { format!("{}.>", stream.to_lowercase()) } else { subjects.join(",") };
    let mend = format!(
        "create it with `nats stream add {stream} --subjects \"{subjects}\" --storage file --retention limits --defaults`"
    );
    Concern::new(format!("there is no stream `{stream}`"), mend)
}

/// Looks at a stream from which `subjects` are read, as opening it does, and tells everything at once. How many messages it
/// holds, and what is to be said about it; a stream that is not there is one of the refusals.
///
/// # Errors
/// `Definition` where the name is none, `Unavailable` where the broker doesn't answer.
pub async fn examine(broker: &Broker, stream: &str, subjects: &[String]) -> Result<(u64, Judged)> {
    match broker.jetstream().get_stream(stream).await {
        Ok(handle) => {
            let info = handle.cached_info();
            Ok((info.state.messages, judge(&info.config, subjects)))
        }
        Err(error) => {
            not_found(stream, &error)?;
            Ok((0, Judged { refused: vec![absent(stream, subjects)], warned: Vec::new() }))
        }
    }
}

/// Makes a consumer as reading does, behind everything that the stream holds, and takes it away again: what a user may not
/// do shows here.
///
/// # Errors
/// `Unavailable` where the broker doesn't answer or doesn't let it be done.
pub async fn try_consumer(broker: &Broker, stream: &str, subjects: &[String]) -> Result<()> {
    let failed = |error: String| {
        Error::caused(ErrorKind::Unavailable, format!("trying to make a consumer of stream `{stream}`"), error)
    };
    let configuration = feed::configuration(subjects, DeliverPolicy::New);
    let consumer = broker.jetstream().create_consumer_on_stream(configuration, stream).await;
    let consumer = consumer.map_err(|error| failed(error.to_string()))?;
    let removed = broker.jetstream().delete_consumer_from_stream(&consumer.cached_info().name, stream).await;
    removed.map(|_| ()).map_err(|error| failed(error.to_string()))
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

    #[test]
    fn another_creation_time_is_another_stream() {
        let state = StreamState { created_nanos: 1_700_000_000_000_000_001, began_at: 1, first: 1, end: 1 };
        assert!(state.check_created("S", 1_700_000_000_000_000_001).is_ok());
        let error = state.check_created("S", 1_700_000_000_000_000_000).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains("`2023-11-14T22:13:20.000000001Z`"), "{error}");
    }
}
