//! Tables on a local disk: the only file here that touches one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::encode::{decode, encode};
use super::layout::{Entry, EntryKind, MANIFEST, TablePath, collectable, link_name, next_number, partial_name};
use super::layout::{file_name, version_name};
use super::manifest::{FORMAT, Manifest, TableFile, TableMeta, columns, content, hexadecimal, identity};
use super::rows::{FileLimits, FileRows, SortedRows};
use super::schema::check_schema;
use crate::error::{Error, ErrorKind, Result};
use crate::types::Micros;

/// One table under `--home`. A table has one writer; readers need no lock.
#[derive(Debug)]
pub struct TableStore {
    home: PathBuf,
    path: TablePath,
    limits: FileLimits,
    /// The highest number that this writer has begun.
    begun: u64,
}

/// One version of a table, which is never changed once it is there.
#[derive(Debug, Clone, PartialEq)]
pub struct TableVersion {
    /// Its number; the first is 1, none is used twice.
    pub number: u64,
    /// The directory that holds it, the link resolved.
    pub directory: PathBuf,
    /// Whose table it is, and what it is true of.
    pub meta: TableMeta,
    /// When it was written.
    pub published_at: Micros,
    /// The columns.
    pub schema: SchemaRef,
    /// The columns that sort the table.
    pub key: Vec<String>,
    /// Rows in all files.
    pub rows: u64,
    /// The digest of schema, key and rows, in hexadecimal.
    pub content: String,
    /// The Parquet files, in the order of the rows.
    pub files: Vec<TableFile>,
}

/// What is published: the rows, their schema, and the key that sorts them.
pub(super) type Rows<'a> = (&'a [RecordBatch], &'a SchemaRef, &'a [String]);

/// What a publication has just done; a test may look around, or stop it there as a crash would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The directory of the new version is there, empty.
    Begun,
    /// One more file is in it.
    FileWritten,
    /// The manifest is in it.
    ManifestWritten,
    /// It has its final name.
    Named,
    /// The link to it is there, but not in its place.
    LinkMade,
    /// The link is in its place.
    Current,
    /// What was old is gone.
    Collected,
}

impl TableVersion {
    /// The Parquet files with their directory.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| self.directory.join(&file.name)).collect()
    }
}

impl TableStore {
    /// The table at `path`, relative to `home`, as the pipeline file has it. Nothing is created before something is
    /// published.
    ///
    /// # Errors
    ///
    /// Kind `Definition`: the path is not relative and plain, or something that is not this table lies there.
    pub fn open(home: &Path, path: &Path) -> Result<Self> {
        let store =
            Self { home: home.to_owned(), path: TablePath::new(path)?, limits: FileLimits::default(), begun: 0 };
        store.check_free()?;
        Ok(store)
    }

