//! The epoch log as a file, and the lock that keeps a second process off the same state directory.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};

use super::record::EpochRecord;

/// An append-only file of one JSON record a line. The last line may be torn by a crash: it is cut off when the log is
/// opened, since nothing that follows from a record leaves the process before the record is durable.
#[derive(Debug)]
pub struct EpochLog {
    file: File,
    path: PathBuf,
}

impl EpochLog {
    /// Opens the log in a state directory, creating it if it is missing; returns the records that it holds.
    ///
    /// # Errors
    /// `Unavailable` for the disk; `Corrupt` if a whole line is no record or the numbers have a gap.
    pub fn open(directory: &Path) -> Result<(Self, Vec<EpochRecord>)> {
        let path = directory.join(LOG);
        let failed = |error: std::io::Error| {
            Error::caused(ErrorKind::Unavailable, format!("opening the epoch log `{}`", path.display()), error)
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        let (records, length) = read(&mut file, &path)?;
        file.set_len(length).map_err(failed)?;
        Ok((Self { file, path }, records))
    }

    /// The records of a log, without changing it; none if there is no log.
    ///
    /// # Errors
    /// As [`EpochLog::open`].
    pub fn records(directory: &Path) -> Result<Vec<EpochRecord>> {
        let path = directory.join(LOG);
        match File::open(&path) {
            Ok(mut file) => Ok(read(&mut file, &path)?.0),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => {
                Err(Error::caused(ErrorKind::Unavailable, format!("opening the epoch log `{}`", path.display()), error))
            }
        }
    }

    /// Makes a record durable.
    ///
    /// # Errors
    /// `Unavailable`: the disk. The record may or may not be there then.
    pub fn append(&mut self, record: &EpochRecord) -> Result<()> {
        let mut line = serde_json::to_vec(record)
            .map_err(|error| Error::caused(ErrorKind::Internal, "writing an epoch record", error))?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(|error| {
            Error::caused(ErrorKind::Unavailable, format!("writing to the epoch log `{}`", self.path.display()), error)
        })
    }

    /// Begins another log beside that of a state directory, which stays what a restart finds until this one is
    /// [established](Self::establish). One that was begun before and left is forgotten.
    ///
    /// # Errors
    /// `Unavailable`: the disk.
    pub fn begin_anew(directory: &Path) -> Result<Self> {
        let path = directory.join(ANEW);
        let failed = |error: std::io::Error| {
            Error::caused(ErrorKind::Unavailable, format!("beginning the epoch log `{}`", path.display()), error)
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed)?;
        file.set_len(0).and_then(|()| file.sync_all()).map_err(failed)?;
        Ok(Self { file, path })
    }

    /// Whether this log was begun beside another one that still stands.
    pub fn is_begun_anew(&self) -> bool {
        self.path.file_name().is_some_and(|name| name == ANEW)
    }

    /// Puts a log that was [begun anew](Self::begin_anew) in the place of the other one, at once; any other stays as it is.
    ///
    /// # Errors
    /// `Unavailable`: the disk.
    pub fn establish(&mut self) -> Result<()> {
        if !self.is_begun_anew() {
            return Ok(());
        }
        let path = self.path.with_file_name(LOG);
        let sync_folder = || File::open(path.parent().unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        std::fs::rename(&self.path, &path).and_then(|()| sync_folder()).map_err(|error| {
            Error::caused(ErrorKind::Unavailable, format!("replacing the epoch log `{}`", path.display()), error)
        })?;
        self.path = path;
        Ok(())
    }

    /// The records of this log.
    ///
    /// # Errors
    /// As [`EpochLog::open`].
    pub fn logged(&mut self) -> Result<Vec<EpochRecord>> {
        Ok(read(&mut self.file, &self.path)?.0)
    }
}

/// The log's name in a state directory.
const LOG: &str = "epochs.ndjson";
/// The name of a log that was begun beside it.
const ANEW: &str = "epochs.anew.ndjson";

/// The whole records, and the length of the file up to the end of the last whole line.
fn read(file: &mut File, path: &Path) -> Result<(Vec<EpochRecord>, u64)> {
    let failed = |error: std::io::Error| {
        Error::caused(ErrorKind::Unavailable, format!("reading the epoch log `{}`", path.display()), error)
    };
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut reader = BufReader::new(file);
    let mut records: Vec<EpochRecord> = Vec::new();
    let mut length = 0_u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = reader.read_until(b'\n', &mut line).map_err(failed)?;
        if bytes == 0 || !line.ends_with(b"\n") {
            return Ok((records, length));
        }
        let record: EpochRecord = serde_json::from_slice(&line).map_err(|error| {
            Error::caused(
                ErrorKind::Corrupt,
                format!("reading record {} of `{}`", records.len() + 1, path.display()),
                error,
            )
        })?;
        let expected = records.last().map_or(1, |last| last.epoch.0 + 1);
        if record.epoch.0 != expected {
            let message = format!("`{}` has epoch {} where {expected} is due", path.display(), record.epoch);
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        records.push(record);
        length += bytes as u64;
    }
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
    use crate::types::Epoch;

    fn record(epoch: u64) -> EpochRecord {
        EpochRecord { epoch: Epoch(epoch), clock_us: Some(7), watermark_us: None, ended: false, inputs: Vec::new() }
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_rest_is_kept() {
        let home = tempfile::tempdir().expect("a folder");
        let (mut log, records) = EpochLog::open(home.path()).expect("opens");
        assert!(records.is_empty());
        log.append(&record(1)).expect("appends");
        log.append(&record(2)).expect("appends");
        let path = home.path().join(LOG);
        let mut bytes = std::fs::read(&path).expect("readable");
        bytes.extend_from_slice(b"{\"epoch\":3,");
        std::fs::write(&path, bytes).expect("writable");
        let (mut log, records) = EpochLog::open(home.path()).expect("opens");
        assert_eq!(records, [record(1), record(2)]);
        log.append(&record(3)).expect("appends");
        assert_eq!(EpochLog::records(home.path()).expect("readable").len(), 3);
    }

    #[test]
    fn a_log_begun_anew_counts_once_it_is_established() {
        let home = tempfile::tempdir().expect("a folder");
        let (mut log, _) = EpochLog::open(home.path()).expect("opens");
        log.append(&record(1)).expect("appends");
        log.append(&record(2)).expect("appends");
        for established in [false, true] {
            let mut anew = EpochLog::begin_anew(home.path()).expect("begins");
            assert_eq!(anew.logged().expect("readable"), [], "what was left is forgotten");
            anew.append(&record(1)).expect("appends");
            assert_eq!(EpochLog::records(home.path()).expect("readable").len(), 2);
            if established {
                anew.establish().expect("replaced");
                anew.append(&record(2)).expect("appends");
                anew.append(&record(3)).expect("appends");
                assert!(!anew.is_begun_anew());
                assert_eq!(anew.logged().expect("readable").len(), 3);
            }
        }
        assert_eq!(EpochLog::open(home.path()).expect("opens").1.len(), 3);
    }

    #[test]
    fn a_missing_record_is_corruption() {
        let home = tempfile::tempdir().expect("a folder");
        let (mut log, _) = EpochLog::open(home.path()).expect("opens");
        log.append(&record(1)).expect("appends");
        log.append(&record(3)).expect("appends");
        let error = EpochLog::open(home.path()).expect_err("a gap");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn a_second_process_is_told_who_holds_the_state() {
        let home = tempfile::tempdir().expect("a folder");
        let held = HomeLock::take(home.path()).expect("free");
        assert_eq!(HomeLock::take(home.path()).expect_err("held").kind(), ErrorKind::Fenced);
        drop(held);
        HomeLock::take(home.path()).expect("free again");
    }
}
