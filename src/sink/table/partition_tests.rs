//! Partitioned tables on a real disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use tempfile::TempDir;

use super::store::Step;
use super::*;
use crate::error::{Error, ErrorKind, Result};
use crate::sink::Stamp;
use crate::state::Partition;
use crate::types::{Epoch, Micros};

const PATH: &str = "kpi/sites";
const LIMITS: FileLimits = FileLimits { rows_min: 20, rows_spread: 20, rows_max: 60, group_rows_max: 30 };
const MINUTE: Micros = 60_000_000;

/// Rows (id, mark) by site.
type Rows = BTreeMap<Option<&'static str>, Vec<(i64, i64)>>;

/// A site and the rows that it is to have.
type Change = (Option<&'static str>, Vec<(i64, i64)>);

fn meta(epoch: u64) -> TableMeta {
    let stamp = Stamp { epoch: Epoch(epoch), clock: Some(1_000), watermark: None };
    TableMeta { pipeline: "p".to_owned(), job: "sites".to_owned(), stamp }
}

pub(super) fn schema() -> SchemaRef {
    let field = |name, data_type, nullable| Field::new(name, data_type, nullable);
    let columns =
        [("site", DataType::Utf8View, true), ("id", DataType::Int64, false), ("mark", DataType::Int64, false)];
    Arc::new(Schema::new(columns.map(|(name, data_type, nullable)| field(name, data_type, nullable)).to_vec()))
}

/// The partition of a site.
pub(super) fn partition(site: Option<&str>, rows: &[(i64, i64)]) -> Partition {
    let sites = StringViewArray::from_iter(rows.iter().map(|_| site));
    let ids = Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id));
    let marks = Int64Array::from_iter_values(rows.iter().map(|(_, mark)| *mark));
    let batch = RecordBatch::try_new(schema(), vec![Arc::new(sites), Arc::new(ids), Arc::new(marks)]);
    let values = RecordBatch::try_new(
        Arc::new(schema().project(&[0]).expect("a column")),
        vec![Arc::new(StringViewArray::from(vec![site]))],
    );
    let rows = if rows.is_empty() { Vec::new() } else { vec![batch.expect("a batch")] };
    Partition { values: values.expect("a batch"), rows }
}

/// Calls `publish` with a publication of these partitions.
pub(super) fn published<T>(
    partitions: &[Partition],
    (scope, partition_by): (Scope, &[&str]),
    epoch: u64,
    publish: impl FnOnce(&Publication<'_>) -> T,
) -> T {
    let partition_by: Vec<String> = partition_by.iter().map(|&column| column.to_owned()).collect();
    let (schema, key, meta) = (schema(), ["id".to_owned()], meta(epoch));
    publish(&Publication { schema: &schema, key: &key, partition_by: &partition_by, meta: &meta, partitions, scope })
}

fn open(home: &Path) -> TableStore {
    TableStore::open(home, Path::new(PATH)).expect("a free path").with_limits(LIMITS)
}

struct Table {
    home: TempDir,
    store: TableStore,
    /// What the table must hold.
    rows: Rows,
    epoch: u64,
}

impl Table {
    fn new() -> Self {
        let home = TempDir::new().expect("a directory");
        let store = open(home.path());
        Self { home, store, rows: Rows::new(), epoch: 0 }
    }

    /// As after a restart.
    fn reopen(&mut self) {
        self.store = open(self.home.path());
    }

    /// Takes these rows as those of their sites.
    fn set(&mut self, changes: &[Change]) -> Vec<Partition> {
        for (site, rows) in changes {
            self.rows.insert(*site, rows.clone());
        }
        self.rows.retain(|_, rows| !rows.is_empty());
        self.epoch += 1;
        changes.iter().map(|(site, rows)| partition(*site, rows)).collect()
    }

    fn all(&self) -> Vec<Partition> {
        self.rows.iter().map(|(site, rows)| partition(*site, rows)).collect()
    }

    /// Publishes what changed; the whole table where that is needed.
    fn publish(&mut self, changes: &[Change], now: Micros) -> TableVersion {
        let partitions = self.set(changes);
        let by = (Scope::Touched, &["site"][..]);
        let touched =
            published(&partitions, by, self.epoch, |publication| self.store.publish_partitions(publication, now));
        match touched.expect("published") {
            Published::Version(version) => version,
            Published::WholeNeeded => self.publish_whole(now),
        }
    }

    fn publish_whole(&mut self, now: Micros) -> TableVersion {
        let by = (Scope::Whole, &["site"][..]);
        match published(&self.all(), by, self.epoch, |publication| self.store.publish_partitions(publication, now)) {
            Ok(Published::Version(version)) => version,
            other => panic!("{other:?}"),
        }
    }

    fn link(&self) -> PathBuf {
        self.home.path().join(PATH)
    }

    fn versions(&self) -> BTreeSet<String> {
        let listed = fs::read_dir(self.home.path().join(".versions").join(PATH)).expect("a directory");
        listed.map(|found| found.expect("an entry").file_name().into_string().expect("UTF-8")).collect()
    }

    /// What stands in the files must be what stands in the table.
    fn check(&self) {
        assert_eq!(seen(&self.link()), self.rows);
        let read: usize = open(self.home.path()).read().expect("whole").iter().map(RecordBatch::num_rows).sum();
        assert_eq!(read, self.rows.values().map(Vec::len).sum::<usize>());
    }
}

/// The Parquet files below a directory, relative to it.
fn files(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(listed) = fs::read_dir(root) else { return found };
    for entry in listed {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name())).expect("an entry");
        let name = name.into_string().expect("UTF-8");
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else if name.ends_with(".parquet") {
            found.insert(name);
        }
    }
    found
}

