//! What of a stream's settings keeps its messages from being read, or from being read again after a restart.
//!
//! A stream is read in order, from a position of our own, and again from the logged ranges. What is removed from the front
//! before that is noticed: the stream begins behind the position, which is an error. What is removed from the middle is not:
//! the sequence has a gap, as after any deleted message. So a setting by which the broker itself removes from the middle, or
//! what was delivered, is refused; one by which it removes from the front, or that puts removal into a publisher's hands,
//! or that hides something, is told as a warning.

use async_nats::jetstream::stream::{Config, DiscardPolicy, PersistenceMode, RetentionPolicy, StorageType};

use crate::error::Concern;

/// What is to be said about a stream that is read, each with the way to mend it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Why it can't be read.
    pub refused: Vec<Concern>,
    /// What may go wrong with it.
    pub warned: Vec<Concern>,
}

/// Judges a stream from which `subjects` are read, all of them where there are none.
pub(super) fn judge(config: &Config, subjects: &[String]) -> Judged {
    let mut judged = Judged::default();
    judged.refused.extend(consuming_retention(config));
    judged.refused.extend(limit_per_subject(config));
    judged.warned.extend(limits(config));
    judged.warned.extend(storage(config));
    judged.warned.extend(publishers_rights(config));
    judged.warned.extend(copied(config));
    judged.warned.extend(renamed(config));
    judged.warned.extend(subjects.iter().filter_map(|subject| selects_nothing(config, subject)));
    judged
}

/// Whether the broker makes room at the front of the stream by itself, so that a gap may be a loss.
pub(super) fn removes_from_the_front(config: &Config) -> bool {
    !limits(config).is_empty()
}

fn consuming_retention(config: &Config) -> Option<Concern> {
    let name = &config.name;
    let (retention, mend) = match config.retention {
        RetentionPolicy::Limits => return None,
        RetentionPolicy::WorkQueue => ("work", "create it anew with `--retention limits`".to_owned()),
        RetentionPolicy::Interest => ("interest", format!("`nats stream edit {name} --retention limits` changes it")),
    };
    let wrong = format!(
        "it has retention `{retention}`, which deletes messages once they are delivered, and a restart has to read them again"
    );
    Some(Concern::new(wrong, mend))
}

fn limit_per_subject(config: &Config) -> Option<Concern> {
    let refuses_new = config.discard == DiscardPolicy::New && config.discard_new_per_subject;
    (config.max_messages_per_subject > 0 && !refuses_new).then(|| {
        Concern::new(
            "`max_msgs_per_subject` removes messages from the middle of the stream, which no reader can notice",
            format!("`nats stream edit {} --max-msgs-per-subject=-1` keeps them", config.name),
        )
    })
}

fn limits(config: &Config) -> Vec<Concern> {
    // A stream that refuses what is new when it is full loses nothing that it holds.
    let makes_room = config.discard == DiscardPolicy::Old;
    [
        (!config.max_age.is_zero(), "max_age", "--max-age=0"),
        (config.max_messages > 0 && makes_room, "max_msgs", "--max-msgs=-1"),
        (config.max_bytes > 0 && makes_room, "max_bytes", "--max-bytes=-1"),
    ]
    .into_iter()
    .filter(|(limited, ..)| *limited)
    .map(|(_, setting, mend)| {
        Concern::new(
            format!("`{setting}` removes its oldest messages, and a restart has to read all of them again"),
            format!("`nats stream edit {} {mend}` keeps them", config.name),
        )
    })
    .collect()
}

fn storage(config: &Config) -> Vec<Concern> {
    let mut said = Vec::new();
    if config.storage == StorageType::Memory {
        said.push(Concern::new(
            "it is kept in memory, so a restart of the broker loses it",
            "create it anew with `--storage file`",
        ));
    }
    if config.persist_mode == Some(PersistenceMode::Async) {
        said.push(Concern::new(
            "its `persist_mode` is `async`, so a crash of the broker loses messages that publishers take as stored",
            "create it anew with `--persist-mode default`",
        ));
    }
    if config.no_ack {
        said.push(Concern::new(
            "it acknowledges nothing, so publishers don't hear of a message that was not stored",
            format!("`nats stream edit {} --ack` changes that", config.name),
        ));
    }
    said
}

/// What a publisher can do to messages that are there.
fn publishers_rights(config: &Config) -> Vec<Concern> {
    let mut said = Vec::new();
    if config.allow_rollup {
        said.push(Concern::new(
            "a publisher may remove messages with the header `Nats-Rollup`, which no reader can notice",
            format!("`nats stream edit {} --no-allow-rollup` forbids it", config.name),
        ));
    }
    if config.allow_message_ttl {
        said.push(Concern::new(
            "a publisher may let messages expire with the header `Nats-TTL`, which no reader can notice",
            "create it anew without `--allow-msg-ttl`, or let nobody use the header",
        ));
    }
    said
}

fn copied(config: &Config) -> Option<Concern> {
    let sources = config.mirror.iter().chain(config.sources.iter().flatten());
    let names: Vec<_> = sources.map(|source| format!("`{}`", source.name)).collect();
    (!names.is_empty()).then(|| {
        let wrong = format!(
            "it is a copy of {}: what does not come over, because the other one was created anew or can't be reached, is missed \
             without an error and not counted as behind",
            names.join(", ")
        );
        Concern::new(wrong, format!("read the other one where you can, or watch `nats stream info {}`", config.name))
    })
}

fn renamed(config: &Config) -> Option<Concern> {
    config.subject_transform.as_ref().map(|transform| {
        let wrong = format!(
            "it renames subjects from `{}` to `{}`: the `subjects` of a source are the new ones",
            transform.source, transform.destination
        );
        Concern::new(wrong, format!("`nats stream edit {} --no-transform` stops that", config.name))
    })
}

