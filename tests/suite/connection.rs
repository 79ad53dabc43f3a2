//! The program and its broker: who it says it is, what it says when the broker does not agree, and what it leaves behind.

use std::path::Path;

use async_nats::jetstream::stream::Config;
use futures::TryStreamExt;
use milepost::definition::pipeline::{NatsAuth, NatsSettings, NatsTls};
use milepost::source::connect::{Broker, connect_with};
use milepost::types::Secret;
use nkeys::KeyPair;
use serde_json::{Value, json};

use crate::program::{Said, Setting, folder, milepost_in, wait_until};
use crate::shipped_data::in_repository;
use crate::support::Nats;
use crate::support::secured::{Operator, Secrets, secrets_of};

/// A pipeline of one source and one job in its home, with this section on how to reach the broker.
pub(crate) fn small(nats: &str, flags: &[&str]) -> Setting {
    let home = folder();
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).expect("writable");
    write(
        "event.json",
        r#"{"type": "object", "required": ["id"], "properties": {"id": {"type": "string", "maxLength": 20}}}"#,
    );
    write("seen.sql", "SELECT id FROM events");
    write(
        "p.yaml",
        &format!(
            "pipeline: p\n{nats}sources:\n  events:\n    contract: event.json\n    \
             jetstream: {{ stream: EVENTS, subjects: [\"events.>\"] }}\n    unique: [id]\n\
             jobs:\n  seen: {{ sql: seen.sql, key: [id] }}\n\
             sinks:\n  - {{ job: seen, jetstream: {{ stream: SEEN, subject: \"seen.{{id}}\" }} }}\n"
        ),
    );
    let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
    Setting { pipeline: home.path().join("p.yaml"), home, flags }
}

/// A stream with three events, of which one is none.
pub(crate) async fn feed(broker: &Broker) {
    let subjects = vec!["events.>".to_owned()];
    let config = Config { name: "EVENTS".to_owned(), subjects, ..Config::default() };
    broker.jetstream().create_stream(config).await.expect("a stream");
    for body in [r#"{"id":"1"}"#, r#"{"id":"2"}"#, "{"] {
        broker.jetstream().publish("events.a", body.into()).await.expect("sent").await.expect("stored");
    }
}

pub(crate) async fn consumers(broker: &Broker) -> Vec<String> {
    let mut all = Vec::new();
    for stream in ["EVENTS", "SEEN", "MILESTONES", "INVOICE_TRIGGERS"] {
        if let Ok(stream) = broker.jetstream().get_stream(stream).await {
            all.extend(stream.consumer_names().try_collect::<Vec<String>>().await.expect("names"));
        }
    }
    all
}

/// One way to show who this is.
struct Form<'a> {
    /// For the pipeline file, where `URL` is the broker.
    section: &'a str,
    /// The environment that goes with it, and one that the broker refuses.
    right: &'a [(&'a str, &'a str)],
    wrong: &'a [(&'a str, &'a str)],
    /// What the refusal says.
    refusal: &'a str,
    /// What nobody may see.
    secrets: &'a [String],
}

