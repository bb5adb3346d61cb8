//! A provider's stream: every event is a `GenerateContentResponse` with the next parts.

use super::content::{CallBook, read_part};
use super::fields::Fields;
use super::{error, partial_args, proof, response, usage};
use crate::chat::{
    BlockKind, ChatError, Delta, DialectId, ErrorKind, Event, Extras, Part, ReasoningPart, Signature, StopReason,
};
use crate::dialect::StreamDecoder;
use crate::wire::sse::{SseEvent, SseParser};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Bytes that are no events are kept up to this length, in case they are a whole answer or an error.
const MAX_STRAY: usize = 4 * 1024 * 1024;

/// Reads server-sent events.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    sse: SseParser,
    chunks: Chunks,
    stray: Vec<u8>,
}

impl StreamDecoder for Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        if self.chunks.failed {
            return;
        }
        if let Err(cause) = self.sse.push(bytes) {
            self.chunks.fail(ChatError::new(ErrorKind::Upstream, cause.to_string()), out);
            return;
        }
        while let Some(event) = self.sse.next_event() {
            self.take(&event, out);
        }
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        if let Some(event) = self.sse.finish() {
            self.take(&event, out);
        }
        if self.chunks.begun || self.chunks.failed || self.stray.iter().all(u8::is_ascii_whitespace) {
            return self.chunks.finish(out);
        }
        // Some servers answer a request for a stream with one JSON body.
        match response::read(&self.stray) {
            Ok(answer) => out.extend(answer.into_events()),
            Err(found) => self.chunks.fail(found, out),
        }
    }
}

impl Decoder {
    fn take(&mut self, event: &SseEvent, out: &mut Vec<Event>) {
        let Some(data) = &event.data else {
            if !event.raw.starts_with(b":") && self.stray.len() + event.raw.len() <= MAX_STRAY {
                self.stray.extend_from_slice(&event.raw);
            }
            return;
        };
        if data == "[DONE]" {
            return;
        }
        match serde_json::from_str(data) {
            Ok(chunk) => self.chunks.read(chunk, out),
            Err(cause) => {
                out.push(Event::Skipped {
                    why: format!("an event is not JSON (line {}, {:?})", cause.line(), cause.classify()),
                });
            }
        }
    }
}

/// Reads the chunks of a stream, however they were framed.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    begun: bool,
    failed: bool,
    next_block: usize,
    lanes: BTreeMap<u32, Lane>,
    calls: CallBook,
    /// Counts that only Gemini knows; they are cumulative, so the last ones are told at the end.
    usage_extras: Map<String, Value>,
    /// Extras already told, so that what every chunk repeats is told once.
    told: Map<String, Value>,
}

/// One candidate of the stream.
#[derive(Debug, Default)]
struct Lane {
    open: Option<Open>,
    has_calls: bool,
    stopped: bool,
}

#[derive(Debug)]
enum Open {
    Text(usize),
    Reasoning(usize),
    /// A call whose arguments come in pieces.
    Call(usize, Value),
}

impl Chunks {
    /// Takes one chunk.
    pub(super) fn read(&mut self, chunk: Value, out: &mut Vec<Event>) {
        if self.failed {
            return;
        }
        if error::is_error(&chunk) {
            self.fail(error::read(200, chunk.to_string().as_bytes()), out);
            return;
        }
        let Some(mut fields) = Fields::of(chunk) else {
            out.push(Event::Skipped { why: "an event is no JSON object".into() });
            return;
        };
        let id = fields.take_string("responseId");
        let model = fields.take_string("modelVersion");
        let created = response::take_time(&mut fields);
        if !self.begun {
            self.begun = true;
            self.calls = CallBook::of_response(id.as_deref());
            out.push(Event::Start { id, model, created });
        }
        let metadata = fields.take_object("usageMetadata");
        if let Some(Value::Array(candidates)) = fields.take("candidates") {
            for (at, value) in candidates.into_iter().enumerate() {
                if let Some(candidate) = Fields::of(value) {
                    self.read_candidate(at, candidate, out);
                }
            }
        }
        if let Some(metadata) = metadata {
            let mut extras = Map::new();
            if let Some(usage) = usage::read(metadata, &mut extras) {
                out.push(Event::Usage(usage));
            }
            self.usage_extras.extend(extras);
        }
        let rest = fields.rest();
        let blocked = rest.contains_key("promptFeedback");
        self.tell(rest, out);
        if blocked && self.lanes.is_empty() {
            self.lanes.entry(0).or_default().stopped = true;
            out.push(Event::Stop { candidate: 0, reason: StopReason::ContentFilter, sequence: None });
        }
    }

