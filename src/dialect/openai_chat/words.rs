//! The words of the dialect and what they stand for.

use crate::chat::{Effort, Losses, SignatureOrigin, StopReason};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A short form of `text` that is always the same.
pub(super) fn digest(text: &str) -> String {
    let mut digest = DefaultHasher::new();
    text.hash(&mut digest);
    format!("{:016x}", digest.finish())
}

/// Reads a `finish_reason`; the empty string is left to the caller. Besides OpenAI's own: `eos` (Together), `model_length`
/// (Mistral), Anthropic's and Gemini's words as proxies pass them through.
pub(super) fn stop_reason(word: &str) -> StopReason {
    match word {
        "stop" | "eos" | "end_turn" | "STOP" => StopReason::EndTurn,
        "length" | "max_tokens" | "MAX_TOKENS" => StopReason::MaxTokens,
        "tool_calls" | "function_call" | "tool_use" => StopReason::ToolUse,
        "content_filter" | "SAFETY" => StopReason::ContentFilter,
        "stop_sequence" => StopReason::StopSequence,
        "refusal" => StopReason::Refusal,
        "model_length" => StopReason::ContextWindow,
        other => StopReason::Other(other.to_owned()),
    }
}

/// Writes a `finish_reason`. Only the five words that strict SDKs know are written.
pub(super) fn finish_reason(reason: &StopReason, losses: &mut Losses) -> &'static str {
    match reason {
        StopReason::EndTurn => "stop",
        StopReason::MaxTokens => "length",
        StopReason::ToolUse => "tool_calls",
        StopReason::ContentFilter => "content_filter",
        other => {
            losses.approximated("stop_reason");
            match other {
                StopReason::ContextWindow => "length",
                StopReason::Refusal => "content_filter",
                _ => "stop",
            }
        }
    }
}

const EFFORTS: [(Effort, &str); 6] = [
    (Effort::Minimal, "minimal"),
    (Effort::Low, "low"),
    (Effort::Medium, "medium"),
    (Effort::High, "high"),
    (Effort::XHigh, "xhigh"),
    (Effort::Max, "max"),
];

/// Reads a `reasoning_effort` other than `none`.
pub(super) fn effort(word: &str) -> Option<Effort> {
    EFFORTS.iter().find(|(_, known)| *known == word).map(|(effort, _)| *effort)
}

/// Writes a `reasoning_effort`.
pub(super) fn effort_word(effort: Effort) -> &'static str {
    EFFORTS.iter().find(|(known, _)| *known == effort).map_or("medium", |(_, word)| word)
}

const FORMATS: [(SignatureOrigin, &str); 5] = [
    (SignatureOrigin::Anthropic, "anthropic-claude-v1"),
    (SignatureOrigin::Gemini, "google-gemini-v1"),
    (SignatureOrigin::OpenAi, "openai-responses-v1"),
    (SignatureOrigin::Xai, "xai-responses-v1"),
    (SignatureOrigin::Unknown, "unknown"),
];

/// Whose proof a `reasoning_details[].format` names. OpenRouter's own SDK takes a missing one for Anthropic's.
pub(super) fn origin(format: Option<&str>) -> SignatureOrigin {
    let Some(format) = format else { return SignatureOrigin::Anthropic };
    let format = format.strip_prefix("azure-").unwrap_or(format);
    FORMATS.iter().find(|(_, known)| *known == format).map_or(SignatureOrigin::Unknown, |(origin, _)| *origin)
}

/// The `reasoning_details[].format` of a proof.
pub(super) fn format(origin: SignatureOrigin) -> &'static str {
    FORMATS.iter().find(|(known, _)| *known == origin).map_or("unknown", |(_, format)| format)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_effort_and_every_format_is_read_as_it_is_written() {
        for (known, word) in EFFORTS {
            assert_eq!(effort(effort_word(known)), Some(known), "{word}");
        }
        for (known, word) in FORMATS {
            assert_eq!(origin(Some(format(known))), known, "{word}");
        }
        assert_eq!(effort("none"), None);
    }
}
