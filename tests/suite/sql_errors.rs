//! What the authors of SQL read: every `tests/sql_errors/*.sql` is one job over the tables `a`, `b` and `c`, every
//! `tests/sql_errors/pipelines/*.yaml` a whole pipeline, and the `.expected` file beside it is exactly what is said about
//! it. `UPDATE_EXPECTED=1` writes them anew. Adding a test is adding a file.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use milepost::circuit::compile;
use milepost::definition::load;
use milepost::diagnostic::Diagnostics;
use milepost::plan::compile_jobs;
use milepost::runtime::engine::build_circuit;

use super::oracle::{pipeline, tables};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sql_errors")
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the corpus is there");
    let paths = entries.map(|entry| entry.expect("the folder can be listed").path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|known| known == extension)).collect();
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("a file has a name").to_string_lossy().into_owned()
}

/// What is said about a job; nothing if it is right.
pub(crate) async fn said(name: &str, sql: &str) -> String {
    let pipeline = pipeline(&[(name.to_owned(), sql.to_owned())]);
    let sources = tables();
    let compiled: Result<(), Diagnostics> = match compile_jobs(&pipeline, &sources).await {
        Ok(planned) => compile(&sources, &planned, &[], &|job| Arc::clone(&pipeline.jobs[job].sql)).map(|_| ()),
        Err(problems) => Err(problems),
    };
    compiled.err().map(|problems| problems.render(false)).unwrap_or_default()
}

/// What no author should have to read.
const INTERNALS: [&str; 14] = [
    "datafusion",
    "DataFusion",
    "public.",
    "Internal error",
    "internal error",
    "This issue was likely caused",
    "Utf8View",
    "Decimal128(",
    "Timestamp(",
    "DFSchema",
    "Signature",
    "physical plan",
    "PhysicalExpr",
    "__",
];

/// Compares what is said with the expected text beside `path`, or writes it; pushes what is wrong.
fn compare(path: &Path, actual: &str, failures: &mut Vec<String>) {
    let name = stem(path);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(path.with_extension("expected"), actual).expect("the expected text can be written");
    } else {
        let expected = std::fs::read_to_string(path.with_extension("expected")).unwrap_or_default();
        if expected != actual {
            failures.push(format!("=== {name}: expected\n{expected}=== but is\n{actual}"));
        }
    }
    if actual.is_empty() {
        failures.push(format!("=== {name} is accepted"));
    }
    if actual.matches("error: ").count() > actual.matches("= help: ").count() {
        failures.push(format!("=== {name}: no help\n{actual}"));
    }
    for internal in INTERNALS.iter().filter(|internal| actual.contains(**internal)) {
        failures.push(format!("=== {name} shows `{internal}`\n{actual}"));
    }
}

