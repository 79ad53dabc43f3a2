//! Tables in an object store that answers, fails, loses answers and answers late.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

use super::partition_tests::{partition, published, schema};
use super::*;
use crate::error::{ErrorKind, Result};
use crate::types::Micros;

const MINUTE: Micros = 60_000_000;
const PREFIX: &str = "kpi/sites";
const URL: &str = "s3://bucket/kpi/sites";
const SITES: [Option<&str>; 4] = [None, Some("BER1"), Some("EIN1"), Some("a/b c%d")];

/// What becomes of a request to store an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It never arrives.
    Lost,
    /// It is done, and the answer is lost.
    Unanswered,
    /// The client tried it again by itself, and was told what its first try had done.
    Repeated,
    /// It is done later, after the client gave up.
    Late,
    /// It is done whatever its condition.
    Unconditional,
}

/// A store in memory, and what becomes of the next requests to store the pointer, or any file.
#[derive(Debug)]
struct Store {
    objects: InMemory,
    pointer: Mutex<Vec<Fate>>,
    files: Mutex<Vec<Fate>>,
    late: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
}

impl Store {
    fn new() -> Arc<Self> {
        let empty = || Mutex::new(Vec::new());
        Arc::new(Self { objects: InMemory::new(), pointer: empty(), files: empty(), late: Mutex::new(Vec::new()) })
    }

    fn fates(&self, path: &Path) -> &Mutex<Vec<Fate>> {
        if path.as_ref().ends_with("_current.json") { &self.pointer } else { &self.files }
    }

    async fn put_with(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        let fate = self.fates(path).lock().expect("unpoisoned").pop();
        let trouble = || object_store::Error::Generic { store: "test", source: "no answer".into() };
        match fate {
            None => self.objects.put_opts(path, payload, options).await,
            Some(Fate::Lost) => Err(trouble()),
            Some(Fate::Unanswered) => {
                self.objects.put_opts(path, payload, options).await?;
                Err(trouble())
            }
            Some(Fate::Repeated) => {
                self.objects.put_opts(path, payload.clone(), options.clone()).await?;
                self.objects.put_opts(path, payload, options).await
            }
            Some(Fate::Late) => {
                self.late.lock().expect("unpoisoned").push((path.clone(), payload, options));
                Err(trouble())
            }
            Some(Fate::Unconditional) => {
                let options = PutOptions { mode: PutMode::Overwrite, ..options };
                self.objects.put_opts(path, payload, options).await
            }
        }
    }

    /// Does what is late.
    async fn catch_up(&self) {
        let late = std::mem::take(&mut *self.late.lock().expect("unpoisoned"));
        for (path, payload, options) in late {
            drop(self.objects.put_opts(&path, payload, options).await);
        }
    }

    async fn names(&self) -> BTreeSet<String> {
        let listed: Vec<ObjectMeta> = self.objects.list(None).try_collect().await.expect("listed");
        let below = |object: &ObjectMeta| object.location.as_ref().strip_prefix("kpi/sites/").map(str::to_owned);
        listed.iter().filter_map(below).collect()
    }

    async fn text(&self, name: &str) -> Option<Bytes> {
        let path = Path::parse(format!("{PREFIX}/{name}")).expect("a path");
        match self.objects.get(&path).await {
            Err(object_store::Error::NotFound { .. }) => None,
            found => Some(found.expect("found").bytes().await.expect("read")),
        }
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store of a test")
    }
}

/// What the trait's methods return.
type Answer<'a, T> = Pin<Box<dyn Future<Output = object_store::Result<T>> + Send + 'a>>;

impl ObjectStore for Store {
    fn put_opts<'s, 'p, 'a>(&'s self, path: &'p Path, payload: PutPayload, options: PutOptions) -> Answer<'a, PutResult>
    where
        's: 'a,
        'p: 'a,
    {
        Box::pin(self.put_with(path, payload, options))
    }

