//! The way out: two HTTP clients, the credentials, the deadlines, and what became of a call.

pub mod auth;
mod call;
mod client;
mod connect;
mod connection;
mod deadline;
mod origin;
mod outcome;
mod retry_after;
mod severable;
#[cfg(test)]
mod tests;

pub use call::{Answer, AnswerBody, Call};
pub use client::{Clients, LocalUrlError};
pub use deadline::Alarm;
pub use outcome::{Disposition, Failure, KeyFate, LOAD_FAILED, OriginalError, Outcome, Phase, Verdict};
pub use retry_after::{is_readable, limit_reset, retry_after};
