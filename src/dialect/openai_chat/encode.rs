//! A stream written to a client (`chat.completion.chunk`).

use super::content::{self, foreign_name, write_extras};
use super::{audio, error, reasoning, tool_call, usage, words};
use crate::chat::{BlockKind, Delta, DialectId, Event, Extras, Losses, MediaPart, ReasoningPart, Signature, Usage};
use crate::dialect::{StreamEncoder, StreamOptions};
use crate::wire::sse::write_event;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Writes a stream. The frames with the finish reason are held back to the end, for they also carry what only this
/// dialect knows, and a chunk without choices is one that many clients trip over.
#[derive(Debug)]
pub(super) struct Encoder {
    id: String,
    model: String,
    created: u64,
    include_usage: bool,
    blocks: BTreeMap<usize, Block>,
    candidates: BTreeMap<u32, Candidate>,
    usage: Option<Usage>,
    extras: Map<String, Value>,
    ended: bool,
}

/// What has been written of one alternative.
#[derive(Debug, Default)]
struct Candidate {
    calls: usize,
    /// How many entries of `reasoning_details` there are.
    details: usize,
    texts: usize,
    media: usize,
    finish_reason: Option<&'static str>,
    /// Plain reasoning that was the last thing said; another block of reasoning must be kept apart from it.
    last_thought: Option<(ReasoningPart, usize)>,
}

#[derive(Debug)]
struct Block {
    candidate: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Text { number: usize },
    Refusal,
    Reasoning { part: ReasoningPart, entry: usize, told: bool },
    Call { number: usize, id: String, name: String, begun: bool, has_arguments: bool },
    Media { number: usize },
    Other,
}

impl Encoder {
    pub(super) fn new(options: &StreamOptions) -> Self {
        Self {
            id: options.id.clone(),
            model: options.model.clone(),
            created: options.created,
            include_usage: options.include_usage,
            blocks: BTreeMap::new(),
            candidates: BTreeMap::new(),
            usage: None,
            extras: Map::new(),
            ended: false,
        }
    }

    fn frame(&self, choices: Value) -> Map<String, Value> {
        let mut frame = Map::new();
        frame.insert("id".into(), json!(self.id));
        frame.insert("object".into(), json!("chat.completion.chunk"));
        frame.insert("created".into(), json!(self.created));
        frame.insert("model".into(), json!(self.model));
        frame.insert("choices".into(), choices);
        if self.include_usage {
            frame.insert("usage".into(), Value::Null);
        }
        frame
    }

    /// Makes sure that the alternative has begun: its first delta names the role.
    fn begin(&mut self, candidate: u32, out: &mut Vec<u8>) {
        if let Entry::Vacant(slot) = self.candidates.entry(candidate) {
            slot.insert(Candidate::default());
            self.delta(candidate, json!({"role": "assistant", "content": ""}), None, out);
        }
    }

    fn delta(&self, candidate: u32, delta: Value, logprobs: Option<&Value>, out: &mut Vec<u8>) {
        let logprobs = logprobs.map_or(Value::Null, |list| json!({"content": list, "refusal": null}));
        let choice = json!({"index": candidate, "delta": delta, "logprobs": logprobs, "finish_reason": null});
        write_frame(self.frame(json!([choice])), out);
    }

