//! `milepost doctor` against real brokers, a real store and a real disk: what it says, what it ends with, what it leaves alone.

use async_nats::jetstream::stream::{Config, RetentionPolicy};
use milepost::definition::pipeline::NatsSettings;
use milepost::source::connect::connect_with;
use serde_json::Value;

use crate::connection::{consumers, readme_block, small};
use crate::program::{Said, Setting, folder, milepost_in};
use crate::support::Nats;
use crate::support::s3::S3Server;
use crate::support::secured::Secrets;

/// What is said of one thing: its verdict, what is wrong, and what mends it.
type Line = (String, String, String);

/// The report of a check that ended so, by what was looked at.
#[track_caller]
fn lines(said: &Said, status: i32) -> Vec<(String, Line)> {
    assert_eq!(said.status, Some(status), "{}{}", String::from_utf8_lossy(&said.out), said.err);
    let report: Value = serde_json::from_slice(&said.out).expect("JSON");
    let text = |check: &Value, field: &str| check[field].as_str().unwrap_or_default().to_owned();
    let line = |check: &Value| (text(check, "verdict"), text(check, "says"), text(check, "mend"));
    let checks = report["checks"].as_array().expect("a list");
    checks.iter().map(|check| (text(check, "check"), line(check))).collect()
}

/// That one thing has this verdict, with these words in what is said or in what mends it.
#[track_caller]
fn expect(lines: &[(String, Line)], check: &str, verdict: &str, words: &str) {
    let found = lines.iter().any(|(name, (is, says, mend))| {
        name == check && is == verdict && (says.contains(words) || mend.contains(words))
    });
    assert!(found, "`{check}` is not {verdict} with `{words}`: {lines:#?}");
}

fn doctor(setting: &Setting, further: &[&str]) -> Said {
    let flags: Vec<&str> = setting.flags.iter().map(String::as_str).chain(further.iter().copied()).collect();
    setting.ask("doctor", &flags)
}

fn events(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config { name: "EVENTS".to_owned(), subjects: vec!["events.>".to_owned()], ..Config::default() };
    change(&mut config);
    config
}

#[tokio::test]
async fn what_can_run_is_found_well_and_nothing_is_created() {
    let nats = Nats::start().await;
    nats.broker.jetstream().create_stream(events(|_| {})).await.expect("a stream");
    let setting = small("", &["--nats", &nats.url()]);
    let said = doctor(&setting, &["--format", "json"]);
    let found = lines(&said, 0);
    expect(&found, "broker", "ok", "JetStream on");
    expect(&found, "stream EVENTS", "ok", "can be read, and read again");
    expect(&found, "stream SEEN", "ok", "is not there yet; `run` creates it for `seen.*`");
    expect(&found, "permissions", "ok", "may do all that is needed");
    expect(&found, "clock", "ok", "from this machine's");
    expect(&found, "home", "ok", "can be written");
    assert!(nats.broker.jetstream().get_stream("SEEN").await.is_err(), "doctor creates no stream");
    assert_eq!(consumers(&nats.broker).await, Vec::<String>::new());
    assert!(!setting.home.path().join(".state").exists(), "and leaves nothing under the home");

    setting.run(&[]).text();
    let found = lines(&doctor(&setting, &["--format", "json"]), 0);
    expect(&found, "stream SEEN", "ok", "carries changes on `seen.*`");
    let text = doctor(&setting, &[]).text();
    assert!(text.lines().any(|line| line.starts_with("ok           stream SEEN")), "a line a check: {text}");
}

