//! What this process is on its machine: its mark as a writer, its clock for intervals, and the lock on its home.

#![expect(clippy::disallowed_methods, reason = "an edge: a writer's mark is drawn, and intervals are measured")]

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::log::Elapsed;
use super::manifest::Writer;
use crate::error::{Error, ErrorKind, Result};

impl Writer {
    /// This process, with a nonce of its own.
    pub fn this_process() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self {
            nonce: format!("{:016x}{:016x}", drawn(), drawn()),
            host: if host.trim().is_empty() { "unknown".to_owned() } else { host.trim().to_owned() },
            process: std::process::id(),
            started_at_us: chrono::Utc::now().timestamp_micros(),
        }
    }
}

/// Digits that the system draws.
fn drawn() -> u64 {
    let mut digits = std::hash::RandomState::new().build_hasher();
    digits.write(b"writer");
    digits.finish()
}

/// Of the two clocks of a machine the one that went further since the start: one stands still while the machine sleeps, the
/// other one may be set back.
pub fn elapsed() -> Elapsed {
    let (instant, time) = (Instant::now(), SystemTime::now());
    let furthest = Mutex::new(Duration::ZERO);
    Arc::new(move || {
        let mut furthest = furthest.lock().unwrap_or_else(PoisonError::into_inner);
        *furthest = furthest.max(instant.elapsed()).max(time.elapsed().unwrap_or_default());
        *furthest
    })
}
/// Held for as long as a process writes a state directory; the operating system releases it when the process ends.
#[derive(Debug)]
pub struct HomeLock {
    _file: File,
}

impl HomeLock {
    /// Takes the lock of a state directory.
    ///
    /// # Errors
    /// `Fenced` if another process holds it, `Unavailable` for the disk.
    pub fn take(directory: &Path) -> Result<Self> {
        let path = directory.join("lock");
        let failed = |error: std::io::Error| {
            Error::caused(ErrorKind::Unavailable, format!("locking `{}`", directory.display()), error)
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).map_err(failed)?;
                Ok(Self { _file: file })
            }
            Err(std::fs::TryLockError::WouldBlock) => Err(held(&mut file, directory)),
            Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

/// The refusal, with the process that holds the lock as far as it can be read.
fn held(file: &mut File, directory: &Path) -> Error {
    let mut holder = String::new();
    let known = std::io::Read::read_to_string(file, &mut holder).is_ok() && !holder.is_empty();
    let process = if known { format!("process {holder}") } else { "another process".to_owned() };
    let doing = format!(
        "{process} runs this pipeline in `{}`; ask it with `milepost status`, or give `--home` another folder",
        directory.display()
    );
    Error::new(ErrorKind::Fenced, doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_holds_the_state() {
        let home = tempfile::tempdir().expect("a folder");
        let held = HomeLock::take(home.path()).expect("free");
        assert_eq!(HomeLock::take(home.path()).expect_err("held").kind(), ErrorKind::Fenced);
        drop(held);
        HomeLock::take(home.path()).expect("free again");
    }

    #[test]
    fn no_two_writers_have_the_same_mark() {
        assert_ne!(Writer::this_process().nonce, Writer::this_process().nonce);
    }
}
