//! Task classes: from selectors to targets, by what the catalogue and the facts say now.

use super::catalogue::List;
use super::plan::{Target, View};
use crate::config::classes::{Class, Needs, Selector, Take};
use crate::provider::facts::Facts;
use crate::provider::{MLX_LOCAL, Provider};
use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

/// The user's own word: the role called like the class.
const ROLE: u8 = 0;
/// Answers without loading anything.
const IN_MEMORY: u8 = 1;
/// What the user wants where nothing else is said.
const LOCAL_DEFAULT: u8 = 2;
/// Any other.
const NO_HURRY: u8 = 3;

/// One model that a selector lets through.
struct Candidate<'a> {
    provider: &'a Arc<Provider>,
    model: &'a str,
    facts: Facts,
    created: Option<u64>,
    /// [`ROLE`] to [`NO_HURRY`]; lower is better.
    readiness: u8,
    /// Its provider did not answer when last asked.
    is_down: bool,
}

/// The targets of a class, best first, each once. `name` is what the client called it: a role of that name in the
/// registry is the user's own word for which local model to take.
pub(super) fn targets(view: &View<'_>, name: &str, class: &Class) -> Vec<Target> {
    let mut targets: Vec<(bool, bool, Target)> = Vec::new();
    for (place, selector) in class.select.iter().enumerate() {
        let mut candidates = candidates(view, name, class, selector);
        candidates.sort_by(|a, b| order(selector.take, a, b));
        // Without a provider it adds to what is there: another model, and of a local server no second one to load.
        if selector.provider.is_none() {
            candidates.retain(|it| {
                let mut chosen = targets.iter().filter(|(_, _, target)| target.provider.name == it.provider.name);
                !chosen.any(|(_, _, target)| it.provider.is_local() || *target.model == *it.model)
            });
        }
        for candidate in candidates.into_iter().take(selector.limit.unwrap_or(1)) {
            let reason = Cow::Owned(reason(name, selector, &candidate));
            let equals = selector.balance.then_some(place);
            let target =
                Target { provider: candidate.provider.clone(), model: Arc::from(candidate.model), reason, equals };
            if !targets.iter().any(|(_, _, known)| known.is_same(&target)) {
                targets.push((candidate.is_down, candidate.readiness != ROLE, target));
            }
        }
    }
    // A server that did not answer when last asked is still tried, but last. The role's model goes before preferences.
    targets.sort_by_key(|(is_down, is_other, _)| (*is_down, *is_other));
    targets.into_iter().map(|(_, _, target)| target).collect()
}

fn candidates<'a>(view: &View<'a>, name: &str, class: &Class, selector: &'a Selector) -> Vec<Candidate<'a>> {
    let mut found = Vec::new();
    let pin = selector.model.as_deref().filter(|pattern| !pattern.contains(['*', '?']));
    for provider in view.providers() {
        let is_meant = selector.provider.as_ref().is_none_or(|name| **name == *provider.name);
        if !is_meant || (!provider.is_local() && !class.cloud) {
            continue;
        }
        let list = view.catalogue.list(&provider.name);
        let is_down = list.is_some_and(|list| list.failure.is_some());
        for (model, known) in list.into_iter().flat_map(List::known) {
            let mut names = [&model.id].into_iter().chain(&model.aliases);
            let called = names.find(|id| selector.model.as_ref().is_none_or(|pattern| glob(pattern, id)));
            // Who names a model that does not chat asks it for something else.
            let Some(called) = called.filter(|_| model.chat != Some(false) || pin.is_some()) else { continue };
            let facts = view.told(provider, &model.id, known);
            if has(&facts, &selector.needs) {
                found.push(Candidate {
                    provider,
                    facts,
                    created: model.created,
                    readiness: readiness(view, name, provider, &model.id),
                    model: called,
                    is_down,
                });
            }
        }
        // A pinned model of a named provider is believed while that provider's list is not there to ask.
        let has_list = list.is_some_and(|list| list.fetched_at.is_some());
        if let (Some(model), Some(_), false) = (pin, &selector.provider, has_list) {
            let facts = view.facts(provider, model);
            found.push(Candidate { provider, facts, created: None, readiness: NO_HURRY, model, is_down });
        }
    }
    found
}

