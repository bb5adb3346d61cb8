//! Every metric that there is: its name, what it says, and where it is counted.

use super::buckets;
use super::labels::{
    AttemptLabels, BreakerChangeLabels, FallbackLabels, KeyRestLabels, LocalChangeLabels, LocalStateLabels, LossLabels,
    ModelLabels, OperationLabels, ProviderLabels, QueueLabels, ReloadLabels, RequestLabels, TargetLabels, TokenLabels,
    WaitLabels,
};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::sync::atomic::AtomicU64;

pub(super) type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;
/// Counts in fractions.
pub(super) type Amount = Counter<f64, AtomicU64>;

/// A family whose name and description stand there before anything was counted: whoever reads `/metrics` sees all there is.
#[derive(Debug)]
struct Shown<F>(F);

impl<F: EncodeMetric> EncodeMetric for Shown<F> {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        self.0.metric_type()
    }

    fn is_empty(&self) -> bool {
        false
    }
}

/// Everything that is counted, all at zero at first.
#[derive(Debug)]
pub(super) struct Families {
    pub duration: Histograms<OperationLabels>,
    pub first_chunk: Histograms<TargetLabels>,
    pub first_token: Histograms<TargetLabels>,
    pub per_token: Histograms<TargetLabels>,
    pub tokens: Histograms<TokenLabels>,
    pub requests: Family<RequestLabels, Counter>,
    pub in_flight: Gauge,
    pub streams_open: Gauge,
    pub received: Counter,
    pub sent: Counter,
    pub overhead: Histogram,
    pub attempts: Family<AttemptLabels, Counter>,
    pub retries: Family<ProviderLabels, Counter>,
    pub fallbacks: Family<FallbackLabels, Counter>,
    pub reconnects: Family<ProviderLabels, Counter>,
    pub skipped: Family<ProviderLabels, Counter>,
    pub target_in_flight: Family<ModelLabels, Gauge>,
    pub queue_depth: Family<QueueLabels, Gauge>,
    pub queue_wait: Histograms<WaitLabels>,
    pub breaker_state: Family<ModelLabels, Gauge>,
    pub breaker_changes: Family<BreakerChangeLabels, Counter>,
    pub key_rests: Family<KeyRestLabels, Counter>,
    pub cost: Family<ModelLabels, Amount>,
    pub cost_unknown: Family<ModelLabels, Counter>,
    pub losses: Family<LossLabels, Counter>,
    pub reloads: Family<ReloadLabels, Counter>,
    pub last_reload_successful: Gauge,
    pub local_only: Gauge,
    pub local_state: Family<LocalStateLabels, Gauge>,
    pub local_state_changes: Family<LocalChangeLabels, Counter>,
    pub local_resident: Gauge,
    pub spans_sent: Counter,
    pub spans_dropped: Counter,
}

impl Default for Families {
    fn default() -> Self {
        Self {
            duration: Family::new_with_constructor(|| Histogram::new(buckets::OPERATION)),
            first_chunk: Family::new_with_constructor(|| Histogram::new(buckets::OPERATION)),
            first_token: Family::new_with_constructor(|| Histogram::new(buckets::FIRST_TOKEN)),
            per_token: Family::new_with_constructor(|| Histogram::new(buckets::PER_TOKEN)),
            tokens: Family::new_with_constructor(|| Histogram::new(buckets::TOKENS)),
            requests: Family::default(),
            in_flight: Gauge::default(),
            streams_open: Gauge::default(),
            received: Counter::default(),
            sent: Counter::default(),
            overhead: Histogram::new(buckets::OVERHEAD),
            attempts: Family::default(),
            retries: Family::default(),
            fallbacks: Family::default(),
            reconnects: Family::default(),
            skipped: Family::default(),
            target_in_flight: Family::default(),
            queue_depth: Family::default(),
            queue_wait: Family::new_with_constructor(|| Histogram::new(buckets::QUEUE_WAIT)),
            breaker_state: Family::default(),
            breaker_changes: Family::default(),
            key_rests: Family::default(),
            cost: Family::default(),
            cost_unknown: Family::default(),
            losses: Family::default(),
            reloads: Family::default(),
            last_reload_successful: Gauge::default(),
            local_only: Gauge::default(),
            local_state: Family::default(),
            local_state_changes: Family::default(),
            local_resident: Gauge::default(),
            spans_sent: Counter::default(),
            spans_dropped: Counter::default(),
        }
    }
}

impl Families {
    /// Registers each by its name; `log_dropped` is counted by the log.
    pub(super) fn registry(&self, log_dropped: Counter) -> Registry {
        let mut registry = Registry::default();
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("bifrost_build", "The version that runs", version);
        self.register_exchanges(&mut registry);
        self.register_targets(&mut registry);
        self.register_queues(&mut registry);
        self.register_conventions(&mut registry);
        self.register_gateway(&mut registry);
        registry.register("bifrost_log_dropped", "Log lines that found the queue full", log_dropped);
        registry
    }

