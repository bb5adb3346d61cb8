//! What the local server says of itself, read from the bodies it answers with. No IO.

use crate::provider::ModelList;
use crate::provider::listing::{self, ListedModel};
use crate::provider::llama_swap::apply_profiles;
use serde_json::Value;
use std::collections::HashSet;

/// Which program listens on the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// `vllm-mlx serve`, with one model or a registry of several.
    VllmMlx,
    /// llama-swap in front of servers that it starts and stops.
    LlamaSwap,
    /// Another OpenAI-compatible server.
    Other,
}

/// What was learned from one round of questions. A server that did not answer has no `LocalServer`.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalServer {
    /// Which program it is.
    pub kind: ServerKind,
    /// It says that it is well.
    pub healthy: bool,
    /// What it lists. For llama-swap this is only the catalogue: the first entry means nothing.
    pub models: Vec<ListedModel>,
    /// The ids that are in memory now, as far as it tells.
    pub loaded: Vec<String>,
    /// The ids of those that cannot chat: it says so, or one refused to.
    pub mute: HashSet<String>,
    /// It is loading a model now.
    pub loading: bool,
    /// The ids of those that it loads, where it names them.
    pub starting: Vec<String>,
}

/// The bodies of one round; `None` where the server answered with an error or not at all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bodies<'a> {
    /// `GET /health`.
    pub health: Option<&'a [u8]>,
    /// `GET /v1/models`.
    pub models: Option<&'a [u8]>,
    /// `GET /running` (llama-swap).
    pub running: Option<&'a [u8]>,
    /// `GET /api/profiles` (llama-swap).
    pub profiles: Option<&'a [u8]>,
    /// `GET /v1/status` (vllm-mlx).
    pub status: Option<&'a [u8]>,
}

impl LocalServer {
    /// Reads one round. Sources: vllm-mlx 0.6.0 and 0.3.0 as recorded, llama-swap's README (`/running`, `/health`).
    pub fn read(bodies: &Bodies<'_>) -> Self {
        let json = |body: Option<&[u8]>| body.and_then(|body| serde_json::from_slice::<Value>(body).ok());
        let health = json(bodies.health);
        let listed = bodies.models.and_then(|body| listing::parse(ModelList::OpenAi, body).ok());
        let mut models = listed.unwrap_or_default();
        let profiles = json(bodies.profiles);
        let away = profiles.as_ref().map(|profiles| apply_profiles(&mut models, profiles)).unwrap_or_default();
        let mute = models.iter().filter(|model| model.chat == Some(false)).map(|model| model.id.clone()).collect();
        let other = Self {
            kind: ServerKind::Other,
            healthy: bodies.health.is_some(),
            models,
            loaded: Vec::new(),
            mute,
            loading: false,
            starting: Vec::new(),
        };
        if let Some(running) =
            json(bodies.running).as_ref().and_then(|body| body.get("running")).filter(|it| it.is_array())
        {
            let mut loaded =
                ids(Some(running), "model", |entry| entry.get("state").is_none_or(|state| state == "ready"));
            // Whoever asks for such a name does not reach what is in memory.
            let is_remote = |id: &str| other.models.iter().any(|model| model.is_remote && model.id == id);
            loaded.retain(|id| !away.contains(&**id) && !is_remote(id));
            let starting = ids(Some(running), "model", |entry| entry.get("state").is_some_and(|it| it == "starting"));
            return Self { kind: ServerKind::LlamaSwap, loaded, loading: !starting.is_empty(), starting, ..other };
        }
        let Some(loaded_flag) = health.as_ref().and_then(|health| health.get("model_loaded")) else { return other };
        let status = json(bodies.status);
        let managed = status.as_ref().and_then(|status| status.pointer("/model_manager/models"));
        let loaded = match managed {
            Some(list) => ids(Some(list), "id", |entry| entry.get("loaded") == Some(&Value::Bool(true))),
            None if loaded_flag == &Value::Bool(true) => other.models.iter().map(|model| model.id.clone()).collect(),
            None => Vec::new(),
        };
        let healthy = health.as_ref().and_then(|health| health.get("status")).is_some_and(|status| status == "healthy");
        let residency = health.as_ref().and_then(|health| health.get("residency_state"));
        let loading = residency.is_some_and(|state| state == "loading");
        Self { kind: ServerKind::VllmMlx, healthy, loaded, loading, ..other }
    }

    /// The ids of what is in memory and can give a token, as far as that is known.
    pub fn loaded_for_chat(&self) -> impl Iterator<Item = &str> {
        self.loaded.iter().map(String::as_str).filter(|model| !self.mute.contains(*model))
    }

    /// The model that it means by a name: an alias's own, else the name.
    pub fn meant_by<'a>(&'a self, name: &'a str) -> &'a str {
        let is_alias = |model: &&ListedModel| model.aliases.iter().any(|alias| alias == name);
        self.models.iter().find(is_alias).map_or(name, |model| &model.id)
    }

