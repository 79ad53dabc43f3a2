//! Parquet tables as `run` writes them: partitions, `every`, and object stores.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::record_batch::RecordBatch;
use futures::TryStreamExt;
use milepost::sink::Stamp;
use milepost::sink::table::{ObjectTable, Publication, Published, Scope, TableMeta, unpartitioned};
use milepost::types::Epoch;
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Running, Said, folder, milepost_in, start_in, wait_until};
use crate::support::Nats;
use crate::support::s3::{ACCESS_KEY, S3Server, SECRET_KEY};

/// One small pipeline: the latest row of each order, and its tables.
struct Trial {
    work: TempDir,
    environment: Vec<(&'static str, String)>,
    nats: String,
}

impl Trial {
    /// `source` says where the orders come from, `sinks` what `parquet` says of each table.
    fn new(source: &str, sinks: &[&str]) -> Self {
        let work = folder();
        let write = |name: &str, text: &str| fs::write(work.path().join(name), text).expect("writable");
        write(
            "order.json",
            r#"{"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"},
                "day": {"type": "string", "format": "date"}, "site": {"type": "string"}}}"#,
        );
        write("orders.sql", "SELECT id, day, site FROM orders");
        let trial = Self { work, environment: Vec::new(), nats: "nats://127.0.0.1:1".to_owned() };
        trial.define(source, sinks);
        trial
    }

    fn define(&self, source: &str, sinks: &[&str]) {
        let sinks: String =
            sinks.iter().map(|sink| format!("  - {{ job: orders_now, parquet: {{ {sink} }} }}\n")).collect();
        let text = format!(
            "pipeline: p\nclock: event_time\nsources:\n  orders: {{ contract: order.json, {source}, upsert: [id] }}\n\
             jobs:\n  orders_now: {{ sql: orders.sql, key: [id] }}\nsinks:\n{sinks}batch: {{ max_wait: 10ms }}\n"
        );
        fs::write(self.work.path().join("p.yaml"), text).expect("writable");
    }

    /// Orders (id, day, site), for a source that is a file.
    fn write(&self, orders: &[(i64, &str, &str)]) {
        fs::write(self.work.path().join("orders.ndjson"), lines(orders).join("\n") + "\n").expect("writable");
    }

    fn home(&self) -> PathBuf {
        self.work.path().join("home")
    }

    fn ask(&self, command: &str, further: &[&str]) -> Said {
        let (pipeline, home) = (self.work.path().join("p.yaml"), self.home());
        let (pipeline, home) = (pipeline.to_string_lossy().into_owned(), home.to_string_lossy().into_owned());
        let home = if command == "check" { vec![] } else { vec!["--home", &home] };
        milepost_in(&self.environment, &[&[command, &pipeline], &home[..], further].concat())
    }

    fn run(&self) -> Said {
        self.ask("run", &["--until-caught-up", "--nats", &self.nats])
    }

    fn start(&self) -> Running {
        let (pipeline, home) = (self.work.path().join("p.yaml"), self.home());
        let arguments = ["run", &pipeline.to_string_lossy(), "--home", &home.to_string_lossy(), "--nats", &self.nats];
        start_in(&self.environment, &arguments)
    }

    fn status(&self) -> Option<Value> {
        let said = self.ask("status", &["--format", "json"]);
        (said.status == Some(0)).then(|| serde_json::from_slice(&said.out).expect("JSON"))
    }

    /// What `path` prints, a line a file.
    #[track_caller]
    fn path(&self) -> Vec<String> {
        self.ask("path", &["orders_now"]).text().lines().map(str::to_owned).collect()
    }

    /// The current manifest of a local table; none before there is one.
    fn manifest(&self, path: &str) -> Option<Value> {
        let text = fs::read(self.home().join(path).join("_current.json")).ok()?;
        Some(serde_json::from_slice(&text).expect("JSON"))
    }

    fn rows(&self, path: &str) -> Option<u64> {
        self.manifest(path)?["rows"].as_u64()
    }

    /// The files of a local table by name, with their inodes.
    fn inodes(&self, path: &str) -> BTreeMap<String, u64> {
        let version = fs::canonicalize(self.home().join(path)).expect("a version");
        let manifest = self.manifest(path).expect("a version");
        let name = |file: &Value| file["name"].as_str().expect("a name").to_owned();
        let names = manifest["files"].as_array().expect("files").iter().map(name);
        names.map(|name| (name.clone(), fs::metadata(version.join(&name)).expect("a file").ino())).collect()
    }
}

