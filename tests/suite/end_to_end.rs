//! Events on a broker in; tables and messages out; read by others, and compared with values worked out by other code.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::program::{Setting, folder, same_tables, write_lines};
use crate::shipped_data::{events, in_repository};
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
    let nats = Nats::start().await;
    nats.stream("MILESTONES", &["milestones.>"]).await;
    let events = events();
    nats.publish("milestones.partner", events.clone()).await;

    let from_broker = Setting::on_broker(&nats.url());
    from_broker.run(&[]).text();
    let work = folder();
    let [expected, found] = ["expected.json", "counted.json"].map(|name| work.path().join(name));
    std::fs::write(&expected, script("scripts/independent/order_to_invoice.py", &[])).expect("writable");
    std::fs::write(&found, counted(&from_broker).to_string()).expect("writable");
    let home = from_broker.home.path();
    script("tests/python/check_order_to_invoice.py", &[Path::new(&nats.url()), home, &expected, &found]);

    let file = work.path().join("arrival.ndjson");
    write_lines(&file, &events);
    let from_file = Setting::on_file(&file);
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
    assert_eq!(delays(&from_broker).lines().nth(1), Some("38923,true,true"));
    let [file_report, broker_report] = [&from_file, &from_broker].map(|setting| setting.status().expect("it was run"));
    for part in ["watermark_us", "clock_us", "jobs"] {
        assert_eq!(file_report[part], broker_report[part], "`{part}` of the status");
    }
}
