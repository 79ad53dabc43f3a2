//! From the pipeline file as written to a [`Pipeline`] that can't be wrong: every check that needs no SQL planner, and
//! all problems in one run. Pure: files come in through a function.

mod history;
mod nats;
mod retention;
mod sink;
mod source;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::contract::Contract;
use super::environment::{self, Environment};
use super::fields::Named;
use super::file::{JobFile, PipelineFile};
use super::name;
use super::pipeline::{BatchLimits, Clock, Input, Job, Pipeline};
use super::place::{self, Located};
use super::read::{Placed, Report, Word};
use super::tree::{Syntax, shorten};
use super::yaml;
use crate::diagnostic::{Diagnostic, Diagnostics, SourceText};

/// Why a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// Nothing lies there.
    Missing,
    /// It is longer than this many bytes.
    TooLong(usize),
    /// It is not UTF-8 from this byte on, counted from 0.
    NotText(usize),
    /// The system refuses, in its own words.
    Refused(String),
}

/// Reads the file at a path if it is at most so many bytes long.
pub type ReadFile<'a> = &'a dyn Fn(&Path, usize) -> Result<String, Unreadable>;

/// A contract longer than this is refused.
pub(super) const CONTRACT_BYTES_MAX: usize = 1024 * 1024;

/// A SQL file longer than this is refused: planning costs more than in proportion.
pub(super) const SQL_BYTES_MAX: usize = 256 * 1024;

const BATCH_ROWS: u64 = 16_384;
const BATCH_WAIT: Duration = Duration::from_millis(100);

/// Compiles the text of a pipeline file. Contracts and SQL files are read through `read`, by paths relative to that of
/// `text`. An `Err` holds every problem of the pipeline file and of the contracts.
pub fn compile(
    text: &Arc<SourceText>,
    environment: Environment<'_>,
    read: ReadFile<'_>,
) -> Result<Pipeline, Diagnostics> {
    let mut problems = Diagnostics::default();
    let file = parse(text, environment, &mut problems);
    let pipeline = file.and_then(|file| {
        let mut compiler = Compiler { file: &file, problems: &mut problems, read, contracts: BTreeMap::new() };
        compiler.pipeline()
    });
    problems.into_result(pipeline)
}

fn parse(text: &Arc<SourceText>, environment: Environment<'_>, problems: &mut Diagnostics) -> Option<PipelineFile> {
    // No problem shows a secret that stands in the file: before it is parsed by what the lines look like, then by what they are.
    let mut root = yaml::parse(text, &nats::without_secret_lines(text), problems)?;
    let text = &nats::without_secrets(text, &root);
    let unset = nats::expand(&mut root, environment, text, problems);
    environment::expand(&mut root, environment, text, problems);
    PipelineFile::read(&root, text, problems).map(|file| PipelineFile { unset, ..file })
}

struct Compiler<'a> {
    file: &'a PipelineFile,
    problems: &'a mut Diagnostics,
    read: ReadFile<'a>,
    /// Contracts that were read, by path; none for one with problems.
    contracts: BTreeMap<PathBuf, Option<Arc<Contract>>>,
}

impl<'a> Compiler<'a> {
    fn pipeline(&mut self) -> Option<Pipeline> {
        let file = self.file;
        let name = file.name.as_ref().and_then(|name| self.pipeline_name(name));
        self.table_names();
        let nats = file.nats.as_ref().map(|nats| self.nats(nats)).unwrap_or_default();
        let state = file.state.as_ref().and_then(|state| self.state(state));
        let sources: Vec<_> = file.sources.iter().map(|source| self.source(source)).collect();
        let jobs: Vec<_> = file.jobs.iter().map(|job| self.job(job)).collect();
        let sinks: Vec<_> = file.sinks.iter().map(|sink| self.sink(sink)).collect();
        self.sinks_apart();
        let sources: Vec<_> = sources.into_iter().collect::<Option<_>>()?;
        let clock = file.clock.as_ref().map_or_else(|| default_clock(sources.iter().map(|s| &s.input)), |c| c.value);
        Some(Pipeline {
            name: name?,
            owner: file.about.owner.clone(),
            description: file.about.description.clone(),
            slo: file.about.slo.clone(),
            clock,
            nats,
            state,
            sources,
            jobs: jobs.into_iter().collect::<Option<_>>()?,
            sinks: sinks.into_iter().collect::<Option<_>>()?,
            batch: self.batch(),
            text: Arc::clone(&file.text),
        })
    }

    fn pipeline_name(&mut self, name: &Word) -> Option<String> {
        let Some((message, help)) = name::pipeline_problem(&name.value.value) else {
            return Some(name.value.value.clone());
        };
        self.value_problem(name, &message, "is not the name of a pipeline", help);
        None
    }

