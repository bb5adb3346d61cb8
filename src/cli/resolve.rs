//! `bifrost resolve`: who would answer, and why.

use super::client::{Gateway, GatewayArgs, Trouble, text};
use super::{Exit, Output};
use crate::config::Inputs;
use clap::Args;
use http::Method;
use serde_json::Value;

/// Options of `resolve`.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// A task class (`coding`), `auto`, `provider/model`, or a model's id.
    #[arg(value_name = "CLASS|MODEL")]
    pub model: String,
    /// As if local-only mode were on.
    #[arg(long)]
    pub local: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the gateway is.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Prints the plan: the targets in order, each with the reason why it is there.
///
/// # Errors
/// The gateway does not answer, or nothing could answer.
pub async fn run(args: &ResolveArgs, inputs: &Inputs, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let gateway = Gateway::find(&args.gateway, inputs, output).await?;
    if args.json {
        let plan = fetch(&gateway, &args.model, args.local).await?;
        writeln!(output.out, "{plan:#}")?;
        return Ok(failure(&plan).map_or(Exit::Ok, |(exit, _)| exit));
    }
    let plan = ask(&gateway, &args.model, args.local).await?;
    if let Some(class) = plan.get("class").and_then(Value::as_str) {
        match text(&plan, "class_reason") {
            "" => writeln!(output.out, "class {class}")?,
            reason => writeln!(output.out, "class {class}: {reason}")?,
        }
    }
    for (index, target) in targets(&plan).iter().enumerate() {
        let loaded = match target.get("loaded").and_then(Value::as_bool) {
            Some(true) => " (loaded)",
            Some(false) => " (not loaded)",
            None => "",
        };
        let (provider, model, reason) = (text(target, "provider"), text(target, "model"), text(target, "reason"));
        writeln!(output.out, "{}. {provider}/{model}{loaded}: {reason}", index + 1)?;
    }
    if let Some(asked) = plan.get("substituted").and_then(Value::as_str) {
        writeln!(output.out, "in place of {asked}, which is not local")?;
    }
    Ok(Exit::Ok)
}

/// The plan for `model`.
///
/// # Errors
/// The gateway does not answer, or nothing could answer.
pub async fn ask(gateway: &Gateway, model: &str, local: bool) -> Result<Value, Trouble> {
    let plan = fetch(gateway, model, local).await?;
    match failure(&plan) {
        None => Ok(plan),
        Some((exit, message)) => Err(Trouble::new(exit, message)),
    }
}

/// The targets of a plan, in order.
pub fn targets(plan: &Value) -> &[Value] {
    plan.get("targets").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

async fn fetch(gateway: &Gateway, model: &str, local: bool) -> Result<Value, Trouble> {
    let query = [("model", model), ("local", if local { "true" } else { "false" })];
    gateway.admin(Method::GET, "/admin/resolve", &query, None).await?.good()
}

fn failure(plan: &Value) -> Option<(Exit, String)> {
    let error = plan.get("error").filter(|error| !error.is_null())?;
    let exit = match text(error, "code") {
        "model_not_found" | "class_not_found" => Exit::NotFound,
        _ => Exit::Failure,
    };
    let message = error.as_str().unwrap_or_else(|| text(error, "message"));
    Some((exit, message.to_owned()))
}
