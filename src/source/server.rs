//! A private nats-server process: found, started on 127.0.0.1, and gone with its owner.
//!
//! The server is looked for in this order: what `NATS_SERVER` names, the `PATH`, and `.tools/nats-server` (where
//! `scripts/fetch-nats-server` puts it) beside the current directory, the executable, or a parent of either.

#![expect(clippy::disallowed_methods, reason = "an edge: finds a program through the environment, and waits for it")]

use std::env;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};

/// A running nats-server with JetStream on files, reachable from this machine only. Dropping it kills the process
/// and waits for its end; what it stored stays in its directory.
#[derive(Debug)]
pub struct PrivateServer {
    process: Child,
    port: u16,
}

/// How a private server differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// The port on 127.0.0.1; none: any free one. A server that is started again needs the one that clients know.
    pub port: Option<u16>,
    /// Further arguments of `nats-server`, such as `-c` and a configuration file.
    pub arguments: Vec<String>,
}

impl PrivateServer {
    /// Starts a server that stores its streams under `store_dir` (created if missing) on a free port, and waits until
    /// it accepts connections, ten seconds at most.
    ///
    /// # Errors
    /// `Unavailable` where no nats-server of at least 2.12 is found (the text names the script that fetches one), and
    /// where it doesn't start (the text quotes the end of its log).
    pub async fn start(store_dir: &Path) -> Result<Self> {
        Self::start_with(store_dir, &ServerOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As [`PrivateServer::start`].
    pub async fn start_with(store_dir: &Path, options: &ServerOptions) -> Result<Self> {
        let binary = find_server()?;
        let failed = |error: io::Error| {
            Error::caused(
                ErrorKind::Unavailable,
                format!("starting `{}` in `{}`", binary.display(), store_dir.display()),
                error,
            )
        };
        fs::create_dir_all(store_dir).map_err(failed)?;
        let log = store_dir.join("nats-server.log");
        let port = options.port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
        let process = Command::new(&binary)
            .args(["--addr", "127.0.0.1", "--port", &port, "--jetstream", "--store_dir"])
            .arg(store_dir)
            .arg("--ports_file_dir")
            .arg(store_dir)
            .arg("--log")
            .arg(&log)
            .args(&options.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C on a terminal is for its owner, who ends it last.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let mut server = Self { process, port: 0 };
        server.wait_until_ready(store_dir, &log).await?;
        Ok(server)
    }

    /// Where clients connect: `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Kills the process, as a crash would, and waits for its end. What the operating system holds of its files
    /// survives that.
    pub fn stop(self) {
        drop(self);
    }

    /// Waits for the ports file that the server writes once it listens, and for the listener itself.
    async fn wait_until_ready(&mut self, store_dir: &Path, log: &Path) -> Result<()> {
        let ports_file = store_dir.join(format!("nats-server_{}.ports", self.process.id()));
        let started = Instant::now();
        loop {
            if let Some(port) = fs::read(&ports_file).ok().and_then(|text| port_of(&text))
                && TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            {
                self.port = port;
                return Ok(());
            }
            let ended = self.process.try_wait().ok().flatten();
            if ended.is_some() || started.elapsed() > READY_WITHIN {
                let state =
                    ended.map_or_else(|| format!("not ready after {READY_WITHIN:?}"), |status| status.to_string());
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!("starting a private nats-server: {state}; its log ends with `{}`", last_line(log)),
                ));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        // Both fail only for a process that has already ended and been waited for.
        if self.process.kill().is_ok() {
            self.process.wait().ok();
        }
    }
}

/// The nats-server that this machine has, by the order of this module.
///
/// # Errors
/// `Unavailable` where there is none of at least 2.12; the text names the script that fetches one.
pub fn find_server() -> Result<PathBuf> {
    if let Some(named) = env::var_os("NATS_SERVER").filter(|value| !value.is_empty()) {
        let path = PathBuf::from(named);
        return match version_of(&path) {
            Some(version) if version >= OLDEST => Ok(path),
            Some((major, minor)) => Err(Error::new(
                ErrorKind::Unavailable,
                format!("`NATS_SERVER` names `{}` of version {major}.{minor}; 2.12 or later is needed", path.display()),
            )),
            None => Err(Error::new(
                ErrorKind::Unavailable,
                format!("`NATS_SERVER` names `{}`, which is no nats-server", path.display()),
            )),
        };
    }
    candidates().into_iter().find(|path| version_of(path).is_some_and(|version| version >= OLDEST)).ok_or_else(|| {
        Error::new(
            ErrorKind::Unavailable,
            "no nats-server 2.12 or later on the `PATH` or in `.tools`; `scripts/fetch-nats-server` fetches one",
        )
    })
}

/// Where a server may be, the first the best.
fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = env::split_paths(&path).map(|folder| folder.join("nats-server")).collect();
    for start in [env::current_dir(), env::current_exe()].into_iter().flatten() {
        found.extend(start.ancestors().map(|folder| folder.join(".tools/nats-server")));
    }
    found.retain(|path| path.is_file());
    found
}

/// Major and minor version of a binary; none where it doesn't run or isn't a nats-server.
fn version_of(binary: &Path) -> Option<(u32, u32)> {
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// Reads `nats-server: v2.15.1`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("nats-server: v")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The client port in a ports file; none while the file is being written.
fn port_of(text: &[u8]) -> Option<u16> {
    #[derive(serde::Deserialize)]
    struct Ports {
        nats: Vec<String>,
    }
    let ports: Ports = serde_json::from_slice(text).ok()?;
    ports.nats.first()?.rsplit_once(':')?.1.parse().ok()
}

/// The last line of a log that isn't blank.
fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing").to_owned()
}

/// The oldest server with atomic batch publishing in streams (2.15 is what the tests run on).
const OLDEST: (u32, u32) = (2, 12);
/// How long a server may take to accept connections.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How often its readiness is looked at.
const POLL_EVERY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_line_gives_major_and_minor() {
        for (text, expected) in [
            ("nats-server: v2.15.1\n", Some((2, 15))),
            ("nats-server: v2.9.0-beta.1", Some((2, 9))),
            ("nats-server: v3", None),
            ("redis-server v=7", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_ports_file_gives_the_client_port_once_it_is_whole() {
        for (text, expected) in [
            (r#"{"nats":["nats://127.0.0.1:40123"],"monitoring":null}"#, Some(40123)),
            (r#"{"nats":["nats://127.0.0.1:40"#, None),
            (r#"{"nats":[]}"#, None),
            ("", None),
        ] {
            assert_eq!(port_of(text.as_bytes()), expected, "{text:?}");
        }
    }
}
