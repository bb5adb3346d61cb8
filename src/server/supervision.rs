//! The supervisor's eyes and hands: it looks at the local server, asks it for a token, asks launchd, and tells everybody
//! what came of it. What follows from what is decided in [`crate::local::supervisor`].

use super::Gateway;
use super::surroundings::Surroundings;
use crate::chat::{ChatError, ErrorKind};
use crate::local::launchctl::LaunchctlError;
use crate::local::supervisor::{Action, Input, Look, Observation, Pace, State, Status, Step, Supervisor, Trial};
use crate::local::{LocalServer, ServerKind, health::Bodies, proof};
use crate::observe::Event;
use crate::provider::listing;
use crate::provider::{Deadlines, MLX_LOCAL, ModelList, Provider};
use crate::upstream::{Failure, Outcome, Phase};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{self, BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Level, info, warn};

/// The local server answers these questions from memory.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// A token of a loaded model: macOS compresses the memory of an idle one, and bringing it back takes minutes.
const PROOF_LIMIT: Duration = Duration::from_secs(120);
/// More reports than this are waiting only when something is wrong with the machine; the rest is dropped.
const WAITING_REPORTS: usize = 64;

/// What the requests and the owner's commands share with the supervisor.
pub struct Supervision {
    report: watch::Sender<Report>,
    inputs: mpsc::Sender<Input>,
    /// The supervisor takes it once.
    waiting: Mutex<Option<mpsc::Receiver<Input>>>,
    /// Requests that run on the local server.
    in_flight: AtomicUsize,
    /// A success was reported since the last look: one is enough.
    told_success: AtomicBool,
    surroundings: tokio::sync::Mutex<Surroundings>,
}

/// What is known of the local server.
#[derive(Debug, Clone)]
pub struct Report {
    /// The verdict.
    pub status: Status,
    /// Memory that the server and its children hold, in bytes.
    pub resident: Option<u64>,
    /// The model that is being brought into memory for `bifrost local on`.
    pub proving: Option<String>,
}

/// One request that runs on the local server.
pub struct LocalWork(Arc<Gateway>);

impl LocalWork {
    /// Counts a request as running on the local server for as long as this lives.
    pub fn begin(gateway: &Arc<Gateway>) -> Self {
        gateway.supervision.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(gateway))
    }
}

