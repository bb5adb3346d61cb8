//! `bifrost listmodels`: what can be asked for now.

use super::client::{Gateway, GatewayArgs, Trouble, text};
use super::columns::Columns;
use super::{Exit, Output, resolve};
use crate::config::Inputs;
use clap::Args;
use serde_json::{Value, json};

/// Options of `listmodels`.
#[derive(Debug, Args)]
pub struct ListModelsArgs {
    /// Only what this task class would use now, in the order it would be tried.
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,
    /// Only what can be used without leaving this machine.
    #[arg(long)]
    pub local: bool,
    /// Answer in JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the gateway is.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// Lists classes, other names and models.
///
/// # Errors
/// The gateway does not answer, or knows no such class.
pub async fn run(args: &ListModelsArgs, inputs: &Inputs, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let gateway = Gateway::find(&args.gateway, inputs, output).await?;
    let listed = gateway.get("/v1/models", args.local).await?.good()?;
    let mut entries = listed.get("data").and_then(Value::as_array).cloned().unwrap_or_default();
    if let Some(class) = &args.class {
        let name = format!("class/{}", class.trim_start_matches("class/"));
        let plan = resolve::ask(&gateway, &name, args.local).await?;
        entries = resolve::targets(&plan).iter().map(|target| entry_of(target, &entries)).collect();
    }
    if args.json {
        writeln!(output.out, "{:#}", json!({ "object": "list", "data": entries }))?;
        return Ok(Exit::Ok);
    }
    print(&entries, output)?;
    if !entries.iter().any(answers) {
        output.warning(
            "nothing could answer now: set a provider's key or start the local server; `bifrost config check` says which \
             are missing",
        )?;
    }
    Ok(Exit::Ok)
}

/// The list's entry for a target of a plan, or what is known of it where the list has none.
fn entry_of(target: &Value, entries: &[Value]) -> Value {
    let id = format!("{}/{}", text(target, "provider"), text(target, "model"));
    let listed = entries.iter().find(|entry| text(entry, "id") == id).cloned();
    listed.unwrap_or_else(|| {
        let provider = text(target, "provider");
        json!({
            "id": id,
            "object": "model",
            "created": 0,
            "owned_by": provider,
            "bifrost": { "kind": "model", "provider": provider, "loaded": target.get("loaded") },
        })
    })
}

fn print(entries: &[Value], output: &mut Output<'_>) -> Result<(), Trouble> {
    let mut classes = Columns::new(["CLASS", "NOW", "LOADED", "CLOUD", "FOR"]);
    let mut aliases = Columns::new(["ALIAS", "STANDS FOR", "NOW", "LOADED"]);
    let mut models = Columns::new(["MODEL", "LOADED", "CONTEXT", "$/M IN", "$/M OUT", "TOOLS", "VISION", "REASONING"]);
    let none = Value::Null;
    for entry in entries {
        let id = text(entry, "id").to_owned();
        let about = entry.get("bifrost").unwrap_or(&none);
        let word = |key: &str| text(about, key).to_owned();
        match text(about, "kind") {
            "class" => classes.row([id, now(about), yes(about, "loaded"), yes(about, "cloud"), word("description")]),
            "alias" => aliases.row([id, word("stands_for"), now(about), yes(about, "loaded")]),
            _ => models.row([
                id,
                yes(about, "loaded"),
                tokens(about.get("context")),
                price(about.get("input_price")),
                price(about.get("output_price")),
                yes(about, "tools"),
                yes(about, "vision"),
                yes(about, "reasoning"),
            ]),
        }
    }
    let tables: Vec<String> = [classes.text(), aliases.text(), models.text()].into_iter().flatten().collect();
    if !tables.is_empty() {
        writeln!(output.out, "{}", tables.join("\n\n"))?;
    }
    Ok(())
}

/// It is a model, or stands for one.
fn answers(entry: &Value) -> bool {
    let about = entry.get("bifrost").unwrap_or(&Value::Null);
    text(about, "kind") == "model" || !text(about, "resolves_to").is_empty()
}

fn now(about: &Value) -> String {
    match text(about, "resolves_to") {
        "" if about.get("error").is_some_and(Value::is_string) => "nothing now".to_owned(),
        model => model.to_owned(),
    }
}

fn yes(about: &Value, key: &str) -> String {
    let word = about.get(key).and_then(Value::as_bool).map(|known| if known { "yes" } else { "no" });
    word.unwrap_or_default().to_owned()
}

/// A count of tokens as people say it: `32k` for 32,768 and 32,000 alike, `1M`.
fn tokens(count: Option<&Value>) -> String {
    match count.and_then(Value::as_u64) {
        None => String::new(),
        Some(count) if count >= 1_000_000 => format!("{}M", trimmed(count as f64 / 1_000_000.0, 2)),
        Some(count) if count >= 1_000 && count % 1_024 == 0 => format!("{}k", count / 1_024),
        Some(count) if count >= 1_000 => format!("{}k", count / 1_000),
        Some(count) => count.to_string(),
    }
}

fn price(dollars: Option<&Value>) -> String {
    dollars.and_then(Value::as_f64).map(|dollars| trimmed(dollars, 4)).unwrap_or_default()
}

fn trimmed(number: f64, digits: usize) -> String {
    let text = format!("{number:.digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
