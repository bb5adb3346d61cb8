//! Who answers: one row of data per provider. A new compatible provider is one row of [`table::ROWS`]; the config
//! file adds rows of the same kind at run time.

pub mod facts;
pub mod listing;
pub mod llama_swap;
pub mod prices;
pub mod table;

use crate::chat::DialectId;
use crate::dialect::{self, Profile};
use crate::secret::SecretRef;
use http::Uri;
use http::uri::InvalidUri;
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
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
    /// Used only when the config names it: a local server whose default port may as well be somebody else's.
    pub opt_in: bool,
}

/// A dialect that a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointRow {
    /// The dialect.
    pub dialect: DialectId,
    /// The URL up to where the version begins (before `/v1`).
    pub base_url: &'static str,
    /// What stands in the place of the version in the dialect's paths: `/v1` nearly always, `/v4`, or nothing.
    pub version: &'static str,
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

/// One edit of a same-dialect request body; everything else stays byte for byte. Each is of one dialect, and left out in
/// the others that a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BodyEdit {
    /// `max_completion_tokens` is called `max_tokens` (an existing `max_tokens` wins).
    MaxTokensName,
    /// `max_tokens` is called `max_completion_tokens` (an existing `max_completion_tokens` wins).
    MaxCompletionTokensName,
    /// A `stop` string becomes a list of one.
    StopAsList,
    /// Streams are asked for their usage, and the extra chunk is taken out again if the client did not ask.
    IncludeUsage,
    /// The role `developer` becomes `system`.
    DeveloperAsSystem,
    /// Reasoning is asked for by `chat_template_kwargs.enable_thinking`.
    ThinkingSwitch,
    /// `thinking` and the effort are asked of a Claude in the form that it takes.
    ThinkingForm,
    /// Messages with the role `system` are said by the user where a Claude takes none.
    SystemMessages,
}

impl BodyEdit {
    /// The dialect whose bodies it edits.
    pub const fn dialect(self) -> DialectId {
        match self {
            Self::MaxTokensName
            | Self::MaxCompletionTokensName
            | Self::StopAsList
            | Self::IncludeUsage
            | Self::DeveloperAsSystem
            | Self::ThinkingSwitch => DialectId::OpenAiChat,
            Self::ThinkingForm | Self::SystemMessages => DialectId::Anthropic,
        }
    }
}

/// A provider as it is used: a row with what the config says over it.
#[derive(Clone)]
pub struct Provider {
    /// The name before the slash.
    pub name: Arc<str>,
    /// Which dialects it speaks and where; never empty.
    pub endpoints: Vec<Endpoint>,
    /// How the key is sent.
    pub auth: Auth,
    /// Its keys; more than one make a pool.
    pub keys: Vec<ProviderKey>,
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
    /// How many requests it gets at a time, and how the others wait.
    pub limits: Limits,
    /// Whether it may answer when a target before it failed.
    pub fallback: FallbackUse,
}

/// One key of a provider's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderKey {
    /// Where it may come from, in order; the first that resolves is used.
    pub sources: Vec<SecretRef>,
    /// Its share of the requests against the others', 1 to 1000.
    pub weight: u32,
}

/// Whether a provider may answer when a target before it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FallbackUse {
    /// It may.
    #[default]
    Allowed,
    /// It answers only who asks for it first.
    Never,
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
            .field("limits", &self.limits)
            .field("fallback", &self.fallback)
            .finish()
    }
}

/// A dialect that a provider speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The dialect.
    pub dialect: DialectId,
    base_url: String,
    version: String,
    /// Where chats go; `None` where the URL names the model.
    chat: Option<Uri>,
}

impl Endpoint {
    /// An endpoint at a URL as a user wrote it: with or without a slash or a version at the end. A version in the URL is
    /// kept (`https://host/api/v4`), one that is not there is `version`.
    pub fn new(dialect: DialectId, url: &str, version: &str) -> Self {
        let (base, found) = split_version(url);
        // OpenAI's base URLs end in `/v1`, whatever other dialects the same host speaks under their own version.
        let version = match found {
            Some(found) if !VENDOR_VERSIONS.contains(&found) => found,
            _ => version,
        };
        Self::at(dialect, base.to_owned(), version.to_owned())
    }

    fn at(dialect: DialectId, base_url: String, version: String) -> Self {
        let mut endpoint = Self { dialect, base_url, version, chat: None };
        if let Cow::Borrowed(path) = dialect::get(dialect).chat_path("", false) {
            endpoint.chat = Uri::try_from(endpoint.url(path)).ok();
        }
        endpoint
    }

    /// The same further down: `path` is put behind the URL.
    pub fn beneath(self, path: &str) -> Self {
        Self::at(self.dialect, self.base_url + path, self.version)
    }

