use super::*;
use bifrost::chat::{
    CacheMarker, DialectId, Effort, ErrorKind, Extras, MediaKind, MediaPart, MediaSource, Message, OutputFormat, Part,
    Reasoning, ReasoningMode, ReasoningPart, Role, Signature, SignatureOrigin, Tool, ToolCall, ToolChoice, ToolResult,
};
use bifrost::dialect::{ReasoningStyle, TokenLimitField};

fn call(id: &str) -> ToolCall {
    ToolCall {
        id: id.into(),
        name: "look".into(),
        arguments: "{}".into(),
        signature: None,
        cache: None,
        extras: Extras::default(),
    }
}

fn result(id: &str, content: Vec<Part>) -> Part {
    Part::ToolResult(ToolResult {
        call_id: id.into(),
        name: None,
        content,
        json: None,
        is_error: false,
        cache: None,
        extras: Extras::default(),
    })
}

fn picture() -> Part {
    Part::Media(MediaPart {
        kind: MediaKind::Image,
        source: MediaSource::Base64("AAAA".into()),
        media_type: Some("image/jpeg".into()),
        name: None,
        detail: None,
        cache: None,
        signature: None,
        extras: Extras::default(),
    })
}

fn with_messages(messages: Vec<Message>) -> Request {
    Request { model: "m".into(), messages, ..Request::default() }
}

#[test]
fn what_is_wrong_is_named_in_openais_words() {
    let user = json!([{"role": "user", "content": "hi"}]);
    let cases = [
        (json!({"messages": user}), "model"),
        (json!({"model": "m"}), "messages"),
        (json!({"model": "m", "messages": "hi"}), "messages"),
        (json!({"model": "m", "messages": []}), "messages"),
        (json!({"model": "m", "messages": ["hi"]}), "messages[0]"),
        (json!({"model": "m", "messages": [{"content": "hi"}]}), "messages[0].role"),
        (json!({"model": "m", "messages": [{"role": "robot", "content": "hi"}]}), "messages[0].role"),
        (json!({"model": "m", "messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"model": "m", "messages": [{"role": "user", "content": 3}]}), "messages[0].content"),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": [{"text": "x"}]}]}),
            "messages[0].content[0].type",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages[0].content[0].image_url",
        ),
        (json!({"model": "m", "messages": [{"role": "tool", "content": "x"}]}), "messages[0].tool_call_id"),
        (json!({"model": "m", "messages": user, "temperature": "hot"}), "temperature"),
        (json!({"model": "m", "messages": user, "max_tokens": "many"}), "max_tokens"),
        (json!({"model": "m", "messages": user, "max_tokens": -1}), "max_tokens"),
        (json!({"model": "m", "messages": user, "stream": "yes"}), "stream"),
        (json!({"model": "m", "messages": user, "tools": [{"type": "function"}]}), "tools[0].function"),
        (json!({"model": "m", "messages": user, "tool_choice": "maybe"}), "tool_choice"),
        (json!({"model": "m", "messages": user, "stop": [1]}), "stop[0]"),
        (
            json!({"model": "m", "messages": user, "response_format": {"type": "json_schema"}}),
            "response_format.json_schema",
        ),
    ];
    for (body, param) in cases {
        let error = refused(&body).unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::InvalidRequest, Some(param)), "{body}");
        let (status, written) = OpenAiChat.write_error(&error);
        let written: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!((status, &written["error"]["type"]), (400, &json!("invalid_request_error")));
        assert_eq!(written["error"]["param"], param);
    }
    assert_eq!(OpenAiChat.parse_request(b"{", &UrlHints::default()).unwrap_err().code.as_deref(), Some("invalid_json"));
}

#[test]
fn results_of_one_turn_are_one_message_and_nothing_stands_between_them() {
    let history = json!([
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "look", "arguments": "{}"}},
            {"id": "b", "type": "function", "function": {"name": "look", "arguments": "{\"x\":1}"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
    ]);
    let read = messages(&history);
    assert_eq!(read.messages.len(), 3);
    assert_eq!((read.messages[2].role, read.messages[2].parts.len()), (Role::Tool, 2));
    assert_eq!(written(&read, &Profile::VENDOR), (json!({"model": "m", "messages": history}), String::new()));
}

