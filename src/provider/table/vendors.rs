//! The vendors of models, each at its own door.

use super::{COMPATIBLE, anthropic_at, openai_at};
use crate::chat::DialectId;
use crate::dialect::{Profile, ReasoningStyle, TokenLimitField};
use crate::provider::{Auth, BodyEdit, EndpointRow, ModelList, ProviderRow};

/// OpenAI: platform.openai.com/docs/api-reference. Its reasoning models refuse `max_tokens`, and all others take the newer
/// name too.
pub const OPENAI: ProviderRow = ProviderRow {
    name: "openai",
    endpoints: &[openai_at("https://api.openai.com")],
    key_env: &["OPENAI_API_KEY"],
    profile: Profile::VENDOR,
    edits: &[BodyEdit::MaxCompletionTokensName, BodyEdit::IncludeUsage],
    ..COMPATIBLE
};

/// Anthropic: docs.claude.com/en/api, version 2023-06-01.
pub const ANTHROPIC: ProviderRow = ProviderRow {
    name: "anthropic",
    endpoints: &[anthropic_at("https://api.anthropic.com")],
    auth: Auth::XApiKey,
    key_env: &["ANTHROPIC_API_KEY"],
    models: ModelList::Anthropic,
    profile: Profile::VENDOR,
    edits: &[BodyEdit::ThinkingForm, BodyEdit::SystemMessages],
    headers: &[("anthropic-version", "2023-06-01")],
    ..COMPATIBLE
};

/// Google Gemini: ai.google.dev/api, v1beta.
pub const GEMINI: ProviderRow = ProviderRow {
    name: "gemini",
    endpoints: &[EndpointRow {
        dialect: DialectId::Gemini,
        base_url: "https://generativelanguage.googleapis.com",
        version: "/v1beta",
    }],
    auth: Auth::XGoogApiKey,
    key_env: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
    models: ModelList::Gemini,
    profile: Profile::VENDOR,
    edits: &[],
    ..COMPATIBLE
};

/// Mistral: docs.mistral.ai/api. It refuses `stream_options` and sends the usage of a stream anyway.
pub const MISTRAL: ProviderRow = ProviderRow {
    name: "mistral",
    endpoints: &[openai_at("https://api.mistral.ai")],
    key_env: &["MISTRAL_API_KEY"],
    profile: Profile { reasoning_history: false, ..Profile::COMPATIBLE },
    edits: &[BodyEdit::MaxTokensName, BodyEdit::DeveloperAsSystem],
    ..COMPATIBLE
};

/// DeepSeek: api-docs.deepseek.com, with its Anthropic endpoint (guides/anthropic_api).
pub const DEEPSEEK: ProviderRow = ProviderRow {
    name: "deepseek",
    endpoints: &[openai_at("https://api.deepseek.com"), anthropic_at("https://api.deepseek.com/anthropic")],
    key_env: &["DEEPSEEK_API_KEY"],
    profile: Profile { reasoning: ReasoningStyle::ThinkingSwitch, json_schema: false, ..Profile::COMPATIBLE },
    edits: &[BodyEdit::MaxTokensName, BodyEdit::DeveloperAsSystem, BodyEdit::IncludeUsage],
    ..COMPATIBLE
};

/// xAI: docs.x.ai.
pub const XAI: ProviderRow = ProviderRow {
    name: "xai",
    endpoints: &[openai_at("https://api.x.ai")],
    key_env: &["XAI_API_KEY"],
    profile: Profile { token_limit: TokenLimitField::MaxCompletionTokens, ..Profile::COMPATIBLE },
    ..COMPATIBLE
};

/// Moonshot (Kimi): platform.moonshot.ai/docs, with its Anthropic endpoint.
pub const MOONSHOT: ProviderRow = ProviderRow {
    name: "moonshot",
    endpoints: &[openai_at("https://api.moonshot.ai"), anthropic_at("https://api.moonshot.ai/anthropic")],
    key_env: &["MOONSHOT_API_KEY"],
    profile: Profile { reasoning: ReasoningStyle::ThinkingSwitch, ..Profile::COMPATIBLE },
    edits: &[BodyEdit::MaxTokensName, BodyEdit::DeveloperAsSystem, BodyEdit::IncludeUsage],
    ..COMPATIBLE
};

/// Z.AI (GLM): docs.z.ai, with its Anthropic endpoint.
pub const ZAI: ProviderRow = ProviderRow {
    name: "zai",
    endpoints: &[
        EndpointRow { dialect: DialectId::OpenAiChat, base_url: "https://api.z.ai/api/paas", version: "/v4" },
        anthropic_at("https://api.z.ai/api/anthropic"),
    ],
    key_env: &["ZAI_API_KEY"],
    profile: Profile { reasoning: ReasoningStyle::ThinkingSwitch, json_schema: false, ..Profile::COMPATIBLE },
    edits: &[BodyEdit::MaxTokensName, BodyEdit::DeveloperAsSystem, BodyEdit::IncludeUsage],
    ..COMPATIBLE
};

/// Alibaba Model Studio (Qwen), international: alibabacloud.com/help/en/model-studio.
pub const ALIBABA: ProviderRow = ProviderRow {
    name: "alibaba",
    endpoints: &[openai_at("https://dashscope-intl.aliyuncs.com/compatible-mode")],
    key_env: &["DASHSCOPE_API_KEY"],
    profile: Profile { reasoning: ReasoningStyle::None, ..Profile::COMPATIBLE },
    ..COMPATIBLE
};

/// Cohere's endpoint of OpenAI's dialect: docs.cohere.com/docs/compatibility-api. Its list has another shape.
pub const COHERE: ProviderRow = ProviderRow {
    name: "cohere",
    endpoints: &[openai_at("https://api.cohere.ai/compatibility")],
    key_env: &["COHERE_API_KEY", "CO_API_KEY"],
    models: ModelList::None,
    profile: Profile { reasoning_history: false, ..Profile::COMPATIBLE },
    ..COMPATIBLE
};

/// MiniMax, international: platform.minimax.io/docs. Its endpoint of Anthropic's dialect comes first, for the other leaves
/// `<think>` in the text.
pub const MINIMAX: ProviderRow = ProviderRow {
    name: "minimax",
    endpoints: &[anthropic_at("https://api.minimax.io/anthropic"), openai_at("https://api.minimax.io")],
    key_env: &["MINIMAX_API_KEY"],
    profile: Profile { reasoning: ReasoningStyle::None, ..Profile::COMPATIBLE },
    ..COMPATIBLE
};
