//! The configuration that is in effect, written as a file again: references instead of secrets, and where each key that
//! is not the default came from.

use super::error::{Text, dotted};
use super::values::Span;
use super::{Inputs, Snapshot, env};
use crate::provider::{Limits, MLX_LOCAL, Provider, ProviderKey};
use crate::secret::{Availability, SecretRef};
use indexmap::IndexMap;
use serde::Serialize;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use toml::{Table, Value};

/// What stands in the place of a value that may be a secret.
const MASK: &str = "***";

impl Snapshot {
    /// What is in effect, with the keys and tables of the file. No secret is resolved or shown: references stand as they
    /// are, literal keys and the values of headers as `***`.
    pub fn effective(&self) -> Table {
        let mut root = Table::new();
        put(&mut root, "registry", self.registry.as_ref());
        let server = &self.server;
        let mut table = Table::new();
        put(&mut table, "host", Some(server.hosts.iter().map(IpAddr::to_string).collect::<Vec<_>>()));
        put(&mut table, "port", Some(server.port));
        put(&mut table, "api_keys", Some(&server.api_keys));
        put(&mut table, "allowed_hosts", Some(&server.allowed_hosts));
        put(&mut table, "allowed_origins", Some(&server.allowed_origins));
        put(&mut table, "max_body_bytes", Some(server.max_body));
        put(&mut table, "max_header_bytes", Some(server.max_header));
        put(&mut table, "max_connections", Some(server.max_connections));
        put_span(&mut table, "header_timeout", server.header_timeout);
        put_span(&mut table, "body_timeout", server.body_timeout);
        put_span(&mut table, "shutdown_grace", server.shutdown_grace);
        root.insert("server".into(), table.into());

        let mut table = Table::new();
        put(&mut table, "only", Some(self.local.only));
        put(&mut table, "on_cloud_model", Some(self.local.on_cloud_model));
        put(&mut table, "keep_warm", self.local.keep_warm.map(Span));
        root.insert("local".into(), table.into());

        let providers =
            self.providers.iter().map(|provider| (provider.name.to_string(), effective_provider(provider).into()));
        root.insert("providers".into(), Value::Table(providers.collect()));
        put(&mut root, "classes", Some(&self.classes));
        put(&mut root, "aliases", Some(&self.aliases));
        let mut table = Table::new();
        put(&mut table, "rules", Some(&self.auto));
        root.insert("auto".into(), table.into());
        put(&mut root, "facts", Some(&self.facts));

        let mut table = Table::new();
        put_span(&mut table, "ttl", self.catalogue_ttl);
        root.insert("catalogue".into(), table.into());
        let mut table = Table::new();
        put(&mut table, "attempts", Some(self.retry.attempts));
        put_span(&mut table, "base", self.retry.base);
        put_span(&mut table, "cap", self.retry.cap);
        root.insert("retry".into(), table.into());
        let mut table = Table::new();
        put(&mut table, "failures", Some(self.breaker.failures));
        put(&mut table, "rate", Some(self.breaker.rate));
        put_span(&mut table, "window", self.breaker.window);
        put_span(&mut table, "open", self.breaker.open);
        put_span(&mut table, "max_open", self.breaker.max_open);
        root.insert("breaker".into(), table.into());
        let mut table = Table::new();
        put(&mut table, "filter", Some(&self.log.filter));
        put(&mut table, "json", Some(self.log.json));
        put(&mut table, "access", Some(self.log.access));
        root.insert("log".into(), table.into());
        if let Some(traces) = &self.traces {
            let mut table = Table::new();
            put(&mut table, "endpoint", Some(&traces.url));
            put(&mut table, "headers", Some(traces.headers.iter().cloned().collect::<IndexMap<_, _>>()));
            root.insert("traces".into(), table.into());
        }
        root
    }

