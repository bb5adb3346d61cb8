use super::*;
use bifrost::chat::{
    DialectId, Effort, ErrorKind, Extras, FunctionTool, MediaKind, MediaPart, MediaSource, Message, OutputFormat, Part,
    Reasoning, ReasoningMode, ReasoningPart, Role, Signature, SignatureOrigin, Tool, ToolCall, ToolChoice, ToolResult,
};
use serde_json::json;

const SKIP: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

fn call(id: &str, name: &str, signature: Option<Signature>) -> Part {
    Part::ToolCall(ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: "{\"a\": 1}".into(),
        signature,
        cache: None,
        extras: Extras::default(),
    })
}

fn result(id: &str, text: &str, is_error: bool) -> Part {
    Part::ToolResult(ToolResult {
        call_id: id.into(),
        name: None,
        content: vec![Part::text(text)],
        json: None,
        is_error,
        cache: None,
        extras: Extras::default(),
    })
}

fn conversation(model: &str, messages: Vec<Message>) -> Request {
    Request { model: model.into(), messages, ..Request::default() }
}

fn user(text: &str) -> Message {
    Message::new(Role::User, vec![Part::text(text)])
}

#[test]
fn strings_stand_for_contents_and_roles_may_be_missing() {
    let read = request("m", &json!({ "systemInstruction": "be brief", "contents": "hi" }));
    assert_eq!(read.messages, [Message::new(Role::System, vec![Part::text("be brief")]), user("hi")]);
    let read = request("models/m", &json!({ "contents": { "parts": [{ "text": "hi" }] } }));
    assert_eq!((read.model.as_str(), read.messages), ("m", vec![user("hi")]));
}

#[test]
fn what_is_no_request_is_refused_with_its_field() {
    for (body, param) in [
        (json!({}), "contents"),
        (json!({ "contents": 1 }), "contents"),
        (json!({ "contents": [{ "role": "system", "parts": [] }] }), "contents[0].role"),
        (json!({ "contents": [{ "parts": 7 }] }), "contents[0]"),
        (json!({ "contents": [], "generationConfig": { "maxOutputTokens": -1 } }), "generationConfig.maxOutputTokens"),
        (json!({ "contents": [], "generationConfig": { "temperature": "hot" } }), "generationConfig.temperature"),
        (json!({ "contents": [], "tools": [1] }), "tools"),
        (
            json!({ "contents": [], "toolConfig": { "functionCallingConfig": { "mode": "MAYBE" } } }),
            "toolConfig.functionCallingConfig.mode",
        ),
    ] {
        let error = Gemini.parse_request(body.to_string().as_bytes(), &UrlHints::default()).unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::InvalidRequest, Some(param)), "{body}");
    }
}

#[test]
fn calls_without_ids_get_them_and_results_find_their_calls() {
    let read = request(
        "m",
        &json!({ "contents": [
            { "role": "model", "parts": [
                { "functionCall": { "name": "f", "args": {} } }, { "functionCall": { "name": "g.x", "args": {} } },
                { "functionCall": { "name": "f", "args": {} } },
            ] },
            { "role": "function", "parts": [
                { "functionResponse": { "name": "g.x", "response": { "result": "2" } } },
                { "functionResponse": { "name": "f", "response": { "result": "1" } } },
                { "functionResponse": { "id": "theirs", "name": "f", "response": { "result": "3" } } },
            ] },
            { "role": "model", "parts": [{ "functionCall": { "name": "f", "args": {} } }] },
            { "role": "user", "parts": [{ "functionResponse": { "name": "f", "response": {} } }, { "text": "and?" }] },
        ] }),
    );
    let ids = |message: &Message| {
        let ids = message.parts.iter().map(|part| match part {
            Part::ToolCall(call) => call.id.clone(),
            Part::ToolResult(result) => result.call_id.clone(),
            other => panic!("{other:?}"),
        });
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(&read.messages[0]), ["call_0_f", "call_1_g_x", "call_2_f"]);
    assert_eq!(ids(&read.messages[1]), ["call_1_g_x", "call_0_f", "call_2_f"]);
    assert_eq!(ids(&read.messages[2]), ["call_3_f"]);
    assert_eq!(ids(&read.messages[3]), ["call_3_f"]);
    assert_eq!(read.messages[4], user("and?"));
}

