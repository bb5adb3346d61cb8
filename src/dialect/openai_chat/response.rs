//! A whole answer, read and written (`chat.completion`).

use super::content::write_extras;
use super::fields::{Fields, says_something};
use super::read_messages::read_answer;
use super::write_messages::{Takes, write_answer};
use super::{audio, error, usage, words};
use crate::chat::{Candidate, ChatError, DialectId, ErrorKind, Extras, Losses, Part, Response, StopReason};
use crate::dialect::Summary;
use crate::dialect::mention::{Name, mentions_any, mentions_no_null};
use crate::wire::json::{Object, text_of};
use memchr::memmem::Finder;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Reads a provider's whole answer.
pub(super) fn read(body: &[u8]) -> Result<Response, ChatError> {
    let value: Value = serde_json::from_slice(body).map_err(|found| {
        ChatError::new(ErrorKind::Upstream, format!("The provider's answer is not JSON: {found}. Ask again."))
    })?;
    if let Some(found) = error::in_answer(&value) {
        return Err(found);
    }
    read_value(value).map_err(|found| ChatError {
        kind: ErrorKind::Upstream,
        message: format!("The provider's answer is no chat completion: {}", found.message),
        ..found
    })
}

static MESSAGE: Name = LazyLock::new(|| Finder::new("message"));
/// An answer that ended with an error has it as its finish reason, or beside it.
static ERROR: Name = LazyLock::new(|| Finder::new("\"error\""));

/// Finds model and token counts alone, and builds nothing. Where something is not as in any answer, all of it is read, by
/// [`read`]; so it is where an error may hide.
pub(super) fn summarise(body: &[u8]) -> Result<Summary, ChatError> {
    match summary(body) {
        Some(summary) => Ok(summary),
        None => read(body).map(Summary::from),
    }
}

fn summary(body: &[u8]) -> Option<Summary> {
    let (mut choices, mut model, mut counted) = (None, None, None);
    for (name, value) in Object::scan(body).ok()?.members() {
        match name {
            b"choices" => choices = Some(value),
            b"model" if value != b"null" => model = Some(text_of(value)?.into_owned()),
            b"usage" => counted = usage::count(value)?,
            b"error" | b"x_groq" if value != b"null" => return None,
            _ if name.contains(&b'\\') => return None,
            _ => {}
        }
    }
    let choices = choices.filter(|choices| choices.starts_with(b"["))?;
    if !mentions_no_null(choices, &MESSAGE) || mentions_any(choices, &[&ERROR]) {
        return None;
    }
    Some(Summary { model: model.filter(|model| !model.is_empty()), usage: counted })
}

fn read_value(value: Value) -> Result<Response, ChatError> {
    let mut fields = Fields::of(value, "")?;
    fields.take("object");
    let id = text(&mut fields, "id");
    let model = text(&mut fields, "model");
    let created = fields.take("created").and_then(|value| value.as_f64()).map(unix_seconds);
    let Some(choices) = fields.list("choices")? else {
        return Err(ChatError::new(ErrorKind::Upstream, "it has no 'choices'."));
    };
    // Azure says so where its filter took everything out.
    if choices.is_empty() && fields.get("prompt_filter_results").is_none() {
        return Err(ChatError::new(ErrorKind::Upstream, "its 'choices' are empty."));
    }
    let scope = id.clone().unwrap_or_default();
    let mut candidates: Vec<(u64, Candidate)> = Vec::with_capacity(choices.len());
    for (position, choice) in choices.into_iter().enumerate() {
        let mut choice = Fields::of(choice, format!("choices[{position}]"))?;
        let index = choice.take("index").and_then(|value| value.as_u64()).unwrap_or(position as u64);
        candidates.push((index, read_choice(choice, &scope)?));
    }
    candidates.sort_by_key(|(index, _)| *index);
    let mut counted = fields.take("usage").and_then(usage::read);
    if counted.is_none() {
        counted = take_groq_usage(&mut fields);
    }
    let mut extras = telling(fields);
    let usage = counted.map(|(usage, rest)| {
        if !rest.is_empty() {
            extras.insert("usage".into(), Value::Object(rest));
        }
        usage
    });
    Ok(Response {
        id,
        model,
        created,
        candidates: candidates.into_iter().map(|(_, candidate)| candidate).collect(),
        usage,
        extras: Extras::from_fields(DialectId::OpenAiChat, extras),
    })
}