impl Drop for LocalWork {
    fn drop(&mut self) {
        self.0.supervision.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Supervision {
    /// Before the first look.
    pub fn new(surroundings: Surroundings) -> Self {
        let (inputs, waiting) = mpsc::channel(WAITING_REPORTS);
        let status = Status::unknown(Instant::now().into_std());
        Self {
            report: watch::Sender::new(Report { status, resident: None, proving: None }),
            inputs,
            waiting: Mutex::new(Some(waiting)),
            in_flight: AtomicUsize::new(0),
            told_success: AtomicBool::new(false),
            surroundings: tokio::sync::Mutex::new(surroundings),
        }
    }

    /// What is known now.
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// The state now.
    pub fn state(&self) -> State {
        self.report.borrow().status.state
    }

    /// Tells that a model is being brought into memory for a proof, or no longer is.
    pub fn set_proving(&self, model: Option<&str>) {
        self.report.send_modify(|report| report.proving = model.map(str::to_owned));
    }

    /// Tells what became of a client's request. Costs next to nothing when it was served.
    pub fn traffic(&self, trial: Trial) {
        if trial == Trial::Served {
            if self.told_success.swap(true, Ordering::Relaxed) {
                return;
            }
        } else {
            self.told_success.store(false, Ordering::Relaxed);
        }
        self.tell(Input::Traffic(trial));
    }

    /// Tells what was learned. Nothing waits for it: while reports pile up, there are enough of them.
    pub fn tell(&self, input: Input) {
        let _ = self.inputs.try_send(input);
    }
}

/// What a failed attempt says of the server; nothing where the request itself was at fault.
pub fn trial_of(failure: &Failure) -> Option<Trial> {
    match failure.outcome {
        Outcome::RateLimited | Outcome::Overloaded => Some(Trial::Busy),
        // The request had no more time; the server may have had next to none of it.
        Outcome::Timeout(Phase::Budget) => None,
        Outcome::Timeout(_) => Some(Trial::TimedOut),
        // The label and not the words: those may quote the request.
        Outcome::UpstreamFault | Outcome::Unreachable => Some(Trial::Failed(failure.outcome.label().to_owned())),
        Outcome::Ok
        | Outcome::ClientFault
        | Outcome::Auth
        | Outcome::Forbidden
        | Outcome::Quota
        | Outcome::ModelQuota
        | Outcome::Cancelled
        | Outcome::ContentFilter
        | Outcome::ContextTooLong
        | Outcome::ModelNotFound
        | Outcome::NotOffered
        | Outcome::Resting
        | Outcome::Busy => None,
    }
}

impl Gateway {
    /// Supervises the local server until it is dropped. The one writer of the state.
    pub async fn supervise(&self) {
        let waiting = self.supervision.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut waiting) = waiting else { return };
        let mut machine = Supervisor::new(self.pace(), Instant::now().into_std());
        let mut work: FuturesUnordered<BoxFuture<'_, Input>> = FuturesUnordered::new();
        self.observer.local_state(State::ALL.map(State::name), machine.status().state.name());
        loop {
            machine.set_pace(self.pace());
            let now = Instant::now().into_std();
            work.extend(machine.wanted(now).into_iter().map(|action| self.perform(action)));
            let input = tokio::select! {
                Some(input) = work.next(), if !work.is_empty() => input,
                Some(input) = waiting.recv() => input,
                () = sleep_until(machine.next_look(now).into()) => continue,
            };
            self.learn(&mut machine, input);
        }
    }

    fn pace(&self) -> Pace {
        Pace { keep_warm: self.snapshot().local.keep_warm, ..Pace::default() }
    }

    fn learn(&self, machine: &mut Supervisor, input: Input) {
        match &input {
            Input::Remedied(step, Ok(())) => info!(step = step.name(), "the local server was restarted"),
            Input::Remedied(step, Err(error)) => warn!(step = step.name(), error, "the local server was not restarted"),
            Input::Looked(_) => self.supervision.told_success.store(false, Ordering::Relaxed),
            Input::Proved(_) | Input::Traffic(_) => {}
        }
        let change = machine.observe(input, Instant::now().into_std());
        // A look or a remedy that holds the surroundings goes on only after this: waiting for it would never end.
        let resident = match self.supervision.surroundings.try_lock() {
            Ok(surroundings) => surroundings.resident(),
            Err(_) => self.supervision.report().resident,
        };
        self.observer.set_local_resident(resident);
        self.supervision.report.send_modify(|report| {
            report.status = machine.status().clone();
            report.resident = resident;
        });
        let Some(change) = change else { return };
        if change.to.is_well() {
            self.forgive_local();
        }
        let (level, reason) = match change.to {
            State::Held => (Level::ERROR, format!("{}. {}", change.reason, machine.status().remedy())),
            State::Down | State::Degraded => (Level::WARN, change.reason),
            State::Absent | State::Starting | State::Loading | State::Idle | State::Ready | State::Busy => {
                (Level::INFO, change.reason)
            }
        };
        let (from, to) = (change.from.name(), change.to.name());
        self.observer.tell(Event::LocalState { from, to, reason: &reason, url: &self.local_url(), level });
    }

    fn perform(&self, action: Action) -> BoxFuture<'_, Input> {
        match action {
            Action::Look => async { Input::Looked(self.look_at_local().await) }.boxed(),
            Action::Prove { model } if self.would_disturb(&model) => async { Input::Proved(None) }.boxed(),
            Action::Prove { model } => async move {
                let began = Instant::now();
                let trial = self.ask_for_a_token(&model, began + PROOF_LIMIT).await;
                Input::Proved(trial)
            }
            .boxed(),
            Action::Remedy(step) => async move { Input::Remedied(step, self.remedy_local(step).await) }.boxed(),
        }
    }

