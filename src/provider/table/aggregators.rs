//! Those who pass on to many vendors; their model ids are `<vendor>/<model>`.

use super::{COMPATIBLE, openai_at};
use crate::dialect::{Profile, ReasoningStyle};
use crate::provider::{ModelList, ProviderKind, ProviderRow};

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
