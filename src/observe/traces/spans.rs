//! From finished exchanges to spans: one for the exchange, and beneath it one for each call of a provider. A target that was
//! not called is an event of the exchange.
//!
//! Names and attributes are those of the semantic conventions for generative AI where they have one
//! (`docs/gen-ai/gen-ai-spans.md` of open-telemetry/semantic-conventions-genai), `bifrost.*` for the rest. Content is never
//! among them, nor what a provider wrote about an error: it may quote the client.

use super::context::TraceContext;
use super::otlp::{
    AnyValue, ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span, SpanEvent,
    SpanKind, Status, StatusCode, Value,
};
use crate::observe::names::well_known;
use crate::observe::{AttemptRecord, ExchangeRecord};
use prost::Message;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// The body of a request to a collector.
pub(super) fn encode(records: &[Arc<ExchangeRecord>]) -> Vec<u8> {
    let spans = records.iter().filter_map(|record| Some((record, record.trace.as_ref()?)));
    let spans = spans.flat_map(|(record, trace)| of_exchange(record, trace)).collect();
    let version = env!("CARGO_PKG_VERSION");
    let mut resource = Attributes::default();
    resource.put("service.name", "bifrost");
    resource.put("service.version", version);
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: resource.0 }),
            scope_spans: vec![ScopeSpans {
                scope: Some(Scope { name: "bifrost".to_owned(), version: version.to_owned() }),
                spans,
            }],
        }],
    };
    request.encode_to_vec()
}

/// How many spans the exchange is told in.
pub(super) fn count(record: &ExchangeRecord) -> u64 {
    1 + record.attempts.iter().filter(|attempt| attempt.was_called()).count() as u64
}

#[derive(Default)]
struct Attributes(Vec<KeyValue>);

impl Attributes {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        let value = Some(AnyValue { value: Some(value.into()) });
        self.0.push(KeyValue { key: key.to_owned(), value });
    }

    fn put_known<V: Into<Value>>(&mut self, key: &str, value: Option<V>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }
}

fn of_exchange(record: &ExchangeRecord, trace: &TraceContext) -> Vec<Span> {
    let id = new_span_id();
    let end = record.started + record.total;
    let exchange = Span {
        trace_id: trace.trace.to_be_bytes().to_vec(),
        span_id: id.clone(),
        parent_span_id: trace.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        name: name(record, model(record)),
        // The caller's own span of the call is the client's; Bifrost serves it.
        kind: SpanKind::Server.into(),
        start_time_unix_nano: unix_nanos(record.started),
        end_time_unix_nano: unix_nanos(end),
        attributes: exchange_attributes(record),
        events: record
            .attempts
            .iter()
            .filter(|attempt| !attempt.was_called())
            .map(|it| passed_over(record, it))
            .collect(),
        status: record.error_type().map(|_| Status { code: StatusCode::Error.into() }),
    };
    let attempts = record.attempts.iter().filter(|attempt| attempt.was_called()).map(|attempt| {
        let start = record.started + attempt.began;
        // An attempt is settled at the first content of its stream, and goes on to the end of it.
        let streams = record.stream && attempt.outcome == OK;
        Span {
            trace_id: exchange.trace_id.clone(),
            span_id: new_span_id(),
            parent_span_id: id.clone(),
            name: name(record, &attempt.model),
            kind: SpanKind::Client.into(),
            start_time_unix_nano: unix_nanos(start),
            end_time_unix_nano: unix_nanos(if streams { end } else { start + Duration::from_millis(attempt.millis) }),
            attributes: attempt_attributes(record, attempt),
            events: Vec::new(),
            status: (attempt.outcome != OK).then(|| Status { code: StatusCode::Error.into() }),
        }
    });
    let mut spans: Vec<Span> = attempts.collect();
    spans.push(exchange);
    spans
}

/// The outcome of an attempt that answered.
const OK: &str = "ok";

