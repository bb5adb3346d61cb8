//! From references to secrets: when one is needed, once at a time, kept until the next reload.

use super::{Environment, Secret, SecretRef};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio::time::Instant;

/// How long a program may take to print a secret.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a failure stands before it is tried again, so that a locked password manager is not asked by every request.
pub const FAILURE_KEPT: Duration = Duration::from_secs(5);
/// No key is longer, in bytes.
const LONGEST: usize = 64 * 1024;
/// The tool that reads the keychain of macOS.
const SECURITY: &str = "/usr/bin/security";

/// Resolves references. One lives as long as one configuration; what it has found it keeps.
pub struct Resolver {
    environment: Arc<Environment>,
    /// `None` where there is no keychain.
    security: Option<PathBuf>,
    slots: Mutex<HashMap<String, Arc<Slot>>>,
}

/// What is known of one reference; the lock makes the second caller wait for the first.
type Slot = tokio::sync::Mutex<Option<(Instant, Result<Secret, SecretError>)>>;

/// Whether a secret can be expected, without running anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Availability {
    /// It is not there.
    Absent,
    /// Only running a program or asking the keychain would tell.
    Unknown,
    /// It is there.
    Present,
}

/// Which reference failed, and why. Names the reference, never the secret.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reference}: {reason}")]
pub struct SecretError {
    /// The reference.
    pub reference: SecretRef,
    /// What went wrong.
    pub reason: FailureReason,
}

/// Why a reference gave no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FailureReason {
    /// The variable is not set, or is empty.
    #[error("the variable is not set; export it, or put it into the file of `bifrost serve --env-file`")]
    NotSet,
    /// The file could not be read.
    #[error("the file cannot be read ({0})")]
    File(String),
    /// `keychain:` on a machine that has none.
    #[error("there is a keychain on macOS only; use `env:`, `file:` or `cmd:` here")]
    NoKeychain,
    /// The keychain has no such entry, or refused.
    #[error("the keychain gave nothing ({0}); add it with: security add-generic-password -s SERVICE -a ACCOUNT -w")]
    Keychain(String),
    /// The program could not be started.
    #[error("the program cannot be started ({0}); give its full path if it is not in PATH")]
    Start(String),
    /// The program failed.
    #[error("the program failed ({0}); run it by hand to see why")]
    Failed(String),
    /// The program took too long and was killed.
    #[error("the program was stopped after {} s without an answer; it may be waiting for a password", .0.as_secs())]
    Timeout(Duration),
    /// There was nothing but white space.
    #[error("it is empty")]
    Empty,
    /// It holds what no header can carry, or is longer than 64 KiB.
    #[error("what it holds is no key: it is too long or has control characters in it")]
    NotAKey,
}

impl Resolver {
    /// A resolver that knows nothing yet. Does nothing by itself.
    pub fn new(environment: Arc<Environment>) -> Self {
        let security = cfg!(target_os = "macos").then(|| PathBuf::from(SECURITY));
        Self { environment, security, slots: Mutex::default() }
    }

    /// The secret of `reference`. Callers at the same time share one look-up; a success is kept, a failure for
    /// [`FAILURE_KEPT`]. Dropping the future stops the program it runs.
    ///
    /// # Errors
    /// Which reference failed, and why.
    pub async fn resolve(&self, reference: &SecretRef) -> Result<Secret, SecretError> {
        let error = |reason| SecretError { reference: reference.clone(), reason };
        match reference {
            SecretRef::Literal(secret) => Ok(secret.clone()),
            SecretRef::Env(name) => {
                let value = self.environment.get(name).ok_or_else(|| error(FailureReason::NotSet))?;
                key_of(value).map_err(error)
            }
            SecretRef::File(_) | SecretRef::Keychain { .. } | SecretRef::Command(_) => {
                let slot = self.slot(reference);
                // Held over the look-up on purpose: who comes meanwhile waits for its result, and no program runs twice.
                let mut known = slot.lock().await;
                match &*known {
                    Some((_, Ok(secret))) => return Ok(secret.clone()),
                    Some((at, Err(error))) if at.elapsed() < FAILURE_KEPT => return Err(error.clone()),
                    _ => {}
                }
                let found = self.look_up(reference).await.map_err(error);
                *known = Some((Instant::now(), found.clone()));
                found
            }
        }
    }

