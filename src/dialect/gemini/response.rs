//! `GenerateContentResponse`: <https://ai.google.dev/api/generate-content#generatecontentresponse>.

use super::content::{CallBook, read_part, write_extras, write_part};
use super::decode::Chunks;
use super::fields::Fields;
use super::proof::Towards;
use super::{error, usage};
use crate::chat::{Candidate, ChatError, Collector, DialectId, ErrorKind, Extras, Losses, Part, Response, StopReason};
use crate::wire::timestamp;
use serde_json::{Map, Value, json};

/// Reads a whole answer; also the JSON array that `streamGenerateContent` gives without `alt=sse`.
pub(super) fn read(body: &[u8]) -> Result<Response, ChatError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|cause| ChatError::new(ErrorKind::Upstream, format!("the provider's answer is not JSON: {cause}")))?;
    if error::is_error(&value) {
        return Err(error::read(200, body));
    }
    if let Value::Array(chunks) = value {
        let (mut reader, mut events) = (Chunks::default(), Vec::new());
        for chunk in chunks {
            reader.read(chunk, &mut events);
        }
        reader.finish(&mut events);
        let mut collector = Collector::default();
        events.iter().for_each(|event| collector.push(event));
        return collector.finish();
    }
    let response = Fields::of(value).map(read_fields).filter(|response| !response.candidates.is_empty());
    // A prompt that was blocked counts as a candidate; token counts alone do not.
    response.ok_or_else(|| {
        let message =
            "the provider's answer is no GenerateContentResponse: it has neither candidates nor promptFeedback";
        ChatError::new(ErrorKind::Upstream, message)
    })
}

fn read_fields(mut fields: Fields) -> Response {
    let mut extras = Map::new();
    let mut response = Response {
        id: fields.take_string("responseId"),
        model: fields.take_string("modelVersion"),
        created: take_time(&mut fields),
        ..Response::default()
    };
    if let Some(metadata) = fields.take_object("usageMetadata") {
        response.usage = usage::read(metadata, &mut extras);
    }
    let candidates = match fields.take("candidates") {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    };
    let mut calls = CallBook::of_response(response.id.as_deref());
    response.candidates = candidates.into_iter().filter_map(|value| read_candidate(value, &mut calls)).collect();
    extras.extend(fields.rest());
    if response.candidates.is_empty() && extras.contains_key("promptFeedback") {
        response.candidates.push(Candidate { stop: Some(StopReason::ContentFilter), ..Candidate::default() });
    }
    response.extras = Extras::from_fields(DialectId::Gemini, extras);
    response
}

fn read_candidate(value: Value, calls: &mut CallBook) -> Option<Candidate> {
    let mut fields = Fields::of(value)?;
    fields.take("index");
    let parts: Vec<Part> = take_parts(&mut fields).into_iter().filter_map(|part| read_part(part, calls)).collect();
    let mut candidate = Candidate { parts, ..Candidate::default() };
    let has_calls = candidate.parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
    candidate.stop = take_stop(&mut fields, has_calls);
    candidate.extras = Extras::from_fields(DialectId::Gemini, fields.rest());
    Some(candidate)
}

/// Unix seconds of `createTime`; a time that cannot be read stays where it is.
pub(super) fn take_time(fields: &mut Fields) -> Option<u64> {
    let text = fields.take_string("createTime")?;
    let time = timestamp::read(&text);
    if time.is_none() {
        fields.put("createTime", text.into());
    }
    time
}

/// The parts of a candidate's `content`.
pub(super) fn take_parts(candidate: &mut Fields) -> Vec<Value> {
    match candidate.take_object("content").and_then(|mut content| content.take("parts")) {
        Some(Value::Array(parts)) => parts,
        _ => Vec::new(),
    }
}

/// Takes `finishReason`. A word that the neutral reason cannot bring back stays where it is.
pub(super) fn take_stop(candidate: &mut Fields, has_calls: bool) -> Option<StopReason> {
    let value = candidate.take("finishReason")?;
    let stop = match &value {
        Value::String(word) => read_stop(word, has_calls),
        // Some SDKs record the proto's number; these are the same in the Gemini API and in Vertex AI.
        Value::Number(number) => match number.as_u64() {
            Some(0) => return None,
            Some(1) => read_stop("STOP", has_calls),
            Some(2) => StopReason::MaxTokens,
            Some(3 | 4) => StopReason::ContentFilter,
            _ => StopReason::Other("OTHER".into()),
        },
        _ => StopReason::Other("OTHER".into()),
    };
    let comes_back = value.as_str().is_none_or(|word| write_stop(&stop, &mut Losses::new()) == word);
    if value == "FINISH_REASON_UNSPECIFIED" {
        return None;
    }
    if !comes_back {
        candidate.put("finishReason", value);
    }
    Some(stop)
}