#[tokio::test]
async fn each_setting_that_breaks_a_promise_is_refused_with_the_command_that_mends_it() {
    let nats = Nats::start().await;
    let jetstream = nats.broker.jetstream();
    let worse = events(|config| {
        config.retention = RetentionPolicy::WorkQueue;
        config.max_age = std::time::Duration::from_secs(3_600);
    });
    jetstream.create_stream(worse).await.expect("a stream");
    let seen = Config { name: "SEEN".to_owned(), subjects: vec!["seen.a".to_owned()], ..Config::default() };
    jetstream.create_stream(Config { max_bytes: 1_000, ..seen }).await.expect("a stream");
    let setting = small("", &["--nats", &nats.url()]);
    let found = lines(&doctor(&setting, &["--format", "json"]), 1);
    expect(&found, "stream EVENTS", "refused", "create it anew with `--retention limits`");
    expect(&found, "stream EVENTS", "warning", "`nats stream edit EVENTS --max-age=0` keeps them");
    expect(&found, "stream SEEN", "refused", "`nats stream edit SEEN --subjects \"seen.a,seen.*,_milepost.SEEN.*\"`");
    expect(&found, "stream SEEN", "refused", "`nats stream edit SEEN --max-bytes=-1`");
    let text = doctor(&setting, &[]);
    assert_eq!(text.status, Some(1));
    let text = String::from_utf8(text.out).expect("text");
    let line = "refused      stream EVENTS  it has retention `work`, which deletes messages once they are delivered, \
                and a restart has to read them again; create it anew with `--retention limits`";
    assert!(text.lines().any(|found| found == line), "{text}");
    // Without publishing, the other stream is nobody's matter.
    let found = lines(&doctor(&setting, &["--no-publish", "--format", "json"]), 1);
    assert!(found.iter().all(|(check, _)| check != "stream SEEN"), "{found:?}");
}

#[tokio::test]
async fn a_missing_stream_and_subjects_that_another_has_are_refused() {
    let nats = Nats::start().await;
    nats.stream("OTHER", &["seen.>"]).await;
    let setting = small("", &["--nats", &nats.url()]);
    let found = lines(&doctor(&setting, &["--format", "json"]), 1);
    expect(&found, "stream EVENTS", "refused", "`nats stream add EVENTS --subjects \"events.>\" --storage file");
    expect(&found, "stream SEEN", "refused", "stream `OTHER` takes `seen.*` already");
}

#[test]
fn a_broker_that_is_away_is_unreachable_and_the_rest_is_looked_at() {
    let setting = small("", &["--nats", "nats://user:secret@127.0.0.1:1"]);
    let said = doctor(&setting, &["--format", "json"]);
    let found = lines(&said, 3);
    expect(&found, "broker", "unreachable", "connecting to `nats://***@127.0.0.1:1`");
    expect(&found, "stream EVENTS", "unreachable", "not looked at");
    expect(&found, "home", "ok", "can be written");
    assert!(!format!("{found:?}{}", said.err).contains("secret"), "credentials are not shown: {found:?}");
}

#[test]
fn a_variable_that_is_not_set_is_refused() {
    let setting = small("nats: { token: \"${NO_SUCH_TOKEN}\" }\n", &[]);
    let found = lines(&doctor(&setting, &["--format", "json"]), 3);
    expect(&found, "broker", "refused", "NO_SUCH_TOKEN");
}

#[tokio::test]
async fn denied_permissions_are_named_without_publishing_anything() {
    let secrets = Secrets::new();
    let (told, untold) = ("\"seen.>\"", "[\"$SYS.REQ.USER.INFO\", \"$JS.API.CONSUMER.CREATE.>\"]");
    let users = format!(
        "authorization {{ users: [ {{ user: all, password: all }}, \
         {{ user: ann, password: ann, permissions: {{ publish: {{ deny: {told} }} }} }}, \
         {{ user: bob, password: bob, permissions: {{ publish: {{ deny: {untold} }} }} }} ] }}"
    );
    let server = secrets.start(&users).await;
    let user = |name: &str| server.url().replace("nats://", &format!("nats://{name}:{name}@"));
    let broker = connect_with(&NatsSettings::at(user("all"))).await.expect("an administrator");
    broker.jetstream().create_stream(events(|_| {})).await.expect("a stream");

    let found = lines(&doctor(&small("", &["--nats", &user("ann")]), &["--format", "json"]), 1);
    expect(&found, "permissions", "refused", "this user may not publish on `seen.*`, where changes go");
    expect(&found, "stream EVENTS", "ok", "can be read");

    let found = lines(&doctor(&small("", &["--nats", &user("bob")]), &["--format", "json"]), 1);
    expect(&found, "stream EVENTS", "refused", "Permissions Violation for Publish to \"$JS.API.CONSUMER.CREATE.EVENTS");
    expect(&found, "permissions", "warning", "allow the user to publish on `$SYS.REQ.USER.INFO`");
}

