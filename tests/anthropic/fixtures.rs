//! Recorded exchanges in their neutral form.

use super::*;

#[test]
fn a_recorded_request_in_neutral_words() {
    let body = include_bytes!("../fixtures/anthropic/result_with_image.request.json");
    let request = Anthropic.parse_request(body, &UrlHints::default()).unwrap();
    insta::assert_debug_snapshot!(request);
}

#[test]
fn a_recorded_answer_in_neutral_words() {
    let body = include_bytes!("../fixtures/anthropic/thinking_and_call.json");
    insta::assert_debug_snapshot!(Anthropic.parse_response(body).unwrap());
}

#[test]
fn a_recorded_stream_with_a_server_tool_in_neutral_words() {
    let body = include_bytes!("../fixtures/anthropic/advisor.sse");
    insta::assert_debug_snapshot!(collect(&decode(body, 11)));
}

#[test]
fn a_recorded_stream_with_citations_as_events() {
    let body = include_bytes!("../fixtures/anthropic/citations.sse");
    insta::assert_debug_snapshot!(decode(body, body.len()));
}
