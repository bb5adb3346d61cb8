//! `bifrost service`: the LaunchAgents, for people without Nix.

use super::client::Trouble;
use super::columns::Columns;
use super::{Exit, Output, config, service_logs};
use crate::config::{Inputs, Snapshot, env};
use crate::local::agents::{Agent, ModelServer, Owner, Setup, in_store, log_folder};
use crate::local::launchctl::{AgentState, Launchctl, Listed};
use crate::local::service::{Done, ServiceError, Services, Status};
use crate::provider::MLX_LOCAL;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The port of the model server, unless the configuration says another.
const PORT: u16 = 11434;
/// What runs vllm-mlx when nothing else is named, as in the Nix modules.
const UVX_ARGUMENTS: [&str; 3] = ["--from", "vllm-mlx==0.6.0", "vllm-mlx"];
/// What a model server's label has in it, Bifrost's own or somebody else's.
const MODEL_SERVER: &str = "vllm-mlx";

/// What to do with the agents.
#[derive(Debug, Subcommand)]
pub enum ServiceCommand {
    /// Installs the agents and starts them, now and at every login. Again: takes over what has changed.
    Install(InstallArgs),
    /// Stops the agents and removes them. Configuration and logs stay.
    Uninstall(WhichArgs),
    /// Starts the agents.
    Start(WhichArgs),
    /// Stops the agents, until they are started again or you log in anew.
    Stop(WhichArgs),
    /// Stops the agents in peace and starts them again.
    Restart(WhichArgs),
    /// Says how the agents are. Ends with 1 when one that is installed does not run.
    Status(StatusArgs),
    /// Shows the end of the logs.
    Logs(service_logs::LogsArgs),
    /// Prints the plists that `install` would write, and changes nothing.
    Print(InstallArgs),
}

/// Which of the agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// The gateway.
    Gateway,
    /// The local model server.
    VllmMlx,
    /// Both.
    All,
}

impl Which {
    /// The agents that are meant.
    pub fn agents(self) -> &'static [Agent] {
        match self {
            Self::Gateway => &[Agent::Gateway],
            Self::VllmMlx => &[Agent::VllmMlx],
            Self::All => &Agent::ALL,
        }
    }
}

/// Which of the agents.
#[derive(Debug, Args)]
pub struct WhichArgs {
    /// Which of the agents.
    #[arg(long, value_enum, default_value = "all")]
    pub agent: Which,
}

/// Options of `service status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which of the agents.
    #[command(flatten)]
    pub which: WhichArgs,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `service install` and `service print`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// Which of the agents.
    #[command(flatten)]
    pub which: WhichArgs,
    /// The `bifrost` that the agents run [default: this one].
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
    /// The model: an id of Hugging Face or a folder (both have a slash), or a role of the registry.
    #[arg(long, value_name = "ID|FOLDER|ROLE", default_value = "default")]
    pub model: String,
    /// GiB that must stay free: 1.3 times the model's size on disk has to fit into the rest of the memory.
    #[arg(long, value_name = "GIB", default_value_t = 8)]
    pub memory_reserve_gb: u32,
    /// A further argument for `vllm-mlx serve`; may be repeated.
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    pub server_argument: Vec<String>,
    /// Program, and what stands before `serve` [default: uvx --from vllm-mlx==0.6.0 vllm-mlx].
    #[arg(last = true, value_name = "VLLM_MLX")]
    pub command: Vec<String>,
}

/// What is done to agents.
#[derive(Debug)]
enum Action {
    Install(Setup),
    Uninstall,
    Start,
    Stop,
    Restart,
}

