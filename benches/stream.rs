//! End to end: from a file and from JetStream to tables, against reading the same events and only counting them.
//!
//! A private nats-server holds the events of the million bench, one a message. Each is read by a bare pull consumer
//! without acknowledgements that counts; by [`JetStreamSource`], which checks what it reads and counts; and by
//! [`JetStreamSource`] into decoder, intake, circuit and tables. The same three from an NDJSON file, against a bare
//! reader of its lines. The figures are ratios of elapsed time and of this process's CPU time, from one run.
//!
//! `EVENTS` in the environment says how many events. Needs a nats-server: `scripts/fetch-nats-server`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    reason = "a bench reads clocks, prints its figures, and knows how large its numbers are"
)]

mod support;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream;
use futures::StreamExt;
use milepost::definition::pipeline::{FileForm, FileNames, FileRoot, FileSet, Start};
use milepost::source::connect::{Broker, connect};
use milepost::source::file::FileSource;
use milepost::source::jetstream::JetStreamSource;
use milepost::source::server::PrivateServer;
use milepost::source::{ReadLimit, Rest, Source};
use support::engine::{Engine, NARROW, compiled};
use support::workload::Workload;
use support::{cpu_time, process_cpu_time, setting};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const STREAM: &str = "MILESTONES";
const SUBJECT: &str = "milestones.bench";
/// Events in a batch.
const BATCH: usize = 10_000;
/// Publications that wait for their acknowledgement, at most.
const WINDOW: usize = 1_024;
/// How often everything is measured; the best of each counts.
const ROUNDS: usize = 3;

/// What one way to read all events took.
#[derive(Debug, Clone, Copy)]
struct Cost {
    elapsed: Duration,
    cpu: Duration,
}

impl Cost {
    const NONE: Self = Self { elapsed: Duration::MAX, cpu: Duration::MAX };

    /// The best of each.
    fn or(self, other: Self) -> Self {
        Self { elapsed: self.elapsed.min(other.elapsed), cpu: self.cpu.min(other.cpu) }
    }
}

#[tokio::main]
async fn main() {
    let workload = Workload::new(setting("EVENTS", 300_000));
    let events = workload.events.len();
    println!("stream: {events} events of {} bytes on average, best of {ROUNDS} rounds", workload.event_bytes());
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("milestones.ndjson");
    write_file(&file, &workload).expect("the file is written");
    let server = PrivateServer::start(&folder.path().join("nats")).await.expect("a nats-server");
    let broker = connect(&server.url()).await.expect("a connection");
    publish(&broker, &server, &workload).await;

    let mut costs = [Cost::NONE; 6];
    for _ in 0..ROUNDS {
        let round = [
            bare_lines(&file, events),
            drain(&mut file_source(&file), None, events).await,
            drain(&mut file_source(&file), Some(Engine::new(NARROW, &workload).await), events).await,
            bare_consumer(&broker, events).await,
            drain(&mut stream_source(&broker).await, None, events).await,
            drain(&mut stream_source(&broker).await, Some(Engine::new(NARROW, &workload).await), events).await,
        ];
        for (best, cost) in costs.iter_mut().zip(round) {
            *best = best.or(cost);
        }
    }
    let [bare_file, counted_file, file_tables, bare_stream, counted_stream, stream_tables] = costs;
    report("file, lines only counted, by hand", bare_file, bare_file, events);
    report("file, messages only counted", counted_file, bare_file, events);
    report("file to tables", file_tables, bare_file, events);
    report("JetStream, bare pull consumer", bare_stream, bare_stream, events);
    report("JetStream, messages only counted", counted_stream, bare_stream, events);
    report("JetStream to tables", stream_tables, bare_stream, events);
    server.stop();
}

fn report(name: &str, cost: Cost, bare: Cost, events: usize) {
    let rate = events as f64 / cost.elapsed.as_secs_f64() / 1e3;
    let times = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64().max(1e-3);
    let (elapsed, cpu) = (times(cost.elapsed, bare.elapsed), times(cost.cpu, bare.cpu));
    let seconds = cost.cpu.as_secs_f64();
    println!(
        "stream: {name}: {rate:.0} k events/s, {seconds:.2} CPU s; ratio to bare {elapsed:.2} elapsed, {cpu:.2} CPU"
    );
}