/// Checks a form, and that nothing that the program says or writes shows a secret, whatever is logged.
async fn check(url: &str, admin: &NatsSettings, form: Form<'_>) {
    let broker = connect_with(admin).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    for stream in ["EVENTS", "SEEN"] {
        broker.jetstream().delete_stream(stream).await.ok();
    }
    feed(&broker).await;
    let setting = small(&format!("nats: {}\n", form.section.replace("URL", url)), &[]);
    let home = setting.home();
    let pipeline = setting.pipeline.display().to_string();
    let everything = [("MILEPOST_LOG", "trace")];
    let ask = |environment: &[(&str, &str)], arguments: &[&str]| {
        milepost_in(&[&everything, environment].concat(), &[arguments, &["--home", &home]].concat())
    };
    let run = ["run", &pipeline, "--until-caught-up"];
    let mut said = vec![ask(form.right, &["check", &pipeline]), ask(form.right, &run)];
    said.push(ask(form.right, &["status", &pipeline]));
    said.push(ask(form.right, &["query", &pipeline, "SELECT * FROM milepost.dead_letters"]));
    assert!(said.iter().all(|said| said.status == Some(0)), "{}: {}", form.section, said[1].err);
    assert!(said[1].err.contains("CONNECT"), "the client logs what it does");
    let changes = broker.jetstream().get_stream("SEEN").await.expect("made by the run");
    assert_eq!(changes.cached_info().state.messages, 3, "{}", form.section);
    let refused = ask(form.wrong, &run);
    assert_eq!(refused.status, Some(3), "{}", refused.err);
    assert!(refused.err.contains(form.refusal), "{}: {}", form.refusal, refused.err);
    said.push(refused);
    for secret in form.secrets {
        for Said { out, err, .. } in &said {
            let shown = [String::from_utf8_lossy(out).into_owned(), err.clone()].concat();
            let at = shown.find(secret.as_str());
            assert_eq!(
                at,
                None,
                "`{}` is shown: {}",
                form.section,
                at.map_or("", |at| &shown[at.saturating_sub(100)..at])
            );
        }
        assert!(!held(Path::new(&home), secret.as_bytes()), "`{}`: a secret lies under the home", form.section);
    }
}

/// Whether any file below a folder holds these bytes.
fn held(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).expect("readable").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return held(&path, bytes);
        }
        std::fs::read(&path).is_ok_and(|text| text.windows(bytes.len()).any(|window| window == bytes))
    })
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

#[tokio::test]
async fn passwords_and_nkeys_are_shown_to_the_broker_and_nowhere_else() {
    let secrets = Secrets::new();
    let (user, stranger) = (KeyPair::new_user(), KeyPair::new_user());
    let (seed, strange) = (user.seed().expect("a seed"), stranger.seed().expect("a seed"));
    let (file, strange_file) = (secrets.write("a.nk", &seed), secrets.write("b.nk", &strange));
    let users = format!("users: [ {{ user: ann, password: \"hunter2/x\" }}, {{ nkey: {} }} ]", user.public_key());
    let server = secrets.start(&format!("authorization {{ {users} }}")).await;
    let url = server.url();
    let auth = NatsAuth::User { user: "ann".to_owned(), password: Secret::new("hunter2/x") };
    let admin = NatsSettings { auth: Some(auth), ..NatsSettings::at(&url) };
    let passwords = owned(&["hunter2", "hunter3"]);
    check(
        &url,
        &admin,
        Form {
            section: "{ url: \"URL\", user: ann, password: \"${PASSWORD}\" }",
            right: &[("PASSWORD", "hunter2/x")],
            wrong: &[("PASSWORD", "hunter3/x")],
            refusal: "the broker refuses user `ann`",
            secrets: &passwords,
        },
    )
    .await;
    check(
        &url,
        &admin,
        Form {
            section: "{ url: \"${BROKER}\" }",
            right: &[("BROKER", &url.replace("nats://", "nats://ann:hunter2%2Fx@"))],
            wrong: &[("BROKER", &url.replace("nats://", "nats://ann:hunter3%2Fx@"))],
            refusal: "the broker refuses the user info of the address",
            secrets: &passwords,
        },
    )
    .await;
    check(
        &url,
        &admin,
        Form {
            section: "{ url: \"URL\", nkey: \"${SEED}\" }",
            right: &[("SEED", &file)],
            wrong: &[("SEED", &strange_file)],
            refusal: "does it list the public key?",
            secrets: &[seed, strange],
        },
    )
    .await;
}

#[tokio::test]
async fn tokens_are_shown_to_the_broker_and_nowhere_else() {
    let secrets = Secrets::new();
    let passwords = owned(&["hunter2", "hunter3"]);
    let server = secrets.start("authorization { token: \"hunter2/x\" }").await;
    let url = server.url();
    let admin = NatsSettings { auth: Some(NatsAuth::Token(Secret::new("hunter2/x"))), ..NatsSettings::at(&url) };
    check(
        &url,
        &admin,
        Form {
            section: "{ url: \"URL\", token: \"${TOKEN}\" }",
            right: &[("TOKEN", "hunter2/x")],
            wrong: &[("TOKEN", "hunter3/x")],
            refusal: "the broker refuses the token of `nats.token`",
            secrets: &passwords,
        },
    )
    .await;
}

