//! `bifrost doctor`: what could be wrong, in the order in which one thing needs the other, each with its remedy. Needs no
//! running gateway.

use super::client::{self, GatewayArgs, Trouble};
use super::{Exit, Output};
use crate::config::{Inputs, Snapshot};
use crate::local::agents::{Agent, log_folder};
use crate::local::launchctl::{AgentState, Launchctl};
use crate::local::supervisor::Trial;
use crate::local::{LocalServer, health::Bodies, process, proof};
use crate::provider::{self, Deadlines, MLX_LOCAL, Provider};
use bytes::Bytes;
use clap::Args;
use reqwest::{Client, StatusCode, Url};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A server that is well answers from memory.
const SHORT: Duration = Duration::from_secs(5);
/// A token of a loaded model; an idle one has to be brought back by macOS first.
const PROOF: Duration = Duration::from_secs(120);
/// 1 January 2026, in Unix seconds: no clock of a machine that runs this stands before.
const EARLIEST: u64 = 1_767_225_600;

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Where the gateway is.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    Well(String),
    Odd(String, String),
    Broken(String, String),
}

use Finding::{Broken, Odd, Well};

/// Checks everything and tells what it found. Ends with 1 when something is broken.
///
/// # Errors
/// The output is closed.
pub async fn run(args: &DoctorArgs, inputs: &Inputs, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let mut broken = 0;
    let (found, snapshot) = config(inputs);
    let launchctl = Launchctl::of(&inputs.environment);
    broken += tell("config", &found, output)?;
    let Some(snapshot) = snapshot.or_else(|| Snapshot::of_text(inputs, None).ok()) else {
        return Ok(Exit::ConfigInvalid);
    };
    broken += tell("keys", &keys(&snapshot).await, output)?;
    let base = client::named_address(&args.gateway, inputs).or_else(|| client::address(&snapshot).ok());
    broken += tell("ports", &ports(base.as_deref(), &snapshot).await, output)?;
    broken += tell("agents", &agents(&launchctl).await, output)?;
    broken += tell("local server", &local_server(&snapshot).await, output)?;
    broken += tell("log folder", &folders(inputs, launchctl.is_there()), output)?;
    broken += tell("clock", &[clock(SystemTime::now())], output)?;
    if broken == 0 {
        return Ok(Exit::Ok);
    }
    writeln!(output.out, "{broken} broken")?;
    Ok(Exit::Failure)
}

/// Prints what a check found; gives how much of it is broken.
fn tell(check: &str, findings: &[Finding], output: &mut Output<'_>) -> io::Result<usize> {
    for finding in findings {
        let (word, what, remedy) = match finding {
            Well(what) => ("ok", what, ""),
            Odd(what, remedy) => ("odd", what, remedy.as_str()),
            Broken(what, remedy) => ("BROKEN", what, remedy.as_str()),
        };
        writeln!(output.out, "{word:<7} {check}: {what}")?;
        if !remedy.is_empty() {
            writeln!(output.out, "        -> {remedy}")?;
        }
    }
    Ok(findings.iter().filter(|finding| matches!(finding, Broken(..))).count())
}

fn config(inputs: &Inputs) -> (Vec<Finding>, Option<Snapshot>) {
    match Snapshot::load(inputs) {
        Ok(snapshot) => {
            let path =
                snapshot.path.as_ref().map_or("no file, all defaults".to_owned(), |path| path.display().to_string());
            let odd = snapshot.warnings.iter().map(|warning| Odd(warning.clone(), String::new()));
            (std::iter::once(Well(path)).chain(odd).collect(), Some(snapshot))
        }
        Err(error) => {
            let remedy = "Mend the file; `bifrost config check` reads it again. The rest is checked with the defaults.";
            (vec![Broken(error.to_string(), remedy.to_owned())], None)
        }
    }
}

async fn keys(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for reference in &snapshot.server.api_keys {
        if let Err(error) = snapshot.secrets.resolve(reference).await {
            let remedy =
                "Without it the gateway does not start: put the key there, or take it out of `[server] api_keys`.";
            findings.push(Broken(error.to_string(), remedy.to_owned()));
        }
    }
    let mut with_key = Vec::new();
    let wanted =
        |provider: &&std::sync::Arc<Provider>| provider.needs_key() && (provider.is_local() || !snapshot.local.only);
    for provider in snapshot.providers.iter().filter(wanted) {
        match snapshot.secrets.first(provider.key_sources()).await {
            Ok(Some(_)) => with_key.push(&*provider.name),
            Ok(None) => {}
            Err(error) => {
                let remedy =
                    format!("Put the key there, or write another reference into [providers.{}] key.", provider.name);
                findings.push(Broken(format!("{}: {error}", provider.name), remedy));
            }
        }
    }
    findings.push(match (with_key.is_empty(), snapshot.local.only) {
        (_, true) => Well("local-only mode is declared: no key of the cloud is looked at".to_owned()),
        (false, false) => Well(with_key.join(", ")),
        (true, false) => Odd(
            "no cloud provider has a key".to_owned(),
            "Only the local server answers. Set one, such as OPENROUTER_API_KEY, for more.".to_owned(),
        ),
    });
    findings
}