    /// Looks at the server, its agent and its processes once, and tells the directory.
    pub async fn look_at_local(&self) -> Observation {
        let snapshot = self.snapshot();
        let Some(provider) = snapshot.providers.iter().find(|provider| &*provider.name == MLX_LOCAL) else {
            self.directory.local_gone();
            let look = Look::Foreign("the provider mlx-local is switched off in the configuration".to_owned());
            return Observation { look, agent: None, holder: None, in_flight: self.local_work() };
        };
        let mut look = self.look_through(provider).await;
        if let Look::Server(server) = &mut look {
            server.mute.extend(self.directory.mute().iter().cloned());
        }
        match &look {
            Look::Server(server) => {
                if server.kind == ServerKind::LlamaSwap {
                    self.admission.observed(provider, &server.loaded, &server.starting);
                }
                self.directory.local_answered(provider, Ok(server.clone()));
            }
            // What was listed before stays true while it is only slow.
            Look::Silent | Look::Busy | Look::Loading if self.directory.local_server().is_some() => {}
            look => self.directory.local_answered(provider, Err(about(look))),
        }
        let port = address_of(provider).map(|(_, port)| port);
        // Held over the look on purpose: it changes what is remembered of the look before, and nobody answers a request here.
        let (agent, holder) = self.supervision.surroundings.lock().await.look(&look, port).await;
        Observation { look, agent, holder, in_flight: self.local_work() }
    }

    /// Requests that run on the local server now.
    fn local_work(&self) -> usize {
        self.supervision.in_flight.load(Ordering::Relaxed)
    }

    /// The server is at work, or its memory has been given to another model since it was looked at: to ask this one would
    /// swap models.
    fn would_disturb(&self, model: &str) -> bool {
        let swaps = self.directory.local_server().is_some_and(|server| server.kind == ServerKind::LlamaSwap);
        self.local_work() > 0 || swaps && !self.admission.holds(MLX_LOCAL, model)
    }

    async fn look_through(&self, provider: &Provider) -> Look {
        if let Some(address) = address_of(provider) {
            match timeout(Deadlines::LOCAL.connect, TcpStream::connect(address)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Look::Closed,
                Err(_) => return Look::Silent,
            }
        }
        let get = |path: &'static str| async move {
            let url = format!("{}{path}", provider.endpoints[0].base_url());
            self.get(provider, url, LOOK_LIMIT).await
        };
        // The list decides whether a model server is there; the rest is asked only then.
        let body = match get("/v1/models").await {
            Ok((StatusCode::OK, body)) => body,
            Ok((status, _)) => return refused("/v1/models", status),
            Err(failure) => return unanswered(&failure),
        };
        let Ok(listed) = listing::parse(ModelList::OpenAi, &body) else {
            let what = "its port is open, but what answers there lists no models: it is no model server";
            return Look::Foreign(what.to_owned());
        };
        let good = |answer: Result<(StatusCode, Bytes), Failure>| {
            answer.ok().filter(|(status, _)| status.is_success()).map(|(_, body)| body)
        };
        let (health, running) = future::join(get("/health"), get("/running")).await;
        let (health, running) = (good(health), good(running));
        let status = if running.is_none() { good(get("/v1/status").await) } else { None };
        let has_peers = listed.iter().any(|model| model.is_remote);
        let asked = if has_peers { Some(get("/api/profiles").await) } else { None };
        let profiles = match asked {
            Some(Ok((status, body))) if status.is_success() => Some(body),
            // An older one has no profiles; any other failure may hide that a name is sent to a peer.
            None | Some(Ok((StatusCode::NOT_FOUND, _))) => None,
            Some(Ok((status, _))) => return refused("/api/profiles", status),
            Some(Err(failure)) => return unanswered(&failure),
        };
        let bodies = Bodies {
            profiles: profiles.as_deref(),
            health: health.as_deref(),
            models: Some(&body),
            running: running.as_deref(),
            status: status.as_deref(),
        };
        Look::Server(LocalServer::read(&bodies))
    }

    /// Asks a model of the local server for one token; `None` when local and key are such that nothing could be asked.
    pub async fn ask_for_a_token(&self, model: &str, deadline: Instant) -> Option<Trial> {
        let snapshot = self.snapshot();
        let provider = snapshot.providers.iter().find(|provider| &*provider.name == MLX_LOCAL)?;
        let url = format!("{}/v1/chat/completions", provider.endpoints[0].base_url());
        let asked = self.post(provider, url, Bytes::from(proof::request(model)), deadline).await;
        Some(match asked {
            Ok((status, body)) => {
                let trial = proof::read(status.as_u16(), &body);
                if trial == Trial::NotForChat {
                    self.directory.refused_to_chat(model);
                }
                trial
            }
            Err(failure) => trial_of(&failure).unwrap_or_else(|| Trial::Failed(failure.outcome.label().to_owned())),
        })
    }

    async fn remedy_local(&self, step: Step) -> Result<(), String> {
        let explain = |error: LaunchctlError| match error.remedy() {
            Some(remedy) => format!("{error}. {remedy}"),
            None => error.to_string(),
        };
        warn!(step = step.name(), "the local server is down: its agent is restarted");
        let launchctl = self.supervision.surroundings.lock().await.launchctl();
        launchctl.apply(step).await.map_err(explain)
    }

    /// The refusal of a request that only the local server may answer while it cannot.
    pub fn local_trouble(&self) -> ChatError {
        let report = self.supervision.report();
        let status = &report.status;
        let (code, wait) = match status.state {
            State::Starting | State::Loading => ("local_server_loading", 10),
            State::Busy => ("local_server_busy", 5),
            State::Absent | State::Idle | State::Ready | State::Degraded | State::Down | State::Held => {
                ("local_server_down", 15)
            }
        };
        let message = format!(
            "{} and the local server at {} is {}: {}. {}",
            self.forbidden_by(),
            self.local_url(),
            status.state.name(),
            status.reason,
            status.remedy()
        );
        let mut error = ChatError::new(ErrorKind::Unavailable, message.trim_end().to_owned()).with_code(code);
        error.retry_after = Some(Duration::from_secs(wait));
        error
    }
}

