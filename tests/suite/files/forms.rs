//! The same events give the same rows, whatever wrote them; what a contract can't take is refused, row by row or file by file.

use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::{Trial, gzip, shown, zstd_packed};
use crate::shipped_data::in_repository;
use crate::support::s3::python;

const COLUMNS: [&str; 11] = ["id", "text", "kind", "amount", "ratio", "flag", "day", "clock", "at", "size", "tags"];

/// Events with every kind of column, many of them absent here and there.
fn events() -> Vec<Map<String, Value>> {
    (1..=2_500_u32).map(event).collect()
}

fn event(id: u32) -> Map<String, Value> {
    let text = match id % 7 {
        0 => String::new(),
        1 => "with, a comma".to_owned(),
        2 => "a \"quote\" and\r\nlines\n".to_owned(),
        3 => "Größe €".to_owned(),
        _ => format!("text {id}"),
    };
    let mut event = Map::from_iter([("id".to_owned(), json!(id)), ("text".to_owned(), json!(text))]);
    let mut set = |name: &str, every: u32, value: Value| {
        if !id.is_multiple_of(every) {
            event.insert(name.to_owned(), value);
        }
    };
    set("kind", 3, json!(if id.is_multiple_of(2) { "a" } else { "b" }));
    set("amount", 4, json!(format!("{}.{:02}", i64::from(id) * 1_000_003 - 1_000_000_000, id % 100)));
    set("ratio", 5, json!(f64::from(id) / 7.0));
    set("flag", 6, json!(id % 4 == 1));
    set("day", 7, json!(format!("2026-{:02}-{:02}", id % 12 + 1, id % 28 + 1)));
    set("clock", 8, json!(format!("{:02}:{:02}:{:02}.{:06}", id % 24, id % 60, id % 59, id)));
    set("at", 9, json!(format!("19{:02}-03-29T{:02}:30:00.{:06}+01:00", id % 100, id % 24, id)));
    set("size", 10, json!({ "unit": "EA", "value": id }));
    set("tags", 11, json!((0..id % 4).map(|tag| format!("tag {tag}")).collect::<Vec<_>>()));
    event
}

fn csv(events: &[Map<String, Value>]) -> String {
    let cell = |value: Option<&Value>| match value {
        None => String::new(),
        Some(Value::String(text)) => format!("\"{}\"", text.replace('"', "\"\"")),
        Some(value) => format!("\"{}\"", value.to_string().replace('"', "\"\"")),
    };
    let mut columns = COLUMNS;
    columns.reverse();
    let record = |event: &Map<String, Value>| columns.map(|column| cell(event.get(column))).join(",");
    [columns.join(",")].into_iter().chain(events.iter().map(record)).map(|line| line + "\r\n").collect()
}

