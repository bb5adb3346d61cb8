//! Who answers: one row of data per provider. A new compatible provider is one row of [`table::ROWS`]; the config
//! file adds rows of the same kind at run time.

pub mod facts;
pub mod table;

use crate::chat::DialectId;
use crate::dialect::Profile;
use crate::secret::SecretRef;
use std::fmt;
use std::time::Duration;

/// One provider as the project ships it.
#[derive(Debug, Clone, Copy)]
pub struct ProviderRow {
    /// The name before the slash of `<provider>/<model>`; lower case, also the key in the config file.
    pub name: &'static str,
    /// Which dialects it speaks and where; the first is used unless the client's own dialect is among them.
    pub endpoints: &'static [EndpointRow],
    /// How the key is sent.
    pub auth: Auth,
    /// Environment variables that may hold the key, in order.
    pub key_env: &'static [&'static str],
    /// How its models are listed.
    pub models: ModelList,
    /// Where it stands.
    pub kind: ProviderKind,
    /// What it takes beyond or short of its dialect's vendor.
    pub profile: Profile,
    /// Edits of a same-dialect request body, in order.
    pub edits: &'static [BodyEdit],
    /// Headers sent with every request.
    pub headers: &'static [(&'static str, &'static str)],
}

/// A dialect that a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointRow {
    /// The dialect.
    pub dialect: DialectId,
    /// The URL up to where the dialect's paths begin (before `/v1`).
    pub base_url: &'static str,
}

/// How a provider wants its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// `Authorization: Bearer <key>`.
    Bearer,
    /// `x-api-key: <key>` (Anthropic).
    XApiKey,
    /// `x-goog-api-key: <key>` (Gemini).
    XGoogApiKey,
    /// `api-key: <key>` (Azure).
    ApiKey,
    /// No key is needed; one that is configured is sent as a bearer token.
    None,
}

/// How a provider lists its models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ModelList {
    /// `GET /v1/models`, OpenAI's shape (`data[].id`, `created`).
    #[serde(rename = "openai")]
    OpenAi,
    /// `GET /v1/models?limit=1000`, Anthropic's shape (`data[].id`, `created_at`, `display_name`).
    Anthropic,
    /// `GET /v1beta/models?pageSize=1000`, Google's shape (`models[].name`, `inputTokenLimit`, ...).
    Gemini,
    /// `GET /v1/models`, OpenRouter's shape: OpenAI's with prices, context and abilities.
    #[serde(rename = "openrouter")]
    OpenRouter,
    /// It has no list.
    None,
}

/// Where a provider stands; decides the order between several that have the same model.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// On this machine: the local MLX server and its like. Free, and allowed in local-only mode if its address is loopback.
    Local,
    /// The vendor of the models itself, or a host of open models.
    Vendor,
    /// Passes on to vendors; its model ids are `<vendor>/<model>`.
    Aggregator,
}

/// One edit of a same-dialect request body; everything else stays byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyEdit {
    /// `max_completion_tokens` is called `max_tokens` (an existing `max_tokens` wins).
    MaxTokensName,
    /// A `stop` string becomes a list of one.
    StopAsList,
    /// Streams are asked for their usage, and the extra chunk is taken out again if the client did not ask.
    IncludeUsage,
    /// The role `developer` becomes `system`.
    DeveloperAsSystem,
}

/// A provider as it is used: a row with what the config says over it.
#[derive(Clone)]
pub struct Provider {
    /// The name before the slash.
    pub name: String,
    /// Which dialects it speaks and where; never empty.
    pub endpoints: Vec<Endpoint>,
    /// How the key is sent.
    pub auth: Auth,
    /// Where its key may come from, in order; the first that resolves is used.
    pub keys: Vec<SecretRef>,
    /// How its models are listed.
    pub models: ModelList,
    /// Where it stands.
    pub kind: ProviderKind,
    /// What it takes beyond or short of its dialect's vendor.
    pub profile: Profile,
    /// Edits of a same-dialect request body, in order.
    pub edits: Vec<BodyEdit>,
    /// Headers sent with every request.
    pub headers: Vec<(String, String)>,
    /// Limits of time.
    pub deadlines: Deadlines,
}

/// Shows the names of the headers only: a user may have written a credential into one.
impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .field("auth", &self.auth)
            .field("keys", &self.keys)
            .field("models", &self.models)
            .field("kind", &self.kind)
            .field("profile", &self.profile)
            .field("edits", &self.edits)
            .field("headers", &headers)
            .field("deadlines", &self.deadlines)
            .finish()
    }
}

/// A dialect that a provider speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The dialect.
    pub dialect: DialectId,
    /// The URL up to where the dialect's paths begin; no slash at the end, no `/v1` (see [`base_url`]).
    pub base_url: String,
}

/// Limits of time of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// To connect.
    pub connect: Duration,
    /// From the request to the first real content of a stream.
    pub first_token: Duration,
    /// The same when the request asks for reasoning.
    pub first_token_reasoning: Duration,
    /// Between two pieces of a stream.
    pub idle: Duration,
    /// For the whole of an answer that is not streamed.
    pub whole_answer: Duration,
}

impl Deadlines {
    /// For providers in the cloud.
    pub const CLOUD: Self = Self {
        connect: Duration::from_secs(5),
        first_token: Duration::from_secs(60),
        first_token_reasoning: Duration::from_secs(300),
        idle: Duration::from_secs(60),
        whole_answer: Duration::from_secs(600),
    };

    /// For a model server on this machine, which may have to load the model first.
    pub const LOCAL: Self = Self {
        connect: Duration::from_secs(1),
        first_token: Duration::from_secs(300),
        first_token_reasoning: Duration::from_secs(300),
        idle: Duration::from_secs(120),
        whole_answer: Duration::from_secs(1800),
    };
}

impl Provider {
    /// The endpoint to use for a client of `ingress`: its own dialect if the provider speaks it, else the provider's first.
    pub fn endpoint_for(&self, ingress: DialectId) -> &Endpoint {
        self.endpoints.iter().find(|endpoint| endpoint.dialect == ingress).unwrap_or(&self.endpoints[0])
    }

    /// True for a provider on this machine.
    pub fn is_local(&self) -> bool {
        self.kind == ProviderKind::Local
    }

    /// True when it answers without a key.
    pub fn needs_key(&self) -> bool {
        self.auth != Auth::None
    }
}

/// The name of the local MLX server among the providers.
pub const MLX_LOCAL: &str = "mlx-local";

/// A base URL as a user wrote it, brought to the form of [`Endpoint::base_url`]: with or without a slash, with or without
/// `/v1` (`/v1beta` for Gemini) at the end.
pub fn base_url(text: &str) -> String {
    let mut url = text.trim().trim_end_matches('/');
    for version in ["/v1", "/v1beta"] {
        url = url.strip_suffix(version).unwrap_or(url);
    }
    url.trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::base_url;

    #[test]
    fn a_base_url_is_taken_with_or_without_version() {
        for text in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", " http://h:1/v1beta"] {
            assert_eq!(base_url(text), "http://h:1");
        }
        assert_eq!(base_url("https://openrouter.ai/api/v1"), "https://openrouter.ai/api");
    }
}