    /// The first secret that one of `references` gives; `None` when there are none, or all are variables that are not set.
    ///
    /// # Errors
    /// None gave a secret, and this is why the first (other than a variable that is not set) did not.
    pub async fn first(&self, references: impl IntoIterator<Item = &SecretRef>) -> Result<Option<Secret>, SecretError> {
        let mut failure = None;
        for reference in references {
            match self.resolve(reference).await {
                Ok(secret) => return Ok(Some(secret)),
                Err(error) if error.reason == FailureReason::NotSet => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// Whether `reference` can be expected to give a secret. Runs nothing and reads no file's text.
    pub fn peek(&self, reference: &SecretRef) -> Availability {
        let there = match reference {
            SecretRef::Literal(_) => true,
            SecretRef::Env(name) => self.environment.get(name).is_some(),
            SecretRef::File(path) => std::fs::metadata(self.expand(path)).is_ok_and(|file| file.is_file()),
            SecretRef::Keychain { .. } if self.security.is_none() => false,
            SecretRef::Keychain { .. } | SecretRef::Command(_) => return Availability::Unknown,
        };
        if there { Availability::Present } else { Availability::Absent }
    }

    /// The best that [`Self::peek`] says of `references`.
    pub fn peek_first<'a>(&self, references: impl IntoIterator<Item = &'a SecretRef>) -> Availability {
        references.into_iter().map(|reference| self.peek(reference)).max().unwrap_or(Availability::Absent)
    }

    fn slot(&self, reference: &SecretRef) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(reference.to_string()).or_default())
    }

    async fn look_up(&self, reference: &SecretRef) -> Result<Secret, FailureReason> {
        let text = match reference {
            SecretRef::File(path) => read(&self.expand(path)).await?,
            SecretRef::Keychain { service, account } => self.keychain(service, account.as_deref()).await?,
            SecretRef::Command(words) => self.command(words).await?,
            SecretRef::Env(_) | SecretRef::Literal(_) => return Err(FailureReason::Empty),
        };
        key_of(&text)
    }

    fn expand(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), self.environment.get("HOME")) {
            (Ok(rest), Some(home)) => Path::new(home).join(rest),
            _ => path.to_owned(),
        }
    }

    async fn keychain(&self, service: &str, account: Option<&str>) -> Result<String, FailureReason> {
        let security = self.security.as_ref().ok_or(FailureReason::NoKeychain)?;
        let mut command = Command::new(security);
        command.args(["find-generic-password", "-w", "-s", service]);
        if let Some(account) = account {
            command.args(["-a", account]);
        }
        self.run(command).await.map_err(|reason| match reason {
            FailureReason::Failed(how) => FailureReason::Keychain(how),
            other => other,
        })
    }

    async fn command(&self, words: &[String]) -> Result<String, FailureReason> {
        let [program, arguments @ ..] = words else { return Err(FailureReason::Empty) };
        let mut command = Command::new(self.expand(Path::new(program)));
        command.args(arguments);
        let text = self.run(command).await?;
        Ok(text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned())
    }

    /// What the program prints. What it complains of is counted, never shown: it may quote the secret.
    async fn run(&self, mut command: Command) -> Result<String, FailureReason> {
        command.envs(self.environment.added());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| FailureReason::Start(error.kind().to_string()))?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let finished = async { tokio::join!(read_limited(stdout), count(stderr), child.wait()) };
        let (text, complaint, status) = tokio::time::timeout(COMMAND_TIMEOUT, finished)
            .await
            .map_err(|_| FailureReason::Timeout(COMMAND_TIMEOUT))?;
        let text = text?;
        match status {
            Ok(status) if status.success() => String::from_utf8(text).map_err(|_| FailureReason::NotAKey),
            Ok(status) => Err(FailureReason::Failed(match complaint {
                0 => status.to_string(),
                bytes => format!("{status}, {bytes} bytes of error output not shown"),
            })),
            Err(error) => Err(FailureReason::Failed(error.kind().to_string())),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").finish_non_exhaustive()
    }
}

impl fmt::Debug for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The key in `text`: without white space around it, and fit for a header.
fn key_of(text: &str) -> Result<Secret, FailureReason> {
    let key = text.trim();
    match key {
        "" => Err(FailureReason::Empty),
        key if key.len() > LONGEST || key.chars().any(char::is_control) => Err(FailureReason::NotAKey),
        key => Ok(Secret::new(key)),
    }
}

async fn read(path: &Path) -> Result<String, FailureReason> {
    let failed = |error: std::io::Error| FailureReason::File(error.kind().to_string());
    // A pipe without a writer would wait for ever.
    let read = async { read_limited(Some(tokio::fs::File::open(path).await.map_err(failed)?)).await };
    let bytes = tokio::time::timeout(COMMAND_TIMEOUT, read)
        .await
        .map_err(|_| FailureReason::File(std::io::ErrorKind::TimedOut.to_string()))??;
    String::from_utf8(bytes).map_err(|_| FailureReason::NotAKey)
}

/// Reads to the end, and lets go of a source that has more than [`LONGEST`].
async fn read_limited(source: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, FailureReason> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        let read = source.take(LONGEST as u64 + 1).read_to_end(&mut bytes).await;
        read.map_err(|error| FailureReason::File(error.kind().to_string()))?;
    }
    if bytes.len() > LONGEST { Err(FailureReason::NotAKey) } else { Ok(bytes) }
}

async fn count(source: Option<impl AsyncRead + Unpin>) -> u64 {
    match source {
        Some(mut source) => tokio::io::copy(&mut source, &mut tokio::io::sink()).await.unwrap_or(1),
        None => 0,
    }
}

#[cfg(test)]
mod tests;
