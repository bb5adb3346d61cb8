//! A client's `GenerateContentRequest`: <https://ai.google.dev/api/generate-content#request-body>.

use super::content::{CallBook, read_part};
use super::fields::{Fields, number, whole};
use super::schema::to_json_schema;
use super::{thinking, tools};
use crate::chat::{
    ChatError, DialectId, Extras, Message, OutputFormat, Part, Request, Role, Sampling, SignatureOrigin,
};
use crate::dialect::UrlHints;
use serde_json::{Map, Value, json};

/// Reads a request.
pub(super) fn read(body: &[u8], url: &UrlHints) -> Result<Request, ChatError> {
    let value: Value = serde_json::from_slice(body).map_err(|error| {
        ChatError::new(crate::chat::ErrorKind::InvalidRequest, format!("the body is not JSON: {error}"))
    })?;
    let fields = Fields::of(value).ok_or_else(|| {
        ChatError::new(crate::chat::ErrorKind::InvalidRequest, "the body must be a JSON object with `contents`")
    })?;
    read_fields(fields, url)
}

/// Reads a request from its members.
pub(super) fn read_fields(mut fields: Fields, url: &UrlHints) -> Result<Request, ChatError> {
    let mut extras = Map::new();
    let in_body = fields.take_string("model");
    let model = url.model.clone().or(in_body).unwrap_or_default();
    let mut request = Request {
        model: model.strip_prefix("models/").unwrap_or(&model).to_owned(),
        stream: url.stream.unwrap_or(false),
        ..Request::default()
    };
    if let Some(instruction) = fields.take("systemInstruction") {
        read_system(instruction, &mut request.messages)?;
    }
    let contents = fields
        .take("contents")
        .ok_or_else(|| ChatError::invalid("contents", "`contents` is missing: send a list of {role, parts}"))?;
    read_contents(contents, &mut request.messages)?;
    if let Some(value) = fields.take("tools") {
        request.tools = tools::read(value)?;
    }
    if let Some(config) = fields.take_object("toolConfig") {
        request.tool_choice = tools::read_choice(config, &mut extras)?;
    }
    if let Some(config) = fields.take_object("generationConfig") {
        read_config(config, &mut request, &mut extras)?;
    }
    extras.extend(fields.rest());
    request.extras = Extras::from_fields(DialectId::Gemini, extras);
    Ok(request)
}

fn read_system(value: Value, messages: &mut Vec<Message>) -> Result<(), ChatError> {
    let param = "systemInstruction";
    let mut calls = CallBook::default();
    let parts = match value {
        Value::String(text) => vec![json!({ "text": text })],
        Value::Array(parts) => parts,
        Value::Object(map) if map.contains_key("text") => vec![Value::Object(map)],
        Value::Object(map) => part_list(map.get("parts").cloned(), param)?,
        _ => return Err(ChatError::invalid(param, "`systemInstruction` must be a content object or a string")),
    };
    let parts: Vec<Part> =
        parts.into_iter().map(text_or_object).filter_map(|part| read_part(part, &mut calls)).collect();
    if !parts.is_empty() {
        messages.push(Message::new(Role::System, parts));
    }
    Ok(())
}

