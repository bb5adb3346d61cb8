//! Which models there are now: each provider's own list, as last fetched. Fetching is the server's; here is what is known.

use crate::provider::facts::{Facts, Known};
use crate::provider::listing::ListedModel;
use crate::provider::{Provider, ProviderKind};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// A list whose fetching failed is asked for again after so long.
pub const RETRY_FAILED: Duration = Duration::from_secs(15);

/// Every provider's list. Serialised for the cache on disk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalogue {
    lists: IndexMap<String, List>,
    /// What the aggregators' lists say of models, whoever serves them.
    #[serde(skip)]
    public: Known,
}

/// The list of one provider.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct List {
    /// Where it was fetched; a list of another address is worth nothing.
    pub url: String,
    /// The models, in the provider's order.
    pub models: Vec<ListedModel>,
    /// What is in memory (`llama-swap`'s `/running`); `None` for a server that serves all it lists.
    #[serde(skip)]
    pub running: Option<Vec<String>>,
    /// When it was fetched, in Unix seconds; `None` if never.
    pub fetched_at: Option<u64>,
    /// It passes models on to other machines: only those of `models`, and what runs, are known to be on this one.
    has_remote: bool,
    /// Why the last fetching failed and when, in Unix seconds.
    #[serde(skip)]
    pub failure: Option<(String, u64)>,
    /// Its models cost nothing.
    is_local: bool,
    /// All that is known of each model besides the config, in the order of `models`.
    #[serde(skip)]
    known: Vec<Facts>,
    /// Position by id and by lower-case id.
    #[serde(skip)]
    positions: HashMap<String, usize>,
}

impl List {
    /// The model called `id`, or that has this alias, case ignored if nothing has exactly this name.
    pub fn find(&self, id: &str) -> Option<&ListedModel> {
        self.models.get(self.position(id)?)
    }

    /// The name `id` as its provider spells it: the model's own, or an alias's.
    pub fn spelled(&self, id: &str) -> Option<&str> {
        let model = self.find(id)?;
        let alias = || model.aliases.iter().find(|alias| alias.eq_ignore_ascii_case(id));
        Some(if model.id.eq_ignore_ascii_case(id) { &model.id } else { alias().unwrap_or(&model.id) })
    }

    /// The id of the model called `name`, which may be an alias; the name itself if it is not listed.
    pub fn real_id<'a>(&'a self, name: &'a str) -> &'a str {
        self.find(name).map_or(name, |model| &model.id)
    }

    /// The models with all that is known of them besides the config.
    pub fn known(&self) -> impl Iterator<Item = (&ListedModel, &Facts)> {
        self.models.iter().zip(&self.known)
    }

    fn position(&self, id: &str) -> Option<usize> {
        // Each is known in lower case too.
        let has_capitals = || id.bytes().any(|byte| byte.is_ascii_uppercase());
        let lower = || has_capitals().then(|| self.positions.get(&id.to_ascii_lowercase())).flatten();
        self.positions.get(id).or_else(lower).copied()
    }

    /// True if the model is in memory, as far as the server says: one that serves all it lists has all of it there.
    pub fn is_loaded(&self, id: &str) -> bool {
        match &self.running {
            Some(running) => running.iter().any(|model| model.eq_ignore_ascii_case(self.real_id(id))),
            None => self.find(id).is_some(),
        }
    }

    /// False if the model is known not to chat.
    pub fn may_chat(&self, id: &str) -> bool {
        self.find(id).is_none_or(|model| model.chat != Some(false))
    }

    /// True if a local server has the model on this machine, as far as it says.
    pub fn is_here(&self, id: &str) -> bool {
        let runs = || self.running.iter().flatten().any(|model| model == id);
        !self.has_remote || self.find(id).is_some() || runs()
    }

    /// True once an answer or a failure is there.
    pub fn is_settled(&self) -> bool {
        self.fetched_at.is_some() || self.failure.is_some()
    }

    fn learn(&mut self, provider: &str, public: &Known) {
        let is_local = self.is_local;
        let complete = |model: &ListedModel| {
            let mut facts = model.facts.clone();
            complete(&mut facts, provider, is_local, &model.id, public);
            facts
        };
        self.known = self.models.iter().map(complete).collect();
    }

    fn index(&mut self) {
        self.positions.clear();
        for (position, model) in self.models.iter().enumerate() {
            self.positions.entry(model.id.to_ascii_lowercase()).or_insert(position);
        }
        for (position, model) in self.models.iter().enumerate() {
            self.positions.insert(model.id.clone(), position);
        }
        // Whatever is a model's own name is no alias.
        for (position, model) in self.models.iter().enumerate() {
            for alias in &model.aliases {
                self.positions.entry(alias.clone()).or_insert(position);
                self.positions.entry(alias.to_ascii_lowercase()).or_insert(position);
            }
        }
    }
}

