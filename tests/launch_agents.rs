//! The LaunchAgents: the plists are those of the Nix modules, and `bifrost service` does to launchd what it says.
//!
//! launchd itself is of macOS. `BIFROST_MAC_TOOLS` names a folder with `fake_launchd.py`, which stands in for it; without
//! that the tests that need it say that they are skipped.

mod support {
    pub mod until;
}

use assert_cmd::Command;
use bifrost::local::agents::{Agent, ModelServer, Setup};
use plist::{Dictionary, Value};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use support::until::until;
use tempfile::TempDir;

const BIFROST: &str = "/nix/store/bifrost/bin/bifrost";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn dictionary(plist: &[u8]) -> Dictionary {
    plist::from_bytes(plist).unwrap()
}

/// A plist of the Nix modules without the wait for the store.
fn golden(case: &str, agent: Agent) -> Dictionary {
    let path = root().join(format!("nix/tests/golden/{case}/{}.plist", agent.label()));
    let mut keys = dictionary(&fs::read(path).unwrap());
    let words = keys.get("ProgramArguments").unwrap().as_array().unwrap();
    let script = words[2].as_string().unwrap().strip_prefix("/bin/wait4path /nix/store && exec ").unwrap();
    let words = shell_words(script).into_iter().map(Value::String).collect();
    keys.insert("ProgramArguments".to_owned(), Value::Array(words));
    keys
}

/// The words of a command as a shell reads them: quotes are single ones, and `\` stands before one outside of them.
fn shell_words(script: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut letters = script.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => quoted = !quoted,
            '\\' if !quoted => words.last_mut().unwrap().extend(letters.next()),
            ' ' if !quoted => words.push(String::new()),
            letter => words.last_mut().unwrap().push(letter),
        }
    }
    words
}

fn setup(config: &str) -> Setup {
    Setup {
        bifrost: BIFROST.into(),
        config: config.into(),
        logs: "/Users/ada/Library/Logs/bifrost".into(),
        env_files: Vec::new(),
        server: ModelServer {
            command: ["/nix/store/uv/bin/uvx", "--from", "vllm-mlx==0.6.0", "vllm-mlx"].map(str::to_owned).to_vec(),
            model: "default".to_owned(),
            port: 11434,
            memory_reserve_gb: 8,
            hugging_face_home: None,
            arguments: Vec::new(),
        },
    }
}

#[test]
fn the_plists_are_those_of_the_nix_modules() {
    for (module, config) in
        [("home-manager", "/Users/ada/.config/bifrost/config.toml"), ("nix-darwin", "/etc/bifrost/config.toml")]
    {
        let made = |setup: &Setup, agent| dictionary(&setup.plist(agent).unwrap());
        let small = setup(config);
        for agent in Agent::ALL {
            assert_eq!(made(&small, agent), golden(&format!("{module}/small"), agent));
        }
        assert_eq!(made(&small, Agent::Gateway), golden(&format!("{module}/gateway-only"), Agent::Gateway));
        let mut own_model = setup(config);
        own_model.server.model = "/Users/ada/models/mine".to_owned();
        assert_eq!(made(&own_model, Agent::VllmMlx), golden(&format!("{module}/keep-warm"), Agent::VllmMlx));

        let mut full = setup(config);
        full.logs = "/Users/ada/Library/Logs/AI & <more>".into();
        full.env_files = vec!["/Users/ada/.config/bifrost/Ada's keys.env".into()];
        full.server = ModelServer {
            command: vec!["/opt/homebrew/bin/vllm-mlx".to_owned()],
            model: "mlx-community/Qwen3-8B-4bit".to_owned(),
            port: 11436,
            memory_reserve_gb: 20,
            hugging_face_home: Some("/Volumes/Hugging Face".into()),
            arguments: ["--tool-call-parser", "hermes"].map(str::to_owned).to_vec(),
        };
        assert_eq!(made(&full, Agent::VllmMlx), golden(&format!("{module}/full"), Agent::VllmMlx));
        // Nix declares address and mode once more in the plist; by hand they stand in the file alone.
        let mut gateway = golden(&format!("{module}/full"), Agent::Gateway);
        gateway.remove("EnvironmentVariables").unwrap();
        let words = gateway.get_mut("ProgramArguments").unwrap().as_array_mut().unwrap();
        assert_eq!(words.pop(), Some(Value::String("--local".to_owned())));
        assert_eq!(made(&full, Agent::Gateway), gateway);
    }
}