    fn put_multipart_opts<'s, 'p, 'a>(
        &'s self,
        path: &'p Path,
        options: PutMultipartOptions,
    ) -> Answer<'a, Box<dyn MultipartUpload>>
    where
        's: 'a,
        'p: 'a,
    {
        self.objects.put_multipart_opts(path, options)
    }

    fn get_opts<'s, 'p, 'a>(&'s self, path: &'p Path, options: GetOptions) -> Answer<'a, GetResult>
    where
        's: 'a,
        'p: 'a,
    {
        self.objects.get_opts(path, options)
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.objects.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.objects.list(prefix)
    }

    fn list_with_delimiter<'s, 'p, 'a>(&'s self, prefix: Option<&'p Path>) -> Answer<'a, ListResult>
    where
        's: 'a,
        'p: 'a,
    {
        self.objects.list_with_delimiter(prefix)
    }

    fn copy_opts<'s, 'f, 't, 'a>(&'s self, from: &'f Path, to: &'t Path, options: CopyOptions) -> Answer<'a, ()>
    where
        's: 'a,
        'f: 'a,
        't: 'a,
    {
        self.objects.copy_opts(from, to, options)
    }
}

/// Rows (id, mark) by site, the site by its place in [`SITES`].
type Rows = BTreeMap<usize, Vec<(i64, i64)>>;

struct Table {
    store: Arc<Store>,
    writer: ObjectTable,
    rows: Rows,
    epoch: u64,
}

impl Table {
    fn new() -> Self {
        let store = Store::new();
        Self { writer: writer(&store), store, rows: Rows::new(), epoch: 0 }
    }

    fn set(&mut self, changes: &[(usize, Vec<(i64, i64)>)]) {
        self.rows.extend(changes.iter().cloned());
        self.epoch += 1;
    }

    /// One attempt to publish the sites of `touched`, or all.
    async fn attempt(&mut self, touched: Option<&BTreeSet<usize>>, now: Micros) -> Result<Published<ObjectVersion>> {
        attempt(&mut self.writer, &self.rows, self.epoch, touched, now).await
    }

    /// The same without trouble.
    async fn publish(&mut self, changes: &[(usize, Vec<(i64, i64)>)], now: Micros) -> ObjectVersion {
        self.set(changes);
        let touched: BTreeSet<usize> = changes.iter().map(|(site, _)| *site).collect();
        for touched in [Some(&touched), None] {
            if let Published::Version(version) = self.attempt(touched, now).await.expect("published") {
                return version;
            }
        }
        panic!("the whole table was not enough")
    }

    /// What a reader sees that follows the pointer must be what stands in the table.
    async fn check(&self, context: &str) {
        let current = writer(&self.store).current().await.expect("readable").expect("a version");
        assert_eq!(read(&self.store, &current).await.expect("all files"), held(&self.rows), "{context}");
    }
}

async fn attempt(
    writer: &mut ObjectTable,
    rows: &Rows,
    epoch: u64,
    touched: Option<&BTreeSet<usize>>,
    now: Micros,
) -> Result<Published<ObjectVersion>> {
    let which = rows.iter().filter(|(site, rows)| touched.map_or(!rows.is_empty(), |sites| sites.contains(site)));
    let partitions: Vec<_> = which.map(|(site, rows)| partition(SITES[*site], rows)).collect();
    let scope = if touched.is_some() { Scope::Touched } else { Scope::Whole };
    // The publication lives as long as what it is made of.
    let mut done = None;
    published(&partitions, (scope, &["site"]), epoch, |publication| {
        done = Some(futures::executor::block_on(writer.publish_partitions(publication, now)));
    });
    done.expect("called")
}

fn writer(store: &Arc<Store>) -> ObjectTable {
    let store: Arc<dyn ObjectStore> = Arc::<Store>::clone(store);
    ObjectTable::within(store, Path::from(PREFIX), URL)
}

fn held(rows: &Rows) -> Rows {
    rows.iter().filter(|(_, rows)| !rows.is_empty()).map(|(site, rows)| (*site, rows.clone())).collect()
}

