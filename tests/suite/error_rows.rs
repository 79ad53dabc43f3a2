//! A row that an expression fails on: it alone is missing from the result, and stands among the errors until it goes.

use std::collections::BTreeMap;
use std::sync::Arc;

use milepost::state::{Delta, Table};

use super::oracle::{Random, Row, TABLES, batch, batch_tables, circuit, lines, random_delta, tables};

/// A job whose expression fails on some rows.
struct Case {
    name: &'static str,
    job: &'static str,
    /// The same where nothing can fail, over the good rows.
    good: &'static str,
    /// How many errors there are.
    errors: &'static str,
}

const GOOD: &str = "(SELECT * FROM a WHERE line <> 0 OR line IS NULL) AS a";
const BAD: &str = "SELECT count(*) FROM a WHERE line = 0";

const CASES: [Case; 34] = [
    Case {
        name: "integers in a projection",
        job: "SELECT key, 10 / line AS q FROM a",
        good: "SELECT key, 10 / line AS q FROM {good}",
        errors: BAD,
    },
    Case {
        name: "decimals in a projection",
        job: "SELECT key, quantity / CAST(line AS DECIMAL(9, 0)) AS q FROM a",
        good: "SELECT key, quantity / CAST(line AS DECIMAL(9, 0)) AS q FROM (SELECT * FROM a WHERE line <> 0 OR line IS NULL OR quantity IS NULL) AS a",
        errors: "SELECT count(*) FROM a WHERE line = 0 AND quantity IS NOT NULL",
    },
    Case {
        name: "a cast of text",
        job: "SELECT key, CAST(replace(replace(note, 'a rather long note, number ', ''), '3', 'x') AS BIGINT) AS n FROM a",
        good: "SELECT key, CAST(replace(note, 'a rather long note, number ', '') AS BIGINT) AS n FROM (SELECT * FROM a WHERE note NOT LIKE '%3' OR note IS NULL) AS a",
        errors: "SELECT count(*) FROM a WHERE note LIKE '%3'",
    },
    Case {
        name: "a cast that overflows",
        job: "SELECT key, CAST(line * 20000 AS SMALLINT) AS n FROM a",
        good: "SELECT key, CAST(line * 20000 AS SMALLINT) AS n FROM (SELECT * FROM a WHERE line < 2 OR line IS NULL) AS a",
        errors: "SELECT count(*) FROM a WHERE line >= 2",
    },
    Case {
        name: "a filter",
        job: "SELECT key FROM a WHERE 10 / line > 4",
        good: "SELECT key FROM a WHERE 10 / nullif(line, 0) > 4",
        errors: BAD,
    },
    Case {
        name: "a filter that protects",
        job: "SELECT key, 10 / line AS q FROM a WHERE line <> 0",
        good: "SELECT key, 10 / line AS q FROM a WHERE line <> 0",
        errors: "SELECT 0",
    },
    Case {
        name: "a condition that protects the next one",
        job: "SELECT key FROM a WHERE line <> 0 AND 10 / line > 4",
        good: "SELECT key FROM a WHERE 10 / nullif(line, 0) > 4",
        errors: "SELECT 0",
    },
    Case {
        name: "a case that protects",
        job: "SELECT key, CASE WHEN line = 0 THEN 0 ELSE 10 / line END AS q FROM a",
        good: "SELECT key, CASE WHEN line = 0 THEN 0 ELSE 10 / line END AS q FROM a",
        errors: "SELECT 0",
    },
    Case {
        name: "a group key",
        job: "SELECT 10 / line AS g, count(*) AS n, sum(quantity) AS s FROM a GROUP BY 10 / line",
        good: "SELECT 10 / line AS g, count(*) AS n, sum(quantity) AS s FROM {good} GROUP BY 10 / line",
        errors: BAD,
    },
    Case {
        name: "an aggregate's argument",
        job: "SELECT key, sum(10 / line) AS s, count(*) AS n FROM a GROUP BY key",
        good: "SELECT key, sum(10 / line) AS s, count(*) AS n FROM {good} GROUP BY key",
        errors: BAD,
    },
    Case {
        name: "an aggregate's filter",
        job: "SELECT key, count(*) FILTER (WHERE 10 / line > 4) AS n FROM a GROUP BY key",
        good: "SELECT key, count(*) FILTER (WHERE 10 / line > 4) AS n FROM {good} GROUP BY key",
        errors: BAD,
    },
    Case {
        name: "a join key",
        job: "SELECT a.key, b.note FROM a JOIN b ON 10 / a.line = b.line * 5",
        good: "SELECT a.key, b.note FROM {good} JOIN b ON 10 / a.line = b.line * 5",
        errors: BAD,
    },
    Case {
        name: "the key of an outer join",
        job: "SELECT a.key, b.note FROM a FULL JOIN b ON 10 / a.line = b.line * 5",
        good: "SELECT a.key, b.note FROM {good} FULL JOIN b ON 10 / a.line = b.line * 5",
        errors: BAD,
    },
    Case {
        name: "a join's condition that protects the next one",
        job: "SELECT a.key, b.note FROM a JOIN b ON a.key = b.key AND a.line <> b.line AND 10 / (a.line - b.line) > 4",
        good: "SELECT a.key, b.note FROM a JOIN b ON a.key = b.key AND 10 / nullif(a.line - b.line, 0) > 4",
        errors: "SELECT 0",
    },
    Case {
        name: "a join's condition",
        job: "SELECT a.key, b.note FROM a JOIN b ON a.key = b.key AND 10 / (a.line - b.line) > 4",
        good: "SELECT a.key, b.note FROM a JOIN b ON a.key = b.key AND 10 / nullif(a.line - b.line, 0) > 4",
        errors: "SELECT count(*) FROM a JOIN b ON a.key = b.key AND a.line = b.line",
    },
    Case {
        name: "an outer join's condition",
        job: "SELECT a.key, b.note FROM a LEFT JOIN b ON a.key = b.key AND 10 / (a.line - b.line) > 4",
        good: "SELECT a.key, b.note FROM a LEFT JOIN b ON a.key = b.key AND 10 / nullif(a.line - b.line, 0) > 4",
        errors: "SELECT count(*) FROM a JOIN b ON a.key = b.key AND a.line = b.line",
    },
    Case {
        name: "integers that are multiplied",
        job: "SELECT key, line * 4000000000000000000 AS n FROM a",
        good: "SELECT key, line * 4000000000000000000 AS n FROM (SELECT * FROM a WHERE line < 3 OR line IS NULL) AS a",
        errors: "SELECT count(*) FROM a WHERE line = 3",
    },
    Case {
        name: "integers that are added",
        job: "SELECT key, line + 9223372036854775806 AS n FROM a",
        good: "SELECT key, line + 9223372036854775806 AS n FROM (SELECT * FROM a WHERE line < 2 OR line IS NULL) AS a",
        errors: "SELECT count(*) FROM a WHERE line >= 2",
    },
    Case {
        name: "integers that are subtracted in a filter",
        job: "SELECT key FROM a WHERE -9223372036854775807 - line < 0",
        good: "SELECT key FROM a WHERE line < 2",
        errors: "SELECT count(*) FROM a WHERE line >= 2",
    },
    Case {
        name: "small integers",
        job: "SELECT key, CAST(line AS TINYINT) * CAST(60 AS TINYINT) AS n FROM a",
        good: "SELECT key, line * 60 AS n FROM (SELECT * FROM a WHERE line < 3 OR line IS NULL) AS a",
        errors: "SELECT count(*) FROM a WHERE line = 3",
    },
    Case {
        name: "a sum beyond its type",
        job: "SELECT key, sum(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END) AS s, count(*) AS n, max(note) AS m FROM a GROUP BY key",
        good: "SELECT key, s, n, m FROM (SELECT key, sum(CAST(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END AS DECIMAL(20, 0))) AS s, count(*) AS n, max(note) AS m FROM a GROUP BY key) AS t WHERE s IS NULL OR abs(s) < 9000000000000000000",
        errors: "SELECT count(*) FROM (SELECT key, sum(CAST(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END AS DECIMAL(20, 0))) AS s FROM a GROUP BY key) AS t WHERE abs(s) > 9000000000000000000",
    },
    Case {
        name: "a sum of everything beyond its type",
        job: "SELECT sum(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END) AS s, sum(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END) FILTER (WHERE flag) AS t FROM a",
        good: "SELECT s, t FROM (SELECT sum(CAST(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END AS DECIMAL(20, 0))) AS s, sum(CAST(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END AS DECIMAL(20, 0))) FILTER (WHERE flag) AS t FROM a) AS t WHERE (s IS NULL OR abs(s) < 9000000000000000000) AND (t IS NULL OR abs(t) < 9000000000000000000)",
        errors: "SELECT count(*) FROM (SELECT sum(CAST(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END AS DECIMAL(20, 0))) AS s, sum(CAST(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END AS DECIMAL(20, 0))) FILTER (WHERE flag) AS t FROM a) AS t WHERE abs(s) > 9000000000000000000 OR abs(t) > 9000000000000000000",
    },
    Case {
        name: "a sum of distinct values beyond its type, behind a condition",
        job: "SELECT key, sum(DISTINCT line + 9000000000000000000) AS s, count(DISTINCT note) AS n FROM a GROUP BY key HAVING count(*) > 1",
        good: "SELECT key, s + CASE WHEN s IS NULL THEN 0 ELSE 9000000000000000000 END AS s, n FROM (SELECT key, sum(DISTINCT line) AS s, count(DISTINCT note) AS n, count(DISTINCT line) AS l, count(*) AS r FROM a GROUP BY key) AS t WHERE r > 1 AND l < 2",
        errors: "SELECT count(*) FROM (SELECT key, count(DISTINCT line) AS l FROM a GROUP BY key) AS t WHERE l > 1",
    },
    Case {
        name: "a sum of durations beyond its type",
        job: "SELECT key, CAST(sum(arrow_cast(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END, 'Duration(Microsecond)')) AS BIGINT) AS s FROM a GROUP BY key",
        good: "SELECT key, s FROM (SELECT key, sum(CAST(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END AS DECIMAL(20, 0))) AS s FROM a GROUP BY key) AS t WHERE s IS NULL OR abs(s) < 9000000000000000000",
        errors: "SELECT count(*) FROM (SELECT key, sum(CAST(CASE line WHEN 3 THEN 6000000000000000000 WHEN 0 THEN -6000000000000000000 ELSE line END AS DECIMAL(20, 0))) AS s FROM a GROUP BY key) AS t WHERE abs(s) > 9000000000000000000",
    },
    Case {
        name: "a window function's argument",
        job: "SELECT key, sum(10 / line) OVER (PARTITION BY key) AS s, count(*) OVER () AS n FROM a",
        good: "SELECT key, sum(10 / line) OVER (PARTITION BY key) AS s, n FROM (SELECT *, count(*) OVER () AS n FROM {good}) AS t",
        errors: BAD,
    },
    Case {
        name: "the order of a window",
        job: "SELECT key, row_number() OVER (PARTITION BY 20 / line ORDER BY 10 / line, at) AS n FROM a",
        good: "SELECT key, row_number() OVER (PARTITION BY 20 / line ORDER BY 10 / line, at) AS n FROM {good}",
        errors: BAD,
    },
    Case {
        name: "a sum over a partition beyond its type",
        job: "SELECT key, sum(line * 2500000000000000000) OVER (PARTITION BY key) AS s FROM a",
        good: "SELECT key, s * 2500000000000000000 AS s FROM (SELECT key, sum(line) OVER (PARTITION BY key) AS s FROM a) AS t WHERE s <= 3 OR s IS NULL",
        errors: "SELECT count(*) FROM (SELECT key, sum(line) AS s FROM a GROUP BY key) AS t WHERE s > 3",
    },
    Case {
        name: "a sum over all rows beyond its type",
        job: "SELECT key, sum(line * 1000000000000000000) OVER () AS s FROM a",
        good: "SELECT key, s * 1000000000000000000 AS s FROM (SELECT key, sum(line) OVER () AS s FROM a) AS t WHERE s <= 9 OR s IS NULL",
        errors: "SELECT count(*) FROM (SELECT sum(line) AS s FROM a) AS t WHERE s > 9",
    },
    Case {
        name: "the order of a LIMIT",
        job: "SELECT key FROM a ORDER BY 10 / line LIMIT 5",
        good: "SELECT key FROM {good} ORDER BY 10 / line LIMIT 5",
        errors: BAD,
    },
    Case {
        name: "a key and an argument of grouping sets",
        job: "SELECT 10 / line AS g, flag, sum(20 / line) AS s, count(*) AS n FROM a GROUP BY ROLLUP (10 / line, flag)",
        good: "SELECT 10 / line AS g, flag, sum(20 / line) AS s, count(*) AS n FROM {good} GROUP BY ROLLUP (10 / line, flag)",
        errors: BAD,
    },
    Case {
        name: "a subquery of several rows as a value",
        job: "SELECT key, (SELECT line FROM b WHERE flag) AS l FROM a",
        good: "SELECT key, (SELECT min(line) FROM b WHERE flag) AS l FROM a WHERE (SELECT count(*) FROM b WHERE flag) <= 1",
        errors: "SELECT CASE WHEN (SELECT count(*) FROM b WHERE flag) > 1 THEN 1 ELSE 0 END",
    },
    Case {
        name: "what must not be in a list",
        job: "SELECT key FROM a WHERE 10 / line NOT IN (SELECT line FROM b WHERE line IS NOT NULL)",
        good: "SELECT key FROM {good} WHERE 10 / line NOT IN (SELECT line FROM b WHERE line IS NOT NULL)",
        errors: BAD,
    },
    Case {
        name: "the condition of a join without an equality",
        job: "SELECT a.key, b.note FROM a LEFT JOIN b ON a.at < b.at AND 10 / (a.line - b.line) > 4",
        good: "SELECT a.key, b.note FROM a LEFT JOIN b ON a.at < b.at AND 10 / nullif(a.line - b.line, 0) > 4",
        errors: "SELECT count(*) FROM a CROSS JOIN b WHERE (a.at < b.at) IS NOT FALSE AND a.line = b.line",
    },
    Case {
        name: "a time compared with the watermark",
        job: "SELECT key FROM a WHERE to_timestamp_micros(1000000000 / line) <= watermark()",
        good: "SELECT key FROM a WHERE to_timestamp_micros(1000000000 / nullif(line, 0)) <= watermark()",
        errors: BAD,
    },
];