/// What a reader sees that takes all files below the path.
fn seen(root: &Path) -> Rows {
    let mut rows = Rows::new();
    for file in files(root) {
        let bytes = bytes::Bytes::from(fs::read(root.join(&file)).expect("a file that was listed"));
        for batch in super::encode::decode(bytes, &schema()).expect("a whole file") {
            let sites = batch.column(0).as_string_view();
            let (ids, marks) =
                (batch.column(1).as_primitive::<Int64Type>(), batch.column(2).as_primitive::<Int64Type>());
            for row in 0..batch.num_rows() {
                let site = SITES.into_iter().find(|site| sites.is_valid(row) && *site == sites.value(row));
                let folder = site.unwrap_or("__HIVE_DEFAULT_PARTITION__");
                assert!(file.starts_with(&format!("site={folder}/")), "{file} has {site:?}");
                rows.entry(site).or_default().push((ids.value(row), marks.value(row)));
            }
        }
    }
    rows
}

const SITES: [&str; 4] = ["BER1", "EIN1", "HAM1", "MUC1"];

fn ids(range: std::ops::Range<i64>, mark: i64) -> Vec<(i64, i64)> {
    range.map(|id| (id, mark)).collect()
}

/// Three sites and rows without one; the first has several files.
fn four() -> Table {
    let mut table = Table::new();
    table.publish(
        &[
            (Some("BER1"), ids(0..300, 1)),
            (Some("EIN1"), ids(300..310, 1)),
            (Some("HAM1"), ids(310..320, 1)),
            (None, ids(320..325, 1)),
        ],
        0,
    );
    table
}

/// The inode of each file of a version, by its name.
fn inodes(version: &TableVersion) -> BTreeMap<String, u64> {
    let inode = |path: PathBuf| fs::metadata(path).expect("a file").ino();
    version.files.iter().map(|file| file.name.clone()).zip(version.paths().into_iter().map(inode)).collect()
}

#[test]
fn partitions_lie_in_folders_of_their_values_and_the_manifest_names_all_files() {
    let table = four();
    let version = table.store.current().expect("readable").expect("a version");
    let names: BTreeSet<String> = version.files.iter().map(|file| file.name.clone()).collect();
    assert_eq!(names, files(&table.link()));
    let folders: BTreeSet<&str> =
        names.iter().filter_map(|name| name.split_once('/').map(|(folder, _)| folder)).collect();
    let expected = ["site=BER1", "site=EIN1", "site=HAM1", "site=__HIVE_DEFAULT_PARTITION__"];
    assert_eq!(folders, BTreeSet::from(expected));
    assert!(names.len() > 5, "{names:?}");
    let values: BTreeSet<_> =
        version.files.iter().map(|file| file.partition.clone().expect("values")["site"].clone()).collect();
    let text = |site: &str| Some(site.to_owned());
    assert_eq!(values, BTreeSet::from([text("BER1"), text("EIN1"), text("HAM1"), None]));
    assert_eq!((version.rows, version.partition_by), (325, vec!["site".to_owned()]));
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(table.link().join("_current.json")).expect("a manifest")).expect("JSON");
    let directory = table.link().join("..").join(manifest["directory"].as_str().expect("a name"));
    assert_eq!(fs::canonicalize(directory).expect("there"), fs::canonicalize(table.link()).expect("there"));
    table.check();
}