fn read_contents(value: Value, messages: &mut Vec<Message>) -> Result<(), ChatError> {
    let list = match value {
        Value::Array(list) => list,
        Value::String(text) => vec![json!({ "parts": [{ "text": text }] })],
        single @ Value::Object(_) => vec![single],
        _ => return Err(ChatError::invalid("contents", "`contents` must be a list of {role, parts}")),
    };
    let mut calls = CallBook::default();
    for (at, value) in list.into_iter().enumerate() {
        let path = format!("contents[{at}]");
        let mut content = match value {
            Value::String(text) => Fields::of(json!({ "parts": [{ "text": text }] })),
            other => Fields::of(other),
        }
        .ok_or_else(|| ChatError::invalid(&path, format!("`{path}` must be an object with role and parts")))?;
        let role = content.take_string("role");
        let from_model = match role.as_deref() {
            None | Some("" | "user" | "function") => false,
            Some("model") => true,
            Some(_) => {
                let message = format!("`{path}.role` is unknown: use a valid role: user, model");
                return Err(ChatError::invalid(&format!("{path}.role"), message));
            }
        };
        let parts = part_list(content.take("parts"), &path)?;
        if from_model {
            // Chats of google-genai keep every chunk of a stream as a content of its own.
            if messages.last().is_none_or(|last| last.role != Role::Assistant) {
                calls.begin_step();
            }
            push(messages, Role::Assistant, parts.into_iter().filter_map(|part| read_part(part, &mut calls)));
        } else {
            push_user(messages, parts.into_iter().filter_map(|part| read_part(part, &mut calls)));
        }
    }
    if messages.is_empty() {
        // Google takes an empty text as a question; no dialect takes a conversation of nothing.
        messages.push(Message::new(Role::User, vec![Part::text("")]));
    }
    for message in messages.iter_mut().filter(|message| message.role == Role::Assistant) {
        join_thoughts(&mut message.parts);
    }
    Ok(())
}

/// Joins the pieces of a foreign thought that was streamed: what is known at its start in a seal without text, then texts,
/// then an empty text with the seal of them all.
fn join_thoughts(parts: &mut Vec<Part>) {
    let mut joined: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts.drain(..) {
        let Part::Reasoning(mut thought) = part else {
            joined.push(part);
            continue;
        };
        let proof = thought.signature.as_ref().or(thought.encrypted.as_ref());
        let closes = thought.text.is_empty() && proof.is_some_and(|proof| proof.origin != SignatureOrigin::Gemini);
        while let Some(Part::Reasoning(piece)) = joined.last()
            && piece.signature.is_none()
            && piece.encrypted.is_none()
            && (closes || ((piece.id.is_some() || piece.summary) && thought.id.is_none() && !thought.summary))
        {
            thought.text.insert_str(0, &piece.text);
            thought.id = piece.id.clone().or(thought.id.take());
            thought.summary |= piece.summary;
            joined.pop();
        }
        joined.push(Part::Reasoning(thought));
    }
    *parts = joined;
}

/// A user's content holds results and other parts in any order; each run of them is a message of its own role.
fn push_user(messages: &mut Vec<Message>, parts: impl Iterator<Item = Part>) {
    let mut run: Vec<Part> = Vec::new();
    for part in parts {
        let is_result = matches!(part, Part::ToolResult(_));
        if run.last().is_some_and(|last| matches!(last, Part::ToolResult(_)) != is_result) {
            flush_user(messages, std::mem::take(&mut run));
        }
        run.push(part);
    }
    flush_user(messages, run);
}

fn flush_user(messages: &mut Vec<Message>, run: Vec<Part>) {
    let results = matches!(run.first(), Some(Part::ToolResult(_)));
    push(messages, if results { Role::Tool } else { Role::User }, run.into_iter());
}

/// Adds a message; contents of the model that follow each other are one turn, and so are results.
fn push(messages: &mut Vec<Message>, role: Role, parts: impl Iterator<Item = Part>) {
    let parts: Vec<Part> = parts.collect();
    if parts.is_empty() {
        return;
    }
    match messages.last_mut() {
        Some(last) if role != Role::User && last.role == role => {
            let mut parts = parts.into_iter().peekable();
            // The text of one chunk goes on in the next.
            if let (Some(Part::Text { text, signature: None, extras, .. }), Some(Part::Text { signature: None, .. })) =
                (last.parts.last_mut(), parts.peek())
                && extras.is_empty()
                && let Some(Part::Text { text: more, extras: later, .. }) = parts.next()
            {
                text.push_str(&more);
                *extras = later;
            }
            last.parts.extend(parts);
        }
        _ => messages.push(Message::new(role, parts)),
    }
}

