//! An answer as it comes.

use super::{ChatError, DialectId, Extras, Signature, StopReason, Usage};
use serde_json::Value;

/// One step of a streamed answer.
///
/// Order: `Start`, then blocks (`BlockStart`, `Delta`s, `BlockStop`; blocks may overlap), `Stop` once per candidate,
/// `Usage` any number of times (later ones are merged over earlier ones). An `Error` is the last event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The provider took the request up. Not content.
    Start {
        /// The provider's id of the answer.
        id: Option<String>,
        /// The model that answers.
        model: Option<String>,
        /// Unix seconds.
        created: Option<u64>,
    },
    /// A block begins.
    BlockStart {
        /// Number of the block, unique in the stream, counted from 0 in order of appearance.
        index: usize,
        /// Which alternative it belongs to; 0 unless several were asked for.
        candidate: u32,
        /// What it is.
        kind: BlockKind,
    },
    /// More of a block.
    Delta {
        /// Number of the block.
        index: usize,
        /// What is added.
        delta: Delta,
    },
    /// A block is complete.
    BlockStop {
        /// Number of the block.
        index: usize,
    },
    /// Token counts so far.
    Usage(Usage),
    /// Why an alternative ended.
    Stop {
        /// Which alternative.
        candidate: u32,
        /// Why.
        reason: StopReason,
        /// The stop sequence that was hit.
        sequence: Option<String>,
    },
    /// The stream failed; nothing follows.
    Error(ChatError),
    /// One event of the provider's could not be read and was left out. Counted, not fatal.
    Skipped {
        /// What was wrong, without content.
        why: String,
    },
    /// Fields of the answer that only the provider's dialect knows.
    Extras(Extras),
}

/// What a block is.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockKind {
    /// Text.
    Text,
    /// Reasoning.
    Reasoning {
        /// The vendor's id of the reasoning item.
        id: Option<String>,
        /// True when it is a summary by the vendor.
        summary: bool,
    },
    /// A tool call.
    ToolCall {
        /// Id that the result refers to; never empty.
        id: String,
        /// Name of the tool.
        name: String,
    },
    /// A refusal kept apart from text.
    Refusal,
    /// A medium that the model made, whole.
    Media(super::MediaPart),
    /// A block that only one dialect can say, whole.
    Foreign {
        /// The dialect it came from.
        dialect: DialectId,
        /// The block as it stood on the wire.
        value: Value,
    },
}

/// What is added to a block.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta {
    /// More text (of a text, reasoning or refusal block).
    Text(String),
    /// More of a tool call's arguments, as JSON text.
    Arguments(String),
    /// The vendor's proof for the block.
    Signature(Signature),
    /// Reasoning that only the vendor can read.
    Encrypted(Signature),
    /// Fields of the block that only its dialect knows (citations, ...); lists are appended, the rest replaced.
    Extras(Extras),
}

impl Event {
    /// True for what a client would see as part of the answer: text, reasoning or a tool call, not the frames around
    /// them. The first such event commits a stream to its provider.
    pub fn is_content(&self) -> bool {
        match self {
            Self::BlockStart { kind, .. } => {
                matches!(kind, BlockKind::ToolCall { .. } | BlockKind::Media(_) | BlockKind::Foreign { .. })
            }
            Self::Delta { delta: Delta::Text(text) | Delta::Arguments(text), .. } => !text.is_empty(),
            Self::Delta { .. } => true,
            _ => false,
        }
    }
}
