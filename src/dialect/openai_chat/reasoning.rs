//! `reasoning_details`: the blocks of the model's reasoning with their proofs, in OpenRouter's shapes
//! (<https://openrouter.ai/docs/use-cases/reasoning-tokens>, as of 2025-12).
//!
//! A proof that sits on another part of the message (Gemini signs tool calls, texts and media) is a `reasoning.encrypted`
//! detail whose id names that part: the tool call's own id, or a mark of ours for the n-th text or medium.

use super::words;
use crate::chat::{DialectId, Part, ReasoningPart, Signature, SignatureOrigin};
use serde_json::{Map, Value, json};

const TEXT_MARK: &str = "bifrost-text-";
const MEDIA_MARK: &str = "bifrost-media-";

/// One entry of `reasoning_details`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Detail {
    pub(super) content: DetailContent,
    pub(super) id: Option<String>,
    pub(super) index: Option<u64>,
    pub(super) origin: SignatureOrigin,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum DetailContent {
    /// `reasoning.text` (`summary` false) or `reasoning.summary`.
    Text { text: String, summary: bool, signature: Option<Signature> },
    /// `reasoning.encrypted`.
    Encrypted(Signature),
    /// A type that is not known here.
    Foreign(Value),
}

impl Detail {
    /// Reads one entry; `None` when it is no object.
    pub(super) fn read(value: Value) -> Option<Self> {
        let map = value.as_object()?;
        let text_of = |key: &str| map.get(key).and_then(Value::as_str);
        let origin = words::origin(text_of("format"));
        let content = match text_of("type") {
            Some("reasoning.text") => DetailContent::Text {
                text: text_of("text").unwrap_or_default().to_owned(),
                summary: false,
                signature: text_of("signature")
                    .filter(|value| !value.is_empty())
                    .map(|value| Signature::open(origin, value)),
            },
            Some("reasoning.summary") => DetailContent::Text {
                text: text_of("summary").unwrap_or_default().to_owned(),
                summary: true,
                signature: None,
            },
            Some("reasoning.encrypted") => {
                DetailContent::Encrypted(Signature::open(origin, text_of("data").unwrap_or_default()))
            }
            _ => DetailContent::Foreign(value.clone()),
        };
        Some(Self {
            content,
            id: text_of("id").filter(|id| !id.is_empty()).map(str::to_owned),
            index: map.get("index").and_then(Value::as_u64),
            origin,
        })
    }

    /// The part of the message that this entry proves, where it is not reasoning of its own.
    pub(super) fn proof_of_part(&self) -> Option<(&str, &Signature)> {
        match (&self.content, self.id.as_deref()) {
            (DetailContent::Encrypted(proof), Some(id))
                if proof.origin == SignatureOrigin::Gemini
                    || id.starts_with(TEXT_MARK)
                    || id.starts_with(MEDIA_MARK) =>
            {
                Some((id, proof))
            }
            _ => None,
        }
    }
}

/// Reads the whole list into `parts` and gives back the proofs of other parts with the ids that name them.
pub(super) fn read_list(list: Vec<Value>, parts: &mut Vec<Part>) -> Vec<(String, Signature)> {
    let mut proofs = Vec::new();
    // The index of the entry that the last part of `parts` was read from.
    let mut last_index = None;
    for detail in list.into_iter().filter_map(Detail::read) {
        if let Some((id, proof)) = detail.proof_of_part() {
            proofs.push((id.to_owned(), proof.clone()));
            continue;
        }
        let same = detail.index.is_some() && detail.index == last_index;
        last_index = detail.index;
        match (parts.last_mut(), detail.content) {
            (Some(Part::Reasoning(part)), DetailContent::Text { text, summary, signature })
                if same && part.summary == summary && !has_proof(part) =>
            {
                part.text.push_str(&text);
                part.signature = signature;
                part.id = detail.id.or(part.id.take());
            }
            (Some(Part::Reasoning(part)), DetailContent::Encrypted(proof)) if same && part.encrypted.is_none() => {
                part.encrypted = Some(proof);
                part.id = detail.id.or(part.id.take());
            }
            (_, DetailContent::Text { text, summary, signature }) => {
                parts.push(Part::Reasoning(ReasoningPart { text, summary, signature, encrypted: None, id: detail.id }));
            }
            (_, DetailContent::Encrypted(proof)) => parts.push(encrypted_part(detail.id, proof)),
            (_, DetailContent::Foreign(value)) => parts.push(Part::Foreign { dialect: DialectId::OpenAiChat, value }),
        }
    }
    proofs
}

/// Puts each proof on the part that its id names; one that names no part here becomes reasoning of its own.
pub(super) fn attach(proofs: Vec<(String, Signature)>, parts: &mut Vec<Part>) {
    let mut strays = Vec::new();
    for (id, proof) in proofs {
        match find(&id, parts) {
            Some(slot) => *slot = Some(proof),
            None => strays.push(encrypted_part(Some(id), proof)),
        }
    }
    parts.splice(0..0, strays);
}

