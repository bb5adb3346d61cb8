//! `bifrost status`: everything at one glance.

use super::client::{Gateway, GatewayArgs, Trouble, text};
use super::columns::{Columns, UNKNOWN};
use super::{Exit, Output};
use crate::config::Inputs;
use crate::local::agents::Agent;
use crate::local::launchctl::Launchctl;
use clap::Args;
use http::Method;
use serde_json::{Value, json};
use std::io;
use std::time::Duration;

/// Between two looks of `--watch`.
const WATCH: Duration = Duration::from_secs(2);
/// Bytes in a GiB, as Activity Monitor counts memory.
const GIB: f64 = 1_073_741_824.0;

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
    /// Look again every two seconds, until Ctrl-C.
    #[arg(long)]
    pub watch: bool,
    /// Where the gateway is.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Prints gateway, mode, local server, agents, providers, and what the classes resolve to now.
///
/// # Errors
/// The gateway does not answer; with `--watch` that is shown instead.
pub async fn run(args: &StatusArgs, inputs: &Inputs, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let gateway = Gateway::find(&args.gateway, inputs, output).await?;
    if !args.watch {
        let status = look(&gateway, inputs).await?;
        print(&status, args.json, &gateway, output)?;
        return Ok(Exit::Ok);
    }
    loop {
        let status = look(&gateway, inputs).await;
        if output.out_is_terminal && !args.json {
            write!(output.out, "\x1b[H\x1b[2J")?;
        }
        match status {
            Ok(status) => print(&status, args.json, &gateway, output)?,
            Err(Trouble::Told { exit: Exit::Unreachable, message }) => {
                output.error(message.lines().next().unwrap_or_default())?;
            }
            Err(trouble) => return Err(trouble),
        }
        output.out.flush()?;
        tokio::select! {
            () = tokio::time::sleep(WATCH) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Interrupted),
        }
    }
}

async fn look(gateway: &Gateway, inputs: &Inputs) -> Result<Value, Trouble> {
    let mut status = gateway.admin(Method::GET, "/admin/status", &[], None).await?.good()?;
    let agents = agents(&Launchctl::of(&inputs.environment)).await;
    if let Some(status) = status.as_object_mut() {
        status.insert("agents".to_owned(), agents);
    }
    Ok(status)
}

/// Both agents, as launchd tells of them; null where there is no launchd.
async fn agents(launchctl: &Launchctl) -> Value {
    if !launchctl.is_there() {
        return Value::Null;
    }
    let mut agents = Vec::new();
    for agent in Agent::ALL {
        let state = match launchctl.state(agent.label()).await {
            Ok(state) => state.to_string(),
            Err(error) => error.to_string(),
        };
        agents.push(json!({ "label": agent.label(), "state": state }));
    }
    Value::Array(agents)
}

fn print(status: &Value, as_json: bool, gateway: &Gateway, output: &mut Output<'_>) -> io::Result<()> {
    if as_json {
        return writeln!(output.out, "{status:#}");
    }
    let mut lines = vec![format!("gateway     bifrost {} at {}", text(status, "version"), gateway.base())];
    let config = status.get("config").unwrap_or(&Value::Null);
    lines.push(format!("config      {}", config.get("path").and_then(Value::as_str).unwrap_or("no file")));
    if let Some(error) = config.get("error").and_then(Value::as_str) {
        lines.push(format!("            NOT in force, the last good one is: {error}"));
    }
    let local = status.get("local").unwrap_or(&Value::Null);
    let on = if local.get("only").and_then(Value::as_bool) == Some(true) { "on" } else { "off" };
    lines.push(format!("local-only  {on} ({})", text(local, "reason")));
    lines.extend(supervisor(local.get("server").unwrap_or(&Value::Null)));
    for agent in list(status, "agents") {
        lines.push(format!("agent       {}: {}", text(agent, "label"), text(agent, "state")));
    }
    writeln!(output.out, "{}", lines.join("\n"))?;
    let tables = [providers(status), classes(status), queues(status), breakers(status), keys(status)];
    for table in tables.into_iter().flatten() {
        writeln!(output.out, "\n{table}")?;
    }
    Ok(())
}

