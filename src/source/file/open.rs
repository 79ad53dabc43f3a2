//! Looking at files and opening them: everything that may take long, as futures that own what they need.
//!
//! A file is opened in this order: what it was listed as, its identity (and, the first time, whether all that is packed in it
//! can be unpacked), then its first record. Whatever is not as it was listed is listed again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::{GetOptions, ObjectStore};

use super::identity::FileIdentity;
use super::listing::{Listed, Mark, Place, State, key, unreadable};
use super::part::OpenPart;
use crate::definition::contract::Contract;
use crate::definition::pipeline::FileSet;
use crate::error::{Error, ErrorKind, Result};
use crate::store;

/// What opening and looking need to know of their source.
#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) place: Place,
    pub(super) files: FileSet,
    pub(super) contract: Arc<Contract>,
    /// Where copies of objects lie while they are read.
    pub(super) spool: PathBuf,
}

/// A file that was read.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) identity: Arc<str>,
    /// What it was listed as when that was its identity; none: that is not known.
    pub(super) state: Option<State>,
}

/// What there is now.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) listing: Vec<Listed>,
    /// What of the files that were read is not as it was, for a person.
    pub(super) difference: Option<String>,
}

/// What came of opening a file.
pub(super) enum Opened {
    Ready {
        part: Box<OpenPart>,
        identity: Arc<str>,
        state: State,
    },
    /// It is not what was listed.
    Stale,
}

impl Scene {
    /// Lists the files, and compares them with those that were read. Where all of these are gone, something is amiss with the
    /// place, as a folder that is not mounted: that is an error, and no change.
    pub(super) async fn look(self, known: Vec<Known>) -> Result<Looked> {
        let listing = self.place.list(&self.files).await?;
        if listing.is_empty() && !known.is_empty() {
            let doing = format!("none of the {} is there any more, of which rows were read: put them back", self.files);
            return Err(Error::new(ErrorKind::Unavailable, doing));
        }
        let mut difference = None;
        for known in known {
            let read = known.identity.parse::<FileIdentity>().map_err(|()| not_ours(&known.identity))?;
            let listed = listing.iter().find(|listed| listed.name == read.name);
            let told = match listed {
                None => Some("was read and is gone; its rows are read again after a restart, so put it back"),
                Some(listed) if known.state.as_ref() == Some(&listed.state) => None,
                Some(listed) if self.identity_now(listed).await?.is_some_and(|now| now == read) => None,
                Some(_) => Some(
                    "has changed since it was read; its rows were accepted as they were, so put the old content back, and \
                     new rows into another file (`files` may be a glob or a folder)",
                ),
            };
            if let Some(told) = told {
                difference = Some(format!("`{}` {told}", read.name));
                break;
            }
        }
        Ok(Looked { listing, difference })
    }

    /// Opens a file behind its first `skip` records. `expected` is its identity, where it was read before.
    pub(super) async fn open(self, listed: Listed, expected: Option<Arc<str>>, skip: u64) -> Result<Opened> {
        match &self.place {
            Place::Folder(_) => {
                off_thread(listed.state.size, move || self.open_file(&listed, expected.as_ref(), skip)).await
            }
            Place::Bucket { store, url } => {
                let Some(copy) = self.copy(store, url, &listed).await? else { return Ok(Opened::Stale) };
                off_thread(listed.state.size, move || self.open_copy(&copy, &listed, expected.as_ref(), skip)).await
            }
        }
    }

    /// Whether a file of this machine is still as it was when it was opened. Of objects, copies are read.
    pub(super) fn is_unwritten(&self, listed: &Listed) -> bool {
        match self.place.path(&listed.name).map(fs::metadata) {
            Some(Ok(metadata)) => State::of_file(&metadata) == listed.state,
            Some(Err(_)) => false,
            None => true,
        }
    }

    fn open_file(&self, listed: &Listed, expected: Option<&Arc<str>>, skip: u64) -> Result<Opened> {
        let (name, form, contract) = (&*listed.name, listed.form, &self.contract);
        let Some(file) = self.file(listed)? else { return Ok(Opened::Stale) };
        let state = file_state(&file, name)?;
        let identity: Arc<str> = match expected {
            Some(expected) if state == listed.state => Arc::clone(expected),
            _ => {
                let (size, digest) = OpenPart::digest(&file, name, form, contract, expected.is_none())?;
                FileIdentity { name: name.to_owned(), size, digest }.to_string().into()
            }
        };
        if expected.is_some_and(|expected| *expected != identity) || file_state(&file, name)? != state {
            return Ok(Opened::Stale);
        }
        let part = OpenPart::open(&file, name, form, contract, skip)?;
        Ok(Opened::Ready { part: Box::new(part), identity, state })
    }