fn lines(orders: &[(i64, &str, &str)]) -> Vec<String> {
    let line = |(id, day, site): &(i64, &str, &str)| format!(r#"{{"id":{id},"day":"{day}","site":"{site}"}}"#);
    orders.iter().map(line).collect()
}

/// The folders of files, relative to a table.
fn folders<'a>(files: impl IntoIterator<Item = &'a String>) -> BTreeSet<&'a str> {
    files.into_iter().map(|file| file.rsplit_once('/').map_or("", |(folder, _)| folder)).collect()
}

/// How many rows there are in files.
fn count(files: &[String]) -> i64 {
    let rows = |file: &String| {
        let file = fs::File::open(file).expect("a file that `path` names");
        ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").metadata().file_metadata().num_rows()
    };
    files.iter().map(rows).sum()
}

const FILE: &str = "files: orders.ndjson";
/// A value that a URL could mistake for something else.
const ODD: &str = "a/b ä%2F+#?";
const MAY: [(i64, &str, &str); 3] = [(1, "2026-05-01", "A"), (2, "2026-05-01", "B"), (3, "2026-05-02", "A")];

#[tokio::test(flavor = "multi_thread")]
async fn a_running_pipeline_rewrites_the_partitions_that_changed_and_no_version_before_its_time() {
    let nats = Nats::start().await;
    nats.stream("ORDERS", &["orders"]).await;
    nats.publish("orders", lines(&MAY)).await;
    let sinks = ["path: orders, partition_by: [day], every: 1ms", "path: hourly, partition_by: [day, site], every: 1h"];
    let mut trial = Trial::new("jetstream: { stream: ORDERS, subjects: [orders] }", &sinks);
    trial.nats = nats.url();
    let mut process = trial.start();
    let mut wait_for = |what: &str, holds: &dyn Fn() -> bool| {
        wait_until(what, || {
            process.check_alive();
            holds()
        });
    };
    wait_for("the first versions", &|| trial.rows("orders") == Some(3) && trial.rows("hourly") == Some(3));
    let before = trial.inodes("orders");
    assert_eq!(folders(before.keys()), BTreeSet::from(["day=2026-05-01", "day=2026-05-02"]));
    let hourly = trial.manifest("hourly").expect("a version");

    nats.publish("orders", lines(&[(4, "2026-05-02", "B")])).await;
    wait_for("a row more", &|| trial.rows("orders") == Some(4));
    let after = trial.inodes("orders");
    let changed: Vec<&String> = after.keys().filter(|name| after.get(*name) != before.get(*name)).collect();
    assert_eq!(folders(changed), BTreeSet::from(["day=2026-05-02"]));
    assert_eq!(after.len(), 2);

    nats.publish("orders", lines(&[(1, "2026-05-03", "A"), (2, "2026-05-03", "B")])).await;
    wait_for("moved rows", &|| !trial.home().join("orders/day=2026-05-01").exists());
    let moved = trial.inodes("orders");
    assert_eq!(folders(moved.keys()), BTreeSet::from(["day=2026-05-02", "day=2026-05-03"]));
    assert!(moved.values().any(|inode| after.values().any(|other| other == inode)), "the second day is as it was");
    assert_eq!(trial.manifest("hourly"), Some(hourly), "an hour has not passed");

    let ended = process.terminate();
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    let hourly = trial.inodes("hourly");
    let expected = ["day=2026-05-02/site=A", "day=2026-05-02/site=B", "day=2026-05-03/site=A", "day=2026-05-03/site=B"];
    assert_eq!(folders(hourly.keys()), BTreeSet::from(expected));
    assert_eq!((count(&trial.path()), trial.path().len()), (8, 6), "both tables of the job");
}

