//! Change streams as the run loop publishes them: which sinks the log says are published to, what follows from an epoch for
//! them, and the chains that it goes out on.

use std::collections::BTreeMap;

use crate::checkpoint::chain::{Link, Roll, check_end};
use crate::checkpoint::outbox::{BatchSize, Draft, Outbox};
use crate::checkpoint::{AdoptedSink, History, JetStreamOutlet, Log, Outlet, Owed, roll_forward};
use crate::circuit::CompiledJob;
use crate::definition::pipeline::{Pipeline, SinkTarget};
use crate::error::{Error, ErrorKind, Result};
use crate::sink::change_stream::{ensure_stream, marker_subject, read_ledger};
use crate::sink::changes::{ChangeDesk, ChangeTarget};
use crate::sink::ledger::Ledger;
use crate::source::connect::Broker;

use super::engine::{Engine, EpochOutput};
use super::failpoint::Failpoint;
use super::outlets::key_names;

/// The change streams of a run.
pub(super) struct Publishing {
    pipeline: String,
    broker: Option<Broker>,
    jobs: Vec<CompiledJob>,
    /// What this run publishes to; nothing where it was told not to.
    wanted: Vec<AdoptedSink>,
    /// What the log says is published to, each with the position of its job in the circuit.
    desks: Vec<(AdoptedSink, usize, ChangeDesk)>,
    streams: BTreeMap<String, Stream>,
}

/// A stream that is open for publishing.
struct Stream {
    outlet: Box<dyn Outlet>,
    size: BatchSize,
    /// The end of its chain, as far as it is known.
    end: Option<Link>,
}

/// What the streams say of what was published to them.
pub(super) struct ReadBack {
    ends: BTreeMap<String, Link>,
    ledgers: Vec<Ledger>,
}

impl ReadBack {
    /// Whether nothing was ever published.
    pub(super) fn is_empty(&self) -> bool {
        self.ledgers.iter().all(Ledger::is_empty)
    }

    /// The ends of the chains, and the ledger of each sink that the run publishes to.
    pub(super) fn into_parts(self) -> (BTreeMap<String, Link>, Vec<Ledger>) {
        (self.ends, self.ledgers)
    }
}

impl Publishing {
    /// Opens the streams of a pipeline, creating missing ones with all the subjects that its jobs publish to. Without a broker
    /// nothing is published.
    pub(super) async fn open(pipeline: &Pipeline, jobs: &[CompiledJob], broker: Option<&Broker>) -> Result<Self> {
        let mut open = Self {
            pipeline: pipeline.name.clone(),
            broker: broker.cloned(),
            jobs: jobs.to_vec(),
            wanted: Vec::new(),
            desks: Vec::new(),
            streams: BTreeMap::new(),
        };
        let Some(broker) = broker else { return Ok(open) };
        let mut filters: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for sink in &pipeline.sinks {
            let SinkTarget::JetStream { stream, subject } = &sink.target else { continue };
            let job = jobs.iter().find(|compiled| compiled.job == sink.job);
            let job = job.ok_or_else(|| Error::internal("a sink's job was not compiled"))?;
            let wanted = AdoptedSink {
                job: job.name.to_string(),
                stream: stream.clone(),
                subject: subject.clone(),
                ledger: None,
            };
            filters.entry(stream).or_default().push(open.desk(&wanted)?.1.filter());
            open.wanted.push(wanted);
        }
        if !filters.is_empty() {
            JetStreamOutlet::check_broker(broker.jetstream())?;
        }
        for (stream, filters) in filters {
            let size = ensure_stream(broker.jetstream(), stream, &filters).await?;
            let marker = marker_subject(stream, &pipeline.name);
            let outlet = Box::new(JetStreamOutlet::new(broker.jetstream(), stream, marker));
            let size = BatchSize { message_bytes_max: size.message_bytes_max, batch_bytes_max: size.payload_bytes_max };
            open.streams.insert(stream.to_owned(), Stream { outlet, size, end: None });
        }
        Ok(open)
    }

    fn desk(&self, sink: &AdoptedSink) -> Result<(usize, ChangeDesk)> {
        let found = self.jobs.iter().enumerate().find(|(_, job)| *job.name == *sink.job);
        let (position, job) = found.ok_or_else(|| {
            Error::new(
                ErrorKind::Definition,
                format!("job `{}`, which was published, is no longer in the pipeline", sink.job),
            )
        })?;
        let target = ChangeTarget {
            pipeline: &self.pipeline,
            job: &job.name,
            stream: &sink.stream,
            subject: &sink.subject,
            schema: &job.schema,
            key: &key_names(job),
        };
        Ok((position, ChangeDesk::new(&target)?))
    }

    /// Whether the log says that what this run publishes to is what is published to. Then the ledgers follow from the log.
    pub(super) fn is_adopted(&self, adopted: &[AdoptedSink]) -> bool {
        let same = |(a, b): (&AdoptedSink, &AdoptedSink)| a.is_sink(b);
        self.wanted.len() == adopted.len() && self.wanted.iter().zip(adopted).all(same)
    }

