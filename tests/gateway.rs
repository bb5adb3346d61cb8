//! The real binary between a client and a provider that does what the test says.

#[allow(dead_code)] // Other tests need more of it.
mod support {
    pub mod gateway;
    pub mod upstream;
}

use serde_json::{Value, json};
use support::gateway::Gateway;
use support::upstream::{Reply, Stream, Upstream};

/// A config with one provider of `dialect` at `upstream`, called `there`.
fn config(upstream: &Upstream, dialect: &str) -> String {
    format!("[providers.there]\nbase_url = \"{}\"\ndialect = \"{dialect}\"\nkind = \"vendor\"\n", upstream.url())
}

fn hello(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
}

fn completion(content: &str) -> Value {
    json!({
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    })
}

/// An upstream that lists the model `m` and gives `reply` to its first chat.
async fn answering(reply: Reply) -> Upstream {
    let mut reply = Some(reply);
    Upstream::start(move |seen| match seen.method.as_str() {
        "GET" => Reply::models(&["m"]),
        _ => reply.take().unwrap_or_else(|| Reply::json(500, &json!({"error": {"message": "asked twice"}}))),
    })
    .await
}

/// The same of Google's, with the model `gemini-9-flash`.
async fn answering_gemini(reply: Reply) -> Upstream {
    let mut reply = Some(reply);
    Upstream::start(move |seen| match seen.method.as_str() {
        "GET" => Reply::gemini_models(&["gemini-9-flash"]),
        _ => reply.take().unwrap_or_else(|| Reply::json(500, &json!({"error": {"message": "asked twice"}}))),
    })
    .await
}

async fn streaming() -> (Stream, Upstream) {
    let (stream, reply) = Reply::events();
    (stream, answering(reply).await)
}

fn chunk(content: &str) -> String {
    let choices = json!([{"index": 0, "delta": {"content": content}, "finish_reason": null}]);
    let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices});
    format!("data: {chunk}\n\n")
}

#[tokio::test]
async fn the_same_dialect_is_forwarded_byte_for_byte() {
    let mut upstream = answering(Reply::json(200, &completion("Hi"))).await;
    let gateway = Gateway::start(&config(&upstream, "openai_chat"));
    let body = r#"{ "zebra" : [1,  2.50e0], "model":"there/m", "messages":[{"role":"user","content":"H\u00e9llo"}],"extra":{"b":1,"a":2} }"#;
    let answer = gateway.post_bytes("/v1/chat/completions", body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["x-bifrost-provider"], "there");
    assert_eq!(answer.bytes().await.unwrap(), completion("Hi").to_string());
    let seen = upstream.next("POST").await;
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(std::str::from_utf8(&seen.body).unwrap(), body.replace("there/m", "m"));
}

#[tokio::test]
async fn the_version_that_the_client_names_is_the_one_that_anthropic_gets() {
    let mut upstream = Upstream::start(|_| Reply::json(200, &json!({"type": "message", "content": []}))).await;
    let gateway = Gateway::start(&format!("[providers.anthropic]\nbase_url = \"{}\"\n", upstream.url()));
    let mut body = hello("claude-m");
    body["max_tokens"] = json!(9);
    for (named, sent) in [(Some("2026-11-01"), "2026-11-01"), (None, "2023-06-01")] {
        let asked = gateway.post("/v1/messages", &body).header("x-api-key", "sk-ant-0123456789-0123456789");
        let asked = named.into_iter().fold(asked, |asked, version| asked.header("anthropic-version", version));
        assert_eq!(asked.send().await.unwrap().status(), 200);
        assert_eq!(upstream.next("POST").await.headers["anthropic-version"], sent);
    }
}

#[tokio::test]
async fn another_dialect_is_translated_both_ways() {
    let mut upstream = answering(Reply::json(200, &completion("Hi"))).await;
    let gateway = Gateway::start(&config(&upstream, "openai_chat"));
    let body = json!({"model": "there/m", "max_tokens": 9, "system": "Be brief.", "messages": [{"role": "user", "content": "Hello"}]});
    let answer = gateway.post("/v1/messages", &body).send().await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(answer["content"], json!([{"type": "text", "text": "Hi"}]));
    assert_eq!((&answer["usage"]["input_tokens"], &answer["stop_reason"]), (&json!(3), &json!("end_turn")));
    let sent = upstream.next("POST").await.json();
    assert_eq!(sent["messages"][0], json!({"role": "system", "content": "Be brief."}));
}

