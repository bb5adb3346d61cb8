//! The model server under a supervisor: the program of the LaunchAgent `dev.bifrost.vllm-mlx`.
//!
//! launchd starts an agent again unless it ends with 0, and uvicorn, which vllm-mlx serves by, dies by the SIGTERM that
//! asked it to stop. So somebody has to stand between the two.

use super::model_files::{self, Memory, gib};
use super::process_group::{Former, ProcessGroup, RecordFile};
use super::rotation::{self, RotatingLog};
use nix::sys::signal::Signal;
use std::io::{self, PipeReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// What stands for the model in the server's arguments.
pub const PLACEHOLDER: &str = "{model}";
/// How long a port may take to become free: the server that was stopped a moment ago may still be leaving.
const PORT_PATIENCE: Duration = Duration::from_secs(5);
/// From the wish to stop until the group is killed; launchd kills the supervisor after 60 s.
const STOP_GRACE: Duration = Duration::from_secs(45);
/// What the rest of the group gets when the server itself has ended.
const REST_GRACE: Duration = Duration::from_secs(5);
/// How long the log may take to swallow the last words.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Between two tries to connect.
const POLL: Duration = Duration::from_millis(250);

/// A model server to run.
#[derive(Debug, Clone)]
pub struct Supervised {
    /// Program and arguments, with [`PLACEHOLDER`] where the model belongs.
    pub command: Vec<String>,
    /// The model's id or folder.
    pub model: String,
    /// Where it will listen on 127.0.0.1.
    pub port: u16,
    /// What a model may take.
    pub memory: Memory,
    /// The server's output.
    pub log: PathBuf,
    /// Local-only mode: nothing may be fetched.
    pub offline: bool,
    /// Where Hugging Face's libraries keep models.
    pub hub: Option<PathBuf>,
    /// Where the server's process group is remembered; `None` without a state folder.
    pub record: Option<RecordFile>,
}

/// How it ended.
#[derive(Debug)]
pub enum Ended {
    /// Somebody asked for it.
    Stopped,
    /// It was not started, because that would help nobody until something is changed.
    Refused {
        /// Why.
        reason: String,
        /// What to change.
        remedy: String,
    },
    /// The server could not be started or ended by itself.
    Failed(String),
}

/// The signals that reach this process, from now on.
///
/// # Errors
/// The system refuses to tell of them.
pub fn signals() -> io::Result<mpsc::UnboundedReceiver<Signal>> {
    let (send, receive) = mpsc::unbounded_channel();
    for (kind, name) in [
        (SignalKind::terminate(), Signal::SIGTERM),
        (SignalKind::interrupt(), Signal::SIGINT),
        (SignalKind::hangup(), Signal::SIGHUP),
        (SignalKind::quit(), Signal::SIGQUIT),
        (SignalKind::user_defined1(), Signal::SIGUSR1),
        (SignalKind::user_defined2(), Signal::SIGUSR2),
    ] {
        let (mut heard, send) = (signal(kind)?, send.clone());
        tokio::spawn(async move { while heard.recv().await.is_some() && send.send(name).is_ok() {} });
    }
    Ok(receive)
}

/// True for a signal that asks to stop; the others are only passed on.
fn asks_to_stop(signal: Signal) -> bool {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT].contains(&signal)
}

