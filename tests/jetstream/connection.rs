//! Every way to show a broker who is there, and what is said when the broker does not agree.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use milepost::definition::pipeline::{NatsAuth, NatsSettings, NatsTls, Start};
use milepost::error::{Error, ErrorKind};
use milepost::source::connect::{Broker, connect_with};
use milepost::source::jetstream::JetStreamSource;
use milepost::source::{ReadLimit, Source};
use milepost::types::Secret;
use nkeys::KeyPair;
use serde_json::json;

use crate::support::SOON;
use crate::support::secured::{Operator, Secrets, secrets_of};

fn settings(url: &str, auth: Option<NatsAuth>) -> NatsSettings {
    NatsSettings { auth, ..NatsSettings::at(url) }
}

/// Connects, stores a message and reads it back.
async fn works(settings: &NatsSettings) -> Broker {
    let broker = connect_with(settings).await.unwrap_or_else(|error| panic!("{}", error.chain()));
    let stream = async_nats::jetstream::stream::Config { name: "S".to_owned(), ..Default::default() };
    broker.jetstream().get_or_create_stream(stream).await.expect("a stream");
    broker.jetstream().publish("S", "{}".into()).await.expect("sent").await.expect("stored");
    let mut source = JetStreamSource::open(&broker, "S", &[], Start::All).await.expect("the stream is there");
    let limit = ReadLimit { messages: 1, before: None, wait: SOON };
    assert_eq!(source.read(limit).await.expect("readable").messages.len(), 1);
    source.close().await;
    broker
}

async fn refusal(settings: &NatsSettings) -> Error {
    connect_with(settings).await.err().unwrap_or_else(|| panic!("{settings:?} is accepted"))
}

/// Checks what is said of a connection that is not made.
async fn refused(settings: &NatsSettings, kind: ErrorKind, expected: &str, secrets: &[String]) {
    let error = refusal(settings).await;
    let said = error.chain();
    assert!(said.contains(expected), "{expected}: {said}");
    assert_eq!(error.kind(), kind, "{said}");
    let shown = format!("{said} {error:?} {settings:?}");
    for secret in secrets {
        assert!(!shown.contains(secret.as_str()), "`{secret}` is shown: {shown}");
    }
}

#[tokio::test]
async fn token_and_user_with_password_are_shown_to_the_broker_and_to_nobody_else() {
    let secrets = Secrets::new();
    let server = secrets.start("authorization { token: \"hunter2@/x\" }").await;
    let token = |token: &str| settings(&server.url(), Some(NatsAuth::Token(Secret::new(token))));
    works(&token("hunter2@/x")).await;
    works(&NatsSettings::at(server.url().replace("nats://", "nats://hunter2%40%2Fx@"))).await;
    let wrong = ["hunter2".to_owned(), "hunter3".to_owned()];
    refused(&token("hunter3"), ErrorKind::Unavailable, "the broker refuses the token of `nats.token`", &wrong).await;
    let url = server.url().replace("nats://", "nats://hunter3@");
    refused(&NatsSettings::at(url), ErrorKind::Unavailable, "refuses the user info of the address", &wrong).await;
    let none = settings(&server.url(), None);
    refused(&none, ErrorKind::Unavailable, "asks for credentials and none were given: name them under `nats`", &[])
        .await;

    let secrets = Secrets::new();
    let server = secrets.start("authorization { user: ann, password: \"hunter2:x\" }").await;
    let user = |password: &str| {
        let auth = NatsAuth::User { user: "ann".to_owned(), password: Secret::new(password) };
        settings(&server.url(), Some(auth))
    };
    works(&user("hunter2:x")).await;
    works(&NatsSettings::at(server.url().replace("nats://", "nats://ann:hunter2%3Ax@"))).await;
    refused(&user("hunter3"), ErrorKind::Unavailable, "refuses user `ann` with the password", &wrong).await;
}