#[test]
fn only_partitions_that_changed_are_written_and_the_others_are_the_same_files() {
    let mut table = four();
    let before = inodes(&table.store.current().expect("readable").expect("a version"));
    let version = table.publish(&[(Some("EIN1"), ids(300..311, 2))], MINUTE);
    let after = inodes(&version);
    let written: Vec<&TableFile> =
        version.files.iter().filter(|file| !before.values().any(|inode| *inode == after[&file.name])).collect();
    assert_eq!(written.len(), 1, "{written:?}");
    assert!(written[0].name.starts_with("site=EIN1/part-00000-00000002-"), "{}", written[0].name);
    assert_eq!(written[0].rows, 11);
    for (name, inode) in before.iter().filter(|(name, _)| !name.starts_with("site=EIN1/")) {
        assert_eq!(after.get(name), Some(inode), "{name}");
    }
    table.check();
}

#[test]
fn a_partition_without_rows_is_gone_and_a_table_without_partitions_has_one_empty_file() {
    let mut table = four();
    table.publish(&[(Some("HAM1"), vec![]), (None, vec![])], 0);
    assert!(!table.link().join("site=HAM1").exists());
    table.check();
    let version = table.publish(&[(Some("BER1"), vec![]), (Some("EIN1"), vec![])], 0);
    assert_eq!((version.rows, version.files.len()), (0, 1));
    assert_eq!(files(&table.link()).len(), 1);
    table.check();
    let version = table.publish(&[(Some("MUC1"), ids(0..3, 4))], 0);
    assert_eq!((version.rows, version.files.len()), (3, 1));
    assert!(version.files[0].name.starts_with("site=MUC1/"));
    table.check();
}

#[test]
fn a_row_that_changes_its_partition_is_never_seen_twice_nor_lost_between_two_steps() {
    let mut table = four();
    let (mut expected, mut steps) = (table.rows.clone(), 0);
    for epoch in 0..4 {
        let moving = 300 + epoch;
        let partitions = table.set(&[
            (Some("EIN1"), ids(moving + 1..310, epoch)),
            (Some("HAM1"), ids(300..moving + 1, epoch).into_iter().chain(ids(310..320, epoch)).collect()),
        ]);
        let (link, rows) = (table.link(), table.rows.clone());
        let by = (Scope::Touched, &["site"][..]);
        let done = published(&partitions, by, table.epoch, |publication| {
            table.store.publish_observed(publication, 0, &mut |step| {
                if step == Step::Current {
                    expected.clone_from(&rows);
                }
                steps += 1;
                assert_eq!(seen(&link), expected, "epoch {epoch}, {step:?}");
                Ok(())
            })
        });
        assert!(matches!(done, Ok(Published::Version(_))), "{done:?}");
    }
    assert!(steps > 40, "{steps}");
}

