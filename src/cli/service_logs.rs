//! `bifrost service logs`: the end of the agents' logs, and what is added to them.

use super::client::Trouble;
use super::service::WhichArgs;
use super::{Exit, Output};
use clap::Args;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

/// How many lines of each log are shown.
const LINES: usize = 40;
/// How much of a log's end is looked at for them.
const TAIL: u64 = 64 * 1024;
/// Between two looks at a log that is followed.
const POLL: Duration = Duration::from_millis(250);

/// Options of `service logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Which of the agents.
    #[command(flatten)]
    pub which: WhichArgs,
    /// Goes on showing what is added, until Ctrl-C.
    #[arg(short, long)]
    pub follow: bool,
}

/// Shows the end of the logs in `folder`.
///
/// # Errors
/// There is no log, or one cannot be read.
pub async fn run(args: &LogsArgs, folder: &Path, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let names = args.which.agent.agents().iter().flat_map(|agent| agent.logs());
    let mut logs: Vec<Followed> = names.map(|name| Followed::new(folder.join(name))).collect();
    let mut shown = Shown::default();
    let mut found = false;
    for log in &mut logs {
        let tail = log.tail().map_err(|error| unreadable(&log.path, &error))?;
        found |= tail.is_some();
        shown.show(&log.path, &tail.unwrap_or_default(), output)?;
    }
    if !args.follow {
        let missing = format!("there is no log in {} yet\nbifrost service status", folder.display());
        return if found { Ok(Exit::Ok) } else { Err(Trouble::new(Exit::NotFound, missing)) };
    }
    let mut interrupted = Box::pin(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            _ = &mut interrupted => return Ok(Exit::Interrupted),
            () = sleep(POLL) => {}
        }
        for log in &mut logs {
            let added = log.added().map_err(|error| unreadable(&log.path, &error))?;
            shown.show(&log.path, &added, output)?;
        }
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Trouble {
    Trouble::new(Exit::Failure, format!("{}: {error}", path.display()))
}

/// Which log was shown last: a heading stands where that changes.
#[derive(Default)]
struct Shown {
    last: Option<PathBuf>,
}

impl Shown {
    fn show(&mut self, path: &Path, text: &[u8], output: &mut Output<'_>) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if self.last.as_deref() != Some(path) {
            let space = if self.last.is_some() { "\n" } else { "" };
            writeln!(output.out, "{space}==> {} <==", path.display())?;
            self.last = Some(path.to_owned());
        }
        output.out.write_all(text)?;
        output.out.flush()
    }
}

/// A log, and how far it was read. It may not be there yet, and may be put aside at any time.
struct Followed {
    path: PathBuf,
    open: Option<File>,
}

impl Followed {
    fn new(path: PathBuf) -> Self {
        Self { path, open: None }
    }

    /// Its last lines; `None` when there is no such file.
    fn tail(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(mut file) = open(&self.path)? else { return Ok(None) };
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        self.open = Some(file);
        Ok(Some(last_lines(&text, LINES).to_vec()))
    }

    /// What was written since the last look, here and, if the log was put aside, in the one that came after.
    fn added(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        if let Some(file) = &mut self.open {
            file.read_to_end(&mut text)?;
        }
        let now = open(&self.path)?;
        let same = match (&self.open, &now) {
            (Some(file), Some(other)) => {
                let (mine, its) = (file.metadata()?, other.metadata()?);
                (mine.dev(), mine.ino()) == (its.dev(), its.ino())
            }
            (_, None) => true,
            (None, Some(_)) => false,
        };
        if let (false, Some(mut file)) = (same, now) {
            file.read_to_end(&mut text)?;
            self.open = Some(file);
        }
        Ok(text)
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last `lines` lines of a text.
fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let mut ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    let start = ends.nth(lines.saturating_sub(1)).map_or(0, |(at, _)| at + 1);
    text.get(start..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;

    #[test]
    fn the_last_lines_are_whole() {
        assert_eq!(last_lines(b"a\nb\nc\n", 2), b"b\nc\n");
        assert_eq!(last_lines(b"a\nb\nc", 2), b"b\nc");
        assert_eq!(last_lines(b"a\n", 2), b"a\n");
        assert_eq!(last_lines(b"\n\n\n", 1), b"\n");
        assert_eq!(last_lines(b"", 2), b"");
    }

    #[test]
    fn a_log_is_followed_through_its_beginning_and_its_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.log");
        let mut log = Followed::new(path.clone());
        assert_eq!(log.tail().unwrap(), None);
        assert_eq!(log.added().unwrap(), b"");
        fs::write(&path, "one\n").unwrap();
        assert_eq!(log.added().unwrap(), b"one\n");
        let append = |text: &str| {
            fs::OpenOptions::new().append(true).create(true).open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        };
        append("two\n");
        assert_eq!(log.added().unwrap(), b"two\n");
        append("three\n");
        fs::rename(&path, folder.path().join("x.log.1")).unwrap();
        append("four\n");
        assert_eq!(log.added().unwrap(), b"three\nfour\n");
        assert_eq!(log.added().unwrap(), b"");
        let mut again = Followed::new(path);
        assert_eq!(again.tail().unwrap().unwrap(), b"four\n");
        assert_eq!(again.added().unwrap(), b"");
    }
}
