//! Credentials on the way out, and the client's own where they may be passed on.

use crate::chat::DialectId;
use crate::provider::{Auth, Provider};
use crate::secret::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

/// Anthropic takes its keys here.
pub const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Google takes its keys here.
pub const X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Tools send something because a field must not be empty (`dummy`, `EMPTY`, `sk-no-key-required`, `lm-studio`). No
/// vendor's key is as short as these, in bytes; taking one of them for a key would send a prompt to the vendor.
const LONGEST_DUMMY: usize = 19;

/// A credential as it goes into a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The gateway's own key for the provider.
    Own(Secret),
    /// The client's, in that vendor's own form.
    Client {
        /// The header it came in.
        header: HeaderName,
        /// The header's value.
        value: Secret,
    },
    /// The provider needs none.
    None,
}

impl Credential {
    /// What of it must not be said back to anybody.
    pub fn secrets(&self) -> Vec<Secret> {
        match self {
            Self::None => Vec::new(),
            Self::Own(key) => vec![key.clone()],
            Self::Client { value, .. } => {
                vec![Secret::new(without_scheme(value.expose()))]
            }
        }
    }

    /// Writes the credential into the headers of a call.
    pub fn apply(&self, auth: Auth, headers: &mut HeaderMap) {
        let (name, text) = match self {
            Self::None => return,
            Self::Client { header, value } => (header.clone(), value.expose().to_owned()),
            Self::Own(key) => match auth {
                Auth::Bearer | Auth::None => (AUTHORIZATION, format!("Bearer {}", key.expose())),
                Auth::XApiKey => (X_API_KEY, key.expose().to_owned()),
                Auth::XGoogApiKey => (X_GOOG_API_KEY, key.expose().to_owned()),
                Auth::ApiKey => (API_KEY, key.expose().to_owned()),
            },
        };
        // A key with a line break in it cannot be sent; the provider then says that there is none.
        if let Ok(mut value) = HeaderValue::from_str(&text) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
}

/// The token in the value of an `Authorization` header whose scheme is `Bearer`, in letters of any case.
pub fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.trim_start().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What is secret in the value of a header that carries a credential.
pub fn without_scheme(value: &str) -> &str {
    bearer(value).unwrap_or(value.trim())
}

/// The credential that a client sent in the form of `dialect`'s vendor; dummies count as none.
pub fn client_credential(dialect: DialectId, headers: &HeaderMap) -> Option<Credential> {
    let candidates: &[HeaderName] = match dialect {
        DialectId::OpenAiChat => &[AUTHORIZATION],
        DialectId::Anthropic => &[X_API_KEY, AUTHORIZATION],
        DialectId::Gemini => &[X_GOOG_API_KEY],
    };
    candidates.iter().find_map(|header| {
        let text = headers.get(header)?.to_str().ok()?;
        let key = without_scheme(text);
        (key.len() > LONGEST_DUMMY).then(|| Credential::Client { header: header.clone(), value: Secret::new(text) })
    })
}

/// True when a client's own credential of `dialect` may be passed on to `provider`: the vendor of that dialect itself.
pub fn is_vendor_of(provider: &Provider, dialect: DialectId) -> bool {
    let vendor = match dialect {
        DialectId::OpenAiChat => "openai",
        DialectId::Anthropic => "anthropic",
        DialectId::Gemini => "gemini",
    };
    *provider.name == *vendor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dummy_keys_count_as_none() {
        for key in [
            "Bearer dummy",
            "Bearer EMPTY",
            "Bearer sk-no-key-required",
            "Bearer lm-studio",
            "bearer sk-no-key-required",
            "Bearer ",
            "",
        ] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(key))]);
            assert_eq!(client_credential(DialectId::OpenAiChat, &headers), None, "{key}");
        }
    }

    #[test]
    fn an_oauth_bearer_is_passed_as_it_came() {
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer sk-ant-oat01-abcdefgh"))]);
        let credential = client_credential(DialectId::Anthropic, &headers).unwrap();
        let mut out = HeaderMap::new();
        credential.apply(Auth::XApiKey, &mut out);
        assert_eq!(out.get(AUTHORIZATION).unwrap(), "Bearer sk-ant-oat01-abcdefgh");
        assert!(out.get(X_API_KEY).is_none());
        assert_eq!(format!("{credential:?}").matches("oat01").count(), 0);
    }
}