/// Steps a job through a random history, and compares rows and errors after every step; ends with an empty input.
async fn check(case: &Case, seed: u64, rows_max: u64) {
    let mut random = Random(seed);
    let jobs = vec![("job".to_owned(), case.job.to_owned())];
    let mut circuit = circuit(&jobs, &tables()).await;
    let mut table = Table::new(Arc::clone(&circuit.jobs()[0].schema), Vec::new()).expect("a table of these types");
    let mut held: Vec<Vec<Row>> = vec![Vec::new(); TABLES.len()];
    let mut errors: BTreeMap<(String, String, String), i64> = BTreeMap::new();
    for step in 0..8 {
        let deltas: Vec<Delta> = held
            .iter_mut()
            .map(|rows| match step {
                7 => {
                    let gone = std::mem::take(rows);
                    Delta::new(batch(&gone), vec![-1; gone.len()]).consolidate().expect("rows of one schema")
                }
                _ => random_delta(&mut random, rows, rows_max),
            })
            .collect();
        let watermark = Some(i64::from(step) * 100_000_000);
        let place = format!("{}, seed {seed}, step {step}", case.name);
        let output = circuit.step(&deltas, watermark).unwrap_or_else(|error| panic!("{place}: {error}"));
        table.apply(&output.jobs[0]).unwrap_or_else(|error| panic!("{place}: {error}"));
        for error in output.errors {
            assert_eq!(error.job, 0, "{place}");
            assert!(
                !error.expression.is_empty()
                    && !error.reason.is_empty()
                    && (error.row.contains('=') || error.row == "all rows"),
                "{place}: {error:?}"
            );
            *errors.entry((error.expression, error.reason, error.row)).or_insert(0) += error.weight;
        }
        assert!(errors.values().all(|&count| count >= 0), "{place}: an error goes that was not there");
        errors.retain(|_, count| *count != 0);
        let batch = |sql: String| batch_tables(&held, sql, watermark);
        let expected = batch(case.good.replace("{good}", GOOD)).await;
        assert_eq!(lines(&table.batches().expect("rows can be read")), expected, "{place}");
        assert_eq!(
            vec![errors.values().sum::<i64>().to_string()],
            batch(case.errors.to_owned()).await,
            "{place}: {errors:?}"
        );
    }
    assert!(errors.is_empty(), "{}: {errors:?} outlive their rows", case.name);
}

