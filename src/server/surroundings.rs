//! What is around the local server on this machine: its LaunchAgent, the process that listens, the memory it holds.

use crate::config::Paths;
use crate::local::agents::Agent;
use crate::local::launchctl::{AgentState, Launchctl, LaunchctlError, Listed};
use crate::local::process::{Processes, listener};
use crate::local::supervisor::{Holder, Look, SeenAgent, Step};
use crate::secret::Environment;
use std::mem::{Discriminant, discriminant};
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// The agent that Bifrost owns, whoever wrote its plist.
const OURS: Agent = Agent::VllmMlx;
/// What the labels of other people's agents of the same server contain.
const ANY_AGENT: &str = "vllm-mlx";

/// While nothing changes, launchd is asked this often, ...
const AGENT_EVERY: Duration = Duration::from_secs(5);
/// ... and all processes are looked through this often.
const PROCESSES_EVERY: Duration = Duration::from_secs(30);
/// An agent may take its `ExitTimeOut` (60 s at most) to leave.
const LEAVING: Duration = Duration::from_secs(70);
/// A bootstrap right after may be refused for a while.
const COMING: Duration = Duration::from_secs(20);

/// What was found, and when.
#[derive(Debug)]
pub struct Surroundings {
    launchctl: OwnAgent,
    agent: Option<SeenAgent>,
    agent_asked: Option<Instant>,
    holder: Option<Holder>,
    resident: Option<u64>,
    processes_asked: Option<Instant>,
    last: Option<Discriminant<Look>>,
}

/// The way to launchd for the agents of the local server.
#[derive(Debug, Clone)]
pub struct OwnAgent {
    launchctl: Launchctl,
    plist: Option<PathBuf>,
}

impl Surroundings {
    /// Nothing found yet.
    pub fn new(environment: &Environment, paths: &Paths) -> Self {
        Self {
            launchctl: OwnAgent::of(environment, paths),
            agent: None,
            agent_asked: None,
            holder: None,
            resident: None,
            processes_asked: None,
            last: None,
        }
    }

    /// Memory that the server and what it started hold, in bytes, as last seen.
    pub fn resident(&self) -> Option<u64> {
        self.resident
    }

    /// The way to launchd.
    pub fn launchctl(&self) -> OwnAgent {
        self.launchctl.clone()
    }

    /// The agent and the process that listens on `port`, asked anew when `look` is another than before or some time has
    /// passed.
    pub async fn look(&mut self, look: &Look, port: Option<u16>) -> (Option<SeenAgent>, Option<Holder>) {
        let changed = self.last.replace(discriminant(look)) != Some(discriminant(look));
        let due = |asked: Option<Instant>, every| changed || asked.is_none_or(|asked| asked.elapsed() >= every);
        let (agent_due, processes_due) =
            (due(self.agent_asked, AGENT_EVERY), due(self.processes_asked, PROCESSES_EVERY));
        if agent_due {
            // While launchd does not answer, what it said last stands.
            if let Ok(agent) = self.launchctl.find().await {
                self.agent = agent;
            }
            self.agent_asked = Some(Instant::now());
        }
        if processes_due {
            self.look_at_processes(look, port).await;
            self.processes_asked = Some(Instant::now());
        }
        (self.agent.clone(), self.holder.clone())
    }

    async fn look_at_processes(&mut self, look: &Look, port: Option<u16>) {
        let listens = match (look, port) {
            (Look::Closed, _) | (_, None) => None,
            (_, Some(port)) => listener(port).await,
        };
        let of_agent = self.agent.as_ref().and_then(|agent| agent.state.pid());
        if listens.is_none() && of_agent.is_none() {
            (self.holder, self.resident) = (None, None);
            return;
        }
        // A task of the blocking pool fails only when the runtime ends.
        let processes = tokio::task::spawn_blocking(Processes::now).await.unwrap_or_default();
        self.holder = listens.map(|(pid, program)| {
            let of_agent = of_agent.is_some_and(|agent| processes.descends(pid, agent));
            Holder { pid, program, of_agent }
        });
        let root = match (&self.holder, of_agent) {
            (Some(holder), Some(agent)) if holder.of_agent => Some(agent),
            (Some(holder), _) => Some(holder.pid),
            (None, agent) => agent,
        };
        self.resident = root.and_then(|root| processes.resident(root));
    }
}

impl OwnAgent {
    /// For this user.
    pub fn of(environment: &Environment, paths: &Paths) -> Self {
        Self { launchctl: Launchctl::of(environment), plist: paths.home.as_ref().map(|home| OURS.plist_path(home)) }
    }

