//! What `/metrics` says after traffic of which everything is known. The text is read by the rules of OpenMetrics 1.0.

#[allow(dead_code)] // Other tests need more of it.
mod support {
    pub mod gateway;
    pub mod upstream;
}

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::gateway::Gateway;
use support::upstream::{Reply, Upstream};

/// One provider with a price and one without, both listing the model `m`; failures are retried at once. The local server is
/// left out: one that runs on this machine would have its say in the numbers.
fn config(priced: &Upstream, unpriced: &Upstream) -> String {
    let provider = |name: &str, upstream: &Upstream| {
        format!("[providers.{name}]\nbase_url = \"{}\"\ndialect = \"openai_chat\"\nkind = \"vendor\"\n", upstream.url())
    };
    format!(
        "{}{}[providers.mlx-local]\nenabled = false\n[retry]\nattempts = 1\nbase = \"1ms\"\n[facts.\"priced/m\"]\ninput_price = 2.0\noutput_price = 10.0\ncache_read_price = 0.5\n",
        provider("priced", priced),
        provider("unpriced", unpriced),
    )
}

/// Answers chats with what `replies` gives in turn, and lists the model `m`.
async fn upstream(replies: impl IntoIterator<Item = Reply>) -> Upstream {
    let mut replies: Vec<Reply> = replies.into_iter().collect();
    replies.reverse();
    Upstream::start(move |seen| match seen.method.as_str() {
        "GET" => Reply::models(&["m"]),
        _ => replies.pop().unwrap_or_else(|| Reply::json(500, &json!({"error": {"message": "asked too often"}}))),
    })
    .await
}

fn answer(cached: u64) -> Reply {
    Reply::json(
        200,
        &json!({
            "id": "c1", "object": "chat.completion", "created": 1, "model": "m-2026",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
                "prompt_tokens_details": {"cached_tokens": cached},
            },
        }),
    )
}

fn busy() -> Reply {
    Reply::json(503, &json!({"error": {"message": "too busy", "type": "server_error"}}))
}

/// A stream of two words, with an event between them that is none.
fn stream() -> Reply {
    let chunk = |delta: Value, finish: Value| {
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices})
            .to_string()
    };
    let usage = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}});
    let events = [
        chunk(json!({"content": "one"}), Value::Null),
        "{\"choices\": [oops".to_owned(),
        chunk(json!({"content": "two"}), json!("stop")),
        usage.to_string(),
        "[DONE]".to_owned(),
    ];
    let text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
    Reply::bytes(200, "text/event-stream", text)
}

fn hello(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
}

/// A gateway that has the lists of both providers: only what stands there may be a label.
async fn start(priced: &Upstream, unpriced: &Upstream) -> Gateway {
    let gateway = Gateway::start(&config(priced, unpriced));
    gateway.lists(&["priced/m", "unpriced/m"]).await;
    gateway
}

/// Asks, and reads the answer to its end.
async fn ask(gateway: &Gateway, body: &Value) -> u16 {
    weigh(gateway, body).await.0
}

/// The same, with the bytes of the answer.
async fn weigh(gateway: &Gateway, body: &Value) -> (u16, usize) {
    let answer = gateway.post("/v1/chat/completions", body).send().await.unwrap();
    (answer.status().as_u16(), answer.bytes().await.unwrap().len())
}

/// The samples by name and labels, the labels in the order of their names.
struct Metrics {
    samples: BTreeMap<String, f64>,
    families: BTreeMap<String, String>,
}

impl Metrics {
    /// Waits until as many exchanges have ended as were begun: an exchange ends a moment after its last byte.
    async fn after(gateway: &Gateway, exchanges: f64) -> Self {
        let counted = async || {
            let metrics = Self::of(gateway).await;
            (metrics.sum("bifrost_requests_total") >= exchanges).then_some(metrics)
        };
        gateway.eventually("the exchanges end", counted).await
    }

