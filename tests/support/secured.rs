//! Brokers that ask who is there: certificates, keys and JWTs made for one test.

use std::path::PathBuf;

use milepost::definition::pipeline::NamedFile;
use milepost::source::server::{PrivateServer, ServerOptions};
use nkeys::KeyPair;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, date_time_ymd};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder for files that a broker and its clients name.
pub(crate) struct Secrets {
    folder: TempDir,
}

impl Secrets {
    pub(crate) fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary directory can be made") }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file as a definition would name it.
    pub(crate) fn named(&self, name: &str) -> NamedFile {
        NamedFile { path: self.path(name), shown: name.into() }
    }

    /// Writes a file; its path as text.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("writable");
        path.display().to_string()
    }

    /// Starts a broker with this configuration. Its streams lie in a folder of their own.
    pub(crate) async fn start(&self, configuration: &str) -> PrivateServer {
        let path = self.write("server.conf", configuration);
        let options = ServerOptions { port: None, arguments: vec!["-c".to_owned(), path] };
        let started = PrivateServer::start_with(&self.path("store"), &options).await;
        started.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    /// Writes a certificate authority `NAME-ca.pem`, and what it signs: `NAME-server.pem` for 127.0.0.1, `NAME-client.pem`, and
    /// `NAME-old-server.pem` and `NAME-old-client.pem`, which have expired; each with a `.key`.
    pub(crate) fn certificates(&self, name: &str) {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut authority = CertificateParams::new(Vec::new()).expect("parameters");
        authority.distinguished_name.push(DnType::CommonName, format!("{name} CA"));
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = authority.self_signed(&key).expect("a certificate");
        self.write(&format!("{name}-ca.pem"), &certificate.pem());
        let issuer = Issuer::new(authority, key);
        for (role, host, usage, until) in [
            ("server", "127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth, 4096),
            ("client", "milepost", ExtendedKeyUsagePurpose::ClientAuth, 4096),
            ("old-server", "127.0.0.1", ExtendedKeyUsagePurpose::ServerAuth, 2020),
            ("old-client", "milepost", ExtendedKeyUsagePurpose::ClientAuth, 2020),
        ] {
            let key = rcgen::KeyPair::generate().expect("a key");
            let mut leaf = CertificateParams::new(vec![host.to_owned()]).expect("parameters");
            leaf.extended_key_usages = vec![usage];
            leaf.not_after = date_time_ymd(until, 1, 1);
            let certificate = leaf.signed_by(&key, &issuer).expect("a certificate");
            self.write(&format!("{name}-{role}.pem"), &certificate.pem());
            self.write(&format!("{name}-{role}.key"), &key.serialize_pem());
        }
    }

    /// The `tls` block of a broker with the certificates of `name`; `verify`: clients need one of the same authority.
    pub(crate) fn tls(&self, name: &str, verify: bool) -> String {
        let path = |file: &str| self.path(&format!("{name}-{file}")).display().to_string();
        let (certificate, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
        format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{ca}\", verify: {verify} }}\n")
    }
}

/// An operator with one account, as `nsc` would make them.
pub(crate) struct Operator {
    operator: KeyPair,
    account: KeyPair,
    system: KeyPair,
}

impl Operator {
    pub(crate) fn new() -> Self {
        Self { operator: KeyPair::new_operator(), account: KeyPair::new_account(), system: KeyPair::new_account() }
    }

    /// The configuration of a broker that trusts it.
    pub(crate) fn configuration(&self) -> String {
        let operator =
            self.operator_jwt(&self.operator, "operator", json!({ "system_account": self.system.public_key() }));
        let limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
            "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
        });
        let account = self.operator_jwt(&self.account, "account", json!({ "limits": limits }));
        let plain =
            json!({ "subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1 });
        let system = self.operator_jwt(&self.system, "account", json!({ "limits": plain }));
        format!(
            "operator: {operator}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {account}, {}: {system} }}\n",
            self.system.public_key(),
            self.account.public_key(),
            self.system.public_key()
        )
    }

    /// A credentials file for a new user. `claims` may say when it expires and what it may do.
    pub(crate) fn credentials(&self, claims: &Value) -> String {
        let user = KeyPair::new_user();
        let mut body = json!({
            "jti": "user", "iat": 1_700_000_000, "iss": self.account.public_key(), "name": "worker", "sub": user.public_key(),
            "nats": { "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2 },
        });
        merge(&mut body, claims);
        let (jwt, seed) = (signed(&self.account, &body), user.seed().expect("a seed"));
        format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             ************************* IMPORTANT *************************\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    }

    fn operator_jwt(&self, subject: &KeyPair, kind: &str, mut nats: Value) -> String {
        merge(&mut nats, &json!({ "type": kind, "version": 2 }));
        let body = json!({
            "jti": kind, "iat": 1_700_000_000, "iss": self.operator.public_key(), "name": kind, "sub": subject.public_key(),
            "nats": nats,
        });
        signed(&self.operator, &body)
    }
}

/// A JWT as NATS has them: ed25519 over header and body.
fn signed(key: &KeyPair, body: &Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let text = format!("{}.{}", base64_url(header.to_string().as_bytes()), base64_url(body.to_string().as_bytes()));
    let signature = key.sign(text.as_bytes()).expect("a key that signs");
    format!("{text}.{}", base64_url(&signature))
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

fn base64_url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * at)) as usize & 63]));
        }
    }
    text
}

/// What a secret is, so that a test can look for it where it must not be.
pub(crate) fn secrets_of(credentials: &str) -> Vec<String> {
    let secret = |line: &&str| line.starts_with("SU") || line.starts_with("eyJ");
    credentials.lines().filter(secret).map(str::to_owned).collect()
}
