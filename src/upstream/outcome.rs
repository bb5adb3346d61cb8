//! What became of an attempt, and what follows from it.

use crate::chat::{ChatError, ErrorKind};
use http::HeaderMap;
use std::time::Duration;

/// What became of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Ok,
    /// The request was wrong; nobody else would take it either.
    ClientFault,
    /// The key was refused, or may not do this.
    Auth,
    /// The account's quota or credit is used up.
    Quota,
    /// Too many requests; `until` is how long the provider asked us to wait.
    RateLimited {
        /// Time to wait, counted from the answer.
        until: Option<Duration>,
    },
    /// It is overloaded.
    Overloaded,
    /// It failed, or answered with something that is no answer.
    UpstreamFault,
    /// It could not be reached: refused, reset before an answer, name unknown.
    Unreachable,
    /// A deadline passed.
    Timeout(Phase),
    /// The client left, or local-only mode was switched on.
    Cancelled,
    /// The vendor's filter refused the request.
    ContentFilter,
    /// The prompt does not fit.
    ContextTooLong,
    /// It has no such model.
    ModelNotFound,
}

/// Which deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// To connect.
    Connect,
    /// To the first real content of a stream, response headers included.
    FirstToken,
    /// Between two pieces of a stream.
    Idle,
    /// For the whole of an answer that is not streamed.
    WholeAnswer,
}

/// What follows from an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The client gets it.
    Return,
    /// The same target may be asked again.
    RetrySame,
    /// The plan's next target is asked.
    TryNext,
    /// Another key of the same provider, else the next target.
    RotateKey,
    /// The next target is asked, and this one rests.
    TripBreaker,
}

impl Outcome {
    /// What follows from it. Exhaustive on purpose: a new outcome needs a decision.
    pub const fn disposition(self) -> Disposition {
        match self {
            Self::Ok | Self::ClientFault | Self::Cancelled | Self::ContentFilter => Disposition::Return,
            Self::Overloaded | Self::UpstreamFault => Disposition::RetrySame,
            Self::Quota | Self::ContextTooLong | Self::ModelNotFound => Disposition::TryNext,
            Self::Auth | Self::RateLimited { .. } => Disposition::RotateKey,
            Self::Unreachable | Self::Timeout(_) => Disposition::TripBreaker,
        }
    }

    /// The label in metrics and in the attempt trail.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientFault => "client_fault",
            Self::Auth => "auth",
            Self::Quota => "quota",
            Self::RateLimited { .. } => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::UpstreamFault => "upstream_fault",
            Self::Unreachable => "unreachable",
            Self::Timeout(Phase::Connect) => "timeout_connect",
            Self::Timeout(Phase::FirstToken) => "timeout_first_token",
            Self::Timeout(Phase::Idle) => "timeout_idle",
            Self::Timeout(Phase::WholeAnswer) => "timeout_whole_answer",
            Self::Cancelled => "cancelled",
            Self::ContentFilter => "content_filter",
            Self::ContextTooLong => "context_too_long",
            Self::ModelNotFound => "model_not_found",
        }
    }

    /// The outcome that an error of a provider's stands for.
    pub fn from_error(error: &ChatError) -> Self {
        match error.kind {
            ErrorKind::InvalidRequest | ErrorKind::TooLarge => Self::ClientFault,
            ErrorKind::Authentication | ErrorKind::Permission => Self::Auth,
            ErrorKind::NotFound => Self::ModelNotFound,
            ErrorKind::RateLimited => Self::RateLimited { until: error.retry_after },
            ErrorKind::QuotaExceeded => Self::Quota,
            ErrorKind::ContextTooLong => Self::ContextTooLong,
            ErrorKind::ContentFilter => Self::ContentFilter,
            ErrorKind::Overloaded => Self::Overloaded,
            ErrorKind::Upstream | ErrorKind::Internal => Self::UpstreamFault,
            ErrorKind::Unavailable => Self::Unreachable,
            ErrorKind::Timeout => Self::Timeout(Phase::WholeAnswer),
            ErrorKind::Cancelled => Self::Cancelled,
        }
    }
}

/// An attempt that gave no answer.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What became of it.
    pub outcome: Outcome,
    /// What the client may be told.
    pub error: ChatError,
    /// The provider's error answer as it stood on the wire, where its dialect is the client's own.
    pub original: Option<OriginalError>,
    /// The headers of the provider's error answer; empty when there was none.
    pub headers: HeaderMap,
}

/// A provider's error answer as it stood on the wire.
#[derive(Debug, Clone)]
pub struct OriginalError {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: bytes::Bytes,
}

impl Failure {
    /// A failure that the error itself classifies.
    pub fn from_error(error: ChatError) -> Self {
        Self::new(Outcome::from_error(&error), error)
    }

    /// A failure with an outcome of its own.
    pub fn new(outcome: Outcome, error: ChatError) -> Self {
        Self { outcome, error, original: None, headers: HeaderMap::new() }
    }
}