/// Dies after the `death`-th step of a publication; false if it has fewer.
fn check_death(death: usize) -> bool {
    let mut table = four();
    let before = table.rows.clone();
    let partitions =
        table.set(&[(Some("EIN1"), vec![]), (Some("HAM1"), ids(300..320, 2)), (Some("MUC1"), ids(1..2, 2))]);
    let (mut done, mut was_current) = (0, false);
    let by = (Scope::Touched, &["site"][..]);
    let outcome = published(&partitions, by, table.epoch, |publication| {
        table.store.attempt(publication, MINUTE, &mut |step| {
            was_current |= step == Step::Current;
            done += 1;
            if done == death { Err(Error::internal("dead")) } else { Ok(()) }
        })
    });
    if outcome.is_ok() {
        return false;
    }
    table.reopen();
    assert_eq!(seen(&table.link()), if was_current { table.rows.clone() } else { before }, "step {death}");
    // The process that follows does not know what was published: it needs the whole table.
    let touched =
        published(&partitions, by, table.epoch, |publication| table.store.publish_partitions(publication, MINUTE));
    assert_eq!(touched.expect("asked"), Published::WholeNeeded, "step {death}");
    let again = table.publish_whole(2 * MINUTE);
    assert_eq!(again.number, if was_current { 2 } else { 3 }, "step {death}");
    table.check();
    let is_leftover = |name: &String| name.ends_with("-partial") || name.ends_with("-link");
    assert!(!table.versions().iter().any(is_leftover), "step {death}: {:?}", table.versions());
    true
}

#[test]
fn dying_after_any_step_leaves_a_whole_version() {
    let deaths = (1..100).take_while(|death| check_death(*death)).count();
    assert!(deaths >= 12, "{deaths}");
}

#[test]
fn a_restart_takes_unchanged_files_over() {
    let mut table = four();
    let before = inodes(&table.store.current().expect("readable").expect("a version"));
    table.reopen();
    let version = table.publish(&[(None, ids(320..326, 2))], 0);
    let after = inodes(&version);
    let same = before.iter().filter(|(name, inode)| after.get(*name) == Some(*inode)).count();
    assert_eq!(same, before.len() - 1);
    table.check();
}

#[test]
fn where_links_are_refused_unchanged_files_are_copied() {
    for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::Unsupported, io::ErrorKind::TooManyLinks] {
        let refuse: super::store::Link = match kind {
            io::ErrorKind::PermissionDenied => |_, _| Err(io::ErrorKind::PermissionDenied.into()),
            io::ErrorKind::Unsupported => |_, _| Err(io::ErrorKind::Unsupported.into()),
            _ => |_, _| Err(io::ErrorKind::TooManyLinks.into()),
        };
        let mut table = four();
        let before = inodes(&table.store.current().expect("readable").expect("a version"));
        table.store.set_link(refuse);
        let version = table.publish(&[(Some("EIN1"), ids(300..311, 2))], 0);
        let after = inodes(&version);
        for (name, inode) in before.iter().filter(|(name, _)| !name.starts_with("site=EIN1/")) {
            assert!(after.get(name).is_some_and(|other| other != inode), "{name}");
        }
        table.check();
        // The whole table, too.
        table.reopen();
        table.store.set_link(refuse);
        table.publish(&[(Some("HAM1"), ids(311..320, 3))], 0);
        table.check();
    }
}

#[test]
fn a_damaged_file_is_not_copied_but_written_anew() {
    let mut table = four();
    table.store.set_link(|_, _| Err(io::ErrorKind::Unsupported.into()));
    let damaged = table.store.current().expect("readable").expect("a version").paths().remove(0);
    let mut bytes = fs::read(&damaged).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, bytes).expect("written");
    let partitions = table.set(&[(Some("EIN1"), ids(300..311, 2))]);
    let by = (Scope::Touched, &["site"][..]);
    let touched = published(&partitions, by, table.epoch, |publication| table.store.publish_partitions(publication, 0));
    assert_eq!(touched.expect("asked"), Published::WholeNeeded);
    assert!(!table.versions().iter().any(|name| name.ends_with("-partial")), "{:?}", table.versions());
    table.publish_whole(0);
    table.check();
}

#[test]
fn a_lost_file_of_an_unchanged_partition_is_written_anew() {
    let mut table = four();
    fs::remove_file(table.store.current().expect("readable").expect("a version").paths().remove(0)).expect("removed");
    table.publish(&[(Some("EIN1"), ids(300..311, 2))], 0);
    table.check();
}

#[test]
fn a_version_of_another_writer_is_not_built_upon() {
    let mut table = four();
    let mut other = open(table.home.path());
    let rows = [partition(Some("MUC1"), &[(1, 1)])];
    published(&rows, (Scope::Whole, &["site"]), 9, |publication| other.publish_partitions(publication, 0))
        .expect("published");
    table.publish(&[(Some("EIN1"), ids(300..311, 2))], 0);
    table.check();
}