fn read_choice(mut choice: Fields, scope: &str) -> Result<Candidate, ChatError> {
    let path = choice.path_of("message");
    let message = choice.object("message")?;
    let is_empty = message.is_none() && choice.get("text").is_none();
    let mut message = message.unwrap_or_else(|| Fields::new(Map::new(), path.clone()));
    // Perplexity repeats the message as an empty delta.
    choice.take("delta");
    message.take("role");
    let sound = message.take("audio");
    let mut parts = read_answer(&mut message, &path, scope)?;
    parts.extend(sound.and_then(audio::read).map(Part::Media));
    // Legacy completions answer with `text`.
    if let Some(Value::String(text)) = choice.take("text").filter(says_something) {
        parts.push(Part::text(text));
    }
    let word = choice.take("finish_reason");
    let stop = read_stop(word.as_ref().and_then(Value::as_str), calls_tools(&parts))?;
    // Azure leaves the message out where its filter took the answer back.
    if is_empty && stop != Some(StopReason::ContentFilter) {
        return Err(ChatError::new(ErrorKind::Upstream, format!("it has no '{path}'.")));
    }
    let (stop, stop_sequence) = with_sequence(stop, &mut choice);
    let mut extras = choice.telling_extras().fields;
    move_logprobs(&mut extras, &mut parts);
    let rest = message.telling_extras().fields;
    if !rest.is_empty() {
        extras.insert("message".into(), Value::Object(rest));
    }
    Ok(Candidate { parts, stop, stop_sequence, extras: Extras::from_fields(DialectId::OpenAiChat, extras) })
}

/// Reads a `finish_reason`. Snowflake writes the empty string; several servers write `stop` beside tool calls.
pub(super) fn read_stop(word: Option<&str>, calls_tools: bool) -> Result<Option<StopReason>, ChatError> {
    match word {
        None => Ok(None),
        Some("error") => Err(ChatError::new(
            ErrorKind::Upstream,
            "The provider ended its answer with finish_reason 'error'. Ask again.",
        )),
        Some("stop" | "") if calls_tools => Ok(Some(StopReason::ToolUse)),
        Some("") => Ok(Some(StopReason::EndTurn)),
        Some(word) => Ok(Some(words::stop_reason(word))),
    }
}

/// vLLM names the stop sequence that was hit as `stop_reason`; a number there is a token id.
pub(super) fn with_sequence(stop: Option<StopReason>, choice: &mut Fields) -> (Option<StopReason>, Option<String>) {
    match (stop, choice.take("stop_reason")) {
        (Some(StopReason::EndTurn), Some(Value::String(sequence))) => (Some(StopReason::StopSequence), Some(sequence)),
        (stop, Some(other)) => {
            choice.put_back("stop_reason", other);
            (stop, None)
        }
        (stop, None) => (stop, None),
    }
}

fn calls_tools(parts: &[Part]) -> bool {
    parts.iter().any(|part| matches!(part, Part::ToolCall(_)))
}

/// Log probabilities of the text stand on the text, where a stream brings them too.
fn move_logprobs(extras: &mut Map<String, Value>, parts: &mut [Part]) {
    let Some(list @ Value::Array(_)) = extras.get("logprobs").and_then(|value| value.get("content")).cloned() else {
        return;
    };
    let text = parts.iter_mut().find_map(|part| match part {
        Part::Text { extras, .. } => Some(extras),
        _ => None,
    });
    if let Some(target) = text {
        extras.shift_remove("logprobs");
        target.dialect = Some(DialectId::OpenAiChat);
        target.fields.insert("logprobs".into(), list);
    }
}

/// Groq writes usage into `x_groq` in streams.
pub(super) fn take_groq_usage(fields: &mut Fields) -> Option<(crate::chat::Usage, Map<String, Value>)> {
    let Some(Value::Object(mut groq)) = fields.take("x_groq") else { return None };
    let counted = groq.shift_remove("usage").and_then(usage::read);
    if !groq.is_empty() {
        fields.put_back("x_groq", Value::Object(groq));
    }
    counted
}

/// Takes a string that is not empty.
pub(super) fn text(fields: &mut Fields, key: &str) -> Option<String> {
    match fields.take(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    }
}

/// Top-level members that say something.
pub(super) fn telling(fields: Fields) -> Map<String, Value> {
    let mut rest = fields.telling_extras().fields;
    rest.retain(|key, value| key != "service_tier" || value != "default");
    rest
}

/// A date as servers write it, as whole seconds.
pub(super) fn unix_seconds(seconds: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = seconds.max(0.0) as u64;
    whole
}

