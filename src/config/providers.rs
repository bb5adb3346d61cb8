//! Providers: the shipped rows, with what the file says over them, and the file's own.

use super::build::Findings;
use super::failover::check_deadlines;
use super::file::{PooledKey, ProviderTable};
use super::limits::limits;
use super::parse::nearest;
use crate::chat::DialectId;
use crate::dialect::Profile;
use crate::provider::{
    Auth, BodyEdit, Deadlines, Endpoint, FallbackUse, Limits, MLX_LOCAL, ModelList, Provider, ProviderKey,
    ProviderKind, ProviderRow, is_loopback, table, version,
};
use indexmap::IndexMap;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};

/// Headers that the gateway itself must set.
pub(super) const OURS: [&str; 6] =
    ["host", "content-length", "transfer-encoding", "connection", "content-type", "accept-encoding"];
/// Headers that usually carry a credential.
const CREDENTIALS: [&str; 5] = ["authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"];

/// Every provider by name; `None` for one that is not in use: switched off, or a local one that the file does not name.
pub(super) type Merged = IndexMap<String, Option<Provider>>;

/// The names that a selector may use.
pub(super) fn names(merged: &Merged) -> Vec<&str> {
    merged.keys().map(String::as_str).collect()
}

/// The file's providers in its order, then the shipped rows. Of those that need no key only the MLX server is in use
/// without being named in the file: an endpoint that nobody asked for would be probed for nothing.
pub(super) fn merge(tables: IndexMap<String, ProviderTable>, port: u16, findings: &mut Findings<'_>) -> Merged {
    let mut merged = Merged::new();
    for (name, table) in tables {
        let row = table::ROWS.iter().find(|row| row.name == name);
        let enabled = table.enabled != Some(false);
        let provider = provider(&name, row, table, port, findings);
        merged.insert(name, provider.filter(|_| enabled));
    }
    for row in table::ROWS {
        if !merged.contains_key(row.name) {
            merged.insert(row.name.to_owned(), (!row.opt_in).then(|| row.provider()));
        }
    }
    merged
}

/// A provider that only the file knows, before the file is heard.
fn of_nothing(name: &str, table: &ProviderTable, url: &Url) -> Provider {
    let dialect =
        table.dialect.as_ref().and_then(|dialects| dialects.0.first()).copied().unwrap_or(DialectId::OpenAiChat);
    let (auth, models, profile, edits) = match dialect {
        DialectId::OpenAiChat => (Auth::Bearer, ModelList::OpenAi, Profile::COMPATIBLE, vec![BodyEdit::IncludeUsage]),
        DialectId::Anthropic => (Auth::XApiKey, ModelList::Anthropic, Profile::VENDOR, Vec::new()),
        DialectId::Gemini => (Auth::XGoogApiKey, ModelList::Gemini, Profile::VENDOR, Vec::new()),
    };
    let kind = if is_loopback(url.as_str()) { ProviderKind::Local } else { ProviderKind::Vendor };
    Provider {
        name: name.into(),
        endpoints: vec![Endpoint::new(dialect, url.as_str(), version(dialect))],
        auth: if table.key.is_some() || !table.keys.is_empty() { auth } else { Auth::None },
        keys: Vec::new(),
        models,
        kind,
        profile,
        edits,
        headers: Vec::new(),
        deadlines: deadlines_of(kind),
        limits: Limits::of(name),
        fallback: FallbackUse::Allowed,
    }
}

fn deadlines_of(kind: ProviderKind) -> Deadlines {
    if kind == ProviderKind::Local { Deadlines::LOCAL } else { Deadlines::CLOUD }
}

