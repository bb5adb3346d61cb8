//! The gateway at work: who may come in, what becomes of a request, and what an owner may ask.
//!
//! The way of a request: [`listener`] → [`gate`] (guards) → [`routes`] → [`answer`] → [`planning`] (who) →
//! [`failover`] ([`turns`]) → [`admission`] (a place) → [`leave`] (key, breaker) → [`attempt`] (one call) →
//! [`relay`] (the stream back).

mod admin;
mod admission;
mod answer;
mod asking;
mod attempt;
mod body;
mod client_socket;
mod count_tokens;
mod descriptors;
mod directory;
mod embeddings;
mod exchange;
mod failover;
mod gate;
mod guard;
mod header_timer;
mod health;
mod keys;
mod leave;
mod listener;
mod models;
mod planning;
mod proving;
mod refresh;
mod relay;
mod reload;
mod reply;
mod routes;
mod signatures;
mod splice;
mod step;
mod supervision;
mod surroundings;
mod traces;
mod turns;

pub use admin::TOKEN_FILE;
pub use listener::BindError;

use crate::config::{ConfigError, Inputs, Snapshot, Watch, state};
use crate::limit::Admission;
use crate::local::LocalMode;
use crate::observe::Observer;
use crate::provider::{MLX_LOCAL, Provider};
use crate::route::Conditions;
use crate::route::registry::Registry;
use crate::secret::{Secret, SecretError};
use crate::upstream::Clients;
use arc_swap::{ArcSwap, ArcSwapOption};
use directory::Directory;
use keys::KeyPools;
use listener::Listeners;
use serde_json::{Value, json};
use signatures::SignatureMemory;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;
use supervision::{Report, Supervision};
use surroundings::Surroundings;
use tokio::sync::Notify;
use tracing::{info, warn};

/// Everything that the requests share.
pub struct Gateway {
    inputs: Inputs,
    loaded: ArcSwap<Loaded>,
    config_error: ArcSwapOption<String>,
    client_keys: ArcSwap<Vec<Secret>>,
    admin_token: Secret,
    /// The two HTTP clients.
    pub clients: Clients,
    /// Whether anything may leave the machine.
    pub mode: LocalMode,
    /// Metrics, log and ring.
    pub observer: Observer,
    /// Proofs that clients drop between two turns.
    pub signatures: SignatureMemory,
    /// Who is active and what they list.
    pub directory: Directory,
    /// What is known of the local server.
    pub supervision: Supervision,
    /// How each target is doing.
    pub conditions: Conditions,
    /// Who is in flight at each target, and who waits.
    pub admission: Admission,
    registry: ArcSwapOption<Registry>,
    registry_failed: AtomicBool,
    /// The addresses that are listened on; another configuration changes them at the next start only.
    bound: Vec<IpAddr>,
    /// The mode is applied by one at a time, so that the last one sees what holds.
    applying: Mutex<()>,
    /// Tells that it was applied, or another configuration.
    applied: Notify,
    /// The grace of the end is over: who still waits is told so.
    stopped: AtomicBool,
}

/// One load of the configuration. A key is known by its place in the list of its provider, so that the two belong together.
#[derive(Clone)]
pub struct Loaded {
    /// The configuration.
    pub snapshot: Arc<Snapshot>,
    /// The keys of its providers.
    pub keys: Arc<KeyPools>,
}

impl Loaded {
    fn new(snapshot: Snapshot) -> Self {
        let keys = Arc::new(KeyPools::new(&snapshot));
        Self { snapshot: Arc::new(snapshot), keys }
    }

    /// The load that follows this one.
    fn next(&self, snapshot: Snapshot) -> Self {
        let keys = Arc::new(KeyPools::after(self, &snapshot, Instant::now()));
        Self { snapshot: Arc::new(snapshot), keys }
    }
}

