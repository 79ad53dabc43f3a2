//! Checks of sinks, each for itself and against the others.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::{Compiler, duration, history};
use crate::definition::fields::Named;
use crate::definition::file::{JobFile, ParquetFile, SinkFile, StreamSinkFile};
use crate::definition::pipeline::{Sink, SinkTarget, TablePlace};
use crate::definition::read::Word;
use crate::definition::subject;
use crate::definition::tree::shorten;
use crate::diagnostic::suggest;

const TABLE_EVERY: Duration = Duration::from_secs(5);

impl Compiler<'_> {
    /// One sink; none with a problem for each thing that is wrong with it.
    pub(super) fn sink(&mut self, sink: &SinkFile) -> Option<Sink> {
        let file = self.file;
        let job = sink.job.as_ref().and_then(|word| self.sink_job(word));
        let of = job.and_then(|index| file.jobs.get(index));
        let target = match (&sink.jetstream, &sink.parquet) {
            (Some(stream), _) => self.stream_sink(stream, of),
            (None, Some(table)) => self.table_sink(table),
            (None, None) => None,
        };
        Some(Sink { job: job?, span: sink.span.clone(), target: target? })
    }

    fn sink_job(&mut self, word: &Word) -> Option<usize> {
        let jobs = &self.file.jobs;
        let shown = shorten(&word.value.written);
        let Some(index) = jobs.iter().position(|job| job.name == word.value.value) else {
            let is_source = self.file.sources.iter().any(|source| source.name == word.value.value);
            let is_history = history::names(self.file).iter().any(|(name, _)| *name == word.value.value);
            let of = match (is_source, is_history) {
                (true, _) => Some("source"),
                (false, true) => Some("history"),
                (false, false) => None,
            };
            let help = match of {
                Some(of) => {
                    format!("it is a {of}; a sink publishes a job, if need be one that selects all of the {of}")
                }
                None => suggest(&word.value.written, jobs.iter().map(|job| job.name.as_str())),
            };
            self.report().problem(&word.span, format!("there is no job `{shown}`"), help);
            return None;
        };
        if jobs.get(index).is_some_and(|job| job.value.key.is_none()) {
            let message = format!("the job `{shown}` has no `key`, so it can't be published");
            let help = format!("add `key: [...]` to the job `{shown}`: the columns that name one of its rows");
            self.report().problem(&word.span, message, help);
        }
        Some(index)
    }

    fn stream_sink(&mut self, file: &StreamSinkFile, job: Option<&Named<JobFile>>) -> Option<SinkTarget> {
        let stream = file.stream.as_ref().and_then(|stream| self.stream_name(stream));
        let word = file.subject.as_ref()?;
        let columns = match subject::check_template(&word.value.value) {
            Ok(columns) => columns,
            Err((message, help)) => {
                let message = format!("`{}` is not a subject: {message}", shorten(&word.value.written));
                self.value_problem(word, &message, "is not a subject", &help);
                return None;
            }
        };
        let key = job.and_then(|job| job.value.key.as_ref()).map(|key| key.value.as_slice()).unwrap_or_default();
        if !key.is_empty() {
            self.placeholders(word, &columns, key);
        }
        let stream = stream?;
        if let Some((source, _)) = self.reads(&stream, &word.value.value).map(|(name, span)| (name.to_owned(), span)) {
            let message = format!("`{}` is read by the source `{source}`", shorten(&word.value.written));
            let help =
                "the pipeline would read what it writes; publish to another stream, or narrow the source's subjects";
            self.report().problem(&word.span, message, help);
        }
        Some(SinkTarget::JetStream { stream, subject: word.value.value.clone() })
    }

    /// The placeholders of a subject are the columns of the key, all of them: one subject is one key.
    fn placeholders(&mut self, word: &Word, columns: &[&str], key: &[Word]) {
        let names: Vec<&str> = key.iter().map(|column| column.value.value.as_str()).collect();
        for column in columns.iter().filter(|column| !names.contains(*column)) {
            let span = within(self.file.text.text.as_str(), &word.span, &format!("{{{column}}}"));
            let message = format!("`{}` is not a column of the job's key", shorten(column));
            let help = suggest(column, key.iter().map(|column| column.value.written.as_str()));
            self.value_problem(
                &Word { span, value: word.value.clone() },
                &message,
                "does not fit the job's key",
                &help,
            );
        }
        let missing = key.iter().filter(|column| !columns.contains(&column.value.value.as_str()));
        let missing: Vec<String> = missing.map(|column| format!("`{{{}}}`", column.value.written)).collect();
        if !missing.is_empty() {
            let message = format!("the subject lacks {} of the job's key", missing.join(", "));
            let help = "each key needs a subject of its own, whose last message is the key's row";
            self.report().problem(&word.span, message, help);
        }
    }

    fn table_sink(&mut self, file: &ParquetFile) -> Option<SinkTarget> {
        let word = file.path.as_ref()?;
        let place = match table_place(&word.value.value) {
            Ok(place) => place,
            Err((is_not, help)) => {
                let message = format!("`{}` {is_not}", shorten(&word.value.written));
                self.value_problem(word, &message, is_not, help);
                return None;
            }
        };
        if let Some(every) = file.every.as_ref().filter(|every| every.value == 0) {
            let help = "every epoch would write the table anew; leave `every` out for `5s`, or write a longer time";
            self.report().problem(&every.span, "`every` can't be zero", help);
        }
        let partition_by = file.partition_by.as_ref().map(|columns| columns.value.as_slice()).unwrap_or_default();
        Some(SinkTarget::Parquet {
            place,
            partition_by: partition_by.iter().map(|word| (word.value.value.clone(), word.span.clone())).collect(),
            every: file.every.as_ref().map_or(TABLE_EVERY, duration),
        })
    }

    /// Where commits lie.
    pub(super) fn state(&mut self, word: &Word) -> Option<Url> {
        match state_url(&word.value.value) {
            Ok(url) => Some(url),
            Err((is_not, help)) => {
                let message = format!("`{}` {is_not}", shorten(&word.value.written));
                self.value_problem(word, &message, is_not, help);
                None
            }
        }
    }

    /// No two sinks write to the same place.
    pub(super) fn sinks_apart(&mut self) {
        let sinks = &self.file.sinks;
        let mut clashes: Vec<(&Word, String, &'static str)> = Vec::new();
        for (index, sink) in sinks.iter().enumerate() {
            for other in sinks.iter().take(index) {
                clashes.extend(
                    table_clash(sink, other, &self.file.text).or_else(|| subject_clash(sink, other, &self.file.text)),
                );
            }
        }
        for (word, message, help) in clashes {
            self.report().problem(&word.span, message, help);
        }
    }
}

