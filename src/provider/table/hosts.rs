//! Hosts of open models: they serve what others trained, under a key of their own.

use super::{COMPATIBLE, openai_at};
use crate::chat::DialectId;
use crate::dialect::{Profile, TokenLimitField};
use crate::provider::{EndpointRow, ProviderRow};

/// Groq: console.groq.com/docs/api-reference.
pub const GROQ: ProviderRow = ProviderRow {
    name: "groq",
    endpoints: &[openai_at("https://api.groq.com/openai")],
    key_env: &["GROQ_API_KEY"],
    profile: Profile {
        token_limit: TokenLimitField::MaxCompletionTokens,
        reasoning_history: false,
        ..Profile::COMPATIBLE
    },
    ..COMPATIBLE
};

/// Cerebras: inference-docs.cerebras.ai.
pub const CEREBRAS: ProviderRow = ProviderRow {
    name: "cerebras",
    endpoints: &[openai_at("https://api.cerebras.ai")],
    key_env: &["CEREBRAS_API_KEY"],
    profile: Profile {
        token_limit: TokenLimitField::MaxCompletionTokens,
        reasoning_history: false,
        ..Profile::COMPATIBLE
    },
    ..COMPATIBLE
};

/// Together: docs.together.ai/docs/openai-api-compatibility.
pub const TOGETHER: ProviderRow = ProviderRow {
    name: "together",
    endpoints: &[openai_at("https://api.together.xyz")],
    key_env: &["TOGETHER_API_KEY"],
    ..COMPATIBLE
};

/// Fireworks: docs.fireworks.ai.
pub const FIREWORKS: ProviderRow = ProviderRow {
    name: "fireworks",
    endpoints: &[openai_at("https://api.fireworks.ai/inference")],
    key_env: &["FIREWORKS_API_KEY"],
    ..COMPATIBLE
};

/// DeepInfra: deepinfra.com/docs/openai_api; here the version stands before the dialect.
pub const DEEPINFRA: ProviderRow = ProviderRow {
    name: "deepinfra",
    endpoints: &[EndpointRow {
        dialect: DialectId::OpenAiChat,
        base_url: "https://api.deepinfra.com/v1/openai",
        version: "",
    }],
    key_env: &["DEEPINFRA_API_KEY", "DEEPINFRA_TOKEN"],
    ..COMPATIBLE
};

/// NVIDIA NIM: docs.api.nvidia.com.
pub const NVIDIA: ProviderRow = ProviderRow {
    name: "nvidia",
    endpoints: &[openai_at("https://integrate.api.nvidia.com")],
    key_env: &["NVIDIA_API_KEY"],
    ..COMPATIBLE
};

/// SambaNova: docs.sambanova.ai.
pub const SAMBANOVA: ProviderRow = ProviderRow {
    name: "sambanova",
    endpoints: &[openai_at("https://api.sambanova.ai")],
    key_env: &["SAMBANOVA_API_KEY"],
    ..COMPATIBLE
};

/// Baseten's model APIs: docs.baseten.co.
pub const BASETEN: ProviderRow = ProviderRow {
    name: "baseten",
    endpoints: &[openai_at("https://inference.baseten.co")],
    key_env: &["BASETEN_API_KEY"],
    ..COMPATIBLE
};

/// Ollama's cloud: docs.ollama.com/cloud.
pub const OLLAMA_CLOUD: ProviderRow = ProviderRow {
    name: "ollama-cloud",
    endpoints: &[openai_at("https://ollama.com")],
    key_env: &["OLLAMA_API_KEY"],
    ..COMPATIBLE
};

/// Nebius Token Factory: docs.tokenfactory.nebius.com/api-reference.
pub const NEBIUS: ProviderRow = ProviderRow {
    name: "nebius",
    endpoints: &[openai_at("https://api.tokenfactory.nebius.com")],
    key_env: &["NEBIUS_API_KEY"],
    ..COMPATIBLE
};

/// Novita: novita.ai/docs. Its Anthropic endpoint takes a few of its models only, so it is left out.
pub const NOVITA: ProviderRow = ProviderRow {
    name: "novita",
    endpoints: &[openai_at("https://api.novita.ai/openai")],
    key_env: &["NOVITA_API_KEY"],
    ..COMPATIBLE
};