async fn ports(base: Option<&str>, snapshot: &Snapshot) -> Vec<Finding> {
    let Some(base) = base else {
        return vec![Odd(
            "the system chooses the gateway's port".to_owned(),
            "Say where it listens with --url.".to_owned(),
        )];
    };
    let health = match http_client(base) {
        Some(client) => get(&client, &format!("{base}/health")).await,
        None => None,
    };
    let is_bifrost = |body: &Bytes| {
        serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|body| body.get("local_only").is_some())
    };
    let gateway = match health {
        Some((_, body)) if is_bifrost(&body) => Well(format!("the gateway answers at {base}")),
        answered => {
            let holder = match port_of(base) {
                Some(port) => process::listener(port).await,
                None => None,
            };
            match (answered, holder) {
                (_, Some((pid, program))) => Broken(
                    format!("{base} is held by {program} (pid {pid}), which is no Bifrost that answers"),
                    "Stop that program, or choose another port: `[server] port`.".to_owned(),
                ),
                (Some(_), None) => Broken(
                    format!("what answers at {base} is no Bifrost"),
                    "Stop that program, or choose another port: `[server] port`.".to_owned(),
                ),
                (None, None) => Broken(
                    format!("the gateway does not answer at {base}"),
                    "Start it: `launchctl start dev.bifrost.gateway`, `bifrost service install`, or `bifrost serve`."
                        .to_owned(),
                ),
            }
        }
    };
    let local = mlx_url(snapshot).as_deref().and_then(port_of);
    let held = match local {
        Some(port) => process::listener(port)
            .await
            .map(|(pid, program)| Well(format!("{port} (local server) is held by {program}, pid {pid}"))),
        None => None,
    };
    std::iter::once(gateway).chain(held).collect()
}

async fn agents(launchctl: &Launchctl) -> Vec<Finding> {
    if !launchctl.is_there() {
        return vec![Well("there is no launchd here".to_owned())];
    }
    let mut findings = Vec::new();
    for agent in Agent::ALL {
        let label = agent.label();
        let about = |state: &AgentState| format!("{label}: {state}");
        findings.push(match launchctl.state(label).await {
            Err(error) => Broken(format!("{label}: {error}"), error.remedy().unwrap_or_default().to_owned()),
            Ok(state @ (AgentState::Running { .. } | AgentState::Stopping { .. })) => Well(about(&state)),
            Ok(AgentState::NotLoaded) => Odd(
                about(&AgentState::NotLoaded),
                format!(
                    "If it is to run: `bifrost service install --agent {}`, or services.bifrost in Nix.",
                    agent.name()
                ),
            ),
            Ok(state) if state.is_stopped_by_wish() => {
                Odd(about(&state), format!("It was stopped. `launchctl start {label}` starts it again."))
            }
            Ok(state) => Broken(
                about(&state),
                format!("`bifrost service logs --agent {}` says why; then `launchctl start {label}`.", agent.name()),
            ),
        });
    }
    findings
}

async fn local_server(snapshot: &Snapshot) -> Vec<Finding> {
    let Some(url) = mlx_url(snapshot) else {
        return vec![Well("the provider mlx-local is switched off".to_owned())];
    };
    let Some(client) = http_client(&url).filter(|_| provider::is_loopback(&url)) else {
        return vec![Broken(
            format!("{url} is not on this machine"),
            "Give [providers.mlx-local] a loopback base_url.".to_owned(),
        )];
    };
    let start = "Start it: `launchctl start dev.bifrost.vllm-mlx`, or your own vllm-mlx or llama-swap.".to_owned();
    let Some((status, models)) = get(&client, &format!("{url}/v1/models")).await else {
        return vec![Broken(format!("nothing answers at {url} within {} s", SHORT.as_secs()), start)];
    };
    if !status.is_success() {
        return vec![Odd(
            format!("{url}/v1/models is answered with {status}"),
            "If it loads a model or has too much to do, wait.".to_owned(),
        )];
    }
    let good = |path: &str| {
        let (client, url) = (client.clone(), format!("{url}{path}"));
        async move { get(&client, &url).await.filter(|(status, _)| status.is_success()).map(|(_, body)| body) }
    };
    let (health, running, status) = (good("/health").await, good("/running").await, good("/v1/status").await);
    let bodies = Bodies {
        health: health.as_deref(),
        models: Some(&models),
        running: running.as_deref(),
        status: status.as_deref(),
        ..Bodies::default()
    };
    let server = LocalServer::read(&bodies);
    if server.own_ids().next().is_none() {
        let remedy = "Is it a model server? Start it with a model: `vllm-mlx serve <HuggingFace id> --port 11434`.";
        return vec![Broken(format!("what answers at {url} lists no model"), remedy.to_owned())];
    }
    let Some(model) = server.loaded_for_chat().next() else {
        let number = server.own_ids().count();
        return vec![Well(format!("{url} lists {number} models and tells of none for chat in memory"))];
    };
    vec![match token(&client, &url, model).await {
        Trial::Served => Well(format!("{model} at {url} gives tokens")),
        Trial::NotForChat => Well(format!("{model} is in memory at {url} and is no model for chat")),
        Trial::Busy => Odd(format!("{url} has too much to do"), "Wait, and try again.".to_owned()),
        Trial::TimedOut => {
            Broken(format!("{model} at {url} gives no token"), "Its log says more; restart it.".to_owned())
        }
        Trial::Failed(reason) => {
            Broken(format!("{model} at {url}: {reason}"), "Its log says more; restart it.".to_owned())
        }
    }]
}

