//! Tables in an S3-compatible store: immutable files, and `_current.json` that names those of the current version.
//!
//! ```text
//! s3://bucket/kpi/dispatch_sla/_current.json
//!                             /_files/day=2024-03-18/part-00000007-00000-9c1f2ab04d5e6f70.parquet
//! ```
//!
//! The order of writing, which is what makes it safe to die after any line:
//!
//! 1. new files, under names that were never used; files that did not change stay where they are;
//! 2. the pointer, on the condition that it is still the one that this version follows: this one request makes the
//!    version current, and fences whoever began before it;
//! 3. only then what may go: files that left ten minutes ago, by what the pointer says of them, and files of versions that
//!    never became current, of which none can any more.
//!
//! A pointer whose fate is not known (a lost answer) is looked up: who wrote the one that is there stands in it.

#![expect(clippy::disallowed_methods, reason = "an edge: each writer draws digits of its own")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use sha2::{Digest, Sha256};
use url::Url;

use super::draft::{Draft, DraftFile, DraftRows, Publication, Published, Scope};
use super::encode::decode;
use super::layout::MANIFEST;
use super::manifest::{Manifest, TableFile, TableMeta, hexadecimal};
use super::objects::{FILES, named, number_of, object_name, retire, take_due};
use super::rows::FileLimits;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{self, Condition};
use crate::types::Micros;

/// One table in an object store. A table has one writer; another one that begins is noticed, and stops the first.
pub struct ObjectTable {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Where the table lies, for people and readers.
    url: String,
    limits: FileLimits,
    /// This writer's own digits.
    writer: String,
    /// The highest number that was seen in the store, or begun.
    begun: u64,
    /// The pointer, if this writer wrote it and knows so.
    own: Option<Pointer>,
    /// The sizes of all files that lay there when this writer began; none before it looked.
    found: Option<BTreeMap<String, u64>>,
    /// Files that may go as soon as this writer's next pointer stands and does not name them.
    leftovers: BTreeSet<String>,
    /// Of these the ones that this writer stored since its last pointer, by content: who tries again need not store them
    /// again.
    spare: BTreeMap<String, TableFile>,
}

/// One version of a table in an object store. Its files stay for ten minutes after another version took its place.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectVersion {
    /// Its number; each is above those before.
    pub number: u64,
    /// Where the table lies.
    pub url: String,
    /// Whose table it is, and what it is true of.
    pub meta: TableMeta,
    /// When it was written.
    pub published_at: Micros,
    /// Rows in all files.
    pub rows: u64,
    /// The digest of schema, key and rows, in hexadecimal.
    pub content: String,
    /// The Parquet files: by folder, and in the order of the rows in each.
    pub files: Vec<TableFile>,
}

impl ObjectVersion {
    /// The Parquet files with their whole URLs.
    pub fn urls(&self) -> Vec<String> {
        self.files.iter().map(|file| format!("{}/{}", self.url, file.name)).collect()
    }
}

/// `_current.json` as it lies there.
#[derive(Debug, Clone)]
struct Pointer {
    version: UpdateVersion,
    /// None if it can't be read as what it should be.
    manifest: Option<Manifest>,
}

/// What became of one attempt.
enum Attempt {
    Done(Published<ObjectVersion>),
    /// The pointer is another one than the attempt followed, by this writer's own doing.
    Moved,
}

