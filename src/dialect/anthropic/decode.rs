//! The stream of a provider: `message_start`, blocks, `message_delta`, `message_stop`.

use super::blocks::read_call;
use super::fields::{Fields, dotted};
use super::sealed::{self, Place};
use super::usage::Tally;
use super::{ID, error, response, stop};
use crate::chat::{BlockKind, ChatError, Delta, ErrorKind, Event, Extras, Signature};
use crate::dialect::StreamDecoder;
use crate::wire::sse::{SseEvent, SseParser};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};

/// Reads a stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    sse: SseParser,
    /// The blocks that have begun and not ended, by their index on the wire.
    open: BTreeMap<u64, Open>,
    /// The number of the next block.
    next: usize,
    /// The reasoning that an encrypted half may follow.
    last_reasoning: Option<usize>,
    /// Numbers of the tool calls by id, and signatures that came before their call.
    calls: HashMap<String, usize>,
    call_signatures: HashMap<String, Signature>,
    tally: Tally,
    has_events: bool,
    has_stop: bool,
    is_over: bool,
    /// A body that is no event stream.
    stray: Vec<u8>,
}

/// A block that has begun.
#[derive(Debug)]
enum Open {
    /// One that is passed on as it comes.
    Flowing { index: usize },
    /// A tool call; some servers give the arguments whole, at the start.
    Call { index: usize, whole: Option<String> },
    /// One of this dialect's own, kept until it is whole.
    Foreign { index: usize, value: Map<String, Value>, input: String },
    /// One that has said everything at its start.
    Done,
}

/// How much of a body that is no event stream is kept, in bytes.
const MAX_STRAY: usize = 4 * 1024 * 1024;

impl StreamDecoder for Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        if self.is_over {
            return;
        }
        if let Err(too_large) = self.sse.push(bytes) {
            self.fail(ChatError::new(ErrorKind::Upstream, too_large.to_string()), out);
            return;
        }
        while let Some(event) = self.sse.next_event() {
            self.take(event, out);
        }
    }

    fn is_complete(&self) -> bool {
        self.is_over
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        if let Some(event) = self.sse.finish() {
            self.take(event, out);
        }
        if self.is_over {
            return;
        }
        if self.has_stop {
            self.close_all(out);
            self.is_over = true;
            return;
        }
        let error = if self.has_events {
            let message = "the provider's stream was cut before the answer was complete; ask again";
            ChatError::new(ErrorKind::Upstream, message)
        } else if self.stray.iter().all(u8::is_ascii_whitespace) {
            ChatError::new(ErrorKind::Upstream, "the provider sent an empty stream")
        } else {
            return self.whole_answer(out);
        };
        self.fail(error, out);
    }
}

impl Decoder {
    fn take(&mut self, event: SseEvent, out: &mut Vec<Event>) {
        if self.is_over {
            return;
        }
        let Some(data) = event.data else {
            if !self.has_events && !event.raw.starts_with(b":") {
                let room = MAX_STRAY.saturating_sub(self.stray.len()).min(event.raw.len());
                self.stray.extend_from_slice(&event.raw[..room]);
            }
            return;
        };
        if data.trim() == "[DONE]" {
            return;
        }
        let step = match serde_json::from_str::<Value>(&data) {
            Ok(value) => self.event(value, &event.event, out),
            Err(_) if event.event == "error" => {
                self.fail(error::parse_in_success(data.as_bytes()), out);
                Ok(())
            }
            Err(error) => Err(format!("an event that is not valid JSON ({error})")),
        };
        if let Err(why) = step {
            out.push(Event::Skipped { why });
        }
    }