    fn open_copy(&self, copy: &File, listed: &Listed, expected: Option<&Arc<str>>, skip: u64) -> Result<Opened> {
        let Some(identity) = object_identity(listed).map(|identity| Arc::<str>::from(identity.to_string())) else {
            return Ok(Opened::Stale);
        };
        match expected {
            Some(expected) if *expected != identity => return Ok(Opened::Stale),
            Some(_) => {}
            None => drop(OpenPart::digest(copy, &listed.name, listed.form, &self.contract, true)?),
        }
        let part = OpenPart::open(copy, &listed.name, listed.form, &self.contract, skip)?;
        Ok(Opened::Ready { part: Box::new(part), identity, state: listed.state.clone() })
    }

    /// What identifies a file now; none if it is gone.
    async fn identity_now(&self, listed: &Listed) -> Result<Option<FileIdentity>> {
        if let Some(identity) = object_identity(listed) {
            return Ok(Some(identity));
        }
        let (scene, listed) = (self.clone(), listed.clone());
        off_thread(listed.state.size, move || {
            let Some(file) = scene.file(&listed)? else { return Ok(None) };
            let (size, digest) = OpenPart::digest(&file, &listed.name, listed.form, &scene.contract, false)?;
            Ok(Some(FileIdentity { name: listed.name, size, digest }))
        })
        .await
    }

    /// Opens a file of this machine; none if it is gone.
    fn file(&self, listed: &Listed) -> Result<Option<File>> {
        let Some(path) = self.place.path(&listed.name) else { return Ok(None) };
        match File::open(path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(&listed.name, error)),
        }
    }

    /// Copies an object to a file without a name, which goes with the process; none if it is not the one that was listed.
    async fn copy(&self, store: &Arc<dyn ObjectStore>, url: &str, listed: &Listed) -> Result<Option<File>> {
        let doing = || format!("reading source file `{}`", listed.name);
        let key = key(listed.name.strip_prefix(url).unwrap_or(&listed.name))?;
        let got = store.get_opts(&key, GetOptions::default()).await;
        let got = match got {
            Ok(got) if State::of_object(&got.meta) == listed.state => got,
            Ok(_) | Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(store::failed(doing(), &error)),
        };
        let mut copy = self.spool_file()?;
        let mut size = 0;
        let mut chunks = got.into_stream();
        while let Some(chunk) = chunks.try_next().await.map_err(|error| store::failed(doing(), &error))? {
            size += chunk.len() as u64;
            copy.write_all(&chunk).map_err(|error| self.no_spool(error))?;
        }
        if size != listed.state.size {
            let doing = format!("{}: {size} bytes came of {}", doing(), listed.state.size);
            return Err(Error::new(ErrorKind::Unavailable, doing));
        }
        Ok(Some(copy))
    }

    fn spool_file(&self) -> Result<File> {
        fs::create_dir_all(&self.spool)
            .and_then(|()| tempfile::tempfile_in(&self.spool))
            .map_err(|error| self.no_spool(error))
    }

    fn no_spool(&self, error: io::Error) -> Error {
        Error::caused(ErrorKind::Unavailable, format!("copying an object to `{}`", self.spool.display()), error)
    }
}

/// The identity of an object, which its store knows; none of a file of this machine.
fn object_identity(listed: &Listed) -> Option<FileIdentity> {
    match &listed.state.mark {
        Mark::Object(digest) => {
            Some(FileIdentity { name: listed.name.clone(), size: listed.state.size, digest: digest.clone() })
        }
        Mark::Written(_) => None,
    }
}

fn file_state(file: &File, name: &str) -> Result<State> {
    Ok(State::of_file(&file.metadata().map_err(|error| unreadable(name, error))?))
}

fn not_ours(identity: &str) -> Error {
    let doing = format!("the epoch log names `{identity}` as the file that was read, which is none");
    Error::new(ErrorKind::Corrupt, doing)
}

/// Works here where that is soon done, so that small files need no turns of the loop, and off the threads that serve the broker
/// where it is not.
async fn off_thread<T: Send + 'static>(bytes: u64, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    if bytes <= SOON_DONE_BYTES {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::caused(ErrorKind::Internal, "reading a source file", error))?
}

const SOON_DONE_BYTES: u64 = 4 << 20;

/// The folder below a state directory in which copies of objects lie.
pub(super) fn spool(state: &Path) -> PathBuf {
    state.join("spool")
}
