//! The run loop.
//!
//! For each epoch, in this order: read, step the circuit, and what [`super::machine`] says. After a restart what the last process
//! left of its publications is brought out, and the logged epochs are run again from exactly their ranges and clocks: they
//! give the messages that they gave. A change stream that the log knows nothing of is read back, and only differences
//! are published.
//!
//! Upsert files may change. Then every source is read again from where it was begun, into a log of its own that takes the
//! place of the old one when all has been read: until then readers keep the tables that they have, and a crash changes nothing.

mod commit;
mod snapshot;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all, select_all};

use crate::batch::{OpenBatch, Supply};
use crate::checkpoint::{
    Entry, EpochRecord, FoundSnapshot, History, HomeLock, InputRange, Log, Logged, Snapshots, Writer, elapsed,
};
use crate::definition::pipeline::{Clock, Input, NatsSettings, Pipeline, SinkTarget};
use crate::diagnostic::Diagnostics;
use crate::error::{Error, ErrorKind, Result};
use crate::sink::table::Published;
use crate::source::connect::{Broker, connect_with};
use crate::source::file::absent;
use crate::source::repeats::Repeats;
use crate::source::{Read, ReadLimit, Rest, TakenPart};
use crate::types::{Epoch, Micros, SequenceRange};

use super::engine::{Engine, EpochInput, EpochOutput};
use super::failpoint::Failpoint;
use super::fit::fits;
use super::inputs::{Gathered, InputState, add_range, open_inputs};
use super::outlets::{self, TableOutlet, state_directory};
use super::publishing::{Publishing, ReadBack};
use super::report::{SourceReport, StatusReport};
use super::shared::{Shared, blocking, blocking_on, write_status};
use super::socket::{Responder, listen};
use commit::same_messages;
use snapshot::Snapshotting;

pub use snapshot::SNAPSHOT_EVERY;

/// How a pipeline is run.
pub struct RunOptions {
    /// Everything that is written lies under it.
    pub home: PathBuf,
    /// How to reach the broker, for pipelines that use one.
    pub nats: NatsSettings,
    /// Process what is there, then end.
    pub until_caught_up: bool,
    /// Whether change streams are published to.
    pub publish: bool,
    /// A last tick that closes a finished history.
    pub watermark: Option<Micros>,
    /// How often a snapshot of the state is taken, if anything was read meanwhile; one more is taken at the end.
    pub snapshot_every: Duration,
    /// Called after every epoch.
    pub progress: Box<dyn FnMut(&StatusReport) + Send>,
}

/// Why a run ended otherwise than well.
#[derive(Debug)]
pub enum RunFailure {
    /// The definition has problems.
    Definition(Diagnostics),
    /// Something else.
    Failed(Error),
}

