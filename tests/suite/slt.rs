//! The readable corpus: `tests/slt/*.slt`, one feature a file, in the form of sqllogictest. Adding a test is adding a file.
//!
//! All queries of a file are jobs of one circuit from its first row on. `CREATE TABLE` declares a source; `INSERT`, `DELETE` and
//! `UPDATE` are deltas, each a step of its own, or one step from `BEGIN` to `COMMIT`; `SET watermark = '…'` moves the watermark.
//! A `query` shows its job's table, after that is compared with what DataFusion returns for the same SQL over the rows that are
//! there; where an expression fails, the batch must fail and the job must have error rows, and only then. `milepost.errors` can
//! be queried as in a pipeline.
//!
//! `SLT=joins` runs the files whose name holds that; `SLT_WRITE=1` writes the answers into the files, for a look at the diff.

mod database;

use std::path::{Path, PathBuf};

use sqllogictest::{
    DefaultColumnType, QueryExpect, Record, Runner, default_normalizer, default_validator, parse_file,
    strict_column_validator,
};

use database::Database;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
    let entries = std::fs::read_dir(folder).expect("the corpus is there");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files
}

/// The queries of a file that have answers, each once.
fn queries(file: &Path) -> Vec<String> {
    let mut queries: Vec<String> = Vec::new();
    for record in parse_file::<DefaultColumnType>(file).unwrap_or_else(|error| panic!("{error}")) {
        if let Record::Query { sql, expected: QueryExpect::Results { .. }, .. } = record
            && !queries.contains(&sql)
            && !Database::is_about_errors(&sql)
        {
            queries.push(sql);
        }
    }
    queries
}

/// Takes a file back in which something failed that should not.
fn no_new_errors(file: &Path, before: &str) -> Result<(), String> {
    let after = std::fs::read_to_string(file).expect("readable");
    let errors = |text: &str| {
        text.lines().filter(|line| line.starts_with("query error") || line.starts_with("statement error")).count()
    };
    if errors(&after) <= errors(before) {
        return Ok(());
    }
    std::fs::write(file, before).expect("writable");
    Err(format!("something fails:\n{after}"))
}

#[test]
fn every_query_of_the_corpus_has_its_answer() {
    let only = std::env::var("SLT").unwrap_or_default();
    let write = std::env::var("SLT_WRITE").is_ok();
    let mut failures = Vec::new();
    for file in files().iter().filter(|file| file.to_string_lossy().contains(&only)) {
        let queries = queries(file);
        let mut runner = Runner::new(move || {
            let database = Database::new(queries.clone());
            async move { Ok(database) }
        });
        runner.with_column_validator(strict_column_validator);
        let result = if write {
            let before = std::fs::read_to_string(file).expect("readable");
            let written =
                runner.update_test_file(file, " ", default_validator, default_normalizer, strict_column_validator);
            let written = futures::executor::block_on(written).map_err(|error| error.to_string());
            written.and_then(|()| no_new_errors(file, &before))
        } else {
            runner.run_file(file).map_err(|error| error.to_string())
        };
        failures.extend(result.err().map(|error| format!("{}: {error}", file.display())));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
