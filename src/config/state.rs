//! What outlives a restart and is not declared: the run-time switch for local-only mode, one small file in the state
//! folder. It can only make what is declared stricter.

use super::{Paths, private_file};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use tracing::error;

/// The name of the switch's file in the state folder.
const SWITCH_FILE: &str = "local-only.json";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    local_only: bool,
}

/// Whether local-only mode was switched on at run time. No file is off. A file that cannot be read is on, for it might
/// have said so; the log tells why.
pub fn read_local_only(paths: &Paths) -> bool {
    let Some(file) = switch_file(paths) else { return false };
    let why = match std::fs::read(&file) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(Switch { local_only }) => return local_only,
            Err(error) => error.to_string(),
        },
        // A link that leads nowhere is not the same as no file.
        Err(error) if error.kind() == ErrorKind::NotFound && file.symlink_metadata().is_err() => return false,
        Err(error) => error.to_string(),
    };
    error!("{}: {why}; local-only mode stays on; `bifrost local off` writes the file anew", file.display());
    true
}

/// Writes the switch, whole or not at all, for its owner only. Makes the state folder if need be.
///
/// # Errors
/// There is no state folder, or it cannot be written; then the switch is as it was.
pub fn write_local_only(paths: &Paths, on: bool) -> io::Result<()> {
    let missing = || io::Error::new(ErrorKind::NotFound, "there is no state folder; set HOME or BIFROST_STATE_DIR");
    let file = switch_file(paths).ok_or_else(missing)?;
    private_file::replace(&file, &serde_json::to_vec(&Switch { local_only: on })?, true)
}

fn switch_file(paths: &Paths) -> Option<PathBuf> {
    paths.state.as_ref().map(|folder| folder.join(SWITCH_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn at(folder: &Path) -> Paths {
        Paths { state: Some(folder.to_owned()), ..Paths::default() }
    }

    #[test]
    fn what_is_written_is_read_and_only_the_owner_can() {
        let folder = tempfile::tempdir().unwrap();
        let paths = at(&folder.path().join("a/b"));
        assert!(!read_local_only(&paths), "no file");
        write_local_only(&paths, true).unwrap();
        assert!(read_local_only(&paths));
        write_local_only(&paths, false).unwrap();
        assert!(!read_local_only(&paths));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&switch_file(&paths).unwrap()), 0o600);
            assert_eq!(mode(&folder.path().join("a")), 0o700);
        }
        assert_eq!(std::fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1, "nothing else is left");
        assert!(!read_local_only(&Paths::default()));
        assert!(write_local_only(&Paths::default(), true).is_err(), "it would be forgotten");
    }

    #[test]
    fn what_cannot_be_read_is_on() {
        let folder = tempfile::tempdir().unwrap();
        let paths = at(folder.path());
        let file = switch_file(&paths).unwrap();
        for garbage in ["", "{", "{}", "false", r#"{"local_only":"no"}"#, r#"{"local_only":false,"x":1}"#] {
            std::fs::write(&file, garbage).unwrap();
            assert!(read_local_only(&paths), "{garbage}");
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(read_local_only(&paths), "a folder in its place");
        assert!(write_local_only(&paths, false).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written is left");
        std::fs::remove_dir(&file).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/nowhere/at/all", &file).unwrap();
            assert!(read_local_only(&paths), "a link that leads nowhere");
        }
        let not_a_folder = tempfile::NamedTempFile::new().unwrap();
        assert!(read_local_only(&at(not_a_folder.path())), "a file where the folder should be");
    }
}
