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

/// What the gateway could not say; empty for nothing.
fn loss_of(answer: &reqwest::Response) -> &str {
    answer.headers().get("x-bifrost-loss").map_or("", |loss| loss.to_str().unwrap())
}

/// Asks a provider of OpenAI's own limits, and gives what arrived there.
async fn sent_to_openai(path: &str, body: &Value) -> (Value, String) {
    let message = json!({"role": "assistant", "content": "Hi"});
    let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
    let mut upstream = answering(200, &[], json!({"id": "c", "object": "chat.completion", "choices": choices})).await;
    let key = "key = \"sk-test\"\n";
    let gateway = Gateway::start(&(vendor(&upstream, "openai") + key));
    let answer = gateway.post(path, body).send().await.unwrap();
    let loss = loss_of(&answer).to_owned();
    (upstream.next("POST").await.json(), loss)
}

#[tokio::test]
async fn the_user_id_of_claude_code_was_too_long_for_openai() {
    let id = format!("{{\"device_id\":\"{}\"}}", "6e".repeat(50));
    let mut body = hello("openai/m");
    body["metadata"] = json!({ "user_id": id });
    let (sent, loss) = sent_to_openai("/v1/messages", &body).await;
    let user = sent["user"].as_str().unwrap();
    assert!(user.len() <= 64 && !user.contains("6e6e"), "{user}");
    let (again, _) = sent_to_openai("/v1/messages", &body).await;
    assert_eq!(again["user"], user, "it stays the same user");
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

fn completion(content: &str) -> Value {
    json!({
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    })
}

/// A shipped provider at `upstream`, with a key of the gateway's.
fn row(name: &str, upstream: &Upstream) -> String {
    format!("[providers.{name}]\nbase_url = \"{}\"\nkey = \"sk-of-{name}\"\n", upstream.url())
}

/// An upstream that lists `models` and answers every chat with `reply`.
async fn always(models: &'static [&'static str], reply: Value) -> Upstream {
    Upstream::start(move |seen| match seen.method.as_str() {
        "GET" => Reply::models(models),
        _ => Reply::json(200, &reply),
    })
    .await
}

#[tokio::test]
async fn a_model_that_is_known_not_to_reason_is_not_asked_to() {
    let mut upstream = always(&["gpt-4o", "gpt-5"], completion("Hi")).await;
    let gateway = Gateway::start(&row("openai", &upstream));
    for (model, effort, loss) in
        [("gpt-4o", Value::Null, "reasoning=dropped"), ("gpt-5", json!("low"), "temperature=dropped")]
    {
        let mut body = hello(model);
        body["max_tokens"] = json!(9_000);
        body["temperature"] = json!(0.5);
        body["thinking"] = json!({"type": "adaptive"});
        body["output_config"] = json!({"effort": "low"});
        let answer = gateway.post("/v1/messages", &body).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), loss_of(&answer)), (200, loss));
        let sent = upstream.next("POST").await.json();
        assert_eq!((&sent["model"], &sent["reasoning_effort"]), (&json!(model), &effort));
    }
}

/// OpenAI's reasoning models answer 400 to the older name, and all of its models take the newer one.
#[tokio::test]
async fn openai_hears_of_a_limit_under_the_name_that_all_of_its_models_take() {
    let mut upstream = always(&["gpt-5"], completion("Hi")).await;
    let gateway = Gateway::start(&row("openai", &upstream));
    for (path, said) in [
        ("/v1/chat/completions", json!({"max_tokens": 9})),
        ("/v1/chat/completions", json!({"max_tokens": 7, "max_completion_tokens": 9})),
        ("/v1/messages", json!({"max_tokens": 9})),
    ] {
        let mut body = hello("gpt-5");
        body.as_object_mut().unwrap().extend(said.as_object().unwrap().clone());
        assert_eq!(gateway.post(path, &body).send().await.unwrap().status(), 200);
        let sent = upstream.next("POST").await.json();
        assert_eq!((&sent["max_completion_tokens"], &sent["max_tokens"]), (&json!(9), &Value::Null), "{path} {said}");
    }
}

/// An answer of Anthropic's.
fn message(content: &str) -> Value {
    json!({
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": content}], "usage": {"input_tokens": 3, "output_tokens": 2},
    })
}

/// The second turn of a tool loop of Anthropic's; `dropped`: without the thinking of the first.
fn tool_loop(model: &str, dropped: bool) -> Value {
    let thinking = json!({"type": "thinking", "thinking": "hm", "signature": "EqQB"});
    let call = json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}});
    let said = if dropped { json!([call]) } else { json!([thinking, call]) };
    json!({"model": model, "max_tokens": 8_000, "messages": [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": said},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "4"}]},
    ]})
}

