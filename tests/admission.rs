//! Requests beyond a target's limit: the real binary between clients and a provider that answers when the test says so.

#![allow(dead_code)] // what other tests need of the shared servers

mod support {
    pub mod gateway;
    pub mod upstream;
}

use serde_json::{Value, json};
use std::future::Future;
use support::gateway::Gateway;
use support::upstream::{PATIENCE, Reply, Seen, Stream, Upstream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

/// A provider that lists `m` and `n`, and answers each other request when it is told.
struct Slow {
    upstream: Upstream,
    asked: mpsc::UnboundedReceiver<Asked>,
}

/// A request that waits for its answer.
struct Asked {
    /// The model and the last words of the client, as in `m: first`.
    what: String,
    answer: oneshot::Sender<Reply>,
}

impl Asked {
    fn answer(self) {
        assert!(self.answer.send(completion("done")).is_ok(), "the gateway has left {}", self.what);
    }

    fn stream(self) -> Stream {
        let (stream, reply) = Reply::events();
        assert!(self.answer.send(reply).is_ok(), "the gateway has left {}", self.what);
        stream
    }
}

impl Slow {
    /// `about` answers what is asked about the server itself.
    async fn start_with(about: impl Fn(&Seen) -> Reply + Send + 'static) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let upstream = Upstream::start(move |seen| {
            if seen.method == "GET" {
                return about(seen);
            }
            let body = seen.json();
            let (model, words) = (body["model"].as_str().unwrap(), body["messages"][0]["content"].as_str().unwrap());
            let (answer, reply) = Reply::held();
            asks.send(Asked { what: format!("{model}: {words}"), answer }).unwrap();
            reply
        })
        .await;
        Self { upstream, asked }
    }

    async fn start() -> Self {
        Self::start_with(|_| Reply::models(&["m", "n"])).await
    }

    /// The next request.
    async fn next(&mut self) -> Asked {
        in_time(self.asked.recv()).await.unwrap()
    }

    /// Nobody else has come by now.
    fn nobody(&mut self) {
        assert!(self.asked.try_recv().map(|asked| asked.what).is_err());
    }
}

async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it did not happen")
}

fn completion(content: &str) -> Reply {
    Reply::json(
        200,
        &json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}),
    )
}

fn chunk(content: &str) -> String {
    let choices = json!([{"index": 0, "delta": {"content": content}, "finish_reason": null}]);
    format!("data: {}\n\n", json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "choices": choices}))
}

/// A gateway with this provider as `there`, whose models it knows, and what else the config says.
async fn gateway(slow: &Slow, limits: &str, more: &str) -> Gateway {
    let url = slow.upstream.url();
    let gateway = Gateway::start(&format!(
        "[providers.there]\nbase_url = \"{url}\"\nkind = \"vendor\"\n[providers.there.limits]\n{limits}\n{more}"
    ));
    let is_known = async || gateway.admin("/admin/resolve?model=m").await["error"].is_null().then_some(());
    gateway.eventually("its models are known", is_known).await;
    gateway
}

fn words(model: &str, words: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": words}]})
}

