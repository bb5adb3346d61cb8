//! `bifrost supervise` as launchd runs it: the real program over servers that do what servers do.

mod support {
    pub mod until;
}

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use support::until::until;
use sysinfo::{ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System};
use tempfile::TempDir;

/// Generous: how long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A home folder with a configuration, a model of a few bytes, and a port.
struct Place {
    home: TempDir,
    port: u16,
    model: String,
}

impl Place {
    fn new(config: &str) -> Self {
        let home = TempDir::new().unwrap();
        fs::create_dir_all(home.path().join(".config/bifrost")).unwrap();
        fs::write(home.path().join(".config/bifrost/config.toml"), config).unwrap();
        let model = home.path().join("models/tiny");
        fs::create_dir_all(&model).unwrap();
        fs::write(model.join("model.safetensors"), [0; 64]).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { port, model: model.display().to_string(), home }
    }

    fn log(&self) -> PathBuf {
        self.home.path().join("logs/vllm-mlx.log")
    }

    fn logged(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn run(&self, server: &[&str]) -> Supervisor {
        self.run_with(&["--model", &self.model], server)
    }

    /// A script of the shell as the server.
    fn shell(&self, script: &str) -> Supervisor {
        self.run(&["/bin/sh", "-c", script])
    }

    fn run_with(&self, options: &[&str], server: &[&str]) -> Supervisor {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bifrost"))
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .args(["supervise", "--port", &self.port.to_string(), "--log"])
            .arg(self.log())
            .args(options)
            .arg("--")
            .args(server)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, heard) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        Supervisor { child, heard, said: String::new() }
    }
}

struct Supervisor {
    child: Child,
    heard: Receiver<String>,
    said: String,
}

impl Supervisor {
    /// Waits until it says `words`.
    fn says(&mut self, words: &str) -> &mut Self {
        let deadline = Instant::now() + PATIENCE;
        while !self.said.contains(words) {
            match self.heard.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.said.push_str(&format!("{line}\n")),
                Err(error) => panic!("{error} before `{words}`:\n{}", self.said),
            }
        }
        self
    }

    /// The process id of the server.
    fn server(&mut self) -> i32 {
        self.says("started ");
        let (_, after) = self.said.split_once(" as process ").unwrap();
        after.lines().next().unwrap().parse().unwrap()
    }

    fn signal(&mut self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    /// Waits for its end: exit code, and everything it said.
    fn ends(mut self) -> (Option<i32>, String) {
        let status = until("the supervisor ends", || self.child.try_wait().unwrap());
        self.said.extend(self.heard.iter().map(|line| format!("{line}\n")));
        (ExitStatus::code(&status), std::mem::take(&mut self.said))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_alive(pid: i32) -> bool {
    let mut system = System::new();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, ProcessRefreshKind::nothing());
    let process = system.process(sysinfo::Pid::from_u32(pid.cast_unsigned()));
    process.is_some_and(|process| !matches!(process.status(), ProcessStatus::Zombie | ProcessStatus::Dead))
}

/// The number after `word` in the log.
fn number(place: &Place, word: &str) -> i32 {
    until(word, || {
        let log = place.logged();
        let (_, after) = log.split_once(word)?;
        after.split_once('\n')?.0.trim().parse().ok()
    })
}

#[test]
fn a_stop_that_was_asked_for_is_exit_0_though_the_server_dies_by_the_signal() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let place = Place::new("");
        let mut supervisor = place.run(&["/bin/sleep", "1000"]);
        let server = supervisor.server();
        supervisor.signal(signal);
        let (code, said) = supervisor.ends();
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&format!("the server ended as asked (signal {})", signal as i32)), "{said}");
        assert!(!is_alive(server));
        assert!(
            !place.home.path().join(".local/state/bifrost").join(format!("supervise-{}.json", place.port)).exists()
        );
    }
}