fn write_file(path: &Path, workload: &Workload) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for event in &workload.events {
        file.write_all(event)?;
        file.write_all(b"\n")?;
    }
    file.into_inner()?.sync_all()
}

async fn publish(broker: &Broker, server: &PrivateServer, workload: &Workload) {
    let jetstream = broker.jetstream();
    let config =
        stream::Config { name: STREAM.into(), subjects: vec!["milestones.>".into()], ..stream::Config::default() };
    jetstream.create_stream(config).await.expect("a stream");
    let started = Instant::now();
    let mut waiting = VecDeque::with_capacity(WINDOW);
    for event in &workload.events {
        if waiting.len() == WINDOW
            && let Some(oldest) = waiting.pop_front()
        {
            settle(oldest).await;
        }
        waiting.push_back(jetstream.publish(SUBJECT, event.clone()).await.expect("a publication"));
    }
    for publication in waiting {
        settle(publication).await;
    }
    let server_cpu = process_cpu_time(&server.id().to_string());
    println!(
        "stream: published in {:.1} s with {WINDOW} acknowledgements outstanding, {:.1} CPU s of the server",
        started.elapsed().as_secs_f64(),
        server_cpu.as_secs_f64()
    );
}

async fn settle(publication: async_nats::jetstream::context::PublishAckFuture) {
    publication.await.expect("the broker acknowledges");
}

fn bare_lines(path: &Path, events: usize) -> Cost {
    let (started, cpu) = (Instant::now(), cpu_time());
    let mut reader = BufReader::new(File::open(path).expect("the file is there"));
    let (mut line, mut counted) = (Vec::new(), 0);
    while reader.read_until(b'\n', &mut line).expect("the file is readable") > 0 {
        counted += 1;
        line.clear();
    }
    assert_eq!(counted, events);
    Cost { elapsed: started.elapsed(), cpu: cpu_time() - cpu }
}

async fn bare_consumer(broker: &Broker, events: usize) -> Cost {
    let stream = broker.jetstream().get_stream(STREAM).await.expect("the stream");
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        deliver_policy: DeliverPolicy::All,
        memory_storage: true,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.expect("a consumer");
    let (started, cpu) = (Instant::now(), cpu_time());
    let mut messages = consumer.stream().max_messages_per_batch(BATCH).messages().await.expect("messages");
    let mut counted = 0;
    while counted < events {
        messages.next().await.expect("all events").expect("a message");
        counted += 1;
    }
    Cost { elapsed: started.elapsed(), cpu: cpu_time() - cpu }
}

fn file_source(path: &Path) -> FileSource {
    let name = path.to_string_lossy().into_owned();
    let names = FileNames::One { form: FileForm::of(&name).expect("NDJSON"), name };
    let files = FileSet { root: FileRoot::Folder(PathBuf::new()), names, watch: None, span: None };
    let contract = compiled(r#"{"type": "object", "properties": {"a": {"type": "string"}}}"#);
    FileSource::open(&files, &contract, Path::new("")).expect("the file opens")
}

async fn stream_source(broker: &Broker) -> JetStreamSource {
    JetStreamSource::open(broker, STREAM, &[], Start::All).await.expect("the stream opens")
}

/// Reads all events, and takes them in where there is an engine.
async fn drain(source: &mut dyn Source, mut engine: Option<Engine>, events: usize) -> Cost {
    let (started, cpu) = (Instant::now(), cpu_time());
    let mut counted = 0;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let limit = ReadLimit { messages: BATCH - batch.len(), before: None, wait: Duration::from_millis(100) };
        let read = source.read(limit).await.expect("the source is read");
        counted += read.messages.len();
        batch.extend(read.messages);
        let last = counted >= events || read.rest == Rest::End;
        if batch.len() == BATCH || last {
            if let Some(engine) = &mut engine {
                tokio::task::block_in_place(|| engine.take(&batch));
            }
            batch.clear();
        }
        if last {
            break;
        }
    }
    assert_eq!(counted, events);
    if let Some(engine) = engine {
        assert_eq!(engine.counts.accepted + engine.counts.duplicates, events);
    }
    Cost { elapsed: started.elapsed(), cpu: cpu_time() - cpu }
}
