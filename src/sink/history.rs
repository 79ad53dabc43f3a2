//! A change stream read back from its first message, for whoever wants to know what it says.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::GetStreamErrorKind;
use futures::StreamExt;

use crate::error::{Error, ErrorKind, Result};

/// Gives every message of `stream` that `filter` selects to `take`, in stream order: subject, sequence, payload. What is stored
/// while it reads may be left out. False where there is no such stream.
///
/// # Errors
/// `Unavailable` where the broker doesn't answer, or a message is missing.
pub async fn read_changes(
    context: &Context,
    stream: &str,
    filter: &str,
    take: &mut (dyn FnMut(&str, u64, &[u8]) + Send),
) -> Result<bool> {
    let unavailable = |cause: String| {
        Error::caused(ErrorKind::Unavailable, format!("reading the messages of stream `{stream}`"), cause)
    };
    match context.get_stream(stream).await {
        Ok(_) => {}
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                return Ok(false);
            }
            _ => return Err(unavailable(error.to_string())),
        },
    }
    let configuration = pull::Config {
        description: Some("milepost".to_owned()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::None,
        filter_subject: filter.to_owned(),
        inactive_threshold: Duration::from_secs(60),
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let consumer = context.create_consumer_on_stream(configuration, stream).await;
    let consumer = consumer.map_err(|error| unavailable(error.to_string()))?;
    let (mut left, mut delivered) = (consumer.cached_info().num_pending, 0);
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(BATCH_MESSAGES);
        let batch = consumer.batch().max_messages(wanted).expires(BATCH_WAIT).messages().await;
        let mut batch = batch.map_err(|error| unavailable(error.to_string()))?;
        let before = delivered;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| unavailable(error.to_string()))?;
            let info = message.info().map_err(|error| unavailable(error.to_string()))?;
            delivered += 1;
            if info.consumer_sequence != delivered {
                return Err(unavailable("a message of the consumer is missing".to_owned()));
            }
            take(&message.subject, info.stream_sequence, &message.payload);
            left = left.saturating_sub(1);
        }
        if delivered == before {
            return Err(unavailable(format!("nothing came within {BATCH_WAIT:?}")));
        }
    }
    let info = consumer.cached_info();
    if let Err(error) = context.delete_consumer_from_stream(&info.name, stream).await {
        tracing::debug!(consumer = %info.name, %error, "left to expire");
    }
    Ok(true)
}

/// Messages in one request.
const BATCH_MESSAGES: usize = 1_000;
/// How long a request waits.
const BATCH_WAIT: Duration = Duration::from_secs(10);
