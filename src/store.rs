//! Object stores, by URL: `s3://bucket/prefix` for S3 and what speaks its protocol, `file:///path` for a local folder.
//!
//! Who may do what, and where the store is, the environment says, as it does for every other tool: `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP` and their kin. A URL
//! holds no secret, and no error quotes what a store or a variable might have of one.

#![expect(clippy::disallowed_methods, reason = "an edge: where a store is, the environment says")]

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
};
use url::Url;

use crate::error::{Error, ErrorKind, Result};

/// Opens the store of a URL and says where in it the URL points. Nothing is asked of the store yet.
///
/// Stores of `s3` URLs do `PutMode::Create` and `PutMode::Update` by preconditions; a request is tried again for
/// [`RETRY_FOR`] at most.
///
/// # Errors
///
/// Kind `Definition`: a scheme other than `s3` and `file`, a URL with a user, a password, a port, a query or a fragment, a
/// path with empty or relative parts, variables that contradict each other.
pub fn open(url: &Url) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let wrong = |why: &str| Error::new(ErrorKind::Definition, format!("`{}` {why}", shown(url)));
    if !SCHEMES.contains(&url.scheme()) {
        return Err(wrong("is of no object store that Milepost knows: write `s3://BUCKET/PREFIX` or `file:///PATH`"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not name a user or a password: they are read from `AWS_ACCESS_KEY_ID` and its kin"));
    }
    if url.query().is_some() || url.fragment().is_some() || url.port().is_some() {
        return Err(wrong("must not have a port, a query or a fragment: where a store is, `AWS_ENDPOINT_URL` says"));
    }
    let path =
        Path::from_url_path(url.path()).map_err(|_| wrong("must not have empty parts, `.` or `..` in its path"))?;
    let bucket = url.host_str().filter(|host| !host.is_empty());
    let store: Arc<dyn ObjectStore> = match (url.scheme(), bucket) {
        // Not done by default: without it a crash of the machine may leave a name without its content.
        ("file", None) => Arc::new(LocalFileSystem::new().with_fsync(true)),
        ("file", Some(_)) => return Err(wrong("must not name a host: write `file:///PATH`")),
        (_, None) => return Err(wrong("names no bucket: write `s3://BUCKET/PREFIX`")),
        (_, Some(bucket)) => Arc::new(s3(bucket, url)?),
    };
    Ok((store, path))
}

/// The store of a local folder, which must be there; paths in it begin below the folder. What is stored is synced.
///
/// # Errors
///
/// Kind `Unavailable`: the folder.
pub fn folder(path: &std::path::Path) -> Result<Arc<dyn ObjectStore>> {
    let opened = LocalFileSystem::new_with_prefix(path);
    let opened = opened.map_err(|error| failed(format!("cannot open `{}`", path.display()), &error))?;
    Ok(Arc::new(opened.with_fsync(true)))
}

/// A condition that a store may keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Of a name that nothing has.
    Create,
    /// Of an object that is still the one that was read.
    Update,
}

/// Whether a store keeps conditions: some take one and ignore it. Stores an object under `path`, which nobody else uses, and
/// removes it.
///
/// # Errors
///
/// What the store answers otherwise.
pub async fn keeps_conditions(
    store: &dyn ObjectStore,
    path: &Path,
    conditions: &[Condition],
) -> object_store::Result<bool> {
    let put = |text: &'static str, mode: PutMode| {
        let options = PutOptions { mode, ..PutOptions::default() };
        store.put_opts(path, PutPayload::from_static(text.as_bytes()), options)
    };
    let first = put("1", PutMode::Overwrite).await?;
    put("2", PutMode::Overwrite).await?;
    let mut kept = true;
    for condition in conditions {
        let mode = match condition {
            Condition::Create => PutMode::Create,
            Condition::Update => PutMode::Update(first.clone().into()),
        };
        match put("3", mode).await {
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {}
            Ok(_) | Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                kept = false;
            }
            Err(error) => return Err(error),
        }
    }
    store.delete(path).await?;
    Ok(kept)
}

/// The URL as it may be shown: without what could be a secret.
pub fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// What a store answered, as an error: `doing` is lower case and names the object. Of the answer it tells what can't hold a
/// secret. All kinds but those of a wrong definition are `Unavailable`.
pub fn failed(doing: impl Into<String>, error: &object_store::Error) -> Error {
    let kind = match error {
        object_store::Error::InvalidPath { .. }
        | object_store::Error::NotSupported { .. }
        | object_store::Error::NotImplemented { .. }
        | object_store::Error::UnknownConfigurationKey { .. } => ErrorKind::Definition,
        _ => ErrorKind::Unavailable,
    };
    Error::caused(kind, doing, told(&error.to_string()))
}