    fn register_exchanges(&self, registry: &mut Registry) {
        registry.register(
            "bifrost_requests",
            "Exchanges that ended, by what the client got",
            Shown(self.requests.clone()),
        );
        registry.register("bifrost_requests_in_flight", "Exchanges that have not ended", self.in_flight.clone());
        registry.register("bifrost_streams_open", "Streams that clients are reading", self.streams_open.clone());
        registry.register_with_unit(
            "bifrost_request_body",
            "Bodies of clients' requests",
            Unit::Bytes,
            self.received.clone(),
        );
        registry.register_with_unit("bifrost_response_body", "Bodies of answers", Unit::Bytes, self.sent.clone());
        registry.register_with_unit(
            "bifrost_overhead",
            "The gateway's own share of an exchange's time: total minus upstream",
            Unit::Seconds,
            self.overhead.clone(),
        );
        registry.register(
            "bifrost_losses",
            "Request fields that a translation could not carry",
            Shown(self.losses.clone()),
        );
    }

    fn register_targets(&self, registry: &mut Registry) {
        registry.register(
            "bifrost_attempts",
            "Calls of providers, by what became of them; those `not_offered`, `resting` or `busy` were not made",
            Shown(self.attempts.clone()),
        );
        registry.register(
            "bifrost_retries",
            "Calls of a target that the exchange had asked before",
            Shown(self.retries.clone()),
        );
        registry.register(
            "bifrost_fallbacks",
            "How often an exchange went on from one target to the next, by their providers",
            Shown(self.fallbacks.clone()),
        );
        registry.register(
            "bifrost_reconnects",
            "Calls sent again at once because a kept connection turned out to be closed",
            Shown(self.reconnects.clone()),
        );
        registry.register(
            "bifrost_stream_events_skipped",
            "Events of streams that could not be read and were left out",
            Shown(self.skipped.clone()),
        );
        registry.register(
            "bifrost_breaker_state",
            "State of a target's circuit breaker: 0 closed, 1 half-open, 2 open; absent until the target was asked once",
            Shown(self.breaker_state.clone()),
        );
        registry.register(
            "bifrost_breaker_changes",
            "How often circuit breakers went from one state to another",
            Shown(self.breaker_changes.clone()),
        );
        registry.register(
            "bifrost_key_rests",
            "How often a key was put aside, by the outcome that was the reason",
            Shown(self.key_rests.clone()),
        );
        registry.register_with_unit(
            "bifrost_cost",
            "What answers cost in US dollars, by the facts table and the provider's own count of tokens",
            Unit::Other("usd".to_owned()),
            Shown(self.cost.clone()),
        );
        registry.register(
            "bifrost_cost_unknown",
            "Answers whose cost is not known: no price in the facts table, or no count of tokens",
            Shown(self.cost_unknown.clone()),
        );
    }

    fn register_queues(&self, registry: &mut Registry) {
        registry.register(
            "bifrost_target_in_flight",
            "Requests that have a place at a target",
            Shown(self.target_in_flight.clone()),
        );
        registry.register(
            "bifrost_queue_depth",
            "Requests that wait for a place at a target",
            Shown(self.queue_depth.clone()),
        );
        registry.register_with_unit(
            "bifrost_queue_wait",
            "How long requests waited for a place, and how that ended; those that did not wait are not counted",
            Unit::Seconds,
            Shown(self.queue_wait.clone()),
        );
    }

    fn register_conventions(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "gen_ai_client_operation_duration",
            "Time of an exchange from its request to the end of its answer",
            Unit::Seconds,
            Shown(self.duration.clone()),
        );
        registry.register_with_unit(
            "gen_ai_client_operation_time_to_first_chunk",
            "Time of a streamed call from its sending to the first content of the provider that answered",
            Unit::Seconds,
            Shown(self.first_chunk.clone()),
        );
        registry.register_with_unit(
            "gen_ai_server_time_to_first_token",
            "Time of a streamed exchange from its request to the first content, failed attempts and waiting included",
            Unit::Seconds,
            Shown(self.first_token.clone()),
        );
        registry.register_with_unit(
            "gen_ai_server_time_per_output_token",
            "Time of a whole streamed answer after its first content, per token after the first",
            Unit::Seconds,
            Shown(self.per_token.clone()),
        );
        registry.register(
            "gen_ai_client_token_usage",
            "Tokens of an exchange, as providers count",
            Shown(self.tokens.clone()),
        );
    }

    fn register_gateway(&self, registry: &mut Registry) {
        registry.register(
            "bifrost_config_reload",
            "Times the configuration was read again",
            Shown(self.reloads.clone()),
        );
        registry.register(
            "bifrost_config_last_reload_successful",
            "1 when the configuration in force is the newest one",
            self.last_reload_successful.clone(),
        );
        registry.register("bifrost_local_only", "1 when nothing may leave the machine", self.local_only.clone());
        registry.register(
            "bifrost_local_state",
            "1 for the state that the local server is in, 0 for the others",
            Shown(self.local_state.clone()),
        );
        registry.register(
            "bifrost_local_state_changes",
            "How often the local server went from one state to another",
            Shown(self.local_state_changes.clone()),
        );
        registry.register_with_unit(
            "bifrost_local_resident",
            "Memory that the local server and its children hold; 0 where it is not known",
            Unit::Bytes,
            self.local_resident.clone(),
        );
        registry.register("bifrost_trace_spans_sent", "Spans that the collector took", self.spans_sent.clone());
        registry.register(
            "bifrost_trace_spans_dropped",
            "Spans that found the queue full, or that the collector did not take",
            self.spans_dropped.clone(),
        );
    }
}
