//! Content blocks: from the wire, and to a client or a provider.

use super::ID;
use super::fields::{Fields, put_extras};
use super::media;
use super::sealed::{self, Place};
use super::tools::{call_id, note_name};
use crate::chat::{
    CacheMarker, ChatError, Losses, Part, ReasoningPart, Signature, SignatureOrigin, ToolCall, ToolResult,
};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Reads a list of content blocks; signatures that travelled as `redacted_thinking` go back to their places.
pub(super) fn read_blocks(values: Vec<Value>, path: &str) -> Result<Vec<Part>, ChatError> {
    let mut parts = Vec::with_capacity(values.len());
    let mut calls = HashMap::new();
    for (index, value) in values.into_iter().enumerate() {
        let path = format!("{path}.{index}");
        if value.get("type").is_none_or(|kind| kind != "redacted_thinking") {
            parts.push(read_block(value, path)?);
            continue;
        }
        let data = Fields::new(value, path)?.required_string("data")?;
        match sealed::open(&data) {
            (Place::PLAIN, None) => {}
            (Place::Reasoning { id, summary }, encrypted) => {
                parts.push(Part::Reasoning(ReasoningPart { id, summary, encrypted, ..ReasoningPart::default() }));
            }
            (Place::Rest, encrypted) => match parts.last_mut() {
                Some(Part::Reasoning(part)) if part.encrypted.is_none() => part.encrypted = encrypted,
                _ => parts.push(Part::Reasoning(ReasoningPart { encrypted, ..ReasoningPart::default() })),
            },
            (Place::Call(id), signature) => {
                calls.insert(id, signature);
            }
        }
    }
    for part in &mut parts {
        if let Part::ToolCall(call) = part {
            call.signature = calls.remove(&call.id).flatten();
        }
    }
    Ok(parts)
}

fn read_block(value: Value, path: String) -> Result<Part, ChatError> {
    let kind = match value.get("type").and_then(Value::as_str) {
        Some(kind) => kind.to_owned(),
        None => return Err(Fields::new(value, path)?.missing("type")),
    };
    let is_known = match kind.as_str() {
        "text" | "thinking" | "tool_use" | "tool_result" => true,
        "image" | "document" => media::is_known(&value),
        _ => false,
    };
    if !is_known {
        return Ok(Part::Foreign { dialect: ID, value });
    }
    let mut fields = Fields::new(value, path)?;
    fields.take("type");
    match kind.as_str() {
        "text" => Ok(Part::Text {
            text: fields.required_string("text")?,
            cache: take_cache(&mut fields),
            signature: None,
            extras: fields.extras(),
        }),
        "thinking" => {
            let text = fields.string("thinking")?.unwrap_or_default();
            let (place, signature) = sealed::open(&fields.string("signature")?.unwrap_or_default());
            let (id, summary) = match place {
                Place::Reasoning { id, summary } => (id, summary),
                _ => (None, false),
            };
            Ok(Part::Reasoning(ReasoningPart { text, summary, signature, encrypted: None, id }))
        }
        "tool_use" => read_call(fields).map(Part::ToolCall),
        "tool_result" => read_result(fields).map(Part::ToolResult),
        _ => media::read(&kind, fields).map(Part::Media),
    }
}

/// Reads a `tool_use` block, of an answer or at the start of a streamed one.
pub(super) fn read_call(mut fields: Fields) -> Result<ToolCall, ChatError> {
    let id = fields.required_string("id")?;
    let name = fields.required_string("name")?;
    let arguments = fields.take("input").map_or_else(String::new, |input| input.to_string());
    let cache = take_cache(&mut fields);
    // A call by the model itself is what every dialect means by a call.
    if fields.get("caller").is_some_and(|caller| *caller == json!({"type": "direct"})) {
        fields.take("caller");
    }
    Ok(ToolCall { id, name, arguments, signature: None, cache, extras: fields.extras() })
}

fn read_result(mut fields: Fields) -> Result<ToolResult, ChatError> {
    let call_id = fields.required_string("tool_use_id")?;
    let content = match fields.take("content") {
        None => Vec::new(),
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![Part::text(text)],
        Some(Value::Array(blocks)) => read_blocks(blocks, &fields.at("content"))?,
        Some(_) => {
            let at = fields.at("content");
            return Err(ChatError::invalid(&at, format!("`{at}` must be a text or a list of content blocks")));
        }
    };
    let is_error = fields.boolean("is_error")?.unwrap_or(false);
    let cache = take_cache(&mut fields);
    Ok(ToolResult { call_id, name: None, content, json: None, is_error, cache, extras: fields.extras() })
}

/// Takes `cache_control`; one of an unknown type stays with the fields that only this dialect knows.
pub(super) fn take_cache(fields: &mut Fields) -> Option<CacheMarker> {
    let value = fields.take("cache_control")?;
    if value.get("type").is_some_and(|kind| kind == "ephemeral") {
        let ttl = value.get("ttl").and_then(Value::as_str).map(str::to_owned);
        return Some(CacheMarker { ttl });
    }
    fields.put_back("cache_control", value);
    None
}