type Clash<'f> = (&'f Word, String, &'static str);

fn table_clash<'f>(sink: &'f SinkFile, other: &SinkFile, text: &crate::diagnostic::SourceText) -> Option<Clash<'f>> {
    let word = sink.parquet.as_ref()?.path.as_ref()?;
    let other = other.parquet.as_ref()?.path.as_ref()?;
    let (path, other_path) = (folded(word)?, folded(other)?);
    if !path.starts_with(&other_path) && !other_path.starts_with(&path) {
        return None;
    }
    let message =
        format!("`{}` is taken by the sink on line {}", shorten(&word.value.written), text.line(other.span.start));
    Some((word, message, "give each table a folder of its own, none inside another"))
}

fn subject_clash<'f>(sink: &'f SinkFile, other: &SinkFile, text: &crate::diagnostic::SourceText) -> Option<Clash<'f>> {
    let word = sink.jetstream.as_ref()?.subject.as_ref()?;
    let other = other.jetstream.as_ref()?.subject.as_ref()?;
    if !subject::overlap(&word.value.value, &other.value.value) {
        return None;
    }
    let line = text.line(other.span.start);
    let message = format!("`{}` overlaps the subject of the sink on line {line}", shorten(&word.value.written));
    Some((word, message, "start each subject with a token of its own"))
}

