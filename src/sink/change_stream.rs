//! A job's ledger, read back from its stream: the last message of each of its subjects.
//!
//! The way in for who has no ledger: a home that is new, or a stream that an earlier version of Milepost published to.

use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::stream::StreamExt;

use super::changes::ChangeDesk;
use super::ledger::Ledger;
use crate::error::{Error, ErrorKind, Result};

pub use super::change_target::{StreamSize, ensure_stream, marker_filter, marker_subject};

/// What the stream says was published last of each of the job's keys.
///
/// # Errors
/// `Definition` where the subjects hold messages of another publisher; `Unavailable` where the broker doesn't answer.
pub async fn read_ledger(context: &Context, desk: &ChangeDesk) -> Result<Ledger> {
    let stream = desk.stream();
    let doing = format!("reading the ledger back from stream `{stream}`");
    let unavailable = |cause: String| Error::caused(ErrorKind::Unavailable, doing.clone(), cause);
    let configuration = pull::Config {
        description: Some("milepost".to_owned()),
        deliver_policy: DeliverPolicy::LastPerSubject,
        ack_policy: AckPolicy::None,
        filter_subject: desk.filter(),
        inactive_threshold: Duration::from_secs(60),
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let consumer = context.create_consumer_on_stream(configuration, stream).await;
    let consumer = consumer.map_err(|error| unavailable(error.to_string()))?;
    let mut ledger = Ledger::default();
    let mut remaining = consumer.cached_info().num_pending;
    let mut delivered = 0;
    while remaining > 0 {
        let wanted = usize::try_from(remaining).unwrap_or(usize::MAX).min(LEDGER_BATCH);
        let batch = consumer.batch().max_messages(wanted).expires(LEDGER_WAIT).messages().await;
        let mut batch = batch.map_err(|error| unavailable(error.to_string()))?;
        let before = delivered;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| unavailable(error.to_string()))?;
            let info = message.info().map_err(|error| unavailable(error.to_string()))?;
            delivered += 1;
            if info.consumer_sequence != delivered {
                return Err(unavailable("a message of the consumer is missing".to_owned()));
            }
            remaining = info.pending;
            desk.enter(&mut ledger, &message.subject, info.stream_sequence, &message.payload)?;
        }
        if delivered == before {
            return Err(unavailable(format!("nothing came within {LEDGER_WAIT:?}")));
        }
    }
    let info = consumer.cached_info();
    if let Err(error) = context.delete_consumer_from_stream(&info.name, stream).await {
        tracing::debug!(consumer = %info.name, %error, "left to expire");
    }
    Ok(ledger)
}

/// Messages in one request while the ledger is read back.
const LEDGER_BATCH: usize = 1_000;
/// How long such a request waits.
const LEDGER_WAIT: Duration = Duration::from_secs(10);
