//! The command line: arguments, what they mean for the library, and what is printed.

pub mod chat;
mod client;
mod columns;
pub mod config;
pub mod doctor;
mod exit;
pub mod health;
pub mod listmodels;
pub mod local;
mod output;
pub mod resolve;
mod serve;
pub mod service;
pub mod service_logs;
pub mod status;
pub mod supervise;
pub mod tools;

pub use client::{GatewayArgs, Trouble};
pub use exit::Exit;
pub use output::Output;

use crate::config::{Flags, Inputs};
use crate::secret::{EnvFileError, Environment};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// The AI gateway for a developer's Mac: one local endpoint for every AI tool.
#[derive(Debug, Parser)]
#[command(name = "bifrost", version, propagate_version = true)]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do; `serve` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What holds for every command.
#[derive(Debug, Default, Args)]
pub struct GlobalArgs {
    /// The configuration file [default: $BIFROST_CONFIG, then $XDG_CONFIG_HOME/bifrost/config.toml].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Adds the variables of a dotenv file to the environment; only its owner may read it (mode 0600).
    #[arg(long, global = true, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the gateway (also the default).
    Serve(ServeArgs),
    /// Checks, shows, describes or begins the configuration.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Lists what can be asked for now: task classes, other names, models.
    #[command(name = "listmodels", visible_alias = "models")]
    ListModels(listmodels::ListModelsArgs),
    /// Says who would answer, and why.
    Resolve(resolve::ResolveArgs),
    /// Asks one question and prints the answer as it comes.
    Chat(chat::ChatArgs),
    /// Local-only mode: status, on, off.
    #[command(subcommand)]
    Local(local::LocalCommand),
    /// Shows gateway, mode, local server, agents, providers and classes at one glance.
    Status(status::StatusArgs),
    /// Looks for what is wrong, and says what to do about it. Needs no running gateway.
    Doctor(doctor::DoctorArgs),
    /// Says whether the gateway is well.
    Health(health::HealthArgs),
    /// Says what to export or write so that a tool uses Bifrost.
    Env(tools::EnvArgs),
    /// Installs, starts and stops the LaunchAgents of macOS, for people without Nix.
    #[command(subcommand)]
    Service(service::ServiceCommand),
    /// Runs the local model server for launchd: stops, logs and restarts are as launchd needs them.
    Supervise(supervise::SuperviseArgs),
    /// Prints a completion script for a shell.
    Completions(CompletionsArgs),
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// Options of `serve`; each wins over the environment, and that over the file.
#[derive(Debug, Default, Args)]
pub struct ServeArgs {
    /// Local-only mode: nothing leaves this machine.
    #[arg(long)]
    pub local: bool,
    /// An address to bind, without port; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    pub host: Vec<IpAddr>,
    /// The port; 0 lets the system choose one.
    #[arg(long)]
    pub port: Option<u16>,
    /// The log's filter, as in `debug` or `info,bifrost::route=debug`.
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

impl Cli {
    /// What the configuration is made from: the environment of this process, env files, and flags.
    ///
    /// # Errors
    /// An env file cannot be read, or is open to others.
    pub fn inputs(&self, mut environment: Environment) -> Result<Inputs, EnvFileError> {
        for file in &self.global.env_file {
            environment.add_file(file)?;
        }
        let mut flags = Flags { config: self.global.config.clone(), ..Flags::default() };
        if let Some(Command::Serve(serve)) = &self.command {
            flags.local_only = serve.local;
            flags.hosts.clone_from(&serve.host);
            flags.port = serve.port;
            flags.log.clone_from(&serve.log);
        }
        Ok(Inputs::new(environment, flags))
    }
}

/// Runs a command to its end.
///
/// # Errors
/// The output is closed.
pub async fn run(cli: Cli, environment: Environment, output: &mut Output<'_>) -> io::Result<Exit> {
    let inputs = match cli.inputs(environment) {
        Ok(inputs) => inputs,
        Err(error) => {
            output.error(&error.to_string())?;
            return Ok(Exit::ConfigInvalid);
        }
    };
    match cli.command.unwrap_or_default() {
        Command::Serve(_) => serve::run(inputs, output).await,
        Command::Config(command) => config::run(&command, &inputs, output).await,
        Command::ListModels(args) => settle(listmodels::run(&args, &inputs, output).await, output),
        Command::Resolve(args) => settle(resolve::run(&args, &inputs, output).await, output),
        Command::Chat(args) => settle(chat::run(&args, &inputs, output).await, output),
        Command::Local(command) => settle(local::run(&command, &inputs, output).await, output),
        Command::Status(args) => settle(status::run(&args, &inputs, output).await, output),
        Command::Doctor(args) => settle(doctor::run(&args, &inputs, output).await, output),
        Command::Health(args) => settle(health::run(&args, &inputs, output).await, output),
        Command::Env(args) => settle(tools::run(&args, &inputs, output), output),
        Command::Service(command) => {
            settle(service::run(&command, &cli.global.env_file, &inputs, output).await, output)
        }
        Command::Supervise(args) => supervise::run(&args, &inputs, output).await,
        Command::Completions(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "bifrost", &mut script);
            output.out.write_all(&script)?;
            Ok(Exit::Ok)
        }
    }
}

/// Tells what went wrong.
fn settle(done: Result<Exit, Trouble>, output: &mut Output<'_>) -> io::Result<Exit> {
    match done {
        Ok(exit) => Ok(exit),
        Err(Trouble::Output(error)) => Err(error),
        Err(Trouble::Told { exit, message }) => {
            let (what, remedy) = message.split_once('\n').unwrap_or((&message, ""));
            output.error(what)?;
            output.hint(remedy)?;
            Ok(exit)
        }
    }
}

impl Default for Command {
    fn default() -> Self {
        Self::Serve(ServeArgs::default())
    }
}

#[cfg(test)]
mod tests;