    async fn of(gateway: &Gateway) -> Self {
        let answer = gateway.get("/metrics").send().await.unwrap();
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        assert!(kind.starts_with("application/openmetrics-text; version=1.0.0"), "{kind}");
        Self::parse(&answer.text().await.unwrap())
    }

    /// Every line must be of the format, every sample belong to the family that was named before it, none come twice.
    fn parse(text: &str) -> Self {
        let mut metrics = Self { samples: BTreeMap::new(), families: BTreeMap::new() };
        let mut family = ("", "");
        let body = text.strip_suffix("# EOF\n").expect("no end");
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (keyword, name, rest) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
                match keyword {
                    "TYPE" => {
                        family = (name, rest);
                        assert!(metrics.families.insert(name.to_owned(), rest.to_owned()).is_none(), "{name} twice");
                    }
                    "UNIT" => assert!(name.ends_with(&format!("_{rest}")), "{line}"),
                    "HELP" => assert!(rest.ends_with('.'), "{line}"),
                    other => panic!("{other}: {line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) = series.split_once('{').map_or((series, ""), |(name, labels)| {
                (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}")))
            });
            let suffixes: &[&str] = match family.1 {
                "counter" => &["_total"],
                "gauge" => &[""],
                "histogram" => &["_bucket", "_sum", "_count"],
                "info" => &["_info"],
                other => panic!("a type that nobody knows: {other}"),
            };
            let suffix = name.strip_prefix(family.0).unwrap_or_else(|| panic!("{line} stands under {}", family.0));
            assert!(suffixes.contains(&suffix), "{line} is no {}", family.1);
            let mut labels = split_labels(labels);
            labels.sort();
            let key = format!("{name}{{{}}}", labels.join(","));
            assert!(metrics.samples.insert(key, value.parse().expect(line)).is_none(), "{line} twice");
        }
        metrics
    }

    /// One sample; 0 if it is not there.
    fn value(&self, series: &str) -> f64 {
        let series = if series.contains('{') { series.to_owned() } else { format!("{series}{{}}") };
        self.samples.get(&series).copied().unwrap_or(0.0)
    }

    fn sum(&self, name: &str) -> f64 {
        let prefix = format!("{name}{{");
        self.samples.iter().filter(|(series, _)| series.starts_with(&prefix)).map(|(_, value)| value).sum()
    }
}

/// `a="x",b="y"`; the values of these tests hold no commas.
fn split_labels(labels: &str) -> Vec<String> {
    // An empty value is as good as no label.
    labels.split(',').filter(|label| !label.is_empty() && !label.ends_with("=\"\"")).map(str::to_owned).collect()
}

fn assert_values(metrics: &Metrics, expected: &[(&str, f64)]) {
    for (series, value) in expected {
        let found = metrics.value(series);
        assert!((found - value).abs() < 1e-9, "{series} is {found}, not {value}:\n{:#?}", metrics.samples.keys());
    }
}

