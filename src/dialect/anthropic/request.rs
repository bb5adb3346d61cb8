//! The request: `POST /v1/messages`, version 2023-06-01, with the fields of the official Python SDK's
//! `MessageCreateParams`, beta ones included (read August 2026).

use super::blocks::{BlockWriter, Reader, read_blocks};
use super::fields::{Fields, dotted, merge, put_extras};
use super::generation::{Generation, ThinkingForm};
use super::turns::{self, Turns};
use super::{ID, schema, thinking, tools};
use crate::chat::{ChatError, Effort, Extras, Losses, Message, OutputFormat, Part, Request, Role, Sampling};
use crate::dialect::{Profile, UrlHints};
use serde_json::{Map, Value, json};

/// Reads a request.
pub(super) fn parse(body: &[u8], url: &UrlHints) -> Result<Request, ChatError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| ChatError::invalid("body", format!("the body is not valid JSON: {error}")))?;
    let mut fields =
        Fields::new(value, "").map_err(|_| ChatError::invalid("body", "the body must be a JSON object"))?;
    let model = match fields.string("model")?.or_else(|| url.model.clone()) {
        Some(model) => model,
        None => return Err(fields.missing("model")),
    };
    let mut messages = read_system(&mut fields)?;
    let Some(turns) = fields.list("messages")? else { return Err(fields.missing("messages")) };
    messages.extend(turns::read(turns)?);

    let tools = fields.list("tools")?.unwrap_or_default();
    let tools = tools
        .into_iter()
        .enumerate()
        .map(|(index, tool)| tools::read_tool(tool, format!("tools.{index}")))
        .collect::<Result<_, _>>()?;
    let (tool_choice, parallel_tool_calls) = match fields.object("tool_choice")? {
        Some(choice) => tools::read_choice(choice).map(|(choice, parallel)| (Some(choice), parallel))?,
        None => (None, None),
    };
    let mut metadata = fields.object("metadata")?;
    let user = metadata.as_mut().map(|metadata| metadata.string("user_id")).transpose()?.flatten();
    let stop = fields.list("stop_sequences")?.unwrap_or_default();
    let stop = stop.into_iter().filter_map(|stop| stop.as_str().map(str::to_owned)).collect();
    let sampling = Sampling {
        max_tokens: fields.count("max_tokens")?,
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        stop,
        ..Sampling::default()
    };
    let stream = fields.boolean("stream")?.or(url.stream).unwrap_or(false);
    let (effort, output) = read_output(&mut fields)?;
    let mut asked = fields.object("thinking")?;
    let reasoning = thinking::read(asked.as_mut(), effort)?;

    let mut rest = fields.rest();
    for (name, left) in [("metadata", metadata), ("thinking", asked)] {
        if let Some(left) = left {
            rest.extend(dotted(name, left.rest()));
        }
    }
    Ok(Request {
        model,
        stream,
        messages,
        tools,
        tool_choice,
        parallel_tool_calls,
        sampling,
        reasoning,
        output,
        include_usage: true,
        user,
        extras: Extras::from_fields(ID, rest),
    })
}

fn read_system(fields: &mut Fields) -> Result<Vec<Message>, ChatError> {
    let parts = match fields.take("system") {
        None => return Ok(Vec::new()),
        Some(Value::String(text)) => vec![Part::text(text)],
        Some(Value::Array(blocks)) => read_blocks(blocks, "system")?,
        Some(_) => return Err(ChatError::invalid("system", "`system` must be a text or a list of text blocks")),
    };
    Ok(if parts.is_empty() { Vec::new() } else { vec![Message::new(Role::System, parts)] })
}

/// Reads `output_config` and its beta forerunner `output_format`; what is left of the first is put back.
fn read_output(fields: &mut Fields) -> Result<(Option<Effort>, Option<OutputFormat>), ChatError> {
    let mut effort = None;
    let mut output = None;
    if let Some(mut config) = fields.object("output_config")? {
        if let Some(word) = config.string("effort")? {
            effort = thinking::read_effort(&word);
            if effort.is_none() {
                config.put_back("effort", Value::String(word));
            }
        }
        output = read_format(&mut config, "format")?;
        for (name, value) in dotted("output_config", config.rest()) {
            fields.put_back(&name, value);
        }
    }
    if output.is_none() {
        output = read_format(fields, "output_format")?;
    }
    Ok((effort, output))
}

