//! The commit protocol over seeded schedules: several workers at once on one store and one stream, each of which may be stopped,
//! resumed or ended at any moment, while requests fail before and after their effect, and some have it long after.
//!
//! What a worker does here is what the run loop does: the same log, the same order of effects, the same publication. At the end of each
//! schedule: every message once and in order, none missing, none before its commit, and the log without a gap. The same
//! schedules find each of several broken stores and brokers.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use milepost::checkpoint::chain::{Link, Marker, Sent, StoredMarker};
use milepost::checkpoint::outbox::{BatchSize, Draft};
use milepost::checkpoint::{
    AdoptedSink, Elapsed, Entry, EpochRecord, History, InputRange, JetStreamOutlet, Log, LogStore, Outlet, Owed,
    Staged, Writer, check_end, roll_forward,
};
use milepost::error::{Error, ErrorKind, Result};
use milepost::runtime::machine::{Course, Effect};
use milepost::sink::change_stream::{ensure_stream, marker_subject};
use milepost::types::{Epoch, OutboundMessage, SequenceRange};

use crate::fakes::{Fault, MemoryStore, Objects, Trouble, unavailable};
use crate::support::Nats;

const STREAM: &str = "S";

/// What is broken in a world, to see that the schedules notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// The broker stores a batch whatever its marker expects.
    Expectation,
    /// The store replaces what has a name already.
    Create,
    /// Folded manifests go at once.
    Pruning,
    /// The worker publishes before it commits.
    Order,
}

struct World {
    seed: Mutex<u64>,
    broken: Broken,
    calm: AtomicBool,
    clock: AtomicU64,
    objects: Objects,
    stream: Mutex<Stream>,
    wrong: Mutex<Vec<String>>,
    /// Key and value of each event, in order.
    events: Vec<(u64, u64)>,
    next_worker: AtomicU64,
}

#[derive(Default)]
struct Stream {
    messages: Vec<(String, String)>,
    last: Option<StoredMarker>,
    /// Batches that somebody sent, and that are still on their way.
    late: Vec<(Vec<OutboundMessage>, Marker, u64)>,
}

/// The world as a worker's requests meet it.
struct Seen(Arc<World>);

impl Trouble for Seen {
    fn fault(&self) -> Fault {
        match self.0.draw(if self.0.calm.load(Ordering::SeqCst) { 1 } else { 16 }) {
            1 => Fault::Before,
            2 => Fault::After,
            _ => Fault::None,
        }
    }

    fn pause(&self) -> BoxFuture<'_, ()> {
        if self.0.draw(2) == 0 { futures::future::ready(()).boxed() } else { Pause(false).boxed() }
    }
}