/// `launchd/` is what `bifrost service print` says for a user `you`; `UPDATE_PLISTS=1` writes it anew.
#[test]
fn the_plists_for_people_without_nix_are_up_to_date() {
    for agent in Agent::ALL {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("bifrost"));
        command.env_clear().env("HOME", "/Users/you").args(["service", "print", "--agent", agent.name()]);
        command.args(["--program", "/opt/homebrew/bin/bifrost", "--model", "mlx-community/Qwen3-8B-4bit"]);
        command.args(["--", "/opt/homebrew/bin/uvx", "--from", "vllm-mlx==0.6.0", "vllm-mlx"]);
        let printed = command.assert().code(0).get_output().stdout.clone();
        let path = root().join(format!("launchd/{}.plist", agent.label()));
        if std::env::var_os("UPDATE_PLISTS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &printed).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        let test = "UPDATE_PLISTS=1 cargo test --test launch_agents";
        assert!(written.as_bytes() == printed, "{} is out of date: run {test}", path.display());
        assert!(!written.contains("/nix/store"));
    }
}

/// A Mac: launchd's stand-in with a home folder and two servers that listen on nothing.
struct Mac {
    folder: TempDir,
    launchd: Child,
    variables: Vec<(&'static str, String)>,
}

impl Drop for Mac {
    fn drop(&mut self) {
        // A supervisor that launchd kills leaves its server to the next one; here there is none.
        let _ = self.service(&["uninstall"]);
        let pid = nix::unistd::Pid::from_raw(self.launchd.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.launchd.wait();
    }
}

impl Mac {
    fn new(macos: &str) -> Option<Self> {
        let Ok(tools) = std::env::var("BIFROST_MAC_TOOLS") else {
            eprintln!("skipped: BIFROST_MAC_TOOLS is not set");
            return None;
        };
        let folder = TempDir::new().unwrap();
        let state = folder.path().join("launchd");
        let home = folder.path().join("home");
        fs::create_dir_all(home.join("models/tiny")).unwrap();
        fs::create_dir_all(home.join(".config/bifrost")).unwrap();
        fs::write(home.join("models/tiny/model.safetensors"), [0; 9]).unwrap();
        let double = Path::new(&tools).join("fake_launchd.py");
        let launchctl = folder.path().join("launchctl");
        symlink(&double, &launchctl).unwrap();
        let variables = vec![
            ("HOME", home.display().to_string()),
            ("FAKE_HOME", home.display().to_string()),
            ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin".to_owned()),
            ("FAKE_LAUNCHD_DIR", state.display().to_string()),
            ("FAKE_LAUNCHD_SCALE", "0.05".to_owned()),
            ("FAKE_MACOS", macos.to_owned()),
            ("BIFROST_LAUNCHCTL", launchctl.display().to_string()),
        ];
        let launchd = std::process::Command::new("python3")
            .arg(&double)
            .arg("serve")
            .arg(&state)
            .env_clear()
            .envs(variables.iter().cloned())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mac = Self { folder, launchd, variables };
        until("launchd", || state.join("sock").exists().then_some(()));
        // A port of its own for the gateway, and one for the model server.
        let config = format!(
            "[server]\nport = {}\nshutdown_grace = \"0s\"\n[providers.mlx-local]\nbase_url = \"http://127.0.0.1:{}\"\n",
            free_port(),
            free_port()
        );
        fs::write(mac.home().join(".config/bifrost/config.toml"), config).unwrap();
        Some(mac)
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn plist(&self, agent: Agent) -> PathBuf {
        agent.plist_path(&self.home())
    }

    /// `bifrost service ...`: exit code, standard output and standard error.
    fn service(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("bifrost"));
        command.env_clear().envs(self.variables.iter().cloned()).arg("service").args(arguments);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    /// The same, which must succeed; gives what it printed.
    fn well(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.service(arguments);
        assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}: {out}");
        out
    }

