//! Hot reload: when the file changes, or on SIGHUP, a new snapshot, or why there is none.
//!
//! Folders are watched, not only the file: editors replace files, and Nix swaps symlinks, of the file or of a folder
//! above it. After each sign of change all watches are set anew, and only then is the file read, so that no change
//! between the two is missed.

use super::load::Read;
use super::{ConfigError, Inputs, Snapshot};
use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the folders must be quiet before the file is read: an editor writes in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// Even a folder that is never quiet is read after so long.
const AT_MOST: Duration = Duration::from_secs(2);
/// Looked at without any sign of change too, where folders cannot be watched (too many watches, some network mounts).
const FALLBACK: Duration = Duration::from_secs(10);
/// Symlinks followed at most, as in Linux.
const MOST_LINKS: usize = 40;

/// Watches where the file is, or would be.
pub struct Watch {
    inputs: Inputs,
    /// `None` where the system lets nothing be watched.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    /// All that should be watched is.
    complete: bool,
    sign: mpsc::Receiver<()>,
    hangup: Hangup,
    last: Read,
}

impl Watch {
    /// Begins to watch, before the file is read for the first time. Must be called within a tokio runtime.
    pub fn new(inputs: Inputs) -> Self {
        let (signs, sign) = mpsc::channel(1);
        let handler = move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| is_change(event.kind)) {
                // A full channel already holds a sign.
                let _ = signs.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(handler).ok();
        let mut watch = Self {
            inputs,
            watcher,
            watched: BTreeSet::new(),
            complete: false,
            sign,
            hangup: Hangup::new(),
            last: Ok(None),
        };
        watch.arm();
        watch
    }

    /// Reads the file for the first time.
    ///
    /// # Errors
    /// As [`Snapshot::load`].
    pub fn load(&mut self) -> Result<Snapshot, ConfigError> {
        self.last = self.inputs.read();
        Snapshot::of_read(&self.inputs, &self.last)
    }

    /// Calls `changed` with each new snapshot, or with why there is none (then the last good one stays in use). It is not
    /// called while nothing changes, except after SIGHUP, which always reads anew and so forgets resolved secrets. Runs
    /// until dropped.
    pub async fn run(mut self, mut changed: impl FnMut(Result<Snapshot, ConfigError>) + Send) {
        loop {
            let forced = tokio::select! {
                Some(()) = self.sign.recv() => {
                    let quiet = async { while let Ok(Some(())) = tokio::time::timeout(QUIET, self.sign.recv()).await {} };
                    let _ = tokio::time::timeout(AT_MOST, quiet).await;
                    false
                }
                () = self.hangup.received() => true,
                () = tokio::time::sleep(FALLBACK), if !self.complete => false,
            };
            self.arm();
            let now = self.inputs.read();
            if forced || now != self.last {
                changed(Snapshot::of_read(&self.inputs, &now));
                self.last = now;
            }
        }
    }

    /// Sets all watches anew: a path may lead to another file or folder than before.
    fn arm(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        for place in std::mem::take(&mut self.watched) {
            // Fails where the place is gone, and its watch with it.
            let _ = watcher.unwatch(&place);
        }
        let wanted: BTreeSet<PathBuf> = self.inputs.candidates().iter().flat_map(|path| places(path)).collect();
        self.complete = true;
        for place in wanted {
            match watcher.watch(&place, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(place)),
                Err(_) => self.complete = false,
            }
        }
    }
}

/// Opening and reading a file is no change; our own reading would wake us for ever.
fn is_change(kind: EventKind) -> bool {
    !matches!(kind, EventKind::Access(access) if access != AccessKind::Close(AccessMode::Write))
}

/// What must be watched to learn that `path` leads to something new: its folder and the one above, the folder of every
/// symlink on the way, the file itself (kqueue tells of new text only there), or, where the way ends early, the last
/// folder there is.
fn places(path: &Path) -> BTreeSet<PathBuf> {
    let mut places = BTreeSet::new();
    let Ok(absolute) = std::path::absolute(path) else { return places };
    let mut rest: VecDeque<OsString> = parts(&absolute);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        if part == ".." {
            here.pop();
            continue;
        }
        let next = here.join(&part);
        if rest.is_empty() {
            places.extend(here.parent().map(Path::to_owned));
            places.insert(here.clone());
        }
        match (next.symlink_metadata(), next.read_link()) {
            (Ok(_), Ok(target)) if links < MOST_LINKS => {
                links += 1;
                places.insert(here.clone());
                if target.is_absolute() {
                    here = PathBuf::from("/");
                }
                let mut before = parts(&target);
                before.append(&mut rest);
                rest = before;
            }
            (Ok(_), _) => {
                here = next;
                if rest.is_empty() {
                    places.insert(here.clone());
                }
            }
            (Err(_), _) => {
                places.insert(here);
                break;
            }
        }
    }
    places
}

/// The names in a path, and `..`.
fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
        })
        .collect()
}

/// SIGHUP, where there is one.
struct Hangup {
    #[cfg(unix)]
    signal: Option<tokio::signal::unix::Signal>,
}

impl Hangup {
    #[cfg(unix)]
    fn new() -> Self {
        Self { signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok() }
    }

    #[cfg(unix)]
    async fn received(&mut self) {
        if let Some(signal) = &mut self.signal
            && signal.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }

    #[cfg(not(unix))]
    fn new() -> Self {
        Self {}
    }

    #[cfg(not(unix))]
    async fn received(&mut self) {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests;
