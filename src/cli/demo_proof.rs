//! A demo that stays up, and the event that answers its story.
//!
//! `milepost demo --keep` writes down what the story's row waits for, runs the pipelines on, and prints every change that
//! they publish. `milepost demo --send-proof`, in another terminal, reads that, publishes the event and shows what comes of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::{Message, Subscriber};
use futures::future::{BoxFuture, select};
use futures::stream::select_all;
use futures::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::definition::pipeline::{NatsSettings, Pipeline, SinkTarget};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::BatchTable;
use crate::runtime::driver::{self, RunFailure, RunOptions};
use crate::runtime::outlets::state_directory;
use crate::runtime::report::StatusReport;
use crate::runtime::socket::{Reply, Request, ask};
use crate::sink::body::Rows;
use crate::sink::subject::{SubjectTemplate, encode_token};
use crate::source::connect::{Broker, connect};

use super::demo_script::{Proof, Selected, read, select as select_rows, selected, title_of};
use super::{Failure, Outcome, complain, output};

/// What a demo that stays up tells `--send-proof`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    nats: String,
    pipeline: String,
    story: String,
    /// Where the event is published, and the event.
    subject: String,
    event: Map<String, Value>,
    answers: Vec<Answer>,
    /// A SELECT over the running pipeline.
    after: String,
}

/// A change stream that answers the event.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    job: String,
    stream: String,
    subject: String,
}

/// A pipeline of the demo, to be run on.
pub(crate) struct Played {
    pub(crate) pipeline: Arc<Pipeline>,
    /// The epoch that it had reached.
    pub(crate) epoch: u64,
}

impl Kept {
    /// Works out the event that the story waits for.
    pub(crate) async fn prepare(
        folder: &Path,
        proof: &Proof,
        pipeline: &Pipeline,
        tables: &[BatchTable],
        (story, report): (&Selected, &StatusReport),
        (nats, subject): (&str, &str),
    ) -> Result<Option<Self>> {
        let (Some(told), Some(table)) = (story.rows.first().and_then(|row| row.first()), story.as_table("story"))
        else {
            return Ok(None);
        };
        let tables: Vec<BatchTable> = tables.iter().cloned().chain([table]).collect();
        let event = select_rows(&folder.join(&proof.event), &tables, report.watermark_us).await?;
        let Some(event) = event_of(&event)? else { return Ok(None) };
        let answers = proof.answers.iter().map(|job| answer(pipeline, job, story)).collect::<Result<Vec<_>>>()?;
        Ok(Some(Self {
            nats: nats.to_owned(),
            pipeline: pipeline.name.clone(),
            story: told.clone(),
            subject: subject.to_owned(),
            event,
            answers,
            after: filled_in(&read(&folder.join(&proof.after))?, story),
        }))
    }

    fn write(&self, home: &Path) -> Result<()> {
        let path = home.join(KEPT);
        let failed = |error| Error::caused(ErrorKind::Unavailable, format!("writing `{}`", path.display()), error);
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::caused(ErrorKind::Internal, "writing what the demo waits for", error))?;
        std::fs::write(&path, text).map_err(failed)
    }

    fn read(home: &Path) -> Result<Self> {
        let path = home.join(KEPT);
        let text = std::fs::read(&path).map_err(|_| {
            let doing = format!(
                "no demo stays up under `{}`: run `milepost demo --keep` in another terminal first",
                home.display()
            );
            Error::new(ErrorKind::Definition, doing)
        })?;
        serde_json::from_slice(&text)
            .map_err(|error| Error::caused(ErrorKind::Definition, format!("reading `{}`", path.display()), error))
    }
}

/// The fields of the event: the columns of the first row, without nulls.
fn event_of(selected: &Selected) -> Result<Option<Map<String, Value>>> {
    let Some(batch) = selected.batches.iter().find(|batch| batch.num_rows() > 0) else { return Ok(None) };
    let mut bytes = Vec::new();
    Rows::new(batch)?.write(0, &mut bytes)?;
    let mut event: Map<String, Value> = serde_json::from_slice(&bytes)
        .map_err(|error| Error::caused(ErrorKind::Internal, "reading a row as JSON", error))?;
    event.retain(|_, value| !value.is_null());
    Ok(Some(event))
}

