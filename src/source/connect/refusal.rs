//! Why a broker can't be used, in words that say what to do: the client's own say what it tried.

use async_nats::{ConnectError, ConnectErrorKind};
use chrono::{DateTime, SecondsFormat};

use super::options::Shown;
use crate::error::{Error, ErrorKind};

/// The error of a connection that was not made. `now_s` tells expired credentials from wrong ones.
pub(super) fn not_connected(url: &str, error: &ConnectError, shown: &Shown, now_s: i64) -> Error {
    let text = chain(error);
    let (kind, cause) = match error.kind() {
        ConnectErrorKind::AuthorizationViolation => (ErrorKind::Unavailable, refused(shown, now_s)),
        ConnectErrorKind::Authentication => (ErrorKind::Definition, unsigned(shown)),
        ConnectErrorKind::Tls => (ErrorKind::Definition, format!("{text}; see `nats.tls`")),
        _ => match tls_hint(&text) {
            Some(hint) => (ErrorKind::Unavailable, format!("{text}; {hint}")),
            None if is_authentication(&text) => (ErrorKind::Unavailable, format!("{text}; {}", refused(shown, now_s))),
            None => (ErrorKind::Unavailable, format!("{text}; {NOBODY}")),
        },
    };
    Error::caused(kind, format!("connecting to `{url}`"), cause)
}

/// What to do about a complaint of the broker on a connection that stands, or stood; none where that is not known.
pub(super) fn advice(complaint: &str, shown: &Shown, now_s: i64) -> Option<String> {
    let lower = complaint.to_lowercase();
    if lower.contains("permissions violation") {
        return Some("the broker's configuration must allow this to the user".to_owned());
    }
    is_authentication(complaint).then(|| refused(shown, now_s))
}

fn is_authentication(text: &str) -> bool {
    let lower = text.to_lowercase();
    ["authorization", "authentication"].iter().any(|word| lower.contains(word))
}

/// The broker does not let this connection in.
fn refused(shown: &Shown, now_s: i64) -> String {
    match shown {
        Shown::Nothing => {
            "the broker asks for credentials and none were given: name them under `nats` in the pipeline file \
             (`credentials`, `nkey`, `token`, or `user` and `password`), or give `--nats-creds FILE`"
                .to_owned()
        }
        Shown::UserInfo => "the broker refuses the user info of the address".to_owned(),
        Shown::Token => "the broker refuses the token of `nats.token`".to_owned(),
        Shown::User(user) => format!("the broker refuses user `{user}` with the password of `nats.password`"),
        Shown::Nkey(file) => {
            let file = file.shown.display();
            format!("the broker refuses the user of the nkey file `{file}`: does it list the public key?")
        }
        Shown::Credentials { file, expires_s } => {
            let file = file.shown.display();
            match expires_s.filter(|at| *at <= now_s).and_then(|at| DateTime::from_timestamp(at, 0)) {
                Some(at) => {
                    let at = at.to_rfc3339_opts(SecondsFormat::Secs, true);
                    format!("the user JWT of `{file}` expired at {at}: get a new credentials file and start again")
                }
                None => format!(
                    "the broker refuses the user of the credentials file `{file}`: is it of an account of this broker, and not revoked?"
                ),
            }
        }
    }
}

/// What was to be signed could not be.
fn unsigned(shown: &Shown) -> String {
    match shown {
        Shown::Nkey(file) => format!("the seed in the nkey file `{}` is none", file.shown.display()),
        Shown::Credentials { file, .. } => {
            format!("the seed in the credentials file `{}` is none", file.shown.display())
        }
        _ => "the broker's challenge could not be signed".to_owned(),
    }
}

/// What to do about a TLS handshake that failed. The words are rustls's.
fn tls_hint(text: &str) -> Option<&'static str> {
    let hints = [
        ("UnknownIssuer", UNTRUSTED),
        // Another CA of the same name.
        ("BadSignature", UNTRUSTED),
        ("not valid for name", OTHER_NAME),
        ("NotValidForName", OTHER_NAME),
        (
            "alert: CertificateExpired",
            "the broker says that the client certificate has expired: see `nats.tls.certificate`",
        ),
        ("certificate expired", "the broker's certificate has expired"),
        ("Expired", "the broker's certificate has expired"),
        ("CertificateRequired", MUTUAL),
        ("BadCertificate", MUTUAL),
        ("CertificateUnknown", MUTUAL),
        ("UnknownCA", MUTUAL),
        ("DecryptError", MUTUAL),
        ("invalid peer certificate", "the broker's certificate can't be taken: see `nats.tls`"),
        ("received fatal alert", "the broker broke the TLS handshake off: see `nats.tls`"),
        ("InvalidContentType", "the broker does not speak TLS here, or not at once: see `nats.tls` and `first`"),
    ];
    hints.iter().find(|(word, _)| text.contains(word)).map(|(_, hint)| *hint)
}

const UNTRUSTED: &str = "the broker's certificate goes back to no CA that is trusted: name its CA in `nats.tls.ca`";

const OTHER_NAME: &str = "the broker's certificate is for another name than the address has";

const MUTUAL: &str =
    "the broker asks for a client certificate that it trusts: see `nats.tls.certificate` and `nats.tls.key`";

const NOBODY: &str = "name the broker with `--nats URL` or `nats.url`; without one, read every stream from a file with \
    `--source NAME=PATH` and add `--no-publish`, or see `milepost demo --embedded`";

/// An error and its causes, each said once.
fn chain(error: &ConnectError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::pipeline::NamedFile;

    #[test]
    fn complaint_says_what_to_do_where_that_is_known() {
        let file = NamedFile { path: "/x/w.creds".into(), shown: "w.creds".into() };
        let expired = Shown::Credentials { file: file.clone(), expires_s: Some(100) };
        for (complaint, shown, expected) in [
            (
                "Permissions Violation for Publish to \"$JS.API.INFO\"",
                &Shown::Nothing,
                Some("must allow this to the user"),
            ),
            (
                "User Authentication Expired",
                &expired,
                Some("the user JWT of `w.creds` expired at 1970-01-01T00:01:40Z"),
            ),
            ("nats: authorization violation", &Shown::Nkey(file), Some("the nkey file `w.creds`")),
            ("the connection is lost", &expired, None),
        ] {
            let said = advice(complaint, shown, 200);
            assert_eq!(said.is_some(), expected.is_some(), "{complaint}");
            assert!(said.unwrap_or_default().contains(expected.unwrap_or_default()), "{complaint}");
        }
        assert!(!refused(&expired, 50).contains("expired"), "it has not yet");
    }
}
