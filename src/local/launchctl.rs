//! The one place that calls `launchctl`. Sources: launchctl(1) and `launchctl help` of macOS 15 and 26.
//!
//! `print` is "not API in any sense" to Apple: only its exit code and a few lines of its outermost block are read.

use crate::config::env;
use crate::secret::Environment;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// How long one call may take before it is given up.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The time between two looks at a job that is coming or going.
const POLL: Duration = Duration::from_millis(100);

/// `launchctl`, talking about the agents of this user's login session.
#[derive(Debug, Clone)]
pub struct Launchctl {
    program: PathBuf,
    domain: String,
}

impl Launchctl {
    /// The program that `BIFROST_LAUNCHCTL` names, else `/bin/launchctl`, for the domain `gui/<uid>`.
    pub fn of(environment: &Environment) -> Self {
        let program = environment.get(env::LAUNCHCTL.name).unwrap_or("/bin/launchctl").into();
        Self { program, domain: format!("gui/{}", nix::unistd::getuid()) }
    }

    /// False where there is no such program: not macOS.
    pub fn is_there(&self) -> bool {
        self.program.exists()
    }

    /// The name launchd knows a job by, as `gui/501/dev.bifrost.gateway`.
    pub fn target(&self, label: &str) -> String {
        format!("{}/{label}", self.domain)
    }

    /// Every job that launchd has loaded for this user.
    ///
    /// # Errors
    /// The call failed.
    pub async fn list(&self) -> Result<Vec<Listed>, LaunchctlError> {
        Ok(self.call(["list"]).await?.lines().filter_map(Listed::read).collect())
    }

    /// The jobs whose label is `needle`, or else contains it, as `launchctl list | grep` finds them.
    ///
    /// # Errors
    /// The call failed.
    pub async fn find(&self, needle: &str) -> Result<Vec<Listed>, LaunchctlError> {
        let mut found: Vec<Listed> = self.list().await?.into_iter().filter(|job| job.label.contains(needle)).collect();
        if let Some(exact) = found.iter().position(|job| job.label == needle) {
            found = vec![found.swap_remove(exact)];
        }
        Ok(found)
    }

