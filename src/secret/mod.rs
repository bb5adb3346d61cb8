//! References to secrets, how they are resolved, and values that cannot be printed.

use std::fmt;

/// Where a secret is; safe to print, except a literal, which prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// `env:NAME`.
    Env(String),
    /// `file:/path`; the file's text without the white space around it.
    File(std::path::PathBuf),
    /// `keychain:service[/account]`, macOS only.
    Keychain {
        /// The service of the generic password.
        service: String,
        /// The account, where one service has several.
        account: Option<String>,
    },
    /// `cmd:program args`; the first line it prints.
    Command(Vec<String>),
    /// The secret itself, in the file: allowed, with a warning.
    Literal(Secret),
}

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

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Keychain { service, account: None } => write!(f, "keychain:{service}"),
            Self::Keychain { service, account: Some(account) } => write!(f, "keychain:{service}/{account}"),
            Self::Command(words) => write!(f, "cmd:{}", words.join(" ")),
            Self::Literal(_) => f.write_str("***"),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
