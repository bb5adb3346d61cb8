//! A stream put together again.

use super::{BlockKind, Candidate, ChatError, Delta, Event, Extras, Part, ReasoningPart, Response, ToolCall, Usage};
use serde_json::Value;
use std::collections::BTreeMap;

/// Puts the events of a stream together into the answer they stand for.
#[derive(Debug, Default)]
pub struct Collector {
    response: Response,
    blocks: BTreeMap<usize, (u32, Part)>,
    candidates: BTreeMap<u32, Candidate>,
    error: Option<ChatError>,
    skipped: usize,
}

impl Collector {
    /// Takes one event.
    pub fn push(&mut self, event: &Event) {
        match event {
            Event::Start { id, model, created } => {
                self.response.id = id.clone().or(self.response.id.take());
                self.response.model = model.clone().or(self.response.model.take());
                self.response.created = created.or(self.response.created);
            }
            Event::BlockStart { index, candidate, kind } => {
                self.blocks.insert(*index, (*candidate, empty_part(kind)));
            }
            Event::Delta { index, delta } => {
                if let Some((_, part)) = self.blocks.get_mut(index) {
                    grow(part, delta);
                }
            }
            Event::BlockStop { .. } => {}
            Event::Usage(usage) => self.response.usage.get_or_insert_with(Usage::default).merge(usage),
            Event::Stop { candidate, reason, sequence } => {
                let entry = self.candidates.entry(*candidate).or_default();
                entry.stop = Some(reason.clone());
                entry.stop_sequence = sequence.clone();
            }
            Event::Error(error) => self.error = Some(error.clone()),
            Event::Skipped { .. } => self.skipped += 1,
            Event::Extras(extras) => append(&mut self.response.extras, extras),
        }
    }

    /// How many events of the provider's could not be read.
    pub fn skipped(&self) -> usize {
        self.skipped
    }

    /// The answer.
    ///
    /// # Errors
    /// The error that ended the stream.
    pub fn finish(mut self) -> Result<Response, ChatError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        for (_, (candidate, part)) in self.blocks {
            self.candidates.entry(candidate).or_default().parts.push(part);
        }
        self.response.candidates = self.candidates.into_values().collect();
        Ok(self.response)
    }
}

fn empty_part(kind: &BlockKind) -> Part {
    match kind {
        BlockKind::Text => Part::text(""),
        BlockKind::Reasoning { id, summary } => {
            Part::Reasoning(ReasoningPart { id: id.clone(), summary: *summary, ..ReasoningPart::default() })
        }
        BlockKind::ToolCall { id, name } => Part::ToolCall(ToolCall {
            id: id.clone(),
            name: name.clone(),
            arguments: String::new(),
            signature: None,
            cache: None,
            extras: Extras::default(),
        }),
        BlockKind::Refusal => Part::Refusal(String::new()),
        BlockKind::Media(part) => Part::Media(part.clone()),
        BlockKind::Foreign { dialect, value } => Part::Foreign { dialect: *dialect, value: value.clone() },
    }
}

fn grow(part: &mut Part, delta: &Delta) {
    match (part, delta) {
        (Part::Text { text, .. } | Part::Refusal(text), Delta::Text(more)) => text.push_str(more),
        (Part::Reasoning(reasoning), Delta::Text(more)) => reasoning.text.push_str(more),
        (Part::Reasoning(reasoning), Delta::Signature(value)) => reasoning.signature = Some(value.clone()),
        (Part::Reasoning(reasoning), Delta::Encrypted(value)) => reasoning.encrypted = Some(value.clone()),
        (Part::ToolCall(call), Delta::Arguments(more)) => call.arguments.push_str(more),
        (Part::Text { signature, .. }, Delta::Signature(value)) => *signature = Some(value.clone()),
        (Part::Media(media), Delta::Signature(value)) => media.signature = Some(value.clone()),
        (Part::ToolCall(call), Delta::Signature(value)) => call.signature = Some(value.clone()),
        (Part::Text { extras, .. }, Delta::Extras(more)) => append(extras, more),
        (Part::ToolCall(call), Delta::Extras(more)) => append(&mut call.extras, more),
        _ => {}
    }
}

fn append(extras: &mut Extras, more: &Extras) {
    extras.dialect = more.dialect.or(extras.dialect);
    for (key, value) in &more.fields {
        match (extras.fields.get_mut(key), value) {
            (Some(Value::Array(list)), Value::Array(added)) => list.extend(added.iter().cloned()),
            (Some(slot), value) => *slot = value.clone(),
            (None, value) => {
                extras.fields.insert(key.clone(), value.clone());
            }
        }
    }
}
