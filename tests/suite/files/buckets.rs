//! Files in a bucket: the same rows as from a folder, the same rules for what changes, and no secret anywhere.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::{Trial, gzip, lines, zstd_packed};
use crate::program::wait_until;
use crate::support::s3::{ACCESS_KEY, S3Server, SECRET_KEY};

async fn put(store: &dyn ObjectStore, key: &str, content: Vec<u8>) {
    store.put(&Path::from(key), Bytes::from(content).into()).await.expect("stored");
}

fn with_bucket(server: &S3Server, source: &str) -> Trial {
    let mut trial = Trial::new(source);
    trial.environment = server.environment().to_vec();
    trial
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_read_as_files_are() {
    let server = S3Server::start();
    server.bucket("inputs");
    let store = server.store("inputs");
    let mut csv = b"text,id\n".to_vec();
    csv.extend((100..30_000).flat_map(|id| format!("\"a, b\",{id}\n").into_bytes()));
    let files = [
        ("x/2026/b.ndjson", lines(&[1, 2])),
        ("x/2026/a.ndjson.gz", gzip(&lines(&[3, 4]))),
        ("x/2025/c.csv.zst", zstd_packed(&csv)),
        ("x/2025/_temporary.csv", b"id,text\n7,hidden\n".to_vec()),
        ("y/d.ndjson", lines(&[8])),
    ];
    let local = Trial::new("files: \"x/**/*\"");
    for (key, content) in files {
        local.write(key, &content);
        put(&*store, key, content).await;
    }
    local.run().text();
    let mut trial = with_bucket(&server, "files: \"s3://inputs/x/**/*\"");
    trial.run().text();
    let from_bucket = |place: &String| place.replace("x/2", "s3://inputs/x/2");
    let expected: Vec<String> = local.places().iter().map(from_bucket).collect();
    assert_eq!(expected.len(), 29_904);
    assert!(trial.places() == expected, "the rows, their files and their order");

    put(&*store, "x/0.ndjson", lines(&[9])).await;
    trial.run().text();
    assert_eq!(trial.places().last().map(String::as_str), Some("s3://inputs/x/0.ndjson 29905 9"));
    put(&*store, "x/2026/b.ndjson", lines(&[1, 5])).await;
    let said = trial.run().refusal(2);
    assert!(said.contains("`s3://inputs/x/2026/b.ndjson` has changed since it was read"), "{said}");
    store.delete(&Path::from("x/2026/b.ndjson")).await.expect("deleted");
    assert!(trial.run().refusal(2).contains("`s3://inputs/x/2026/b.ndjson` was read and is gone"));

    trial.renew_home();
    trial.read_from("s3://inputs/x/2026/a.ndjson.gz");
    trial.run().text();
    assert_eq!(trial.ids().as_deref(), Some("3 4"));
    trial.renew_home();
    trial.read_from("s3://inputs/x/2026/");
    trial.run().text();
    assert_eq!(trial.ids().as_deref(), Some("3 4"));
    trial.renew_home();
    trial.read_from("s3://inputs/x/none.csv");
    let said = trial.run().refusal(2);
    assert!(said.contains("there is no file s3://inputs/x/none.csv"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_come_while_it_runs_are_read() {
    let server = S3Server::start();
    server.bucket("inputs");
    let store = server.store("inputs");
    let trial = with_bucket(&server, "files: \"s3://inputs/*.ndjson\", upsert: [id], watch: { every: 20ms }");
    let mut process = trial.start(&[]);
    let mut wait_for = |ids: &str| {
        wait_until(&format!("the rows {ids} are there"), || {
            process.check_alive();
            trial.ids().as_deref() == Some(ids)
        });
    };
    put(&*store, "b.ndjson", lines(&[1])).await;
    wait_for("1");
    put(&*store, "a.ndjson", lines(&[2])).await;
    wait_for("1 2");
    put(&*store, "b.ndjson", lines(&[3])).await;
    wait_for("2 3");
    process.terminate().text();
}

#[test]
fn a_store_that_fails_is_told_without_secrets() {
    let server = S3Server::start();
    let mut trial = with_bucket(&server, "files: s3://no-such-bucket/a.csv");
    let mut said = vec![trial.run().refusal(2)];
    trial.read_from("s3://no-such-bucket/*.csv");
    said.push(trial.run().refusal(3));
    assert!(said[1].contains("listing `s3://no-such-bucket/`") && said[1].contains("NoSuchBucket"), "{}", said[1]);
    drop(server);
    trial.environment.push(("AWS_TIMEOUT", "1 second".to_owned()));
    trial.read_from("s3://bucket/a.csv");
    let unreachable = trial.run().refusal(3);
    assert!(unreachable.contains("looking for `s3://bucket/a.csv`"), "{unreachable}");
    said.push(unreachable);
    trial.read_from(&format!("s3://{ACCESS_KEY}:{SECRET_KEY}@bucket/a.csv"));
    said.push(trial.run().refusal(2));
    for said in said {
        assert!(!said.contains(SECRET_KEY) && !said.contains(ACCESS_KEY), "{said}");
    }
}
