//! A chat request, as the superset of what the dialects can ask for.

use super::{DialectId, Extras, Signature};
use serde_json::Value;

/// One request for a completion.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Request {
    /// The model string as the client wrote it (or, towards a provider, that provider's own model name).
    pub model: String,
    /// The client wants a stream.
    pub stream: bool,
    /// The conversation. System prompts are messages with [`Role::System`] or [`Role::Developer`].
    pub messages: Vec<Message>,
    /// What the model may call.
    pub tools: Vec<Tool>,
    /// Whether and what the model must call.
    pub tool_choice: Option<ToolChoice>,
    /// `false` forbids more than one call in a turn.
    pub parallel_tool_calls: Option<bool>,
    /// Limits and randomness.
    pub sampling: Sampling,
    /// What was asked of the model's reasoning.
    pub reasoning: Option<Reasoning>,
    /// Structured output.
    pub output: Option<OutputFormat>,
    /// The client asked for usage in the stream (OpenAI `stream_options.include_usage`; other dialects always send it).
    pub include_usage: bool,
    /// An opaque id of the end user (OpenAI `user`, Anthropic `metadata.user_id`).
    pub user: Option<String>,
    /// Top-level fields that only the client's dialect knows.
    pub extras: Extras,
}

/// Limits and randomness of one completion.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sampling {
    /// Upper limit of generated tokens, reasoning included.
    pub max_tokens: Option<u64>,
    /// 0 to 2 (Anthropic: 0 to 1).
    pub temperature: Option<f64>,
    /// Nucleus sampling, 0 to 1.
    pub top_p: Option<f64>,
    /// Sample from the K most likely tokens.
    pub top_k: Option<u64>,
    /// Texts that end the completion.
    pub stop: Vec<String>,
    /// Seed for reproducible sampling.
    pub seed: Option<i64>,
    /// -2 to 2.
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    pub frequency_penalty: Option<f64>,
    /// How many alternatives to generate (OpenAI `n`, Gemini `candidateCount`).
    pub candidates: Option<u32>,
    /// Return log probabilities of the sampled tokens.
    pub logprobs: Option<bool>,
    /// How many alternatives per token to return with them.
    pub top_logprobs: Option<u32>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions.
    System,
    /// Instructions (OpenAI's newer name; dialects without it write a system prompt).
    Developer,
    /// The person or program that asks.
    User,
    /// The model.
    Assistant,
    /// Results of tool calls; holds [`Part::ToolResult`] only.
    Tool,
}

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, in order.
    pub parts: Vec<Part>,
    /// OpenAI's `name` of the speaker.
    pub name: Option<String>,
    /// Fields of this message that only its dialect knows.
    pub extras: Extras,
}

impl Message {
    /// A message without name and extras.
    pub fn new(role: Role, parts: Vec<Part>) -> Self {
        Self { role, parts, name: None, extras: Extras::default() }
    }
}

/// One piece of a message or of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text {
        /// The text.
        text: String,
        /// A prompt-cache breakpoint after this part.
        cache: Option<CacheMarker>,
        /// A signature the vendor wants back with this part (Gemini signs text parts too).
        signature: Option<Signature>,
        /// Fields that only its dialect knows (Anthropic `citations`, OpenAI `annotations`).
        extras: Extras,
    },
    /// Image, audio, video or document.
    Media(MediaPart),
    /// The model's reasoning.
    Reasoning(ReasoningPart),
    /// A call of a tool by the model.
    ToolCall(ToolCall),
    /// The answer to a call.
    ToolResult(ToolResult),
    /// The model's refusal, where the dialect keeps it apart from text (OpenAI `refusal`).
    Refusal(String),
    /// A part that only one dialect can say (server-side tools, executable code, ...).
    Foreign {
        /// The dialect it came from.
        dialect: DialectId,
        /// The part as it stood on the wire.
        value: Value,
    },
}

