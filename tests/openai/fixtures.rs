use super::*;
use insta::{assert_debug_snapshot, assert_json_snapshot, assert_snapshot};

#[test]
fn a_request_with_cache_markers() {
    let body = serde_json::from_str(include_str!("../fixtures/openai/request_cache_markers_openrouter.json")).unwrap();
    let request = request(&body);
    assert_debug_snapshot!(request);
    assert_json_snapshot!("a_request_with_cache_markers_to_openai", written(&request, &Profile::VENDOR));
}

#[test]
fn thinking_in_the_content_list() {
    let body = include_bytes!("../fixtures/openai/response_thinking_chunks_mistral.json");
    assert_debug_snapshot!(OpenAiChat.parse_response(body).unwrap());
}

#[test]
fn a_signed_answer_whose_empty_fields_say_nothing() {
    let body = include_bytes!("../fixtures/openai/response_empty_fields_snowflake.json");
    let response = OpenAiChat.parse_response(body).unwrap();
    assert_debug_snapshot!(response);
    assert_json_snapshot!("a_signed_answer_to_a_client", answered(&response));
}

#[test]
fn a_call_signed_by_google() {
    let body = include_bytes!("../fixtures/openai/response_signed_call_google.json");
    let response = OpenAiChat.parse_response(body).unwrap();
    assert_debug_snapshot!(response);
}

#[test]
fn a_stream_with_signed_thinking() {
    let events = events(include_str!("../fixtures/openai/stream_signed_thinking_openrouter.sse"));
    assert_debug_snapshot!(events);
    assert_snapshot!("a_stream_with_signed_thinking_to_a_client", encoded(&events, true).0);
}

#[test]
fn a_stream_whose_deltas_have_empty_ids() {
    assert_debug_snapshot!(events(include_str!("../fixtures/openai/stream_empty_ids_alibaba.sse")));
}

#[test]
fn a_stream_that_ends_with_an_error() {
    assert_debug_snapshot!(events(include_str!("../fixtures/openai/stream_error_groq.sse")));
}

#[test]
fn a_stream_with_a_call_in_one_piece() {
    assert_debug_snapshot!(events(include_str!("../fixtures/openai/stream_tool_call_vllm_mlx.sse")));
}
