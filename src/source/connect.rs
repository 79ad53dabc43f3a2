//! The connection to NATS: made once, shared by sources and sinks, with what the broker complained about at hand.
//!
//! A refused permission looks like a time-out to whoever asked; only the connection hears of it. So its events are
//! logged as they come, and the last complaint is kept for the error that follows from it. What repeats is logged
//! once a minute.

#![expect(
    clippy::disallowed_methods,
    reason = "a complaint is dated, so that an old one is not blamed for a new failure; credentials expire"
)]

mod options;
mod refusal;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Client, ConnectOptions, Event, ServerError};
use tokio::sync::watch;

pub use self::options::DEFAULT_URL;
use self::options::{Prepared, Shown, prepare};
use super::repeats::Repeats;
use crate::definition::pipeline::NatsSettings;
use crate::error::{Error, ErrorKind, Result};

/// A connection to NATS with JetStream. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Broker {
    client: Client,
    jetstream: Context,
    events: Arc<Events>,
}

/// What happened to a connection.
#[derive(Debug)]
struct Events {
    /// How often the connection was lost.
    losses: watch::Sender<u64>,
    /// The last complaint and when it came.
    complaint: Mutex<Option<(Instant, String)>>,
    /// What was logged last, and how often it came since.
    logged: Mutex<Repeats>,
    /// Who the connection says it is.
    shown: Shown,
}

/// Connects to a broker that asks for no more than its address. See [`connect_with`].
///
/// # Errors
/// As [`connect_with`].
pub async fn connect(url: &str) -> Result<Broker> {
    connect_with(&NatsSettings::at(url)).await
}

/// Connects under the name `milepost`, to `nats://[user:password@|token@]host[:port]` or `tls://…`, several separated by
/// commas. A connection that is lost later is made again for ever, in the background, with the credentials that were
/// read at the start.
///
/// # Errors
/// `Definition` where an address is none, a file can't be used, or credentials are given twice; `Unavailable` where nobody
/// answers, or the broker or its certificate are not what is wanted. No error and no log line shows credentials.
pub async fn connect_with(settings: &NatsSettings) -> Result<Broker> {
    let Prepared { servers, options, shown, url } = prepare(settings, ConnectOptions::new())?;
    let events = Arc::new(Events {
        losses: watch::Sender::new(0),
        complaint: Mutex::new(None),
        logged: Mutex::new(Repeats::default()),
        shown,
    });
    let options = options
        .name("milepost")
        .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
        .connection_timeout(CONNECT_WITHIN)
        .request_timeout(Some(REQUEST_WITHIN))
        .event_callback({
            let events = Arc::clone(&events);
            move |event| {
                let events = Arc::clone(&events);
                async move { events.hear(&event) }
            }
        });
    let client = options.connect(servers.as_slice()).await;
    let client = client.map_err(|error| refusal::not_connected(&url, &error, &events.shown, now_s()))?;
    let jetstream = ContextBuilder::new().timeout(REQUEST_WITHIN).build(client.clone());
    Ok(Broker { client, jetstream, events })
}

impl Broker {
    /// The plain client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// JetStream on this connection.
    pub fn jetstream(&self) -> &Context {
        &self.jetstream
    }

    /// What the connection heard last that explains a failure since `since`: a lost connection, a refused permission,
    /// messages dropped because this client was too slow. With what to do about it, where that is known.
    pub fn complaint_since(&self, since: Instant) -> Option<String> {
        let complaint = self.events.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, text) = complaint.as_ref().filter(|(at, _)| *at >= since)?;
        Some(match refusal::advice(text, &self.events.shown, now_s()) {
            Some(advice) => format!("{text}; {advice}"),
            None => text.clone(),
        })
    }

    /// An error of this connection with what NATS complained about while it came about: to whoever asked, a refused
    /// permission is a time-out.
    pub fn explained(&self, error: Error) -> Error {
        let recently = Instant::now().checked_sub(2 * REQUEST_WITHIN).unwrap_or_else(Instant::now);
        match self.complaint_since(recently).filter(|_| error.kind() == ErrorKind::Unavailable) {
            Some(text) if !error.chain().contains(&text) => {
                Error::new(error.kind(), format!("{}; NATS says: {text}", error.chain()))
            }
            _ => error,
        }
    }

    /// Counts losses of the connection; changes at each.
    pub(crate) fn losses(&self) -> watch::Receiver<u64> {
        self.events.losses.subscribe()
    }
}

impl Events {
    fn hear(&self, event: &Event) {
        match event {
            Event::Connected => {
                *self.logged.lock().unwrap_or_else(PoisonError::into_inner) = Repeats::default();
                tracing::info!("connected to NATS");
            }
            Event::Disconnected => {
                self.losses.send_modify(|losses| *losses += 1);
                self.complain("the connection is lost".to_owned(), |text, times| {
                    tracing::warn!(times, "NATS: {text}");
                });
            }
            Event::ServerError(error) => {
                let text = match error {
                    ServerError::Other(text) => text.clone(),
                    error => error.to_string(),
                };
                self.complain(text, |error, times| tracing::error!(error, times, "NATS refuses"));
            }
            Event::Closed => tracing::debug!("the connection to NATS is closed"),
            Event::ClientError(error) => {
                self.complain(format!("connecting again fails: {error}"), |text, times| {
                    tracing::warn!(times, "NATS: {text}");
                });
            }
            Event::SlowConsumer(_) => {
                self.complain(event.to_string(), |event, times| {
                    tracing::warn!(event, times, "the connection to NATS complains");
                });
            }
            Event::LameDuckMode | Event::Draining => tracing::info!(%event, "the connection to NATS"),
        }
    }

    /// Keeps a complaint, and logs it unless it was logged a short while ago.
    fn complain(&self, text: String, log: impl FnOnce(&str, u64)) {
        let now = Instant::now();
        let due = self.logged.lock().unwrap_or_else(PoisonError::into_inner).due(&text, now);
        if let Some(times) = due {
            log(&text, times);
        }
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, text));
    }
}

/// A URL (or several) as it may be shown: user, password and token replaced by `***`.
pub fn redacted(url: &str) -> String {
    let mut shown = String::with_capacity(url.len());
    let mut pieces = url.split('@').peekable();
    while let Some(piece) = pieces.next() {
        if pieces.peek().is_none() {
            shown.push_str(piece);
        } else {
            let scheme_end = piece.rfind("://").map_or(0, |at| at + "://".len());
            shown.push_str(piece.get(..scheme_end).unwrap_or_default());
            shown.push_str("***@");
        }
    }
    shown
}

/// Seconds since 1970, to tell whether credentials have expired.
fn now_s() -> i64 {
    chrono::Utc::now().timestamp()
}

/// Messages that one subscription holds at most before the client drops some. Above what any reader asks for ahead.
const SUBSCRIPTION_MESSAGES_MAX: usize = 65_536;
/// How long making a connection may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long a request may wait for its answer.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_address_has_no_credentials() {
        for (url, shown) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("nats://ann:secret@broker:4222", "nats://***@broker:4222"),
            ("tls://token@a,nats://u:p@b", "tls://***@a,nats://***@b"),
            ("nats://u:p@ss,word@b", "nats://***@***@b"),
            ("ann:secret@broker", "***@broker"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(redacted(url), shown);
        }
    }
}
