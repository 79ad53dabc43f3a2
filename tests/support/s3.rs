//! A private S3-compatible server for tests: moto's, in the Python that `scripts/fetch-python` makes.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

/// The Python that has the readers' packages and moto.
pub(crate) fn python() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/python/bin/python");
    let python = std::env::var_os("MILEPOST_PYTHON").map_or(fetched, PathBuf::from);
    assert!(
        python.exists(),
        "`{}` is missing: run `scripts/fetch-python`, which installs DuckDB, Polars, pyarrow and moto there, or set \
         MILEPOST_PYTHON to a Python that has them",
        python.display()
    );
    python
}

/// A running server on 127.0.0.1 that keeps its objects in memory. It dies with its owner, and its objects with it.
pub(crate) struct S3Server {
    process: Child,
    port: u16,
}

impl S3Server {
    /// Starts a server on a free port and waits until it answers.
    pub(crate) fn start() -> Self {
        let mut process = Command::new(python())
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"])
            // Without a proxy of the machine's between us.
            .env("NO_PROXY", "*")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Python runs");
        // The server says its port, and goes on writing a line a request: somebody must read them.
        let log = BufReader::new(process.stderr.take().expect("piped"));
        let (found, port) = std::sync::mpsc::channel();
        std::thread::Builder::new()
            .name("moto's log".to_owned())
            .spawn(move || {
                let mut said = String::new();
                for line in log.lines().map_while(Result::ok) {
                    if said.len() < LOG_MAX {
                        said.push_str(&line);
                        said.push('\n');
                    }
                    let port = line.split_once("http://127.0.0.1:").map(|(_, port)| port.trim().parse::<u16>());
                    if let Some(Ok(port)) = port {
                        drop(found.send(Ok(port)));
                    }
                }
                drop(found.send(Err(said)));
            })
            .expect("a thread");
        let port = match port.recv() {
            Ok(Ok(port)) => port,
            Ok(Err(said)) => panic!("moto's server ended (run `scripts/fetch-python`):\n{said}"),
            Err(_) => panic!("moto's server said nothing"),
        };
        let server = Self { process, port };
        // Its socket takes connections by now; the answer comes when the server is ready.
        let status = server.request("GET", "/moto-api/data.json").expect("the server answers");
        assert_eq!(status, 200, "moto's server on port {port} is not ready");
        server
    }

    /// Where it is: `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket.
    pub(crate) fn bucket(&self, name: &str) {
        let status = self.request("PUT", &format!("/{name}")).expect("the server answers");
        assert_eq!(status, 200, "making the bucket `{name}`");
    }

    /// What a process needs in its environment to use the server.
    pub(crate) fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", self.url()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
            ("AWS_REGION", REGION.to_owned()),
        ]
    }

    /// A bucket's store, for use within the test: it sees a trouble at once.
    pub(crate) fn store(&self, bucket: &str) -> Arc<dyn ObjectStore> {
        let retry =
            RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::from_secs(30) };
        drop(rustls::crypto::ring::default_provider().install_default());
        let builder = AmazonS3Builder::new()
            .with_endpoint(self.url())
            .with_allow_http(true)
            .with_bucket_name(bucket)
            .with_region(REGION)
            .with_access_key_id(ACCESS_KEY)
            .with_secret_access_key(SECRET_KEY)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(retry);
        Arc::new(builder.build().expect("a store"))
    }

    /// The status of a request without a body.
    fn request(&self, method: &str, path: &str) -> std::io::Result<u16> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(
            connection,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        status.ok_or_else(|| std::io::Error::other(format!("no status in `{answer}`")))
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The server takes any; a test that finds one in a log or an error has found a leak.
pub(crate) const ACCESS_KEY: &str = "AKIATESTTESTTESTTEST";
/// As [`ACCESS_KEY`].
pub(crate) const SECRET_KEY: &str = "not-so-secret-but-not-to-be-shown";

const REGION: &str = "eu-central-1";
const LOG_MAX: usize = 4_096;