    /// From here on these sinks are published to, from these ledgers on.
    pub(super) fn adopt(&mut self, sinks: Vec<(AdoptedSink, Ledger)>) -> Result<()> {
        self.desks.clear();
        for (sink, ledger) in sinks {
            let (position, mut desk) = self.desk(&sink)?;
            desk.set_ledger(ledger);
            self.desks.push((sink, position, desk));
        }
        Ok(())
    }

    /// The sinks that are published to, each with what was published.
    pub(super) fn ledgers(&self) -> Vec<(&AdoptedSink, &Ledger)> {
        self.desks.iter().map(|(sink, _, desk)| (sink, desk.ledger())).collect()
    }

    /// What this run publishes to.
    pub(super) fn wanted(&self) -> &[AdoptedSink] {
        &self.wanted
    }

    /// The jobs whose changes are to be published, by position in the circuit.
    pub(super) fn watched(&self) -> Vec<usize> {
        self.desks.iter().map(|(_, job, _)| *job).collect()
    }

    /// The messages that follow from an epoch.
    pub(super) fn changes(&mut self, output: &EpochOutput) -> Result<Draft> {
        let mut draft = Draft::default();
        for (sink, job, desk) in &mut self.desks {
            for (_, changes) in output.changes.iter().filter(|(changed, _)| changed == job) {
                draft.add(&sink.stream, desk.changes(output.stamp, changes)?);
            }
        }
        Ok(draft)
    }

    /// The messages that bring every stream to where its table stands.
    pub(super) fn differences(&mut self, engine: &Engine) -> Result<Draft> {
        let mut draft = Draft::default();
        if engine.stamp().epoch.0 == 0 {
            return Ok(draft);
        }
        for (sink, job, desk) in &mut self.desks {
            let messages = desk.reconcile(engine.stamp(), &engine.publishable(*job)?)?;
            tracing::info!(job = %sink.job, messages = messages.len(), "brings the change stream to where the table stands");
            draft.add(&sink.stream, messages);
        }
        Ok(draft)
    }

    /// Messages, behind the ends of their streams' chains.
    pub(super) fn outbox(&self, draft: Draft) -> Result<Option<Outbox>> {
        draft.outbox(&|stream| {
            let stream = self.streams.get(stream)?;
            Some((stream.end.clone()?, stream.size))
        })
    }

    /// Brings a stream's part of a commit out, as far as it is not.
    pub(super) async fn roll_forward(&mut self, roll: &mut Roll) -> Result<()> {
        let name = roll.stream().to_owned();
        let stream =
            self.streams.get_mut(&name).ok_or_else(|| Error::internal(format!("stream `{name}` was not opened")))?;
        roll_forward(&*stream.outlet, roll, &|| Failpoint::BatchSent.reached()).await?;
        stream.end = roll.end();
        Ok(())
    }

    /// Brings out what the last process left, and sees that each chain ends where the log says. Returns what the streams say, where
    /// the log does not say that they are published to.
    pub(super) async fn take_up(&mut self, log: &Log, history: &History) -> Result<Option<ReadBack>> {
        let known = self.is_adopted(history.adopted());
        for owed in log.owed(history).await? {
            // A stream that this run does not publish to, or not as before, is left as it is: it will be read back one day.
            if self.streams.contains_key(owed.stream()) {
                self.settle(owed).await?;
            }
        }
        if known && history.is_publishing() { Ok(None) } else { self.read_back().await.map(Some) }
    }

    async fn settle(&mut self, owed: Owed) -> Result<()> {
        match owed {
            Owed::Roll(mut roll) => self.roll_forward(&mut roll).await,
            Owed::End { stream: name, log, manifest, end } => {
                let missing = || Error::internal(format!("stream `{name}` was not opened"));
                let stream = self.streams.get_mut(&name).ok_or_else(missing)?;
                check_end(&name, &log, manifest, &end, stream.outlet.last_marker().await?)?;
                stream.end = Some(end);
                Ok(())
            }
        }
    }

    /// What the streams say of what was published to them. The ends of the chains come first: what somebody else publishes
    /// meanwhile makes the next batch fail.
    pub(super) async fn read_back(&self) -> Result<ReadBack> {
        let mut ends = BTreeMap::new();
        for (name, stream) in &self.streams {
            ends.insert(name.clone(), Link::from(stream.outlet.last_marker().await?));
        }
        let mut ledgers = Vec::new();
        if let Some(broker) = &self.broker {
            for sink in &self.wanted {
                ledgers.push(read_ledger(broker.jetstream(), &self.desk(sink)?.1).await?);
            }
        }
        Ok(ReadBack { ends, ledgers })
    }

    /// Goes on with the chains where they were read back.
    pub(super) fn follow(&mut self, ends: &BTreeMap<String, Link>) {
        for (name, stream) in &mut self.streams {
            stream.end = ends.get(name).cloned();
        }
    }
}
