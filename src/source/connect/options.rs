//! What a definition says of a connection, as options of the client: addresses without user info, credentials and TLS
//! files read and looked at, so that what is wrong with them is said by name and not by the client's first failure.

use std::fs;
use std::path::Path;

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

use super::redacted;
use crate::definition::pipeline::{NamedFile, NatsAuth, NatsSettings, NatsTls};
use crate::error::{Error, ErrorKind, Result};

/// Where a broker is looked for that nobody named.
pub const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

/// How a connection showed who it is, for what is said when the broker refuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    Nothing,
    UserInfo,
    Token,
    User(String),
    Nkey(NamedFile),
    Credentials { file: NamedFile, expires_s: Option<i64> },
}

/// Addresses, options, and who the connection says it is.
pub(super) struct Prepared {
    pub(super) servers: Vec<ServerAddr>,
    pub(super) options: ConnectOptions,
    pub(super) shown: Shown,
    pub(super) url: String,
}

/// Reads the settings, and the files that they name.
pub(super) fn prepare(settings: &NatsSettings, options: ConnectOptions) -> Result<Prepared> {
    let url = settings.url.as_ref().map_or(DEFAULT_URL, |url| url.expose());
    let mut servers = servers(url)?;
    let options = match &settings.tls {
        Some(tls) => with_tls(tls, options)?,
        None => options,
    };
    let user_info = servers.iter().find_map(user_info);
    if user_info.is_some() && settings.auth.is_some() {
        let doing =
            format!("the address `{}` has user info and other credentials are given: keep one of them", redacted(url));
        return Err(Error::new(ErrorKind::Definition, doing));
    }
    let (options, shown) = match (user_info, &settings.auth) {
        (Some((user, Some(password))), _) => (options.user_and_password(user, password), Shown::UserInfo),
        (Some((token, None)), _) => (options.token(token), Shown::UserInfo),
        (None, Some(auth)) => authenticated(auth, options)?,
        (None, None) => (options, Shown::Nothing),
    };
    // The client may log addresses.
    servers.iter_mut().for_each(without_user_info);
    Ok(Prepared { servers, options, shown, url: redacted(url) })
}

fn authenticated(auth: &NatsAuth, options: ConnectOptions) -> Result<(ConnectOptions, Shown)> {
    Ok(match auth {
        NatsAuth::Token(token) => (options.token(token.expose().to_owned()), Shown::Token),
        NatsAuth::User { user, password } => {
            (options.user_and_password(user.clone(), password.expose().to_owned()), Shown::User(user.clone()))
        }
        NatsAuth::Nkey(file) => (options.nkey(seed(file)?), Shown::Nkey(file.clone())),
        NatsAuth::Credentials(file) => {
            let text = read(file, "credentials file")?;
            // What is wrong with it is said without quoting it.
            let options = options.credentials(&text).map_err(|_| {
                unusable(
                    file,
                    "credentials file",
                    "it must hold a user JWT and an nkey seed, as `nsc generate creds` writes them",
                )
            })?;
            (options, Shown::Credentials { file: file.clone(), expires_s: expiry_s(&text) })
        }
    })
}

/// The seed in a file: its only line, or the one between `-----BEGIN …-----` and `------END …------`.
fn seed(file: &NamedFile) -> Result<String> {
    let text = read(file, "nkey file")?;
    let is_seed = |line: &&str| {
        line.len() == SEED_CHARACTERS
            && line.starts_with("SU")
            && line.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7'))
    };
    let seed = text.lines().map(str::trim).find(is_seed);
    seed.map(str::to_owned).ok_or_else(|| {
        unusable(
            file,
            "nkey file",
            "it must hold the seed of a user, which begins with `SU`, as `nk -gen user` writes it",
        )
    })
}

fn with_tls(tls: &NatsTls, options: ConnectOptions) -> Result<ConnectOptions> {
    let mut options = options.require_tls(true);
    if tls.first {
        options = options.tls_first();
    }
    if let Some(ca) = &tls.ca {
        holds(ca, "CA file", "-----BEGIN CERTIFICATE-----")?;
        options = options.add_root_certificates(ca.path.clone());
    }
    if let Some((certificate, key)) = &tls.identity {
        holds(certificate, "certificate", "-----BEGIN CERTIFICATE-----")?;
        holds(key, "key", "PRIVATE KEY-----")?;
        options = options.add_client_certificate(certificate.path.clone(), key.path.clone());
    }
    Ok(options)
}

fn holds(file: &NamedFile, what: &str, mark: &str) -> Result<()> {
    if read(file, what)?.contains(mark) {
        return Ok(());
    }
    Err(unusable(file, what, &format!("it is no PEM file with `{mark}`")))
}

fn read(file: &NamedFile, what: &str) -> Result<String> {
    let size = |path: &Path| fs::metadata(path).map(|metadata| metadata.len());
    let text = size(&file.path).and_then(|bytes| match bytes {
        0..=FILE_BYTES_MAX => fs::read_to_string(&file.path),
        bytes => Err(std::io::Error::other(format!("{bytes} bytes are more than {FILE_BYTES_MAX}"))),
    });
    text.map_err(|error| {
        let doing = format!("reading the {what} `{}` for the connection to NATS", file.shown.display());
        Error::caused(ErrorKind::Definition, doing, error)
    })
}

