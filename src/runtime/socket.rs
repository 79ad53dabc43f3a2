//! A running process answers `query` and `status` on a Unix socket.
//!
//! The socket lies in the runtime directory under a short hashed name, in a folder that only its owner may enter; the
//! state directory says where. One request a connection: a JSON line. The answer is a JSON line, and for a query the
//! result as an Arrow IPC stream behind it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::diagnostic::{Diagnostic, Diagnostics, SourceText};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::QUERY_PATH;

use super::report::StatusReport;

/// What a client asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How the pipeline stands.
    Status,
    /// The rows of one SELECT.
    Query(String),
}

/// The first line of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Status(StatusReport),
    /// An Arrow IPC stream follows.
    Rows,
    /// The query is wrong.
    Refused {
        problems: Vec<Problem>,
    },
    /// The request can't be answered; true if the request is to blame.
    Failed {
        reason: String,
        request: bool,
    },
}

/// A problem of a query, without the text that the client has itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Problem {
    start: usize,
    end: usize,
    message: String,
    label: String,
    help: Option<String>,
}

/// What a process answers with.
#[derive(Debug, Clone)]
pub enum Reply {
    /// What is wrong with the query.
    Refused(Diagnostics),
    /// How the pipeline stands.
    Status(StatusReport),
    /// The rows of the SELECT.
    Rows(SchemaRef, Vec<RecordBatch>),
}

/// Answers requests; the run loop's side of the socket.
pub trait Responder: Send + Sync + 'static {
    /// Answers one request.
    fn respond(&self, request: Request) -> futures::future::BoxFuture<'_, Result<Reply>>;
}

/// A socket that is being listened on; removed when dropped.
#[derive(Debug)]
pub struct Listening {
    path: PathBuf,
    pointer: PathBuf,
    /// Aborted when dropped.
    _tasks: tokio::task::JoinSet<()>,
}

impl Drop for Listening {
    fn drop(&mut self) {
        for path in [&self.pointer, &self.path] {
            if let Err(error) = std::fs::remove_file(path) {
                tracing::debug!(path = %path.display(), %error, "a socket file could not be removed");
            }
        }
    }
}

/// Listens for requests about the pipeline whose state lies in `directory`.
///
/// # Errors
/// `Unavailable` where the socket can't be made.
pub fn listen(directory: &Path, responder: Arc<dyn Responder>) -> Result<Listening> {
    let failed = |error: std::io::Error| {
        Error::caused(ErrorKind::Unavailable, "opening the socket for `query` and `status`", error)
    };
    let path = socket_path(directory).map_err(failed)?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    let pointer = directory.join("socket");
    std::fs::write(&pointer, path.to_string_lossy().as_bytes()).map_err(failed)?;
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(accept(listener, responder));
    Ok(Listening { path, pointer, _tasks: tasks })
}

/// Asks the running process, if there is one: none if nobody listens.
///
/// # Errors
/// What the process answers, `Definition` where the request is to blame; `Unavailable` where the answer breaks off.
pub async fn ask(directory: &Path, request: &Request) -> Result<Option<Reply>> {
    let Ok(path) = std::fs::read_to_string(directory.join("socket")) else { return Ok(None) };
    let Ok(stream) = UnixStream::connect(path.trim()).await else { return Ok(None) };
    let broken = |error: std::io::Error| Error::caused(ErrorKind::Unavailable, "asking the running process", error);
    let mut stream = BufReader::new(stream);
    let mut line =
        serde_json::to_vec(request).map_err(|error| Error::caused(ErrorKind::Internal, "writing a request", error))?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(broken)?;
    let mut answer = String::new();
    stream.read_line(&mut answer).await.map_err(broken)?;
    let answer: Answer = serde_json::from_str(&answer)
        .map_err(|error| Error::caused(ErrorKind::Unavailable, "reading an answer", error))?;
    match answer {
        Answer::Status(report) => Ok(Some(Reply::Status(report))),
        Answer::Failed { reason, request } => {
            Err(Error::new(if request { ErrorKind::Definition } else { ErrorKind::Unavailable }, reason))
        }
        Answer::Refused { problems } => Ok(Some(Reply::Refused(placed(problems, request)))),
        Answer::Rows => {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.map_err(broken)?;
            let (schema, batches) = read_rows(&bytes)
                .map_err(|error| Error::caused(ErrorKind::Unavailable, "reading the rows of an answer", error))?;
            Ok(Some(Reply::Rows(schema, batches)))
        }
    }
}

