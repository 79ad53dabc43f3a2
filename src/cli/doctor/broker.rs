//! The broker, its streams, its clock.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::definition::pipeline::{Clock, Input, NatsSettings, Pipeline, SinkTarget};
use crate::error::{Error, ErrorKind};
use crate::sink::change_target;
use crate::sink::subject::SubjectTemplate;
use crate::source::connect::{Broker, connect_with};
use crate::source::{examine, try_consumer};

use super::permissions::{self, Needed};
use super::{Check, Verdict};

/// What a pipeline asks of a broker.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Of each stream that is read, the sources' names and all their subjects.
    pub(super) read: BTreeMap<String, (Vec<String>, Vec<String>)>,
    /// Of each stream that is published to, the subjects.
    pub(super) published: BTreeMap<String, Vec<String>>,
}

/// Every check that needs a broker; none where the pipeline needs none.
pub(super) async fn checks(pipeline: &Pipeline, nats: &NatsSettings, publish: bool) -> Vec<Check> {
    let (wanted, mut checks) = wanted(pipeline, publish);
    if wanted.read.is_empty() && wanted.published.is_empty() {
        return checks;
    }
    let broker = match connected(nats).await {
        Ok(broker) => broker,
        Err(check) => {
            checks.push(check);
            checks.extend(names(&wanted).map(|name| Check {
                verdict: Verdict::Unreachable,
                check: name,
                says: "not looked at: there is no connection".to_owned(),
                mend: None,
            }));
            return checks;
        }
    };
    checks.push(server(&broker));
    let told = user_info(&broker).await;
    let may_ask = told.as_ref().map_or(true, |told| permissions::allows(told, STREAM_NAMES));
    let mut needed = vec![permissions::inbox()];
    for (stream, (_, subjects)) in &wanted.read {
        checks.extend(source_stream(&broker, stream, subjects).await);
        needed.extend(permissions::reading(stream));
    }
    for (stream, filters) in &wanted.published {
        let (found, exists) = sink_stream(&broker, stream, filters, may_ask).await;
        checks.extend(found);
        needed.extend(permissions::publishing(&pipeline.name, stream, filters, exists));
    }
    checks.extend(permission_checks(&told, &needed));
    checks.push(clock(&broker, &wanted, told.as_ref().ok(), pipeline.clock).await);
    checks
}

fn names(wanted: &Wanted) -> impl Iterator<Item = String> {
    wanted.read.keys().chain(wanted.published.keys()).map(|stream| format!("stream {stream}"))
}

fn wanted(pipeline: &Pipeline, publish: bool) -> (Wanted, Vec<Check>) {
    let (mut wanted, mut checks) = (Wanted::default(), Vec::new());
    for source in &pipeline.sources {
        if let Input::JetStream { stream, subjects, .. } = &source.input {
            let (names, all) = wanted.read.entry(stream.clone()).or_default();
            names.push(source.name.to_string());
            all.extend(subjects.iter().cloned());
        }
    }
    for sink in pipeline.sinks.iter().filter(|_| publish) {
        let SinkTarget::JetStream { stream, subject } = &sink.target else { continue };
        let job = pipeline.jobs.get(sink.job);
        let key: Vec<String> = job.iter().flat_map(|job| &job.key).map(|(column, _)| column.clone()).collect();
        match SubjectTemplate::parse(subject, &key) {
            Ok(template) => wanted.published.entry(stream.clone()).or_default().push(template.filter()),
            Err(error) => checks.push(Check::failed(format!("stream {stream}"), &error)),
        }
    }
    (wanted, checks)
}

async fn connected(nats: &NatsSettings) -> Result<Broker, Check> {
    if let Some(unset) = nats.unset.first() {
        let mend = unset.problem.help.clone().unwrap_or_else(|| "set it".to_owned());
        return Err(Check::refused("broker", unset.problem.message.clone(), mend));
    }
    connect_with(nats).await.map_err(|error| Check::failed("broker", &error))
}

/// Which server answers, and what it can do.
fn server(broker: &Broker) -> Check {
    let info = broker.client().server_info();
    let shown = format!("nats-server {}, max_payload {}", info.version, info.max_payload);
    if !info.jetstream {
        let mend = "start it with `nats-server --jetstream --store_dir DIR`";
        return Check::refused("broker", format!("{shown}: JetStream is off"), mend);
    }
    match version(&info.version) {
        Some(found) if found >= VERSION_MIN => Check::ok("broker", format!("{shown}, JetStream on")),
        _ => {
            let (major, minor, patch) = VERSION_MIN;
            let mend = format!("upgrade it to {major}.{minor}.{patch} or later");
            Check::refused("broker", format!("{shown}: it is too old for what Milepost asks of streams"), mend)
        }
    }
}

