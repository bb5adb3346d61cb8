//! Who is active and what they list, as last learned. Read by requests, written by [`super::refresh`].

use crate::config::{Paths, Snapshot};
use crate::local::{LocalServer, ServerKind};
use crate::provider::listing::ListedModel;
use crate::provider::{MLX_LOCAL, Provider};
use crate::route::Catalogue;
use crate::secret::Availability;
use arc_swap::{ArcSwap, ArcSwapOption};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tracing::{debug, warn};

/// The file in the cache folder that holds the lists.
const CACHE_FILE: &str = "catalogue.json";

/// Who is active and what they list.
pub struct Directory {
    catalogue: ArcSwap<Catalogue>,
    /// One writer at a time.
    writing: Mutex<()>,
    active: ArcSwap<HashSet<Arc<str>>>,
    local: ArcSwapOption<LocalServer>,
    /// Models of the local server that refused to chat since it came up.
    mute: ArcSwap<HashSet<String>>,
    changed: watch::Sender<()>,
    cache_file: Option<PathBuf>,
}

impl Directory {
    /// What the cache on disk knows; a cache that cannot be read is no cache.
    pub fn load(paths: &Paths, snapshot: &Snapshot, local_only: bool) -> Self {
        let cache_file = paths.cache.as_ref().map(|folder| folder.join(CACHE_FILE));
        let cached: Catalogue = cache_file
            .as_ref()
            .and_then(|file| fs::read(file).ok())
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        let catalogue = cached.restore(snapshot.providers.iter().map(AsRef::as_ref));
        let directory = Self {
            catalogue: ArcSwap::from_pointee(catalogue),
            writing: Mutex::new(()),
            active: ArcSwap::default(),
            local: ArcSwapOption::empty(),
            mute: ArcSwap::default(),
            changed: watch::Sender::new(()),
            cache_file,
        };
        directory.activate(snapshot, local_only);
        directory
    }

