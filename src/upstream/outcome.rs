//! What became of an attempt, and what follows from it: the table of docs/FAILOVER.md.

use crate::chat::{ChatError, ErrorKind, MODEL_QUOTA};
use http::HeaderMap;
use std::cmp::Reverse;
use std::time::Duration;

/// How much an error helps that says when to come back.
const SAYS_WHEN: u8 = 5;

/// What became of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Ok,
    /// The request was wrong; nobody else would take it either.
    ClientFault,
    /// The key was refused.
    Auth,
    /// The key may not do this with this model.
    Forbidden,
    /// The account's quota or credit is used up.
    Quota,
    /// The account's quota for this model is used up.
    ModelQuota,
    /// Too many requests for now.
    RateLimited,
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
    /// It was not asked: it cannot do what the request wants.
    NotOffered,
    /// It was not asked: it is left alone for now, because it failed or asked for a rest.
    Resting,
    /// It was not asked: it had no place for the request, or not in time.
    Busy,
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
    /// For all attempts of the request together.
    Budget,
}

/// What follows from an outcome for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// The client gets it.
    Return,
    /// The same target is asked again after a backoff, and when that is used up the next one.
    Retry,
    /// Another key, else the end of the rest that the provider asked for, else the next target.
    Wait,
    /// Another key of the same provider, else the next target.
    RotateKey,
    /// The next target.
    TryNext,
    /// The next target whose window is known to be larger, else the client gets it.
    TryLarger,
}

/// What follows from an outcome for the key that was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFate {
    /// Nothing.
    Stays,
    /// It is not used for this model for a while.
    RestsForModel,
    /// It is not used for a while.
    Rests,
    /// It is not used until the configuration is read again.
    Dropped,
}

/// What an outcome says of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is at work: it answered, if only with a refusal of this request.
    Alive,
    /// It failed.
    Failed,
    /// Nothing: the client left, or the provider asked for a rest.
    Unknown,
}

impl Outcome {
    /// What follows from it. Exhaustive on purpose: a new outcome needs a decision.
    pub const fn disposition(self) -> Disposition {
        match self {
            Self::Ok
            | Self::ClientFault
            | Self::ContentFilter
            | Self::Cancelled
            | Self::ModelNotFound
            | Self::Timeout(Phase::Idle | Phase::Budget) => Disposition::Return,
            Self::Overloaded | Self::UpstreamFault | Self::Unreachable => Disposition::Retry,
            Self::RateLimited => Disposition::Wait,
            Self::Auth | Self::Forbidden | Self::Quota | Self::ModelQuota => Disposition::RotateKey,
            // Who was silent once is not asked again by the same request.
            Self::Timeout(Phase::Connect | Phase::FirstToken | Phase::WholeAnswer)
            | Self::NotOffered
            | Self::Resting
            | Self::Busy => Disposition::TryNext,
            Self::ContextTooLong => Disposition::TryLarger,
        }
    }

    /// What becomes of the key.
    pub const fn key_fate(self) -> KeyFate {
        match self {
            Self::Auth => KeyFate::Dropped,
            Self::Quota => KeyFate::Rests,
            Self::Forbidden | Self::ModelQuota | Self::RateLimited => KeyFate::RestsForModel,
            Self::Ok
            | Self::ClientFault
            | Self::Overloaded
            | Self::UpstreamFault
            | Self::Unreachable
            | Self::Timeout(_)
            | Self::Cancelled
            | Self::ContentFilter
            | Self::ContextTooLong
            | Self::ModelNotFound
            | Self::NotOffered
            | Self::Resting
            | Self::Busy => KeyFate::Stays,
        }
    }

