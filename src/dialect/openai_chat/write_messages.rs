//! The conversation of a request, and what a model said, written.

use super::content::{self, write_cache, write_extras};
use super::{reasoning, tool_call};
use crate::chat::{CacheMarker, DialectId, Losses, Message, Part, Role, ToolResult};
use crate::dialect::{Profile, ReasoningStyle};
use serde_json::{Map, Value, json};

/// What the reader of an assistant message takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Takes {
    /// Reasoning at all.
    pub(super) reasoning: bool,
    /// `reasoning_details` and signatures.
    pub(super) proofs: bool,
    /// Google's `extra_content` on calls. Providers that take proofs take `reasoning_details`, and may refuse what they do not
    /// know.
    pub(super) extra_content: bool,
    /// `cache_control`.
    pub(super) cache_markers: bool,
    /// `images`.
    pub(super) images: bool,
    /// Ids of tool calls of any length.
    pub(super) long_ids: bool,
}

impl Takes {
    /// What a client takes: everything, for what it does not know it ignores.
    pub(super) const CLIENT: Self =
        Self { reasoning: true, proofs: true, extra_content: true, cache_markers: false, images: true, long_ids: true };
}

/// Writes `messages`.
pub(super) fn write(messages: &[Message], profile: &Profile, losses: &mut Losses) -> Vec<Value> {
    let takes = Takes {
        reasoning: profile.reasoning_history,
        // `reasoning_details` are OpenRouter's, and whoever takes them takes its `reasoning` object.
        proofs: profile.reasoning_history && profile.reasoning == ReasoningStyle::Object,
        extra_content: false,
        cache_markers: profile.cache_markers,
        images: profile.media_in_any_role,
        long_ids: profile.long_ids,
    };
    let mut list = Vec::with_capacity(messages.len());
    // Media of tool results, until all results of the turn are written: nothing may stand between them.
    let mut held: Vec<Value> = Vec::new();
    for message in messages {
        let (results, said): (Vec<&Part>, Vec<&Part>) =
            message.parts.iter().partition(|part| matches!(part, Part::ToolResult(_)));
        for part in &results {
            if let Part::ToolResult(result) = part {
                list.push(write_result(result, profile, &mut held, losses));
            }
        }
        if !results.is_empty() && said.is_empty() {
            continue;
        }
        flush(&mut held, &mut list);
        list.push(write_message(message, &said, takes, profile, losses));
    }
    flush(&mut held, &mut list);
    list
}

fn flush(held: &mut Vec<Value>, list: &mut Vec<Value>) {
    if !held.is_empty() {
        list.push(json!({"role": "user", "content": std::mem::take(held)}));
    }
}

fn write_message(message: &Message, said: &[&Part], takes: Takes, profile: &Profile, losses: &mut Losses) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::Developer if profile.developer_role => "developer",
        Role::Developer => "system",
        // What stands in a tool message and is no result can only be the user's.
        Role::User | Role::Tool => "user",
        Role::Assistant => "assistant",
    };
    let mut object = Map::new();
    object.insert("role".into(), json!(role));
    if let Some(name) = &message.name {
        object.insert("name".into(), json!(name));
    }
    if message.role == Role::Assistant {
        write_answer(&message.parts, takes, &mut object, losses);
    } else {
        for part in said {
            match part {
                Part::Reasoning(_) => losses.dropped("messages.reasoning"),
                Part::ToolCall(_) => losses.dropped("messages.tool_calls"),
                Part::Text { signature: Some(_), .. } => losses.dropped("messages.signature"),
                _ => {}
            }
        }
        let content = content::write(said, takes.cache_markers, losses);
        object.insert("content".into(), content.unwrap_or_else(|| json!("")));
    }
    write_extras(&message.extras, "messages", &mut object, losses);
    Value::Object(object)
}

/// Writes what a model said into `object`: content, reasoning, refusal, images, tool calls.
pub(super) fn write_answer(parts: &[Part], takes: Takes, object: &mut Map<String, Value>, losses: &mut Losses) {
    let (mut text, mut calls, mut images, mut refusals) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for part in parts {
        match part {
            Part::ToolCall(call) => {
                let mut written = tool_call::write(call, takes.extra_content, takes.cache_markers, losses);
                written["id"] = json!(tool_call::write_id(&call.id, takes.long_ids));
                calls.push(written);
            }
            Part::Foreign { dialect: DialectId::OpenAiChat, value } if tool_call::is_foreign_call(value) => {
                calls.push(value.clone());
            }
            Part::Media(media) if takes.images => {
                if let Some(image) = content::write_media(media, losses) {
                    images.push(Value::Object(image));
                }
            }
            Part::Media(_) => losses.dropped("messages.assistant.media"),
            Part::Refusal(refusal) => refusals.push(refusal.as_str()),
            Part::ToolResult(_) | Part::Reasoning(_) => {}
            Part::Text { .. } | Part::Foreign { .. } => text.push(part),
        }
    }
    let content = content::write(&text, takes.cache_markers, losses);
    let silent = calls.is_empty() && refusals.is_empty();
    object.insert("content".into(), content.unwrap_or_else(|| if silent { json!("") } else { Value::Null }));
    write_reasoning(parts, takes, object, losses);
    if !refusals.is_empty() {
        object.insert("refusal".into(), json!(refusals.concat()));
    }
    if let Some(annotations) = annotations(parts) {
        object.insert("annotations".into(), annotations);
    }
    if !images.is_empty() {
        object.insert("images".into(), Value::Array(images));
    }
    if !calls.is_empty() {
        object.insert("tool_calls".into(), Value::Array(calls));
    }
}

