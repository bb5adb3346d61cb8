//! Usage of a stream that the client did not ask for: asked for on its behalf, and taken out again.
//!
//! OpenAI, "Create chat completion", `stream_options.include_usage`: one more chunk before `[DONE]`, with `usage` and an
//! empty `choices`.

use crate::wire::json::{Edits, Object};
use crate::wire::sse::SseEvent;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Sees to it that `body` asks for usage. True when it did not by itself: then the extra chunk is the gateway's.
pub fn ask(body: &Object<'_>, edits: &mut Edits<'_, '_>) -> bool {
    let options = body.raw("stream_options").filter(|options| options.starts_with(b"{"));
    let Some(options) = options else {
        edits.set("stream_options", br#"{"include_usage":true}"#);
        return true;
    };
    let Ok(object) = Object::scan(options) else { return false };
    if object.boolean("include_usage") == Some(true) {
        return false;
    }
    let mut inner = object.edit();
    inner.set("include_usage", b"true");
    edits.set("stream_options", &inner.apply());
    true
}

/// True for a chunk that holds usage and nothing else.
pub fn is_usage_only(event: &SseEvent) -> bool {
    #[derive(Deserialize)]
    struct Chunk<'a> {
        #[serde(borrow)]
        choices: Vec<&'a RawValue>,
        usage: Option<serde::de::IgnoredAny>,
    }
    let Some(data) = event.data.as_deref().filter(|data| data.contains("\"usage\"")) else { return false };
    serde_json::from_str::<Chunk<'_>>(data).is_ok_and(|chunk| chunk.choices.is_empty() && chunk.usage.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sse::SseParser;

    fn asked(body: &str) -> (bool, String) {
        let object = Object::scan(body.as_bytes()).unwrap();
        let mut edits = object.edit();
        let ours = ask(&object, &mut edits);
        (ours, String::from_utf8(edits.apply()).unwrap())
    }

    #[test]
    fn usage_is_asked_for_once() {
        assert_eq!(asked("{}"), (true, r#"{"stream_options":{"include_usage":true}}"#.to_owned()));
        assert_eq!(
            asked(r#"{"stream_options":null}"#),
            (true, r#"{"stream_options":{"include_usage":true}}"#.to_owned())
        );
        let own = r#"{"stream_options":{"include_usage":true}}"#;
        assert_eq!(asked(own), (false, own.to_owned()));
        let other = asked(r#"{"stream_options":{"x":1,"include_usage":false}}"#);
        assert_eq!(other, (true, r#"{"stream_options":{"x":1,"include_usage":true}}"#.to_owned()));
    }

    #[test]
    fn only_the_extra_chunk_is_taken_out() {
        let is_extra = |data: &str| {
            let mut parser = SseParser::new();
            parser.push(format!("data: {data}\n\n").as_bytes()).unwrap();
            is_usage_only(&parser.next_event().unwrap())
        };
        assert!(is_extra(r#"{"id":"1","choices":[],"usage":{"prompt_tokens":1}}"#));
        assert!(is_extra(r#"{"choices": [ ], "usage": {"prompt_tokens":1}}"#));
        assert!(!is_extra(r#"{"choices":[],"usage":null}"#));
        assert!(!is_extra(r#"{"choices":[{"delta":{"content":"\"usage\""}}],"usage":{"prompt_tokens":1}}"#));
        assert!(!is_extra(r#"{"choices":[],"prompt_filter_results":[]}"#));
        assert!(!is_extra("[DONE]"));
    }
}
