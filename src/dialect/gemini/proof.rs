//! Signatures in `thoughtSignature`: Gemini's own as they are, foreign ones sealed.
//!
//! The field is `bytes` in the proto, so it must be valid base64, and SDKs write it back in either alphabet.

use crate::chat::{Losses, ReasoningPart, Signature, SignatureOrigin};
use serde_json::{Map, Value, json};

/// What Google's documentation on thought signatures gives to be sent for a function call that another model made
/// (`skip_thought_signature_validator`, as the base64 of its bytes).
pub(super) const SKIP_VALIDATION: &str = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=";

/// The values that Google's clients and documentation give in the place of a signature, as text and as base64: they prove
/// nothing, and mean nothing to anybody else.
const PLACEHOLDERS: [&str; 4] = [
    SKIP_VALIDATION,
    "skip_thought_signature_validator",
    "context_engineering_is_the_way_to_go",
    "Y29udGV4dF9lbmdpbmVlcmluZ19pc190aGVfd2F5X3RvX2dv",
];

/// Who reads what is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Towards {
    /// A client, which gives back what it got: foreign signatures are sealed.
    Client,
    /// Google, which answers a foreign signature with an error: they are left out.
    Provider,
}

/// Reads a `thoughtSignature`; `None` where the value only stands for one.
pub(in crate::dialect) fn read(text: &str) -> Option<Signature> {
    if text.is_empty() || PLACEHOLDERS.contains(&text) {
        return None;
    }
    if text.starts_with(Signature::SEALED_PREFIX) {
        return Some(Signature::open(SignatureOrigin::Gemini, &standard_base64(text)));
    }
    Some(Signature::new(SignatureOrigin::Gemini, text))
}

/// Writes a signature, or notes under `field` that it is left out.
pub(super) fn write(
    signature: &Signature,
    towards: Towards,
    field: &'static str,
    losses: &mut Losses,
) -> Option<String> {
    if towards == Towards::Provider && signature.origin != SignatureOrigin::Gemini {
        losses.dropped(field);
        return None;
    }
    Some(signature.seal(SignatureOrigin::Gemini))
}

/// Puts what a thought part's signature holds into `part`. A foreign reasoning item with more than a signature (encrypted
/// reasoning, an id) is a JSON object inside the seal; no vendor's signature starts with a brace.
pub(super) fn read_reasoning(text: &str, part: &mut ReasoningPart) {
    let Some(signature) = read(text) else { return };
    if signature.origin == SignatureOrigin::Gemini || !signature.value.starts_with('{') {
        part.signature = Some(signature);
        return;
    }
    let Ok(Value::Object(item)) = serde_json::from_str(&signature.value) else {
        part.signature = Some(signature);
        return;
    };
    let string = |name: &str| item.get(name).and_then(Value::as_str);
    part.signature = string("signature").map(|value| Signature::new(signature.origin, value));
    part.encrypted = string("encrypted").map(|value| Signature::new(signature.origin, value));
    part.id = string("id").map(str::to_owned);
    part.summary = item.get("summary").and_then(Value::as_bool).unwrap_or(false);
}

/// The signature of a thought part towards a client: everything of `part` but its text.
pub(super) fn write_reasoning(part: &ReasoningPart, losses: &mut Losses) -> Option<String> {
    let origin = match (&part.encrypted, &part.signature) {
        (Some(encrypted), Some(signature)) if encrypted.origin != signature.origin => {
            losses.dropped("reasoning.signature");
            encrypted.origin
        }
        (Some(proof), _) | (None, Some(proof)) => proof.origin,
        (None, None) if part.id.is_some() || part.summary => SignatureOrigin::Unknown,
        (None, None) => return None,
    };
    let value_of =
        |proof: &Option<Signature>| proof.as_ref().filter(|proof| proof.origin == origin).map(|p| p.value.clone());
    let (signature, encrypted) = (value_of(&part.signature), value_of(&part.encrypted));
    if origin == SignatureOrigin::Gemini {
        if part.id.is_some() {
            losses.dropped("reasoning.id");
        }
        return signature.or(encrypted);
    }
    if encrypted.is_none() && part.id.is_none() && !part.summary {
        return signature.map(|value| Signature::new(origin, value).seal(SignatureOrigin::Gemini));
    }
    let mut item = Map::new();
    for (name, value) in [("signature", signature), ("encrypted", encrypted), ("id", part.id.clone())] {
        if let Some(value) = value {
            item.insert(name.into(), value.into());
        }
    }
    if part.summary {
        item.insert("summary".into(), json!(true));
    }
    Some(Signature::new(origin, Value::Object(item).to_string()).seal(SignatureOrigin::Gemini))
}

/// Base64 in the standard alphabet with its padding, whichever alphabet it was written in (google-genai for Python
/// writes bytes in the URL-safe one).
pub(super) fn standard_base64(text: &str) -> String {
    let mut standard: String = text
        .chars()
        .map(|letter| match letter {
            '-' => '+',
            '_' => '/',
            other => other,
        })
        .collect();
    while !standard.len().is_multiple_of(4) {
        standard.push('=');
    }
    standard
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_reasoning_item_comes_back_whole() {
        let part = ReasoningPart {
            text: "hm".into(),
            summary: true,
            signature: None,
            encrypted: Some(Signature::new(SignatureOrigin::OpenAi, "gAAAA_x-y==")),
            id: Some("rs_1".into()),
        };
        let mut losses = Losses::new();
        let sealed = write_reasoning(&part, &mut losses).unwrap();
        assert!(losses.is_empty() && sealed.starts_with(Signature::SEALED_PREFIX));
        // google-genai for Python writes the URL-safe alphabet.
        let mut back = ReasoningPart { text: "hm".into(), ..ReasoningPart::default() };
        read_reasoning(&sealed.replace('+', "-").replace('/', "_"), &mut back);
        assert_eq!(back, part);
    }

    #[test]
    fn the_skip_value_is_what_googles_documentation_gives() {
        use base64::{Engine, engine::general_purpose::STANDARD};
        assert_eq!(STANDARD.decode(SKIP_VALIDATION).unwrap(), b"skip_thought_signature_validator");
        for plain in &PLACEHOLDERS[1..3] {
            assert!(PLACEHOLDERS.contains(&STANDARD.encode(plain).as_str()), "{plain}");
            assert_eq!(read(plain), None);
        }
    }
}
