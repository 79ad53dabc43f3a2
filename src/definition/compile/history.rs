//! Checks of histories: which table may have one, and what its columns are called.

use std::ops::Range;

use super::Compiler;
use crate::definition::contract::Contract;
use crate::definition::fields::Named;
use crate::definition::file::{HistoryFile, JobFile, PipelineFile, SourceFile};
use crate::definition::name;
use crate::definition::pipeline::History;
use crate::definition::read::Word;
use crate::definition::tree::shorten;

/// The names of all histories, with the place of each one's field.
pub(super) fn names(file: &PipelineFile) -> Vec<(String, Range<usize>)> {
    let sources = file.sources.iter().map(|source| (&source.name, &source.value.history));
    let jobs = file.jobs.iter().map(|job| (&job.name, &job.value.history));
    let wanted = |(name, history): (&String, &Option<HistoryFile>)| {
        let history = history.as_ref().filter(|history| history.on)?;
        Some((format!("{name}{}", History::SUFFIX), history.span.clone()))
    };
    sources.chain(jobs).filter_map(wanted).collect()
}

impl Compiler<'_> {
    /// The history of a source; none inside where it has none, none at all with a problem.
    pub(super) fn source_history(
        &mut self,
        source: &Named<SourceFile>,
        contract: Option<&Contract>,
    ) -> Option<Option<History>> {
        let file = source.value.history.as_ref();
        if let Some(history) = file.filter(|history| history.on && source.value.upsert.is_none()) {
            let help = "add `upsert: [...]` with the columns that name a row, or leave `history` out: the rows of any \
                        other source never change";
            self.report().problem(&history.span, "`history` needs `upsert`", help);
            return None;
        }
        let history = self.history(&source.name, file, ["valid_from", "valid_to"])?;
        let (Some(found), Some(contract)) = (&history, contract) else { return Some(history) };
        let table = contract.table_schema();
        let taken = [&found.from, &found.to].into_iter().find(|column| table.field_with_name(column).is_ok());
        if let Some(column) = taken {
            let message = format!("the source `{}` has a column `{column}` already", source.name);
            self.report().problem(&found.span, message, History::OTHER_NAMES);
            return None;
        }
        Some(history)
    }

    /// The same of a job. Whether the job has such columns already is known once its SQL is planned.
    pub(super) fn job_history(&mut self, job: &Named<JobFile>) -> Option<Option<History>> {
        self.history(&job.name, job.value.history.as_ref(), ["opened_at", "closed_at"])
    }

    fn history(&mut self, table: &str, file: Option<&HistoryFile>, usual: [&str; 2]) -> Option<Option<History>> {
        let Some(file) = file.filter(|file| file.on) else { return Some(None) };
        let [from, to] = usual;
        let (from, to) = (self.history_column(file.from.as_ref(), from), self.history_column(file.to.as_ref(), to));
        let (from, to) = (from?, to?);
        if from == to {
            let message = format!("`{}` can't be both columns of the history", shorten(&from));
            self.report().problem(&file.span, message, "since when and until when need a column each");
            return None;
        }
        let name = format!("{table}{}", History::SUFFIX).into();
        Some(Some(History { name, span: file.span.clone(), from, to }))
    }

    fn history_column(&mut self, word: Option<&Word>, usual: &str) -> Option<String> {
        let Some(word) = word else { return Some(usual.to_owned()) };
        if let Some((message, help)) = name::column_problem(&word.value.value) {
            self.value_problem(word, &message, "is not the name of a column", help);
            return None;
        }
        Some(word.value.value.clone())
    }
}
