//! One consumer's life: an ephemeral AckNone pull consumer from a given sequence, read ahead within bounds.
//!
//! A feed never repairs itself. Whatever is not the next message of its consumer ends it with a reason, and its owner
//! opens another one at its own position.
//!
//! Read-ahead: a new pull request goes out when half of the last one is used up, so that at most two are open. They
//! bound what lies between broker and reader to [`MESSAGES_AHEAD`] and a half messages and twice the request's bytes.

use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy, ReplayPolicy, pull};
use async_nats::jetstream::stream::ConsumerError;
use async_nats::{Message, StatusCode, Subject, Subscriber};
use futures::{FutureExt, StreamExt};

use super::delivery::Delivery;

/// A consumer being read.
pub(super) struct Feed {
    consumer: Consumer<pull::Config>,
    context: Context,
    subscriber: Subscriber,
    inbox: Subject,
    /// What each pull request asks for.
    request: pull::BatchConfig,
    /// How many messages open requests may still bring.
    requested: usize,
    /// The consumer sequence of the last message.
    delivered: u64,
    /// How many messages the consumer has beyond those delivered, as far as is known.
    pending: u64,
    /// Since when nothing was heard although somebody listened.
    silent_since: Option<Instant>,
}

/// What came out of a feed.
pub(super) enum Heard {
    /// The next message.
    Message(Message, Delivery),
    /// A sign of life while there is nothing to deliver.
    Heartbeat,
    /// The feed is over, for this reason.
    Lost(String),
}

impl Feed {
    /// A consumer of `stream` that starts at `start` and delivers what `filter` selects (all where it is empty).
    pub(super) async fn open(
        context: &Context,
        stream: &str,
        filter: &[String],
        start: u64,
    ) -> Result<Self, OpenError> {
        let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: start };
        let consumer = context.create_consumer_on_stream(configuration(filter, deliver_policy), stream).await?;
        let inbox = Subject::from(context.client().new_inbox());
        let subscriber =
            context.client().subscribe(inbox.clone()).await.map_err(|error| OpenError::Subscribe(error.to_string()))?;
        let request = pull::BatchConfig {
            batch: MESSAGES_AHEAD,
            expires: Some(REQUEST_EXPIRES),
            // A request smaller than one message would never be served.
            max_bytes: BYTES_AHEAD.max(2 * context.client().server_info().max_payload),
            idle_heartbeat: HEARTBEAT_EVERY,
            ..pull::BatchConfig::default()
        };
        let pending = consumer.cached_info().num_pending;
        let context = context.clone();
        Ok(Self {
            consumer,
            context,
            subscriber,
            inbox,
            request,
            requested: 0,
            delivered: 0,
            pending,
            silent_since: None,
        })
    }

    /// How many messages the consumer has beyond those that came out, as far as is known.
    pub(super) fn pending(&self) -> u64 {
        self.pending
    }

    /// Asks for more messages if half of what was asked for has come.
    pub(super) async fn ask(&mut self) -> Result<(), String> {
        if self.requested > MESSAGES_AHEAD / 2 {
            return Ok(());
        }
        let asked = self.consumer.request_batch(self.request.clone(), self.inbox.clone()).await;
        asked.map_err(|error| format!("the pull request failed: {error}"))?;
        self.requested += MESSAGES_AHEAD;
        Ok(())
    }

    /// What has already arrived; none: nothing.
    pub(super) fn ready(&mut self) -> Option<Heard> {
        // Without `unconstrained` the task's budget would make a full queue look empty.
        tokio::task::unconstrained(self.next()).now_or_never()
    }

    /// The next thing to arrive. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            let Some(message) = self.subscriber.next().await else {
                return Heard::Lost("the subscription ended".to_owned());
            };
            self.silent_since = None;
            if let Some(heard) = self.judge(message) {
                return heard;
            }
        }
    }

    /// When to give this feed up if nothing comes until then. To be asked when nothing is [`Feed::ready`].
    pub(super) fn silence_deadline(&mut self, now: Instant) -> Instant {
        *self.silent_since.get_or_insert(now) + SILENCE_MAX
    }

    /// Asks the broker whether the consumer has delivered everything it had, and everything delivered has come out.
    pub(super) async fn is_drained(&mut self) -> Result<bool, String> {
        let info =
            self.consumer.get_info().await.map_err(|error| format!("the consumer's state is not known: {error}"))?;
        let under_way = info.delivered.consumer_sequence.saturating_sub(self.delivered);
        self.pending = info.num_pending + under_way;
        Ok(self.pending == 0)
    }

    /// Removes the consumer from the broker, which would otherwise do so itself some time later.
    pub(super) async fn close(self) {
        let info = self.consumer.cached_info();
        let deleted = self.context.delete_consumer_from_stream(&info.name, &info.stream_name).await;
        if let Err(error) = deleted {
            tracing::debug!(consumer = %info.name, %error, "left to expire");
        }
    }

    /// What a message on the inbox means; none: only bookkeeping.
    fn judge(&mut self, message: Message) -> Option<Heard> {
        match message.status {
            None | Some(StatusCode::OK) => Some(self.deliver(message)),
            Some(StatusCode::IDLE_HEARTBEAT) => Some(Heard::Heartbeat),
            Some(status) => match unserved(&message) {
                // The request has ended (expired, or full by bytes): what it did not bring is to be asked for again.
                Some(unserved) => {
                    self.requested = self.requested.saturating_sub(unserved);
                    Some(Heard::Heartbeat)
                }
                None => {
                    let description = message.description.unwrap_or_default();
                    Some(Heard::Lost(format!("the consumer ended with status {status} {description}")))
                }
            },
        }
    }

    fn deliver(&mut self, message: Message) -> Heard {
        let Some(delivery) = message.reply.as_deref().and_then(Delivery::parse) else {
            return Heard::Lost("a message without its place in the stream".to_owned());
        };
        let expected = self.delivered + 1;
        if delivery.consumer_sequence != expected {
            return Heard::Lost(format!(
                "message {} of the consumer came in place of {expected}",
                delivery.consumer_sequence
            ));
        }
        self.delivered = expected;
        self.pending = delivery.pending;
        self.requested = self.requested.saturating_sub(1);
        Heard::Message(message, delivery)
    }
}