    /// The lists now.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.load_full()
    }

    /// The names of the active providers.
    pub fn active(&self) -> Arc<HashSet<Arc<str>>> {
        self.active.load_full()
    }

    /// The local server, while it answers.
    pub fn local_server(&self) -> Option<Arc<LocalServer>> {
        self.local.load_full()
    }

    /// The provider lists this model.
    pub fn lists(&self, provider: &str, model: &str) -> bool {
        self.catalogue.load().list(provider).is_some_and(|list| list.find(model).is_some())
    }

    /// Somebody lists something.
    pub fn lists_a_model(&self) -> bool {
        let active = self.active.load();
        self.catalogue.load().lists().any(|(name, list)| active.contains(name) && !list.models.is_empty())
    }

    /// Wakes at each change of a list.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Finds out who is active as far as that needs no program to run, and gives those that would need one; of them the
    /// ones that were active before stay so until [`Directory::key_known`] says otherwise.
    pub fn activate(&self, snapshot: &Snapshot, local_only: bool) -> Vec<Arc<Provider>> {
        let before = self.active.load();
        let mut active = HashSet::new();
        let mut unknown = Vec::new();
        for provider in &snapshot.providers {
            if !provider.needs_key() {
                active.insert(provider.name.clone());
                continue;
            }
            if local_only && !provider.is_local() {
                continue;
            }
            match snapshot.secrets.peek_first(provider.key_sources()) {
                Availability::Present => drop(active.insert(provider.name.clone())),
                Availability::Unknown => {
                    if before.contains(&*provider.name) {
                        active.insert(provider.name.clone());
                    }
                    unknown.push(Arc::clone(provider));
                }
                Availability::Absent => {}
            }
        }
        self.active.store(Arc::new(active));
        unknown
    }

    /// Notes whether a provider's key was found.
    pub fn key_known(&self, provider: &Provider, found: bool) {
        self.active.rcu(|active| {
            let mut active = HashSet::clone(active);
            if found {
                active.insert(provider.name.clone())
            } else {
                active.remove(&*provider.name)
            };
            active
        });
    }

    /// Takes a fetched list, and writes the cache.
    pub fn listed(&self, provider: &Provider, models: Vec<ListedModel>) {
        self.update(|catalogue| catalogue.set(provider, models, None, now()));
        self.save();
    }

    /// Notes that a list could not be fetched.
    pub fn failed(&self, provider: &Provider, error: &str) {
        debug!(provider = &*provider.name, error, "the model list could not be fetched");
        self.update(|catalogue| catalogue.fail(provider, error, now()));
    }

    /// Remembers that a model of the local server refused to chat.
    pub fn refused_to_chat(&self, model: &str) {
        self.mute.rcu(|mute| mute.iter().cloned().chain([model.to_owned()]).collect::<HashSet<_>>());
    }

    /// A model of the local server has chatted.
    pub fn has_chatted(&self, model: &str) {
        if self.mute.load().is_empty() {
            return;
        }
        let server = self.local.load();
        let model = server.as_deref().map_or(model, |server| server.meant_by(model));
        if self.mute.load().contains(model) {
            self.mute.rcu(|mute| mute.iter().filter(|mute| *mute != model).cloned().collect::<HashSet<_>>());
        }
    }

    /// The models of the local server that refused to chat.
    pub fn mute(&self) -> Arc<HashSet<String>> {
        self.mute.load_full()
    }

    /// Takes what the local server says of itself, or that it does not answer.
    pub fn local_answered(&self, provider: &Provider, answer: Result<LocalServer, String>) {
        match answer {
            Ok(server) => {
                let known = self.local.load().as_deref() == Some(&server);
                // A server that serves all it lists has all of it in memory.
                let running = (server.kind != ServerKind::Other).then(|| server.loaded.clone());
                if !known {
                    let mut models = server.models.clone();
                    for model in models.iter_mut().filter(|model| server.mute.contains(&model.id)) {
                        model.chat = Some(false);
                    }
                    self.update(|catalogue| catalogue.set(provider, models, running, now()));
                }
                self.local.store(Some(Arc::new(server)));
            }
            Err(error) => {
                self.mute.store(Arc::default());
                if self.local.swap(None).is_some()
                    || !self.catalogue.load().list(MLX_LOCAL).is_some_and(|list| list.is_settled())
                {
                    self.update(|catalogue| catalogue.fail(provider, error, now()));
                }
            }
        }
    }

    /// There is no local server to look at: its provider is switched off.
    pub fn local_gone(&self) {
        self.local.store(None);
    }

    /// What is known of every provider, for people and scripts.
    pub fn report(&self, snapshot: &Snapshot) -> Vec<Value> {
        let active = self.active.load();
        let catalogue = self.catalogue.load();
        let one = |provider: &Arc<Provider>| {
            let list = catalogue.list(&provider.name);
            json!({
                "name": provider.name,
                "active": active.contains(&*provider.name),
                "local": provider.is_local(),
                "models": list.map(|list| list.models.len()),
                "listed_at": list.and_then(|list| list.fetched_at),
                "error": list.and_then(|list| list.failure.as_ref().map(|(error, _)| error)),
            })
        };
        snapshot.providers.iter().map(one).collect()
    }

    fn update(&self, change: impl FnOnce(&mut Catalogue)) {
        let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut catalogue = Catalogue::clone(&self.catalogue.load());
        change(&mut catalogue);
        self.catalogue.store(Arc::new(catalogue));
        self.changed.send_replace(());
    }

    fn save(&self) {
        let Some(file) = &self.cache_file else { return };
        let unfinished = file.with_extension(format!("json.{}", std::process::id()));
        let written = serde_json::to_vec(&**self.catalogue.load()).map_err(std::io::Error::from).and_then(|bytes| {
            fs::create_dir_all(file.parent().unwrap_or(file))?;
            fs::write(&unfinished, bytes)?;
            fs::rename(&unfinished, file)
        });
        if let Err(error) = written {
            warn!(file = %file.display(), %error, "the model lists could not be cached; they are fetched again at the next start");
        }
    }
}

/// Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