/// Does what is asked, one agent after the other.
///
/// # Errors
/// Nothing could be begun; what fails for one agent is told at once and does not keep the other from its turn.
pub async fn run(
    command: &ServiceCommand,
    env_files: &[PathBuf],
    inputs: &Inputs,
    output: &mut Output<'_>,
) -> Result<Exit, Trouble> {
    let home = inputs.paths.home.clone();
    let home = home.ok_or_else(|| Trouble::new(Exit::Failure, "there is no home folder\nset HOME"))?;
    let logs = log_folder(&home);
    let launchctl = Launchctl::of(&inputs.environment);
    let has_launchd = launchctl.is_there();
    let services = Services { launchctl, home, logs };
    let (which, action) = match command {
        ServiceCommand::Logs(args) => return service_logs::run(args, &services.logs, output).await,
        ServiceCommand::Print(args) => {
            let snapshot = snapshot(inputs)?;
            let setup = setup(args, env_files, inputs, &snapshot, &services.logs)?;
            return print(args.which.agent.agents(), &setup, output);
        }
        _ if !has_launchd => {
            let told = "there is no launchd here: LaunchAgents are of macOS\non Linux run `bifrost serve`, or the systemd \
                        service of the home-manager module";
            return Err(Trouble::new(Exit::Refused, told));
        }
        ServiceCommand::Status(args) => return status(args, &services, output).await,
        ServiceCommand::Install(args) => {
            let snapshot = snapshot(inputs)?;
            let setup = setup(args, env_files, inputs, &snapshot, &services.logs)?;
            check_model(args, &snapshot)?;
            if !setup.config.exists() && config::init(inputs, output)? != Exit::Ok {
                return Ok(Exit::Failure);
            }
            (&args.which, Action::Install(setup))
        }
        ServiceCommand::Uninstall(which) => (which, Action::Uninstall),
        ServiceCommand::Start(which) => (which, Action::Start),
        ServiceCommand::Stop(which) => (which, Action::Stop),
        ServiceCommand::Restart(which) => (which, Action::Restart),
    };
    let mut exit = Exit::Ok;
    for &agent in which.agent.agents() {
        let done = match &action {
            Action::Install(setup) => {
                let plist = setup.plist(agent).map_err(|error| Trouble::new(Exit::Failure, error.to_string()))?;
                services.install(agent, &plist).await
            }
            Action::Uninstall => services.uninstall(agent).await,
            Action::Start => services.start(agent).await,
            Action::Stop => services.stop(agent).await,
            Action::Restart => services.restart(agent).await,
        };
        match done {
            Ok(done) => tell(&services, agent, done, output).await?,
            // Of both, those that are installed are meant.
            Err(ServiceError::NotInstalled(_)) if which.agent == Which::All && agent == Agent::VllmMlx => {
                writeln!(output.out, "{}: not installed", agent.label())?;
            }
            Err(error) => exit = complain(&error, &action, output)?,
        }
    }
    Ok(exit)
}

/// The configuration as it is, or as it is without a file.
fn snapshot(inputs: &Inputs) -> Result<Snapshot, Trouble> {
    let loaded = if config_path(inputs).is_some_and(|path| path.exists()) {
        Snapshot::load(inputs)
    } else {
        Snapshot::of_text(inputs, None)
    };
    loaded.map_err(|error| Trouble::new(Exit::ConfigInvalid, error.to_string()))
}

/// The file that the agents are told: the one that is there, or the one that `config init` would write.
fn config_path(inputs: &Inputs) -> Option<PathBuf> {
    let candidates = inputs.candidates();
    let path = candidates.iter().find(|path| path.exists()).or(candidates.first());
    path.and_then(|path| std::path::absolute(path).ok())
}

/// What the plists are made from.
fn setup(
    args: &InstallArgs,
    env_files: &[PathBuf],
    inputs: &Inputs,
    snapshot: &Snapshot,
    logs: &Path,
) -> Result<Setup, Trouble> {
    let failed = |message: String| Trouble::new(Exit::Refused, message);
    let absolute = |path: &Path| {
        let path = inputs.paths.expand(path);
        std::path::absolute(&path).map_err(|error| failed(format!("{}: {error}", path.display())))
    };
    let bifrost = match &args.program {
        Some(program) => absolute(program)?,
        None => own_program(inputs)?,
    };
    let config = config_path(inputs).ok_or_else(|| failed("there is no home folder\nset HOME".to_owned()))?;
    // The gateway alone needs no model server.
    let command = match args.which.agent {
        Which::Gateway => Vec::new(),
        Which::VllmMlx | Which::All => server_command(&args.command, inputs)?,
    };
    let model = if args.model.contains('/') {
        inputs.paths.expand(Path::new(&args.model)).display().to_string()
    } else {
        args.model.clone()
    };
    Ok(Setup {
        bifrost,
        config,
        logs: logs.to_owned(),
        env_files: env_files.iter().map(|file| absolute(file)).collect::<Result<_, _>>()?,
        server: ModelServer {
            command,
            model,
            port: server_port(snapshot),
            memory_reserve_gb: args.memory_reserve_gb,
            hugging_face_home: inputs.environment.get(env::HF_HOME.name).map(PathBuf::from),
            arguments: args.server_argument.clone(),
        },
    })
}