fn provider(
    name: &str,
    row: Option<&ProviderRow>,
    table: ProviderTable,
    port: u16,
    findings: &mut Findings<'_>,
) -> Option<Provider> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
    if name.is_empty() || !name.chars().all(plain) || name == "class" || name == "auto" {
        let message =
            "a provider's name has lower-case letters, digits, `-`, `_` and `.` only, and is not `class` or `auto`";
        findings.wrong(&["providers", name], message);
        return None;
    }
    let url = match &table.base_url {
        Some(text) => Some(url(&["providers", name, "base_url"], text, "key", findings)?),
        None => None,
    };
    let mut provider = match (row, &url) {
        (Some(row), _) => row.provider(),
        (None, Some(url)) => of_nothing(name, &table, url),
        (None, None) => {
            let shipped = nearest(name, table::ROWS.iter().map(|row| row.name));
            let hint = shipped.map(|near| format!("; or did you mean `{near}`?")).unwrap_or_default();
            findings.wrong(
                &["providers", name],
                format!("no shipped provider has this name, so it needs a `base_url`{hint}"),
            );
            return None;
        }
    };
    if let Some(kind) = table.kind {
        provider.kind = kind;
        provider.deadlines = deadlines_of(kind);
    }
    if table.key.is_some() && !table.keys.is_empty() {
        findings.wrong(&["providers", name, "keys"], "stands beside `key`; keep one of them");
    }
    if let Some(sources) = table.key {
        findings.literal_key(&["providers", name, "key"], &sources.0);
        provider.keys = ProviderKey::of(sources.0);
    }
    if !table.keys.is_empty() {
        provider.keys = pool(name, table.keys, findings);
    }
    provider.endpoints = endpoints(provider.endpoints, url.as_ref(), table.dialect.map(|dialects| dialects.0));
    if provider.endpoints.is_empty() {
        findings.wrong(
            &["providers", name, "dialect"],
            "an empty list leaves nothing to speak; leave the key out for the default",
        );
        return None;
    }
    provider.auth = table.auth.unwrap_or(provider.auth);
    provider.models = table.models.unwrap_or(provider.models);
    provider.edits = table.edits.unwrap_or(provider.edits);
    let profile = &mut provider.profile;
    profile.reasoning = table.reasoning.unwrap_or(profile.reasoning);
    profile.token_limit = table.token_limit.unwrap_or(profile.token_limit);
    profile.developer_role = table.developer_role.unwrap_or(profile.developer_role);
    profile.cache_markers = table.cache_markers.unwrap_or(profile.cache_markers);
    profile.reasoning_history = table.reasoning_history.unwrap_or(profile.reasoning_history);
    profile.json_schema = table.json_schema.unwrap_or(profile.json_schema);
    check_deadlines(&["providers", name, "deadlines"], &table.deadlines, findings);
    provider.deadlines = table.deadlines.over(provider.deadlines);
    provider.limits = limits(name, &table.limits, provider.limits, findings);
    provider.fallback = table.fallback.unwrap_or_default();
    headers(name, table.headers, &mut provider.headers, findings);
    place(&provider, row, port, findings);
    Some(provider)
}

/// Reads a base URL. Its parts are not quoted in errors: it may hold a password, which belongs into the key `secret`.
pub(super) fn url(path: &[&str], text: &str, secret: &str, findings: &mut Findings<'_>) -> Option<Url> {
    let url = match Url::parse(text.trim()) {
        Ok(url) => url,
        Err(error) => {
            findings.wrong(path, format!("not a URL ({error}); expected one as in `http://127.0.0.1:8080`"));
            return None;
        }
    };
    let wrong = match &url {
        url if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            "expected `http://` or `https://` and a host".to_owned()
        }
        url if !url.username().is_empty() || url.password().is_some() => {
            format!("a key does not belong into the URL; use `{secret}`")
        }
        url if url.query().is_some() || url.fragment().is_some() => "cannot have a `?` or `#` in it".to_owned(),
        // The connector of this machine speaks no TLS, so no request would ever come through.
        url if url.scheme() == "https" && is_loopback(url.as_str()) => {
            "a server on this machine is asked without TLS; write `http://` and the port it serves without TLS"
                .to_owned()
        }
        _ => return Some(url),
    };
    findings.wrong(path, wrong);
    None
}

