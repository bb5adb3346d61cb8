//! The types of the TOML file. Their comments are the descriptions of the JSON Schema (`bifrost config schema`).

use super::OnCloudModel;
use super::classes::{AutoRule, Class};
use super::values::{OneOrMany, Span};
use crate::chat::DialectId;
use crate::dialect::{ReasoningStyle, TokenLimitField};
use crate::provider::facts::Facts;
use crate::provider::{Auth, BodyEdit, Deadlines, FallbackUse, ModelList, ProviderKind};
use crate::secret::SecretRef;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The configuration of Bifrost, the AI gateway. Every key is optional.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "bifrost.toml")]
pub struct File {
    /// Local-only mode, the same as `[local] only`. Default: false.
    #[serde(rename = "localOnlyMode")]
    pub local_only_mode: Option<bool>,
    /// A JSON file of role names, read live as a source of aliases, as in `~/.config/ai-stack/registry.json`. `~` is the
    /// home folder; a relative path starts at the folder of this file. Default: none.
    pub registry: Option<PathBuf>,
    /// The listener and its guards.
    pub server: ServerTable,
    /// Local-only mode.
    pub local: LocalTable,
    /// Providers by name: what to change about a shipped one, or all there is to know of a new one. Those named here are
    /// preferred to those that are not, in the order in which they stand.
    pub providers: IndexMap<String, ProviderTable>,
    /// Task classes by name. One with the name of a shipped class replaces all of it.
    pub classes: IndexMap<String, Class>,
    /// Other names for classes and models, as in `default = "coding"`. Added to the shipped ones.
    pub aliases: IndexMap<String, String>,
    /// How `auto` chooses a class.
    pub auto: AutoTable,
    /// What you know better about a model; the keys are `<provider>/<model>` or a model's id.
    pub facts: IndexMap<String, Facts>,
    /// The live list of models.
    pub catalogue: CatalogueTable,
    /// How often a target that failed is asked again.
    pub retry: RetryTable,
    /// When a target that fails is left alone for a while.
    pub breaker: BreakerTable,
    /// The log.
    pub log: LogTable,
    /// Traces, for an OpenTelemetry collector. They hold names, times, counts and costs, never content.
    pub traces: TracesTable,
}

/// The listener and its guards.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerTable {
    /// Addresses to bind, without port. `localhost` is both loopback addresses. Others than loopback need `api_keys`.
    /// Default: `["127.0.0.1", "::1"]`.
    pub host: Option<OneOrMany<String>>,
    /// The port; 0 lets the system choose one. Default: 30080.
    pub port: Option<u16>,
    /// Keys that clients must show, as references. Default: none are asked for.
    pub api_keys: Vec<SecretRef>,
    /// Host names accepted in `Host` besides the loopback ones, as in `host.docker.internal`. Default: none.
    pub allowed_hosts: Vec<String>,
    /// Web origins accepted in `Origin`, as in `https://chat.example.com` or `app://obsidian.md`. Default: none.
    pub allowed_origins: Vec<String>,
    /// Largest request body in bytes. Default: 104857600 (100 MiB).
    #[schemars(range(min = 1024))]
    pub max_body_bytes: Option<u64>,
    /// Largest request head in bytes. Default: 65536.
    #[schemars(range(min = 8192, max = 1048576))]
    pub max_header_bytes: Option<u64>,
    /// Most connections at a time; others wait. Default: 1024.
    #[schemars(range(min = 1))]
    pub max_connections: Option<u64>,
    /// Time for a client to send the request head, from its first byte. A connection that is kept for another request may be
    /// idle for 10 min, or for this time while all of `max_connections` are taken. Default: 10 s.
    pub header_timeout: Option<Span>,
    /// Time for a client to send the request body. Default: 60 s.
    pub body_timeout: Option<Span>,
    /// Time from SIGTERM to the end of what still runs. What is not done by then is told so within 0.1 s more: a stream by
    /// its last event, who still waits by a 503 (`gateway_stopped`) with `Retry-After`. Default: 0.8 s.
    pub shutdown_grace: Option<Span>,
}

/// Local-only mode.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LocalTable {
    /// Nothing leaves this machine: every request goes to the local model server. The environment, a flag and the
    /// run-time switch can add this, and never take it away. `localOnlyMode` is accepted too. Default: false.
    #[serde(alias = "localOnlyMode")]
    pub only: Option<bool>,
    /// What a request for a cloud model gets in local-only mode: `substitute` (the local default answers, and
    /// `x-bifrost-substituted` says so) or `refuse`. Default: `substitute`.
    pub on_cloud_model: Option<OnCloudModel>,
    /// A model in memory that had nothing to do for so long is asked for one token, because macOS compresses the memory
    /// of an idle one and the next request then takes minutes. It also keeps the server from unloading it. At least
    /// 10 s. Default: none, never.
    pub keep_warm: Option<Span>,
}