/// Where the job's change of the story's row will be published.
fn answer(pipeline: &Pipeline, job: &str, story: &Selected) -> Result<Answer> {
    let wrong = |what: String| Error::new(ErrorKind::Definition, format!("the demo's proof: {what}"));
    let found = pipeline.sinks.iter().find_map(|sink| match (&sink.target, pipeline.jobs.get(sink.job)) {
        (SinkTarget::JetStream { stream, subject }, Some(found)) if *found.name == *job => {
            Some((stream, subject, &found.key))
        }
        _ => None,
    });
    let (stream, template, key) = found.ok_or_else(|| wrong(format!("job `{job}` has no change stream")))?;
    let names: Vec<String> = key.iter().map(|(name, _)| name.clone()).collect();
    let values = names
        .iter()
        .map(|name| story.first(name).map(encode_token).ok_or_else(|| wrong(format!("the story has no `{name}`"))))
        .collect::<Result<Vec<_>>>()?;
    let subject = SubjectTemplate::parse(template, &names)?.subject(&values)?;
    Ok(Answer { job: job.to_owned(), stream: stream.clone(), subject })
}

/// The SELECT with the story's values in place of `{column}`.
fn filled_in(sql: &str, story: &Selected) -> String {
    story.header.iter().fold(sql.to_owned(), |sql, column| {
        let value = story.first(column).unwrap_or_default().replace('\'', "''");
        sql.replace(&format!("{{{column}}}"), &format!("'{value}'"))
    })
}

/// Runs the pipelines on until the process is asked to end, and prints what they publish.
pub(crate) async fn keep(
    home: &Path,
    played: Vec<Played>,
    kept: Option<Kept>,
    nats: &str,
    stop: futures::future::Shared<BoxFuture<'static, ()>>,
) -> Outcome {
    let broker = connect(nats).await?;
    let mut changes = Vec::new();
    for sink in played.iter().flat_map(|played| &played.pipeline.sinks) {
        if let SinkTarget::JetStream { subject, .. } = &sink.target {
            changes.push(subscribe(&broker, &filter_of(subject)).await?);
        }
    }
    // Told to `--send-proof` once all pipelines are where they were.
    let invitation = Arc::new((invitation(home, kept.is_some()), kept));
    let behind = Arc::new(AtomicUsize::new(played.len()));
    let runs = played.into_iter().map(|Played { pipeline, epoch }| {
        let (behind, invitation, folder) = (Arc::clone(&behind), Arc::clone(&invitation), home.to_owned());
        let mut arrived = false;
        let options = RunOptions {
            home: home.to_owned(),
            nats: NatsSettings::at(nats),
            until_caught_up: false,
            publish: true,
            watermark: None,
            snapshot_every: driver::SNAPSHOT_EVERY,
            progress: Box::new(move |report| {
                if !arrived && report.epoch >= epoch {
                    arrived = true;
                    if behind.fetch_sub(1, Ordering::SeqCst) == 1 {
                        invite(&folder, &invitation.0, invitation.1.as_ref());
                    }
                }
            }),
        };
        Box::pin(driver::run(pipeline, options, stop.clone().boxed()))
    });
    let runs = Box::pin(futures::future::try_join_all(runs));
    let ended = match select(runs, Box::pin(show(changes))).await {
        futures::future::Either::Left((ended, _)) => ended.map(|_| ()).map_err(|failure: RunFailure| failure.into()),
        futures::future::Either::Right((shown, runs)) => match shown {
            Ok(()) => runs.await.map(|_| ()).map_err(Failure::from),
            Err(failure) => Err(failure),
        },
    };
    if let Err(error) = std::fs::remove_file(home.join(KEPT)) {
        tracing::debug!(%error, "nothing was kept");
    }
    ended
}

/// Says that all is up, to people and to `--send-proof`.
fn invite(home: &Path, invitation: &str, kept: Option<&Kept>) {
    match kept.map_or(Ok(()), |kept| kept.write(home)) {
        Ok(()) => complain(invitation),
        Err(error) => complain(&format!("error: {}", error.chain())),
    }
}

fn invitation(home: &Path, proof: bool) -> String {
    let home = home.parent().unwrap_or(home);
    let flag = if home == Path::new(".milepost") { String::new() } else { format!(" --home {}", home.display()) };
    let send = if proof {
        format!("; to send what its story waits for, in another terminal:\n  milepost demo --send-proof{flag}\n")
    } else {
        "\n".to_owned()
    };
    format!("\nstays up until Ctrl-C, and shows every change as it is published{send}")
}

/// The filter that selects every subject of a sink.
fn filter_of(template: &str) -> String {
    let token = |token: &str| if token.starts_with('{') { "*".to_owned() } else { token.to_owned() };
    template.split('.').map(token).collect::<Vec<_>>().join(".")
}

async fn subscribe(broker: &Broker, subject: &str) -> Result<Subscriber> {
    broker
        .client()
        .subscribe(subject.to_owned())
        .await
        .map_err(|error| Error::caused(ErrorKind::Unavailable, format!("listening on `{subject}`"), error.to_string()))
}

