//! Files that are read, and buckets.

use std::collections::BTreeSet;

use crate::definition::pipeline::{FileSet, Input, Pipeline, SinkTarget, TablePlace};
use crate::sink::table::ObjectTable;
use crate::source::file::count;

use super::Check;

/// Every check of a source's files, and of a bucket that a table goes to.
pub(super) async fn checks(pipeline: &Pipeline) -> Vec<Check> {
    let mut checks = Vec::new();
    for source in &pipeline.sources {
        if let Input::Files(files) = &source.input {
            checks.push(source_files(&source.name, files).await);
        }
    }
    let mut asked = BTreeSet::new();
    for sink in &pipeline.sinks {
        let SinkTarget::Parquet { place: TablePlace::Store(url), .. } = &sink.target else { continue };
        if !asked.insert(url.as_str()) {
            continue;
        }
        let name = format!("table {url}");
        let tried = match ObjectTable::open(url) {
            Ok(table) => table.try_store().await,
            Err(error) => Err(error),
        };
        checks.push(match tried {
            Ok(()) => Check::ok(name, "the store can be written, and keeps `If-Match` and `If-None-Match`"),
            Err(error) => Check::failed(name, &error),
        });
    }
    checks
}

async fn source_files(source: &str, files: &FileSet) -> Check {
    let name = format!("source {source}");
    match count(files).await {
        Err(error) => Check::failed(name, &error),
        Ok(0) if files.watch.is_some() => Check::ok(name, format!("there are no {files} yet; they are watched for")),
        Ok(0) if files.only().is_some() => {
            let mend = format!("put it there, or read the source from elsewhere with `--source {source}=PATH`");
            Check::refused(name, format!("there is no {files}"), mend)
        }
        Ok(0) => {
            let mend = "put files there; `watch: true` waits for files that come later";
            Check::warning(name, format!("there are no {files}: the source has no rows"), mend)
        }
        Ok(1) => Check::ok(name, "its file is there"),
        Ok(found) => Check::ok(name, format!("its {found} files are there")),
    }
}
