use super::*;
use insta::assert_debug_snapshot;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_tool_loop() {
    let request = request("gemini-3-pro-preview", &json(include_str!("../fixtures/gemini/request_tool_loop.json")));
    assert_debug_snapshot!(request);
    insta::assert_json_snapshot!("a_tool_loop_rewritten", written(&request));
}

#[test]
fn snake_case_and_a_single_tool() {
    assert_debug_snapshot!(request(
        "gemini-2.5-flash",
        &json(include_str!("../fixtures/gemini/request_snake_case.json"))
    ));
}

#[test]
fn structured_output_with_an_open_api_schema() {
    let request = request("gemini-2.5-flash", &json(include_str!("../fixtures/gemini/request_structured.json")));
    assert_debug_snapshot!(request);
}

#[test]
fn a_tool_call() {
    let body = include_bytes!("../fixtures/gemini/response_tool_call.json");
    assert_debug_snapshot!(Gemini.parse_response(body).unwrap());
}

#[test]
fn a_blocked_prompt() {
    let body = include_bytes!("../fixtures/gemini/response_blocked.json");
    let response = Gemini.parse_response(body).unwrap();
    assert_debug_snapshot!(response);
    let again: Value = serde_json::from_slice(&Gemini.write_response(&response, &mut Losses::new())).unwrap();
    assert!(again.get("candidates").is_none() && again["promptFeedback"]["blockReason"] == "MODEL_ARMOR");
}

#[test]
fn a_stream_with_thoughts() {
    assert_debug_snapshot!(events(include_str!("../fixtures/gemini/stream_thinking.sse")));
}

#[test]
fn a_stream_with_arguments_in_pieces() {
    assert_debug_snapshot!(events(include_str!("../fixtures/gemini/stream_arguments_in_pieces.sse")));
}

#[test]
fn a_quota_of_the_minute() {
    assert_debug_snapshot!(Gemini.parse_error(429, include_bytes!("../fixtures/gemini/error_quota.json")));
}

#[test]
fn the_history_of_a_python_chat_after_a_stream() {
    let request = request("gemini-2.5-flash", &json(include_str!("../fixtures/gemini/request_python_chat.json")));
    assert_debug_snapshot!(request.messages);
}
