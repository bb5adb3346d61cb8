//! What the official clients stumbled over, each by its name.

mod support {
    #![allow(dead_code)]
    pub mod gateway;
    pub mod upstream;
}

use http::StatusCode;
use serde_json::{Value, json};
use support::gateway::Gateway;
use support::upstream::{Reply, Upstream};

fn config(upstream: &Upstream, dialect: &str) -> String {
    format!("[providers.there]\nbase_url = \"{}\"\ndialect = \"{dialect}\"\nkind = \"vendor\"\n", upstream.url())
}

/// A shipped provider at `upstream`, with no key of the gateway's.
fn vendor(upstream: &Upstream, name: &str) -> String {
    format!("[providers.{name}]\nbase_url = \"{}\"\n", upstream.url())
}

/// An upstream that answers every call with these bytes and this status.
async fn answering(status: u16, headers: &'static [(&'static str, &'static str)], body: Value) -> Upstream {
    Upstream::start(move |seen| {
        if seen.method == "GET" {
            return Reply::models(&["m"]);
        }
        let mut reply = http::Response::builder().status(StatusCode::from_u16(status).unwrap());
        for (name, value) in headers {
            reply = reply.header(*name, *value);
        }
        Reply::Whole(reply.header("content-type", "application/json").body(body.to_string().into()).unwrap())
    })
    .await
}

async fn parsed(answer: reqwest::Response) -> Value {
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

fn hello(model: &str) -> Value {
    json!({"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]})
}

#[tokio::test]
async fn google_genai_3_lists_models_at_v1_and_could_not_read_them() {
    let upstream = answering(500, &[], json!({})).await;
    let gateway = Gateway::start(&config(&upstream, "openai_chat"));
    for header in ["x-goog-api-key", "x-goog-api-client"] {
        let list = parsed(gateway.get("/v1/models").header(header, "x").send().await.unwrap()).await;
        assert!(list["models"][0]["name"].as_str().unwrap().starts_with("models/"), "{list}");
        let one = parsed(gateway.get("/v1/models/coding").header(header, "x").send().await.unwrap()).await;
        assert_eq!(one["name"], "models/coding");
    }
    let list = parsed(gateway.get("/v1/models").send().await.unwrap()).await;
    assert_eq!(list["object"], "list");
}

#[tokio::test]
async fn an_unknown_method_of_gemini_was_told_in_openais_shape_and_with_half_its_path() {
    let upstream = answering(500, &[], json!({})).await;
    let gateway = Gateway::start(&config(&upstream, "openai_chat"));
    let answer = gateway.post("/v1beta/models/there/m:explode", &json!({})).send().await.unwrap();
    assert_eq!(answer.status(), 404);
    let error = &parsed(answer).await["error"];
    assert_eq!((&error["code"], &error["status"]), (&json!(404), &json!("NOT_FOUND")));
    assert!(error["message"].as_str().unwrap().contains("/v1beta/models/there/m:explode"), "{error}");
}

#[tokio::test]
async fn limits_and_the_request_id_of_a_provider_were_lost_with_its_errors() {
    let headers = &[("anthropic-ratelimit-requests-remaining", "0"), ("request-id", "req_1"), ("retry-after", "3")];
    let body = json!({"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}});
    let upstream = answering(429, headers, body.clone()).await;
    let gateway = Gateway::start(&config(&upstream, "anthropic"));
    for (path, ingress) in [("/v1/messages", "anthropic"), ("/v1/chat/completions", "openai")] {
        let answer = gateway.post(path, &hello("there/m")).send().await.unwrap();
        assert_eq!(answer.status(), 429);
        let told =
            |name: &str| answer.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(told("anthropic-ratelimit-requests-remaining"), ["0"], "{ingress}");
        assert_eq!(told("x-bifrost-upstream-request-id"), ["req_1"], "{ingress}");
        assert_eq!(told("retry-after"), ["3"], "{ingress}");
    }
}

#[tokio::test]
async fn providers_were_not_told_who_asks() {
    let mut upstream = answering(500, &[], json!({})).await;
    let gateway = Gateway::start(&config(&upstream, "openai_chat"));
    gateway.post("/v1/chat/completions", &hello("there/m")).send().await.unwrap();
    assert!(upstream.next("POST").await.header("user-agent").starts_with("bifrost/"));
}

#[tokio::test]
async fn a_clients_own_key_answered_for_a_model_of_another_vendor() {
    let upstream =
        answering(404, &[], json!({"type": "error", "error": {"type": "not_found_error", "message": "asked"}})).await;
    let gateway = Gateway::start(&(vendor(&upstream, "anthropic") + &vendor(&upstream, "openai")));
    let ask = |model| {
        gateway.post("/v1/messages", &hello(model)).header("x-api-key", "sk-ant-client-0123456789abcdef").send()
    };
    let answer = ask("openai/gpt-9").await.unwrap();
    assert!(answer.status().is_client_error());
    assert!(!answer.headers().contains_key("x-bifrost-attempts"));
    let message = parsed(answer).await["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("openai"), "{message}");
    let own = ask("anthropic/claude-9").await.unwrap();
    assert!(own.headers()["x-bifrost-attempts"].to_str().unwrap().starts_with("anthropic/claude-9"));
}

#[tokio::test]
async fn a_key_of_google_in_the_query_was_not_seen() {
    let mut upstream = answering(500, &[], json!({})).await;
    let gateway = Gateway::start(&vendor(&upstream, "gemini"));
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]});
    gateway
        .post("/v1beta/models/gemini-9:generateContent?key=AIza-client-0123456789abcdef", &body)
        .send()
        .await
        .unwrap();
    let seen = upstream.next("POST").await;
    assert_eq!((seen.header("x-goog-api-key"), &*seen.query), ("AIza-client-0123456789abcdef", ""));
}

/// Asks a provider of OpenAI's own limits, and gives what arrived there.
async fn sent_to_openai(path: &str, body: &Value) -> (Value, String) {
    let message = json!({"role": "assistant", "content": "Hi"});
    let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
    let mut upstream = answering(200, &[], json!({"id": "c", "object": "chat.completion", "choices": choices})).await;
    let key = "key = \"sk-test\"\n";
    let gateway = Gateway::start(&(vendor(&upstream, "openai") + key));
    let answer = gateway.post(path, body).send().await.unwrap();
    let loss = answer.headers().get("x-bifrost-loss").map(|value| value.to_str().unwrap().to_owned());
    (upstream.next("POST").await.json(), loss.unwrap_or_default())
}

#[tokio::test]
async fn the_user_id_of_claude_code_was_too_long_for_openai() {
    let id = format!("{{\"device_id\":\"{}\"}}", "6e".repeat(50));
    let mut body = hello("openai/m");
    body["metadata"] = json!({ "user_id": id });
    let (sent, loss) = sent_to_openai("/v1/messages", &body).await;
    assert!(sent["user"].as_str().is_some_and(|user| user.len() <= 64 && user.starts_with("user_")), "{sent}");
    assert!(loss.contains("user"), "{loss}");
}

#[tokio::test]
async fn ids_of_calls_made_for_gemini_were_too_long_for_openai() {
    let id = |n: usize| format!("call_0123456789012345678901234567890123_{n}_mcp__server__tool");
    let mut body = hello("openai/m");
    body["tools"] = json!([{"name": "t", "input_schema": {"type": "object"}}]);
    let calls: Vec<Value> = [1, 2].map(|n| json!({"type": "tool_use", "id": id(n), "name": "t", "input": {}})).into();
    let results: Vec<Value> =
        [1, 2].map(|n| json!({"type": "tool_result", "tool_use_id": id(n), "content": "21"})).into();
    let messages = body["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": calls}));
    messages.push(json!({"role": "user", "content": results}));
    let (sent, _) = sent_to_openai("/v1/messages", &body).await;
    let messages = sent["messages"].as_array().unwrap();
    let ids: Vec<&str> =
        messages[1]["tool_calls"].as_array().unwrap().iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert!(ids.iter().all(|id| id.len() == 40 && id.starts_with("call_")), "{ids:?}");
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids, [&messages[2]["tool_call_id"], &messages[3]["tool_call_id"]]);
}

