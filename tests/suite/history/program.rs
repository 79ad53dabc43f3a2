//! Histories of the program: the same after a restart and after kills, and as the README says.

use tempfile::TempDir;

use crate::program::{Setting, folder, wait_until};
use crate::shipped_data::in_repository;
use crate::support::Nats;

const ORDER: &str = r#"{"$id": "order.v1", "type": "object", "required": ["order_id", "sku", "released_at"], "properties": {
    "order_id": {"type": "string"}, "sku": {"type": "string"}, "released_at": {"type": "string", "format": "date-time"}}}"#;
const PRICE: &str = r#"{"$id": "price.v1", "type": "object", "required": ["sku"], "properties": {
    "sku": {"type": "string"}, "unit_price": {"type": "integer"}}}"#;

/// The fenced blocks of the README's section on histories.
fn readme_blocks() -> Vec<String> {
    let readme = std::fs::read_to_string(in_repository("README.md")).expect("readable");
    let section =
        readme.split("\n## ").find(|section| section.starts_with("Histories\n")).expect("the section is there");
    let blocks = section.split("```").skip(1).step_by(2);
    blocks.map(|block| block.split_once('\n').expect("a language").1.to_owned()).collect()
}

/// The pipeline of the README, with a change of its text, against a broker with its streams; and its last SELECT.
async fn readme_pipeline(work: &TempDir, change: impl FnOnce(&str) -> String) -> (Nats, Setting, String) {
    let nats = Nats::start().await;
    nats.stream("ORDERS", &["orders"]).await;
    nats.stream("PRICES", &["prices"]).await;
    let [pipeline, order_prices, unpriced, asked] = readme_blocks().try_into().expect("a pipeline, two jobs, a SELECT");
    let write = |name: &str, text: &str| std::fs::write(work.path().join(name), text).expect("writable");
    write("order.json", ORDER);
    write("price.json", PRICE);
    write("order_prices.sql", &order_prices);
    write("unpriced.sql", &unpriced);
    write("prices.yaml", &change(&pipeline));
    let flags = vec!["--nats".to_owned(), nats.url()];
    let setting = Setting { home: folder(), pipeline: work.path().join("prices.yaml"), flags };
    (nats, setting, asked)
}

