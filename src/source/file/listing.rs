//! Which files there are now.
//!
//! A file is named as the pipeline names it, an object by its URL, and names are ordered byte by byte. What a pattern or a
//! folder takes in leaves out files whose names say that they are being written (`definition::pattern` has the marks).

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use url::Url;

use crate::definition::pattern::{FilePattern, Step, is_unfinished};
use crate::definition::pipeline::{FileForm, FileNames, FileRoot, FileSet};
use crate::error::{Error, ErrorKind, Result};
use crate::store;

/// A file as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) form: FileForm,
    pub(super) state: State,
}

/// What changes when a file is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) size: u64,
    pub(super) mark: Mark,
}

/// What else of a file changes when it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mark {
    /// When a file of this machine was last written. Another time does not say that the content is another.
    Written(Option<SystemTime>),
    /// The store's own digest of an object: another one is another content.
    Object(String),
}

/// Where names lead to.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// To files below a folder of this machine.
    Folder(PathBuf),
    /// To objects of a bucket.
    Bucket {
        store: Arc<dyn ObjectStore>,
        /// `s3://BUCKET/`.
        url: String,
    },
}

impl Place {
    /// Opens the store of a bucket; nothing is asked of it yet.
    pub(super) fn open(root: &FileRoot) -> Result<Self> {
        match root {
            FileRoot::Folder(folder) => Ok(Self::Folder(folder.clone())),
            FileRoot::Bucket(bucket) => {
                let url = format!("s3://{bucket}/");
                let parsed = Url::parse(&url).map_err(|error| {
                    Error::caused(ErrorKind::Definition, format!("`{url}` is not the URL of a bucket"), error)
                })?;
                let (store, _) = store::open(&parsed)?;
                Ok(Self::Bucket { store, url })
            }
        }
    }

    /// All files of a set, in the order of their names. Fails with `Definition` where one of them says by its name that it
    /// can't be read, and with `Unavailable` where they can't be listed.
    pub(super) async fn list(&self, files: &FileSet) -> Result<Vec<Listed>> {
        let found = match (self, &files.names) {
            (Self::Folder(folder), FileNames::One { name, .. }) => one_file(folder, name)?,
            (Self::Folder(folder), FileNames::Pattern(pattern) | FileNames::Folder(pattern)) => {
                let mut found = BTreeMap::new();
                walk(&folder.join(pattern.base()), pattern.base(), pattern.steps(), &mut found)?;
                found
            }
            (Self::Bucket { store, url }, FileNames::One { name, .. }) => one_object(store, url, name).await?,
            (Self::Bucket { store, url }, FileNames::Pattern(pattern) | FileNames::Folder(pattern)) => {
                objects(store, url, pattern).await?
            }
        };
        let mut listed = Vec::with_capacity(found.len());
        for (name, state) in found {
            match (FileForm::of(&name), &files.names) {
                (Some(form), _) => listed.push(Listed { name, form, state }),
                (None, FileNames::Folder(_)) => {}
                (None, _) => {
                    let doing = format!(
                        "`{name}`, which `{}` takes in, does not say by its name how it is read",
                        files.written()
                    );
                    return Err(Error::new(ErrorKind::Definition, doing));
                }
            }
        }
        Ok(listed)
    }

    /// The path of a file of this machine; none of an object.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        match self {
            Self::Folder(folder) => Some(folder.join(name)),
            Self::Bucket { .. } => None,
        }
    }
}

impl State {
    pub(super) fn of_file(metadata: &Metadata) -> Self {
        Self { size: metadata.len(), mark: Mark::Written(metadata.modified().ok()) }
    }

    /// Where a store names no ETag, the time of its last writing stands for it.
    pub(super) fn of_object(meta: &ObjectMeta) -> Self {
        let mark = match &meta.e_tag {
            Some(tag) => format!("etag:{}", tag.replace(' ', "%20")),
            None => format!("modified:{}", meta.last_modified.to_rfc3339()),
        };
        Self { size: meta.size, mark: Mark::Object(mark) }
    }
}

/// An error of the file system about a source's file.
pub(super) fn unreadable(name: &str, error: io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::Definition,
        _ => ErrorKind::Unavailable,
    };
    Error::caused(kind, format!("reading source file `{name}`"), error)
}

type Found = BTreeMap<String, State>;

fn one_file(folder: &Path, name: &str) -> Result<Found> {
    match fs::metadata(folder.join(name)) {
        Ok(metadata) if metadata.is_dir() => {
            let doing = format!("source file `{name}` is a folder; to read all files in it, write `{name}/`");
            Err(Error::new(ErrorKind::Definition, doing))
        }
        Ok(metadata) => Ok(Found::from([(name.to_owned(), State::of_file(&metadata))])),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::new()),
        Err(error) => Err(unreadable(name, error)),
    }
}