#[test]
fn pictures_of_results_follow_in_a_message_of_the_users() {
    let request = with_messages(vec![
        Message::new(Role::Assistant, vec![Part::ToolCall(call("a")), Part::ToolCall(call("b"))]),
        Message::new(Role::Tool, vec![result("a", vec![picture()]), result("b", vec![Part::text("ok"), picture()])]),
        Message::new(Role::User, vec![Part::text("and?")]),
    ]);
    let (body, losses) = written(&request, &Profile::VENDOR);
    let roles: Vec<_> = body["messages"].as_array().unwrap().iter().map(|message| message["role"].clone()).collect();
    assert_eq!(roles, ["assistant", "tool", "tool", "user", "user"]);
    assert_eq!(body["messages"][2]["content"], "ok");
    let shown = body["messages"][3]["content"].as_array().unwrap();
    assert_eq!(shown.len(), 4);
    assert_eq!(shown[1]["image_url"]["url"], "data:image/jpeg;base64,AAAA");
    assert_eq!(losses, "tool_result.content=approximated");
    // Where the provider takes pictures there, they stay.
    let (body, losses) = written(&request, &Profile::FULL);
    assert_eq!(body["messages"][1]["content"][0]["type"], "image_url");
    assert_eq!(losses, "");
}

#[test]
fn a_failed_result_is_told_but_not_marked() {
    let mut failed = result("a", vec![Part::text("no such file")]);
    if let Part::ToolResult(result) = &mut failed {
        result.is_error = true;
    }
    let (body, losses) = written(&with_messages(vec![Message::new(Role::Tool, vec![failed])]), &Profile::VENDOR);
    assert_eq!(body["messages"][0]["content"], "no such file");
    assert_eq!(losses, "tool_result.is_error=dropped");
}

#[test]
fn a_breakpoint_after_a_result_stands_on_its_last_part() {
    let history = json!([{"role": "tool", "tool_call_id": "a",
        "content": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}]);
    let read = messages(&history);
    let Part::ToolResult(result) = &read.messages[0].parts[0] else { panic!("no result") };
    assert_eq!(result.cache, Some(CacheMarker { ttl: Some("1h".into()) }));
    assert_eq!(written(&read, &Profile::FULL).0["messages"], history);
    assert_eq!(written(&read, &Profile::VENDOR).1, "cache_control=dropped");
}

/// opencode marks messages whose content is a text.
#[test]
fn a_breakpoint_on_a_message_stands_on_its_last_part() {
    let ephemeral = json!({"type": "ephemeral"});
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let body = json!({"model": "m", "messages": [
        {"role": "system", "content": "Be brief.", "cache_control": ephemeral},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "cache_control": ephemeral},
        {"role": "assistant", "content": "c", "tool_calls": [call], "cache_control": ephemeral},
    ]});
    let request = request(&body);
    let marked: Vec<Vec<bool>> = request
        .messages
        .iter()
        .map(|message| message.parts.iter().map(|part| part.cache().is_some()).collect())
        .collect();
    assert_eq!(marked, [vec![true], vec![false, true], vec![false, true]]);
    assert!(request.messages.iter().all(|message| message.extras.is_empty()));
}

/// Claude Code names its user in JSON of more than a hundred characters.
#[test]
fn a_user_whose_name_is_too_long_has_a_short_one_that_stays() {
    let named = |user: &str| {
        let (body, losses) =
            written(&Request { user: Some(user.into()), ..with_messages(Vec::new()) }, &Profile::VENDOR);
        (body["user"].as_str().unwrap().to_owned(), losses)
    };
    let (one, losses) = named(&format!("{{\"device_id\":\"{}1\"}}", "7c".repeat(32)));
    let (other, _) = named(&format!("{{\"device_id\":\"{}2\"}}", "7c".repeat(32)));
    assert!(one.len() <= 64 && one.starts_with("user_") && !one.contains('{') && one != other, "{one} {other}");
    assert_eq!(losses, "user=approximated");
    assert_eq!(named("somebody"), ("somebody".to_owned(), String::new()));
}

#[test]
fn reasoning_is_read_in_every_style() {
    let of = |fields: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let request = request(&body);
        assert!(request.extras.is_empty(), "{fields}");
        request.reasoning.unwrap()
    };
    let off = Reasoning { mode: ReasoningMode::Off, ..Reasoning::default() };
    let low = Reasoning { effort: Some(Effort::Low), ..Reasoning::default() };
    let budget = Reasoning { budget_tokens: Some(512), ..Reasoning::default() };
    assert_eq!(of(json!({"reasoning_effort": "low"})), low);
    assert_eq!(of(json!({"reasoning_effort": "none"})), off);
    assert_eq!(of(json!({"reasoning": {"effort": "low"}})), low);
    assert_eq!(
        of(json!({"reasoning": {"max_tokens": 512, "exclude": true}})),
        Reasoning { include: Some(false), ..budget.clone() }
    );
    assert_eq!(of(json!({"reasoning": {"enabled": false}})), off);
    assert_eq!(of(json!({"thinking": {"type": "disabled"}})), off);
    assert_eq!(of(json!({"thinking": {"type": "enabled", "budget_tokens": 512}})), budget);
    assert_eq!(of(json!({"chat_template_kwargs": {"enable_thinking": false}})), off);
    assert_eq!(of(json!({"enable_thinking": true})), Reasoning::default());
}

