//! Signatures of other vendors in the places this dialect has: `thinking.signature` and `redacted_thinking.data`.
//!
//! A proof that this dialect has no place for (Gemini signs tool calls) travels as a `redacted_thinking` block. So that it
//! finds its place again, the sealed value starts with a line that names it:
//!
//! | line | what is signed |
//! | --- | --- |
//! | `@call:<id>` | the tool call with this id, wherever it stands in the message |
//! | `@item:<id>` | reasoning that has an id, or (without one) no signature at all: so it is known as foreign later |
//! | `@rest` | the encrypted half of the reasoning right before |
//! | `@summary:<id>` | reasoning that is a summary, with or without an id |
//!
//! None of the vendors' own values starts with `@`: they are base64. A proof of a text does not travel: Google asks for none,
//! and clients take the last block of an answer for its text.

use crate::chat::{Signature, SignatureOrigin};

const NATIVE: SignatureOrigin = SignatureOrigin::Anthropic;

/// What a sealed signature belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// The reasoning block it stands in.
    Reasoning {
        /// The vendor's id of the item.
        id: Option<String>,
        /// The text is a summary.
        summary: bool,
    },
    /// The reasoning right before, of which it is the encrypted half.
    Rest,
    /// The tool call with this id.
    Call(String),
}

impl Place {
    /// Reasoning without id.
    pub(super) const PLAIN: Self = Self::Reasoning { id: None, summary: false };
}

/// What a client is given for `signature`. `None`: an own signature, which cannot be sealed, in a place this dialect lacks.
pub(super) fn seal(place: &Place, signature: Option<&Signature>) -> Option<String> {
    let line = match place {
        Place::Reasoning { id: None, summary: false } if signature.is_some() => {
            return signature.map(|signature| signature.seal(NATIVE));
        }
        Place::Reasoning { id, summary } => {
            let kind = if *summary { "summary" } else { "item" };
            format!("@{kind}:{}", id.as_deref().unwrap_or_default())
        }
        Place::Rest => "@rest".to_owned(),
        Place::Call(id) => format!("@call:{id}"),
    };
    let (origin, value) =
        signature.map_or((SignatureOrigin::Unknown, ""), |signature| (signature.origin, signature.value.as_str()));
    (origin != NATIVE).then(|| Signature::new(origin, format!("{line}\n{value}")).seal(NATIVE))
}

/// Reads what [`seal`] wrote, or an own signature. An empty value is no signature.
pub(super) fn open(text: &str) -> (Place, Option<Signature>) {
    if text.is_empty() {
        return (Place::PLAIN, None);
    }
    let signature = Signature::open(NATIVE, text);
    if signature.origin == NATIVE && text.starts_with(Signature::SEALED_PREFIX) {
        // Damaged on its way (some clients join the parts of a stream): nobody's proof any more.
        return (Place::PLAIN, None);
    }
    let placed = (signature.origin != NATIVE).then(|| signature.value.split_once('\n')).flatten();
    let Some((line, value)) = placed.filter(|(line, _)| line.starts_with('@')) else {
        return (Place::PLAIN, Some(signature));
    };
    // Of a place that is none any more: earlier versions sealed the proofs of texts.
    let Some(place) = place(line) else { return (Place::PLAIN, None) };
    let inner = (!value.is_empty()).then(|| Signature::new(signature.origin, value));
    (place, inner)
}

fn place(line: &str) -> Option<Place> {
    let id = |id: &str| (!id.is_empty()).then(|| id.to_owned());
    match line.split_once(':') {
        Some(("@call", call)) => Some(Place::Call(call.to_owned())),
        Some(("@item", item)) => Some(Place::Reasoning { id: id(item), summary: false }),
        Some(("@summary", item)) => Some(Place::Reasoning { id: id(item), summary: true }),
        None if line == "@rest" => Some(Place::Rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn places() -> impl Strategy<Value = Place> {
        prop_oneof![
            (proptest::option::of("[a-z:]{1,9}"), any::<bool>())
                .prop_map(|(id, summary)| Place::Reasoning { id, summary }),
            "[^\n]{0,9}".prop_map(Place::Call),
            Just(Place::Rest),
        ]
    }

    proptest! {
        #[test]
        fn a_foreign_signature_finds_its_place_again(place in places(), value in "[A-Za-z0-9+/=]{1,20}") {
            let signature = Signature::new(SignatureOrigin::Gemini, value);
            let sealed = seal(&place, Some(&signature)).unwrap();
            prop_assert!(sealed.starts_with(Signature::SEALED_PREFIX));
            prop_assert_eq!(open(&sealed), (place, Some(signature)));
        }

        #[test]
        fn any_text_is_a_signature(text in ".*") {
            let _ = open(&text);
        }
    }

    #[test]
    fn an_own_signature_stays_as_it_is_and_has_no_foreign_place() {
        let own = Signature::new(NATIVE, "EqQB");
        assert_eq!(seal(&Place::PLAIN, Some(&own)).as_deref(), Some("EqQB"));
        assert_eq!(open("EqQB"), (Place::PLAIN, Some(own.clone())));
        assert_eq!(seal(&Place::Call("c".into()), Some(&own)), None);
    }

    #[test]
    fn a_damaged_seal_is_no_signature() {
        let sealed = seal(&Place::PLAIN, Some(&Signature::new(SignatureOrigin::Gemini, "CiQB"))).unwrap();
        assert_eq!(open(&format!("{sealed}=x")), (Place::PLAIN, None));
    }

    #[test]
    fn a_place_that_is_unknown_holds_nothing() {
        let sealed = Signature::new(SignatureOrigin::Gemini, "@text\nCiQB").seal(NATIVE);
        assert_eq!(open(&sealed), (Place::PLAIN, None));
    }

    #[test]
    fn an_id_without_a_signature_survives() {
        let place = Place::Reasoning { id: Some("rs_1".into()), summary: true };
        assert_eq!(open(&seal(&place, None).unwrap()), (place, None));
    }
}