#[tokio::test]
async fn known_traffic_gives_known_numbers() {
    let priced = upstream([answer(60), busy(), answer(0), busy(), busy(), stream()]).await;
    let unpriced = upstream([answer(0)]).await;
    let gateway = start(&priced, &unpriced).await;
    // Answered; answered at the second try; by another provider after two tries; streamed; refused here.
    let mut falls_back = hello("priced/m");
    falls_back["fallbacks"] = json!(["unpriced/m"]);
    let mut streams = hello("priced/m");
    streams["stream"] = json!(true);
    let wrong = json!({"messages": []});
    let mut received = 0;
    for (body, expected) in
        [(&hello("priced/m"), 200), (&hello("priced/m"), 200), (&falls_back, 200), (&streams, 200), (&wrong, 400)]
    {
        let (status, bytes) = weigh(&gateway, body).await;
        assert_eq!(status, expected, "{body}");
        received += bytes;
    }
    let metrics = Metrics::after(&gateway, 5.0).await;

    let sent: usize = [&hello("priced/m"), &hello("priced/m"), &falls_back, &streams, &wrong]
        .map(|body| body.to_string().len())
        .iter()
        .sum();
    let on = |provider: &str| {
        format!("gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"{provider}\",gen_ai_request_model=\"m\"")
    };
    assert_values(
        &metrics,
        &[
            ("bifrost_requests_total{ingress=\"openai_chat\",operation=\"chat\",status=\"200\"}", 4.0),
            ("bifrost_requests_total{ingress=\"openai_chat\",operation=\"chat\",status=\"400\"}", 1.0),
            ("bifrost_requests_in_flight", 0.0),
            ("bifrost_streams_open", 0.0),
            ("bifrost_request_body_bytes_total", sent as f64),
            ("bifrost_attempts_total{outcome=\"ok\",provider=\"priced\"}", 3.0),
            ("bifrost_attempts_total{outcome=\"ok\",provider=\"unpriced\"}", 1.0),
            ("bifrost_attempts_total{outcome=\"overloaded\",provider=\"priced\"}", 3.0),
            ("bifrost_retries_total{provider=\"priced\"}", 2.0),
            ("bifrost_fallbacks_total{from=\"priced\",to=\"unpriced\"}", 1.0),
            ("bifrost_stream_events_skipped_total{provider=\"priced\"}", 1.0),
            // 40 x 2 + 60 x 0.5 + 20 x 10, and twice 100 x 2 + 20 x 10, in millionths.
            ("bifrost_cost_usd_total{model=\"m\",provider=\"priced\"}", 0.000_31 + 0.000_4 + 0.000_4),
            ("bifrost_cost_unknown_total{model=\"m\",provider=\"unpriced\"}", 1.0),
            ("bifrost_overhead_seconds_count", 4.0),
            (&format!("gen_ai_client_operation_duration_seconds_count{{{}}}", on("priced")), 3.0),
            (&format!("gen_ai_client_operation_duration_seconds_count{{{}}}", on("unpriced")), 1.0),
            (&format!("gen_ai_client_operation_time_to_first_chunk_seconds_count{{{}}}", on("priced")), 1.0),
            (&format!("gen_ai_server_time_to_first_token_seconds_count{{{}}}", on("priced")), 1.0),
            (&format!("gen_ai_server_time_per_output_token_seconds_count{{{}}}", on("priced")), 1.0),
            (&format!("gen_ai_client_token_usage_sum{{{},gen_ai_token_type=\"input\"}}", on("priced")), 300.0),
            (&format!("gen_ai_client_token_usage_sum{{{},gen_ai_token_type=\"output\"}}", on("priced")), 60.0),
            ("bifrost_config_last_reload_successful", 1.0),
            ("bifrost_trace_spans_sent_total", 0.0),
        ],
    );
    assert_values(&metrics, &[("bifrost_response_body_bytes_total", received as f64)]);

    let (status, shown, _) = gateway.run(&["status"]);
    assert_eq!(status, Some(0), "{shown}");
    for part in ["cost=$0.000310", "attempts=3 retries=1", "skipped=1"] {
        gateway.eventually(part, async || gateway.log().contains(part).then_some(())).await;
    }
}

#[tokio::test]
async fn models_that_only_clients_know_are_no_series() {
    let everything = Upstream::start(|seen| match seen.method.as_str() {
        "GET" => Reply::models(&["m"]),
        _ if seen.json()["stream"] == true => stream(),
        _ => answer(0),
    })
    .await;
    let gateway = start(&everything, &everything).await;
    let mut streams = hello("priced/m");
    streams["stream"] = json!(true);
    ask(&gateway, &hello("priced/m")).await;
    ask(&gateway, &streams).await;
    streams["model"] = json!("priced/nobody-lists-this");
    ask(&gateway, &streams).await;
    let before: BTreeSet<String> = Metrics::after(&gateway, 3.0).await.samples.into_keys().collect();
    for number in 0..200 {
        let mut body = hello(&format!("priced/invented-{number}"));
        body["stream"] = json!(number % 2 == 0);
        assert_eq!(ask(&gateway, &body).await, 200);
        body["model"] = json!(format!("nobody/invented-{number}"));
        assert_eq!(ask(&gateway, &body).await, 404);
        body["fallbacks"] = json!([format!("nobody/invented-{number}")]);
        body["model"] = json!("priced/m");
        assert_eq!(ask(&gateway, &body).await, 400);
    }
    let after = Metrics::after(&gateway, 603.0).await;
    let new: Vec<&String> = after.samples.keys().filter(|series| !before.contains(*series)).collect();
    assert!(new.iter().all(|series| series.starts_with("bifrost_requests_total{")), "{new:#?}");
    assert!(new.len() <= 2, "a 400 and a 404: {new:#?}");
    assert!(after.value("bifrost_cost_unknown_total{model=\"other\",provider=\"priced\"}") > 100.0);
}