#[test]
fn reasoning_is_asked_for_as_the_provider_wants_it() {
    let asked = |reasoning: Reasoning, style: ReasoningStyle| {
        let request = Request { reasoning: Some(reasoning), ..messages(&json!([{"role": "user", "content": "x"}])) };
        let (mut body, losses) = written(&request, &Profile { reasoning: style, ..Profile::VENDOR });
        let body = body.as_object_mut().unwrap();
        body.retain(|key, _| !matches!(key.as_str(), "model" | "messages"));
        (Value::Object(body.clone()), losses)
    };
    let off = Reasoning { mode: ReasoningMode::Off, ..Reasoning::default() };
    let high = Reasoning { effort: Some(Effort::High), ..Reasoning::default() };
    let budget = Reasoning { budget_tokens: Some(9_000), ..Reasoning::default() };
    let said = |value: Value| (value, String::new());
    let lossy = |value: Value, losses: &str| (value, losses.to_owned());
    assert_eq!(asked(high.clone(), ReasoningStyle::Effort), said(json!({"reasoning_effort": "high"})));
    assert_eq!(
        asked(budget.clone(), ReasoningStyle::Effort),
        lossy(json!({"reasoning_effort": "medium"}), "reasoning.budget_tokens=approximated")
    );
    assert_eq!(asked(off.clone(), ReasoningStyle::Effort), lossy(json!({}), "reasoning.mode=dropped"));
    assert_eq!(asked(budget.clone(), ReasoningStyle::Object), said(json!({"reasoning": {"max_tokens": 9_000}})));
    assert_eq!(asked(off.clone(), ReasoningStyle::Object), said(json!({"reasoning": {"enabled": false}})));
    assert_eq!(
        asked(off.clone(), ReasoningStyle::TemplateSwitch),
        said(json!({"chat_template_kwargs": {"enable_thinking": false}}))
    );
    assert_eq!(
        asked(high.clone(), ReasoningStyle::TemplateSwitch),
        lossy(json!({"chat_template_kwargs": {"enable_thinking": true}}), "reasoning.effort=dropped")
    );
    assert_eq!(asked(off, ReasoningStyle::ThinkingSwitch), said(json!({"thinking": {"type": "disabled"}})));
    // An effort for the answer as a whole switches nothing on (Claude Code asks for titles so).
    let unsaid = Reasoning { mode: ReasoningMode::Unsaid, ..high.clone() };
    assert_eq!(asked(unsaid.clone(), ReasoningStyle::Effort), said(json!({"reasoning_effort": "high"})));
    for style in [ReasoningStyle::Object, ReasoningStyle::TemplateSwitch, ReasoningStyle::ThinkingSwitch] {
        assert_eq!(asked(unsaid.clone(), style), lossy(json!({}), "reasoning.effort=dropped"));
    }
    assert_eq!(asked(high, ReasoningStyle::None), lossy(json!({}), "reasoning=dropped"));
}

