//! Events on a broker in; tables and messages out; read by others, and compared with values worked out by other code.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::program::{Setting, folder, same_tables, write_lines};
use crate::shipped_data::{ORDERS, STOCK, Shipped, in_repository};
use crate::support::Nats;

/// The Python that has the readers' packages.
fn python() -> PathBuf {
    let python = python_of_environment().unwrap_or_else(|| in_repository(".tools/python/bin/python"));
    let path = python.display();
    assert!(
        python.exists(),
        "`{path}` is missing: run `scripts/fetch-python`, or set MILEPOST_PYTHON to a Python with its packages"
    );
    python
}

#[expect(clippy::disallowed_methods, reason = "where Python lies is a matter of the machine")]
fn python_of_environment() -> Option<PathBuf> {
    std::env::var_os("MILEPOST_PYTHON").map(PathBuf::from)
}

/// Runs a Python script; its standard output.
fn script(path: &str, arguments: &[&Path]) -> Vec<u8> {
    let output = Command::new(python()).arg(in_repository(path)).args(arguments).output().expect("Python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "`{path}` says:\n{said}");
    output.stdout
}

/// What the run ended with that no table and no message shows.
fn counted(setting: &Setting) -> Value {
    let rules = setting.query("SELECT rule, count(*) FROM milepost.dead_letters GROUP BY rule ORDER BY rule");
    let rules: serde_json::Map<String, Value> = rules
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(','))
        .map(|(rule, count)| (rule.to_owned(), json!(count.parse::<u64>().expect("a count"))))
        .collect();
    json!({ "status": setting.status().expect("the pipeline was run"), "dead_letters": rules })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_read_is_what_other_code_works_out_from_the_events() {
    read_by_others(&ORDERS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_read_of_stock_is_what_other_code_works_out_from_the_events() {
    read_by_others(&STOCK).await;
}

async fn read_by_others(shipped: &Shipped) {
    let nats = Nats::start().await;
    let (stream, subjects) = shipped.stream;
    nats.stream(stream, &[subjects]).await;
    let events = shipped.events();
    nats.publish(&subjects.replace('>', "partner"), events.clone()).await;

    let from_broker = Setting::of(shipped, &["--nats", &nats.url()]);
    from_broker.run(&[]).text();
    let work = folder();
    let [expected, found] = ["expected.json", "counted.json"].map(|name| work.path().join(name));
    let independent = script(&format!("scripts/independent/{}.py", shipped.name), &[]);
    std::fs::write(&expected, independent).expect("writable");
    std::fs::write(&found, counted(&from_broker).to_string()).expect("writable");
    let home = from_broker.home.path();
    let check = format!("tests/python/check_{}.py", shipped.name);
    script(&check, &[Path::new(&nats.url()), home, &expected, &found]);

    let file = work.path().join("arrival.ndjson");
    write_lines(&file, &events);
    let from_file = Setting::of_file(shipped, &file);
    from_file.run(&[]).text();
    same_tables(&from_file.tables(), &from_broker.tables());
    // Only a broker says when it took an event, so the delays differ by design.
    let delays = |setting: &Setting| {
        setting.query(
            "SELECT events_with_delay, occurred_to_received_seconds_sum > 0, \
             occurred_to_received_seconds_mean * events_with_delay - occurred_to_received_seconds_sum BETWEEN -50 AND 50 \
             FROM kpi_integration WHERE source = 'milestones'",
        )
    };
    assert_eq!(delays(&from_file).lines().nth(1), Some("0,,"));
    assert_eq!(delays(&from_broker).lines().nth(1), Some(format!("{},true,true", shipped.accepted).as_str()));
    let [file_report, broker_report] = [&from_file, &from_broker].map(|setting| setting.status().expect("it was run"));
    for part in ["watermark_us", "clock_us", "jobs"] {
        assert_eq!(file_report[part], broker_report[part], "`{part}` of the status");
    }
}

#[test]
fn limits_of_each_side_and_by_quantity_are_those_of_the_reference_data() {
    let work = folder();
    let [arrival, limits] = ["arrival.ndjson", "limits.csv"].map(|name| work.path().join(name));
    write_lines(&arrival, &STOCK.events());
    // 8 of 192 are 4.17 %, of 200 they are 4 %.
    let text = "abc_class,under_pct,over_pct,under_abs,over_abs\nA,,3.05,7.5,\nB,40,1,,4\nC,30,4.1,,\n";
    std::fs::write(&limits, text).expect("writable");
    let mut setting = Setting::of_file(&STOCK, &arrival);
    setting.flags.extend(["--source".to_owned(), format!("abc_tolerances={}", limits.display())]);
    setting.run(&[]).text();
    let expected = script("scripts/independent/inventory_reconciliation.py", &[Path::new("--tolerances"), &limits]);
    let expected: Value = serde_json::from_slice(&expected).expect("JSON");
    let expected = expected["inventory_reconciliation"].as_object().expect("positions");
    let found = setting
        .query("SELECT concat_ws('/', site, sku, lot, stock_type), within_tolerance FROM inventory_reconciliation");
    let found: Vec<(&str, &str)> = found.lines().skip(1).filter_map(|line| line.split_once(',')).collect();
    assert_eq!(found.len(), expected.len());
    for (position, tolerable) in &found {
        assert_eq!(expected[*position]["within_tolerance"].to_string(), *tolerable, "{position}");
    }
    assert!(
        found.iter().any(|(_, tolerable)| *tolerable == "true")
            && found.iter().any(|(_, tolerable)| *tolerable == "false")
    );
}