#[test]
fn a_server_that_ends_by_itself_is_a_failure_whatever_its_code() {
    for (script, how) in [("exit 0", "exit 0"), ("exit 7", "exit 7"), ("kill -9 $$", "signal 9")] {
        let (code, said) = Place::new("").shell(script).ends();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&format!("error: the server ended by itself: {how}; see ")), "{said}");
    }
}

const DEAF_GRANDCHILD: &str =
    "sh -c 'trap \"\" TERM; echo grandchild $$; while :; do sleep 1; done' & echo child $$; wait";

#[test]
fn grandchildren_that_do_not_listen_are_killed_with_the_group() {
    let place = Place::new("");
    let mut supervisor = place.shell(DEAF_GRANDCHILD);
    let grandchild = number(&place, "grandchild ");
    supervisor.signal(Signal::SIGTERM);
    let (code, said) = supervisor.ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(!is_alive(grandchild));

    let supervisor = place.shell(&DEAF_GRANDCHILD.replace("; wait", "; sleep 0.1; kill -9 $$"));
    let (code, _) = supervisor.ends();
    let second = place.logged().rsplit_once("grandchild ").unwrap().1.lines().next().unwrap().parse().unwrap();
    assert_eq!(code, Some(1));
    assert_ne!(second, grandchild);
    assert!(!is_alive(second), "the server was killed, its child must not hold the port");
}

#[test]
fn who_asks_twice_means_it() {
    let place = Place::new("");
    let mut supervisor = place.shell("trap '' TERM; echo deaf; while :; do sleep 0.05; done");
    until("deaf", || place.logged().contains("deaf").then_some(()));
    supervisor.signal(Signal::SIGTERM);
    supervisor.says("telling the server").signal(Signal::SIGTERM);
    let (code, said) = supervisor.ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ended as asked (signal 9)"), "{said}");
}

#[test]
fn other_signals_are_passed_on() {
    let place = Place::new("");
    let mut supervisor = place.shell("trap 'echo heard' USR1; echo ready; while :; do sleep 0.05; done");
    until("ready", || place.logged().contains("ready").then_some(()));
    supervisor.signal(Signal::SIGUSR1);
    until("heard", || place.logged().contains("heard").then_some(()));
    supervisor.signal(Signal::SIGTERM);
    assert_eq!(supervisor.ends().0, Some(0));
}

#[test]
fn a_taken_port_is_said_and_left_alone() {
    let place = Place::new("");
    let other = TcpListener::bind(("127.0.0.1", place.port)).unwrap();
    let (code, said) = place.shell("echo started").ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("error: not started: port {} is taken by another program", place.port)), "{said}");
    assert!(said.contains("hint: see which: lsof "), "{said}");
    assert_eq!(place.logged(), "");
    drop(other);
}

#[test]
fn a_port_that_becomes_free_is_waited_for() {
    let place = Place::new("");
    let other = TcpListener::bind(("127.0.0.1", place.port)).unwrap();
    let mut supervisor = place.run(&["/bin/sleep", "1000"]);
    supervisor.says("is taken; waiting");
    drop(other);
    supervisor.says("started ").signal(Signal::SIGTERM);
    assert_eq!(supervisor.ends().0, Some(0));
}

#[test]
fn a_stop_while_the_port_is_waited_for_is_a_stop() {
    let place = Place::new("");
    let other = TcpListener::bind(("127.0.0.1", place.port)).unwrap();
    let mut supervisor = place.run(&["/bin/sleep", "1000"]);
    supervisor.says("is taken; waiting").signal(Signal::SIGTERM);
    let (code, said) = supervisor.ends();
    assert_eq!(code, Some(0));
    assert!(!said.contains("not started"), "{said}");
    drop(other);
}

#[test]
fn a_model_that_does_not_fit_is_not_started() {
    let place = Place::new("");
    let options = ["--model", &place.model, "--memory-reserve-gb", "4000000000"];
    let (code, said) = place.run_with(&options, &["/bin/sleep", "1000"]).ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("error: not started: ") && said.contains("does not fit: it has 0.0 GiB on disk"), "{said}");
    assert!(said.contains("launchctl start dev.bifrost.vllm-mlx"), "{said}");
}

