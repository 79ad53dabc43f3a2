//! Readers that never stop look at a table that never rests. Each epoch moves a row between two sites and stamps all rows
//! of both, so every version differs from all others and no mixture of two is one; `tests/python/read_loop.py` knows them
//! all. The same readers are shown a writer that writes in place, and must catch it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, StringViewArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use milepost::sink::Stamp;
use milepost::sink::table::unpartitioned;
use milepost::sink::table::{FileLimits, Publication, Published, Scope, TableMeta, TableStore, TableVersion};
use milepost::state::Partition;
use milepost::types::{Epoch, Micros};
use serde_json::Value;
use tempfile::TempDir;

const PATH: &str = "kpi/moves";
const SITES: i64 = 8;
const ROWS: i64 = 40;
const EPOCHS: i64 = 1_000;
/// Reads of each reader, at least.
const READS: usize = 60;
/// Epochs after which a reader that sees too little, or nothing wrong, is given up.
const EPOCHS_MAX: i64 = 20_000;
/// The clock between two versions. Thousands of them stay, for readers that are put off for seconds.
const TICK: Micros = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Flat,
    Partitioned,
}

/// The table: site and stamp of each row.
struct Moves {
    epoch: i64,
    rows: BTreeMap<i64, (i64, i64)>,
}

impl Moves {
    fn new() -> Self {
        Self { epoch: 1, rows: (0..ROWS).map(|row| (row, (row % SITES, 1))).collect() }
    }

    /// The sites that change with the next epoch.
    fn advance(&mut self) -> [i64; 2] {
        self.epoch += 1;
        let epoch = self.epoch;
        let giving = epoch % SITES;
        let taking = (giving + 1 + epoch / SITES % (SITES - 1)) % SITES;
        let moving = self.rows.iter().find(|(_, (site, _))| *site == giving).map(|(row, _)| *row);
        for (row, (site, stamp)) in &mut self.rows {
            if Some(*row) == moving {
                (*site, *stamp) = (taking, epoch);
            } else if *site == giving || *site == taking {
                *stamp = epoch;
            }
        }
        [giving, taking]
    }

    fn partition(&self, site: i64) -> Partition {
        let rows: Vec<_> = self.rows.iter().filter(|(_, (other, _))| *other == site).collect();
        let name = format!("s{site}");
        let names: ArrayRef = Arc::new(StringViewArray::from_iter_values(rows.iter().map(|_| &name)));
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(row, _)| **row)));
        let stamps: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, (_, stamp))| *stamp)));
        let values: ArrayRef = Arc::new(StringViewArray::from(vec![name.as_str()]));
        Partition {
            values: RecordBatch::try_from_iter([("site", values)]).expect("a batch"),
            rows: vec![RecordBatch::try_new(schema(), vec![names, ids, stamps]).expect("a batch")],
        }
    }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("site", DataType::Utf8View, false),
        Field::new("id", DataType::Int64, false),
        Field::new("stamp", DataType::Int64, false),
    ]))
}

/// The product's writer.
struct Writer {
    store: TableStore,
    layout: Layout,
    moves: Moves,
}

impl Writer {
    fn new(home: &Path, layout: Layout) -> Self {
        let limits = FileLimits { rows_min: 5, rows_spread: 5, rows_max: 20, group_rows_max: 5 };
        let store = TableStore::open(home, Path::new(PATH)).expect("a free path").with_limits(limits);
        Self { store, layout, moves: Moves::new() }
    }

    fn publish(&mut self, sites: &[i64], is_first: bool) -> TableVersion {
        let partitions: Vec<Partition> = sites.iter().map(|site| self.moves.partition(*site)).collect();
        let (partitions, partition_by, scope) = match self.layout {
            Layout::Partitioned if is_first => (partitions, vec!["site".to_owned()], Scope::Whole),
            Layout::Partitioned => (partitions, vec!["site".to_owned()], Scope::Touched),
            Layout::Flat => {
                let rows = (0..SITES).flat_map(|site| self.moves.partition(site).rows).collect();
                (vec![unpartitioned(rows)], Vec::new(), Scope::Whole)
            }
        };
        let epoch = u64::try_from(self.moves.epoch).expect("positive");
        let stamp = Stamp { epoch: Epoch(epoch), clock: None, watermark: None };
        let meta = TableMeta { pipeline: "readers".to_owned(), job: "moves".to_owned(), stamp };
        let (schema, key) = (schema(), ["id".to_owned()]);
        let publication = Publication {
            schema: &schema,
            key: &key,
            partition_by: &partition_by,
            meta: &meta,
            partitions: &partitions,
            scope,
        };
        match self.store.publish_partitions(&publication, self.moves.epoch * TICK).expect("published") {
            Published::Version(version) => version,
            Published::WholeNeeded => panic!("the writer published the version before"),
        }
    }

    fn first(&mut self) -> TableVersion {
        self.publish(&(0..SITES).collect::<Vec<_>>(), true)
    }

    fn next(&mut self) -> TableVersion {
        let sites = self.moves.advance();
        self.publish(&sites, false)
    }
}

/// What a reader has said so far.
#[derive(Debug, Default)]
struct Tally {
    reads: usize,
    again: usize,
    epochs: BTreeSet<i64>,
    wrong: Vec<String>,
}

/// A reader in a process of its own, which reads as fast as it can.
struct Reader {
    name: &'static str,
    process: Child,
    input: ChildStdin,
    tally: Arc<(Mutex<Tally>, Condvar)>,
    listener: JoinHandle<()>,
}