    /// The URL up to where the version begins; no slash at the end, no `/v1`.
    pub fn base_url(&self) -> &str {
        &self.base_url
    }

    /// What stands in the place of the version in the dialect's paths: `/v1` nearly always, `/v4`, or nothing.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The whole URL of a dialect's `path` (`/v1/chat/completions`), with this endpoint's version in it.
    pub fn url(&self, path: &str) -> String {
        let rest = path.get(1..).and_then(|tail| tail.find('/')).and_then(|slash| path.get(slash + 1..));
        format!("{}{}{}", self.base_url, self.version, rest.unwrap_or(path))
    }

    /// Where a chat with `model` goes.
    ///
    /// # Errors
    /// The base URL is none.
    pub fn chat_url(&self, model: &str, stream: bool) -> Result<Uri, InvalidUri> {
        match &self.chat {
            Some(url) => Ok(url.clone()),
            None => Uri::try_from(self.url(&dialect::get(self.dialect).chat_path(model, stream))),
        }
    }
}

/// The versions of the vendors' own paths (OpenAI and Anthropic, Gemini).
const VENDOR_VERSIONS: [&str; 2] = ["/v1", "/v1beta"];

/// The version at the start of the paths of `dialect`.
pub const fn version(dialect: DialectId) -> &'static str {
    match dialect {
        DialectId::OpenAiChat | DialectId::Anthropic => "/v1",
        DialectId::Gemini => "/v1beta",
    }
}

/// Cuts a version (`/v1`, `/v1beta`, `/v4`) off the end of a URL.
fn split_version(url: &str) -> (&str, Option<&str>) {
    let url = url.trim().trim_end_matches('/');
    let Some(slash) = url.rfind('/') else { return (url, None) };
    let (base, last) = url.split_at(slash);
    let mut letters = last.bytes().skip(1);
    let is_version = letters.next() == Some(b'v') && letters.next().is_some_and(|byte| byte.is_ascii_digit());
    if is_version && !base.ends_with('/') { (base.trim_end_matches('/'), Some(last)) } else { (url, None) }
}

impl ProviderKey {
    /// The one key that `sources` lead to; none without any.
    pub fn of(sources: Vec<SecretRef>) -> Vec<Self> {
        if sources.is_empty() { Vec::new() } else { vec![Self { sources, weight: 1 }] }
    }
}

/// Limits of time.
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
    /// For all attempts of a request together, until the first content is sent.
    pub budget: Duration,
}

impl Deadlines {
    /// For providers in the cloud.
    pub const CLOUD: Self = Self {
        connect: Duration::from_secs(5),
        first_token: Duration::from_secs(60),
        first_token_reasoning: Duration::from_secs(300),
        idle: Duration::from_secs(60),
        whole_answer: Duration::from_secs(600),
        budget: Duration::from_secs(600),
    };

    /// Each limit, and `longest` at most: a client may shorten what it waits for. Connecting is a part of the others, and the
    /// budget is for all targets: those stay.
    pub fn at_most(self, longest: Duration) -> Self {
        Self {
            connect: self.connect,
            first_token: self.first_token.min(longest),
            first_token_reasoning: self.first_token_reasoning.min(longest),
            idle: self.idle.min(longest),
            whole_answer: self.whole_answer.min(longest),
            budget: self.budget,
        }
    }

    /// For a model server on this machine, which may have to load the model first.
    pub const LOCAL: Self = Self {
        connect: Duration::from_secs(1),
        first_token: Duration::from_secs(300),
        first_token_reasoning: Duration::from_secs(300),
        idle: Duration::from_secs(120),
        whole_answer: Duration::from_secs(1800),
        budget: Duration::from_secs(1800),
    };
}

/// How many requests a provider gets at a time, and how the others wait. The numbers are for each of its models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests in flight, 1 or more; `None`: as many as come.
    pub in_flight: Option<usize>,
    /// Requests that wait beyond those; 0: none may.
    pub queue: usize,
    /// How long one waits at most.
    pub queue_timeout: Duration,
    /// How long a model stays in a memory that models share while it has work and others wait; 0: they may swap at once.
    pub residency: Duration,
}

impl Limits {
    /// For a provider that takes as many requests as come.
    pub const NONE: Self = Self {
        in_flight: None,
        queue: 32,
        queue_timeout: Duration::from_secs(300),
        residency: Duration::from_secs(30),
    };

    /// For the local MLX server: llama-swap answers 429 to more requests than its `concurrencyLimit`.
    pub const MLX: Self = Self { in_flight: Some(4), ..Self::NONE };

    /// Those of a provider that nobody configured.
    pub fn of(name: &str) -> Self {
        if name == MLX_LOCAL { Self::MLX } else { Self::NONE }
    }
}