    /// One event; the type in the data counts, and the SSE field only where the data has none.
    fn event(&mut self, mut value: Value, name: &str, out: &mut Vec<Event>) -> Result<(), String> {
        if !value.is_object() {
            return Err("an event that is no JSON object".to_owned());
        }
        // Compatible servers leave the type out of an error.
        let name = if name.is_empty() && value.get("error").is_some() { "error" } else { name };
        let kind = value.get("type").and_then(Value::as_str).unwrap_or(name).to_owned();
        match kind.as_str() {
            "message_start" => {
                self.has_events = true;
                self.message_start(value["message"].take(), out)
            }
            "content_block_start" => {
                self.has_events = true;
                let block = value["content_block"].take();
                self.block_start(wire_index(&value)?, block, out)
            }
            "content_block_delta" => {
                let delta = value["delta"].take();
                self.block_delta(wire_index(&value)?, delta, out)
            }
            "content_block_stop" => {
                if let Some(open) = self.open.remove(&wire_index(&value)?) {
                    close(open, out);
                }
                Ok(())
            }
            "message_delta" => {
                self.has_events = true;
                self.message_delta(value, out)
            }
            "message_stop" => {
                if self.has_stop {
                    self.close_all(out);
                    self.is_over = true;
                }
                Ok(())
            }
            "error" => {
                let error = error::read(None, &value).unwrap_or_else(|| {
                    ChatError::new(ErrorKind::Upstream, "the provider's stream ended with an error that says nothing")
                });
                self.fail(error, out);
                Ok(())
            }
            // `ping`, and whatever comes later: the API's versioning page says that new events may be added.
            _ => Ok(()),
        }
    }

    /// Some servers answer a request for a stream with one JSON body.
    fn whole_answer(&mut self, out: &mut Vec<Event>) {
        match response::parse(&self.stray) {
            Ok(response) => {
                self.is_over = true;
                out.extend(response.into_events());
            }
            Err(error) => self.fail(error, out),
        }
    }

    fn message_start(&mut self, message: Value, out: &mut Vec<Event>) -> Result<(), String> {
        let mut fields = Fields::new(message, "message").map_err(said)?;
        let id = fields.string("id").map_err(said)?;
        let model = fields.string("model").map_err(said)?;
        for frame in ["type", "role", "content", "stop_reason", "stop_sequence"] {
            fields.take(frame);
        }
        out.push(Event::Start { id, model, created: None });
        self.count(fields.take("usage"), fields.rest(), out);
        Ok(())
    }

    fn message_delta(&mut self, value: Value, out: &mut Vec<Event>) -> Result<(), String> {
        let mut fields = Fields::new(value, "").map_err(said)?;
        fields.take("type");
        let mut extras = Map::new();
        if let Some(mut delta) = fields.object("delta").map_err(said)? {
            let reason = delta.string("stop_reason").map_err(said)?;
            let sequence = delta.string("stop_sequence").map_err(said)?;
            if let Some(reason) = reason {
                self.close_all(out);
                self.has_stop = true;
                out.push(Event::Stop { candidate: 0, reason: stop::read(&reason), sequence });
            }
            extras = delta.rest();
        }
        let usage = fields.take("usage");
        extras.extend(fields.rest());
        self.count(usage, extras, out);
        Ok(())
    }

    /// Token counts, and the fields of the answer that only this dialect knows.
    fn count(&mut self, usage: Option<Value>, mut extras: Map<String, Value>, out: &mut Vec<Event>) {
        if let Some(usage) = usage {
            self.tally.absorb(usage);
            out.extend(self.tally.usage().map(Event::Usage));
            extras.extend(dotted("usage", std::mem::take(&mut self.tally.rest)));
        }
        if !extras.is_empty() {
            out.push(Event::Extras(Extras::from_fields(ID, extras)));
        }
    }