fn find<'p>(id: &str, parts: &'p mut [Part]) -> Option<&'p mut Option<Signature>> {
    if let Some(number) = id.strip_prefix(TEXT_MARK) {
        let texts = parts.iter_mut().filter_map(|part| match part {
            Part::Text { signature, .. } => Some(signature),
            _ => None,
        });
        return nth_or_last(texts, number);
    }
    if let Some(number) = id.strip_prefix(MEDIA_MARK) {
        let media = parts.iter_mut().filter_map(|part| match part {
            Part::Media(media) => Some(&mut media.signature),
            _ => None,
        });
        return nth_or_last(media, number);
    }
    parts.iter_mut().find_map(|part| match part {
        Part::ToolCall(call) if call.id == id => Some(&mut call.signature),
        _ => None,
    })
}

/// Texts are joined on the way to a client, so the last one stands for those that are no more.
fn nth_or_last<'p>(
    slots: impl Iterator<Item = &'p mut Option<Signature>>,
    number: &str,
) -> Option<&'p mut Option<Signature>> {
    let number = number.parse::<usize>().unwrap_or(0);
    slots.take(number.saturating_add(1)).last()
}

/// The whole list for the parts of a message; empty where `reasoning_content` says everything.
pub(super) fn write_list(parts: &[Part]) -> Vec<Value> {
    let reasoning: Vec<&ReasoningPart> = parts
        .iter()
        .filter_map(|part| match part {
            Part::Reasoning(reasoning) => Some(reasoning),
            _ => None,
        })
        .collect();
    let mut list = Vec::new();
    if reasoning.len() > 1 || reasoning.iter().any(|part| !is_plain(part)) {
        for (index, part) in reasoning.iter().enumerate() {
            write_part(part, index, &mut list);
        }
    }
    let mut index = reasoning.len();
    let (mut texts, mut media) = (0, 0);
    for part in parts {
        match part {
            Part::ToolCall(call) => {
                if let Some(proof) = &call.signature {
                    list.push(proof_entry(proof, &call.id, index));
                    index += 1;
                }
            }
            Part::Text { signature, .. } => {
                if let Some(proof) = signature {
                    list.push(proof_entry(proof, &text_mark(texts), index));
                    index += 1;
                }
                texts += 1;
            }
            Part::Media(part) => {
                if let Some(proof) = &part.signature {
                    list.push(proof_entry(proof, &media_mark(media), index));
                    index += 1;
                }
                media += 1;
            }
            Part::Foreign { dialect: DialectId::OpenAiChat, value } if is_detail(value) => list.push(value.clone()),
            _ => {}
        }
    }
    list
}

/// The entries of one part.
pub(super) fn write_part(part: &ReasoningPart, index: usize, list: &mut Vec<Value>) {
    let proof = part.signature.as_ref().or(part.encrypted.as_ref());
    let format = proof.map(|proof| words::format(proof.origin));
    let mut id = part.id.as_deref();
    // The id belongs to the encrypted entry where there is one: that is what the vendor looks up.
    let encrypted = part.encrypted.as_ref().map(|proof| {
        entry("reasoning.encrypted", id.take(), format, index, |map| {
            map.insert("data".into(), json!(proof.value));
        })
    });
    if !part.text.is_empty() || part.signature.is_some() || encrypted.is_none() {
        let kind = if part.summary { "reasoning.summary" } else { "reasoning.text" };
        list.push(entry(kind, id, format, index, |map| {
            map.insert(if part.summary { "summary" } else { "text" }.into(), json!(part.text));
            if let Some(signature) = &part.signature {
                map.insert("signature".into(), json!(signature.value));
            }
        }));
    }
    list.extend(encrypted);
}

/// The entry that proves another part.
pub(super) fn proof_entry(proof: &Signature, id: &str, index: usize) -> Value {
    entry("reasoning.encrypted", Some(id), Some(words::format(proof.origin)), index, |map| {
        map.insert("data".into(), json!(proof.value));
    })
}

/// True for the id of a proof of a text.
pub(super) fn is_text_mark(id: &str) -> bool {
    id.starts_with(TEXT_MARK)
}

/// The id of a proof of the n-th text.
pub(super) fn text_mark(number: usize) -> String {
    format!("{TEXT_MARK}{number}")
}

/// The id of a proof of the n-th medium.
pub(super) fn media_mark(number: usize) -> String {
    format!("{MEDIA_MARK}{number}")
}

/// True when `reasoning_content` alone says everything.
pub(super) fn is_plain(part: &ReasoningPart) -> bool {
    !part.summary && part.id.is_none() && !has_proof(part)
}

/// True for an entry of `reasoning_details` that was kept as it stood.
pub(super) fn is_detail(value: &Value) -> bool {
    value.get("type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("reasoning."))
}

/// Reasoning that only its vendor can read.
pub(super) fn encrypted_part(id: Option<String>, proof: Signature) -> Part {
    Part::Reasoning(ReasoningPart { encrypted: Some(proof), id, ..ReasoningPart::default() })
}

fn has_proof(part: &ReasoningPart) -> bool {
    part.signature.is_some() || part.encrypted.is_some()
}

fn entry(
    kind: &str,
    id: Option<&str>,
    format: Option<&str>,
    index: usize,
    fill: impl FnOnce(&mut Map<String, Value>),
) -> Value {
    let mut map = Map::new();
    map.insert("type".into(), json!(kind));
    fill(&mut map);
    if let Some(id) = id {
        map.insert("id".into(), json!(id));
    }
    if let Some(format) = format {
        map.insert("format".into(), json!(format));
    }
    map.insert("index".into(), json!(index));
    Value::Object(map)
}
