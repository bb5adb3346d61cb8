use super::*;
use proptest::prelude::*;

/// Bytes that look like the dialect, so that the readers get deeper than the first brace.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(vec![
            "",
            "text",
            "assistant",
            "user",
            "tool",
            "function",
            "stop",
            "error",
            "é",
            "data:image/png;base64,AA",
            "none",
            "reasoning.text",
            "reasoning.encrypted",
            "bifrost-text-0",
            "bifrost-media-99999999999",
            "ephemeral",
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let key = proptest::sample::select(vec![
            "messages",
            "role",
            "content",
            "type",
            "text",
            "tool_calls",
            "function",
            "name",
            "arguments",
            "id",
            "index",
            "choices",
            "message",
            "delta",
            "finish_reason",
            "usage",
            "prompt_tokens",
            "total_tokens",
            "reasoning_details",
            "signature",
            "data",
            "format",
            "image_url",
            "url",
            "audio",
            "error",
            "detail",
            "loc",
            "msg",
            "code",
            "model",
            "reasoning",
            "thinking",
            "tools",
            "tool_choice",
            "response_format",
            "json_schema",
            "extra_content",
            "google",
            "thought_signature",
            "images",
            "annotations",
            "logprobs",
            "x_groq",
            "stop_reason",
            "metadata",
            "cache_control",
        ]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..6).prop_map(|pairs| Value::Object(
                pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

fn decode(pieces: &[&[u8]]) -> Vec<Event> {
    let (mut decoder, mut events) = (OpenAiChat.decoder(), Vec::new());
    for piece in pieces {
        decoder.push(piece, &mut events);
    }
    decoder.finish(&mut events);
    events
}

proptest! {
    #[test]
    fn no_value_breaks_a_reader(value in value(), status in 400u16..600) {
        let body = value.to_string().into_bytes();
        if let Ok(request) = OpenAiChat.parse_request(&body, &UrlHints { model: Some("m".into()), stream: None }) {
            for profile in [Profile::FULL, Profile::VENDOR, Profile::COMPATIBLE] {
                let written = OpenAiChat.write_request(&request, &profile, &mut Losses::new());
                prop_assert!(OpenAiChat.parse_request(&written, &UrlHints::default()).is_ok());
            }
        }
        if let Ok(response) = OpenAiChat.parse_response(&body) {
            let written = OpenAiChat.write_response(&response, &mut Losses::new());
            prop_assert!(OpenAiChat.parse_response(&written).is_ok());
        }
        prop_assert!(!OpenAiChat.parse_error(status, &body).message.is_empty());
    }

    #[test]
    fn where_a_stream_is_cut_does_not_matter(values in proptest::collection::vec(value(), 1..5), at in any::<proptest::sample::Index>()) {
        let text: String = values.iter().map(|value| format!("data: {}\n\n", json!({"id": "c", "choices": [value]}))).collect();
        let (one, two) = text.as_bytes().split_at(at.index(text.len()));
        let whole = decode(&[text.as_bytes()]);
        prop_assert_eq!(&whole, &decode(&[one, two]));
        let is_end = |event: &&Event| matches!(event, Event::Error(_) | Event::Stop { .. } | Event::Extras(_));
        prop_assert!(whole.last().filter(is_end).is_some(), "{:?}", whole.last());
        encoded(&whole, true);
    }

    #[test]
    fn no_bytes_break_a_reader(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        prop_assert!(!decode(&[&bytes]).is_empty());
        let _ = (OpenAiChat.parse_request(&bytes, &UrlHints::default()), OpenAiChat.parse_response(&bytes));
    }
}
