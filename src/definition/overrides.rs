//! What the command line may change in a pipeline: `--source NAME=PATH` and `--clock`.

use std::path::Path;

use super::grammar::CLOCKS;
use super::pipeline::{Clock, FileSet, Identity, Input, Pipeline, Source};
use crate::diagnostic::{Diagnostic, Diagnostics, suggest};
use crate::error::{Error, ErrorKind, Result};

impl Pipeline {
    /// Reads the source `name` from the files at `path` (a path, a glob, a folder with `/` at its end, or the same in a
    /// bucket), in place of what the pipeline names; they are watched if those were. An error of kind `Definition` if there
    /// is no such source or the path names no input files.
    pub fn override_source(&mut self, name: &str, path: &Path) -> Result<()> {
        let names: Vec<String> = self.sources.iter().map(|source| source.name.to_string()).collect();
        let Some(source) = self.sources.iter_mut().find(|source| &*source.name == name) else {
            let help = suggest(name, names.iter().map(String::as_str));
            return Err(Error::new(ErrorKind::Definition, format!("there is no source `{name}`: {help}")));
        };
        let text = path.to_string_lossy();
        let shown = match text.split_once("://") {
            // What stands before an `@` may be a password.
            Some((scheme, rest)) if rest.contains('@') => format!("{scheme}://…"),
            _ => text.to_string(),
        };
        let files = FileSet::parse(Path::new(""), &text).map_err(|(message, help)| {
            Error::new(
                ErrorKind::Definition,
                format!("source `{name}` can't be read from `{shown}`: {message}; {help}"),
            )
        })?;
        let watch = match &source.input {
            Input::Files(before) => before.watch,
            Input::JetStream { .. } => None,
        };
        source.input = Input::Files(FileSet { watch, ..files });
        Ok(())
    }

    /// Takes time from elsewhere than the pipeline says. An error of kind `Definition` if there is no such clock.
    pub fn override_clock(&mut self, clock: &str) -> Result<()> {
        self.clock = clock.parse().map_err(|error| Error::new(ErrorKind::Definition, error))?;
        Ok(())
    }

    /// Whether the clock can move, to be asked after the overrides: a broker's clock needs a source that comes from a
    /// broker, and does not see rows with an event time, or rows to be added up, that come from files. A history needs a
    /// clock that moves.
    pub fn check_clock(&self) -> Result<(), Diagnostics> {
        let mut problems = Diagnostics::default();
        if self.clock == Clock::EventTime {
            let timed = self.sources.iter().any(|source| source.event_time.is_some());
            for (name, history) in self.histories().filter(|_| !timed) {
                let message = format!("the history of `{name}` has no time: the clock is that of the events");
                let help = "name the column with the time of a source's events: `event_time: COLUMN`";
                problems.push(Diagnostic::new(&self.text, history.span.clone(), message).with_help(help));
            }
            return problems.into_checked();
        }
        let from_file = |source: &&Source| matches!(source.input, Input::Files(_));
        let timed =
            |source: &&Source| source.event_time.is_some() || !matches!(source.identity, Identity::Upsert { .. });
        let no_stream = self.sources.iter().all(|source| from_file(&source));
        for source in self.sources.iter().filter(from_file).filter(|source| no_stream || timed(source)) {
            let message = format!("the clock is the broker's, but the source `{}` is read from a file", source.name);
            let help = "take the time from the events: `clock: event_time` in the file, or `--clock event_time`";
            problems.push(Diagnostic::new(&self.text, source.span.clone(), message).with_help(help));
        }
        problems.into_checked()
    }
}

impl std::str::FromStr for Clock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let clocks = CLOCKS.iter().zip([Self::Broker, Self::EventTime]);
        let found = clocks.into_iter().find(|(name, _)| **name == text);
        let help = || format!("there is no clock `{text}`: {}", suggest(text, CLOCKS.iter().copied()));
        found.map(|(_, clock)| clock).ok_or_else(help)
    }
}

#[cfg(test)]
mod tests {
    use super::super::corpus::pipeline;
    use super::super::pipeline::History;
    use super::*;

    #[test]
    fn a_source_is_read_from_the_file_that_the_command_line_names() {
        let mut pipeline = pipeline("");
        let path = Path::new("/data/events.ndjson");
        pipeline.override_source("events", path).expect("the source is there");
        let input = pipeline.sources.first().map(|source| &source.input);
        assert!(matches!(input, Some(Input::Files(files)) if files.to_string() == "file /data/events.ndjson"));
        pipeline.override_source("events", Path::new("in/*.parquet")).expect("a glob");
        let message = |result: Result<()>| result.err().map(|error| error.chain()).unwrap_or_default();
        let cases = [
            ("event", "x.csv", "there is no source `event`: did you mean `events`? valid are `events`, `lines`"),
            (
                "events",
                "s3://key:hidden@bucket/x.csv",
                "source `events` can't be read from `s3://…`: the URL names no bucket; write",
            ),
            (
                "events",
                "x.xml",
                "source `events` can't be read from `x.xml`: `.xml` is not an input format; name files",
            ),
        ];
        for (name, path, expected) in cases {
            let said = message(pipeline.override_source(name, Path::new(path)));
            assert!(said.starts_with(expected), "{said}");
        }
        let said = message(pipeline.override_clock("events"));
        assert!(said.starts_with("there is no clock `events`: "), "{said}");
    }

    #[test]
    fn a_broker_clock_is_refused_where_no_broker_moves_it() {
        let mut pipeline = pipeline("");
        assert_eq!(pipeline.clock, Clock::Broker);
        assert_eq!(pipeline.check_clock(), Ok(()), "an upsert source may be a file");
        pipeline.override_source("events", Path::new("events.csv")).expect("the source is there");
        let problems = pipeline.check_clock().err().unwrap_or_default();
        let places: Vec<&str> = problems.0.iter().map(|problem| &pipeline.text.text[problem.span.clone()]).collect();
        assert_eq!(places, ["events", "lines"]);
        pipeline.override_clock("event_time").expect("the clock is there");
        assert_eq!(pipeline.check_clock(), Ok(()));
    }

    #[test]
    fn a_history_is_refused_where_no_event_moves_the_clock() {
        let mut pipeline = pipeline("");
        let history = History { name: "lines_history".into(), span: 0..8, from: "a".to_owned(), to: "b".to_owned() };
        pipeline.sources.iter_mut().last().expect("the pipeline has sources").history = Some(history);
        assert_eq!(pipeline.check_clock(), Ok(()));
        pipeline.override_clock("event_time").expect("the clock is there");
        assert_eq!(pipeline.check_clock(), Ok(()));
        pipeline.sources.iter_mut().for_each(|source| source.event_time = None);
        let problems = pipeline.check_clock().err().unwrap_or_default();
        let said: Vec<&str> = problems.0.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(said, ["the history of `lines` has no time: the clock is that of the events"]);
    }
}