    /// What the breaker hears of it.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Ok
            | Self::ClientFault
            | Self::Auth
            | Self::Forbidden
            | Self::Quota
            | Self::ModelQuota
            | Self::ContentFilter
            | Self::ContextTooLong
            | Self::ModelNotFound => Verdict::Alive,
            Self::Overloaded
            | Self::UpstreamFault
            | Self::Unreachable
            | Self::Timeout(Phase::Connect | Phase::FirstToken | Phase::Idle | Phase::WholeAnswer) => Verdict::Failed,
            Self::RateLimited
            | Self::Timeout(Phase::Budget)
            | Self::Cancelled
            | Self::NotOffered
            | Self::Resting
            | Self::Busy => Verdict::Unknown,
        }
    }

    /// How much it helps the client to hear of it.
    const fn usefulness(self) -> u8 {
        match self {
            // The client can do something about its request.
            Self::ContextTooLong
            | Self::ClientFault
            | Self::ContentFilter
            | Self::ModelNotFound
            | Self::Cancelled
            | Self::Ok => 6,
            Self::RateLimited => SAYS_WHEN,
            // The user can do something about the account.
            Self::Quota | Self::ModelQuota => 4,
            Self::Auth | Self::Forbidden => 3,
            Self::Overloaded | Self::UpstreamFault | Self::Timeout(_) => 2,
            Self::Unreachable | Self::NotOffered => 1,
            // It was only passed over.
            Self::Resting | Self::Busy => 0,
        }
    }

    /// The label in metrics and in the attempt trail.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientFault => "client_fault",
            Self::Auth => "auth",
            Self::Forbidden => "forbidden",
            Self::Quota => "quota",
            Self::ModelQuota => "model_quota",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::UpstreamFault => "upstream_fault",
            Self::Unreachable => "unreachable",
            Self::Timeout(Phase::Connect) => "timeout_connect",
            Self::Timeout(Phase::FirstToken) => "timeout_first_token",
            Self::Timeout(Phase::Idle) => "timeout_idle",
            Self::Timeout(Phase::WholeAnswer) => "timeout_whole_answer",
            Self::Timeout(Phase::Budget) => "timeout_budget",
            Self::Cancelled => "cancelled",
            Self::ContentFilter => "content_filter",
            Self::ContextTooLong => "context_too_long",
            Self::ModelNotFound => "model_not_found",
            Self::NotOffered => "not_offered",
            Self::Resting => "resting",
            Self::Busy => "busy",
        }
    }

    /// The outcome that an error of a provider's stands for.
    pub fn from_error(error: &ChatError) -> Self {
        match error.kind {
            ErrorKind::InvalidRequest | ErrorKind::TooLarge => Self::ClientFault,
            ErrorKind::Authentication => Self::Auth,
            ErrorKind::Permission => Self::Forbidden,
            ErrorKind::NotFound => Self::ModelNotFound,
            ErrorKind::RateLimited => Self::RateLimited,
            ErrorKind::QuotaExceeded if error.code.as_deref() == Some(MODEL_QUOTA) => Self::ModelQuota,
            ErrorKind::QuotaExceeded => Self::Quota,
            ErrorKind::ContextTooLong => Self::ContextTooLong,
            ErrorKind::ContentFilter => Self::ContentFilter,
            // Who says so itself was reached.
            ErrorKind::Overloaded | ErrorKind::Unavailable => Self::Overloaded,
            // Who says itself that it timed out or cancelled has failed; a silence and a client that left are ours to see.
            ErrorKind::Upstream | ErrorKind::Internal | ErrorKind::Timeout | ErrorKind::Cancelled => {
                Self::UpstreamFault
            }
        }
    }
}

/// The code of an error that tells that the local server could not load the model.
pub const LOAD_FAILED: &str = "model_load_failed";