#[tokio::test]
async fn nkey_seed_signs_the_challenge_of_the_broker() {
    let secrets = Secrets::new();
    let (user, other) = (KeyPair::new_user(), KeyPair::new_user());
    let server = secrets.start(&format!("authorization {{ users: [{{ nkey: {} }}] }}", user.public_key())).await;
    let (seed, stranger) = (user.seed().expect("a seed"), other.seed().expect("a seed"));
    secrets.write("worker.nk", &format!("{seed}\n"));
    secrets.write("decorated.nk", &format!("-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"));
    secrets.write("stranger.nk", &stranger);
    secrets.write("spoiled.nk", &seed.replace(&seed[10..14], "AAAA"));
    secrets.write("public.nk", &user.public_key());
    let with = |file: &str| settings(&server.url(), Some(NatsAuth::Nkey(secrets.named(file))));
    works(&with("worker.nk")).await;
    works(&with("decorated.nk")).await;
    let all = [seed, stranger];
    let expected = "the broker refuses the user of the nkey file `stranger.nk`";
    refused(&with("stranger.nk"), ErrorKind::Unavailable, expected, &all).await;
    refused(&with("spoiled.nk"), ErrorKind::Definition, "the seed in the nkey file `spoiled.nk` is none", &all).await;
    refused(&with("public.nk"), ErrorKind::Definition, "it must hold the seed of a user", &all).await;
    refused(&with("none.nk"), ErrorKind::Definition, "reading the nkey file `none.nk`", &all).await;
}

#[tokio::test]
async fn credentials_file_is_taken_and_one_that_expired_or_is_of_others_is_told_apart() {
    let secrets = Secrets::new();
    let operator = Operator::new();
    let server = secrets.start(&operator.configuration()).await;
    let good = operator.credentials(&json!({}));
    let expired = operator.credentials(&json!({ "exp": 1_700_000_001 }));
    let stranger = Operator::new().credentials(&json!({}));
    let mut all = Vec::new();
    for (name, text) in [("worker.creds", &good), ("expired.creds", &expired), ("stranger.creds", &stranger)] {
        secrets.write(name, text);
        all.extend(secrets_of(text));
    }
    assert_eq!(all.len(), 6);
    secrets.write("half.creds", good.split("-----BEGIN USER").next().unwrap_or_default());
    let with = |file: &str| settings(&server.url(), Some(NatsAuth::Credentials(secrets.named(file))));
    works(&with("worker.creds")).await;
    let expected = "the user JWT of `expired.creds` expired at 2023-11-14T22:13:21Z: get a new credentials file";
    refused(&with("expired.creds"), ErrorKind::Unavailable, expected, &all).await;
    let expected = "refuses the user of the credentials file `stranger.creds`: is it of an account of this broker";
    refused(&with("stranger.creds"), ErrorKind::Unavailable, expected, &all).await;
    refused(&with("half.creds"), ErrorKind::Definition, "the credentials file `half.creds` can't be used", &all).await;
}