async fn token(client: &Client, url: &str, model: &str) -> Trial {
    let asked = client.post(format!("{url}/v1/chat/completions")).header("content-type", "application/json");
    let answer = match asked.body(proof::request(model)).timeout(PROOF).send().await {
        Ok(answer) => answer,
        Err(error) if error.is_timeout() => return Trial::TimedOut,
        Err(_) => return Trial::Failed("it broke off".to_owned()),
    };
    let status = answer.status().as_u16();
    match answer.bytes().await {
        Ok(body) => proof::read(status, &body),
        Err(_) => Trial::TimedOut,
    }
}

fn folders(inputs: &Inputs, has_launchd: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let logs = inputs.paths.home.as_deref().map(log_folder).filter(|_| has_launchd);
    for (what, folder) in [("logs", logs), ("state", inputs.paths.state.clone())] {
        let Some(folder) = folder else { continue };
        findings.push(match writable(&folder) {
            Ok(()) => Well(format!("{what}: {}", folder.display())),
            // The gateway makes its state folder; launchd makes no folder for its logs, and the job then fails with 78.
            Err(error) if error.kind() == io::ErrorKind::NotFound && what == "state" => {
                Well(format!("{what}: {} will be made", folder.display()))
            }
            Err(error) => Broken(
                format!("{what}: {}: {error}", folder.display()),
                format!("`mkdir -p '{0}' && chmod u+rwx '{0}'`", folder.display()),
            ),
        });
    }
    if findings.is_empty() {
        findings.push(Odd("there is no home folder".to_owned(), "Set HOME.".to_owned()));
    }
    findings
}

fn writable(folder: &Path) -> io::Result<()> {
    fs::metadata(folder)?;
    let probe = folder.join(format!(".bifrost-doctor.{}", std::process::id()));
    fs::write(&probe, b"")?;
    fs::remove_file(probe)
}

fn clock(now: SystemTime) -> Finding {
    let seconds = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    if seconds >= EARLIEST {
        return Well("plausible".to_owned());
    }
    let remedy =
        "Set it (System Settings > General > Date & Time): certificates of the cloud are not valid yet for this one.";
    Broken("the machine's clock stands before 2026".to_owned(), remedy.to_owned())
}

fn http_client(url: &str) -> Option<Client> {
    client::http_client(&Url::parse(url).ok()?, Deadlines::LOCAL.connect).ok()
}

async fn get(client: &Client, url: &str) -> Option<(StatusCode, Bytes)> {
    let answer = client.get(url).timeout(SHORT.max(Deadlines::LOCAL.connect)).send().await.ok()?;
    Some((answer.status(), answer.bytes().await.ok()?))
}

fn mlx_url(snapshot: &Snapshot) -> Option<String> {
    let provider = snapshot.providers.iter().find(|provider| &*provider.name == MLX_LOCAL)?;
    Some(provider.endpoints.first()?.base_url().to_owned())
}

fn port_of(url: &str) -> Option<u16> {
    Url::parse(url).ok()?.port_or_known_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_the_last_century_is_broken() {
        assert!(matches!(clock(UNIX_EPOCH), Broken(..)));
        assert!(matches!(clock(UNIX_EPOCH + Duration::from_secs(EARLIEST)), Well(_)));
    }

    #[test]
    fn a_folder_that_is_not_there_is_not_writable() {
        let folder = tempfile::tempdir().unwrap();
        assert!(writable(folder.path()).is_ok());
        assert!(writable(&folder.path().join("no")).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it leaves nothing behind");
    }
}