/// An attempt that gave no answer. What is in it is in boxes: every step on the way of a request has room for one.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What became of it.
    pub outcome: Outcome,
    /// What the client may be told.
    pub error: Box<ChatError>,
    /// The provider's error answer as it stood on the wire, where its dialect is the client's own.
    pub original: Option<OriginalError>,
    /// The headers of the provider's error answer; empty when there was none.
    pub headers: Box<HeaderMap>,
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
    /// How much the error helps the client, when every target failed: the highest is told. Of those that say when to come
    /// back it is the soonest.
    pub fn usefulness(&self) -> (u8, Reverse<Duration>) {
        match self.says_when() {
            Some(wait) => (SAYS_WHEN, Reverse(wait)),
            None => (self.outcome.usefulness(), Reverse(Duration::MAX)),
        }
    }

    /// When to come back, by the word of who knows it: the provider, now or before, or the queue.
    fn says_when(&self) -> Option<Duration> {
        match self.outcome {
            Outcome::Busy => self.error.retry_after,
            Outcome::Resting => self.error.retry_after.filter(|_| self.error.kind == ErrorKind::RateLimited),
            _ => self.rest(),
        }
    }

    /// How long the provider asked to be left alone.
    pub fn rest(&self) -> Option<Duration> {
        // Of other failures the wait is our own advice to the client.
        let is_asked = matches!(self.outcome, Outcome::RateLimited | Outcome::Overloaded | Outcome::UpstreamFault);
        self.error.retry_after.filter(|_| is_asked)
    }

    /// The provider says itself that asking again is of no use (`x-should-retry` of OpenAI and Anthropic), or could not load
    /// the model.
    pub fn forbids_retry(&self) -> bool {
        self.error.code.as_deref() == Some(LOAD_FAILED)
            || self.headers.get("x-should-retry").is_some_and(|value| value == "false")
    }

    /// A failure that the error itself classifies.
    pub fn from_error(error: ChatError) -> Self {
        Self::new(Outcome::from_error(&error), error)
    }

    /// A failure with an outcome of its own.
    pub fn new(outcome: Outcome, error: ChatError) -> Self {
        Self { outcome, error: Box::new(error), original: None, headers: Box::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Outcome; 19] = [
        Outcome::Ok,
        Outcome::ClientFault,
        Outcome::Auth,
        Outcome::Forbidden,
        Outcome::Quota,
        Outcome::ModelQuota,
        Outcome::RateLimited,
        Outcome::Overloaded,
        Outcome::UpstreamFault,
        Outcome::Unreachable,
        Outcome::Timeout(Phase::Connect),
        Outcome::Timeout(Phase::FirstToken),
        Outcome::Timeout(Phase::Idle),
        Outcome::Timeout(Phase::WholeAnswer),
        Outcome::Timeout(Phase::Budget),
        Outcome::Cancelled,
        Outcome::ContentFilter,
        Outcome::ContextTooLong,
        Outcome::ModelNotFound,
    ];

    /// A row of the table as the code has it: outcome, disposition, key, breaker.
    fn row(outcome: Outcome) -> [String; 4] {
        let disposition = match outcome.disposition() {
            Disposition::Return => "return",
            Disposition::Retry => "retry",
            Disposition::Wait => "wait",
            Disposition::RotateKey => "rotate key",
            Disposition::TryNext => "next target",
            Disposition::TryLarger => "larger window",
        };
        let key = match outcome.key_fate() {
            KeyFate::Stays => "stays",
            KeyFate::RestsForModel => "rests for the model",
            KeyFate::Rests => "rests",
            KeyFate::Dropped => "dropped",
        };
        let breaker = match outcome.verdict() {
            Verdict::Alive => "success",
            Verdict::Failed => "failure",
            Verdict::Unknown => "nothing",
        };
        [format!("`{}`", outcome.label()), disposition.to_owned(), key.to_owned(), breaker.to_owned()]
    }

    #[test]
    fn the_table_of_the_documentation_is_what_the_code_does() {
        let document = include_str!("../../docs/FAILOVER.md");
        let rows: Vec<Vec<&str>> = document
            .lines()
            .filter(|line| line.starts_with("| `"))
            .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>())
            .filter(|cells| cells.len() == 5)
            .collect();
        let told: Vec<[String; 4]> =
            rows.iter().map(|cells| [0, 2, 3, 4].map(|place| cells[place].to_owned())).collect();
        let expected: Vec<[String; 4]> =
            ALL.into_iter().chain([Outcome::NotOffered, Outcome::Resting, Outcome::Busy]).map(row).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn every_kind_of_error_has_its_outcome() {
        for (kind, status, outcome) in [
            (ErrorKind::InvalidRequest, Some(400), Outcome::ClientFault),
            (ErrorKind::TooLarge, Some(413), Outcome::ClientFault),
            (ErrorKind::Authentication, Some(401), Outcome::Auth),
            (ErrorKind::Authentication, Some(400), Outcome::Auth),
            (ErrorKind::Permission, Some(403), Outcome::Forbidden),
            (ErrorKind::NotFound, Some(404), Outcome::ModelNotFound),
            (ErrorKind::RateLimited, Some(429), Outcome::RateLimited),
            (ErrorKind::QuotaExceeded, Some(429), Outcome::Quota),
            (ErrorKind::QuotaExceeded, Some(402), Outcome::Quota),
            (ErrorKind::ContextTooLong, Some(400), Outcome::ContextTooLong),
            (ErrorKind::ContentFilter, Some(400), Outcome::ContentFilter),
            (ErrorKind::Overloaded, Some(529), Outcome::Overloaded),
            (ErrorKind::Upstream, Some(500), Outcome::UpstreamFault),
            (ErrorKind::Internal, None, Outcome::UpstreamFault),
            (ErrorKind::Unavailable, Some(503), Outcome::Overloaded),
            (ErrorKind::Timeout, Some(504), Outcome::UpstreamFault),
            (ErrorKind::Timeout, None, Outcome::UpstreamFault),
            (ErrorKind::Cancelled, Some(499), Outcome::UpstreamFault),
        ] {
            let error = ChatError { status, ..ChatError::new(kind, "") };
            assert_eq!(Outcome::from_error(&error), outcome, "{kind:?} {status:?}");
        }
        let of_model = ChatError::new(ErrorKind::QuotaExceeded, "").with_code(MODEL_QUOTA);
        assert_eq!(Outcome::from_error(&of_model), Outcome::ModelQuota);
    }

    #[test]
    fn only_the_providers_own_word_is_a_rest() {
        let wait = Some(Duration::from_secs(3));
        let failure = |outcome| {
            let error = ChatError { retry_after: wait, ..ChatError::new(ErrorKind::Upstream, "") };
            Failure::new(outcome, error)
        };
        assert_eq!(failure(Outcome::RateLimited).rest(), wait);
        assert_eq!(failure(Outcome::Overloaded).rest(), wait);
        assert_eq!(failure(Outcome::UpstreamFault).rest(), wait);
        assert_eq!(failure(Outcome::Unreachable).rest(), None);
        assert_eq!(failure(Outcome::Quota).rest(), None);
    }
}