/// An answer as its client sees it.
struct Answer {
    status: u16,
    headers: http::HeaderMap,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Asks in the background.
fn ask(gateway: &Gateway, model: &str, text: &str, headers: &[(&'static str, &'static str)]) -> JoinHandle<Answer> {
    post(gateway, "/v1/chat/completions", words(model, text), headers)
}

fn post(gateway: &Gateway, path: &str, body: Value, headers: &[(&'static str, &'static str)]) -> JoinHandle<Answer> {
    let request =
        headers.iter().fold(gateway.post(path, &body), |request, (name, value)| request.header(*name, *value));
    tokio::spawn(async move {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Answer { status, headers, body: serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default() }
    })
}

async fn answer(asking: JoinHandle<Answer>) -> Answer {
    in_time(asking).await.unwrap()
}

async fn metrics(gateway: &Gateway) -> String {
    gateway.text("/metrics").await
}

/// The sum of a metric's series.
fn sum(text: &str, series: &str) -> f64 {
    let values = text.lines().filter(|line| line.starts_with(series)).filter_map(|line| line.rsplit_once(' '));
    values.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
}

/// Waits until so many requests wait in queues.
async fn waiting(gateway: &Gateway, number: u64) {
    let waiting = async || (sum(&metrics(gateway).await, "bifrost_queue_depth{") == number as f64).then_some(());
    gateway.eventually("so many wait", waiting).await;
}

/// What is known of a finished exchange.
async fn record(gateway: &Gateway, answer: &Answer) -> Value {
    gateway.recorded(answer.header("x-request-id").unwrap()).await
}

const BATCH: &[(&str, &str)] = &[("x-bifrost-priority", "batch")];

#[tokio::test]
async fn the_limit_is_kept_and_the_queue_goes_by_priority_and_then_by_coming() {
    let mut slow = Slow::start().await;
    let nightly =
        "[classes.nightly]\npriority = \"batch\"\nselect = [{ provider = \"there\", model = \"m*\" }]\ncloud = true";
    let gateway = gateway(&slow, "in_flight = 2", nightly).await;
    let mut asking = vec![ask(&gateway, "there/m", "1", &[])];
    let first = slow.next().await;
    asking.push(ask(&gateway, "there/m", "2", BATCH));
    let second = slow.next().await;
    let comers: [(&str, &str, &[_]); 5] = [
        ("class/nightly", "batch 1", &[]),
        ("there/m", "3", &[]),
        ("there/m", "batch 2", BATCH),
        ("class/nightly", "4", &[("x-bifrost-priority", "Interactive")]),
        ("there/n", "another model", &[]),
    ];
    for (place, (model, text, headers)) in comers.into_iter().enumerate() {
        asking.push(ask(&gateway, model, text, headers));
        waiting(&gateway, (place as u64 + 1).min(4)).await;
    }
    let other = slow.next().await;
    assert_eq!(other.what, "n: another model", "each model has its own places");
    slow.nobody();
    let (mut order, mut held) = (Vec::new(), first);
    for _ in 0..4 {
        held.answer();
        held = slow.next().await;
        order.push(held.what.clone());
        slow.nobody();
    }
    [held, second, other].into_iter().for_each(Asked::answer);
    assert_eq!(order, ["m: 3", "m: 4", "m: batch 1", "m: batch 2"]);
    let mut positions = Vec::new();
    for asking in asking {
        let answer = answer(asking).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.header("x-bifrost-queue-ms").is_some(), answer.header("x-bifrost-queue-position").is_some());
        positions.push(answer.header("x-bifrost-queue-position").map(str::to_owned));
    }
    let at = |position: &str| Some(position.to_owned());
    assert_eq!(positions, [None, None, at("1"), at("1"), at("3"), at("2"), None]);
}