    /// The same table with other limits for files and row groups.
    pub fn with_limits(mut self, limits: FileLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Makes `rows` the table's current version, in one step, and collects versions replaced ten minutes before `now`.
    ///
    /// When it returns, the version is durable. If rows, schema and `meta` are those of the current version, that one
    /// stays and is returned; if only epoch, clock or watermark moved, a new version says so and shares all files with
    /// the one before. Calling it again after an error is safe.
    ///
    /// # Errors
    ///
    /// Kind `Definition`: a column that Parquet can't hold, a key that is no column, a path that something else
    /// occupies (nothing is deleted then). Kind `Unavailable`: the disk. Kind `Internal`: rows of another schema.
    pub fn publish(
        &mut self,
        rows: &[RecordBatch],
        schema: &SchemaRef,
        key: &[String],
        meta: &TableMeta,
        now: Micros,
    ) -> Result<TableVersion> {
        self.publish_observed((rows, schema, key), meta, now, &mut |_| Ok(()))
    }

    /// The same; `observe` is called after each step.
    pub(super) fn publish_observed(
        &mut self,
        rows: Rows<'_>,
        meta: &TableMeta,
        now: Micros,
        observe: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<TableVersion> {
        let before = self.begun;
        let published = self.attempt(rows, meta, now, observe);
        if published.is_err() && self.begun > before {
            self.discard_begun();
        }
        published
    }

    /// The same without tidying up after an error, so that an error of `observe` is like a crash after that step.
    pub(super) fn attempt(
        &mut self,
        (rows, schema, key): Rows<'_>,
        meta: &TableMeta,
        now: Micros,
        observe: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<TableVersion> {
        check_schema(schema)?;
        self.check_free()?;
        let columns = columns(schema)?;
        let identity = identity(&meta.pipeline, &meta.job, &columns, key)?;
        let sorted = SortedRows::new(rows, schema, key)?;
        let cut = sorted.cut(self.limits, &identity);
        let before = self.reusable()?;
        if let Some(before) = &before
            && before.meta == *meta
            && before.files.iter().map(|file| &file.content).eq(cut.iter().map(|file| &file.content))
            && sizes_hold(before)
        {
            self.collect(before.number, now);
            return Ok(before.clone());
        }
        let staging = self.begin()?;
        observe(Step::Begun)?;
        let mut files = Vec::with_capacity(cut.len());
        for (index, rows) in cut.iter().enumerate() {
            let writer = FileWriter { sorted: &sorted, key, meta, limits: self.limits, before: before.as_ref() };
            files.push(writer.place(&staging.directory, index, rows)?);
            observe(Step::FileWritten)?;
        }
        let manifest = Manifest {
            format: FORMAT,
            version: staging.number,
            pipeline: meta.pipeline.clone(),
            job: meta.job.clone(),
            epoch: meta.stamp.epoch.0,
            clock_us: meta.stamp.clock,
            watermark_us: meta.stamp.watermark,
            published_at_us: now,
            key: key.to_vec(),
            schema: columns,
            rows: files.iter().map(|file| file.rows).sum(),
            content: content(&identity, &files),
            files,
        };
        self.finish(&staging, manifest, observe)
    }

    /// The version that readers see now; none if nothing was published.
    ///
    /// # Errors
    ///
    /// Kind `Definition` if the path is not this table's; kind `Corrupt` if its manifest is damaged or gone.
    pub fn current(&self) -> Result<Option<TableVersion>> {
        let Some(entry) = self.current_entry()? else { return Ok(None) };
        self.version(&entry).map(Some)
    }

    /// The rows of the current version with the types that they were published with; none if nothing was published.
    ///
    /// # Errors
    ///
    /// As [`TableStore::current`]; kind `Corrupt` also if a file does not have the size or the digest that the
    /// manifest states.
    pub fn read(&self) -> Result<Vec<RecordBatch>> {
        let Some(version) = self.current()? else { return Ok(Vec::new()) };
        let mut batches = Vec::new();
        for file in &version.files {
            let bytes = verified(&version.directory, file)?;
            batches.extend(decode(bytes, &version.schema)?);
        }
        Ok(batches)
    }

    /// The directory that is being written, under a number that was never used.
    fn begin(&mut self) -> Result<Staging> {
        let versions = self.path.versions(&self.home);
        create_directories(&versions)?;
        let mut number = next_number(&self.entries()?).max(self.begun + 1);
        for _ in 0..ATTEMPTS_MAX {
            let directory = versions.join(partial_name(number));
            match fs::create_dir(&directory) {
                Ok(()) => {
                    self.begun = number;
                    return Ok(Staging { number, directory });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(unavailable("create", &directory)(error)),
            }
        }
        let doing = format!("another writer is busy in `{}`", versions.display());
        Err(Error::new(ErrorKind::Fenced, doing))
    }

    /// Steps 1 (its end) to 4 of the module's order of writing.
    fn finish(
        &self,
        staging: &Staging,
        manifest: Manifest,
        observe: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<TableVersion> {
        let number = staging.number;
        write_synced(&staging.directory.join(MANIFEST), manifest.to_json()?.as_bytes())?;
        sync_directory(&staging.directory)?;
        observe(Step::ManifestWritten)?;

        let versions = self.path.versions(&self.home);
        let name = version_name(number, &manifest.content);
        let directory = versions.join(&name);
        fs::rename(&staging.directory, &directory).map_err(unavailable("rename to", &directory))?;
        sync_directory(&versions)?;
        observe(Step::Named)?;

        let (link, path) = (versions.join(link_name(number)), self.path.link(&self.home));
        let parent = path.parent().unwrap_or(&self.home);
        create_directories(parent)?;
        std::os::unix::fs::symlink(self.path.target(&name), &link).map_err(unavailable("link", &link))?;
        observe(Step::LinkMade)?;
        self.check_free()?;
        fs::rename(&link, &path).map_err(unavailable("replace", &path))?;
        sync_directory(parent)?;
        observe(Step::Current)?;

        let version = assemble(directory, manifest)?;
        self.collect(number, version.published_at);
        observe(Step::Collected)?;
        Ok(version)
    }

    /// Takes away what may go. What can't be taken away now is left for the next time.
    fn collect(&self, current: u64, now: Micros) {
        let versions = self.path.versions(&self.home);
        let Ok(entries) = self.entries() else { return };
        let published = |number: u64| {
            let is_it = |entry: &&Entry| entry.number == number && entry.kind == EntryKind::Version;
            let directory = versions.join(&entries.iter().find(is_it)?.name);
            let manifest = fs::read(directory.join(MANIFEST)).ok()?;
            Manifest::from_json(&manifest).ok().map(|manifest| manifest.published_at_us)
        };
        for entry in collectable(&entries, current, published, now) {
            if let Err(error) = remove(&versions, entry) {
                tracing::warn!(entry = entry.name, %error, "could not remove an old table version");
            }
        }
    }

    /// Gives back the space of a publication that failed, so that trying again and again does not fill the disk. What
    /// may have become current stays.
    fn discard_begun(&self) {
        let versions = self.path.versions(&self.home);
        let current = self.current_entry();
        let may_be_current = !current.is_ok_and(|entry| entry.is_none_or(|entry| entry.number != self.begun));
        let is_it =
            |entry: &&Entry| entry.number == self.begun && (entry.kind != EntryKind::Version || !may_be_current);
        for entry in self.entries().unwrap_or_default().iter().filter(is_it) {
            if let Err(error) = remove(&versions, entry) {
                tracing::warn!(entry = entry.name, %error, "could not remove an unfinished table version");
            }
        }
    }

    /// The current version, if its files can be used for the next. A damaged one can't, and is replaced.
    fn reusable(&self) -> Result<Option<TableVersion>> {
        match self.current() {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                tracing::warn!(error = error.chain(), "the table's current version is damaged and is written anew");
                Ok(None)
            }
            other => other,
        }
    }

    /// That the path is free or this table's, and everything above it is a directory.
    fn check_free(&self) -> Result<()> {
        for parent in self.path.parents(&self.home) {
            match fs::symlink_metadata(&parent) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Err(occupied(&parent, "is not a directory; another table may lie there")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unavailable("look at", &parent)(error)),
            }
        }
        self.current_entry().map(|_| ())
    }

    /// The version that the link names.
    fn current_entry(&self) -> Result<Option<Entry>> {
        let link = self.path.link(&self.home);
        match fs::symlink_metadata(&link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unavailable("look at", &link)(error)),
            Ok(found) if !found.is_symlink() => {
                return Err(occupied(&link, "is taken by something that is not a table; move it away"));
            }
            Ok(_) => {}
        }
        let target = fs::read_link(&link).map_err(unavailable("read", &link))?;
        let entry = self.path.version_of(&target);
        entry.map(Some).ok_or_else(|| occupied(&link, "is a symbolic link to something else; move it away"))
    }

    fn version(&self, entry: &Entry) -> Result<TableVersion> {
        let directory = self.path.versions(&self.home).join(&entry.name);
        let manifest = directory.join(MANIFEST);
        let text = match fs::read(&manifest) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let doing = format!("the table's current version lacks `{}`", manifest.display());
                return Err(Error::caused(ErrorKind::Corrupt, doing, error));
            }
            Err(error) => return Err(unavailable("read", &manifest)(error)),
        };
        let in_place = |error: Error| {
            let doing = format!("`{}` is damaged", manifest.display());
            Error::caused(error.kind(), doing, error)
        };
        let found = Manifest::from_json(&text).map_err(in_place)?;
        if found.version != entry.number || version_name(found.version, &found.content) != entry.name {
            let doing = format!("`{}` is not that of its directory", manifest.display());
            return Err(Error::new(ErrorKind::Corrupt, doing));
        }
        assemble(directory, found)
    }