    /// Installs both with a server that sleeps.
    fn install(&self, more: &[&str]) -> String {
        let model = self.home().join("models/tiny").display().to_string();
        let server = ["--memory-reserve-gb", "0", "--", "/bin/sh", "-c", "exec sleep 1000"];
        self.well(&[&["install", "--model", &model], more, &server].concat())
    }

    /// What `service status --json` says of an agent.
    fn status(&self, agent: Agent) -> serde_json::Value {
        let (_, out, err) = self.service(&["status", "--json"]);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
        report["agents"].as_array().unwrap().iter().find(|it| it["label"] == agent.label()).unwrap().clone()
    }

    /// Waits until an agent is in a state, and gives its process.
    fn is(&self, agent: Agent, state: &str) -> Option<i64> {
        until(state, || {
            let status = self.status(agent);
            (status["state"] == state).then(|| status["pid"].as_i64())
        })
    }

    /// Waits until the log of an agent tells of so many starts: from then on a signal finds somebody who listens for it.
    fn has_begun(&self, agent: Agent, times: usize) {
        let word = match agent {
            Agent::Gateway => "listening on http://127.0.0.1:",
            Agent::VllmMlx => "started /bin/sh",
        };
        let log = || self.service(&["logs", "--agent", agent.name()]).1;
        until(word, || (log().matches(word).count() >= times).then_some(()));
    }