    fn start_block(&mut self, index: usize, candidate: u32, kind: &BlockKind, out: &mut Vec<u8>, losses: &mut Losses) {
        self.begin(candidate, out);
        let Some(said) = self.candidates.get_mut(&candidate) else { return };
        let mut pending = Value::Null;
        let state = match kind {
            BlockKind::Text => {
                said.texts += 1;
                State::Text { number: said.texts - 1 }
            }
            BlockKind::Refusal => State::Refusal,
            BlockKind::Reasoning { id, summary } => {
                if let Some((part, entry)) = said.last_thought.take() {
                    pending = details_of(&part, entry);
                }
                said.details += 1;
                let part = ReasoningPart { id: id.clone(), summary: *summary, ..ReasoningPart::default() };
                let told = !reasoning::is_plain(&part);
                State::Reasoning { part, entry: said.details - 1, told }
            }
            BlockKind::ToolCall { id, name } => {
                said.calls += 1;
                let (id, name) = (id.clone(), name.clone());
                State::Call { number: said.calls - 1, id, name, begun: false, has_arguments: false }
            }
            BlockKind::Media(media) => {
                said.media += 1;
                pending = media_delta(media, said.media - 1, losses);
                // In one delta with the medium: a reader takes it whole.
                if let (Some(proof), Value::Object(delta)) = (&media.signature, &mut pending) {
                    delta.extend(details_delta(vec![proof_entry(proof, &reasoning::media_mark(said.media - 1), said)]));
                }
                State::Media { number: said.media - 1 }
            }
            BlockKind::Foreign { dialect: DialectId::OpenAiChat, value } => {
                pending = foreign_delta(value, said);
                State::Other
            }
            BlockKind::Foreign { value, .. } => {
                losses.dropped(foreign_name(value));
                State::Other
            }
        };
        if !matches!(state, State::Reasoning { .. }) {
            said.last_thought = None;
        }
        self.blocks.insert(index, Block { candidate, state });
        if !pending.is_null() {
            self.delta(candidate, pending, None, out);
        }
    }

    fn add(&mut self, index: usize, delta: &Delta, out: &mut Vec<u8>, losses: &mut Losses) {
        let Some(block) = self.blocks.get_mut(&index) else { return };
        let candidate = block.candidate;
        let Some(said) = self.candidates.get_mut(&candidate) else { return };
        let mut written = Vec::new();
        let mut logprobs = None;
        match (&mut block.state, delta) {
            (State::Text { .. }, Delta::Text(text)) => written.push(json!({"content": text})),
            (State::Refusal, Delta::Text(text)) => written.push(json!({"refusal": text})),
            (State::Text { number }, Delta::Signature(proof)) => {
                written.push(proof_delta(proof, &reasoning::text_mark(*number), said));
            }
            (State::Media { number }, Delta::Signature(proof)) => {
                written.push(proof_delta(proof, &reasoning::media_mark(*number), said));
            }
            (State::Text { .. }, Delta::Extras(extras)) => {
                let mut own = Map::new();
                write_extras(extras, "content", &mut own, losses);
                logprobs = own.shift_remove("logprobs");
                if let Some(annotations) = own.shift_remove("annotations") {
                    written.push(json!({"annotations": annotations}));
                } else if logprobs.is_some() {
                    written.push(json!({}));
                }
            }
            (State::Reasoning { part, entry, told }, delta) => {
                written.extend(reasoning_delta(part, *entry, told, delta))
            }
            (State::Call { number, id, name, begun, has_arguments }, delta) => {
                let fresh = !std::mem::replace(begun, true);
                if fresh {
                    let mut call = json!({"index": number, "id": id, "type": "function",
                        "function": {"name": name, "arguments": ""}});
                    let mut first = Map::new();
                    if let (Delta::Signature(proof), Value::Object(call)) = (delta, &mut call) {
                        tool_call::write_google_proof(proof, call);
                        first.extend(details_delta(vec![proof_entry(proof, id, said)]));
                    }
                    first.insert("tool_calls".into(), json!([call]));
                    written.push(Value::Object(first));
                }
                match delta {
                    Delta::Arguments(text) if !text.is_empty() => {
                        *has_arguments = true;
                        written.push(json!({"tool_calls": [{"index": number, "function": {"arguments": text}}]}));
                    }
                    Delta::Signature(proof) if !fresh => {
                        let mut call = json!({"index": number, "function": {"arguments": ""}});
                        if let Value::Object(call) = &mut call {
                            tool_call::write_google_proof(proof, call);
                        }
                        let mut more = details_delta(vec![proof_entry(proof, id, said)]);
                        more.insert("tool_calls".into(), json!([call]));
                        written.push(Value::Object(more));
                    }
                    Delta::Extras(extras) => {
                        let mut call = Map::from_iter([
                            ("index".to_owned(), json!(number)),
                            ("function".to_owned(), json!({"arguments": ""})),
                        ]);
                        write_extras(extras, "tool_calls", &mut call, losses);
                        if call.len() > 2 {
                            written.push(json!({"tool_calls": [call]}));
                        }
                    }
                    _ => {}
                }
            }
            (_, Delta::Extras(extras)) => write_extras(extras, "content", &mut Map::new(), losses),
            (_, Delta::Signature(_) | Delta::Encrypted(_)) => losses.dropped("signature"),
            _ => {}
        }
        for delta in written {
            self.delta(candidate, delta, logprobs.as_ref(), out);
        }
    }