impl From<Error> for RunFailure {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Diagnostics> for RunFailure {
    fn from(problems: Diagnostics) -> Self {
        Self::Definition(problems)
    }
}

/// Runs a pipeline until `stop` resolves, or until it has caught up if so asked; returns how it stands then.
///
/// # Errors
/// All problems of the definition, or what the environment or the data made impossible.
pub async fn run(
    pipeline: Arc<Pipeline>,
    mut options: RunOptions,
    stop: BoxFuture<'static, ()>,
) -> Result<StatusReport, RunFailure> {
    let missing = absent(&pipeline).await;
    if !missing.errors.is_empty() {
        return Err(missing.errors.into());
    }
    for warning in missing.warnings.0 {
        tracing::warn!("{}", warning.message);
    }
    let stop = stop.shared();
    let mut anew = None;
    loop {
        match Box::pin(run_once(&pipeline, options, stop.clone(), anew)).await? {
            Ended::Finished(report) => return Ok(report),
            Ended::Anew(again, begun) => (options, anew) = (again, Some(begun)),
        }
    }
}

/// How a run ended.
enum Ended {
    /// As it should; how the pipeline stands then.
    Finished(StatusReport),
    /// What was read is not as it was, and all is to be read again, under these options, the streams from where they were
    /// begun.
    Anew(RunOptions, Vec<InputRange>),
}

/// With `anew` everything is read again from there; what is logged stays what a restart finds until that is done.
async fn run_once(
    pipeline: &Arc<Pipeline>,
    options: RunOptions,
    stop: Stop,
    anew: Option<Vec<InputRange>>,
) -> Result<Ended, RunFailure> {
    let pipeline = Arc::clone(pipeline);
    let directory = state_directory(&options.home, &pipeline.name);
    let broker = if needs_broker(&pipeline, options.publish) { Some(connected(&options.nats).await?) } else { None };
    let told = |error: Error| explained(broker.as_ref(), error);
    let mut inputs = open_inputs(&pipeline, broker.as_ref(), &directory).await.map_err(told)?;
    let engine = Engine::new(Arc::clone(&pipeline), &[]).await?;
    let jobs = engine.circuit().jobs().to_vec();
    let tables = outlets::open_tables(&pipeline, &jobs, &options.home)?;
    let lock = HomeLock::take(&directory)?;
    let place = outlets::state_place(&pipeline, &directory);
    let publishing = match &broker {
        Some(broker) if options.publish => Publishing::open(&pipeline, &jobs, Some(broker)).await.map_err(told)?,
        _ => Publishing::open(&pipeline, &jobs, None).await?,
    };
    let mut taken = take_over(&pipeline, &directory, publishing, anew).await.map_err(told)?;
    let (engine, covered) = match taken.found.take() {
        Some((found, covered)) => {
            let (engine, begun) = snapshot::begin_from(&pipeline, engine, &mut taken.publishing, &found).await?;
            (engine, if begun { covered } else { 0 })
        }
        None => (engine, 0),
    };
    for input in &mut inputs {
        input.identity = input.source.identity().await?;
    }
    let shared = Arc::new(Shared {
        pipeline: pipeline.name.clone(),
        engine: Arc::new(Mutex::new(engine)),
        trouble: Mutex::new(None),
        positions: Mutex::new(Vec::new()),
    });
    let listening = listen(&directory, Arc::clone(&shared) as Arc<dyn Responder>)?;
    let mut driver = Driver {
        broker,
        pipeline,
        place,
        directory,
        inputs,
        shared,
        publishing: taken.publishing,
        unadopted: taken.unadopted,
        tables,
        log: taken.log,
        aside: taken.aside,
        begun: Vec::new(),
        snapshotting: Snapshotting::new(taken.snapshots),
        options,
        stop,
        behind: false,
        warned: Repeats::default(),
        pauses: None,
    };
    let finished = driver.drive(taken.course, covered).await;
    join_all(driver.inputs.iter_mut().map(|input| input.source.close())).await;
    drop(listening);
    drop(lock);
    let finished = finished.map_err(|error| explained(driver.broker.as_ref(), error))?;
    Ok(match finished {
        Course::Ended => Ended::Finished(driver.shared.status(false)),
        Course::Anew(begun) => Ended::Anew(driver.options, begun),
    })
}

/// What is there when the log is ours.
struct Taken {
    log: Log,
    /// What is to be run again.
    course: Vec<Logged>,
    publishing: Publishing,
    unadopted: Option<ReadBack>,
    aside: Option<Vec<EpochRecord>>,
    snapshots: Snapshots,
    /// A snapshot, and how many entries of the course it covers.
    found: Option<(FoundSnapshot, usize)>,
}

/// Makes this process the only writer of the pipeline's log, and brings out what the last one left.
async fn take_over(
    pipeline: &Pipeline,
    directory: &std::path::Path,
    mut publishing: Publishing,
    anew: Option<Vec<InputRange>>,
) -> Result<Taken> {
    let writer = Writer::this_process();
    let nonce = writer.nonce.clone();
    let store = outlets::open_state(pipeline, directory, &writer.nonce).await?;
    let (prints, place) = (pipeline.fingerprints(), outlets::state_place(pipeline, directory));
    let fit = |history: &History| fits(history, &prints, &place);
    let (log, history) = Log::open(store, writer, elapsed(), prints.clone(), &fit).await?;
    Failpoint::Claimed.reached();
    let mut unadopted = publishing.take_up(&log, &history).await?;
    let aside = anew.map(|begun| vec![begin_anew(begun)]);
    let course = match &aside {
        Some(records) => records.iter().cloned().map(Logged::in_silence).collect(),
        None => history.course(log.store()).await?,
    };
    if aside.is_some() && unadopted.is_none() {
        // A generation has no sinks before it is established.
        unadopted = Some(publishing.read_back().await?);
    }
    let snapshots = Snapshots::of(&log, &history, &nonce).await;
    let found = if aside.is_some() { None } else { snapshots.newest(&history).await? };
    let found = found.map(|found| {
        let behind = history.behind(found.covers);
        (found, course.len().saturating_sub(behind))
    });
    Ok(Taken { log, course, publishing, unadopted, aside, snapshots, found })
}

/// The first record of a generation: it says where each stream was begun, and takes nothing.
fn begin_anew(begun: Vec<InputRange>) -> EpochRecord {
    EpochRecord { epoch: Epoch(1), clock_us: None, watermark_us: None, ended: false, inputs: begun }
}

/// A stream that is not what was read of it, with what can be done.
fn lost(source: &str, place: &str, error: Error) -> Error {
    if error.kind() != ErrorKind::Corrupt {
        return error;
    }
    let doing = format!(
        "source `{source}` can't be read again as it was; bring the stream back as it was, or begin anew: give `--home` another folder \
         or remove `{place}`"
    );
    Error::caused(ErrorKind::Corrupt, doing, error.chain())
}

fn needs_broker(pipeline: &Pipeline, publish: bool) -> bool {
    let streams = pipeline.sources.iter().any(|source| matches!(source.input, Input::JetStream { .. }));
    streams || (publish && pipeline.sinks.iter().any(|sink| matches!(sink.target, SinkTarget::JetStream { .. })))
}

async fn connected(nats: &NatsSettings) -> Result<Broker, RunFailure> {
    if nats.unset.is_empty() {
        return Ok(connect_with(nats).await?);
    }
    let problems = nats.unset.iter().map(|unset| unset.problem.clone()).collect();
    Err(RunFailure::Definition(Diagnostics(problems)))
}

/// An error with what NATS complained about meanwhile.
fn explained(broker: Option<&Broker>, error: Error) -> Error {
    match broker {
        Some(broker) => broker.explained(error),
        None => error,
    }
}

/// Resolves when the process is asked to end; any number of waits share it.
type Stop = futures::future::Shared<BoxFuture<'static, ()>>;

struct Driver {
    broker: Option<Broker>,
    pipeline: Arc<Pipeline>,
    directory: PathBuf,
    /// Where the log lies, for people.
    place: String,
    inputs: Vec<InputState>,
    shared: Arc<Shared>,
    publishing: Publishing,
    /// What the streams say of what was published, where the log does not.
    unadopted: Option<ReadBack>,
    tables: Vec<TableOutlet>,
    log: Log,
    /// While everything is read again: the epochs so far, which nobody finds yet.
    aside: Option<Vec<EpochRecord>>,
    /// What was taken first of each source, by the log.
    begun: Vec<InputRange>,
    snapshotting: Snapshotting,
    options: RunOptions,
    /// Resolves when the process is asked to end.
    stop: Stop,
    /// What was said of the environment a short while ago.
    warned: Repeats,
    /// The pauses of a broken environment; none while all is well.
    pauses: Option<ExponentialBackoff>,
    /// Whether readers find more than was read again so far: the tables that they have stay as they are.
    behind: bool,
}

/// How the loop is left.
#[derive(Debug)]
enum Course {
    /// For good.
    Ended,
    /// To read everything again, the streams from where they were begun.
    Anew(Vec<InputRange>),
}

impl Driver {
    /// `covered` says how many entries of the course are in the state already.
    async fn drive(&mut self, mut course: Vec<Logged>, covered: usize) -> Result<Course> {
        let changes = self.take_up(&course).await?;
        if !changes.is_empty() {
            return self.settle_changes(&changes).await;
        }
        let rest = course.split_off(covered);
        self.pass_over(&course).await?;
        let driven = self.drive_on(rest).await;
        let changed = self.inputs.iter_mut().enumerate().find_map(|(at, input)| Some((at, input.changed.take()?)));
        match changed {
            Some(changed) => self.settle_changes(&[changed]).await,
            None => driven.map(|()| Course::Ended),
        }
    }

