//! The processes behind the server: who listens on a port, and how much memory a process and its children hold.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::process::Command;
use tokio::time::timeout;

/// `lsof` looks through every process; on a machine with much to do that takes a while.
const LSOF_LIMIT: Duration = Duration::from_secs(10);
/// Where macOS and the Linux distributions have it; launchd gives its agents no `/usr/sbin` to search.
const LSOF: [&str; 2] = ["/usr/sbin/lsof", "/usr/bin/lsof"];

/// The process that listens on a TCP port of this machine, by `lsof`, and its program's name. `None` where nobody does,
/// or it cannot be found out.
pub async fn listener(port: u16) -> Option<(u32, String)> {
    let program = LSOF.iter().find(|program| Path::new(program).exists())?;
    let port = format!("-iTCP:{port}");
    let mut lsof = Command::new(program);
    lsof.args(["-nP", &port, "-sTCP:LISTEN", "-Fpc"]).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = timeout(LSOF_LIMIT, lsof.output()).await.ok()?.ok()?;
    first_process(&String::from_utf8_lossy(&output.stdout))
}

/// The first process in the output of `lsof -Fpc`: lines `p<pid>`, `c<command>`, `f<file>` (lsof(8), "output for other
/// programs").
fn first_process(text: &str) -> Option<(u32, String)> {
    let mut lines = text.lines().skip_while(|line| !line.starts_with('p'));
    let pid = lines.next()?.strip_prefix('p')?.parse().ok()?;
    let program = lines.take_while(|line| !line.starts_with('p')).find_map(|line| line.strip_prefix('c'));
    Some((pid, program.unwrap_or("unknown").to_owned()))
}

/// What is known of all processes at one moment.
#[derive(Debug, Default)]
pub struct Processes {
    /// Parent and resident bytes by process.
    table: HashMap<u32, (Option<u32>, u64)>,
}

impl Processes {
    /// Asks the system. Takes some milliseconds: not for the thread of anybody who waits.
    pub fn now() -> Self {
        let mut system = System::new();
        let wanted = ProcessRefreshKind::nothing().with_memory().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::All, true, wanted);
        let one = |(pid, process): (&sysinfo::Pid, &sysinfo::Process)| {
            (pid.as_u32(), (process.parent().map(sysinfo::Pid::as_u32), process.memory()))
        };
        Self { table: system.processes().iter().map(one).collect() }
    }

    /// `pid` is `ancestor`, or was started by it, directly or not.
    pub fn descends(&self, pid: u32, ancestor: u32) -> bool {
        let mut seen = HashSet::new();
        let mut at = Some(pid);
        while let Some(pid) = at.filter(|pid| seen.insert(*pid)) {
            if pid == ancestor {
                return true;
            }
            at = self.table.get(&pid).and_then(|(parent, _)| *parent);
        }
        false
    }

    /// The memory that `pid` and all that it started hold, in bytes: llama-swap's models live in its children.
    pub fn resident(&self, pid: u32) -> Option<u64> {
        self.table.get(&pid)?;
        let of_tree = self.table.iter().filter(|(other, _)| self.descends(**other, pid));
        Some(of_tree.map(|(_, (_, bytes))| *bytes).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_listener_is_named() {
        assert_eq!(first_process("p412\ncllama-swap\nf7\np413\ncother\nf8\n"), Some((412, "llama-swap".to_owned())));
        assert_eq!(first_process("p412\nf7\n"), Some((412, "unknown".to_owned())));
        assert_eq!(first_process(""), None);
        assert_eq!(first_process("pxy\ncz"), None);
    }

    #[test]
    fn memory_is_that_of_the_whole_family() {
        let table =
            [(1, (None, 1)), (10, (Some(1), 100)), (11, (Some(10), 1_000)), (12, (Some(11), 5)), (20, (Some(1), 7))];
        let processes = Processes { table: table.into_iter().collect() };
        assert_eq!(processes.resident(10), Some(1_105));
        assert_eq!(processes.resident(99), None);
        assert!(processes.descends(12, 10) && !processes.descends(20, 10));
    }

    #[test]
    fn this_process_is_seen() {
        let me = std::process::id();
        assert!(Processes::now().resident(me).is_some_and(|bytes| bytes > 100_000));
    }

    #[tokio::test]
    async fn the_listener_of_a_port_is_this_process() {
        if !LSOF.iter().any(|program| Path::new(program).exists()) {
            return;
        }
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let found = listener(socket.local_addr().unwrap().port()).await;
        assert_eq!(found.map(|(pid, _)| pid), Some(std::process::id()));
    }

    proptest! {
        #[test]
        fn no_output_of_lsof_is_too_much(text in "[pcf0-9a-z\n]{0,60}") {
            let _ = first_process(&text);
        }

        #[test]
        fn a_circle_of_parents_ends(parents in proptest::collection::vec(0u32..8, 8)) {
            let table = parents.iter().enumerate().map(|(pid, parent)| (pid as u32, (Some(*parent), 1))).collect();
            let processes = Processes { table };
            prop_assert!(processes.resident(3).is_some_and(|bytes| (1..=8).contains(&bytes)));
        }
    }
}