/// This program, by a path that lasts.
fn own_program(inputs: &Inputs) -> Result<PathBuf, Trouble> {
    let unknown = |error| Trouble::new(Exit::Failure, format!("where this program is cannot be told: {error}"));
    let own = std::env::current_exe().map_err(unknown)?;
    let real = own.canonicalize().unwrap_or_else(|_| own.clone());
    if !in_store(&real) {
        return Ok(own);
    }
    // A profile's link moves along with its upgrades; the store's own path is garbage one day.
    let lasting =
        search(inputs, "bifrost").find(|path| !in_store(path) && path.canonicalize().is_ok_and(|it| it == real));
    lasting.ok_or_else(|| {
        let told = "this program lies in the Nix store, from where it may be collected as garbage\nuse the home-manager or \
                    nix-darwin module, or install it in a profile (`nix profile install`) and try again";
        Trouble::new(Exit::Refused, told)
    })
}

/// Program and first arguments of the model server; launchd's PATH is short, so the program is absolute.
fn server_command(said: &[String], inputs: &Inputs) -> Result<Vec<String>, Trouble> {
    let words: Vec<&str> = match said {
        [] => ["uvx"].into_iter().chain(UVX_ARGUMENTS).collect(),
        said => said.iter().map(String::as_str).collect(),
    };
    let (name, arguments) = words.split_first().map_or(("uvx", &[][..]), |(name, arguments)| (*name, arguments));
    let found = if name.contains('/') {
        std::path::absolute(inputs.paths.expand(Path::new(name))).ok()
    } else {
        search(inputs, name).find(|path| path.is_file())
    };
    let program = found.and_then(|path| path.to_str().map(str::to_owned)).ok_or_else(|| {
        let told = format!(
            "`{name}`, which runs vllm-mlx, is not found\ninstall uv (`brew install uv`), name another program (`-- \
             /path/to/vllm-mlx`), or leave the model server to yourself (`--agent gateway`)"
        );
        Trouble::new(Exit::Refused, told)
    })?;
    if in_store(Path::new(&program)) {
        let told = format!(
            "{program} lies in the Nix store, from where it may be collected as garbage\nname a path that lasts"
        );
        return Err(Trouble::new(Exit::Refused, told));
    }
    Ok(std::iter::once(program).chain(arguments.iter().map(|word| (*word).to_owned())).collect())
}

/// Where a program of this name may be: PATH, and where installers of a Mac put programs.
fn search<'a>(inputs: &'a Inputs, name: &'a str) -> impl Iterator<Item = PathBuf> + 'a {
    let path = inputs.environment.get("PATH").unwrap_or_default();
    let usual = ["~/.local/bin", "~/.cargo/bin", "/opt/homebrew/bin", "/usr/local/bin"];
    let folders = std::env::split_paths(path).chain(usual.into_iter().map(PathBuf::from));
    folders.map(move |folder| inputs.paths.expand(&folder).join(name)).filter(|path| path.is_absolute())
}

/// The port at which the configuration looks for the model server.
fn server_port(snapshot: &Snapshot) -> u16 {
    let server = snapshot.providers.iter().find(|provider| &*provider.name == MLX_LOCAL);
    let url = server.and_then(|server| server.endpoints.first()?.base_url().parse::<http::Uri>().ok());
    url.and_then(|url| url.port_u16()).unwrap_or(PORT)
}

/// A role needs a registry.
fn check_model(args: &InstallArgs, snapshot: &Snapshot) -> Result<(), Trouble> {
    if args.which.agent == Which::Gateway || args.model.contains('/') || snapshot.registry.is_some() {
        return Ok(());
    }
    let told = format!(
        "the model `{}` is the name of a role, and the configuration names no `registry` to look it up in\nname a model \
         (`--model mlx-community/Qwen3-8B-4bit`), or leave the model server to yourself (`--agent gateway`)",
        args.model
    );
    Err(Trouble::new(Exit::Refused, told))
}

fn print(agents: &[Agent], setup: &Setup, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    for (index, &agent) in agents.iter().enumerate() {
        let plist = setup.plist(agent).map_err(|error| Trouble::new(Exit::Failure, error.to_string()))?;
        if agents.len() > 1 {
            writeln!(output.out, "{}==> {}.plist <==", if index == 0 { "" } else { "\n" }, agent.label())?;
        }
        output.out.write_all(&plist)?;
    }
    Ok(Exit::Ok)
}

