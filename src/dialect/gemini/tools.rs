//! `tools` and `toolConfig`: <https://ai.google.dev/api/caching#Tool>.

use super::content::{foreign_name, write_extras};
use super::fields::Fields;
use super::schema::to_json_schema;
use crate::chat::{ChatError, DialectId, Extras, FunctionTool, Losses, Tool, ToolChoice};
use serde_json::{Map, Value, json};

/// Reads `tools`: a list, or (as some clients write it) a single tool.
pub(super) fn read(value: Value) -> Result<Vec<Tool>, ChatError> {
    let list = match value {
        Value::Array(list) => list,
        single => vec![single],
    };
    let mut tools = Vec::new();
    for (at, value) in list.into_iter().enumerate() {
        let mut fields = Fields::of(value).ok_or_else(|| {
            ChatError::invalid(
                "tools",
                format!("tools[{at}] must be an object with functionDeclarations or a built-in tool"),
            )
        })?;
        if let Some(declarations) = fields.take("functionDeclarations") {
            let declarations = match declarations {
                Value::Array(list) => list,
                single => vec![single],
            };
            for declaration in declarations {
                tools.push(Tool::Function(read_function(declaration, at)?));
            }
        }
        for (name, value) in fields.rest() {
            let value = Value::Object(Map::from_iter([(name, value)]));
            tools.push(Tool::Foreign { dialect: DialectId::Gemini, value });
        }
    }
    Ok(tools)
}

fn read_function(value: Value, at: usize) -> Result<FunctionTool, ChatError> {
    let param = "tools.functionDeclarations";
    let mut fields = Fields::of(value).ok_or_else(|| {
        ChatError::invalid(param, format!("tools[{at}].functionDeclarations must be a list of objects"))
    })?;
    let name = fields.take_string("name").ok_or_else(|| {
        ChatError::invalid(param, format!("a function of tools[{at}].functionDeclarations has no name"))
    })?;
    let schema = fields.take("parameters").map(to_json_schema);
    Ok(FunctionTool {
        name,
        description: fields.take_string("description"),
        parameters: fields.take("parametersJsonSchema").or(schema),
        strict: None,
        cache: None,
        extras: Extras::from_fields(DialectId::Gemini, fields.rest()),
    })
}

/// Writes `tools`: all functions in one tool, as Vertex wants it, and each built-in tool in its own.
pub(super) fn write(tools: &[Tool], losses: &mut Losses) -> Vec<Value> {
    let mut out = Vec::new();
    let mut functions = Vec::new();
    let mut functions_at = 0;
    for tool in tools {
        match tool {
            Tool::Function(function) => {
                if functions.is_empty() {
                    functions_at = out.len();
                }
                functions.push(write_function(function, losses));
            }
            Tool::Foreign { dialect: DialectId::Gemini, value } => out.push(value.clone()),
            Tool::Foreign { value, .. } => losses.dropped(foreign_name("tools", value)),
        }
    }
    if !functions.is_empty() {
        out.insert(functions_at, json!({ "functionDeclarations": functions }));
    }
    out
}

fn write_function(function: &FunctionTool, losses: &mut Losses) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), function.name.as_str().into());
    if let Some(description) = &function.description {
        out.insert("description".into(), description.as_str().into());
    }
    if let Some(schema) = &function.parameters {
        out.insert("parametersJsonSchema".into(), schema.clone());
    }
    if function.strict == Some(true) {
        losses.dropped("tools.strict");
    }
    if function.cache.is_some() {
        losses.dropped("cache_control");
    }
    write_extras(&function.extras, &mut out, losses);
    Value::Object(out)
}

/// Reads `toolConfig`. What has no neutral word goes to `extras` under its path.
pub(super) fn read_choice(
    mut config: Fields,
    extras: &mut Map<String, Value>,
) -> Result<Option<ToolChoice>, ChatError> {
    let calling = config.take_object("functionCallingConfig");
    config.rest_into("toolConfig", extras);
    let Some(mut calling) = calling else { return Ok(None) };
    let mode = calling.take_string("mode").map(|mode| mode.to_ascii_uppercase());
    let names = calling.take("allowedFunctionNames").and_then(string_list).filter(|names| !names.is_empty());
    calling.rest_into("toolConfig.functionCallingConfig", extras);
    let choice = match (mode.as_deref(), names) {
        (None | Some("MODE_UNSPECIFIED"), None) => return Ok(None),
        (Some("NONE"), _) => ToolChoice::None,
        (Some("ANY"), Some(names)) => match <[String; 1]>::try_from(names) {
            Ok([name]) => ToolChoice::Named(name),
            Err(names) => ToolChoice::Among { names, required: true },
        },
        (Some("ANY"), None) => ToolChoice::Required,
        // Calls must match their schema; no other dialect has it as a mode.
        (Some("VALIDATED"), None) => {
            extras.insert("toolConfig.functionCallingConfig.mode".into(), "VALIDATED".into());
            ToolChoice::Auto
        }
        (Some("AUTO"), None) => ToolChoice::Auto,
        (None | Some("AUTO" | "VALIDATED" | "MODE_UNSPECIFIED"), Some(names)) => {
            ToolChoice::Among { names, required: false }
        }
        (Some(other), _) => {
            let short: String = other.chars().take(40).collect();
            return Err(ChatError::invalid(
                "toolConfig.functionCallingConfig.mode",
                format!("the mode `{short}` is unknown; use AUTO, ANY, NONE or VALIDATED"),
            ));
        }
    };
    Ok(Some(choice))
}

/// Writes `functionCallingConfig`.
pub(super) fn write_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => json!({ "mode": "AUTO" }),
        ToolChoice::None => json!({ "mode": "NONE" }),
        ToolChoice::Required => json!({ "mode": "ANY" }),
        ToolChoice::Named(name) => json!({ "mode": "ANY", "allowedFunctionNames": [name] }),
        ToolChoice::Among { names, required: true } => json!({ "mode": "ANY", "allowedFunctionNames": names }),
        // AUTO takes no names; VALIDATED does, and leaves the model free not to call.
        ToolChoice::Among { names, required: false } => json!({ "mode": "VALIDATED", "allowedFunctionNames": names }),
    }
}

fn string_list(value: Value) -> Option<Vec<String>> {
    let Value::Array(list) = value else { return None };
    Some(list.into_iter().filter_map(|value| value.as_str().map(str::to_owned)).collect())
}