    /// [`Self::effective`] as text, each key that is not the default with its origin.
    pub fn show(&self, inputs: &Inputs) -> String {
        let text = self.path.as_ref().and_then(|path| Some((path, std::fs::read_to_string(path).ok()?)));
        let writer = Writer { snapshot: self, inputs, text: text.as_ref().map(|(path, text)| Text { path, text }) };
        let mut shown = match &self.path {
            Some(path) => format!("# In effect: {}, environment and flags over it.\n", path.display()),
            None => "# In effect: the defaults, environment and flags over them; there is no file.\n".to_owned(),
        };
        writer.table(&mut shown, &mut Vec::new(), &self.effective());
        shown
    }
}

fn effective_provider(provider: &Provider) -> Table {
    let mut table = Table::new();
    match provider.keys.as_slice() {
        [] => put(&mut table, "key", Some(Vec::<SecretRef>::new())),
        [key] => put(&mut table, "key", Some(&key.sources)),
        pool => {
            let keys: Vec<Table> = pool.iter().map(effective_key).collect();
            put(&mut table, "keys", Some(keys));
        }
    }
    let dialects: Vec<&str> = provider.endpoints.iter().map(|endpoint| endpoint.dialect.name()).collect();
    let url = provider.endpoints.first().map(|endpoint| format!("{}{}", endpoint.base_url(), endpoint.version()));
    put(&mut table, "base_url", url);
    put(&mut table, "dialect", Some(dialects));
    put(&mut table, "auth", Some(provider.auth));
    put(&mut table, "models", Some(provider.models));
    put(&mut table, "kind", Some(provider.kind));
    let profile = &provider.profile;
    put(&mut table, "reasoning", Some(profile.reasoning));
    put(&mut table, "token_limit", Some(profile.token_limit));
    put(&mut table, "developer_role", Some(profile.developer_role));
    put(&mut table, "cache_markers", Some(profile.cache_markers));
    put(&mut table, "reasoning_history", Some(profile.reasoning_history));
    put(&mut table, "json_schema", Some(profile.json_schema));
    put(&mut table, "edits", Some(&provider.edits));
    let headers = provider.headers.iter().map(|(name, _)| (name.clone(), MASK.into()));
    table.insert("headers".into(), Value::Table(headers.collect()));
    let deadlines = &provider.deadlines;
    let mut times = Table::new();
    put_span(&mut times, "connect", deadlines.connect);
    put_span(&mut times, "first_token", deadlines.first_token);
    put_span(&mut times, "first_token_reasoning", deadlines.first_token_reasoning);
    put_span(&mut times, "idle", deadlines.idle);
    put_span(&mut times, "whole_answer", deadlines.whole_answer);
    put_span(&mut times, "budget", deadlines.budget);
    table.insert("deadlines".into(), times.into());
    if provider.limits != Limits::NONE {
        table.insert("limits".into(), effective_limits(provider).into());
    }
    put(&mut table, "fallback", Some(provider.fallback));
    table
}

fn effective_limits(provider: &Provider) -> Table {
    let limits = &provider.limits;
    let mut table = Table::new();
    put(&mut table, "in_flight", limits.in_flight);
    put(&mut table, "queue", Some(limits.queue));
    put_span(&mut table, "queue_timeout", limits.queue_timeout);
    put(&mut table, "residency", (&*provider.name == MLX_LOCAL).then_some(Span(limits.residency)));
    table
}

fn effective_key(key: &ProviderKey) -> Table {
    let mut table = Table::new();
    put(&mut table, "key", key.sources.first());
    put(&mut table, "weight", Some(key.weight));
    table
}

/// Puts a value into a table; nothing for `None`, and for what TOML cannot say.
fn put(table: &mut Table, key: &str, value: Option<impl Serialize>) {
    if let Some(value) = value.and_then(|value| Value::try_from(value).ok()) {
        table.insert(key.to_owned(), value);
    }
}

fn put_span(table: &mut Table, key: &str, value: Duration) {
    put(table, key, Some(Span(value)));
}

/// A value on one line, or, of a list of tables, one line for each, without what says nothing.
fn lines(value: &Value) -> String {
    let tables = value.as_array().filter(|list| !list.is_empty() && list.iter().all(Value::is_table));
    let Some(tables) = tables else { return value.to_string() };
    let lines: Vec<String> = tables.iter().map(|table| format!("  {},\n", said(table.clone()))).collect();
    format!("[\n{}]", lines.concat())
}

