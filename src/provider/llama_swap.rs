//! What llama-swap says in its model list beside OpenAI's shape (its `internal/server/api.go`).

use super::listing::ListedModel;
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// `meta.llamaswap` of an entry; older ones, and models without metadata, lack some of it or all.
#[derive(Clone, Copy)]
struct About<'a>(Option<&'a Value>);

impl<'a> About<'a> {
    fn of(entry: &'a Value) -> Self {
        Self(entry.pointer("/meta/llamaswap"))
    }

    fn text(self, key: &str) -> Option<&'a str> {
        self.0?.get(key)?.as_str()
    }

    fn texts(self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let list = self.0.and_then(|about| about.get(key)?.as_array());
        list.into_iter().flatten().filter_map(Value::as_str)
    }

    /// The model that it is another name of; elsewhere the word may be the user's own metadata.
    fn alias_of(self) -> Option<&'a str> {
        self.text("modelID").filter(|_| self.text("type") == Some("alias"))
    }

    /// A model of another llama-swap, or of any server, on another machine.
    fn is_peer(self) -> bool {
        self.text("peerID").is_some() || self.text("type") == Some("peer")
    }

    /// A model of its own, or another name of one.
    fn is_own(self) -> bool {
        !self.is_peer() && matches!(self.text("type"), None | Some("model" | "alias"))
    }
}

/// Adds what llama-swap says of its models; aliases that are entries of their own become other names of theirs.
pub(super) fn complete(models: &mut Vec<ListedModel>, entries: &[Value]) {
    if entries.iter().all(|entry| About::of(entry).0.is_none()) {
        return;
    }
    tell_remote(models, entries);
    let about: HashMap<String, About<'_>> = entries.iter().filter_map(|it| Some((id(it)?, About::of(it)))).collect();
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for model in &mut *models {
        let Some(about) = about.get(&model.id) else { continue };
        model.is_choice = !about.is_own() && !about.is_peer();
        model.aliases = about.texts("aliases").map(str::to_owned).collect();
        if let Some(real) = about.alias_of() {
            names.entry(real.to_owned()).or_default().push(model.id.clone());
        }
    }
    let mut aliases = HashSet::new();
    // What is an alias itself has none: two that name each other would both be gone.
    for model in models.iter_mut().filter(|model| about.get(&model.id).is_none_or(|it| it.alias_of().is_none())) {
        let own = names.remove(&model.id).unwrap_or_default();
        aliases.extend(own.iter().cloned());
        model.aliases.extend(own);
        let mut seen = HashSet::new();
        model.aliases.retain(|alias| seen.insert(alias.clone()));
    }
    models.retain(|model| !aliases.contains(&model.id));
}

/// The name of an entry, as it is read into [`ListedModel::id`].
fn id(entry: &Value) -> Option<String> {
    Some(entry.get("id")?.as_str()?.trim().to_owned())
}

/// Where llama-swap has peers, only what leads to its own models for certain is on its machine: a selector or the pin of a
/// profile may lead to a peer.
fn tell_remote(models: &mut [ListedModel], entries: &[Value]) {
    if !entries.iter().any(|entry| About::of(entry).is_peer()) {
        return;
    }
    let own = entries.iter().filter(|entry| About::of(entry).is_own());
    let mut here: HashSet<String> = own.clone().filter_map(id).collect();
    here.extend(own.flat_map(|entry| About::of(entry).texts("aliases")).map(str::to_owned));
    let leads_here = |entry: &&Value| {
        let about = About::of(entry);
        let is_selector = about.text("type") == Some("selector") && about.texts("targets").next().is_some();
        is_selector && about.texts("targets").all(|target| here.contains(target))
    };
    let selectors: Vec<String> = entries.iter().filter(leads_here).filter_map(id).collect();
    here.extend(selectors);
    for model in models {
        model.is_remote = !here.contains(&model.id);
    }
}

/// The active profile sends names to other models, which the list does not tell (`GET /api/profiles`). Where llama-swap has
/// peers, a name that is sent to anything but a model of its own is not here. Gives those names, for a profile may name
/// models that no list shows.
pub fn apply_profiles<'a>(models: &mut [ListedModel], profiles: &'a Value) -> HashSet<&'a str> {
    let Some(active) = profiles.get("active").and_then(Value::as_str) else { return HashSet::new() };
    if !models.iter().any(|model| model.is_remote) {
        return HashSet::new();
    }
    let is_active = |profile: &&Value| profile.get("id").and_then(Value::as_str) == Some(active);
    let profiles = profiles.get("profiles").and_then(Value::as_array).into_iter().flatten();
    let pins = profiles.filter(is_active).filter_map(|profile| profile.get("pins")?.as_object()).flatten();
    let own = |target: &str| {
        let is_called = |model: &ListedModel| model.id == target || model.aliases.iter().any(|alias| alias == target);
        models.iter().any(|model| !model.is_remote && is_called(model))
    };
    let away = pins.filter(|(_, target)| !target.as_str().is_some_and(own)).map(|(pin, _)| pin.as_str());
    let away: HashSet<&str> = away.collect();
    for model in models {
        model.is_remote |= away.contains(&*model.id);
        model.aliases.retain(|alias| !away.contains(&**alias));
    }
    away
}