fn unusable(file: &NamedFile, what: &str, why: &str) -> Error {
    Error::new(ErrorKind::Definition, format!("the {what} `{}` can't be used: {why}", file.shown.display()))
}

fn servers(url: &str) -> Result<Vec<ServerAddr>> {
    url.split(',')
        .map(|one| {
            one.trim().parse::<ServerAddr>().map_err(|error| {
                Error::caused(ErrorKind::Definition, format!("`{}` is not a NATS address", redacted(one)), error)
            })
        })
        .collect()
}

/// `user:password@`, or a token alone.
fn user_info(server: &ServerAddr) -> Option<(String, Option<String>)> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((decoded(server.username()?), server.password().map(decoded)))
}

fn without_user_info(server: &mut ServerAddr) {
    let mut url = server.clone().into_inner();
    // Both fail only for addresses that have no user info to begin with.
    if url.set_username("").is_ok()
        && url.set_password(None).is_ok()
        && let Ok(plain) = ServerAddr::from_url(url)
    {
        *server = plain;
    }
}

/// When the user JWT of a credentials file expires, in seconds since 1970; none if it never does, or does not say.
fn expiry_s(credentials: &str) -> Option<i64> {
    #[derive(serde::Deserialize)]
    struct Claims {
        exp: Option<i64>,
    }
    let jwt = credentials.lines().map(str::trim).find(|line| line.starts_with("eyJ"))?;
    let claims = base64_url(jwt.split('.').nth(1)?)?;
    serde_json::from_slice::<Claims>(&claims).ok()?.exp.filter(|at| *at > 0)
}

/// Base64 of the URL alphabet, without padding.
fn base64_url(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut bytes) = (0_u32, 0_u32, Vec::new());
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).ok()?);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

/// A seed in its own base 32.
const SEED_CHARACTERS: usize = 58;
/// Credentials and certificates are small.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Secret;

    #[test]
    fn what_is_no_address_is_refused_without_showing_its_credentials() {
        let error = servers("ftp://ann:secret@broker").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Definition);
        assert!(!error.chain().contains("secret"), "{}", error.chain());
    }

    #[test]
    fn addresses_lose_their_user_info_and_the_credentials_are_used_once() {
        let settings = NatsSettings::at("nats://ann:s%2Fecret@a:4222,nats://b");
        let prepared = prepare(&settings, ConnectOptions::new()).unwrap();
        assert_eq!(prepared.shown, Shown::UserInfo);
        let shown = format!("{:?} {:?} {}", prepared.servers, prepared.options, prepared.url);
        assert!(!shown.contains("ecret"), "{shown}");
        let both = NatsSettings { auth: Some(NatsAuth::Token(Secret::new("other"))), ..settings };
        let error = prepare(&both, ConnectOptions::new()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Definition);
        assert!(error.chain().contains("has user info and other credentials are given"), "{}", error.chain());
        assert!(!error.chain().contains("ecret") && !format!("{both:?}").contains("ecret"), "{both:?}");
    }

    #[test]
    fn files_that_are_missing_or_hold_something_else_are_named_and_not_quoted() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            NamedFile { path, shown: name.into() }
        };
        let missing = NamedFile { path: folder.path().join("none"), shown: "none.creds".into() };
        let junk = file("junk", "SUhunter2 hunter2");
        let certificate = file("certificate.pem", "-----BEGIN CERTIFICATE-----\n");
        let tls = |ca: &NamedFile| NatsTls { ca: Some(ca.clone()), ..NatsTls::default() };
        let identity = NatsTls { identity: Some((certificate.clone(), junk.clone())), ..NatsTls::default() };
        for (auth, tls, expected) in [
            (Some(NatsAuth::Credentials(missing.clone())), None, "reading the credentials file `none.creds`"),
            (Some(NatsAuth::Credentials(junk.clone())), None, "the credentials file `junk` can't be used"),
            (Some(NatsAuth::Nkey(junk.clone())), None, "the nkey file `junk` can't be used"),
            (None, Some(tls(&missing)), "reading the CA file `none.creds`"),
            (None, Some(tls(&junk)), "the CA file `junk` can't be used"),
            (None, Some(identity), "the key `junk` can't be used"),
        ] {
            let settings = NatsSettings { auth, tls, ..NatsSettings::default() };
            let error = prepare(&settings, ConnectOptions::new()).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Definition);
            assert!(error.chain().contains(expected), "{expected}: {}", error.chain());
            assert!(!error.chain().contains("hunter2"), "{}", error.chain());
        }
    }

    #[test]
    fn expiry_is_read_from_the_user_jwt() {
        let credentials =
            |claims: &str| format!("-----BEGIN NATS USER JWT-----\neyJhbGciOiJ4In0.{claims}.c2ln\n------END\n");
        // {"exp":1700000000} and {"sub":"U"}
        assert_eq!(expiry_s(&credentials("eyJleHAiOjE3MDAwMDAwMDB9")), Some(1_700_000_000));
        assert_eq!(expiry_s(&credentials("eyJzdWIiOiJVIn0")), None);
        assert_eq!(expiry_s("nothing"), None);
        assert_eq!(base64_url("_-8").unwrap(), [0xff, 0xef]);
    }
}
