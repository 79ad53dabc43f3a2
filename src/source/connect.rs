//! The connection to NATS: made once, shared by sources and sinks, with what the broker complained about at hand.
//!
//! A refused permission looks like a time-out to whoever asked; only the connection hears of it. So its events are
//! logged as they come, and the last complaint is kept for the error that follows from it.

#![expect(
    clippy::disallowed_methods,
    reason = "a complaint is dated, so that an old one is not blamed for a new failure"
)]

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Client, ConnectOptions, Event, ServerAddr, ServerError};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;

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
}

/// Connects to `url` (`nats://[user:password@|token@]host[:port]`, `tls://…`, several separated by commas) under the
/// name `milepost`. A connection that is lost later is made again for ever, in the background.
///
/// # Errors
/// `Definition` where `url` is none, `Unavailable` where nobody answers or the credentials are refused. No error and
/// no log line shows credentials.
pub async fn connect(url: &str) -> Result<Broker> {
    let servers = servers(url)?;
    let events = Arc::new(Events { losses: watch::Sender::new(0), complaint: Mutex::new(None) });
    let options = credentials(&servers, ConnectOptions::new())
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
    let client = options.connect(servers.as_slice()).await.map_err(|error| {
        Error::caused(ErrorKind::Unavailable, format!("connecting to `{}`", redacted(url)), error.to_string())
    })?;
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
    /// messages dropped because this client was too slow.
    pub fn complaint_since(&self, since: Instant) -> Option<String> {
        let complaint = self.events.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        complaint.as_ref().filter(|(at, _)| *at >= since).map(|(_, text)| text.clone())
    }

    /// Counts losses of the connection; changes at each.
    pub(crate) fn losses(&self) -> watch::Receiver<u64> {
        self.events.losses.subscribe()
    }
}

impl Events {
    fn hear(&self, event: &Event) {
        match event {
            Event::Connected => tracing::info!("connected to NATS"),
            Event::Disconnected => {
                tracing::warn!("the connection to NATS is lost");
                self.losses.send_modify(|losses| *losses += 1);
                self.keep("the connection is lost".to_owned());
            }
            Event::ServerError(ServerError::Other(text)) => {
                tracing::error!(error = %text, "NATS refuses");
                self.keep(text.clone());
            }
            Event::ServerError(error) => {
                tracing::error!(%error, "NATS refuses");
                self.keep(error.to_string());
            }
            Event::Closed => tracing::debug!("the connection to NATS is closed"),
            Event::SlowConsumer(_) | Event::ClientError(_) => {
                tracing::warn!(%event, "the connection to NATS complains");
                self.keep(event.to_string());
            }
            Event::LameDuckMode | Event::Draining => tracing::info!(%event, "the connection to NATS"),
        }
    }

    fn keep(&self, text: String) {
        *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), text));
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

fn servers(url: &str) -> Result<Vec<ServerAddr>> {
    url.split(',')
        .map(|one| {
            one.trim().parse::<ServerAddr>().map_err(|error| {
                Error::caused(ErrorKind::Definition, format!("`{}` is not a NATS address", redacted(one)), error)
            })
        })
        .collect()
}

/// The credentials of the first address that has some: `user:password@`, or a token alone.
fn credentials(servers: &[ServerAddr], options: ConnectOptions) -> ConnectOptions {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    match servers.iter().find_map(|server| server.username().map(|user| (user, server.password()))) {
        Some((user, Some(password))) => options.user_and_password(decoded(user), decoded(password)),
        Some((token, None)) => options.token(decoded(token)),
        None => options,
    }
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

    #[test]
    fn what_is_no_address_is_refused_without_showing_its_credentials() {
        let error = servers("ftp://ann:secret@broker").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Definition);
        assert!(!error.chain().contains("secret"), "{}", error.chain());
    }
}
