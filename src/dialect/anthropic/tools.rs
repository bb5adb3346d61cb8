//! Tools and the choice among them.

use super::ID;
use super::blocks::{foreign_name, put_cache, take_cache};
use super::fields::{Fields, put_extras};
use super::request::strict_schema;
use crate::chat::{ChatError, FunctionTool, Losses, Request, Tool, ToolChoice};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The longest tool name that the API takes, in characters.
const MAX_NAME: usize = 128;

/// `name` as the API takes it: letters, digits, `_` and `-`, at most 128 of them. Another character becomes `_`, and a hash
/// of the whole name is added so that two names never meet.
pub fn tool_name(name: &str) -> Cow<'_, str> {
    let is_valid = !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(is_plain);
    if is_valid { Cow::Borrowed(name) } else { Cow::Owned(plain(name, MAX_NAME)) }
}

/// `id` of a tool call as the API takes it (`^[a-zA-Z0-9_-]+$`); the same id always becomes the same.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    if !id.is_empty() && id.bytes().all(is_plain) { Cow::Borrowed(id) } else { Cow::Owned(plain(id, MAX_NAME)) }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

fn plain(text: &str, limit: usize) -> String {
    // FNV-1a: small, and the same in every process.
    let hash = text
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let tail = format!("_{hash:016x}");
    let replace = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' };
    let mut plain: String = text.chars().map(replace).take(limit - tail.len()).collect();
    plain.push_str(&tail);
    plain
}

/// Reads one entry of `tools`.
pub(super) fn read_tool(value: Value, path: String) -> Result<Tool, ChatError> {
    // Tools of Anthropic's own (web search, bash, ...) and MCP toolsets have a type; `custom` is the default's name.
    let is_custom = value.get("type").is_none_or(|kind| kind.is_null() || kind == "custom");
    if !is_custom {
        return Ok(Tool::Foreign { dialect: ID, value });
    }
    let mut fields = Fields::new(value, path)?;
    fields.take("type");
    Ok(Tool::Function(FunctionTool {
        name: fields.required_string("name")?,
        description: fields.string("description")?,
        parameters: fields.take("input_schema"),
        strict: fields.boolean("strict")?,
        cache: take_cache(&mut fields),
        extras: fields.extras(),
    }))
}

/// Reads `tool_choice`; its second half is `parallel_tool_calls`.
pub(super) fn read_choice(mut fields: Fields) -> Result<(ToolChoice, Option<bool>), ChatError> {
    let parallel = fields.boolean("disable_parallel_tool_use")?.map(|disabled| !disabled);
    let choice = match fields.required_string("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(fields.required_string("name")?),
        _ => {
            let at = fields.at("type");
            return Err(ChatError::invalid(&at, format!("`{at}` must be auto, any, tool or none")));
        }
    };
    Ok((choice, parallel))
}

/// Writes `tools` and `tool_choice`.
pub(super) fn write(request: &Request, body: &mut Map<String, Value>, losses: &mut Losses) {
    let allowed = match &request.tool_choice {
        Some(ToolChoice::Among { names, .. }) => Some(names),
        _ => None,
    };
    let is_allowed = |tool: &&Tool| match (tool, allowed) {
        (Tool::Function(function), Some(names)) => names.contains(&function.name),
        _ => true,
    };
    let tools: Vec<Value> =
        request.tools.iter().filter(is_allowed).filter_map(|tool| write_tool(request, tool, losses)).collect();
    if allowed.is_some() {
        // The API knows no list of allowed tools: the others are left out of the request instead.
        losses.approximated("tool_choice.allowed_tools");
    }
    if tools.is_empty() {
        if matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Named(_))) {
            losses.dropped("tool_choice");
        }
        return;
    }
    body.insert("tools".to_owned(), Value::Array(tools));
    if let Some(choice) = write_choice(request, losses) {
        body.insert("tool_choice".to_owned(), choice);
    }
}

fn write_tool(request: &Request, tool: &Tool, losses: &mut Losses) -> Option<Value> {
    match tool {
        Tool::Foreign { dialect, value } if *dialect == ID => Some(value.clone()),
        Tool::Foreign { value, .. } => {
            losses.dropped(format!("tools.{}", foreign_name(value)));
            None
        }
        Tool::Function(function) => {
            let mut map = Map::new();
            map.insert("name".to_owned(), json!(note_name(&function.name, losses)));
            if let Some(description) = &function.description {
                map.insert("description".to_owned(), json!(description));
            }
            let schema = match &function.parameters {
                None => json!({"type": "object", "properties": {}}),
                Some(schema) if function.strict == Some(true) => {
                    strict_schema(request, schema, "tools.parameters", losses)
                }
                Some(schema) => schema.clone(),
            };
            map.insert("input_schema".to_owned(), schema);
            if let Some(strict) = function.strict {
                map.insert("strict".to_owned(), json!(strict));
            }
            put_cache(&mut map, function.cache.as_ref());
            put_extras(&mut map, &function.extras, "tools.", losses);
            Some(Value::Object(map))
        }
    }
}

/// The name as the API takes it; another one than the client's is a loss.
pub(super) fn note_name<'a>(name: &'a str, losses: &mut Losses) -> Cow<'a, str> {
    let written = tool_name(name);
    if written != name {
        losses.approximated("tools.name");
    }
    written
}

fn write_choice(request: &Request, losses: &mut Losses) -> Option<Value> {
    let choice = match &request.tool_choice {
        None if request.parallel_tool_calls == Some(false) => json!({"type": "auto"}),
        None => return None,
        Some(ToolChoice::Auto | ToolChoice::Among { required: false, .. }) => json!({"type": "auto"}),
        Some(ToolChoice::Required | ToolChoice::Among { required: true, .. }) => json!({"type": "any"}),
        Some(ToolChoice::Named(name)) => json!({"type": "tool", "name": note_name(name, losses)}),
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
    };
    let Value::Object(mut choice) = choice else { return None };
    if let Some(parallel) = request.parallel_tool_calls {
        choice.insert("disable_parallel_tool_use".to_owned(), json!(!parallel));
    }
    Some(Value::Object(choice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_name_and_id_is_taken_and_stays_its_own(a in ".{0,200}", b in ".{0,200}") {
            for text in [tool_name(&a), call_id(&a)] {
                prop_assert!(!text.is_empty() && text.bytes().all(is_plain));
            }
            prop_assert!(tool_name(&a).len() <= MAX_NAME);
            prop_assert_eq!(call_id(&a) == call_id(&b), a == b);
        }
    }

    #[test]
    fn a_good_name_is_not_touched() {
        assert_eq!(tool_name("get_weather-2"), "get_weather-2");
        assert_eq!(call_id("toolu_01A09q90qw90lq917835lq9"), "toolu_01A09q90qw90lq917835lq9");
    }
}
