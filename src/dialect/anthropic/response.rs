//! The whole answer: the `Message` object of Anthropic's API, version 2023-06-01.

use super::blocks::{BlockWriter, Reader, read_blocks};
use super::fields::{Fields, dotted, put_extras};
use super::usage::{self, Tally};
use super::{error, stop};
use crate::chat::{Candidate, ChatError, ErrorKind, Extras, Losses, Response, Usage};
use crate::dialect::Summary;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};
use std::borrow::Cow;

/// Reads a whole answer.
pub(super) fn parse(body: &[u8]) -> Result<Response, ChatError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| upstream(format!("the provider's answer is not valid JSON ({error})")))?;
    if value.get("type").is_some_and(|kind| kind == "error") || value.get("content").is_none() {
        return Err(error::parse_in_success(body));
    }
    read(value).map_err(|error| upstream(format!("the provider's answer cannot be read: {error}")))
}

/// Reads model and token counts alone, in one pass that checks the text and builds nothing. Where something is not as in any
/// answer, all of it is read, by [`parse`].
pub(super) fn summarise(body: &[u8]) -> Result<Summary, ChatError> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        model: Option<String>,
        #[serde(rename = "content")]
        _content: Vec<IgnoredAny>,
        usage: Option<Value>,
    }
    match serde_json::from_slice::<Answer<'_>>(body) {
        Ok(answer) if answer.kind == "message" => {
            let mut tally = Tally::default();
            tally.absorb(answer.usage.unwrap_or_default());
            Ok(Summary { model: answer.model, usage: tally.usage() })
        }
        _ => parse(body).map(Summary::from),
    }
}

fn upstream(message: String) -> ChatError {
    ChatError::new(ErrorKind::Upstream, message)
}

fn read(value: Value) -> Result<Response, ChatError> {
    let mut fields = Fields::new(value, "")?;
    for frame in ["type", "role"] {
        fields.take(frame);
    }
    let id = fields.string("id")?;
    let model = fields.string("model")?;
    let parts = read_blocks(fields.list("content")?.unwrap_or_default(), "content")?;
    let stop = fields.string("stop_reason")?.map(|word| stop::read(&word));
    let stop_sequence = fields.string("stop_sequence")?;
    let mut tally = Tally::default();
    if let Some(usage) = fields.take("usage") {
        tally.absorb(usage);
    }
    let usage = tally.usage();
    for (name, value) in dotted("usage", tally.rest) {
        fields.put_back(&name, value);
    }
    let candidate = Candidate { parts, stop, stop_sequence, extras: Extras::default() };
    Ok(Response { id, model, created: None, candidates: vec![candidate], usage, extras: fields.extras() })
}

/// Writes a whole answer. `created` has no place here and, being the frame's and not the answer's, is no loss.
pub(super) fn write(response: &Response, losses: &mut Losses) -> Vec<u8> {
    if response.candidates.len() > 1 {
        losses.dropped("choices");
    }
    let nothing = Candidate::default();
    let candidate = response.candidates.first().unwrap_or(&nothing);
    let content = BlockWriter { reader: Reader::Client, losses }.blocks(&candidate.parts);
    let mut body = Map::new();
    body.insert("id".to_owned(), json!(response.id.as_deref().unwrap_or(UNNAMED)));
    body.insert("type".to_owned(), json!("message"));
    body.insert("role".to_owned(), json!("assistant"));
    body.insert("model".to_owned(), json!(response.model.as_deref().unwrap_or_default()));
    body.insert("content".to_owned(), Value::Array(content));
    body.insert("stop_reason".to_owned(), json!(candidate.stop.as_ref().map(|reason| stop::write(reason, losses))));
    body.insert("stop_sequence".to_owned(), json!(candidate.stop_sequence));
    body.insert("usage".to_owned(), Value::Object(write_usage(response.usage.as_ref(), losses)));
    put_extras(&mut body, &response.extras, "", losses);
    if !candidate.extras.is_empty() {
        let mut choice = Map::new();
        put_extras(&mut choice, &candidate.extras, "choices.", losses);
    }
    Value::Object(body).to_string().into_bytes()
}

/// The id where the provider gave none: SDKs demand one.
pub(super) const UNNAMED: &str = "msg_bifrost";

/// The counts; SDKs demand them, so unknown ones are zeros, and a loss.
pub(super) fn write_usage(usage: Option<&Usage>, losses: &mut Losses) -> Map<String, Value> {
    if usage.is_none() {
        losses.approximated("usage");
    }
    usage::write(usage.unwrap_or(&Usage::default()))
}
