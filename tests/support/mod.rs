//! Private servers for tests: a broker here, object stores in [`s3`]. Without a nats-server a test fails with the name of the
//! script that fetches one.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod secured;
pub(crate) mod s3;

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::stream::Config;
use milepost::source::connect::{Broker, connect};
use milepost::source::server::{PrivateServer, ServerOptions};
use tempfile::TempDir;

/// A nats-server of the test's own, with a connection to it.
pub(crate) struct Nats {
    server: Option<PrivateServer>,
    store: TempDir,
    port: u16,
    pub(crate) broker: Broker,
}

impl Nats {
    pub(crate) async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    pub(crate) async fn start_with(arguments: Vec<String>) -> Self {
        let store = TempDir::new().expect("a temporary directory can be made");
        let options = ServerOptions { port: None, arguments };
        let server =
            PrivateServer::start_with(store.path(), &options).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        let broker = connect(&server.url()).await.unwrap_or_else(|error| panic!("{}", error.chain()));
        Self { port: server.port(), server: Some(server), store, broker }
    }

    /// Kills the server.
    pub(crate) fn kill(&mut self) {
        self.server = None;
    }

    /// Starts a killed server again, on what it stored and on the same port.
    pub(crate) async fn revive(&mut self) {
        let options = ServerOptions { port: Some(self.port), arguments: Vec::new() };
        let server = PrivateServer::start_with(self.store.path(), &options)
            .await
            .unwrap_or_else(|error| panic!("{}", error.chain()));
        self.server = Some(server);
    }

    /// A copy of what a killed server stored.
    pub(crate) fn backup(&self) -> TempDir {
        let backup = TempDir::new().expect("a temporary directory can be made");
        copy(self.store.path(), backup.path()).expect("the store can be copied");
        backup
    }

    /// Gives a killed server what it had stored when the backup was made.
    pub(crate) fn restore(&self, backup: &TempDir) {
        std::fs::remove_dir_all(self.store.path()).expect("the store can be removed");
        copy(backup.path(), self.store.path()).expect("the backup can be copied");
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Makes a stream on files.
    pub(crate) async fn stream(&self, name: &str, subjects: &[&str]) {
        let subjects = subjects.iter().map(|&subject| subject.to_owned()).collect();
        let configuration = Config { name: name.to_owned(), subjects, ..Config::default() };
        self.broker.jetstream().create_stream(configuration).await.expect("the stream can be made");
    }

    /// Publishes and waits for all acknowledgements.
    pub(crate) async fn publish(&self, subject: &str, bodies: impl IntoIterator<Item = String>) {
        let mut acknowledgements = VecDeque::new();
        for body in bodies {
            if acknowledgements.len() == 1_000
                && let Some(oldest) = acknowledgements.pop_front()
            {
                stored(oldest).await;
            }
            let sent = self.broker.jetstream().publish(subject.to_owned(), body.into()).await;
            acknowledgements.push_back(sent.expect("the client takes the message"));
        }
        for acknowledgement in acknowledgements {
            stored(acknowledgement).await;
        }
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy(&path, &target)? } else { std::fs::copy(&path, &target).map(|_| ())? }
    }
    Ok(())
}

async fn stored(acknowledgement: PublishAckFuture) {
    acknowledgement.await.expect("the broker stores the message");
}

/// Long enough for a read that brings something at once on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