impl Catalogue {
    /// A catalogue from the cache on disk; lists of addresses that are no longer those of `providers` are left out.
    pub fn restore<'a>(mut self, providers: impl IntoIterator<Item = &'a Provider>) -> Self {
        let urls: HashMap<&str, String> =
            providers.into_iter().filter_map(|it| Some((&*it.name, it.models_url()?))).collect();
        self.lists.retain(|name, list| urls.get(&**name) == Some(&list.url));
        self.lists.values_mut().for_each(List::index);
        self.publish();
        self
    }

    /// Takes a fetched list; what a local server has on other machines is no local model and is left out. `running` is what
    /// `llama-swap` has in memory, `None` from any other server.
    pub fn set(&mut self, provider: &Provider, mut models: Vec<ListedModel>, running: Option<Vec<String>>, now: u64) {
        let has_remote = provider.is_local() && models.iter().any(|model| model.is_remote);
        if has_remote {
            models.retain(|model| !model.is_remote);
        }
        let mut list = List {
            url: provider.models_url().unwrap_or_default(),
            models,
            running,
            has_remote,
            fetched_at: Some(now),
            is_local: provider.is_local(),
            ..List::default()
        };
        list.index();
        list.learn(&provider.name, &self.public);
        self.lists.insert(provider.name.to_string(), list);
        if provider.kind == ProviderKind::Aggregator {
            self.publish();
        }
    }

    /// Notes that fetching failed; the models of an earlier list stay.
    pub fn fail(&mut self, provider: &Provider, error: impl Into<String>, now: u64) {
        let list = self.lists.entry(provider.name.to_string()).or_default();
        list.url = provider.models_url().unwrap_or_default();
        list.failure = Some((error.into(), now));
        list.running = list.running.take().map(|_| Vec::new());
    }

    /// True when the provider's list should be fetched: never was, is older than `ttl`, or failed a while ago.
    pub fn is_due(&self, provider: &Provider, now: u64, ttl: Duration) -> bool {
        let Some(url) = provider.models_url() else { return false };
        let Some(list) = self.lists.get(&*provider.name).filter(|list| list.url == url) else { return true };
        match (&list.failure, list.fetched_at) {
            (Some((_, at)), _) => now.saturating_sub(*at) >= RETRY_FAILED.as_secs(),
            (None, Some(at)) => now.saturating_sub(at) >= ttl.as_secs(),
            (None, None) => true,
        }
    }

    /// The list of the provider called `name`.
    pub fn list(&self, name: &str) -> Option<&List> {
        self.lists.get(name)
    }

    /// A local provider has the model on this machine, as far as it says; one that lists models is believed when it has.
    pub fn is_here(&self, provider: &Provider, model: &str) -> bool {
        let list = self.list(&provider.name).filter(|list| list.fetched_at.is_some());
        provider.is_local() && list.map_or(provider.models_url().is_none(), |list| list.is_here(model))
    }

    /// Every provider's list by the provider's name.
    pub fn lists(&self) -> impl Iterator<Item = (&str, &List)> {
        self.lists.iter().map(|(name, list)| (&**name, list))
    }

    /// True when the provider has a list to come and neither an answer nor a failure is there yet.
    pub fn is_awaited(&self, provider: &Provider) -> bool {
        provider.models_url().is_some() && !self.lists.get(&*provider.name).is_some_and(List::is_settled)
    }

    /// All that is known of a model besides the config: its provider's list, then the aggregators' lists, then the data
    /// file. Local models cost nothing.
    pub fn facts(&self, provider: &Provider, model: &str) -> Facts {
        let list = self.lists.get(&*provider.name);
        if let Some(known) = list.and_then(|list| list.known.get(list.position(model)?)) {
            return known.clone();
        }
        let mut facts = Facts::default();
        complete(&mut facts, &provider.name, provider.is_local(), model, &self.public);
        facts
    }

    /// Lets every list learn from those of the aggregators.
    fn publish(&mut self) {
        let models = self.lists.values().flat_map(|list| &list.models);
        let public = models.filter(|model| model.facts.input_price.is_some() && model.id.contains('/'));
        self.public = Known::new(public.map(|model| (model.id.clone(), model.facts.clone())));
        for (name, list) in &mut self.lists {
            list.learn(name, &self.public);
        }
    }
}

fn complete(facts: &mut Facts, provider: &str, is_local: bool, model: &str, public: &Known) {
    if is_local {
        facts.input_price.get_or_insert(0.0);
        facts.output_price.get_or_insert(0.0);
    }
    for known in [public, Known::shipped()] {
        if let Some(known) = known.find(provider, is_local, model) {
            facts.fill_from(&known);
        }
    }
}
