//! A `GenerateContentRequest` to a provider.

use super::content::{write_extras, write_part};
use super::generation::third_or_later;
use super::proof::{SKIP_VALIDATION, Towards};
use super::{thinking, tool_result, tools};
use crate::chat::{
    Losses, Message, OutputFormat, Part, Request, Role, Sampling, SignatureOrigin, ToolChoice, ToolResult,
};
use serde_json::{Map, Value, json};

/// Google takes no more stop sequences than this.
const MAX_STOP_SEQUENCES: usize = 5;

/// Writes a request. The model is in the URL, and so is the wish for a stream.
pub(super) fn write(request: &Request, losses: &mut Losses) -> Value {
    let mut body = Map::new();
    let leading = request.messages.iter().take_while(|message| is_system(message)).count();
    let (system, turns) = request.messages.split_at(leading);
    let instruction: Vec<Value> = system.iter().flat_map(|message| write_parts(message, losses)).collect();
    let mut contents = write_turns(turns, &request.model, losses);
    if !instruction.is_empty() {
        body.insert("systemInstruction".into(), json!({ "parts": instruction }));
    }
    if contents.is_empty() {
        // Google wants at least one content, and takes an empty text for it.
        contents.push(json!({ "role": "user", "parts": [{ "text": "" }] }));
    }
    body.insert("contents".into(), contents.into());
    let tools = tools::write(&request.tools, losses);
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
    }
    // Without tools there is nothing to choose, and Google refuses the choice.
    let idle = request.tools.is_empty() && matches!(request.tool_choice, Some(ToolChoice::Auto | ToolChoice::None));
    if let Some(choice) = request.tool_choice.as_ref().filter(|_| !idle) {
        body.insert("toolConfig".into(), json!({ "functionCallingConfig": tools::write_choice(choice) }));
    }
    let config = write_config(request, losses);
    if !config.is_empty() {
        body.insert("generationConfig".into(), Value::Object(config));
    }
    if request.parallel_tool_calls == Some(false) {
        losses.dropped("parallel_tool_calls");
    }
    if request.user.is_some() {
        losses.dropped("user");
    }
    write_extras(&request.extras, &mut body, losses);
    Value::Object(body)
}