#[tokio::test]
async fn a_wait_is_told_in_the_record_the_metrics_and_the_status() {
    let mut slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1", "").await;
    let first = ask(&gateway, "there/m", "first", &[]);
    let held = slow.next().await;
    let second = ask(&gateway, "there/m", "second", BATCH);
    waiting(&gateway, 1).await;
    let text = metrics(&gateway).await;
    for line in [
        r#"bifrost_target_in_flight{provider="there",model="m"} 1"#,
        r#"bifrost_queue_depth{provider="there",model="m",priority="batch"} 1"#,
        r#"bifrost_queue_depth{provider="there",model="m",priority="interactive"} 0"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let queues = &gateway.admin("/admin/status").await["queues"];
    let waits = json!({"interactive": 0, "batch": 1});
    assert_eq!(*queues, json!([{"provider": "there", "model": "m", "limit": 1, "in_flight": 1, "waiting": waits}]));
    let (_, shown, _) = gateway.run(&["status"]);
    assert!(
        shown.lines().any(|line| line.split_whitespace().eq("there/m 1 of 1 0 interactive, 1 batch".split(' '))),
        "{shown}"
    );
    held.answer();
    slow.next().await.answer();
    assert_eq!(record(&gateway, &answer(first).await).await["queue"], Value::Null);
    let second = record(&gateway, &answer(second).await).await;
    let queue = &second["queue"];
    assert_eq!(
        (&queue["position"], &queue["priority"], &queue["spilled"]),
        (&json!(1), &json!("batch"), &json!(false))
    );
    let waited = queue["waited_ms"].as_f64().unwrap();
    assert!(waited > 0.0);
    let attempt = second["attempts"][0]["waited_ms"].as_f64().unwrap();
    assert!(attempt > 0.0, "the attempt says what it waited for: {second}");
    let own = second["overhead_us"].as_f64().unwrap() / 1_000.0;
    assert!(own <= second["total_ms"].as_f64().unwrap() - waited, "waiting is not the gateway's own time: {second}");
    let text = metrics(&gateway).await;
    let series = r#"bifrost_queue_wait_seconds_count{provider="there",priority="batch",end="admitted"}"#;
    assert_eq!(sum(&text, series), 1.0, "{text}");
    assert_eq!(sum(&text, "bifrost_target_in_flight{"), 0.0);
    assert_eq!(gateway.admin("/admin/status").await["queues"], json!([]));
}

#[tokio::test]
async fn a_full_queue_is_a_429_in_the_clients_dialect() {
    let mut slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1\nqueue = 1", "").await;
    let first = ask(&gateway, "there/m", "first", &[]);
    let held = slow.next().await;
    let second = ask(&gateway, "there/m", "second", &[]);
    waiting(&gateway, 1).await;
    let anthropic = json!({"model": "there/m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let gemini = json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]});
    let (chat, messages) = ("/v1/chat/completions", "/v1/messages");
    for (path, body, at, kind) in [
        (chat, words("there/m", "third"), "/error/code", "queue_full"),
        (messages, anthropic, "/error/type", "rate_limit_error"),
        ("/v1beta/models/there/m:generateContent", gemini, "/error/status", "RESOURCE_EXHAUSTED"),
    ] {
        let answer = answer(post(&gateway, path, body, &[])).await;
        assert_eq!((answer.status, answer.body.pointer(at)), (429, Some(&json!(kind))), "{path}: {}", answer.body);
        let message = answer.body["error"]["message"].as_str().unwrap();
        assert!(message.contains("there/m is busy and its queue is full: 1 requests wait"), "{message}");
        assert!(message.contains("spill = true") && message.contains("[providers.there.limits]"), "{message}");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("x-bifrost-attempts"), Some("there/m busy 0ms"));
    }
    held.answer();
    slow.next().await.answer();
    assert_eq!((answer(first).await.status, answer(second).await.status), (200, 200));
    let operations = || async { sum(&metrics(&gateway).await, "gen_ai_client_operation_duration_seconds_count") };
    gateway.eventually("both are counted", async || (operations().await >= 2.0).then_some(())).await;
    assert!(operations().await < 3.0, "who found no place was no operation of a model");
}

#[tokio::test]
async fn who_waits_too_long_is_told_so() {
    let mut slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1\nqueue_timeout = \"200ms\"", "").await;
    let first = ask(&gateway, "there/m", "first", &[]);
    let held = slow.next().await;
    let refused = answer(ask(&gateway, "there/m", "second", &[])).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (503, &json!("queue_timeout")), "{}", refused.body);
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert!(message.contains("no place came free in ") && message.contains("at position 1 of its queue"), "{message}");
    assert_eq!((refused.header("retry-after"), refused.header("x-bifrost-queue-position")), (Some("1"), Some("1")));
    assert!(refused.header("x-bifrost-queue-ms").unwrap().parse::<u64>().unwrap() >= 200);
    waiting(&gateway, 0).await;
    held.answer();
    assert_eq!(answer(first).await.status, 200);
    slow.nobody();
}

#[tokio::test]
async fn a_client_may_wait_less_than_the_queue_allows() {
    let mut slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1", "").await;
    let first = ask(&gateway, "there/m", "first", &[]);
    let held = slow.next().await;
    let refused = answer(ask(&gateway, "there/m", "second", &[("x-bifrost-timeout-ms", "150")])).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (503, &json!("queue_timeout")), "{}", refused.body);
    held.answer();
    assert_eq!(answer(first).await.status, 200);
}

