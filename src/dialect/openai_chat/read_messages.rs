//! The conversation of a request read.

use super::content;
use super::fields::{Fields, invalid, missing, says_something, wrong_type};
use super::reasoning;
use super::tool_call;
use crate::chat::{CacheMarker, ChatError, DialectId, Message, Part, ReasoningPart, Role, ToolResult};
use serde_json::{Map, Value, json};

/// Reads `messages`.
pub(super) fn read(value: Option<Value>) -> Result<Vec<Message>, ChatError> {
    let list = match value {
        None => return Err(missing("messages")),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong_type("messages", "an array of objects", &other)),
    };
    if list.is_empty() {
        let message =
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.";
        return Err(invalid("messages", message).with_code("empty_array"));
    }
    let mut messages: Vec<Message> = Vec::with_capacity(list.len());
    for (index, value) in list.into_iter().enumerate() {
        let message = read_message(value, index, &messages)?;
        match messages.last_mut() {
            Some(last) if last.role == Role::Tool && message.role == Role::Tool => last.parts.extend(message.parts),
            _ => messages.push(message),
        }
    }
    Ok(messages)
}

fn read_message(value: Value, index: usize, before: &[Message]) -> Result<Message, ChatError> {
    let path = format!("messages[{index}]");
    let mut fields = Fields::of(value, path.clone())?;
    let role = match fields.string("role")?.as_deref() {
        None => return Err(missing(&format!("{path}.role"))),
        Some("system") => Role::System,
        Some("developer") => Role::Developer,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("tool") => return read_tool_message(fields, None),
        Some("function") => return read_tool_message(fields, Some(before)),
        Some(other) => {
            let message = format!(
                "Invalid value: '{other}'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and 'developer'."
            );
            return Err(invalid(&format!("{path}.role"), message).with_code("invalid_value"));
        }
    };
    let name = fields.string("name")?;
    let mut parts = if role == Role::Assistant {
        read_assistant(&mut fields, &path, index)?
    } else {
        let content = fields.take("content");
        if content.is_none() {
            let message = format!("Invalid value for 'content': expected a string, got null ({path}.content).");
            return Err(invalid(&format!("{path}.content"), message));
        }
        content::read(content, &format!("{path}.content"))?
    };
    // A breakpoint on the message is one after its last part.
    if let Some(slot) = parts.last_mut().and_then(cache_of)
        && let Some(marker) = content::read_cache(&mut fields)
    {
        slot.get_or_insert(marker);
    }
    Ok(Message { role, parts, name, extras: fields.telling_extras() })
}

/// Where a breakpoint after `part` stands.
fn cache_of(part: &mut Part) -> Option<&mut Option<CacheMarker>> {
    match part {
        Part::Text { cache, .. } => Some(cache),
        Part::Media(media) => Some(&mut media.cache),
        Part::ToolCall(call) => Some(&mut call.cache),
        _ => None,
    }
}

/// A `tool` message, or an older `function` message: that one names the function, and the id is that of its last call.
fn read_tool_message(mut fields: Fields, calls: Option<&[Message]>) -> Result<Message, ChatError> {
    let name = fields.string("name")?;
    let call_id = match calls {
        None => fields.string("tool_call_id")?.ok_or_else(|| missing(&fields.path_of("tool_call_id")))?,
        Some(before) => last_call(before, name.as_deref()).unwrap_or_else(|| name.clone().unwrap_or_default()),
    };
    let path = fields.path_of("content");
    let mut content = content::read(fields.take("content"), &path)?;
    let mut cache = content::read_cache(&mut fields);
    // A breakpoint after the last part is one after the result.
    if cache.is_none() {
        cache = content.last_mut().and_then(cache_of).and_then(Option::take);
    }
    let extras = fields.telling_extras();
    let result = ToolResult { call_id, name, content, json: None, is_error: false, cache, extras };
    Ok(Message::new(Role::Tool, vec![Part::ToolResult(result)]))
}

fn last_call(before: &[Message], name: Option<&str>) -> Option<String> {
    before.iter().rev().flat_map(|message| message.parts.iter().rev()).find_map(|part| match part {
        Part::ToolCall(call) if Some(call.name.as_str()) == name => Some(call.id.clone()),
        _ => None,
    })
}

