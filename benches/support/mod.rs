//! What the benches share.

#![allow(dead_code, unreachable_pub, reason = "each bench is a crate of its own and uses a part")]

pub mod engine;
pub mod workload;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use milepost::circuit::{Circuit, compile};
use milepost::definition::pipeline::{BatchLimits, Clock, Job, NatsSettings, Pipeline};
use milepost::diagnostic::{Diagnostics, SourceText};
use milepost::plan::{TableSchemas, compile_jobs};

/// A generator of numbers that is the same everywhere (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Compiles jobs, given as name and SELECT, over these tables.
pub async fn circuit(sources: &TableSchemas, jobs: &[(&str, &str)]) -> Circuit {
    let pipeline = pipeline(jobs);
    let planned = compile_jobs(&pipeline, sources).await.unwrap_or_else(|problems| refused(&problems));
    let sql = |job: usize| Arc::clone(&pipeline.jobs[job].sql);
    compile(sources, &planned, &[], &sql).unwrap_or_else(|problems| refused(&problems))
}

fn pipeline(jobs: &[(&str, &str)]) -> Pipeline {
    let job = |(name, sql): &(&str, &str)| Job {
        name: Arc::from(*name),
        span: 0..0,
        owner: None,
        description: None,
        slo: None,
        sql: SourceText::new(format!("{name}.sql"), *sql),
        key: Vec::new(),
        history: None,
    };
    Pipeline {
        nats: NatsSettings::default(),
        state: None,
        name: "bench".to_owned(),
        owner: None,
        description: None,
        slo: None,
        clock: Clock::EventTime,
        sources: Vec::new(),
        jobs: jobs.iter().map(job).collect(),
        sinks: Vec::new(),
        batch: BatchLimits { max_rows: 10_000, max_wait: Duration::from_millis(100) },
        text: SourceText::new(PathBuf::from("bench.yaml"), ""),
    }
}

/// Definitions of a bench are part of it: a problem in one is its end.
pub fn refused(problems: &Diagnostics) -> ! {
    let messages: Vec<String> =
        problems.0.iter().map(|problem| format!("{}: {}", problem.file.path.display(), problem.message)).collect();
    panic!("a bench's definition is refused: {}", messages.join("; "))
}

/// CPU time of this process so far, all threads, user and system, to 10 ms.
pub fn cpu_time() -> Duration {
    process_cpu_time("self")
}

/// The same of another process.
pub fn process_cpu_time(process: &str) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux shows a process's times");
    // The name stands in parentheses and may hold anything; behind it utime and stime are the 12th and 13th field.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("clock ticks")).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND)
}

/// `USER_HZ` of every Linux.
const TICKS_A_SECOND: u64 = 100;

/// The middle one of some durations.
pub fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The value of `NAME=` in the environment, or what is usual.
pub fn setting(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(usual)
}

/// Memory of this process that lies in RAM.
pub fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux shows a process's memory");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says what is resident");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("kibibytes");
    kibibytes * 1_024
}

/// The rows of batches as sorted lines of text.
pub fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("null");
    let mut lines = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).expect("every type can be shown"))
            .collect();
        for row in 0..batch.num_rows() {
            lines.push(columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | "));
        }
    }
    lines.sort();
    lines
}