/// Host and port of a provider.
fn address_of(provider: &Provider) -> Option<(String, u16)> {
    let url = reqwest::Url::parse(provider.endpoints.first()?.base_url()).ok()?;
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some((host, url.port_or_known_default()?))
}

/// What a refusal to list models, or the profiles that change them, means.
fn refused(path: &str, status: StatusCode) -> Look {
    match status.as_u16() {
        429 => Look::Busy,
        503 => Look::Loading,
        401 | 403 => Look::Foreign("it asks for a key: set `key` in [providers.mlx-local]".to_owned()),
        status => Look::Foreign(format!("its port is open, but {path} is answered with {status}")),
    }
}

/// What a failure to answer means; that somebody listens is known.
fn unanswered(failure: &Failure) -> Look {
    match failure.outcome {
        Outcome::Timeout(_) => Look::Silent,
        _ => Look::Foreign("it closes the connection without an answer".to_owned()),
    }
}

/// A look in words.
fn about(look: &Look) -> String {
    match look {
        Look::Closed => "nobody listens on its port".to_owned(),
        Look::Silent => "it takes connections and does not answer".to_owned(),
        Look::Busy => "it has too much to do".to_owned(),
        Look::Loading => "it is not ready yet".to_owned(),
        Look::Foreign(what) => what.clone(),
        Look::Server(_) => "it lists no models".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Verdict;

    #[test]
    fn the_end_of_a_requests_own_time_says_nothing_of_the_server() {
        for phase in [Phase::Connect, Phase::FirstToken, Phase::Idle, Phase::WholeAnswer, Phase::Budget] {
            let outcome = Outcome::Timeout(phase);
            let trial = trial_of(&Failure::new(outcome, ChatError::new(ErrorKind::Timeout, "")));
            // As its breaker hears of it.
            assert_eq!(trial, (outcome.verdict() == Verdict::Failed).then_some(Trial::TimedOut), "{phase:?}");
        }
    }
}