#[tokio::test]
async fn the_top_p_of_gemini_cli_was_refused_by_reasoning_models_of_openai() {
    let body = json!({
        "contents": [{"role": "user", "parts": [{"text": "Hello"}]}],
        "generationConfig": {"temperature": 1, "topP": 0.95, "seed": 7, "thinkingConfig": {"thinkingLevel": "HIGH"}},
    });
    let (sent, loss) = sent_to_openai("/v1beta/models/openai/m:generateContent", &body).await;
    assert_eq!((&sent["reasoning_effort"], &sent["seed"]), (&json!("high"), &json!(7)));
    assert!(sent.get("top_p").is_none() && sent.get("temperature").is_none(), "{sent}");
    assert!(loss.contains("top_p") && !loss.contains("temperature"), "{loss}");
}

#[tokio::test]
async fn a_client_waited_for_a_vendor_that_had_said_everything_and_was_slow_to_close() {
    let chunk = |delta: Value, finish: Value| {
        let choices = json!([{"index": 0, "delta": delta, "finish_reason": finish}]);
        format!("data: {}\n\n", json!({"id": "c", "object": "chat.completion.chunk", "choices": choices}))
    };
    let said = chunk(json!({"content": "Hi"}), Value::Null) + &chunk(json!({}), json!("stop")) + "data: [DONE]\n\n";
    for (path, last) in [("/v1/chat/completions", "data: [DONE]"), ("/v1/messages", "message_stop")] {
        let (stream, reply) = Reply::events();
        let mut reply = Some(reply);
        let upstream = Upstream::start(move |seen| match seen.method.as_str() {
            "GET" => Reply::models(&["m"]),
            _ => reply.take().unwrap(),
        })
        .await;
        let gateway = Gateway::start(&config(&upstream, "openai_chat"));
        let mut body = hello("there/m");
        body["stream"] = json!(true);
        let (answer, ()) = tokio::join!(gateway.post(path, &body).send(), stream.send(said.clone()));
        // The vendor's stream is still open here.
        let all = tokio::time::timeout(support::upstream::PATIENCE, answer.unwrap().text()).await;
        assert!(all.expect("the answer ends before the vendor closes").unwrap().contains(last));
        drop(stream);
    }
}