#[test]
fn a_table_may_be_partitioned_otherwise_and_moved_between_two_runs() {
    let trial = Trial::new(FILE, &["path: orders, partition_by: [day]"]);
    trial.write(&MAY);
    let days = ["day=2026-05-01", "day=2026-05-02"];
    let below = |files: &[String]| -> Vec<String> {
        // .versions, the table, the version, the file.
        let within = |file: &String| Some(file.split_once("/home/")?.1.splitn(4, '/').last()?.to_owned());
        files.iter().filter_map(within).collect()
    };
    let cases: [(&str, &[&str]); 5] = [
        ("path: orders, partition_by: [day]", &days),
        ("path: orders, partition_by: [site]", &["site=A", "site=B"]),
        ("path: orders", &[""]),
        ("path: orders, partition_by: [day]", &days),
        ("path: others, partition_by: [day]", &days),
    ];
    for (sink, expected) in cases {
        trial.define(FILE, &[sink]);
        trial.run().text();
        let files = trial.path();
        assert_eq!(count(&files), 3, "{sink}");
        assert_eq!(folders(&below(&files)), expected.iter().copied().collect(), "{sink}");
    }
    // What lies at the path before stays as it was; one inside it is refused.
    assert_eq!(trial.rows("orders"), Some(3));
    trial.define(FILE, &["path: orders/inside"]);
    let said = trial.run().refusal(2);
    assert!(said.contains("another table may lie there"), "{said}");
}

#[test]
fn a_run_without_news_keeps_the_version_and_a_changed_file_only_rewrites_its_partition() {
    let trial = Trial::new(FILE, &["path: orders, partition_by: [day]"]);
    trial.write(&MAY);
    trial.run().text();
    let (first, manifest) = (trial.inodes("orders"), trial.manifest("orders"));
    trial.run().text();
    assert_eq!(trial.manifest("orders"), manifest);
    trial.write(&[MAY[0], MAY[1], (3, "2026-05-02", "C")]);
    trial.run().text();
    let second = trial.inodes("orders");
    let same: Vec<&String> = first.keys().filter(|name| first.get(*name) == second.get(*name)).collect();
    assert_eq!(folders(same), BTreeSet::from(["day=2026-05-01"]));
}

#[test]
fn check_shows_where_tables_lie_and_how_they_are_partitioned() {
    let sinks = [
        "path: orders, partition_by: [day, site], every: 7s",
        "path: \"s3://reports/kpi/orders/\", partition_by: [day]",
    ];
    let trial = Trial::new(FILE, &sinks);
    trial.write(&MAY);
    let said = trial.ask("check", &[]).text();
    for expected in ["Parquet orders by day, site, every 7s", "Parquet s3://reports/kpi/orders by day, every 5s"] {
        assert!(said.contains(expected), "{said}");
    }
}

fn on_s3(server: &S3Server, sinks: &[&str]) -> Trial {
    let mut trial = Trial::new(FILE, sinks);
    trial.environment = server.environment().to_vec();
    trial
}

#[track_caller]
fn tells_no_secret(text: &str) {
    assert!(!text.contains(SECRET_KEY) && !text.contains(ACCESS_KEY), "{text}");
}

/// The objects of a bucket.
async fn objects(server: &S3Server, bucket: &str) -> BTreeSet<String> {
    let listed: Vec<_> = server.store(bucket).list(None).try_collect().await.expect("listed");
    listed.into_iter().map(|object| object.location.to_string()).collect()
}