/// Waits once; whoever polls decides how long.
struct Pause(bool);

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        // Whoever has futures of its own polls again only those that ask for it.
        context.waker().wake_by_ref();
        if std::mem::replace(&mut self.0, true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl World {
    fn new(seed: u64, broken: Broken) -> Arc<Self> {
        let mut world = Self {
            seed: Mutex::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
            broken,
            calm: AtomicBool::new(false),
            clock: AtomicU64::new(0),
            objects: Objects::default(),
            stream: Mutex::default(),
            wrong: Mutex::default(),
            events: Vec::new(),
            next_worker: AtomicU64::new(0),
        };
        world.events = (1..=6 + world.draw(6)).map(|value| (world.draw(3), value)).collect();
        Arc::new(world)
    }

    /// A number below `below`.
    fn draw(&self, below: u64) -> u64 {
        let mut seed = self.seed.lock().unwrap();
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        (*seed >> 11) % below
    }

    fn note(&self, what: String) {
        self.wrong.lock().unwrap().push(what);
    }

    fn store(self: &Arc<Self>) -> Arc<dyn LogStore> {
        let trouble = Arc::new(Seen(Arc::clone(self)));
        let replaces = self.broken == Broken::Create;
        Arc::new(MemoryStore { objects: Arc::clone(&self.objects), trouble, replaces })
    }

    fn elapsed(self: &Arc<Self>) -> Elapsed {
        let world = Arc::clone(self);
        Arc::new(move || Duration::from_secs(world.clock.load(Ordering::SeqCst)))
    }

    /// Stores a batch if it may be stored.
    fn store_batch(&self, messages: &[OutboundMessage], marker: &Marker, expects: u64) -> Sent {
        let mut stream = self.stream.lock().unwrap();
        let last = stream.last.as_ref().map_or(0, |last| last.sequence);
        if last != expects && self.broken != Broken::Expectation {
            return Sent::Refused;
        }
        self.check_committed(messages, marker);
        for message in messages {
            stream.messages.push((message.subject.clone(), message.body.clone()));
        }
        // The marker has a sequence too.
        stream.messages.push((String::new(), String::new()));
        let sequence = stream.messages.len() as u64;
        stream.last = Some(StoredMarker { sequence, marker: Some(marker.clone()) });
        Sent::Stored(sequence)
    }

    /// Nothing is seen before it is committed.
    fn check_committed(&self, messages: &[OutboundMessage], marker: &Marker) {
        let objects = self.objects.lock().unwrap();
        let manifest = objects.get(&format!("log/{:020}.json", marker.manifest));
        let manifest: serde_json::Value =
            manifest.and_then(|bytes| serde_json::from_slice(bytes).ok()).unwrap_or_default();
        let here = manifest["body"]["outbox"]["messages"]["here"].as_array().cloned().unwrap_or_default();
        let is_there = |message: &OutboundMessage| here.contains(&serde_json::to_value(message).unwrap());
        if !messages.iter().all(is_there) {
            self.note(format!("batch {} of manifest {} is seen and not committed", marker.batch, marker.manifest));
        }
    }

    /// Something late has its effect.
    fn land_one(&self) {
        let late = {
            let mut stream = self.stream.lock().unwrap();
            if stream.late.is_empty() {
                return;
            }
            let at = usize::try_from(self.draw(stream.late.len() as u64)).unwrap();
            stream.late.swap_remove(at)
        };
        self.store_batch(&late.0, &late.1, late.2);
    }

    fn prune_at_once(&self) {
        let mut objects = self.objects.lock().unwrap();
        let folded = objects
            .keys()
            .filter(|name| name.starts_with("folded/"))
            .filter_map(|name| name.get(28..48)?.parse().ok())
            .max();
        let Some(folded): Option<u64> = folded else { return };
        objects.retain(|name, _| {
            name.strip_prefix("log/")
                .and_then(|name| name.get(..20)?.parse::<u64>().ok())
                .is_none_or(|number| number > folded)
        });
    }
}

struct SeenStream {
    world: Arc<World>,
    trouble: Seen,
}

impl Outlet for SeenStream {
    fn last_marker(&self) -> BoxFuture<'_, Result<Option<StoredMarker>>> {
        async move {
            self.trouble.pause().await;
            if self.trouble.fault() != Fault::None {
                return Err(unavailable());
            }
            let last = self.world.stream.lock().unwrap().last.clone();
            self.trouble.pause().await;
            Ok(last)
        }
        .boxed()
    }

    fn publish<'a>(
        &'a self,
        messages: &'a [OutboundMessage],
        marker: &'a Marker,
        expects: u64,
    ) -> BoxFuture<'a, Result<Sent>> {
        async move {
            self.trouble.pause().await;
            match self.trouble.fault() {
                Fault::Before if self.world.draw(2) == 0 => {
                    let late = (messages.to_vec(), marker.clone(), expects);
                    self.world.stream.lock().unwrap().late.push(late);
                    Err(unavailable())
                }
                Fault::Before => Err(unavailable()),
                fault => {
                    let sent = self.world.store_batch(messages, marker, expects);
                    self.trouble.pause().await;
                    if fault == Fault::After { Err(unavailable()) } else { Ok(sent) }
                }
            }
        }
        .boxed()
    }
}

/// What a worker computes: the last revision and value of each key.
#[derive(Default)]
struct Ledger(BTreeMap<u64, (u64, u64)>);

impl Ledger {
    fn messages(&mut self, events: &[(u64, u64)]) -> Draft {
        let mut touched: BTreeMap<u64, u64> = BTreeMap::new();
        touched.extend(events.iter().copied());
        let mut draft = Draft::default();
        let message = |(key, value): (u64, u64)| {
            let last = self.0.entry(key).or_default();
            *last = (last.0 + 1, value);
            OutboundMessage {
                subject: format!("k.{key}"),
                content_type: String::new(),
                body: format!("{} {value}", last.0),
            }
        };
        draft.add(STREAM, touched.into_iter().map(message).collect());
        draft
    }
}

struct Worker {
    world: Arc<World>,
    log: Log,
    outlet: SeenStream,
    ledger: Ledger,
    end: Option<Link>,
    /// The next event, from 1.
    next: u64,
    epoch: u64,
}

