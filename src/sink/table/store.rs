//! Tables on a local disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::disk::{copy_verified, create_directories, has_size, remove, sync, sync_all, unavailable, verified};
use super::disk::{write_file, write_synced};
use super::draft::{Draft, DraftFile, DraftRows, Publication, Published, Scope, unpartitioned};
use super::encode::decode;
use super::layout::{Entry, EntryKind, MANIFEST, TablePath, collectable, file_name, has_place, link_name, next_number};
use super::layout::{partial_name, version_name};
use super::manifest::{Manifest, TableFile, TableMeta};
use super::rows::FileLimits;
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
    /// The version that this writer published last: each of its files was written or looked through by it.
    own: Option<u64>,
    /// When versions were published, as far as that was asked for.
    published: BTreeMap<u64, Option<Micros>>,
    /// How a file gets a second name.
    link: Link,
    /// Whether it was said that the file system refuses that.
    told_of_copies: bool,
}

/// Gives the file at the first path the second as another name.
pub(super) type Link = fn(&Path, &Path) -> io::Result<()>;

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
    /// The columns whose values make folders.
    pub partition_by: Vec<String>,
    /// Rows in all files.
    pub rows: u64,
    /// The digest of schema, key and rows, in hexadecimal.
    pub content: String,
    /// The Parquet files: by folder, and in the order of the rows in each.
    pub files: Vec<TableFile>,
}

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

    /// Its rows with the types that they were published with.
    ///
    /// # Errors
    ///
    /// Kind `Corrupt` if a file does not have the size or the digest that the manifest states; kind `Unavailable`: the disk.
    pub fn read(&self) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        for file in &self.files {
            batches.extend(decode(verified(&self.directory, file)?, &self.schema)?);
        }
        Ok(batches)
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
        let store = Self {
            home: home.to_owned(),
            path: TablePath::new(path)?,
            limits: FileLimits::default(),
            begun: 0,
            own: None,
            published: BTreeMap::new(),
            link: |file, name| fs::hard_link(file, name),
            told_of_copies: false,
        };
        store.check_free()?;
        Ok(store)
    }

    /// As on a file system that does something else when a file is to get another name.
    #[cfg(test)]
    pub(super) fn set_link(&mut self, link: Link) {
        self.link = link;
    }

    /// The same table with other limits for files and row groups.
    pub fn with_limits(mut self, limits: FileLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Makes `rows` the table's current version, without partitions; as [`TableStore::publish_partitions`].
    ///
    /// # Errors
    ///
    /// As [`TableStore::publish_partitions`].
    pub fn publish(
        &mut self,
        rows: &[RecordBatch],
        schema: &SchemaRef,
        key: &[String],
        meta: &TableMeta,
        now: Micros,
    ) -> Result<TableVersion> {
        let partitions = [unpartitioned(rows.to_vec())];
        let publication =
            Publication { schema, key, partition_by: &[], meta, partitions: &partitions, scope: Scope::Whole };
        match self.publish_partitions(&publication, now)? {
            Published::Version(version) => Ok(version),
            Published::WholeNeeded => Err(Error::internal("a whole table was not enough")),
        }
    }

    /// Makes what is published the table's current version, in one step, and collects versions replaced ten minutes
    /// before `now`.
    ///
    /// When it returns a version, that is durable. If the rows, their schema and `meta` are those of the current version,
    /// that one stays and is returned; if only epoch, clock or watermark moved, a new version says so and shares all files
    /// with the one before. Partitions that are not published stay as they are, without being read: only if this writer
    /// published the current version itself, else it asks for the whole table. Calling it again after an error is safe.
    ///
    /// # Errors
    ///
    /// Kind `Definition`: a column that Parquet can't hold, a key that is no column, a path that something else
    /// occupies (nothing is deleted then). Kind `Unavailable`: the disk. Kind `Internal`: rows of another schema.
    pub fn publish_partitions(
        &mut self,
        publication: &Publication<'_>,
        now: Micros,
    ) -> Result<Published<TableVersion>> {
        self.publish_observed(publication, now, &mut |_| Ok(()))
    }

    /// The same; `observe` is called after each step.
    pub(super) fn publish_observed(
        &mut self,
        publication: &Publication<'_>,
        now: Micros,
        observe: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<Published<TableVersion>> {
        let before = self.begun;
        let published = self.attempt(publication, now, observe);
        if !matches!(published, Ok(Published::Version(_))) && self.begun > before {
            self.discard_begun();
        }
        published
    }

    /// The same without tidying up after an error, so that an error of `observe` is like a crash after that step.
    pub(super) fn attempt(
        &mut self,
        publication: &Publication<'_>,
        now: Micros,
        observe: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<Published<TableVersion>> {
        self.check_free()?;
        let before = self.reusable()?;
        let taken_over = match publication.scope {
            Scope::Whole => before.as_ref(),
            Scope::Touched => before.as_ref().filter(|before| self.own == Some(before.manifest.version)),
        };
        let Some(draft) = Draft::new(publication, taken_over.map(|before| &before.manifest), self.limits)? else {
            return Ok(Published::WholeNeeded);
        };
        let is_there = |before: &Stored| {
            let is_there = |file: &DraftFile| match file {
                DraftFile::Kept(file) => has_size(&before.directory, file),
                DraftFile::Rows(_) => true,
            };
            draft.files.iter().all(is_there)
        };
        if !taken_over.is_none_or(is_there) {
            return Ok(self.whole_needed());
        }
        if let Some(before) = &before
            && draft.is(&before.manifest)
            && before.manifest.files.iter().all(|file| has_size(&before.directory, file))
        {
            self.collect(before.manifest.version, now);
            return before.clone().assemble().map(Published::Version);
        }
        let staging = self.begin()?;
        observe(Step::Begun)?;
        let mut placing = Placing {
            draft: &draft,
            limits: self.limits,
            before: taken_over,
            staging: &staging,
            link: self.link,
            copied: 0,
            unsynced: Vec::new(),
        };
        let files = match placing.place_all(observe) {
            Err(error) if error.kind() == ErrorKind::Corrupt => return Ok(self.whole_needed()),
            files => files?,
        };
        let copied = placing.copied;
        if copied > 0 && !std::mem::replace(&mut self.told_of_copies, true) {
            let table = self.path.link(&self.home);
            tracing::warn!(table = %table.display(), copied, "the file system refuses hard links: unchanged files are copied");
        }
        let mut manifest = draft.manifest(staging.number, now, files);
        manifest.directory = Some(version_name(staging.number, &manifest.content));
        self.finish(&staging, manifest, observe).map(Published::Version)
    }

    /// The version that readers see now; none if nothing was published.
    ///
    /// # Errors
    ///
    /// Kind `Definition` if the path is not this table's; kind `Corrupt` if its manifest is damaged or gone.
    pub fn current(&self) -> Result<Option<TableVersion>> {
        self.stored()?.map(Stored::assemble).transpose()
    }

    /// The rows of the current version with the types that they were published with; none if nothing was published.
    ///
    /// # Errors
    ///
    /// As [`TableStore::current`]; kind `Corrupt` also if a file does not have the size or the digest that the
    /// manifest states.
    pub fn read(&self) -> Result<Vec<RecordBatch>> {
        self.current()?.map_or_else(|| Ok(Vec::new()), |version| version.read())
    }

    /// Takes away versions replaced ten minutes before `now`, if this writer published the current one: publications do
    /// that too, but a table may rest.
    pub fn tidy(&mut self, now: Micros) {
        if let Some(own) = self.own
            && self.current_entry().is_ok_and(|entry| entry.is_some_and(|entry| entry.number == own))
        {
            self.collect(own, now);
        }
    }

    fn whole_needed(&self) -> Published<TableVersion> {
        let table = self.path.link(&self.home);
        tracing::warn!(table = %table.display(), "a file of the table is damaged: the table is written anew");
        Published::WholeNeeded
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
        &mut self,
        staging: &Staging,
        manifest: Manifest,
        observe: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<TableVersion> {
        let number = staging.number;
        write_synced(&staging.directory.join(MANIFEST), manifest.to_json()?.as_bytes())?;
        sync(&staging.directory)?;
        observe(Step::ManifestWritten)?;

        let versions = self.path.versions(&self.home);
        let name = version_name(number, &manifest.content);
        let directory = versions.join(&name);
        fs::rename(&staging.directory, &directory).map_err(unavailable("rename to", &directory))?;
        sync(&versions)?;
        observe(Step::Named)?;

        let (link, path) = (versions.join(link_name(number)), self.path.link(&self.home));
        let parent = path.parent().unwrap_or(&self.home);
        create_directories(parent)?;
        std::os::unix::fs::symlink(self.path.target(&name), &link).map_err(unavailable("link", &link))?;
        observe(Step::LinkMade)?;
        self.check_free()?;
        fs::rename(&link, &path).map_err(unavailable("replace", &path))?;
        sync(parent)?;
        observe(Step::Current)?;

        let version = Stored { directory, manifest }.assemble()?;
        self.own = Some(number);
        self.published.insert(number, Some(version.published_at));
        self.collect(number, version.published_at);
        observe(Step::Collected)?;
        Ok(version)
    }

    /// Takes away what may go. What can't be taken away now is left for the next time.
    fn collect(&mut self, current: u64, now: Micros) {
        let versions = self.path.versions(&self.home);
        let Ok(entries) = self.entries() else { return };
        let read = |directory: &Path| {
            let manifest = fs::read(directory.join(MANIFEST)).ok()?;
            Manifest::from_json(&manifest).ok().map(|manifest| manifest.published_at_us)
        };
        for entry in entries.iter().filter(|entry| entry.kind == EntryKind::Version) {
            self.published.entry(entry.number).or_insert_with(|| read(&versions.join(&entry.name)));
        }
        self.published.retain(|number, _| entries.iter().any(|entry| entry.number == *number));
        let published = |number: u64| self.published.get(&number).copied().flatten();
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
    fn reusable(&self) -> Result<Option<Stored>> {
        match self.stored() {
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

    fn stored(&self) -> Result<Option<Stored>> {
        let Some(entry) = self.current_entry()? else { return Ok(None) };
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
        Ok(Some(Stored { directory, manifest: found }))
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

/// A version as it lies there.
#[derive(Debug, Clone)]
struct Stored {
    directory: PathBuf,
    manifest: Manifest,
}

impl Stored {
    fn assemble(self) -> Result<TableVersion> {
        let Self { directory, manifest } = self;
        Ok(TableVersion {
            number: manifest.version,
            directory,
            meta: manifest.meta(),
            published_at: manifest.published_at_us,
            schema: manifest.arrow_schema()?,
            key: manifest.key,
            partition_by: manifest.partition_by,
            rows: manifest.rows,
            content: manifest.content,
            files: manifest.files,
        })
    }
}

/// Puts the files of one version in place.
struct Placing<'a> {
    draft: &'a Draft<'a>,
    limits: FileLimits,
    before: Option<&'a Stored>,
    staging: &'a Staging,
    link: Link,
    /// Files that could not be linked.
    copied: usize,
    /// Files that are written and may not last yet.
    unsynced: Vec<PathBuf>,
}

impl Placing<'_> {
    /// All files, in the draft's order, and their folders; they last, apart from the entries of the outermost folder.
    fn place_all(&mut self, observe: &mut dyn FnMut(Step) -> Result<()>) -> Result<Vec<TableFile>> {
        let mut files = Vec::with_capacity(self.draft.files.len());
        let mut folders = BTreeSet::new();
        for file in &self.draft.files {
            let name = match file {
                DraftFile::Kept(file) => file.name.clone(),
                DraftFile::Rows(file) => self.name(file),
            };
            let path = self.staging.directory.join(&name);
            for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.staging.directory) {
                folders.insert(folder.to_owned());
            }
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(unavailable("create", folder))?;
            }
            files.push(match file {
                DraftFile::Kept(file) => self.keep(file, &path)?,
                DraftFile::Rows(file) => self.place(file, name, &path)?,
            });
            observe(Step::FileWritten)?;
        }
        self.unsynced.extend(folders);
        sync_all(&self.unsynced)?;
        Ok(files)
    }

    /// That of the version before if the file is that one, at its place; else one that no version had.
    fn name(&self, file: &DraftRows) -> String {
        match &file.known {
            Some(known) if has_place(&known.name, &file.folder, file.index) => known.name.clone(),
            _ => file_name(&file.folder, file.index, self.staging.number, &file.rows.content),
        }
    }

    /// Takes over a file of a partition that did not change.
    ///
    /// # Errors
    ///
    /// Kind `Corrupt` if it had to be copied and is not what was written.
    fn keep(&mut self, file: &TableFile, path: &Path) -> Result<TableFile> {
        let before = self.before.ok_or_else(|| Error::internal("a file of no version is kept"))?;
        self.take_over(&before.directory, file, path)?;
        Ok(file.clone())
    }

    /// Takes over the file of the version before if it has the same rows and is whole; else writes it.
    fn place(&mut self, file: &DraftRows, name: String, path: &Path) -> Result<TableFile> {
        if let (Some(before), Some(known)) = (self.before, &file.known)
            && verified(&before.directory, known).is_ok()
        {
            self.take_over(&before.directory, known, path)?;
            return Ok(TableFile { name, ..known.clone() });
        }
        let written = write_file(path, |output| self.draft.encode(file, self.limits, output))?;
        self.unsynced.push(path.to_owned());
        Ok(file.written(name, written.size_bytes, written.sha256))
    }

    fn take_over(&mut self, directory: &Path, file: &TableFile, path: &Path) -> Result<()> {
        if (self.link)(&directory.join(&file.name), path).is_err() {
            // Some file systems have no hard links, others only so many of one file.
            copy_verified(directory, file, path)?;
            self.unsynced.push(path.to_owned());
            self.copied += 1;
        }
        Ok(())
    }
}

fn occupied(path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Definition, format!("`{}` {why}", path.display()))
}

/// Numbers that are tried before another writer is held to be busy.
const ATTEMPTS_MAX: u32 = 16;