/// Why the gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port is not to be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A key of `[server] api_keys` is not to be had; without it everybody or nobody could ask.
    #[error("a key of [server] api_keys could not be had: {0}")]
    ClientKey(#[from] SecretError),
    /// The token of the admin API could not be written.
    #[error("the admin token could not be written: {0}")]
    AdminToken(#[from] std::io::Error),
}

impl Gateway {
    /// Serves what `watch` loaded first until `stop` ends, then lets what runs finish within the grace.
    ///
    /// # Errors
    /// The gateway could not start. Once it serves, nothing ends it but `stop`.
    pub async fn serve(
        inputs: Inputs,
        watch: Watch,
        snapshot: Snapshot,
        observer: Observer,
        stop: impl Future<Output = ()>,
    ) -> Result<(), StartError> {
        for warning in &snapshot.warnings {
            warn!("{warning}");
        }
        descriptors::raise_limit(snapshot.server.max_connections);
        let listeners = Listeners::bind(&snapshot.server.hosts, snapshot.server.port).await?;
        let server = snapshot.server.clone();
        let gateway = Arc::new(Self::new(inputs, snapshot, observer).await?);
        let background = gateway.spawn_background(watch);
        for address in listeners.addresses() {
            info!("listening on http://{address}");
        }
        if gateway.mode.is_on() {
            info!("local-only mode is on: every request goes to {}", gateway.local_url());
        }
        listeners.serve(routes::Routes::new(Arc::clone(&gateway)), &server, stop).await;
        background.end().await;
        Ok(())
    }

    async fn new(inputs: Inputs, snapshot: Snapshot, observer: Observer) -> Result<Self, StartError> {
        let switched = state::read_local_only(&inputs.paths);
        let mode = LocalMode::new(snapshot.local.only, switched);
        let clients = Clients::new(mode.is_on());
        observer.set_local_only(mode.is_on());
        let client_keys = resolve_client_keys(&snapshot).await?;
        let admin_token = admin::write_token(&inputs.paths)?;
        let registry = ArcSwapOption::new(registry_of(&snapshot));
        let directory = Directory::load(&inputs.paths, &snapshot, mode.is_on());
        let bound = snapshot.server.hosts.clone();
        let supervision = Supervision::new(Surroundings::new(&inputs.environment, &inputs.paths));
        let gateway = Self {
            inputs,
            loaded: ArcSwap::from_pointee(Loaded::new(snapshot)),
            config_error: ArcSwapOption::empty(),
            client_keys: ArcSwap::from_pointee(client_keys),
            admin_token,
            clients,
            mode,
            observer,
            signatures: SignatureMemory::default(),
            directory,
            supervision,
            conditions: Conditions::default(),
            admission: Admission::default(),
            registry,
            registry_failed: AtomicBool::new(false),
            bound,
            applying: Mutex::new(()),
            applied: Notify::new(),
            stopped: AtomicBool::new(false),
        };
        // Read at once, so that the log tells of one that cannot be.
        gateway.roles();
        Ok(gateway)
    }

    /// The configuration now, with its keys; a request takes it once.
    pub fn loaded(&self) -> Loaded {
        Loaded::clone(&self.loaded.load())
    }

    /// The configuration now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.loaded.load().snapshot)
    }

    /// Ends what still runs, at its next turn; the listener gives every connection one.
    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// True once what still runs is to end.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// What is worked on; `None` when what still runs is to end before that is there. That is looked at with each turn of the
    /// connection and has no waker of its own, which would be a lock for each request.
    pub async fn unless_stopped<T>(&self, mut work: Pin<&mut impl Future<Output = T>>) -> Option<T> {
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Pending if self.is_stopped() => Poll::Ready(None),
            polled => polled.map(Some),
        })
        .await
    }

    /// Why the file as it stands now is not in force; `None` when it is.
    pub fn config_error(&self) -> Option<Arc<String>> {
        self.config_error.load_full()
    }

    /// The registry of role names, if the configuration names one.
    pub fn registry(&self) -> Option<Arc<Registry>> {
        self.registry.load_full()
    }

    /// Notes whether the registry could be read; true for the first failure after a success.
    pub fn registry_failed(&self, failed: bool) -> bool {
        !self.registry_failed.swap(failed, Ordering::Relaxed) && failed
    }

    /// The keys that clients must show; none when everybody on this machine may ask.
    pub fn client_keys(&self) -> Arc<Vec<Secret>> {
        self.client_keys.load_full()
    }

    /// The key of a provider; `None` when it has none. In local-only mode no secret of the cloud is looked at.
    ///
    /// # Errors
    /// It has one, and it could not be had.
    pub async fn key_of(&self, provider: &Provider) -> Result<Option<Secret>, SecretError> {
        if self.mode.is_on() && !provider.is_local() {
            return Ok(None);
        }
        self.snapshot().secrets.first(provider.key_sources()).await
    }

    /// Where the local server is expected; nowhere, in words, when its provider is switched off.
    pub fn local_url(&self) -> String {
        let snapshot = self.snapshot();
        let provider = snapshot.providers.iter().find(|provider| &*provider.name == MLX_LOCAL);
        let nowhere = || format!("no address ([providers.{MLX_LOCAL}] is switched off)");
        provider.map_or_else(nowhere, |provider| provider.endpoints[0].base_url().to_owned())
    }

    /// What is known of the local server, for people and scripts.
    pub fn local_report(&self) -> Value {
        let url = self.local_url();
        let server = self.directory.local_server();
        let Report { status, resident, proving } = self.supervision.report();
        json!({
            "url": url,
            "healthy": status.state.is_well(),
            "supervisor": status.state.name(),
            "detail": status.reason,
            "remedy": Some(status.remedy()).filter(|remedy| !remedy.is_empty()),
            "seconds": status.since.elapsed().as_secs(),
            "proven_seconds_ago": status.proven.map(|proven| proven.elapsed().as_secs()),
            "proving": proving,
            "models": server.as_ref().map(|server| server.own_ids().collect::<Vec<_>>()),
            "loaded": server.as_ref().map(|server| &server.loaded),
            "resident_bytes": resident,
            "agent": status.agent.map(|agent| json!({
                "label": agent.label,
                "ours": agent.ours,
                "state": agent.state.to_string(),
                "pid": agent.state.pid(),
            })),
            "holder": status.holder.map(|holder| json!({
                "pid": holder.pid,
                "program": holder.program,
                "of_agent": holder.of_agent,
            })),
        })
    }
}

fn registry_of(snapshot: &Snapshot) -> Option<Arc<Registry>> {
    snapshot.registry.clone().map(|path| Arc::new(Registry::new(path)))
}

async fn resolve_client_keys(snapshot: &Snapshot) -> Result<Vec<Secret>, SecretError> {
    let mut keys = Vec::with_capacity(snapshot.server.api_keys.len());
    for reference in &snapshot.server.api_keys {
        keys.push(snapshot.secrets.resolve(reference).await?);
    }
    Ok(keys)
}