fn selects_nothing(config: &Config, subject: &str) -> Option<Concern> {
    let fed_otherwise = config.mirror.is_some() || config.sources.is_some() || config.subject_transform.is_some();
    let selected = config.subjects.iter().any(|taken| overlap(taken, subject));
    (!fed_otherwise && !selected).then(|| {
        let taken = config.subjects.join("`, `");
        Concern::new(
            format!("`{subject}` selects nothing that it takes now, which is `{taken}`"),
            "see the source's `subjects`",
        )
    })
}

/// Whether there is a subject that both select; with `*` and `>` as in NATS.
fn overlap(one: &str, other: &str) -> bool {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        match (one.next(), other.next()) {
            (None, None) | (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
            (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_nats::jetstream::stream::{Source, SubjectTransform};

    use super::*;

    /// A change of good settings, and what is said about it.
    type Case = (fn(&mut Config), &'static [&'static str]);

    fn good() -> Config {
        Config { name: "S".to_owned(), subjects: vec!["s.>".to_owned()], ..Config::default() }
    }

    #[track_caller]
    fn said(found: &[Concern], expected: &[&str]) {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.to_string().contains(expected), "{expected}: {found}");
        }
    }

    fn changed(change: fn(&mut Config)) -> Judged {
        let mut config = good();
        change(&mut config);
        judge(&config, &["s.a".to_owned()])
    }

    #[test]
    fn settings_that_remove_what_no_reader_can_miss_are_refused() {
        let refuses_new: fn(&mut Config) = |config| {
            config.max_messages_per_subject = 1;
            config.discard = DiscardPolicy::New;
            config.discard_new_per_subject = true;
        };
        let refuses_new_of_all: fn(&mut Config) = |config| {
            config.max_messages_per_subject = 1;
            config.discard = DiscardPolicy::New;
        };
        let cases: [Case; 6] = [
            (|config| config.max_messages_per_subject = -1, &[]),
            (refuses_new, &[]),
            (|config| config.retention = RetentionPolicy::Interest, &["`nats stream edit S --retention limits`"]),
            (|config| config.retention = RetentionPolicy::WorkQueue, &["create it anew with `--retention limits`"]),
            (|config| config.max_messages_per_subject = 1, &["`nats stream edit S --max-msgs-per-subject=-1`"]),
            (refuses_new_of_all, &["`max_msgs_per_subject`"]),
        ];
        for (change, refused) in cases {
            let judged = changed(change);
            said(&judged.refused, refused);
            said(&judged.warned, &[]);
        }
    }

    #[test]
    fn settings_that_may_lose_or_hide_messages_are_told_with_what_mends_them() {
        let refuses_new: fn(&mut Config) = |config| {
            config.max_bytes = 10;
            config.discard = DiscardPolicy::New;
        };
        let two: fn(&mut Config) = |config| {
            config.max_bytes = 10;
            config.max_age = Duration::from_secs(60);
        };
        let mirror: fn(&mut Config) = |config| {
            config.subjects.clear();
            config.mirror = Some(Source { name: "A".to_owned(), ..Source::default() });
        };
        let renamed: fn(&mut Config) = |config| {
            let (source, destination) = ("s.>".to_owned(), "t.>".to_owned());
            config.subject_transform = Some(SubjectTransform { source, destination });
        };
        let cases: [Case; 14] = [
            (|_| {}, &[]),
            (|config| config.max_messages = -1, &[]),
            (refuses_new, &[]),
            (|config| config.storage = StorageType::Memory, &["`--storage file`"]),
            (|config| config.persist_mode = Some(PersistenceMode::Async), &["`--persist-mode default`"]),
            (|config| config.no_ack = true, &["`nats stream edit S --ack`"]),
            (|config| config.max_age = Duration::from_secs(60), &["`nats stream edit S --max-age=0`"]),
            (|config| config.max_messages = 10, &["`nats stream edit S --max-msgs=-1`"]),
            (|config| config.max_bytes = 10, &["`nats stream edit S --max-bytes=-1`"]),
            (two, &["--max-age=0", "--max-bytes=-1"]),
            (|config| config.allow_rollup = true, &["`nats stream edit S --no-allow-rollup`"]),
            (|config| config.allow_message_ttl = true, &["`Nats-TTL`"]),
            (mirror, &["it is a copy of `A`"]),
            (renamed, &["`nats stream edit S --no-transform`"]),
        ];
        for (change, warned) in cases {
            let judged = changed(change);
            said(&judged.refused, &[]);
            said(&judged.warned, warned);
        }
    }

    #[test]
    fn subject_that_the_stream_does_not_take_is_told() {
        for (taken, read, selects) in [
            ("s.>", "s.a", true),
            ("s.a", "s.>", true),
            ("s.*.b", "s.a.*", true),
            ("s.>", "s.>", true),
            ("s", "s", true),
            (">", "s", true),
            ("s.*", "s.a.b", false),
            ("s.a", "s.b", false),
            ("s", "s.>", false),
            ("s.>", "s", false),
            ("orders.>", "s.>", false),
        ] {
            let config = Config { subjects: vec!["other".to_owned(), taken.to_owned()], ..good() };
            let expected = format!("`{read}` selects nothing that it takes now, which is `other`, `{taken}`");
            let expected: &[&str] = if selects { &[] } else { &[&expected] };
            said(&judge(&config, &[read.to_owned()]).warned, expected);
        }
        said(&judge(&good(), &[]).warned, &[]);
    }
}