#[test]
fn another_partitioning_rewrites_the_table_and_readers_of_the_one_before_read_on() {
    let mut table = four();
    let resolved = fs::canonicalize(table.link()).expect("a link");
    let before = table.rows.clone();
    table.reopen();
    table.rows = Rows::from([(Some("BER1"), ids(0..3, 2))]);
    let all = table.all();
    for (columns, expected) in
        [(&["mark", "site"][..], "mark=2/site=BER1/"), (&["mark"], "mark=2/"), (&["site"], "site=BER1/")]
    {
        let values: Vec<usize> = columns.iter().map(|column| schema().index_of(column).expect("a column")).collect();
        let rows = all[0].rows[0].slice(0, 1).project(&values).expect("columns");
        let partitions = [Partition { values: rows, rows: all[0].rows.clone() }];
        let done = published(&partitions, (Scope::Whole, columns), 2, |publication| {
            table.store.publish_partitions(publication, 0)
        });
        let Ok(Published::Version(version)) = done else { panic!("{done:?}") };
        assert_eq!(version.files.len(), 1);
        assert!(version.files[0].name.starts_with(expected), "{}", version.files[0].name);
    }
    table.check();
    assert_eq!(seen(&resolved), before);
    let rows = all[0].rows.clone();
    let version = table.store.publish(&rows, &schema(), &["id".to_owned()], &meta(3), 0).expect("published");
    assert!(!version.files[0].name.contains('/'));
}

#[test]
fn a_resting_table_loses_versions_that_are_of_age_and_never_the_current_one() {
    let mut table = four();
    table.publish(&[(Some("EIN1"), ids(300..311, 2))], MINUTE);
    table.store.tidy(11 * MINUTE - 1);
    assert_eq!(table.versions().len(), 2);
    // Who did not publish the current version takes nothing away.
    open(table.home.path()).tidy(100 * MINUTE);
    assert_eq!(table.versions().len(), 2);
    table.store.tidy(11 * MINUTE);
    assert_eq!(table.versions().len(), 1);
    table.store.tidy(1_000_000 * MINUTE);
    table.check();
}

#[test]
fn versions_that_came_of_age_go_also_after_a_restart() {
    let mut table = four();
    table.publish(&[(Some("EIN1"), ids(300..311, 2))], MINUTE);
    table.reopen();
    assert_eq!(table.publish_whole(11 * MINUTE).number, 2);
    assert_eq!(table.versions().len(), 1);
    table.check();
}

#[test]
fn a_file_name_that_left_the_table_does_not_come_back() {
    let mut table = four();
    let mut names = BTreeMap::<String, BTreeSet<u64>>::new();
    for turn in 0..12 {
        // The same rows come and go; a row at the front moves the others' places.
        let mut rows = ids(0..300, 1);
        if turn % 3 == 1 {
            rows.splice(..0, ids(-40..0, 1));
        }
        let site = if turn % 2 == 0 { Some("EIN1") } else { Some("HAM1") };
        let version = table.publish(&[(Some("BER1"), rows), (site, ids(300..310, turn % 4))], 0);
        for file in &version.files {
            names.entry(file.name.clone()).or_default().insert(version.number);
        }
        table.check();
    }
    for (name, versions) in names {
        let (first, last) = (versions.first().expect("one"), versions.last().expect("one"));
        assert_eq!(versions.len() as u64, last - first + 1, "{name}: {versions:?}");
    }
}

#[test]
fn columns_that_make_no_folders_are_refused_before_anything_is_written() {
    let mut table = Table::new();
    let floats = Arc::new(Schema::new(vec![Field::new("ratio", DataType::Float64, false)]));
    for (schema, column, expected) in
        [(floats, "ratio", "folders for floats"), (schema(), "sites", "not one of the table's columns")]
    {
        let (meta, by) = (meta(1), [column.to_owned()]);
        let publication = Publication {
            schema: &schema,
            key: &[],
            partition_by: &by,
            meta: &meta,
            partitions: &[],
            scope: Scope::Whole,
        };
        let error: Result<Published<TableVersion>> = table.store.publish_partitions(&publication, 0);
        let error = error.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Definition);
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(fs::read_dir(table.home.path()).expect("a directory").count(), 0);
}