/// What a provider's row edits in OpenAI's bodies is nothing for those of another dialect that it speaks.
#[tokio::test]
async fn the_edits_of_one_dialect_leave_the_bodies_of_another_alone() {
    let mut upstream = always(&["m"], message("Hi")).await;
    let there = format!(
        "[providers.there]\nbase_url = \"{}\"\ndialect = [\"openai_chat\", \"anthropic\"]\nkind = \"vendor\"\nedits = [\"max_completion_tokens_name\", \"include_usage\"]\n",
        upstream.url()
    );
    let gateway = Gateway::start(&there);
    let body = r#"{"model":"there/m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;
    gateway.post_bytes("/v1/messages", body).send().await.unwrap();
    let seen = upstream.next("POST").await;
    assert_eq!(std::str::from_utf8(&seen.body).unwrap(), body.replace("there/m", "m"));
}

/// Claude Code drops its thinking where the answer names another model than it asked for (a class, `provider/model`).
#[tokio::test]
async fn a_tool_loop_whose_thinking_the_client_dropped_goes_on_without_it() {
    let mut upstream = always(&["claude-sonnet-4-5"], message("Hi")).await;
    let gateway = Gateway::start(&row("anthropic", &upstream));
    for (dropped, thinking, loss) in [(true, "disabled", "thinking=dropped"), (false, "enabled", "")] {
        let mut body = tool_loop("anthropic/claude-sonnet-4-5", dropped);
        body["thinking"] = json!({"type": "enabled", "budget_tokens": 2_000});
        let answer = gateway.post("/v1/messages", &body).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), loss_of(&answer)), (200, loss));
        assert_eq!(upstream.next("POST").await.json()["thinking"]["type"], thinking);
    }
}

#[tokio::test]
async fn a_claude_is_asked_to_think_in_the_form_that_it_takes() {
    let mut upstream = always(&["claude-haiku-4-5", "claude-opus-4-5", "claude-opus-4-8"], message("Hi")).await;
    let gateway = Gateway::start(&row("anthropic", &upstream));
    let adaptive = json!({"type": "adaptive", "display": "summarized"});
    let budget = json!({"type": "enabled", "budget_tokens": 2_000});
    let low = json!({"effort": "low"});
    let as_budget = json!({"type": "enabled", "display": "summarized", "budget_tokens": 2_048});
    for (model, thinking, sent, config, loss) in [
        ("claude-haiku-4-5", &adaptive, &as_budget, &Value::Null, "thinking=approximated"),
        ("claude-opus-4-5", &adaptive, &as_budget, &low, "thinking=approximated"),
        ("claude-opus-4-8", &budget, &json!({"type": "adaptive"}), &low, "thinking.budget_tokens=approximated"),
        ("claude-opus-4-8", &adaptive, &adaptive, &low, ""),
        ("claude-haiku-4-5", &Value::Null, &Value::Null, &Value::Null, "output_config.effort=dropped"),
    ] {
        let mut body = hello(model);
        body["max_tokens"] = json!(8_000);
        body["output_config"] = low.clone();
        if !thinking.is_null() {
            body["thinking"] = thinking.clone();
        }
        let answer = gateway.post("/v1/messages", &body).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), loss_of(&answer)), (200, loss), "{model}");
        let asked = upstream.next("POST").await.json();
        assert_eq!((&asked["thinking"], &asked["output_config"]), (sent, config), "{model}");
    }
    // What would be refused beside a budget: a loop without thinking, a forced call, no room. The effort goes with it.
    let mut forced = hello("claude-haiku-4-5");
    forced["max_tokens"] = json!(8_000);
    forced["tool_choice"] = json!({"type": "any"});
    let mut narrow = hello("claude-haiku-4-5");
    narrow["max_tokens"] = json!(1_024);
    for mut body in [tool_loop("claude-haiku-4-5", true), forced, narrow] {
        body["thinking"] = adaptive.clone();
        for (config, loss) in
            [(Value::Null, "thinking=dropped"), (low.clone(), "thinking=dropped, output_config.effort=dropped")]
        {
            if !config.is_null() {
                body["output_config"] = config;
            }
            let answer = gateway.post("/v1/messages", &body).send().await.unwrap();
            assert_eq!(loss_of(&answer), loss, "{body}");
            let asked = upstream.next("POST").await.json();
            assert_eq!((&asked["thinking"], &asked["output_config"]), (&json!({"type": "disabled"}), &Value::Null));
        }
    }
}

