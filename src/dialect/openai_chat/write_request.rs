//! A request written to a provider.

use super::content::{foreign_name, write_cache, write_extras};
use super::fields::says_something;
use super::{words, write_messages};
use crate::chat::{
    DialectId, Effort, Losses, OutputFormat, Reasoning, ReasoningMode, Request, Sampling, Tool, ToolChoice,
};
use crate::dialect::{Profile, ReasoningStyle, TokenLimitField};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// The longest `user` that OpenAI takes, in characters.
const MAX_USER: usize = 64;

/// Writes a request.
pub(super) fn write(request: &Request, profile: &Profile, losses: &mut Losses) -> Vec<u8> {
    let mut body = Map::new();
    body.insert("model".into(), json!(request.model));
    let mut messages = write_messages::write(&request.messages, profile, losses);
    write_output(request.output.as_ref(), profile, &mut body, &mut messages, losses);
    body.insert("messages".into(), Value::Array(messages));
    write_tools(request, profile, &mut body, losses);
    if let Some(parallel) = request.parallel_tool_calls {
        body.insert("parallel_tool_calls".into(), json!(parallel));
    }
    let reasons = request.reasoning.as_ref().is_some_and(|asked| asked.mode != ReasoningMode::Off);
    if reasons && profile.reasoning == ReasoningStyle::Effort && !profile.sampling_with_effort {
        write_sampling(&beside_effort(&request.sampling, losses), profile, &mut body, losses);
    } else {
        write_sampling(&request.sampling, profile, &mut body, losses);
    }
    write_extras(&request.extras, "", &mut body, losses);
    if let Some(reasoning) = &request.reasoning {
        write_reasoning(reasoning, profile, &mut body, losses);
    }
    if request.stream {
        body.insert("stream".into(), json!(true));
    }
    if request.include_usage {
        merge(&mut body, "stream_options", "include_usage", json!(true));
    }
    if let Some(user) = &request.user {
        body.insert("user".into(), json!(write_user(user, profile, losses)));
    }
    leave_out_ignored(profile, &mut body, losses);
    Value::Object(body).to_string().into_bytes()
}

/// The id of the user. One that is longer than OpenAI takes is said as its digest: Claude Code's is JSON of more than a
/// hundred characters, whose beginning is the same for every session and no JSON.
fn write_user<'a>(user: &'a str, profile: &Profile, losses: &mut Losses) -> Cow<'a, str> {
    if profile.long_ids || user.chars().count() <= MAX_USER {
        return Cow::Borrowed(user);
    }
    losses.approximated("user");
    Cow::Owned(format!("user_{}", words::digest(user)))
}

/// The sampling that a reasoning model of OpenAI's takes; what says nothing but the default goes without a loss.
fn beside_effort(sampling: &Sampling, losses: &mut Losses) -> Sampling {
    for (field, is_said) in [
        ("temperature", sampling.temperature.is_some_and(|value| value != 1.0)),
        ("top_p", sampling.top_p.is_some_and(|value| value != 1.0)),
        ("presence_penalty", sampling.presence_penalty.is_some_and(|value| value != 0.0)),
        ("frequency_penalty", sampling.frequency_penalty.is_some_and(|value| value != 0.0)),
        ("logprobs", sampling.logprobs == Some(true)),
    ] {
        if is_said {
            losses.dropped(field);
        }
    }
    Sampling {
        temperature: None,
        top_p: None,
        presence_penalty: None,
        frequency_penalty: None,
        logprobs: None,
        top_logprobs: None,
        ..sampling.clone()
    }
}

/// What the provider would ignore in silence is not sent; it is a loss where it says something.
fn leave_out_ignored(profile: &Profile, body: &mut Map<String, Value>, losses: &mut Losses) {
    for field in profile.ignored_fields {
        let Some(value) = body.shift_remove(*field) else { continue };
        let is_default = match *field {
            "n" => value == json!(1),
            "tool_choice" | "service_tier" => value == json!("auto"),
            "parallel_tool_calls" => value == json!(true),
            "temperature" | "top_p" => value.as_f64() == Some(1.0),
            // Zero is a seed, and says something.
            "seed" => false,
            _ => !says_something(&value),
        };
        if !is_default {
            losses.dropped(*field);
        }
    }
}