    async fn drive_on(&mut self, course: Vec<Logged>) -> Result<()> {
        self.behind = !course.is_empty();
        for logged in course {
            if self.stopped() {
                return self.finish().await;
            }
            match logged {
                Logged::Epoch { record, sha256 } => self.rerun(record, sha256.as_deref()).await?,
                Logged::Adopt { sinks, sha256 } => self.adopt_again(sinks, sha256.as_deref()).await?,
            }
        }
        self.behind = self.aside.is_some();
        for input in &mut self.inputs {
            input.goal = input.source.end().await?.unwrap_or(0);
        }
        self.note_progress();
        if self.aside.is_none() && self.unadopted.is_some() {
            self.renounce().await?;
        }
        // What was never published is published from the first epoch on; what was, once all is read that there is.
        if self.shared.lock().epoch().0 == 0 && self.unadopted.as_ref().is_some_and(ReadBack::is_empty) {
            self.adopt().await?;
        }
        let mut batch = OpenBatch::new(self.pipeline.batch);
        let started = now();
        let mut quiet_since = now();
        loop {
            if self.stopped() {
                return self.finish().await;
            }
            if self.caught_up() && (self.aside.is_some() || self.unadopted.is_some()) {
                self.establish().await?;
                self.behind = false;
                self.adopt().await?;
            }
            if self.options.until_caught_up && self.caught_up() {
                self.close().await?;
                return self.finish().await;
            }
            let (gathered, fault) = self.gather(&mut batch, started).await;
            let is_empty = gathered.is_empty();
            if !is_empty {
                quiet_since = now();
                self.live_epoch(gathered, None, false).await?;
            }
            match fault {
                Some(_) if self.stopped() => continue,
                // What the other sources have is not held up.
                Some(error) if !is_empty => self.note_trouble(error)?,
                Some(error) => {
                    self.wait_out(error).await?;
                    continue;
                }
                None => self.note_calm(),
            }
            if is_empty {
                self.tick(quiet_since).await?;
            }
            self.write_due_tables().await?;
            self.tend_snapshots().await?;
        }
    }