/// The endpoints with another URL, other dialects, or both. The URL takes the place of the first one's; those that stand
/// beneath the first one's follow it, and those elsewhere are dropped, because nobody said that they moved.
fn endpoints(from: Vec<Endpoint>, url: Option<&Url>, dialects: Option<Vec<DialectId>>) -> Vec<Endpoint> {
    let Some(first) = from.first().map(|endpoint| endpoint.base_url().to_owned()) else { return from };
    let moved: Vec<Endpoint> = match url {
        None => from,
        Some(url) => {
            let beneath = |endpoint: &Endpoint| {
                let rest = endpoint.base_url().strip_prefix(&first);
                let rest = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
                Some(Endpoint::new(endpoint.dialect, url.as_str(), endpoint.version()).beneath(rest))
            };
            from.iter().filter_map(beneath).collect()
        }
    };
    let Some(dialects) = dialects else { return moved };
    let base = moved.first().map(|endpoint| endpoint.base_url().to_owned()).unwrap_or_default();
    let of = |dialect| {
        let known = moved.iter().find(|endpoint| endpoint.dialect == dialect).cloned();
        known.unwrap_or_else(|| Endpoint::new(dialect, &base, version(dialect)))
    };
    dialects.into_iter().map(of).collect()
}

/// Several keys of one provider.
fn pool(name: &str, keys: Vec<PooledKey>, findings: &mut Findings<'_>) -> Vec<ProviderKey> {
    let of = |(index, key): (usize, PooledKey)| {
        let index = format!("#{index}");
        let path = ["providers", name, "keys", index.as_str()];
        let (source, weight) = match key {
            PooledKey::Plain(source) => (source, 1),
            PooledKey::Weighted { key, weight } => (key, weight),
        };
        if !(1..=1000).contains(&weight) {
            findings.wrong(&path, "expected a weight from 1 to 1000");
        }
        let sources = vec![source];
        findings.literal_key(&path, &sources);
        ProviderKey { sources, weight }
    };
    keys.into_iter().enumerate().map(of).collect()
}

fn headers(
    name: &str,
    table: IndexMap<String, String>,
    headers: &mut Vec<(String, String)>,
    findings: &mut Findings<'_>,
) {
    for (header, value) in table {
        let path = ["providers", name, "headers", header.as_str()];
        let lower = header.to_ascii_lowercase();
        if HeaderName::from_bytes(header.as_bytes()).is_err() || OURS.contains(&lower.as_str()) {
            findings.wrong(&path, "not a header that can be set here");
        } else if HeaderValue::from_str(&value).is_err() {
            findings.wrong(&path, "holds characters that no header can carry");
        }
        if CREDENTIALS.contains(&lower.as_str()) {
            findings.odd(
                &path,
                "this header usually carries a credential, which stands in the file itself; better `key` and `auth`",
            );
        }
        headers.retain(|(known, _)| !known.eq_ignore_ascii_case(&header));
        headers.push((header, value));
    }
}

/// Checks that what calls itself local is, that no key goes over a network in the clear, and that the gateway does not
/// call itself.
fn place(provider: &Provider, row: Option<&ProviderRow>, port: u16, findings: &mut Findings<'_>) {
    let name = &*provider.name;
    if name == MLX_LOCAL && provider.kind != ProviderKind::Local {
        findings.wrong(&["providers", name, "kind"], "is always `local`: local-only mode relies on it");
    }
    for url in provider.endpoints.iter().filter_map(|endpoint| Url::parse(endpoint.base_url()).ok()) {
        let path = ["providers", name, "base_url"];
        let loopback = is_loopback(url.as_str());
        if provider.kind == ProviderKind::Local && !loopback {
            let hint = if name == MLX_LOCAL || row.is_none() { "" } else { ", or `kind = \"vendor\"`" };
            findings.wrong(
                &path,
                format!("a local provider needs a loopback address, as in `http://127.0.0.1:11434`{hint}: local-only mode must not reach other machines"),
            );
        }
        if !loopback && url.scheme() == "http" && !provider.keys.is_empty() {
            findings.odd(&path, "the key goes over the network in the clear; use `https://`");
        }
        if loopback && port != 0 && url.port_or_known_default() == Some(port) {
            findings.wrong(&path, format!("port {port} is the gateway's own: it would call itself"));
        }
    }
}