#[tokio::test]
async fn every_wrong_job_is_told_exactly_what_stands_beside_it() {
    let mut failures = Vec::new();
    let jobs = files(&folder(), "sql");
    assert!(jobs.len() > 50, "the corpus is there");
    for path in jobs {
        let sql = std::fs::read_to_string(&path).expect("a job of the corpus is text");
        compare(&path, &said(&stem(&path), &sql).await, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[tokio::test]
async fn every_wrong_pipeline_is_told_exactly_what_stands_beside_it() {
    let folder = folder().join("pipelines");
    let mut failures = Vec::new();
    for path in files(&folder, "yaml") {
        let problems = match load(&path, &|_| None) {
            Ok(pipeline) => build_circuit(&pipeline).await.err(),
            Err(problems) => Some(problems),
        };
        let actual = problems.map(|problems| problems.render(false)).unwrap_or_default();
        compare(&path, &actual.replace(&format!("{}/", folder.display()), ""), &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_expected_text_has_its_job() {
    for (folder, extension) in [(folder(), "sql"), (folder().join("pipelines"), "yaml")] {
        for expected in files(&folder, "expected").iter().filter(|path| !stem(path).starts_with("large_")) {
            assert!(expected.with_extension(extension).exists(), "{} has no job", expected.display());
        }
    }
}

/// Each of these tables is twice the one before it.
fn doubled(levels: usize) -> String {
    let tables = (1..=levels).fold("WITH t0 AS (SELECT key, line FROM a)".to_owned(), |text, n| {
        let before = n - 1;
        text + &format!(", t{n} AS (SELECT x.key, y.line FROM t{before} AS x JOIN t{before} AS y ON x.key = y.key)")
    });
    format!("{tables} SELECT key, line FROM t{levels}")
}

/// Jobs too large to be files.
fn large_jobs() -> Vec<(&'static str, String)> {
    let chain = |first: &str, link: &str, links: usize| format!("{first}{}", link.repeat(links));
    let mut wide = String::from("SELECT key FROM a WHERE note IN ('x'");
    while wide.len() < 1024 * 1024 {
        write!(wide, ", 'note number {}'", wide.len()).expect("a text takes text");
    }
    wide.push(')');
    let nested = |open: &str, close: &str, depth: usize| {
        format!("SELECT {}line{} AS n FROM a", open.repeat(depth), close.repeat(depth))
    };
    vec![
        ("large_additions", chain("SELECT line", " + 1", 8_000) + " AS n FROM a"),
        ("large_text", wide),
        ("large_comment", format!("SELECT key FROM a -- {}", "x".repeat(1024 * 1024))),
        ("large_parentheses", nested("(", ")", 5_000)),
        ("large_parentheses_few", nested("(", ")", 500)),
        ("large_calls", nested("abs(", ")", 300)),
        ("large_not", nested("NOT ", "", 3_000)),
        ("large_minus", nested("- ", "", 3_000)),
        ("large_casts", chain("SELECT line", "::bigint", 5_000) + " AS n FROM a"),
        ("large_is_null", chain("SELECT line", " IS NULL", 5_000) + " AS n FROM a"),
        ("large_and", chain("SELECT key FROM a WHERE flag", "\nAND\nflag", 5_000)),
        ("large_union", chain("SELECT key FROM a", "\nUNION ALL SELECT key FROM a", 5_000)),
        ("large_join", chain("SELECT 1 AS n FROM a", " NATURAL JOIN b", 5_000)),
        ("large_subqueries", chain("SELECT key FROM ", "(SELECT key FROM ", 200) + "a" + &")".repeat(200)),
        ("large_withs", doubled(40)),
        (
            "large_case",
            chain("SELECT ", "CASE WHEN flag THEN 1 ELSE ", 200) + "2" + &" END".repeat(200) + " AS n FROM a",
        ),
    ]
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_it_can_exhaust_the_stack() {
    let mut failures = Vec::new();
    for (name, sql) in large_jobs() {
        compare(&folder().join(name), &said(name, &sql).await, &mut failures);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// As large as is let through: right or refused, but answered, on the small stack of a worker thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn the_largest_job_that_is_planned_fits_the_stack() {
    let jobs = [
        format!("SELECT line{} AS n FROM a", " + 1".repeat(490)),
        format!("SELECT key FROM a WHERE flag{}", " AND flag".repeat(490)),
        format!("SELECT line{} AS n FROM a", "::bigint".repeat(490)),
        format!("SELECT flag{} AS n FROM a", " IS NULL".repeat(490)),
        format!("SELECT key FROM a{}", " UNION ALL SELECT key FROM a".repeat(190)),
        format!("SELECT key FROM a WHERE line IN (1{})", ", 1".repeat(9_000)),
        format!(
            "SELECT a.key FROM a{}",
            (0..60).fold(String::new(), |text, n| text + &format!(" JOIN b b{n} ON a.key = b{n}.key"))
        ),
        doubled(7),
    ];
    for sql in jobs {
        let task = async move { said("job", &sql).await };
        assert_eq!(tokio::spawn(task).await.expect("the planner answers"), "");
    }
}

/// Cut off anywhere, a right job is right or is told why it is not: nothing panics.
#[tokio::test]
async fn a_job_cut_off_anywhere_is_answered() {
    let sql = "-- ü\nSELECT a.key, sum(b.quantity) FILTER (WHERE b.at <= watermark()) AS s, 'ü''x' AS t\n\
               FROM a LEFT JOIN b ON a.key = b.key /* é */ AND a.line <> b.line\nGROUP BY a.key HAVING count(*) > 1";
    assert_eq!(said("job", sql).await, "");
    for (end, _) in sql.char_indices().step_by(2) {
        said("job", &sql[..end]).await;
        said("job", &format!("{}\u{fc}'{}", &sql[..end], &sql[end..])).await;
    }
}
