//! `listmodels`: what can be asked for now, in each client's shape.

use super::{Gateway, planning, reply};
use crate::chat::{ChatError, DialectId, ErrorKind};
use crate::provider::facts::Facts;
use crate::provider::listing::ListedModel;
use crate::provider::{MLX_LOCAL, Provider};
use crate::route::View;
use crate::wire::timestamp;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// One thing that can be asked for.
struct Entry {
    id: String,
    created: u64,
    owner: String,
    facts: Facts,
    about: Value,
}

impl Entry {
    /// The same by another name.
    fn called(&self, id: String) -> Self {
        let mut about = self.about.clone();
        about["kind"] = json!("alias");
        about["stands_for"] = json!(self.id);
        Self { id, owner: self.owner.clone(), facts: self.facts.clone(), about, created: self.created }
    }
}

/// Everything that can be asked for now: classes first, then aliases and roles, then every active provider's models.
pub async fn list(gateway: &Gateway, ingress: DialectId, headers: &HeaderMap) -> Response {
    let entries = entries(gateway, local_only(gateway, headers));
    let body = match ingress {
        DialectId::OpenAiChat => json!({ "object": "list", "data": entries.iter().map(openai).collect::<Vec<_>>() }),
        DialectId::Anthropic => json!({
            "data": entries.iter().map(anthropic).collect::<Vec<_>>(),
            "has_more": false,
            "first_id": entries.first().map(|entry| &entry.id),
            "last_id": entries.last().map(|entry| &entry.id),
        }),
        DialectId::Gemini => json!({ "models": entries.iter().map(gemini).collect::<Vec<_>>() }),
    };
    reply::json(StatusCode::OK, body.to_string())
}

/// One of them by its id; a model's bare id will do.
pub async fn one(gateway: &Gateway, ingress: DialectId, id: &str, headers: &HeaderMap) -> Response {
    let entries = entries(gateway, local_only(gateway, headers));
    let exact = entries.iter().find(|entry| entry.id == id);
    let bare = || entries.iter().find(|entry| entry.id.split_once('/').is_some_and(|(_, model)| model == id));
    let Some(entry) = exact.or_else(bare) else {
        let message = format!("There is no model `{id}` now. GET /v1/models lists what there is.");
        let error = ChatError::new(ErrorKind::NotFound, message).with_code("model_not_found");
        return reply::error(ingress, &error, super::gate::request_id(headers));
    };
    let body = match ingress {
        DialectId::OpenAiChat => openai(entry),
        DialectId::Anthropic => anthropic(entry),
        DialectId::Gemini => gemini(entry),
    };
    reply::json(StatusCode::OK, body.to_string())
}

fn local_only(gateway: &Gateway, headers: &HeaderMap) -> bool {
    gateway.mode.is_on() || super::exchange::asks_local_only(headers)
}

fn entries(gateway: &Gateway, local_only: bool) -> Vec<Entry> {
    let snapshot = gateway.snapshot();
    let catalogue = gateway.directory.catalogue();
    let active = gateway.directory.active();
    let roles = gateway.roles();
    let view = View {
        snapshot: &snapshot,
        catalogue: &catalogue,
        roles: &roles,
        is_active: &|provider: &Provider| active.contains(&*provider.name),
        local_only: local_only.then(|| gateway.forbidden_by()),
    };
    let mut entries: Vec<Entry> = Vec::new();
    let mut name = |id: &str, kind: &str, extra: Value| {
        let explained = planning::explain(gateway, id, local_only);
        let first = explained.pointer("/targets/0");
        let resolves_to = first.map(|target| format!("{}/{}", text(target, "provider"), text(target, "model")));
        let facts = first.and_then(|target| {
            let provider = snapshot.providers.iter().find(|provider| *provider.name == *text(target, "provider"))?;
            Some(view.facts(provider, text(target, "model")))
        });
        let mut about = json!({
            "kind": kind,
            "resolves_to": resolves_to,
            "loaded": first.and_then(|target| target.get("loaded")),
            "error": explained.pointer("/error/message"),
        });
        if let (Some(about), Some(extra)) = (about.as_object_mut(), extra.as_object()) {
            about.extend(extra.clone());
        }
        if !entries.iter().any(|entry| entry.id == id) {
            entries.push(Entry {
                id: id.to_owned(),
                created: 0,
                owner: "bifrost".to_owned(),
                facts: facts.unwrap_or_default(),
                about,
            });
        }
    };
    for (id, class) in &snapshot.classes {
        name(id, "class", json!({ "cloud": class.cloud, "description": class.description }));
    }
    for (id, target) in &snapshot.aliases {
        name(id, "alias", json!({ "stands_for": target }));
    }
    for (id, model) in roles.iter() {
        name(id, "alias", json!({ "stands_for": format!("{MLX_LOCAL}/{model}") }));
    }
    for provider in view.providers() {
        let Some(list) = catalogue.list(&provider.name) else { continue };
        let loaded = |id: &str| provider.is_local().then(|| list.is_loaded(id));
        for model in &list.models {
            let entry = model_entry(&view, provider, model, loaded(&model.id));
            let called = |alias| entry.called(format!("{}/{alias}", provider.name));
            let aliases: Vec<Entry> = model.aliases.iter().map(called).collect();
            entries.push(entry);
            entries.extend(aliases);
        }
    }
    entries
}

fn model_entry(view: &View<'_>, provider: &Provider, model: &ListedModel, loaded: Option<bool>) -> Entry {
    let facts = view.facts(provider, &model.id);
    let about = json!({
        "kind": "model",
        "provider": provider.name,
        "loaded": loaded,
        "context": facts.context,
        "max_output": facts.max_output,
        "input_price": facts.input_price,
        "output_price": facts.output_price,
        "tools": facts.tools,
        "vision": facts.vision,
        "reasoning": facts.reasoning,
    });
    Entry {
        id: format!("{}/{}", provider.name, model.id),
        created: model.created.or(facts.released).unwrap_or(0),
        owner: provider.name.to_string(),
        facts,
        about,
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

/// OpenAI, "Models": `id`, `object`, `created`, `owned_by`; `bifrost` is ours.
fn openai(entry: &Entry) -> Value {
    json!({ "id": entry.id, "object": "model", "created": entry.created, "owned_by": entry.owner, "bifrost": entry.about })
}

/// Anthropic, "Models" (2023-06-01): `type`, `id`, `display_name`, `created_at` (RFC 3339).
fn anthropic(entry: &Entry) -> Value {
    json!({
        "type": "model",
        "id": entry.id,
        "display_name": entry.id,
        "created_at": timestamp::write(entry.created),
    })
}

/// Google, "models.list" (v1beta): `name`, `displayName`, limits and methods.
fn gemini(entry: &Entry) -> Value {
    let mut model = json!({
        "name": format!("models/{}", entry.id),
        "displayName": entry.id,
        "version": "",
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
    });
    for (key, tokens) in [("inputTokenLimit", entry.facts.context), ("outputTokenLimit", entry.facts.max_output)] {
        if let Some(tokens) = tokens {
            model[key] = Value::from(tokens);
        }
    }
    model
}