/// DeepSeek answers 400 to a turn of a tool loop whose reasoning does not come back; Claude Code and Gemini CLI drop it.
#[tokio::test]
async fn reasoning_that_the_client_dropped_goes_back_to_who_wants_it() {
    let delta = json!({
        "reasoning_content": "hm", "tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    });
    let choices = json!([{"index": 0, "delta": delta, "finish_reason": "tool_calls"}]);
    let chunk = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices});
    let stream = format!("data: {chunk}\n\ndata: [DONE]\n\n");
    let mut upstream = Upstream::start(move |seen| match seen.method.as_str() {
        "GET" => Reply::models(&["m"]),
        _ => Reply::bytes(200, "text/event-stream", stream.clone()),
    })
    .await;
    let gateway = Gateway::start(&(row("deepseek", &upstream) + "dialect = \"openai_chat\"\n"));
    let tools = json!([{"name": "f", "input_schema": {"type": "object"}}]);
    let mut first = hello("m");
    let mut second = tool_loop("m", true);
    second["messages"][1]["content"][0]["id"] = json!("call_1");
    second["messages"][2]["content"][0]["tool_use_id"] = json!("call_1");
    for body in [&mut first, &mut second] {
        body["tools"] = tools.clone();
        body["max_tokens"] = json!(9);
        body["stream"] = json!(true);
        gateway.post("/v1/messages", body).send().await.unwrap().bytes().await.unwrap();
    }
    upstream.next("POST").await;
    assert_eq!(upstream.next("POST").await.json()["messages"][1]["reasoning_content"], "hm");
}

/// AI SDK's provider for Google leaves `models/` out where the model's name has a slash.
#[tokio::test]
async fn a_gemini_call_may_leave_models_out_of_its_path() {
    let mut upstream = always(&["m"], completion("Hi")).await;
    let gateway = Gateway::start(&config(&upstream, "openai_chat"));
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]});
    let answer = gateway.post("/v1beta/there/m:generateContent", &body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(upstream.next("POST").await.json()["model"], "m");
    for request in [gateway.get("/v1beta/there/m:generateContent"), gateway.post("/v1beta/nothing", &body)] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 404);
        assert!(String::from_utf8_lossy(&answer.bytes().await.unwrap()).contains("has no route"));
    }
}

/// Gemini CLI counts the result of a tool by itself, and Anthropic refuses one without its call.
#[tokio::test]
async fn a_count_that_another_dialect_refuses_is_estimated() {
    let refusal = json!({"type": "error", "error": {"type": "invalid_request_error", "message": "messages.0: unexpected `tool_use_id`"}});
    let upstream = Upstream::start(move |seen| match seen.method.as_str() {
        "GET" => Reply::models(&["claude-sonnet-4-5"]),
        _ => Reply::json(400, &refusal),
    })
    .await;
    let gateway = Gateway::start(&row("anthropic", &upstream));
    let result = json!({"functionResponse": {"name": "f", "response": {"output": "four"}}});
    let body = json!({"contents": [{"role": "user", "parts": [result]}]});
    let answer = gateway.post("/v1beta/models/claude-sonnet-4-5:countTokens", &body).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), loss_of(&answer)), (200, "input_tokens=approximated"));
    assert_eq!(serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap()["totalTokens"], 1);
    // Of a bad count in its own dialect the client hears.
    let answer = gateway.post("/v1/messages/count_tokens", &hello("claude-sonnet-4-5")).send().await.unwrap();
    assert_eq!(answer.status(), 400);
}

/// Claude Code sends such messages for a class, whose name tells it nothing; Claudes up to 4.7 refuse them.
#[tokio::test]
async fn a_claude_that_takes_no_system_messages_hears_them_from_the_user() {
    let mut upstream = always(&["claude-sonnet-4-5", "claude-opus-4-8"], message("Hi")).await;
    let gateway = Gateway::start(&row("anthropic", &upstream));
    for (model, role, loss) in
        [("claude-sonnet-4-5", "user", "messages.role=approximated"), ("claude-opus-4-8", "system", "")]
    {
        let mut body = hello(model);
        body["max_tokens"] = json!(9);
        body["messages"].as_array_mut().unwrap().push(json!({"role": "system", "content": "Be brief."}));
        let answer = gateway.post("/v1/messages", &body).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), loss_of(&answer)), (200, loss));
        let sent = upstream.next("POST").await.json();
        assert_eq!(
            (&sent["messages"][1]["role"], &sent["messages"][1]["content"]),
            (&json!(role), &json!("Be brief."))
        );
    }
}

/// Claude Code counts what it is about to send, so what is edited there is edited here.
#[tokio::test]
async fn what_is_counted_is_what_would_be_sent() {
    let mut upstream = always(&["claude-haiku-4-5"], json!({"input_tokens": 7})).await;
    let gateway = Gateway::start(&row("anthropic", &upstream));
    let mut body = tool_loop("claude-haiku-4-5", false);
    body["thinking"] = json!({"type": "adaptive"});
    body["messages"][1]["content"][0] = json!({"type": "redacted_thinking", "data": "Ymlmcm9zdDo6Z2VtaW5pOnNpZw=="});
    let answer = gateway.post("/v1/messages/count_tokens", &body).send().await.unwrap();
    assert_eq!(loss_of(&answer), "reasoning=dropped, thinking=dropped");
    let sent = upstream.next("POST").await.json();
    assert_eq!(
        (&sent["thinking"], &sent["messages"][1]["content"][0]["type"]),
        (&json!({"type": "disabled"}), &json!("tool_use"))
    );
}