fn s3(bucket: &str, url: &Url) -> Result<object_store::aws::AmazonS3> {
    // One provider of cryptography for all that speaks TLS here. An error says that the process has one already.
    drop(rustls::crypto::ring::default_provider().install_default());
    // What the environment says goes before what is written here.
    let limits = [
        ("AWS_CONNECT_TIMEOUT", ClientConfigKey::ConnectTimeout, CONNECT_TIMEOUT),
        ("AWS_TIMEOUT", ClientConfigKey::Timeout, REQUEST_TIMEOUT),
    ];
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(5),
                base: 2.0,
            },
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_FOR,
        });
    for (variable, key, limit) in limits {
        if std::env::var_os(variable).is_none() {
            builder = builder.with_config(AmazonS3ConfigKey::Client(key), limit);
        }
    }
    builder.build().map_err(|error| {
        let doing = format!("the environment does not say how to reach `{}`", shown(url));
        Error::caused(ErrorKind::Definition, doing, without_quoted(&told(&error.to_string())))
    })
}

/// A store's text on one line, without the parameters of URLs and without the body of an answer, of which only the code and
/// the message stay: S3 answers a wrong signature with all that went into it.
fn told(text: &str) -> String {
    let (head, body) = text.split_at(text.find('<').unwrap_or(text.len()));
    let mut words: Vec<String> = head.split_whitespace().map(plain_word).collect();
    words.extend(["Code", "Message"].iter().filter_map(|name| element(body, name)).map(str::to_owned));
    let line = words.join(" ");
    line.chars().take(SHOWN_MAX).collect()
}

/// A word; of a URL in it only scheme, host, port and path.
fn plain_word(word: &str) -> String {
    let Some(at) = word.find("http://").or_else(|| word.find("https://")) else { return word.to_owned() };
    let (before, url) = word.split_at(at);
    match Url::parse(url) {
        Ok(url) => {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            format!("{before}{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
        }
        Err(_) => format!("{before}…"),
    }
}

/// The text of the first element of that name.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>"))?.0)
}

/// A text whose quoted parts, which may be values of variables, are left out.
fn without_quoted(text: &str) -> String {
    let parts = text.split('"').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { "\"…\"" } else { part }).collect()
}

/// The schemes that [`open`] takes.
pub const SCHEMES: [&str; 2] = ["s3", "file"];

/// How long a request is tried again inside the client: who calls waits out longer troubles, and says so meanwhile.
pub const RETRY_FOR: Duration = Duration::from_secs(20);

const RETRIES_MAX: usize = 4;
const CONNECT_TIMEOUT: &str = "5 seconds";
const REQUEST_TIMEOUT: &str = "30 seconds";

/// Characters of a store's text that are shown.
const SHOWN_MAX: usize = 600;

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        let error = open(&Url::parse(url).expect("a URL")).expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::Definition, "{url}");
        error.to_string()
    }

    #[test]
    fn urls_of_other_stores_and_urls_with_secrets_are_refused_without_showing_them() {
        for (url, expected) in [
            ("gs://bucket/x", "write `s3://BUCKET/PREFIX` or `file:///PATH`"),
            ("https://bucket.s3.amazonaws.com/x?X-Amz-Signature=hidden", "write `s3://BUCKET/PREFIX`"),
            ("s3://key:hidden@bucket/x", "must not name a user or a password"),
            ("s3://hidden@bucket/x", "must not name a user or a password"),
            ("s3://bucket/x?token=hidden", "must not have a port, a query or a fragment"),
            ("s3://bucket:9000/x", "must not have a port, a query or a fragment"),
            ("s3://bucket/a//b", "must not have empty parts"),
            ("s3:///x", "names no bucket"),
            ("file://host/x", "must not name a host"),
        ] {
            let text = refusal(url);
            assert!(text.contains(expected), "{url}: {text}");
            assert!(!text.contains("hidden"), "{url}: {text}");
        }
    }

    #[tokio::test]
    async fn a_file_url_is_a_folder_of_this_machine() {
        let folder = tempfile::TempDir::new().expect("a folder");
        let url = Url::from_directory_path(folder.path()).expect("an absolute path");
        let (store, path) = open(&url).expect("open");
        let object = path.clone().join("a").join("b.txt");
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        store.put_opts(&object, "text".into(), options.clone()).await.expect("stored");
        assert_eq!(std::fs::read(folder.path().join("a/b.txt")).expect("a file"), b"text");
        let again = store.put_opts(&object, "other".into(), options).await.expect_err("it is there");
        assert!(matches!(again, object_store::Error::AlreadyExists { .. }), "{again}");
        let missing = store.get(&path.join("c")).await.expect_err("it is not there");
        assert_eq!(failed("cannot read `c`", &missing).kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn of_an_answer_the_code_and_the_message_are_told() {
        let text = "Error performing PUT https://user:hidden@s3.example:9000/bucket/x?X-Amz-Signature=hidden in 3ms \
                    - Server returned non-2xx status code: 403 Forbidden: <?xml version=\"1.0\"?>\n<Error>\
                    <Code>SignatureDoesNotMatch</Code><Message>The signature does not match</Message>\
                    <StringToSign>hidden</StringToSign></Error>";
        assert_eq!(
            told(text),
            "Error performing PUT https://s3.example:9000/bucket/x in 3ms - Server returned non-2xx status code: 403 \
             Forbidden: SignatureDoesNotMatch The signature does not match"
        );
        assert_eq!(told("a http://[hidden b"), "a … b");
        assert_eq!(told(&"x".repeat(10_000)).len(), SHOWN_MAX);
        assert_eq!(without_quoted("failed to parse \"hidden\" as boolean"), "failed to parse \"…\" as boolean");
    }
}
