//! What the run loop and the socket share: the engine, and how the run stands.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::definition::pipeline::{Identity, Pipeline};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Unseen, UnseenTable, run_query};
use crate::sink::Stamp;

use super::engine::Engine;
use super::report::{HistoryReport, JobReport, SourceReport, StatusReport};
use super::socket::{Reply, Request, Responder};

/// What the loop and the socket share.
pub(super) struct Shared {
    pub(super) pipeline: String,
    pub(super) engine: Arc<Mutex<Engine>>,
    pub(super) trouble: Mutex<Option<String>>,
    pub(super) positions: Mutex<Vec<SourceReport>>,
}

impl Shared {
    /// Works on the engine off the threads that serve the broker.
    pub(super) async fn off_loop<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Engine) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let engine = Arc::clone(&self.engine);
        blocking(move || work(&mut engine.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self, running: bool) -> StatusReport {
        let (stamp, tables) = {
            let engine = self.lock();
            (engine.stamp(), (engine.job_reports(), engine.history_reports()))
        };
        self.report(stamp, tables, running)
    }

    fn report(&self, stamp: Stamp, tables: (Vec<JobReport>, Vec<HistoryReport>), running: bool) -> StatusReport {
        let (jobs, histories) = tables;
        StatusReport {
            pipeline: self.pipeline.clone(),
            running,
            trouble: self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            epoch: stamp.epoch.0,
            clock_us: stamp.clock,
            watermark_us: stamp.watermark,
            sources: self.positions.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            jobs,
            histories,
        }
    }
}

impl Responder for Shared {
    fn respond(&self, request: Request) -> BoxFuture<'_, Result<Reply>> {
        async move {
            match request {
                Request::Status => {
                    let (stamp, tables) = self
                        .off_loop(|engine| Ok((engine.stamp(), (engine.job_reports(), engine.history_reports()))))
                        .await?;
                    Ok(Reply::Status(self.report(stamp, tables, true)))
                }
                Request::Query(sql) => {
                    let (tables, unseen, watermark) = self
                        .off_loop(|engine| {
                            Ok((engine.query_tables()?, unkept_sources(engine.pipeline()), engine.watermark()))
                        })
                        .await?;
                    Ok(match run_query(&tables, &unseen, &sql, watermark).await {
                        Ok((schema, rows)) => Reply::Rows(schema, rows),
                        Err(problems) => Reply::Refused(problems),
                    })
                }
            }
        }
        .boxed()
    }
}

/// The sources whose rows are not kept, which no query can see.
pub fn unkept_sources(pipeline: &Pipeline) -> Vec<UnseenTable> {
    let unkept = pipeline.sources.iter().filter(|source| matches!(source.identity, Identity::Append { .. }));
    unkept.map(|source| UnseenTable { name: Arc::clone(&source.name), reason: Unseen::NotKept }).collect()
}

/// Whether a process ever got so far as to run the pipeline here.
pub fn was_run(directory: &Path) -> bool {
    directory.exists()
}

/// The report of the last process that ran the pipeline here; none if none did.
///
/// # Errors
/// `Unavailable` for the disk, `Corrupt` if it is no report.
pub fn left_status(directory: &Path) -> Result<Option<StatusReport>> {
    let path = directory.join("status.json");
    match std::fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::caused(ErrorKind::Corrupt, format!("reading `{}`", path.display()), error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::caused(ErrorKind::Unavailable, format!("reading `{}`", path.display()), error)),
    }
}

pub(super) fn write_status(directory: &Path, report: &StatusReport) -> Result<()> {
    let path = directory.join("status.json");
    let failed =
        |error: std::io::Error| Error::caused(ErrorKind::Unavailable, format!("writing `{}`", path.display()), error);
    let bytes = serde_json::to_vec_pretty(report)
        .map_err(|error| Error::caused(ErrorKind::Internal, "writing a status", error))?;
    let partial = directory.join("status.json.partial");
    std::fs::write(&partial, bytes).and_then(|()| std::fs::rename(&partial, &path)).map_err(failed)
}

/// The same for work that also waits.
pub(super) async fn blocking_on<T: Send + 'static, F: Future<Output = Result<T>>>(
    work: impl FnOnce() -> F + Send + 'static,
) -> Result<T> {
    let runtime = tokio::runtime::Handle::current();
    blocking(move || runtime.block_on(work())).await
}

/// Works off the threads that serve the broker.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::caused(ErrorKind::Internal, "writing tables", error))?
}