fn order(id: &str, sku: &str, time: &str) -> String {
    format!(r#"{{"order_id":"{id}","sku":"{sku}","released_at":"2026-03-01T{time}Z"}}"#)
}

fn price(sku: &str, price: u64) -> String {
    format!(r#"{{"sku":"{sku}","unit_price":{price}}}"#)
}

/// What is asked of histories and of the jobs over them.
const QUERIES: [&str; 4] = [
    "SELECT * FROM prices_history ORDER BY sku, valid_from NULLS FIRST",
    "SELECT * FROM unpriced_history ORDER BY order_id, opened_at NULLS FIRST",
    "SELECT * FROM order_prices ORDER BY order_id",
    "SELECT epoch, clock, watermark FROM milepost.epochs ORDER BY epoch",
];

fn answers(setting: &Setting) -> Vec<String> {
    QUERIES.iter().map(|sql| setting.query(sql)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_the_readme_tells_prices_as_they_were_known_and_how_long_orders_waited() {
    let work = folder();
    let (nats, setting, asked) = readme_pipeline(&work, str::to_owned).await;
    let publish = async |subject: &str, body: String| {
        nats.publish(subject, [body]).await;
        setting.run(&[]).text();
    };
    publish("prices", price("A", 10)).await;
    publish("orders", order("O1", "A", "09:00:00")).await;
    publish("orders", order("O2", "B", "09:30:00")).await;
    publish("prices", price("A", 12)).await;
    publish("prices", price("A", 12)).await;
    publish("orders", order("O3", "A", "10:00:00")).await;
    publish("prices", price("B", 5)).await;
    publish("orders", order("O4", "B", "11:00:00")).await;
    let prices = "SELECT * FROM order_prices ORDER BY order_id";
    assert_eq!(setting.query(prices), "order_id,unit_price\nO1,10\nO2,\nO3,12\nO4,5\n");
    assert_eq!(
        setting.query(
            "SELECT sku, unit_price, valid_from, valid_to, _sequence FROM prices_history ORDER BY sku, unit_price"
        ),
        "sku,unit_price,valid_from,valid_to,_sequence\nA,10,,2026-03-01T09:30:00Z,1\nA,12,2026-03-01T09:30:00Z,,2\n\
         B,5,2026-03-01T10:00:00Z,,4\n"
    );
    let asked = asked.split_once('\n').expect("a comment, a SELECT").1;
    let waited = setting.query(asked);
    assert!(waited.contains("O2,2026-03-01T09:30:00Z,2026-03-01T10:00:00Z,"), "{waited}");
    assert_eq!(waited.lines().count(), 2, "{waited}");
    let before = answers(&setting);
    setting.run(&[]).text();
    assert_eq!(answers(&setting), before, "after a restart");
    let status = setting.ask("status", &[]).text();
    let told = |line: &str, words: [&str; 2]| line.split_whitespace().eq(words);
    assert!(status.lines().any(|line| told(line, ["prices_history", "3"])), "{status}");
    let check = setting.ask("check", &[]).text();
    assert!(check.contains("every version of prices") && check.contains("opened_at"), "{check}");
    let explained = setting.ask("explain", &["order_prices"]).text();
    assert!(
        explained.contains("rows of prices_history") && explained.contains("history prices_history"),
        "{explained}"
    );
    assert!(!explained.contains("every version of"), "another table's operator: {explained}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_again_and_again_leaves_the_histories_of_its_logged_epochs() {
    let work = folder();
    let (nats, setting, _) = readme_pipeline(&work, |text| {
        let changed = text.replace("clock: event_time", "clock: broker");
        assert_ne!(changed, text);
        changed
    })
    .await;
    nats.publish("orders", [order("O1", "A", "09:00:00"), order("O2", "B", "09:00:00")]).await;
    for round in 1..=5_u64 {
        let versions = || {
            let answer = setting.query("SELECT max(unit_price) AS newest FROM prices_history WHERE valid_to IS NULL");
            answer.lines().nth(1).and_then(|price| price.parse::<u64>().ok()).unwrap_or(0)
        };
        let mut process = setting.start();
        if round > 1 {
            wait_until("what was logged is there again", || {
                process.check_alive();
                setting.status().is_some_and(|status| status["running"] == true) && versions() >= round - 1
            });
        }
        nats.publish("prices", [price("A", round)]).await;
        wait_until("the new price is known", || {
            process.check_alive();
            setting.status().is_some_and(|status| status["running"] == true) && versions() == round
        });
        process.kill();
    }
    nats.publish("prices", [price("B", 1)]).await;
    setting.run(&[]).text();
    let before = answers(&setting);
    follows_from_the_log(&setting);
    setting.run(&[]).text();
    assert_eq!(answers(&setting), before, "after a restart");
    let process = setting.start();
    wait_until("what was logged is there again", || {
        setting.status().is_some_and(|status| status["running"] == true) && setting.query(QUERIES[3]) == before[3]
    });
    assert_eq!(answers(&setting), before, "of a running process");
    let said = process.terminate();
    assert_eq!(said.status, Some(0), "{}", said.err);
    assert_eq!(answers(&setting), before, "of a stopped process");
}

/// Whether versions of one price follow each other, from logged clock to logged clock.
fn follows_from_the_log(setting: &Setting) {
    let versions = setting
        .query("SELECT unit_price, valid_from, valid_to FROM prices_history WHERE sku = 'A' ORDER BY unit_price");
    let rows: Vec<Vec<&str>> = versions.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 5, "{versions}");
    for pair in rows.windows(2) {
        assert_eq!(pair[0][2], pair[1][1], "{versions}");
    }
    assert_eq!((rows[rows.len() - 1][0], rows[rows.len() - 1][2]), ("5", ""), "{versions}");
    for (table, since, until) in
        [("prices_history", "valid_from", "valid_to"), ("unpriced_history", "opened_at", "closed_at")]
    {
        let unknown = format!(
            "SELECT count(*) FROM (SELECT {since} AS at FROM {table} UNION ALL SELECT {until} FROM {table}) \
             WHERE at IS NOT NULL AND at NOT IN (SELECT clock FROM milepost.epochs WHERE clock IS NOT NULL)"
        );
        let empty = format!("SELECT count(*) FROM {table} WHERE {since} >= {until}");
        assert_eq!(setting.query(&empty).lines().nth(1), Some("0"), "`{table}`");
        assert_eq!(setting.query(&unknown).lines().nth(1), Some("0"), "`{table}`");
    }
    let open = setting.query("SELECT count(*) FROM unpriced_history WHERE closed_at IS NULL");
    assert_eq!(open.lines().nth(1), Some("0"));
}