/// Adds the files in `folder` whose names, behind `shown`, look like `steps`. What goes while it is looked at was not there.
fn walk(folder: &Path, shown: &str, steps: &[Step], found: &mut Found) -> Result<()> {
    let Some((step, later)) = steps.split_first() else { return Ok(()) };
    let failed = |error| unreadable(&format!("{shown}*"), error);
    let is_deep = *step == Step::Folders;
    if is_deep {
        walk(folder, shown, later, found)?;
    }
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Some(entries) = unless_gone(fs::read_dir(here)).map_err(failed)? else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if !step.matches(&text) {
            continue;
        }
        let below = format!("{shown}{text}");
        // A link to a folder is followed where the pattern names it, not where `**` might go round in a circle.
        let Some(metadata) = unless_gone(fs::metadata(entry.path())).map_err(failed)? else { continue };
        let is_link = entry.file_type().map_err(failed)?.is_symlink();
        if metadata.is_dir() {
            let steps = if is_deep { steps } else { later };
            if !(is_deep && is_link) {
                walk(&entry.path(), &format!("{below}/"), steps, found)?;
            }
        } else if later.is_empty() && !is_unfinished(&text) {
            if name.to_str().is_none() {
                let doing = format!("the name of source file `{below}` is not UTF-8: rename it");
                return Err(Error::new(ErrorKind::Definition, doing));
            }
            found.insert(below, State::of_file(&metadata));
        }
    }
    Ok(())
}

fn unless_gone<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn one_object(store: &Arc<dyn ObjectStore>, url: &str, name: &str) -> Result<Found> {
    match store.head(&key(name)?).await {
        Ok(meta) => Ok(Found::from([(format!("{url}{name}"), State::of_object(&meta))])),
        Err(object_store::Error::NotFound { .. }) => Ok(Found::new()),
        Err(error) => Err(store::failed(format!("looking for `{url}{name}`"), &error)),
    }
}

async fn objects(store: &Arc<dyn ObjectStore>, url: &str, pattern: &FilePattern) -> Result<Found> {
    let base = pattern.base().trim_end_matches('/');
    let prefix = if base.is_empty() { None } else { Some(key(base)?) };
    let mut objects = store.list(prefix.as_ref());
    let mut found = Found::new();
    loop {
        let next = objects.try_next().await;
        let Some(meta) = next.map_err(|error| store::failed(format!("listing `{url}{}`", pattern.base()), &error))?
        else {
            return Ok(found);
        };
        let name = meta.location.as_ref();
        if pattern.matches(name) && !is_unfinished(name) {
            found.insert(format!("{url}{name}"), State::of_object(&meta));
        }
    }
}

/// The key of an object, as the pipeline writes it.
pub(super) fn key(name: &str) -> Result<object_store::path::Path> {
    object_store::path::Path::parse(name)
        .map_err(|error| Error::caused(ErrorKind::Definition, format!("`{name}` is not the key of an object"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names that `text` takes in of a folder with these files.
    async fn names(files: &[&str], text: &str) -> Result<Vec<String>> {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, "").expect("writable");
        }
        let files = FileSet::parse(folder.path(), text).unwrap_or_else(|(message, _)| panic!("{message}"));
        let listed = Place::open(&files.root)?.list(&files).await?;
        Ok(listed.into_iter().map(|file| file.name).collect())
    }

    #[tokio::test]
    async fn files_are_listed_in_the_order_of_their_names_without_those_being_written() {
        let files = [
            "b/2.csv",
            "b/10.csv",
            "a/1.csv",
            "a/.hidden.csv",
            "a/_temporary.csv",
            "a/1.csv.tmp",
            "a/1.csv#1",
            "_c/1.csv",
            "a/deep/er/1.csv.gz",
            "a.csv",
            "a/readme.md",
        ];
        for (text, expected) in [
            ("*/*.csv", &["a/1.csv", "b/10.csv", "b/2.csv"][..]),
            ("**/*.csv*", &["a.csv", "a/1.csv", "a/deep/er/1.csv.gz", "b/10.csv", "b/2.csv"]),
            ("a/", &["a/1.csv"]),
            ("./a/*.csv", &["./a/1.csv"]),
            ("a/../b/2*", &["a/../b/2.csv"]),
            ("_c/*", &["_c/1.csv"]),
            ("a.csv", &["a.csv"]),
            ("c.csv", &[]),
            ("nothing/*.csv", &[]),
            ("a.csv/*.csv", &[]),
        ] {
            assert_eq!(names(&files, text).await.expect("listed"), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn what_cannot_be_read_by_its_name_is_refused_where_a_pattern_takes_it_in() {
        let refused = |files: &'static [&'static str], text: &'static str| async move {
            let error = names(files, text).await.expect_err("refused");
            assert_eq!(error.kind(), ErrorKind::Definition);
            error.to_string()
        };
        assert_eq!(
            refused(&["a/b.xml"], "a/*").await,
            "`a/b.xml`, which `a/*` takes in, does not say by its name how it is read"
        );
        assert!(
            refused(&["a.csv/b.csv"], "a.csv").await.contains("is a folder; to read all files in it, write `a.csv/`")
        );
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn two_stars_do_not_follow_links_in_circles() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("a")).expect("a folder");
        fs::write(folder.path().join("a/1.csv"), "").expect("writable");
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/up")).expect("a link");
        let files = FileSet::parse(folder.path(), "**/*.csv").expect("a pattern");
        let listed = Place::open(&files.root).expect("open").list(&files).await.expect("listed");
        assert_eq!(listed.len(), 1);
    }
}
