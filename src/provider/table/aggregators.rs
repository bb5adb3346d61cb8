//! Those who pass on to many vendors; their model ids are `<vendor>/<model>`.

use super::{COMPATIBLE, anthropic_at, openai_at};
use crate::chat::DialectId;
use crate::dialect::{Profile, ReasoningStyle, TokenLimitField};
use crate::provider::{BodyEdit, EndpointRow, ModelList, ProviderKind, ProviderRow};

/// OpenRouter: openrouter.ai/docs/api-reference.
pub const OPENROUTER: ProviderRow = ProviderRow {
    name: "openrouter",
    endpoints: &[openai_at("https://openrouter.ai/api")],
    key_env: &["OPENROUTER_API_KEY"],
    models: ModelList::OpenRouter,
    kind: ProviderKind::Aggregator,
    profile: Profile { cache_markers: true, reasoning: ReasoningStyle::Object, ..Profile::COMPATIBLE },
    ..COMPATIBLE
};

/// Vercel's AI Gateway: vercel.com/docs/ai-gateway (openai-compat, anthropic-compat).
pub const VERCEL: ProviderRow = ProviderRow {
    name: "vercel",
    endpoints: &[openai_at("https://ai-gateway.vercel.sh"), anthropic_at("https://ai-gateway.vercel.sh")],
    key_env: &["AI_GATEWAY_API_KEY"],
    kind: ProviderKind::Aggregator,
    edits: &[BodyEdit::IncludeUsage, BodyEdit::ThinkingForm, BodyEdit::SystemMessages],
    profile: Profile { reasoning: ReasoningStyle::Object, ..Profile::COMPATIBLE },
    ..COMPATIBLE
};

/// Hugging Face's router: huggingface.co/docs/inference-providers. Opt-in, for `HF_TOKEN` is set on most machines only to
/// download models, and the ids are those of local ones.
pub const HUGGINGFACE: ProviderRow = ProviderRow {
    name: "huggingface",
    endpoints: &[openai_at("https://router.huggingface.co")],
    key_env: &["HF_TOKEN"],
    kind: ProviderKind::Aggregator,
    opt_in: true,
    ..COMPATIBLE
};

/// GitHub Models: docs.github.com/en/rest/models/inference. Opt-in, for `GITHUB_TOKEN` is rarely set for this; its list
/// stands elsewhere, in a shape of its own.
pub const GITHUB: ProviderRow = ProviderRow {
    name: "github",
    endpoints: &[EndpointRow {
        dialect: DialectId::OpenAiChat,
        base_url: "https://models.github.ai/inference",
        version: "",
    }],
    key_env: &["GITHUB_TOKEN"],
    models: ModelList::None,
    kind: ProviderKind::Aggregator,
    profile: Profile { token_limit: TokenLimitField::MaxCompletionTokens, developer_role: true, ..Profile::COMPATIBLE },
    opt_in: true,
    ..COMPATIBLE
};
