//! The program as a user runs it: arguments in; exit status, standard output and standard error out.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::shipped_data::{ORDERS, Shipped, in_repository};

/// What a finished process said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Said {
    /// Standard output of a process that must have succeeded.
    #[track_caller]
    pub(crate) fn text(self) -> String {
        assert_eq!(self.status, Some(0), "{}", self.err);
        String::from_utf8(self.out).expect("text")
    }

    /// Standard error of a process that must have failed so, and must have printed no data.
    #[track_caller]
    pub(crate) fn refusal(self, status: i32) -> String {
        assert_eq!(self.status, Some(status), "{}", self.err);
        assert_eq!(String::from_utf8_lossy(&self.out), "", "data are printed on success only");
        self.err
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_milepost"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    for variable in ["MILEPOST_LOG", "NATS_URL", "NATS_CREDS"] {
        command.env_remove(variable);
    }
    command
}

/// Runs the program to its end.
pub(crate) fn milepost(arguments: &[&str]) -> Said {
    milepost_in::<&str>(&[], arguments)
}

/// The same with more in its environment.
pub(crate) fn milepost_in<V: AsRef<OsStr>>(environment: &[(&str, V)], arguments: &[&str]) -> Said {
    let mut command = command(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command.output().expect("the program can be started").into()
}

/// Runs the program in the background, until something ends it.
pub(crate) fn start(arguments: &[&str]) -> Running {
    start_in(&[], arguments)
}

/// The same with more in its environment.
pub(crate) fn start_in(environment: &[(&str, String)], arguments: &[&str]) -> Running {
    let mut command = command(arguments);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program can be started");
    Running { process: Some(process) }
}

/// A pipeline file with a home of its own, and how its sources are overridden.
pub(crate) struct Setting {
    pub(crate) home: TempDir,
    pub(crate) pipeline: PathBuf,
    pub(crate) flags: Vec<String>,
}

impl Setting {
    /// The pipeline of the orders against a broker.
    pub(crate) fn on_broker(url: &str) -> Self {
        Self::of(&ORDERS, &["--nats", url])
    }

    /// The pipeline of the orders on events from a file, without a broker.
    pub(crate) fn on_file(events: &Path) -> Self {
        Self::of_file(&ORDERS, events)
    }

    /// A shipped pipeline on events from a file, without a broker.
    pub(crate) fn of_file(shipped: &Shipped, events: &Path) -> Self {
        let source = format!("milestones={}", events.display());
        Self::of(shipped, &["--no-publish", "--nats", "nats://127.0.0.1:1", "--source", &source])
    }

    /// A shipped pipeline, run with some flags.
    pub(crate) fn of(shipped: &Shipped, flags: &[&str]) -> Self {
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        Self { home: folder(), pipeline: shipped.pipeline_path(), flags }
    }

    pub(crate) fn home(&self) -> String {
        self.home.path().to_string_lossy().into_owned()
    }

    /// Gives the pipeline a `batch` of this many rows, in a copy of its file that lies elsewhere.
    pub(crate) fn with_batches_of(self, rows: usize) -> Self {
        let batch = format!("max_rows: {rows}");
        self.with_pipeline(|text| {
            let moved = text.replace("max_rows: 16384", &batch);
            assert!(moved.contains(&batch), "the shipped pipeline names its batches");
            moved
        })
    }

    /// Runs a changed copy of the pipeline's file that lies elsewhere.
    pub(crate) fn with_pipeline(mut self, change: impl FnOnce(&str) -> String) -> Self {
        let text = std::fs::read_to_string(&self.pipeline).expect("the pipeline can be read");
        let root = in_repository("");
        let here = |folder: &str| root.join(folder).display().to_string();
        let moved = text
            .replace("../sql/", &format!("{}/", here("sql")))
            .replace("../data/", &format!("{}/", here("data")))
            .replace(": contracts/", &format!(": {}/", here("pipelines/contracts")))
            .replace(": reference/", &format!(": {}/", here("pipelines/reference")));
        self.pipeline = self.home.path().join("pipeline.yaml");
        std::fs::write(&self.pipeline, change(&moved)).expect("writable");
        self
    }

    fn arguments(&self, command: &str, further: &[&str]) -> Vec<String> {
        let pipeline = self.pipeline.to_string_lossy().into_owned();
        let home = self.home();
        [command, &pipeline, "--home", &home].iter().chain(further).map(|&argument| argument.to_owned()).collect()
    }

    fn run_arguments(&self, further: &[&str]) -> Vec<String> {
        let flags = self.flags.iter().map(String::as_str).chain(further.iter().copied()).collect::<Vec<_>>();
        self.arguments("run", &flags)
    }

    /// `milepost COMMAND PIPELINE --home … further`.
    pub(crate) fn ask(&self, command: &str, further: &[&str]) -> Said {
        milepost(&strs(&self.arguments(command, further)))
    }

    /// Runs the pipeline until it has caught up.
    pub(crate) fn run(&self, further: &[&str]) -> Said {
        let further: Vec<&str> = ["--until-caught-up"].iter().chain(further).copied().collect();
        milepost(&strs(&self.run_arguments(&further)))
    }

    /// The same in the background, until something ends it.
    pub(crate) fn start(&self) -> Running {
        start(&strs(&self.run_arguments(&[])))
    }

    /// The rows of a SELECT as CSV.
    #[track_caller]
    pub(crate) fn query(&self, sql: &str) -> String {
        self.ask("query", &[sql, "--format", "csv"]).text()
    }

    /// The report of `status`; none if there is none yet.
    pub(crate) fn status(&self) -> Option<Value> {
        let said = self.ask("status", &["--format", "json"]);
        (said.status == Some(0)).then(|| serde_json::from_slice(&said.out).expect("JSON"))
    }

    /// The rows of every job, by name: in the order of their keys, as CSV. Left out are the columns that say when a broker
    /// took the events, and into how many epochs they were cut: two runs over the same events may differ in them.
    pub(crate) fn tables(&self) -> Vec<(String, String)> {
        self.tables_without(&[
            (
                "kpi_integration",
                "events_with_delay, occurred_to_received_seconds_sum, occurred_to_received_seconds_mean",
            ),
            ("kpi_freshness", "epoch"),
        ])
    }

    /// The same with all columns: for runs that read the same from the same place, by the same log.
    pub(crate) fn whole_tables(&self) -> Vec<(String, String)> {
        self.tables_without(&[])
    }

    fn tables_without(&self, left_out: &[(&str, &str)]) -> Vec<(String, String)> {
        let check = self.ask("check", &["--format", "json"]).text();
        let check: Value = serde_json::from_str(&check).expect("JSON");
        let jobs = check["jobs"].as_array().expect("a list of jobs");
        assert!(jobs.len() > 15, "the shipped pipeline has its jobs");
        let table = |job: &Value| {
            let name = job["name"].as_str().expect("a name");
            let key: Vec<&str> = job["key"].as_array().expect("a key").iter().filter_map(Value::as_str).collect();
            let left_out = left_out.iter().find(|(job, _)| *job == name);
            let columns = left_out.map_or_else(|| "*".to_owned(), |(_, columns)| format!("* EXCEPT ({columns})"));
            (name.to_owned(), self.query(&format!("SELECT {columns} FROM {name} ORDER BY {}", key.join(", "))))
        };
        jobs.iter().map(table).collect()
    }
}

/// Whether two runs ended with the same rows, naming the first job where they did not.
#[track_caller]
pub(crate) fn same_tables(found: &[(String, String)], expected: &[(String, String)]) {
    assert_eq!(found.len(), expected.len());
    for ((job, found), (_, expected)) in found.iter().zip(expected) {
        let differs = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
        assert_eq!(differs, None, "`{job}`");
        assert_eq!(found.lines().count(), expected.lines().count(), "rows of `{job}`");
    }
}

/// A process in the background; killed with its owner.
pub(crate) struct Running {
    process: Option<Child>,
}

impl Running {
    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("a process that was not waited for can be killed");
            process.wait().expect("it ends");
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(mut self) -> Said {
        let process = self.process.as_mut().expect("it was not ended yet");
        let asked = Command::new("kill").args(["-TERM", &process.id().to_string()]).status().expect("`kill` is there");
        assert!(asked.success());
        wait_until("the process ends", || process.try_wait().expect("it is ours").is_some());
        self.said()
    }

    /// What it said, once it has ended.
    pub(crate) fn said(mut self) -> Said {
        self.process.take().expect("it was not taken").wait_with_output().expect("its output").into()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.as_mut().is_none_or(|process| process.try_wait().expect("it is ours").is_some())
    }

    /// Its process number.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().map_or(0, Child::id)
    }

    /// Fails with what it said if it has ended.
    pub(crate) fn check_alive(&mut self) {
        let Some(process) = &mut self.process else { return };
        if let Some(status) = process.try_wait().expect("it is ours") {
            let mut said = String::new();
            if let Some(err) = &mut process.stderr {
                err.read_to_string(&mut said).expect("readable");
            }
            panic!("the process ended by itself with {status}: {said}");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks again and again until something holds.
#[track_caller]
#[expect(
    clippy::disallowed_methods,
    reason = "a test that waits for another process must end when that never gets there"
)]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be made")
}

/// Writes events to a file, one a line.
pub(crate) fn write_lines(path: &Path, lines: &[String]) {
    std::fs::write(path, lines.join("\n") + "\n").expect("writable");
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// Far more than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