/// Writes `cache_control`.
pub(super) fn put_cache(map: &mut Map<String, Value>, cache: Option<&CacheMarker>) {
    if let Some(cache) = cache {
        let mut control = json!({"type": "ephemeral"});
        if let Some(ttl) = &cache.ttl {
            control["ttl"] = json!(ttl);
        }
        map.insert("cache_control".to_owned(), control);
    }
}

/// To whom blocks are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// A client, which hands back what it is given: foreign signatures are sealed.
    Client,
    /// A provider, which checks signatures: only its own are written.
    Provider {
        /// Takes thinking without a signature (a server that only speaks the dialect).
        unsigned_thinking: bool,
    },
}

/// Writes content blocks.
pub(super) struct BlockWriter<'a> {
    /// To whom.
    pub(super) reader: Reader,
    /// What cannot be said.
    pub(super) losses: &'a mut Losses,
}

impl BlockWriter<'_> {
    /// The blocks of one turn.
    pub(super) fn blocks(&mut self, parts: &[Part]) -> Vec<Value> {
        let mut out = Vec::with_capacity(parts.len());
        for part in parts {
            self.part(part, &mut out);
        }
        out
    }

    /// Appends the blocks that `part` becomes: one, none, or one with its signature beside it.
    pub(super) fn part(&mut self, part: &Part, out: &mut Vec<Value>) {
        match part {
            Part::Text { text, cache, signature, extras } => {
                self.text(text, cache.as_ref(), out, |writer, map| {
                    put_extras(map, extras, "content.", writer.losses);
                });
                if signature.is_some() {
                    self.losses.dropped("reasoning.signature");
                }
            }
            Part::Media(part) if self.reader == Reader::Client => {
                self.losses.dropped(format!("content.{}", media::kind_name(part.kind)));
            }
            Part::Media(part) => out.extend(media::write(part, self.losses)),
            Part::Reasoning(part) => self.reasoning(part, out),
            Part::ToolCall(call) => {
                self.call_signature(call, out);
                let block = self.call(call);
                out.push(block);
            }
            Part::ToolResult(result) => {
                let block = self.result(result);
                out.push(block);
            }
            Part::Refusal(text) => {
                self.losses.approximated("refusal");
                self.text(text, None, out, |_, _| {});
            }
            Part::Foreign { dialect, value } if *dialect == ID => out.push(value.clone()),
            Part::Foreign { value, .. } => self.losses.dropped(format!("content.{}", foreign_name(value))),
        }
    }

    /// Appends a text block; one without characters is refused by the API, and is left out.
    fn text(
        &mut self,
        text: &str,
        cache: Option<&CacheMarker>,
        out: &mut Vec<Value>,
        more: impl FnOnce(&mut Self, &mut Map<String, Value>),
    ) {
        if text.is_empty() {
            if cache.is_some() {
                self.losses.dropped("content.cache_control");
            }
            return;
        }
        let mut map = typed("text");
        map.insert("text".to_owned(), json!(text));
        put_cache(&mut map, cache);
        more(self, &mut map);
        out.push(Value::Object(map));
    }

    /// The proof of a call, before the call: what comes last is what a client takes for the answer.
    fn call_signature(&mut self, call: &ToolCall, out: &mut Vec<Value>) {
        let Some(signature) = &call.signature else { return };
        let sealed = match self.reader {
            Reader::Client => sealed::seal(&Place::Call(call.id.clone()), Some(signature)),
            Reader::Provider { .. } => None,
        };
        match sealed {
            Some(data) => out.push(json!({"type": "redacted_thinking", "data": data})),
            None => self.losses.dropped("reasoning.signature"),
        }
    }

    fn reasoning(&mut self, part: &ReasoningPart, out: &mut Vec<Value>) {
        match self.reader {
            Reader::Client => self.reasoning_to_client(part, out),
            Reader::Provider { unsigned_thinking } => self.reasoning_to_provider(part, unsigned_thinking, out),
        }
    }

    fn reasoning_to_client(&mut self, part: &ReasoningPart, out: &mut Vec<Value>) {
        let is_encrypted_only = part.text.is_empty() && part.signature.is_none() && part.encrypted.is_some();
        if !is_encrypted_only {
            let signature = self.seal_reasoning(part, part.signature.as_ref());
            out.push(json!({"type": "thinking", "thinking": part.text, "signature": signature}));
        }
        if part.encrypted.is_some() {
            let data = self.seal_encrypted(part, part.encrypted.as_ref(), is_encrypted_only);
            out.push(json!({"type": "redacted_thinking", "data": data}));
        }
    }

    /// The proof for a client, with the item's id and kind inside it where the proof is not Anthropic's own.
    pub(super) fn seal_reasoning(&mut self, part: &ReasoningPart, signature: Option<&Signature>) -> String {
        let place = Place::Reasoning { id: part.id.clone(), summary: part.summary };
        sealed::seal(&place, signature).unwrap_or_else(|| {
            if part.id.is_some() {
                self.losses.dropped("reasoning.id");
            }
            signature.map(|signature| signature.value.clone()).unwrap_or_default()
        })
    }

    /// The encrypted reasoning for a client: all of the part, or the half that follows its text.
    pub(super) fn seal_encrypted(
        &mut self,
        part: &ReasoningPart,
        encrypted: Option<&Signature>,
        is_alone: bool,
    ) -> String {
        let rest = if is_alone { None } else { sealed::seal(&Place::Rest, encrypted) };
        rest.unwrap_or_else(|| self.seal_reasoning(part, encrypted))
    }

    fn reasoning_to_provider(&mut self, part: &ReasoningPart, unsigned_thinking: bool, out: &mut Vec<Value>) {
        let own = |signature: &Option<Signature>| {
            signature
                .as_ref()
                .filter(|signature| signature.origin == SignatureOrigin::Anthropic)
                .map(|s| s.value.clone())
        };
        if let Some(signature) = own(&part.signature) {
            out.push(json!({"type": "thinking", "thinking": part.text, "signature": signature}));
        } else if unsigned_thinking && !part.text.is_empty() {
            if part.signature.is_some() {
                self.losses.dropped("reasoning.signature");
            }
            out.push(json!({"type": "thinking", "thinking": part.text, "signature": ""}));
        } else if part.signature.is_some() || !part.text.is_empty() {
            self.losses.dropped("reasoning");
        }
        match (own(&part.encrypted), &part.encrypted) {
            (Some(data), _) => out.push(json!({"type": "redacted_thinking", "data": data})),
            (None, Some(_)) => self.losses.dropped("reasoning.encrypted"),
            (None, None) => {}
        }
    }

    fn call(&mut self, call: &ToolCall) -> Value {
        let mut map = typed("tool_use");
        let (id, name) = match self.reader {
            Reader::Client => (call.id.as_str().into(), call.name.as_str().into()),
            Reader::Provider { .. } => (call_id(&call.id), note_name(&call.name, self.losses)),
        };
        map.insert("id".to_owned(), json!(id));
        map.insert("name".to_owned(), json!(name));
        map.insert("input".to_owned(), self.input(call));
        put_cache(&mut map, call.cache.as_ref());
        put_extras(&mut map, &call.extras, "content.", self.losses);
        Value::Object(map)
    }

    /// The arguments as the object that the API asks for. What is none is wrapped as Anthropic's page on fine-grained tool
    /// streaming proposes.
    fn input(&mut self, call: &ToolCall) -> Value {
        match call.parsed_arguments() {
            Some(input @ Value::Object(_)) => input,
            _ => {
                self.losses.approximated("content.arguments");
                json!({"INVALID_JSON": call.arguments})
            }
        }
    }

    fn result(&mut self, result: &ToolResult) -> Value {
        let mut map = typed("tool_result");
        let id = match self.reader {
            Reader::Client => result.call_id.as_str().into(),
            Reader::Provider { .. } => call_id(&result.call_id),
        };
        map.insert("tool_use_id".to_owned(), json!(id));
        if let Some(content) = self.result_content(result) {
            map.insert("content".to_owned(), content);
        }
        if result.is_error {
            map.insert("is_error".to_owned(), json!(true));
        }
        put_cache(&mut map, result.cache.as_ref());
        put_extras(&mut map, &result.extras, "content.", self.losses);
        Value::Object(map)
    }

    fn result_content(&mut self, result: &ToolResult) -> Option<Value> {
        if let [Part::Text { text, cache: None, signature: None, extras }] = &result.content[..]
            && extras.is_empty()
            && !text.is_empty()
        {
            return Some(json!(text));
        }
        let mut blocks = Vec::new();
        let has_text = result.content.iter().any(|part| matches!(part, Part::Text { .. }));
        if let (Some(json), false) = (&result.json, has_text) {
            blocks.push(json!({"type": "text", "text": json.to_string()}));
        }
        // Pictures and documents may stand in a result, whoever reads it.
        for part in &result.content {
            match part {
                Part::Media(part) => blocks.extend(media::write(part, self.losses)),
                Part::Text { .. } | Part::Refusal(_) | Part::Foreign { .. } => self.part(part, &mut blocks),
                Part::Reasoning(_) | Part::ToolCall(_) | Part::ToolResult(_) => {
                    self.losses.dropped("content.tool_result")
                }
            }
        }
        (!blocks.is_empty()).then_some(Value::Array(blocks))
    }
}

/// A block of this type without other members.
pub(super) fn typed(kind: &str) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), json!(kind))])
}

/// What a block of another dialect calls itself: its type, or its only key.
pub(super) fn foreign_name(value: &Value) -> &str {
    let only_key = || value.as_object().and_then(|map| map.keys().next()).map(String::as_str);
    value.get("type").and_then(Value::as_str).or_else(only_key).unwrap_or("foreign")
}
