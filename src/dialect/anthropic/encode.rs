//! The stream to a client. Blocks are strictly one after the other: one that begins before another has ended waits.

use super::blocks::{BlockWriter, Reader, foreign_name, typed};
use super::error;
use super::fields::put_extras;
use super::response::{UNNAMED, write_usage};
use super::sealed::{self, Place};
use super::{ID, media, stop};
use crate::chat::{BlockKind, Delta, Event, Extras, Losses, ReasoningPart, Signature, StopReason, Usage};
use crate::dialect::{StreamEncoder, StreamOptions};
use crate::wire::sse::write_event;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;

/// Writes a stream.
#[derive(Debug)]
pub(super) struct Encoder {
    id: String,
    model: String,
    phase: Phase,
    usage: Option<Usage>,
    /// Fields that only this dialect knows, for `message_start` or `message_delta`.
    extras: Extras,
    stop: Option<(StopReason, Option<String>)>,
    /// The blocks that have begun and not ended; the first one is being written.
    blocks: VecDeque<Block>,
    /// The index of the next block on the wire.
    next: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is written yet: what the provider says at its start goes into `message_start`.
    Waiting,
    Started,
    Ended,
}

#[derive(Debug)]
struct Block {
    index: usize,
    kind: BlockKind,
    /// What came while another block was being written.
    waiting: Vec<Delta>,
    is_stopped: bool,
    /// Its proof is written.
    is_signed: bool,
    /// Its index on the wire, once it has begun there.
    wire: Option<usize>,
    /// Fields for its start.
    extras: Extras,
    /// Sealed signatures that follow it as blocks of their own.
    after: Vec<String>,
    /// Encrypted reasoning, of which it is not yet known whether it has a text.
    encrypted: Option<Signature>,
}

/// What an event is appended to, and what it could not say.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    losses: &'a mut Losses,
}

impl Sink<'_> {
    fn event(&mut self, name: &str, data: &Value) {
        write_event(Some(name), data.to_string().as_bytes(), self.out);
    }

    fn block_start(&mut self, index: usize, block: &Value) {
        let data = json!({"type": "content_block_start", "index": index, "content_block": block});
        self.event("content_block_start", &data);
    }

    fn block_delta(&mut self, index: usize, delta: &Value) {
        self.event("content_block_delta", &json!({"type": "content_block_delta", "index": index, "delta": delta}));
    }

    fn block_stop(&mut self, index: usize) {
        self.event("content_block_stop", &json!({"type": "content_block_stop", "index": index}));
    }
}

impl StreamEncoder for Encoder {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>, losses: &mut Losses) {
        if self.phase == Phase::Ended {
            return;
        }
        let mut sink = Sink { out, losses };
        match event {
            Event::Start { id, model, .. } => {
                if let Some(id) = id {
                    self.id.clone_from(id);
                }
                if let Some(model) = model {
                    self.model.clone_from(model);
                }
            }
            Event::Usage(usage) => self.usage.get_or_insert_with(Usage::default).merge(usage),
            Event::Extras(extras) => self.keep(extras, sink.losses),
            Event::BlockStart { candidate: 1.., .. } | Event::Stop { candidate: 1.., .. } => {
                sink.losses.dropped("choices")
            }
            Event::BlockStart { index, kind, .. } => {
                self.start(&mut sink);
                self.blocks.push_back(Block::new(*index, kind.clone()));
                self.advance(&mut sink);
            }
            Event::Delta { index, delta } => self.delta(*index, delta, &mut sink),
            Event::BlockStop { index } => {
                if let Some(block) = self.blocks.iter_mut().find(|block| block.index == *index) {
                    block.is_stopped = true;
                }
                self.advance(&mut sink);
            }
            Event::Stop { reason, sequence, .. } => self.stop = Some((reason.clone(), sequence.clone())),
            Event::Error(error) => {
                self.phase = Phase::Ended;
                sink.event("error", &error::body(error));
            }
            Event::Skipped { .. } => {}
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>, losses: &mut Losses) {
        if self.phase == Phase::Ended {
            return;
        }
        let mut sink = Sink { out, losses };
        self.start(&mut sink);
        for block in &mut self.blocks {
            block.is_stopped = true;
        }
        self.advance(&mut sink);
        self.message_delta(&mut sink);
        sink.event("message_stop", &json!({"type": "message_stop"}));
        self.phase = Phase::Ended;
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        if self.phase != Phase::Ended {
            write_event(Some("ping"), PING, out);
        }
    }
}

