//! References to secrets, how they are resolved, and values that cannot be printed.

mod environment;
mod reference;
mod resolver;
mod words;

pub use environment::{EnvFileError, Environment};
pub use reference::{ReferenceError, SecretRef};
pub use resolver::{Availability, FAILURE_KEPT, FailureReason, Resolver, SecretError};

use std::fmt;

/// A secret; prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The secret itself, for the header it goes into and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