fn read_format(fields: &mut Fields, name: &str) -> Result<Option<OutputFormat>, ChatError> {
    let Some(format) = fields.take(name) else { return Ok(None) };
    if format.get("type").is_none_or(|kind| kind != "json_schema") {
        fields.put_back(name, format);
        return Ok(None);
    }
    let Some(schema) = Fields::new(format, fields.at(name))?.take("schema") else {
        return Err(fields.missing(&format!("{name}.schema")));
    };
    Ok(Some(OutputFormat::JsonSchema { name: None, description: None, schema, strict: None }))
}

/// Writes a request to a provider.
pub(super) fn write(request: &Request, profile: &Profile, losses: &mut Losses) -> Vec<u8> {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(request.model));
    thinking::write(request, &mut body, losses);

    let reader = Reader::Provider { unsigned_thinking: profile.reasoning_history };
    let takes_system_messages = Generation::of(&request.model).takes_system_messages();
    let Turns { system, messages } =
        turns::write(&request.messages, takes_system_messages, BlockWriter { reader, losses });
    if let Some(system) = system {
        body.insert("system".to_owned(), system);
    }
    body.insert("messages".to_owned(), Value::Array(messages));
    tools::write(request, &mut body, losses);
    write_output(request, profile, &mut body, losses);
    write_rest(request, &mut body, losses);
    Value::Object(body).to_string().into_bytes()
}

fn write_output(request: &Request, profile: &Profile, body: &mut Map<String, Value>, losses: &mut Losses) {
    match &request.output {
        None | Some(OutputFormat::Text) => {}
        Some(OutputFormat::JsonObject) => losses.dropped("response_format"),
        Some(OutputFormat::JsonSchema { .. }) if !profile.json_schema => losses.dropped("response_format"),
        Some(OutputFormat::JsonSchema { name, description, schema, strict }) => {
            let schema = strict_schema(request, schema, "response_format.schema", losses);
            let format = json!({"type": "json_schema", "schema": schema});
            merge(body, "output_config", &json!({ "format": format }));
            if name.is_some() {
                losses.dropped("response_format.name");
            }
            if description.is_some() {
                losses.dropped("response_format.description");
            }
            if *strict == Some(false) {
                // The API holds the answer to the schema in any case.
                losses.approximated("response_format.strict");
            }
        }
    }
}

/// A schema that the answer must match, in the words that the API takes. Other servers of the dialect get it as it is.
pub(super) fn strict_schema(request: &Request, schema: &Value, name: &'static str, losses: &mut Losses) -> Value {
    if Generation::of(&request.model).thinking() == ThinkingForm::Unknown {
        return schema.clone();
    }
    let (schema, is_changed) = schema::strict(schema);
    if is_changed {
        losses.approximated(name);
    }
    schema
}

fn write_rest(request: &Request, body: &mut Map<String, Value>, losses: &mut Losses) {
    let sampling = &request.sampling;
    // The API refuses stop sequences without a visible character.
    let stop: Vec<&String> = sampling.stop.iter().filter(|stop| !stop.trim().is_empty()).collect();
    if stop.len() < sampling.stop.len() {
        losses.dropped("stop");
    }
    if !stop.is_empty() {
        body.insert("stop_sequences".to_owned(), json!(stop));
    }
    if request.stream {
        body.insert("stream".to_owned(), json!(true));
    }
    if let Some(user) = &request.user {
        body.insert("metadata".to_owned(), json!({ "user_id": user }));
    }
    let is_set = |penalty: Option<f64>| penalty.is_some_and(|penalty| penalty != 0.0);
    for (name, is_lost) in [
        ("seed", sampling.seed.is_some()),
        ("presence_penalty", is_set(sampling.presence_penalty)),
        ("frequency_penalty", is_set(sampling.frequency_penalty)),
        ("n", sampling.candidates.is_some_and(|candidates| candidates > 1)),
        ("logprobs", sampling.logprobs == Some(true)),
        ("top_logprobs", sampling.top_logprobs.is_some_and(|count| count > 0)),
    ] {
        if is_lost {
            losses.dropped(name);
        }
    }
    put_extras(body, &request.extras, "", losses);
}