const PING: &[u8] = br#"{"type": "ping"}"#;

impl Encoder {
    pub(super) fn new(options: &StreamOptions) -> Self {
        let id = if options.id.is_empty() { UNNAMED.to_owned() } else { format!("msg_{}", options.id) };
        Self {
            id,
            model: options.model.clone(),
            phase: Phase::Waiting,
            usage: None,
            extras: Extras::default(),
            stop: None,
            blocks: VecDeque::new(),
            next: 0,
        }
    }

    /// Fields of this dialect are kept for the next frame that has room; those of another are losses.
    fn keep(&mut self, extras: &Extras, losses: &mut Losses) {
        match extras.for_dialect(ID) {
            Some(fields) => {
                self.extras.dialect = Some(ID);
                self.extras.fields.extend(fields.clone());
            }
            None => put_extras(&mut Map::new(), extras, "", losses),
        }
    }

    fn start(&mut self, sink: &mut Sink<'_>) {
        if self.phase != Phase::Waiting {
            return;
        }
        self.phase = Phase::Started;
        let usage = super::usage::write(&self.usage.unwrap_or_default());
        let mut message = Map::from_iter([
            ("id".to_owned(), json!(self.id)),
            ("type".to_owned(), json!("message")),
            ("role".to_owned(), json!("assistant")),
            ("model".to_owned(), json!(self.model)),
            ("content".to_owned(), json!([])),
            ("stop_reason".to_owned(), Value::Null),
            ("stop_sequence".to_owned(), Value::Null),
            ("usage".to_owned(), Value::Object(usage)),
        ]);
        put_extras(&mut message, &std::mem::take(&mut self.extras), "", sink.losses);
        sink.event("message_start", &json!({"type": "message_start", "message": message}));
        write_event(Some("ping"), PING, sink.out);
    }

    fn message_delta(&mut self, sink: &mut Sink<'_>) {
        let (reason, sequence) = match self.stop.take() {
            Some((reason, sequence)) => (Some(stop::write(&reason, sink.losses)), sequence),
            None => (None, None),
        };
        let mut delta =
            Map::from_iter([("stop_reason".to_owned(), json!(reason)), ("stop_sequence".to_owned(), json!(sequence))]);
        let mut extras = std::mem::take(&mut self.extras);
        for name in ["container", "stop_details"] {
            if let Some(value) = extras.fields.shift_remove(name) {
                delta.insert(name.to_owned(), value);
            }
        }
        let mut data = Map::from_iter([
            ("type".to_owned(), json!("message_delta")),
            ("delta".to_owned(), Value::Object(delta)),
            ("usage".to_owned(), Value::Object(write_usage(self.usage.as_ref(), sink.losses))),
        ]);
        put_extras(&mut data, &extras, "", sink.losses);
        sink.event("message_delta", &Value::Object(data));
    }

    fn delta(&mut self, index: usize, delta: &Delta, sink: &mut Sink<'_>) {
        let Some(at) = self.blocks.iter().position(|block| block.index == index) else {
            return self.late(delta, sink);
        };
        let Some(block) = self.blocks.get_mut(at) else { return };
        if at > 0 {
            block.waiting.push(delta.clone());
        } else {
            block.write(delta, &mut self.next, sink);
        }
    }

    /// A delta of a block that has already ended on the wire.
    fn late(&mut self, delta: &Delta, sink: &mut Sink<'_>) {
        match delta {
            Delta::Signature(_) | Delta::Encrypted(_) => sink.losses.dropped("reasoning.signature"),
            Delta::Extras(extras) => {
                extras.fields.keys().for_each(|name| sink.losses.dropped(format!("content.{name}")))
            }
            Delta::Text(_) | Delta::Arguments(_) => sink.losses.dropped("content"),
        }
    }