async fn pointer(server: &S3Server, path: &str) -> Value {
    let path = object_store::path::Path::from(format!("{path}/_current.json"));
    let found = server.store("reports").get(&path).await.expect("the pointer is there");
    serde_json::from_slice(&found.bytes().await.expect("read")).expect("JSON")
}

fn names(pointer: &Value) -> BTreeSet<String> {
    let files = pointer["files"].as_array().expect("files");
    files.iter().map(|file| file["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_a_bucket_is_a_pointer_to_files_that_the_next_version_shares() {
    let server = S3Server::start();
    server.bucket("reports");
    let sinks = [
        "path: \"s3://reports/kpi/orders\", partition_by: [day]",
        "path: \"s3://reports/sites\", partition_by: [site]",
    ];
    let trial = on_s3(&server, &sinks);
    trial.write(&MAY);
    let said = trial.ask("path", &["orders_now"]).refusal(1);
    assert!(said.contains("has left nothing"), "{said}");
    let ran = trial.run();
    tells_no_secret(&ran.err);
    ran.text();
    let first = pointer(&server, "kpi/orders").await;
    assert_eq!(
        (first["rows"].as_u64(), first["version"].as_u64(), first["epoch"].as_u64()),
        (Some(3), Some(1), Some(1))
    );
    let files = names(&first);
    assert_eq!(folders(&files), BTreeSet::from(["_files/day=2026-05-01", "_files/day=2026-05-02"]));
    let printed: BTreeSet<String> = trial.path().into_iter().filter(|url| url.contains("/kpi/")).collect();
    assert_eq!(printed, files.iter().map(|name| format!("s3://reports/kpi/orders/{name}")).collect());

    trial.write(&[MAY[0], MAY[1], (3, "2026-05-02", "C"), (4, "2026-05-04", ODD)]);
    trial.run().text();
    let second = pointer(&server, "kpi/orders").await;
    assert_eq!((second["rows"].as_u64(), second["version"].as_u64()), (Some(4), Some(2)));
    let shared: Vec<String> = files.intersection(&names(&second)).cloned().collect();
    assert_eq!(folders(&shared), BTreeSet::from(["_files/day=2026-05-01"]));
    // The file that left stays for who read the first pointer.
    let named = names(&second);
    let expected = files.union(&named).map(String::as_str).chain(["_current.json"]);
    let mut found = objects(&server, "reports").await;
    found.retain(|name| name.starts_with("kpi/"));
    assert_eq!(found, expected.map(|name| format!("kpi/orders/{name}")).collect());

    // Read by others, as README.md says.
    for table in ["s3://reports/kpi/orders", "s3://reports/sites"] {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/read_bucket.py");
        let mut python = std::process::Command::new(crate::support::s3::python());
        python.arg(script).arg(table).envs(server.environment()).env("NO_PROXY", "*");
        let said: Said = python.output().expect("Python runs").into();
        let seen: Value = serde_json::from_str(&said.text()).expect("JSON");
        let rows = serde_json::json!([
            [1, "2026-05-01", "A"],
            [2, "2026-05-01", "B"],
            [3, "2026-05-02", "C"],
            [4, "2026-05-04", ODD]
        ]);
        assert_eq!(seen, serde_json::json!({ "polars": rows, "pyarrow": rows }), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_stops_the_run_with_a_clear_error_and_one_that_comes_back_lets_it_go_on() {
    let server = S3Server::start();
    let trial = on_s3(&server, &["path: \"s3://reports/orders\"", "path: orders"]);
    trial.write(&MAY);
    let said = trial.run().refusal(3);
    assert!(said.contains("`s3://reports/orders/") && said.contains("NoSuchBucket"), "{said}");
    tells_no_secret(&said);
    assert_eq!(trial.rows("orders"), Some(3), "the other table is written");

    let mut process = trial.start();
    let trouble = || trial.status().and_then(|status| status["trouble"].as_str().map(str::to_owned));
    wait_until("the trouble is told", || {
        process.check_alive();
        trouble().is_some_and(|trouble| trouble.contains("NoSuchBucket"))
    });
    server.bucket("reports");
    wait_until("the trouble is over", || {
        process.check_alive();
        trial.status().is_some_and(|status| status["running"] == true && status["trouble"].is_null())
    });
    let ended = process.terminate();
    tells_no_secret(&ended.err);
    assert_eq!(ended.status, Some(0), "{}", ended.err);
    assert_eq!(pointer(&server, "orders").await["rows"].as_u64(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_homes_that_write_one_table_in_a_bucket_are_told_apart() {
    let server = S3Server::start();
    server.bucket("reports");
    let nats = Nats::start().await;
    nats.stream("ORDERS", &["orders"]).await;
    nats.publish("orders", lines(&MAY)).await;
    let source = "jetstream: { stream: ORDERS, subjects: [orders] }";
    let trial = || {
        let mut trial = Trial::new(source, &["path: \"s3://reports/orders\", every: 1ms"]);
        trial.environment = server.environment().to_vec();
        trial.nats = nats.url();
        trial
    };
    let (first, second) = (trial(), trial());
    let mut process = first.start();
    wait_until("the first has published", || first.status().is_some_and(|status| status["epoch"].as_u64() > Some(0)));
    wait_until("its table is there", || first.ask("path", &["orders_now"]).status == Some(0));
    // The other one reads a row more, so that its table is another one.
    nats.publish("orders", lines(&[(4, "2026-05-04", "C")])).await;
    wait_until("the first has the row", || first.status().is_some_and(|status| status["epoch"].as_u64() > Some(1)));
    second.run().text();
    nats.publish("orders", lines(&[(5, "2026-05-04", "C")])).await;
    wait_until("the first is fenced", || process.has_ended());
    let said = process.said();
    assert_eq!(said.status, Some(3), "{}", said.err);
    assert!(said.err.contains("another writer published to `s3://reports/orders` meanwhile"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_to_a_bucket_in_parts() {
    let server = S3Server::start();
    server.bucket("reports");
    // Numbers that no encoding makes smaller.
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        i64::from_ne_bytes((state ^ (state >> 29)).to_ne_bytes())
    };
    let column = |name: String| (name, Arc::new((0..100_000).map(|_| random()).collect::<Int64Array>()) as ArrayRef);
    let rows = RecordBatch::try_from_iter((0..12).map(|number| format!("c{number}")).map(column)).expect("a batch");
    let stamp = Stamp { epoch: Epoch(1), clock: None, watermark: None };
    let publication = Publication {
        schema: &rows.schema(),
        key: &["c0".to_owned()],
        partition_by: &[],
        meta: &TableMeta { pipeline: "p".to_owned(), job: "j".to_owned(), stamp },
        partitions: &[unpartitioned(vec![rows.clone()])],
        scope: Scope::Whole,
    };
    let mut table = ObjectTable::within(server.store("reports"), "large".into(), "s3://reports/large");
    let published = table.publish_partitions(&publication, 0).await.expect("published");
    let Published::Version(version) = published else { panic!("{published:?}") };
    assert_eq!((version.rows, version.files.len()), (100_000, 1));
    assert!(version.files[0].size_bytes > 9_000_000, "{}", version.files[0].size_bytes);
    let path = object_store::path::Path::from(format!("large/{}", version.files[0].name));
    let stored = server.store("reports").get(&path).await.expect("it is there");
    assert!(stored.meta.e_tag.as_ref().is_some_and(|tag| tag.contains("-2")), "two parts: {:?}", stored.meta);
    let bytes = stored.bytes().await.expect("read");
    assert_eq!(bytes.len() as u64, version.files[0].size_bytes);
    let read = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("Parquet").build().expect("readable");
    assert_eq!(read.map(|batch| batch.expect("whole").num_rows()).sum::<usize>(), 100_000);
}