    /// Brings the sources to where the log begins. State is rebuilt from them, so they must still give what they gave;
    /// returns what they no longer do.
    async fn take_up(&mut self, course: &[Logged]) -> Result<Vec<(usize, String)>> {
        let mut taken: Vec<Vec<TakenPart>> = vec![Vec::new(); self.inputs.len()];
        let records = course.iter().filter_map(|logged| match logged {
            Logged::Epoch { record, .. } => Some(record),
            Logged::Adopt { .. } => None,
        });
        records.clone().for_each(|record| self.note_begun(record));
        for range in records.flat_map(|record| &record.inputs) {
            let position = self.inputs.iter().position(|input| *input.name == *range.source);
            let Some(parts) = position.and_then(|position| taken.get_mut(position)) else {
                return Err(self.other_history(&range.source, "it is no longer in the pipeline"));
            };
            add_range(parts, &range.identity, range.range, range.anchor.clone());
        }
        let mut changes = Vec::new();
        for (position, (input, parts)) in self.inputs.iter_mut().zip(&taken).enumerate() {
            let resumed = input.source.resume(parts).await.map_err(|error| lost(&input.name, &self.place, error))?;
            changes.extend(resumed.map(|changed| (position, changed)));
        }
        Ok(changes)
    }

    /// Brings the sources behind what the state knows already.
    async fn pass_over(&mut self, covered: &[Logged]) -> Result<()> {
        for input in &mut self.inputs {
            let ranges = covered.iter().filter_map(|logged| match logged {
                Logged::Epoch { record, .. } => Some(&record.inputs),
                Logged::Adopt { .. } => None,
            });
            let last = ranges.flatten().rfind(|range| *range.source == *input.name);
            if let Some(last) = last {
                input.go_on_from(last.range.end).await.map_err(|error| lost(&input.name, &self.place, error))?;
            }
        }
        Ok(())
    }

