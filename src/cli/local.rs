//! `bifrost local`: whether anything may leave this machine.

use super::client::{Answer, Gateway, GatewayArgs, Trouble, text};
use super::{Exit, Output};
use crate::config::Inputs;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The gateway waits five minutes for the local server to prove itself, and then says so.
const PROVING: Duration = Duration::from_secs(330);
/// Between two looks at how far it is.
const PROGRESS: Duration = Duration::from_secs(1);

/// What to do with local-only mode.
#[derive(Debug, Subcommand)]
pub enum LocalCommand {
    /// Says whether local-only mode is on and why, and how the local server is.
    Status(LocalArgs),
    /// Switches local-only mode on: from then on nothing leaves this machine. Outlives a restart.
    ///
    /// Refused, with the reason, unless the local server gives a token. If it has no model in memory, the local default is
    /// loaded for that, which may take minutes.
    On(LocalArgs),
    /// Switches local-only mode off. Refused while the file, a flag or the environment declares it.
    Off(LocalArgs),
}

/// Options of the three.
#[derive(Debug, Args)]
pub struct LocalArgs {
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the gateway is.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Asks or switches.
///
/// # Errors
/// The gateway does not answer, or refuses the switch.
pub async fn run(command: &LocalCommand, inputs: &Inputs, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let (args, only) = match command {
        LocalCommand::Status(args) => (args, None),
        LocalCommand::On(args) => (args, Some(true)),
        LocalCommand::Off(args) => (args, Some(false)),
    };
    let gateway = Gateway::find(&args.gateway, inputs, output).await?;
    let status = match only {
        None => gateway.admin(Method::GET, "/admin/local", &[], None).await?,
        Some(only) => switch(&gateway, only, output).await?,
    };
    let status = status.good()?;
    if args.json {
        writeln!(output.out, "{status:#}")?;
        return Ok(Exit::Ok);
    }
    writeln!(output.out, "local-only mode: {}", mode(&status))?;
    writeln!(output.out, "{}", server(status.get("server").unwrap_or(&Value::Null)))?;
    Ok(Exit::Ok)
}

/// Turns the switch; on a terminal it shows what the local server is doing meanwhile.
async fn switch(gateway: &Gateway, only: bool, output: &mut Output<'_>) -> Result<Answer, Trouble> {
    let body = Some(json!({ "only": only }));
    let switched = gateway.admin_within(PROVING, Method::PUT, "/admin/local", &[], body);
    tokio::pin!(switched);
    let began = Instant::now();
    loop {
        tokio::select! {
            biased;
            answer = &mut switched => {
                output.clear_line()?;
                return answer;
            }
            () = tokio::time::sleep(PROGRESS), if only && output.colour => {}
        }
        let Ok(status) = gateway.admin(Method::GET, "/admin/local", &[], None).await else { continue };
        let server = status.body.get("server").unwrap_or(&Value::Null);
        let what = match text(server, "proving") {
            "" => format!("the local server is {}: {}", text(server, "supervisor"), text(server, "detail")),
            model => format!("waiting for a token of {model}"),
        };
        output.clear_line()?;
        write!(output.err, "{what} ({} s)", began.elapsed().as_secs())?;
        output.err.flush()?;
    }
}

fn mode(status: &Value) -> String {
    let on = if status.get("only").and_then(Value::as_bool) == Some(true) { "on" } else { "off" };
    match text(status, "reason") {
        "" => on.to_owned(),
        reason => format!("{on} ({reason})"),
    }
}

/// The local server in one line, as `health` prints it too.
pub fn server(server: &Value) -> String {
    let mut line = format!("local server:    {} at {}", text(server, "supervisor"), text(server, "url"));
    if !text(server, "detail").is_empty() {
        line.push_str(&format!(": {}", text(server, "detail")));
    }
    let names = |key| -> Vec<&str> {
        server.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let (models, loaded) = (names("models"), names("loaded"));
    if !models.is_empty() {
        let about = |name: &&str| if loaded.contains(name) { format!("{name} (loaded)") } else { (*name).to_owned() };
        line.push_str(&format!("\nmodels:          {}", models.iter().map(about).collect::<Vec<_>>().join(", ")));
    }
    line
}