/// The rows of a version's files; none if one of them is not there or is not what the version says.
async fn read(store: &Store, version: &ObjectVersion) -> Option<Rows> {
    let mut rows = Rows::new();
    for file in &version.files {
        let bytes = store.text(&file.name).await?;
        if bytes.len() as u64 != file.size_bytes {
            return None;
        }
        for batch in super::encode::decode(bytes, &schema()).expect("a whole file") {
            let sites = batch.column(0).as_string_view();
            let (ids, marks) =
                (batch.column(1).as_primitive::<Int64Type>(), batch.column(2).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let site = sites.is_valid(row).then(|| sites.value(row));
                let site = SITES.iter().position(|other| *other == site).expect("a site");
                rows.entry(site).or_default().push((ids.value(row), marks.value(row)));
            }
        }
    }
    Some(rows)
}

fn rows(range: std::ops::Range<i64>, mark: i64) -> Vec<(i64, i64)> {
    range.map(|id| (id, mark)).collect()
}

fn new_files(before: &ObjectVersion, after: &ObjectVersion) -> Vec<String> {
    let known: BTreeSet<&String> = before.files.iter().map(|file| &file.name).collect();
    after.files.iter().map(|file| &file.name).filter(|name| !known.contains(name)).cloned().collect()
}

#[tokio::test]
async fn only_partitions_that_changed_are_stored_and_the_pointer_names_the_others_where_they_are() {
    let mut table = Table::new();
    let first = table.publish(&[(0, rows(0..3, 1)), (1, rows(3..9, 1)), (3, rows(9..12, 1))], 0).await;
    let second = table.publish(&[(1, rows(3..10, 2))], MINUTE).await;
    let new = new_files(&first, &second);
    assert_eq!(new.len(), 1, "{new:?}");
    assert!(new[0].starts_with("_files/site=BER1/part-00000002-00000-"), "{}", new[0]);
    let folders: BTreeSet<_> =
        second.files.iter().filter_map(|file| file.name.rsplit_once('/')).map(|(folder, _)| folder).collect();
    assert_eq!(
        folders,
        BTreeSet::from(["_files/site=BER1", "_files/site=__HIVE_DEFAULT_PARTITION__", "_files/site=a%2Fb%20c%25d"])
    );
    assert_eq!(second.urls()[0], format!("{URL}/{}", second.files[0].name));
    table.check("after two versions").await;
    let third = table.publish(&[(1, vec![])], MINUTE).await;
    assert_eq!((third.rows, third.files.len()), (6, 2));
    table.check("without a partition").await;
}

#[tokio::test]
async fn equal_rows_at_the_same_epoch_make_no_version_and_at_another_share_all_files() {
    let mut table = Table::new();
    let first = table.publish(&[(1, rows(0..9, 1))], 0).await;
    let names = table.store.names().await;
    let again = table.attempt(None, MINUTE).await.expect("published");
    assert_eq!(again, Published::Version(first.clone()));
    let second = table.publish(&[], 2 * MINUTE).await;
    assert_eq!((second.number, &second.files), (2, &first.files));
    assert_eq!(table.store.names().await, names);
}

#[tokio::test]
async fn a_restart_takes_files_over_and_a_lost_one_is_written_anew() {
    let mut table = Table::new();
    let first = table.publish(&[(0, rows(0..3, 1)), (1, rows(3..9, 1)), (2, rows(9..12, 1))], 0).await;
    table.writer = writer(&table.store);
    let second = table.publish(&[(1, rows(3..9, 2))], MINUTE).await;
    assert_eq!(new_files(&first, &second).len(), 1);
    table.check("after a restart").await;

    let lost = Path::parse(format!("{PREFIX}/{}", second.files[0].name)).expect("a path");
    table.store.objects.delete(&lost).await.expect("deleted");
    table.writer = writer(&table.store);
    let third = table.publish(&[], MINUTE).await;
    assert_eq!(new_files(&second, &third).len(), 1);
    table.check("after a loss").await;
}

