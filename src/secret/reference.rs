//! Where a secret is: the text form of a reference.

use super::{Secret, words};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a secret is; safe to print, except a literal, which prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// `env:NAME`.
    Env(String),
    /// `file:/path`; the file's text without the white space around it. `~/` is the home folder.
    File(PathBuf),
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

/// Why a text is no reference. Never quotes the text, which may be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing is there.
    #[error("an empty key; write `env:NAME`, `file:/path`, `keychain:service` or `cmd:program args`")]
    Empty,
    /// `env:` without a name, or with one no environment can have.
    #[error("`env:` needs the name of a variable (letters, digits and `_`), as in `env:OPENAI_API_KEY`")]
    EnvName,
    /// `$NAME` or `${NAME}`.
    #[error("a variable is written `env:NAME`, without `$`")]
    Dollar,
    /// `file:` without an absolute path.
    #[error("`file:` needs an absolute path, as in `file:/run/secrets/openai` or `file:~/.keys/openai`")]
    FilePath,
    /// `keychain:` without a service.
    #[error("`keychain:` needs a service, as in `keychain:openai` or `keychain:openai/me@example.com`")]
    KeychainService,
    /// `cmd:` without a program, or with a quote that is not closed.
    #[error("`cmd:` needs a program and its arguments, quotes closed, as in `cmd:op read 'op://Private/OpenAI/key'`")]
    Command,
    /// `word:...` with a word that is none of ours but nearly one.
    #[error("an unknown kind of reference; did you mean `{0}:`?")]
    NearKind(&'static str),
    /// White space or a control character, which no header can carry.
    #[error("a literal key cannot hold spaces or control characters; put it where `file:` or `cmd:` finds it")]
    Unsendable,
}

const KINDS: [&str; 4] = ["env", "file", "keychain", "cmd"];

impl FromStr for SecretRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let text = text.trim();
        match text.split_once(':') {
            Some(("env", name)) if is_variable(name) => Ok(Self::Env(name.to_owned())),
            Some(("env", _)) => Err(ReferenceError::EnvName),
            Some(("file", path)) if path.starts_with('/') || path.starts_with("~/") => Ok(Self::File(path.into())),
            Some(("file", _)) => Err(ReferenceError::FilePath),
            Some(("keychain", place)) => {
                let (service, account) = match place.split_once('/') {
                    Some((service, account)) => (service, Some(account).filter(|account| !account.is_empty())),
                    None => (place, None),
                };
                if service.is_empty() {
                    return Err(ReferenceError::KeychainService);
                }
                Ok(Self::Keychain { service: service.to_owned(), account: account.map(str::to_owned) })
            }
            Some(("cmd", line)) => match words::split(line) {
                Some(words) if words.first().is_some_and(|program| !program.is_empty()) => Ok(Self::Command(words)),
                _ => Err(ReferenceError::Command),
            },
            Some((word, _)) => {
                near_kind(word).map_or_else(|| literal(text), |kind| Err(ReferenceError::NearKind(kind)))
            }
            None => literal(text),
        }
    }
}

/// The kind of reference that `word` is a slip of.
fn near_kind(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    let near = |kind: &&str| strsim::damerau_levenshtein(kind, &word) <= 1 + usize::from(kind.len() > 4);
    KINDS.into_iter().find(near)
}

fn literal(text: &str) -> Result<SecretRef, ReferenceError> {
    if text.is_empty() {
        return Err(ReferenceError::Empty);
    }
    if let Some(name) = text.strip_prefix('$') {
        let name = name.strip_prefix('{').and_then(|name| name.strip_suffix('}')).unwrap_or(name);
        if is_variable(name) {
            return Err(ReferenceError::Dollar);
        }
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(ReferenceError::Unsendable);
    }
    Ok(SecretRef::Literal(Secret::new(text)))
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Keychain { service, account: None } => write!(f, "keychain:{service}"),
            Self::Keychain { service, account: Some(account) } => write!(f, "keychain:{service}/{account}"),
            Self::Command(words) => {
                let quoted: Vec<String> = words.iter().map(|word| words::quote(word)).collect();
                write!(f, "cmd:{}", quoted.join(" "))
            }
            Self::Literal(_) => f.write_str("***"),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes what [`fmt::Display`] shows, so a literal is masked here too.
impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Where a secret is: `env:NAME`, `file:/path`, `keychain:service[/account]` (macOS) or \
                            `cmd:program args`. A literal key works, with a warning.",
            "examples": ["env:OPENAI_API_KEY", "file:/run/secrets/openai", "keychain:openai", "cmd:pass show openai"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<SecretRef, ReferenceError> {
        text.parse()
    }

    #[test]
    fn each_kind_is_read() {
        assert_eq!(parse("env:OPENAI_API_KEY"), Ok(SecretRef::Env("OPENAI_API_KEY".into())));
        assert_eq!(parse(" file:/run/secrets/a b "), Ok(SecretRef::File("/run/secrets/a b".into())));
        assert_eq!(parse("keychain:openai"), Ok(SecretRef::Keychain { service: "openai".into(), account: None }));
        assert_eq!(
            parse("keychain:openai/me/too"),
            Ok(SecretRef::Keychain { service: "openai".into(), account: Some("me/too".into()) })
        );
        assert_eq!(
            parse("cmd:doppler secrets get 'A B' --plain"),
            Ok(SecretRef::Command(["doppler", "secrets", "get", "A B", "--plain"].map(String::from).to_vec()))
        );
        assert_eq!(parse("sk-abc"), Ok(SecretRef::Literal(Secret::new("sk-abc"))));
        assert_eq!(parse("user:pass"), Ok(SecretRef::Literal(Secret::new("user:pass"))), "some keys hold a colon");
    }

    #[test]
    fn each_mistake_has_its_message() {
        let cases = [
            ("", ReferenceError::Empty),
            ("env:", ReferenceError::EnvName),
            ("env:$HOME", ReferenceError::EnvName),
            ("$OPENAI_API_KEY", ReferenceError::Dollar),
            ("${OPENAI_API_KEY}", ReferenceError::Dollar),
            ("file:secrets", ReferenceError::FilePath),
            ("keychain:/me", ReferenceError::KeychainService),
            ("cmd: ", ReferenceError::Command),
            ("cmd:op 'read", ReferenceError::Command),
            ("evn:X", ReferenceError::NearKind("env")),
            ("ENV:X", ReferenceError::NearKind("env")),
            ("keychian:X", ReferenceError::NearKind("keychain")),
            ("two words", ReferenceError::Unsendable),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_literal_shows_nowhere() {
        let reference = parse("sk-planted-secret").unwrap();
        let shown = format!("{reference} {reference:?} {}", serde_json::to_string(&reference).unwrap());
        assert_eq!(shown, "*** *** \"***\"");
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(text in ".*") {
            if let Ok(reference) = parse(&text) && !matches!(reference, SecretRef::Literal(_)) {
                prop_assert_eq!(parse(&reference.to_string()), Ok(reference));
            }
        }

        #[test]
        fn an_error_never_quotes_the_text(text in "[a-z]{3,8}:planted-[ a-z0-9]+") {
            if let Err(error) = parse(&text) {
                prop_assert!(!error.to_string().contains("planted"));
            }
        }
    }
}