    /// What was read is not as it was. Of upsert files that is how master data change, and everything is read again; what was
    /// accepted of any other source must stay.
    async fn settle_changes(&mut self, changes: &[(usize, String)]) -> Result<Course> {
        for (position, changed) in changes {
            let input = self.inputs.get(*position).ok_or_else(|| Error::internal("no such input"))?;
            if !(input.file && input.upsert) {
                return Err(self.other_history(&input.name, changed));
            }
        }
        for (position, changed) in changes {
            let source = self.inputs.get(*position).map_or("", |input| &input.name);
            let what = changed.split(';').next();
            tracing::warn!(source, what, "an upsert file has changed: every source is read again");
        }
        loop {
            match self.begun().await {
                Ok(begun) => return Ok(Course::Anew(begun)),
                Err(error) => self.wait_out(error).await?,
            }
        }
    }

    /// Where each stream was begun; it must still hold everything from there on.
    async fn begun(&mut self) -> Result<Vec<InputRange>> {
        let mut begun = Vec::new();
        for input in self.inputs.iter_mut().filter(|input| !input.file) {
            let Some(first) = self.begun.iter().find(|range| *range.source == *input.name) else { continue };
            let start = first.range.start;
            input.source.seek(start).await.map_err(|error| {
                let doing =
                    format!("an upsert file has changed, and source `{}` must be read again from {start}", input.name);
                Error::caused(error.kind(), doing, error)
            })?;
            begun.push(InputRange { range: SequenceRange { start, end: start }, anchor: None, ..first.clone() });
        }
        Ok(begun)
    }

    fn note_begun(&mut self, record: &EpochRecord) {
        for range in &record.inputs {
            if !self.begun.iter().any(|begun| begun.source == range.source) {
                self.begun.push(range.clone());
            }
        }
    }

    fn other_history(&self, source: &str, what: &str) -> Error {
        let doing = format!(
            "source `{source}`: {what}; to begin anew, give `--home` another folder or remove `{}`",
            self.place
        );
        Error::new(ErrorKind::Definition, doing)
    }

    fn stopped(&self) -> bool {
        self.stop.clone().now_or_never().is_some()
    }

    fn caught_up(&self) -> bool {
        self.inputs.iter().all(InputState::caught_up)
    }

    /// Reads what is there now, up to a batch; where nothing is, waits for the first rows, but not for ever. Upsert sources
    /// come first, to the end that they had at the start. The first fault of a source is told beside what the others gave.
    async fn gather(&mut self, batch: &mut OpenBatch, started: Instant) -> (Gathered, Option<Error>) {
        batch.start();
        let mut gathered = Gathered::new(self.inputs.len());
        let reading_master_data = self.inputs.iter().any(InputState::lags_as_master_data);
        loop {
            let (mut flowing, mut fault) = (false, None);
            for (position, input) in self.inputs.iter_mut().enumerate() {
                let room = batch.room();
                if input.ended || room == 0 || (reading_master_data && !input.lags_as_master_data()) {
                    continue;
                }
                let limit = ReadLimit { messages: room, before: None, wait: Duration::ZERO };
                match input.read(limit).await {
                    Ok(read) => {
                        flowing |= read.rest == Rest::More && !(read.messages.is_empty() && read.rows.is_empty());
                        gathered.absorb(position, input, read, batch, now().duration_since(started));
                    }
                    Err(error) => drop(fault.get_or_insert(error)),
                }
            }
            if fault.is_some() {
                return (gathered, fault);
            }
            let supply = if flowing { Supply::Flowing } else { Supply::Dry };
            if !gathered.is_empty() && batch.close(supply, now().duration_since(started)).is_some() {
                return (gathered, None);
            }
            if !flowing {
                match self.first_rows(batch.room()).await {
                    Err(error) => return (gathered, Some(error)),
                    Ok(Some((position, read))) => {
                        if let Some(input) = self.inputs.get_mut(position) {
                            gathered.absorb(position, input, read, batch, now().duration_since(started));
                        }
                    }
                    Ok(None) => {}
                }
                return (gathered, None);
            }
        }
    }