#[tokio::test]
async fn old_files_go_after_ten_minutes_also_from_a_resting_table_and_after_a_restart() {
    for restart in [false, true] {
        let mut table = Table::new();
        let first = table.publish(&[(0, rows(0..3, 1)), (1, rows(3..9, 1))], 0).await;
        let second = table.publish(&[(1, rows(3..9, 2))], 5 * MINUTE).await;
        assert_eq!(read(&table.store, &first).await.map(|rows| rows.len()), Some(2));
        let collect = async |table: &mut Table, now: Micros| match restart {
            false => table.writer.tidy(now).await,
            true => {
                table.writer = writer(&table.store);
                table.attempt(None, now).await.expect("published");
            }
        };
        collect(&mut table, 15 * MINUTE - 1).await;
        assert!(read(&table.store, &first).await.is_some(), "restart: {restart}");
        collect(&mut table, 15 * MINUTE).await;
        assert_eq!(read(&table.store, &first).await, None, "restart: {restart}");
        assert!(read(&table.store, &second).await.is_some(), "restart: {restart}");
        assert_eq!(table.store.names().await.len(), 3, "restart: {restart}");
        table.check("after collecting").await;
        table.publish(&[(0, rows(0..4, 3))], 16 * MINUTE).await;
        table.writer.tidy(1_000 * MINUTE).await;
        table.check("long after").await;
        assert_eq!(table.store.names().await.len(), 3, "restart: {restart}");
    }
}

#[tokio::test]
async fn a_writer_that_another_one_followed_is_fenced() {
    let mut table = Table::new();
    table.publish(&[(0, rows(0..3, 1))], 0).await;
    let mut other = writer(&table.store);
    let theirs = Rows::from([(1, rows(0..5, 7))]);
    attempt(&mut other, &theirs, 9, None, 0).await.expect("published");
    table.set(&[(0, rows(0..3, 2))]);
    let error = table.attempt(None, 0).await.expect_err("fenced");
    assert_eq!(error.kind(), ErrorKind::Fenced);
    assert!(error.to_string().contains(URL), "{error}");
    table.rows = theirs;
    table.check("the other one's").await;
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused_and_nothing_is_left_there() {
    let mut table = Table::new();
    table.set(&[(0, rows(0..3, 1))]);
    *table.store.files.lock().expect("unpoisoned") = vec![Fate::Unconditional; 4];
    let error = table.attempt(None, 0).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Definition);
    assert!(error.to_string().contains("`If-Match`"), "{error}");
    assert_eq!(table.store.names().await, BTreeSet::new());
}

#[tokio::test]
async fn a_damaged_pointer_is_corrupt_to_readers_and_replaced_by_the_next_publication() {
    let mut table = Table::new();
    table.publish(&[(0, rows(0..3, 1))], 0).await;
    let pointer = Path::parse(format!("{PREFIX}/_current.json")).expect("a path");
    for text in ["", "{}", "[1"] {
        table.store.objects.put(&pointer, PutPayload::from_static(text.as_bytes())).await.expect("stored");
        table.writer = writer(&table.store);
        assert_eq!(table.writer.current().await.expect_err("damaged").kind(), ErrorKind::Corrupt);
        table.publish(&[(0, rows(0..3, 2))], 0).await;
        table.check(text).await;
    }
}

#[tokio::test]
async fn a_pointer_whose_answer_is_lost_is_looked_up() {
    for fate in [Fate::Lost, Fate::Unanswered, Fate::Repeated, Fate::Late] {
        for is_first in [true, false] {
            let mut table = Table::new();
            let context = format!("{fate:?}, first: {is_first}");
            if !is_first {
                table.publish(&[(0, rows(0..3, 1)), (1, rows(3..5, 1))], 0).await;
            }
            table.set(&[(0, rows(0..4, 2)), (1, rows(4..9, 2))]);
            // What a new writer stores first is no pointer.
            *table.store.pointer.lock().expect("unpoisoned") = vec![fate];
            let done = table.attempt(None, MINUTE).await;
            assert_eq!(done.is_ok(), fate == Fate::Repeated, "{context}: {done:?}");
            let number = match table.attempt(None, MINUTE).await {
                Ok(Published::Version(version)) => version.number,
                other => panic!("{context}: {other:?}"),
            };
            let in_doubt = if is_first { 1 } else { 2 };
            let was_done = matches!(fate, Fate::Unanswered | Fate::Repeated);
            assert_eq!(number, if was_done { in_doubt } else { in_doubt + 1 }, "{context}");
            table.store.catch_up().await;
            table.check(&context).await;
            table.publish(&[(0, rows(0..1, 3))], MINUTE).await;
            table.check(&context).await;
            table.writer.tidy(60 * MINUTE).await;
            assert_eq!(table.store.names().await.len(), 3, "{context}: {:?}", table.store.names().await);
        }
    }
}