/// A gateway whose class `c` has the targets `there/m` and `else/o`.
async fn with_another(slow: &Slow, class: &str) -> (Gateway, Upstream) {
    let other = Upstream::start(|seen| match seen.method.as_str() {
        "GET" => Reply::models(&["o"]),
        _ => completion("from the other one"),
    })
    .await;
    let more = format!(
        "[providers.else]\nbase_url = \"{}\"\nkind = \"vendor\"\n\
         [classes.c]\n{class}\ncloud = true\nselect = [{{ provider = \"there\", model = \"m*\" }}, {{ provider = \"else\" }}]",
        other.url()
    );
    let gateway = gateway(slow, "in_flight = 1\nqueue = 1", &more).await;
    let has_both = async || {
        let plan = gateway.admin("/admin/resolve?model=c").await;
        (plan["targets"].as_array().unwrap().len() == 2).then_some(())
    };
    gateway.eventually("both models are known", has_both).await;
    (gateway, other)
}

#[tokio::test]
async fn a_class_with_spill_goes_on_at_once_and_says_so() {
    let mut slow = Slow::start().await;
    let (gateway, _other) = with_another(&slow, "spill = true").await;
    let first = ask(&gateway, "c", "first", &[]);
    let held = slow.next().await;
    let spilled = answer(ask(&gateway, "c", "second", &[])).await;
    assert_eq!((spilled.status, spilled.header("x-bifrost-provider")), (200, Some("else")), "{}", spilled.body);
    assert_eq!(spilled.header("x-bifrost-fallback"), Some("there/m"));
    let trail = spilled.header("x-bifrost-attempts").unwrap();
    assert!(trail.starts_with("there/m busy 0ms, else/o ok "), "{trail}");
    assert_eq!(spilled.header("x-bifrost-queue-position"), None, "it did not wait");
    let queue = &record(&gateway, &spilled).await["queue"];
    assert_eq!((&queue["spilled"], &queue["position"]), (&json!(true), &Value::Null));
    // It waits where there is nobody to go on to.
    let waits = ask(&gateway, "there/m", "third", &[]);
    waiting(&gateway, 1).await;
    held.answer();
    slow.next().await.answer();
    assert_eq!((answer(first).await.status, answer(waits).await.status), (200, 200));
}

#[tokio::test]
async fn a_class_without_spill_waits_and_goes_on_only_where_it_may_not_wait() {
    let mut slow = Slow::start().await;
    let (gateway, other) = with_another(&slow, "").await;
    let first = ask(&gateway, "c", "first", &[]);
    let held = slow.next().await;
    let second = ask(&gateway, "c", "second", &[]);
    waiting(&gateway, 1).await;
    assert!(other.seen().iter().all(|seen| seen.method == "GET"));
    let full = answer(ask(&gateway, "c", "third", &[])).await;
    assert_eq!(full.header("x-bifrost-provider"), Some("else"), "a full queue is a failure like others");
    held.answer();
    slow.next().await.answer();
    let (first, second) = (answer(first).await, answer(second).await);
    assert_eq!(
        (first.header("x-bifrost-provider"), second.header("x-bifrost-provider")),
        (Some("there"), Some("there"))
    );
}

#[tokio::test]
async fn a_client_that_leaves_the_queue_frees_its_place_at_once() {
    let mut slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1\nqueue = 1", "").await;
    let first = ask(&gateway, "there/m", "first", &[]);
    let held = slow.next().await;
    let leaves = ask(&gateway, "there/m", "leaves", &[]);
    waiting(&gateway, 1).await;
    leaves.abort();
    waiting(&gateway, 0).await;
    let next = ask(&gateway, "there/m", "next", &[]);
    waiting(&gateway, 1).await;
    held.answer();
    let asked = slow.next().await;
    assert_eq!(asked.what, "m: next");
    asked.answer();
    assert_eq!((answer(first).await.status, answer(next).await.status), (200, 200));
    let series = r#"bifrost_queue_wait_seconds_count{provider="there",priority="interactive",end="client_left"}"#;
    assert_eq!(sum(&metrics(&gateway).await, series), 1.0);
    slow.nobody();
}

