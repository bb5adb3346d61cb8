//! The parts of a `Content`: <https://ai.google.dev/api/caching#Part>.

use super::fields::{Fields, put_at};
use super::proof::{self, Towards};
use super::{media, tool_result};
use crate::chat::{DialectId, Extras, Losses, Part, ReasoningPart, ToolCall};
use serde_json::{Map, Value, json};

/// The calls of a conversation: gives ids to calls that have none, and finds the call that a result answers.
#[derive(Debug, Default)]
pub(super) struct CallBook {
    /// What makes ids unique beyond this body: the id of the answer.
    scope: Option<String>,
    count: usize,
    /// Calls of the latest step that have no answer yet.
    open: Vec<OpenCall>,
}

#[derive(Debug)]
struct OpenCall {
    id: String,
    name: String,
    made_up: bool,
}

impl CallBook {
    /// A book for the calls of the answer `response_id`: their ids must differ from those of other turns.
    pub(super) fn of_response(response_id: Option<&str>) -> Self {
        let scope = response_id.map(|id| id.chars().map(safe).take(40).collect());
        Self { scope, ..Self::default() }
    }

    /// The model's turn begins: results that follow answer the calls made from here on.
    pub(super) fn begin_step(&mut self) {
        self.open.clear();
    }

    /// Notes a call and gives its id: its own, or `call_<scope>_<n>_<name>`.
    pub(super) fn call(&mut self, id: Option<String>, name: &str) -> String {
        let own = id.filter(|id| !id.is_empty());
        let made_up = own.is_none();
        let id = own.unwrap_or_else(|| self.made_up(name));
        self.count += 1;
        self.open.push(OpenCall { id: id.clone(), name: name.to_owned(), made_up });
        id
    }

    /// The id of the call that a result of `name` answers: the call of its id, or else the first open call of that name.
    pub(super) fn answer(&mut self, id: Option<String>, name: &str) -> String {
        let id = id.filter(|id| !id.is_empty());
        let position = match &id {
            Some(id) => self.open.iter().position(|call| call.id == *id).or_else(|| {
                // The result has an id and the call had none.
                self.open.iter().position(|call| call.made_up && call.name == name)
            }),
            None if name.is_empty() => (!self.open.is_empty()).then_some(0),
            None => self.open.iter().position(|call| call.name == name),
        };
        match (position, id) {
            (Some(at), _) => self.open.remove(at).id,
            (None, Some(id)) => id,
            (None, None) => {
                let id = self.made_up(name);
                self.count += 1;
                id
            }
        }
    }

    fn made_up(&self, name: &str) -> String {
        let name: String = name.chars().map(safe).take(40).collect();
        match &self.scope {
            Some(scope) => format!("call_{scope}_{}_{name}", self.count),
            None => format!("call_{}_{name}", self.count),
        }
    }
}

/// Anthropic takes only these in the id of a call.
fn safe(letter: char) -> char {
    if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' }
}

/// What a part is, by the member that says it.
enum Kind {
    Call,
    Result,
    Media,
    Text,
    Foreign,
}

fn kind(fields: &Fields) -> Kind {
    if fields.object("functionCall").is_some_and(|call| call.get("name").is_some_and(Value::is_string)) {
        Kind::Call
    } else if fields.object("functionResponse").is_some() {
        Kind::Result
    } else if fields.object("inlineData").or_else(|| fields.object("fileData")).is_some() {
        // A picture that is a thought has no neutral form.
        if fields.is_true("thought") { Kind::Foreign } else { Kind::Media }
    } else if fields.has("text") || fields.holds_only(&["thought", "thoughtSignature"]) {
        Kind::Text
    } else {
        Kind::Foreign
    }
}

/// Reads one part; `None` for one that says nothing.
pub(super) fn read_part(value: Value, calls: &mut CallBook) -> Option<Part> {
    let mut fields = Fields::of(value)?;
    match kind(&fields) {
        Kind::Foreign => Some(Part::Foreign { dialect: DialectId::Gemini, value: Value::Object(fields.rest()) }),
        Kind::Call => Some(Part::ToolCall(read_call(fields, calls))),
        Kind::Result => {
            let result = fields.take_object("functionResponse").unwrap_or_default();
            Some(Part::ToolResult(tool_result::read(result, fields.rest(), calls)))
        }
        Kind::Media => {
            let signature = fields.take_string("thoughtSignature");
            media::read(fields, signature).map(Part::Media)
        }
        Kind::Text => read_text(fields),
    }
}

fn read_text(mut fields: Fields) -> Option<Part> {
    let thought = fields.is_true("thought");
    fields.take("thought");
    let signature = fields.take_string("thoughtSignature");
    let text = fields.take_string("text").unwrap_or_default();
    if thought {
        let mut part = ReasoningPart { text, ..ReasoningPart::default() };
        if let Some(signature) = &signature {
            proof::read_reasoning(signature, &mut part);
        }
        return (part != ReasoningPart::default()).then_some(Part::Reasoning(part));
    }
    let extras = Extras::from_fields(DialectId::Gemini, fields.rest());
    let signature = signature.and_then(|text| proof::read(&text));
    if text.is_empty() && signature.is_none() && extras.is_empty() {
        return None;
    }
    Some(Part::Text { text, cache: None, signature, extras })
}