#[test]
fn the_server_hears_of_the_model_and_of_local_only_mode() {
    let script = ["/bin/sh", "-c", "echo \"$1 offline=$HF_HUB_OFFLINE,$UV_OFFLINE\"; echo {model}", "x", "{model}"];
    let place = Place::new("");
    place.run(&script).ends();
    assert_eq!(
        place.logged(),
        format!("{} offline=,\n{{model}}\n", place.model),
        "only the whole argument is replaced"
    );
    let declared = Place::new("localOnlyMode = true");
    declared.run(&script).ends();
    assert!(declared.logged().contains("offline=1,1"), "{}", declared.logged());
    let switched = Place::new("");
    let state = switched.home.path().join(".local/state/bifrost");
    fs::create_dir_all(&state).unwrap();
    fs::write(state.join("local-only.json"), r#"{"local_only":true}"#).unwrap();
    switched.run(&script).ends();
    assert!(switched.logged().contains("offline=1,1"), "{}", switched.logged());
}

#[test]
fn in_local_only_mode_a_model_that_would_be_downloaded_is_not_started() {
    let place = Place::new("localOnlyMode = true");
    let (code, said) = place.run_with(&["--model", "org/absent"], &["/bin/sleep", "1000"]).ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("org/absent is not on this disk, and local-only mode forbids to download it"), "{said}");
}