#[tokio::test]
async fn models_that_the_configuration_names_are_series_though_no_list_has_them() {
    let fine = Upstream::start(|_| answer(0)).await;
    let failing = Upstream::start(|_| busy()).await;
    let table = |name: &str, upstream: &Upstream| {
        format!("[providers.{name}]\nbase_url = \"{}\"\nkind = \"vendor\"\nmodels = \"none\"\n", upstream.url())
    };
    let gateway = Gateway::start(&format!(
        "{}{}[providers.mlx-local]\nenabled = false\n[retry]\nattempts = 0\n[breaker]\nfailures = 1\n\
         [classes.pin]\ncloud = true\nselect = [{{ provider = \"fine\", model = \"pinned\" }}]\n\
         [aliases]\nshort = \"fine/long/name\"\n[facts.\"failing/known\"]\ncontext = 8192\n",
        table("fine", &fine),
        table("failing", &failing),
    ));
    for (model, status) in
        [("pin", 200), ("short", 200), ("failing/known", 503), ("fine/invented", 200), ("failing/invented", 503)]
    {
        assert_eq!(ask(&gateway, &hello(model)).await, status, "{model}");
    }
    let metrics = Metrics::after(&gateway, 5.0).await;
    for model in ["pinned", "long/name", "other"] {
        let asked =
            format!("gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"fine\",gen_ai_request_model=\"{model}\"");
        assert_values(
            &metrics,
            &[
                (&format!("bifrost_cost_unknown_total{{model=\"{model}\",provider=\"fine\"}}"), 1.0),
                (&format!("gen_ai_client_operation_duration_seconds_count{{{asked}}}"), 1.0),
            ],
        );
    }
    let breaker = |provider, model| format!("bifrost_breaker_state{{model=\"{model}\",provider=\"{provider}\"}}");
    let states = [("fine", "pinned", 0.0), ("fine", "long/name", 0.0), ("failing", "known", 2.0)];
    for (provider, model, state) in states {
        assert_values(&metrics, &[(&breaker(provider, model), state)]);
    }
    for model in ["known", "other"] {
        let asked = format!(
            "error_type=\"overloaded\",gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"failing\",gen_ai_request_model=\"{model}\""
        );
        assert_values(&metrics, &[(&format!("gen_ai_client_operation_duration_seconds_count{{{asked}}}"), 1.0)]);
    }
    assert!(!metrics.samples.keys().any(|series| series.contains("invented")));
}

#[tokio::test]
async fn a_breaker_whose_rest_is_over_is_not_told_as_open_though_nobody_asked_since() {
    let failing = Upstream::start(|_| busy()).await;
    let gateway = Gateway::start(&format!(
        "[providers.failing]\nbase_url = \"{}\"\nkind = \"vendor\"\nmodels = \"none\"\n[facts.\"failing/m\"]\n\
         context = 8192\n[providers.mlx-local]\nenabled = false\n[retry]\nattempts = 0\n\
         [breaker]\nfailures = 1\nopen = \"1s\"\n",
        failing.url()
    ));
    assert_eq!(ask(&gateway, &hello("failing/m")).await, 503);
    let state = "bifrost_breaker_state{model=\"m\",provider=\"failing\"}";
    assert_values(&Metrics::after(&gateway, 1.0).await, &[(state, 2.0)]);
    let is_half_open = async || (Metrics::of(&gateway).await.value(state) == 1.0).then_some(());
    gateway.eventually("its rest is over", is_half_open).await;
}