/// Why a feed could not be opened.
pub(super) enum OpenError {
    /// The broker didn't make the consumer.
    Consumer(ConsumerError),
    /// The connection didn't make the subscription.
    Subscribe(String),
}

impl From<ConsumerError> for OpenError {
    fn from(error: ConsumerError) -> Self {
        Self::Consumer(error)
    }
}

/// A consumer that acknowledges nothing, keeps nothing, and is forgotten by itself.
pub(super) fn configuration(filter: &[String], deliver_policy: DeliverPolicy) -> pull::Config {
    let (filter_subject, filter_subjects) = match filter {
        [one] => (one.clone(), Vec::new()),
        several => (String::new(), several.to_vec()),
    };
    pull::Config {
        description: Some("milepost".to_owned()),
        deliver_policy,
        ack_policy: AckPolicy::None,
        replay_policy: ReplayPolicy::Instant,
        filter_subject,
        filter_subjects,
        inactive_threshold: FORGOTTEN_AFTER,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    }
}

/// How many of its messages an ended request did not bring; none where the status says nothing about a request.
fn unserved(message: &Message) -> Option<usize> {
    message.headers.as_ref()?.get("Nats-Pending-Messages")?.as_str().parse().ok()
}

/// Messages that one pull request asks for.
const MESSAGES_AHEAD: usize = 8_192;
/// Bytes that one pull request asks for, or twice the broker's largest message if that is more.
const BYTES_AHEAD: usize = 16 * 1024 * 1024;
/// How long the broker keeps a pull request.
const REQUEST_EXPIRES: Duration = Duration::from_secs(30);
/// How often the broker shows that it is alive while it has nothing to deliver.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(2);
/// After this much silence the consumer is taken as gone: two heartbeats and some grace.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// After this much disuse the broker removes the consumer.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(120);