impl fmt::Debug for ObjectTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectTable").field("url", &self.url).field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl ObjectTable {
    /// The table at a URL such as `s3://bucket/kpi/dispatch_sla`. Nothing is asked of the store yet.
    ///
    /// # Errors
    ///
    /// As [`store::open`].
    pub fn open(url: &Url) -> Result<Self> {
        let (store, prefix) = store::open(url)?;
        Ok(Self::within(store, prefix, store::shown(url)))
    }

    /// The table below `prefix` of a store; `url` is how people and readers name that.
    pub fn within(store: Arc<dyn ObjectStore>, prefix: Path, url: impl Into<String>) -> Self {
        let mut digits = std::hash::RandomState::new().build_hasher();
        digits.write(b"writer");
        Self {
            store,
            prefix,
            url: url.into().trim_end_matches('/').to_owned(),
            limits: FileLimits::default(),
            writer: format!("{:016x}", digits.finish()),
            begun: 0,
            own: None,
            found: None,
            leftovers: BTreeSet::new(),
            spare: BTreeMap::new(),
        }
    }

    /// The same table with other limits for files and row groups.
    pub fn with_limits(mut self, limits: FileLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The version that readers see now; none if nothing was published.
    ///
    /// # Errors
    ///
    /// Kind `Unavailable`: the store. Kind `Corrupt`: the pointer is not one.
    pub async fn current(&self) -> Result<Option<ObjectVersion>> {
        let Some((_, text)) = self.read_pointer().await? else { return Ok(None) };
        let manifest = Manifest::from_json(&text).map_err(|error| {
            let doing = format!("`{}/{MANIFEST}` is damaged", self.url);
            Error::caused(error.kind(), doing, error)
        })?;
        Ok(Some(self.assemble(&manifest)))
    }

    /// The version that readers see now with its rows; none if nothing was published.
    ///
    /// # Errors
    ///
    /// As [`ObjectTable::current`]; kind `Corrupt` also if a file is gone, or does not have the size or the digest that the
    /// pointer states.
    pub async fn read(&self) -> Result<Option<(ObjectVersion, Vec<RecordBatch>)>> {
        let Some((_, text)) = self.read_pointer().await? else { return Ok(None) };
        let manifest = Manifest::from_json(&text)?;
        let schema = manifest.arrow_schema()?;
        let mut batches = Vec::new();
        for file in &manifest.files {
            let corrupt = |why: &str| Error::new(ErrorKind::Corrupt, format!("`{}/{}` {why}", self.url, file.name));
            let found = match self.store.get(&self.path(&file.name)?).await {
                Err(object_store::Error::NotFound { .. }) => return Err(corrupt("is gone")),
                found => found.map_err(|error| self.failed("read", &file.name, &error))?,
            };
            let bytes = found.bytes().await.map_err(|error| self.failed("read", &file.name, &error))?;
            if bytes.len() as u64 != file.size_bytes || hexadecimal(&Sha256::digest(&bytes)) != file.sha256 {
                return Err(corrupt("does not have the size and the digest that were written"));
            }
            batches.extend(decode(bytes, &schema)?);
        }
        Ok(Some((self.assemble(&manifest), batches)))
    }

    /// Makes what is published the table's current version, in one step, and collects files that left ten minutes before
    /// `now`.
    ///
    /// When it returns a version, that is stored. If the rows, their schema and `meta` are those of the current version,
    /// that one stays. Partitions that are not published stay as they are: only if this writer published the current
    /// version itself, else it asks for the whole table. Calling it again after an error is safe, also if it is not known
    /// what became of a request.
    ///
    /// # Errors
    ///
    /// Kind `Definition`: a column that Parquet can't hold, a key that is no column, a store that does not keep
    /// conditions. Kind `Unavailable`: the store. Kind `Fenced`: another writer published meanwhile. Kind `Internal`: rows
    /// of another schema.
    pub async fn publish_partitions(
        &mut self,
        publication: &Publication<'_>,
        now: Micros,
    ) -> Result<Published<ObjectVersion>> {
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(publication, now).await? {
                Attempt::Done(published) => return Ok(published),
                Attempt::Moved => {}
            }
        }
        Err(Error::new(ErrorKind::Unavailable, format!("`{}/{MANIFEST}` does not stand still", self.url)))
    }

    async fn attempt(&mut self, publication: &Publication<'_>, now: Micros) -> Result<Attempt> {
        self.survey().await?;
        let pointer = match self.own.take() {
            Some(pointer) => Some(pointer),
            None => self.pointer().await?,
        };
        let before = pointer.as_ref().and_then(|pointer| pointer.manifest.as_ref());
        let is_own = before.is_some_and(|before| before.writer.as_deref() == Some(&self.writer));
        let usable = before.map(|before| self.usable(before, is_own));
        let usable = usable.as_ref().filter(|_| is_own || publication.scope == Scope::Whole);
        let Some(draft) = Draft::new(publication, usable, self.limits)? else {
            return Ok(Attempt::Done(Published::WholeNeeded));
        };
        if let (Some(before), Some(usable)) = (before, usable)
            && draft.is(usable)
            && (is_own || !self.has_to_collect(before, now))
        {
            let version = self.assemble(before);
            if is_own {
                self.own = pointer;
                self.collect(now).await;
            }
            return Ok(Attempt::Done(Published::Version(version)));
        }
        self.begun = self.begun.max(before.map_or(0, |before| before.version)) + 1;
        let number = self.begun;
        let files = self.put_files(&draft, number).await?;
        let (retired, due) = retire(before, &files, now);
        let manifest = Manifest { writer: Some(self.writer.clone()), retired, ..draft.manifest(number, now, files) };
        if !self.put_pointer(pointer.map(|pointer| pointer.version), &manifest).await? {
            return Ok(Attempt::Moved);
        }
        self.leftovers.extend(due);
        self.collect(now).await;
        Ok(Attempt::Done(Published::Version(self.assemble(&manifest))))
    }

    /// The version before as far as its files can be relied on: all of what this writer wrote, of another's what is there.
    fn usable(&self, before: &Manifest, is_own: bool) -> Manifest {
        let mut usable = before.clone();
        if !is_own {
            let found = |name: &str| self.found.as_ref().and_then(|found| found.get(name));
            usable.files.retain(|file| found(&file.name) == Some(&file.size_bytes));
        }
        usable
    }

    /// Puts the files of a version that are not there yet; all of them, in the draft's order.
    async fn put_files(&mut self, draft: &Draft<'_>, number: u64) -> Result<Vec<TableFile>> {
        let mut used = BTreeSet::new();
        let mut planned: Vec<Result<TableFile, (&DraftRows, String)>> = Vec::with_capacity(draft.files.len());
        for file in &draft.files {
            let known = match file {
                DraftFile::Kept(file) => Some(file),
                DraftFile::Rows(rows) => rows.known.as_ref().or_else(|| self.spare.get(&rows.rows.content)),
            };
            planned.push(match (known.filter(|known| used.insert(known.name.clone())), file) {
                (Some(known), _) => Ok(known.clone()),
                (None, DraftFile::Rows(rows)) => {
                    Err((rows, object_name(&rows.folder, number, rows.index, &self.writer)))
                }
                (None, DraftFile::Kept(file)) => {
                    return Err(Error::internal(format!("the file `{}` is kept twice", file.name)));
                }
            });
        }
        // Until a pointer names them they are leftovers, whatever becomes of the requests.
        self.leftovers.extend(planned.iter().filter_map(|file| file.as_ref().err()).map(|(_, name)| name.clone()));
        let this = &*self;
        let put = |file| async move {
            match file {
                Ok(file) => Ok(file),
                Err((rows, name)) => this.put_file(draft, rows, name).await,
            }
        };
        let mut files = Vec::with_capacity(planned.len());
        let mut puts = stream::iter(planned).map(put).buffered(PUTS_AT_ONCE);
        let mut outcome = Ok(());
        while let (Ok(()), Some(put)) = (&outcome, puts.next().await) {
            outcome = put.map(|file| files.push(file));
        }
        drop(puts);
        let stored = files.iter().filter(|file: &&TableFile| self.leftovers.contains(&file.name));
        self.spare.extend(stored.map(|file| (file.content.clone(), file.clone())));
        outcome.map(|()| files)
    }

    async fn put_file(&self, draft: &Draft<'_>, rows: &DraftRows, name: String) -> Result<TableFile> {
        let bytes = Bytes::from(draft.encode(rows, self.limits, Vec::new())?);
        let file = rows.written(name, bytes.len() as u64, hexadecimal(&Sha256::digest(&bytes)));
        let path = self.path(&file.name)?;
        let put = match bytes.len() {
            ..=PART_BYTES => self.store.put(&path, bytes.into()).await.map(|_| ()),
            _ => self.put_parts(&path, bytes).await,
        };
        put.map_err(|error| self.failed("store", &file.name, &error))?;
        Ok(file)
    }

    async fn put_parts(&self, path: &Path, mut bytes: Bytes) -> object_store::Result<()> {
        let mut upload = self.store.put_multipart(path).await?;
        let mut done = Ok(());
        while done.is_ok() && !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(PART_BYTES));
            done = upload.put_part(part.into()).await;
        }
        if done.is_ok() {
            done = upload.complete().await.map(|_| ());
        }
        if done.is_err()
            && let Err(error) = upload.abort().await
        {
            tracing::debug!(object = %path, %error, "an upload that failed was not given up");
        }
        done
    }

    /// Makes `manifest` the pointer in place of the one of `expected`; false if this writer's own doing was in the way.
    async fn put_pointer(&mut self, expected: Option<UpdateVersion>, manifest: &Manifest) -> Result<bool> {
        let mode = expected.map_or(PutMode::Create, PutMode::Update);
        let options = PutOptions { mode, ..PutOptions::default() };
        let put = self.store.put_opts(&self.path(MANIFEST)?, manifest.to_json()?.into(), options).await;
        match put {
            Ok(put) => {
                self.own = Some(Pointer { version: put.into(), manifest: Some(manifest.clone()) });
                return Ok(true);
            }
            Err(object_store::Error::Precondition { .. } | object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(self.failed("replace", MANIFEST, &error)),
        }
        // The client tries again by itself: what is in the way may be this very pointer, or an earlier one of ours.
        let found = self.pointer().await?;
        let standing = found.as_ref().and_then(|pointer| pointer.manifest.as_ref());
        let Some(standing) = standing.filter(|standing| standing.writer.as_deref() == Some(&self.writer)) else {
            let doing = format!("another writer published to `{}` meanwhile", self.url);
            return Err(Error::new(ErrorKind::Fenced, doing));
        };
        let is_this = standing.version == manifest.version;
        self.own = found;
        Ok(is_this)
    }

    /// Removes files that left ten minutes before `now`, if this writer's last publication is known to be current:
    /// publications do that too, but a table may rest.
    pub async fn tidy(&mut self, now: Micros) {
        self.collect(now).await;
    }

    /// Whether there is something that only the writer of the pointer may remove.
    fn has_to_collect(&self, pointer: &Manifest, now: Micros) -> bool {
        let named = named(pointer);
        self.leftovers.iter().any(|name| !named.contains(name.as_str()))
            || !take_due(&mut pointer.retired.clone(), now).is_empty()
    }

    /// Removes leftovers, and files that the pointer, which this writer wrote, says have left long enough ago. What can't be
    /// removed now is left for the next time.
    async fn collect(&mut self, now: Micros) {
        let Some(pointer) = self.own.as_mut().and_then(|own| own.manifest.as_mut()) else { return };
        self.spare.clear();
        // The stored pointer goes on naming them until the next one; who removes them twice does no harm.
        self.leftovers.extend(take_due(&mut pointer.retired, now));
        let named = named(pointer);
        self.leftovers.retain(|name| !named.contains(name.as_str()));
        if self.leftovers.is_empty() {
            return;
        }
        let paths: Vec<object_store::Result<Path>> =
            self.leftovers.iter().filter_map(|name| self.path(name).ok()).map(Ok).collect();
        let mut removed = self.store.delete_stream(stream::iter(paths).boxed());
        while let Some(outcome) = removed.next().await {
            let gone = match outcome {
                Err(object_store::Error::NotFound { path, .. }) => Path::parse(path).map_err(object_store::Error::from),
                other => other,
            };
            match gone {
                Ok(path) => {
                    if let Some(name) = self.below(&path) {
                        self.leftovers.remove(&name);
                    }
                }
                Err(error) => {
                    let error = store::failed("removing", &error).chain();
                    tracing::warn!(table = self.url, error, "could not remove old files of a table");
                }
            }
        }
    }

    /// A path of the store as a name below the table's URL.
    fn below(&self, path: &Path) -> Option<String> {
        path.as_ref().strip_prefix(self.prefix.as_ref()).map(|name| name.trim_start_matches('/').to_owned())
    }

    /// Looks once at what is there, and whether the store keeps the conditions that a pointer needs.
    async fn survey(&mut self) -> Result<()> {
        if self.found.is_some() {
            return Ok(());
        }
        self.probe().await?;
        let folder = self.path(FILES)?;
        let listed: Vec<_> =
            self.store.list(Some(&folder)).try_collect().await.map_err(|error| self.failed("list", FILES, &error))?;
        let found: BTreeMap<String, u64> =
            listed.iter().filter_map(|object| Some((self.below(&object.location)?, object.size))).collect();
        self.begun = found.keys().filter_map(|name| number_of(name)).max().unwrap_or(0).max(self.begun);
        self.leftovers.extend(found.keys().cloned());
        self.found = Some(found);
        Ok(())
    }

    /// Tries the store as the first publication does, and leaves nothing behind.
    ///
    /// # Errors
    ///
    /// Kind `Definition`: a store that does not keep conditions. Kind `Unavailable`: the store.
    pub async fn try_store(&self) -> Result<()> {
        self.probe().await
    }

    /// Some stores take a condition and ignore it: there two writers could mix their versions.
    async fn probe(&self) -> Result<()> {
        let name = format!("{FILES}/probe-{}", self.writer);
        let path = self.path(&name)?;
        let kept = store::keeps_conditions(&*self.store, &path, &[Condition::Create, Condition::Update]).await;
        let kept = kept.map_err(|error| self.failed("try", &name, &error))?;
        if kept {
            return Ok(());
        }
        let doing = format!(
            "the store of `{}` ignores `If-Match` or `If-None-Match`: two writers could mix their versions there; use a store that keeps them",
            self.url
        );
        Err(Error::new(ErrorKind::Definition, doing))
    }

    /// The pointer, whoever wrote it; a damaged one is replaced.
    async fn pointer(&self) -> Result<Option<Pointer>> {
        let Some((version, text)) = self.read_pointer().await? else { return Ok(None) };
        let manifest = match Manifest::from_json(&text) {
            Ok(manifest) => Some(manifest),
            Err(error) => {
                let error = error.chain();
                tracing::warn!(table = self.url, error, "the table's pointer is damaged and is written anew");
                None
            }
        };
        Ok(Some(Pointer { version, manifest }))
    }

    async fn read_pointer(&self) -> Result<Option<(UpdateVersion, Bytes)>> {
        let found = match self.store.get(&self.path(MANIFEST)?).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other.map_err(|error| self.failed("read", MANIFEST, &error))?,
        };
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let text = found.bytes().await.map_err(|error| self.failed("read", MANIFEST, &error))?;
        Ok(Some((version, text)))
    }

    fn assemble(&self, manifest: &Manifest) -> ObjectVersion {
        ObjectVersion {
            number: manifest.version,
            url: self.url.clone(),
            meta: manifest.meta(),
            published_at: manifest.published_at_us,
            rows: manifest.rows,
            content: manifest.content.clone(),
            files: manifest.files.clone(),
        }
    }

    fn path(&self, name: &str) -> Result<Path> {
        let whole = if self.prefix.as_ref().is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) };
        Path::parse(whole).map_err(|error| Error::caused(ErrorKind::Internal, format!("naming `{name}`"), error))
    }

    fn failed(&self, verb: &str, name: &str, error: &object_store::Error) -> Error {
        store::failed(format!("cannot {verb} `{}/{name}`", self.url), error)
    }
}

/// Attempts of one publication that this writer's own earlier requests may get in the way of.
const ATTEMPTS_MAX: usize = 3;

/// Files that are written and stored at once; so many lie in memory.
const PUTS_AT_ONCE: usize = 8;

/// Files that are larger go in parts of this size.
const PART_BYTES: usize = 8 * 1024 * 1024;
