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
    let metrics = text(&gateway.get("/metrics").send().await.unwrap().bytes().await.unwrap());
    for output in [gateway.log(), shown, errors, metrics] {
        assert!(!output.contains(secret), "{output}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The shipped row called `name`, at `upstream`.
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
        let told = answer.headers()["x-bifrost-loss"].to_str().unwrap();
        assert_eq!((answer.status().as_u16(), told), (200, loss));
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
        let told = answer.headers().get("x-bifrost-loss").map_or("", |value| value.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), told), (200, loss));
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
        let told = answer.headers().get("x-bifrost-loss").map_or("", |value| value.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), told), (200, loss), "{model}");
        let asked = upstream.next("POST").await.json();
        assert_eq!((&asked["thinking"], &asked["output_config"]), (sent, config), "{model}");
    }
    // What would be refused beside a budget: a loop without thinking, no room.
    let mut body = tool_loop("claude-haiku-4-5", true);
    body["thinking"] = adaptive.clone();
    let answer = gateway.post("/v1/messages", &body).send().await.unwrap();
    assert_eq!(answer.headers()["x-bifrost-loss"], "thinking=dropped");
    assert_eq!(upstream.next("POST").await.json()["thinking"], json!({"type": "disabled"}));
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
        assert!(text(&answer.bytes().await.unwrap()).contains("has no route"));
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
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["x-bifrost-loss"]),
        (200, &"input_tokens=approximated".parse().unwrap())
    );
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
        let told = answer.headers().get("x-bifrost-loss").map_or("", |value| value.to_str().unwrap());
        assert_eq!((answer.status().as_u16(), told), (200, loss));
        let sent = upstream.next("POST").await.json();
        assert_eq!(
            (&sent["messages"][1]["role"], &sent["messages"][1]["content"]),
            (&json!(role), &json!("Be brief."))
        );
    }
}
