//! One alternative of a provider's stream: its deltas become blocks.

use super::audio::AudioPieces;
use super::fields::{Fields, says_something};
use super::reasoning::{self, Detail, DetailContent};
use super::{content, response, tool_call};
use crate::chat::{BlockKind, ChatError, Delta, DialectId, Event, Extras, MediaPart, Part, Signature, StopReason};
use serde_json::{Map, Value};

/// Where the events go, and the number of the next block.
pub(super) struct Steps<'a> {
    pub(super) events: &'a mut Vec<Event>,
    pub(super) next_block: &'a mut usize,
}

impl Steps<'_> {
    fn start(&mut self, candidate: u32, kind: BlockKind) -> usize {
        let index = *self.next_block;
        *self.next_block += 1;
        self.events.push(Event::BlockStart { index, candidate, kind });
        index
    }

    fn delta(&mut self, index: usize, delta: Delta) {
        self.events.push(Event::Delta { index, delta });
    }

    fn stop(&mut self, index: usize) {
        self.events.push(Event::BlockStop { index });
    }

    /// A block that came whole.
    fn whole(&mut self, candidate: u32, kind: BlockKind, delta: Option<Delta>) {
        let index = self.start(candidate, kind);
        if let Some(delta) = delta {
            self.delta(index, delta);
        }
        self.stop(index);
    }

    /// A part of a content list that is neither text nor reasoning.
    fn part(&mut self, candidate: u32, part: Part) {
        match part {
            Part::Media(media) => self.whole(candidate, BlockKind::Media(media), None),
            Part::Foreign { dialect, value } => self.whole(candidate, BlockKind::Foreign { dialect, value }, None),
            Part::Refusal(text) => self.whole(candidate, BlockKind::Refusal, Some(Delta::Text(text))),
            // No content list holds these.
            Part::Text { .. } | Part::Reasoning(_) | Part::ToolCall(_) | Part::ToolResult(_) => {}
        }
    }

    /// Reasoning that only its vendor can read, and proofs whose part is gone.
    fn encrypted(&mut self, candidate: u32, id: String, proof: Signature) {
        let kind = BlockKind::Reasoning { id: Some(id), summary: false };
        self.whole(candidate, kind, Some(Delta::Encrypted(proof)));
    }
}

/// A block of reasoning that is open.
#[derive(Debug)]
struct Thought {
    block: usize,
    /// The entry of `reasoning_details` it belongs to; `None` while only plain text has come.
    entry: Option<Option<u64>>,
    id: Option<String>,
    summary: bool,
    text: String,
    signed: bool,
    encrypted: bool,
}

/// A tool call.
#[derive(Debug)]
struct Call {
    /// `None` until the name is known.
    block: Option<usize>,
    /// The position that the server gave.
    position: Option<u64>,
    id: String,
    /// The id is the server's and not made up here.
    has_own_id: bool,
    name: String,
    arguments: String,
    extras: Map<String, Value>,
    closed: bool,
}

/// One alternative.
#[derive(Debug)]
pub(super) struct Choice {
    index: u32,
    /// Keeps made-up ids of calls apart from those of other answers.
    scope: String,
    text: Option<usize>,
    refusal: Option<usize>,
    thought: Option<Thought>,
    calls: Vec<Call>,
    /// How many pictures there were.
    media: usize,
    /// Proofs that came before the call they belong to.
    early_proofs: Vec<(String, Signature)>,
    annotations: Vec<Value>,
    sound: AudioPieces,
    stopped: bool,
    said_something: bool,
    extras: Map<String, Value>,
}

impl Choice {
    pub(super) fn new(index: u32, scope: &str) -> Self {
        Self {
            index,
            scope: if index == 0 { scope.to_owned() } else { format!("{scope}-{index}") },
            text: None,
            refusal: None,
            thought: None,
            calls: Vec::new(),
            media: 0,
            early_proofs: Vec::new(),
            annotations: Vec::new(),
            sound: AudioPieces::default(),
            stopped: false,
            said_something: false,
            extras: Map::new(),
        }
    }

    /// True once the provider gave a finish reason.
    pub(super) fn is_finished(&self) -> bool {
        self.stopped
    }

