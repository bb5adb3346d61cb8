//! A provider's stream read (`chat.completion.chunk`).

use super::choice::{Choice, Steps};
use super::fields::Fields;
use super::{error, response, usage};
use crate::chat::{ChatError, DialectId, ErrorKind, Event, Extras, Response, Usage};
use crate::dialect::StreamDecoder;
use crate::wire::sse::{SseEvent, SseParser};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Reads a stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    parser: SseParser,
    choices: BTreeMap<u32, Choice>,
    next_block: usize,
    id: Option<String>,
    started: bool,
    /// The terminal marker has come.
    done: bool,
    /// Nothing more is read: an error was reported.
    failed: bool,
    /// Some event carried data.
    saw_data: bool,
    usage: Option<Usage>,
    extras: Map<String, Value>,
    /// A body that is no event stream: some providers answer a stream request with one JSON object.
    bare: Vec<u8>,
}

impl StreamDecoder for Decoder {
    fn push(&mut self, bytes: &[u8], out: &mut Vec<Event>) {
        if self.failed {
            return;
        }
        if let Err(found) = self.parser.push(bytes) {
            self.fail(
                ChatError::new(ErrorKind::Upstream, format!("The provider's stream cannot be read: {found}.")),
                out,
            );
            return;
        }
        while let Some(event) = self.parser.next_event() {
            self.event(&event, out);
        }
    }

    fn is_complete(&self) -> bool {
        self.done
    }

    fn finish(&mut self, out: &mut Vec<Event>) {
        if let Some(event) = self.parser.finish() {
            self.event(&event, out);
        }
        if self.failed {
            return;
        }
        if !self.saw_data {
            let bare = std::mem::take(&mut self.bare);
            self.failed = true;
            match bare_body(&bare) {
                Ok(answer) => out.extend(answer.into_events()),
                Err(found) => out.push(Event::Error(found)),
            }
            return;
        }
        self.close(out);
    }
}

impl Decoder {
    fn event(&mut self, event: &SseEvent, out: &mut Vec<Event>) {
        let Some(data) = event.data.as_deref().map(str::trim) else {
            if !self.saw_data && !event.raw.starts_with(b":") {
                self.bare.extend_from_slice(&event.raw);
            }
            return;
        };
        if self.failed || self.done {
            return;
        }
        if data.is_empty() {
            return out.push(Event::Skipped { why: "an event without data".to_owned() });
        }
        self.saw_data = true;
        if data == "[DONE]" {
            self.done = true;
            return;
        }
        let value = match serde_json::from_str::<Value>(data) {
            Ok(value) => value,
            Err(_) if event.event == "error" => return self.fail(error::parse_in_success(data.as_bytes()), out),
            Err(found) => return out.push(Event::Skipped { why: format!("a chunk that is not JSON ({found})") }),
        };
        if let Some(found) = error::in_answer(&value) {
            return self.fail(found, out);
        }
        if event.event == "error" {
            return self.fail(error::parse_in_success(data.as_bytes()), out);
        }
        match value {
            Value::Object(map)
                if map.contains_key("choices") || map.contains_key("usage") || map.contains_key("id") =>
            {
                self.chunk(Fields::new(map, ""), out);
            }
            _ => out.push(Event::Skipped { why: "an event that is no chunk".to_owned() }),
        }
    }

    fn chunk(&mut self, mut chunk: Fields, out: &mut Vec<Event>) {
        for key in ["object", "obfuscation", "p"] {
            chunk.take(key);
        }
        let id = response::text(&mut chunk, "id");
        let model = response::text(&mut chunk, "model");
        let created = chunk.take("created").and_then(|value| value.as_f64()).map(response::unix_seconds);
        let choices = match chunk.take("choices") {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        };
        // Azure's first chunk has neither id nor model; the stream starts with what follows.
        if !self.started && (id.is_some() || !choices.is_empty()) {
            self.started = true;
            self.id.clone_from(&id);
            out.push(Event::Start { id, model, created: created.filter(|seconds| *seconds > 0) });
        }
        for choice in choices {
            let Value::Object(choice) = choice else {
                out.push(Event::Skipped { why: "a choice that is no object".to_owned() });
                continue;
            };
            let mut choice = Fields::new(choice, "choices");
            let index = choice.take("index").and_then(|value| value.as_u64()).unwrap_or(0);
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let scope = self.id.as_deref().unwrap_or_default();
            let state = self.choices.entry(index).or_insert_with(|| Choice::new(index, scope));
            let mut steps = Steps { events: out, next_block: &mut self.next_block };
            if let Err(found) = state.read(choice, &mut steps) {
                return self.fail(found, out);
            }
        }
        let mut counted = chunk.take("usage").and_then(usage::read);
        if let Some(groq) = response::take_groq_usage(&mut chunk) {
            counted = counted.or(Some(groq));
        }
        if let Some((usage, rest)) = counted {
            if self.usage != Some(usage) {
                self.usage = Some(usage);
                out.push(Event::Usage(usage));
            }
            if !rest.is_empty() {
                self.extras.insert("usage".into(), Value::Object(rest));
            }
        }
        for (key, value) in response::telling(chunk) {
            self.extras.insert(key, value);
        }
    }

    /// The body has ended: closes what is open and tells the last.
    fn close(&mut self, out: &mut Vec<Event>) {
        let finished = !self.choices.is_empty() && self.choices.values().all(Choice::is_finished);
        let said_something = self.choices.values().any(Choice::said_something);
        let is_whole = finished || (self.done && said_something);
        if !is_whole {
            let what = match (self.choices.is_empty(), self.done) {
                (true, true) => "ended without an answer",
                (_, true) => "ended without text, tool call or finish reason",
                (_, false) => "broke off before the answer was complete",
            };
            self.fail(ChatError::new(ErrorKind::Upstream, format!("The provider's stream {what}. Ask again.")), out);
            return;
        }
        let mut more = Vec::new();
        for (index, choice) in &mut self.choices {
            let mut steps = Steps { events: out, next_block: &mut self.next_block };
            // The terminal marker says that the answer is whole where the server gives no reason.
            choice.end(self.done, &mut steps);
            let mut extras = choice.take_extras();
            if !extras.is_empty() {
                extras.insert("index".into(), json!(index));
                more.push(Value::Object(extras));
            }
        }
        if !more.is_empty() {
            self.extras.insert("choices".into(), Value::Array(more));
        }
        let extras = std::mem::take(&mut self.extras);
        if !extras.is_empty() {
            out.push(Event::Extras(Extras::from_fields(DialectId::OpenAiChat, extras)));
        }
    }

    fn fail(&mut self, error: ChatError, out: &mut Vec<Event>) {
        self.failed = true;
        out.push(Event::Error(error));
    }
}

/// Reads a body that held no event at all.
fn bare_body(body: &[u8]) -> Result<Response, ChatError> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    if text.is_empty() {
        return Err(ChatError::new(
            ErrorKind::Upstream,
            "The provider answered with an empty stream. Ask again; if it stays so, look at the provider's log.",
        ));
    }
    if !text.starts_with(['{', '[']) {
        let message = "The provider's answer is neither an event stream nor JSON. Ask again.";
        return Err(ChatError::new(ErrorKind::Upstream, message));
    }
    response::read(text.as_bytes())
}
