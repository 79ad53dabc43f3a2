//! Ties in the ORDER BY of an aggregate, and aggregates of doubles: the same for every order of the rows, in circuit and batch.

use std::sync::Arc;

use datafusion::datasource::MemTable;
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionContext;
use milepost::plan::session;
use milepost::state::{Delta, Table};

use super::oracle::{Random, Row, TABLES, batch, batch_tables, circuit, lines, random_row, schema, tables};

/// Rows with few times, so that most of them tie.
fn tied_rows(random: &mut Random) -> Vec<Row> {
    let tie = |random: &mut Random| Row {
        key: Some(format!("key-{}", random.below(3))),
        at: (random.below(10) > 0).then(|| i64::try_from(random.below(2)).expect("small")),
        ..random_row(random)
    };
    (0..40).map(|_| tie(random)).collect()
}

fn shuffle(random: &mut Random, rows: &mut [Row]) {
    for last in (1..rows.len()).rev() {
        rows.swap(last, usize::try_from(random.below(last as u64 + 1)).expect("small"));
    }
}

const ORDERED: [&str; 14] = [
    "SELECT key, array_agg(line ORDER BY at) AS x, array_agg(note ORDER BY at, note DESC) AS y FROM a GROUP BY key",
    "SELECT key, first_value(note ORDER BY at) AS x FROM a GROUP BY key",
    "SELECT key, first_value(note ORDER BY at) AS x, first_value(line ORDER BY at) AS y FROM a GROUP BY key",
    "SELECT key, last_value(note ORDER BY at DESC) AS x, last_value(quantity ORDER BY at DESC) AS y FROM a GROUP BY key",
    "SELECT key, array_agg(line ORDER BY at) AS x, string_agg(note, ',' ORDER BY at) AS y FROM a GROUP BY key",
    "SELECT key, nth_value(line, 2 ORDER BY at) AS x FROM a GROUP BY key",
    "SELECT key, first_value(note ORDER BY at) FILTER (WHERE flag) AS x, first_value(line + 1 ORDER BY at NULLS FIRST) AS y FROM a GROUP BY key",
    "SELECT first_value(x.note ORDER BY x.at) AS n FROM (SELECT note, at FROM a UNION ALL SELECT note, at FROM b) AS x",
    "SELECT key, x FROM (SELECT key, first_value(note ORDER BY at) AS x FROM a GROUP BY key) AS t WHERE key IN (SELECT key FROM b)",
    "SELECT key, sum(CAST(quantity AS DOUBLE) / 7) AS x, avg(CAST(quantity AS DOUBLE) / 3) AS y, avg(line) AS z FROM a GROUP BY key",
    "SELECT stddev(quantity) AS x, corr(quantity, line) AS y, regr_slope(line, quantity) AS z FROM a",
    "SELECT key, sum(CAST(quantity AS DOUBLE) / 7) AS x, first_value(note ORDER BY at DESC) AS y, percentile_cont(0.9) WITHIN GROUP (ORDER BY quantity) AS z FROM a GROUP BY key",
    "SELECT key, min(x) AS least, max(x) AS most FROM (SELECT key, CASE line WHEN 0 THEN CAST('NaN' AS DOUBLE) WHEN 1 THEN CAST('-0' AS DOUBLE) WHEN 2 THEN CAST('0' AS DOUBLE) END AS x FROM a) AS t GROUP BY key",
    "SELECT a.key, first_value(b.note ORDER BY a.at) AS x, first_value(b.line ORDER BY a.at) AS y FROM a JOIN b ON a.key = b.key GROUP BY a.key",
];

/// What the circuit holds after the rows came one by one or all at once.
async fn of_circuit(sql: &str, held: &[Vec<Row>], one_by_one: bool) -> Vec<String> {
    let mut circuit = circuit(&[("job".to_owned(), sql.to_owned())], &tables()).await;
    let mut table = Table::new(Arc::clone(&circuit.jobs()[0].schema), Vec::new()).expect("a table");
    let size = if one_by_one { 1 } else { usize::MAX };
    let steps = if one_by_one { held.iter().map(Vec::len).max().unwrap_or(0) } else { 1 };
    for step in 0..steps {
        let deltas: Vec<Delta> =
            held.iter().map(|rows| Delta::insertions(batch(rows.chunks(size).nth(step).unwrap_or_default()))).collect();
        table.apply(&circuit.step(&deltas, None).expect("a step").jobs[0]).expect("applies");
    }
    lines(&table.batches().expect("rows can be read"))
}

