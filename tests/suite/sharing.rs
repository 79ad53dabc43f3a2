//! Equal parts of jobs exist once, and nobody can see it.

use std::sync::Arc;

use milepost::circuit::Circuit;
use milepost::state::{Delta, Table};

use super::oracle::{Random, Row, TABLES, batch, batch_tables, circuit, corpus, lines, random_delta, tables};

fn jobs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|&(name, sql)| (name.to_owned(), sql.to_owned())).collect()
}

async fn operators(of: &[(&str, &str)]) -> usize {
    circuit(&jobs(of), &tables()).await.describe().len()
}

const GROUPED: &str = "SELECT key, sum(quantity) AS s FROM a WHERE flag GROUP BY key";

#[tokio::test]
async fn equal_parts_are_compiled_once() {
    let alone = operators(&[("one", GROUPED)]).await;
    assert_eq!(operators(&[("one", GROUPED), ("two", GROUPED)]).await, alone);

    let large = format!("SELECT key, s FROM ({GROUPED}) AS g WHERE s > 100");
    let added = operators(&[("one", GROUPED), ("large", &large)]).await - alone;
    assert!(added <= 2, "{added} operators for one filter");

    let twice = format!("WITH g AS ({GROUPED}) SELECT x.key, x.s, y.s AS t FROM g AS x JOIN g AS y ON x.s = y.s");
    let added = operators(&[("one", GROUPED), ("twice", &twice)]).await - alone;
    assert!(added <= 5, "{added} operators for one join");
}

#[tokio::test]
async fn parts_that_differ_stay_apart() {
    let both = |sql: &'static str| async move { operators(&[("one", GROUPED), ("other", sql)]).await };
    let alone = operators(&[("one", GROUPED)]).await;
    for other in [
        "SELECT key, sum(quantity) AS s FROM a WHERE NOT flag GROUP BY key",
        "SELECT key, sum(quantity) AS s FROM b WHERE flag GROUP BY key",
        "SELECT key, min(quantity) AS s FROM a WHERE flag GROUP BY key",
        "SELECT key, sum(DISTINCT quantity) AS s FROM a WHERE flag GROUP BY key",
        "SELECT note, sum(quantity) AS s FROM a WHERE flag GROUP BY note",
    ] {
        assert!(both(other).await > alone, "{other}");
    }
}

