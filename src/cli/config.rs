//! `bifrost config`: check it, show it, describe it, begin it.

use super::{Exit, Output};
use crate::config::{ConfigError, File, Inputs, Problem, Snapshot, private_file};
use crate::provider::{Provider, table};
use crate::route::registry::Registry;
use crate::secret::Availability;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{self, ErrorKind};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a server on this machine may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// What `config init` writes: everything is a comment, so that it says nothing until it is edited.
pub const TEMPLATE: &str = include_str!("init.toml");

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Says whether the configuration is right, and which providers it makes usable.
    ///
    /// Keys are resolved (programs of `cmd:` are run, except for cloud providers in local-only mode) and local servers are
    /// tried. Nothing is sent to the cloud.
    Check(CheckArgs),
    /// Shows what is in effect, secrets masked, and where it came from.
    Show(ShowArgs),
    /// Prints the JSON Schema of the file.
    Schema,
    /// Writes a file to begin with; never over one that is there.
    Init,
}

/// Options of `config check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Resolve no keys and open no sockets.
    #[arg(long)]
    pub offline: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Options of `config show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs one of the commands.
///
/// # Errors
/// The output is closed.
pub async fn run(command: &ConfigCommand, inputs: &Inputs, output: &mut Output<'_>) -> io::Result<Exit> {
    match command {
        ConfigCommand::Check(args) => check(args, inputs, output).await,
        ConfigCommand::Show(args) => show(args, inputs, output),
        ConfigCommand::Schema => {
            writeln!(output.out, "{}", serde_json::to_string_pretty(&File::schema())?)?;
            Ok(Exit::Ok)
        }
        ConfigCommand::Init => init(inputs, output),
    }
}

fn show(args: &ShowArgs, inputs: &Inputs, output: &mut Output<'_>) -> io::Result<Exit> {
    let snapshot = match Snapshot::load(inputs) {
        Ok(snapshot) => snapshot,
        Err(error) => return invalid(&error, args.json, output),
    };
    if args.json {
        writeln!(output.out, "{}", serde_json::to_string_pretty(&snapshot.effective())?)?;
    } else {
        output.out.write_all(snapshot.show(inputs).as_bytes())?;
    }
    Ok(Exit::Ok)
}

/// Tells what is wrong with a configuration.
fn invalid(error: &ConfigError, json: bool, output: &mut Output<'_>) -> io::Result<Exit> {
    if json {
        let problems: Vec<Value> = error.problems.iter().map(problem).collect();
        let answer = json!({ "ok": false, "problems": problems });
        writeln!(output.out, "{}", serde_json::to_string_pretty(&answer)?)?;
    } else {
        output.error(&error.to_string())?;
    }
    Ok(Exit::ConfigInvalid)
}

fn problem(problem: &Problem) -> Value {
    json!({
        "file": problem.file,
        "line": problem.position.map(|(line, _)| line),
        "column": problem.position.map(|(_, column)| column),
        "key": problem.key,
        "message": problem.message,
    })
}

async fn check(args: &CheckArgs, inputs: &Inputs, output: &mut Output<'_>) -> io::Result<Exit> {
    let snapshot = match Snapshot::load(inputs) {
        Ok(snapshot) => snapshot,
        Err(error) => return invalid(&error, args.json, output),
    };
    let mut findings = Vec::with_capacity(snapshot.providers.len());
    for provider in &snapshot.providers {
        findings.push(Finding::of(&snapshot, provider, args.offline).await);
    }
    let mut broken: Vec<String> =
        findings.iter().filter_map(|finding| Some(format!("{}: {}", finding.name, finding.broken.as_ref()?))).collect();
    if !args.offline {
        for reference in &snapshot.server.api_keys {
            broken.extend(
                snapshot.secrets.resolve(reference).await.err().map(|error| format!("server.api_keys: {error}")),
            );
        }
    }
    let mut warnings = snapshot.warnings.clone();
    if let Some(path) = &snapshot.registry
        && let Err(error) = Registry::new(path.clone()).roles()
    {
        warnings.push(format!("registry: {error}; until it can be read there are no roles"));
    }
    if args.json {
        let providers: Vec<Value> = findings.iter().map(Finding::json).collect();
        let answer = json!({
            "ok": broken.is_empty(),
            "file": snapshot.path,
            "local_only": snapshot.local.only,
            "problems": broken,
            "warnings": warnings,
            "providers": providers,
        });
        writeln!(output.out, "{}", serde_json::to_string_pretty(&answer)?)?;
    } else {
        for warning in &warnings {
            output.warning(warning)?;
        }
        for broken in &broken {
            output.error(broken)?;
        }
        match &snapshot.path {
            Some(path) => writeln!(output.out, "{}: well-formed", path.display())?,
            None => writeln!(output.out, "no file, so the defaults are in effect; `bifrost config init` writes one")?,
        }
        if snapshot.local.only {
            writeln!(output.out, "local-only mode is on: providers in the cloud are not used")?;
        }
        let width = findings.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
        for finding in &findings {
            writeln!(output.out, "  {:width$}  {}", finding.name, finding.state)?;
        }
    }
    Ok(if broken.is_empty() { Exit::Ok } else { Exit::Failure })
}

/// What is found of one provider.
struct Finding {
    name: String,
    /// It can be called; `None` when that was not looked at.
    usable: Option<bool>,
    state: String,
    /// A key that the configuration names and that cannot be had.
    broken: Option<String>,
}

/// True when the configuration itself says where the key is, rather than the shipped row.
fn is_declared(provider: &Provider) -> bool {
    let shipped = table::row(&provider.name).map(|row| row.provider().keys);
    !provider.keys.is_empty() && shipped.as_ref() != Some(&provider.keys)
}

impl Finding {
    async fn of(snapshot: &Snapshot, provider: &Provider, offline: bool) -> Self {
        let finding = |usable, state: String| Self { name: provider.name.to_string(), usable, state, broken: None };
        if snapshot.local.only && !provider.is_local() {
            return finding(Some(false), "not used in local-only mode".to_owned());
        }
        let references: Vec<String> = provider.key_sources().map(ToString::to_string).collect();
        let references = references.join(" or ");
        if offline {
            let state = match snapshot.secrets.peek_first(provider.key_sources()) {
                _ if !provider.needs_key() => "needs no key".to_owned(),
                Availability::Present => format!("has a key ({references})"),
                Availability::Absent => format!("has no key ({references} is not there)"),
                Availability::Unknown => format!("asks for its key when needed ({references})"),
            };
            return finding(None, state);
        }
        match snapshot.secrets.first(provider.key_sources()).await {
            Ok(None) if provider.needs_key() => {
                let state = match references.as_str() {
                    "" => "has no key".to_owned(),
                    references => format!("has no key ({references} is not set)"),
                };
                let asked_for = is_declared(provider).then(|| format!("{references} is not set"));
                Self { broken: asked_for, ..finding(Some(false), state) }
            }
            Err(error) => Self {
                broken: Some(error.to_string()),
                ..finding(Some(false), format!("has no key ({references} gives none)"))
            },
            Ok(_) if provider.is_local() => {
                let url = provider.endpoints.first().map(|endpoint| endpoint.base_url()).unwrap_or_default();
                if listens(url).await {
                    finding(Some(true), format!("listens at {url}"))
                } else {
                    finding(Some(false), format!("does not listen at {url}"))
                }
            }
            Ok(_) => finding(Some(true), format!("has a key ({references})")),
        }
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "usable": self.usable, "state": self.state })
    }
}

/// True when somebody accepts connections where `url` leads; only for loopback addresses.
async fn listens(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let hosts = if host == "localhost" { vec!["127.0.0.1", "::1"] } else { vec![host] };
    for host in hosts {
        let Ok(address) = host.parse::<std::net::IpAddr>() else { continue };
        if address.is_loopback() && matches!(timeout(CONNECT, TcpStream::connect((address, port))).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
}

/// Writes the template where the file is looked for first.
pub(super) fn init(inputs: &Inputs, output: &mut Output<'_>) -> io::Result<Exit> {
    let Some(path) = inputs.candidates().into_iter().next() else {
        output.error("there is no home folder to write to; name a file with --config")?;
        return Ok(Exit::Failure);
    };
    match private_file::create(&path, TEMPLATE.as_bytes()) {
        Ok(()) => {
            writeln!(output.out, "{}", path.display())?;
            Ok(Exit::Ok)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            output.error(&format!("{}: is there already and stays as it is", path.display()))?;
            Ok(Exit::Refused)
        }
        Err(error) => {
            output.error(&format!("{}: cannot be written: {error}", path.display()))?;
            Ok(Exit::Failure)
        }
    }
}
