//! Whether there is anything to read, known before a pipeline runs. Only this machine is asked: stores answer when it runs.

use super::listing::Place;
use crate::definition::pipeline::{FileRoot, FileSet, Input, Pipeline};
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::error::Result;

/// Sources without files.
#[derive(Debug, Default)]
pub struct Absent {
    /// A file that is named and not there, or files that can't be listed.
    pub errors: Diagnostics,
    /// Nothing that a pattern matches is there.
    pub warnings: Diagnostics,
}

/// Looks for the files of all sources that lie on this machine. Files that are watched for may come later.
pub async fn absent(pipeline: &Pipeline) -> Absent {
    let mut absent = Absent::default();
    for source in &pipeline.sources {
        let Input::Files(files) = &source.input else { continue };
        if matches!(files.root, FileRoot::Bucket(_)) {
            continue;
        }
        let diagnostic = |message: String| {
            let span = files.span.clone().unwrap_or_else(|| source.span.clone());
            let place = match files.span {
                Some(_) => String::new(),
                None => format!(", from where the command line reads `{}`", source.name),
            };
            Diagnostic::new(&pipeline.text, span, format!("{message}{place}"))
        };
        match count(files).await {
            Err(error) => absent.errors.push(diagnostic(error.chain())),
            Ok(0) if files.watch.is_some() => {}
            Ok(0) if files.only().is_some() => absent.errors.push(
                diagnostic(format!("there is no {files}"))
                    .with_help("put it there, or read the source from elsewhere with `--source NAME=PATH`"),
            ),
            Ok(0) => absent.warnings.push(
                diagnostic(format!("there are no {files}"))
                    .with_help("the source has no rows; `watch: true` waits for files that come later"),
            ),
            Ok(_) => {}
        }
    }
    absent
}

/// How many files there are now, in a bucket too.
///
/// # Errors
/// `Definition` where a name does not say how its file is read; `Unavailable` where they can't be listed.
pub async fn count(files: &FileSet) -> Result<usize> {
    Ok(Place::open(&files.root)?.list(files).await?.len())
}