#[tokio::test]
async fn credentials_that_expire_while_they_are_used_are_named() {
    let secrets = Secrets::new();
    let operator = Operator::new();
    let server = secrets.start(&operator.configuration()).await;
    let soon = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() + 2;
    secrets.write("short.creds", &operator.credentials(&json!({ "exp": soon })));
    let auth = NatsAuth::Credentials(secrets.named("short.creds"));
    let since = Instant::now();
    let broker = connect_with(&settings(&server.url(), Some(auth))).await.expect("they are good still");
    let named = async {
        loop {
            match broker.complaint_since(since) {
                Some(said) if said.contains("the user JWT of `short.creds` expired at ") => break,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(SOON, named).await.expect("the broker ends the connection");
}

#[tokio::test]
async fn permission_that_is_denied_is_named_with_what_to_do() {
    let secrets = Secrets::new();
    let operator = Operator::new();
    let server = secrets.start(&operator.configuration()).await;
    secrets.write("all.creds", &operator.credentials(&json!({})));
    for (denied, file) in [("$JS.API.STREAM.INFO.>", "info.creds"), ("$JS.API.CONSUMER.CREATE.>", "create.creds")] {
        secrets.write(file, &operator.credentials(&json!({ "nats": { "pub": { "deny": [denied] } } })));
    }
    let with = |file: &str| settings(&server.url(), Some(NatsAuth::Credentials(secrets.named(file))));
    works(&with("all.creds")).await;
    for (file, subject) in [("info.creds", "$JS.API.STREAM.INFO.S"), ("create.creds", "$JS.API.CONSUMER.CREATE.S")] {
        let broker = connect_with(&with(file)).await.expect("the user is known");
        let error = match JetStreamSource::open(&broker, "S", &[], Start::All).await {
            Err(error) => error,
            Ok(source) => {
                let limit = ReadLimit { messages: 1, before: None, wait: SOON };
                let mut source = source.with_patience(Duration::from_millis(100));
                source.read(limit).await.err().unwrap_or_else(|| panic!("{file} may read"))
            }
        };
        let said = broker.explained(error).chain();
        assert!(said.contains("Permissions Violation for Publish to") && said.contains(subject), "{said}");
        assert!(said.contains("the broker's configuration must allow this to the user"), "{said}");
        assert_eq!(said.matches("Permissions Violation").count(), 1, "{said}");
    }
}

#[tokio::test]
async fn broker_is_known_by_its_authority_and_the_client_by_its_certificate() {
    let secrets = Secrets::new();
    secrets.certificates("ours");
    secrets.certificates("theirs");
    let tls = |ca: Option<&str>, client: Option<&str>, first: bool| NatsTls {
        ca: ca.map(|name| secrets.named(&format!("{name}-ca.pem"))),
        identity: client
            .map(|name| (secrets.named(&format!("{name}-client.pem")), secrets.named(&format!("{name}-client.key")))),
        first,
    };
    let with = |url: &str, tls: NatsTls| NatsSettings { tls: Some(tls), ..NatsSettings::at(url) };

    let server = secrets.start(&secrets.tls("ours", false)).await;
    works(&with(&server.url(), tls(Some("ours"), None, false))).await;
    works(&with(&server.url().replace("nats://", "tls://"), tls(Some("ours"), None, false))).await;
    let unknown = "goes back to no CA that is trusted: name its CA in `nats.tls.ca`";
    refused(&with(&server.url(), tls(Some("theirs"), None, false)), ErrorKind::Unavailable, unknown, &[]).await;
    refused(&with(&server.url(), tls(None, None, false)), ErrorKind::Unavailable, unknown, &[]).await;
    refused(&NatsSettings::at(server.url()), ErrorKind::Unavailable, unknown, &[]).await;
    let name = with(&server.url().replace("127.0.0.1", "localhost"), tls(Some("ours"), None, false));
    refused(&name, ErrorKind::Unavailable, "is for another name than the address has", &[]).await;
    drop(server);

    let server = secrets.start(&secrets.tls("ours", true)).await;
    works(&with(&server.url(), tls(Some("ours"), Some("ours"), false))).await;
    let asked = "the broker asks for a client certificate that it trusts: see `nats.tls.certificate`";
    refused(&with(&server.url(), tls(Some("ours"), None, false)), ErrorKind::Unavailable, asked, &[]).await;
    refused(&with(&server.url(), tls(Some("ours"), Some("theirs"), false)), ErrorKind::Unavailable, asked, &[]).await;
    let mut old = tls(Some("ours"), None, false);
    old.identity = Some((secrets.named("ours-old-client.pem"), secrets.named("ours-old-client.key")));
    let expired = "the broker says that the client certificate has expired: see `nats.tls.certificate`";
    refused(&with(&server.url(), old), ErrorKind::Unavailable, expired, &[]).await;
    let mut mixed = tls(Some("ours"), Some("ours"), false);
    mixed.identity = Some((secrets.named("ours-client.pem"), secrets.named("theirs-client.key")));
    refused(&with(&server.url(), mixed), ErrorKind::Definition, "`nats.tls`", &[]).await;
    drop(server);

    let server = secrets.start(&secrets.tls("ours", false).replace("ours-server", "ours-old-server")).await;
    let expired = "the broker's certificate has expired";
    refused(&with(&server.url(), tls(Some("ours"), None, false)), ErrorKind::Unavailable, expired, &[]).await;
    drop(server);

    let first = secrets.tls("ours", true).replace("verify: true", "verify: true, handshake_first: true");
    let server = secrets.start(&first).await;
    works(&with(&server.url(), tls(Some("ours"), Some("ours"), true))).await;
    drop(server);

    let server = secrets.start("").await;
    let plain = with(&server.url(), tls(Some("ours"), None, true));
    refused(&plain, ErrorKind::Unavailable, "does not speak TLS here", &[]).await;
}

#[tokio::test]
async fn nobody_at_the_address_is_said_with_the_ways_to_go_on() {
    let error = refusal(&NatsSettings::at("nats://ann:hunter2@127.0.0.1:1")).await;
    let said = error.chain();
    assert!(said.starts_with("connecting to `nats://***@127.0.0.1:1`: "), "{said}");
    for way in ["`--nats URL`", "`--source NAME=PATH`", "`--no-publish`", "`milepost demo --embedded`"] {
        assert!(said.contains(way), "{way}: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}