    /// The stream has ended.
    pub(super) fn finish(&mut self, out: &mut Vec<Event>) {
        if self.failed {
            return;
        }
        for candidate in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.close(candidate, out);
        }
        if !self.begun {
            self.fail(ChatError::new(ErrorKind::Upstream, "the provider's stream is empty (empty stream)"), out);
        } else if self.lanes.is_empty() || self.lanes.values().any(|lane| !lane.stopped) {
            let message = "the provider's stream ended before a finishReason: the answer is not complete";
            self.fail(ChatError::new(ErrorKind::Upstream, message), out);
        } else {
            let extras = std::mem::take(&mut self.usage_extras);
            self.tell(extras, out);
        }
    }

    fn fail(&mut self, error: ChatError, out: &mut Vec<Event>) {
        self.failed = true;
        out.push(Event::Error(error));
    }

    fn tell(&mut self, mut fields: Map<String, Value>, out: &mut Vec<Event>) {
        fields.retain(|name, value| self.told.get(name) != Some(value));
        if fields.is_empty() {
            return;
        }
        for (name, value) in &fields {
            self.told.insert(name.clone(), value.clone());
        }
        out.push(Event::Extras(Extras::from_fields(DialectId::Gemini, fields)));
    }

    fn read_candidate(&mut self, at: usize, mut fields: Fields, out: &mut Vec<Event>) {
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let candidate = fields.take_count("index").and_then(|index| index.try_into().ok()).unwrap_or(at);
        self.lanes.entry(candidate).or_default();
        for part in response::take_parts(&mut fields) {
            self.read_part(candidate, part, out);
        }
        let has_calls = self.lanes.get(&candidate).is_some_and(|lane| lane.has_calls);
        let stop = response::take_stop(&mut fields, has_calls);
        let mut extras = Map::new();
        fields.rest_into(&format!("candidates[{candidate}]"), &mut extras);
        self.tell(extras, out);
        if let Some(reason) = stop {
            self.close(candidate, out);
            let lane = self.lanes.entry(candidate).or_default();
            if !std::mem::replace(&mut lane.stopped, true) {
                out.push(Event::Stop { candidate, reason, sequence: None });
            }
        }
    }

    fn read_part(&mut self, candidate: u32, value: Value, out: &mut Vec<Event>) {
        if let Some(call) = partial_call(&value) {
            return self.read_partial_call(candidate, call, &value, out);
        }
        match read_part(value, &mut self.calls) {
            None | Some(Part::ToolResult(_)) => {}
            Some(Part::Text { text, signature, extras, .. }) => {
                let index = match self.lanes.get(&candidate).and_then(|lane| lane.open.as_ref()) {
                    Some(Open::Text(index)) => *index,
                    _ => self.open(candidate, BlockKind::Text, Open::Text, out),
                };
                push_text(index, text, out);
                if !extras.is_empty() {
                    out.push(Event::Delta { index, delta: Delta::Extras(extras) });
                }
                if let Some(signature) = signature {
                    // A signature belongs to what stands before it; more text is another part.
                    out.push(Event::Delta { index, delta: Delta::Signature(signature) });
                    self.close(candidate, out);
                }
            }
            Some(Part::Reasoning(part)) => self.read_reasoning(candidate, part, out),
            Some(Part::ToolCall(call)) => {
                let kind = BlockKind::ToolCall { id: call.id, name: call.name };
                let index = self.whole(candidate, kind, out);
                self.lanes.entry(candidate).or_default().has_calls = true;
                // Before the arguments: some dialects say the proof at the start of the block, or before it.
                if let Some(signature) = call.signature {
                    out.push(Event::Delta { index, delta: Delta::Signature(signature) });
                }
                out.push(Event::Delta { index, delta: Delta::Arguments(call.arguments) });
                if !call.extras.is_empty() {
                    out.push(Event::Delta { index, delta: Delta::Extras(call.extras) });
                }
                out.push(Event::BlockStop { index });
            }
            Some(Part::Media(media)) => {
                let index = self.whole(candidate, BlockKind::Media(media), out);
                out.push(Event::BlockStop { index });
            }
            Some(Part::Foreign { dialect, value }) => {
                let index = self.whole(candidate, BlockKind::Foreign { dialect, value }, out);
                out.push(Event::BlockStop { index });
            }
            Some(Part::Refusal(text)) => {
                let index = self.whole(candidate, BlockKind::Refusal, out);
                push_text(index, text, out);
                out.push(Event::BlockStop { index });
            }
        }
    }

    fn read_reasoning(&mut self, candidate: u32, part: ReasoningPart, out: &mut Vec<Event>) {
        let index = match self.lanes.get(&candidate).and_then(|lane| lane.open.as_ref()) {
            // What names an item of its own begins one.
            Some(Open::Reasoning(index)) if part.id.is_none() && !part.summary => *index,
            _ => {
                let kind = BlockKind::Reasoning { id: part.id, summary: part.summary };
                self.open(candidate, kind, Open::Reasoning, out)
            }
        };
        push_text(index, part.text, out);
        let proven = part.signature.is_some() || part.encrypted.is_some();
        if let Some(signature) = part.signature {
            out.push(Event::Delta { index, delta: Delta::Signature(signature) });
        }
        if let Some(encrypted) = part.encrypted {
            out.push(Event::Delta { index, delta: Delta::Encrypted(encrypted) });
        }
        if proven {
            self.close(candidate, out);
        }
    }

    /// A call in pieces: the first has the name, the last has no `willContinue`.
    fn read_partial_call(&mut self, candidate: u32, mut call: Fields, part: &Value, out: &mut Vec<Event>) {
        let more = call.take("willContinue").is_some_and(|more| more == true);
        if let Some(name) = call.take_string("name") {
            let id = self.calls.call(call.take_string("id"), &name);
            let arguments = call.take("args").unwrap_or_else(|| json!({}));
            let open = |index| Open::Call(index, arguments);
            let index = self.open(candidate, BlockKind::ToolCall { id, name }, open, out);
            self.lanes.entry(candidate).or_default().has_calls = true;
            if let Some(signature) = signature_of(part) {
                out.push(Event::Delta { index, delta: Delta::Signature(signature) });
            }
        }
        let Some(Open::Call(_, arguments)) = self.lanes.get_mut(&candidate).and_then(|lane| lane.open.as_mut()) else {
            out.push(Event::Skipped { why: "a piece of a function call belongs to no call".into() });
            return;
        };
        if let Some(Value::Array(pieces)) = call.take("partialArgs") {
            for piece in pieces {
                if !partial_args::apply(piece, arguments) {
                    out.push(Event::Skipped { why: "a partial argument has no readable place".into() });
                }
            }
        }
        if !more {
            self.close(candidate, out);
        }
    }

    /// Opens a block that stays open; `hold` says as what.
    fn open(
        &mut self,
        candidate: u32,
        kind: BlockKind,
        hold: impl FnOnce(usize) -> Open,
        out: &mut Vec<Event>,
    ) -> usize {
        let index = self.whole(candidate, kind, out);
        self.lanes.entry(candidate).or_default().open = Some(hold(index));
        index
    }

    /// Begins a block after closing the one before.
    fn whole(&mut self, candidate: u32, kind: BlockKind, out: &mut Vec<Event>) -> usize {
        self.close(candidate, out);
        let index = self.next_block;
        self.next_block += 1;
        out.push(Event::BlockStart { index, candidate, kind });
        index
    }

    fn close(&mut self, candidate: u32, out: &mut Vec<Event>) {
        match self.lanes.get_mut(&candidate).and_then(|lane| lane.open.take()) {
            None => {}
            Some(Open::Text(index) | Open::Reasoning(index)) => out.push(Event::BlockStop { index }),
            Some(Open::Call(index, arguments)) => {
                out.push(Event::Delta { index, delta: Delta::Arguments(arguments.to_string()) });
                out.push(Event::BlockStop { index });
            }
        }
    }
}

fn push_text(index: usize, text: String, out: &mut Vec<Event>) {
    if !text.is_empty() {
        out.push(Event::Delta { index, delta: Delta::Text(text) });
    }
}

/// The `functionCall` of a part, if it is a piece of one.
fn partial_call(part: &Value) -> Option<Fields> {
    let call = part.get("functionCall").or_else(|| part.get("function_call"))?;
    let has = |name: &str| call.get(name).is_some();
    let is_piece = has("partialArgs") || has("willContinue") || !has("name");
    is_piece.then(|| Fields::of(call.clone())).flatten()
}

fn signature_of(part: &Value) -> Option<Signature> {
    let text = part.get("thoughtSignature").or_else(|| part.get("thought_signature"))?.as_str()?;
    proof::read(text)
}
