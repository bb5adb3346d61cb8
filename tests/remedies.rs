//! What the gateway does to the LaunchAgent of a server that is down, to the call: one remedy at a time, none for what
//! its user stopped, none for what is somebody else's.
//!
//! The times are those of `Pace`: a remedy after 30 s, the next 90 s later. So these tests take most of a minute.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![allow(dead_code)] // what other tests need of the gateway

mod support {
    pub mod gateway;
}

use serde_json::{Value, json};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};
use support::gateway::Gateway;
use tempfile::TempDir;

const OURS: &str = "dev.bifrost.vllm-mlx";
/// launchd is asked every 5 s; after so many answers more than 30 s are over.
const LONGER_THAN_THE_GRACE: usize = 8;
/// Generous: for the grace of 30 s and what follows on a busy machine.
const PATIENCE: Duration = Duration::from_secs(80);

/// A gateway whose local server's port is closed, over a `launchctl` that knows one agent and writes down every call.
/// Nothing that it is told changes the agent.
struct Mac {
    gateway: Gateway,
    folder: TempDir,
}

impl Mac {
    fn new(label: &str, last_exit: u8) -> Self {
        Self::with(label, last_exit, "")
    }

    /// `first`: what the shell does before each call is answered.
    fn with(label: &str, last_exit: u8, first: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let launchctl = folder.path().join("launchctl");
        let script = format!(
            "#!/bin/sh\necho \"$*\" >> \"$(dirname \"$0\")/calls\"\n{first}\ncase $1 in\n\
             list) printf 'PID\\tStatus\\tLabel\\n-\\t{last_exit}\\t{label}\\n';;\n\
             print) printf 'x = {{\\n\\tstate = not running\\n\\tlast exit code = {last_exit}\\n}}\\n';;\nesac\n"
        );
        fs::write(&launchctl, script).unwrap();
        fs::set_permissions(&launchctl, fs::Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!("[providers.mlx-local]\nbase_url = \"http://127.0.0.1:{port}\"\n");
        let gateway = Gateway::start_with(&config, &[("BIFROST_LAUNCHCTL", text(&launchctl))], &[]);
        Self { gateway, folder }
    }

    /// The calls so far: the questions among them, and what launchd was told to do.
    fn calls(&self) -> (usize, Vec<String>) {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        let (asked, told): (Vec<&str>, Vec<&str>) =
            calls.lines().filter(|call| *call != "list").partition(|call| call.starts_with("print "));
        (asked.len(), told.into_iter().map(str::to_owned).collect())
    }

    /// Waits for calls such as these, and gives them.
    async fn until(&self, what: &str, seen: impl Fn(usize, &[String]) -> bool) -> (usize, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (asked, told) = self.calls();
            if seen(asked, &told) {
                return (asked, told);
            }
            assert!(Instant::now() < deadline, "in vain: {what}: {asked} {told:?}\n{}", self.gateway.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn state(&self) -> Value {
        let health = self.gateway.get("/health").send().await.unwrap().bytes().await.unwrap();
        serde_json::from_slice::<Value>(&health).unwrap()["local_server"].clone()
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn our_agent_that_crashed_is_kickstarted_once_and_then_given_time() {
    let mac = Mac::new(OURS, 1);
    let began = Instant::now();
    let (asked, told) = mac.until("a remedy", |_, told| !told.is_empty()).await;
    assert!(began.elapsed() > Duration::from_secs(25), "launchd restarts what crashes by itself, and is given time");
    let user = nix::unistd::getuid();
    assert_eq!(told, [format!("kickstart -k gui/{user}/{OURS}")]);
    // It is looked at again and again, and is as bad as before.
    let (_, told) = mac.until("three more looks", |now, _| now >= asked + 3).await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(mac.state().await["supervisor"], "down");
    assert!(mac.gateway.log().contains("its agent is restarted"), "{}", mac.gateway.log());
}

#[tokio::test]
async fn our_agent_that_its_user_stopped_is_held_and_left_alone() {
    let mac = Mac::new(OURS, 0);
    let (_, told) = mac.until("many looks", |asked, _| asked >= LONGER_THAN_THE_GRACE).await;
    assert_eq!(told, [""; 0]);
    let state = mac.state().await;
    assert_eq!(state["supervisor"], "held", "{state}");
    assert!(mac.gateway.log().contains("stopped by user"), "{}", mac.gateway.log());
}

#[tokio::test]
async fn an_agent_of_somebody_else_is_reported_and_left_alone() {
    let mac = Mac::new("dev.vllm-mlx.server", 1);
    let (_, told) = mac.until("many looks", |asked, _| asked >= LONGER_THAN_THE_GRACE).await;
    assert_eq!(told, [""; 0]);
    let state = mac.state().await;
    assert_eq!(state["supervisor"], "down", "{state}");
}

/// What it learned waited for its own look around, which it did not drive meanwhile: neither ever ended.
#[tokio::test]
async fn a_request_that_fails_while_launchd_is_asked_does_not_stop_the_supervisor() {
    let mac = Mac::with(OURS, 1, "while [ ! -e \"$(dirname \"$0\")/answer\" ]; do sleep 0.02; done");
    mac.until("a look", |_, _| mac.folder.path().join("calls").exists()).await;
    let body = json!({"model": "mlx-local/org/tiny", "messages": [{"role": "user", "content": "hi"}]});
    let answer = mac.gateway.post("/v1/chat/completions", &body).send().await.unwrap();
    assert!(answer.status().is_server_error(), "{}", answer.text().await.unwrap());
    fs::write(mac.folder.path().join("answer"), "").unwrap();
    mac.until("three looks", |asked, _| asked >= 3).await;
    assert_eq!(mac.state().await["supervisor"], "down");
}