#[test]
fn results_are_objects_towards_gemini() {
    let messages = vec![
        user("go"),
        Message::new(Role::Assistant, vec![call("1", "f", None), call("2", "g", None), call("3", "h", None)]),
        Message::new(
            Role::Tool,
            vec![result("1", "{\"x\":1}", false), result("2", "plain", false), result("3", "no", true)],
        ),
    ];
    let (body, losses) = written(&conversation("gemini-2.5-pro", messages));
    let responses: Vec<&Value> =
        body["contents"][2]["parts"].as_array().unwrap().iter().map(|part| &part["functionResponse"]).collect();
    assert_eq!(*responses[0], json!({ "id": "1", "name": "f", "response": { "x": 1 } }));
    assert_eq!(*responses[1], json!({ "id": "2", "name": "g", "response": { "result": "plain" } }));
    assert_eq!(*responses[2], json!({ "id": "3", "name": "h", "response": { "error": "no" } }));
    assert_eq!(losses, "");
}

#[test]
fn a_result_reads_the_same_as_text_and_as_object() {
    for response in [
        json!({ "result": "plain" }),
        json!({ "error": "no" }),
        json!({ "x": [1, 2.5] }),
        json!({ "result": "{\"looks\": \"like json\"}" }),
        json!({ "result": 1 }),
        json!({ "output": "said" }),
        json!({}),
    ] {
        let body = json!({ "contents": [
            { "role": "model", "parts": [{ "functionCall": { "name": "f", "args": {} } }] },
            { "role": "user", "parts": [{ "functionResponse": { "name": "f", "response": response } }] },
        ] });
        let (again, losses) = written(&request("m", &body));
        assert_eq!(again["contents"][1]["parts"][0]["functionResponse"]["response"], response);
        assert_eq!(losses, "");
    }
}

/// Gemini CLI writes every result so; other vendors' models are to read the text.
#[test]
fn the_output_of_a_result_is_its_text() {
    let response = json!({ "functionResponse": { "name": "f", "response": { "output": "said" } } });
    let body = json!({ "contents": [{ "role": "user", "parts": [response] }] });
    let request = request("m", &body);
    let Part::ToolResult(result) = &request.messages[0].parts[0] else { panic!("no result") };
    assert_eq!(result.content, [Part::text("said")]);
}

#[test]
fn a_picture_of_a_tool_goes_inside_the_result_where_the_model_takes_it() {
    let picture = Part::Media(MediaPart {
        kind: MediaKind::Image,
        source: MediaSource::Base64("iVBORw0KGgoAAA".into()),
        media_type: None,
        name: None,
        detail: None,
        cache: None,
        signature: None,
        extras: Extras::default(),
    });
    let Part::ToolResult(shot) = result("1", "here", false) else { unreachable!() };
    let shot = Part::ToolResult(ToolResult { content: vec![Part::text("here"), picture], ..shot });
    let messages = vec![
        user("go"),
        Message::new(Role::Assistant, vec![call("1", "f", Some(Signature::new(SignatureOrigin::Gemini, "own")))]),
        Message::new(Role::Tool, vec![shot]),
    ];
    let data = json!({ "inlineData": { "mimeType": "image/png", "data": "iVBORw0KGgoAAA" } });
    let (body, losses) = written(&conversation("gemini-3-pro-preview", messages.clone()));
    assert_eq!(body["contents"][2]["parts"][0]["functionResponse"]["parts"], json!([data]));
    assert_eq!(losses, "");
    let (body, losses) = written(&conversation("gemini-2.5-pro", messages));
    assert_eq!(body["contents"][2]["parts"][1], data);
    assert_eq!(losses, "tool_result.media=approximated");
}

