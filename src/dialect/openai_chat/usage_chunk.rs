//! Finds the chunk that a stream carries only because the gateway asked for usage.

use super::usage;
use crate::chat::Usage;
use crate::wire::sse::SseEvent;
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<serde::de::IgnoredAny>>,
    usage: Option<Value>,
}

/// The usage that `event` carries, and whether it carries nothing else: then it is the extra chunk that
/// `stream_options.include_usage` asks for (`choices` empty, `usage` set), to be taken out for a client that did not.
/// `None` for every other event; nearly all are told by a scan for the word alone.
pub fn usage_of(event: &SseEvent) -> Option<(Usage, bool)> {
    let data = event.data.as_deref()?;
    if !data.contains("\"usage\"") {
        return None;
    }
    let chunk: Chunk = serde_json::from_str(data).ok()?;
    let (usage, _) = usage::read(chunk.usage?)?;
    Some((usage, chunk.choices.is_some_and(|choices| choices.is_empty())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::sse::SseParser;

    fn of(data: &str) -> Option<(Usage, bool)> {
        let mut parser = SseParser::new();
        parser.push(format!("data: {data}\n\n").as_bytes()).unwrap();
        usage_of(&parser.next_event().unwrap())
    }

    #[test]
    fn only_the_chunk_without_choices_is_extra() {
        let counted = Usage { input: 3, output: 2, ..Usage::default() };
        let usage = r#""usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}"#;
        assert_eq!(of(&format!(r#"{{"choices":[],{usage}}}"#)), Some((counted, true)));
        assert_eq!(of(&format!(r#"{{"choices":[{{"delta":{{}}}}],{usage}}}"#)), Some((counted, false)));
        assert_eq!(of(r#"{"choices":[],"usage":null}"#), None);
        assert_eq!(of(r#"{"choices":[{"delta":{"content":"\"usage\""}}]}"#), None);
        assert_eq!(of("[DONE]"), None);
        assert_eq!(of(r#"{"usage"#), None);
    }
}
