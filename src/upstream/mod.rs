//! The way out: two HTTP clients, the credentials, the deadlines, and what became of a call.

pub mod auth;
mod call;
mod client;
mod outcome;

pub use call::{Answer, AnswerBody, Call};
pub use client::{Clients, Destination, LocalUrlError};
pub use outcome::{Disposition, Failure, OriginalError, Outcome, Phase};
