//! The models that the configuration itself names: they are known whether or not a list has them.

use super::classes::Class;
use crate::provider::facts::Facts;
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};

/// The models that pinned selectors, aliases and facts name.
#[derive(Debug, Clone, Default)]
pub struct NamedModels {
    by_provider: HashMap<String, HashSet<String>>,
    /// Of whoever has them.
    of_any: HashSet<String>,
}

impl NamedModels {
    /// Those that these parts of the configuration name.
    pub(super) fn of(
        classes: &IndexMap<String, Class>,
        aliases: &IndexMap<String, String>,
        facts: &IndexMap<String, Facts>,
    ) -> Self {
        let mut named = Self::default();
        for selector in classes.values().flat_map(|class| &class.select) {
            if let (Some(provider), Some(model)) = (&selector.provider, &selector.model)
                && !model.contains(['*', '?'])
            {
                named.add(provider, model);
            }
        }
        for name in aliases.values().chain(facts.keys()) {
            if let Some((provider, model)) = name.split_once('/') {
                named.add(provider, model);
            }
        }
        // The key of a fact may be a model's id alone, which may have a slash of its own.
        named.of_any.extend(facts.keys().cloned());
        named
    }

    /// The configuration names this model of this provider.
    pub fn has(&self, provider: &str, model: &str) -> bool {
        self.of_any.contains(model) || self.by_provider.get(provider).is_some_and(|models| models.contains(model))
    }

    fn add(&mut self, provider: &str, model: &str) {
        self.by_provider.entry(provider.to_owned()).or_default().insert(model.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_configuration_names_is_named() {
        let classes: IndexMap<String, Class> = toml::from_str(
            "[c]\nselect = [{ provider = \"p\", model = \"pinned\" }, { provider = \"p\", model = \"some-*\" }, { provider = \"p\" }]\n",
        )
        .unwrap();
        let aliases = IndexMap::from([("short".to_owned(), "p/org/long".to_owned())]);
        let facts = ["p/priced", "org/id"].map(|name| (name.to_owned(), Facts::default())).into();
        let named = NamedModels::of(&classes, &aliases, &facts);
        for (provider, model) in [("p", "pinned"), ("p", "org/long"), ("p", "priced"), ("q", "org/id"), ("org", "id")] {
            assert!(named.has(provider, model), "{provider}/{model}");
        }
        for (provider, model) in [("p", "some-*"), ("p", "some-1"), ("q", "pinned"), ("q", "priced"), ("p", "short")] {
            assert!(!named.has(provider, model), "{provider}/{model}");
        }
    }
}
