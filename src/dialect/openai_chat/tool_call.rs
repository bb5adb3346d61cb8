//! One tool call of an assistant message, read and written.

use super::content::{read_cache, write_cache, write_extras};
use super::fields::{Fields, missing, says_something};
use super::words;
use crate::chat::{ChatError, DialectId, Losses, Part, Signature, SignatureOrigin, ToolCall};
use crate::dialect::gemini::read_signature;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The longest id of a tool call that OpenAI takes, in characters.
const MAX_ID: usize = 40;

/// Reads a call. Servers leave out ids and types and write arguments as objects; a missing id is made from `scope` and
/// the call's position.
pub(super) fn read(value: Value, path: &str, scope: &str, position: usize) -> Result<Part, ChatError> {
    let whole = value.clone();
    let mut fields = Fields::of(value, path)?;
    if fields.get("function").is_none() {
        return match fields.get("type").and_then(Value::as_str) {
            None | Some("function") => Err(missing(&fields.path_of("function"))),
            Some(_) => Ok(Part::Foreign { dialect: DialectId::OpenAiChat, value: whole }),
        };
    }
    fields.take("type");
    fields.take("index");
    let mut function = fields.object("function")?.ok_or_else(|| missing(path))?;
    let id = fields.string("id")?.filter(|id| !id.is_empty()).unwrap_or_else(|| made_up_id(scope, position));
    let cache = read_cache(&mut fields);
    let signature = take_google_proof(&mut fields);
    let name = function.string("name")?.unwrap_or_default();
    let arguments = read_arguments(function.take("arguments"));
    Ok(Part::ToolCall(ToolCall { id, name, arguments, signature, cache, extras: fields.telling_extras() }))
}

/// The arguments as text; servers that write an object get it in its text form.
pub(super) fn read_arguments(value: Option<Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    }
}

/// An id for a call that came without one. Made of letters, digits, `_` and `-` only: Anthropic takes no others.
pub(super) fn made_up_id(scope: &str, position: usize) -> String {
    let scope: String =
        scope.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).take(40).collect();
    if scope.is_empty() { format!("call_{position}") } else { format!("call_{scope}_{position}") }
}

/// Takes `extra_content.google.thought_signature`, as Google's compatible API writes it on calls.
pub(super) fn take_google_proof(fields: &mut Fields) -> Option<Signature> {
    let proof = google_proof(fields.get("extra_content")?.get("google")?.get("thought_signature")?)?;
    let Some(Value::Object(mut content)) = fields.take("extra_content") else { return None };
    if let Some(google) = content.get_mut("google").and_then(Value::as_object_mut) {
        google.shift_remove("thought_signature");
        // It only says that there is a signature.
        google.shift_remove("thought");
    }
    let rest = Value::Object(content);
    if says_something(&rest) {
        fields.put_back("extra_content", rest);
    }
    Some(proof)
}

/// A signature of Google's.
pub(super) fn google_proof(value: &Value) -> Option<Signature> {
    value.as_str().and_then(read_signature)
}

/// Where a Gemini signature stands on a call for clients that know it (AI SDK).
pub(super) fn write_google_proof(proof: &Signature, object: &mut Map<String, Value>) {
    if proof.origin == SignatureOrigin::Gemini {
        object.insert("extra_content".into(), json!({"google": {"thought_signature": proof.value}}));
    }
}

/// Writes a call. `extra_content`: the receiver takes Google's form of a signature.
pub(super) fn write(call: &ToolCall, extra_content: bool, cache_markers: bool, losses: &mut Losses) -> Value {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    let mut object = Map::new();
    object.insert("id".into(), json!(call.id));
    object.insert("type".into(), json!("function"));
    object.insert("function".into(), json!({"name": call.name, "arguments": arguments}));
    if let Some(proof) = call.signature.as_ref().filter(|_| extra_content) {
        write_google_proof(proof, &mut object);
    }
    write_cache(call.cache.as_ref(), cache_markers, &mut object, losses);
    write_extras(&call.extras, "tool_calls", &mut object, losses);
    Value::Object(object)
}

/// The id of a call as it is written to a provider: one that is too long keeps its beginning and gets a digest, which is
/// the same on the call and on its result. Nothing is lost, for an id only ties the two together.
pub(super) fn write_id(id: &str, any_length: bool) -> Cow<'_, str> {
    if any_length || id.chars().count() <= MAX_ID {
        return Cow::Borrowed(id);
    }
    let beginning: String = id.chars().take(MAX_ID - 17).collect();
    Cow::Owned(format!("{beginning}_{}", words::digest(id)))
}

/// True for a call of another kind that was kept as it stood.
pub(super) fn is_foreign_call(value: &Value) -> bool {
    value.get("type").and_then(Value::as_str) == Some("custom") && value.get("custom").is_some()
}