#[tokio::test]
async fn a_stream_is_passed_on_as_it_comes() {
    let (stream, upstream) = streaming().await;
    let gateway = Gateway::start(&config(&upstream, "openai_chat"));
    let mut body = hello("there/m");
    body["stream"] = json!(true);
    let asked = tokio::spawn(gateway.post("/v1/chat/completions", &body).send());
    stream.send(chunk("one")).await;
    // The head is there although the upstream has not finished.
    let mut answer = asked.await.unwrap().unwrap();
    assert!(text(&answer.chunk().await.unwrap().unwrap()).contains("one"));
    stream.send(chunk("two")).await;
    assert!(text(&answer.chunk().await.unwrap().unwrap()).contains("two"));
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_call() {
    let (stream, upstream) = streaming().await;
    let gateway = Gateway::start(&config(&upstream, "openai_chat"));
    let mut body = hello("there/m");
    body["stream"] = json!(true);
    let asked = tokio::spawn(gateway.post("/v1/chat/completions", &body).send());
    stream.send(chunk("one")).await;
    let mut answer = asked.await.unwrap().unwrap();
    answer.chunk().await.unwrap().unwrap();
    drop(answer);
    stream.gone().await;
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_no_clean_end() {
    for (path, error) in [("/v1/chat/completions", "\"error\""), ("/v1/messages", "event: error")] {
        let (stream, upstream) = streaming().await;
        let gateway = Gateway::start(&config(&upstream, "openai_chat"));
        let mut body = hello("there/m");
        body["stream"] = json!(true);
        body["max_tokens"] = json!(9);
        let asked = tokio::spawn(gateway.post(path, &body).send());
        stream.send(chunk("one")).await;
        let answer = asked.await.unwrap().unwrap();
        stream.break_off().await;
        let said = text(&answer.bytes().await.unwrap());
        assert!(said.contains(error) && !said.contains("[DONE]") && !said.contains("message_stop"), "{path}: {said}");
    }
}

#[tokio::test]
async fn an_empty_stream_is_an_error() {
    let upstream = Upstream::start(|seen| match seen.method.as_str() {
        "GET" => Reply::models(&["m"]),
        _ => Reply::bytes(200, "text/event-stream", ""),
    });
    let upstream = upstream.await;
    let gateway = Gateway::start(&config(&upstream, "openai_chat"));
    let mut body = hello("there/m");
    body["stream"] = json!(true);
    let answer = gateway.post("/v1/chat/completions", &body).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    let error: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert!(error["error"]["message"].as_str().is_some_and(|message| message.contains("empty stream")), "{error}");
}

#[tokio::test]
async fn a_gemini_provider_lists_its_models_and_streams_to_an_openai_client() {
    let upstream = Upstream::start(|seen| match seen.method.as_str() {
        "GET" => Reply::gemini_models(&["gemini-9-flash"]),
        _ => {
            let parts = json!({"candidates": [{"content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}]});
            Reply::bytes(200, "text/event-stream", format!("data: {parts}\n\n"))
        }
    });
    let mut upstream = upstream.await;
    let gateway = Gateway::start(&config(&upstream, "gemini"));
    assert_eq!(upstream.next("GET").await.path, "/v1beta/models");
    let mut body = hello("there/gemini-9-flash");
    body["stream"] = json!(true);
    let answer = gateway.post("/v1/chat/completions", &body).send().await.unwrap();
    let said = text(&answer.bytes().await.unwrap());
    assert!(said.contains("\"content\":\"Hi\"") && said.trim_end().ends_with("data: [DONE]"), "{said}");
    let seen = upstream.next("POST").await;
    assert_eq!(
        (seen.path.as_str(), seen.query.as_str()),
        ("/v1beta/models/gemini-9-flash:streamGenerateContent", "alt=sse")
    );
}

/// Claude Code takes the last block for the answer, and Google signs the end of a text with a part of no characters.
#[tokio::test]
async fn an_answer_of_geminis_ends_with_its_text_for_an_anthropic_client() {
    let part = |part: Value, stop: Value| json!({"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": stop}]});
    let (said, signed) = (
        part(json!({"text": "Hi"}), Value::Null),
        part(json!({"text": "", "thoughtSignature": "CiQB"}), json!("STOP")),
    );
    let reply = Reply::bytes(200, "text/event-stream", format!("data: {said}\n\ndata: {signed}\n\n"));
    let upstream = answering_gemini(reply).await;
    let gateway = Gateway::start(&config(&upstream, "gemini"));
    let mut body = hello("there/gemini-9-flash");
    body["stream"] = json!(true);
    body["max_tokens"] = json!(9);
    let answer = gateway.post("/v1/messages", &body).send().await.unwrap();
    let said = text(&answer.bytes().await.unwrap());
    assert!(said.contains("\"text\":\"Hi\"") && said.contains("message_stop"), "{said}");
    assert!(!said.contains("redacted_thinking"), "{said}");
}

#[tokio::test]
async fn a_web_page_cannot_reach_it_by_another_name() {
    let upstream = answering(Reply::json(200, &completion("Hi"))).await;
    let gateway = Gateway::start(&config(&upstream, "openai_chat"));
    assert!(gateway.url().starts_with("http://127.0.0.1:"));
    for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example")] {
        let answer = gateway.post("/v1/chat/completions", &hello("there/m")).header(name, value).send().await.unwrap();
        assert_eq!(answer.status(), 403, "{name}");
    }
    assert!(upstream.seen().iter().all(|seen| seen.method == "GET"), "the provider was asked all the same");
}

#[tokio::test]
async fn a_provider_that_hangs_up_is_named() {
    let upstream = Upstream::start(|seen| match seen.method.as_str() {
        "GET" => Reply::models(&["m"]),
        _ => Reply::HangUp,
    })
    .await;
    let gateway = Gateway::start(&config(&upstream, "openai_chat"));
    let answer = gateway.post("/v1/chat/completions", &hello("there/m")).send().await.unwrap();
    assert!(answer.status().is_server_error(), "{}", answer.status());
    assert!(text(&answer.bytes().await.unwrap()).contains("there"));
}

#[tokio::test]
async fn what_runs_is_finished_after_sigterm() {
    let (release, reply) = Reply::held();
    let mut upstream = answering(reply).await;
    let mut gateway =
        Gateway::start(&format!("[server]\nshutdown_grace = \"20s\"\n{}", config(&upstream, "openai_chat")));
    let asked = tokio::spawn(gateway.post("/v1/chat/completions", &hello("there/m")).send());
    upstream.next("POST").await;
    gateway.signal("TERM");
    assert!(release.send(Reply::json(200, &completion("late"))).is_ok());
    let answer = asked.await.unwrap().unwrap();
    assert!(text(&answer.bytes().await.unwrap()).contains("late"));
    assert_eq!(tokio::task::spawn_blocking(move || gateway.wait()).await.unwrap(), Some(0));
}

#[tokio::test]
async fn a_secret_is_in_no_output() {
    let secret = "sk-plant-5c1f7d";
    let upstream =
        answering(Reply::json(401, &json!({"error": {"message": format!("bad key {secret}"), "type": "invalid"}})))
            .await;
    let config = config(&upstream, "openai_chat").replace("kind", "key = \"env:PLANTED\"\nkind");
    let gateway = Gateway::start_with(&config, &[("PLANTED", secret), ("BIFROST_LOG", "trace")], &[]);
    let answer = gateway.post("/v1/chat/completions", &hello("there/m")).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let sent = upstream.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    assert_eq!(sent.header("authorization"), format!("Bearer {secret}"));
    let (_, shown, errors) = gateway.run(&["config", "show"]);
    let metrics = gateway.text("/metrics").await;
    for output in [gateway.log(), shown, errors, metrics] {
        assert!(!output.contains(secret), "{output}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
