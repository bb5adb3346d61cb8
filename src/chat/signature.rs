//! Proofs that a vendor attaches to reasoning and wants back unchanged.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Whose proof it is. Only its maker can verify it, so it is never sent to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureOrigin {
    /// Anthropic (also through Bedrock and Vertex).
    Anthropic,
    /// Google Gemini.
    Gemini,
    /// OpenAI's encrypted reasoning.
    OpenAi,
    /// xAI's encrypted reasoning.
    Xai,
    /// Not known: another vendor behind an OpenAI-compatible API.
    Unknown,
}

impl SignatureOrigin {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Anthropic, "anthropic"),
        (Self::Gemini, "gemini"),
        (Self::OpenAi, "openai"),
        (Self::Xai, "xai"),
        (Self::Unknown, "unknown"),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(origin, _)| *origin == self).map_or("unknown", |(_, name)| name)
    }
}

/// A vendor's proof, opaque to everybody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// Whose proof it is.
    pub origin: SignatureOrigin,
    /// The proof as that vendor wrote it.
    pub value: String,
}

/// Nine bytes, so that its base64 form is a fixed prefix of every sealed signature.
const SEAL: &str = "bifrost::";

impl Signature {
    /// What every sealed signature starts with on the wire; requests are searched for it before they go to a vendor.
    pub const SEALED_PREFIX: &'static str = "Ymlmcm9zdDo6";

    /// A proof of `origin`.
    pub fn new(origin: SignatureOrigin, value: impl Into<String>) -> Self {
        Self { origin, value: value.into() }
    }

    /// Reads a signature field of `native`'s own dialect: either its own proof, or a foreign one that [`Signature::seal`] wrapped.
    pub fn open(native: SignatureOrigin, text: &str) -> Self {
        Self::unseal(text).unwrap_or_else(|| Self::new(native, text))
    }

    /// Writes the signature into a field of `native`'s dialect: its own proof as it is, a foreign one sealed, so that the
    /// client can hand it back and it is recognised.
    pub fn seal(&self, native: SignatureOrigin) -> String {
        if self.origin == native {
            return self.value.clone();
        }
        STANDARD.encode(format!("{SEAL}{}:{}", self.origin.name(), self.value))
    }

    fn unseal(text: &str) -> Option<Self> {
        if !text.starts_with(Self::SEALED_PREFIX) {
            return None;
        }
        let plain = String::from_utf8(STANDARD.decode(text).ok()?).ok()?;
        let (name, value) = plain.strip_prefix(SEAL)?.split_once(':')?;
        let (origin, _) = SignatureOrigin::ALL.into_iter().find(|(_, known)| *known == name)?;
        Some(Self::new(origin, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_signature_survives_a_dialect_that_cannot_verify_it() {
        let signature = Signature::new(SignatureOrigin::Gemini, "CiQB+abc/==");
        let sealed = signature.seal(SignatureOrigin::Anthropic);
        assert!(sealed.starts_with(Signature::SEALED_PREFIX));
        assert_eq!(Signature::open(SignatureOrigin::Anthropic, &sealed), signature);
    }

    #[test]
    fn an_own_signature_is_not_touched() {
        let signature = Signature::new(SignatureOrigin::Anthropic, "EqQBCkYI");
        assert_eq!(signature.seal(SignatureOrigin::Anthropic), "EqQBCkYI");
        assert_eq!(Signature::open(SignatureOrigin::Anthropic, "EqQBCkYI"), signature);
    }
}
