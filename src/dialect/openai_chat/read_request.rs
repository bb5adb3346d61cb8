//! A request read: `POST /v1/chat/completions` (OpenAI API reference, 2025-12), with what compatible vendors added.

use super::fields::{Fields, invalid, missing, wrong_type};
use super::{read_messages, words};
use crate::chat::{
    ChatError, DialectId, ErrorKind, Extras, FunctionTool, OutputFormat, Reasoning, ReasoningMode, Request, Sampling,
    Tool, ToolChoice,
};
use crate::dialect::UrlHints;
use serde_json::{Map, Value, json};

/// Reads a request.
pub(super) fn read(body: &[u8], url: &UrlHints) -> Result<Request, ChatError> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        let message = format!("We could not parse the JSON body of your request: {error}.");
        ChatError::new(ErrorKind::InvalidRequest, message).with_code("invalid_json")
    })?;
    let mut fields = Fields::of(value, "")?;
    let model = match fields.string("model")?.filter(|model| !model.is_empty()).or_else(|| url.model.clone()) {
        Some(model) => model,
        None => {
            return Err(invalid("model", "you must provide a model parameter").with_code("missing_required_parameter"));
        }
    };
    let messages = read_messages::read(fields.take("messages"))?;
    let mut request = Request {
        model,
        stream: fields.boolean("stream")?.or(url.stream).unwrap_or(false),
        messages,
        tools: read_tools(&mut fields)?,
        tool_choice: read_tool_choice(&mut fields)?,
        parallel_tool_calls: fields.boolean("parallel_tool_calls")?,
        sampling: read_sampling(&mut fields)?,
        reasoning: read_reasoning(&mut fields)?,
        output: read_output(&mut fields)?,
        include_usage: read_include_usage(&mut fields)?,
        user: fields.string("user")?,
        extras: Extras::default(),
    };
    request.extras = Extras::from_fields(DialectId::OpenAiChat, without_defaults(fields.rest()));
    Ok(request)
}

/// Members whose value is what the vendor would take without them.
fn without_defaults(fields: Map<String, Value>) -> Map<String, Value> {
    let is_default = |key: &str, value: &Value| match key {
        "store" => value == &json!(false),
        "service_tier" => value == &json!("auto"),
        "logit_bias" | "metadata" => value.as_object().is_some_and(Map::is_empty),
        "modalities" => value == &json!(["text"]),
        _ => false,
    };
    fields.into_iter().filter(|(key, value)| !is_default(key, value)).collect()
}

fn read_tools(fields: &mut Fields) -> Result<Vec<Tool>, ChatError> {
    let mut tools = Vec::new();
    for (index, value) in fields.list("tools")?.unwrap_or_default().into_iter().enumerate() {
        tools.push(read_tool(value, format!("tools[{index}]"))?);
    }
    for (index, value) in fields.list("functions")?.unwrap_or_default().into_iter().enumerate() {
        let function = Fields::of(value, format!("functions[{index}]"))?;
        tools.push(Tool::Function(read_function(function, Map::new())?));
    }
    Ok(tools)
}

fn read_tool(value: Value, path: String) -> Result<Tool, ChatError> {
    let whole = value.clone();
    let mut fields = Fields::of(value, path)?;
    // Mistral's clients leave the type out.
    let kind = fields.string("type")?;
    if !matches!(kind.as_deref(), None | Some("function")) {
        return Ok(Tool::Foreign { dialect: DialectId::OpenAiChat, value: whole });
    }
    let function = fields.object("function")?.ok_or_else(|| missing(&fields.path_of("function")))?;
    let cache = super::content::read_cache(&mut fields);
    let mut tool = read_function(function, fields.rest())?;
    tool.cache = cache;
    Ok(Tool::Function(tool))
}