    /// What launchd knows of a job; `None` when it is not loaded.
    ///
    /// # Errors
    /// The call failed for another reason than that.
    pub async fn print(&self, label: &str) -> Result<Option<Job>, LaunchctlError> {
        match self.call(["print", &self.target(label)]).await {
            Ok(text) => Ok(Some(Job::read(&text))),
            Err(error) if error.code() == Some(NO_SUCH_SERVICE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How a job is.
    ///
    /// # Errors
    /// As [`Self::print`].
    pub async fn state(&self, label: &str) -> Result<AgentState, LaunchctlError> {
        Ok(self.print(label).await?.map_or(AgentState::NotLoaded, |job| job.state))
    }

    /// Loads a job from its plist. Until `deadline`, code 5 is tried again: the same job is still leaving.
    ///
    /// # Errors
    /// The call failed.
    pub async fn bootstrap(&self, plist: &Path, deadline: Instant) -> Result<(), LaunchctlError> {
        loop {
            let arguments = [OsStr::new("bootstrap"), OsStr::new(&self.domain), plist.as_os_str()];
            match self.call(arguments).await {
                Err(error) if error.code() == Some(INPUT_OUTPUT) && Instant::now() < deadline => sleep(POLL).await,
                done => return done.map(drop),
            }
        }
    }

    /// Asks launchd to stop and forget a job, and waits until it has: `bootout` itself returns before the job is gone.
    /// False when it was not loaded.
    ///
    /// # Errors
    /// The call failed, or the job is still there at `deadline`.
    pub async fn bootout(&self, label: &str, deadline: Instant) -> Result<bool, LaunchctlError> {
        match self.call(["bootout", &self.target(label)]).await {
            Ok(_) => {}
            Err(error) if matches!(error.code(), Some(NO_SUCH_PROCESS | NO_SUCH_SERVICE)) => return Ok(false),
            // Underway: what counts is what `print` says.
            Err(error) if error.code() == Some(IN_PROGRESS) => {}
            Err(error) => return Err(error),
        }
        self.wait_for(label, deadline, |state| *state == AgentState::NotLoaded).await.map(|_| true)
    }

    /// Starts a job that is loaded. False when it runs already.
    ///
    /// # Errors
    /// The call failed; 113 when the job is not loaded.
    pub async fn kickstart(&self, label: &str) -> Result<bool, LaunchctlError> {
        match self.call(["kickstart", &self.target(label)]).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(IN_PROGRESS) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Kills what runs (SIGKILL) and starts it anew, heedless of the throttle.
    ///
    /// # Errors
    /// The call failed; 113 when the job is not loaded.
    pub async fn kickstart_kill(&self, label: &str) -> Result<(), LaunchctlError> {
        self.call(["kickstart", "-k", &self.target(label)]).await.map(drop)
    }

    /// Asks a job to stop (SIGTERM), as `launchctl stop` does: launchd kills it when its `ExitTimeOut` is over.
    ///
    /// # Errors
    /// The call failed.
    pub async fn stop(&self, label: &str) -> Result<(), LaunchctlError> {
        self.call(["stop", label]).await.map(drop)
    }

    /// Lets a job be loaded again after `launchctl disable`, which outlives both plist and login.
    ///
    /// # Errors
    /// The call failed.
    pub async fn enable(&self, label: &str) -> Result<(), LaunchctlError> {
        self.call(["enable", &self.target(label)]).await.map(drop)
    }

    /// Sends a signal, such as `SIGTERM`, to the process of a job.
    ///
    /// # Errors
    /// The call failed; 3 when nothing runs.
    pub async fn kill(&self, label: &str, signal: &str) -> Result<(), LaunchctlError> {
        self.call(["kill", signal, &self.target(label)]).await.map(drop)
    }

    /// Looks at a job until it is as wanted, and gives that state.
    ///
    /// # Errors
    /// A call failed, or the job is still another at `deadline`.
    pub async fn wait_for(
        &self,
        label: &str,
        deadline: Instant,
        wanted: impl Fn(&AgentState) -> bool,
    ) -> Result<AgentState, LaunchctlError> {
        loop {
            let state = self.state(label).await?;
            if wanted(&state) {
                return Ok(state);
            }
            if Instant::now() >= deadline {
                return Err(LaunchctlError::Stuck { label: label.to_owned(), state });
            }
            sleep(POLL).await;
        }
    }

    /// Standard output of one call.
    async fn call<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Result<String, LaunchctlError> {
        let mut command = Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let words = command.as_std().get_args().map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
        let called = timeout(CALL_LIMIT, command.output()).await;
        let output = match called {
            Err(_) => return Err(LaunchctlError::Silent { words }),
            Ok(Err(error)) => return Err(LaunchctlError::NotRun { program: self.program.clone(), error }),
            Ok(Ok(output)) => output,
        };
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(LaunchctlError::Failed { words, code: output.status.code(), said })
    }
}

/// One line of `launchctl list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The process, while one runs.
    pub pid: Option<u32>,
    /// How it ended last; also code 0 for what has never run.
    pub last: LastExit,
    /// Its name.
    pub label: String,
}

impl Listed {
    /// Reads `PID<tab>Status<tab>Label`; nothing for the heading and whatever else is no job.
    fn read(line: &str) -> Option<Self> {
        let mut cells = line.splitn(3, '\t').map(str::trim);
        let (pid, status, label) = (cells.next()?, cells.next()?, cells.next()?);
        let pid = if pid == "-" { None } else { Some(pid.parse().ok()?) };
        let status: i32 = status.parse().ok()?;
        let last = if status < 0 { LastExit::Signal(status.saturating_neg()) } else { LastExit::Code(status) };
        (!label.is_empty()).then(|| Self { pid, last, label: label.to_owned() })
    }
}

/// What `launchctl print` says of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// How it is.
    pub state: AgentState,
    /// The plist it was loaded from.
    pub path: Option<PathBuf>,
    /// How often it was started since it was loaded.
    pub runs: Option<u64>,
}

impl Job {
    /// Reads the lines of the outermost block, which are those with one tab before them; the first of each name counts.
    fn read(text: &str) -> Self {
        let field = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.strip_prefix('\t'));
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
        };
        let number = |name: &str| -> Option<i64> {
            let digits = field(name)?.trim_start();
            digits.split(|letter: char| !letter.is_ascii_digit() && letter != '-').next()?.parse().ok()
        };
        let signal = field("last terminating signal").and_then(|text| text.rsplit(' ').next()?.parse().ok());
        let code = || number("last exit code").and_then(|code| i32::try_from(code).ok());
        let last = signal.map(LastExit::Signal).or_else(|| code().map(LastExit::Code));
        let pid = number("pid").and_then(|pid| u32::try_from(pid).ok());
        let state = match (field("state").map(str::trim), pid) {
            (Some("spawn scheduled"), _) => AgentState::Throttled { last },
            (Some("SIGTERMed"), Some(pid)) => AgentState::Stopping { pid },
            (_, Some(pid)) => AgentState::Running { pid },
            (_, None) => AgentState::NotRunning { last },
        };
        Self {
            state,
            path: field("path").map(PathBuf::from),
            runs: number("runs").and_then(|runs| u64::try_from(runs).ok()),
        }
    }
}