/// Writes a whole answer to a client.
pub(super) fn write(response: &Response, losses: &mut Losses) -> Vec<u8> {
    let own = response.extras.for_dialect(DialectId::OpenAiChat);
    let mut body = Map::new();
    body.insert("id".into(), json!(response.id.as_deref().unwrap_or("chatcmpl-unknown")));
    body.insert("object".into(), json!("chat.completion"));
    body.insert("created".into(), json!(response.created.unwrap_or(0)));
    body.insert("model".into(), json!(response.model.as_deref().unwrap_or_default()));
    let mut choices: Vec<Value> = response
        .candidates
        .iter()
        .enumerate()
        .map(|(index, candidate)| write_choice(index, candidate, losses))
        .collect();
    // A stream keeps the members of its choices here.
    for more in own.and_then(|own| own.get("choices")).and_then(Value::as_array).into_iter().flatten() {
        let index = more.get("index").and_then(Value::as_u64);
        let choice = choices.iter_mut().find(|choice| choice.get("index").and_then(Value::as_u64) == index);
        if let (Some(Value::Object(choice)), Some(more)) = (choice, more.as_object()) {
            for (key, value) in more {
                match (choice.get_mut(key), value) {
                    (Some(Value::Object(message)), Value::Object(more)) => message.extend(more.clone()),
                    (Some(Value::Null) | None, value) => {
                        choice.insert(key.clone(), value.clone());
                    }
                    _ => {}
                }
            }
        }
    }
    body.insert("choices".into(), Value::Array(choices));
    if let Some(counted) = &response.usage {
        let rest = own.and_then(|own| own.get("usage")).and_then(Value::as_object);
        body.insert("usage".into(), usage::write(counted, rest));
    }
    write_extras(&response.extras, "", &mut body, losses);
    Value::Object(body).to_string().into_bytes()
}

fn write_choice(index: usize, candidate: &Candidate, losses: &mut Losses) -> Value {
    let (heard, said): (Vec<&Part>, Vec<&Part>) =
        candidate.parts.iter().partition(|part| matches!(part, Part::Media(part) if audio::is_audio(part)));
    let said = join_text(said, losses);
    let mut message = Map::from_iter([("role".to_owned(), json!("assistant"))]);
    write_answer(&said, Takes::CLIENT, &mut message, losses);
    message.entry("refusal").or_insert(Value::Null);
    for part in heard {
        if let Part::Media(sound) = part {
            message.insert("audio".into(), audio::write(sound));
        }
    }
    let mut extras = candidate.extras.clone();
    if extras.for_dialect(DialectId::OpenAiChat).is_some()
        && let Some(Value::Object(rest)) = extras.fields.shift_remove("message")
    {
        for (key, value) in rest {
            message.entry(key).or_insert(value);
        }
    }
    let reason = candidate.stop.as_ref().map(|reason| words::finish_reason(reason, losses));
    if candidate.stop_sequence.is_some() {
        losses.dropped("stop_sequence");
    }
    let mut choice = Map::new();
    choice.insert("index".into(), json!(index));
    choice.insert("message".into(), Value::Object(message));
    if let Some(list) = logprobs(&said) {
        choice.insert("logprobs".into(), json!({"content": list}));
    }
    write_extras(&extras, "choices", &mut choice, losses);
    choice.entry("logprobs").or_insert(Value::Null);
    choice.insert("finish_reason".into(), json!(reason));
    Value::Object(choice)
}

/// An answer's content is one string: its texts are joined, with what stood on them.
fn join_text(parts: Vec<&Part>, losses: &mut Losses) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts {
        let Part::Text { text: more, signature: proof, extras: fields, .. } = part else {
            joined.push(part.clone());
            continue;
        };
        let slot = joined.iter_mut().find_map(|part| match part {
            Part::Text { text, signature, extras, .. } => Some((text, signature, extras)),
            _ => None,
        });
        let fields = own_extras(fields, losses);
        match slot {
            None => joined.push(Part::Text {
                text: more.clone(),
                cache: None,
                signature: proof.clone(),
                extras: Extras::from_fields(DialectId::OpenAiChat, fields),
            }),
            Some((text, signature, extras)) => {
                text.push_str(more);
                if signature.is_some() && proof.is_some() {
                    losses.dropped("signature");
                }
                *signature = proof.clone().or(signature.take());
                extend_lists(extras, fields);
            }
        }
    }
    joined
}

/// The fields that may go back to this dialect; those of another are lost.
fn own_extras(extras: &Extras, losses: &mut Losses) -> Map<String, Value> {
    let mut own = Map::new();
    write_extras(extras, "content", &mut own, losses);
    own
}

fn extend_lists(extras: &mut Extras, more: Map<String, Value>) {
    for (key, value) in more {
        extras.dialect = Some(DialectId::OpenAiChat);
        match (extras.fields.get_mut(&key), value) {
            (Some(Value::Array(list)), Value::Array(added)) => list.extend(added),
            (_, value) => {
                extras.fields.insert(key, value);
            }
        }
    }
}

fn logprobs(parts: &[Part]) -> Option<&Value> {
    parts.iter().find_map(|part| match part {
        Part::Text { extras, .. } => extras.for_dialect(DialectId::OpenAiChat)?.get("logprobs"),
        _ => None,
    })
}