/// `reasoning_content` for the text of all reasoning, `reasoning_details` for what text cannot say.
fn write_reasoning(parts: &[Part], takes: Takes, object: &mut Map<String, Value>, losses: &mut Losses) {
    let mut text = String::new();
    for part in parts {
        let (proof, encrypted) = match part {
            Part::Reasoning(part) => {
                if !takes.reasoning {
                    losses.dropped("reasoning");
                }
                text.push_str(&part.text);
                (part.signature.is_some(), part.encrypted.is_some())
            }
            Part::ToolCall(call) => (call.signature.is_some(), false),
            Part::Text { signature, .. } => (signature.is_some(), false),
            Part::Media(media) => (media.signature.is_some(), false),
            _ => (false, false),
        };
        if proof && !takes.proofs {
            losses.dropped("reasoning.signature");
        }
        if encrypted && !takes.proofs {
            losses.dropped("reasoning.encrypted");
        }
    }
    if takes.reasoning && !text.is_empty() {
        object.insert("reasoning_content".into(), json!(text));
    }
    if takes.proofs {
        let details = reasoning::write_list(parts);
        if !details.is_empty() {
            object.insert("reasoning_details".into(), Value::Array(details));
        }
    }
}

fn annotations(parts: &[Part]) -> Option<Value> {
    let lists = parts.iter().filter_map(|part| match part {
        Part::Text { extras, .. } => extras.for_dialect(DialectId::OpenAiChat)?.get("annotations")?.as_array(),
        _ => None,
    });
    let all: Vec<Value> = lists.flatten().cloned().collect();
    (!all.is_empty()).then_some(Value::Array(all))
}

/// Writes a tool message. OpenAI takes text only there: media go into `held`, for a message of the user's that follows.
fn write_result(result: &ToolResult, profile: &Profile, held: &mut Vec<Value>, losses: &mut Losses) -> Value {
    let call_id = tool_call::write_id(&result.call_id, profile.long_ids);
    if result.is_error {
        losses.dropped("tool_result.is_error");
    }
    let (media, text): (Vec<&Part>, Vec<&Part>) = if profile.media_in_any_role {
        (Vec::new(), result.content.iter().collect())
    } else {
        result.content.iter().partition(|part| matches!(part, Part::Media(_)))
    };
    let mut content = content::write(&text, profile.cache_markers, losses);
    if !media.is_empty() {
        losses.approximated("tool_result.content");
        held.push(json!({"type": "text", "text": format!("Attachments of the result of tool call {call_id}:")}));
        match content::write(&media, profile.cache_markers, losses) {
            Some(Value::Array(list)) => held.extend(list),
            Some(Value::String(text)) => held.push(json!({"type": "text", "text": text})),
            _ => {}
        }
        content = content.or_else(|| Some(json!("The result follows in the next message.")));
    }
    // The structured form stands for the text where a dialect has only that.
    let content = content.or_else(|| result.json.as_ref().map(|value| json!(value.to_string())));
    let mut object = Map::new();
    object.insert("role".into(), json!("tool"));
    object.insert("tool_call_id".into(), json!(call_id));
    if let Some(name) = &result.name {
        object.insert("name".into(), json!(name));
    }
    object.insert(
        "content".into(),
        mark_last(content.unwrap_or_else(|| json!("")), result.cache.as_ref(), profile, losses),
    );
    write_extras(&result.extras, "tool_result", &mut object, losses);
    Value::Object(object)
}

/// Puts a breakpoint after the result on its last part.
fn mark_last(content: Value, cache: Option<&CacheMarker>, profile: &Profile, losses: &mut Losses) -> Value {
    if cache.is_none() {
        return content;
    }
    if !profile.cache_markers {
        write_cache(cache, false, &mut Map::new(), losses);
        return content;
    }
    let mut list = match content {
        Value::Array(list) => list,
        Value::String(text) if text.is_empty() => {
            losses.dropped("cache_control");
            return json!("");
        }
        text => vec![json!({"type": "text", "text": text})],
    };
    if let Some(Value::Object(last)) = list.last_mut() {
        write_cache(cache, true, last, losses);
    }
    Value::Array(list)
}