/// One provider. For a shipped one every key is optional; a new one needs `base_url`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderTable {
    /// False takes the provider out. Default: true.
    pub enabled: Option<bool>,
    /// Where the key is; of several the first that is there is used. Default: the environment variables of the shipped
    /// provider.
    pub key: Option<OneOrMany<SecretRef>>,
    /// Several keys of one provider, used in turn by their weights: a reference, or `{ key = "env:NAME", weight = 2 }`.
    /// One that is throttled or refused rests while the others serve. Not together with `key`. Default: none.
    pub keys: Vec<PooledKey>,
    /// The URL, with or without `/v1` at the end. Default: that of the shipped provider.
    pub base_url: Option<String>,
    /// The dialects it speaks, the preferred one first. Default: those of the shipped provider; `openai_chat` for a new
    /// one.
    pub dialect: Option<OneOrMany<DialectId>>,
    /// How the key is sent. Default: that of the shipped provider; for a new one the way of its dialect
    /// (`bearer`, `x_api_key`, `x_goog_api_key`), or `none` without a `key`.
    pub auth: Option<Auth>,
    /// How its models are listed. Default: that of the shipped provider; for a new one the way of its dialect.
    pub models: Option<ModelList>,
    /// Where it stands. `local` is allowed in local-only mode and needs a loopback `base_url`. Default: that of the
    /// shipped provider; for a new one `local` at a loopback `base_url`, else `vendor`.
    pub kind: Option<ProviderKind>,
    /// Headers sent with every request, by name. Default: those of the shipped provider.
    pub headers: IndexMap<String, String>,
    /// Limits of time.
    pub deadlines: DeadlinesTable,
    /// How many requests it gets at a time, and how the others wait.
    pub limits: LimitsTable,
    /// Whether it may answer when a target before it failed: `allowed`, or `never`. Default: `allowed`.
    pub fallback: Option<FallbackUse>,
    /// How reasoning is asked for in OpenAI's dialect. Default: that of the shipped provider; `effort` for a new one.
    pub reasoning: Option<ReasoningStyle>,
    /// Which field limits the answer in OpenAI's dialect. Default: that of the shipped provider; `max_tokens` for a new
    /// one.
    pub token_limit: Option<TokenLimitField>,
    /// Takes the role `developer`. Default: that of the shipped provider; false for a new one.
    pub developer_role: Option<bool>,
    /// Takes `cache_control` markers in OpenAI's dialect. Default: that of the shipped provider; false for a new one.
    pub cache_markers: Option<bool>,
    /// Takes the reasoning of earlier turns in OpenAI's dialect. Default: that of the shipped provider; true for a new
    /// one.
    pub reasoning_history: Option<bool>,
    /// Knows `response_format: json_schema`. Default: that of the shipped provider; true for a new one.
    pub json_schema: Option<bool>,
    /// Edits of a request body that is forwarded in the client's own dialect, in order; everything else stays byte for
    /// byte. Default: those of the shipped provider; `["include_usage"]` for a new one that speaks `openai_chat`.
    pub edits: Option<Vec<BodyEdit>>,
}

/// One key of several.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a reference, as in `env:NAME`, or `{ key = \"env:NAME\", weight = 2 }`")]
pub enum PooledKey {
    /// Where it is; its weight is 1.
    Plain(SecretRef),
    /// With a weight.
    Weighted {
        /// Where it is.
        key: SecretRef,
        /// Its share of the requests against the others'.
        #[serde(default = "one")]
        #[schemars(range(min = 1, max = 1000))]
        weight: u32,
    },
}

fn one() -> u32 {
    1
}

/// How often a target that failed is asked again. Which failures are, docs/FAILOVER.md tells.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetryTable {
    /// Retries of one target in one request. Default: 2.
    #[schemars(range(max = 10))]
    pub attempts: Option<u32>,
    /// The longest wait before the first retry; it doubles with each, and the wait is chosen at random from 0 to it.
    /// Default: 250 ms.
    pub base: Option<Span>,
    /// The longest wait before any retry. Default: 8 s.
    pub cap: Option<Span>,
}

