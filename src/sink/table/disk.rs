//! What tables do to a local disk, step by step. Whoever needs a step to last syncs it.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::layout::{Entry, EntryKind, partial_name};
use super::manifest::{TableFile, hexadecimal};
use crate::error::{Error, ErrorKind, Result};

/// What was written to a file.
pub(super) struct Written {
    /// How many bytes.
    pub(super) size_bytes: u64,
    /// Their digest, in hexadecimal.
    pub(super) sha256: String,
}

/// Writes a new file, which is yet to be synced, and says what is in it.
pub(super) fn write_file(path: &Path, write: impl FnOnce(Output) -> Result<Output>) -> Result<Written> {
    let file = File::create_new(path).map_err(unavailable("create", path))?;
    let mut output = write(Output { output: BufWriter::new(file), digest: Sha256::new(), size_bytes: 0 })?;
    output.flush().map_err(unavailable("write", path))?;
    Ok(Written { size_bytes: output.size_bytes, sha256: hexadecimal(&output.digest.finalize()) })
}

/// A file on its way, with the digest and the number of the bytes that went through.
pub(super) struct Output {
    output: BufWriter<File>,
    digest: Sha256,
    size_bytes: u64,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or(bytes));
        self.size_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A file's bytes, if they are those that were written.
pub(super) fn verified(directory: &Path, file: &TableFile) -> Result<Bytes> {
    let path = directory.join(&file.name);
    let corrupt = |why: &str| Error::new(ErrorKind::Corrupt, format!("`{}` {why}", path.display()));
    let bytes = match fs::read(&path) {
        Ok(bytes) => Bytes::from(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(corrupt("is gone")),
        Err(error) => return Err(unavailable("read", &path)(error)),
    };
    if bytes.len() as u64 != file.size_bytes {
        return Err(corrupt(&format!("has `{}` bytes, not the `{}` that were written", bytes.len(), file.size_bytes)));
    }
    if hexadecimal(&Sha256::digest(&bytes)) != file.sha256 {
        return Err(corrupt("does not have the digest that was written"));
    }
    Ok(bytes)
}

/// Copies a file to `path`; the copy is yet to be synced.
///
/// # Errors
///
/// Kind `Corrupt` if its bytes are not those that were written.
pub(super) fn copy_verified(directory: &Path, file: &TableFile, path: &Path) -> Result<()> {
    let source = directory.join(&file.name);
    let mut input = match File::open(&source) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::new(ErrorKind::Corrupt, format!("`{}` is gone", source.display())));
        }
        input => input.map_err(unavailable("read", &source))?,
    };
    let written = write_file(path, |mut output| {
        io::copy(&mut input, &mut output).map_err(unavailable("copy", &source))?;
        Ok(output)
    })?;
    if written.size_bytes == file.size_bytes && written.sha256 == file.sha256 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Corrupt, format!("`{}` is not what was written", source.display())))
}

/// Whether a file is there and has the size that was written.
pub(super) fn has_size(directory: &Path, file: &TableFile) -> bool {
    fs::metadata(directory.join(&file.name)).is_ok_and(|found| found.len() == file.size_bytes)
}

/// Removes an entry; a version loses its name first, so that it is never half there under it.
pub(super) fn remove(versions: &Path, entry: &Entry) -> io::Result<()> {
    let path = versions.join(&entry.name);
    match entry.kind {
        EntryKind::Link => fs::remove_file(path),
        EntryKind::Partial => fs::remove_dir_all(path),
        EntryKind::Version => {
            let partial = versions.join(partial_name(entry.number));
            fs::rename(path, &partial)?;
            fs::remove_dir_all(partial)
        }
    }
}

pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create_new(path).map_err(unavailable("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(unavailable("write", path))
}

/// Creates a directory and those above it, so that they last.
pub(super) fn create_directories(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    create_directories(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(unavailable("create", path)(error)),
        _ => sync(parent),
    }
}

/// Syncs files and directories, several at once: a file system that commits them together then waits once for many.
pub(super) fn sync_all(paths: &[PathBuf]) -> Result<()> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            sync(path)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let another = |_| thread::Builder::new().name("sync".to_owned()).spawn_scoped(scope, work).ok();
        // Where no thread can be had, the work is done by those that are there.
        let others: Vec<_> = (1..SYNCS_AT_ONCE.min(paths.len())).filter_map(another).collect();
        let died = |_| Err(Error::internal("a thread that synced died"));
        let own = work();
        others.into_iter().map(|other| other.join().unwrap_or_else(died)).fold(own, Result::and)
    })
}

/// Syncs a directory, or a file.
pub(super) fn sync(path: &Path) -> Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|file| file.sync_all()).map_err(unavailable("sync", path))
}

pub(super) fn unavailable(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let doing = format!("cannot {verb} `{}`", path.display());
    move |error| Error::caused(ErrorKind::Unavailable, doing, error)
}

/// Files and directories that are synced at once.
const SYNCS_AT_ONCE: usize = 8;
