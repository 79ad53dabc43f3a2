//! Errors for the operator: what kind (named by what to do next), what was being done, to which object, and the cause.
//!
//! Authors of files get [`crate::diagnostic::Diagnostic`] instead; a bad message is no error at all but a
//! [`crate::types::Rejection`], counted and kept.

use std::fmt;

/// What the operator does next. Each kind has one exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Mend a definition or the command line; exit status 2.
    Definition,
    /// Bring the broker, the store or the disk back; exit status 3.
    Unavailable,
    /// Another writer owns the pipeline; exit status 3.
    Fenced,
    /// Stored bytes are not what was written; exit status 3.
    Corrupt,
    /// A declared limit was reached; exit status 3.
    Limit,
    /// Mend the feed, or raise the budget of bad events that a source declares; exit status 1.
    Budget,
    /// A bug in Milepost; exit status 3.
    Internal,
}

/// An error with its kind, what was being done, and its cause. `Display` leaves the cause to `source()`.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    doing: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// Something about the environment that is not as it must be, or may do harm, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Concern {
    /// What is wrong; lower case, without a full stop.
    pub wrong: String,
    /// What mends it, the command in backticks.
    pub mend: String,
}

impl Concern {
    /// What is wrong, and what mends it.
    pub fn new(wrong: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { wrong: wrong.into(), mend: mend.into() }
    }

    /// Several of them on one line.
    pub fn all(concerns: &[Self]) -> String {
        concerns.iter().map(Self::to_string).collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.wrong, self.mend)
    }
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without a deeper cause. `doing` is lower case, without a full stop, values in backticks.
    pub fn new(kind: ErrorKind, doing: impl Into<String>) -> Self {
        Self { kind, doing: doing.into(), cause: None }
    }

    /// The same with the error that caused it.
    pub fn caused(
        kind: ErrorKind,
        doing: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, doing: doing.into(), cause: Some(cause.into()) }
    }

    /// A broken invariant of our own.
    pub fn internal(doing: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, doing)
    }

    /// What the operator does next.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The exit status of the process that ends with this error: 1 the answer is no, 2 definition, 3 environment.
    pub fn exit_status(&self) -> u8 {
        match self.kind {
            ErrorKind::Budget => 1,
            ErrorKind::Definition => 2,
            _ => 3,
        }
    }

    /// The whole chain on one line: what was being done, then each cause, separated by `: `.
    pub fn chain(&self) -> String {
        let mut text = self.doing.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.doing)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &**cause as &(dyn std::error::Error + 'static))
    }
}