fn write_tools(request: &Request, profile: &Profile, body: &mut Map<String, Value>, losses: &mut Losses) {
    // A server that does not know `allowed_tools` is shown only the tools that are allowed: the same in effect.
    let only: Option<&[String]> = match &request.tool_choice {
        Some(ToolChoice::Among { names, .. }) if !profile.allowed_tools => Some(names),
        _ => None,
    };
    let mut tools = Vec::new();
    for tool in &request.tools {
        match tool {
            Tool::Function(function) if only.is_some_and(|names| !names.contains(&function.name)) => {}
            Tool::Function(function) => {
                let mut inner = Map::new();
                inner.insert("name".into(), json!(function.name));
                if let Some(description) = &function.description {
                    inner.insert("description".into(), json!(description));
                }
                if let Some(parameters) = &function.parameters {
                    inner.insert("parameters".into(), parameters.clone());
                }
                if let Some(strict) = function.strict {
                    inner.insert("strict".into(), json!(strict));
                }
                let mut outer = Map::from_iter([("type".to_owned(), json!("function"))]);
                let mut extras = function.extras.clone();
                if extras.for_dialect(DialectId::OpenAiChat).is_some()
                    && let Some(Value::Object(fields)) = extras.fields.shift_remove("function")
                {
                    inner.extend(fields);
                }
                outer.insert("function".into(), Value::Object(inner));
                write_cache(function.cache.as_ref(), profile.cache_markers, &mut outer, losses);
                write_extras(&extras, "tools", &mut outer, losses);
                tools.push(Value::Object(outer));
            }
            Tool::Foreign { dialect: DialectId::OpenAiChat, value } => tools.push(value.clone()),
            Tool::Foreign { value, .. } => losses.dropped(format!("tools.{}", foreign_name(value))),
        }
    }
    let has_tools = !tools.is_empty();
    if has_tools {
        body.insert("tools".into(), Value::Array(tools));
    }
    let Some(choice) = &request.tool_choice else { return };
    if !has_tools && !request.tools.is_empty() {
        // A choice without tools is answered with 400.
        losses.dropped("tool_choice");
        return;
    }
    let choice = match choice {
        ToolChoice::Auto => json!("auto"),
        ToolChoice::None => json!("none"),
        ToolChoice::Required => json!("required"),
        ToolChoice::Named(name) => json!({"type": "function", "function": {"name": name}}),
        ToolChoice::Among { names, required } => {
            let mode = if *required { "required" } else { "auto" };
            if profile.allowed_tools {
                let tools: Vec<Value> =
                    names.iter().map(|name| json!({"type": "function", "function": {"name": name}})).collect();
                json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
            } else {
                json!(mode)
            }
        }
    };
    body.insert("tool_choice".into(), choice);
}

fn write_sampling(sampling: &Sampling, profile: &Profile, body: &mut Map<String, Value>, losses: &mut Losses) {
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(key.to_owned(), value);
        }
    };
    let limit = match profile.token_limit {
        TokenLimitField::MaxCompletionTokens => "max_completion_tokens",
        TokenLimitField::MaxTokens => "max_tokens",
    };
    set(limit, sampling.max_tokens.map(|n| json!(n)));
    set("temperature", sampling.temperature.map(|x| json!(x)));
    set("top_p", sampling.top_p.map(|x| json!(x)));
    match sampling.top_k {
        Some(_) if !profile.top_k => losses.dropped("top_k"),
        top_k => set("top_k", top_k.map(|n| json!(n))),
    }
    set(
        "stop",
        match &sampling.stop[..] {
            [] => None,
            [one] if !profile.stop_list_only => Some(json!(one)),
            list => Some(json!(list)),
        },
    );
    set("seed", sampling.seed.map(|n| json!(n)));
    set("presence_penalty", sampling.presence_penalty.map(|x| json!(x)));
    set("frequency_penalty", sampling.frequency_penalty.map(|x| json!(x)));
    set("n", sampling.candidates.map(|n| json!(n)));
    set("logprobs", sampling.logprobs.map(|on| json!(on)));
    set("top_logprobs", sampling.top_logprobs.map(|n| json!(n)));
}

