//! The commands as a user meets them: what is printed where, and with which exit status.

use std::path::Path;

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use crate::program::{Setting, folder, milepost, wait_until, write_lines};
use crate::shipped_data::{events, in_repository, pipeline_path};

const COMMANDS: [&str; 11] =
    ["demo", "check", "run", "query", "status", "path", "explain", "doctor", "verify", "dlq", "schema"];

/// The shipped pipeline on its first events, run.
fn finished(work: &Path) -> Setting {
    let setting = prepared(work);
    setting.run(&[]).text();
    setting
}

fn prepared(work: &Path) -> Setting {
    let path = work.join("events.ndjson");
    write_lines(&path, &events()[..1_500]);
    Setting::on_file(&path)
}

#[test]
fn every_command_has_an_example_in_its_help() {
    let whole = milepost(&["--help"]).text();
    assert!(whole.contains("Exit status: 0 done"), "{whole}");
    for command in COMMANDS {
        assert!(whole.contains(&format!("\n  {command} ")), "{command} is listed: {whole}");
        let help = milepost(&[command, "--help"]).text();
        assert!(help.contains(&format!("milepost {command}")) && help.contains("Example"), "{command}: {help}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_why() {
    let cases: [(&[&str], &str); 6] = [
        (&["runn"], "unrecognized subcommand 'runn'"),
        (&["run"], "<PIPELINE>"),
        (&["run", "no/such.yaml"], "the pipeline file does not exist"),
        (&["run", "pipelines/order_to_invoice.yaml", "--source", "milestones"], "NAME=PATH"),
        (&["check", "pipelines/order_to_invoice.yaml", "--source", "milestone=a.ndjson"], "did you mean `milestones`?"),
        (
            &["run", "pipelines/order_to_invoice.yaml", "--watermark", "soon", "--until-caught-up"],
            "2024-06-30T12:00:00Z",
        ),
    ];
    for (arguments, expected) in cases {
        let said = milepost(arguments).refusal(2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn a_broken_pipeline_file_is_named_with_line_and_column() {
    let work = folder();
    let path = work.path().join("broken.yaml");
    std::fs::write(&path, "pipeline: broken\nsources:\n  a:\n    contrct: a.json\njobs: {}\n").expect("writable");
    let file = path.to_string_lossy().into_owned();
    let home = work.path().join("home").to_string_lossy().into_owned();
    for command in [vec!["check", &file], vec!["run", &file], vec!["query", &file, "SELECT 1"], vec!["status", &file]] {
        let said = milepost(&[&command[..], &["--home", &home]].concat()).refusal(2);
        assert!(said.contains(&format!("{file}:4:5")), "{command:?}: {said}");
        assert!(said.contains("contrct"), "{command:?}: {said}");
    }
    assert!(!Path::new(&home).exists(), "nothing is written for a pipeline that can't be run");
}

#[test]
fn sql_that_can_not_be_run_is_named_with_line_and_column() {
    let work = folder();
    let contract = in_repository("pipelines/contracts/site.v1.json");
    let data = in_repository("data/order_to_invoice/sites.ndjson");
    std::fs::write(work.path().join("job.sql"), "SELECT site,\n  sit\nFROM sites\n").expect("writable");
    let pipeline = format!(
        "pipeline: p\nclock: event_time\nsources:\n  sites: {{ contract: {}, files: {}, upsert: [site] }}\njobs:\n  job: {{ sql: job.sql }}\n",
        contract.display(),
        data.display()
    );
    let path = work.path().join("p.yaml");
    std::fs::write(&path, pipeline).expect("writable");
    let said = milepost(&["check", &path.to_string_lossy()]).refusal(2);
    assert!(said.contains("job.sql:2:3"), "{said}");
}

#[test]
fn a_broker_that_is_not_there_ends_with_3() {
    let work = folder();
    let home = work.path().to_string_lossy().into_owned();
    let pipeline = pipeline_path().to_string_lossy().into_owned();
    let nobody = ["--until-caught-up", "--nats", "nats://user:secret@127.0.0.1:1"];
    let said = milepost(&[&["run", &pipeline, "--home", &home], &nobody[..]].concat()).refusal(3);
    assert!(said.contains("connecting to `nats://"), "{said}");
    assert!(!said.contains("secret"), "credentials are not shown: {said}");
}

#[test]
fn before_the_first_run_there_is_nothing_to_ask() {
    let work = folder();
    let setting = prepared(work.path());
    let cases: [(&str, &[&str], i32, &str); 4] = [
        ("path", &["kpi_dispatch_sla"], 1, "has left nothing under `--home"),
        ("path", &["kpi_dispatch"], 2, "did you mean `kpi_dispatch_sla`?"),
        ("status", &[], 1, "has left nothing under `--home"),
        ("query", &["SELECT 1"], 1, "has left nothing under `--home"),
    ];
    for (command, further, status, expected) in cases {
        let said = setting.ask(command, further).refusal(status);
        assert!(said.contains(expected), "{command} {further:?}: {said}");
    }
}

#[test]
fn a_query_that_is_wrong_or_no_query_ends_with_2() {
    let work = folder();
    let setting = finished(work.path());
    let cases = [
        (
            "SELECT nothing FROM events",
            "error: there is no column `nothing` here\n --> query:1:8\n  |\n1 | SELECT nothing FROM events\n  |        ^^^^^^^\n",
        ),
        ("SELECT * FROM shipment_stat", "error: there is no table `shipment_stat`\n --> query:1:15\n"),
        ("SELECT * FROM shipment_stat", "= help: did you mean `shipment_state`? valid are `customers`, "),
        ("SELECT * FROM milepost.dead_leters", "did you mean `milepost.dead_letters`?"),
        ("SELECT * FROM milestones", "error: `milestones` can't be queried: the rows of a source without `upsert`"),
        ("SELECT * FROM reporting.events", "there is no table `reporting.events`"),
        ("SELECT 1 AS one,\n  10 / (failed_deliveries - failed_deliveries) AS x FROM shipment_state", "divide by zero"),
        ("SELEC 1", "SELEC"),
        ("DROP TABLE events", "error: `DROP` is not a query"),
        ("SELECT 1; SELECT 2", "a second statement starts here"),
        ("CREATE TABLE a AS SELECT 1", "`CREATE` is not a query"),
        ("  -- nothing", "there is no SELECT"),
        ("SELECT * FROM events WHERE sum(quantity) > 1", "an aggregate can't stand in WHERE"),
    ];
    for (sql, expected) in cases {
        let said = setting.ask("query", &[sql]).refusal(2);
        assert!(said.starts_with("error: ") && said.contains(expected), "{sql}: {said}");
        assert!(said.contains("= help: ") && !said.contains("panicked"), "{sql}: {said}");
        assert!(!said.to_lowercase().contains("datafusion"), "{sql}: {said}");
    }
}

#[test]
fn a_null_key_and_a_double_one_are_told_by_status_and_query() {
    let work = folder();
    let write = |name: &str, text: &str| std::fs::write(work.path().join(name), text).expect("writable");
    write(
        "row.json",
        r#"{"type": "object", "required": ["id"], "properties": {"id": {"type": "string"}, "site": {"type": "string"}}}"#,
    );
    write(
        "rows.ndjson",
        "{\"id\":\"1\",\"site\":\"A\"}\n{\"id\":\"2\"}\n{\"id\":\"3\",\"site\":\"B\"}\n{\"id\":\"4\",\"site\":\"B\"}\n",
    );
    write("sites.sql", "SELECT site, id FROM items");
    write(
        "p.yaml",
        "pipeline: p\nclock: event_time\nsources:\n  items: { contract: row.json, files: rows.ndjson, upsert: [id] }\n\
         jobs:\n  sites: { sql: sites.sql, key: [site] }\n",
    );
    let setting = Setting { home: folder(), pipeline: work.path().join("p.yaml"), flags: Vec::new() };
    let said = setting.run(&[]);
    assert!(said.err.contains("have a null in the key") && said.err.contains("several rows"), "{}", said.err);
    said.text();
    let errors = setting.query("SELECT job, expression, reason, row, count FROM milepost.errors");
    assert_eq!(errors, "job,expression,reason,row,count\nsites,site,null in the job's key,\"site=null, id=2\",1\n");
    assert_eq!(setting.query("SELECT id FROM sites ORDER BY id"), "id\n1\n3\n4\n");
    let job = &setting.status().expect("a report")["jobs"][0];
    assert_eq!((&job["rows"], &job["errors"], &job["ambiguous_keys"]), (&json!(3), &json!(1), &json!(1)));
    write("rows.ndjson", "{\"id\":\"1\",\"site\":\"A\"}\n{\"id\":\"2\",\"site\":\"C\"}\n");
    setting.run(&[]).text();
    assert_eq!(setting.query("SELECT count(*) AS n FROM milepost.errors"), "n\n0\n");
    assert_eq!(setting.query("SELECT site FROM sites ORDER BY site"), "site\nA\nC\n");
}

#[test]
fn the_formats_of_a_query_hold_the_same_rows() {
    let work = folder();
    let setting = finished(work.path());
    let sql = "SELECT trigger_key, shipped_quantity, gate_out_at, failed_deliveries FROM shipment_state \
        WHERE gate_out_at IS NOT NULL ORDER BY trigger_key LIMIT 3";
    let ask = |format: &str| setting.ask("query", &[sql, "--format", format]);
    let csv = ask("csv").text();
    let header = "trigger_key,shipped_quantity,gate_out_at,failed_deliveries";
    assert_eq!((csv.lines().count(), csv.lines().next()), (4, Some(header)));
    let keys: Vec<&str> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();

    let json: Vec<Value> = ask("json").text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(json.iter().filter_map(|row| row["trigger_key"].as_str()).collect::<Vec<_>>(), keys);
    assert!(
        json.iter().all(|row| row["shipped_quantity"].is_string() && row["failed_deliveries"].is_number()),
        "{json:?}"
    );
    assert!(json.iter().all(|row| row["gate_out_at"].as_str().is_some_and(|at| at.ends_with('Z'))), "{json:?}");

    let table = ask("table").text();
    assert!(table.starts_with("+-") && keys.iter().all(|key| table.contains(key)), "{table}");

    let said = ask("parquet");
    assert_eq!(said.status, Some(0), "{}", said.err);
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(said.out)).and_then(|builder| builder.build());
    let rows: Vec<RecordBatch> = reader.expect("Parquet").collect::<Result<_, _>>().expect("rows");
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
    assert_eq!(rows[0].schema().fields().len(), 4);
}

#[test]
fn explain_shows_a_jobs_operators_and_what_they_hold_once_the_pipeline_ran() {
    let work = folder();
    let setting = prepared(work.path());
    let before = setting.ask("explain", &["shipment_state"]).text();
    assert!(before.contains("state grows with: ") && before.contains("group by"), "{before}");
    assert!(before.contains("once the pipeline has run"), "{before}");
    setting.run(&[]).text();
    let after = setting.ask("explain", &["shipment_state"]).text();
    assert!(!after.contains("once the pipeline has run"), "{after}");
    let json: Value = serde_json::from_str(&setting.ask("explain", &["shipment_state", "--format", "json"]).text())
        .expect("JSON is printed");
    let operators = json["operators"].as_array().expect("operators");
    assert!(operators.iter().any(|node| node["rows"].as_i64() > Some(0) && node["bytes"].as_i64() > Some(0)), "{json}");
    let of_another = |node: &Value| node["operator"].as_str().is_some_and(|text| text.starts_with("job "));
    assert!(
        operators.iter().all(|node| node["rows"].is_i64() || of_another(node)),
        "all are those of the process: {json}"
    );
    let said = setting.ask("explain", &["shipment_stat"]).refusal(2);
    assert!(said.contains("did you mean `shipment_state`?"), "{said}");
}

#[test]
fn a_running_process_and_what_it_left_answer_alike() {
    let work = folder();
    let setting = prepared(work.path());
    let process = setting.start();
    let read = || setting.status().is_some_and(|report| report["sources"][0]["next"] == 1_501);
    wait_until("the events are read", read);
    let questions = [
        "SELECT state, count(*) FROM shipment_state GROUP BY state ORDER BY state",
        "SELECT * FROM customers ORDER BY customer_id",
        "SELECT rule, place, reason, text FROM milepost.dead_letters ORDER BY sequence",
        "SELECT * FROM milepost.epochs ORDER BY epoch",
        "SELECT * FROM milepost.intake ORDER BY epoch, source",
        "SELECT * FROM milepost.progress",
        "SELECT * FROM milepost.errors",
        "SELECT * FROM milepost.operators ORDER BY id",
        "SELECT * FROM milepost.late",
        "SELECT count(*) FROM order_line_dispatch WHERE deadline < watermark()",
    ];
    let asked = || questions.map(|sql| setting.query(sql));
    let report = || setting.status().expect("a report");
    let (rows, mut status) = (asked(), report());
    assert!(rows.iter().take(6).all(|rows| rows.lines().count() > 1), "{rows:?}");
    let refusals = || {
        ["SELECT nothing FROM events", "SELECT * FROM milestones", "SELECT 1 FROM event"]
            .map(|sql| setting.ask("query", &[sql]).refusal(2))
    };
    let wrong = refusals();
    assert!(wrong.iter().all(|said| said.contains(" --> query:1:")), "{wrong:?}");
    let said = process.terminate();
    assert_eq!(said.status, Some(0), "{}", said.err);
    assert_eq!((asked(), refusals()), (rows, wrong));
    assert_eq!(status["running"], true);
    status["running"] = Value::Bool(false);
    assert_eq!(report(), status);
    let text = setting.ask("status", &[]).text();
    assert!(text.contains("not running") && text.contains("milestones") && !text.contains(" NO"), "{text}");
}

#[test]
fn the_printed_schema_accepts_the_shipped_pipeline_and_refuses_a_misspelt_one() {
    let schema: Value = serde_json::from_str(&milepost(&["schema"]).text()).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let text = std::fs::read_to_string(pipeline_path()).expect("readable");
    let mut pipeline: Value = serde_saphyr::from_str(&text).expect("YAML");
    let problems: Vec<String> = validator.iter_errors(&pipeline).map(|problem| problem.to_string()).collect();
    assert_eq!(problems, Vec::<String>::new());
    pipeline["job"] = pipeline["jobs"].take();
    assert!(!validator.is_valid(&pipeline));
}

#[test]
fn the_schema_of_a_jobs_messages_is_printed_and_an_unknown_job_is_refused() {
    let pipeline = pipeline_path().to_string_lossy().into_owned();
    let schema: Value =
        serde_json::from_str(&milepost(&["schema", &pipeline, "invoice_triggers"]).text()).expect("JSON");
    assert_eq!(schema["$defs"]["row"]["properties"]["trigger_key"]["type"], "string", "{schema}");
    let said = milepost(&["schema", &pipeline, "invoice_trigger"]).refusal(2);
    assert!(said.contains("did you mean `invoice_triggers`?"), "{said}");
}

#[test]
fn check_shows_the_graph_and_how_each_job_is_kept() {
    let pipeline = pipeline_path().to_string_lossy().into_owned();
    let said = milepost(&["check", &pipeline, "--operators"]);
    assert_eq!(said.err, "");
    let text = said.text();
    for part in ["stream MILESTONES", "invoice_triggers", "incremental", "kpi/dispatch_sla", "operators"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let class = |line: &&str| line.contains("recompute:");
    let recomputed: Vec<&str> = text.lines().filter(class).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(recomputed, ["kpi_invoice_cycle_time"], "percentiles alone are computed over whole groups");
}

#[test]
fn the_demo_without_a_broker_ends_with_the_counts_that_the_data_have() {
    let work = folder();
    let home = work.path().to_string_lossy().into_owned();
    let said = milepost(&["demo", "--embedded", "--home", &home]).text();
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let shown: Vec<Vec<String>> = said.lines().map(cells).collect();
    for expected in [
        "38949 38923 3 0 23",
        "exception 1308",
        "ready_to_invoice 53",
        "invoiced 6027",
        "TERMS_MISSING 455",
        "BILLING_BLOCK 451",
        "CREDIT_HOLD 385",
        "BER1 3620 4880 74.2",
        "CHI1 1492 2100 71.0",
        "all sites 5112 6980 73.2",
        "9296 9290 1 0 5",
        "TIMING 5",
        "UOM_MISMATCH 3",
        "EIN1 BACK-LIGHT 27 0 21 6 6 0 12",
        "AAC1 HELMET",
    ] {
        let expected = cells(expected);
        assert!(shown.iter().any(|line| line.starts_with(&expected)), "{expected:?} is not in:\n{said}");
    }
    for expected in ["duckdb -c", "27 + 0 - 21 = 6. The other 6 moved in 2 steps since 04:19"] {
        assert!(said.split_whitespace().collect::<Vec<_>>().join(" ").contains(expected), "{said}");
    }
    let again = milepost(&["demo", "--embedded", "--home", &home]);
    assert_eq!(again.status, Some(0), "a second demo takes the place of the first: {}", again.err);
    let other = work.path().join("mine/demo");
    std::fs::create_dir_all(&other).expect("a folder");
    let refused = milepost(&["demo", "--embedded", "--home", &work.path().join("mine").to_string_lossy()]).refusal(2);
    assert!(refused.contains("was not made by the demo"), "{refused}");
}