    /// The agent of the local server: Bifrost's own, else one whose label says `vllm-mlx`, as
    /// `launchctl list | grep vllm-mlx` finds it. `None` where there is neither, or no launchd.
    ///
    /// # Errors
    /// Launchd could not be asked.
    pub async fn find(&self) -> Result<Option<SeenAgent>, LaunchctlError> {
        if !self.launchctl.is_there() {
            return Ok(None);
        }
        let jobs = self.launchctl.list().await?;
        let is_ours = |job: &&Listed| job.label == OURS.label();
        let is_any = |job: &&Listed| job.label.contains(ANY_AGENT);
        // Of several that are called so (a server, its log rotation) the one with a process is meant.
        let found = jobs
            .iter()
            .find(is_ours)
            .or_else(|| jobs.iter().filter(is_any).find(|job| job.pid.is_some()))
            .or_else(|| jobs.iter().find(is_any));
        let Some(job) = found else {
            let installed = self.plist.as_ref().is_some_and(|plist| plist.exists());
            let absent = SeenAgent { label: OURS.label().to_owned(), ours: true, state: AgentState::NotLoaded };
            return Ok(installed.then_some(absent));
        };
        let state = self.launchctl.state(&job.label).await?;
        Ok(Some(SeenAgent { ours: job.label == OURS.label(), label: job.label.clone(), state }))
    }

    /// Applies a remedy to Bifrost's own agent, and to no other.
    ///
    /// # Errors
    /// Launchd refused, or the agent does not leave.
    pub async fn apply(&self, step: Step) -> Result<(), LaunchctlError> {
        match step {
            Step::Kickstart => self.launchctl.kickstart_kill(OURS.label()).await,
            Step::Bootstrap => {
                let loaded_from = self.launchctl.print(OURS.label()).await?.and_then(|job| job.path);
                let plist = loaded_from.or_else(|| self.plist.clone()).unwrap_or_default();
                self.launchctl.bootout(OURS.label(), Instant::now() + LEAVING).await?;
                self.launchctl.bootstrap(&plist, Instant::now() + COMING).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use tempfile::TempDir;

    /// A launchctl that lists `jobs`, prints a crashed job until it is booted out, and writes down what it is told.
    fn double(jobs: &str) -> (TempDir, OwnAgent) {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("launchctl");
        let script = format!(
            "#!/bin/sh\ncd \"$(dirname \"$0\")\" || exit 1\necho \"$*\" >> calls\ncase $1 in\nlist) printf '{jobs}';;\n\
             print) [ -e gone ] && exit 113; printf 'x = {{\\n\\tpath = /p/x.plist\\n\\tstate = not running\\n\\tlast exit code = 1\\n}}\\n';;\n\
             bootout) touch gone;;\nesac\n"
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let environment = [("BIFROST_LAUNCHCTL", program.to_str().unwrap())].into_iter().collect();
        let paths = Paths { home: Some(folder.path().to_owned()), ..Paths::default() };
        let own = OwnAgent::of(&environment, &paths);
        (folder, own)
    }

    #[tokio::test]
    async fn our_agent_goes_before_anybody_elses() {
        let jobs = "PID\\tStatus\\tLabel\\n9\\t0\\tdev.vllm-mlx.server\\n-\\t1\\tdev.bifrost.vllm-mlx\\n-\\t0\\tcom.apple.x\\n";
        let (_folder, own) = double(jobs);
        let agent = own.find().await.unwrap().unwrap();
        assert_eq!((agent.label.as_str(), agent.ours), ("dev.bifrost.vllm-mlx", true));
        assert_eq!(agent.state.to_string(), "loaded, not running, last exit 1");
    }

    #[tokio::test]
    async fn an_agent_of_the_users_is_found_by_its_name_and_is_not_ours() {
        let (_folder, own) =
            double("PID\\tStatus\\tLabel\\n-\\t1\\tdev.vllm-mlx.logrotate\\n9\\t0\\tdev.vllm-mlx.server\\n");
        let agent = own.find().await.unwrap().unwrap();
        assert_eq!((agent.label.as_str(), agent.ours), ("dev.vllm-mlx.server", false));
    }

    #[tokio::test]
    async fn remedies_touch_our_agent_and_wait_until_it_is_gone() {
        let (folder, own) = double("");
        own.apply(Step::Kickstart).await.unwrap();
        own.apply(Step::Bootstrap).await.unwrap();
        let calls = fs::read_to_string(folder.path().join("calls")).unwrap();
        let verbs: Vec<&str> = calls.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(verbs, ["kickstart", "print", "bootout", "print", "bootstrap"], "{calls}");
        assert!(
            calls.lines().all(|line| line.contains("dev.bifrost.vllm-mlx") || line.ends_with("/p/x.plist")),
            "{calls}"
        );
        assert!(calls.starts_with("kickstart -k gui/"), "{calls}");
    }
}
