//! No input makes a reader panic.

use super::*;
use bifrost::dialect::gemini::{count_tokens, embedding, strip_foreign_signatures};
use proptest::prelude::*;

const REQUEST: &str = include_str!("../fixtures/gemini/request_tool_loop.json");
const RESPONSE: &str = include_str!("../fixtures/gemini/response_tool_call.json");
const STREAM: &str = include_str!("../fixtures/gemini/stream_arguments_in_pieces.sse");
const THOUGHTS: &str = include_str!("../fixtures/gemini/stream_thinking.sse");

fn read_all(bytes: &[u8]) {
    let url = UrlHints::default();
    if let Ok(request) = Gemini.parse_request(bytes, &url) {
        let body = Gemini.write_request(&request, &Profile::FULL, &mut Losses::new());
        assert_eq!(Gemini.parse_request(&body, &url).unwrap().tools, request.tools);
    }
    if let Ok(response) = Gemini.parse_response(bytes) {
        Gemini.write_response(&response, &mut Losses::new());
    }
    Gemini.parse_error(400, bytes);
    strip_foreign_signatures(bytes);
    let _ = (count_tokens::parse_request(bytes, &url), count_tokens::parse_response(bytes));
    let _ = (embedding::parse_request(bytes, &url), embedding::parse_response(bytes));
    let (mut decoder, mut events) = (Gemini.decoder(), Vec::new());
    decoder.push(bytes, &mut events);
    decoder.finish(&mut events);
    encoded(&events, true);
}

/// JSON made of the words of the dialect, in places where they do not belong.
fn confused() -> impl Strategy<Value = Value> {
    let word = proptest::sample::select(vec![
        "contents",
        "parts",
        "text",
        "functionCall",
        "name",
        "args",
        "functionResponse",
        "response",
        "inlineData",
        "data",
        "candidates",
        "content",
        "finishReason",
        "STOP",
        "usageMetadata",
        "promptTokenCount",
        "thought",
        "thoughtSignature",
        "tools",
        "functionDeclarations",
        "generationConfig",
        "stopSequences",
        "error",
        "status",
        "details",
        "role",
        "model",
        "partialArgs",
        "jsonPath",
        "$.a[3]",
        "willContinue",
        "promptFeedback",
        "createTime",
        "requests",
        "embedding",
        "index",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((word.clone(), inner), 0..5).prop_map(|pairs| Value::Object(
                pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_all(&bytes);
    }

    #[test]
    fn any_confusion_of_the_dialects_own_words(value in confused(), name in "contents|candidates|error|requests") {
        read_all(value.to_string().as_bytes());
        read_all(serde_json::json!({ name: [value.clone()] }).to_string().as_bytes());
        read_all(format!("data: {value}\n\n").as_bytes());
    }

    #[test]
    fn a_body_cut_anywhere(at in any::<proptest::sample::Index>()) {
        for text in [REQUEST, RESPONSE, STREAM, THOUGHTS] {
            read_all(&text.as_bytes()[..at.index(text.len())]);
        }
    }

    #[test]
    fn where_a_stream_is_cut_does_not_matter(cuts in proptest::collection::vec(1usize..200, 1..60)) {
        for text in [STREAM, THOUGHTS] {
            let (mut decoder, mut found) = (Gemini.decoder(), Vec::new());
            let mut rest = text.as_bytes();
            for length in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*length).min(rest.len()));
                decoder.push(now, &mut found);
                rest = later;
                if rest.is_empty() { break; }
            }
            decoder.finish(&mut found);
            prop_assert_eq!(found, events(text));
        }
    }
}