#[test]
fn every_switch_of_the_profile_changes_what_is_sent() {
    let request = request(&json!({
        "model": "m", "max_tokens": 9, "stop": "end", "top_k": 5, "seed": 0, "n": 1, "logprobs": false,
        "messages": [{"role": "developer", "content": "d"}, {"role": "user", "content": "x"}],
        "tools": [{"type": "function", "function": {"name": "a"}}, {"type": "function", "function": {"name": "b"}}],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required",
            "tools": [{"type": "function", "function": {"name": "a"}}]}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    }));
    let (vendor, losses) = written(&request, &Profile::VENDOR);
    assert_eq!(vendor["max_completion_tokens"], 9);
    assert_eq!(vendor["stop"], "end");
    assert_eq!(vendor["messages"][0]["role"], "developer");
    assert_eq!(vendor["tools"].as_array().unwrap().len(), 2);
    assert_eq!(losses, "top_k=dropped");

    let profile = Profile {
        token_limit: TokenLimitField::MaxTokens,
        developer_role: false,
        stop_list_only: true,
        json_schema: false,
        allowed_tools: false,
        top_k: true,
        ignored_fields: &["seed", "n", "logprobs"],
        ..Profile::VENDOR
    };
    let (other, losses) = written(&request, &profile);
    assert_eq!((&other["max_tokens"], &other["stop"], &other["top_k"]), (&json!(9), &json!(["end"]), &json!(5)));
    assert_eq!(other["tool_choice"], "required");
    assert_eq!(other["tools"].as_array().unwrap().len(), 1);
    assert_eq!(other["response_format"], json!({"type": "json_object"}));
    assert!(other["messages"][0]["content"].as_str().unwrap().contains(r#"{"type":"object"}"#));
    assert_eq!(other["messages"][1]["role"], "system");
    // What is ignored is no loss where it only says the default.
    assert_eq!(losses, "response_format.json_schema=approximated, seed=dropped");
}

#[test]
fn reasoning_of_earlier_turns_goes_only_where_it_is_taken() {
    let signed = |origin| {
        Part::Reasoning(ReasoningPart {
            text: "hm".into(),
            signature: Some(Signature::new(origin, "proof")),
            ..ReasoningPart::default()
        })
    };
    let mut signed_call = call("a");
    signed_call.signature = Some(Signature::new(SignatureOrigin::Gemini, "sig"));
    let turn = vec![signed(SignatureOrigin::Anthropic), Part::text("so"), Part::ToolCall(signed_call)];
    let request = with_messages(vec![Message::new(Role::Assistant, turn)]);

    let (body, losses) = written(&request, &Profile::VENDOR);
    assert_eq!(body["messages"][0].get("reasoning_content"), None);
    assert_eq!(losses, "reasoning=dropped, reasoning.signature=dropped");

    let (body, losses) = written(&request, &Profile::COMPATIBLE);
    assert_eq!(body["messages"][0]["reasoning_content"], "hm");
    assert_eq!(body["messages"][0].get("reasoning_details"), None);
    assert_eq!(losses, "reasoning.signature=dropped");

    let (body, losses) = written(&request, &Profile::FULL);
    let details = json!([
        {"type": "reasoning.text", "text": "hm", "signature": "proof", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "sig", "id": "a", "format": "google-gemini-v1", "index": 1},
    ]);
    assert_eq!(body["messages"][0]["reasoning_details"], details);
    assert_eq!(body["messages"][0]["tool_calls"][0].get("extra_content"), None);
    assert_eq!(losses, "");
    assert_eq!(OpenAiChat.parse_request(body.to_string().as_bytes(), &UrlHints::default()).unwrap(), request);
}

#[test]
fn functions_of_the_legacy_api_are_tools() {
    let read = request(&json!({
        "model": "m", "functions": [{"name": "look", "parameters": {"type": "object"}}], "function_call": {"name": "look"},
        "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": null, "function_call": {"name": "look", "arguments": "{}"}},
            {"role": "function", "name": "look", "content": "seen"},
        ],
    }));
    assert_eq!(read.tool_choice, Some(ToolChoice::Named("look".into())));
    let (body, losses) = written(&read, &Profile::VENDOR);
    assert_eq!(body["messages"][1]["tool_calls"][0]["id"], body["messages"][2]["tool_call_id"]);
    assert_eq!(body["messages"][2]["role"], "tool");
    assert_eq!(losses, "");
}

#[test]
fn what_only_another_dialect_knows_is_named_and_left_out() {
    let foreign = |value: Value| Part::Foreign { dialect: DialectId::Anthropic, value };
    let mut request = with_messages(vec![Message::new(
        Role::User,
        vec![Part::text("x"), foreign(json!({"type": "search_result", "secret": "content"}))],
    )]);
    request.tools =
        vec![Tool::Foreign { dialect: DialectId::Anthropic, value: json!({"type": "web_search_20250305"}) }];
    request.tool_choice = Some(ToolChoice::Auto);
    let fields = json!({"container": "c"}).as_object().unwrap().clone();
    request.extras = Extras::from_fields(DialectId::Anthropic, fields);
    let (body, losses) = written(&request, &Profile::FULL);
    assert_eq!(body, json!({"model": "m", "messages": [{"role": "user", "content": "x"}]}));
    assert_eq!(
        losses,
        "search_result=dropped, tools.web_search_20250305=dropped, tool_choice=dropped, container=dropped"
    );
}

#[test]
fn a_schema_without_a_name_is_one_again_when_it_comes_back() {
    let output = OutputFormat::JsonSchema { name: None, description: None, schema: json!({}), strict: None };
    let request = Request { output: Some(output), ..messages(&json!([{"role": "user", "content": "x"}])) };
    let (body, _) = written(&request, &Profile::VENDOR);
    assert_eq!(body["response_format"]["json_schema"]["name"], "response");
    assert_eq!(super::request(&body), request);
}
