//! The log of commits: on every store that it may lie in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use milepost::checkpoint::commit::{LOOK_AFTER, PRUNE_AFTER};
use milepost::checkpoint::{Created, Elapsed, Entry, EpochRecord, History, Log, LogStore, Logged, ObjectLog, Writer};
use milepost::error::{Error, ErrorKind};
use milepost::types::Epoch;

use crate::fakes::{Calm, MemoryStore, Objects};
use crate::support::s3::S3Server;

/// What every store promises.
async fn conforms(store: &dyn LogStore) {
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    assert_eq!(store.read("log/1").await.unwrap(), None);
    assert_eq!(store.list("log", "").await.unwrap(), Vec::<String>::new());
    assert_eq!(store.create("log/1", text("first")).await.unwrap(), Created::Stored);
    assert_eq!(store.create("log/1", text("second")).await.unwrap(), Created::Exists);
    assert_eq!(store.read("log/1").await.unwrap(), Some(text("first")), "what is there stays");
    for name in ["log/3", "log/2", "other/9", "logs/7"] {
        assert_eq!(store.create(name, text("x")).await.unwrap(), Created::Stored);
    }
    assert_eq!(store.list("log", "").await.unwrap(), ["log/1", "log/2", "log/3"]);
    assert_eq!(store.list("log", "log/2").await.unwrap(), ["log/3"]);
    assert_eq!(store.list("log", "log/3").await.unwrap(), Vec::<String>::new());
    store.remove("log/2").await.unwrap();
    store.remove("log/2").await.unwrap();
    assert_eq!(store.list("log", "").await.unwrap(), ["log/1", "log/3"]);
    assert_eq!(store.create("log/2", text("again")).await.unwrap(), Created::Stored, "the name is free again");
    // Of many at once one wins.
    let attempts = (0..16).map(|number| store.create("log/4", Bytes::from(format!("{number}"))));
    let answers = futures::future::join_all(attempts).await;
    let won: Vec<usize> = answers
        .iter()
        .enumerate()
        .filter(|(_, answer)| matches!(answer, Ok(Created::Stored)))
        .map(|(at, _)| at)
        .collect();
    assert_eq!(won.len(), 1, "{answers:?}");
    assert_eq!(store.read("log/4").await.unwrap(), Some(Bytes::from(format!("{}", won[0]))));
}

#[tokio::test]
async fn the_store_in_memory_conforms() {
    conforms(&MemoryStore::calm()).await;
}

#[tokio::test]
async fn a_folder_conforms_and_keeps_its_condition() {
    let folder = tempfile::tempdir().unwrap();
    let store = ObjectLog::new(milepost::store::folder(folder.path()).unwrap(), Default::default(), "here");
    store.probe("nonce").await.unwrap();
    conforms(&store).await;
}

#[tokio::test]
async fn a_bucket_conforms_and_keeps_its_condition() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let server = S3Server::start();
    server.bucket("bucket");
    let store = ObjectLog::new(server.store("bucket"), "a/b".into(), "there");
    store.probe("nonce").await.unwrap();
    conforms(&store).await;
}

/// A writer with a clock that the test moves.
fn writer(nonce: &str) -> Writer {
    Writer { nonce: nonce.to_owned(), host: format!("host of {nonce}"), process: 7, started_at_us: 0 }
}

struct World {
    objects: Objects,
    clock: Arc<AtomicU64>,
}

impl World {
    fn new() -> Self {
        Self { objects: Objects::default(), clock: Arc::new(AtomicU64::new(0)) }
    }

    fn store(&self) -> Arc<dyn LogStore> {
        Arc::new(MemoryStore { objects: Arc::clone(&self.objects), trouble: Arc::new(Calm), replaces: false })
    }

    fn clock(&self) -> Elapsed {
        let clock = Arc::clone(&self.clock);
        Arc::new(move || Duration::from_secs(clock.load(Ordering::SeqCst)))
    }

    fn pass(&self, time: Duration) {
        self.clock.fetch_add(time.as_secs(), Ordering::SeqCst);
    }

    async fn open(&self, nonce: &str) -> (Log, History) {
        let opened = Log::open(self.store(), writer(nonce), self.clock(), BTreeMap::new(), &|_| Ok(())).await;
        let (log, history) = opened.unwrap_or_else(|error| panic!("{}", error.chain()));
        (log.with_fold_every(4), history)
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let folder = format!("{folder}/");
        self.objects.lock().unwrap().keys().filter(|name| name.starts_with(&folder)).cloned().collect()
    }
}

fn epoch(number: u64) -> Entry {
    Entry::Epoch(EpochRecord {
        epoch: Epoch(number),
        clock_us: Some(7),
        watermark_us: None,
        ended: false,
        inputs: Vec::new(),
    })
}

async fn commit(log: &mut Log, entry: Entry) -> Result<u64, Error> {
    let mut proposal = log.propose(entry, None)?;
    let committed = log.put(&mut proposal).await?;
    log.tend().await;
    Ok(committed.manifest().number)
}

fn records(course: &[Logged]) -> Vec<EpochRecord> {
    let record = |logged: &Logged| match logged {
        Logged::Epoch { record, .. } => Some(record.clone()),
        Logged::Adopt { .. } => None,
    };
    course.iter().filter_map(record).collect()
}

async fn epochs(world: &World) -> Vec<u64> {
    let store = world.store();
    let history = History::read(&*store).await.unwrap();
    records(&history.course(&*store).await.unwrap()).iter().map(|record| record.epoch.0).collect()
}

