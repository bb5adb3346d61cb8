//! Requests to the vendor, from what clients of other dialects may ask.

use super::*;
use bifrost::chat::{
    CacheMarker, DialectId, Effort, ErrorKind, Extras, FunctionTool, MediaKind, MediaPart, MediaSource, OutputFormat,
    Reasoning, ReasoningMode, ReasoningPart, Sampling, Signature, SignatureOrigin, Tool, ToolChoice,
};
use bifrost::dialect::anthropic::{parse_count_response, write_count_request, write_count_response};
use proptest::prelude::*;
use serde_json::json;

const OLD: &str = "claude-sonnet-4-5";
const MIDDLE: &str = "anthropic/claude-opus-4.6";
const NEW: &str = "claude-sonnet-5";
const OTHER: &str = "mlx-community/Qwen3-4B-4bit";

fn ask(model: &str) -> Request {
    let messages = vec![message(Role::User, vec![Part::text("hi")])];
    Request { model: model.into(), messages, ..Request::default() }
}

fn tool(name: &str) -> Tool {
    Tool::Function(FunctionTool { name: name.into(), ..FunctionTool::default() })
}

fn effort(effort: Effort) -> Option<Reasoning> {
    Some(Reasoning { effort: Some(effort), ..Reasoning::default() })
}

fn budget(tokens: u64) -> Option<Reasoning> {
    Some(Reasoning { budget_tokens: Some(tokens), ..Reasoning::default() })
}