    fn block_start(&mut self, at: u64, block: Value, out: &mut Vec<Event>) -> Result<(), String> {
        let mut fields = Fields::new(block, "content_block").map_err(said)?;
        let kind = fields.required_string("type").map_err(said)?;
        let open = match kind.as_str() {
            "text" => {
                let text = fields.string("text").map_err(said)?.unwrap_or_default();
                let index = self.begin(BlockKind::Text, out);
                push_text(index, text, out);
                push_extras(index, empty_lists_out(fields.rest()), out);
                Open::Flowing { index }
            }
            "thinking" => {
                let text = fields.string("thinking").map_err(said)?.unwrap_or_default();
                let signature = fields.string("signature").map_err(said)?.unwrap_or_default();
                let (place, signature) = sealed::open(&signature);
                let index = self.begin(reasoning(place), out);
                self.last_reasoning = Some(index);
                push_text(index, text, out);
                out.extend(signature.map(|signature| Event::Delta { index, delta: Delta::Signature(signature) }));
                Open::Flowing { index }
            }
            "redacted_thinking" => {
                let data = fields.required_string("data").map_err(said)?;
                self.redacted(&data, out);
                Open::Done
            }
            "tool_use" => {
                let call = read_call(fields).map_err(said)?;
                let index = self.begin(BlockKind::ToolCall { id: call.id.clone(), name: call.name }, out);
                push_extras(index, call.extras.fields, out);
                if let Some(signature) = self.call_signatures.remove(&call.id) {
                    out.push(Event::Delta { index, delta: Delta::Signature(signature) });
                }
                self.calls.insert(call.id, index);
                let whole = Some(call.arguments).filter(|arguments| !matches!(arguments.as_str(), "" | "{}"));
                Open::Call { index, whole }
            }
            _ => {
                let index = self.next;
                self.next += 1;
                let mut value = Map::from_iter([("type".to_owned(), Value::from(kind))]);
                value.extend(fields.rest());
                Open::Foreign { index, value, input: String::new() }
            }
        };
        if let Some(unended) = self.open.insert(at, open) {
            close(unended, out);
        }
        Ok(())
    }

    fn block_delta(&mut self, at: u64, delta: Value, out: &mut Vec<Event>) -> Result<(), String> {
        let mut fields = Fields::new(delta, "delta").map_err(said)?;
        let kind = fields.required_string("type").map_err(said)?;
        self.begin_unannounced(at, &kind, out);
        let Some(open) = self.open.get_mut(&at) else {
            return Err("a delta of a block that has not begun".to_owned());
        };
        if let Open::Foreign { value, input, .. } = open {
            match fields.string("partial_json").map_err(said)? {
                Some(more) => input.push_str(&more),
                None => grow(value, fields.rest()),
            }
            return Ok(());
        }
        let delta = match kind.as_str() {
            "text_delta" => Delta::Text(fields.string("text").map_err(said)?.unwrap_or_default()),
            "thinking_delta" => Delta::Text(fields.string("thinking").map_err(said)?.unwrap_or_default()),
            "input_json_delta" => Delta::Arguments(fields.string("partial_json").map_err(said)?.unwrap_or_default()),
            "signature_delta" => {
                let signature = fields.string("signature").map_err(said)?.unwrap_or_default();
                let Some(signature) = sealed::open(&signature).1 else { return Ok(()) };
                Delta::Signature(signature)
            }
            "citations_delta" => {
                let citations = Value::Array(fields.take("citation").into_iter().collect());
                Delta::Extras(Extras::from_fields(ID, Map::from_iter([("citations".to_owned(), citations)])))
            }
            other => return Err(format!("a delta of the unknown type {}", other.chars().take(40).collect::<String>())),
        };
        let index = match open {
            Open::Flowing { index } => *index,
            Open::Call { index, whole } => {
                *whole = whole.take().filter(|_| matches!(&delta, Delta::Arguments(more) if more.is_empty()));
                *index
            }
            Open::Foreign { .. } | Open::Done => return Ok(()),
        };
        let is_empty = matches!(&delta, Delta::Text(more) | Delta::Arguments(more) if more.is_empty());
        if !is_empty {
            out.push(Event::Delta { index, delta });
        }
        Ok(())
    }