/// Tries again what may pass by itself, so often.
macro_rules! again {
    ($what:expr) => {{
        let mut left = 20;
        loop {
            match $what.await {
                Err(error) if error.kind() == ErrorKind::Unavailable && left > 0 => left -= 1,
                done => break done,
            }
        }
    }};
}

impl Worker {
    async fn run(world: Arc<World>) -> Result<()> {
        let number = world.next_worker.fetch_add(1, Ordering::SeqCst);
        let writer = Writer { nonce: format!("w{number}"), host: String::new(), process: 0, started_at_us: 0 };
        let opened = Log::open(world.store(), writer, world.elapsed(), BTreeMap::new(), &|_| Ok(())).await;
        let (log, history) = opened?;
        let trouble = Seen(Arc::clone(&world));
        let mut worker = Self {
            outlet: SeenStream { world: Arc::clone(&world), trouble },
            world,
            log: log.with_fold_every(2),
            ledger: Ledger::default(),
            end: None,
            next: 1,
            epoch: 0,
        };
        worker.recover(&history).await?;
        worker.go_on().await
    }

    /// Settles what is owed, and computes again what was committed.
    async fn recover(&mut self, history: &History) -> Result<()> {
        for mut owed in again!(self.log.owed(history))? {
            match &mut owed {
                Owed::Roll(roll) => {
                    again!(roll_forward(&self.outlet, roll, &|| ()))?;
                    self.end = roll.end();
                }
                Owed::End { stream, log, manifest, end } => {
                    let found = again!(self.outlet.last_marker())?;
                    check_end(stream, log, *manifest, end, found)?;
                    self.end = Some(end.clone());
                }
            }
        }
        for manifest in history.manifests() {
            let Entry::Epoch(record) = &manifest.entry else { continue };
            let range = record.inputs[0].range;
            if range.start != self.next {
                self.world.note(format!("epoch {} begins at {} instead of {}", record.epoch, range.start, self.next));
            }
            self.next = range.end;
            self.epoch = record.epoch.0;
            let draft = self.ledger.messages(self.world.events(range));
            if draft.digest().as_ref() != manifest.outbox.as_ref().map(|outbox| &outbox.sha256) {
                self.world.note(format!("epoch {} gives other messages than it did", record.epoch));
            }
        }
        if history.adopted().is_empty() {
            let found = again!(self.outlet.last_marker())?;
            let end = Link::from(found);
            self.end = Some(end.clone());
            let sinks = vec![AdoptedSink {
                job: "j".to_owned(),
                stream: STREAM.to_owned(),
                subject: "k.{k}".to_owned(),
                ledger: None,
            }];
            let ends = [(STREAM.to_owned(), end)].into_iter().collect();
            self.carry_out(Entry::Adopt { sinks, ends }, Draft::default()).await?;
        }
        Ok(())
    }

    async fn go_on(&mut self) -> Result<()> {
        while self.next <= self.world.events.len() as u64 {
            let end = (self.next + 1 + self.world.draw(3)).min(self.world.events.len() as u64 + 1);
            let range = SequenceRange { start: self.next, end };
            let draft = self.ledger.messages(self.world.events(range));
            self.epoch += 1;
            let inputs = vec![InputRange { source: "s".to_owned(), identity: "i".to_owned(), range, anchor: None }];
            let record =
                EpochRecord { epoch: Epoch(self.epoch), clock_us: None, watermark_us: None, ended: false, inputs };
            self.carry_out(Entry::Epoch(record), draft).await?;
            self.next = end;
        }
        Ok(())
    }

    async fn carry_out(&mut self, entry: Entry, draft: Draft) -> Result<()> {
        let size = BatchSize { message_bytes_max: 10_000, batch_bytes_max: 600 };
        let (end, mut course, mut entry) = (self.end.clone(), Course::default(), Some(entry));
        let early: Vec<OutboundMessage> = draft.streams.iter().flat_map(|(_, messages)| messages).cloned().collect();
        let mut staged = draft.outbox(&|_| Some((end.clone()?, size)))?.map(Staged::new);
        loop {
            match course.next() {
                Effect::Stage => {
                    if let Some(staged) = &mut staged {
                        again!(self.log.stage_outbox(staged))?;
                    }
                    course.staged();
                }
                Effect::Commit => {
                    let entry = entry.take().ok_or_else(|| Error::internal("twice"))?;
                    let mut proposal = self.log.propose(entry, staged.take())?;
                    if self.world.broken == Broken::Order {
                        let marker = Marker { log: "w0".to_owned(), manifest: proposal.number(), batch: 0, batches: 1 };
                        let expects = self.end.as_ref().map_or(0, |end| end.sequence);
                        again!(self.outlet.publish(&early, &marker, expects))?;
                    }
                    let committed = again!(self.log.put(&mut proposal))?;
                    self.log.tend().await;
                    course.committed(committed);
                }
                Effect::Publish => {
                    for roll in course.rolls() {
                        again!(roll_forward(&self.outlet, roll, &|| ()))?;
                        self.end = roll.end();
                    }
                    course.published()?;
                }
                Effect::Show => course.shown(),
                Effect::Acknowledge => {
                    let permit = course.acknowledge().ok_or_else(|| Error::internal("not out"))?;
                    drop(permit);
                    return Ok(());
                }
            }
        }
    }
}