    /// Sources, jobs and their histories are tables of one schema, in which case does not count.
    fn table_names(&mut self) {
        let file = self.file;
        let histories = history::names(file);
        let sources = file.sources.iter().map(|source| (&source.name, &source.span, "a source"));
        let jobs = file.jobs.iter().map(|job| (&job.name, &job.span, "a job"));
        let histories = histories.iter().map(|(name, span)| (name, span, "a history"));
        let mut seen: HashMap<String, (&String, &Range<usize>, &str)> = HashMap::new();
        for (name, span, what) in sources.chain(jobs).chain(histories) {
            if let Some((message, help)) = name::table_problem(name).filter(|_| what != "a history") {
                self.report().problem(span, message, help);
                continue;
            }
            let Some((other, other_span, other_what)) = seen.get(&name.to_lowercase()) else {
                seen.insert(name.to_lowercase(), (name, span, what));
                continue;
            };
            let line = file.text.line(other_span.start);
            let message = match *other == name {
                true => format!("`{name}` is the name of {other_what} already"),
                false => format!("`{name}` differs from `{other}`, the name of {other_what}, only in case"),
            };
            let message = match what {
                "a history" => format!("the name of the history is not free: {message}"),
                _ => message,
            };
            let help = format!("`{other}` stands on line {line}; SQL could not tell them apart, so rename one");
            self.report().problem(span, message, help);
        }
    }

    fn job(&mut self, job: &Named<JobFile>) -> Option<Job> {
        let sql = job.value.sql.as_ref().and_then(|sql| self.sql(sql));
        let key = job.value.key.as_ref().map(|key| key.value.as_slice()).unwrap_or_default();
        let history = self.job_history(job);
        Some(Job {
            name: job.name.as_str().into(),
            span: job.span.clone(),
            owner: job.value.about.owner.clone(),
            description: job.value.about.description.clone(),
            slo: job.value.about.slo.clone(),
            sql: sql?,
            key: key.iter().map(|column| (column.value.value.clone(), column.span.clone())).collect(),
            history: history?,
        })
    }

    fn sql(&mut self, word: &Word) -> Option<Arc<SourceText>> {
        let located = place::locate(&self.file.text.path, &word.value);
        let text = self.read(word, &located, SQL_BYTES_MAX, "SQL file")?;
        let text = SourceText::new(located.shown, text);
        if text.text.trim().is_empty() {
            self.problems.push(Diagnostic::of_file(&text, "the file is empty").with_help("write one SELECT"));
            return None;
        }
        Some(text)
    }

    fn contract(&mut self, word: &Word) -> Option<Arc<Contract>> {
        let located = place::locate(&self.file.text.path, &word.value);
        if let Some(contract) = self.contracts.get(&located.path) {
            return contract.clone();
        }
        let text = self.read(word, &located, CONTRACT_BYTES_MAX, "contract")?;
        let contract = match Contract::compile(&SourceText::new(located.shown, text)) {
            Ok(contract) => Some(Arc::new(contract)),
            Err(problems) => {
                self.problems.extend(problems);
                None
            }
        };
        self.contracts.insert(located.path, contract.clone());
        contract
    }

    /// The text of a file that `word` names; a problem at `word` if there is none.
    fn read(&mut self, word: &Word, located: &Located, limit_bytes: usize, what: &str) -> Option<String> {
        let problem = match (self.read)(&located.path, limit_bytes) {
            Ok(text) => return Some(text),
            Err(problem) => problem,
        };
        let shown = located.shown.display();
        let (message, help) = match problem {
            Unreadable::Missing => {
                (format!("the {what} `{shown}` does not exist"), "paths are relative to the pipeline file".to_owned())
            }
            Unreadable::TooLong(limit) => {
                let limit_kib = limit / 1024;
                (format!("the {what} `{shown}` is too long"), format!("at most {limit_kib} KiB are read"))
            }
            Unreadable::NotText(byte) => {
                (format!("the {what} `{shown}` is not UTF-8 text"), format!("byte {byte} is the first that is wrong"))
            }
            Unreadable::Refused(why) => (format!("the {what} `{shown}` can't be read"), why),
        };
        self.report().problem(&word.span, message, help);
        None
    }

    fn batch(&self) -> BatchLimits {
        let max_rows = self.file.max_rows.unwrap_or(BATCH_ROWS);
        BatchLimits {
            max_rows: usize::try_from(max_rows).unwrap_or(usize::MAX),
            max_wait: self.file.max_wait.as_ref().map_or(BATCH_WAIT, duration),
        }
    }

    fn report(&mut self) -> Report<'_> {
        Report { file: &self.file.text, problems: self.problems, syntax: Syntax::Yaml }
    }

    /// A problem of a word: `message` in full, but if a variable stands in the word only that its value `is_not` what is
    /// wanted.
    fn value_problem(&mut self, word: &Word, message: &str, is_not: &str, help: &str) {
        let message = match word.value.is_expanded() {
            true => format!("the value of `{}` {is_not}", shorten(&word.value.written)),
            false => message.to_owned(),
        };
        self.report().problem(&word.span, message, help);
    }
}

/// `broker` if a source is a JetStream one.
fn default_clock<'s>(mut inputs: impl Iterator<Item = &'s Input>) -> Clock {
    match inputs.any(|input| matches!(input, Input::JetStream { .. })) {
        true => Clock::Broker,
        false => Clock::EventTime,
    }
}

fn duration(micros: &Placed<crate::types::Micros>) -> Duration {
    Duration::from_micros(micros.value.unsigned_abs())
}
