//! The home directory: whether it can hold what is written there, in the way in which it is written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::definition::pipeline::{Pipeline, SinkTarget, TablePlace};
use crate::sink::table::TableStore;

use super::Check;

/// Every check of the home directory. Where it is not there yet, the folder in which it will be made is tried.
pub(super) fn checks(pipeline: &Pipeline, home: &Path) -> Vec<Check> {
    let Some(place) = existing(home) else {
        return vec![refused(home, "neither it nor any folder above it is there".to_owned())];
    };
    let tried = match tempfile::Builder::new().prefix(".milepost-doctor-").tempdir_in(&place) {
        Ok(folder) => tried(home, folder.path()),
        Err(error) => vec![refused(home, format!("it can't be written: {error}"))],
    };
    tried.into_iter().chain(room(&place)).chain(tables(pipeline, home)).collect()
}

fn refused(home: &Path, wrong: String) -> Check {
    let mend = format!("`chown` or `chmod` `{}`, or give `--home` a folder that this user may write", home.display());
    Check::refused("home", wrong, mend)
}

/// The path, or the nearest folder above it that is there.
fn existing(path: &Path) -> Option<PathBuf> {
    let shown = |path: &Path| if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() };
    path.ancestors().map(shown).find(|path| path.exists())
}

/// Writes, syncs, links and renames in a folder of its own.
fn tried(home: &Path, folder: &Path) -> Vec<Check> {
    let took = match written(folder) {
        Ok(took) => took,
        Err(error) => return vec![refused(home, format!("a file can't be written and synced in it: {error}"))],
    };
    let milliseconds = took.as_millis();
    let mut checks = vec![if took <= SYNC_MAX {
        Check::ok("home", format!("can be written; a file was synced in {milliseconds} ms"))
    } else {
        let wrong = format!("syncing a file took {milliseconds} ms, and every epoch waits for one");
        Check::warning("home", wrong, "put `--home` on a faster disk, or make epochs larger with `batch`")
    }];
    if let Err(error) = replaced(folder) {
        let wrong = format!("a symbolic link can't be made or replaced: {error}; tables are such links");
        checks.push(Check::refused("home", wrong, "put `--home` on a file system that has symbolic links"));
    }
    if let Err(error) = fs::hard_link(folder.join("file"), folder.join("other")) {
        let wrong = format!("the file system refuses hard links ({error}): files that did not change are copied");
        checks.push(Check::warning("home", wrong, "put `--home` on a local file system such as ext4 or XFS"));
    }
    checks
}

/// How long it takes until a file and its name are on disk.
fn written(folder: &Path) -> io::Result<Duration> {
    let started = now();
    let mut file = File::create_new(folder.join("file"))?;
    file.write_all(b"milepost")?;
    file.sync_all()?;
    File::open(folder)?.sync_all()?;
    Ok(now().duration_since(started))
}

/// As a table moves from one version to the next.
fn replaced(folder: &Path) -> io::Result<()> {
    for (target, name) in [("one", "link"), ("two", "next")] {
        std::os::unix::fs::symlink(target, folder.join(name))?;
    }
    fs::rename(folder.join("next"), folder.join("link"))
}

/// How much can still be written, and whether it lasts.
fn room(place: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    match rustix::fs::statvfs(place) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let says = format!("{} MiB are free", free / MIB);
            let mend = "make room, or give `--home` another disk";
            checks.push(match free {
                ..FREE_BYTES_MIN => Check::refused("disk", says, mend),
                FREE_BYTES_MIN..FREE_BYTES_WARNED => Check::warning("disk", says, mend),
                _ => Check::ok("disk", says),
            });
        }
        Err(error) => checks.push(Check::warning(
            "disk",
            format!("how much is free can't be told: {error}"),
            "see `df` for yourself",
        )),
    }
    if rustix::fs::statfs(place).is_ok_and(|found| MEMORY.contains(&(found.f_type as u64))) {
        let wrong =
            "it is kept in memory: a restart of the machine loses the epoch log, and with it what was published";
        checks.push(Check::warning("disk", wrong, "give `--home` a folder on a disk"));
    }
    checks
}

/// Whether the paths of tables are free, and can be reached from their versions by a rename.
fn tables(pipeline: &Pipeline, home: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    let device = |path: &Path| existing(path).and_then(|path| fs::metadata(path).ok()).map(|found| found.dev());
    for sink in &pipeline.sinks {
        let SinkTarget::Parquet { place: TablePlace::Home(path), .. } = &sink.target else { continue };
        let name = format!("table {}", path.display());
        if let Err(error) = TableStore::open(home, path) {
            checks.push(Check::refused(name, error.chain(), "move what lies there, or give the table another `path`"));
            continue;
        }
        let parent = home.join(path);
        if device(parent.parent().unwrap_or(home)) != device(&home.join(".versions")) {
            let wrong =
                "its path is on another file system than `.versions`, so no version can be renamed into its place";
            checks.push(Check::refused(name, wrong, "mount the whole `--home`, not a folder in it"));
            continue;
        }
        checks.push(Check::ok(name, "its path is free, or its own"));
    }
    checks
}

#[expect(clippy::disallowed_methods, reason = "how long a sync takes is what is looked at")]
fn now() -> Instant {
    Instant::now()
}

const MIB: u64 = 1024 * 1024;
/// Less than this, and nothing of any size can be written.
const FREE_BYTES_MIN: u64 = 64 * MIB;
/// Less than this is used up soon.
const FREE_BYTES_WARNED: u64 = 1024 * MIB;
/// What an epoch may wait for.
const SYNC_MAX: Duration = Duration::from_millis(100);
/// The numbers of tmpfs and ramfs.
const MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
