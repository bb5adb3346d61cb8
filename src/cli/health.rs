//! `bifrost health`: is it alive, and would it answer.

use super::client::{Gateway, GatewayArgs, Trouble, text};
use super::{Exit, Output, local};
use crate::config::Inputs;
use clap::Args;
use serde_json::Value;

/// Options of `health`.
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the gateway is.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Ends with 0 when the gateway serves, 1 when it would refuse every request, 4 when it does not answer.
///
/// # Errors
/// The gateway does not answer.
pub async fn run(args: &HealthArgs, inputs: &Inputs, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let gateway = Gateway::find(&args.gateway, inputs, output).await?;
    let answer = gateway.get("/health", false).await?;
    let exit = if answer.status.is_success() { Exit::Ok } else { Exit::Failure };
    let report = answer.body;
    if args.json {
        writeln!(output.out, "{report:#}")?;
        return Ok(exit);
    }
    writeln!(output.out, "bifrost {}: {} at {}", text(&report, "version"), text(&report, "status"), gateway.base())?;
    let on = report.get("local_only").and_then(Value::as_bool) == Some(true);
    writeln!(output.out, "local-only mode: {}", if on { "on" } else { "off" })?;
    if let Some(server) = report.get("local_server").filter(|server| server.is_object()) {
        writeln!(output.out, "{}", local::server(server))?;
    }
    let config = report.get("config").unwrap_or(&Value::Null);
    let path = config.get("path").and_then(Value::as_str).unwrap_or("no file");
    writeln!(output.out, "configuration:   {path}")?;
    for reason in report.get("reasons").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        output.error(reason)?;
    }
    if let Some(error) = config.get("error").and_then(Value::as_str) {
        output.warning(&format!("the file as it stands is not in force, the last good one is: {error}"))?;
    }
    Ok(exit)
}
