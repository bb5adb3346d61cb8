//! A log file that is put aside when it has grown. launchd never opens a log anew, so a rotation from outside would be
//! lost on it; whoever writes has to do it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Bytes after which a log is put aside.
pub const LIMIT: u64 = 10 * 1024 * 1024;
/// How many old ones are kept: `.1` is the youngest.
pub const KEPT: usize = 4;

/// The log, open at its end.
#[derive(Debug)]
pub struct RotatingLog {
    path: PathBuf,
    limit: u64,
    file: File,
    written: u64,
    line_is_open: bool,
}

impl RotatingLog {
    /// Opens the log at `path`, which is put aside when more than `limit` bytes are in it. Makes its folder.
    ///
    /// # Errors
    /// The folder or the file cannot be made or written.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = append(path)?;
        let written = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), limit, file, written, line_is_open: false })
    }

    /// Appends bytes. Lines are kept whole, unless one is as long as the limit.
    ///
    /// # Errors
    /// They cannot be written; the log stays usable.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        let full = self.written > 0 && self.written.saturating_add(length) > self.limit;
        if full && (!self.line_is_open || self.written > self.limit.saturating_mul(2)) {
            self.rotate()?;
        }
        self.file.write_all(bytes)?;
        self.written = self.written.saturating_add(length);
        self.line_is_open = bytes.last().is_some_and(|last| *last != b'\n');
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for age in (1..KEPT).rev() {
            match std::fs::rename(aged(&self.path, age), aged(&self.path, age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        match std::fs::rename(&self.path, aged(&self.path, 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.file = append(&self.path)?;
        self.written = 0;
        Ok(())
    }
}

/// The name of the log that is `age` rotations old.
pub fn aged(path: &Path, age: usize) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{age}"));
    name.into()
}

/// What a server logs is nobody else's business.
fn append(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_full_log_is_put_aside_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("made/too/x.log");
        let mut log = RotatingLog::open(&path, 10).unwrap();
        for line in 0..12 {
            log.write(format!("line {line:02}\n").as_bytes()).unwrap();
        }
        assert_eq!(read(&path), "line 11\n");
        assert_eq!(read(&aged(&path, 1)), "line 10\n");
        assert_eq!(read(&aged(&path, KEPT)), "line 07\n");
        assert!(!aged(&path, KEPT + 1).exists());
        drop(log);
        let mut again = RotatingLog::open(&path, 10).unwrap();
        again.write(b"after a start\n").unwrap();
        assert_eq!((read(&path), read(&aged(&path, 1))), ("after a start\n".to_owned(), "line 11\n".to_owned()));
    }

    #[test]
    fn lines_are_kept_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut log = RotatingLog::open(&path, 10).unwrap();
        for piece in ["one\n", "two three", " four\n", "five\n"] {
            log.write(piece.as_bytes()).unwrap();
        }
        assert_eq!(read(&aged(&path, 2)), "one\n");
        assert_eq!(read(&aged(&path, 1)), "two three four\n");
        assert_eq!(read(&path), "five\n");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_between_rotations(pieces in prop::collection::vec("[a-z\n]{0,12}", 0..8)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.log");
            let mut log = RotatingLog::open(&path, 24).unwrap();
            for piece in &pieces {
                log.write(piece.as_bytes()).unwrap();
            }
            let all: String = (1..=KEPT).rev().map(|age| read(&aged(&path, age))).chain([read(&path)]).collect();
            // Eight pieces of twelve bytes cannot fill five logs of 24.
            prop_assert_eq!(all, pieces.concat());
        }
    }
}