#[tokio::test]
async fn credentials_files_and_client_certificates_are_shown_to_the_broker_and_nowhere_else() {
    let secrets = Secrets::new();
    let operator = Operator::new();
    let server = secrets.start(&operator.configuration()).await;
    let (good, expired) = (operator.credentials(&json!({})), operator.credentials(&json!({ "exp": 1_700_000_001 })));
    let (file, expired_file) = (secrets.write("good.creds", &good), secrets.write("expired.creds", &expired));
    let url = server.url();
    let admin =
        NatsSettings { auth: Some(NatsAuth::Credentials(secrets.named("good.creds"))), ..NatsSettings::at(&url) };
    check(
        &url,
        &admin,
        Form {
            section: "{ url: \"URL\", credentials: \"${CREDENTIALS}\" }",
            right: &[("CREDENTIALS", &file)],
            wrong: &[("CREDENTIALS", &expired_file)],
            refusal: "expired at 2023-11-14T22:13:21Z",
            secrets: &[secrets_of(&good), secrets_of(&expired)].concat(),
        },
    )
    .await;
    // As flags, for a pipeline that names no broker.
    let admin = connect_with(&admin).await.expect("an administrator");
    let setting = small("", &["--nats", &url, "--nats-creds", &file]);
    setting.run(&[]).text();
    let setting = small("", &["--nats", &url]);
    let said = setting.run(&[]).refusal(3);
    assert!(
        said.contains("asks for credentials and none were given") && said.contains("`--nats-creds FILE`"),
        "{said}"
    );
    let setting = small("", &["--nats", &url, "--nats-creds", "none.creds"]);
    let said = setting.run(&[]).refusal(2);
    assert!(said.contains("reading the credentials file `none.creds`"), "{said}");
    drop(admin);
    drop(server);

    secrets.certificates("ours");
    let server = secrets.start(&secrets.tls("ours", true)).await;
    let url = server.url();
    let identity = Some((secrets.named("ours-client.pem"), secrets.named("ours-client.key")));
    let tls = NatsTls { ca: Some(secrets.named("ours-ca.pem")), identity, first: false };
    let admin = NatsSettings { tls: Some(tls), ..NatsSettings::at(&url) };
    let folder = secrets.path("").display().to_string();
    let file = std::fs::read_to_string(secrets.path("ours-client.key")).expect("a key");
    let key: Vec<String> = file.lines().filter(|line| !line.starts_with('-')).map(str::to_owned).collect();
    let wrong_key = key.clone();
    check(&url, &admin, Form {
        section: "{ url: \"URL\", tls: { ca: \"${PKI}/ours-ca.pem\", certificate: \"${PKI}/ours-${ROLE}.pem\", key: \"${PKI}/ours-${ROLE}.key\" } }",
        right: &[("PKI", &folder), ("ROLE", "client")],
        wrong: &[("PKI", &folder), ("ROLE", "old-client")],
        refusal: "the client certificate has expired",
        secrets: &wrong_key,
    })
    .await;
}