    fn stop_block(&mut self, index: usize, out: &mut Vec<u8>) {
        let Some(Block { candidate, state }) = self.blocks.remove(&index) else { return };
        match state {
            State::Call { number, id, name, begun, has_arguments: false } => {
                // Clients parse the arguments as JSON.
                let mut call = json!({"index": number, "function": {"arguments": "{}"}});
                if !begun {
                    call = json!({"index": number, "id": id, "type": "function",
                        "function": {"name": name, "arguments": "{}"}});
                }
                self.delta(candidate, json!({"tool_calls": [call]}), None, out);
            }
            State::Reasoning { part, entry, told: false } => {
                if let Some(said) = self.candidates.get_mut(&candidate) {
                    said.last_thought = Some((part, entry));
                }
            }
            _ => {}
        }
    }

    fn take_extras(&mut self, extras: &Extras, losses: &mut Losses) {
        let mut own = Map::new();
        write_extras(extras, "", &mut own, losses);
        for (key, value) in own {
            match (self.extras.get_mut(&key), value) {
                (Some(Value::Array(list)), Value::Array(more)) => list.extend(more),
                (_, value) => {
                    self.extras.insert(key, value);
                }
            }
        }
    }

    /// The members of a choice that only this dialect knows.
    fn choice_extras(&self, candidate: u32) -> Map<String, Value> {
        let list = self.extras.get("choices").and_then(Value::as_array).into_iter().flatten();
        let own = list.filter(|entry| entry.get("index").and_then(Value::as_u64) == Some(u64::from(candidate)));
        own.filter_map(Value::as_object).flat_map(|entry| entry.clone()).filter(|(key, _)| key != "index").collect()
    }
}

impl StreamEncoder for Encoder {
    fn encode(&mut self, event: &Event, out: &mut Vec<u8>, losses: &mut Losses) {
        if self.ended {
            return;
        }
        match event {
            Event::Start { id, model, created } => {
                // Once a frame is out, id and model stay.
                if self.candidates.is_empty() {
                    self.id = id.clone().unwrap_or_else(|| std::mem::take(&mut self.id));
                    self.model = model.clone().unwrap_or_else(|| std::mem::take(&mut self.model));
                    self.created = created.unwrap_or(self.created);
                }
                self.begin(0, out);
            }
            Event::BlockStart { index, candidate, kind } => self.start_block(*index, *candidate, kind, out, losses),
            Event::Delta { index, delta } => self.add(*index, delta, out, losses),
            Event::BlockStop { index } => self.stop_block(*index, out),
            Event::Usage(usage) => self.usage.get_or_insert_default().merge(usage),
            Event::Stop { candidate, reason, sequence } => {
                self.begin(*candidate, out);
                if sequence.is_some() {
                    losses.dropped("stop_sequence");
                }
                if let Some(said) = self.candidates.get_mut(candidate) {
                    said.finish_reason = Some(words::finish_reason(reason, losses));
                }
            }
            Event::Error(found) => {
                self.ended = true;
                write_event(None, error::object(found).to_string().as_bytes(), out);
            }
            Event::Skipped { .. } => {}
            Event::Extras(extras) => self.take_extras(extras, losses),
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>, _losses: &mut Losses) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let reasons: Vec<_> = self.candidates.iter().map(|(index, said)| (*index, said.finish_reason)).collect();
        for (candidate, reason) in reasons {
            let Some(reason) = reason else { continue };
            let mut extras = self.choice_extras(candidate);
            let delta = extras.shift_remove("message").unwrap_or_else(|| json!({}));
            let choice = json!({"index": candidate, "delta": delta, "logprobs": null, "finish_reason": reason});
            let Value::Object(mut choice) = choice else { continue };
            for (key, value) in extras {
                choice.entry(key).or_insert(value);
            }
            let mut frame = self.frame(json!([choice]));
            for (key, value) in self.extras.iter().filter(|(key, _)| !matches!(key.as_str(), "choices" | "usage")) {
                frame.entry(key.clone()).or_insert_with(|| value.clone());
            }
            write_frame(frame, out);
        }
        if let (true, Some(counted)) = (self.include_usage, &self.usage) {
            let rest = self.extras.get("usage").and_then(Value::as_object);
            let mut frame = self.frame(json!([]));
            frame.insert("usage".into(), usage::write(counted, rest));
            write_frame(frame, out);
        }
        write_event(None, b"[DONE]", out);
    }

