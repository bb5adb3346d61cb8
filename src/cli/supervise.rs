//! `bifrost supervise`: the program of the model server's LaunchAgent.

use super::{Exit, Output};
use crate::config::{Inputs, Snapshot, state};
use crate::local::model_files::{self, Memory};
use crate::local::supervise::{self, Ended, Supervised};
use crate::route::registry::Registry;
use clap::Args;
use std::io;
use std::path::PathBuf;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Options of `supervise`.
#[derive(Debug, Args)]
pub struct SuperviseArgs {
    /// The model: an id of Hugging Face or a folder (both have a slash), or a role of the registry.
    #[arg(long, value_name = "ID|FOLDER|ROLE", default_value = "default")]
    pub model: String,
    /// The port on 127.0.0.1 where the server will listen.
    #[arg(long, default_value_t = 11434)]
    pub port: u16,
    /// GiB that must stay free: 1.3 times the model's size on disk has to fit into the rest of the memory.
    #[arg(long, value_name = "GIB", default_value_t = 8)]
    pub memory_reserve_gb: u32,
    /// Where the server's output goes; put aside as `.1` to `.4` when it has 10 MiB.
    #[arg(long, value_name = "FILE")]
    pub log: PathBuf,
    /// The server; an argument that is exactly `{model}` becomes the model.
    #[arg(last = true, required = true, value_name = "PROGRAM")]
    pub command: Vec<String>,
}

/// Runs the server until it ends or this process is asked to. Ends with 0 when it was asked to stop, and when starting
/// would help nobody (a taken port, a model that does not fit): launchd does not start it again then.
///
/// # Errors
/// Standard error is closed, or no signal can be listened for.
pub async fn run(args: &SuperviseArgs, inputs: &Inputs, output: &mut Output<'_>) -> io::Result<Exit> {
    let mut signals = supervise::signals()?;
    let snapshot = match Snapshot::load(inputs) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            output.error(&error.to_string())?;
            return Ok(Exit::ConfigInvalid);
        }
    };
    let model = match model(&args.model, &snapshot, inputs) {
        Ok(model) => model,
        Err(reason) => {
            output.error(&reason)?;
            output.hint("name the model's id instead, as in --model mlx-community/Qwen3-8B-4bit")?;
            return Ok(Exit::NotFound);
        }
    };
    let environment = &inputs.environment;
    let supervised = Supervised {
        command: args.command.clone(),
        model,
        port: args.port,
        memory: Memory::of_machine(args.memory_reserve_gb),
        log: inputs.paths.expand(&args.log),
        offline: snapshot.local.only || state::read_local_only(&inputs.paths),
        hub: model_files::hub(environment, inputs.paths.home.as_deref()),
        record: supervise::record_file(inputs.paths.state.as_deref(), args.port),
    };
    let mut say = |line: &str| {
        // With standard error closed there is nobody left to tell, and the server still has to be looked after.
        let _ = output.aside(&format!("{} {line}", now()));
    };
    let ended = supervised.run(&mut signals, &mut say).await;
    match ended {
        Ended::Stopped => Ok(Exit::Ok),
        Ended::Refused { reason, remedy } => {
            output.error(&format!("not started: {reason}"))?;
            output.hint(&format!("{remedy}; then: launchctl start dev.bifrost.vllm-mlx"))?;
            Ok(Exit::Ok)
        }
        Ended::Failed(what) => {
            output.error(&what)?;
            Ok(Exit::Failure)
        }
    }
}

/// The model that is meant: a role is what the registry says now.
fn model(name: &str, snapshot: &Snapshot, inputs: &Inputs) -> Result<String, String> {
    if name.contains('/') {
        return Ok(inputs.paths.expand(name.as_ref()).display().to_string());
    }
    let Some(path) = &snapshot.registry else {
        return Err(format!(
            "`{name}` is the name of a role, and the configuration names no `registry` to look it up in"
        ));
    };
    let roles = Registry::new(path.clone()).roles().map_err(|error| error.to_string())?;
    let model = roles.get(name).map(str::to_owned);
    model.ok_or_else(|| format!("{} has no role `{name}`", path.display()))
}

fn now() -> String {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}
