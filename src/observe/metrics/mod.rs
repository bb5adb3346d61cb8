//! What `/metrics` tells. Names, labels and buckets of OpenTelemetry's semantic conventions for generative AI where they
//! have one (`docs/gen-ai/gen-ai-metrics.md` of open-telemetry/semantic-conventions-genai, in Prometheus' spelling),
//! `bifrost_*` for the rest. Every label has a bounded set of values.

mod buckets;
mod families;
mod labels;
mod series;

use super::names::{Names, well_known};
use super::{AttemptRecord, BreakerState, Event, ExchangeRecord, Load, Operation};
use crate::chat::Loss;
use crate::config::classes::Priority;
use families::Families;
use labels::{
    AttemptLabels, BreakerChangeLabels, FallbackLabels, KeyRestLabels, LocalChangeLabels, LocalStateLabels, LossLabels,
    ModelLabels, ProviderLabels, QueueLabels, ReloadLabels, WaitLabels,
};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use series::{AllSeries, Answers, Series, TargetNames};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// So many models and so many providers become labels; a catalogue of an aggregator has a few hundred.
const MAX_NAMES: usize = 512;

/// Everything counted.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    families: Families,
    providers: Names,
    models: Names,
    answers: Answers,
    series: AllSeries,
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
        let families = Families::default();
        // A gateway that runs has read its configuration once, and well.
        families.last_reload_successful.set(1);
        let registry = families.registry(log_dropped);
        let (providers, models) = (Names::new(MAX_NAMES), Names::new(MAX_NAMES));
        Self { registry, families, providers, models, answers: Answers::default(), series: AllSeries::default() }
    }

    /// Counts a finished exchange.
    pub(super) fn finished(&self, record: &ExchangeRecord) {
        self.answers.of(record, &self.families.requests).inc();
        self.families.received.inc_by(record.bytes_in);
        self.families.sent.inc_by(record.bytes_out);
        for loss in record.losses.iter() {
            self.families.losses.get_or_create(&LossLabels { field: field_name(loss) }).inc();
        }
        if let Some(overhead) = record.overhead {
            self.families.overhead.observe(overhead.as_secs_f64());
        }
        // An exchange that reached no provider is no operation of a model.
        let asked = record.provider.as_ref().or_else(|| record.last_call().map(|attempt| &attempt.provider));
        let series = asked.map(|provider| self.series.of(record, provider, |model| self.names_of(provider, model)));
        self.attempts(record, series.as_deref());
        if let Some(series) = series {
            self.operation(record, &series);
        }
    }

    /// The names of a target as they may stand in labels; `None` for a model that no catalogue lists.
    fn names_of(&self, provider: &str, model: Option<&str>) -> TargetNames {
        TargetNames {
            provider: self.providers.label(provider),
            well_known: self.providers.label(well_known(provider)),
            model: model.map_or_else(|| self.models.other(), |model| self.models.label(model)),
        }
    }

    fn attempts(&self, record: &ExchangeRecord, series: Option<&Series>) {
        if let ([AttemptRecord { outcome: "ok", retry: false, .. }], Some(series)) = (&*record.attempts, series) {
            series.answered(&self.families.attempts).inc();
            return;
        }
        let mut before: Option<&AttemptRecord> = None;
        for attempt in &record.attempts {
            let provider = self.providers.label(&attempt.provider);
            let labels = AttemptLabels { provider: Arc::clone(&provider), outcome: attempt.outcome };
            self.families.attempts.get_or_create(&labels).inc();
            if let Some(before) = before.filter(|before| !before.is_same_target(attempt)) {
                let from = self.providers.label(&before.provider);
                self.families.fallbacks.get_or_create(&FallbackLabels { from, to: Arc::clone(&provider) }).inc();
            }
            if attempt.retry {
                self.families.retries.get_or_create(&ProviderLabels { provider }).inc();
            }
            before = Some(attempt);
        }
    }

    fn operation(&self, record: &ExchangeRecord, series: &Series) {
        let total = record.total.as_secs_f64();
        match record.error_type() {
            None => series.duration(&self.families.duration).observe(total),
            Some(error) => self.families.duration.get_or_create(&series.operation(Some(error))).observe(total),
        }
        if record.stream {
            self.stream(record, series);
        }
        if let Some(usage) = &record.usage {
            series.input(&self.families.tokens).observe(usage.input as f64);
            if record.operation == Operation::Chat {
                series.output(&self.families.tokens).observe(usage.output as f64);
            }
        }
        if record.provider.is_some() {
            match record.cost_usd() {
                Some(cost) => drop(series.cost(&self.families.cost).inc_by(cost)),
                None => drop(series.cost_unknown(&self.families.cost_unknown).inc()),
            }
        }
    }

    fn stream(&self, record: &ExchangeRecord, series: &Series) {
        if let Some(waited) = record.upstream {
            series.first_chunk(&self.families.first_chunk).observe(waited.as_secs_f64());
        }
        if let Some(first) = record.first_token {
            series.first_token(&self.families.first_token).observe(first.as_secs_f64());
        }
        if let Some(time) = record.time_per_output_token() {
            series.per_token(&self.families.per_token).observe(time.as_secs_f64());
        }
        if let Some(provider) = record.provider.as_ref().filter(|_| record.skipped > 0) {
            let labels = ProviderLabels { provider: self.providers.label(provider) };
            self.families.skipped.get_or_create(&labels).inc_by(record.skipped);
        }
    }

    /// Counts what happened beside the exchanges.
    pub(super) fn happened(&self, event: &Event<'_>) {
        match *event {
            Event::Breaker { provider, from, to, .. } => {
                let provider = self.providers.label(provider);
                let labels = BreakerChangeLabels { provider, from: from.name(), to: to.name() };
                self.families.breaker_changes.get_or_create(&labels).inc();
            }
            Event::KeyRested { provider, reason, .. } => {
                let provider = self.providers.label(provider);
                self.families.key_rests.get_or_create(&KeyRestLabels { provider, reason }).inc();
            }
            Event::Waited { provider, priority, waited, end, .. } => {
                let provider = self.providers.label(provider);
                let labels = WaitLabels { provider, priority: priority.name(), end: end.name() };
                self.families.queue_wait.get_or_create(&labels).observe(waited.as_secs_f64());
            }
            Event::Reconnected { provider } => {
                let provider = self.providers.label(provider);
                self.families.reconnects.get_or_create(&ProviderLabels { provider }).inc();
            }
            Event::LocalState { from, to, .. } => {
                self.families.local_state.get_or_create(&LocalStateLabels { state: from }).set(0);
                self.families.local_state.get_or_create(&LocalStateLabels { state: to }).set(1);
                self.families.local_state_changes.get_or_create(&LocalChangeLabels { from, to }).inc();
            }
            Event::ConfigReloaded { error } => {
                let result = if error.is_none() { "ok" } else { "error" };
                self.families.reloads.get_or_create(&ReloadLabels { result }).inc();
                self.families.last_reload_successful.set(i64::from(error.is_none()));
            }
            Event::SpansSent { spans } => drop(self.families.spans_sent.inc_by(spans)),
            Event::SpansDropped { spans, .. } => drop(self.families.spans_dropped.inc_by(spans)),
        }
    }

    /// The states that the breakers of targets have now; `None` for a model that nobody knows.
    pub(super) fn set_breakers<'a>(&self, states: impl Iterator<Item = (&'a str, Option<&'a str>, BreakerState)>) {
        // Targets that are forgotten have none any more.
        self.families.breaker_state.clear();
        for (provider, model, state) in states {
            // Targets that share the label `other` would overwrite each other's state.
            let label = model.map(|model| self.models.label(model)).filter(|model| !self.models.is_other(model));
            if let Some(model) = label {
                let labels = ModelLabels { provider: self.providers.label(provider), model };
                self.families.breaker_state.get_or_create(&labels).set(state.level());
            }
        }
    }

    /// The requests that targets have now.
    pub(super) fn set_load<'a>(&self, load: impl Iterator<Item = Load<'a>>) {
        let mut in_flight: HashMap<ModelLabels, i64> = HashMap::new();
        let mut depth: HashMap<QueueLabels, i64> = HashMap::new();
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        for of in load {
            let provider = self.providers.label(of.provider);
            let model = of.model.map_or_else(|| self.models.other(), |model| self.models.label(model));
            // Several targets may share the label `other`.
            let labels = ModelLabels { provider: Arc::clone(&provider), model: Arc::clone(&model) };
            *in_flight.entry(labels).or_default() += count(of.in_flight);
            for (priority, waiting) in [(Priority::Interactive, of.interactive), (Priority::Batch, of.batch)] {
                let (provider, model) = (Arc::clone(&provider), Arc::clone(&model));
                let labels = QueueLabels { provider, model, priority: priority.name() };
                *depth.entry(labels).or_default() += count(waiting);
            }
        }
        // Targets that are forgotten have nothing any more.
        self.families.target_in_flight.clear();
        self.families.queue_depth.clear();
        for (labels, number) in in_flight {
            self.families.target_in_flight.get_or_create(&labels).set(number);
        }
        for (labels, number) in depth {
            self.families.queue_depth.get_or_create(&labels).set(number);
        }
    }

    /// How many requests are in flight.
    pub(super) fn requests_in_flight(&self) -> i64 {
        self.families.in_flight.get()
    }

    /// Counts a request as in flight.
    pub(super) fn in_flight(&self) -> InFlight {
        self.families.in_flight.inc();
        InFlight(self.families.in_flight.clone())
    }

    /// Counts a stream to a client as open.
    pub(super) fn open_stream(&self) -> OpenStream {
        self.families.streams_open.inc();
        OpenStream(self.families.streams_open.clone())
    }

    /// Whether anything may leave the machine now.
    pub(super) fn set_local_only(&self, on: bool) {
        self.families.local_only.set(i64::from(on));
    }

    /// The states that the local server can be in, and the one it is in at the start.
    pub(super) fn local_state(&self, states: impl IntoIterator<Item = &'static str>, now: &'static str) {
        for state in states {
            self.families.local_state.get_or_create(&LocalStateLabels { state }).set(i64::from(state == now));
        }
    }

    /// Memory that the local server holds, in bytes; 0 where it is not known.
    pub(super) fn set_local_resident(&self, bytes: Option<u64>) {
        self.families.local_resident.set(i64::try_from(bytes.unwrap_or(0)).unwrap_or(i64::MAX));
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
