//! Every aggregate that SQL can name is kept up to date or refused: none is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use milepost::circuit::Maintenance;
use milepost::plan::session;

use super::oracle::{circuit, tables};
use super::sql_errors::said;

/// The texts of a folder's SQL files by name.
fn texts(folder: &str) -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let paths = std::fs::read_dir(folder).expect("the corpus is there").map(|entry| entry.expect("readable").path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("readable"))
        })
        .collect()
}

/// Whether the text calls a function.
fn calls(text: &str, function: &str) -> bool {
    text.match_indices(&format!("{function}(")).any(|(start, _)| {
        !text[..start].chars().next_back().is_some_and(|before| before.is_alphanumeric() || before == '_')
    })
}

#[tokio::test]
async fn every_aggregate_of_the_session_is_in_the_oracle_or_refused_with_an_alternative() {
    let (oracle, errors) = (texts("oracle"), texts("sql_errors"));
    let functions: BTreeMap<String, BTreeSet<String>> =
        session().state().aggregate_functions().iter().fold(BTreeMap::new(), |mut known, (alias, function)| {
            known.entry(function.name().to_owned()).or_insert_with(BTreeSet::new).insert(alias.clone());
            known
        });
    assert!(functions.len() > 30, "{functions:?}");
    for (function, aliases) in functions {
        if oracle.values().any(|text| aliases.iter().any(|alias| calls(text, alias))) {
            assert!(!errors.contains_key(&function), "`{function}` is in the oracle and refused");
            continue;
        }
        let job =
            errors.get(&function).unwrap_or_else(|| panic!("`{function}` is neither in tests/oracle nor refused"));
        let said = said(&function, job).await;
        let place = format!("{}^", " ".repeat(job.find(&function).expect("the job calls it")));
        for part in [format!("`{function}`"), place, "= help: ".to_owned()] {
            assert!(said.contains(&part), "`{part}` is missing from\n{said}");
        }
    }
}

/// The class of a job, with its reasons.
async fn maintenance(sql: &str) -> (Maintenance, Vec<String>) {
    let circuit = circuit(&[("job".to_owned(), sql.to_owned())], &tables()).await;
    let texts = circuit.describe().into_iter().map(|node| node.text).filter(|text| text.starts_with("group by"));
    (circuit.jobs()[0].maintenance.clone(), texts.collect())
}

#[tokio::test]
async fn only_what_has_to_be_is_computed_over_whole_groups_and_it_says_so() {
    let incremental = [
        "SELECT key, count(*) AS n, sum(line) AS s, avg(line) AS m, avg(quantity) AS q, min(at) AS f FROM a GROUP BY key",
        "SELECT key, count(DISTINCT line) AS l, sum(DISTINCT quantity) AS s, avg(DISTINCT line) AS m FROM a GROUP BY key",
        "SELECT key, min(CAST(quantity AS DOUBLE)) AS x, last_value(note ORDER BY at) AS n FROM a GROUP BY key",
    ];
    for sql in incremental {
        assert_eq!(maintenance(sql).await.0, Maintenance::Incremental, "{sql}");
    }
    let mixed = "SELECT key, count(*) AS n, sum(CAST(quantity AS DOUBLE)) AS s, max(line) AS l, \
                 percentile_cont(quantity, 0.5) AS p, percentile_cont(quantity, 0.9) AS q FROM a GROUP BY key";
    let (class, operators) = maintenance(mixed).await;
    let reasons =
        ["`sum(…)` is computed over its whole group", "`percentile_cont(…)` is computed over its whole group"];
    assert_eq!(class, Maintenance::Recompute(reasons.map(str::to_owned).to_vec()));
    let [operator] = operators.as_slice() else { panic!("one aggregation, not {operators:?}") };
    let (kept, anew) = operator.split_once("; recompute ").expect("the operator says what it computes anew");
    assert!(kept.contains("count(") && kept.contains("max(") && !kept.contains("sum("), "{operator}");
    assert!(anew.contains("sum(") && anew.contains("percentile_cont(") && !anew.contains("count("), "{operator}");
}

/// Calls over the same values keep them once.
#[tokio::test]
async fn percentiles_of_one_column_share_what_they_keep() {
    let held = |sql: &'static str| async move {
        let mut circuit = circuit(&[("job".to_owned(), sql.to_owned())], &tables()).await;
        let mut random = super::oracle::Random(5);
        let rows: Vec<_> = (0..500).map(|_| super::oracle::random_row(&mut random)).collect();
        let delta = milepost::state::Delta::insertions(super::oracle::batch(&rows));
        circuit.step(&[delta], None).expect("a step");
        circuit.describe().into_iter().map(|node| node.held.bytes).sum::<usize>()
    };
    let one = held("SELECT key, percentile_cont(quantity, 0.5) AS p FROM a GROUP BY key").await;
    let four = "SELECT key, percentile_cont(quantity, 0.5) AS p, percentile_cont(quantity, 0.9) AS q, \
                stddev(quantity) AS d, max(CAST(quantity AS DOUBLE)) AS m FROM a GROUP BY key";
    assert_eq!(held(four).await, one);
}
