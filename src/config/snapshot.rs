//! The validated configuration that one request holds from start to end.

use super::NamedModels;
use super::classes::{AutoRule, Class};
use crate::provider::{Provider, facts::Facts};
use crate::secret::{Resolver, SecretRef};
use indexmap::IndexMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Everything the gateway was told, checked; built from defaults, file, environment and flags.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The file it was read from; `None` when there is none.
    pub path: Option<PathBuf>,
    /// That file has something in it.
    pub has_text: bool,
    /// The listener.
    pub server: Server,
    /// Local-only mode and the local server.
    pub local: Local,
    /// Providers in order of preference: those of the file first, in its order, then the shipped rows.
    pub providers: Vec<Arc<Provider>>,
    /// Task classes, shipped ones included.
    pub classes: IndexMap<String, Class>,
    /// Other names for classes and model strings.
    pub aliases: IndexMap<String, String>,
    /// A JSON registry of role names, read live as a source of aliases.
    pub registry: Option<PathBuf>,
    /// The rules of `auto`, in order, and the class when none holds is the last rule's.
    pub auto: Vec<AutoRule>,
    /// Facts the user knows better; keys are `<provider>/<model>` or a model id.
    pub facts: IndexMap<String, Facts>,
    /// The models that all of this names.
    pub named_models: NamedModels,
    /// How long a provider's model list is good.
    pub catalogue_ttl: Duration,
    /// How often a target that failed is asked again.
    pub retry: Retry,
    /// When a target that fails is left alone.
    pub breaker: Breaker,
    /// The log.
    pub log: LogSettings,
    /// Where traces go; `None`: none are made.
    pub traces: Option<Traces>,
    /// Resolves the references in here, when they are needed, and keeps what it found as long as this lives.
    pub secrets: Arc<Resolver>,
    /// What is odd but allowed (a literal key, a pinned model), one readable line each.
    pub warnings: Vec<String>,
}

/// The listener and its guards.
#[derive(Debug, Clone)]
pub struct Server {
    /// Addresses to bind, without port; `127.0.0.1` and `::1` unless told otherwise.
    pub hosts: Vec<std::net::IpAddr>,
    /// 30080 unless told otherwise.
    pub port: u16,
    /// Keys clients must show; needed when bound beyond loopback.
    pub api_keys: Vec<SecretRef>,
    /// Host names accepted besides loopback ones.
    pub allowed_hosts: Vec<String>,
    /// Origins accepted besides none.
    pub allowed_origins: Vec<String>,
    /// Largest request body in bytes.
    pub max_body: usize,
    /// Largest request head in bytes.
    pub max_header: usize,
    /// Most connections at a time.
    pub max_connections: usize,
    /// To send the request head.
    pub header_timeout: Duration,
    /// To send the request body.
    pub body_timeout: Duration,
    /// From SIGTERM to the end of what still runs.
    pub shutdown_grace: Duration,
}

/// Local-only mode and the local server.
#[derive(Debug, Clone)]
pub struct Local {
    /// Declared local-only (file, flag or environment); the run-time switch can only make it stricter.
    pub only: bool,
    /// What a request for a cloud model gets in local-only mode.
    pub on_cloud_model: OnCloudModel,
    /// A model in memory that had nothing to do for so long is asked for one token; `None`: never.
    pub keep_warm: Option<Duration>,
}

/// How often a target that failed is asked again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Retry {
    /// Retries of one target in one request.
    pub attempts: u32,
    /// The longest wait before the first retry; it doubles with each.
    pub base: Duration,
    /// The longest wait before any.
    pub cap: Duration,
}

/// When a target that fails is left alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breaker {
    /// So many failures in a row open it.
    pub failures: u32,
    /// This share of failures within the window opens it, 0 to 1.
    pub rate: f64,
    /// The time over which the share is counted.
    pub window: Duration,
    /// How long it stays open at first.
    pub open: Duration,
    /// How long at most.
    pub max_open: Duration,
}

/// What a request for a cloud model gets in local-only mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCloudModel {
    /// The local default answers, and `x-bifrost-substituted` says so.
    #[default]
    Substitute,
    /// An error.
    Refuse,
}

/// The log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A filter in tracing's syntax (`info`, `bifrost=debug`).
    pub filter: String,
    /// JSON lines instead of readable ones.
    pub json: bool,
    /// One line per exchange.
    pub access: bool,
}

/// Where traces go.
#[derive(Debug, Clone)]
pub struct Traces {
    /// The URL to post to, path included.
    pub url: String,
    /// Headers that the collector asks for.
    pub headers: Vec<(String, SecretRef)>,
    /// The collector is on this machine, by its address.
    pub is_local: bool,
}
