//! The run-time switch for local-only mode: one small file in the state folder, so that "on" outlives a restart.

use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// The switch's file. It can only make what is declared stricter.
#[derive(Debug, Clone)]
pub struct LocalSwitch {
    file: PathBuf,
}

/// What the switch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwitchState {
    /// Not switched on at run time; also when there is no file.
    Off,
    /// Switched on at run time.
    On,
    /// Counts as on: what cannot be read might have said so. Holds why.
    Unreadable(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    local_only: bool,
}

impl SwitchState {
    /// True unless it is known to be off.
    pub fn is_on(&self) -> bool {
        *self != Self::Off
    }
}

impl LocalSwitch {
    /// The switch in a state folder.
    pub fn new(state_folder: &Path) -> Self {
        Self { file: state_folder.join("local-only.json") }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// Reads it. Never fails: see [`SwitchState::Unreadable`].
    pub fn read(&self) -> SwitchState {
        let unreadable = |why: String| {
            let remedy = "local-only mode stays on; `bifrost local off` writes the file anew";
            SwitchState::Unreadable(format!("{}: {why}; {remedy}", self.file.display()))
        };
        match std::fs::read(&self.file) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(Content { local_only: true }) => SwitchState::On,
                Ok(Content { local_only: false }) => SwitchState::Off,
                Err(error) => unreadable(error.to_string()),
            },
            // A folder that is a file, or a link that leads nowhere, is not the same as no file.
            Err(error) if error.kind() == ErrorKind::NotFound && self.file.symlink_metadata().is_err() => {
                SwitchState::Off
            }
            Err(error) => unreadable(error.to_string()),
        }
    }

    /// Writes it, whole or not at all, for its owner only. Makes the folder if need be.
    ///
    /// # Errors
    /// The file or the folder cannot be written; then the switch is as it was.
    pub fn write(&self, on: bool) -> io::Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        create_private_folder(folder)?;
        let new = self.file.with_extension(format!("json.{}", std::process::id()));
        let written = write_private(&new, &serde_json::to_vec(&Content { local_only: on })?)
            .and_then(|()| std::fs::rename(&new, &self.file));
        if written.is_err() {
            let _ = std::fs::remove_file(&new);
        }
        written
    }
}

fn create_private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_only_the_owner_can() {
        let folder = tempfile::tempdir().unwrap();
        let switch = LocalSwitch::new(&folder.path().join("a/b"));
        assert_eq!(switch.read(), SwitchState::Off, "no file");
        switch.write(true).unwrap();
        assert_eq!(switch.read(), SwitchState::On);
        switch.write(false).unwrap();
        assert_eq!(switch.read(), SwitchState::Off);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(switch.path()), mode(&folder.path().join("a"))), (0o600, 0o700));
        }
        assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_cannot_be_read_is_on() {
        let folder = tempfile::tempdir().unwrap();
        let switch = LocalSwitch::new(folder.path());
        for garbage in ["", "{", "{}", "false", r#"{"local_only":"no"}"#, r#"{"local_only":false,"x":1}"#] {
            std::fs::write(switch.path(), garbage).unwrap();
            assert!(switch.read().is_on(), "{garbage}");
        }
        std::fs::remove_file(switch.path()).unwrap();
        std::fs::create_dir(switch.path()).unwrap();
        assert!(switch.read().is_on(), "a folder in its place");
        std::fs::remove_dir(switch.path()).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/nowhere/at/all", switch.path()).unwrap();
            assert!(switch.read().is_on(), "a link that leads nowhere");
        }
        let beneath_a_file = LocalSwitch::new(tempfile::NamedTempFile::new().unwrap().path());
        assert!(!beneath_a_file.read().is_on(), "the file is gone, so there is no folder either");
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(LocalSwitch::new(file.path()).read().is_on(), "a file where the folder should be");
    }
}
