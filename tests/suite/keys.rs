//! A job's key: a row with a null in it is an error row in place of output; several rows of one key stand in the table, and
//! are told of.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use milepost::circuit::{Circuit, compile};
use milepost::plan::compile_jobs;
use milepost::state::{Delta, Table};

use super::oracle::{Random, Row, TABLES, batch, batch_tables, lines, pipeline, random_delta, tables};

const KEYED: &str = "SELECT key, line, quantity FROM a WHERE flag OR flag IS NULL";
const ABOVE: &str = "SELECT line, count(*) AS n, sum(quantity) AS s FROM keyed GROUP BY line";

/// The job with the key (key, line), and one that reads it.
async fn circuit() -> Circuit {
    let jobs = [("keyed", KEYED), ("above", ABOVE)].map(|(name, sql)| (name.to_owned(), sql.to_owned()));
    let mut pipeline = pipeline(&jobs);
    pipeline.jobs[0].key = vec![("key".to_owned(), 0..0), ("line".to_owned(), 0..0)];
    let planned = compile_jobs(&pipeline, &tables()).await.expect("the jobs can be planned");
    compile(&tables(), &planned, &[], &|job| Arc::clone(&pipeline.jobs[job].sql)).expect("the jobs can be compiled")
}

#[tokio::test]
async fn a_null_in_a_key_is_an_error_row_until_its_input_goes() {
    for (seed, rows_max) in [(1, 1), (2, 6), (3, 60)] {
        let mut random = Random(seed);
        let mut circuit = circuit().await;
        let mut results: Vec<Table> = circuit
            .jobs()
            .iter()
            .map(|job| Table::new(Arc::clone(&job.schema), job.key.clone()).expect("a table"))
            .collect();
        let mut held: Vec<Vec<Row>> = vec![Vec::new(); TABLES.len()];
        let mut errors: BTreeMap<(String, String), i64> = BTreeMap::new();
        for step in 0..10 {
            let deltas: Vec<Delta> = held
                .iter_mut()
                .map(|rows| match step {
                    9 => {
                        let gone = std::mem::take(rows);
                        Delta::new(batch(&gone), vec![-1; gone.len()]).consolidate().expect("rows of one schema")
                    }
                    _ => random_delta(&mut random, rows, rows_max),
                })
                .collect();
            let place = format!("seed {seed}, step {step}");
            let output = circuit.step(&deltas, None).unwrap_or_else(|error| panic!("{place}: {error}"));
            for (table, delta) in results.iter_mut().zip(&output.jobs) {
                table.apply(delta).unwrap_or_else(|error| panic!("{place}: {error}"));
            }
            for error in output.errors {
                assert_eq!((error.job, error.reason.as_str()), (0, "null in the job's key"), "{place}");
                *errors.entry((error.expression, error.row)).or_insert(0) += error.weight;
            }
            errors.retain(|_, count| *count != 0);
            let good = format!("SELECT * FROM ({KEYED}) WHERE key IS NOT NULL AND line IS NOT NULL");
            let above = ABOVE.replace("FROM keyed", &format!("FROM ({good})"));
            for (table, sql) in results.iter().zip([good, above]) {
                let expected = batch_tables(&held, sql, None).await;
                assert_eq!(lines(&table.batches().expect("rows can be read")), expected, "{place}");
            }
            for (column, other) in
                [("key", "line IS NOT NULL"), ("line", "key IS NOT NULL"), ("key, line", "line IS NULL")]
            {
                let first = column.split(',').next().unwrap_or(column);
                let sql = format!("SELECT count(*) FROM ({KEYED}) WHERE {first} IS NULL AND {other}");
                let count: i64 =
                    errors.iter().filter(|((expression, _), _)| expression == column).map(|(_, count)| count).sum();
                assert_eq!(vec![count.to_string()], batch_tables(&held, sql, None).await, "{place}: {column}");
            }
        }
        assert!(errors.is_empty(), "{errors:?} outlive their rows");
    }
}

#[tokio::test]
async fn an_error_of_a_null_key_names_its_column_and_shows_the_row() {
    let mut circuit = circuit().await;
    let row = Row { key: Some("k".to_owned()), line: None, quantity: Some(1_500), flag: None, at: None, note: None };
    let output = circuit.step(&[Delta::insertions(batch(&[row]))], None).expect("a step");
    let [error] = output.errors.as_slice() else { panic!("one error, not {:?}", output.errors) };
    assert_eq!((error.expression.as_str(), error.weight), ("line", 1));
    assert_eq!(error.row, "key=k, line=null, quantity=1.500");
    assert!(output.jobs.iter().all(Delta::is_empty));
}

#[tokio::test]
async fn several_rows_of_one_key_are_told_from_one_and_none() {
    let circuit = circuit().await;
    let job = &circuit.jobs()[0];
    let mut table = Table::new(Arc::clone(&job.schema), job.key.clone()).expect("a table");
    let row = |line: i64, quantity: i128| Row {
        key: Some("k".to_owned()),
        line: Some(line),
        quantity: Some(quantity),
        flag: None,
        at: None,
        note: None,
    };
    let rows = [row(1, 0), row(2, 0), row(2, 1), row(3, 0), row(3, 0), row(4, 0)];
    let batch = batch(&rows).project(&[0, 1, 2]).expect("columns of the job");
    let apply = |table: &mut Table, at: &[u32], weight: i64| {
        let delta = Delta::insertions(batch.clone()).take(at).expect("rows");
        table.apply(&Delta::new(delta.batch().clone(), vec![weight; at.len()])).expect("rows that are there");
    };
    apply(&mut table, &[0, 1, 2, 3, 4], 1);
    let told = |table: &Table| {
        let keys = table.touched_keys(&batch).expect("keys");
        let of = |rows: RecordBatch| lines(&[rows]);
        (
            of(keys.present().expect("rows")),
            of(keys.gone().expect("keys")),
            of(keys.ambiguous().expect("keys")),
            of(keys.settled().expect("keys")),
        )
    };
    let texts = |rows: &[&str]| rows.iter().map(|&row| row.to_owned()).collect::<Vec<_>>();
    let expected =
        (texts(&["k | 1 | 0.000"]), texts(&["k | 4"]), texts(&["k | 2", "k | 3"]), texts(&["k | 1", "k | 4"]));
    assert_eq!(told(&table), expected);
    apply(&mut table, &[2, 3], -1);
    let expected = (
        texts(&["k | 1 | 0.000", "k | 2 | 0.000", "k | 3 | 0.000"]),
        texts(&["k | 4"]),
        texts(&[]),
        texts(&["k | 1", "k | 2", "k | 3", "k | 4"]),
    );
    assert_eq!(told(&table), expected);
}