/// `outer` holds what stands beside the function; it and what is left inside are the tool's extras.
fn read_function(mut function: Fields, mut outer: Map<String, Value>) -> Result<FunctionTool, ChatError> {
    let name = function.string("name")?.ok_or_else(|| missing(&function.path_of("name")))?;
    let description = function.string("description")?;
    let strict = function.boolean("strict")?;
    let parameters = function.object("parameters")?.map(|schema| Value::Object(schema.rest()));
    let inner = function.rest();
    if !inner.is_empty() {
        outer.insert("function".into(), Value::Object(inner));
    }
    let extras = Extras::from_fields(DialectId::OpenAiChat, outer);
    Ok(FunctionTool { name, description, parameters, strict, cache: None, extras })
}

fn read_tool_choice(fields: &mut Fields) -> Result<Option<ToolChoice>, ChatError> {
    let (key, value) = match fields.take("tool_choice") {
        Some(value) => ("tool_choice", value),
        None => match fields.take("function_call") {
            Some(value) => ("function_call", value),
            None => return Ok(None),
        },
    };
    match &value {
        Value::String(word) => match word.as_str() {
            "auto" => Ok(Some(ToolChoice::Auto)),
            "none" => Ok(Some(ToolChoice::None)),
            // `any` is Mistral's word.
            "required" | "any" => Ok(Some(ToolChoice::Required)),
            other => {
                let message = format!(
                    "Invalid value for '{key}': '{other}'. Supported values are: 'none', 'auto', and 'required'."
                );
                Err(invalid(key, message).with_code("invalid_value"))
            }
        },
        Value::Object(map) => {
            let choice = object_choice(map);
            if choice.is_none() {
                fields.put_back(key, value);
            }
            Ok(choice)
        }
        other => Err(wrong_type(key, "one of a string or an object", other)),
    }
}

/// The forms of `tool_choice` that are objects; `None` for one that only this dialect knows.
fn object_choice(map: &Map<String, Value>) -> Option<ToolChoice> {
    let name_in = |value: &Value| value.get("name").and_then(Value::as_str).map(str::to_owned);
    match map.get("type").and_then(Value::as_str) {
        Some("allowed_tools") => {
            let allowed = map.get("allowed_tools")?;
            let tools = allowed.get("tools")?.as_array()?;
            // A list that also names other kinds of tools cannot be said in names alone.
            let names = tools.iter().map(|tool| tool.get("function").and_then(name_in)).collect::<Option<Vec<_>>>()?;
            let required = allowed.get("mode").and_then(Value::as_str) == Some("required");
            Some(ToolChoice::Among { names, required })
        }
        Some("function") | None => map
            .get("function")
            .and_then(name_in)
            .or_else(|| name_in(&Value::Object(map.clone())))
            .map(ToolChoice::Named),
        Some(_) => None,
    }
}

fn read_sampling(fields: &mut Fields) -> Result<Sampling, ChatError> {
    let newer = fields.integer("max_completion_tokens")?;
    let older = fields.integer("max_tokens")?;
    Ok(Sampling {
        max_tokens: newer.or(older),
        temperature: fields.decimal("temperature")?,
        top_p: fields.decimal("top_p")?,
        top_k: fields.integer("top_k")?,
        stop: read_stop(fields)?,
        seed: fields.integer("seed")?,
        presence_penalty: fields.decimal("presence_penalty")?,
        frequency_penalty: fields.decimal("frequency_penalty")?,
        candidates: fields.integer("n")?,
        logprobs: fields.boolean("logprobs")?,
        top_logprobs: fields.integer("top_logprobs")?,
    })
}

fn read_stop(fields: &mut Fields) -> Result<Vec<String>, ChatError> {
    match fields.take("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(list)) => list
            .into_iter()
            .enumerate()
            .map(|(index, value)| match value {
                Value::String(text) => Ok(text),
                other => Err(wrong_type(&format!("stop[{index}]"), "a string", &other)),
            })
            .collect(),
        Some(other) => Err(wrong_type("stop", "one of a string or array of strings", &other)),
    }
}