    fn keep_alive(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b": keep-alive\n\n");
    }
}

fn write_frame(frame: Map<String, Value>, out: &mut Vec<u8>) {
    write_event(None, Value::Object(frame).to_string().as_bytes(), out);
}

/// Text goes out as it comes. A block that needs an entry of `reasoning_details` (id, summary) gets it along with the
/// text; one that turns out to be signed gets it whole when its proof comes.
fn reasoning_delta(part: &mut ReasoningPart, entry: usize, told: &mut bool, delta: &Delta) -> Option<Value> {
    let mut piece = ReasoningPart { id: part.id.clone(), summary: part.summary, ..ReasoningPart::default() };
    let mut map = Map::new();
    match delta {
        Delta::Text(text) => {
            part.text.push_str(text);
            map.insert("reasoning_content".into(), json!(text));
            if !*told {
                return Some(Value::Object(map));
            }
            piece.text.clone_from(text);
        }
        Delta::Signature(proof) => {
            if !std::mem::replace(told, true) {
                piece.text.clone_from(&part.text);
            }
            piece.signature = Some(proof.clone());
        }
        Delta::Encrypted(proof) => {
            let mut list = Vec::new();
            if !std::mem::replace(told, true) && !part.text.is_empty() {
                piece.text.clone_from(&part.text);
                reasoning::write_part(&piece, entry, &mut list);
                piece.text.clear();
            }
            piece.encrypted = Some(proof.clone());
            reasoning::write_part(&piece, entry, &mut list);
            return Some(Value::Object(details_delta(list)));
        }
        Delta::Arguments(_) | Delta::Extras(_) => return None,
    }
    let mut list = Vec::new();
    reasoning::write_part(&piece, entry, &mut list);
    map.extend(details_delta(list));
    Some(Value::Object(map))
}

fn details_of(part: &ReasoningPart, entry: usize) -> Value {
    let mut list = Vec::new();
    reasoning::write_part(part, entry, &mut list);
    Value::Object(details_delta(list))
}

fn details_delta(list: Vec<Value>) -> Map<String, Value> {
    Map::from_iter([("reasoning_details".to_owned(), Value::Array(list))])
}

fn proof_entry(proof: &Signature, id: &str, said: &mut Candidate) -> Value {
    said.details += 1;
    reasoning::proof_entry(proof, id, said.details - 1)
}

fn proof_delta(proof: &Signature, id: &str, said: &mut Candidate) -> Value {
    Value::Object(details_delta(vec![proof_entry(proof, id, said)]))
}

/// A medium that the model made: sound as OpenAI writes it, pictures as OpenRouter does.
fn media_delta(media: &MediaPart, number: usize, losses: &mut Losses) -> Value {
    if audio::is_audio(media) {
        return json!({"audio": audio::write(media)});
    }
    match content::write_media(media, losses) {
        Some(mut image) => {
            image.insert("index".into(), json!(number));
            json!({"images": [image]})
        }
        None => Value::Null,
    }
}

/// A part of this dialect's own that was kept as it stood.
fn foreign_delta(value: &Value, said: &mut Candidate) -> Value {
    if reasoning::is_detail(value) {
        return Value::Object(details_delta(vec![value.clone()]));
    }
    if tool_call::is_foreign_call(value) {
        let mut call = value.clone();
        call["index"] = json!(said.calls);
        said.calls += 1;
        return json!({"tool_calls": [call]});
    }
    Value::Null
}