/// How an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentState {
    /// launchd does not know it.
    NotLoaded,
    /// Its process runs.
    Running {
        /// The process.
        pid: u32,
    },
    /// It was asked to stop and has not yet.
    Stopping {
        /// The process.
        pid: u32,
    },
    /// It ended, and launchd will start it again when its `ThrottleInterval` is over.
    Throttled {
        /// How it ended; `None` when it never has.
        last: Option<LastExit>,
    },
    /// It is loaded, does not run, and will not by itself.
    NotRunning {
        /// How it ended; `None` when it never has.
        last: Option<LastExit>,
    },
}

impl AgentState {
    /// One word, for scripts: `not_loaded`, `running`, `stopping`, `throttled` or `not_running`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::NotLoaded => "not_loaded",
            Self::Running { .. } => "running",
            Self::Stopping { .. } => "stopping",
            Self::Throttled { .. } => "throttled",
            Self::NotRunning { .. } => "not_running",
        }
    }

    /// The process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Running { pid } | Self::Stopping { pid } => Some(*pid),
            Self::NotLoaded | Self::Throttled { .. } | Self::NotRunning { .. } => None,
        }
    }

    /// It ended well and stays so: with `KeepAlive = { SuccessfulExit = false }` only somebody's wish does that.
    pub fn is_stopped_by_wish(&self) -> bool {
        matches!(self, Self::NotRunning { last: Some(LastExit::Code(0)) })
    }
}

impl fmt::Display for AgentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotLoaded => f.write_str("not loaded"),
            Self::Running { pid } => write!(f, "running pid {pid}"),
            Self::Stopping { pid } => write!(f, "stopping pid {pid}"),
            Self::Throttled { last: Some(last) } => write!(f, "throttled, {last}"),
            Self::Throttled { last: None } => f.write_str("throttled"),
            Self::NotRunning { last: Some(last) } => write!(f, "loaded, not running, {last}"),
            Self::NotRunning { last: None } => f.write_str("loaded, not running, never started"),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastExit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for LastExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(78) => f.write_str("last exit 78 (launchd could not start the program or open its log)"),
            Self::Code(code) => write!(f, "last exit {code}"),
            Self::Signal(signal) => write!(f, "last killed by signal {signal}"),
        }
    }
}

/// Why launchd did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LaunchctlError {
    /// There is no such program, or it cannot be run.
    #[error("{} cannot be run: {error}; launchd is part of macOS", .program.display())]
    NotRun {
        /// What was called.
        program: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// It did not come back.
    #[error("`launchctl {words}` did not answer within {} s", CALL_LIMIT.as_secs())]
    Silent {
        /// The arguments.
        words: String,
    },
    /// It ended with another code than 0.
    #[error("`launchctl {words}` {}", told(*.code, .said))]
    Failed {
        /// The arguments.
        words: String,
        /// The exit code; `None` when a signal ended it.
        code: Option<i32>,
        /// Its standard error.
        said: String,
    },
    /// The job is not as it should be when the time is over.
    #[error("{label} is still {state}; its log says more")]
    Stuck {
        /// The job.
        label: String,
        /// How it is.
        state: AgentState,
    },
}