#[tokio::test]
async fn the_other_rows_go_on_and_the_error_goes_with_its_row() {
    for case in &CASES {
        for (seed, rows_max) in [(1, 1), (2, 5), (3, 40)] {
            check(case, seed, rows_max).await;
        }
    }
}

#[tokio::test]
async fn an_error_shows_its_expression_its_reason_and_its_row() {
    let jobs = vec![("job".to_owned(), "SELECT key, 10 / line AS q FROM a".to_owned())];
    let mut circuit = circuit(&jobs, &tables()).await;
    let row = Row { key: Some("k".to_owned()), line: Some(0), quantity: None, flag: None, at: None, note: None };
    let output = circuit.step(&[Delta::insertions(batch(&[row]))], None).expect("a step");
    let [error] = output.errors.as_slice() else { panic!("one error, not {:?}", output.errors) };
    assert_eq!((error.expression.as_str(), error.weight), ("10 / a.line AS q", 1));
    assert!(error.reason.to_lowercase().contains("divide by zero"), "{}", error.reason);
    assert_eq!(error.row, "key=k, line=0");
}

#[tokio::test]
async fn a_group_shows_its_error_until_its_input_fits_again() {
    let jobs =
        vec![("job".to_owned(), "SELECT key, sum(line) AS s, sum(quantity) AS q FROM a GROUP BY key".to_owned())];
    let mut circuit = circuit(&jobs, &tables()).await;
    let row = |key: &str, line: i64| Row {
        key: Some(key.to_owned()),
        line: Some(line),
        quantity: None,
        flag: None,
        at: None,
        note: None,
    };
    let both = Delta::new(batch(&[row("k", i64::MAX), row("k", 7), row("other", 3)]), vec![2, 1, 1]);
    let output = circuit.step(&[both], None).expect("a step");
    assert_eq!(lines(&[output.jobs[0].batch().clone()]), ["other | 3 | null"], "the good neighbour stands");
    let [error] = output.errors.as_slice() else { panic!("one error, not {:?}", output.errors) };
    assert_eq!((error.expression.as_str(), error.row.as_str(), error.weight), ("sum(a.line)", "key=k", 1));
    assert_eq!(error.reason, "the sum is beyond BIGINT: 18446744073709551621");
    let one_goes = Delta::new(batch(&[row("k", i64::MAX), row("k", 7)]), vec![-1, -1]);
    let output = circuit.step(&[one_goes], None).expect("a step");
    assert_eq!(lines(&[output.jobs[0].batch().clone()]), ["k | 9223372036854775807 | null"]);
    assert_eq!(output.errors.iter().map(|error| error.weight).collect::<Vec<_>>(), [-1]);
    let back = Delta::new(batch(&[row("k", i64::MAX)]), vec![1]);
    let output = circuit.step(&[back], None).expect("a step");
    assert_eq!((output.jobs[0].weights(), output.errors.len()), ([-1].as_slice(), 1));
    let gone = Delta::new(batch(&[row("k", i64::MAX)]), vec![-2]);
    let output = circuit.step(&[gone], None).expect("a step");
    assert!(output.jobs[0].is_empty(), "nothing was shown that could go");
    assert_eq!(output.errors.iter().map(|error| error.weight).collect::<Vec<_>>(), [-1]);
}