    fn kill(&self, pid: i64) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn on_both(test: impl Fn(&Mac)) {
    for macos in ["15", "26"] {
        if let Some(mac) = Mac::new(macos) {
            test(&mac);
        }
    }
}

#[test]
fn both_agents_are_installed_once_and_removed_once() {
    on_both(|mac| {
        let told = mac.install(&[]);
        assert!(told.contains("dev.bifrost.gateway: installed (running pid "), "{told}");
        assert!(told.contains("dev.bifrost.vllm-mlx: installed (running pid "), "{told}");
        let pids = Agent::ALL.map(|agent| mac.is(agent, "running"));
        let again = mac.install(&[]);
        assert_eq!(again.matches(": nothing to do (running pid ").count(), 2, "{again}");
        assert_eq!(Agent::ALL.map(|agent| mac.is(agent, "running")), pids, "the same processes as before");
        for agent in Agent::ALL {
            let mode = fs::metadata(mac.plist(agent)).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode & 0o133, 0, "{mode:o}");
        }
        let table = mac.well(&["status"]);
        assert!(table.contains("dev.bifrost.gateway   running pid "), "{table}");
        let told = mac.well(&["uninstall"]);
        assert_eq!(told.matches(": uninstalled (not loaded)").count(), 2, "{told}");
        assert!(Agent::ALL.iter().all(|agent| !mac.plist(*agent).exists()));
        assert_eq!(mac.well(&["uninstall"]).matches(": nothing to do (not loaded)").count(), 2);
        assert!(mac.home().join("Library/Logs/bifrost/gateway.log").exists(), "logs stay");
    });
}

#[test]
fn what_was_stopped_stays_stopped_and_is_started_again() {
    on_both(|mac| {
        mac.install(&[]);
        for agent in Agent::ALL {
            let name = agent.name();
            let first = mac.is(agent, "running");
            let told = mac.well(&["stop", "--agent", name]);
            assert_eq!(told, format!("{}: stopped (loaded, not running, last exit 0)\n", agent.label()));
            assert_eq!(mac.well(&["stop", "--agent", name]).matches("nothing to do").count(), 1);
            // Had launchd a start in mind, it would be `throttled`.
            assert_eq!(mac.status(agent)["state"], "not_running");
            assert_eq!(mac.service(&["status", "--agent", name]).0, 1);
            let told = mac.well(&["start", "--agent", name]);
            assert!(told.contains(": started (running pid "), "{told}");
            let second = mac.is(agent, "running");
            assert_ne!(second, first);
            assert!(mac.well(&["start", "--agent", name]).contains(": nothing to do (running pid "));
            let told = mac.well(&["restart", "--agent", name]);
            assert!(told.contains(": restarted (running pid "), "{told}");
            assert_ne!(mac.is(agent, "running"), second);
        }
    });
}

#[test]
fn without_a_name_both_agents_are_meant_and_with_one_only_that() {
    on_both(|mac| {
        mac.install(&[]);
        let first = Agent::ALL.map(|agent| mac.is(agent, "running"));
        Agent::ALL.into_iter().for_each(|agent| mac.has_begun(agent, 1));
        assert_eq!(mac.well(&["stop"]).matches(": stopped (loaded, not running, last exit 0)").count(), 2);
        assert_eq!(Agent::ALL.map(|agent| mac.status(agent)["state"].clone()), ["not_running", "not_running"]);
        assert_eq!(mac.well(&["start"]).matches(": started (running pid ").count(), 2);
        let second = Agent::ALL.map(|agent| mac.is(agent, "running"));
        assert!(first.iter().zip(&second).all(|(first, second)| first != second), "{first:?} {second:?}");
        let told = mac.well(&["uninstall", "--agent", "vllm-mlx"]);
        assert_eq!(told, "dev.bifrost.vllm-mlx: uninstalled (not loaded)\n");
        assert!(!mac.plist(Agent::VllmMlx).exists());
        assert_eq!(mac.is(Agent::Gateway, "running"), second[0], "the other is as it was");
        assert_eq!(mac.service(&["start", "--agent", "vllm-mlx"]).0, 6, "what is not installed is not started");
    });
}

#[test]
fn what_crashes_is_throttled_and_comes_back_and_can_be_stopped_in_between() {
    on_both(|mac| {
        mac.install(&[]);
        let agent = Agent::VllmMlx;
        let first = mac.is(agent, "running").unwrap();
        mac.kill(first);
        let status = until("throttled", || {
            let status = mac.status(agent);
            (status["state"] == "throttled").then_some(status)
        });
        assert_eq!(status["last_exit"], "last killed by signal 9");
        let second = mac.is(agent, "running").unwrap();
        assert_ne!(second, first);
        mac.kill(second);
        mac.is(agent, "throttled");
        let told = mac.well(&["stop", "--agent", "vllm-mlx"]);
        assert!(told.contains("vllm-mlx: stopped ("), "{told}");
        assert!(["not_loaded", "not_running"].contains(&mac.status(agent)["state"].as_str().unwrap()));
        mac.well(&["start", "--agent", "vllm-mlx"]);
        mac.is(agent, "running");
    });
}

/// Its throttle is too short here to be seen for certain.
#[test]
fn a_gateway_that_crashes_comes_back_and_can_be_stopped() {
    on_both(|mac| {
        mac.install(&["--agent", "gateway"]);
        let first = mac.is(Agent::Gateway, "running").unwrap();
        mac.has_begun(Agent::Gateway, 1);
        mac.kill(first);
        until("another process", || {
            let status = mac.status(Agent::Gateway);
            (status["state"] == "running" && status["pid"] != first).then_some(())
        });
        mac.has_begun(Agent::Gateway, 2);
        let told = mac.well(&["stop", "--agent", "gateway"]);
        assert_eq!(told, "dev.bifrost.gateway: stopped (loaded, not running, last exit 0)\n");
        assert_eq!(mac.status(Agent::Gateway)["state"], "not_running");
        assert_eq!(mac.status(Agent::VllmMlx)["state"], "not_loaded");
    });
}

#[test]
fn a_change_of_the_plist_loads_the_agent_anew() {
    on_both(|mac| {
        mac.install(&[]);
        let before = Agent::ALL.map(|agent| mac.is(agent, "running"));
        let told = mac.install(&["--server-argument", "--enable-auto-tool-choice"]);
        assert!(told.contains("dev.bifrost.gateway: nothing to do"), "{told}");
        assert!(told.contains("dev.bifrost.vllm-mlx: installed anew (running pid "), "{told}");
        assert_eq!(mac.is(Agent::Gateway, "running"), before[0]);
        assert_ne!(mac.is(Agent::VllmMlx, "running"), before[1]);
        let plist = fs::read_to_string(mac.plist(Agent::VllmMlx)).unwrap();
        assert!(plist.contains("<string>--enable-auto-tool-choice</string>"), "{plist}");
    });
}

#[test]
fn what_nix_owns_is_left_alone() {
    let Some(mac) = Mac::new("26") else { return };
    let golden = root().join("nix/tests/golden/home-manager/small/dev.bifrost.gateway.plist");
    let plist = mac.plist(Agent::Gateway);
    fs::create_dir_all(plist.parent().unwrap()).unwrap();
    fs::copy(&golden, &plist).unwrap();
    for (command, hint) in [
        (&["install", "--agent", "gateway"][..], "change services.bifrost in your Nix configuration"),
        (&["uninstall", "--agent", "gateway"], "change services.bifrost in your Nix configuration"),
        (&["stop", "--agent", "gateway"], "launchctl stop dev.bifrost.gateway"),
    ] {
        let (code, out, err) = mac.service(command);
        assert_eq!((code, out.as_str()), (5, ""), "{err}");
        assert!(err.contains("error: dev.bifrost.gateway belongs to Nix (") && err.contains(hint), "{err}");
    }
    assert_eq!(fs::read(&plist).unwrap(), fs::read(&golden).unwrap());
    assert_eq!(mac.status(Agent::Gateway)["owner"], "nix");
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let Some(mac) = Mac::new("26") else { return };
    let (code, _, err) = mac.service(&["start", "--agent", "gateway"]);
    assert_eq!(code, 6);
    assert!(err.contains("dev.bifrost.gateway is not installed") && err.contains("service install --agent gateway"));
    let (code, out, err) = mac.service(&["install", "--", "/bin/sh"]);
    assert_eq!((code, out.as_str()), (5, ""));
    assert!(err.contains("the model `default` is the name of a role"), "{err}");
    assert!(!mac.plist(Agent::Gateway).exists(), "all or nothing");
    let (code, _, err) = mac.service(&["install", "--model", "org/m", "--", "no-such-program"]);
    assert_eq!(code, 5);
    assert!(err.contains("`no-such-program`, which runs vllm-mlx, is not found"), "{err}");
    let (code, _, err) = mac.service(&["logs"]);
    assert_eq!(code, 6, "{err}");
}

#[test]
fn logs_of_the_agents_are_shown() {
    let Some(mac) = Mac::new("26") else { return };
    mac.install(&[]);
    Agent::ALL.into_iter().for_each(|agent| mac.has_begun(agent, 1));
}

#[test]
fn without_launchd_it_says_so() {
    let home = TempDir::new().unwrap();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("bifrost"));
    command.env_clear().env("HOME", home.path()).env("BIFROST_LAUNCHCTL", "/nowhere/launchctl");
    let output = command.args(["service", "status"]).assert().code(5).get_output().stderr.clone();
    assert!(String::from_utf8(output).unwrap().starts_with("error: there is no launchd here"));
}