impl Provider {
    /// The endpoint to use for a client of `ingress`: its own dialect if the provider speaks it, else the provider's first.
    pub fn endpoint_for(&self, ingress: DialectId) -> &Endpoint {
        self.endpoints.iter().find(|endpoint| endpoint.dialect == ingress).unwrap_or(&self.endpoints[0])
    }

    /// Where its models are listed, query included; `None` if they are not.
    pub fn models_url(&self) -> Option<String> {
        let (dialect, path) = match self.models {
            ModelList::OpenAi | ModelList::OpenRouter => (DialectId::OpenAiChat, "/v1/models"),
            ModelList::Anthropic => (DialectId::Anthropic, "/v1/models?limit=1000"),
            ModelList::Gemini => (DialectId::Gemini, "/v1beta/models?pageSize=1000"),
            ModelList::None => return None,
        };
        self.endpoints.iter().find(|endpoint| endpoint.dialect == dialect).map(|endpoint| endpoint.url(path))
    }

    /// True when every endpoint is at a loopback address or `localhost`, so that local-only mode allows it.
    pub fn is_loopback(&self) -> bool {
        !self.endpoints.is_empty() && self.endpoints.iter().all(|endpoint| is_loopback(endpoint.base_url()))
    }

    /// True for a provider on this machine.
    pub fn is_local(&self) -> bool {
        self.kind == ProviderKind::Local
    }

    /// Where its keys may come from.
    pub fn key_sources(&self) -> impl Iterator<Item = &SecretRef> {
        self.keys.iter().flat_map(|key| &key.sources)
    }

    /// True when it answers only with a key.
    pub fn needs_key(&self) -> bool {
        self.auth != Auth::None
    }
}

/// The name of the local MLX server among the providers.
pub const MLX_LOCAL: &str = "mlx-local";

/// True for the URL of a loopback address or of `localhost`.
pub fn is_loopback(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_loopback_host))
}

/// True for a host that is on this machine by its very name: a literal loopback address, in brackets or without, or
/// `localhost`. Nobody is asked about others.
pub fn is_loopback_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || literal_address(host).is_some_and(|address| address.is_loopback())
}

/// The address that a host of a URL is itself, with brackets or without.
pub fn literal_address(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host).parse().ok()
}

impl ProviderRow {
    /// The provider as shipped, without any config.
    pub fn provider(&self) -> Provider {
        let endpoint = |row: &EndpointRow| Endpoint::at(row.dialect, row.base_url.to_owned(), row.version.to_owned());
        Provider {
            name: Arc::from(self.name),
            endpoints: self.endpoints.iter().map(endpoint).collect(),
            auth: self.auth,
            keys: ProviderKey::of(self.key_env.iter().map(|name| SecretRef::Env((*name).to_owned())).collect()),
            models: self.models,
            kind: self.kind,
            profile: self.profile,
            edits: self.edits.to_vec(),
            headers: Vec::new(),
            deadlines: if self.kind == ProviderKind::Local { Deadlines::LOCAL } else { Deadlines::CLOUD },
            limits: Limits::of(self.name),
            fallback: FallbackUse::Allowed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_taken_with_or_without_version() {
        for text in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/", " http://h:1/v1beta"] {
            let endpoint = Endpoint::new(DialectId::OpenAiChat, text, "/v1");
            assert_eq!(endpoint.url("/v1/chat/completions"), "http://h:1/v1/chat/completions", "{text}");
        }
        let path = "/v1beta/models/m:generateContent";
        let gemini = Endpoint::new(DialectId::Gemini, "https://h/v1", version(DialectId::Gemini));
        assert_eq!(gemini.url(path), "https://h/v1beta/models/m:generateContent");
        let openrouter = Endpoint::new(DialectId::OpenAiChat, "https://openrouter.ai/api/v1", "/v1");
        assert_eq!(openrouter.base_url, "https://openrouter.ai/api");
    }

    #[test]
    fn a_version_of_its_own_is_kept_and_none_leaves_no_trace() {
        let zai = Endpoint::new(DialectId::OpenAiChat, "https://h/api/paas/v4", "/v1");
        assert_eq!(zai.url("/v1/chat/completions"), "https://h/api/paas/v4/chat/completions");
        let bare = Endpoint::new(DialectId::OpenAiChat, "https://h", "");
        assert_eq!(bare.url("/v1/chat/completions"), "https://h/chat/completions");
        assert_eq!(Endpoint::new(DialectId::OpenAiChat, "http://v1", "/v1").base_url, "http://v1");
    }

    #[test]
    fn only_literal_loopback_is_loopback() {
        for url in ["http://127.0.0.1:11434", "http://[::1]:1", "http://LOCALHOST/x", "http://127.9.9.9"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["http://127.0.0.1.example.com", "http://localhost.example", "http://10.0.0.1", "", "http://"] {
            assert!(!is_loopback(url), "{url}");
        }
        assert!(!is_loopback("http://localhost@example.com"));
    }
}
