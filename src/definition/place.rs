//! Where files lie: input paths are relative to the pipeline file, and shown so that an author recognises them.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;

use super::pattern::FilePattern;
use super::pipeline::{FileForm, FileFormat, FileNames, FileRoot, FileSet, Packing};
use super::tree::Text;

/// Names of input files and what they hold.
const EXTENSIONS: [(&str, FileFormat); 5] = [
    ("ndjson", FileFormat::Ndjson),
    ("jsonl", FileFormat::Ndjson),
    ("json", FileFormat::Ndjson),
    ("csv", FileFormat::Csv),
    ("parquet", FileFormat::Parquet),
];

/// What would be right for input files.
pub(crate) const NAME_FILES: &str = "name files that end in `.ndjson`, `.jsonl`, `.json` or `.csv`, also with `.gz` or `.zst` behind it, or in `.parquet`";

/// What is wrong with a name, and what would be right.
pub(crate) type Wrong = (String, String);

/// A path of the file system and the path that may be shown: a variable's value may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Located {
    pub(crate) path: PathBuf,
    pub(crate) shown: PathBuf,
}

/// The path that `text` names in the pipeline file at `pipeline`.
pub(crate) fn locate(pipeline: &Path, text: &Text) -> Located {
    let folder = pipeline.parent().unwrap_or(Path::new(""));
    Located { path: folder.join(&text.value), shown: tidy(&folder.join(&text.written)) }
}

/// The same path without `.` and, where the parent is named, without `..`.
fn tidy(path: &Path) -> PathBuf {
    let mut tidied = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(tidied.components().next_back(), Some(Component::Normal(_))) => {
                tidied.pop();
            }
            other => tidied.push(other),
        }
    }
    tidied
}

impl FileSet {
    /// The files that `text` names: a path, a glob or a folder (with `/` at its end), relative to `folder`, or the same in
    /// a bucket, as in `s3://bucket/prefix/*.parquet`. They are not watched.
    pub(crate) fn parse(folder: &Path, text: &str) -> Result<Self, Wrong> {
        let (root, name) = match text.split_once("://") {
            None => (FileRoot::Folder(folder.to_owned()), text.to_owned()),
            Some(("file", path)) => (FileRoot::Folder(PathBuf::new()), absolute(path)?),
            Some(("s3", rest)) => bucket(rest)?,
            Some((scheme, _)) => {
                let scheme: String = scheme.chars().take(SCHEME_SHOWN_MAX).collect();
                let message = format!("`{scheme}://` is no object store that files are read from");
                return Err((message, "write `s3://BUCKET/KEY`, or a path of this machine".to_owned()));
            }
        };
        Ok(Self { root, names: names(&name)?, watch: None, span: None })
    }

    /// The one file that is named, if it is one: nothing else may take its place.
    pub fn only(&self) -> Option<&str> {
        match &self.names {
            FileNames::One { name, .. } => Some(name),
            FileNames::Pattern(_) | FileNames::Folder(_) => None,
        }
    }

    /// The names as they were written.
    pub fn written(&self) -> &str {
        match &self.names {
            FileNames::One { name, .. } => name,
            FileNames::Pattern(pattern) => pattern.as_str(),
            FileNames::Folder(pattern) => pattern.as_str().strip_suffix('*').unwrap_or_default(),
        }
    }
}

impl fmt::Display for FileSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.only().is_some() { "file " } else { "files " })?;
        match &self.root {
            FileRoot::Folder(folder) => write!(f, "{}", folder.join(self.written()).display())?,
            FileRoot::Bucket(bucket) => write!(f, "s3://{bucket}/{}", self.written())?,
        }
        if self.watch.is_some() { f.write_str(", watched") } else { Ok(()) }
    }
}

impl FileForm {
    /// What a file's name says of it; none: nothing that can be read.
    pub fn of(name: &str) -> Option<Self> {
        form(name).ok()
    }
}

/// What a file's name says of it, or why that can't be read.
pub(crate) fn form(name: &str) -> Result<FileForm, Wrong> {
    let lower = name.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let (plain, packing) = match lower.rsplit_once('.') {
        Some((plain, "gz")) => (plain, Packing::Gzip),
        Some((plain, "zst")) => (plain, Packing::Zstd),
        _ => (&*lower, Packing::Plain),
    };
    let extension = plain.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()).map(|(_, extension)| extension);
    let known = EXTENSIONS.iter().find(|(known, _)| Some(*known) == extension).map(|(_, format)| *format);
    let right = NAME_FILES.to_owned();
    match (known, packing, extension) {
        (Some(FileFormat::Parquet), Packing::Gzip | Packing::Zstd, _) => {
            Err(("a Parquet file is packed by itself".to_owned(), "unpack it, and name the `.parquet` file".to_owned()))
        }
        (Some(format), packing, _) => Ok(FileForm { format, packing }),
        (None, _, None) => Err((
            "an input file without an extension does not say what it holds".to_owned(),
            format!("{right}; a folder ends with `/`"),
        )),
        (None, _, Some("bz2" | "xz" | "zip" | "lz4" | "7z" | "tar" | "tgz")) => {
            Err((format!("`{lower}` is packed in a way that is not read"), format!("unpack it and {right}")))
        }
        (None, _, Some(extension)) => Err((format!("`.{extension}` is not an input format"), right)),
    }
}