#[tokio::test]
async fn who_tries_again_does_not_store_again_what_is_there() {
    let mut table = Table::new();
    table.publish(&[(0, rows(0..3, 1)), (1, rows(3..5, 1))], 0).await;
    table.set(&[(0, rows(0..4, 2))]);
    *table.store.pointer.lock().expect("unpoisoned") = vec![Fate::Lost; 5];
    for _ in 0..5 {
        assert_eq!(table.attempt(None, MINUTE).await.expect_err("lost").kind(), ErrorKind::Unavailable);
    }
    assert_eq!(table.store.names().await.len(), 4);
    table.attempt(None, MINUTE).await.expect("published");
    table.check("at last").await;
    table.writer.tidy(11 * MINUTE).await;
    assert_eq!(table.store.names().await.len(), 3);
}

/// The same sequence for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn fates(&mut self, count: u64) -> Vec<Fate> {
        let all = [Fate::Lost, Fate::Unanswered, Fate::Repeated, Fate::Late];
        (0..self.below(count + 1)).map(|_| all[usize::try_from(self.below(4)).expect("small")]).collect()
    }
}

/// Random changes under random troubles, with restarts: whoever read a pointer finds its files for ten minutes.
async fn check_troubles(seed: u64) {
    let mut random = Random(seed);
    let mut table = Table::new();
    let mut now = 0;
    // Versions with what they held, and when another took their place.
    let mut versions: Vec<(ObjectVersion, Rows, Option<Micros>)> = Vec::new();
    let mut touched = BTreeSet::new();
    for step in 0..60 {
        let context = format!("seed {seed}, step {step}");
        now += i64::try_from(random.below(4)).expect("small") * MINUTE;
        if random.below(8) == 0 {
            table.writer = writer(&table.store);
        }
        let site = usize::try_from(random.below(4)).expect("small");
        table.set(&[(site, rows(0..i64::try_from(random.below(6)).expect("small"), step))]);
        touched.insert(site);
        *table.store.pointer.lock().expect("unpoisoned") = random.fates(2);
        *table.store.files.lock().expect("unpoisoned") = random.fates(2);
        let mut whole = false;
        loop {
            match table.attempt((!whole).then_some(&touched), now).await {
                Ok(Published::Version(version)) => {
                    touched.clear();
                    for before in versions.iter_mut().filter(|(_, _, replaced)| replaced.is_none()) {
                        before.2 = Some(now);
                    }
                    versions.push((version, held(&table.rows), None));
                    break;
                }
                Ok(Published::WholeNeeded) => whole = true,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{context}: {error}"),
            }
            if random.below(2) == 0 {
                table.store.catch_up().await;
            }
        }
        table.store.catch_up().await;
        table.check(&context).await;
        for (version, held, replaced) in &versions {
            if replaced.is_none_or(|at| now - at < KEPT_FOR) {
                assert_eq!(read(&table.store, version).await.as_ref(), Some(held), "{context}: {}", version.number);
            }
        }
    }
    // Once the troubles are over and everything is of age, only the current version is left.
    *table.store.pointer.lock().expect("unpoisoned") = Vec::new();
    *table.store.files.lock().expect("unpoisoned") = Vec::new();
    table.writer = writer(&table.store);
    table.attempt(None, now).await.expect("published");
    table.writer.tidy(now + KEPT_FOR).await;
    table.publish(&[], now + KEPT_FOR).await;
    let current = table.writer.current().await.expect("readable").expect("a version");
    let expected: BTreeSet<String> =
        current.files.iter().map(|file| file.name.clone()).chain(["_current.json".to_owned()]).collect();
    assert_eq!(table.store.names().await, expected, "seed {seed}");
}

#[tokio::test]
async fn no_trouble_takes_a_file_from_who_read_the_pointer_and_none_leaves_a_file_behind() {
    for seed in 0..12 {
        check_troubles(seed).await;
    }
}