    /// The first read that brings something, of whichever source; none if the process is to end or nothing comes for a
    /// while. The other reads are dropped, which loses nothing.
    async fn first_rows(&mut self, messages: usize) -> Result<Option<(usize, Read)>> {
        let limit = ReadLimit { messages, before: None, wait: IDLE_WAIT };
        let waiting: Vec<_> = self
            .inputs
            .iter_mut()
            .enumerate()
            .filter(|(_, input)| !input.ended)
            .map(|(position, input)| async move { (position, input.read(limit).await) }.boxed())
            .collect();
        if waiting.is_empty() {
            futures::future::select(self.stop.clone(), tokio::time::sleep(IDLE_WAIT).boxed()).await;
            return Ok(None);
        }
        match futures::future::select(self.stop.clone(), select_all(waiting)).await {
            futures::future::Either::Left(_) => Ok(None),
            futures::future::Either::Right((((position, read), _, _), _)) => read.map(|read| Some((position, read))),
        }
    }

    /// Steps an epoch of new input, makes it durable, and lets its effects out.
    async fn live_epoch(&mut self, gathered: Gathered, clock: Option<Micros>, ended: bool) -> Result<()> {
        let range = |input: &InputState, taken: TakenPart| InputRange {
            source: input.name.to_string(),
            identity: taken.identity,
            range: taken.range,
            anchor: taken.anchor,
        };
        let inputs = self
            .inputs
            .iter()
            .zip(gathered.taken)
            .flat_map(|(input, taken)| taken.into_iter().map(|taken| range(input, taken)))
            .collect();
        let input = EpochInput { messages: gathered.messages, rows: gathered.rows, clock, ended, close_at: None };
        self.epoch(inputs, input).await
    }

    async fn epoch(&mut self, inputs: Vec<InputRange>, input: EpochInput) -> Result<()> {
        let epoch = Epoch(self.shared.lock().epoch().0 + 1);
        let record = EpochRecord { epoch, clock_us: None, watermark_us: None, ended: false, inputs };
        let (record, output) = self.step(record, input).await?;
        self.note_begun(&record);
        if let Some(aside) = &mut self.aside {
            aside.push(record);
            self.show(&output.changed);
        } else {
            let draft = self.publishing.changes(&output)?;
            self.carry_out(Entry::Epoch(record), draft, &output.changed).await?;
            self.snapshotting.note_epoch();
        }
        self.note_progress();
        Ok(())
    }

    /// Steps the engine off the threads that serve the broker.
    async fn step(&self, record: EpochRecord, input: EpochInput) -> Result<(EpochRecord, EpochOutput)> {
        let watched = if self.aside.is_some() { Vec::new() } else { self.publishing.watched() };
        self.shared.off_loop(move |engine| engine.run_epoch(record, input, &watched)).await
    }