/// Reasoning is asked for in five ways: `reasoning_effort` (OpenAI), `reasoning` (OpenRouter), `thinking` (DeepSeek, Z.AI,
/// Moonshot), `enable_thinking` (Alibaba) and `chat_template_kwargs.enable_thinking` (vLLM). More than one may stand there.
fn read_reasoning(fields: &mut Fields) -> Result<Option<Reasoning>, ChatError> {
    let mut reasoning: Option<Reasoning> = None;
    if let Some(word) = fields.string("reasoning_effort")? {
        match effort_into(&word, &mut reasoning) {
            true => {}
            false => fields.put_back("reasoning_effort", Value::String(word)),
        }
    }
    if let Some(mut object) = fields.object("reasoning")? {
        let target = reasoning.get_or_insert_default();
        if let Some(budget) = object.integer("max_tokens")? {
            target.budget_tokens = Some(budget);
        }
        if let Some(exclude) = object.boolean("exclude")? {
            target.include = Some(!exclude);
        }
        if object.boolean("enabled")? == Some(false) {
            target.mode = ReasoningMode::Off;
        }
        if let Some(word) = object.string("effort")?
            && !effort_into(&word, &mut reasoning)
        {
            object.put_back("effort", Value::String(word));
        }
        let rest = object.rest();
        if !rest.is_empty() {
            fields.put_back("reasoning", Value::Object(rest));
        }
    }
    if let Some(mut object) = fields.object("thinking")? {
        let target = reasoning.get_or_insert_default();
        if let Some(budget) = object.integer("budget_tokens")? {
            target.budget_tokens = Some(budget);
        }
        match object.string("type")?.as_deref() {
            Some("disabled") => target.mode = ReasoningMode::Off,
            Some("adaptive" | "auto") => target.mode = ReasoningMode::Adaptive,
            _ => {}
        }
        let rest = object.rest();
        if !rest.is_empty() {
            fields.put_back("thinking", Value::Object(rest));
        }
    }
    let mut switch = fields.boolean("enable_thinking")?;
    if let Some(mut kwargs) = fields.object("chat_template_kwargs")? {
        switch = kwargs.boolean("enable_thinking")?.or(switch);
        let rest = kwargs.rest();
        if !rest.is_empty() {
            fields.put_back("chat_template_kwargs", Value::Object(rest));
        }
    }
    if let Some(on) = switch {
        let target = reasoning.get_or_insert_default();
        target.mode = if on { ReasoningMode::On } else { ReasoningMode::Off };
    }
    if let Some(include) = fields.boolean("include_reasoning")? {
        reasoning.get_or_insert_default().include = Some(include);
    }
    Ok(reasoning)
}

/// Takes an effort word over; false when it is none that is known.
fn effort_into(word: &str, reasoning: &mut Option<Reasoning>) -> bool {
    if word == "none" {
        reasoning.get_or_insert_default().mode = ReasoningMode::Off;
        return true;
    }
    match words::effort(word) {
        Some(effort) => {
            reasoning.get_or_insert_default().effort = Some(effort);
            true
        }
        None => false,
    }
}

fn read_output(fields: &mut Fields) -> Result<Option<OutputFormat>, ChatError> {
    let Some(mut format) = fields.object("response_format")? else { return Ok(None) };
    match format.string("type")?.as_deref() {
        Some("text") => Ok(Some(OutputFormat::Text)),
        Some("json_object") => Ok(Some(OutputFormat::JsonObject)),
        Some("json_schema") => {
            let path = format.path_of("json_schema");
            let mut schema = format.object("json_schema")?.ok_or_else(|| missing(&path))?;
            Ok(Some(OutputFormat::JsonSchema {
                name: schema.string("name")?.filter(|name| name != super::UNNAMED_SCHEMA),
                description: schema.string("description")?,
                schema: schema.take("schema").unwrap_or_else(|| json!({})),
                strict: schema.boolean("strict")?,
            }))
        }
        kind => {
            if let Some(kind) = kind {
                format.put_back("type", json!(kind));
            }
            fields.put_back("response_format", Value::Object(format.rest()));
            Ok(None)
        }
    }
}

fn read_include_usage(fields: &mut Fields) -> Result<bool, ChatError> {
    let Some(mut options) = fields.object("stream_options")? else { return Ok(false) };
    let include = options.boolean("include_usage")?.unwrap_or(false);
    let rest = options.rest();
    if !rest.is_empty() {
        fields.put_back("stream_options", Value::Object(rest));
    }
    Ok(include)
}