#[tokio::test]
async fn the_result_is_the_same_for_every_order_of_the_rows_in_circuit_and_batch() {
    for seed in 0..6 {
        let mut random = Random(seed);
        let mut held: Vec<Vec<Row>> = (0..TABLES.len()).map(|_| tied_rows(&mut random)).collect();
        for sql in ORDERED {
            let expected = batch_tables(&held, sql.to_owned(), None).await;
            for one_by_one in [false, true] {
                held.iter_mut().for_each(|rows| shuffle(&mut random, rows));
                assert_eq!(batch_tables(&held, sql.to_owned(), None).await, expected, "seed {seed}, batch: {sql}");
                assert_eq!(of_circuit(sql, &held, one_by_one).await, expected, "seed {seed}, circuit: {sql}");
            }
        }
    }
}

#[tokio::test]
async fn calls_with_one_order_show_one_row() {
    let sql = "SELECT key, first_value(note ORDER BY at) AS n, first_value(line ORDER BY at) AS l, \
               first_value(quantity ORDER BY at) AS q, first_value(flag ORDER BY at) AS f FROM a GROUP BY key";
    for seed in 0..20 {
        let mut random = Random(seed);
        let held: Vec<Vec<Row>> = (0..TABLES.len()).map(|_| tied_rows(&mut random)).collect();
        let whole =
            batch_tables(&held, "SELECT DISTINCT key, note, line, quantity, flag FROM a".to_owned(), None).await;
        for found in of_circuit(sql, &held, true).await {
            assert!(whole.contains(&found), "seed {seed}: `{found}` is no row");
        }
    }
}

/// The optimised plan in this session.
async fn plan(context: &SessionContext, sql: &str) -> LogicalPlan {
    for name in TABLES {
        let table = MemTable::try_new(schema(), vec![Vec::new()]).expect("a table");
        context.register_table(name, Arc::new(table)).expect("registered");
    }
    let state = context.state();
    let planned = state.create_logical_plan(sql).await.expect("planned");
    state.optimize(&planned).expect("optimised")
}

/// DataFusion as it comes, but for the literals and types that Milepost's session sets.
fn plain_session() -> SessionContext {
    SessionContext::new_with_config(session().copied_config())
}

#[tokio::test]
async fn distinct_calls_and_those_without_order_are_untouched() {
    let untouched = [
        "SELECT key, array_agg(DISTINCT line ORDER BY line) AS x, max(note) AS y FROM a GROUP BY key",
        "SELECT key, sum(quantity) AS x, count(note) AS y FROM a GROUP BY key",
        "SELECT key, string_agg(DISTINCT note, ',' ORDER BY note) AS x FROM a GROUP BY key",
    ];
    for sql in untouched {
        let ours = plan(&session(), sql).await.display_indent().to_string();
        assert_eq!(ours, plan(&plain_session(), sql).await.display_indent().to_string(), "{sql}");
    }
    let touched = plan(&session(), ORDERED[1]).await.display_indent().to_string();
    assert_ne!(touched, plan(&plain_session(), ORDERED[1]).await.display_indent().to_string(), "the rule runs");
}

#[tokio::test]
async fn the_columns_of_the_result_keep_their_names_and_types() {
    let unnamed = [
        "SELECT key, first_value(note ORDER BY at), last_value(line ORDER BY at DESC) FROM a GROUP BY key",
        "SELECT array_agg(note ORDER BY at) FILTER (WHERE flag), first_value(line + 1 ORDER BY at) FROM a",
        "SELECT avg(line), stddev(quantity), sum(line * 2), percentile_cont(0.5) WITHIN GROUP (ORDER BY line) FROM a",
        "SELECT key, avg(DISTINCT line), sum(CAST(quantity AS DOUBLE)), bit_xor(DISTINCT line) FROM a GROUP BY key",
        "SELECT line + 1, -line, 2 * (line - 3), line / 2 FROM a WHERE line + 1 > 2",
    ];
    for sql in unnamed.iter().chain(&ORDERED) {
        let (ours, plain) = (plan(&session(), sql).await, plan(&plain_session(), sql).await);
        assert_eq!(ours.schema().fields(), plain.schema().fields(), "{sql}");
    }
}