fn read_call(mut fields: Fields, calls: &mut CallBook) -> ToolCall {
    let signature = fields.take_string("thoughtSignature").and_then(|text| proof::read(&text));
    fields.take("thought");
    let mut call = fields.take_object("functionCall").unwrap_or_default();
    let name = call.take_string("name").unwrap_or_default();
    let id = calls.call(call.take_string("id"), &name);
    let arguments = call.take("args").unwrap_or_else(|| json!({})).to_string();
    let mut extras = fields.rest();
    call.rest_into("functionCall", &mut extras);
    let extras = Extras::from_fields(DialectId::Gemini, extras);
    ToolCall { id, name, arguments, signature, cache: None, extras }
}

/// Writes one part; `None` where there is nothing to say, or Gemini cannot say it (which is then a loss). Tool results
/// are written by [`tool_result::write`].
pub(super) fn write_part(part: &Part, towards: Towards, losses: &mut Losses) -> Option<Value> {
    let mut out = Map::new();
    if part.cache().is_some() && !matches!(part, Part::Media(_)) {
        losses.dropped("cache_control");
    }
    match part {
        Part::Text { text, signature, extras, .. } => {
            write_extras(extras, &mut out, losses);
            let proof = signature.as_ref().and_then(|proof| proof::write(proof, towards, "text.signature", losses));
            if text.is_empty() && proof.is_none() && out.is_empty() {
                return None;
            }
            out.insert("text".into(), text.as_str().into());
            put_proof(&mut out, proof);
        }
        Part::Reasoning(reasoning) => out = write_reasoning(reasoning, towards, losses)?,
        Part::ToolCall(call) => out = write_call(call, towards, losses),
        Part::Media(media) => out = media::write(media, towards, losses)?,
        Part::Refusal(text) => {
            losses.approximated("refusal");
            out.insert("text".into(), text.as_str().into());
        }
        Part::Foreign { dialect: DialectId::Gemini, value } => return Some(value.clone()),
        Part::Foreign { value, .. } => {
            losses.dropped(foreign_name("content", value));
            return None;
        }
        Part::ToolResult(_) => {
            losses.dropped("tool_result");
            return None;
        }
    }
    Some(Value::Object(out))
}

/// A call as a `functionCall` part.
pub(super) fn write_call(call: &ToolCall, towards: Towards, losses: &mut Losses) -> Map<String, Value> {
    let arguments = match call.parsed_arguments() {
        Some(Value::Object(arguments)) => Value::Object(arguments),
        _ => {
            losses.approximated("tool_call.arguments");
            // Anthropic's documented way to carry what is no JSON object.
            json!({ "INVALID_JSON": call.arguments })
        }
    };
    let mut out = Map::new();
    out.insert("functionCall".into(), json!({ "id": call.id, "name": call.name, "args": arguments }));
    write_extras(&call.extras, &mut out, losses);
    put_proof(
        &mut out,
        call.signature.as_ref().and_then(|proof| proof::write(proof, towards, "tool_call.signature", losses)),
    );
    out
}

fn write_reasoning(part: &ReasoningPart, towards: Towards, losses: &mut Losses) -> Option<Map<String, Value>> {
    let proof = match towards {
        Towards::Client => proof::write_reasoning(part, losses),
        Towards::Provider => {
            let proofs = [part.signature.as_ref(), part.encrypted.as_ref()];
            let mut written = None;
            for proof in proofs.into_iter().flatten() {
                // Google would answer a proof of another vendor's with an error, and its text alone proves nothing.
                written = Some(proof::write(proof, towards, "reasoning", losses)?);
            }
            if part.id.is_some() {
                losses.dropped("reasoning.id");
            }
            written
        }
    };
    if part.text.is_empty() && proof.is_none() {
        return None;
    }
    let mut out = Map::new();
    out.insert("text".into(), part.text.as_str().into());
    out.insert("thought".into(), true.into());
    put_proof(&mut out, proof);
    Some(out)
}

fn put_proof(out: &mut Map<String, Value>, proof: Option<String>) {
    if let Some(proof) = proof {
        out.insert("thoughtSignature".into(), proof.into());
    }
}

/// Puts Gemini's own fields back where they stood; those of another dialect are losses.
pub(super) fn write_extras(extras: &Extras, into: &mut Map<String, Value>, losses: &mut Losses) {
    match extras.for_dialect(DialectId::Gemini) {
        Some(fields) => {
            for (path, value) in fields {
                put_at(into, path, value.clone());
            }
        }
        None => {
            for (name, _) in extras.fields.iter().filter(|(_, value)| !value.is_null()) {
                losses.dropped(name.clone());
            }
        }
    }
}

/// The name under which a foreign block is lost: its type, which is a word of the dialect's and no content.
pub(super) fn foreign_name(place: &str, value: &Value) -> String {
    let kind = value.get("type").and_then(Value::as_str).unwrap_or("unknown");
    let is_word = kind.len() <= 40 && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    format!("{place}.{}", if is_word { kind } else { "unknown" })
}
