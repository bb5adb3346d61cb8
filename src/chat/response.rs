//! A whole answer.

use super::{Extras, Part, Usage};

/// A whole answer, as the superset of what the dialects can say.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Response {
    /// The provider's id of the answer.
    pub id: Option<String>,
    /// The model that answered, in the provider's own naming.
    pub model: Option<String>,
    /// Unix seconds, where the dialect says it.
    pub created: Option<u64>,
    /// The alternatives; one unless more were asked for.
    pub candidates: Vec<Candidate>,
    /// What it cost in tokens; `None` is unknown, not zero.
    pub usage: Option<Usage>,
    /// Top-level fields that only the provider's dialect knows.
    pub extras: Extras,
}

/// One alternative.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Candidate {
    /// What was said, in order.
    pub parts: Vec<Part>,
    /// Why it ended; `None` where the provider did not say.
    pub stop: Option<StopReason>,
    /// The stop sequence that was hit, where the dialect says it.
    pub stop_sequence: Option<String>,
    /// Fields of this alternative that only the provider's dialect knows (log probabilities, safety ratings, ...).
    pub extras: Extras,
}

/// Why a completion ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// The model was done.
    EndTurn,
    /// The limit of generated tokens.
    MaxTokens,
    /// A stop sequence of the request's.
    StopSequence,
    /// The model wants tools called.
    ToolUse,
    /// The vendor's filter cut the answer.
    ContentFilter,
    /// The model refused (Anthropic `refusal`).
    Refusal,
    /// A long turn was paused and may be continued (Anthropic `pause_turn`).
    PauseTurn,
    /// The context window was full (Anthropic `model_context_window_exceeded`).
    ContextWindow,
    /// The model wrote a call that could not be read (Gemini `MALFORMED_FUNCTION_CALL`).
    MalformedToolCall,
    /// A word that only the provider knows, as it wrote it.
    Other(String),
}