#[tokio::test]
async fn a_stream_keeps_its_place_to_its_end() {
    let mut slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1", "").await;
    let mut body = words("there/m", "first");
    body["stream"] = json!(true);
    let mut client = in_time({
        let asking = gateway.post("/v1/chat/completions", &body).send();
        let stream = async {
            let stream = slow.next().await.stream();
            stream.send(chunk("a")).await;
            stream
        };
        async { tokio::join!(asking, stream) }
    })
    .await;
    assert!(in_time(client.0.as_mut().unwrap().chunk()).await.unwrap().is_some());
    let second = ask(&gateway, "there/m", "second", &[]);
    waiting(&gateway, 1).await;
    slow.nobody();
    client.1.send("data: [DONE]\n\n").await;
    drop(client.1);
    slow.next().await.answer();
    assert_eq!(answer(second).await.status, 200);
}

#[tokio::test]
async fn a_stream_that_waits_in_a_queue_is_kept_alive() {
    let mut slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1", "").await;
    let first = ask(&gateway, "there/m", "first", &[]);
    let held = slow.next().await;
    let mut body = words("there/m", "second");
    body["stream"] = json!(true);
    let mut client = in_time(gateway.post("/v1/chat/completions", &body).send()).await.unwrap();
    let headers = client.headers();
    assert_eq!(
        (&headers["x-bifrost-provider"], &headers["x-bifrost-queue-position"]),
        (&"pending".parse().unwrap(), &"1".parse().unwrap())
    );
    let sign = in_time(client.chunk()).await.unwrap().unwrap();
    assert!(sign.starts_with(b":") && sign.ends_with(b"\n\n"), "{sign:?}");
    held.answer();
    let stream = slow.next().await.stream();
    stream.send(chunk("its turn")).await;
    stream.send("data: [DONE]\n\n").await;
    drop(stream);
    let text = in_time(client.text()).await.unwrap();
    assert!(text.contains("its turn") && text.trim_end().ends_with("[DONE]"), "{text}");
    assert_eq!(answer(first).await.status, 200);
}

#[tokio::test]
async fn a_client_that_leaves_its_stream_frees_its_place() {
    let mut slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1", "").await;
    let mut body = words("there/m", "first");
    body["stream"] = json!(true);
    let request = gateway.post("/v1/chat/completions", &body);
    let client = tokio::spawn(async move {
        let mut answer = request.send().await.unwrap();
        while answer.chunk().await.unwrap().is_some() {}
    });
    let stream = slow.next().await.stream();
    stream.send(chunk("a")).await;
    let second = ask(&gateway, "there/m", "second", &[]);
    waiting(&gateway, 1).await;
    client.abort();
    stream.gone().await;
    slow.next().await.answer();
    assert_eq!(answer(second).await.status, 200);
}

#[tokio::test]
async fn a_failed_attempt_frees_the_place_for_the_next_request() {
    let mut slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1", "[retry]\nattempts = 0").await;
    let first = ask(&gateway, "there/m", "first", &[]);
    let held = slow.next().await;
    let second = ask(&gateway, "there/m", "second", &[]);
    waiting(&gateway, 1).await;
    held.answer.send(Reply::json(500, &json!({"error": {"message": "broken"}}))).ok().unwrap();
    slow.next().await.answer();
    assert_eq!((answer(first).await.status, answer(second).await.status), (500, 200));
}

#[tokio::test]
async fn an_estimate_of_tokens_waits_for_nobody() {
    let mut slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1\nqueue = 0", "").await;
    let first = ask(&gateway, "there/m", "first", &[]);
    let held = slow.next().await;
    let body = json!({"model": "there/m", "messages": [{"role": "user", "content": "How many tokens are these?"}]});
    let counted = answer(post(&gateway, "/v1/messages/count_tokens", body, &[])).await;
    assert_eq!(counted.status, 200, "{}", counted.body);
    assert!(counted.body["input_tokens"].as_u64().unwrap() > 0);
    held.answer();
    assert_eq!(answer(first).await.status, 200);
}