#[test]
fn gemini_3_gets_the_skip_value_for_calls_of_other_models_in_the_current_turn_only() {
    let foreign = Some(Signature::new(SignatureOrigin::Anthropic, "EqQB"));
    let step = |id: &str| Message::new(Role::Assistant, vec![call(id, "f", foreign.clone()), call("p", "f", None)]);
    let messages = vec![
        user("old"),
        step("1"),
        Message::new(Role::Tool, vec![result("1", "x", false), result("p", "x", false)]),
        user("new"),
        step("2"),
        Message::new(Role::Tool, vec![result("2", "x", false), result("p", "x", false)]),
    ];
    let (body, losses) = written(&conversation("gemini-3-flash-preview", messages.clone()));
    let signature = |content: usize, part: usize| &body["contents"][content]["parts"][part]["thoughtSignature"];
    assert_eq!((signature(1, 0), signature(4, 0), signature(4, 1)), (&Value::Null, &json!(SKIP), &Value::Null));
    assert_eq!(losses, "tool_call.signature=dropped, tool_call.signature=approximated");
    let (body, losses) = written(&conversation("gemini-2.5-flash", messages));
    assert!(!body.to_string().contains("thoughtSignature"));
    assert_eq!(losses, "tool_call.signature=dropped");
}

#[test]
fn reasoning_of_another_vendor_stays_behind_and_own_reasoning_goes_back() {
    let thought = |origin| {
        let signature = Some(Signature::new(origin, "sig"));
        Part::Reasoning(ReasoningPart { text: "hm".into(), signature, ..ReasoningPart::default() })
    };
    let answer = vec![thought(SignatureOrigin::Anthropic), thought(SignatureOrigin::Gemini), Part::text("so")];
    let (body, losses) =
        written(&conversation("gemini-2.5-pro", vec![user("?"), Message::new(Role::Assistant, answer), user("and?")]));
    assert_eq!(
        body["contents"][1]["parts"],
        json!([{ "text": "hm", "thought": true, "thoughtSignature": "sig" }, { "text": "so" }])
    );
    assert_eq!(losses, "reasoning=dropped");
}

#[test]
fn a_thought_that_a_chat_kept_chunk_by_chunk_is_whole_again() {
    let sealed = Signature::new(SignatureOrigin::Anthropic, "EqQB").seal(SignatureOrigin::Gemini);
    let chunk = |part: Value| json!({ "role": "model", "parts": [part] });
    let read = request(
        "m",
        &json!({ "contents": [
            { "role": "user", "parts": [{ "text": "?" }] },
            chunk(json!({ "text": "first, ", "thought": true })),
            chunk(json!({ "text": "then", "thought": true })),
            chunk(json!({ "text": "", "thought": true, "thoughtSignature": sealed.replace('+', "-").replace('/', "_") })),
            chunk(json!({ "text": "so" })),
        ] }),
    );
    let thought = ReasoningPart {
        text: "first, then".into(),
        signature: Some(Signature::new(SignatureOrigin::Anthropic, "EqQB")),
        ..ReasoningPart::default()
    };
    assert_eq!(read.messages[1..], [Message::new(Role::Assistant, vec![Part::Reasoning(thought), Part::text("so")])]);
}

