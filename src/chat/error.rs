//! What went wrong, in words that every dialect can write.

use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// What kind of failure it was. Each dialect has a status and a code for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong (400, 422).
    InvalidRequest,
    /// No key, or a wrong one (401).
    Authentication,
    /// The key may not do this (403).
    Permission,
    /// No such model or route (404).
    NotFound,
    /// The body is too large (413).
    TooLarge,
    /// Too many requests for now (429).
    RateLimited,
    /// The account's quota or credit is used up (429 or 402).
    QuotaExceeded,
    /// The prompt does not fit into the model's context window (400).
    ContextTooLong,
    /// The vendor's filter refused the request (400).
    ContentFilter,
    /// The provider is overloaded (503, Anthropic 529).
    Overloaded,
    /// The provider failed (5xx, or an answer that is none).
    Upstream,
    /// The provider could not be reached, or is down (503).
    Unavailable,
    /// A deadline passed (504).
    Timeout,
    /// The client left, or the gateway ended the exchange (499).
    Cancelled,
    /// A defect of the gateway's own (500).
    Internal,
}

/// The code of a quota that is used up for the one model that was asked, and for no other.
pub const MODEL_QUOTA: &str = "model_quota_exceeded";

/// A failure as a client may see it. Never holds a secret.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatError {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What happened, to whom, and what to do next.
    pub message: String,
    /// A stable machine-readable code (`model_not_found`, `local_server_down`, or the provider's own).
    pub code: Option<String>,
    /// The request field that is wrong.
    pub param: Option<String>,
    /// The status the provider answered with, where there was one.
    pub status: Option<u16>,
    /// How long to wait before asking again.
    pub retry_after: Option<Duration>,
    /// The gateway's id of the exchange; set before the error is written.
    pub request_id: Option<String>,
    /// The provider's error type and details in its own words.
    pub details: Option<Value>,
}

impl ChatError {
    /// An error with a message and nothing else.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
            param: None,
            status: None,
            retry_after: None,
            request_id: None,
            details: None,
        }
    }

    /// The request is wrong at `param`.
    pub fn invalid(param: &str, message: impl Into<String>) -> Self {
        Self { param: Some(param.to_owned()), ..Self::new(ErrorKind::InvalidRequest, message) }
    }

    /// Sets the stable code.
    pub fn with_code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }
}

impl fmt::Display for ChatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ChatError {}

impl ErrorKind {
    /// The status that OpenAI and Google would use; Anthropic's differs only for `Overloaded` (529).
    pub const fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::ContextTooLong | Self::ContentFilter => 400,
            Self::Authentication => 401,
            Self::Permission => 403,
            Self::NotFound => 404,
            Self::TooLarge => 413,
            Self::RateLimited | Self::QuotaExceeded => 429,
            Self::Cancelled => 499,
            Self::Internal => 500,
            Self::Upstream => 502,
            Self::Overloaded | Self::Unavailable => 503,
            Self::Timeout => 504,
        }
    }

    /// The kind that an HTTP status alone stands for.
    pub const fn from_status(status: u16) -> Self {
        match status {
            401 => Self::Authentication,
            402 => Self::QuotaExceeded,
            403 => Self::Permission,
            404 => Self::NotFound,
            408 | 504 => Self::Timeout,
            413 => Self::TooLarge,
            429 => Self::RateLimited,
            503 | 529 => Self::Overloaded,
            // A provider that cancels has failed: our own client has not left.
            499..=599 => Self::Upstream,
            _ => Self::InvalidRequest,
        }
    }
}
