//! What a change stream says of a job, message by message, read without the code that writes it.
//!
//! Law: of each key the messages are revisions 1, 2, 3 and on, each once, in this order; each names its predecessor and has the
//! id that follows from pipeline, job, key and revision; the first, and the first after a revocation, says that the row
//! appeared. The last message of a key is the row, or says that there is none.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::plan::BatchTable;
use crate::sink::body::Rows;
use crate::sink::event::Publisher;
use crate::sink::subject::{SubjectTemplate, encode_token};

use super::compare::{Difference, Multiset, differ};

/// The messages of a job's change stream, up to some epoch.
pub struct ChangeHistory {
    publisher: Publisher,
    template: SubjectTemplate,
    job: String,
    until: u64,
    last: BTreeMap<String, LastChange>,
    newest_epoch: u64,
    problems: Vec<String>,
    problem_count: u64,
}

/// The last message of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastChange {
    /// Its revision.
    pub revision: u64,
    /// The row as it was published; none where it was revoked.
    pub row: Option<String>,
}

#[derive(Deserialize)]
struct Message<'a> {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    revision: u64,
    predecessor: Option<String>,
    epoch: String,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

impl ChangeHistory {
    /// A history before its first message. Messages of epochs behind `until` are left out.
    ///
    /// # Errors
    /// `Definition` where the subject can't be one for this key.
    pub fn new(pipeline: &str, job: &str, subject: &str, key: &[String], until: u64) -> Result<Self> {
        Ok(Self {
            publisher: Publisher::new(pipeline, job),
            template: SubjectTemplate::parse(subject, key)?,
            job: job.to_owned(),
            until,
            last: BTreeMap::new(),
            newest_epoch: 0,
            problems: Vec::new(),
            problem_count: 0,
        })
    }

    /// The subjects whose messages belong to it.
    pub fn filter(&self) -> String {
        self.template.filter()
    }

    /// The rows of a table by the subjects of their keys, and the subjects that stand for several rows: of those nothing is
    /// published.
    ///
    /// # Errors
    /// `Limit` where a key gives no subject.
    pub fn by_subject(&self, table: &BatchTable, key: &[String]) -> Result<(BTreeMap<String, String>, Vec<String>)> {
        let (mut rows, mut ambiguous) = (BTreeMap::new(), Vec::new());
        for batch in &table.batches {
            let written = Rows::new(batch)?;
            let columns = key.iter().map(|name| batch.schema_ref().index_of(name)).collect::<Result<Vec<_>, _>>();
            let columns = columns.map_err(|error| Error::caused(ErrorKind::Internal, "finding a key", error))?;
            for row in 0..batch.num_rows() {
                let values = columns.iter().map(|&column| {
                    let value = written.text(column, row)?;
                    Ok(encode_token(&value.ok_or_else(|| Error::internal("a null in a key"))?))
                });
                let subject = self.template.subject(&values.collect::<Result<Vec<_>>>()?)?;
                let mut text = Vec::new();
                written.write(row, &mut text)?;
                let text = String::from_utf8(text)
                    .map_err(|error| Error::caused(ErrorKind::Internal, "writing a row as JSON", error))?;
                if rows.insert(subject.clone(), text).is_some() {
                    ambiguous.push(subject);
                }
            }
        }
        Ok((rows, ambiguous))
    }

