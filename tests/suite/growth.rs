//! What `check` and `explain` say of a job: what its state grows with, and what its operators are.

use super::oracle::{circuit, tables};

async fn growth(sql: &str) -> Vec<String> {
    circuit(&[("job".to_owned(), sql.to_owned())], &tables()).await.growth(0)
}

#[tokio::test]
async fn state_grows_with_what_the_operators_keep() {
    for (sql, expected) in [
        ("SELECT key, line + 1 AS n FROM a WHERE flag", &[] as &[&str]),
        ("SELECT key FROM a UNION ALL SELECT key FROM b", &[]),
        ("SELECT count(*) AS n, sum(quantity) AS s FROM a", &[]),
        ("SELECT key, count(*) AS n FROM a GROUP BY key", &["groups by a.key"]),
        ("SELECT key, max(at) AS n FROM a GROUP BY key", &["groups by a.key", "rows of a"]),
        ("SELECT key, median(line) AS n FROM a GROUP BY key", &["groups by a.key", "rows of a"]),
        ("SELECT DISTINCT key, line FROM a", &["groups by a.key, a.line"]),
        ("SELECT a.key FROM a JOIN b ON a.key = b.key", &["rows of a", "rows of b"]),
        (
            "SELECT g.key FROM (SELECT key, count(*) AS n FROM a GROUP BY key) AS g JOIN b ON g.key = b.key",
            &["groups by a.key", "rows of b"],
        ),
        ("SELECT key FROM a WHERE at <= watermark()", &["rows of a that the watermark has not passed"]),
        ("SELECT key, row_number() OVER (PARTITION BY key ORDER BY at) AS n FROM a", &["groups by a.key", "rows of a"]),
        ("SELECT key FROM a ORDER BY at LIMIT 3", &["rows of a"]),
        ("SELECT key FROM a WHERE line > (SELECT avg(line) FROM b)", &["rows of a"]),
    ] {
        assert_eq!(growth(sql).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_job_that_reads_another_has_its_own_operators_only() {
    let jobs = [
        ("first".to_owned(), "SELECT key, count(*) AS n FROM a GROUP BY key".to_owned()),
        ("second".to_owned(), "SELECT b.key, f.n FROM b JOIN first AS f ON b.key = f.key".to_owned()),
    ];
    let circuit = circuit(&jobs, &tables()).await;
    assert_eq!(circuit.growth(1), ["rows of b", "rows of first"]);
    let texts: Vec<String> = circuit.operators_of(1).into_iter().map(|node| node.text).collect();
    assert!(texts.contains(&"job first".to_owned()), "{texts:?}");
    assert!(!texts.iter().any(|text| text.contains("group by")), "{texts:?}");
    let texts: Vec<String> = circuit.operators_of(0).into_iter().map(|node| node.text).collect();
    assert!(texts.iter().any(|text| text.contains("group by")), "{texts:?}");
}
