//! Files as a source: NDJSON, CSV and Parquet, plain or packed, on this machine or in a bucket, one or many.
//!
//! The law: the records of a source are those of its files, one file after another (`parts` has the order); sequence n is the
//! n-th of them all. Every line of an NDJSON file is a record, its bytes without the line ending (LF or CRLF); an empty line is
//! one too (it ends as a dead letter), so that nothing disappears; only the one at the very end of a file is nothing. A byte
//! order mark at the start is skipped. Every CSV record behind the header is one, with the header's names; so is every row of a
//! Parquet file, with the columns that the contract has.
//!
//! A file is taken whole or not at all: before its first record all that is packed in it was unpacked once. What was read of a
//! file is read again after a restart, so from then on it must stay as it is, by name, size and digest; a source that finds it
//! otherwise says so and gives nothing more. Of an object the store's ETag is the digest, and a copy is read, without a name,
//! which takes as much of the disk as the object.
//!
//! With `watch` the files are listed again and again, each time from the listing before on: what is new is taken in once two
//! listings in a row show it alike, so that a file that is still being written is not. Writers do best to rename a file into its
//! place when it is complete.
//!
//! ```text
//! listing ─► parts: read │ current │ to be read        every look: read ones must be as they were
//!                          open ─► records ─► end
//! ```

mod identity;
mod listing;
mod open;
mod part;
mod parts;
mod presence;
mod records;
mod typed;
mod unpack;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, ready};
use tokio::time::{Instant, sleep_until, timeout_at};

use self::listing::{Listed, Place, State};
use self::open::{Known, Looked, Opened, Scene};
use self::part::OpenPart;
use self::parts::{Admission, Part, Parts};
use crate::definition::contract::Contract;
use crate::definition::pipeline::FileSet;
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Read, ReadLimit, Rest, Source, TakenPart};
use crate::types::Sequence;

pub use self::presence::{Absent, absent, count};

/// The longest record that is kept whole, in bytes: 16 MiB. Of a longer line the first 16 MiB are the message, which is
/// rejected as too large; the rest stays in the file only. A CSV record that grows beyond it, as after a quote that is
/// never closed, ends with its line, and the next line is a record again.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// One read ends early once it holds this many bytes: 64 MiB.
pub const READ_BYTES_MAX: usize = 64 << 20;

/// A source's files, in order, at a position.
pub struct FileSource {
    scene: Scene,
    parts: Parts,
    /// The file that is being read.
    current: Option<Box<OpenPart>>,
    /// What takes its time. It goes on where it was when a read is dropped.
    work: Option<Work>,
    /// The first sequence that the next read gives.
    next: Sequence,
    looked: bool,
    /// When the files are listed again; none: not before something asks for it.
    next_look: Option<Instant>,
    /// A file was not what was listed: none is opened before they are listed again.
    stale: bool,
    /// A watched file that can't be read as it is.
    awaited: Option<Awaited>,
}

/// A file that is not opened again before it is another one.
struct Awaited {
    name: String,
    state: State,
    /// What is wrong with it.
    told: String,
}