#[cfg(test)]
mod tests {
    use super::super::ModelList;
    use super::super::listing::parse;
    use super::*;
    use serde_json::json;

    /// As llama-swap writes it, cut to what is read; the order is that of the ids.
    const LIST: &str = include_str!("../../tests/fixtures/models/llama-swap.json");

    #[test]
    fn only_what_leads_to_its_own_models_is_here() {
        let models = parse(ModelList::OpenAi, LIST.as_bytes()).unwrap();
        let remote: Vec<&str> = models.iter().filter(|model| model.is_remote).map(|model| model.id.as_str()).collect();
        assert_eq!(remote, ["far/remote-big", "pinned", "spills"]);
        let older = br#"{"data": [{"id": "org/alpha"}, {"id": "big", "meta": {"llamaswap": {"peerID": "far"}}}]}"#;
        let older = parse(ModelList::OpenAi, older).unwrap();
        assert_eq!(older.iter().map(|model| model.is_remote).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn aliases_are_other_names_of_their_model_and_no_models() {
        let models = parse(ModelList::OpenAi, LIST.as_bytes()).unwrap();
        let alpha = models.iter().find(|model| model.id == "org/alpha").unwrap();
        assert_eq!(alpha.aliases, ["alpha-alias", "gpt-4o-mini"]);
        assert!(!models.iter().any(|model| alpha.aliases.contains(&model.id)));
        let choices = models.iter().filter(|model| model.is_choice).map(|model| model.id.as_str());
        assert_eq!(choices.collect::<Vec<_>>(), ["pinned", "spills", "warm-one"]);
        let unlisted = br#"{"data": [{"id": "x", "meta": {"llamaswap": {"type": "alias", "modelID": "hidden"}}}]}"#;
        assert_eq!(parse(ModelList::OpenAi, unlisted).unwrap()[0].id, "x", "of its model nothing is known");
    }

    #[test]
    fn metadata_of_a_users_own_makes_no_model_an_alias() {
        for kind in [r#""type": "model", "#, "", r#""type": "alias", "#] {
            let list = format!(
                r#"{{"data": [{{"id": "x", "meta": {{"llamaswap": {{{kind}"modelID": "x"}}}}}}, {{"id": "y"}}]}}"#
            );
            let models = parse(ModelList::OpenAi, list.as_bytes()).unwrap();
            assert_eq!(models.iter().map(|model| &*model.id).collect::<Vec<_>>(), ["x", "y"], "{kind}");
            assert!(models[0].aliases.is_empty(), "{kind}");
        }
    }

    #[test]
    fn a_name_that_the_active_profile_sends_to_a_peer_is_not_here() {
        let read = |profiles: Value| {
            let mut models = parse(ModelList::OpenAi, LIST.as_bytes()).unwrap();
            apply_profiles(&mut models, &profiles);
            models.retain(|model| !model.is_remote);
            let names = |model: ListedModel| [model.id].into_iter().chain(model.aliases);
            models.into_iter().flat_map(names).collect::<Vec<_>>()
        };
        let pins = json!({"org/plain": "remote-big", "gpt-4o-mini": "far/remote-big", "org/rank": "alpha-alias"});
        let profiles = json!([{"id": "p", "pins": pins}, {"id": "q", "pins": {"org/alpha": "remote-big"}}]);
        let all = ["org/alpha", "alpha-alias", "gpt-4o-mini", "org/embed", "org/plain", "org/rank", "warm-one"];
        assert_eq!(read(json!({"active": null, "profiles": profiles})), all);
        let left = ["org/alpha", "alpha-alias", "org/embed", "org/rank", "warm-one"];
        assert_eq!(read(json!({"active": "p", "profiles": profiles})), left);
    }

    #[test]
    fn without_peers_everything_is_here() {
        let list = br#"{"data": [{"id": "any", "meta": {"llamaswap": {"type": "profile"}}}]}"#;
        assert!(!parse(ModelList::OpenAi, list).unwrap()[0].is_remote);
    }
}