#[tokio::test]
async fn an_error_in_a_shared_part_is_an_error_of_each_job() {
    let sql = "SELECT key, 10 / line AS q FROM a";
    let mut circuit = circuit(&jobs(&[("one", sql), ("two", sql)]), &tables()).await;
    let row = Row { key: Some("k".to_owned()), line: Some(0), quantity: None, flag: None, at: None, note: None };
    let output = circuit.step(&[Delta::insertions(batch(&[row]))], None).expect("a step");
    assert_eq!(output.errors.iter().map(|error| (error.job, error.weight)).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
}

/// What each arrangement of the circuit says of itself.
async fn arrangements(of: &[(&str, &str)]) -> Vec<String> {
    let nodes = circuit(&jobs(of), &tables()).await.describe();
    nodes.into_iter().map(|node| node.text).filter(|text| text.starts_with("rows ")).collect()
}

const JOINED: &str = "SELECT a.key, a.line, b.note FROM a JOIN b ON a.key = b.key";

#[tokio::test]
async fn equal_arrangements_exist_once() {
    let expected = ["rows by key: key, line", "rows by key: key, note"];
    assert_eq!(arrangements(&[("one", JOINED)]).await, expected);
    for other in [
        "SELECT b.note FROM b JOIN a ON a.key = b.key WHERE a.line > b.line + 100 OR a.line < 3",
        "SELECT note FROM b WHERE EXISTS (SELECT 1 FROM a WHERE a.key = b.key)",
        "SELECT b.note, a.line FROM b LEFT JOIN a ON a.key = b.key",
    ] {
        let found = arrangements(&[("one", JOINED), ("other", other)]).await;
        assert_eq!(found.len(), 2, "{other}: {found:?}");
        let found = arrangements(&[("other", other), ("one", JOINED)]).await;
        assert_eq!(found.len(), 2, "{other}: {found:?}");
    }
}

#[tokio::test]
async fn joins_that_read_other_columns_of_one_table_share_its_rows() {
    let wide = "SELECT a.at, b.quantity, b.flag FROM a JOIN b ON a.key = b.key";
    let found = arrangements(&[("one", JOINED), ("wide", wide)]).await;
    assert_eq!(found, ["rows by key: key, line, at", "rows by key: key, quantity, flag, note"]);
}

#[tokio::test]
async fn arrangements_that_differ_stay_apart() {
    for (other, count) in [
        ("SELECT a.line FROM a JOIN b ON a.line = b.line", 4),
        ("SELECT a.line FROM a JOIN b ON a.key = b.key AND a.line = b.line", 4),
        ("SELECT a.line, c.note FROM a JOIN c ON a.key = c.key", 3),
        // Null equals null in a partition, and nothing in a join.
        ("SELECT key, row_number() OVER (PARTITION BY key ORDER BY line) AS n FROM a", 3),
        ("SELECT a.line, b.note FROM a JOIN b ON a.key = b.key WHERE b.flag", 3),
    ] {
        let found = arrangements(&[("one", JOINED), ("other", other)]).await;
        assert_eq!(found.len(), count, "{other}: {found:?}");
    }
}

#[tokio::test]
async fn what_arrangements_hold_is_told_once_and_falls_with_the_rows() {
    let both = jobs(&[("one", JOINED), ("two", "SELECT b.note, a.line FROM b LEFT JOIN a ON a.key = b.key")]);
    let mut circuit = circuit(&both, &tables()).await;
    let mut random = Random(5);
    let mut held = vec![Vec::new(), Vec::new()];
    for _ in 0..3 {
        let deltas: Vec<Delta> = held.iter_mut().map(|rows| random_delta(&mut random, rows, 90)).collect();
        circuit.step(&deltas, None).expect("a step");
    }
    let keyed = |rows: &[Row]| rows.iter().filter(|row| row.key.is_some()).count();
    let nodes = circuit.describe();
    let arranged: Vec<_> = nodes.iter().filter(|node| node.text.starts_with("rows ")).collect();
    assert_eq!(arranged.iter().map(|node| node.jobs.clone()).collect::<Vec<_>>(), [[0, 1], [0, 1]]);
    for (node, rows) in arranged.iter().zip(&held) {
        assert!(node.held.rows > 0 && node.held.rows <= keyed(rows) && node.held.bytes > 0, "{node:?}");
    }
    for job in [0, 1] {
        let ids: Vec<usize> = circuit.operators_of(job).iter().map(|node| node.id).collect();
        assert!(arranged.iter().all(|node| ids.contains(&node.id)), "job {job}: {ids:?}");
    }
    let empty = held.iter().map(|rows| Delta::new(batch(rows), vec![-1; rows.len()])).collect::<Vec<_>>();
    circuit.step(&empty, None).expect("a step");
    assert!(circuit.describe().iter().all(|node| node.held.rows == 0));
}

/// All jobs of the oracle's corpus in one circuit equal what each would be alone.
#[tokio::test]
async fn all_jobs_together_equal_each_alone() {
    let jobs: Vec<(String, String)> =
        corpus().into_iter().enumerate().map(|(at, (name, sql))| (format!("{name}_{at}"), sql)).collect();
    let mut circuit: Circuit = circuit(&jobs, &tables()).await;
    let mut held: Vec<Vec<Row>> = vec![Vec::new(); TABLES.len()];
    let mut tables: Vec<Table> = circuit
        .jobs()
        .iter()
        .map(|job| Table::new(Arc::clone(&job.schema), Vec::new()).expect("a table of these types"))
        .collect();
    let mut random = Random(91);
    for step in 0..4 {
        let deltas: Vec<Delta> = held.iter_mut().map(|rows| random_delta(&mut random, rows, 40)).collect();
        let watermark = Some(i64::from(step) * 200 * 60_000_000);
        let output = circuit.step(&deltas, watermark).expect("a step");
        for ((job, delta), table) in circuit.jobs().iter().zip(&output.jobs).zip(&mut tables) {
            table.apply(delta).unwrap_or_else(|error| panic!("{}: {error}", job.name));
            let (name, sql) = &jobs[job.job];
            let expected = batch_tables(&held, sql.clone(), watermark).await;
            assert_eq!(lines(&table.batches().expect("rows")), expected, "{name}, step {step}");
        }
    }
}