fn read_stop(word: &str, has_calls: bool) -> StopReason {
    match word {
        "STOP" if has_calls => StopReason::ToolUse,
        "STOP" => StopReason::EndTurn,
        "MAX_TOKENS" => StopReason::MaxTokens,
        "SAFETY"
        | "RECITATION"
        | "BLOCKLIST"
        | "PROHIBITED_CONTENT"
        | "SPII"
        | "MODEL_ARMOR"
        | "JAILBREAK"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => StopReason::ContentFilter,
        "MALFORMED_FUNCTION_CALL" => StopReason::MalformedToolCall,
        other => StopReason::Other(other.to_owned()),
    }
}

/// Words that Gemini's SDKs know and no neutral reason stands for.
const OWN_WORDS: [&str; 7] = [
    "LANGUAGE",
    "OTHER",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "NO_IMAGE",
    "IMAGE_OTHER",
    "MISSING_THOUGHT_SIGNATURE",
];

/// The `finishReason` of a stop reason.
pub(super) fn write_stop(stop: &StopReason, losses: &mut Losses) -> &'static str {
    match stop {
        StopReason::EndTurn | StopReason::ToolUse => "STOP",
        StopReason::StopSequence | StopReason::PauseTurn => {
            losses.approximated("stop_reason");
            "STOP"
        }
        StopReason::MaxTokens => "MAX_TOKENS",
        StopReason::ContextWindow => {
            losses.approximated("stop_reason");
            "MAX_TOKENS"
        }
        StopReason::ContentFilter => "SAFETY",
        StopReason::Refusal => {
            losses.approximated("stop_reason");
            "SAFETY"
        }
        StopReason::MalformedToolCall => "MALFORMED_FUNCTION_CALL",
        StopReason::Other(word) => OWN_WORDS.into_iter().find(|own| own == word).unwrap_or_else(|| {
            losses.approximated("stop_reason");
            "OTHER"
        }),
    }
}

/// Writes a whole answer to a client.
pub(super) fn write(response: &Response, losses: &mut Losses) -> Value {
    let mut body = Map::new();
    let own = response.extras.for_dialect(DialectId::Gemini);
    let blocked = own.is_some_and(|fields| fields.contains_key("promptFeedback"))
        && response.candidates.iter().all(|candidate| candidate.parts.is_empty());
    if !blocked {
        let candidates = response.candidates.iter().enumerate();
        body.insert("candidates".into(), candidates.map(|(index, it)| write_candidate(index, it, losses)).collect());
    }
    write_extras(&response.extras, &mut body, losses);
    write_frame(response.id.as_deref(), response.model.as_deref(), response.created, &mut body);
    if let Some(usage) = &response.usage {
        usage::write(usage, &mut body, losses);
    }
    Value::Object(body)
}

/// The members that every answer and every chunk of a stream has.
pub(super) fn write_frame(id: Option<&str>, model: Option<&str>, created: Option<u64>, body: &mut Map<String, Value>) {
    for (name, value) in [("modelVersion", model), ("responseId", id)] {
        if let Some(value) = value {
            body.insert(name.into(), value.into());
        }
    }
    if let Some(seconds) = created {
        body.insert("createTime".into(), timestamp::write(seconds).into());
    }
}

fn write_candidate(index: usize, candidate: &Candidate, losses: &mut Losses) -> Value {
    let parts: Vec<Value> =
        candidate.parts.iter().filter_map(|part| write_part(part, Towards::Client, losses)).collect();
    let mut out = Map::new();
    out.insert("content".into(), json!({ "parts": parts, "role": "model" }));
    if let Some(stop) = &candidate.stop {
        out.insert("finishReason".into(), write_stop(stop, losses).into());
    }
    if candidate.stop_sequence.is_some() {
        losses.dropped("stop_sequence");
    }
    out.insert("index".into(), index.into());
    write_extras(&candidate.extras, &mut out, losses);
    Value::Object(out)
}