impl Part {
    /// A plain text part.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), cache: None, signature: None, extras: Extras::default() }
    }

    /// The prompt-cache marker on this part.
    pub fn cache(&self) -> Option<&CacheMarker> {
        match self {
            Self::Text { cache, .. } => cache.as_ref(),
            Self::Media(part) => part.cache.as_ref(),
            Self::ToolCall(part) => part.cache.as_ref(),
            Self::ToolResult(part) => part.cache.as_ref(),
            Self::Reasoning(_) | Self::Refusal(_) | Self::Foreign { .. } => None,
        }
    }
}

/// A prompt-cache breakpoint (Anthropic `cache_control: {"type": "ephemeral"}`; OpenRouter takes the same).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CacheMarker {
    /// `5m` or `1h`; `None` is the vendor's default.
    pub ttl: Option<String>,
}

/// What kind of medium a part holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// Sound.
    Audio,
    /// Moving pictures.
    Video,
    /// PDF, plain text and other documents.
    Document,
}

/// Image, audio, video or document.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaPart {
    /// What it is.
    pub kind: MediaKind,
    /// Where the bytes are.
    pub source: MediaSource,
    /// MIME type, where known.
    pub media_type: Option<String>,
    /// File name or title.
    pub name: Option<String>,
    /// OpenAI's `detail` of an image (`low`, `high`, `auto`).
    pub detail: Option<String>,
    /// A prompt-cache breakpoint after this part.
    pub cache: Option<CacheMarker>,
    /// Gemini's signature on the part.
    pub signature: Option<Signature>,
    /// Fields that only its dialect knows.
    pub extras: Extras,
}

/// Where the bytes of a medium are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaSource {
    /// Inline, base64 (standard alphabet).
    Base64(String),
    /// At an http URL that the provider fetches itself.
    Url(String),
    /// Uploaded to one provider before (also the URI of a file in Gemini's files API, and `gs://`); means nothing to another.
    FileId {
        /// The dialect whose files API gave the id.
        dialect: DialectId,
        /// The id.
        id: String,
    },
    /// Inline plain text (Anthropic `source: {"type": "text"}`).
    Text(String),
}

/// A stretch of the model's reasoning.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReasoningPart {
    /// The reasoning, or the vendor's summary of it; empty where it is only signed or encrypted.
    pub text: String,
    /// True when `text` is a summary by the vendor rather than the reasoning itself.
    pub summary: bool,
    /// The vendor's proof; must go back with the part.
    pub signature: Option<Signature>,
    /// Reasoning that only the vendor can read (Anthropic `redacted_thinking.data`, OpenAI encrypted reasoning).
    pub encrypted: Option<Signature>,
    /// The vendor's id of the reasoning item.
    pub id: Option<String>,
}

/// A call of a tool by the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Id that the result refers to. Never empty: dialects without ids get a made-up one that is stable within the message.
    pub id: String,
    /// Name of the tool.
    pub name: String,
    /// Arguments as JSON text, as the model wrote them (may be invalid JSON; empty means `{}`).
    pub arguments: String,
    /// Gemini's thought signature on the call; must go back with it.
    pub signature: Option<Signature>,
    /// A prompt-cache breakpoint after this part.
    pub cache: Option<CacheMarker>,
    /// Fields that only its dialect knows.
    pub extras: Extras,
}

impl ToolCall {
    /// The arguments as a JSON object; `{}` for an empty text, `None` when they are not JSON.
    pub fn parsed_arguments(&self) -> Option<Value> {
        if self.arguments.trim().is_empty() {
            return Some(Value::Object(serde_json::Map::new()));
        }
        serde_json::from_str(&self.arguments).ok()
    }
}

/// The answer to a tool call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolResult {
    /// The id of the call.
    pub call_id: String,
    /// The name of the tool, where the dialect says it (Gemini needs it: look it up in the calls before).
    pub name: Option<String>,
    /// What the tool gave back: text, media, or nothing.
    pub content: Vec<Part>,
    /// The result as a JSON object, where the dialect carries one (Gemini `functionResponse.response`). `content` then says
    /// the same as text, so whoever has no place for an object writes `content` alone.
    pub json: Option<Value>,
    /// The tool failed.
    pub is_error: bool,
    /// A prompt-cache breakpoint after this part.
    pub cache: Option<CacheMarker>,
    /// Fields that only its dialect knows.
    pub extras: Extras,
}