/// Says what was done and how the agent is now.
async fn tell(services: &Services, agent: Agent, done: Done, output: &mut Output<'_>) -> Result<(), Trouble> {
    let what = match done {
        Done::Installed => "installed",
        Done::Changed => "installed anew",
        Done::Uninstalled => "uninstalled",
        Done::Started => "started",
        Done::Stopped => "stopped",
        Done::Restarted => "restarted",
        Done::Nothing => "nothing to do",
    };
    let state = match services.launchctl.state(agent.label()).await {
        Ok(state) => state.to_string(),
        Err(error) => error.to_string(),
    };
    writeln!(output.out, "{}: {what} ({state})", agent.label())?;
    Ok(())
}

/// Says why something was not done, and what to do instead.
fn complain(error: &ServiceError, action: &Action, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    output.error(&error.to_string())?;
    let exit = match error {
        ServiceError::OwnedByNix { agent, .. } => {
            let label = agent.label();
            output.hint(&match action {
                Action::Start => format!("launchctl start {label}"),
                Action::Stop => format!("launchctl stop {label}"),
                Action::Restart => format!("launchctl stop {label}; launchctl start {label}"),
                Action::Install(_) | Action::Uninstall => {
                    "change services.bifrost in your Nix configuration and switch to it".to_owned()
                }
            })?;
            Exit::Refused
        }
        ServiceError::NotInstalled(agent) => {
            output.hint(&format!("bifrost service install --agent {}", agent.name()))?;
            Exit::NotFound
        }
        ServiceError::Launchctl(error) => {
            output.hint(error.remedy().unwrap_or_default())?;
            Exit::Failure
        }
        ServiceError::File { .. } => Exit::Failure,
    };
    Ok(exit)
}

async fn status(args: &StatusArgs, services: &Services, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let failed = |error: ServiceError| Trouble::new(Exit::Failure, error.to_string());
    let mut all = Vec::new();
    for &agent in args.which.agent.agents() {
        all.push(services.status(agent).await.map_err(failed)?);
    }
    let others: Vec<Listed> = services.launchctl.find(MODEL_SERVER).await.map_err(|error| failed(error.into()))?;
    let others: Vec<Listed> =
        others.into_iter().filter(|job| Agent::ALL.iter().all(|agent| agent.label() != job.label)).collect();
    if args.json {
        let agents: Vec<Value> = all.iter().map(agent_json).collect();
        let others: Vec<Value> = others
            .iter()
            .map(|job| json!({ "label": job.label, "pid": job.pid, "last_exit": job.last.to_string() }))
            .collect();
        writeln!(output.out, "{:#}", json!({ "agents": agents, "other_model_servers": others }))?;
    } else {
        let mut table = Columns::new(["AGENT", "STATE", "OWNER", "PLIST"]);
        for status in &all {
            let plist = if status.owner == Owner::Nobody { String::new() } else { status.plist.display().to_string() };
            table.row([
                status.agent.label().to_owned(),
                status.state.to_string(),
                owner(&status.owner).to_owned(),
                plist,
            ]);
        }
        for job in &others {
            let state = job
                .pid
                .map_or_else(|| format!("loaded, not running, {}", job.last), |pid| format!("running pid {pid}"));
            table.row([job.label.clone(), state, "somebody else".to_owned(), String::new()]);
        }
        writeln!(output.out, "{}", table.text().unwrap_or_default())?;
    }
    let well = |status: &Status| match status.state {
        AgentState::Running { .. } => true,
        AgentState::NotLoaded => status.owner == Owner::Nobody,
        AgentState::Stopping { .. } | AgentState::Throttled { .. } | AgentState::NotRunning { .. } => false,
    };
    Ok(if all.iter().all(well) { Exit::Ok } else { Exit::Failure })
}

fn agent_json(status: &Status) -> Value {
    let last = match status.state {
        AgentState::Throttled { last } | AgentState::NotRunning { last } => last.map(|last| last.to_string()),
        AgentState::NotLoaded | AgentState::Running { .. } | AgentState::Stopping { .. } => None,
    };
    json!({
        "agent": status.agent.name(),
        "label": status.agent.label(),
        "state": status.state.name(),
        "pid": status.state.pid(),
        "last_exit": last,
        "owner": owner(&status.owner),
        "plist": status.plist,
    })
}

fn owner(owner: &Owner) -> &'static str {
    match owner {
        Owner::Nobody => "nobody",
        Owner::User => "user",
        Owner::Nix => "nix",
    }
}
