//! The vendors of models, each at its own door.

use super::{COMPATIBLE, anthropic_at, openai_at};
use crate::chat::DialectId;
use crate::dialect::Profile;
use crate::provider::{Auth, EndpointRow, ModelList, ProviderRow};

/// OpenAI: platform.openai.com/docs/api-reference.
pub const OPENAI: ProviderRow = ProviderRow {
    name: "openai",
    endpoints: &[openai_at("https://api.openai.com")],
    key_env: &["OPENAI_API_KEY"],
    profile: Profile::VENDOR,
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
    edits: &[],
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