impl LaunchctlError {
    /// The exit code of `launchctl`, where that is what went wrong.
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Failed { code, .. } => *code,
            Self::NotRun { .. } | Self::Silent { .. } | Self::Stuck { .. } => None,
        }
    }

    /// What to do about it, where the code tells.
    pub fn remedy(&self) -> Option<&'static str> {
        meaning(self.code()?).map(|(_, remedy)| remedy).filter(|remedy| !remedy.is_empty())
    }
}

fn told(code: Option<i32>, said: &str) -> String {
    let said = said.lines().next().unwrap_or_default();
    match code {
        None => "was killed".to_owned(),
        Some(code) => match meaning(code) {
            Some((what, _)) => format!("failed with {code}: {what}"),
            None if said.is_empty() => format!("failed with {code}"),
            None => format!("failed with {code}: {said}"),
        },
    }
}

const NO_SUCH_PROCESS: i32 = 3;
const INPUT_OUTPUT: i32 = 5;
const IN_PROGRESS: i32 = 37;
const NO_SUCH_SERVICE: i32 = 113;

/// What an exit code of `launchctl` means, and what to do about it (may be empty). `launchctl error N` of macOS names
/// them; the reasons behind are from launchctl(1) and from what people met.
pub fn meaning(code: i32) -> Option<(&'static str, &'static str)> {
    Some(match code {
        2 => ("there is no such file", "Run `bifrost service install`."),
        NO_SUCH_PROCESS => ("no such process: the agent is not loaded, or nothing of it runs", ""),
        INPUT_OUTPUT => (
            "input/output error: the agent is loaded already, is still leaving, or may not be loaded in this session",
            "Wait a little and try again; from ssh, log in at the Mac itself first.",
        ),
        IN_PROGRESS => ("already in progress: it runs, or was asked to a moment ago", ""),
        64 => ("launchctl did not understand its arguments", "Please report this: it is a bug of Bifrost."),
        109 => ("the plist is not valid", "Run `bifrost service install` to write it anew."),
        110 => ("the plist has no label", "Run `bifrost service install` to write it anew."),
        111 => {
            ("the plist has no program, or no absolute path to it", "Run `bifrost service install` to write it anew.")
        }
        112 => (
            "there is no login session of this user to run agents in",
            "Log in at the Mac itself (not only by ssh), and try again.",
        ),
        NO_SUCH_SERVICE => ("the agent is not loaded", "Run `bifrost service install`."),
        119 => ("the agent is disabled", "Run `bifrost service install`, which enables it first."),
        122 => (
            "the plist's owner or permissions are wrong: it must be yours and writable by nobody else",
            "Run `bifrost service install` to write it anew.",
        ),
        125 => {
            ("this session cannot run agents of the desktop, as over ssh", "Log in at the Mac itself, and try again.")
        }
        134 => ("the agent is meant for another kind of session", "Log in at the Mac itself, and try again."),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As macOS 26 prints it, shortened; nested blocks repeat `state`, and an argument may look like a line.
    const PRINTED: &str = "gui/501/dev.bifrost.vllm-mlx = {\n\tactive count = 1\n\tpath = /Users/ada/Library/LaunchAgents/dev.bifrost.vllm-mlx.plist\n\ttype = LaunchAgent\n\tstate = running\n\n\tprogram = /opt/homebrew/bin/bifrost\n\targuments = {\n\t\tstate = not running\n\t\tpid = 7\n\t}\n\n\tdomain = gui/501 [100003]\n\tminimum runtime = 60\n\texit timeout = 60\n\truns = 3\n\tpid = 4242\n\timmediate reason = inefficient\n\tlast exit code = 1\n\n\tjetsam coalition = {\n\t\tID = 1\n\t\tstate = active\n\t}\n\n\tproperties = keepalive | runatload\n}\n";

    fn state(lines: &str) -> AgentState {
        Job::read(&format!("gui/501/x = {{\n{lines}\n}}\n")).state
    }

    #[test]
    fn only_the_outermost_block_of_print_counts() {
        let expected = Job {
            state: AgentState::Running { pid: 4242 },
            path: Some("/Users/ada/Library/LaunchAgents/dev.bifrost.vllm-mlx.plist".into()),
            runs: Some(3),
        };
        assert_eq!(Job::read(PRINTED), expected);
    }

    #[test]
    fn every_state_is_said_in_words() {
        for (lines, words) in [
            ("\tstate = running\n\tpid = 7", "running pid 7"),
            ("\tstate = SIGTERMed\n\tpid = 7", "stopping pid 7"),
            ("\tstate = spawn scheduled\n\tlast exit code = 1", "throttled, last exit 1"),
            ("\tstate = spawn scheduled\n\tlast terminating signal = Killed: 9", "throttled, last killed by signal 9"),
            ("\tstate = not running\n\tlast exit code = 1", "loaded, not running, last exit 1"),
            ("\tstate = not running\n\tlast exit code = (never exited)", "loaded, not running, never started"),
            (
                "\tstate = not running\n\tlast exit code = 78: EX_CONFIG",
                "loaded, not running, last exit 78 (launchd could not start the program or open its log)",
            ),
            ("\tstate = waiting", "loaded, not running, never started"),
        ] {
            assert_eq!(state(lines).to_string(), words);
        }
        assert_eq!(AgentState::NotLoaded.to_string(), "not loaded");
        assert!(state("\tstate = not running\n\tlast exit code = 0").is_stopped_by_wish());
        assert!(!state("\tstate = not running\n\tlast exit code = 1").is_stopped_by_wish());
        assert!(!state("\tstate = spawn scheduled\n\tlast exit code = 0").is_stopped_by_wish());
    }

    #[test]
    fn list_gives_pids_codes_and_signals() {
        let listed = |line| Listed::read(line);
        assert_eq!(listed("PID\tStatus\tLabel"), None);
        let job = |pid, last, label: &str| Some(Listed { pid, last, label: label.to_owned() });
        assert_eq!(listed("123\t0\tdev.vllm-mlx.server"), job(Some(123), LastExit::Code(0), "dev.vllm-mlx.server"));
        assert_eq!(listed("-\t-9\ta b"), job(None, LastExit::Signal(9), "a b"));
        assert_eq!(listed("-\t78\tx"), job(None, LastExit::Code(78), "x"));
    }

    #[test]
    fn a_failure_says_what_and_what_next() {
        let failed = |code| LaunchctlError::Failed {
            words: "bootstrap gui/501 x.plist".to_owned(),
            code,
            said: "Bootstrap failed: 5: Input/output error\nTry re-running".to_owned(),
        };
        let told = failed(Some(122)).to_string();
        assert!(told.starts_with("`launchctl bootstrap gui/501 x.plist` failed with 122: the plist's owner"), "{told}");
        assert_eq!(failed(Some(122)).remedy(), Some("Run `bifrost service install` to write it anew."));
        assert!(failed(Some(99)).to_string().ends_with("failed with 99: Bootstrap failed: 5: Input/output error"));
        assert_eq!(failed(None).remedy(), None);
    }

    proptest! {
        #[test]
        fn a_cut_print_is_read_without_a_panic_and_never_from_an_inner_block(cut in 0..PRINTED.len()) {
            let job = Job::read(&PRINTED[..cut]);
            prop_assert!(matches!(job.state.pid(), None | Some(4 | 42 | 424 | 4242)));
        }

        #[test]
        fn any_text_is_read(text in "\\PC*|(\t?(state|pid|runs|last exit code|last terminating signal|path) = [ -~]{0,12}\n){0,6}") {
            let _ = Job::read(&text).state.to_string();
            let _ = text.lines().filter_map(Listed::read).count();
        }
    }
}