#[tokio::test]
async fn a_priority_that_is_none_is_an_error() {
    let slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1", "").await;
    let refused = answer(ask(&gateway, "there/m", "hi", &[("x-bifrost-priority", "urgent")])).await;
    assert_eq!((refused.status, &refused.body["error"]["code"]), (400, &json!("header_invalid")), "{}", refused.body);
    let message = refused.body["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("`x-bifrost-priority` must be `interactive` or `batch`."), "{message}");
}

#[tokio::test]
async fn limits_that_change_hold_at_once_for_those_who_wait_too() {
    let mut slow = Slow::start().await;
    let gateway = gateway(&slow, "in_flight = 1", "").await;
    let first = ask(&gateway, "there/m", "first", &[]);
    let held = slow.next().await;
    let second = ask(&gateway, "there/m", "second", &[]);
    waiting(&gateway, 1).await;
    let file = gateway.file("bifrost.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, config.replace("in_flight = 1", "in_flight = 3")).unwrap();
    let (code, _, errors) = gateway.run(&["config", "check"]);
    assert_eq!(code, Some(0), "{errors}");
    let reloads = r#"bifrost_config_reload_total{result="ok"}"#;
    gateway
        .eventually("it is read again", async || (sum(&metrics(&gateway).await, reloads) >= 1.0).then_some(()))
        .await;
    let one = slow.next().await;
    assert_eq!(one.what, "m: second", "it waits for nobody now");
    let third = ask(&gateway, "there/m", "third", &[]);
    let other = slow.next().await;
    assert_eq!(other.what, "m: third");
    [held, one, other].into_iter().for_each(Asked::answer);
    for asking in [first, second, third] {
        assert_eq!(answer(asking).await.status, 200);
    }
}

/// A gateway with this local server, whose kind it knows.
async fn local_gateway(slow: &Slow, limits: &str) -> Gateway {
    let url = slow.upstream.url();
    let gateway =
        Gateway::start(&format!("[providers.mlx-local]\nbase_url = \"{url}\"\n[providers.mlx-local.limits]\n{limits}"));
    let is_seen = async || gateway.admin("/admin/status").await["local"]["server"]["models"].is_array().then_some(());
    gateway.eventually("the local server is seen", is_seen).await;
    gateway
}

#[tokio::test]
async fn the_local_server_gets_four_at_a_time_of_each_model() {
    let mut slow = Slow::start_with(|seen| match seen.path.as_str() {
        "/v1/models" => Reply::models(&["m", "n"]),
        "/health" => Reply::json(200, &json!({"status": "healthy", "model_loaded": true})),
        _ => Reply::json(404, &json!({"detail": "Not Found"})),
    })
    .await;
    let gateway = local_gateway(&slow, "").await;
    let mut asking: Vec<_> = (0..5).map(|_| ask(&gateway, "mlx-local/m", "hi", &[])).collect();
    asking.push(ask(&gateway, "mlx-local/n", "hi", &[]));
    waiting(&gateway, 1).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(slow.next().await);
    }
    assert_eq!(held.iter().filter(|asked| asked.what == "m: hi").count(), 4, "its models do not share a memory");
    slow.nobody();
    held.into_iter().for_each(Asked::answer);
    slow.next().await.answer();
    for asking in asking {
        assert_eq!(answer(asking).await.status, 200);
    }
}

#[tokio::test]
async fn behind_llama_swap_models_take_turns_and_those_that_wait_go_as_a_batch() {
    let mut slow = Slow::start_with(|seen| match seen.path.as_str() {
        "/v1/models" => Reply::models(&["m", "n"]),
        "/health" => Reply::bytes(200, "text/plain", "OK"),
        "/running" => Reply::json(200, &json!({"running": []})),
        _ => Reply::json(404, &json!({})),
    })
    .await;
    let gateway = local_gateway(&slow, "in_flight = 2\nresidency = \"1h\"").await;
    let mut asking = vec![ask(&gateway, "mlx-local/m", "1", &[])];
    let mut held = vec![slow.next().await];
    for (number, (model, text)) in [("n", "1"), ("n", "2"), ("n", "3")].into_iter().enumerate() {
        asking.push(ask(&gateway, &format!("mlx-local/{model}"), text, &[]));
        waiting(&gateway, number as u64 + 1).await;
    }
    // What is loaded goes first, though it came last.
    asking.push(ask(&gateway, "mlx-local/m", "2", &[]));
    held.push(slow.next().await);
    assert_eq!(held[1].what, "m: 2");
    asking.push(ask(&gateway, "mlx-local/m", "3", &[]));
    waiting(&gateway, 4).await;
    held.remove(0).answer();
    held.push(slow.next().await);
    assert_eq!(held[1].what, "m: 3");
    held.remove(0).answer();
    assert_eq!(answer(asking.remove(0)).await.status, 200);
    slow.nobody();
    // Only when the loaded model has nothing to do any more, the other one comes in, with all its requests.
    held.remove(0).answer();
    let (one, other) = (slow.next().await, slow.next().await);
    let mut both = [one.what.as_str(), other.what.as_str()];
    both.sort_unstable();
    assert_eq!(both, ["n: 1", "n: 2"]);
    asking.push(ask(&gateway, "mlx-local/m", "4", &[]));
    waiting(&gateway, 2).await;
    one.answer();
    let last = slow.next().await;
    assert_eq!(last.what, "n: 3", "its batch is not over");
    other.answer();
    last.answer();
    let back = slow.next().await;
    assert_eq!(back.what, "m: 4");
    back.answer();
    for asking in asking {
        assert_eq!(answer(asking).await.status, 200);
    }
}

/// What the real llama-swap lists: `m` with two aliases, one of them an entry of its own, and `n`.
fn with_aliases() -> Reply {
    let entry = |id: &str, about: Value| json!({"id": id, "object": "model", "created": 1, "owned_by": "llama-swap", "meta": {"llamaswap": about}, "status": {"value": "unloaded"}});
    let data = [
        entry("first", json!({"type": "alias", "modelID": "m"})),
        entry("m", json!({"type": "model", "aliases": ["first", "second"]})),
        entry("n", json!({"type": "model"})),
        entry("some", json!({"type": "selector", "strategy": "warm", "targets": ["m", "n"]})),
    ];
    Reply::json(200, &json!({"object": "list", "data": data}))
}

#[tokio::test]
async fn an_alias_of_llama_swap_is_its_model_and_does_not_wait_for_itself() {
    let mut slow = Slow::start_with(|seen| match seen.path.as_str() {
        "/v1/models" => with_aliases(),
        "/health" => Reply::bytes(200, "text/plain", "OK"),
        "/running" => Reply::json(200, &json!({"running": []})),
        _ => Reply::json(404, &json!({})),
    })
    .await;
    let gateway = local_gateway(&slow, "in_flight = 3\nresidency = \"1h\"").await;
    let mut asking = vec![ask(&gateway, "mlx-local/m", "1", &[])];
    let mut held = vec![slow.next().await];
    for (model, what) in [("mlx-local/second", "second: 2"), ("First", "first: 3")] {
        asking.push(ask(&gateway, model, &what[what.len() - 1..], &[]));
        held.push(slow.next().await);
        assert_eq!(held.last().unwrap().what, what, "the name stays what was asked");
    }
    let queues = &gateway.admin("/admin/status").await["queues"];
    assert_eq!((&queues[0]["model"], &queues[0]["in_flight"], &queues[1]), (&json!("m"), &json!(3), &Value::Null));
    asking.push(ask(&gateway, "second", "4", &[]));
    waiting(&gateway, 1).await;
    asking.push(ask(&gateway, "mlx-local/n", "5", &[]));
    waiting(&gateway, 2).await;
    // Who chooses is not known to swap.
    asking.push(ask(&gateway, "mlx-local/some", "6", &[]));
    let chosen = slow.next().await;
    assert_eq!(chosen.what, "some: 6");
    chosen.answer();
    slow.nobody();
    held.remove(0).answer();
    held.push(slow.next().await);
    assert_eq!(held.last().unwrap().what, "second: 4");
    held.into_iter().for_each(Asked::answer);
    slow.next().await.answer();
    for asking in asking {
        assert_eq!(answer(asking).await.status, 200);
    }
}