    /// True once there was text, reasoning, a call or anything else of an answer.
    pub(super) fn said_something(&self) -> bool {
        self.said_something
    }

    /// Members that only this dialect knows, collected over the stream.
    pub(super) fn take_extras(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.extras)
    }

    /// Takes one `choices[]` entry.
    ///
    /// # Errors
    /// The provider ended the answer with an error.
    pub(super) fn read(&mut self, mut choice: Fields, steps: &mut Steps) -> Result<(), ChatError> {
        let first = steps.events.len();
        let word = choice.take("finish_reason");
        let logprobs = choice.take("logprobs");
        // Legacy completions stream `text`.
        let text = choice.take("text");
        // A few servers write `message` in place of `delta`.
        let message = choice.take("message");
        let delta = choice.take("delta").filter(Value::is_object).or(message);
        if let Some(Value::Object(delta)) = delta {
            self.read_delta(Fields::new(delta, "choices.delta"), steps);
        }
        if let Some(Value::String(text)) = text {
            self.say(text, steps);
        }
        self.read_logprobs(logprobs, steps);
        self.said_something |= steps.events.len() > first;
        let stop = response::read_stop(
            word.as_ref().and_then(Value::as_str).filter(|word| !word.is_empty()),
            !self.calls.is_empty(),
        )?;
        let (stop, sequence) = response::with_sequence(stop, &mut choice);
        for (key, value) in choice.telling_extras().fields {
            self.extras.insert(key, value);
        }
        if let Some(reason) = stop
            && !self.stopped
        {
            self.close_all(steps);
            self.stopped = true;
            steps.events.push(Event::Stop { candidate: self.index, reason, sequence });
        }
        Ok(())
    }

    /// The stream has ended. `whole`: it ended with the terminal marker.
    pub(super) fn end(&mut self, whole: bool, steps: &mut Steps) {
        self.close_all(steps);
        if whole && !self.stopped {
            self.stopped = true;
            let reason = if self.calls.is_empty() { StopReason::EndTurn } else { StopReason::ToolUse };
            steps.events.push(Event::Stop { candidate: self.index, reason, sequence: None });
        }
    }

    fn read_delta(&mut self, mut delta: Fields, steps: &mut Steps) {
        for key in ["role", "index", "channel", "name"] {
            delta.take(key);
        }
        self.read_reasoning(&mut delta, steps);
        self.read_content(delta.take("content"), steps);
        if let Some(Value::String(text)) = delta.take("refusal")
            && !text.is_empty()
        {
            self.close_thought(steps);
            let block = match self.refusal {
                Some(block) => block,
                None => steps.start(self.index, BlockKind::Refusal),
            };
            self.refusal = Some(block);
            steps.delta(block, Delta::Text(text));
        }
        if let Some(Value::Array(list)) = delta.take("images") {
            for image in list {
                match content::read_part(image, "images") {
                    Ok(Part::Media(media)) => self.show(media, steps),
                    Ok(part) => steps.part(self.index, part),
                    Err(found) => steps.events.push(Event::Skipped { why: found.message }),
                }
            }
        }
        if let Some(sound) = delta.take("audio") {
            self.sound.push(sound);
        }
        if let Some(Value::Array(list)) = delta.take("annotations") {
            self.annotations.extend(list);
        }
        if let Some(Value::Array(list)) = delta.take("tool_calls") {
            for call in list {
                self.read_call(call, steps);
            }
        }
        if let Some(call) = delta.take("function_call").filter(says_something) {
            self.read_call(Value::Object(Map::from_iter([("function".to_owned(), call)])), steps);
        }
        if let Some(Value::String(proof)) =
            delta.get("extra_content").and_then(|value| value.pointer("/google/thought_signature"))
        {
            let proof = Signature::new(crate::chat::SignatureOrigin::Gemini, proof.clone());
            if let Some(block) = self.text {
                tool_call::take_google_proof(&mut delta);
                steps.delta(block, Delta::Signature(proof));
            }
        }
        let rest = delta.telling_extras().fields;
        if !rest.is_empty() {
            let slot = self.extras.entry("message").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(message) = slot {
                message.extend(rest);
            }
        }
    }

    fn read_content(&mut self, value: Option<Value>, steps: &mut Steps) {
        match value {
            None => {}
            Some(Value::String(text)) => self.say(text, steps),
            Some(Value::Array(list)) => {
                for part in list {
                    match content::read_part(part, "content") {
                        Ok(Part::Text { text, .. }) => self.say(text, steps),
                        Ok(Part::Reasoning(part)) => self.think(&part.text, steps),
                        Ok(part) => steps.part(self.index, part),
                        Err(found) => steps.events.push(Event::Skipped { why: found.message }),
                    }
                }
            }
            Some(other) => self.say(other.to_string(), steps),
        }
    }

    /// A picture; its proof came in the same delta, and was read before it.
    fn show(&mut self, mut media: MediaPart, steps: &mut Steps) {
        let mark = reasoning::media_mark(self.media);
        self.media += 1;
        if let Some(place) = self.early_proofs.iter().position(|(id, _)| *id == mark) {
            media.signature = Some(self.early_proofs.remove(place).1);
        }
        // An index only counts the pictures of the stream.
        media.extras.fields.shift_remove("index");
        if media.extras.is_empty() {
            media.extras = Extras::default();
        }
        self.close_thought(steps);
        self.close_text(steps);
        steps.whole(self.index, BlockKind::Media(media), None);
    }

    fn say(&mut self, text: String, steps: &mut Steps) {
        if text.is_empty() {
            return;
        }
        self.close_thought(steps);
        self.close_whole_calls(steps);
        let block = self.text_block(steps);
        steps.delta(block, Delta::Text(text));
    }

    fn text_block(&mut self, steps: &mut Steps) -> usize {
        match self.text {
            Some(block) => block,
            None => {
                let block = steps.start(self.index, BlockKind::Text);
                self.text = Some(block);
                block
            }
        }
    }

    fn read_logprobs(&mut self, value: Option<Value>, steps: &mut Steps) {
        let Some(Value::Object(mut logprobs)) = value else { return };
        if let (Some(block), Some(list @ Value::Array(_))) = (self.text, logprobs.shift_remove("content")) {
            steps.delta(block, Delta::Extras(own_extras("logprobs", list)));
        }
    }

    fn read_reasoning(&mut self, delta: &mut Fields, steps: &mut Steps) {
        let mut plain = String::new();
        for key in ["reasoning_content", "reasoning"] {
            match delta.take(key) {
                Some(Value::String(text)) if plain.is_empty() => plain = text,
                _ => {}
            }
        }
        let details: Vec<Detail> = match delta.take("reasoning_details") {
            Some(Value::Array(list)) => list.into_iter().filter_map(Detail::read).collect(),
            _ => Vec::new(),
        };
        // Where both say it, the details say more.
        let told = details
            .iter()
            .any(|detail| matches!(&detail.content, DetailContent::Text { text, .. } if !text.is_empty()));
        if !told {
            self.think(&plain, steps);
        }
        for detail in details {
            self.read_detail(detail, steps);
        }
    }

    /// Plain reasoning text.
    fn think(&mut self, text: &str, steps: &mut Steps) {
        if text.is_empty() {
            return;
        }
        if self.thought.as_ref().is_none_or(|thought| thought.entry.is_some()) {
            self.begin_thought(None, None, false, steps);
        }
        if let Some(thought) = &mut self.thought {
            thought.text.push_str(text);
            steps.delta(thought.block, Delta::Text(text.to_owned()));
        }
    }

    fn begin_thought(&mut self, entry: Option<Option<u64>>, id: Option<String>, summary: bool, steps: &mut Steps) {
        self.close_thought(steps);
        self.close_text(steps);
        self.close_whole_calls(steps);
        let block = steps.start(self.index, BlockKind::Reasoning { id: id.clone(), summary });
        self.thought =
            Some(Thought { block, entry, id, summary, text: String::new(), signed: false, encrypted: false });
    }

    fn read_detail(&mut self, detail: Detail, steps: &mut Steps) {
        if let Some((id, proof)) = detail.proof_of_part() {
            let (id, proof) = (id.to_owned(), proof.clone());
            self.prove(id, proof, steps);
            return;
        }
        let entry = Some(detail.index);
        let continues = |thought: &Thought| detail.index.is_some() && thought.entry == entry;
        match detail.content {
            DetailContent::Text { text, summary, signature } => {
                let open = self.thought.as_mut().filter(|thought| !thought.signed && !thought.encrypted);
                match open {
                    // Our own encoder streams plain text and tells the whole entry when its proof comes.
                    Some(thought) if thought.entry.is_none() && (text.is_empty() || thought.text == text) => {
                        thought.entry = entry;
                    }
                    Some(thought) if continues(thought) && thought.summary == summary => {
                        if !text.is_empty() {
                            steps.delta(thought.block, Delta::Text(text));
                        }
                    }
                    _ => {
                        self.begin_thought(entry, detail.id, summary, steps);
                        if let Some(thought) = &self.thought
                            && !text.is_empty()
                        {
                            steps.delta(thought.block, Delta::Text(text));
                        }
                    }
                }
                if let (Some(thought), Some(signature)) = (&mut self.thought, signature) {
                    thought.signed = true;
                    steps.delta(thought.block, Delta::Signature(signature));
                }
            }
            DetailContent::Encrypted(proof) => {
                let fits = self.thought.as_ref().is_some_and(|thought| {
                    continues(thought) && !thought.encrypted && (detail.id.is_none() || detail.id == thought.id)
                });
                if !fits {
                    self.begin_thought(entry, detail.id, false, steps);
                }
                if let Some(thought) = &mut self.thought {
                    thought.encrypted = true;
                    steps.delta(thought.block, Delta::Encrypted(proof));
                }
            }
            DetailContent::Foreign(value) => {
                steps.whole(self.index, BlockKind::Foreign { dialect: DialectId::OpenAiChat, value }, None);
            }
        }
    }

    /// A proof of another part: the open text, a call that is there, or one that is still to come.
    fn prove(&mut self, id: String, proof: Signature, steps: &mut Steps) {
        if reasoning::is_text_mark(&id) {
            let block = self.text_block(steps);
            steps.delta(block, Delta::Signature(proof));
            return;
        }
        match self.calls.iter().find(|call| call.id == id) {
            Some(Call { block: Some(block), closed: false, .. }) => steps.delta(*block, Delta::Signature(proof)),
            // Too late for the block; it goes back to the vendor under the call's id all the same.
            Some(Call { closed: true, .. }) => steps.encrypted(self.index, id, proof),
            _ => self.early_proofs.push((id, proof)),
        }
    }

    fn read_call(&mut self, value: Value, steps: &mut Steps) {
        let Value::Object(map) = value else {
            steps.events.push(Event::Skipped { why: "a tool call that is no object".to_owned() });
            return;
        };
        let mut fields = Fields::new(map, "tool_calls");
        let position = fields.take("index").and_then(|value| value.as_u64());
        let id = response::text(&mut fields, "id");
        fields.take("type");
        let proof = tool_call::take_google_proof(&mut fields);
        let (mut name, mut arguments) = (String::new(), String::new());
        if let Some(Value::Object(mut function)) = fields.take("function") {
            if let Some(Value::String(text)) = function.shift_remove("name") {
                name = text;
            }
            arguments = tool_call::read_arguments(function.shift_remove("arguments"));
        }
        let found = self.find_call(position, id.as_deref(), &name, &arguments);
        let slot = match found {
            Some(slot) => slot,
            None => {
                self.close_thought(steps);
                self.close_text(steps);
                self.close_whole_calls(steps);
                let has_own_id = id.is_some();
                let id = id.unwrap_or_else(|| tool_call::made_up_id(&self.scope, self.calls.len()));
                self.calls.push(Call {
                    block: None,
                    position,
                    id,
                    has_own_id,
                    name: String::new(),
                    arguments: String::new(),
                    extras: Map::new(),
                    closed: false,
                });
                self.calls.len() - 1
            }
        };
        let Some(call) = self.calls.get_mut(slot) else { return };
        if call.name.is_empty() {
            call.name = name;
        }
        call.extras.extend(fields.telling_extras().fields);
        if call.block.is_none() && !call.name.is_empty() {
            open_call(self.index, call, &mut self.early_proofs, steps);
        }
        call.arguments.push_str(&arguments);
        if let Some(block) = call.block {
            if let Some(proof) = proof {
                steps.delta(block, Delta::Signature(proof));
            }
            if !arguments.is_empty() {
                steps.delta(block, Delta::Arguments(arguments));
            }
        } else if let Some(proof) = proof {
            self.early_proofs.push((call.id.clone(), proof));
        }
    }

    /// Which call a delta belongs to; `None` for a new one. Servers give every call index 0 with new ids, leave ids out
    /// after the first delta, repeat them in every delta, or send whole calls without any id.
    fn find_call(&self, position: Option<u64>, id: Option<&str>, name: &str, arguments: &str) -> Option<usize> {
        if let Some(id) = id {
            if let Some(slot) = self.calls.iter().position(|call| call.id == id && !call.closed) {
                return Some(slot);
            }
            // An id that comes only after the first delta.
            return self.calls.iter().rposition(|call| {
                !call.closed
                    && !call.has_own_id
                    && call.block.is_none()
                    && position.is_some()
                    && call.position == position
            });
        }
        let slot = match position {
            Some(_) => self.calls.iter().rposition(|call| call.position == position)?,
            None => self.calls.len().checked_sub(1)?,
        };
        let call = self.calls.get(slot)?;
        let is_another = call.closed || (!name.is_empty() && !arguments.is_empty() && call.is_whole());
        (!is_another).then_some(slot)
    }

    fn close_text(&mut self, steps: &mut Steps) {
        if let Some(block) = self.text.take() {
            let annotations = std::mem::take(&mut self.annotations);
            if !annotations.is_empty() {
                steps.delta(block, Delta::Extras(own_extras("annotations", Value::Array(annotations))));
            }
            steps.stop(block);
        }
    }

    fn close_thought(&mut self, steps: &mut Steps) {
        if let Some(thought) = self.thought.take() {
            steps.stop(thought.block);
        }
    }

    /// Closes the calls whose arguments are complete, so that what follows need not be held back for them.
    fn close_whole_calls(&mut self, steps: &mut Steps) {
        for call in self.calls.iter_mut().filter(|call| !call.closed && call.is_whole()) {
            close_call(call, steps);
        }
    }

    fn close_all(&mut self, steps: &mut Steps) {
        self.close_thought(steps);
        if !self.annotations.is_empty() {
            self.text_block(steps);
        }
        self.close_text(steps);
        if let Some(block) = self.refusal.take() {
            steps.stop(block);
        }
        for call in self.calls.iter_mut().filter(|call| !call.closed) {
            if call.block.is_none() {
                open_call(self.index, call, &mut self.early_proofs, steps);
            }
            close_call(call, steps);
        }
        if let Some(sound) = self.sound.finish() {
            steps.whole(self.index, BlockKind::Media(sound), None);
        }
        for (id, proof) in std::mem::take(&mut self.early_proofs) {
            steps.encrypted(self.index, id, proof);
        }
    }
}