/// Runs one schedule; returns what was wrong.
fn schedule(seed: u64, broken: Broken) -> Vec<String> {
    let world = World::new(seed, broken);
    let mut workers: Vec<BoxFuture<'static, Result<()>>> = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..400 {
        let choice = world.draw(100);
        if workers.is_empty() || (choice < 3 && workers.len() < 3) {
            workers.push(Worker::run(Arc::clone(&world)).boxed());
        }
        let at = usize::try_from(world.draw(workers.len() as u64)).unwrap();
        match choice {
            // The process is killed.
            3 => drop(workers.swap_remove(at)),
            // Time passes while everybody stands still, or only those that are not chosen for a while.
            4 => drop(world.clock.fetch_add(200 + world.draw(2_000), Ordering::SeqCst)),
            5..10 => world.land_one(),
            _ => {
                // Those at the end of the list are stalled for longer.
                let at = if world.draw(4) == 0 { at } else { 0 };
                if let Poll::Ready(ended) = workers[at].as_mut().poll(&mut context) {
                    drop(workers.swap_remove(at));
                    note_end(&world, ended);
                }
            }
        }
        world.clock.fetch_add(world.draw(3), Ordering::SeqCst);
        if broken == Broken::Pruning {
            world.prune_at_once();
        }
    }
    finish(&world, workers, &mut context);
    let mut wrong = world.wrong.lock().unwrap().clone();
    wrong.extend(wrong_in_the_end(&world));
    wrong
}

/// All is well from now on: whoever was stalled goes on, what is late lands, and one more worker does what is left.
fn finish(world: &Arc<World>, stalled: Vec<BoxFuture<'static, Result<()>>>, context: &mut Context<'_>) {
    world.calm.store(true, Ordering::SeqCst);
    for worker in [Worker::run(Arc::clone(world)).boxed()].into_iter().chain(stalled) {
        let mut worker = worker;
        let ended = (0..100_000).find_map(|_| match worker.as_mut().poll(context) {
            Poll::Ready(ended) => Some(ended),
            Poll::Pending => None,
        });
        match ended {
            Some(ended) => note_end(world, ended),
            None => world.note("a worker does not end".to_owned()),
        }
        world.land_one();
    }
    while !world.stream.lock().unwrap().late.is_empty() {
        world.land_one();
    }
}

fn note_end(world: &World, ended: Result<()>) {
    if let Err(error) = ended
        && !matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Unavailable)
    {
        world.note(error.chain());
    }
}

fn wrong_in_the_end(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut told: BTreeMap<String, Vec<(u64, u64)>> = BTreeMap::new();
    for (subject, body) in world.stream.lock().unwrap().messages.iter().filter(|(subject, _)| !subject.is_empty()) {
        let (revision, value) = body.split_once(' ').unwrap();
        told.entry(subject.clone()).or_default().push((revision.parse().unwrap(), value.parse().unwrap()));
    }
    for (subject, told) in &told {
        let in_order = told.iter().zip(1..).all(|((revision, _), due)| *revision == due);
        if !in_order || !told.is_sorted_by(|a, b| a.1 < b.1) {
            wrong.push(format!("`{subject}` was told {told:?}"));
        }
    }
    let last: BTreeMap<u64, u64> = world.events.iter().copied().collect();
    for (key, value) in last {
        let found = told.get(&format!("k.{key}")).and_then(|told| told.last()).map(|(_, value)| *value);
        if found != Some(value) {
            wrong.push(format!("the last value of {key} is {found:?} instead of {value}"));
        }
    }
    wrong
}

impl World {
    fn events(&self, range: SequenceRange) -> &[(u64, u64)] {
        let at = |sequence: u64| usize::try_from(sequence - 1).unwrap();
        &self.events[at(range.start)..at(range.end)]
    }
}