fn version(text: &str) -> Option<(u32, u32, u32)> {
    let mut parts = text.trim_start_matches('v').split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// A stream that is read: its settings, and whether a consumer can be made.
async fn source_stream(broker: &Broker, stream: &str, subjects: &[String]) -> Vec<Check> {
    let name = format!("stream {stream}");
    let (messages, judged) = match examine(broker, stream, subjects).await {
        Ok(examined) => examined,
        Err(error) => return vec![failed(broker, &name, error)],
    };
    let mut checks: Vec<Check> = Vec::new();
    let readable = judged.refused.is_empty();
    checks.extend(judged.refused.into_iter().map(|concern| Check::concern(Verdict::Refused, &name, concern)));
    if readable && let Err(error) = try_consumer(broker, stream, subjects).await {
        checks.push(failed(broker, &name, error));
    }
    checks.extend(judged.warned.into_iter().map(|concern| Check::concern(Verdict::Warning, &name, concern)));
    if checks.is_empty() {
        checks.push(Check::ok(name, format!("can be read, and read again; it holds {messages} messages")));
    }
    checks
}

/// A stream that is published to, and whether it exists. `may_ask`: for the stream that has a subject.
async fn sink_stream(broker: &Broker, stream: &str, filters: &[String], may_ask: bool) -> (Vec<Check>, bool) {
    let name = format!("stream {stream}");
    match change_target::examine(broker.jetstream(), stream, filters).await {
        Err(error) => (vec![failed(broker, &name, error)], true),
        Ok(Some(problems)) if problems.is_empty() => {
            (vec![Check::ok(name, format!("carries changes on `{}`", filters.join("`, `")))], true)
        }
        Ok(Some(problems)) => {
            (problems.into_iter().map(|problem| Check::concern(Verdict::Refused, &name, problem)).collect(), true)
        }
        Ok(None) if may_ask => (vec![not_there_yet(broker, stream, filters).await], false),
        Ok(None) => {
            let says =
                "is not there yet; `run` creates it, if no other stream has its subjects, which this user may not ask";
            (vec![Check::ok(name, says)], false)
        }
    }
}

/// A missing stream will be created, unless another one takes its subjects.
async fn not_there_yet(broker: &Broker, stream: &str, filters: &[String]) -> Check {
    let name = format!("stream {stream}");
    for filter in filters {
        match broker.jetstream().stream_by_subject(filter.clone()).await {
            Ok(other) => {
                let wrong = format!("it is not there, and can't be created: stream `{other}` takes `{filter}` already");
                let mend = format!("`nats stream edit {other} --subjects …` without it, or publish on other subjects");
                return Check::refused(name, wrong, mend);
            }
            Err(error) => tracing::debug!(%error, filter, "no stream has the subject, or it can't be asked for"),
        }
    }
    Check::ok(name, format!("is not there yet; `run` creates it for `{}`", filters.join("`, `")))
}

/// An error of asking the broker; a denied permission is a refusal, not a broker that is away.
fn failed(broker: &Broker, name: &str, error: Error) -> Check {
    let error = broker.explained(error);
    let text = error.chain();
    if text.to_lowercase().contains("permissions violation") {
        return Check::refused(name, text, permissions::MEND);
    }
    if text.contains("not enabled for account") {
        return Check::refused(name, text, "give the account `jetstream: enabled` in the broker's configuration");
    }
    Check::failed(name, &error)
}

/// What the broker says of the user of this connection.
async fn user_info(broker: &Broker) -> Result<Value, Error> {
    let asked = broker.client().request(USER_INFO, "".into()).await;
    let asking = "asking what this user may do";
    let answer =
        asked.map_err(|error| broker.explained(Error::caused(ErrorKind::Unavailable, asking, error.to_string())))?;
    serde_json::from_slice(&answer.payload).map_err(|error| Error::caused(ErrorKind::Unavailable, asking, error))
}

fn permission_checks(told: &Result<Value, Error>, needed: &[Needed]) -> Vec<Check> {
    let told = match told {
        Ok(told) => told,
        Err(error) => {
            let wrong = format!("unknown as far as they were not tried above: {}", error.chain());
            let mend = format!("allow the user to publish on `{USER_INFO}`, and all of them can be told");
            return vec![Check::warning("permissions", wrong, mend)];
        }
    };
    let user = told.pointer("/data/user").and_then(Value::as_str).unwrap_or("anonymous");
    let denied = permissions::denied(told, needed);
    if denied.is_empty() {
        return vec![Check::ok(
            "permissions",
            format!("user `{}` may do all that is needed", permissions::shown(user)),
        )];
    }
    let check = |needed: &Needed| {
        let wrong = format!("this user may not {} `{}`, {}", needed.verb(), needed.subject, needed.why);
        Check::refused("permissions", wrong, permissions::MEND)
    };
    denied.into_iter().map(check).collect()
}

/// How far this machine's clock is from the broker's.
async fn clock(broker: &Broker, wanted: &Wanted, told: Option<&Value>, clock: Clock) -> Check {
    let mut asked = None;
    for stream in wanted.read.keys().chain(wanted.published.keys()) {
        let before = now();
        let subject = format!("$JS.API.STREAM.INFO.{stream}");
        let Ok(answer) = broker.client().request(subject, "".into()).await else { continue };
        let told = serde_json::from_slice::<Value>(&answer.payload).ok();
        let at = told.as_ref().and_then(|told| told.get("ts")).and_then(Value::as_str).and_then(instant);
        if let Some(at) = at {
            asked = Some((at, before, now()));
            break;
        }
    }
    let Some((broker_says, before, after)) = asked else {
        return unknown_clock(told);
    };
    let round_trip = after - before;
    let skew = broker_says - (before + round_trip / 2);
    let (skew_ms, uncertain_ms) = (skew.num_milliseconds(), round_trip.num_milliseconds() / 2 + 1);
    let says = format!("the broker's clock is {skew_ms} ms from this machine's, give or take {uncertain_ms} ms");
    if skew_ms.unsigned_abs() <= SKEW_MS_MAX + uncertain_ms.unsigned_abs() {
        return Check::ok("clock", says);
    }
    let why = match clock {
        Clock::Broker => "when nothing arrives this machine's clock moves the watermark, so rows may count as late",
        Clock::EventTime => "ages in logs and of table versions are off by as much",
    };
    Check::warning("clock", format!("{says}: {why}"), "let both follow one NTP server: `timedatectl set-ntp true`")
}

/// Without a stream to ask for there is the answer about the user, which was not timed.
fn unknown_clock(told: Option<&Value>) -> Check {
    let at = told.and_then(|told| told.pointer("/server/time")).and_then(Value::as_str).and_then(instant);
    match at.map(|at| (now() - at).num_seconds()) {
        Some(seconds) if seconds.abs() <= UNTIMED_S_MAX => {
            Check::ok("clock", format!("the broker's clock is less than {UNTIMED_S_MAX} s from this machine's"))
        }
        Some(seconds) => Check::warning(
            "clock",
            format!("the broker's clock is about {seconds} s behind this machine's"),
            "let both follow one NTP server: `timedatectl set-ntp true`",
        ),
        None => Check::warning("clock", "the broker did not tell its time", "create the streams first, then ask again"),
    }
}

fn instant(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.with_timezone(&Utc))
}

#[expect(clippy::disallowed_methods, reason = "the clock is what is looked at")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

/// The first server that has all that Milepost asks of streams.
const VERSION_MIN: (u32, u32, u32) = (2, 12, 1);
/// Where a server names the streams that have a subject.
const STREAM_NAMES: &str = "$JS.API.STREAM.NAMES";
/// Where a server tells a user about itself.
const USER_INFO: &str = "$SYS.REQ.USER.INFO";
/// How far apart two clocks that follow one server may be.
const SKEW_MS_MAX: u64 = 1_000;
/// The same where the question was not timed.
const UNTIMED_S_MAX: i64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (text, is_enough) in [
            ("2.15.1", true),
            ("2.12.0", false),
            ("2.12.1-beta.1", true),
            ("v2.12.1", true),
            ("2.9.25", false),
            ("10.0.0", true),
            ("", false),
        ] {
            assert_eq!(version(text).is_some_and(|found| found >= VERSION_MIN), is_enough, "{text}");
        }
    }
}
