//! Canaries: texts that nobody may see, planted where secrets and personal data are, and looked for everywhere.
//!
//! A secret of the configuration may be nowhere, whatever is logged. A value of a bad event may be in the dead letter of a source
//! that keeps all of it, in no log and in no error; and where a source keeps less, nowhere at all.

use std::collections::BTreeMap;
use std::path::Path;

use async_nats::HeaderMap;
use async_nats::jetstream::stream::Config;
use milepost::definition::pipeline::NatsSettings;
use milepost::source::connect::{Broker, connect_with};

use crate::program::{Said, folder, milepost_in, start_in, wait_until};
use crate::support::s3::{ACCESS_KEY, S3Server, SECRET_KEY};
use crate::support::secured::Secrets;

const PASSWORD: &str = "canary-of-the-password";
const URL_PASSWORD: &str = "canary-of-the-address";
/// A value of a bad event of the source of that name.
fn canary(source: &str) -> String {
    format!("canary-of-{source}")
}

const SOURCES: [&str; 3] = ["whole", "redacted", "referenced"];

/// Bad events in every way, each with the source's canary where values are.
fn bad_events(source: &str) -> Vec<(Option<&'static str>, Vec<u8>)> {
    let canary = canary(source);
    let packed = Some("application/json");
    let body = |text: &str| text.replace("CANARY", &canary).into_bytes();
    vec![
        (None, body(r#"{"id":"1","n":"CANARY"}"#)),
        (None, body(r#"{"id":"2","n":1,"at":"CANARY"}"#)),
        (None, body(r#"{"id":"CANARY-which-is-far-too-long-for-the-contract","n":1}"#)),
        (None, body(r#"{"id":"3","n":1,"n":"CANARY"}"#)),
        (None, body(r#"{"id":"4","n":1,"kind":"CANARY"}"#)),
        (None, body(r#"{"id":"5","n":1,"more":{"x":["CANARY"]}}"#)),
        (None, body("CANARY is no JSON")),
        (None, body(r#"{"id":"CANARY", "n": }"#)),
        (None, body("\u{0}CANARY").into_iter().chain([0xff]).collect()),
        (packed, body(r#"[{"id":"6","n":1},{"id":"7","n":"CANARY"}]"#)),
        (packed, body(r#"[{"id":"CANARY"}, 7"#)),
        (Some("application/x-ndjson"), body("{\"id\":\"8\",\"n\":\"CANARY\"}\n{\"id\":\"CANARY\"}\n")),
        (Some("application/vnd.apache.arrow.stream"), body("CANARY")),
        (Some("text/x-CANARY"), body("CANARY")),
        // The same key with other content.
        (None, body(r#"{"id":"9","n":1,"note":"first"}"#)),
        (None, body(r#"{"id":"9","n":1,"note":"CANARY"}"#)),
    ]
}

async fn feed(broker: &Broker) {
    for source in SOURCES {
        let subjects = vec![format!("{source}.>")];
        let config = Config { name: source.to_uppercase(), subjects, ..Config::default() };
        broker.jetstream().create_stream(config).await.expect("a stream");
        for (content_type, body) in bad_events(source) {
            let mut headers = HeaderMap::new();
            let shown = content_type.map(|kind| kind.replace("CANARY", &canary(source)));
            shown.iter().for_each(|kind| headers.insert("Content-Type", kind.as_str()));
            headers.insert("Patient", canary(source).as_str());
            let sent = broker.jetstream().publish_with_headers(format!("{source}.a"), headers, body.into()).await;
            sent.expect("sent").await.expect("stored");
        }
    }
}

/// A pipeline of the three sources, whose table lies in a bucket and whose changes go to a stream.
fn pipeline(folder: &Path, budget: &str) -> String {
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("writable");
    write(
        "event.json",
        r#"{"$id": "event", "type": "object", "required": ["id", "n"], "additionalProperties": false, "properties": {
            "id": {"type": "string", "maxLength": 20}, "n": {"type": "integer"}, "note": {"type": "string"},
            "kind": {"type": "string", "enum": ["a"]}, "at": {"type": "string", "format": "date-time"}}}"#,
    );
    write(
        "all.sql",
        "SELECT id, n FROM whole UNION ALL SELECT id, n FROM redacted UNION ALL SELECT id, n FROM referenced",
    );
    write("counts.sql", "SELECT n, count(*) AS events FROM every GROUP BY n");
    write(
        "letters.sql",
        "SELECT source, sequence, index, rule, place, reason, headers, text FROM milepost.dead_letters",
    );
    let source = |name: &str, keep: &str| {
        format!(
            "  {name}:\n    contract: event.json\n    jetstream: {{ stream: {}, subjects: [\"{name}.>\"] }}\n    \
             unique: [id]\n    dead_letters: {{ keep: {keep}{budget} }}\n",
            name.to_uppercase()
        )
    };
    write(
        "p.yaml",
        &format!(
            "pipeline: p\nclock: broker\nnats: {{ url: \"${{BROKER}}\", user: ann, password: \"${{PASSWORD}}\" }}\nsources:\n{}{}{}\
             jobs:\n  every: {{ sql: all.sql }}\n  counts: {{ sql: counts.sql, key: [n] }}\n  letters: {{ sql: letters.sql, key: [source, sequence, index] }}\n\
             sinks:\n  - {{ job: counts, jetstream: {{ stream: COUNTS, subject: \"counts.{{n}}\" }} }}\n  \
             - {{ job: letters, parquet: {{ path: \"s3://reports/letters\" }} }}\n  - {{ job: counts, parquet: {{ path: counts }} }}\n",
            source("whole", "full"),
            source("redacted", "redacted"),
            source("referenced", "reference"),
        ),
    );
    folder.join("p.yaml").display().to_string()
}

/// Everything that the commands say, by what was asked.
fn asked(environment: &[(&str, String)], pipeline: &str, home: &str) -> BTreeMap<String, Said> {
    let commands: [&[&str]; 16] = [
        &["check"],
        &["doctor"],
        &["run", "--until-caught-up"],
        &["status"],
        &["status", "--format", "json"],
        &["query", "SELECT * FROM milepost.dead_letters", "--format", "json"],
        &["query", "SELECT * FROM milepost.dead_letters"],
        &["query", "SELECT * FROM letters", "--format", "csv"],
        &["explain", "counts"],
        &["path", "letters"],
        &["dlq list", "--format", "csv"],
        &["dlq list", "--each", "--limit", "100"],
        &["dlq export"],
        &["verify"],
        &["verify", "--format", "json"],
        &["query", "SELECT nonsense"],
    ];
    let mut said = BTreeMap::new();
    for command in commands {
        let (name, further) = command.split_first().expect("a command");
        let name: Vec<&str> = name.split(' ').collect();
        let arguments = [&name[..], &[pipeline, "--home", home], further].concat();
        said.insert(command.join(" "), milepost_in(environment, &arguments));
    }
    for source in SOURCES {
        for sequence in 1..=bad_events(source).len() {
            let sequence = sequence.to_string();
            let arguments = ["dlq", "show", pipeline, source, &sequence, "--home", home];
            said.insert(format!("dlq show {source} {sequence}"), milepost_in(environment, &arguments));
        }
    }
    said
}

/// That a text is in no output of which `allowed` does not say otherwise, and in no file below the home.
#[track_caller]
fn is_nowhere(canary: &str, said: &BTreeMap<String, Said>, home: &Path, allowed: &dyn Fn(&str) -> bool) {
    // Also as the bytes are shown in hexadecimal.
    let hexadecimal: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    for (command, said) in said {
        let out = String::from_utf8_lossy(&said.out).into_owned();
        let shown = if allowed(command) { said.err.clone() } else { [out, said.err.clone()].concat() };
        for form in [canary, &hexadecimal] {
            let at = shown.find(form);
            let around = at.map(|at| shown.get(at.saturating_sub(200)..at + form.len()).unwrap_or("").to_owned());
            assert_eq!(around, None, "`{form}` is shown by `{command}`");
        }
    }
    assert!(!is_held(home, canary.as_bytes()), "`{canary}` lies below the home");
}

fn is_held(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).expect("readable").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.is_symlink() {
            return is_held(&path, bytes);
        }
        std::fs::read(&path).is_ok_and(|text| text.windows(bytes.len()).any(|window| window == bytes))
    })
}

#[tokio::test]
async fn no_canary_is_where_it_must_not_be() {
    let (secrets, store, work, home) = (Secrets::new(), S3Server::start(), folder(), folder());
    store.bucket("reports");
    let server = secrets
        .start(&format!("authorization {{ users: [ {{ user: ann, password: \"{PASSWORD}\" }}, {{ user: bob, password: {URL_PASSWORD} }} ] }}"))
        .await;
    let admin = NatsSettings::at(server.url().replace("nats://", &format!("nats://bob:{URL_PASSWORD}@")));
    feed(&connect_with(&admin).await.expect("an administrator")).await;
    let mut environment = store.environment().to_vec();
    environment.extend([("BROKER", server.url()), ("PASSWORD", PASSWORD.to_owned())]);
    environment.push(("MILEPOST_LOG", "milepost=trace,info".to_owned()));
    let path = pipeline(work.path(), "");
    let home_text = home.path().display().to_string();
    let mut said = asked(&environment, &path, &home_text);
    assert_eq!(said["run --until-caught-up"].status, Some(0), "{}", said["run --until-caught-up"].err);
    assert_eq!(said["verify"].status, Some(0), "{}", String::from_utf8_lossy(&said["verify"].out));

    // A running process answers the same, and what refuses to run says why.
    let mut running = start_in(&environment, &["run", &path, "--home", &home_text]);
    wait_until("it answers", || {
        running.check_alive();
        let asked = milepost_in(&environment, &["status", &path, "--home", &home_text]);
        String::from_utf8_lossy(&asked.out).contains("running, epoch")
    });
    said.insert(
        "dlq export again".to_owned(),
        milepost_in(&environment, &["dlq", "export", &path, "--home", &home_text]),
    );
    said.insert("run in the background".to_owned(), running.terminate());
    let strict = folder();
    let strict_path = pipeline(strict.path(), ", max_share: 0%, after: 1");
    let other_home = strict.path().join("home").display().to_string();
    let stopped = milepost_in(&environment, &["run", &strict_path, "--home", &other_home, "--until-caught-up"]);
    assert_eq!(stopped.status, Some(1), "{}", stopped.err);
    assert!(stopped.err.contains("dead letters"), "{}", stopped.err);
    said.insert("run over its budget".to_owned(), stopped);
    let wrong = [&environment[..], &[("PASSWORD", "canary-of-a-wrong-password".to_owned())]].concat();
    said.insert("run refused".to_owned(), milepost_in(&wrong, &["run", &path, "--home", &home_text]));
    let address = server.url().replace("nats://", &format!("nats://bob:{URL_PASSWORD}@"));
    for command in ["doctor", "verify"] {
        let arguments = [command, &path, "--home", &home_text, "--nats", &address];
        said.insert(format!("{command} by address"), milepost_in(&environment, &arguments));
    }

    let of_letters = |command: &str| command.starts_with("dlq") || command.starts_with("query");
    let whole = &said["dlq export"].out;
    assert!(String::from_utf8_lossy(whole).contains(&canary("whole")), "the canaries are where they may be");
    is_nowhere(&canary("whole"), &said, &strict.path().join("home"), &of_letters);
    for source in ["redacted", "referenced"] {
        is_nowhere(&canary(source), &said, home.path(), &|_| false);
        let letters = String::from_utf8_lossy(whole).lines().filter(|line| line.contains(source)).count();
        assert!(letters >= 14, "each of its bad events is counted all the same: {letters}");
    }
    for secret in [PASSWORD, URL_PASSWORD, "canary-of-a-wrong-password", SECRET_KEY, ACCESS_KEY] {
        is_nowhere(secret, &said, home.path(), &|_| false);
    }
}