enum Work {
    Look(BoxFuture<'static, Result<Looked>>),
    Open(BoxFuture<'static, Result<Opened>>),
}

/// What came of a step that gives no records.
enum Step {
    /// There is more to do at once.
    Done,
    /// It took longer than it might.
    Unfinished,
    /// There is nothing more, now or ever.
    Nothing(Rest),
    /// What was read is not as it was.
    Changed(String),
}

impl FileSource {
    /// The files of a source whose rows are of `contract`. Nothing is looked at yet. Copies of objects lie below `state`.
    ///
    /// Fails with `Definition` if the environment does not say how to reach the bucket.
    pub fn open(files: &FileSet, contract: &Arc<Contract>, state: &Path) -> Result<Self> {
        let scene = Scene {
            place: Place::open(&files.root)?,
            files: files.clone(),
            contract: Arc::clone(contract),
            spool: open::spool(state),
        };
        Ok(Self {
            scene,
            parts: Parts::default(),
            current: None,
            work: None,
            next: 1,
            looked: false,
            next_look: None,
            stale: false,
            awaited: None,
        })
    }

    async fn read_next(&mut self, limit: ReadLimit) -> Result<Read> {
        let deadline = now() + limit.wait;
        loop {
            if let Some(read) = self.take(limit)? {
                return Ok(read);
            }
            match self.step(deadline).await? {
                Step::Done => {}
                Step::Unfinished => match self.awaited() {
                    Some(told) => {
                        let doing = "a watched file is not read before it is mended";
                        return Err(Error::caused(ErrorKind::Unavailable, doing, told));
                    }
                    None => return Ok(self.nothing(Rest::More)),
                },
                Step::Nothing(rest) => return Ok(self.nothing(rest)),
                Step::Changed(difference) => {
                    return Ok(Read { changed: Some(difference), ..self.nothing(Rest::More) });
                }
            }
        }
    }

    fn nothing(&self, rest: Rest) -> Read {
        Read { next: self.next, rest, ..Read::default() }
    }

    /// Records of the current file; none: a step is due.
    fn take(&mut self, limit: ReadLimit) -> Result<Option<Read>> {
        let before = limit.before.unwrap_or(Sequence::MAX);
        if self.next >= before {
            return Ok(Some(self.nothing(Rest::More)));
        }
        let Some(current) = &mut self.current else { return Ok(None) };
        let before = before.min(self.parts.end_of_current().unwrap_or(Sequence::MAX));
        let taken = current.take(limit.messages, self.next, before);
        let read = match taken {
            Ok(taken) if taken.count == 0 && limit.messages > 0 => return Ok(None),
            Ok(taken) => self.rest().map(|rest| (taken, rest)),
            Err(error) => Err(error),
        };
        let (taken, rest) = read.inspect_err(|_| self.current = None)?;
        self.next += taken.count;
        let part = self.parts.current().and_then(|part| part.identity.clone());
        Ok(Some(Read { messages: taken.messages, rows: taken.rows, next: self.next, rest, part, changed: None }))
    }

    /// What there is behind the records that were just taken.
    fn rest(&mut self) -> Result<Rest> {
        let Some(current) = &mut self.current else { return Ok(Rest::More) };
        if !current.at_end()? || self.parts.has_next() || !self.is_unwritten() {
            return Ok(Rest::More);
        }
        Ok(self.rest_behind_all())
    }

    fn rest_behind_all(&self) -> Rest {
        if self.scene.files.watch.is_some() { Rest::CaughtUp } else { Rest::End }
    }

    fn is_unwritten(&self) -> bool {
        self.parts.current().is_none_or(|part| self.scene.is_unwritten(&part.listed))
    }

    /// Does what is due before more records can be taken, until `deadline` at most.
    async fn step(&mut self, deadline: Instant) -> Result<Step> {
        if let Some(mut current) = self.current.take() {
            self.close(&mut current)?;
            return Ok(Step::Done);
        }
        if self.work.is_none() && !self.begin() {
            return Ok(self.wait(deadline).await);
        }
        match &mut self.work {
            Some(Work::Look(look)) => {
                let Ok(looked) = timeout_at(deadline, look).await else { return Ok(Step::Unfinished) };
                self.work = None;
                let looked = looked.map_err(|error| self.unless_looked_again(error))?;
                self.see(looked)
            }
            Some(Work::Open(open)) => {
                let Ok(opened) = timeout_at(deadline, open).await else { return Ok(Step::Unfinished) };
                self.work = None;
                match opened {
                    Ok(opened) => self.begin_part(opened),
                    Err(error) => self.wait_for_another(error)?,
                }
                Ok(Step::Done)
            }
            None => Ok(Step::Done),
        }
    }

    /// A file that is watched for may still become what it should be: until then its source gives nothing more.
    fn wait_for_another(&mut self, error: Error) -> Result<()> {
        let fault_of_file = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Definition);
        match self.parts.current() {
            Some(part) if self.scene.files.watch.is_some() && part.identity.is_none() && fault_of_file => {
                let Listed { name, state, .. } = part.listed.clone();
                self.awaited = Some(Awaited { name, state, told: error.chain() });
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// What is wrong with the file that is due, if it is still the one that can't be read.
    fn awaited(&self) -> Option<&str> {
        let awaited = self.awaited.as_ref()?;
        let listed = &self.parts.current()?.listed;
        (listed.name == awaited.name && listed.state == awaited.state).then_some(&awaited.told)
    }

    /// What can't be listed now may be listed later.
    fn unless_looked_again(&self, error: Error) -> Error {
        if self.looked && self.scene.files.watch.is_some() {
            Error::caused(ErrorKind::Unavailable, "no further file is read before this is mended", error)
        } else {
            error
        }
    }

    /// Waits until the files are to be listed again, or until the deadline.
    async fn wait(&mut self, deadline: Instant) -> Step {
        let Some(due) = self.next_look else { return Step::Nothing(self.rest_behind_all()) };
        sleep_until(due.min(deadline)).await;
        if due <= deadline {
            Step::Done
        } else if self.parts.current().is_some() {
            Step::Unfinished
        } else {
            Step::Nothing(self.rest_behind_all())
        }
    }

    /// Begins the work that is due; false: none is.
    fn begin(&mut self) -> bool {
        if !self.looked || self.next_look.is_some_and(|due| due <= now()) {
            self.work = Some(Work::Look(self.scene.clone().look(self.known()).boxed()));
            return true;
        }
        let Some(part) = self.parts.current().filter(|_| !self.stale && self.awaited().is_none()) else { return false };
        let skip = self.next - part.first.unwrap_or(self.next);
        let open = self.scene.clone().open(part.listed.clone(), part.identity.clone(), skip);
        self.work = Some(Work::Open(open.boxed()));
        true
    }

    fn known(&self) -> Vec<Known> {
        let known = |(part, identity): (&Part, &Arc<str>)| Known {
            identity: Arc::clone(identity),
            state: Some(part.listed.state.clone()),
        };
        self.parts.read().map(known).collect()
    }

    /// The current file has no more records: it must be what it was, and end where it ended before.
    fn close(&mut self, current: &mut OpenPart) -> Result<()> {
        let ended_before = self.parts.end_of_current();
        if !current.at_end()? || ended_before.is_some_and(|end| end != self.next) {
            let name = self.parts.current().map_or("", |part| &part.listed.name);
            let doing = format!("source file `{name}` has other records than those that were read before");
            return Err(Error::new(ErrorKind::Corrupt, doing));
        }
        if !self.is_unwritten() {
            self.next_look = Some(now());
        }
        self.parts.ended(self.next);
        Ok(())
    }

    fn see(&mut self, looked: Looked) -> Result<Step> {
        let every = self.scene.files.watch;
        if let Some(difference) = looked.difference {
            // Whoever reads on is told again.
            self.next_look = Some(now());
            return Ok(Step::Changed(difference));
        }
        if looked.listing.is_empty() && !self.looked && every.is_none() && self.scene.files.only().is_some() {
            let doing = format!("there is no {}", self.scene.files);
            return Err(Error::new(ErrorKind::Definition, doing));
        }
        let admission = match (self.looked, every) {
            (false, _) => Admission::All,
            (true, Some(_)) => Admission::Settled,
            (true, None) => Admission::Known,
        };
        self.parts.update(looked.listing, admission);
        self.looked = true;
        self.stale = false;
        self.next_look = every.map(|every| now() + every);
        Ok(Step::Done)
    }

    fn begin_part(&mut self, opened: Opened) {
        match opened {
            Opened::Ready { part, identity, state } => {
                self.parts.opened(&identity, state, self.next);
                self.current = Some(part);
            }
            Opened::Stale => {
                self.stale = true;
                self.next_look = Some(now() + self.scene.files.watch.unwrap_or(LOOK_AGAIN_AFTER));
            }
        }
    }

    /// Forgets what is under way, and lists the files if that was never done.
    async fn seek_to(&mut self, next: Sequence) -> Result<()> {
        let next = next.max(1);
        (self.current, self.work) = (None, None);
        if !self.looked {
            let looked = self.scene.clone().look(Vec::new()).await?;
            self.see(looked)?;
        }
        let Some(skip) = self.parts.seek(next) else {
            let doing = format!("{} end before record {next}, from which to read on", self.scene.files);
            return Err(Error::new(ErrorKind::Corrupt, doing));
        };
        self.next = next;
        if let Some(part) = self.parts.current().filter(|_| skip > 0) {
            let opened = self.scene.clone().open(part.listed.clone(), part.identity.clone(), skip).await?;
            self.begin_part(opened);
        }
        Ok(())
    }

    async fn take_up(&mut self, taken: &[TakenPart]) -> Result<Option<String>> {
        (self.current, self.work, self.next) = (None, None, 1);
        (self.parts, self.looked) = (Parts::default(), false);
        let known = taken.iter().map(|part| Known { identity: part.identity.as_str().into(), state: None });
        let looked = self.scene.clone().look(known.collect()).await?;
        if looked.difference.is_some() {
            return Ok(looked.difference);
        }
        let part = |taken: &TakenPart| {
            let name = taken.identity.parse::<identity::FileIdentity>().ok()?.name;
            let listed = looked.listing.iter().find(|listed| listed.name == name)?.clone();
            let identity = Some(taken.identity.as_str().into());
            Some(Part { listed, identity, first: Some(taken.range.start) })
        };
        self.parts = Parts::of_known(taken.iter().filter_map(part).collect());
        self.see(looked)?;
        Ok(None)
    }
}

impl Source for FileSource {
    fn position(&self) -> Option<Sequence> {
        Some(self.next)
    }

    /// The records of a read are of one file. What takes long, as copying an object, goes on where it was when the future is
    /// dropped; the rest has no await in it.
    fn read(&mut self, limit: ReadLimit) -> BoxFuture<'_, Result<Read>> {
        self.read_next(limit).boxed()
    }

    /// Reads the file that holds `next` again up to it. Beyond the end it fails with `Corrupt`.
    fn seek(&mut self, next: Sequence) -> BoxFuture<'_, Result<()>> {
        self.seek_to(next).boxed()
    }

    /// Not known before all files are read.
    fn end(&mut self) -> BoxFuture<'_, Result<Option<Sequence>>> {
        ready(Ok(None)).boxed()
    }

    /// Nobody watches a file's lag.
    fn acknowledge(&mut self, _next: Sequence) -> BoxFuture<'_, Result<()>> {
        ready(Ok(())).boxed()
    }

    /// Where the files lie. Each read says what its own file is.
    fn identity(&mut self) -> BoxFuture<'_, Result<String>> {
        ready(Ok(self.scene.files.to_string())).boxed()
    }

    /// Each file must be as it was, by name, size and digest.
    fn resume<'a>(&'a mut self, taken: &'a [TakenPart]) -> BoxFuture<'a, Result<Option<String>>> {
        self.take_up(taken).boxed()
    }
}

#[expect(clippy::disallowed_methods, reason = "an edge: files are looked for every so often")]
fn now() -> Instant {
    Instant::now()
}

/// How soon files are listed again of which one was not what was listed, where they are not watched.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
