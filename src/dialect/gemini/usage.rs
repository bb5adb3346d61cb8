//! `usageMetadata`: `promptTokenCount` holds cached tokens but not those of tool use; `candidatesTokenCount` holds no
//! thoughts (<https://ai.google.dev/api/generate-content#UsageMetadata>).

use super::fields::Fields;
use crate::chat::{Losses, Usage};
use serde_json::{Map, Value};

/// Where the tokens of tool use are kept, so that they can be told apart again.
const TOOL_USE: &str = "usageMetadata.toolUsePromptTokenCount";

/// Reads the counts; what no other dialect knows goes to `extras`. `None` when no count is there.
pub(super) fn read(mut metadata: Fields, extras: &mut Map<String, Value>) -> Option<Usage> {
    let prompt = metadata.take_count("promptTokenCount");
    let tool_use = metadata.take_count("toolUsePromptTokenCount");
    let candidates = metadata.take_count("candidatesTokenCount");
    let thoughts = metadata.take_count("thoughtsTokenCount");
    let cached = metadata.take_count("cachedContentTokenCount");
    let total = metadata.take_count("totalTokenCount");
    if let Some(count) = tool_use {
        extras.insert(TOOL_USE.to_owned(), count.into());
    }
    metadata.rest_into("usageMetadata", extras);
    prompt.or(candidates).or(thoughts).or(total)?;
    Some(Usage {
        input: prompt.unwrap_or(0).saturating_add(tool_use.unwrap_or(0)),
        output: candidates.unwrap_or(0).saturating_add(thoughts.unwrap_or(0)),
        cache_read: cached,
        cache_write: None,
        cache_write_1h: None,
        reasoning: thoughts,
    })
}

/// Writes the counts into `body`; call it after the extras have been written, which say what of the prompt was tool use.
pub(super) fn write(usage: &Usage, body: &mut Map<String, Value>, losses: &mut Losses) {
    if usage.cache_write.is_some_and(|count| count > 0) {
        losses.dropped("usage.cache_write");
    }
    let slot = body.entry("usageMetadata").or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(metadata) = slot else { return };
    let tool_use = metadata.get("toolUsePromptTokenCount").and_then(Value::as_u64).unwrap_or(0);
    metadata.insert("promptTokenCount".into(), usage.input.saturating_sub(tool_use).into());
    metadata.insert("candidatesTokenCount".into(), usage.output.saturating_sub(usage.reasoning.unwrap_or(0)).into());
    if let Some(count) = usage.reasoning {
        metadata.insert("thoughtsTokenCount".into(), count.into());
    }
    if let Some(count) = usage.cache_read {
        metadata.insert("cachedContentTokenCount".into(), count.into());
    }
    metadata.insert("totalTokenCount".into(), usage.input.saturating_add(usage.output).into());
}