fn is_system(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

fn write_parts(message: &Message, losses: &mut Losses) -> Vec<Value> {
    note_message(message, losses);
    message.parts.iter().filter_map(|part| write_part(part, Towards::Provider, losses)).collect()
}

fn note_message(message: &Message, losses: &mut Losses) {
    if message.name.is_some() {
        losses.dropped("messages.name");
    }
    write_extras(&message.extras, &mut Map::new(), losses);
}

fn write_turns(turns: &[Message], model: &str, losses: &mut Losses) -> Vec<Value> {
    let current_turn = turns.iter().rposition(|message| message.role == Role::User).unwrap_or(0);
    let mut contents: Vec<Value> = Vec::with_capacity(turns.len());
    let mut before = None;
    for (at, message) in turns.iter().enumerate() {
        let (role, parts) = match message.role {
            Role::User => ("user", write_parts(message, losses)),
            Role::System | Role::Developer => {
                // One system prompt is all there is, and it stands in front; a later one keeps its place as a user's turn.
                losses.approximated("messages.role");
                ("user", write_parts(message, losses))
            }
            Role::Tool => ("user", write_results(message, &turns[..at], model, losses)),
            Role::Assistant => ("model", write_model_turn(message, at >= current_turn, model, losses)),
        };
        if parts.is_empty() {
            continue;
        }
        // Results must stand in the content right after their calls, so a user's words before them join them there.
        if before == Some(Role::User)
            && message.role == Role::Tool
            && let Some(Value::Array(earlier)) = contents.last_mut().and_then(|content| content.get_mut("parts"))
        {
            earlier.extend(parts);
        } else {
            contents.push(json!({ "role": role, "parts": parts }));
        }
        before = Some(message.role);
    }
    contents
}

/// Writes the model's own turn. Gemini 3 refuses a step of the current turn whose first call has no signature; for a call
/// that another model made, or whose signature was lost, Google's skip value stands in.
fn write_model_turn(message: &Message, in_current_turn: bool, model: &str, losses: &mut Losses) -> Vec<Value> {
    let first_call = message.parts.iter().find_map(|part| match part {
        Part::ToolCall(call) => Some(call),
        _ => None,
    });
    let unsigned = first_call.filter(|call| {
        in_current_turn
            && third_or_later(model)
            && call.signature.as_ref().is_none_or(|signature| signature.origin != SignatureOrigin::Gemini)
    });
    note_message(message, losses);
    let mut parts = Vec::with_capacity(message.parts.len());
    for part in &message.parts {
        let is_unsigned = matches!((part, unsigned), (Part::ToolCall(call), Some(first)) if std::ptr::eq(call, first));
        // The foreign signature is not lost on its own: the approximation below names it.
        let mut seen = Losses::new();
        let written = write_part(part, Towards::Provider, if is_unsigned { &mut seen } else { losses });
        let Some(mut value) = written else { continue };
        if is_unsigned {
            for loss in seen.iter().filter(|loss| loss.field != "tool_call.signature") {
                losses.add(loss.clone());
            }
            losses.approximated("tool_call.signature");
            value["thoughtSignature"] = SKIP_VALIDATION.into();
        }
        parts.push(value);
    }
    parts
}

fn write_results(message: &Message, earlier: &[Message], model: &str, losses: &mut Losses) -> Vec<Value> {
    note_message(message, losses);
    let (mut parts, mut behind) = (Vec::new(), Vec::new());
    for part in &message.parts {
        let Part::ToolResult(result) = part else {
            parts.extend(write_part(part, Towards::Provider, losses));
            continue;
        };
        let name = name_of_call(result, earlier).unwrap_or_else(|| {
            losses.approximated("tool_result.name");
            "unknown_function"
        });
        let (value, media) = tool_result::write(result, name, third_or_later(model), losses);
        parts.push(value);
        behind.extend(media.into_iter().map(Value::Object));
    }
    parts.extend(behind);
    parts
}

/// The name of the tool that `result` answers: as the latest call of that id says, or as the result itself does.
fn name_of_call<'a>(result: &'a ToolResult, earlier: &'a [Message]) -> Option<&'a str> {
    let called = earlier.iter().rev().flat_map(|message| message.parts.iter()).find_map(|part| match part {
        Part::ToolCall(call) if call.id == result.call_id => Some(call.name.as_str()),
        _ => None,
    });
    called.or(result.name.as_deref())
}

fn write_config(request: &Request, losses: &mut Losses) -> Map<String, Value> {
    let mut config = Map::new();
    write_sampling(&request.sampling, &mut config, losses);
    if let Some(reasoning) = &request.reasoning {
        let thinking = thinking::write(reasoning, &request.model, losses);
        if !thinking.is_empty() {
            config.insert("thinkingConfig".into(), Value::Object(thinking));
        }
    }
    match &request.output {
        None => {}
        Some(OutputFormat::Text) => put(&mut config, "responseMimeType", Some("text/plain")),
        Some(OutputFormat::JsonObject) => put(&mut config, "responseMimeType", Some("application/json")),
        Some(OutputFormat::JsonSchema { description, schema, .. }) => {
            put(&mut config, "responseMimeType", Some("application/json"));
            let mut schema = schema.clone();
            // The format has no description of its own, so the schema says it.
            if let (Some(text), Value::Object(members)) = (description, &mut schema) {
                members.entry("description").or_insert_with(|| text.as_str().into());
            }
            config.insert("responseJsonSchema".into(), schema);
        }
    }
    config
}

fn write_sampling(sampling: &Sampling, config: &mut Map<String, Value>, losses: &mut Losses) {
    put(config, "maxOutputTokens", sampling.max_tokens);
    put(config, "temperature", sampling.temperature);
    put(config, "topP", sampling.top_p);
    put(config, "topK", sampling.top_k);
    put(config, "presencePenalty", sampling.presence_penalty);
    put(config, "frequencyPenalty", sampling.frequency_penalty);
    put(config, "candidateCount", sampling.candidates);
    put(config, "responseLogprobs", sampling.logprobs);
    put(config, "logprobs", sampling.top_logprobs);
    if let Some(seed) = sampling.seed {
        // Google's seed has 32 bits; the low ones of a longer seed are as reproducible.
        let short = i32::try_from(seed).unwrap_or_else(|_| {
            losses.approximated("seed");
            #[allow(clippy::cast_possible_truncation, reason = "masked to 31 bits")]
            let low = (seed & 0x7fff_ffff) as i32;
            low
        });
        put(config, "seed", Some(short));
    }
    if sampling.stop.len() > MAX_STOP_SEQUENCES {
        losses.approximated("stop");
    }
    if !sampling.stop.is_empty() {
        let stop: Vec<&String> = sampling.stop.iter().take(MAX_STOP_SEQUENCES).collect();
        config.insert("stopSequences".into(), json!(stop));
    }
}

fn put<T: Into<Value>>(config: &mut Map<String, Value>, name: &str, value: Option<T>) {
    if let Some(value) = value {
        config.insert(name.to_owned(), value.into());
    }
}