fn part_list(value: Option<Value>, path: &str) -> Result<Vec<Value>, ChatError> {
    let list = match value {
        None => Vec::new(),
        Some(Value::Array(list)) => list,
        Some(single @ (Value::Object(_) | Value::String(_))) => vec![single],
        Some(_) => return Err(ChatError::invalid(path, format!("`{path}.parts` must be a list of parts"))),
    };
    let list: Vec<Value> = list.into_iter().map(text_or_object).collect();
    if list.iter().any(|part| !part.is_object()) {
        return Err(ChatError::invalid(path, format!("every part of `{path}.parts` must be an object")));
    }
    Ok(list)
}

fn text_or_object(value: Value) -> Value {
    match value {
        Value::String(text) => json!({ "text": text }),
        other => other,
    }
}

fn read_config(mut config: Fields, request: &mut Request, extras: &mut Map<String, Value>) -> Result<(), ChatError> {
    let sampling = &mut request.sampling;
    sampling.max_tokens = unsigned(&mut config, "maxOutputTokens")?;
    sampling.temperature = float(&mut config, "temperature")?;
    sampling.top_p = float(&mut config, "topP")?;
    sampling.presence_penalty = float(&mut config, "presencePenalty")?;
    sampling.frequency_penalty = float(&mut config, "frequencyPenalty")?;
    sampling.top_k = config.take_count("topK");
    sampling.seed = config.take("seed").map(|seed| whole(&seed).ok_or_else(|| wrong_type("seed"))).transpose()?;
    sampling.candidates = small(&mut config, "candidateCount")?;
    sampling.top_logprobs = small(&mut config, "logprobs")?;
    sampling.logprobs = config.take("responseLogprobs").and_then(|value| value.as_bool());
    read_stop(&mut config, sampling)?;
    if let Some(thinking_config) = config.take_object("thinkingConfig") {
        request.reasoning = Some(thinking::read(thinking_config, extras));
    }
    request.output = read_output(&mut config);
    // Text is what every model answers with anyway; clients of pydantic-ai always say so.
    if let Some(modalities) = config.take("responseModalities").filter(|value| *value != json!(["TEXT"])) {
        config.put("responseModalities", modalities);
    }
    config.rest_into("generationConfig", extras);
    Ok(())
}

fn read_stop(config: &mut Fields, sampling: &mut Sampling) -> Result<(), ChatError> {
    sampling.stop = match config.take("stopSequences") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => list
            .into_iter()
            .map(|value| value.as_str().map(str::to_owned).ok_or_else(|| wrong_type("stopSequences")))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong_type("stopSequences")),
    };
    Ok(())
}

/// Reads what the answer must look like. MIME types that no other dialect knows stay where they are, with their schema.
fn read_output(config: &mut Fields) -> Option<OutputFormat> {
    let mime = config.take("responseMimeType");
    match mime.as_ref().map(Value::as_str) {
        Some(Some("text/plain")) => return Some(OutputFormat::Text),
        None | Some(Some("application/json")) => {}
        Some(_) => {
            config.put("responseMimeType", mime.unwrap_or_default());
            return None;
        }
    }
    let schema = config.take("responseJsonSchema");
    let open_api = config.take("responseSchema").map(to_json_schema);
    match schema.or(open_api) {
        Some(schema) => Some(OutputFormat::JsonSchema { name: None, description: None, schema, strict: None }),
        None => mime.map(|_| OutputFormat::JsonObject),
    }
}

fn unsigned(config: &mut Fields, name: &str) -> Result<Option<u64>, ChatError> {
    let count = config.take_count(name);
    if count.is_none() && config.has(name) {
        return Err(wrong_type(name));
    }
    Ok(count)
}

fn small(config: &mut Fields, name: &str) -> Result<Option<u32>, ChatError> {
    unsigned(config, name)?.map(|count| count.try_into().map_err(|_| wrong_type(name))).transpose()
}

fn float(config: &mut Fields, name: &str) -> Result<Option<f64>, ChatError> {
    config.take(name).map(|value| number(&value).ok_or_else(|| wrong_type(name))).transpose()
}

fn wrong_type(name: &str) -> ChatError {
    ChatError::invalid(
        &format!("generationConfig.{name}"),
        format!("`generationConfig.{name}` has a value of the wrong type or range"),
    )
}
