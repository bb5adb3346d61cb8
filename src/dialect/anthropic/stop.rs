//! Why an answer ended.

use crate::chat::{Losses, StopReason};

const WORDS: [(&str, StopReason); 7] = [
    ("end_turn", StopReason::EndTurn),
    ("max_tokens", StopReason::MaxTokens),
    ("stop_sequence", StopReason::StopSequence),
    ("tool_use", StopReason::ToolUse),
    ("refusal", StopReason::Refusal),
    ("pause_turn", StopReason::PauseTurn),
    ("model_context_window_exceeded", StopReason::ContextWindow),
];

/// Reads `stop_reason`.
pub(super) fn read(word: &str) -> StopReason {
    WORDS
        .into_iter()
        .find(|(known, _)| *known == word)
        .map_or_else(|| StopReason::Other(word.to_owned()), |(_, stop)| stop)
}

/// Writes `stop_reason`.
pub(super) fn write(stop: &StopReason, losses: &mut Losses) -> &'static str {
    if let Some((word, _)) = WORDS.into_iter().find(|(_, known)| known == stop) {
        return word;
    }
    match stop {
        // Beta (context management): a word of this dialect that no other has.
        StopReason::Other(word) if word == "compaction" => "compaction",
        StopReason::ContentFilter => {
            losses.approximated("stop_reason");
            "refusal"
        }
        _ => {
            losses.approximated("stop_reason");
            "end_turn"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_and_written() {
        let mut losses = Losses::new();
        for (word, stop) in WORDS {
            assert_eq!(read(word), stop);
            assert_eq!(write(&stop, &mut losses), word);
        }
        assert_eq!(write(&read("compaction"), &mut losses), "compaction");
        assert!(losses.is_empty());
        assert_eq!(write(&StopReason::ContentFilter, &mut losses), "refusal");
        assert_eq!(write(&StopReason::Other("length_ish".into()), &mut losses), "end_turn");
        assert_eq!(losses.to_string(), "stop_reason=approximated");
    }
}
