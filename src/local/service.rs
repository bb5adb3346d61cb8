//! Installing, removing, starting and stopping the LaunchAgents, for people without Nix. Everything may be asked for
//! again: what is as it should be stays so.

use super::agents::{Agent, Owner};
use super::launchctl::{AgentState, Launchctl, LaunchctlError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// How long loading and starting may take.
const START: Duration = Duration::from_secs(15);
/// What launchd may need beyond the agent's `ExitTimeOut`.
const BEYOND_EXIT: Duration = Duration::from_secs(10);

/// The LaunchAgents of one user.
#[derive(Debug)]
pub struct Services {
    /// Asks launchd.
    pub launchctl: Launchctl,
    /// The user's home folder.
    pub home: PathBuf,
    /// The folder of the logs, which launchd does not make.
    pub logs: PathBuf,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// It was not there before.
    Installed,
    /// It was there with another plist.
    Changed,
    /// The plist is removed, the agent gone.
    Uninstalled,
    /// It runs now.
    Started,
    /// It does not run any more, until it is started or the user logs in again.
    Stopped,
    /// It was stopped and runs again.
    Restarted,
    /// It was as wanted before.
    Nothing,
}

/// What is known of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Which.
    pub agent: Agent,
    /// How it is.
    pub state: AgentState,
    /// Who looks after its plist.
    pub owner: Owner,
    /// The plist that is, or would be.
    pub plist: PathBuf,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Nix looks after this agent.
    #[error("{} belongs to Nix ({})", .agent.label(), .plist.display())]
    OwnedByNix {
        /// Which.
        agent: Agent,
        /// Its plist.
        plist: PathBuf,
    },
    /// There is no plist to load.
    #[error("{} is not installed", .0.label())]
    NotInstalled(Agent),
    /// launchd did not do it.
    #[error(transparent)]
    Launchctl(#[from] LaunchctlError),
    /// A file or folder.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl Services {
    /// How an agent is.
    ///
    /// # Errors
    /// launchd does not answer, or the plist cannot be read.
    pub async fn status(&self, agent: Agent) -> Result<Status, ServiceError> {
        let job = self.launchctl.print(agent.label()).await?;
        let own = agent.plist_path(&self.home);
        let state = job.as_ref().map_or(AgentState::NotLoaded, |job| job.state);
        // What is loaded may come from another place than ours.
        let loaded = job.and_then(|job| job.path).filter(|path| path.is_absolute() && *path != own);
        if let Some(plist) = loaded
            && owner(&plist)? == Owner::Nix
        {
            return Ok(Status { agent, state, owner: Owner::Nix, plist });
        }
        Ok(Status { agent, state, owner: owner(&own)?, plist: own })
    }

    /// Writes the plist and loads it; one that is loaded with another plist is stopped and loaded anew.
    ///
    /// # Errors
    /// Nix owns it, a file cannot be written, or launchd refuses.
    pub async fn install(&self, agent: Agent, plist: &[u8]) -> Result<Done, ServiceError> {
        let status = self.ours(agent).await?;
        make_folder(&self.logs)?;
        let changed = status.owner == Owner::Nobody || std::fs::read(&status.plist).ok().as_deref() != Some(plist);
        if !changed && status.state != AgentState::NotLoaded {
            return Ok(Done::Nothing);
        }
        if changed {
            write(&status.plist, plist)?;
        }
        if status.state != AgentState::NotLoaded {
            self.launchctl.bootout(agent.label(), gone_by(agent)).await?;
        }
        self.load(&status).await?;
        Ok(if status.owner == Owner::Nobody { Done::Installed } else { Done::Changed })
    }

    /// Stops the agent, waits until launchd has forgotten it, and removes the plist. Logs stay.
    ///
    /// # Errors
    /// Nix owns it, launchd refuses, or the plist cannot be removed.
    pub async fn uninstall(&self, agent: Agent) -> Result<Done, ServiceError> {
        let status = self.ours(agent).await?;
        let was_loaded = self.launchctl.bootout(agent.label(), gone_by(agent)).await?;
        match std::fs::remove_file(&status.plist) {
            Ok(()) => Ok(Done::Uninstalled),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(if was_loaded { Done::Uninstalled } else { Done::Nothing })
            }
            Err(error) => Err(ServiceError::File { path: status.plist, error }),
        }
    }

    /// Starts the agent, loading it first where need be.
    ///
    /// # Errors
    /// Nix owns it, it is not installed, or launchd refuses.
    pub async fn start(&self, agent: Agent) -> Result<Done, ServiceError> {
        let status = self.ours(agent).await?;
        let label = agent.label();
        match status.state {
            AgentState::Running { .. } => return Ok(Done::Nothing),
            AgentState::NotLoaded if status.owner == Owner::Nobody => return Err(ServiceError::NotInstalled(agent)),
            AgentState::NotLoaded => self.load(&status).await?,
            AgentState::Stopping { pid } => {
                self.launchctl.wait_for(label, gone_by(agent), |state| state.pid() != Some(pid)).await?;
                self.launchctl.kickstart(label).await?;
            }
            AgentState::Throttled { .. } | AgentState::NotRunning { .. } => {
                self.launchctl.kickstart(label).await?;
            }
        }
        Ok(Done::Started)
    }

    /// Asks the agent to stop and waits until it has. What launchd would start again all the same is unloaded.
    ///
    /// # Errors
    /// Nix owns it, or launchd refuses.
    pub async fn stop(&self, agent: Agent) -> Result<Done, ServiceError> {
        let status = self.ours(agent).await?;
        let label = agent.label();
        match status.state {
            AgentState::NotLoaded | AgentState::NotRunning { .. } => return Ok(Done::Nothing),
            AgentState::Throttled { .. } => {}
            AgentState::Running { pid } | AgentState::Stopping { pid } => {
                self.launchctl.stop(label).await?;
                let after = self.launchctl.wait_for(label, gone_by(agent), |state| state.pid() != Some(pid)).await?;
                if matches!(after, AgentState::NotLoaded | AgentState::NotRunning { .. }) {
                    return Ok(Done::Stopped);
                }
            }
        }
        self.launchctl.bootout(label, gone_by(agent)).await?;
        Ok(Done::Stopped)
    }

    /// Stops the agent in peace and starts it again.
    ///
    /// # Errors
    /// As [`Self::stop`] and [`Self::start`].
    pub async fn restart(&self, agent: Agent) -> Result<Done, ServiceError> {
        let stopped = match self.ours(agent).await?.state {
            // Nothing runs; a start does not wait for the throttle.
            AgentState::Throttled { .. } => Done::Stopped,
            _ => self.stop(agent).await?,
        };
        self.start(agent).await?;
        Ok(if stopped == Done::Stopped { Done::Restarted } else { Done::Started })
    }

    /// The status of an agent that Nix does not own.
    async fn ours(&self, agent: Agent) -> Result<Status, ServiceError> {
        let status = self.status(agent).await?;
        match status.owner {
            Owner::Nix => Err(ServiceError::OwnedByNix { agent, plist: status.plist }),
            Owner::Nobody | Owner::User => Ok(status),
        }
    }

    async fn load(&self, status: &Status) -> Result<(), ServiceError> {
        let label = status.agent.label();
        // `disable` outlives everything else.
        self.launchctl.enable(label).await?;
        let deadline = Instant::now() + START;
        self.launchctl.bootstrap(&status.plist, deadline).await?;
        self.launchctl.wait_for(label, deadline, |state| *state != AgentState::NotLoaded).await?;
        Ok(())
    }
}

/// When what was asked to stop must be gone.
fn gone_by(agent: Agent) -> Instant {
    Instant::now() + Duration::from_secs(agent.exit_timeout().into()) + BEYOND_EXIT
}

fn owner(plist: &Path) -> Result<Owner, ServiceError> {
    Owner::of(plist).map_err(|error| ServiceError::File { path: plist.to_owned(), error })
}

fn make_folder(folder: &Path) -> Result<(), ServiceError> {
    std::fs::create_dir_all(folder).map_err(|error| ServiceError::File { path: folder.to_owned(), error })
}

/// Writes a plist whole or not at all. launchd refuses one that others can write.
fn write(path: &Path, plist: &[u8]) -> Result<(), ServiceError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    make_folder(path.parent().unwrap_or(Path::new(".")))?;
    let new = path.with_extension(format!("new.{}", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o644);
    let written =
        options.open(&new).and_then(|mut file| file.write_all(plist)).and_then(|()| std::fs::rename(&new, path));
    written.map_err(|error| {
        // What is left of it is of no use to anybody.
        let _ = std::fs::remove_file(&new);
        ServiceError::File { path: path.to_owned(), error }
    })
}
