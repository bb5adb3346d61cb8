//! `functionResponse`: <https://ai.google.dev/api/caching#FunctionResponse>.
//!
//! Its `response` is an object. Text that is a JSON object is sent as that object, other text as `{"result": text}`, an
//! error as `{"error": text}` (`error` is Google's documented member for it). Google's own clients write `{"output": text}`.

use super::content::{CallBook, write_extras};
use super::fields::Fields;
use super::media;
use super::proof::Towards;
use crate::chat::{DialectId, Extras, Losses, Part, ToolResult};
use serde_json::{Map, Value, json};

/// Reads a `functionResponse`; `extras` are the other members of its part.
pub(super) fn read(mut fields: Fields, mut extras: Map<String, Value>, calls: &mut CallBook) -> ToolResult {
    let name = fields.take_string("name").filter(|name| !name.is_empty());
    let call_id = calls.answer(fields.take_string("id"), name.as_deref().unwrap_or_default());
    let response = fields.take("response");
    let is_error = matches!(&response, Some(Value::Object(map)) if map.len() == 1 && map.contains_key("error"));
    let (text, json) = match response {
        None => (String::new(), None),
        Some(response) => match plain_text(&response) {
            Some(text) => (text.to_owned(), None),
            None => {
                (lone_text(&response, "output").map_or_else(|| response.to_string(), str::to_owned), Some(response))
            }
        },
    };
    let mut content = if text.is_empty() { Vec::new() } else { vec![Part::text(text)] };
    if let Some(Value::Array(parts)) = fields.take("parts") {
        for value in parts {
            let medium = Fields::of(value.clone()).and_then(|part| media::read(part, None));
            content.push(medium.map_or(Part::Foreign { dialect: DialectId::Gemini, value }, Part::Media));
        }
    }
    fields.rest_into("functionResponse", &mut extras);
    let extras = Extras::from_fields(DialectId::Gemini, extras);
    ToolResult { call_id, name, content, json, is_error, cache: None, extras }
}

/// The text that stands for the whole response, where [`wrapped`] would write the same response again.
fn plain_text(response: &Value) -> Option<&str> {
    let (text, is_error) = match lone_text(response, "error") {
        Some(text) => (text, true),
        None => (lone_text(response, "result")?, false),
    };
    (wrapped(text, is_error) == *response).then_some(text)
}

/// The text that is the only member, and called `name`.
fn lone_text<'a>(response: &'a Value, name: &str) -> Option<&'a str> {
    let map = response.as_object().filter(|map| map.len() == 1)?;
    map.get(name)?.as_str()
}

fn wrapped(text: &str, is_error: bool) -> Value {
    if is_error {
        return json!({ "error": text });
    }
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => object,
        _ => json!({ "result": text }),
    }
}

/// Writes a result as a `functionResponse` part. Media go inside where the model takes them there (`media_inside`), else
/// they are given back, to stand behind the results.
pub(super) fn write(
    result: &ToolResult,
    name: &str,
    media_inside: bool,
    losses: &mut Losses,
) -> (Value, Vec<Map<String, Value>>) {
    let (mut texts, mut inside, mut behind) = (Vec::new(), Vec::new(), Vec::new());
    if result.cache.is_some() {
        losses.dropped("cache_control");
    }
    for part in &result.content {
        match part {
            Part::Text { text, cache, signature, extras } => {
                if cache.is_some() {
                    losses.dropped("cache_control");
                }
                if signature.is_some() {
                    losses.dropped("tool_result.signature");
                }
                write_extras(extras, &mut Map::new(), losses);
                texts.push(text.as_str());
            }
            Part::Media(part) => {
                let Some(medium) = media::write(part, Towards::Provider, losses) else { continue };
                if media_inside {
                    inside.push(Value::Object(medium));
                } else {
                    losses.approximated("tool_result.media");
                    behind.push(medium);
                }
            }
            Part::Foreign { dialect: DialectId::Gemini, value } => inside.push(value.clone()),
            _ => losses.dropped("tool_result.content"),
        }
    }
    let response = match &result.json {
        Some(object @ Value::Object(_)) => object.clone(),
        Some(other) => json!({ "result": other }),
        None => wrapped(&texts.join("\n"), result.is_error),
    };
    let mut response_fields = Map::new();
    response_fields.insert("id".into(), result.call_id.as_str().into());
    response_fields.insert("name".into(), name.into());
    response_fields.insert("response".into(), response);
    if !inside.is_empty() {
        response_fields.insert("parts".into(), inside.into());
    }
    let mut out = Map::new();
    out.insert("functionResponse".into(), Value::Object(response_fields));
    write_extras(&result.extras, &mut out, losses);
    (Value::Object(out), behind)
}