#[tokio::test]
async fn the_permissions_of_the_readme_are_all_that_is_needed() {
    let secrets = Secrets::new();
    let permissions = readme_block("JS.API.STREAM.INFO.MILESTONES")
        .replace("INVOICE_TRIGGERS", "SEEN")
        .replace("invoice.triggers", "seen")
        .replace(".order_to_invoice", ".p")
        .replace("MILESTONES", "EVENTS");
    let users = format!(
        "authorization {{ users: [ {{ user: all, password: all }}, \
         {{ user: ann, password: ann, permissions: {{ {permissions} }} }} ] }}"
    );
    let server = secrets.start(&users).await;
    let user = |name: &str| server.url().replace("nats://", &format!("nats://{name}:{name}@"));
    let broker = connect_with(&NatsSettings::at(user("all"))).await.expect("an administrator");
    broker.jetstream().create_stream(events(|_| {})).await.expect("a stream");
    let found = lines(&doctor(&small("", &["--nats", &user("ann")]), &["--format", "json"]), 0);
    expect(&found, "permissions", "ok", "user `ann` may do all that is needed");
}

/// A pipeline of one file and one table that lies there.
fn of_files(table: &str) -> Setting {
    let home = folder();
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).expect("writable");
    write("row.json", r#"{"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}}}"#);
    write("rows.ndjson", "{\"id\":\"1\"}\n");
    write("ids.sql", "SELECT id FROM items");
    write(
        "p.yaml",
        &format!(
            "pipeline: p\nclock: event_time\nsources:\n  items: {{ contract: row.json, files: rows.ndjson, upsert: [id] }}\n\
             jobs:\n  ids: {{ sql: ids.sql, key: [id] }}\nsinks:\n  - {{ job: ids, parquet: {{ path: \"{table}\" }} }}\n"
        ),
    );
    Setting { pipeline: home.path().join("p.yaml"), home, flags: Vec::new() }
}

#[test]
fn files_table_paths_and_a_home_that_can_not_be_written_are_looked_at() {
    let setting = of_files("out/ids");
    let found = lines(&doctor(&setting, &["--format", "json"]), 0);
    expect(&found, "source items", "ok", "its file is there");
    expect(&found, "table out/ids", "ok", "its path is free");
    assert!(found.iter().all(|(check, _)| check != "broker"), "no broker is needed: {found:?}");

    std::fs::create_dir_all(setting.home.path().join("out/ids")).expect("a folder");
    std::fs::remove_file(setting.home.path().join("rows.ndjson")).expect("removed");
    let found = lines(&doctor(&setting, &["--format", "json"]), 1);
    expect(&found, "source items", "refused", "there is no ");
    expect(&found, "table out/ids", "refused", "move what lies there");

    // Below a file nobody can write, whoever asks.
    let pipeline = setting.pipeline.display().to_string();
    let home = setting.home.path().join("row.json/home").display().to_string();
    let said = milepost_in::<&str>(&[], &["doctor", &pipeline, "--home", &home, "--format", "json"]);
    expect(&lines(&said, 1), "home", "refused", "it can't be written");
}

#[test]
fn a_bucket_is_tried_and_one_that_is_not_there_is_told() {
    let server = S3Server::start();
    server.bucket("reports");
    for (table, status, verdict, words) in [
        ("s3://reports/ids", 0, "ok", "keeps `If-Match` and `If-None-Match`"),
        ("s3://nowhere/ids", 3, "unreachable", "NoSuchBucket"),
    ] {
        let setting = of_files(table);
        let (pipeline, home) = (setting.pipeline.display().to_string(), setting.home());
        let said = milepost_in(&server.environment(), &["doctor", &pipeline, "--home", &home, "--format", "json"]);
        expect(&lines(&said, status), &format!("table {table}"), verdict, words);
    }
}
