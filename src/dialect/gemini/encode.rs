//! A stream to a client: server-sent events, or one JSON array (`streamGenerateContent` without `alt=sse`).

use super::content::{write_extras, write_part};
use super::error;
use super::proof::{self, Towards};
use super::response::{write_frame, write_stop};
use super::usage;
use crate::chat::{
    BlockKind, ChatError, Delta, DialectId, Event, Extras, Losses, Part, ReasoningPart, Signature, ToolCall, Usage,
};
use crate::dialect::{StreamEncoder, StreamOptions};
use crate::wire::sse::write_event;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Writes the chunks. Gemini has no blocks: text goes out as it comes, everything else as one whole part, and the finish
/// reasons and the usage together in the last chunk.
pub(super) struct Encoder {
    json_array: bool,
    id: String,
    model: String,
    created: Option<u64>,
    blocks: BTreeMap<usize, (u32, Block)>,
    /// The last words on each candidate, for the last chunk.
    stops: BTreeMap<u32, Map<String, Value>>,
    /// What is told in the last chunk besides the finish reasons: usage that only Gemini knows.
    last: Map<String, Value>,
    usage: Option<Usage>,
    /// A chunk has been written.
    begun: bool,
    /// Nothing may follow.
    ended: bool,
}

/// What is held of a block until it ends.
enum Block {
    Text(Option<Signature>, Extras),
    Reasoning(ReasoningPart),
    Call(ToolCall),
    Whole,
}

impl Encoder {
    pub(super) fn new(options: &StreamOptions) -> Self {
        Self {
            json_array: options.json_array,
            id: options.id.clone(),
            model: options.model.clone(),
            created: (options.created > 0).then_some(options.created),
            blocks: BTreeMap::new(),
            stops: BTreeMap::new(),
            last: Map::new(),
            usage: None,
            begun: false,
            ended: false,
        }
    }

    fn write_value(&mut self, value: &Value, out: &mut Vec<u8>) {
        let text = value.to_string();
        if self.json_array {
            out.extend_from_slice(if self.begun { b",\r\n" } else { b"[" });
            out.extend_from_slice(text.as_bytes());
        } else {
            write_event(None, text.as_bytes(), out);
        }
        self.begun = true;
    }

    fn write_chunk(&mut self, mut body: Map<String, Value>, out: &mut Vec<u8>) {
        write_frame(non_empty(&self.id), non_empty(&self.model), self.created, &mut body);
        self.write_value(&Value::Object(body), out);
    }

    fn write_part(&mut self, candidate: u32, part: Value, out: &mut Vec<u8>) {
        let content = json!({ "content": { "parts": [part], "role": "model" }, "index": candidate });
        self.write_chunk(Map::from_iter([("candidates".to_owned(), json!([content]))]), out);
    }

    fn start_block(&mut self, index: usize, candidate: u32, kind: &BlockKind, out: &mut Vec<u8>, losses: &mut Losses) {
        let block = match kind {
            BlockKind::Text => Block::Text(None, Extras::default()),
            BlockKind::Refusal => {
                losses.approximated("refusal");
                Block::Text(None, Extras::default())
            }
            BlockKind::Reasoning { id, summary } => {
                // What is known of a foreign item only at its start goes in front of its text, sealed on its own.
                let head = ReasoningPart { id: id.clone(), summary: *summary, ..ReasoningPart::default() };
                if let Some(proof) = proof::write_reasoning(&head, losses) {
                    self.write_part(candidate, json!({ "text": "", "thought": true, "thoughtSignature": proof }), out);
                }
                Block::Reasoning(ReasoningPart::default())
            }
            BlockKind::ToolCall { id, name } => Block::Call(ToolCall {
                id: id.clone(),
                name: name.clone(),
                arguments: String::new(),
                signature: None,
                cache: None,
                extras: Extras::default(),
            }),
            BlockKind::Media(media) => {
                if let Some(part) = write_part(&Part::Media(media.clone()), Towards::Client, losses) {
                    self.write_part(candidate, part, out);
                }
                Block::Whole
            }
            BlockKind::Foreign { dialect, value } => {
                let part = Part::Foreign { dialect: *dialect, value: value.clone() };
                if let Some(part) = write_part(&part, Towards::Client, losses) {
                    self.write_part(candidate, part, out);
                }
                Block::Whole
            }
        };
        self.blocks.insert(index, (candidate, block));
    }

    fn delta(&mut self, index: usize, delta: &Delta, out: &mut Vec<u8>, losses: &mut Losses) {
        let Some((candidate, block)) = self.blocks.get_mut(&index) else { return };
        let candidate = *candidate;
        match (block, delta) {
            (_, Delta::Text(text)) if text.is_empty() => {}
            (Block::Text(..), Delta::Text(text)) => self.write_part(candidate, json!({ "text": text }), out),
            (Block::Reasoning(_), Delta::Text(text)) => {
                self.write_part(candidate, json!({ "text": text, "thought": true }), out);
            }
            (Block::Call(call), Delta::Arguments(text)) => call.arguments.push_str(text),
            (Block::Call(call), Delta::Signature(signature)) => call.signature = Some(signature.clone()),
            (Block::Call(call), Delta::Extras(extras)) => call.extras = extras.clone(),
            (Block::Reasoning(part), Delta::Signature(signature)) => part.signature = Some(signature.clone()),
            (Block::Reasoning(part), Delta::Encrypted(encrypted)) => part.encrypted = Some(encrypted.clone()),
            (Block::Text(held, _), Delta::Signature(signature)) => *held = Some(signature.clone()),
            (Block::Text(_, held), Delta::Extras(extras)) if extras.dialect == Some(DialectId::Gemini) => {
                held.dialect = extras.dialect;
                held.fields.extend(extras.fields.clone());
            }
            (_, Delta::Extras(extras)) => write_extras(extras, &mut Map::new(), losses),
            (_, Delta::Signature(_) | Delta::Encrypted(_)) => losses.dropped("signature"),
            (_, Delta::Text(_) | Delta::Arguments(_)) => {}
        }
    }