#[tokio::test]
async fn every_metric_stands_there_before_anything_was_counted() {
    let metrics = Metrics::of(&Gateway::start("[providers.mlx-local]\nenabled = false\n")).await;
    let documented =
        include_str!("../docs/METRICS.md").lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let documented: Vec<&str> =
        documented.filter(|name| name.starts_with("bifrost_") || name.starts_with("gen_ai_")).collect();
    assert!(documented.len() > 30, "{documented:?}");
    for name in documented {
        let family = name.strip_suffix("_total").or(name.strip_suffix("_info")).unwrap_or(name);
        assert!(metrics.families.contains_key(family), "{family}");
    }
}

#[test]
fn the_reader_of_this_test_refuses_what_is_wrong() {
    let good =
        "# HELP a_seconds A.\n# TYPE a_seconds counter\n# UNIT a_seconds seconds\na_seconds_total{x=\"1\"} 2\n# EOF\n";
    assert_eq!(Metrics::parse(good).value("a_seconds_total{x=\"1\"}"), 2.0);
    for (from, to) in [
        ("# EOF\n", ""),
        ("A.\n", "A\n"),
        ("counter", "gauge"),
        ("a_seconds_total{", "b_total{"),
        ("seconds seconds", "seconds bytes"),
        ("} 2\n", "} 2\na_seconds_total{x=\"1\"} 2\n"),
        ("} 2", "} two"),
    ] {
        let bad = good.replace(from, to);
        assert!(std::panic::catch_unwind(|| Metrics::parse(&bad)).is_err(), "{bad}");
    }
}

/// An answer of Anthropic's that wrote to its cache for five minutes and for an hour, as a whole or as a stream.
fn cached(stream: bool) -> Reply {
    let usage = json!({
        "input_tokens": 10, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 300, "output_tokens": 20,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    });
    let content = if stream { json!([]) } else { json!([{"type": "text", "text": "Hi"}]) };
    let message = json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": content,
        "stop_reason": if stream { Value::Null } else { json!("end_turn") }, "stop_sequence": null, "usage": usage,
    });
    if !stream {
        return Reply::json(200, &message);
    }
    let events = [
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ];
    let event = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap());
    Reply::bytes(200, "text/event-stream", events.iter().map(event).collect::<String>())
}

#[tokio::test]
async fn what_anthropic_keeps_for_an_hour_has_its_own_price() {
    let upstream = Upstream::start(|seen| match seen.method.as_str() {
        "GET" => Reply::models(&["m"]),
        _ => cached(seen.json()["stream"] == true),
    })
    .await;
    let config = format!(
        "[providers.anthropic]\nbase_url = \"{}\"\n[facts.\"anthropic/m\"]\ninput_price = 3.0\noutput_price = 15.0\n\
         cache_write_price = 3.75\n[providers.mlx-local]\nenabled = false\n",
        upstream.url()
    );
    let gateway = Gateway::start_with(&config, &[("ANTHROPIC_API_KEY", "k")], &[]);
    let mut body = hello("anthropic/m");
    body["max_tokens"] = json!(99);
    for stream in [false, true] {
        body["stream"] = json!(stream);
        for path in ["/v1/messages", "/v1/chat/completions"] {
            let answer = gateway.post(path, &body).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let text = answer.text().await.unwrap();
            assert!(path != "/v1/messages" || text.contains("\"ephemeral_1h_input_tokens\":200"), "{text}");
        }
    }
    let metrics = Metrics::after(&gateway, 4.0).await;
    // 10 x 3 + 100 x 3.75 + 200 x 6 + 20 x 15, in millionths.
    let cost = metrics.sum("bifrost_cost_usd_total");
    assert!((cost - 4.0 * 0.001_905).abs() < 1e-9, "{cost}");
}