#[test]
fn a_role_is_what_the_registry_says_at_the_start() {
    let place = Place::new("registry = \"~/registry.json\"");
    let script = ["/bin/echo", "{model}"];
    let registry = place.home.path().join("registry.json");
    let run = |role| place.run_with(&["--model", role], &script).ends();
    let (code, said) = run("default");
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("registry.json cannot be read"), "{said}");
    fs::write(&registry, r#"{"models": {"default": "mlx-local/org/one"}}"#).unwrap();
    run("default");
    fs::write(&registry, r#"{"models": {"default": "org/two-now"}}"#).unwrap();
    run("default");
    assert_eq!(place.logged(), "org/one\norg/two-now\n");
    let (code, said) = run("coding");
    assert_eq!(code, Some(6));
    assert!(said.contains("has no role `coding`"), "{said}");
    let (code, said) = Place::new("").run_with(&["--model", "default"], &script).ends();
    assert_eq!(code, Some(6));
    assert!(said.contains("names no `registry`"), "{said}");
}

#[test]
fn a_server_whose_supervisor_was_killed_is_ended_by_the_next_one() {
    let place = Place::new("");
    let record = place.home.path().join(".local/state/bifrost").join(format!("supervise-{}.json", place.port));
    let mut first = place.run(&["/bin/sleep", "1000"]);
    let orphan = first.server();
    until("the record", || record.exists().then_some(()));
    first.signal(Signal::SIGKILL);
    first.ends();
    assert!(is_alive(orphan), "nobody has told it");
    let mut second = place.run(&["/bin/sleep", "1000"]);
    second.says(&format!("ended process group {orphan}, which a killed supervisor had left behind"));
    assert!(!is_alive(orphan));
    second.says("started ").signal(Signal::SIGTERM);
    assert_eq!(second.ends().0, Some(0));
}

/// While it loads its model, a server does not hold its port: a second one would load the model once more.
#[test]
fn a_second_supervisor_on_a_port_is_refused_before_the_first_server_listens() {
    let place = Place::new("");
    let record = place.home.path().join(".local/state/bifrost").join(format!("supervise-{}.json", place.port));
    let mut first = place.run(&["/bin/sleep", "1000"]);
    let server = first.server();
    until("the record", || record.exists().then_some(()));
    let (code, said) = place.run(&["/bin/sleep", "1000"]).ends();
    assert_eq!(code, Some(0), "{said}");
    let by = first.child.id();
    assert!(said.contains(&format!("process {by} supervises a server on port {} already", place.port)), "{said}");
    assert!(is_alive(server));
    first.signal(Signal::SIGTERM);
    assert_eq!(first.ends().0, Some(0));
}

#[test]
fn a_record_of_another_boot_or_of_garbage_ends_nobody() {
    let place = Place::new("");
    let mut bystander = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
    let record = place.home.path().join(".local/state/bifrost").join(format!("supervise-{}.json", place.port));
    fs::create_dir_all(record.parent().unwrap()).unwrap();
    let pid = bystander.id();
    for text in [
        format!(r#"{{"supervisor":{{"pid":1,"started":1}},"leader":{{"pid":{pid},"started":1}},"booted":1}}"#),
        format!(
            r#"{{"supervisor":{{"pid":1,"started":1}},"leader":{{"pid":{pid},"started":1}},"booted":{}}}"#,
            System::boot_time()
        ),
        "{".to_owned(),
        format!(r#"{{"supervisor":{{"pid":0,"started":0}},"leader":{{"pid":-{pid},"started":0}},"booted":0}}"#),
    ] {
        fs::write(&record, text).unwrap();
        place.run(&["/bin/echo", "done"]).ends();
        assert!(bystander.try_wait().unwrap().is_none());
    }
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

#[test]
fn a_long_log_is_put_aside() {
    let place = Place::new("");
    place.shell("yes 0123456789abcde | head -c 12000000; echo last words >&2").ends();
    assert!(place.logged().ends_with("last words\n"));
    let aside = fs::metadata(place.home.path().join("logs/vllm-mlx.log.1")).unwrap().len();
    assert!((10_000_000..=10 * 1024 * 1024).contains(&aside), "{aside}");
}

#[test]
fn what_cannot_be_started_is_said() {
    let (code, said) = Place::new("").run(&["/nowhere/uvx"]).ends();
    assert_eq!(code, Some(1));
    assert!(said.contains("error: /nowhere/uvx cannot be started: No such file"), "{said}");
    let (code, said) = Place::new("[server]\nprot = 1").run(&["/bin/true"]).ends();
    assert_eq!(code, Some(3), "{said}");
}

/// A server with a worker process beside it. It loads until there is a file `loaded` in its folder, and then takes
/// connections, answering none.
const WEDGED: &str = r#"
import os, socket, sys, time
folder, port = sys.argv[1], int(sys.argv[2])
worker = os.fork()
if worker == 0:
    while True: time.sleep(1000)
print("worker", worker, flush=True)
while not os.path.exists(os.path.join(folder, "loaded")): time.sleep(0.02)
taken = []
with socket.create_server(("127.0.0.1", port)) as listener:
    while True:
        taken.append(listener.accept())
        print("taken", len(taken), flush=True)
"#;

impl Place {
    fn wedged(&self) -> Supervisor {
        let folder = self.home.path().display().to_string();
        self.run(&["/usr/bin/env", "python3", "-c", WEDGED, &folder, &self.port.to_string()])
    }

    /// Lets the server that [`Self::wedged`] starts have its model.
    fn let_it_load(&self) {
        fs::write(self.home.path().join("loaded"), "").unwrap();
    }
}

/// Asks the server for its health; nothing comes for a second.
fn ask_in_vain(port: u16) -> TcpStream {
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    client.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let silence = client.read(&mut [0; 16]).unwrap_err().kind();
    assert!(matches!(silence, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    client
}

#[test]
fn a_slow_load_is_waited_for_and_can_be_stopped() {
    let place = Place::new("");
    let mut loading = place.wedged();
    let server = loading.server();
    let worker = number(&place, "worker ");
    loading.says(&format!("waiting until it listens on 127.0.0.1:{}", place.port)).signal(Signal::SIGTERM);
    let (code, said) = loading.ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the server ended as asked") && !said.contains("listening on"), "{said}");
    assert!(!is_alive(server) && !is_alive(worker));

    let mut loading = place.wedged();
    let listens = format!("listening on 127.0.0.1:{} after", place.port);
    // Longer than the time between two looks at the port.
    let heard = loading.says("waiting until it listens").heard.recv_timeout(Duration::from_secs(1));
    assert_eq!(heard, Err(RecvTimeoutError::Timeout), "it waits, and says so once");
    place.let_it_load();
    loading.says(&listens).signal(Signal::SIGTERM);
    assert_eq!(loading.ends().0, Some(0));
}

/// Whether it is wedged the gateway finds out: `bifrost supervise` only keeps it, and ends it when asked.
#[test]
fn a_wedged_server_is_kept_until_somebody_asks_for_its_end() {
    let place = Place::new("");
    place.let_it_load();
    let mut supervisor = place.wedged();
    let server = supervisor.server();
    supervisor.says("listening on ");
    let worker = number(&place, "worker ");
    let mut client = ask_in_vain(place.port);
    assert!(supervisor.child.try_wait().unwrap().is_none() && is_alive(server) && is_alive(worker));
    supervisor.signal(Signal::SIGTERM);
    let (code, said) = supervisor.ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(!is_alive(server) && !is_alive(worker));
    let last_words = client.read(&mut [0; 16]);
    assert!(!matches!(last_words, Ok(1..)), "{last_words:?}");
    TcpListener::bind(("127.0.0.1", place.port)).unwrap();
}

/// The real thing, where it is at hand: `BIFROST_VLLM_MODEL` names a folder with a model, `BIFROST_VLLM_MLX` the program.
#[test]
fn vllm_mlx_starts_listens_and_stops() {
    let (Ok(model), Ok(program)) = (std::env::var("BIFROST_VLLM_MODEL"), std::env::var("BIFROST_VLLM_MLX")) else {
        eprintln!("skipped: BIFROST_VLLM_MODEL and BIFROST_VLLM_MLX are not set");
        return;
    };
    let place = Place::new("");
    let port = place.port.to_string();
    let server = [&program, "serve", "{model}", "--host", "127.0.0.1", "--port", &port, "--continuous-batching"];
    let start = || {
        let mut supervisor = place.run_with(&["--model", &model, "--memory-reserve-gb", "0"], &server);
        let pid = supervisor.server();
        // Importing MLX takes its time on a busy machine.
        while !supervisor.said.contains("listening on") {
            let line = supervisor.heard.recv_timeout(PATIENCE * 8);
            supervisor.said.push_str(&format!("{}\n", line.unwrap_or_else(|_| panic!("{}", place.logged()))));
        }
        // The real server refuses connections until its model is loaded.
        let waited = supervisor.said.find("waiting until it listens").expect("a load is waited for aloud");
        assert!(waited < supervisor.said.find("listening on").unwrap(), "{}", supervisor.said);
        (supervisor, pid)
    };
    let (mut supervisor, pid) = start();
    let mut health = TcpStream::connect(("127.0.0.1", place.port)).unwrap();
    health.write_all(b"GET /health HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    health.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    // Of another home, so that only the port tells of the first.
    let mut second = Place::new("");
    second.port = place.port;
    let (code, said) = second.run_with(&["--model", &model, "--memory-reserve-gb", "0"], &server).ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("not started: port {port} is taken by another program")), "{said}");
    assert!(is_alive(pid) && second.logged().is_empty(), "{}", second.logged());

    supervisor.signal(Signal::SIGTERM);
    let (code, said) = supervisor.ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(!is_alive(pid));

    let (supervisor, pid) = start();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let (code, said) = supervisor.ends();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the server ended by itself: signal 9"), "{said}");

    // Frozen, it takes connections and answers none; it does not hear the first wish either.
    let (mut supervisor, pid) = start();
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    ask_in_vain(place.port);
    supervisor.signal(Signal::SIGTERM);
    supervisor.says("telling the server").signal(Signal::SIGTERM);
    let (code, said) = supervisor.ends();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the server ended as asked (signal 9)") && !is_alive(pid), "{said}");
}
