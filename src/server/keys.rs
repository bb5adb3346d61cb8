//! The keys of the providers while they are in use: which is next, and which rest.

use super::Loaded;
use crate::config::Snapshot;
use crate::route::key_pool::Choice;
use crate::route::{KeyPool, Rest};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The keys of every provider that has one. Made anew with each configuration, which brings back those that were refused; a
/// rest that the provider asked for goes on.
pub struct KeyPools(HashMap<String, Mutex<KeyPool>>);

impl KeyPools {
    /// All keys, none of them resting.
    pub fn new(snapshot: &Snapshot) -> Self {
        let with_keys = snapshot.providers.iter().filter(|provider| !provider.keys.is_empty());
        let pool = |weights| Mutex::new(KeyPool::new(weights));
        Self(
            with_keys
                .map(|provider| (provider.name.to_string(), pool(provider.keys.iter().map(|key| key.weight).collect())))
                .collect(),
        )
    }

    /// All keys, those resting whose provider asked for it `before` this configuration.
    pub fn after(before: &Loaded, snapshot: &Snapshot, now: Instant) -> Self {
        let pools = Self::new(snapshot);
        for provider in &snapshot.providers {
            let Some(known) = before.snapshot.providers.iter().find(|known| known.name == provider.name) else {
                continue;
            };
            let (Some(mut pool), Some(rests)) = (pools.pool(&provider.name), before.keys.pool(&provider.name)) else {
                continue;
            };
            for (place, key) in provider.keys.iter().enumerate() {
                if let Some(place_before) = known.keys.iter().position(|known| known.sources == key.sources) {
                    pool.keep_rests(place, &rests, place_before, now);
                }
            }
        }
        pools
    }

    /// The next key of `provider` for `model`; `None` when it has none.
    pub fn choose(&self, provider: &str, model: &str, now: Instant) -> Option<Choice> {
        Some(self.pool(provider)?.choose(model, now))
    }

    /// The rest of `provider` for `model` while all its keys that are alive rest.
    pub fn all_rest(&self, provider: &str, model: &str, now: Instant) -> Option<Rest> {
        self.pool(provider)?.all_rest(model, now)
    }

    /// A key is not used for a while: with one model, or with any.
    pub fn rest(&self, provider: &str, key: usize, model: Option<&str>, rest: Rest, now: Instant) {
        if let Some(mut pool) = self.pool(provider) {
            pool.rest(key, model, rest, now);
        }
    }

    /// A key is not used until the configuration is read again.
    pub fn drop_key(&self, provider: &str, key: usize) {
        if let Some(mut pool) = self.pool(provider) {
            pool.drop_key(key);
        }
    }

    /// A key has worked: it is not dead, whatever was thought.
    pub fn works(&self, provider: &str, key: usize) {
        if let Some(mut pool) = self.pool(provider) {
            pool.works(key);
        }
    }

    /// The keys that are not used now, for people and scripts; by their places, never by what they are.
    pub fn report(&self, now: Instant) -> Vec<Value> {
        let of = |name: &String| {
            let out_of_use = self.pool(name).map(|pool| pool.out_of_use(now)).unwrap_or_default();
            let one = |(key, rest): (usize, Option<Rest>)| {
                let seconds = rest.map(|rest| rest.until.saturating_duration_since(now).as_secs_f64());
                json!({ "provider": name, "key": key, "rests_seconds": seconds })
            };
            out_of_use.into_iter().map(one).collect::<Vec<_>>()
        };
        let mut names: Vec<&String> = self.0.keys().collect();
        names.sort();
        names.into_iter().flat_map(of).collect()
    }

    fn pool(&self, provider: &str) -> Option<MutexGuard<'_, KeyPool>> {
        Some(self.0.get(provider)?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