#[test]
fn reasoning_is_asked_for_in_the_form_that_the_model_takes() {
    let off = Some(Reasoning { mode: ReasoningMode::Off, ..Reasoning::default() });
    let adaptive = Some(Reasoning { mode: ReasoningMode::Adaptive, include: Some(false), ..Reasoning::default() });
    let on = Some(Reasoning::default());
    let mut lines = String::new();
    for model in [OLD, MIDDLE, NEW, OTHER] {
        for (asked, reasoning) in [
            ("nothing", None),
            ("off", off.clone()),
            ("on", on.clone()),
            ("adaptive, hidden", adaptive.clone()),
            ("minimal", effort(Effort::Minimal)),
            ("high", effort(Effort::High)),
            ("xhigh", effort(Effort::XHigh)),
            ("max", effort(Effort::Max)),
            ("budget 500", budget(500)),
            ("budget 4000", budget(4_000)),
        ] {
            let (body, losses) = written(&Request { reasoning, ..ask(model) });
            let line = format!(
                "{model}, {asked}: max_tokens {} thinking {} output_config {} [{losses}]\n",
                body["max_tokens"], body["thinking"], body["output_config"]
            );
            lines.push_str(&line);
        }
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn a_budget_leaves_room_for_the_answer() {
    let limited = |max_tokens| {
        let sampling = Sampling { max_tokens: Some(max_tokens), ..Sampling::default() };
        written(&Request { reasoning: budget(8_000), sampling, ..ask(OLD) })
    };
    let (body, losses) = limited(5_000);
    assert_eq!(body["thinking"]["budget_tokens"], 4_000);
    assert_eq!(losses, "reasoning.budget_tokens=approximated");
    let (body, losses) = limited(1_024);
    assert_eq!(body["thinking"], json!({"type": "disabled"}));
    assert_eq!(losses, "reasoning=dropped");
    let (body, losses) = limited(8_001);
    assert_eq!((&body["thinking"]["budget_tokens"], losses.as_str()), (&json!(8_000), ""));
}

#[test]
fn a_forced_call_wins_over_enabled_thinking_and_goes_with_adaptive() {
    let forced = |model| Request {
        reasoning: effort(Effort::High),
        tools: vec![tool("f")],
        tool_choice: Some(ToolChoice::Required),
        ..ask(model)
    };
    let (body, losses) = written(&forced(OLD));
    assert_eq!((&body["thinking"], &body["tool_choice"]), (&json!({"type": "disabled"}), &json!({"type": "any"})));
    assert_eq!(losses, "reasoning=dropped");
    let (body, losses) = written(&forced(NEW));
    assert_eq!((&body["thinking"], &body["tool_choice"]), (&json!({"type": "adaptive"}), &json!({"type": "any"})));
    assert_eq!(losses, "");
}

fn in_tool_loop(origin: SignatureOrigin) -> Request {
    let thinking = ReasoningPart {
        text: "hm".into(),
        signature: Some(Signature::new(origin, "proof")),
        ..ReasoningPart::default()
    };
    let mut request = Request { reasoning: budget(2_000), tools: vec![tool("f")], ..ask(OLD) };
    let answer = vec![Part::Reasoning(thinking), Part::ToolCall(call("c1", "f", "{}"))];
    request.messages.push(message(Role::Assistant, answer));
    request.messages.push(message(Role::Tool, vec![result("c1", vec![Part::text("4")])]));
    request
}

#[test]
fn a_turn_that_another_vendor_began_goes_on_without_thinking() {
    let (body, losses) = written(&in_tool_loop(SignatureOrigin::Gemini));
    assert_eq!(body["thinking"], json!({"type": "disabled"}));
    assert_eq!(body["messages"][1]["content"].as_array().unwrap().len(), 1);
    assert_eq!(losses, "reasoning=dropped");

    let (body, losses) = written(&in_tool_loop(SignatureOrigin::Anthropic));
    assert_eq!(body["thinking"]["type"], "enabled");
    let thinking = json!({"type": "thinking", "thinking": "hm", "signature": "proof"});
    assert_eq!((&body["messages"][1]["content"][0], losses.as_str()), (&thinking, ""));
}

#[test]
fn an_old_turn_of_another_vendor_does_not_switch_thinking_off() {
    let mut request = in_tool_loop(SignatureOrigin::OpenAi);
    request.messages.push(message(Role::Assistant, vec![Part::text("4")]));
    request.messages.push(message(Role::User, vec![Part::text("and now?")]));
    assert_eq!(written(&request).0["thinking"]["type"], "enabled");
}

#[test]
fn sampling_is_what_the_model_takes() {
    let sampling = Sampling {
        temperature: Some(1.7),
        top_p: Some(0.9),
        top_k: Some(5),
        stop: vec!["END".into(), "\n".into()],
        seed: Some(1),
        presence_penalty: Some(0.0),
        frequency_penalty: Some(0.5),
        candidates: Some(2),
        logprobs: Some(false),
        top_logprobs: Some(3),
        ..Sampling::default()
    };
    let mut lines = String::new();
    for (model, reasoning) in [("claude-3-haiku-20240307", None), (OLD, None), (OLD, budget(2_000)), (NEW, None)] {
        let (body, losses) = written(&Request { sampling: sampling.clone(), reasoning, ..ask(model) });
        let said = ["temperature", "top_p", "top_k", "stop_sequences"].map(|name| body[name].to_string());
        lines.push_str(&format!("{model}: {} [{losses}]\n", said.join(" ")));
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn the_default_of_a_model_without_sampling_is_no_loss() {
    let sampling = Sampling { temperature: Some(1.0), top_p: Some(1.0), ..Sampling::default() };
    assert_eq!(written(&Request { sampling, ..ask(NEW) }).1, "");
}

#[test]
fn a_conversation_of_another_dialect_becomes_turns() {
    let image = MediaPart {
        kind: MediaKind::Image,
        source: MediaSource::Base64("iVBORw0KGgo=".into()),
        media_type: None,
        name: None,
        detail: Some("high".into()),
        cache: None,
        signature: None,
        extras: Extras::default(),
    };
    let audio = MediaPart { kind: MediaKind::Audio, detail: None, ..image.clone() };
    let text_file = MediaPart {
        kind: MediaKind::Document,
        source: MediaSource::Base64("aGVsbG8=".into()),
        media_type: Some("text/csv".into()),
        name: Some("a.csv".into()),
        detail: None,
        ..image.clone()
    };
    let cached = Part::Text {
        text: "rules".into(),
        cache: Some(CacheMarker { ttl: Some("1h".into()) }),
        signature: None,
        extras: Extras::default(),
    };
    let annotations = json!({"annotations": [1], "nothing": null}).as_object().unwrap().clone();
    let foreign = Extras::from_fields(DialectId::OpenAiChat, annotations);
    let mut named = message(Role::User, vec![Part::text("look "), Part::Media(audio), Part::Media(text_file)]);
    named.name = Some("bob".into());
    let request = Request {
        messages: vec![
            message(Role::System, vec![cached]),
            message(Role::Developer, vec![Part::text("be brief")]),
            named,
            message(
                Role::Assistant,
                vec![
                    Part::Text { text: "I look".into(), cache: None, signature: None, extras: foreign },
                    Part::Refusal("but not there".into()),
                    Part::ToolCall(call("call:1", "ns.look", "{\"at\":1.0}")),
                    Part::ToolCall(call("call_2", "look", "{\"at\":")),
                ],
            ),
            message(Role::Tool, vec![result("call:1", vec![Part::text("seen"), Part::Media(image)])]),
            message(Role::Tool, vec![result("call_2", vec![])]),
            message(Role::System, vec![Part::text("in French from now on")]),
            message(Role::User, vec![Part::text(""), Part::text("well?")]),
            message(Role::Assistant, vec![Part::text("It is \n")]),
        ],
        tools: vec![
            tool("look"),
            tool("ns.look"),
            tool("other"),
            Tool::Foreign { dialect: DialectId::Gemini, value: json!({"googleSearch": {}}) },
        ],
        tool_choice: Some(ToolChoice::Among { names: vec!["look".into(), "ns.look".into()], required: false }),
        parallel_tool_calls: Some(false),
        output: Some(OutputFormat::JsonSchema {
            name: Some("answer".into()),
            description: None,
            schema: json!({"type": "object"}),
            strict: Some(true),
        }),
        user: Some("u-1".into()),
        extras: Extras::from_fields(
            DialectId::OpenAiChat,
            json!({"logit_bias": {"1": 2}}).as_object().unwrap().clone(),
        ),
        ..ask(OLD)
    };
    let (body, losses) = written(&request);
    insta::assert_snapshot!(format!("{body:#}\n{}", losses.replace(", ", "\n")));
}

#[test]
fn a_late_system_prompt_stays_where_the_model_takes_it() {
    let mut request = ask("claude-opus-4-8");
    request.messages.push(message(Role::System, vec![Part::text("in French")]));
    let (body, losses) = written(&request);
    assert_eq!((&body["messages"][1], losses.as_str()), (&json!({"role": "system", "content": "in French"}), ""));
    request.model = OLD.into();
    let (body, losses) = written(&request);
    assert_eq!((&body["system"], losses.as_str()), (&json!("in French"), "messages.system=approximated"));
}

#[test]
fn a_system_prompt_alone_is_asked_as_the_user() {
    let (body, losses) =
        written(&Request { messages: vec![message(Role::System, vec![Part::text("say hi")])], ..ask(OLD) });
    assert_eq!(body["messages"], json!([{"role": "user", "content": "say hi"}]));
    assert_eq!((body.get("system"), losses.as_str()), (None, "messages=approximated"));
}

#[test]
fn results_go_before_the_words_of_the_same_turn() {
    let body = json!({"model": OLD, "max_tokens": 9, "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}},
                                          {"type": "tool_use", "id": "b", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "text", "text": "here"}, {"type": "tool_result", "tool_use_id": "a", "content": "1"}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "b", "is_error": true}]},
    ]});
    let request = parsed(&body);
    let roles: Vec<Role> = request.messages.iter().map(|message| message.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::User]);
    assert_eq!(request.messages[2].parts.len(), 2);
    let (body, _) = written(&request);
    let kinds: Vec<&Value> =
        body["messages"][2]["content"].as_array().unwrap().iter().map(|block| &block["type"]).collect();
    assert_eq!(kinds, ["tool_result", "tool_result", "text"]);
}

