//! What `/metrics` tells. Names, labels and buckets of OpenTelemetry's semantic conventions for generative AI where they
//! have one (`docs/gen-ai/gen-ai-metrics.md` of open-telemetry/semantic-conventions-genai, in Prometheus' spelling),
//! `bifrost_*` for the rest. Every label has a bounded set of values.

use super::names::Names;
use super::{BreakerState, Event, ExchangeRecord, Operation};
use crate::chat::Loss;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::borrow::Cow;
use std::sync::Arc;

/// Buckets of `gen_ai.client.operation.duration`, in seconds.
const DURATION: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Buckets of `gen_ai.client.operation.time_to_first_chunk`, in seconds.
const FIRST_CHUNK: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// Buckets of `gen_ai.client.token.usage`, in tokens.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// Buckets of the gateway's own share, in seconds: fine around the promised 100 microseconds.
const OVERHEAD: [f64; 13] =
    [0.000_02, 0.000_05, 0.000_075, 0.000_1, 0.000_15, 0.000_2, 0.000_3, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.1];

/// So many models and so many providers become labels; a catalogue of an aggregator has a few hundred.
const MAX_NAMES: usize = 512;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: Arc<str>,
    gen_ai_request_model: Arc<str>,
    error_type: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: Arc<str>,
    gen_ai_request_model: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: Arc<str>,
    gen_ai_request_model: Arc<str>,
    gen_ai_token_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    ingress: &'static str,
    operation: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    provider: Arc<str>,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BreakerLabels {
    provider: Arc<str>,
    model: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BreakerChangeLabels {
    provider: Arc<str>,
    from: &'static str,
    to: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyRestLabels {
    provider: Arc<str>,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LossLabels {
    field: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LocalStateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LocalChangeLabels {
    from: &'static str,
    to: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything counted.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    providers: Names,
    models: Names,
    duration: Histograms<OperationLabels>,
    first_chunk: Histograms<TargetLabels>,
    tokens: Histograms<TokenLabels>,
    requests: Family<RequestLabels, Counter>,
    attempts: Family<AttemptLabels, Counter>,
    losses: Family<LossLabels, Counter>,
    in_flight: Gauge,
    streams_open: Gauge,
    breaker_state: Family<BreakerLabels, Gauge>,
    breaker_changes: Family<BreakerChangeLabels, Counter>,
    key_rests: Family<KeyRestLabels, Counter>,
    overhead: Histogram,
    reloads: Family<ReloadLabels, Counter>,
    last_reload_successful: Gauge,
    local_only: Gauge,
    local_state: Family<LocalStateLabels, Gauge>,
    local_state_changes: Family<LocalChangeLabels, Counter>,
    local_resident: Gauge,
}

/// One request in flight.
#[derive(Debug)]
pub struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One stream that a client reads.
#[derive(Debug)]
pub struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// All metrics at zero; `log_dropped` is counted by the log.
    pub(super) fn new(log_dropped: Counter) -> Self {
        let metrics = Self {
            registry: Registry::default(),
            providers: Names::new(MAX_NAMES),
            models: Names::new(MAX_NAMES),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION)),
            first_chunk: Family::new_with_constructor(|| Histogram::new(FIRST_CHUNK)),
            tokens: Family::new_with_constructor(|| Histogram::new(TOKENS)),
            requests: Family::default(),
            attempts: Family::default(),
            losses: Family::default(),
            in_flight: Gauge::default(),
            streams_open: Gauge::default(),
            breaker_state: Family::default(),
            breaker_changes: Family::default(),
            key_rests: Family::default(),
            overhead: Histogram::new(OVERHEAD),
            reloads: Family::default(),
            last_reload_successful: Gauge::default(),
            local_only: Gauge::default(),
            local_state: Family::default(),
            local_state_changes: Family::default(),
            local_resident: Gauge::default(),
        };
        // A gateway that runs has read its configuration once, and well.
        metrics.last_reload_successful.set(1);
        metrics.registered(log_dropped)
    }

    fn registered(mut self, log_dropped: Counter) -> Self {
        let registry = &mut self.registry;
        registry.register(
            "bifrost_build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register("bifrost_requests", "Exchanges that ended, by what the client got", self.requests.clone());
        registry.register("bifrost_requests_in_flight", "Exchanges that have not ended", self.in_flight.clone());
        registry.register("bifrost_streams_open", "Streams that clients are reading", self.streams_open.clone());
        registry.register(
            "bifrost_breaker_state",
            "State of a target's circuit breaker: 0 closed, 1 half-open, 2 open; absent until it changed once",
            self.breaker_state.clone(),
        );
        registry.register(
            "bifrost_breaker_changes",
            "How often circuit breakers went from one state to another",
            self.breaker_changes.clone(),
        );
        registry.register(
            "bifrost_key_rests",
            "How often a key was put aside, by the outcome that was the reason",
            self.key_rests.clone(),
        );
        registry.register("bifrost_attempts", "Calls of providers, by what became of them", self.attempts.clone());
        registry.register_with_unit(
            "bifrost_overhead",
            "The gateway's own share of an exchange's time",
            Unit::Seconds,
            self.overhead.clone(),
        );
        registry.register("bifrost_losses", "Request fields that a translation could not carry", self.losses.clone());
        registry.register_with_unit(
            "gen_ai_client_operation_duration",
            "Time of an exchange from its request to the end of its answer",
            Unit::Seconds,
            self.duration.clone(),
        );
        registry.register_with_unit(
            "gen_ai_client_operation_time_to_first_chunk",
            "Time of a streamed exchange from its request to the first content",
            Unit::Seconds,
            self.first_chunk.clone(),
        );
        registry.register(
            "gen_ai_client_token_usage",
            "Tokens of an exchange, as providers count",
            self.tokens.clone(),
        );
        registry.register("bifrost_config_reload", "Times the configuration was read again", self.reloads.clone());
        registry.register(
            "bifrost_config_last_reload_successful",
            "1 when the configuration in force is the newest one",
            self.last_reload_successful.clone(),
        );
        registry.register("bifrost_local_only", "1 when nothing may leave the machine", self.local_only.clone());
        registry.register(
            "bifrost_local_state",
            "1 for the state that the local server is in, 0 for the others",
            self.local_state.clone(),
        );
        registry.register(
            "bifrost_local_state_changes",
            "How often the local server went from one state to another",
            self.local_state_changes.clone(),
        );
        registry.register_with_unit(
            "bifrost_local_resident",
            "Memory that the local server and its children hold; 0 where it is not known",
            Unit::Bytes,
            self.local_resident.clone(),
        );
        registry.register("bifrost_log_dropped", "Log lines that found the queue full", log_dropped);
        self
    }

    /// Counts a finished exchange.
    pub(super) fn finished(&self, record: &ExchangeRecord) {
        self.requests
            .get_or_create(&RequestLabels {
                ingress: record.ingress.name(),
                operation: record.operation.name(),
                status: record.counted_status(),
            })
            .inc();
        for attempt in &record.attempts {
            let provider = self.providers.label(&attempt.provider);
            self.attempts.get_or_create(&AttemptLabels { provider, outcome: attempt.outcome }).inc();
        }
        for loss in record.losses.iter() {
            self.losses.get_or_create(&LossLabels { field: field_name(loss) }).inc();
        }
        if let Some(overhead) = record.overhead {
            self.overhead.observe(overhead.as_secs_f64());
        }
        // An exchange that reached no provider is no operation of a model.
        let asked = record.provider.as_ref().or_else(|| record.attempts.last().map(|attempt| &attempt.provider));
        if let Some(provider) = asked {
            self.operation(record, self.providers.label(provider));
        }
    }

    fn operation(&self, record: &ExchangeRecord, provider: Arc<str>) {
        let name = record.operation.name();
        let model = match &record.model {
            Some(model) if record.known_model => self.models.label(model),
            _ => self.models.other(),
        };
        let error_type = match &record.error {
            Some(error) => Some(error.label()),
            None => record.cancelled.then_some("cancelled"),
        };
        self.duration
            .get_or_create(&OperationLabels {
                gen_ai_operation_name: name,
                gen_ai_provider_name: Arc::clone(&provider),
                gen_ai_request_model: Arc::clone(&model),
                error_type,
            })
            .observe(record.total.as_secs_f64());
        if let Some(first) = record.first_token.filter(|_| record.stream) {
            self.first_chunk
                .get_or_create(&TargetLabels {
                    gen_ai_operation_name: name,
                    gen_ai_provider_name: Arc::clone(&provider),
                    gen_ai_request_model: Arc::clone(&model),
                })
                .observe(first.as_secs_f64());
        }
        let Some(usage) = &record.usage else { return };
        let mut labels = TokenLabels {
            gen_ai_operation_name: name,
            gen_ai_provider_name: provider,
            gen_ai_request_model: model,
            gen_ai_token_type: "input",
        };
        self.tokens.get_or_create(&labels).observe(usage.input as f64);
        if record.operation == Operation::Chat {
            labels.gen_ai_token_type = "output";
            self.tokens.get_or_create(&labels).observe(usage.output as f64);
        }
    }

    /// Counts what happened beside the exchanges.
    pub(super) fn happened(&self, event: &Event<'_>) {
        match *event {
            Event::Breaker { provider, model, known_model, from, to, .. } => {
                self.breaker_changed(provider, Some(model).filter(|_| known_model), from, to);
            }
            Event::KeyRested { provider, reason, .. } => {
                let provider = self.providers.label(provider);
                self.key_rests.get_or_create(&KeyRestLabels { provider, reason }).inc();
            }
        }
    }

    fn breaker_changed(&self, provider: &str, model: Option<&str>, from: BreakerState, to: BreakerState) {
        let provider = self.providers.label(provider);
        let changed = BreakerChangeLabels { provider: Arc::clone(&provider), from: from.name(), to: to.name() };
        self.breaker_changes.get_or_create(&changed).inc();
        // Targets that share the label `other` would overwrite each other's state.
        if let Some(model) = model.map(|model| self.models.label(model)).filter(|model| !self.models.is_other(model)) {
            self.breaker_state.get_or_create(&BreakerLabels { provider, model }).set(to.level());
        }
    }

    /// Counts a stream to a client as open.
    pub(super) fn open_stream(&self) -> OpenStream {
        self.streams_open.inc();
        OpenStream(self.streams_open.clone())
    }

    /// Counts a request as in flight.
    pub(super) fn in_flight(&self) -> InFlight {
        self.in_flight.inc();
        InFlight(self.in_flight.clone())
    }

    /// Whether anything may leave the machine now.
    pub(super) fn set_local_only(&self, on: bool) {
        self.local_only.set(i64::from(on));
    }

    /// The states that the local server can be in, and the one it is in at the start.
    pub(super) fn local_state(&self, states: impl IntoIterator<Item = &'static str>, now: &'static str) {
        for state in states {
            self.local_state.get_or_create(&LocalStateLabels { state }).set(i64::from(state == now));
        }
    }

    /// The local server is in another state.
    pub(super) fn local_state_changed(&self, from: &'static str, to: &'static str) {
        self.local_state.get_or_create(&LocalStateLabels { state: from }).set(0);
        self.local_state.get_or_create(&LocalStateLabels { state: to }).set(1);
        self.local_state_changes.get_or_create(&LocalChangeLabels { from, to }).inc();
    }

    /// Memory that the local server holds, in bytes; 0 where it is not known.
    pub(super) fn set_local_resident(&self, bytes: Option<u64>) {
        self.local_resident.set(i64::try_from(bytes.unwrap_or(0)).unwrap_or(i64::MAX));
    }

    /// The configuration was read again, and is valid or not.
    pub(super) fn config_reloaded(&self, valid: bool) {
        let result = if valid { "ok" } else { "error" };
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
        self.last_reload_successful.set(i64::from(valid));
    }

    /// Everything, as OpenMetrics text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Only field names that stand in the gateway's own code: the others may be a client's invention.
fn field_name(loss: &Loss) -> &'static str {
    match loss.field {
        Cow::Borrowed(name) => name,
        Cow::Owned(_) => "other",
    }
}