/// Takes what an assistant says out of a message of a request, as [`read_answer`] does, with the request's strictness.
fn read_assistant(fields: &mut Fields, path: &str, index: usize) -> Result<Vec<Part>, ChatError> {
    if let Some(other) = fields.get("tool_calls").filter(|value| !value.is_array()) {
        return Err(wrong_type(&format!("{path}.tool_calls"), "an array", other));
    }
    read_answer(fields, path, &index.to_string())
}

/// Takes out of `fields` what the model said: reasoning, content, refusal, media, tool calls, in this order. `scope` keeps
/// made-up ids of calls apart from those of other messages.
pub(super) fn read_answer(fields: &mut Fields, path: &str, scope: &str) -> Result<Vec<Part>, ChatError> {
    let mut parts = Vec::new();
    let mut proofs = Vec::new();
    let plain = plain_reasoning(fields);
    if let Some(Value::Array(list)) = fields.take("reasoning_details") {
        proofs = reasoning::read_list(list, &mut parts);
    }
    let told = parts.iter().any(|part| matches!(part, Part::Reasoning(part) if !part.text.is_empty()));
    if let (false, Some(text)) = (told, plain) {
        parts.insert(0, Part::Reasoning(ReasoningPart { text, ..ReasoningPart::default() }));
    }

    let mut content = content::read(fields.take("content"), &format!("{path}.content"))?;
    read_annotations(fields, &mut content);
    parts.extend(content);
    match fields.take("refusal") {
        Some(Value::String(text)) if !text.is_empty() => parts.push(Part::Refusal(text)),
        _ => {}
    }
    if let Some(Value::Array(list)) = fields.take("images") {
        for (index, image) in list.into_iter().enumerate() {
            parts.push(content::read_part(image, &format!("{path}.images[{index}]"))?);
        }
    }
    if let Some(Value::Array(list)) = fields.take("tool_calls") {
        for (position, call) in list.into_iter().enumerate() {
            parts.push(tool_call::read(call, &format!("{path}.tool_calls[{position}]"), scope, position)?);
        }
    }
    if let Some(call) = fields.take("function_call").filter(says_something) {
        let call = Value::Object(Map::from_iter([("function".to_owned(), call)]));
        parts.push(tool_call::read(call, &format!("{path}.function_call"), scope, 0)?);
    }
    reasoning::attach(proofs, &mut parts);
    attach_google_proof(fields, &mut parts);
    Ok(parts)
}

/// `reasoning_content` (DeepSeek, vLLM, ...) or `reasoning` (OpenRouter, Groq, Cerebras), whichever says something.
fn plain_reasoning(fields: &mut Fields) -> Option<String> {
    let mut found = None;
    for key in ["reasoning_content", "reasoning"] {
        match fields.take(key) {
            Some(Value::String(text)) if !text.is_empty() => found = found.or(Some(text)),
            Some(Value::String(_)) | None => {}
            Some(other) => fields.put_back(key, other),
        }
    }
    found
}

/// `annotations` (citations of web search) belong to the text.
fn read_annotations(fields: &mut Fields, content: &mut [Part]) {
    let Some(annotations) = fields.take("annotations").filter(says_something) else { return };
    match content.iter_mut().rev().find_map(|part| match part {
        Part::Text { extras, .. } => Some(extras),
        _ => None,
    }) {
        Some(extras) => {
            extras.dialect = Some(DialectId::OpenAiChat);
            extras.fields.insert("annotations".into(), annotations);
        }
        None => fields.put_back("annotations", annotations),
    }
}

/// Google's compatible API once signed the message as a whole: the signature is that of the first call, or of the text.
fn attach_google_proof(fields: &mut Fields, parts: &mut [Part]) {
    let older = fields.take("thought_signature");
    let Some(proof) = tool_call::take_google_proof(fields).or(older.as_ref().and_then(tool_call::google_proof)) else {
        return;
    };
    let slot = parts.iter_mut().find_map(|part| match part {
        Part::ToolCall(call) => Some(&mut call.signature),
        _ => None,
    });
    let slot = match slot {
        Some(slot) => Some(slot),
        None => parts.iter_mut().rev().find_map(|part| match part {
            Part::Text { signature, .. } => Some(signature),
            _ => None,
        }),
    };
    match slot {
        Some(slot) if slot.is_none() => *slot = Some(proof),
        _ => fields.put_back("extra_content", json!({"google": {"thought_signature": proof.value}})),
    }
}