fn names(name: &str) -> Result<FileNames, Wrong> {
    let pattern = |text: &str| {
        let help = "`*`, `?` and `[a-z]` stand for characters of one name, `**` for folders, as in `data/2024-*/orders.parquet`";
        FilePattern::parse(text).map_err(|why| (format!("the pattern means nothing: {why}"), help.to_owned()))
    };
    if name.ends_with('/') {
        return pattern(&format!("{name}*")).map(FileNames::Folder);
    }
    if !FilePattern::is_wild(name) {
        return Ok(FileNames::One { name: name.to_owned(), form: form(name)? });
    }
    // An ending without wildcards is known now, any other when the files are.
    let last = name.rsplit('/').next().unwrap_or_default();
    let ending = last.rsplit_once(['*', '?', ']']).map_or(last, |(_, ending)| ending);
    if ending.contains('.') {
        form(&format!("x{ending}"))?;
    }
    pattern(name).map(FileNames::Pattern)
}

/// The bucket and the name behind `s3://`.
fn bucket(rest: &str) -> Result<(FileRoot, String), Wrong> {
    let help =
        || "write `s3://BUCKET/KEY`; the keys to the store are read from `AWS_ACCESS_KEY_ID` and its kin".to_owned();
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if bucket.is_empty() || !bucket.chars().all(sound) {
        return Err(("the URL names no bucket".to_owned(), help()));
    }
    if key.is_empty() {
        return Err(("the URL names no object".to_owned(), help()));
    }
    let folders = key.strip_suffix('/').unwrap_or(key);
    if folders.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(("a key can't have empty names, `.` or `..` in it".to_owned(), help()));
    }
    Ok((FileRoot::Bucket(bucket.to_owned()), key.to_owned()))
}

/// The path behind `file://`.
fn absolute(path: &str) -> Result<String, Wrong> {
    let decoded = percent_decode_str(path).decode_utf8().ok().filter(|path| path.starts_with('/'));
    let wrong = || ("the URL names no path of this machine".to_owned(), "write `file:///PATH`, or the path".to_owned());
    decoded.map(|path| path.into_owned()).ok_or_else(wrong)
}

/// How much of an unknown scheme is shown.
const SCHEME_SHOWN_MAX: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shown_path_has_no_detours_and_no_values_of_variables() {
        let cases = [
            ("pipelines/p.yaml", "../sql/a.sql", "sql/a.sql"),
            ("p.yaml", "./sql/a.sql", "sql/a.sql"),
            ("p.yaml", "../a.sql", "../a.sql"),
            ("/x/p.yaml", "/y/a.sql", "/y/a.sql"),
        ];
        for (pipeline, written, expected) in cases {
            let text = Text { value: "secret".to_owned(), written: written.to_owned() };
            let located = locate(Path::new(pipeline), &text);
            assert_eq!(located.shown, Path::new(expected));
            assert!(located.path.ends_with("secret"));
        }
    }

    fn said(text: &str) -> String {
        match FileSet::parse(Path::new("p"), text) {
            Ok(files) => files.to_string(),
            Err((message, _)) => message,
        }
    }

    #[test]
    fn files_are_a_path_a_glob_a_folder_or_the_same_in_a_bucket() {
        for (text, expected) in [
            ("a.ndjson", "file p/a.ndjson"),
            ("/a.csv.gz", "file /a.csv.gz"),
            ("data/2024-*/orders.parquet", "files p/data/2024-*/orders.parquet"),
            ("data/*", "files p/data/*"),
            ("in/", "files p/in/"),
            ("s3://bucket/a.jsonl.zst", "file s3://bucket/a.jsonl.zst"),
            ("s3://bucket/x/*.parquet", "files s3://bucket/x/*.parquet"),
            ("s3://bucket/x/", "files s3://bucket/x/"),
            ("file:///a%20b/*.csv", "files /a b/*.csv"),
            ("*.xml", "`.xml` is not an input format"),
            ("*.parquet.gz", "a Parquet file is packed by itself"),
            ("[", "the pattern means nothing: in `[`, invalid range pattern"),
            ("s3://bucket", "the URL names no object"),
            ("s3://key:hidden@bucket/a.csv", "the URL names no bucket"),
            ("s3://bucket/../a.csv", "a key can't have empty names, `.` or `..` in it"),
            ("file://host/a.csv", "the URL names no path of this machine"),
            ("gs://bucket/a.csv", "`gs://` is no object store that files are read from"),
        ] {
            assert_eq!(said(text), expected, "{text}");
        }
    }

    #[test]
    fn form_of_a_file_follows_from_its_name() {
        use FileFormat::{Csv, Ndjson, Parquet};
        use Packing::{Gzip, Plain, Zstd};
        let check = |name, expected: Option<(FileFormat, Packing)>| {
            let form = FileForm::of(name).map(|form| (form.format, form.packing));
            assert_eq!(form, expected, "{name}");
        };
        check("orders.ndjson", Some((Ndjson, Plain)));
        check("ORDERS.JSON", Some((Ndjson, Plain)));
        check("a.b/orders.ndjson.gz", Some((Ndjson, Gzip)));
        check("orders.csv.zst", Some((Csv, Zstd)));
        check("orders.parquet", Some((Parquet, Plain)));
        check("orders.snappy.parquet", Some((Parquet, Plain)));
        for name in
            ["orders.parquet.gz", "orders.gz", "orders", ".csv", "a.csv/orders", "orders.csv.bz2", "orders.csv "]
        {
            check(name, None);
        }
    }
}