    /// A `redacted_thinking` block: encrypted reasoning, or a signature on its way to the block it belongs to.
    fn redacted(&mut self, data: &str, out: &mut Vec<Event>) {
        let (place, signature) = sealed::open(data);
        let Some(signature) = signature else { return };
        let last = self.next.checked_sub(1);
        let index = match place {
            Place::Rest if last.is_some() && last == self.last_reasoning => {
                out.extend(last.map(|index| Event::Delta { index, delta: Delta::Encrypted(signature) }));
                return;
            }
            Place::Reasoning { .. } | Place::Rest => {
                let index = self.begin(reasoning(place), out);
                out.push(Event::Delta { index, delta: Delta::Encrypted(signature) });
                out.push(Event::BlockStop { index });
                return;
            }
            Place::Call(id) => match self.calls.get(&id) {
                Some(index) => *index,
                None => {
                    self.call_signatures.insert(id, signature);
                    return;
                }
            },
        };
        out.push(Event::Delta { index, delta: Delta::Signature(signature) });
    }

    /// A block whose `content_block_start` could not be read begins with its first text: its delta says what it is.
    fn begin_unannounced(&mut self, at: u64, delta: &str, out: &mut Vec<Event>) {
        if self.open.contains_key(&at) {
            return;
        }
        let kind = match delta {
            "text_delta" => BlockKind::Text,
            "thinking_delta" => {
                self.last_reasoning = Some(self.next);
                BlockKind::Reasoning { id: None, summary: false }
            }
            _ => return,
        };
        let index = self.begin(kind, out);
        self.open.insert(at, Open::Flowing { index });
    }

    fn begin(&mut self, kind: BlockKind, out: &mut Vec<Event>) -> usize {
        let index = self.next;
        self.next += 1;
        out.push(Event::BlockStart { index, candidate: 0, kind });
        index
    }

    fn close_all(&mut self, out: &mut Vec<Event>) {
        for (_, open) in std::mem::take(&mut self.open) {
            close(open, out);
        }
    }

    fn fail(&mut self, error: ChatError, out: &mut Vec<Event>) {
        self.is_over = true;
        out.push(Event::Error(error));
    }
}

fn close(open: Open, out: &mut Vec<Event>) {
    let index = match open {
        Open::Done => return,
        Open::Flowing { index } => index,
        Open::Call { index, whole } => {
            out.extend(whole.map(|arguments| Event::Delta { index, delta: Delta::Arguments(arguments) }));
            index
        }
        Open::Foreign { index, mut value, input } => {
            if !input.is_empty() {
                let input = serde_json::from_str(&input).unwrap_or(Value::String(input));
                value.insert("input".to_owned(), input);
            }
            let kind = BlockKind::Foreign { dialect: ID, value: Value::Object(value) };
            out.push(Event::BlockStart { index, candidate: 0, kind });
            index
        }
    };
    out.push(Event::BlockStop { index });
}

/// Adds the members of a delta to a block of this dialect's own: texts are appended, the rest replaced.
fn grow(block: &mut Map<String, Value>, delta: Map<String, Value>) {
    for (name, more) in delta {
        match (block.get_mut(&name), more) {
            (Some(Value::String(text)), Value::String(more)) => text.push_str(&more),
            (_, more) => {
                block.insert(name, more);
            }
        }
    }
}

fn reasoning(place: Place) -> BlockKind {
    match place {
        Place::Reasoning { id, summary } => BlockKind::Reasoning { id, summary },
        _ => BlockKind::Reasoning { id: None, summary: false },
    }
}

fn push_text(index: usize, text: String, out: &mut Vec<Event>) {
    if !text.is_empty() {
        out.push(Event::Delta { index, delta: Delta::Text(text) });
    }
}

fn push_extras(index: usize, fields: Map<String, Value>, out: &mut Vec<Event>) {
    if !fields.is_empty() {
        out.push(Event::Delta { index, delta: Delta::Extras(Extras::from_fields(ID, fields)) });
    }
}

/// A text with citations begins with an empty list of them.
fn empty_lists_out(mut fields: Map<String, Value>) -> Map<String, Value> {
    fields.retain(|_, value| value.as_array().is_none_or(|list| !list.is_empty()));
    fields
}

fn wire_index(value: &Value) -> Result<u64, String> {
    value.get("index").and_then(Value::as_u64).ok_or_else(|| "an event of a block without its index".to_owned())
}

fn said(error: ChatError) -> String {
    error.message
}
