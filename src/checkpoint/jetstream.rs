//! An [`Outlet`] on a JetStream stream: atomic batches (ADR-50), of which each ends in a marker.
//!
//! A batch is its messages with the headers `Nats-Batch-Id` and `Nats-Batch-Sequence`, the last one also with
//! `Nats-Batch-Commit`; the broker stores all of them at the last one, or none. Only that one is answered.

use async_nats::HeaderMap;
use async_nats::header::{
    NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL, NATS_BATCH_ID, NATS_BATCH_SEQUENCE,
    NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_EXPECTED_STREAM,
};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{Context, Error as ApiError, ErrorCode};
use futures::future::{BoxFuture, FutureExt};

use super::chain::{Marker, Sent, StoredMarker};
use super::outlet::Outlet;
use crate::error::{Error, ErrorKind, Result};
use crate::types::OutboundMessage;

/// A pipeline's chain on a stream.
pub struct JetStreamOutlet {
    context: Context,
    stream: String,
    marker_subject: String,
}

impl JetStreamOutlet {
    /// The chain whose markers stand on `marker_subject`, which the stream takes.
    pub fn new(context: &Context, stream: impl Into<String>, marker_subject: impl Into<String>) -> Self {
        Self { context: context.clone(), stream: stream.into(), marker_subject: marker_subject.into() }
    }

    /// That the broker knows atomic batches: an older one would store their messages one by one.
    ///
    /// # Errors
    /// `Definition`, naming its version.
    pub fn check_broker(context: &Context) -> Result<()> {
        let client = context.client();
        let (major, minor, patch) = OLDEST;
        if client.is_server_compatible(major, minor, patch) {
            return Ok(());
        }
        let doing = format!(
            "the broker is nats-server {}, and change streams need {major}.{minor}.{patch} or later: an older one has no atomic batches",
            client.server_info().version
        );
        Err(Error::new(ErrorKind::Definition, doing))
    }

    async fn look(&self) -> Result<Option<StoredMarker>> {
        let unavailable = |cause: String| self.unavailable("reading the last marker of", cause);
        let stream =
            self.context.get_stream_no_info(&self.stream).await.map_err(|error| unavailable(error.to_string()))?;
        match stream.get_last_raw_message_by_subject(&self.marker_subject).await {
            Ok(message) => {
                let marker = serde_json::from_slice(&message.payload).ok();
                Ok(Some(StoredMarker { sequence: message.sequence, marker }))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }

    /// A batch of which something did not arrive is not stored, nor will be: it is sent once more, as the connection may have been
    /// lost in the middle of it. If a message of it was denied, the broker's complaint has come by then.
    async fn send(&self, messages: &[OutboundMessage], marker: &Marker, expects: u64) -> Result<Sent> {
        Self::check_broker(&self.context)?;
        match self.attempt(messages, marker, expects).await? {
            Ok(sent) => Ok(sent),
            Err(error) if error.error_code() == ErrorCode::ATOMIC_PUBLISH_INCOMPLETE_BATCH => {
                match self.attempt(messages, marker, expects).await? {
                    Ok(sent) => Ok(sent),
                    Err(error) => Err(self.refused(&error)),
                }
            }
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// The inner error is the broker's refusal.
    async fn attempt(
        &self,
        messages: &[OutboundMessage],
        marker: &Marker,
        expects: u64,
    ) -> Result<Result<Sent, ApiError>> {
        let unavailable = |cause: String| self.unavailable("publishing to", cause);
        let client = self.context.client();
        // Unique, which is all that the broker wants of it.
        let id = client.new_inbox().replace('.', "-");
        let headers = |at: usize| {
            let mut headers = HeaderMap::new();
            headers.insert(NATS_BATCH_ID, id.as_str());
            headers.insert(NATS_BATCH_SEQUENCE, at.to_string());
            headers
        };
        for (message, at) in messages.iter().zip(1..) {
            let mut headers = headers(at);
            headers.insert("content-type", message.content_type.as_str());
            let sent = client.publish_with_headers(message.subject.clone(), headers, message.body.clone().into()).await;
            sent.map_err(|error| unavailable(error.to_string()))?;
        }
        let mut last = headers(messages.len() + 1);
        last.insert(NATS_BATCH_COMMIT, NATS_BATCH_COMMIT_FINAL);
        last.insert(NATS_EXPECTED_STREAM, self.stream.as_str());
        last.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expects.to_string());
        let body = serde_json::to_vec(marker)
            .map_err(|error| Error::caused(ErrorKind::Internal, "writing a marker", error))?;
        let answer = client.request_with_headers(self.marker_subject.clone(), last, body.into()).await;
        let answer = answer.map_err(|error| unavailable(error.to_string()))?;
        match serde_json::from_slice(&answer.payload) {
            Ok(Response::<PublishAck>::Ok(stored)) => Ok(Ok(Sent::Stored(stored.sequence))),
            Ok(Response::Err { error }) if is_expectation(&error) => Ok(Ok(Sent::Refused)),
            Ok(Response::Err { error }) => Ok(Err(error)),
            Err(error) => Err(unavailable(error.to_string())),
        }
    }

    fn refused(&self, error: &ApiError) -> Error {
        let kind = match error.error_code() {
            ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM | ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM => ErrorKind::Limit,
            ErrorCode::STREAM_SEALED
            | ErrorCode::STREAM_NOT_MATCH
            | ErrorCode::ATOMIC_PUBLISH_DISABLED
            | ErrorCode::ATOMIC_PUBLISH_UNSUPPORTED_HEADER => ErrorKind::Definition,
            _ => ErrorKind::Unavailable,
        };
        Error::caused(kind, format!("publishing to stream `{}`", self.stream), error.to_string())
    }

    fn unavailable(&self, doing: &str, cause: String) -> Error {
        Error::caused(ErrorKind::Unavailable, format!("{doing} stream `{}`", self.stream), cause)
    }
}

impl Outlet for JetStreamOutlet {
    fn last_marker(&self) -> BoxFuture<'_, Result<Option<StoredMarker>>> {
        self.look().boxed()
    }

    fn publish<'a>(
        &'a self,
        messages: &'a [OutboundMessage],
        marker: &'a Marker,
        expects: u64,
    ) -> BoxFuture<'a, Result<Sent>> {
        self.send(messages, marker, expects).boxed()
    }
}

/// Whether the last marker is another one than was expected.
fn is_expectation(error: &ApiError) -> bool {
    let wrong = [ErrorCode::STREAM_WRONG_LAST_SEQUENCE, ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT];
    wrong.contains(&error.error_code())
}

/// The oldest broker with atomic batches that hold what they promise.
const OLDEST: (i64, i64, i64) = (2, 12, 1);
