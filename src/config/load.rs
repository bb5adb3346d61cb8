//! From file, environment and flags to a [`Snapshot`].

use super::error::{Text, asks_local_only};
use super::file::File;
use super::{ConfigError, Paths, Problem, Snapshot, build, env, parse};
use crate::secret::Environment;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything a configuration is made from. Later wins: file, environment, flags; for local-only mode the strictest.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// The environment, with what `--env-file` added.
    pub environment: Arc<Environment>,
    /// Where files are looked for.
    pub paths: Paths,
    /// What the command line says.
    pub flags: Flags,
}

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: this file and no other.
    pub config: Option<PathBuf>,
    /// `--local`.
    pub local_only: bool,
    /// `--host`, repeated.
    pub hosts: Vec<IpAddr>,
    /// `--port`.
    pub port: Option<u16>,
    /// `--log`.
    pub log: Option<String>,
}

/// The classes, aliases and rules that are shipped, as a file.
fn shipped() -> Text<'static> {
    Text { path: Path::new("defaults.toml"), text: include_str!("defaults.toml") }
}

/// The file as it was found: its path and text, nothing, or why it could not be read.
pub(super) type Read = Result<Option<(PathBuf, String)>, Problem>;

impl Inputs {
    /// From the environment and the command line, with the places this machine uses.
    pub fn new(environment: Environment, flags: Flags) -> Self {
        let paths = Paths::of(&environment);
        Self { environment: Arc::new(environment), paths, flags }
    }

    /// The file that was named, by flag or variable; then it must exist.
    fn named_file(&self) -> Option<PathBuf> {
        let variable = || self.environment.get(env::CONFIG.name).map(PathBuf::from);
        self.flags.config.clone().or_else(variable).map(|path| self.paths.expand(&path))
    }

    /// The places where the file may be, in order.
    pub fn candidates(&self) -> Vec<PathBuf> {
        self.named_file().map_or_else(|| self.paths.config.clone(), |named| vec![named])
    }

    /// Finds the file and reads it. `None` when there is none and none was named.
    ///
    /// # Errors
    /// The file cannot be read, or was named and is not there.
    pub(super) fn read(&self) -> Read {
        let named = self.named_file().is_some();
        for path in self.candidates() {
            let message = match std::fs::read_to_string(&path) {
                Ok(text) => return Ok(Some((path, text))),
                Err(error) if error.kind() == ErrorKind::NotFound && !named => continue,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    "there is no such file; `bifrost config init` writes one".to_owned()
                }
                Err(error) => format!("cannot be read: {error}"),
            };
            return Err(Problem { file: Some(path), position: None, key: String::new(), message });
        }
        Ok(None)
    }

    /// Environment or flags ask for local-only mode.
    pub(super) fn asks_local_only(&self) -> bool {
        self.flags.local_only || local_only_variable(&self.environment) != Some(false)
    }
}

/// What `BIFROST_LOCAL_ONLY` says: `Some(false)` for nothing, `None` for what is neither yes nor no.
pub(super) fn local_only_variable(environment: &Environment) -> Option<bool> {
    match environment.get(env::LOCAL_ONLY.name).unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "0" | "false" | "no" | "off" => Some(false),
        "1" | "true" | "yes" | "on" => Some(true),
        _ => None,
    }
}

impl Snapshot {
    /// Reads the file, if there is one, and puts environment and flags over it. Resolves no secret and opens no socket.
    ///
    /// # Errors
    /// Everything that is wrong with it; nothing is taken by halves.
    pub fn load(inputs: &Inputs) -> Result<Self, ConfigError> {
        Self::of_read(inputs, &inputs.read())
    }

    /// The same, from what [`Inputs::read`] found.
    pub(super) fn of_read(inputs: &Inputs, read: &Read) -> Result<Self, ConfigError> {
        match read {
            Ok(file) => Self::of_text(inputs, file.as_ref().map(|(path, text)| (path.as_path(), text.as_str()))),
            Err(problem) => {
                Err(ConfigError { problems: vec![problem.clone()], asks_local_only: inputs.asks_local_only() })
            }
        }
    }

    /// The same, from the text of the file.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn of_text(inputs: &Inputs, file: Option<(&Path, &str)>) -> Result<Self, ConfigError> {
        let text = file.map(|(path, text)| Text { path, text });
        let error = |problems| ConfigError {
            problems,
            asks_local_only: inputs.asks_local_only() || text.is_some_and(|text| asks_local_only(text.text)),
        };
        let parsed = text.map_or(Ok(File::default()), parse::parse).map_err(|problem| error(vec![problem]))?;
        let shipped = parse::parse(shipped()).map_err(|problem| error(vec![problem]))?;
        build::snapshot(inputs, text, parsed, shipped).map_err(error)
    }
}

#[cfg(test)]
mod tests;