#[tokio::test]
async fn a_restart_finds_what_was_committed() {
    let world = World::new();
    let (mut log, history) = world.open("a").await;
    assert_eq!(history.head(), 0);
    for number in 1..=9 {
        assert_eq!(commit(&mut log, epoch(number)).await.unwrap(), number + 1, "behind the claim");
    }
    assert_eq!(epochs(&world).await, (1..=9).collect::<Vec<_>>());
    assert_eq!(world.names("folded").len(), 2, "of ten manifests eight are folded");
    let (mut again, history) = world.open("b").await;
    assert_eq!((history.head(), history.log()), (10, Some("a")));
    assert_eq!(commit(&mut again, epoch(10)).await.unwrap(), 12);
    assert_eq!(epochs(&world).await.len(), 10);
}

#[tokio::test]
async fn of_two_writers_the_first_is_fenced_and_told_by_whom() {
    let world = World::new();
    let (mut first, _) = world.open("a").await;
    commit(&mut first, epoch(1)).await.unwrap();
    let (mut second, history) = world.open("b").await;
    assert_eq!(history.head(), 2);
    let error = commit(&mut first, epoch(2)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains("process 7 on `host of b`"), "{error}");
    commit(&mut second, epoch(2)).await.unwrap();
    assert_eq!(epochs(&world).await, [1, 2]);
}

#[tokio::test]
async fn what_a_log_says_may_be_refused_before_anybody_is_fenced() {
    let world = World::new();
    let (mut first, _) = world.open("a").await;
    let refuse = |_: &History| Err(Error::new(ErrorKind::Definition, "no"));
    let refused = Log::open(world.store(), writer("b"), world.clock(), BTreeMap::new(), &refuse).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Definition));
    commit(&mut first, epoch(1)).await.unwrap();
}

#[tokio::test]
async fn a_writer_that_slept_while_its_fence_was_pruned_is_fenced() {
    let world = World::new();
    let (mut stalled, _) = world.open("a").await;
    let (mut winner, _) = world.open("b").await;
    for number in 1..=20 {
        commit(&mut winner, epoch(number)).await.unwrap();
    }
    world.pass(PRUNE_AFTER);
    commit(&mut winner, epoch(21)).await.unwrap();
    assert_eq!(world.names("log").len(), 3, "all but the last ones are pruned");
    let error = commit(&mut stalled, epoch(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "its number was free, and it looked behind it");
    assert_eq!(epochs(&world).await, (1..=21).collect::<Vec<_>>(), "what it put counts for nothing");
    let (_, history) = world.open("c").await;
    assert_eq!(history.head(), 23);
}

#[tokio::test]
async fn a_starting_writer_that_slept_takes_the_end_that_is_there() {
    let world = World::new();
    let (mut winner, _) = world.open("b").await;
    for number in 1..=20 {
        commit(&mut winner, epoch(number)).await.unwrap();
    }
    world.pass(PRUNE_AFTER);
    commit(&mut winner, epoch(21)).await.unwrap();
    // As if what it had read were of long ago: the numbers that it would try are free.
    let (_, history) = world.open("c").await;
    assert_eq!(history.head(), 22);
}

#[tokio::test]
async fn within_the_time_nobody_prunes_what_fences() {
    let world = World::new();
    let (mut stalled, _) = world.open("a").await;
    let (mut winner, _) = world.open("b").await;
    for number in 1..=20 {
        commit(&mut winner, epoch(number)).await.unwrap();
    }
    world.pass(LOOK_AFTER);
    commit(&mut winner, epoch(21)).await.unwrap();
    assert_eq!(world.names("log").len(), 23);
    assert_eq!(commit(&mut stalled, epoch(1)).await.unwrap_err().kind(), ErrorKind::Fenced);
}

#[tokio::test]
async fn damage_is_an_error_that_names_the_object_and_of_a_copy_none() {
    let world = World::new();
    let (mut log, _) = world.open("a").await;
    for number in 1..=6 {
        commit(&mut log, epoch(number)).await.unwrap();
    }
    let spoil = |name: &str| {
        let mut objects = world.objects.lock().unwrap();
        let mut bytes = objects[name].to_vec();
        let at = bytes.len() / 2;
        bytes[at] ^= 1;
        objects.insert(name.to_owned(), bytes.into());
    };
    spoil(&world.names("folded")[0]);
    assert_eq!(epochs(&world).await.len(), 6, "the manifests are still there");
    let name = world.names("log")[2].clone();
    spoil(&name);
    let error = History::read(&*world.store()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(&name) || error.chain().contains("folded/"), "{}", error.chain());
    world.objects.lock().unwrap().remove(&name);
    assert_eq!(History::read(&*world.store()).await.unwrap_err().kind(), ErrorKind::Corrupt, "a number is missing");
}

#[tokio::test]
async fn a_generation_takes_the_place_of_the_epochs_before_at_once() {
    let world = World::new();
    let (mut log, _) = world.open("a").await;
    commit(&mut log, epoch(1)).await.unwrap();
    commit(&mut log, epoch(2)).await.unwrap();
    let anew: Vec<EpochRecord> = (1..=3)
        .map(|number| EpochRecord {
            epoch: Epoch(number),
            clock_us: Some(9),
            watermark_us: None,
            ended: true,
            inputs: Vec::new(),
        })
        .collect();
    let entry = log.stage_generation(&anew).await.unwrap();
    assert_eq!(epochs(&world).await, [1, 2], "nothing is committed yet");
    commit(&mut log, entry).await.unwrap();
    commit(&mut log, epoch(4)).await.unwrap();
    let store = world.store();
    let found = records(&History::read(&*store).await.unwrap().course(&*store).await.unwrap());
    assert_eq!(found[..3], anew[..]);
    assert_eq!(found.len(), 4);
}