    /// It brings this model into a memory that its models share, in the place of another.
    pub fn swaps(&self, model: &str) -> bool {
        let is_meant = |listed: &&ListedModel| listed.id == model && !listed.is_remote && !listed.is_choice;
        self.kind == ServerKind::LlamaSwap && self.models.iter().any(|listed| is_meant(&listed))
    }

    /// The ids of what it has on this machine.
    pub fn own_ids(&self) -> impl Iterator<Item = &str> {
        self.models.iter().filter(|model| !model.is_remote).map(|model| model.id.as_str())
    }
}

fn ids(list: Option<&Value>, key: &str, keep: impl Fn(&Value) -> bool) -> Vec<String> {
    let entries = list.and_then(Value::as_array).into_iter().flatten();
    entries.filter(|entry| keep(entry)).filter_map(|entry| entry.get(key)?.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODELS: &[u8] =
        br#"{"object":"list","data":[{"id":"tiny","object":"model"},{"id":"noise","object":"model"}]}"#;

    #[test]
    fn plain_vllm_mlx_serves_what_it_lists() {
        let health = br#"{"status":"healthy","model_loaded":true,"model_name":"tiny","engine_type":"batched"}"#;
        let models = br#"{"object":"list","data":[{"id":"tiny"}]}"#;
        let server = LocalServer::read(&Bodies { health: Some(health), models: Some(models), ..Bodies::default() });
        assert_eq!((server.kind, server.healthy, server.loaded), (ServerKind::VllmMlx, true, vec!["tiny".to_owned()]));
    }

    #[test]
    fn an_unloaded_vllm_mlx_is_healthy_with_nothing_in_memory() {
        let health = br#"{"status":"healthy","model_loaded":false,"residency_state":"unloaded"}"#;
        let server = LocalServer::read(&Bodies { health: Some(health), models: Some(MODELS), ..Bodies::default() });
        assert!(server.healthy && server.loaded.is_empty());
    }

    #[test]
    fn a_registry_tells_what_is_loaded_by_status() {
        let health = br#"{"status":"healthy","model_loaded":true,"model_name":null}"#;
        let status = br#"{"model_manager":{"models":[{"id":"tiny","loaded":true},{"id":"noise","loaded":false}]}}"#;
        let bodies = Bodies { health: Some(health), models: Some(MODELS), status: Some(status), ..Bodies::default() };
        assert_eq!(LocalServer::read(&bodies).loaded, ["tiny"]);
    }

    #[test]
    fn llama_swap_tells_what_is_loaded_by_running() {
        let running = br#"{"running":[{"model":"noise","state":"ready"},{"model":"tiny","state":"starting"}]}"#;
        let bodies = Bodies { health: Some(b"OK"), models: Some(MODELS), running: Some(running), ..Bodies::default() };
        let server = LocalServer::read(&bodies);
        assert_eq!((server.kind, server.healthy), (ServerKind::LlamaSwap, true));
        assert_eq!((server.loaded, server.starting), (vec!["noise".to_owned()], vec!["tiny".to_owned()]));
    }

    #[test]
    fn a_name_that_a_profile_sends_to_a_peer_is_not_in_memory() {
        let running = br#"{"running":[{"model":"unlisted","state":"ready"},{"model":"org/alpha","state":"ready"}]}"#;
        let profiles = br#"{"active":"p","profiles":[{"id":"p","pins":{"unlisted":"remote-big"}}]}"#;
        let models = Some(&include_bytes!("../../tests/fixtures/models/llama-swap.json")[..]);
        let bodies = Bodies { models, running: Some(running), profiles: Some(profiles), ..Bodies::default() };
        assert_eq!(LocalServer::read(&bodies).loaded, ["org/alpha"]);
    }

    #[test]
    fn a_model_on_its_way_into_memory_is_seen() {
        let health = br#"{"status":"healthy","model_loaded":false,"residency_state":"loading"}"#;
        assert!(LocalServer::read(&Bodies { health: Some(health), models: Some(MODELS), ..Bodies::default() }).loading);
        let running = br#"{"running":[{"model":"tiny","state":"starting"}]}"#;
        let bodies = Bodies { health: Some(b"OK"), models: Some(MODELS), running: Some(running), ..Bodies::default() };
        let server = LocalServer::read(&bodies);
        assert!(server.loading && server.loaded.is_empty());
    }

    #[test]
    fn garbage_says_nothing() {
        let garbage = Bodies {
            health: Some(b"<html>"),
            models: Some(b"<html>"),
            running: Some(b"<html>"),
            status: Some(b"[]"),
            profiles: Some(b"[]"),
        };
        let server = LocalServer::read(&garbage);
        assert!(server.models.is_empty() && server.loaded.is_empty() && !server.loading);
    }
}