    fn stop_block(&mut self, index: usize, out: &mut Vec<u8>, losses: &mut Losses) {
        let Some((candidate, block)) = self.blocks.remove(&index) else { return };
        let part = match block {
            Block::Text(signature, extras) => {
                let part = Part::Text { text: String::new(), cache: None, signature, extras };
                write_part(&part, Towards::Client, losses)
            }
            Block::Reasoning(part) => proof::write_reasoning(&part, losses)
                .map(|proof| json!({ "text": "", "thought": true, "thoughtSignature": proof })),
            Block::Call(call) => write_part(&Part::ToolCall(call), Towards::Client, losses),
            Block::Whole => None,
        };
        if let Some(part) = part {
            self.write_part(candidate, part, out);
        }
    }

    /// Gemini's own fields: those of a candidate and of the usage wait for the last chunk, others go out at once.
    fn extras(&mut self, extras: &Extras, out: &mut Vec<u8>, losses: &mut Losses) {
        let Some(fields) = extras.for_dialect(DialectId::Gemini) else {
            return write_extras(extras, &mut Map::new(), losses);
        };
        let mut body = Map::new();
        let mut candidates: BTreeMap<u32, Map<String, Value>> = BTreeMap::new();
        for (path, value) in fields {
            if path.starts_with("usageMetadata.") {
                self.last.insert(path.clone(), value.clone());
            } else if let Some((candidate, name)) = candidate_field(path) {
                if name == "finishReason" {
                    self.stops.entry(candidate).or_default().insert(name.into(), value.clone());
                } else {
                    candidates.entry(candidate).or_default().insert(name.to_owned(), value.clone());
                }
            } else {
                body.insert(path.clone(), value.clone());
            }
        }
        if !candidates.is_empty() {
            let list = candidates.into_iter().map(|(index, mut fields)| {
                fields.insert("index".into(), index.into());
                Value::Object(fields)
            });
            body.insert("candidates".into(), list.collect());
        }
        if !body.is_empty() {
            self.write_chunk(body, out);
        }
    }

    fn fail(&mut self, cause: &ChatError, out: &mut Vec<u8>) {
        let (_, body) = error::write(cause);
        let value = serde_json::from_slice(&body).unwrap_or_default();
        self.write_value(&value, out);
        if self.json_array {
            out.push(b']');
        }
        self.ended = true;
    }
}

impl StreamEncoder for Encoder {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>, losses: &mut Losses) {
        if self.ended {
            return;
        }
        match event {
            Event::Start { id, model, created } => {
                if let Some(id) = id {
                    self.id.clone_from(id);
                }
                if let Some(model) = model {
                    self.model.clone_from(model);
                }
                self.created = created.or(self.created);
            }
            Event::BlockStart { index, candidate, kind } => self.start_block(*index, *candidate, kind, out, losses),
            Event::Delta { index, delta } => self.delta(*index, delta, out, losses),
            Event::BlockStop { index } => self.stop_block(*index, out, losses),
            Event::Usage(usage) => self.usage.get_or_insert_with(Usage::default).merge(usage),
            Event::Stop { candidate, reason, sequence } => {
                if sequence.is_some() {
                    losses.dropped("stop_sequence");
                }
                let word = write_stop(reason, losses);
                let fields = self.stops.entry(*candidate).or_default();
                fields.entry("finishReason").or_insert_with(|| word.into());
            }
            Event::Error(cause) => self.fail(cause, out),
            Event::Skipped { .. } => {}
            Event::Extras(extras) => self.extras(extras, out, losses),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>, losses: &mut Losses) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        for index in self.blocks.keys().copied().collect::<Vec<_>>() {
            self.stop_block(index, out, losses);
        }
        let mut body = Map::new();
        if !self.stops.is_empty() {
            let candidates = std::mem::take(&mut self.stops).into_iter().map(|(index, mut fields)| {
                fields.insert("content".into(), json!({ "parts": [{ "text": "" }], "role": "model" }));
                fields.insert("index".into(), index.into());
                Value::Object(fields)
            });
            body.insert("candidates".into(), candidates.collect());
        }
        for (path, value) in std::mem::take(&mut self.last) {
            super::fields::put_at(&mut body, &path, value);
        }
        if let Some(usage) = self.usage {
            usage::write(&usage, &mut body, losses);
        }
        if !body.is_empty() {
            self.write_chunk(body, out);
        }
        if self.json_array {
            out.extend_from_slice(if self.begun { b"]" } else { b"[]" });
        }
    }

    /// An empty line: google-genai for Python chokes on SSE comments, and white space between elements is good in JSON.
    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        if !self.ended {
            out.push(b'\n');
        }
    }
}

/// The candidate and the field of `candidates[0].safetyRatings`.
fn candidate_field(path: &str) -> Option<(u32, &str)> {
    let (index, name) = path.strip_prefix("candidates[")?.split_once("].")?;
    Some((index.parse().ok()?, name))
}

fn non_empty(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
