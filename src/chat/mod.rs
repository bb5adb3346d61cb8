//! The neutral form of a chat: what every dialect can be read into and written from.
//!
//! Nothing here knows a wire format and nothing does IO. A dialect that cannot say something that stands here
//! reports a [`Loss`]; it never drops it in silence.

mod collect;
mod embedding;
mod error;
mod event;
mod loss;
mod replay;
mod request;
mod response;
mod signature;
mod usage;

pub use collect::Collector;
pub use embedding::{EmbeddingInput, EmbeddingRequest, EmbeddingResponse, VectorEncoding};
pub use error::{ChatError, ErrorKind, MODEL_QUOTA};
pub use event::{BlockKind, Delta, Event};
pub use loss::{Loss, LossKind, Losses};
pub use request::{
    CacheMarker, Effort, FunctionTool, MediaKind, MediaPart, MediaSource, Message, OutputFormat, Part, Reasoning,
    ReasoningMode, ReasoningPart, Request, Role, Sampling, Tool, ToolCall, ToolChoice, ToolResult,
};
pub use response::{Candidate, Response, StopReason};
pub use signature::{Signature, SignatureOrigin};
pub use usage::Usage;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// A wire format. Few, and each is code; a provider is data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DialectId {
    /// OpenAI Chat Completions, `POST /v1/chat/completions`.
    #[serde(rename = "openai_chat")]
    OpenAiChat,
    /// Anthropic Messages, `POST /v1/messages`.
    Anthropic,
    /// Google Gemini `generateContent`, `POST /v1beta/models/{model}:generateContent`.
    Gemini,
}

impl DialectId {
    /// Every dialect.
    pub const ALL: [Self; 3] = [Self::OpenAiChat, Self::Anthropic, Self::Gemini];

    /// The name used in the config file, in logs and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiChat => "openai_chat",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }
}

impl fmt::Display for DialectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Fields that only one dialect knows. They go back to that dialect and to no other.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Extras {
    /// The dialect the fields came from; `None` while there are no fields.
    pub dialect: Option<DialectId>,
    /// The fields as they stood on the wire.
    pub fields: Map<String, Value>,
}

impl Extras {
    /// Extras that came from `dialect`.
    pub fn from_fields(dialect: DialectId, fields: Map<String, Value>) -> Self {
        if fields.is_empty() { Self::default() } else { Self { dialect: Some(dialect), fields } }
    }

    /// The fields, if they came from `dialect` and may be written to it.
    pub fn for_dialect(&self, dialect: DialectId) -> Option<&Map<String, Value>> {
        (self.dialect == Some(dialect)).then_some(&self.fields)
    }

    /// True when there are no fields.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}