/// The first seed of some whose schedule goes wrong, and how.
fn first_wrong(seeds: std::ops::Range<u64>, broken: Broken) -> Option<(u64, Vec<String>)> {
    seeds.map(|seed| (seed, schedule(seed, broken))).find(|(_, wrong)| !wrong.is_empty())
}

#[test]
fn every_schedule_ends_with_each_message_once_in_order_and_committed() {
    let parts: Vec<_> = (0..4)
        .map(|part| std::thread::spawn(move || first_wrong(part * SCHEDULES..(part + 1) * SCHEDULES, Broken::Nothing)))
        .collect();
    for part in parts {
        let wrong = part.join().unwrap();
        assert_eq!(wrong, None, "the seed, and what is wrong");
    }
}

#[test]
fn the_schedules_notice_a_broker_that_ignores_what_a_marker_expects() {
    assert!(first_wrong(0..2_000, Broken::Expectation).is_some());
}

#[test]
fn the_schedules_notice_a_store_that_replaces_objects() {
    assert!(first_wrong(0..2_000, Broken::Create).is_some());
}

#[test]
fn the_schedules_notice_manifests_that_are_pruned_too_early() {
    assert!(first_wrong(0..5_000, Broken::Pruning).is_some());
}

#[test]
fn the_schedules_notice_what_is_published_before_it_is_committed() {
    assert!(first_wrong(0..2_000, Broken::Order).is_some());
}

/// Schedules of one of four threads.
const SCHEDULES: u64 = 3_000;

/// What every chain of batches promises.
async fn conforms(outlet: &dyn Outlet) {
    let messages = |bodies: std::ops::Range<u64>| -> Vec<OutboundMessage> {
        let message = |body: u64| OutboundMessage {
            subject: format!("k.{}", body % 3),
            content_type: "text/plain".to_owned(),
            body: body.to_string(),
        };
        bodies.map(message).collect()
    };
    let marker = |manifest: u64| Marker { log: "l".to_owned(), manifest, batch: 0, batches: 1 };
    let last = async || outlet.last_marker().await.unwrap();
    assert_eq!(last().await, None);
    assert_eq!(outlet.publish(&messages(0..2), &marker(1), 5).await.unwrap(), Sent::Refused);
    assert_eq!(last().await, None, "nothing of a refused batch is there");
    let Sent::Stored(first) = outlet.publish(&messages(0..2), &marker(1), 0).await.unwrap() else { panic!("refused") };
    assert_eq!(last().await, Some(StoredMarker { sequence: first, marker: Some(marker(1)) }));
    assert_eq!(outlet.publish(&messages(0..2), &marker(1), 0).await.unwrap(), Sent::Refused, "not twice");
    let full = outlet.publish(&messages(2..1_001), &marker(2), first).await.unwrap();
    assert_eq!(full, Sent::Stored(first + 1_000), "as many as a batch takes, and their marker");
    let (five, six) = (messages(1..4), messages(4..7));
    let (marker_three, marker_four) = (marker(3), marker(4));
    let race = futures::future::join(
        outlet.publish(&five, &marker_three, first + 1_000),
        outlet.publish(&six, &marker_four, first + 1_000),
    );
    let (one, other) = race.await;
    let stored = [one.unwrap(), other.unwrap()].map(|sent| matches!(sent, Sent::Stored(_)));
    assert_eq!(stored.iter().filter(|stored| **stored).count(), 1, "of two behind one marker one is stored");
    assert_eq!(last().await.unwrap().sequence, first + 1_004);
}

#[tokio::test]
async fn the_chain_in_memory_conforms() {
    let world = World::new(1, Broken::Nothing);
    world.calm.store(true, Ordering::SeqCst);
    let pausing = SeenStream { world: Arc::clone(&world), trouble: Seen(Arc::clone(&world)) };
    // Nobody but the schedules polls a pause that waits.
    let mut checked = conforms(&pausing).boxed();
    let mut context = Context::from_waker(Waker::noop());
    while checked.as_mut().poll(&mut context).is_pending() {}
}

#[tokio::test]
async fn a_stream_of_the_broker_conforms() {
    let nats = Nats::start().await;
    let context = nats.broker.jetstream();
    ensure_stream(context, STREAM, &["k.*".to_owned()]).await.unwrap();
    conforms(&JetStreamOutlet::new(context, STREAM, marker_subject(STREAM, "p"))).await;
}