    /// Everything of ours in the directory of versions; nothing if there is none.
    fn entries(&self) -> Result<Vec<Entry>> {
        let versions = self.path.versions(&self.home);
        let listed = match fs::read_dir(&versions) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(unavailable("list", &versions))?,
        };
        let mut entries = Vec::new();
        for found in listed {
            let name = found.map_err(unavailable("list", &versions))?.file_name();
            entries.extend(name.to_str().and_then(Entry::parse));
        }
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
}

/// A version that is being written.
struct Staging {
    number: u64,
    directory: PathBuf,
}

/// Puts the files of one version in place.
struct FileWriter<'a> {
    sorted: &'a SortedRows,
    key: &'a [String],
    meta: &'a TableMeta,
    limits: FileLimits,
    before: Option<&'a TableVersion>,
}

impl FileWriter<'_> {
    /// Links the file of the version before if it has the same rows and is whole; else writes it.
    fn place(&self, directory: &Path, index: usize, rows: &FileRows) -> Result<TableFile> {
        let name = file_name(index, &rows.content);
        let path = directory.join(&name);
        if let Some(before) = self.before
            && let Some(known) = before.files.iter().find(|file| file.content == rows.content)
            && verified(&before.directory, known).is_ok()
            && fs::hard_link(before.directory.join(&known.name), &path).is_ok()
        {
            return Ok(TableFile { name, ..known.clone() });
        }
        let file = File::create_new(&path).map_err(unavailable("create", &path))?;
        let output = Digesting { output: BufWriter::new(file), digest: Sha256::new(), bytes: 0 };
        let mut output = encode(self.sorted, rows, self.key, self.meta, self.limits.group_rows_max, output)?;
        output.flush().map_err(unavailable("write", &path))?;
        output.output.get_ref().sync_all().map_err(unavailable("sync", &path))?;
        Ok(TableFile {
            name,
            rows: rows.range.len() as u64,
            size_bytes: output.bytes,
            sha256: hexadecimal(&output.digest.finalize()),
            content: rows.content.clone(),
        })
    }
}