#[test]
fn an_effort_without_thinking_stays_without() {
    let body = json!({"model": NEW, "max_tokens": 9, "messages": [], "output_config": {"effort": "low", "task_budget": {"total": 5}}});
    let request = parsed(&body);
    let unsaid = Reasoning { mode: ReasoningMode::Unsaid, effort: Some(Effort::Low), ..Reasoning::default() };
    assert_eq!(request.reasoning, Some(unsaid));
    assert!(!request.extras.fields.contains_key("thinking"));
    let (again, losses) = written(&request);
    assert_eq!((again["output_config"].clone(), again.get("thinking")), (body["output_config"].clone(), None));
    assert_eq!(losses, "");
}

#[test]
fn fields_that_only_this_dialect_knows_come_back() {
    let body = json!({"model": NEW, "max_tokens": 9, "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a", "new_field": 1}, {"type": "new_block", "x": [1]}]}],
        "tools": [{"type": "web_search_20250305", "name": "web_search"}, {"name": "f", "input_schema": {}, "defer_loading": true}],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
        "metadata": {"user_id": "u", "more": 1}, "thinking": {"type": "adaptive", "new": 2},
        "cache_control": {"type": "ephemeral", "ttl": "1h"}, "container": "c", "service_tier": "auto", "mcp_servers": [{}],
    });
    let (again, losses) = written(&parsed(&body));
    assert_eq!(again, body);
    assert_eq!(losses, "");
}

#[test]
fn a_system_prompt_that_only_a_blank_prefill_follows_is_the_users_turn() {
    let body = json!({"model": OLD, "max_tokens": 5, "messages": [
        {"role": "system", "content": "Say hi."}, {"role": "assistant", "content": " "},
    ]});
    let request = Anthropic.parse_request(body.to_string().as_bytes(), &UrlHints::default()).unwrap();
    let sent = Anthropic.write_request(&request, &Profile::FULL, &mut Losses::new());
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["messages"], json!([{"role": "user", "content": "Say hi."}]), "the API wants one");
}