/// When a target that fails is left alone for a while.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerTable {
    /// So many failures in a row open it; each retry counts. Default: 30.
    #[schemars(range(min = 1))]
    pub failures: Option<u32>,
    /// This share of failures within `window` opens it too, from 40 attempts on. Default: 0.5.
    #[schemars(range(min = 0.01, max = 1))]
    pub rate: Option<f64>,
    /// The time over which `rate` is counted. Default: 30 s.
    pub window: Option<Span>,
    /// How long it stays open at first, before one request probes the target; it doubles with each probe that fails.
    /// Default: 2 s.
    pub open: Option<Span>,
    /// The longest it stays open. Default: 1 min.
    pub max_open: Option<Span>,
}

/// Limits of time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadlinesTable {
    /// To connect. Default: 5 s; 1 s for a local provider.
    pub connect: Option<Span>,
    /// From the request to the first real content of a stream. Default: 60 s; 5 min for a local provider.
    pub first_token: Option<Span>,
    /// The same when the request asks for reasoning. Default: 5 min.
    pub first_token_reasoning: Option<Span>,
    /// Between two pieces of a stream. Default: 60 s; 2 min for a local provider.
    pub idle: Option<Span>,
    /// For the whole of an answer that is not streamed. Default: 10 min; 30 min for a local provider.
    pub whole_answer: Option<Span>,
    /// For all attempts of a request together, until the first content is sent. Of several targets the longest counts.
    /// Default: 10 min; 30 min for a local provider.
    pub budget: Option<Span>,
}

/// How many requests a provider gets at a time, and how the others wait. The numbers are for each of its models.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsTable {
    /// Requests in flight. For `mlx-local` not more than the server takes: llama-swap answers 429 beyond its
    /// `concurrencyLimit`. Default: 4 for `mlx-local`, no limit for others.
    #[schemars(range(min = 1))]
    pub in_flight: Option<u64>,
    /// Requests that wait for a place, interactive ones before batch; the next one gets a 429. 0: none may wait.
    /// Default: 32.
    #[schemars(range(max = 10000))]
    pub queue: Option<u64>,
    /// How long a request waits for a place. After half of that a batch request counts as interactive. Default: 5 min.
    pub queue_timeout: Option<Span>,
    /// Of `mlx-local` behind llama-swap, whose models take turns in one memory: how long a model with work stays while
    /// requests for another wait, counted from its first answer's end. 0: they may swap at once. Default: 30 s.
    pub residency: Option<Span>,
}

/// How `auto` chooses a class.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AutoTable {
    /// Rules asked in order, before the shipped ones; the first whose every condition holds decides. One without
    /// conditions always holds.
    pub rules: Vec<AutoRule>,
}

/// The live list of models.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CatalogueTable {
    /// How long a provider's model list is good. Default: 10 min.
    pub ttl: Option<Span>,
    /// The same as the top-level `registry`.
    pub registry: Option<PathBuf>,
}

/// The log.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogTable {
    /// A filter in tracing's syntax, as in `info` or `info,bifrost::route=debug`. Default: `info`.
    pub filter: Option<String>,
    /// JSON lines instead of readable ones. Default: false.
    pub json: Option<bool>,
    /// One line per exchange. Default: true.
    pub access: Option<bool>,
}

impl DeadlinesTable {
    /// The limits that are set, and `others` for the rest.
    pub fn over(&self, others: Deadlines) -> Deadlines {
        let of = |span: Option<Span>, other| span.map_or(other, |span| span.0);
        Deadlines {
            connect: of(self.connect, others.connect),
            first_token: of(self.first_token, others.first_token),
            first_token_reasoning: of(self.first_token_reasoning, others.first_token_reasoning),
            idle: of(self.idle, others.idle),
            whole_answer: of(self.whole_answer, others.whole_answer),
            budget: of(self.budget, others.budget),
        }
    }
}

/// Traces, for an OpenTelemetry collector. They hold names, times, counts and costs, never content.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TracesTable {
    /// The collector's URL (OTLP over HTTP, binary Protobuf), with or without `/v1/traces` at the end, as in
    /// `http://127.0.0.1:4318`. In local-only mode nothing is sent unless it is a loopback address. Default: none, and no
    /// traces.
    pub endpoint: Option<String>,
    /// Headers that the collector asks for, by name; their values are references. Default: none.
    pub headers: IndexMap<String, SecretRef>,
}

impl File {
    /// The JSON Schema of the file.
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(File)
    }
}