fn write_reasoning(reasoning: &Reasoning, profile: &Profile, body: &mut Map<String, Value>, losses: &mut Losses) {
    let off = reasoning.mode == ReasoningMode::Off;
    if reasoning.include == Some(false) && profile.reasoning != ReasoningStyle::Object && !off {
        losses.dropped("reasoning.include");
    }
    let switches = !matches!(profile.reasoning, ReasoningStyle::Effort | ReasoningStyle::None);
    if reasoning.mode == ReasoningMode::Unsaid && switches {
        // Here an effort would switch reasoning on.
        losses.dropped("reasoning.effort");
        return;
    }
    match profile.reasoning {
        ReasoningStyle::Object => write_reasoning_object(reasoning, body, losses),
        // Models that cannot reason refuse the field, and those that can be switched off are off unless asked.
        ReasoningStyle::Effort if off => losses.dropped("reasoning.mode"),
        ReasoningStyle::Effort => {
            let effort = match (reasoning.effort, reasoning.budget_tokens) {
                (Some(effort), _) => effort,
                (None, Some(budget)) => {
                    losses.approximated("reasoning.budget_tokens");
                    Effort::from_budget(budget)
                }
                (None, None) => {
                    losses.approximated("reasoning.mode");
                    Effort::Medium
                }
            };
            body.insert("reasoning_effort".into(), json!(words::effort_word(effort)));
        }
        ReasoningStyle::TemplateSwitch | ReasoningStyle::ThinkingSwitch => {
            if profile.reasoning == ReasoningStyle::TemplateSwitch {
                merge(body, "chat_template_kwargs", "enable_thinking", json!(!off));
            } else {
                merge(body, "thinking", "type", json!(if off { "disabled" } else { "enabled" }));
            }
            if !off && reasoning.effort.is_some() {
                losses.dropped("reasoning.effort");
            }
            if !off && reasoning.budget_tokens.is_some() {
                losses.dropped("reasoning.budget_tokens");
            }
        }
        ReasoningStyle::None => losses.dropped("reasoning"),
    }
}

/// OpenRouter's `reasoning`: either an effort or a budget, never both.
fn write_reasoning_object(reasoning: &Reasoning, body: &mut Map<String, Value>, losses: &mut Losses) {
    if reasoning.mode == ReasoningMode::Off {
        merge(body, "reasoning", "enabled", json!(false));
    } else if let Some(budget) = reasoning.budget_tokens {
        merge(body, "reasoning", "max_tokens", json!(budget));
        if reasoning.effort.is_some() {
            losses.dropped("reasoning.effort");
        }
    } else if let Some(effort) = reasoning.effort {
        merge(body, "reasoning", "effort", json!(words::effort_word(effort)));
    } else {
        if reasoning.mode == ReasoningMode::Adaptive {
            losses.approximated("reasoning.mode");
        }
        merge(body, "reasoning", "enabled", json!(true));
    }
    if let Some(include) = reasoning.include {
        merge(body, "reasoning", "exclude", json!(!include));
    }
}

fn write_output(
    output: Option<&OutputFormat>,
    profile: &Profile,
    body: &mut Map<String, Value>,
    messages: &mut Vec<Value>,
    losses: &mut Losses,
) {
    let format = match output {
        None => return,
        Some(OutputFormat::Text) => json!({"type": "text"}),
        Some(OutputFormat::JsonObject) => json!({"type": "json_object"}),
        Some(OutputFormat::JsonSchema { schema, .. }) if !profile.json_schema => {
            losses.approximated("response_format.json_schema");
            messages.insert(
                0,
                json!({
                    "role": "system",
                    "content": format!("Answer with nothing but JSON that matches this JSON Schema:\n{schema}"),
                }),
            );
            json!({"type": "json_object"})
        }
        Some(OutputFormat::JsonSchema { name, description, schema, strict }) => {
            let mut inner = Map::new();
            inner.insert("name".into(), json!(name.as_deref().unwrap_or(super::UNNAMED_SCHEMA)));
            if let Some(description) = description {
                inner.insert("description".into(), json!(description));
            }
            inner.insert("schema".into(), schema.clone());
            if let Some(strict) = strict {
                inner.insert("strict".into(), json!(strict));
            }
            json!({"type": "json_schema", "json_schema": inner})
        }
    };
    body.insert("response_format".into(), format);
}

/// Sets one member of an object that may already stand in the body.
fn merge(body: &mut Map<String, Value>, object: &str, key: &str, value: Value) {
    let slot = body.entry(object.to_owned()).or_insert_with(|| json!({}));
    if !slot.is_object() {
        *slot = json!({});
    }
    slot[key] = value;
}
