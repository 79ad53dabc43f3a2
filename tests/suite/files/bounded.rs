//! A large file is streamed: what a process takes of memory does not grow with it.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic;
use parquet::file::properties::WriterProperties;

use super::{Trial, shown};
use crate::program::wait_until;

/// Rows of a file, each of some 500 bytes: unpacked they are far more than [`MEMORY_MAX`].
const ROWS: i64 = 1_000_000;
const AT_ONCE: i64 = 10_000;
/// Of the whole process, in KiB.
const MEMORY_MAX: u64 = 300 << 10;

fn text(row: i64) -> String {
    format!("row {row} ").repeat(40)
}

fn write_gzip(trial: &Trial) {
    let file = std::fs::File::create(trial.path("in/large.ndjson.gz")).expect("writable");
    let mut packed = GzEncoder::new(file, Compression::fast());
    for row in 0..ROWS {
        writeln!(packed, "{{\"id\":{},\"text\":\"{}\"}}", row % 10, text(row)).expect("writable");
    }
    packed.finish().expect("writable");
}

/// All rows are in one row group.
fn write_parquet(trial: &Trial) {
    let batch = |first: i64| {
        let rows = first..first + AT_ONCE;
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row % 10)));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.map(text)));
        RecordBatch::try_from_iter([("id", ids), ("text", texts)]).expect("a batch")
    };
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(usize::MAX))
        .set_compression(basic::Compression::SNAPPY)
        .set_dictionary_enabled(false)
        .build();
    let file = std::fs::File::create(trial.path("in/large.parquet")).expect("writable");
    let mut writer = ArrowWriter::try_new(file, batch(0).schema(), Some(properties)).expect("a writer");
    for first in (0..ROWS).step_by(usize::try_from(AT_ONCE).expect("small")) {
        writer.write(&batch(first)).expect("writable");
    }
    let written = writer.close().expect("writable");
    assert_eq!(written.num_row_groups(), 1);
}

/// The most memory that a process ever had, in KiB.
fn memory_peak(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[cfg(target_os = "linux")]
#[test]
fn a_large_file_takes_no_more_memory_than_a_small_one() {
    let mut trial = Trial::new("files: in/, upsert: [id], watch: true");
    std::fs::create_dir(trial.path("in")).expect("a folder");
    write_gzip(&trial);
    write_parquet(&trial);
    for name in ["large.ndjson.gz", "large.parquet"] {
        trial.renew_home();
        trial.read_from(&shown(&trial.path("in").join(name)));
        let mut process = trial.start(&[]);
        wait_until("all is read", || {
            process.check_alive();
            trial.status().is_some_and(|status| status["sources"][0]["read"] == ROWS)
        });
        let peak = memory_peak(process.id());
        assert!(peak < MEMORY_MAX, "{name}: {peak} KiB");
        process.terminate().text();
    }
}
