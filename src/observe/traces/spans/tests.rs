//! What is sent is read with OpenTelemetry's own types, which come from the definitions of the format.

use super::*;
use crate::chat::{ErrorKind, Usage};
use crate::observe::{ErrorRecord, Operation};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest as Official;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as OfficialKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as OfficialStatus;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans as OfficialResource, Span as OfficialSpan};
use std::collections::BTreeMap;

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn record() -> ExchangeRecord {
    let attempt = |provider: &str, outcome, began, millis| AttemptRecord {
        provider: provider.into(),
        model: format!("{provider}-model").into(),
        outcome,
        status: Some(if outcome == "ok" { 200 } else { 503 }),
        retry: false,
        waited: Duration::from_millis(7),
        began: Duration::from_millis(began),
        millis,
        error: Some("what the provider said, quoting a secret plan".to_owned()),
    };
    ExchangeRecord {
        id: "0193".into(),
        started: UNIX_EPOCH + Duration::from_secs(1_767_225_600),
        operation: Operation::Chat,
        requested_model: "coding".to_owned(),
        class: Some("coding".to_owned()),
        class_reason: Some("a secret plan".to_owned()),
        provider: Some("gemini".into()),
        model: Some("gemini-model".into()),
        response_model: Some("gemini-model-001".into()),
        attempts: vec![attempt("openai", "overloaded", 1, 20), attempt("gemini", "ok", 30, 70)],
        stream: true,
        status: 200,
        usage: Some(Usage { input: 100, output: 20, cache_read: Some(64), ..Usage::default() }),
        total: Duration::from_millis(900),
        upstream: Some(Duration::from_millis(70)),
        first_token: Some(Duration::from_millis(100)),
        trace: Some(TraceContext::of(Some(CALLER))),
        ..ExchangeRecord::default()
    }
}

fn decoded(record: ExchangeRecord) -> OfficialResource {
    let bytes = encode(&[Arc::new(record)]);
    let mut request = <Official as Message>::decode(bytes.as_slice()).unwrap();
    assert_eq!(request.resource_spans.len(), 1);
    request.resource_spans.remove(0)
}

fn spans(record: ExchangeRecord) -> Vec<OfficialSpan> {
    decoded(record).scope_spans.remove(0).spans
}

fn attributes(span: &OfficialSpan) -> BTreeMap<&str, String> {
    let text = |value: &any_value::Value| match value {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::IntValue(count) => count.to_string(),
        any_value::Value::BoolValue(flag) => flag.to_string(),
        any_value::Value::DoubleValue(number) => format!("{number:.3}"),
        other => panic!("{other:?}"),
    };
    let all = span.attributes.iter();
    all.map(|it| (it.key.as_str(), text(it.value.as_ref().unwrap().value.as_ref().unwrap()))).collect()
}

#[test]
fn an_exchange_is_a_span_of_the_callers_trace_and_its_attempts_stand_beneath_it() {
    let spans = spans(record());
    let [refused, answered, exchange] = spans.as_slice() else { panic!("{spans:?}") };
    let millis = |span: &OfficialSpan| {
        let begin = 1_767_225_600_000_000_000;
        ((span.start_time_unix_nano - begin) / 1_000_000, (span.end_time_unix_nano - begin) / 1_000_000)
    };
    assert_eq!(exchange.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes());
    assert_eq!(exchange.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
    assert_eq!((exchange.name.as_str(), exchange.kind()), ("chat gemini-model", OfficialKind::Server));
    assert_eq!(millis(exchange), (0, 900));
    for attempt in [refused, answered] {
        assert_eq!((&attempt.trace_id, &attempt.parent_span_id), (&exchange.trace_id, &exchange.span_id));
        assert_eq!(attempt.kind(), OfficialKind::Client);
        assert_eq!(attempt.span_id.len(), 8);
    }
    assert_eq!((refused.name.as_str(), millis(refused)), ("chat openai-model", (1, 21)));
    assert_eq!(millis(answered), (30, 900), "a stream goes on after its first content");
    assert_ne!(refused.span_id, answered.span_id);
    let code = |span: &OfficialSpan| span.status.as_ref().map(|status| status.code());
    assert_eq!((code(refused), code(answered), code(exchange)), (Some(OfficialStatus::Error), None, None));
}

#[test]
fn attributes_have_the_names_of_the_conventions() {
    let resource = decoded(record());
    assert_eq!(resource.resource.as_ref().unwrap().attributes[0].key, "service.name");
    let spans = &resource.scope_spans[0].spans;
    insta::assert_debug_snapshot!(spans.iter().map(attributes).collect::<Vec<_>>());
}

#[test]
fn content_and_what_providers_wrote_are_not_among_them() {
    let bytes = encode(&[Arc::new(record())]);
    assert!(!String::from_utf8_lossy(&bytes).contains("secret plan"));
}

#[test]
fn an_exchange_that_failed_or_was_left_is_an_error() {
    let failed = ExchangeRecord {
        error: Some(ErrorRecord { kind: ErrorKind::Overloaded, code: None, param: None }),
        provider: None,
        model: None,
        attempts: Vec::new(),
        status: 503,
        ..record()
    };
    let left = ExchangeRecord { cancelled: true, status: 0, requested_model: String::new(), ..failed.clone() };
    let left = ExchangeRecord { error: None, ..left };
    for (record, name, kind, status) in
        [(failed, "chat coding", "overloaded", Some("503")), (left, "chat", "cancelled", None)]
    {
        let spans = spans(record);
        let attributes = attributes(&spans[0]);
        assert_eq!((spans[0].name.as_str(), attributes["error.type"].as_str()), (name, kind));
        assert_eq!(attributes.get("http.response.status_code").map(String::as_str), status);
        assert_eq!(spans[0].status.as_ref().unwrap().code(), OfficialStatus::Error);
    }
}

#[test]
fn a_target_that_was_not_asked_is_an_event_and_no_call() {
    for (outcome, event) in [
        ("not_offered", "bifrost.target.not_offered"),
        ("resting", "bifrost.target.resting"),
        ("busy", "bifrost.target.busy"),
    ] {
        let mut record = record();
        record.attempts[0].outcome = outcome;
        assert_eq!(count(&record), 2);
        let spans = spans(record);
        let [answered, exchange] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!(answered.name, "chat gemini-model");
        assert_eq!(exchange.events[0].name, event);
        assert_eq!(exchange.events[0].time_unix_nano, exchange.start_time_unix_nano + 1_000_000);
    }
}

#[test]
fn without_a_caller_the_exchange_is_the_root() {
    let spans = spans(ExchangeRecord { trace: Some(TraceContext::of(None)), ..record() });
    assert!(spans[2].parent_span_id.is_empty() && spans[2].trace_id != [0; 16]);
    assert!(spans[0].parent_span_id == spans[2].span_id);
}