impl Supervised {
    /// Runs the server until it ends or `signals` asks for that. What is worth knowing goes to `say`, a line each.
    pub async fn run(
        &self,
        signals: &mut mpsc::UnboundedReceiver<Signal>,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> Ended {
        match self.prepare(signals, say).await {
            Ok(()) => {}
            Err(ended) => return ended,
        }
        let (mut group, log_ends) = match self.start() {
            Ok(started) => started,
            Err(failure) => return Ended::Failed(failure),
        };
        say(&format!("started {} as process {}", self.program(), group.id()));
        if let Some(record) = &self.record
            && let Err(error) = record.write(&group)
        {
            say(&format!("{}: {error}; if this supervisor is killed, the server stays behind", record.0.display()));
        }
        say(&format!("waiting until it listens on 127.0.0.1:{}; a large model takes minutes", self.port));
        let ended = self.watch(&mut group, signals, say).await;
        group.sweep(if matches!(ended, Ended::Stopped) { REST_GRACE } else { Duration::ZERO }).await;
        if let Some(record) = &self.record {
            record.clear();
        }
        // A process that left the group may hold the pipe for ever.
        if let Ok(Ok(Some(trouble))) = timeout(LAST_WORDS, log_ends).await {
            say(&format!("{}: {trouble}; output was lost", self.log.display()));
        }
        ended
    }

    /// Everything that has to be right before the server is started.
    async fn prepare(
        &self,
        signals: &mut mpsc::UnboundedReceiver<Signal>,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> Result<(), Ended> {
        let former = match &self.record {
            Some(record) => record.end_leftover(REST_GRACE).await,
            None => Former::Gone,
        };
        match former {
            Former::Gone => {}
            Former::Ended(group) => {
                say(&format!("ended process group {group}, which a killed supervisor had left behind"))
            }
            // A server that loads its model does not hold its port yet.
            Former::Supervised(by) => {
                return Err(Ended::Refused {
                    reason: format!("process {by} supervises a server on port {} already", self.port),
                    remedy: format!("stop that one first: kill {by}"),
                });
            }
        }
        match model_files::find(&self.model, self.hub.as_deref()) {
            Some(folder) => {
                let size = model_files::size(&folder);
                self.memory.check(size).map_err(|why| Ended::Refused {
                    reason: format!("{} does not fit: {why}", self.model),
                    remedy: "choose a smaller model, or let less memory stay free (--memory-reserve-gb; \
                             vllm-mlx.memoryReserveGb in Nix)"
                        .to_owned(),
                })?;
                say(&format!("{}: {} on disk, fits into memory", self.model, gib(size)));
            }
            None if self.offline => {
                return Err(Ended::Refused {
                    reason: format!("{} is not on this disk, and local-only mode forbids to download it", self.model),
                    remedy: format!("download it while the mode is off: hf download {}", self.model),
                });
            }
            None => say(&format!("{} is not on this disk yet: it will be downloaded, its size is unknown", self.model)),
        }
        let deadline = Instant::now() + PORT_PATIENCE;
        let mut told = false;
        while is_taken(self.port).await {
            if !std::mem::replace(&mut told, true) {
                say(&format!("port {} is taken; waiting a little", self.port));
            }
            if Instant::now() >= deadline {
                return Err(Ended::Refused {
                    reason: format!("port {} is taken by another program", self.port),
                    remedy: format!(
                        "see which: lsof -nP -iTCP:{} -sTCP:LISTEN; stop it, or use another port",
                        self.port
                    ),
                });
            }
            tokio::select! {
                () = sleep(POLL) => {}
                Some(signal) = signals.recv() => if asks_to_stop(signal) { return Err(Ended::Stopped) },
            }
        }
        Ok(())
    }

    fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// Starts the server with its output going to the log; the receiver hears when that ends, and what went wrong there.
    fn start(&self) -> Result<(ProcessGroup, oneshot::Receiver<Option<String>>), String> {
        let open = |error: io::Error| format!("{} cannot be written: {error}", self.log.display());
        let log = RotatingLog::open(&self.log, rotation::LIMIT).map_err(open)?;
        let failed = |error: io::Error| format!("{} cannot be started: {error}", self.program());
        // One pipe for both, so that lines keep their order.
        let (output, input) = io::pipe().map_err(failed)?;
        let mut command = Command::new(self.program());
        let with_model = |word: &String| if word == PLACEHOLDER { self.model.clone() } else { word.clone() };
        command.args(self.command.iter().skip(1).map(with_model));
        command.stdin(Stdio::null()).stdout(input.try_clone().map_err(failed)?).stderr(input);
        // Python holds back what goes into a pipe.
        command.env("PYTHONUNBUFFERED", "1");
        if self.offline {
            command.env("HF_HUB_OFFLINE", "1").env("UV_OFFLINE", "1");
        }
        let group = ProcessGroup::start(command).map_err(failed)?;
        let (done, log_ends) = oneshot::channel();
        // A thread and not a task: reading a pipe blocks, and a task that blocks would keep this process from ending.
        std::thread::spawn(move || done.send(copy(output, log)));
        Ok((group, log_ends))
    }

    /// Waits for the end of the server, passing signals on.
    async fn watch(
        &self,
        group: &mut ProcessGroup,
        signals: &mut mpsc::UnboundedReceiver<Signal>,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> Ended {
        let began = Instant::now();
        let mut listening = Box::pin(listens(self.port));
        let mut heard_of = false;
        let mut kill_at: Option<Instant> = None;
        loop {
            let patience = async {
                match kill_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = group.leader_ends() => {
                    let how = match ended {
                        Ok(status) => in_words(status),
                        Err(error) => error.to_string(),
                    };
                    if kill_at.is_some() {
                        say(&format!("the server ended as asked ({how})"));
                        return Ended::Stopped;
                    }
                    return Ended::Failed(format!("the server ended by itself: {how}; see {}", self.log.display()));
                }
                Some(signal) = signals.recv() => {
                    if asks_to_stop(signal) && kill_at.is_some() {
                        say("asked to stop again: killing the server");
                        group.signal(Signal::SIGKILL);
                    } else if asks_to_stop(signal) {
                        say("asked to stop: telling the server");
                        group.signal(signal);
                        kill_at = Some(Instant::now() + STOP_GRACE);
                    } else {
                        group.signal(signal);
                    }
                }
                () = patience => {
                    say(&format!("the server did not stop within {} s: killing it", STOP_GRACE.as_secs()));
                    group.signal(Signal::SIGKILL);
                    kill_at = Some(Instant::now() + STOP_GRACE);
                }
                () = &mut listening, if !heard_of => {
                    heard_of = true;
                    say(&format!("listening on 127.0.0.1:{} after {} s", self.port, began.elapsed().as_secs()));
                }
            }
        }
    }
}

/// True when somebody answers on the port, or it cannot be had. macOS lets a program bind 127.0.0.1 beside another on
/// all addresses, so binding alone would prove nothing.
async fn is_taken(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let answers = timeout(Duration::from_secs(1), TcpStream::connect(address)).await;
    !matches!(answers, Ok(Err(_))) || TcpListener::bind(address).await.is_err()
}

/// Waits until somebody listens on the port.
async fn listens(port: u16) {
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
        sleep(POLL).await;
    }
}

/// Everything from the pipe into the log, to its end. A log that cannot be written must not stop the server: what cannot
/// be kept is dropped, and the first reason is given back.
fn copy(mut output: PipeReader, mut log: RotatingLog) -> Option<String> {
    let mut trouble = None;
    let mut buffer = [0; 16 * 1024];
    loop {
        match output.read(&mut buffer) {
            Ok(0) => return trouble,
            Ok(length) => {
                let written = buffer.get(..length).map_or(Ok(()), |bytes| log.write(bytes));
                trouble = trouble.or(written.err().map(|error| error.to_string()));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Some(error.to_string()),
        }
    }
}

fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => status.to_string(),
    }
}

/// The file in the state folder that remembers the server on a port.
pub fn record_file(state: Option<&Path>, port: u16) -> Option<RecordFile> {
    state.map(|folder| RecordFile(folder.join(format!("supervise-{port}.json"))))
}