#[test]
fn a_secret_in_the_file_is_refused_and_not_shown() {
    let setting = small("nats:\n  url: nats://ann:hunter2@broker\n  token: hunter2\n", &[]);
    for command in ["check", "run", "status"] {
        let said = setting.ask(command, &[]).refusal(2);
        assert!(said.contains("credentials stand in the file") && said.contains("`${NATS_TOKEN}`"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    // Nor where the file can't even be read as YAML.
    for nats in
        ["nats:\n  token: \"hunter2\" x\n", "nats: { password: hunter2 ]\n", "nats: { url: nats://ann:hunter2@a, ] }\n"]
    {
        let said = small(nats, &[]).ask("check", &[]).refusal(2);
        assert!(said.contains("p.yaml:") && said.contains("***"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn only_who_connects_needs_the_variables_of_the_connection() {
    let nats = Nats::start().await;
    feed(&nats.broker).await;
    let section = "nats: { url: \"${MILEPOST_NO_URL}\", token: \"${MILEPOST_NO_TOKEN}\" }\n";
    let setting = small(section, &[]);
    setting.ask("check", &[]).text();
    setting.ask("status", &[]).refusal(1);
    let said = setting.run(&[]).refusal(2);
    for variable in ["MILEPOST_NO_URL", "MILEPOST_NO_TOKEN"] {
        assert!(said.contains(&format!("the environment variable `{variable}` is not set")), "{said}");
    }
    let said = small(section, &["--nats", &nats.url()]).run(&[]).refusal(2);
    assert!(said.contains("MILEPOST_NO_TOKEN") && !said.contains("variable `MILEPOST_NO_URL`"), "{said}");
    // A broker that asks for nothing takes any user.
    small(section, &["--nats", &nats.url().replace("nats://", "nats://ann@")]).run(&[]).text();
    let malformed = small("nats: { token: \"${NO-NAME}\" }\n", &[]).ask("check", &[]).refusal(2);
    assert!(malformed.contains("is not the name of an environment variable"), "{malformed}");
}

#[tokio::test]
async fn a_missing_stream_ends_with_3_and_the_command_that_makes_it() {
    let nats = Nats::start().await;
    let setting = small("", &["--nats", &nats.url()]);
    let said = setting.run(&[]).refusal(3);
    let command = "`nats stream add EVENTS --subjects \"events.>\" --storage file --retention limits --defaults`";
    assert!(said.contains(command), "{said}");
}

#[tokio::test]
async fn a_denied_subject_is_named_and_is_no_time_out() {
    let secrets = Secrets::new();
    for (denied, subject) in [
        ("$JS.API.STREAM.INFO.EVENTS", "$JS.API.STREAM.INFO.EVENTS"),
        ("$JS.API.CONSUMER.CREATE.EVENTS", "$JS.API.CONSUMER.CREATE.EVENTS"),
        ("$JS.API.STREAM.CREATE.SEEN", "$JS.API.STREAM.CREATE.SEEN"),
        ("seen.>", "seen."),
        ("_milepost.SEEN.>", "_milepost.SEEN.p"),
    ] {
        let users = format!(
            "authorization {{ users: [ {{ user: all, password: all }}, \
             {{ user: ann, password: ann, permissions: {{ publish: {{ deny: \"{denied}\" }} }} }} ] }}"
        );
        let server = secrets.start(&users).await;
        let user = |name: &str| server.url().replace("nats://", &format!("nats://{name}:{name}@"));
        let broker = connect_with(&NatsSettings::at(user("all"))).await.expect("an administrator");
        for stream in ["EVENTS", "SEEN"] {
            broker.jetstream().delete_stream(stream).await.ok();
        }
        feed(&broker).await;
        let setting = small("", &["--nats", &user("ann")]);
        let said = setting.run(&[]).refusal(3);
        assert!(said.contains(&format!("Permissions Violation for Publish to \"{subject}")), "{said}");
        assert!(said.contains("the broker's configuration must allow this to the user"), "{said}");
    }
}

#[tokio::test]
async fn warned_settings_are_logged_and_refused_ones_end_with_2() {
    let nats = Nats::start().await;
    let config = || Config { name: "EVENTS".to_owned(), subjects: vec!["events.>".to_owned()], ..Config::default() };
    nats.broker.jetstream().create_stream(Config { max_messages: 10, ..config() }).await.expect("a stream");
    let setting = small("", &["--nats", &nats.url()]);
    let said = setting.run(&[]);
    assert!(
        said.err.contains(" WARN ") && said.err.contains("`nats stream edit EVENTS --max-msgs=-1` keeps them"),
        "{}",
        said.err
    );
    said.text();
    let per_subject = Config { max_messages: 10, max_messages_per_subject: 1, ..config() };
    nats.broker.jetstream().update_stream(per_subject).await.expect("an edit");
    let said = setting.run(&[]).refusal(2);
    assert!(said.contains("`nats stream edit EVENTS --max-msgs-per-subject=-1` keeps them"), "{said}");
}

#[tokio::test]
async fn a_clean_end_leaves_no_consumer_and_status_says_how_far_behind_it_is() {
    let nats = Nats::start().await;
    feed(&nats.broker).await;
    let setting = small("", &["--nats", &nats.url()]);
    let source = |report: &Value| {
        let source = &report["sources"][0];
        (source["next"].clone(), source["end"].clone(), source["read"].clone())
    };
    let said = setting.run(&[]);
    assert!(said.err.contains("events=3 master_data=0"), "{}", said.err);
    said.text();
    assert_eq!(source(&setting.status().expect("a report")), (json!(4), json!(4), json!(3)));
    assert_eq!(consumers(&nats.broker).await, Vec::<String>::new());

    // Nothing new has come: how far behind it is is known all the same.
    let process = setting.start();
    wait_until("it runs", || {
        setting
            .status()
            .is_some_and(|report| report["running"] == true && source(&report) == (json!(4), json!(4), json!(3)))
    });
    nats.publish("events.a", [r#"{"id":"3"}"#.to_owned()]).await;
    wait_until("the event is read", || {
        setting.status().is_some_and(|report| source(&report) == (json!(5), json!(5), json!(4)))
    });
    assert_eq!(consumers(&nats.broker).await.len(), 1);
    let said = process.terminate();
    assert_eq!(said.status, Some(0), "{}", said.err);
    assert_eq!(consumers(&nats.broker).await, Vec::<String>::new());
    let text = setting.ask("status", &[]).text();
    assert!(text.lines().any(|line| line.split_whitespace().take(3).eq(["events", "5", "0"])), "{text}");
}

/// A fenced block of the README that holds this text.
pub(crate) fn readme_block(text: &str) -> String {
    let readme = std::fs::read_to_string(in_repository("README.md")).expect("readable");
    let blocks: Vec<&str> = readme.split("```").skip(1).step_by(2).collect();
    let block = blocks.into_iter().find(|block| block.contains(text)).expect("the README has it");
    block.split_once('\n').expect("a language").1.to_owned()
}

#[tokio::test]
async fn the_sample_events_of_the_readme_give_an_invoice_trigger_with_the_permissions_that_it_names() {
    let secrets = Secrets::new();
    let permissions = readme_block("JS.API.STREAM.INFO.MILESTONES");
    let users = format!(
        "authorization {{ users: [ {{ user: all, password: all }}, \
         {{ user: ann, password: ann, permissions: {{ {permissions} }} }} ] }}"
    );
    let server = secrets.start(&users).await;
    let user = |name: &str| server.url().replace("nats://", &format!("nats://{name}:{name}@"));
    let broker = connect_with(&NatsSettings::at(user("all"))).await.expect("an administrator");
    let config =
        Config { name: "MILESTONES".to_owned(), subjects: vec!["milestones.>".to_owned()], ..Config::default() };
    broker.jetstream().create_stream(config).await.expect("a stream");
    let commands = readme_block("nats pub milestones");
    let mut published = 0;
    for (subject, body) in commands.lines().filter_map(|line| line.strip_prefix("nats pub ")?.split_once(' ')) {
        let body = body.trim_matches('\'').to_owned();
        broker.jetstream().publish(subject.to_owned(), body.into()).await.expect("sent").await.expect("stored");
        published += 1;
    }
    assert_eq!(published, 3);
    let setting = Setting::on_broker(&user("ann"));
    // The shipped pipeline publishes to a second stream, which these permissions leave out.
    let text = std::fs::read_to_string(&setting.pipeline).expect("readable");
    assert!(text.contains("INVOICE_EXCEPTIONS"));
    let setting = setting.with_pipeline(|text| {
        let lines: Vec<&str> = text.lines().filter(|line| !line.contains("INVOICE_EXCEPTIONS")).collect();
        lines.join("\n")
    });
    let said = setting.run(&[]);
    assert!(!said.err.contains("NATS refuses") && !said.err.contains(" WARN "), "{}", said.err);
    said.text();
    let sql = commands.lines().find_map(|line| line.split('"').nth(1).filter(|sql| sql.starts_with("SELECT")));
    let rows = setting.query(sql.expect("the README asks"));
    assert_eq!(rows, "trigger_key,quantity,amount,currency,basis\nS1/o-990004/10,1.000,99.990,EUR,pod\n");
    assert_eq!(consumers(&broker).await, Vec::<String>::new());
}