#[test]
fn effort_is_a_level_or_a_budget_as_the_model_takes_it() {
    let thinking = |model: &str, reasoning: Reasoning| {
        let request = Request { reasoning: Some(reasoning), ..conversation(model, vec![user("?")]) };
        let (body, losses) = written(&request);
        (body["generationConfig"]["thinkingConfig"].clone(), losses)
    };
    let effort = |effort| Reasoning { effort: Some(effort), ..Reasoning::default() };
    let off = Reasoning { mode: ReasoningMode::Off, ..Reasoning::default() };
    let unsaid = Reasoning { mode: ReasoningMode::Unsaid, ..effort(Effort::Low) };
    let budget = |tokens| Reasoning { budget_tokens: Some(tokens), include: Some(false), ..Reasoning::default() };
    for (model, reasoning, config, losses) in [
        ("gemini-3-pro-preview", effort(Effort::Low), json!({ "thinkingLevel": "LOW", "includeThoughts": true }), ""),
        (
            "gemini-3-pro-preview",
            effort(Effort::Max),
            json!({ "thinkingLevel": "HIGH", "includeThoughts": true }),
            "reasoning.effort=approximated",
        ),
        (
            "gemini-2.5-flash",
            effort(Effort::Medium),
            json!({ "thinkingBudget": 8192, "includeThoughts": true }),
            "reasoning.effort=approximated",
        ),
        ("gemini-2.5-flash", off.clone(), json!({ "thinkingBudget": 0, "includeThoughts": false }), ""),
        (
            "gemini-2.5-pro",
            off.clone(),
            json!({ "thinkingBudget": 128, "includeThoughts": false }),
            "reasoning=approximated",
        ),
        (
            "gemini-3-flash-preview",
            off.clone(),
            json!({ "thinkingLevel": "MINIMAL", "includeThoughts": false }),
            "reasoning=approximated",
        ),
        (
            "gemini-2.5-flash",
            budget(100_000),
            json!({ "thinkingBudget": 24_576, "includeThoughts": false }),
            "reasoning.budget_tokens=approximated",
        ),
        ("gemini-3-flash-preview", budget(100), json!({ "thinkingBudget": 100, "includeThoughts": false }), ""),
        ("gemini-2.0-flash", effort(Effort::Low), Value::Null, "reasoning=dropped"),
        ("gemini-3-flash-preview", unsaid.clone(), json!({ "thinkingLevel": "LOW", "includeThoughts": false }), ""),
        ("gemini-2.5-flash", unsaid, Value::Null, "reasoning.effort=dropped"),
        ("gemini-2.0-flash", off, Value::Null, ""),
    ] {
        assert_eq!(thinking(model, reasoning.clone()), (config, losses.to_owned()), "{model} {reasoning:?}");
    }
}

#[test]
fn every_thing_that_gemini_cannot_say_is_a_loss() {
    let mut late = user("hi");
    late.name = Some("ann".into());
    let foreign = |kind: &str| json!({ "type": kind, "secret": "content" });
    let anthropic = DialectId::Anthropic;
    let messages = vec![
        late,
        Message::new(Role::System, vec![Part::text("late rules")]),
        Message::new(Role::User, vec![Part::Foreign { dialect: anthropic, value: foreign("search_result") }]),
    ];
    let request = Request {
        tools: vec![
            Tool::Foreign { dialect: anthropic, value: foreign("web_search_20250305") },
            Tool::Function(FunctionTool { name: "f".into(), strict: Some(true), ..FunctionTool::default() }),
        ],
        tool_choice: Some(ToolChoice::Among { names: vec!["f".into()], required: false }),
        parallel_tool_calls: Some(false),
        user: Some("u".into()),
        extras: Extras::from_fields(
            anthropic,
            serde_json::from_value(json!({ "container": "c", "nothing": null })).unwrap(),
        ),
        ..conversation("gemini-2.5-pro", messages)
    };
    let mut request = request;
    request.sampling.seed = Some(5_000_000_000);
    request.sampling.stop = ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec();
    let (body, losses) = written(&request);
    assert_eq!(
        losses,
        "messages.name=dropped, messages.role=approximated, content.search_result=dropped, \
         tools.web_search_20250305=dropped, tools.strict=dropped, seed=approximated, stop=approximated, \
         parallel_tool_calls=dropped, user=dropped, container=dropped"
    );
    assert_eq!(
        body["contents"],
        json!([
            { "role": "user", "parts": [{ "text": "hi" }] }, { "role": "user", "parts": [{ "text": "late rules" }] }
        ])
    );
    assert_eq!(
        body["toolConfig"]["functionCallingConfig"],
        json!({ "mode": "VALIDATED", "allowedFunctionNames": ["f"] })
    );
    assert_eq!(body["generationConfig"]["stopSequences"].as_array().unwrap().len(), 5);
    assert!(!body.to_string().contains("secret"));
}