    /// Runs a logged epoch again: the same ranges, the same clock. The messages that follow from it were published already, and
    /// must be those that were.
    async fn rerun(&mut self, record: EpochRecord, sha256: Option<&str>) -> Result<()> {
        let (mut messages, mut rows) = (vec![Vec::new(); self.inputs.len()], vec![Vec::new(); self.inputs.len()]);
        for taken in &record.inputs {
            let Some(position) = self.inputs.iter().position(|input| *input.name == *taken.source) else { continue };
            let again = self.inputs[position].read_range(taken.range, taken.anchor.as_ref()).await;
            let (more_messages, more_rows) = again.map_err(|error| lost(&taken.source, &self.place, error))?;
            messages[position].extend(more_messages);
            rows[position].extend(more_rows);
        }
        let watermark = record.watermark_us;
        let close_at = record.inputs.is_empty().then_some(record.watermark_us).flatten();
        let input = EpochInput { messages, rows, clock: record.clock_us, ended: record.ended, close_at };
        let (again, output) = self.step(record, input).await?;
        if again.watermark_us != watermark {
            let doing = format!(
                "epoch {} gives another watermark than the log says: a source's `event_time` has changed",
                again.epoch
            );
            return Err(Error::new(ErrorKind::Definition, doing));
        }
        self.snapshotting.note_epoch();
        let draft = self.publishing.changes(&output)?;
        same_messages(&draft, sha256, &format!("epoch {}", again.epoch))?;
        self.show(&output.changed);
        self.note_progress();
        Ok(())
    }

    /// With the broker's clock, time passes when nothing arrives: a logged tick, if the watermark would move.
    async fn tick(&mut self, quiet_since: Instant) -> Result<()> {
        if self.pipeline.clock != Clock::Broker || now().duration_since(quiet_since) < TICK_EVERY {
            return Ok(());
        }
        let clock = wall_clock();
        let last = self.shared.lock().clock();
        let due =
            last.is_some_and(|last| clock >= last.saturating_add(1_000_000)) && self.shared.lock().would_move(clock);
        if due {
            let input = EpochInput { clock: Some(clock), ..EpochInput::default() };
            self.epoch(Vec::new(), input).await?;
        }
        Ok(())
    }

    /// A broken environment stops progress, says so, and is tried again; a run that is to end gives up.
    async fn wait_out(&mut self, error: Error) -> Result<()> {
        if self.stopped() {
            return Err(error);
        }
        self.note_trouble(error)?;
        let pause = self.pauses.get_or_insert_with(pauses).next().unwrap_or(PAUSE_MAX);
        futures::future::select(self.stop.clone(), tokio::time::sleep(pause).boxed()).await;
        Ok(())
    }

    /// Says what keeps a source from being read. Only what may pass by itself can be waited for, and not by a run that is to
    /// end when all is read.
    fn note_trouble(&mut self, error: Error) -> Result<()> {
        let error = explained(self.broker.as_ref(), error);
        if error.kind() != ErrorKind::Unavailable || self.options.until_caught_up {
            return Err(error);
        }
        let cause = error.chain();
        if let Some(times) = self.warned.due(&cause, now()) {
            tracing::warn!(cause, times, "waiting for the environment");
        }
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(cause);
        Ok(())
    }

    /// The last epoch of a finite run: sources without rows count as idle, and `--watermark` closes the history.
    async fn close(&mut self) -> Result<()> {
        let before = self.shared.lock().watermark();
        let at = self.options.watermark;
        let idle = self.shared.lock().watermark_if_ended();
        if idle > before || at > before {
            let input = EpochInput { ended: true, close_at: at, ..EpochInput::default() };
            self.epoch(Vec::new(), input).await?;
        }
        Ok(())
    }

