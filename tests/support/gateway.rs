//! The real binary, with folders of its own and nothing of the developer's environment.

use reqwest::{Client, RequestBuilder};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, Once};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tempfile::TempDir;

/// Generous: how long the gateway may take to start, to stop, or for what comes by itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running gateway; killed when dropped.
pub struct Gateway {
    program: PathBuf,
    child: Child,
    home: TempDir,
    url: String,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    client: Client,
}

impl Gateway {
    /// Starts `bifrost serve` on a free port with this config file, and waits until it listens.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[], &[])
    }

    /// The same with variables in its environment and further arguments after `serve`.
    pub fn start_with(config: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        Self::start_program(Path::new(env!("CARGO_BIN_EXE_bifrost")), config, variables, arguments)
    }

    /// The same with another build of it.
    pub fn start_program(program: &Path, config: &str, variables: &[(&str, &str)], arguments: &[&str]) -> Self {
        let home = TempDir::new().unwrap();
        let file = home.path().join("bifrost.toml");
        std::fs::write(&file, config).unwrap();
        let mut child = command(program, &home)
            .args(["serve", "--config"])
            .arg(&file)
            .args(arguments)
            .env("BIFROST_PORT", "0")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, heard) = mpsc::channel();
        let readers = vec![
            follow(child.stdout.take().unwrap(), &log, &lines),
            follow(child.stderr.take().unwrap(), &log, &lines),
        ];
        drop(lines);
        let url = loop {
            match heard.recv_timeout(PATIENCE) {
                Ok(line) => {
                    if let Some(url) = listening(&line) {
                        break url;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let _ = child.kill();
                    panic!("the gateway did not say where it listens: {}", log.lock().unwrap());
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the gateway ended: {:?}: {}", child.wait(), log.lock().unwrap())
                }
            }
        };
        Self { program: program.to_owned(), child, home, url, log, readers, client: client() }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// A request to the gateway.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.url))
    }

    /// A request with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> RequestBuilder {
        self.post_bytes(path, body.to_string())
    }

    /// A request with a body of these very bytes, called JSON.
    pub fn post_bytes(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.url)).header("content-type", "application/json").body(body)
    }

    /// What an answer without secrets says, as that of `/metrics`.
    pub async fn text(&self, path: &str) -> String {
        self.get(path).send().await.unwrap().text().await.unwrap()
    }

    /// The token of its owner.
    pub fn admin_token(&self) -> String {
        std::fs::read_to_string(self.file("state/bifrost/admin-token")).unwrap()
    }

    /// What the admin API says at `path`.
    pub async fn admin(&self, path: &str) -> Value {
        let answer = self.get(path).bearer_auth(self.admin_token()).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    /// Has its configuration read again; the status of the answer.
    pub async fn reload(&self) -> u16 {
        let request = self.post("/admin/reload", &serde_json::json!({})).bearer_auth(self.admin_token());
        request.send().await.unwrap().status().as_u16()
    }

    /// What is kept of an exchange that has been told to its end: it is written down right after the last byte.
    pub async fn recorded(&self, id: &str) -> Value {
        let path = format!("/admin/exchanges/{id}");
        self.eventually("the exchange ends", async || {
            let record = self.admin(&path).await;
            (record["id"] == id).then_some(record)
        })
        .await
    }

    /// Waits until it lists all of these models.
    pub async fn lists(&self, models: &[&str]) {
        self.eventually("the models are listed", async || {
            let listed = self.text("/v1/models").await;
            models.iter().all(|model| listed.contains(&format!("\"{model}\""))).then_some(())
        })
        .await;
    }

    /// Looks again and again until there is something: of much that it does nothing tells when.
    pub async fn eventually<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let looking = async {
            loop {
                if let Some(seen) = look().await {
                    return seen;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never: {what}: {}", self.log()))
    }

    /// A file of the gateway's home folder, as `bifrost.toml`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// All that it printed so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Runs another command of `bifrost` in the same home; its exit code, output and errors.
    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let port = self.url.rsplit(':').next().unwrap();
        let output = command(&self.program, &self.home)
            .env("BIFROST_CONFIG", self.file("bifrost.toml"))
            .env("BIFROST_PORT", port)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Sends a signal, as `TERM`.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status().unwrap();
        assert!(status.success(), "the gateway is not there to get a signal");
    }

    /// Waits for its end, and for the end of what it prints; the exit code.
    pub fn wait(&mut self) -> Option<i32> {
        let (done, ended) = mpsc::channel();
        let id = self.child.id().to_string();
        let watchdog = thread::spawn(move || {
            if ended.recv_timeout(PATIENCE).is_err() {
                let _ = Command::new("kill").args(["-KILL", &id]).status();
            }
        });
        let status = self.child.wait().unwrap();
        done.send(()).unwrap();
        watchdog.join().unwrap();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        status.code()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(program: &Path, home: &TempDir) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", "/usr/bin:/bin")
        .env("NO_COLOR", "1")
        .current_dir(home.path());
    for (variable, folder) in [("CONFIG", "config"), ("STATE", "state"), ("CACHE", "cache")] {
        command.env(format!("XDG_{variable}_HOME"), home.path().join(folder));
    }
    command
}

fn follow(pipe: impl Read + Send + 'static, log: &Arc<Mutex<String>>, lines: &mpsc::Sender<String>) -> JoinHandle<()> {
    let (log, lines) = (Arc::clone(log), lines.clone());
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            {
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
            // Nobody listens once the address is known.
            let _ = lines.send(line);
        }
    })
}

/// The address in `... listening on http://127.0.0.1:30080 ...`.
fn listening(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("listening on ")?;
    let start = rest.find("http://127.0.0.1:")?;
    rest[start..].split([' ', ',', '"']).next().map(str::to_owned)
}

fn client() -> Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Client::builder().no_proxy().build().unwrap()
}