fn readiness(view: &View<'_>, name: &str, provider: &Provider, model: &str) -> u8 {
    let list = view.catalogue.list(&provider.name);
    let real = |name| list.map_or(name, |list| list.real_id(name));
    let is_role = |role: &str| {
        let id = view.role(role).filter(|_| &*provider.name == MLX_LOCAL);
        id.is_some_and(|id| real(id).eq_ignore_ascii_case(real(model)))
    };
    if is_role(name) {
        ROLE
    } else if list.is_some_and(|list| list.running.is_some() && list.is_loaded(model)) {
        IN_MEMORY
    } else if is_role("default") {
        LOCAL_DEFAULT
    } else {
        NO_HURRY
    }
}

/// What is unknown does not count as there.
fn has(facts: &Facts, needs: &Needs) -> bool {
    (!needs.tools || facts.tools == Some(true))
        && (!needs.vision || facts.vision == Some(true))
        && (!needs.reasoning || facts.reasoning == Some(true))
        && needs.context.is_none_or(|least| facts.context.is_some_and(|context| context >= least))
}

/// The better first; the order of providers and of their lists decides between equals, for the sort is stable.
fn order(take: Take, a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
    let by_place = a.provider.kind.cmp(&b.provider.kind);
    let by_readiness = a.readiness.cmp(&b.readiness);
    match take {
        Take::Loaded => by_place.then(by_readiness),
        Take::Newest => {
            let date = |it: &Candidate<'_>| Reverse(it.facts.released.or(it.created).unwrap_or(0));
            date(a).cmp(&date(b)).then(by_place).then(by_readiness)
        }
        Take::Cheapest => price(&a.facts).total_cmp(&price(&b.facts)).then(by_place).then(by_readiness),
        Take::LargestContext => {
            let context = |it: &Candidate<'_>| Reverse(it.facts.context.unwrap_or(0));
            context(a).cmp(&context(b)).then(by_place).then(by_readiness)
        }
    }
}

/// Dollars for a million tokens of a usual mix, three of prompt to one generated; what is unknown comes last.
fn price(facts: &Facts) -> f64 {
    match (facts.input_price, facts.output_price) {
        (Some(input), Some(output)) => (3.0 * input + output) / 4.0,
        _ => f64::INFINITY,
    }
}

fn reason(name: &str, selector: &Selector, candidate: &Candidate<'_>) -> String {
    let mut words = vec![format!("class {name}")];
    match (selector.take, candidate.readiness) {
        (_, ROLE) => words.push(format!("role {name} of the registry")),
        (Take::Loaded, IN_MEMORY) => words.push("in memory".to_owned()),
        (Take::Loaded, LOCAL_DEFAULT) => words.push("the local default".to_owned()),
        (Take::Loaded, _) => words.push("first that fits".to_owned()),
        (Take::Newest, _) => words.push("newest that fits".to_owned()),
        (Take::Cheapest, _) => words.push("cheapest that fits".to_owned()),
        (Take::LargestContext, _) => words.push("largest context that fits".to_owned()),
    }
    if let Some(pattern) = &selector.model {
        words.push(format!("model {pattern}"));
    }
    let Needs { tools, vision, reasoning, context } = &selector.needs;
    for (needed, word) in [(tools, "tools"), (vision, "vision"), (reasoning, "reasoning")] {
        if *needed {
            words.push(word.to_owned());
        }
    }
    if let Some(context) = context {
        words.push(format!("context of at least {context}"));
    }
    if candidate.is_down {
        words.push("did not answer when last asked".to_owned());
    }
    words.join(", ")
}

/// Matches `*` (any run of letters) and `?` (any one letter), case ignored, slashes being letters like any other.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut place) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(letter) = text.get(place) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted.eq_ignore_ascii_case(letter) => {
                at += 1;
                place += 1;
            }
            _ => {
                let Some((back, from)) = star else { return false };
                star = Some((back, from + 1));
                at = back + 1;
                place = from + 1;
            }
        }
    }
    pattern.iter().skip(at).all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::glob;
    use proptest::prelude::*;

    #[test]
    fn globs_match_as_people_expect() {
        for (pattern, text, matches) in [
            ("*", "", true),
            ("*coder*", "mlx-community/Qwen3-Coder-30B", true),
            ("*coder*", "gpt-5", false),
            ("gpt-?", "GPT-5", true),
            ("gpt-?", "gpt-", false),
            ("gpt-*mini*", "gpt-5-mini", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-c-d", false),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_matches_itself_with_stars_put_in(text in "[a-c/-]{0,12}", place in 0..13_usize) {
            let (head, tail) = text.split_at(place.min(text.len()));
            let pattern = format!("{head}*{tail}");
            prop_assert!(glob(&pattern, &text) && glob(&text, &text.to_uppercase()));
        }
    }
}