/// A table without keys that are false or empty, which is what they are by default.
fn said(value: Value) -> Value {
    let Value::Table(table) = value else { return value };
    let inner = table.into_iter().map(|(key, value)| (key, said(value)));
    Value::Table(inner.filter(|(_, value)| !is_silent(value)).collect())
}

fn is_silent(value: &Value) -> bool {
    match value {
        Value::Boolean(on) => !on,
        Value::Array(list) => list.is_empty(),
        Value::Table(table) => table.is_empty(),
        _ => false,
    }
}

struct Writer<'a> {
    snapshot: &'a Snapshot,
    inputs: &'a Inputs,
    text: Option<Text<'a>>,
}

impl Writer<'_> {
    fn table(&self, out: &mut String, path: &mut Vec<String>, table: &Table) {
        for (key, value) in table.iter().filter(|(_, value)| !value.is_table()) {
            path.push(key.clone());
            let parts: Vec<&str> = path.iter().map(String::as_str).collect();
            let name = dotted(&parts[parts.len() - 1..]);
            let _ = write!(out, "{name} = {}", lines(value));
            if let Some(origin) = self.origin(&parts) {
                let _ = write!(out, "  # {origin}");
            }
            out.push('\n');
            path.pop();
        }
        for (key, value) in table {
            let Some(inner) = value.as_table().filter(|inner| !inner.is_empty()) else { continue };
            path.push(key.clone());
            if inner.values().any(|value| !value.is_table()) {
                let parts: Vec<&str> = path.iter().map(String::as_str).collect();
                let _ = write!(out, "\n[{}]\n", dotted(&parts));
            }
            self.table(out, path, inner);
            path.pop();
        }
    }

    /// Where a value came from, and of keys whether they are there; `None` for a plain default.
    fn origin(&self, path: &[&str]) -> Option<String> {
        let flags = &self.inputs.flags;
        let set = |variable: env::Variable| self.inputs.environment.get(variable.name).is_some();
        let overlay = match path {
            ["server", "port"] if flags.port.is_some() => Some("--port"),
            ["server", "port"] if set(env::PORT) => Some(env::PORT.name),
            ["server", "host"] if !flags.hosts.is_empty() => Some("--host"),
            ["server", "host"] if set(env::HOST) => Some(env::HOST.name),
            ["local", "only"] if flags.local_only => Some("--local"),
            ["local", "only"] if set(env::LOCAL_ONLY) && self.inputs.asks_local_only() => Some(env::LOCAL_ONLY.name),
            ["log", "filter"] if flags.log.is_some() => Some("--log"),
            ["log", "filter"] if set(env::LOG) => Some(env::LOG.name),
            _ => None,
        };
        let mut origin = overlay.map(str::to_owned).or_else(|| self.line(path));
        if let ["providers", name, "key" | "keys"] = path
            && let Some(there) = self.key_there(name)
        {
            origin = Some(origin.map_or(there.to_owned(), |origin| format!("{origin}; {there}")));
        }
        origin
    }

    fn line(&self, path: &[&str]) -> Option<String> {
        let aliases: &[&[&str]] = match path {
            ["local", "only"] => &[&["local", "localOnlyMode"], &["localOnlyMode"]],
            ["registry"] => &[&["catalogue", "registry"]],
            _ => &[],
        };
        let text = self.text?;
        let line = std::iter::once(path).chain(aliases.iter().copied()).find_map(|path| text.line_of(path))?;
        let name = text.path.file_name().map(Path::new).unwrap_or(text.path);
        Some(format!("{}:{line}", name.display()))
    }

    fn key_there(&self, name: &str) -> Option<&'static str> {
        let provider = self.snapshot.providers.iter().find(|provider| *provider.name == *name)?;
        if provider.keys.is_empty() {
            return None;
        }
        Some(match self.snapshot.secrets.peek_first(provider.key_sources()) {
            Availability::Present => "there",
            Availability::Absent => "not there",
            Availability::Unknown => "asked for when needed",
        })
    }
}