    async fn write_due_tables(&mut self) -> Result<()> {
        if self.behind {
            return Ok(());
        }
        self.write_tables(&|table, at| table.due(at)).await?;
        let at = now();
        for tidying in self.tables.iter_mut().filter_map(|table| table.tidy(at)).collect::<Vec<_>>() {
            blocking_on(move || async move {
                tidying.tidy(wall_clock()).await;
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Writes the tables of a kind; one that can't be written does not keep the others from it.
    async fn write_tables(&mut self, which: &(dyn Fn(&TableOutlet, Instant) -> bool + Sync)) -> Result<()> {
        let at = now();
        let mut outcome = Ok(());
        for position in 0..self.tables.len() {
            if which(&self.tables[position], at) {
                match self.write_table(position).await {
                    Ok(()) => self.tables[position].mark_written(at),
                    failed => outcome = outcome.and(failed),
                }
            }
        }
        outcome
    }

    /// Writes a table's next version, however often that takes.
    async fn write_table(&mut self, position: usize) -> Result<()> {
        let mut troubled = false;
        loop {
            let version = {
                let mut engine = self.shared.lock();
                self.tables[position].version(&self.pipeline.name, &mut engine)?
            };
            match blocking_on(move || version.write(wall_clock())).await {
                Ok(Published::Version(())) => {
                    Failpoint::TableShown.reached();
                    break;
                }
                Ok(Published::WholeNeeded) => self.tables[position].need_whole(),
                Err(error) => {
                    self.wait_out(error).await?;
                    troubled = true;
                }
            }
        }
        if troubled {
            *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        Ok(())
    }

    /// Writes every table and what `query` and `status` read when nothing runs.
    async fn finish(&mut self) -> Result<()> {
        if self.behind {
            tracing::warn!("stopped before all was read again that readers have: their tables stay as they are");
            return Ok(());
        }
        // A store that is out of reach costs its tables a version, and `query` nothing.
        let written = self.write_tables(&|_, _| true).await;
        let (stamp, tables) = {
            let engine = self.shared.lock();
            (engine.stamp(), engine.query_tables()?)
        };
        let (directory, name) = (self.directory.clone(), self.pipeline.name.clone());
        blocking(move || outlets::leave_tables(&directory, &name, tables, stamp, wall_clock())).await?;
        self.note_progress();
        self.warn_of_withheld_rows();
        write_status(&self.directory, &self.shared.status(false))?;
        written.and(self.last_snapshot().await)
    }

    /// Rows that were withheld are no failure, but somebody should know of them.
    fn warn_of_withheld_rows(&self) {
        for job in self.shared.lock().job_reports() {
            if job.ambiguous_keys > 0 {
                tracing::warn!(job = %job.job, keys = job.ambiguous_keys, "keys that stand for several rows are not published");
            }
            if job.errors > 0 {
                tracing::warn!(job = %job.job, rows = job.errors, "rows that an expression failed on, or that have a null in the key, are left out; see milepost.errors");
            }
        }
    }

    /// Nothing keeps the sources from being read.
    fn note_calm(&mut self) {
        self.pauses = None;
        let trouble = self.aside.is_some().then(|| REBUILDING.to_owned());
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn note_progress(&mut self) {
        let counts = self.shared.lock().counts();
        let reports = self.inputs.iter().zip(counts).map(|(input, counts)| SourceReport {
            source: input.name.to_string(),
            upsert: input.upsert,
            next: input.position(),
            end: input.known_end(),
            counts,
        });
        *self.shared.positions.lock().unwrap_or_else(PoisonError::into_inner) = reports.collect();
        (self.options.progress)(&self.shared.status(true));
    }
}

#[expect(clippy::disallowed_methods, reason = "the loop decides when a batch and a version are due")]
fn now() -> Instant {
    Instant::now()
}

/// Microseconds since 1970; for ticks and for the age of table versions.
#[expect(clippy::disallowed_methods, reason = "a tick's clock is logged before anything follows from it")]
fn wall_clock() -> Micros {
    chrono::Utc::now().timestamp_micros()
}

/// With the broker's clock: how long nothing must arrive before a tick.
const TICK_EVERY: Duration = Duration::from_secs(1);
/// How long the loop waits for rows before it looks after clocks and tables.
const IDLE_WAIT: Duration = Duration::from_millis(200);
/// What `status` says while everything is read again.
const REBUILDING: &str = "an upsert file has changed: every source is being read again";
/// How long a broken environment is left alone before it is tried again: ever longer, and not all who wait at the same moment.
fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(PAUSE_MIN)
        .with_max_delay(PAUSE_MAX)
        .with_factor(2.0)
        .with_jitter()
        .without_max_times()
        .build()
}

/// The first pause; jitter adds as much again at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause; likewise.
const PAUSE_MAX: Duration = Duration::from_secs(4);