fn passed_over(record: &ExchangeRecord, attempt: &AttemptRecord) -> SpanEvent {
    let mut attributes = Attributes::default();
    attributes.put("gen_ai.provider.name", well_known(&attempt.provider));
    attributes.put("gen_ai.request.model", &*attempt.model);
    SpanEvent {
        time_unix_nano: unix_nanos(record.started + attempt.began),
        name: format!("bifrost.target.{}", attempt.outcome),
        attributes: attributes.0,
    }
}

/// `{gen_ai.operation.name} {gen_ai.request.model}`.
fn name(record: &ExchangeRecord, model: &str) -> String {
    format!("{} {model}", record.operation.name()).trim_end().to_owned()
}

/// The model that was asked for an answer: the one that gave it, else the last one that did not, else the client's word.
fn model(record: &ExchangeRecord) -> &str {
    let asked = || record.attempts.last().map(|attempt| &*attempt.model);
    record.model.as_deref().or_else(asked).unwrap_or(&record.requested_model)
}

fn exchange_attributes(record: &ExchangeRecord) -> Vec<KeyValue> {
    let mut attributes = Attributes::default();
    let asked = || record.attempts.last().map(|attempt| &*attempt.provider);
    attributes.put("gen_ai.operation.name", record.operation.name());
    attributes.put_known("gen_ai.provider.name", record.provider.as_deref().or_else(asked).map(well_known));
    attributes.put_known("gen_ai.request.model", Some(model(record)).filter(|model| !model.is_empty()));
    attributes.put("gen_ai.request.stream", record.stream);
    attributes.put_known("gen_ai.response.model", record.response_model.as_deref());
    if record.stream {
        attributes.put_known("gen_ai.response.time_to_first_chunk", record.upstream.map(|waited| waited.as_secs_f64()));
    }
    if let Some(usage) = &record.usage {
        attributes.put("gen_ai.usage.input_tokens", usage.input);
        attributes.put("gen_ai.usage.output_tokens", usage.output);
        attributes.put_known("gen_ai.usage.cache_read.input_tokens", usage.cache_read);
        attributes.put_known("gen_ai.usage.cache_creation.input_tokens", usage.cache_write);
        attributes.put_known("gen_ai.usage.reasoning.output_tokens", usage.reasoning);
    }
    attributes.put_known("error.type", record.error_type());
    if record.status != 0 {
        attributes.put("http.response.status_code", u64::from(record.status));
    }
    attributes.put("bifrost.request_id", &*record.id);
    attributes.put("bifrost.ingress", record.ingress.name());
    attributes.put("bifrost.requested_model", record.requested_model.as_str());
    attributes.put_known("bifrost.class", record.class.as_deref());
    attributes.put_known("bifrost.substituted", record.substituted.as_deref());
    attributes.put_known("bifrost.cost_usd", record.cost_usd());
    attributes.put_known("bifrost.overhead_us", record.overhead.map(|overhead| overhead.as_micros() as u64));
    let waited = record.queue.as_ref().map(|queue| queue.waited.as_millis() as u64);
    attributes.put_known("bifrost.queue_wait_ms", waited);
    attributes.put("bifrost.local_only", record.local_only);
    attributes.0
}

fn attempt_attributes(record: &ExchangeRecord, attempt: &AttemptRecord) -> Vec<KeyValue> {
    let mut attributes = Attributes::default();
    attributes.put("gen_ai.operation.name", record.operation.name());
    attributes.put("gen_ai.provider.name", well_known(&attempt.provider));
    attributes.put("gen_ai.request.model", &*attempt.model);
    attributes.put("gen_ai.request.stream", record.stream);
    attributes.put_known("error.type", Some(attempt.outcome).filter(|outcome| *outcome != OK));
    attributes.put_known("http.response.status_code", attempt.status.map(u64::from));
    attributes.put("bifrost.retry", attempt.retry);
    attributes.put("bifrost.waited_ms", attempt.waited.as_millis() as u64);
    attributes.0
}

fn unix_nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Eight random bytes. The variant of a UUID stands among them, so they are never all zero.
fn new_span_id() -> Vec<u8> {
    Uuid::new_v4().as_u64_pair().1.to_be_bytes().to_vec()
}

#[cfg(test)]
mod tests;