    /// Writes what the first block has waited with, and goes on to the next one while the first has ended.
    fn advance(&mut self, sink: &mut Sink<'_>) {
        while let Some(block) = self.blocks.front_mut() {
            for delta in std::mem::take(&mut block.waiting) {
                block.write(&delta, &mut self.next, sink);
            }
            if !block.is_stopped {
                return;
            }
            block.end(&mut self.next, sink);
            self.blocks.pop_front();
        }
    }
}

impl Block {
    fn new(index: usize, kind: BlockKind) -> Self {
        Self {
            index,
            kind,
            waiting: Vec::new(),
            is_stopped: false,
            is_signed: false,
            wire: None,
            extras: Extras::default(),
            after: Vec::new(),
            encrypted: None,
        }
    }

    fn write(&mut self, delta: &Delta, next: &mut usize, sink: &mut Sink<'_>) {
        match (&self.kind, delta) {
            (_, Delta::Text(text) | Delta::Arguments(text)) if text.is_empty() => {}
            (BlockKind::Text | BlockKind::Refusal, Delta::Text(text)) => {
                let index = self.begin(next, sink);
                sink.block_delta(index, &json!({"type": "text_delta", "text": text}));
            }
            (BlockKind::Text, Delta::Signature(_)) => sink.losses.dropped("reasoning.signature"),
            (BlockKind::Text, Delta::Extras(extras)) => self.text_extras(extras, next, sink),
            (BlockKind::Reasoning { .. }, Delta::Text(text)) => {
                let index = self.begin(next, sink);
                sink.block_delta(index, &json!({"type": "thinking_delta", "thinking": text}));
            }
            (BlockKind::Reasoning { .. }, Delta::Signature(signature)) => {
                let sealed = self.seal_reasoning(Some(signature), sink.losses);
                self.is_signed = true;
                let index = self.begin(next, sink);
                sink.block_delta(index, &json!({"type": "signature_delta", "signature": sealed}));
            }
            (BlockKind::Reasoning { .. }, Delta::Encrypted(data)) => {
                self.encrypted = Some(data.clone());
            }
            (BlockKind::ToolCall { .. }, Delta::Arguments(json)) => {
                let index = self.begin(next, sink);
                sink.block_delta(index, &json!({"type": "input_json_delta", "partial_json": json}));
            }
            (BlockKind::ToolCall { id, .. }, Delta::Signature(signature)) => {
                match sealed::seal(&Place::Call(id.clone()), Some(signature)) {
                    Some(data) if self.wire.is_none() => redacted(&data, next, sink),
                    Some(data) => self.after.push(data),
                    None => sink.losses.dropped("reasoning.signature"),
                }
            }
            (BlockKind::ToolCall { .. }, Delta::Extras(extras)) if self.wire.is_none() => self.extras = extras.clone(),
            (_, Delta::Extras(extras)) => {
                extras.fields.keys().for_each(|name| sink.losses.dropped(format!("content.{name}")));
            }
            // Media and blocks of other dialects are dropped whole, with a loss of their own.
            _ => {}
        }
    }

    /// Citations come one by one; other fields of a text only fit into its start.
    fn text_extras(&mut self, extras: &Extras, next: &mut usize, sink: &mut Sink<'_>) {
        let Some(fields) = extras.for_dialect(ID) else {
            return put_extras(&mut Map::new(), extras, "content.", sink.losses);
        };
        for (name, value) in fields {
            if let ("citations", Value::Array(citations)) = (name.as_str(), value) {
                let index = self.begin(next, sink);
                for citation in citations {
                    sink.block_delta(index, &json!({"type": "citations_delta", "citation": citation}));
                }
            } else if self.wire.is_none() {
                self.extras.dialect = Some(ID);
                self.extras.fields.insert(name.clone(), value.clone());
            } else {
                sink.losses.dropped(format!("content.{name}"));
            }
        }
    }