/// Serves clients until it is dropped, a bounded number at a time.
async fn accept(listener: UnixListener, responder: Arc<dyn Responder>) {
    let mut clients = tokio::task::JoinSet::new();
    loop {
        if clients.len() >= CLIENTS_MAX {
            clients.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let responder = Arc::clone(&responder);
                clients.spawn(async move {
                    if let Err(error) = serve(stream, &*responder).await {
                        tracing::debug!(%error, "a client of the socket went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the socket for `query` and `status` accepts nobody");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, responder: &dyn Responder) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream).take(REQUEST_BYTES_MAX).read_line(&mut line).await?;
    let reply = match serde_json::from_str(&line) {
        Ok(request) => responder.respond(request).await,
        Err(error) => Err(Error::new(ErrorKind::Definition, format!("this is no request: {error}"))),
    };
    let (answer, rows) = match reply {
        Ok(Reply::Status(report)) => (Answer::Status(report), Vec::new()),
        Ok(Reply::Refused(problems)) => (Answer::Refused { problems: unplaced(problems) }, Vec::new()),
        Ok(Reply::Rows(schema, batches)) => match write_rows(&schema, &batches) {
            Ok(rows) => (Answer::Rows, rows),
            Err(error) => (Answer::Failed { reason: error.to_string(), request: false }, Vec::new()),
        },
        Err(error) => {
            (Answer::Failed { reason: error.chain(), request: error.kind() == ErrorKind::Definition }, Vec::new())
        }
    };
    let mut bytes = serde_json::to_vec(&answer).map_err(std::io::Error::other)?;
    bytes.push(b'\n');
    bytes.extend(rows);
    stream.write_all(&bytes).await?;
    stream.shutdown().await
}

/// Problems on their way to a client.
fn unplaced(problems: Diagnostics) -> Vec<Problem> {
    let problem = |Diagnostic { file: _, span, message, label, help }| Problem {
        start: span.start,
        end: span.end,
        message,
        label,
        help,
    };
    problems.0.into_iter().map(problem).collect()
}

/// Problems of a query that came back.
fn placed(problems: Vec<Problem>, request: &Request) -> Diagnostics {
    let text = match request {
        Request::Query(sql) => sql.as_str(),
        Request::Status => "",
    };
    let file = SourceText::new(QUERY_PATH, text);
    let diagnostic = |Problem { start, end, message, label, help }| Diagnostic {
        file: Arc::clone(&file),
        span: start..end,
        message,
        label,
        help,
    };
    Diagnostics(problems.into_iter().map(diagnostic).collect())
}

fn write_rows(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, arrow::error::ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    for batch in batches {
        writer.write(&RecordBatch::try_new(Arc::clone(schema), batch.columns().to_vec())?)?;
    }
    writer.finish()?;
    writer.into_inner()
}

fn read_rows(bytes: &[u8]) -> Result<(SchemaRef, Vec<RecordBatch>), arrow::error::ArrowError> {
    let reader = StreamReader::try_new(bytes, None)?;
    let schema = reader.schema();
    Ok((schema, reader.collect::<Result<_, _>>()?))
}

/// A path that is short whatever the state directory's is: a socket's may have about a hundred bytes.
fn socket_path(directory: &Path) -> std::io::Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
    let absolute = directory.canonicalize()?;
    let digest = Sha256::digest(absolute.as_os_str().as_encoded_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let owner = std::fs::metadata(&absolute)?.uid();
    let folder = runtime_directory().join(format!("milepost-{owner}"));
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let found = std::fs::symlink_metadata(&folder)?;
    if !found.is_dir() || found.permissions().mode() & 0o077 != 0 {
        return Err(std::io::Error::other(format!("`{}` can be entered by others", folder.display())));
    }
    Ok(folder.join(format!("{name}.sock")))
}

#[expect(clippy::disallowed_methods, reason = "where sockets lie is a matter of the machine")]
fn runtime_directory() -> PathBuf {
    std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Longer requests are cut off, and refused.
const REQUEST_BYTES_MAX: u64 = 1024 * 1024;
/// Clients that are served at once; others wait.
const CLIENTS_MAX: usize = 64;