impl Reader {
    fn start(name: &'static str, table: &Path, layout: Layout) -> Self {
        let mut process = Command::new(crate::python())
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read_loop.py"))
            .arg(name)
            .arg(table)
            .arg(if layout == Layout::Flat { "flat" } else { "partitioned" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs");
        let input = process.stdin.take().expect("piped");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let tally = Arc::new((Mutex::new(Tally::default()), Condvar::new()));
        let heard = Arc::clone(&tally);
        let listen = move || {
            for line in output.lines() {
                let line = line.expect("text");
                let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                let mut tally = heard.0.lock().expect("unpoisoned");
                match (said["epoch"].as_i64(), said["wrong"].as_str()) {
                    (Some(epoch), _) => {
                        tally.reads += 1;
                        tally.epochs.insert(epoch);
                    }
                    (_, Some(wrong)) => tally.wrong.push(wrong.to_owned()),
                    _ => tally.again += 1,
                }
                heard.1.notify_all();
            }
        };
        let listener = std::thread::Builder::new().name(name.to_owned()).spawn(listen).expect("a thread");
        Self { name, process, input, tally, listener }
    }

    fn wait_for_the_first_read(&self) {
        let (tally, said) = &*self.tally;
        let tally = tally.lock().expect("unpoisoned");
        let nothing = |tally: &mut Tally| tally.reads == 0 && tally.wrong.is_empty();
        let (tally, timeout) = said.wait_timeout_while(tally, Duration::from_secs(120), nothing).expect("unpoisoned");
        assert!(!timeout.timed_out(), "{} said nothing: {tally:?}", self.name);
    }

    fn has(&self, enough: impl Fn(&Tally) -> bool) -> bool {
        enough(&self.tally.0.lock().expect("unpoisoned"))
    }

    fn stop(mut self) -> Tally {
        drop(self.input);
        assert!(self.process.wait().expect("ended").success(), "{}", self.name);
        self.listener.join().expect("listened");
        std::mem::take(&mut self.tally.0.lock().expect("unpoisoned"))
    }
}

const READERS: [&str; 3] = ["duckdb-glob", "duckdb-current", "pyarrow"];

fn readers(table: &Path, layout: Layout) -> Vec<Reader> {
    let readers: Vec<Reader> = READERS.into_iter().map(|name| Reader::start(name, table, layout)).collect();
    readers.iter().for_each(Reader::wait_for_the_first_read);
    readers
}

/// In memory where that is possible: a thousand versions are synced to a disk some twenty thousand times.
fn home() -> TempDir {
    let memory = Path::new("/dev/shm");
    let home = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    home.expect("a directory")
}

fn check_readers(layout: Layout) {
    let home = home();
    let mut writer = Writer::new(home.path(), layout);
    writer.first();
    let readers = readers(&home.path().join(PATH), layout);
    let all_saw_enough = || readers.iter().all(|reader| reader.has(|tally| tally.reads >= READS));
    while writer.moves.epoch < EPOCHS || !all_saw_enough() {
        assert!(writer.moves.epoch < EPOCHS_MAX, "the readers don't get on");
        writer.next();
    }
    for reader in readers {
        let name = reader.name;
        let tally = reader.stop();
        assert!(tally.wrong.is_empty(), "{layout:?}, {name}: {:?} of {}", tally.wrong, tally.wrong.len());
        assert!(tally.epochs.len() >= READS / 3, "{layout:?}, {name} saw {} versions only", tally.epochs.len());
        assert!(name == "duckdb-glob" || tally.again == 0, "{layout:?}, {name}");
    }
}

#[test]
fn a_partitioned_table_that_never_rests_is_never_seen_torn() {
    check_readers(Layout::Partitioned);
}

#[test]
fn a_table_that_never_rests_is_never_seen_torn() {
    check_readers(Layout::Flat);
}

/// What a writer without versions does: each file is written over the one before, one after the other.
fn write_in_place(version: &TableVersion, table: &Path) {
    let mut files = BTreeMap::<String, PathBuf>::new();
    for (file, path) in version.files.iter().zip(version.paths()) {
        let folder = file.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        let index = (0..).find(|index| !files.contains_key(&format!("{folder}/{index}.parquet"))).expect("a number");
        files.insert(format!("{folder}/{index}.parquet"), path);
    }
    let mut manifest: Value =
        serde_json::from_slice(&fs::read(version.directory.join("_current.json")).expect("read")).expect("JSON");
    manifest["directory"] = Value::from(table.file_name().and_then(|name| name.to_str()).expect("a name"));
    for (entry, name) in manifest["files"].as_array_mut().expect("files").iter_mut().zip(files.keys()) {
        entry["name"] = Value::from(name.as_str());
    }
    for (name, path) in &files {
        let target = table.join(name);
        fs::create_dir_all(target.parent().expect("a folder")).expect("created");
        fs::copy(path, target).expect("copied");
    }
    fs::write(table.join("_current.json"), manifest.to_string()).expect("written");
}

#[test]
fn the_same_readers_catch_a_writer_that_writes_in_place() {
    let home = home();
    let mut writer = Writer::new(&home.path().join("right"), Layout::Partitioned);
    let table = home.path().join("wrong");
    write_in_place(&writer.first(), &table);
    let readers = readers(&table, Layout::Partitioned);
    let caught = |reader: &Reader| reader.has(|tally| !tally.wrong.is_empty());
    while !readers.iter().all(caught) {
        let missed: Vec<&str> = readers.iter().filter(|reader| !caught(reader)).map(|reader| reader.name).collect();
        assert!(writer.moves.epoch < EPOCHS_MAX, "a table written in place looks whole to {missed:?}");
        write_in_place(&writer.next(), &table);
    }
    for reader in readers {
        reader.stop();
    }
}