#[test]
fn tool_choices_and_schemas_come_back() {
    for config in [
        json!({ "mode": "AUTO" }),
        json!({ "mode": "NONE" }),
        json!({ "mode": "ANY" }),
        json!({ "mode": "ANY", "allowedFunctionNames": ["f"] }),
        json!({ "mode": "ANY", "allowedFunctionNames": ["f", "g"] }),
        json!({ "mode": "VALIDATED" }),
        json!({ "mode": "VALIDATED", "allowedFunctionNames": ["f"] }),
    ] {
        let tools = json!([{ "functionDeclarations": [{ "name": "f", "parametersJsonSchema": { "const": 1 } }] }, { "googleSearch": {} }]);
        let body = json!({ "contents": "hi", "tools": tools, "toolConfig": { "functionCallingConfig": config } });
        let (again, losses) = written(&request("m", &body));
        assert_eq!((&again["toolConfig"]["functionCallingConfig"], &again["tools"]), (&config, &tools));
        assert_eq!(losses, "");
    }
}

#[test]
fn structured_output_goes_as_json_schema() {
    let schema = json!({ "type": "object", "$defs": {}, "additionalProperties": false });
    let output = OutputFormat::JsonSchema {
        name: Some("answer".into()),
        description: Some("what to say".into()),
        schema,
        strict: Some(true),
    };
    let (body, losses) = written(&Request { output: Some(output), ..conversation("m", vec![user("?")]) });
    assert_eq!(
        body["generationConfig"],
        json!({
            "responseMimeType": "application/json",
            "responseJsonSchema": { "type": "object", "$defs": {}, "additionalProperties": false, "description": "what to say" },
        })
    );
    assert_eq!(losses, "");
}

#[test]
fn a_system_prompt_alone_is_a_request() {
    let system = Message::new(Role::Developer, vec![Part::text("tell a joke")]);
    let (body, losses) = written(&conversation("m", vec![system]));
    assert_eq!(body["systemInstruction"], json!({ "parts": [{ "text": "tell a joke" }] }));
    assert_eq!(
        (body["contents"].clone(), losses.as_str()),
        (json!([{ "role": "user", "parts": [{ "text": "" }] }]), "")
    );
}

#[test]
fn a_question_of_nothing_is_still_a_question() {
    let read = request("m", &json!({ "contents": [{ "role": "user", "parts": [{ "text": "" }] }] }));
    assert_eq!(read.messages, [user("")]);
    assert_eq!(written(&read).0["contents"], json!([{ "role": "user", "parts": [{ "text": "" }] }]));
}

#[test]
fn media_are_where_other_dialects_look_for_them() {
    let part = |part: Value| {
        let read = request("m", &json!({ "contents": [{ "parts": [part] }] }));
        let Part::Media(media) = read.messages[0].parts[0].clone() else { panic!("no medium") };
        assert_eq!(written(&read).1, "");
        (media.kind, media.source)
    };
    let file = |id: &str| MediaSource::FileId { dialect: DialectId::Gemini, id: id.into() };
    let blob = |mime: &str, data: &str| json!({ "inlineData": { "mimeType": mime, "data": data } });
    let link = |uri: &str| json!({ "fileData": { "fileUri": uri } });
    // The URL-safe alphabet without padding, as google-genai for Python writes it.
    assert_eq!(part(blob("image/png", "-_8")), (MediaKind::Image, MediaSource::Base64("+/8=".into())));
    assert_eq!(part(blob("text/csv", "YSxi")), (MediaKind::Document, MediaSource::Text("a,b".into())));
    assert_eq!(part(link("gs://bucket/a.mp4")), (MediaKind::Document, file("gs://bucket/a.mp4")));
    let uploaded = "https://generativelanguage.googleapis.com/v1beta/files/x";
    assert_eq!(part(link(uploaded)), (MediaKind::Document, file(uploaded)));
    let (kind, source) = part(link("https://youtu.be/x"));
    assert_eq!((kind, source), (MediaKind::Video, MediaSource::Url("https://youtu.be/x".into())));
}
