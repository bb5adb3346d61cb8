//! What a provider of a dialect takes, as data of its row.

use serde::{Deserialize, Serialize};

/// What a provider of a dialect takes beyond or short of the dialect's vendor. The default is the vendor itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Profile {
    /// Takes `cache_control` on parts and tools in OpenAI's dialect (OpenRouter does; OpenAI refuses it).
    pub cache_markers: bool,
    /// How reasoning is asked for in OpenAI's dialect.
    pub reasoning: ReasoningStyle,
    /// Takes `reasoning_content` and `reasoning_details` of earlier turns in OpenAI's dialect.
    pub reasoning_history: bool,
    /// Which field limits the answer in OpenAI's dialect.
    pub token_limit: TokenLimitField,
    /// Takes the role `developer`.
    pub developer_role: bool,
    /// Takes `stop` only as a list.
    pub stop_list_only: bool,
    /// Knows `response_format: json_schema`.
    pub json_schema: bool,
    /// Takes media in tool messages and `images` in assistant messages of OpenAI's dialect (OpenRouter does; OpenAI takes
    /// media from users only).
    pub media_in_any_role: bool,
    /// Knows the tool choice `allowed_tools`.
    pub allowed_tools: bool,
    /// Takes `top_k` in OpenAI's dialect (most compatible servers do; OpenAI refuses it).
    pub top_k: bool,
    /// Takes temperature and the like beside an effort in OpenAI's dialect (OpenAI's reasoning models refuse them).
    pub sampling_with_effort: bool,
    /// Takes ids of tool calls and of users of any length (OpenAI refuses the former over 40, the latter over 64 characters).
    pub long_ids: bool,
    /// Request fields of OpenAI's dialect that the provider ignores in silence; sending them is a loss.
    pub ignored_fields: &'static [&'static str],
}

impl Profile {
    /// What the dialect's own vendor takes.
    pub const VENDOR: Self = Self {
        cache_markers: false,
        reasoning: ReasoningStyle::Effort,
        reasoning_history: false,
        token_limit: TokenLimitField::MaxCompletionTokens,
        developer_role: true,
        stop_list_only: false,
        json_schema: true,
        media_in_any_role: false,
        allowed_tools: true,
        top_k: false,
        sampling_with_effort: false,
        long_ids: false,
        ignored_fields: &[],
    };

    /// What the many OpenAI-compatible servers have in common: the older names.
    pub const COMPATIBLE: Self = Self {
        token_limit: TokenLimitField::MaxTokens,
        developer_role: false,
        reasoning_history: true,
        allowed_tools: false,
        top_k: true,
        sampling_with_effort: true,
        ..Self::VENDOR
    };

    /// Takes everything that a dialect can say; for round trips without a provider in between.
    pub const FULL: Self = Self {
        cache_markers: true,
        reasoning: ReasoningStyle::Object,
        reasoning_history: true,
        media_in_any_role: true,
        top_k: true,
        sampling_with_effort: true,
        long_ids: true,
        ..Self::VENDOR
    };
}

impl Default for Profile {
    fn default() -> Self {
        Self::VENDOR
    }
}

/// How reasoning is asked for in OpenAI's dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasoningStyle {
    /// `reasoning_effort: "low" | ...` (OpenAI, Groq, xAI, ...).
    Effort,
    /// `reasoning: {effort, max_tokens, exclude, enabled}` (OpenRouter).
    Object,
    /// `chat_template_kwargs: {enable_thinking: bool}` (vllm, vllm-mlx, SGLang).
    TemplateSwitch,
    /// `thinking: {type: "enabled" | "disabled"}` (DeepSeek, Z.AI, Moonshot).
    ThinkingSwitch,
    /// Cannot be asked for.
    None,
}

/// Which field limits the answer in OpenAI's dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenLimitField {
    /// The newer name, reasoning included.
    MaxCompletionTokens,
    /// The older name.
    MaxTokens,
}