/// The local server in lines.
fn supervisor(server: &Value) -> Vec<String> {
    let mut first =
        format!("supervisor  {} at {}: {}", text(server, "supervisor"), text(server, "url"), text(server, "detail"));
    if let Some(bytes) = server.get("resident_bytes").and_then(Value::as_f64) {
        first.push_str(&format!("; holds {:.1} GiB", bytes / GIB));
    }
    let mut lines = vec![first];
    if let Some(agent) = server.get("agent").filter(|agent| agent.is_object()) {
        let owner = if agent.get("ours").and_then(Value::as_bool) == Some(true) { "" } else { ", not Bifrost's own" };
        lines.push(format!("            by agent {} ({}{owner})", text(agent, "label"), text(agent, "state")));
    }
    let foreign = |holder: &&Value| holder.get("of_agent").and_then(Value::as_bool) == Some(false);
    if let Some(holder) = server.get("holder").filter(foreign) {
        let pid = holder.get("pid").and_then(Value::as_u64).unwrap_or_default();
        lines.push(format!("            the port is held by {} (pid {pid})", text(holder, "program")));
    }
    if !text(server, "remedy").is_empty() {
        lines.push(format!("            {}", text(server, "remedy")));
    }
    lines
}

fn providers(status: &Value) -> Option<String> {
    let mut table = Columns::new(["PROVIDER", "WHERE", "MODELS", "LAST ERROR"]);
    let is_active = |provider: &&Value| provider.get("active").and_then(Value::as_bool) == Some(true);
    for provider in list(status, "providers").iter().filter(is_active) {
        let place = if provider.get("local").and_then(Value::as_bool) == Some(true) { "local" } else { "cloud" };
        let models = provider.get("models").and_then(Value::as_u64).map(|models| models.to_string());
        let (name, error) = (text(provider, "name").to_owned(), text(provider, "error").to_owned());
        table.row([name, place.to_owned(), models.unwrap_or_default(), error]);
    }
    table.text()
}

fn classes(status: &Value) -> Option<String> {
    let mut table = Columns::new(["CLASS", "RESOLVES TO NOW", "THEN"]);
    for class in list(status, "classes") {
        let targets: Vec<String> = list(class, "targets")
            .iter()
            .map(|target| format!("{}/{}", text(target, "provider"), text(target, "model")))
            .collect();
        let first = targets.first().cloned().unwrap_or_else(|| format!("{UNKNOWN} (nothing)"));
        let then = match targets.len() {
            0 | 1 => String::new(),
            more => format!("{} more", more - 1),
        };
        table.row([text(class, "model").to_owned(), first, then]);
    }
    table.text()
}

/// The targets that have requests now.
fn queues(status: &Value) -> Option<String> {
    let mut table = Columns::new(["TARGET", "IN FLIGHT", "WAITING"]);
    for queue in list(status, "queues") {
        let number = |path: &str| queue.pointer(path).and_then(Value::as_u64);
        let in_flight = number("/in_flight").unwrap_or_default();
        let in_flight = match number("/limit") {
            Some(limit) => format!("{in_flight} of {limit}"),
            None => in_flight.to_string(),
        };
        let waiting = match (number("/waiting/interactive"), number("/waiting/batch")) {
            (Some(0) | None, Some(0) | None) => String::new(),
            (interactive, batch) => {
                format!("{} interactive, {} batch", interactive.unwrap_or_default(), batch.unwrap_or_default())
            }
        };
        table.row([format!("{}/{}", text(queue, "provider"), text(queue, "model")), in_flight, waiting]);
    }
    table.text()
}

/// The targets that are left alone now, or are probed.
fn breakers(status: &Value) -> Option<String> {
    let mut table = Columns::new(["TARGET", "BREAKER", "RESTS FOR"]);
    for target in list(status, "targets").iter().filter(|target| text(target, "breaker") != "closed") {
        let name = format!("{}/{}", text(target, "provider"), text(target, "model"));
        table.row([name, text(target, "breaker").to_owned(), rests(target).unwrap_or_default()]);
    }
    table.text()
}

/// The keys that are not used now.
fn keys(status: &Value) -> Option<String> {
    let mut table = Columns::new(["PROVIDER", "KEY", "OUT OF USE"]);
    for key in list(status, "keys_out_of_use") {
        let place = key.get("key").and_then(Value::as_u64).map_or_else(String::new, |place| (place + 1).to_string());
        let until =
            rests(key).map_or_else(|| "refused; until the next reload".to_owned(), |rest| format!("for {rest}"));
        table.row([text(key, "provider").to_owned(), place, until]);
    }
    table.text()
}

fn rests(of: &Value) -> Option<String> {
    Some(format!("{:.0} s", of.get("rests_seconds")?.as_f64()?.ceil()))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