/// Prints each change until the connection is closed.
async fn show(changes: Vec<Subscriber>) -> Outcome {
    let mut changes = select_all(changes);
    while let Some(message) = changes.next().await {
        output::print_line(&shown(&message))?;
    }
    Ok(())
}

/// One line of a change: what happened, to which key, in which revision.
fn shown(message: &Message) -> String {
    let change: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
    let field =
        |name: &str| change.get(name).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    format!(
        "  {}  {}  revision {}",
        field("type").unwrap_or_else(|| message.subject.to_string()),
        field("subject").unwrap_or_default(),
        field("revision").unwrap_or_default()
    )
}

/// Publishes the event that the kept demo's story waits for, and shows what comes of it.
pub(crate) async fn send_proof(home: &Path) -> Outcome {
    let kept = Kept::read(home)?;
    let directory = state_directory(home, &kept.pipeline);
    if ask(&directory, &Request::Status).await?.is_none() {
        let doing = "the demo that stays up does not answer yet, or ended: start it with `milepost demo --keep`, and wait for its invitation";
        return Err(Error::new(ErrorKind::Unavailable, doing).into());
    }
    let broker = connect(&kept.nats).await?;
    let said = output::print_line(&format!("\nbefore\n{}", super::demo::wrapped(&kept.story).trim_end()));
    said?;
    if answered(&broker, &kept).await? {
        output::print_line("\nthis was sent before")?;
    } else {
        let mut answers = Vec::new();
        for answer in &kept.answers {
            answers.push(subscribe(&broker, &answer.subject).await?);
        }
        send(&broker, &kept, answers).await?;
    }
    let (title, sql) = (title_of(&kept.after).to_owned(), kept.after.clone());
    let Some(Reply::Rows(schema, batches)) = ask(&directory, &Request::Query(sql)).await? else {
        return Err(Error::new(ErrorKind::Unavailable, "the demo that stayed up has ended").into());
    };
    let header = schema.fields().iter().map(|field| field.name().clone()).collect();
    output::print_bytes(selected(&title, header, batches)?.panel().as_bytes())
}

/// Whether the stored message of the first answer says already that its row is gone.
async fn answered(broker: &Broker, kept: &Kept) -> Result<bool> {
    let Some(first) = kept.answers.first() else { return Ok(false) };
    let broken = |error: &dyn std::error::Error| {
        Error::new(ErrorKind::Unavailable, format!("reading stream `{}`: {error}", first.stream))
    };
    let stream = broker.jetstream().get_stream(&first.stream).await.map_err(|error| broken(&error))?;
    match stream.get_last_raw_message_by_subject(&first.subject).await {
        Ok(message) => {
            let change: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
            Ok(change.get("data").is_none_or(Value::is_null))
        }
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(false),
        Err(error) => Err(broken(&error)),
    }
}

/// Publishes the event, and prints the answers as they come.
async fn send(broker: &Broker, kept: &Kept, answers: Vec<Subscriber>) -> Outcome {
    let event = serde_json::to_string(&kept.event)
        .map_err(|error| Error::caused(ErrorKind::Internal, "writing the event", error))?;
    let shown_event = event.replace(",\"", ", \"");
    output::print_line(&format!("\nsends on {}\n{}\n", kept.subject, super::demo::wrapped(&shown_event).trim_end()))?;
    let failed = |error: &dyn std::error::Error| {
        Error::new(ErrorKind::Unavailable, format!("publishing on `{}`: {error}", kept.subject))
    };
    broker.client().flush().await.map_err(|error| failed(&error))?;
    let started = now();
    let sent = broker.jetstream().publish(kept.subject.clone(), event.into()).await.map_err(|error| failed(&error))?;
    sent.await.map_err(|error| failed(&error))?;
    let mut answers = select_all(answers);
    for _ in &kept.answers {
        match tokio::time::timeout(ANSWERED_WITHIN, answers.next()).await {
            Ok(Some(message)) => {
                let after_ms = now().duration_since(started).as_millis();
                output::print_line(&format!("{}  after {after_ms} ms", shown(&message)))?;
            }
            _ => {
                let doing = format!("no answer within {} s: look at `milepost status`", ANSWERED_WITHIN.as_secs());
                return Err(Error::new(ErrorKind::Unavailable, doing).into());
            }
        }
    }
    Ok(())
}

/// Where a kept demo is described, under its home.
const KEPT: &str = "kept.json";
/// How long an answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// The folder of a demo under `--home`.
pub(crate) fn demo_home(home: &Path) -> PathBuf {
    home.join("demo")
}

#[expect(clippy::disallowed_methods, reason = "how long an answer took is shown, and decides nothing")]
fn now() -> Instant {
    Instant::now()
}