    /// Takes the next message, in stream order.
    pub fn take(&mut self, subject: &str, sequence: u64, body: &[u8]) {
        let Some(key) = self.template.key(subject).map(|key| key.into_iter().map(str::to_owned).collect::<Vec<_>>())
        else {
            return;
        };
        let Ok(message) = serde_json::from_slice::<Message<'_>>(body) else {
            return self.complain(format!("sequence {sequence} on `{subject}` is no change of this job"));
        };
        let Ok(epoch) = message.epoch.parse::<u64>() else {
            return self.complain(format!("sequence {sequence} on `{subject}` names no epoch"));
        };
        if epoch > self.until {
            return;
        }
        self.newest_epoch = self.newest_epoch.max(epoch);
        let before = self.last.get(subject).cloned().unwrap_or(LastChange { revision: 0, row: None });
        let key: Vec<&str> = key.iter().map(String::as_str).collect();
        let wrong = self.wrong(&message, &before, &key);
        if let Some(wrong) = wrong {
            self.complain(format!("sequence {sequence} on `{subject}` {wrong}"));
        }
        let row = message.data.map(|data| data.get().to_owned());
        self.last.insert(subject.to_owned(), LastChange { revision: message.revision, row });
    }

    /// What breaks the law, of a message behind `before`.
    fn wrong(&self, message: &Message<'_>, before: &LastChange, key: &[&str]) -> Option<String> {
        let revision = message.revision;
        if revision != before.revision + 1 {
            let due = before.revision + 1;
            return Some(match revision <= before.revision {
                true => format!("is revision {revision} once more"),
                false => format!("is revision {revision} where {due} is due"),
            });
        }
        if message.id != self.publisher.id(key, revision) {
            return Some(format!("has the id `{}`, which is not that of its revision", message.id));
        }
        let predecessor = (revision > 1).then(|| self.publisher.id(key, revision - 1));
        if message.predecessor != predecessor {
            return Some("names another predecessor than the revision before".to_owned());
        }
        let change = match (&before.row, message.data) {
            (None, Some(_)) => "appeared",
            (Some(_), Some(_)) => "changed",
            (Some(_), None) => "revoked",
            (None, None) => return Some("revokes what was not there".to_owned()),
        };
        let kind = format!("milepost.{}.{change}", self.job);
        (message.kind != kind).then(|| format!("has the type `{}` where `{kind}` is due", message.kind))
    }

    fn complain(&mut self, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }

    /// The newest epoch of any message.
    pub fn newest_epoch(&self) -> u64 {
        self.newest_epoch
    }

    /// How many messages break the law, and what is wrong with some of them.
    pub fn problems(&self) -> (u64, &[String]) {
        (self.problem_count, &self.problems)
    }

    /// Compares the last messages with the rows that should stand under their subjects. What stands under the subjects of
    /// `left_out` is nobody's matter.
    pub fn compare(&self, rows: &BTreeMap<String, String>, left_out: &[String]) -> Difference {
        let counted =
            |(subject, row): (&String, &String)| (!left_out.contains(subject)).then(|| (format!("{subject} {row}"), 1));
        let expected: Multiset = rows.iter().filter_map(counted).collect();
        let found: Multiset = self
            .last
            .iter()
            .filter_map(|(subject, last)| Some((subject, last.row.as_ref()?)))
            .filter_map(counted)
            .collect();
        differ(&expected, &found)
    }
}

/// How many broken messages are told of.
const PROBLEMS_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::Stamp;
    use crate::sink::ledger::{Change, Content, Next, Revision};
    use crate::types::Epoch;

    fn message(revision: u64, change: Change, row: &str) -> Vec<u8> {
        let content = if change == Change::Revoked { Content::Revoked } else { Content::Present([0; 32]) };
        let next = Next { change, revision: Revision { number: revision, content } };
        let stamp = Stamp { epoch: Epoch(revision), clock: None, watermark: None };
        Publisher::new("p", "j").message(stamp, &["a"], &next, row.as_bytes()).expect("a message")
    }

    fn history(messages: &[Vec<u8>]) -> ChangeHistory {
        let mut history = ChangeHistory::new("p", "j", "t.{k}", &["k".to_owned()], 10).expect("a template");
        for (sequence, message) in (1..).zip(messages) {
            history.take("t.a", sequence, message);
        }
        history
    }

    #[test]
    fn revisions_in_order_are_the_row_of_the_last() {
        let rows = [
            message(1, Change::Appeared, r#"{"k":"a","n":1}"#),
            message(2, Change::Changed, r#"{"k":"a","n":2}"#),
            message(3, Change::Revoked, ""),
            message(4, Change::Appeared, r#"{"k":"a","n":4}"#),
            message(11, Change::Changed, r#"{"k":"a","n":11}"#),
        ];
        let history = history(&rows);
        assert_eq!(history.problems().0, 0, "{:?}", history.problems());
        assert_eq!(history.newest_epoch(), 4, "what comes behind the last epoch is left out");
        let row = |row: &str| BTreeMap::from([("t.a".to_owned(), row.to_owned())]);
        assert!(history.compare(&row(r#"{"k":"a","n":4}"#), &[]).is_none());
        let difference = history.compare(&row(r#"{"k":"a","n":5}"#), &[]);
        assert_eq!((difference.missing, difference.extra), (1, 1));
        assert_eq!(history.compare(&BTreeMap::new(), &[]).extra, 1);
        assert!(history.compare(&BTreeMap::new(), &["t.a".to_owned()]).is_none());
    }

    #[test]
    fn gaps_repetitions_and_foreign_messages_are_told() {
        let (one, two) = (message(1, Change::Appeared, "{}"), message(2, Change::Changed, "{}"));
        let foreign = String::from_utf8(one.clone()).expect("text").replace("p/j/a/1", "p/other/a/1").into_bytes();
        for (messages, expected) in [
            (vec![one.clone(), one.clone()], "sequence 2 on `t.a` is revision 1 once more"),
            (vec![two.clone()], "sequence 1 on `t.a` is revision 2 where 1 is due"),
            (vec![one.clone(), message(2, Change::Appeared, "{}")], "`milepost.j.changed` is due"),
            (vec![message(1, Change::Revoked, "")], "revokes what was not there"),
            (vec![foreign], "has the id `p/other/a/1`"),
            (vec![b"text".to_vec()], "is no change of this job"),
        ] {
            let history = history(&messages);
            let (count, said) = history.problems();
            assert_eq!(count, 1, "{said:?}");
            assert!(said[0].contains(expected), "{expected}: {said:?}");
        }
    }
}
