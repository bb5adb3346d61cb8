//! A program together with everything it starts: one process group, which is told, waited for and killed as a whole.
//! launchd itself looks only after the group of the program that it started.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgid, getpid};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;
use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// The time between two looks at a group that is ending.
const POLL: Duration = Duration::from_millis(50);
/// How long what was killed may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(5);
/// How far two readings of the same moment may be apart: systems count processes' starts from a boot they only estimate.
const SAME_MOMENT: u64 = 2;

/// A program in a process group of its own.
#[derive(Debug)]
pub struct ProcessGroup {
    leader: Child,
    id: Pid,
}

impl ProcessGroup {
    /// Starts a program as the leader of a new group.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut command: Command) -> io::Result<Self> {
        let leader = command.process_group(0).spawn()?;
        let id = leader.id().ok_or_else(|| io::Error::other("it ended before it began"))?;
        let id = Pid::from_raw(id.cast_signed());
        Ok(Self { leader, id })
    }

    /// The process id of the program, and of its group.
    pub fn id(&self) -> Pid {
        self.id
    }

    /// Waits until the program itself ends; others of its group may still be there. May be called again.
    ///
    /// # Errors
    /// The system refuses to say.
    pub async fn leader_ends(&mut self) -> io::Result<ExitStatus> {
        self.leader.wait().await
    }

    /// Sends a signal to all of the group. One that is gone needs none.
    pub fn signal(&self, signal: Signal) {
        let _ = killpg(self.id, signal);
    }

    /// Waits for the rest of the group to end, and kills what is still there after `grace`.
    pub async fn sweep(&self, grace: Duration) {
        sweep(self.id, grace).await;
    }
}

/// Waits until nothing of a group runs any more; kills it after `grace`.
async fn sweep(group: Pid, grace: Duration) {
    if !wait_until_empty(group, grace).await {
        let _ = killpg(group, Signal::SIGKILL);
        wait_until_empty(group, AFTER_KILL).await;
    }
}

async fn wait_until_empty(group: Pid, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if members(group).is_empty() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        sleep(POLL).await;
    }
}

/// A process, and when it began: process ids are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    pid: i32,
    /// Seconds since 1970.
    started: u64,
}

impl Mark {
    fn of(pid: Pid) -> Option<Self> {
        processes().into_iter().find(|mark| mark.pid == pid.as_raw())
    }

    fn is_alive(self) -> bool {
        let same = |other: &Self| other.pid == self.pid && other.started.abs_diff(self.started) <= SAME_MOMENT;
        processes().iter().any(same)
    }
}

/// Every process that runs; dead ones that nobody has asked after do not.
fn processes() -> Vec<Mark> {
    let mut system = System::new();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, ProcessRefreshKind::nothing().without_tasks());
    let alive =
        system.processes().values().filter(|it| !matches!(it.status(), ProcessStatus::Zombie | ProcessStatus::Dead));
    alive.filter_map(|it| Some(Mark { pid: it.pid().as_u32().try_into().ok()?, started: it.start_time() })).collect()
}

fn members(group: Pid) -> Vec<Mark> {
    // Process 0 of macOS would stand for this one.
    let is_member = |mark: &Mark| mark.pid > 0 && getpgid(Some(Pid::from_raw(mark.pid))) == Ok(group);
    processes().into_iter().filter(is_member).collect()
}

/// Which group a supervisor started, so that the next one can end it when the supervisor was killed and could not.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    supervisor: Mark,
    leader: Mark,
    /// When the machine was started, in seconds since 1970: after that, process ids mean others.
    booted: u64,
}

/// What became of the group that was started before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Former {
    /// It is gone.
    Gone,
    /// Its supervisor, this process, lives and looks after it.
    Supervised(i32),
    /// Its supervisor was killed; this group was left behind, and is ended now.
    Ended(i32),
}

/// The file of that record.
#[derive(Debug, Clone)]
pub struct RecordFile(pub PathBuf);

impl RecordFile {
    /// Remembers a group that this process has just started.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, group: &ProcessGroup) -> io::Result<()> {
        // What is gone already leaves nothing to remember.
        let (Some(supervisor), Some(leader)) = (Mark::of(getpid()), Mark::of(group.id())) else {
            return Ok(());
        };
        let record = Record { supervisor, leader, booted: System::boot_time() };
        std::fs::create_dir_all(self.0.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(&self.0, serde_json::to_vec(&record)?)
    }

    /// Forgets the group: it is gone.
    pub fn clear(&self) {
        // One that stays is recognised as stale by its times.
        let _ = std::fs::remove_file(&self.0);
    }

    /// Ends the group that a killed supervisor left behind, within `grace` if it listens. Nothing happens to the group of
    /// a supervisor that lives.
    pub async fn end_leftover(&self, grace: Duration) -> Former {
        /// The clock may have been set since.
        const SAME_BOOT: u64 = 120;
        let bytes = std::fs::read(&self.0).unwrap_or_default();
        let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { return Former::Gone };
        // Ids up to 1 would mean this group, or everything.
        if record.leader.pid <= 1 || record.booted.abs_diff(System::boot_time()) > SAME_BOOT {
            return Former::Gone;
        }
        if record.supervisor.is_alive() {
            return Former::Supervised(record.supervisor.pid);
        }
        let group = Pid::from_raw(record.leader.pid);
        let members = members(group);
        // A new process with the leader's id, or one that is older than the leader, is somebody else's.
        let foreign = |mark: &Mark| {
            mark.started.saturating_add(SAME_MOMENT) < record.leader.started
                || (mark.pid == record.leader.pid && mark.started.abs_diff(record.leader.started) > SAME_MOMENT)
        };
        let ours = !members.is_empty() && !members.iter().any(foreign);
        if ours {
            let _ = killpg(group, Signal::SIGTERM);
            sweep(group, grace).await;
        }
        self.clear();
        if ours { Former::Ended(record.leader.pid) } else { Former::Gone }
    }
}