    /// Writes the start of the block unless it is written; gives its index on the wire.
    fn begin(&mut self, next: &mut usize, sink: &mut Sink<'_>) -> usize {
        if let Some(index) = self.wire {
            return index;
        }
        let mut block = match &self.kind {
            BlockKind::Refusal => {
                sink.losses.approximated("refusal");
                text_block()
            }
            BlockKind::Reasoning { .. } => {
                let mut block = typed("thinking");
                block.insert("thinking".to_owned(), json!(""));
                block.insert("signature".to_owned(), json!(self.early_signature(sink.losses)));
                block
            }
            BlockKind::ToolCall { id, name } => {
                let mut block = typed("tool_use");
                block.insert("id".to_owned(), json!(id));
                block.insert("name".to_owned(), json!(name));
                block.insert("input".to_owned(), json!({}));
                block
            }
            _ => text_block(),
        };
        put_extras(&mut block, &self.extras, "content.", sink.losses);
        let index = take_index(next);
        sink.block_start(index, &Value::Object(block));
        self.wire = Some(index);
        index
    }

    /// Writes the end of the block, and what could not be said inside it.
    fn end(&mut self, next: &mut usize, sink: &mut Sink<'_>) {
        match &self.kind {
            BlockKind::ToolCall { .. } => {
                self.begin(next, sink);
            }
            BlockKind::Media(part) => sink.losses.dropped(format!("content.{}", media::kind_name(part.kind))),
            BlockKind::Foreign { dialect, value } if *dialect == ID => foreign(value, next, sink),
            BlockKind::Foreign { value, .. } => sink.losses.dropped(format!("content.{}", foreign_name(value))),
            _ => {}
        }
        if let Some(index) = self.wire {
            if matches!(self.kind, BlockKind::Reasoning { .. }) && !self.is_signed {
                let mark = self.seal_reasoning(None, sink.losses);
                sink.block_delta(index, &json!({"type": "signature_delta", "signature": mark}));
            }
            sink.block_stop(index);
        }
        if let (Some(encrypted), BlockKind::Reasoning { id, summary }) = (&self.encrypted, &self.kind) {
            let part = ReasoningPart { id: id.clone(), summary: *summary, ..ReasoningPart::default() };
            let mut writer = BlockWriter { reader: Reader::Client, losses: sink.losses };
            let data = writer.seal_encrypted(&part, Some(encrypted), self.wire.is_none());
            redacted(&data, next, sink);
        }
        for data in std::mem::take(&mut self.after) {
            redacted(&data, next, sink);
        }
    }

    /// What stands for the proof at the start of reasoning: nothing, as the API does it, or the id where there is one. A proof
    /// that comes later replaces it.
    fn early_signature(&self, losses: &mut Losses) -> String {
        match self.kind {
            BlockKind::Reasoning { id: None, summary: false } => String::new(),
            _ => self.seal_reasoning(None, losses),
        }
    }

    fn seal_reasoning(&self, signature: Option<&Signature>, losses: &mut Losses) -> String {
        let BlockKind::Reasoning { id, summary } = &self.kind else { return String::new() };
        let part = ReasoningPart { id: id.clone(), summary: *summary, ..ReasoningPart::default() };
        BlockWriter { reader: Reader::Client, losses }.seal_reasoning(&part, signature)
    }
}

fn text_block() -> Map<String, Value> {
    let mut block = typed("text");
    block.insert("text".to_owned(), json!(""));
    block
}

fn redacted(data: &str, next: &mut usize, sink: &mut Sink<'_>) {
    let index = take_index(next);
    sink.block_start(index, &json!({"type": "redacted_thinking", "data": data}));
    sink.block_stop(index);
}

/// A block of this dialect's own. The input of a call comes in deltas, as the API sends it.
fn foreign(value: &Value, next: &mut usize, sink: &mut Sink<'_>) {
    let index = take_index(next);
    let mut block = value.clone();
    let input = match block.get_mut("input") {
        Some(input @ Value::Object(_)) => Some(std::mem::replace(input, json!({}))),
        _ => None,
    };
    sink.block_start(index, &block);
    if let Some(input) = input.filter(|input| *input != json!({})) {
        sink.block_delta(index, &json!({"type": "input_json_delta", "partial_json": input.to_string()}));
    }
    sink.block_stop(index);
}

fn take_index(next: &mut usize) -> usize {
    let index = *next;
    *next += 1;
    index
}