/// Something the model may call.
#[derive(Debug, Clone, PartialEq)]
pub enum Tool {
    /// A function of the client's.
    Function(FunctionTool),
    /// A tool that only one dialect knows (web search, code execution, ...).
    Foreign {
        /// The dialect it came from.
        dialect: DialectId,
        /// The tool as it stood on the wire.
        value: Value,
    },
}

/// A function of the client's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FunctionTool {
    /// Name.
    pub name: String,
    /// What it does.
    pub description: Option<String>,
    /// JSON Schema of the arguments; `None` takes none.
    pub parameters: Option<Value>,
    /// Arguments must match the schema exactly.
    pub strict: Option<bool>,
    /// A prompt-cache breakpoint after this tool.
    pub cache: Option<CacheMarker>,
    /// Fields that only its dialect knows.
    pub extras: Extras,
}

/// Whether and what the model must call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// The model decides.
    Auto,
    /// No call.
    None,
    /// At least one call of any tool.
    Required,
    /// A call of this tool.
    Named(String),
    /// Only these tools; `required` says whether one must be called.
    Among {
        /// Names of the tools that may be called.
        names: Vec<String>,
        /// One of them must be called.
        required: bool,
    },
}

/// What was asked of the model's reasoning.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reasoning {
    /// On, off, or left to the model.
    pub mode: ReasoningMode,
    /// How hard to think.
    pub effort: Option<Effort>,
    /// How many tokens reasoning may take.
    pub budget_tokens: Option<u64>,
    /// Whether the reasoning text (or a summary) should be in the answer; `None` is the dialect's default.
    pub include: Option<bool>,
}

/// Whether the model reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReasoningMode {
    /// Asked for (by effort, budget or a switch).
    #[default]
    On,
    /// Switched off.
    Off,
    /// The model decides how much (Anthropic `adaptive`, Gemini budget -1).
    Adaptive,
    /// Nothing was said but an effort, for the answer as a whole (Anthropic's `output_config` without `thinking`).
    Unsaid,
}

/// How hard to think; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effort {
    /// Hardly.
    Minimal,
    /// A little.
    Low,
    /// Medium.
    Medium,
    /// Much.
    High,
    /// More (OpenAI `xhigh`).
    XHigh,
    /// As much as the model can (Anthropic `max`).
    Max,
}

impl Effort {
    /// The budget in tokens that stands for this effort where a dialect only knows budgets. The steps are OpenRouter's
    /// and Google's published ones (1,024 / 8,192 / 24,576), with the ends added.
    pub const fn to_budget(self) -> u64 {
        match self {
            Self::Minimal => 1_024,
            Self::Low => 2_048,
            Self::Medium => 8_192,
            Self::High => 24_576,
            Self::XHigh => 32_768,
            Self::Max => 65_536,
        }
    }

    /// The effort that stands for a budget where a dialect only knows efforts; the inverse of [`Effort::to_budget`].
    pub const fn from_budget(tokens: u64) -> Self {
        match tokens {
            0..=1_024 => Self::Minimal,
            1_025..=4_096 => Self::Low,
            4_097..=12_288 => Self::Medium,
            12_289..=28_672 => Self::High,
            28_673..=49_152 => Self::XHigh,
            _ => Self::Max,
        }
    }
}

/// Structured output.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputFormat {
    /// Plain text, said in so many words.
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that matches a schema.
    JsonSchema {
        /// Name of the schema; dialects without names use `response`.
        name: Option<String>,
        /// What the schema is for.
        description: Option<String>,
        /// The JSON Schema.
        schema: Value,
        /// The answer must match exactly.
        strict: Option<bool>,
    },
}
