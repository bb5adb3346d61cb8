//! Traces, as a collector gets them. What comes is read with OpenTelemetry's own types.

#[allow(dead_code)] // Other tests need more of it.
mod support {
    pub mod gateway;
    pub mod upstream;
}

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use support::gateway::Gateway;
use support::upstream::{Reply, Seen, Upstream};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const CALLERS_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn provider() -> Upstream {
    Upstream::start(|seen| match seen.method.as_str() {
        "GET" => Reply::models(&["m"]),
        _ => Reply::json(
            200,
            &json!({
                "id": "c1", "object": "chat.completion", "created": 1, "model": "m-2026",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "a secret answer"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            }),
        ),
    })
    .await
}

/// A collector that answers with these statuses in turn, then with 200.
async fn collector(statuses: &[u16]) -> Upstream {
    let mut statuses = statuses.to_vec();
    statuses.reverse();
    Upstream::start(move |_| Reply::bytes(statuses.pop().unwrap_or(200), "application/x-protobuf", "")).await
}

fn config(provider: &Upstream, traces: &str) -> String {
    let url = provider.url();
    format!(
        "[providers.there]\nbase_url = \"{url}\"\ndialect = \"openai_chat\"\nkind = \"vendor\"\n[traces]\n{traces}\n"
    )
}

fn question(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "a secret question"}]})
}

async fn ask(gateway: &Gateway, model: &str, traceparent: &str) {
    let request = gateway.post("/v1/chat/completions", &question(model)).header("traceparent", traceparent);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    answer.bytes().await.unwrap();
}

fn spans(seen: &Seen) -> Vec<Span> {
    let request = ExportTraceServiceRequest::decode(seen.body.clone()).unwrap();
    request.resource_spans.into_iter().flat_map(|it| it.scope_spans).flat_map(|it| it.spans).collect()
}

fn trace_id(span: &Span) -> String {
    span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until a metric has this value.
async fn counted(gateway: &Gateway, line: &str) {
    gateway.eventually(line, async || gateway.text("/metrics").await.contains(line).then_some(())).await;
}

async fn is_ready(gateway: &Gateway) {
    let ready = async || (gateway.get("/ready").send().await.unwrap().status() == 200).then_some(());
    gateway.eventually("it is ready", ready).await;
}

#[tokio::test]
async fn an_exchange_continues_the_trace_of_its_caller_and_says_nothing_of_its_content() {
    let (mut provider, mut collector) = (provider().await, collector(&[]).await);
    let traces = format!("endpoint = \"{}\"\nheaders = {{ X-Team = \"env:TEAM\" }}", collector.url());
    let gateway = Gateway::start_with(&config(&provider, &traces), &[("TEAM", "t-1")], &[]);
    ask(&gateway, "there/m", CALLER).await;
    let seen = collector.next("POST").await;
    assert_eq!((seen.path.as_str(), seen.header("content-type")), ("/v1/traces", "application/x-protobuf"));
    assert_eq!(seen.header("x-team"), "t-1");
    let spans = spans(&seen);
    let [attempt, exchange] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!((attempt.name.as_str(), exchange.name.as_str()), ("chat m", "chat m"));
    assert_eq!(trace_id(exchange), CALLERS_TRACE);
    assert_eq!(attempt.parent_span_id, exchange.span_id);
    let has = |key: &str| exchange.attributes.iter().any(|attribute| attribute.key == key);
    for key in ["gen_ai.usage.input_tokens", "gen_ai.response.model", "bifrost.request_id"] {
        assert!(has(key), "{key}: {exchange:?}");
    }
    assert!(!String::from_utf8_lossy(&seen.body).contains("secret"));
    assert_eq!(
        provider.next("POST").await.header("traceparent"),
        "",
        "whom the caller traces is no provider's business"
    );
    counted(&gateway, "bifrost_trace_spans_sent_total 2\n").await;
}

#[tokio::test]
async fn a_caller_that_does_not_look_is_not_told_of() {
    let (provider, mut collector) = (provider().await, collector(&[]).await);
    let gateway = Gateway::start(&config(&provider, &format!("endpoint = \"{}/v1/traces\"", collector.url())));
    ask(&gateway, "there/m", &CALLER.replace("-01", "-00")).await;
    ask(&gateway, "there/m", "nonsense").await;
    let seen = collector.next("POST").await;
    assert_eq!(seen.path, "/v1/traces");
    let spans = spans(&seen);
    assert_eq!(spans.len(), 2, "of the second exchange only");
    assert!(trace_id(&spans[1]) != CALLERS_TRACE && spans[1].parent_span_id.is_empty());
}

#[tokio::test]
async fn what_waits_at_the_end_is_sent() {
    let (provider, mut collector) = (provider().await, collector(&[]).await);
    let mut gateway = Gateway::start(&config(&provider, &format!("endpoint = \"{}\"", collector.url())));
    ask(&gateway, "there/m", CALLER).await;
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    assert_eq!(spans(&collector.next("POST").await).len(), 2);
}

#[tokio::test]
async fn a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_told_of_once() {
    let (provider, mut collector) = (provider().await, collector(&[503, 200, 400, 400]).await);
    let mut gateway = Gateway::start(&config(&provider, &format!("endpoint = \"{}\"", collector.url())));
    ask(&gateway, "there/m", CALLER).await;
    let (first, again) = (collector.next("POST").await, collector.next("POST").await);
    assert_eq!((spans(&first).len(), spans(&again).len()), (2, 2));
    counted(&gateway, "bifrost_trace_spans_sent_total 2\n").await;
    for lost in [2, 4] {
        ask(&gateway, "there/m", CALLER).await;
        counted(&gateway, &format!("bifrost_trace_spans_dropped_total {lost}\n")).await;
    }
    // The log is whole when the gateway has ended.
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    assert_eq!(gateway.log().matches("traces are incomplete").count(), 1, "{}", gateway.log());
    assert!(gateway.log().contains("answered 400"), "{}", gateway.log());
}

#[tokio::test]
async fn in_local_only_mode_nothing_is_told_to_an_address_that_is_not_loopback() {
    let (provider, collector) = (provider().await, collector(&[]).await);
    // The same collector under an address that does not look like this machine.
    let elsewhere = collector.url().replace("127.0.0.1", "[::ffff:127.0.0.1]");
    for (only, endpoint, told) in [(false, &elsewhere, 1), (true, &elsewhere, 0), (true, &collector.url(), 1)] {
        let before = collector.seen().len();
        let mut gateway = Gateway::start(&format!(
            "[providers.mlx-local]\nbase_url = \"{}\"\n[local]\nonly = {only}\n[traces]\nendpoint = \"{endpoint}\"\n",
            provider.url()
        ));
        is_ready(&gateway).await;
        ask(&gateway, "mlx-local/m", CALLER).await;
        if told == 1 {
            counted(&gateway, "bifrost_trace_spans_sent_total 2\n").await;
        }
        gateway.signal("TERM");
        assert_eq!(gateway.wait(), Some(0));
        // The end of the gateway sends what waits; afterwards nobody is left who could.
        assert_eq!(collector.seen().len() - before, told, "{only} {endpoint}: {}", gateway.log());
    }
}