/// An output that keeps the digest and the number of the bytes that went through.
struct Digesting<W> {
    output: W,
    digest: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or(bytes));
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn assemble(directory: PathBuf, manifest: Manifest) -> Result<TableVersion> {
    Ok(TableVersion {
        number: manifest.version,
        directory,
        meta: manifest.meta(),
        published_at: manifest.published_at_us,
        schema: manifest.arrow_schema()?,
        key: manifest.key,
        rows: manifest.rows,
        content: manifest.content,
        files: manifest.files,
    })
}

/// A file's bytes, if they are those that were written.
fn verified(directory: &Path, file: &TableFile) -> Result<Bytes> {
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

fn sizes_hold(version: &TableVersion) -> bool {
    let holds = |file: &TableFile| {
        fs::metadata(version.directory.join(&file.name)).is_ok_and(|found| found.len() == file.size_bytes)
    };
    version.files.iter().all(holds)
}

/// Removes an entry; a version loses its name first, so that it is never half there under it.
fn remove(versions: &Path, entry: &Entry) -> io::Result<()> {
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

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create_new(path).map_err(unavailable("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(unavailable("write", path))
}

/// Creates a directory and those above it, so that they last.
fn create_directories(path: &Path) -> Result<()> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().unwrap_or(Path::new(""));
    create_directories(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(unavailable("create", path)(error)),
        _ => sync_directory(parent),
    }
}

fn sync_directory(path: &Path) -> Result<()> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    File::open(path).and_then(|directory| directory.sync_all()).map_err(unavailable("sync", path))
}

fn unavailable(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let doing = format!("cannot {verb} `{}`", path.display());
    move |error| Error::caused(ErrorKind::Unavailable, doing, error)
}

fn occupied(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Definition, format!("`{}` {why}", path.display()))
}

/// Numbers that are tried before another writer is held to be busy.
const ATTEMPTS_MAX: u32 = 16;