#[test]
fn what_is_wrong_with_a_request_is_named() {
    let mut lines = String::new();
    for body in [
        "{",
        "[]",
        "{}",
        r#"{"model": 1}"#,
        r#"{"model": "m"}"#,
        r#"{"model": "m", "messages": {}}"#,
        r#"{"model": "m", "messages": [1]}"#,
        r#"{"model": "m", "messages": [{"role": "tool", "content": "x"}]}"#,
        r#"{"model": "m", "messages": [{"role": "user"}]}"#,
        r#"{"model": "m", "messages": [{"role": "user", "content": [{"type": "text"}]}]}"#,
        r#"{"model": "m", "messages": [{"role": "user", "content": [{"type": "image"}]}]}"#,
        r#"{"model": "m", "messages": [], "tools": [{"description": "x"}]}"#,
        r#"{"model": "m", "messages": [], "tool_choice": {"type": "some"}}"#,
        r#"{"model": "m", "messages": [], "thinking": {"type": "deep"}}"#,
        r#"{"model": "m", "messages": [], "max_tokens": -1}"#,
    ] {
        let error = Anthropic.parse_request(body.as_bytes(), &UrlHints::default()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidRequest);
        lines.push_str(&format!("{}: {error}\n", error.param.as_deref().unwrap()));
    }
    insta::assert_snapshot!(lines);
}

#[test]
fn tokens_are_counted_without_what_matters_to_the_answer_only() {
    let mut request = in_tool_loop(SignatureOrigin::Anthropic);
    request.stream = true;
    request.sampling.temperature = Some(0.5);
    let body = write_count_request(&request, &Profile::VENDOR, &mut Losses::new());
    let body: Value = serde_json::from_slice(&body).unwrap();
    let names: Vec<&String> = body.as_object().unwrap().keys().collect();
    assert_eq!(names, ["model", "thinking", "messages", "tools"]);
    assert_eq!(parse_count_response(&write_count_response(14)), Ok(14));
    assert_eq!(parse_count_response(b"{}").unwrap_err().kind, ErrorKind::Upstream);
    let refused = br#"{"type":"error","error":{"type":"not_found_error","message":"model: x"}}"#;
    assert_eq!(parse_count_response(refused).unwrap_err().kind, ErrorKind::NotFound);
}

/// Blocks and their damaged forms.
fn blocks() -> impl Strategy<Value = Value> {
    let text = || prop_oneof![Just(json!("")), Just(json!("x")), Just(json!(" ")), Just(json!(1)), Just(Value::Null)];
    let kind = prop_oneof![
        Just("text"),
        Just("thinking"),
        Just("redacted_thinking"),
        Just("tool_use"),
        Just("tool_result"),
        Just("image"),
        Just("document"),
        Just("other"),
    ];
    let sources = prop_oneof![
        Just(json!({"type": "base64", "media_type": "image/png", "data": "aGk="})),
        Just(json!({"type": "text", "data": "hi"})),
        Just(json!({"type": "url", "url": "https://a"})),
        Just(json!({"type": "content", "content": []})),
        Just(json!({})),
    ];
    (kind, text(), text(), text(), sources).prop_map(|(kind, a, b, c, source)| {
        json!({"type": kind, "text": a, "thinking": b, "signature": c, "data": a, "id": "i", "tool_use_id": "i",
               "name": "n", "input": {"a": c}, "content": b, "source": source})
    })
}

proptest! {
    #[test]
    fn what_was_read_once_is_read_the_same_again(
        roles in proptest::collection::vec((prop_oneof![Just("user"), Just("assistant"), Just("system")],
                                           proptest::collection::vec(blocks(), 0..4)), 0..6),
        model in prop_oneof![Just(OLD), Just(NEW), Just(OTHER), Just("claude-opus-4-8")],
    ) {
        let messages: Vec<Value> = roles.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
        let body = json!({"model": model, "max_tokens": 5, "messages": messages}).to_string();
        if let Ok(request) = Anthropic.parse_request(body.as_bytes(), &UrlHints::default()) {
            // Once written, nothing is left that the API refuses, so that from then on nothing changes.
            let rewrite = |request: &Request| Anthropic.write_request(request, &Profile::FULL, &mut Losses::new());
            let once = Anthropic.parse_request(&rewrite(&request), &UrlHints::default()).unwrap();
            let twice = Anthropic.parse_request(&rewrite(&once), &UrlHints::default()).unwrap();
            prop_assert_eq!(once, twice);
        }
    }

    #[test]
    fn a_body_cut_anywhere_is_an_error(at in 0usize..800) {
        let body = include_bytes!("../fixtures/anthropic/result_with_image.request.json");
        let end = body.len() - 2;
        prop_assert!(Anthropic.parse_request(&body[..at.min(end)], &UrlHints::default()).is_err());
    }
}