/// Runs the script that writes files as others do.
fn write_with_others(arguments: &[&str]) {
    let script = in_repository("tests/python/write_inputs.py");
    let output = Command::new(python()).arg(script).args(arguments).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Writes the same events in every form; the names of the files.
fn write_all(trial: &Trial) -> Vec<String> {
    let events = events();
    let ndjson = events.iter().map(|event| Value::Object(event.clone()).to_string() + "\n").collect::<String>();
    let (ndjson, csv) = (ndjson.as_bytes(), csv(&events).into_bytes());
    let (first, second) = ndjson.split_at(ndjson.len() / 3);
    let files: [(&str, Vec<u8>); 7] = [
        ("forms/events.ndjson", ndjson.to_vec()),
        ("forms/events.ndjson.gz", gzip(ndjson)),
        ("forms/members.jsonl.gz", [gzip(first), gzip(second)].concat()),
        ("forms/frames.json.zst", [zstd_packed(first), zstd_packed(second)].concat()),
        ("forms/events.csv", csv.clone()),
        ("forms/events.csv.gz", gzip(&csv)),
        ("forms/events.csv.zst", zstd_packed(&csv)),
    ];
    for (name, content) in &files {
        trial.write(name, content);
    }
    write_with_others(&["same", &shown(&trial.path("forms/events.ndjson")), &shown(&trial.path("forms"))]);
    let mut names: Vec<String> = std::fs::read_dir(trial.path("forms"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("text"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 12, "{names:?}");
    names
}

#[test]
fn the_same_events_give_the_same_rows_however_they_are_written() {
    let mut trial = Trial::new("files: forms/events.ndjson");
    let names = write_all(&trial);
    let rows = |trial: &Trial| {
        trial.run().text();
        trial.ask("query", &["SELECT * EXCEPT (file) FROM rows ORDER BY position", "--format", "json"]).text()
    };
    let expected = rows(&trial);
    assert_eq!(expected.lines().count(), 2_500);
    for name in &names {
        trial.renew_home();
        trial.read_from(&shown(&trial.path("forms").join(name)));
        let found = rows(&trial);
        let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
        assert_eq!(differs, None, "{name}");
        assert_eq!(found.lines().count(), 2_500, "{name}");
    }

    trial.renew_home();
    trial.read_from(&format!("file://{}", shown(&trial.path("forms/*"))));
    trial.run().text();
    let of_files = "SELECT split_part(file, '/', -1), min(position), max(position) - min(position) + 1, count(*), max(nth) \
                    FROM rows GROUP BY file ORDER BY min(position)";
    let one_after_another =
        names.iter().zip(0..).map(|(name, at)| format!("{name},{},2500,2500,0", at * 2_500 + 1)).collect::<Vec<_>>();
    assert_eq!(trial.query(of_files), one_after_another);
    let distinct = trial
        .query("SELECT count(DISTINCT concat_ws('|', id, text, kind, amount, ratio, flag, day, clock, at)) FROM rows");
    assert_eq!(distinct, ["2500"]);
}

/// What comes of a file that its contract may not take.
enum Outcome {
    /// Its rows are read but these: sequence, rule and place of their dead letters.
    Rows(u64, &'static [&'static str]),
    /// It is refused.
    Refused(&'static str),
}

#[test]
fn what_a_contract_cannot_take_is_a_dead_letter_of_its_row_or_an_error_of_its_file() {
    use Outcome::{Refused, Rows};
    let mut trial = Trial::new("files: none.parquet");
    write_with_others(&["traps", &shown(trial.work.path())]);
    for (name, outcome) in [
        ("decimal_scale", Rows(2, &["2,DECIMAL_SCALE,/amount"])),
        ("decimal_wide", Rows(2, &["2,DECIMAL_PRECISION,/amount"])),
        ("decimal_integer", Rows(2, &["3,DECIMAL_PRECISION,/amount"])),
        ("decimal_float", Refused("`amount`: a column of type `Float64` can't be read as a decimal")),
        ("nanoseconds", Rows(2, &["2,TOO_PRECISE,/at"])),
        ("local_time", Refused("`at` is a local time: its type names no time zone; write instants in UTC")),
        ("int96", Refused("`at` is a local time: its type names no time zone; write instants in UTC")),
        ("date_for_instant", Refused("`at`: a column of type `Date32` can't be read as a date-time")),
        ("instant_for_date", Refused("can't be read as a date")),
        ("not_a_number", Rows(1, &["2,OUT_OF_RANGE,/ratio", "3,OUT_OF_RANGE,/ratio"])),
        ("enum", Rows(2, &["2,NOT_IN_ENUM,/kind"])),
        ("text_for_object", Refused("`size`: a column of type `Utf8` can't be read as an object")),
        ("integer_for_boolean", Refused("`flag`: a column of type `Int8` can't be read as a boolean")),
        ("nulls", Rows(3, &[])),
        ("null_in_required", Rows(2, &["2,NULL_NOT_ALLOWED,/text"])),
        ("unsigned", Rows(2, &["2,OUT_OF_RANGE,/id"])),
        ("float_for_integer", Rows(2, &["2,NOT_AN_INTEGER,/id"])),
        ("no_id", Refused("there is no `id`, which is required")),
        ("upper_case", Refused("there is no `id`, which is required")),
        ("brotli", Refused("its column `id` is packed with BROTLI, which is not read")),
        ("nothing", Rows(0, &[])),
    ] {
        let file = shown(&trial.path(&format!("{name}.parquet")));
        trial.renew_home();
        trial.read_from(&file);
        match outcome {
            Rows(accepted, letters) => {
                let said = trial.run();
                assert_eq!(said.status, Some(0), "{name}: {}", said.err);
                let status = trial.status().expect("it was run");
                let counts = &status["sources"][0];
                let found = trial.query("SELECT sequence, rule, place FROM milepost.dead_letters ORDER BY sequence");
                assert_eq!(found, letters, "{name}");
                assert_eq!(counts["accepted"], accepted, "{name}: {counts}");
                assert_eq!(counts["read"], accepted + letters.len() as u64, "{name}: {counts}");
            }
            Refused(why) => {
                let said = trial.run();
                assert!(matches!(said.status, Some(2 | 3)), "{name}: {}", said.err);
                assert!(said.err.contains(why) && said.err.contains(&file), "{name}: {}", said.err);
                assert_eq!(trial.ids().unwrap_or_default(), "", "{name}: no row is read");
            }
        }
    }
    trial.renew_home();
    trial.read_from(&shown(&trial.path("enum.parquet")));
    trial.run().text();
    let texts = trial.query("SELECT text FROM milepost.dead_letters");
    assert!(texts[0].contains("two") && texts[0].contains("kind"), "{texts:?}");
}

#[test]
fn a_damaged_file_is_named_and_nothing_of_it_is_read() {
    let content = super::lines(&(1..=5_000).collect::<Vec<_>>());
    let packed = gzip(&content);
    for (name, whole, damaged) in [
        ("b.ndjson.gz", packed.clone(), packed[..packed.len() - 9].to_vec()),
        ("b.ndjson.zst", zstd_packed(&content), content.clone()),
    ] {
        let trial = Trial::new("files: \"in/*\"");
        trial.write("in/a.ndjson", &super::lines(&[9_000]));
        trial.write(&format!("in/{name}"), &damaged);
        let said = trial.run().refusal(3);
        assert!(said.contains(&format!("source file `in/{name}` is damaged")), "{said}");
        trial.write(&format!("in/{name}"), &whole);
        trial.run().text();
        assert_eq!(trial.query("SELECT count(*), count(DISTINCT id), max(position) FROM rows"), ["5001,5001,5001"]);
    }
}

#[test]
fn check_says_which_files_are_missing() {
    let mut trial = Trial::new("files: in/a.ndjson");
    let check = |trial: &Trial| trial.ask("check", &trial.flags.iter().map(String::as_str).collect::<Vec<_>>());
    let said = check(&trial).refusal(2);
    assert!(said.contains("error: there is no file") && said.contains("p.yaml:4:"), "{said}");
    assert!(said.contains("^^^^"), "{said}");
    trial.write("in/a.ndjson", b"");
    check(&trial).text();

    trial.read_from("no/such.csv.gz");
    let said = check(&trial).refusal(2);
    assert!(said.contains("there is no file no/such.csv.gz, from where the command line reads `lines`"), "{said}");
    trial.read_from("no/such/*.csv");
    let said = check(&trial);
    assert!(said.err.contains("warning: there are no files no/such/*.csv"), "{}", said.err);
    said.text();
    for there in [shown(&trial.path("in/*")), shown(&trial.path("in")) + "/", "s3://bucket/in/*.csv".to_owned()] {
        trial.read_from(&there);
        let said = check(&trial);
        assert_eq!(said.err, "", "{there}");
        said.text();
    }
    let trial = Trial::new("files: \"in/*.csv\", watch: true");
    let said = check(&trial);
    assert_eq!(said.err, "", "files may come later");
    said.text();
    assert!(Path::new(&trial.path("in")).parent().is_some());
}