impl Call {
    /// The arguments are a complete JSON value.
    fn is_whole(&self) -> bool {
        self.arguments.trim_end().ends_with('}')
            && serde_json::from_str::<serde::de::IgnoredAny>(&self.arguments).is_ok()
    }
}

fn open_call(candidate: u32, call: &mut Call, early_proofs: &mut Vec<(String, Signature)>, steps: &mut Steps) {
    let block = steps.start(candidate, BlockKind::ToolCall { id: call.id.clone(), name: call.name.clone() });
    call.block = Some(block);
    early_proofs.retain(|(id, proof)| {
        if *id == call.id {
            steps.delta(block, Delta::Signature(proof.clone()));
        }
        *id != call.id
    });
    if !call.arguments.is_empty() {
        steps.delta(block, Delta::Arguments(call.arguments.clone()));
    }
}

fn close_call(call: &mut Call, steps: &mut Steps) {
    call.closed = true;
    if let Some(block) = call.block {
        if !call.extras.is_empty() {
            let extras = Extras::from_fields(DialectId::OpenAiChat, std::mem::take(&mut call.extras));
            steps.delta(block, Delta::Extras(extras));
        }
        steps.stop(block);
    }
}

fn own_extras(key: &str, value: Value) -> Extras {
    Extras::from_fields(DialectId::OpenAiChat, Map::from_iter([(key.to_owned(), value)]))
}
