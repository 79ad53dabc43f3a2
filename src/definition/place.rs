//! Where files lie: input paths are relative to the pipeline file, and shown so that an author recognises them.

use std::path::{Component, Path, PathBuf};

use super::pipeline::FileFormat;
use super::tree::Text;

/// Names of input files and what they hold.
const EXTENSIONS: [(&str, FileFormat); 4] = [
    ("ndjson", FileFormat::Ndjson),
    ("jsonl", FileFormat::Ndjson),
    ("json", FileFormat::Ndjson),
    ("csv", FileFormat::Csv),
];

/// What would be right for an input file.
pub(crate) const NAME_A_FILE: &str = "name one file that ends in `.ndjson`, `.jsonl`, `.json` or `.csv`";

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

/// What an input file holds by its name, or why it can't be read, with what would be right.
pub(crate) fn format(name: &str) -> Result<FileFormat, (String, String)> {
    let valid = NAME_A_FILE;
    if name.contains("://") {
        return Err(("object store URLs are not supported yet".to_owned(), format!("copy the file here and {valid}")));
    }
    if name.contains(['*', '?', '[']) {
        return Err(("globs are not supported yet".to_owned(), format!("join the files into one and {valid}")));
    }
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let lower = extension.to_ascii_lowercase();
    if let Some((_, format)) = EXTENSIONS.iter().find(|(known, _)| *known == lower) {
        return Ok(*format);
    }
    Err(match lower.as_str() {
        "parquet" => ("Parquet as an input is not supported yet".to_owned(), format!("convert it and {valid}")),
        "gz" | "zst" | "bz2" | "xz" | "zip" => {
            ("compressed inputs are not supported yet".to_owned(), format!("unpack it and {valid}"))
        }
        "" => ("an input file without an extension does not say what it holds".to_owned(), valid.to_owned()),
        _ => (format!("`.{lower}` is not an input format"), valid.to_owned()),
    })
}

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
}