/// A place as two sinks must not share it, on file systems too that ignore case; its parts from the outermost on.
fn folded(word: &Word) -> Option<Vec<String>> {
    match table_place(&word.value.value).ok()? {
        TablePlace::Home(path) => {
            let parts = path.iter().map(|part| part.to_string_lossy().to_lowercase());
            Some([String::new()].into_iter().chain(parts).collect())
        }
        TablePlace::Store(url) => {
            let parts = url.path().split('/').map(str::to_owned);
            Some(url.host_str().map(str::to_owned).into_iter().chain(parts).collect())
        }
    }
}

/// Where a table lies; else what the text is not, and what would be right.
fn table_place(text: &str) -> Result<TablePlace, (&'static str, &'static str)> {
    if text.contains("://") {
        return table_url(text).map(TablePlace::Store);
    }
    let help = "write a relative path without `..`, as in `kpi/dispatch_sla`, or `s3://BUCKET/PREFIX`";
    table_path(text).map(TablePlace::Home).ok_or(("is not a path below `--home`", help))
}

/// Where commits lie: a prefix in a bucket, or an absolute path of this machine.
fn state_url(text: &str) -> Result<Url, (&'static str, &'static str)> {
    let shape = "write `s3://BUCKET/PREFIX`, as in `s3://ledgers/milepost`, or `file:///PATH`";
    match Url::parse(text) {
        Ok(url) if url.scheme() == "s3" => {
            table_url(text).map_err(|(is_not, help)| (is_not, if help.starts_with("write") { shape } else { help }))
        }
        Ok(url) if url.scheme() == "file" => {
            let is_plain = !url.has_host() && url.query().is_none() && url.fragment().is_none();
            let is_whole = url.path().len() > 1 && url.path().starts_with('/') && text.starts_with("file:///");
            if is_plain && is_whole { Ok(url) } else { Err(("does not name an absolute path", shape)) }
        }
        Ok(_) => Err(("is not of a store that commits can lie in", shape)),
        Err(_) => Err(("is not a URL", shape)),
    }
}

/// A URL of a prefix in a bucket, without a slash at its end. What a URL could have more is refused: it might be a secret.
fn table_url(text: &str) -> Result<Url, (&'static str, &'static str)> {
    let shape = "write `s3://BUCKET/PREFIX`, as in `s3://reports/kpi/dispatch_sla`";
    let mut url = Url::parse(text).map_err(|_| ("is not a URL", shape))?;
    if url.scheme() != "s3" {
        return Err(("is not of a store that tables can lie in", shape));
    }
    if !url.username().is_empty() || url.password().is_some() {
        let help = "leave them out: `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` are read from the environment";
        return Err(("has a user or a password in it", help));
    }
    if url.port().is_some() || url.query().is_some() || url.fragment().is_some() {
        let help = "leave them out: where the store is, `AWS_ENDPOINT_URL` says";
        return Err(("has a port, a query or a fragment in it", help));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    let is_plain = path.split('/').skip(1).all(|part| !part.is_empty()) && !path.contains('%');
    if url.host_str().is_none_or(str::is_empty) || path.is_empty() || !is_plain {
        return Err(("does not name a bucket and a plain prefix in it", shape));
    }
    url.set_path(&path);
    Ok(url)
}

/// A relative path without `.`, `..` and empty parts; none if it leads elsewhere.
fn table_path(text: &str) -> Option<PathBuf> {
    if text.contains(['\\', '\0']) {
        return None;
    }
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!path.as_os_str().is_empty()).then_some(path)
}

/// The part of a span that reads `written`, or the whole span.
fn within(text: &str, span: &Range<usize>, written: &str) -> Range<usize> {
    match text.get(span.clone()).and_then(|slice| slice.find(written)) {
        Some(at) => span.start + at..span.start + at + written.len(),
        None => span.clone(),
    }
}
