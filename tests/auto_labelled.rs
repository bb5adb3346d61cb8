//! The shipped rules of `auto` against labelled requests: at least nine of ten must be right, and each class most of the
//! time, so that one large class cannot hide the failure of a small one.

use bifrost::config::classes::{AutoRule, Class};
use bifrost::route::auto::{Features, choose};
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labelled {
    class: String,
    user_agent: String,
    user: String,
    #[serde(default)]
    system: String,
    #[serde(default)]
    tools: bool,
    #[serde(default)]
    images: bool,
    #[serde(default)]
    reasoning: bool,
    /// Written after the rules, and the rules not touched for it.
    #[serde(default)]
    held_out: bool,
    /// Where the real request is longer than what the fixture quotes of it.
    tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Defaults {
    classes: BTreeMap<String, Class>,
    aliases: BTreeMap<String, String>,
    auto: Auto,
}

#[derive(Deserialize)]
struct Auto {
    rules: Vec<AutoRule>,
}

fn defaults() -> Defaults {
    toml::from_str(include_str!("../src/config/defaults.toml")).unwrap()
}

/// A JSON body is a little longer than the texts in it.
const ENVELOPE: usize = 120;

#[test]
fn the_shipped_rules_are_right_nine_times_in_ten() {
    let rules = defaults().auto.rules;
    let lines = include_str!("fixtures/auto/requests.jsonl").lines();
    let requests: Vec<Labelled> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(requests.len() >= 60);
    let mut misses = Vec::new();
    let mut by_class: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for request in &requests {
        let length = request.user.len() + request.system.len() + ENVELOPE;
        let features = Features {
            user_agent: request.user_agent.clone(),
            tools: request.tools,
            images: request.images,
            reasoning: request.reasoning,
            tokens: request.tokens.unwrap_or(length as u64 / 4),
            user: request.user.clone(),
            system: request.system.clone(),
        };
        let (class, reason) = choose(&rules, &features).expect("the last rule has no condition");
        let (right, all) = by_class.entry(request.class.clone()).or_default();
        *all += 1;
        if class == request.class {
            *right += 1;
        } else {
            let set = if request.held_out { "held out: " } else { "" };
            misses.push(format!("{set}{} is not {class} ({reason}): {}", request.class, request.user));
        }
    }
    let right = requests.len() - misses.len();
    println!("{right} of {} right; misses:\n{}\n{by_class:?}", requests.len(), misses.join("\n"));
    assert!(right * 10 >= requests.len() * 9, "only {right} of {} are right", requests.len());
    for (class, (right, all)) in by_class {
        assert!(right * 4 >= all * 3, "{class}: only {right} of {all} are right");
    }
}

#[test]
fn every_rule_and_alias_leads_to_a_class_and_the_last_rule_always_holds() {
    let Defaults { classes, aliases, auto } = defaults();
    for rule in &auto.rules {
        assert!(classes.contains_key(&rule.class), "{}", rule.class);
    }
    for (name, target) in &aliases {
        assert!(classes.contains_key(target) && !classes.contains_key(name), "{name}");
    }
    let last = auto.rules.last().unwrap();
    assert_eq!(*last, AutoRule { class: last.class.clone(), ..AutoRule::default() });
    for name in ["research", "coding", "review", "pre-commit"] {
        assert!(classes.contains_key(name), "{name}");
    }
}

#[test]
fn shipped_classes_name_no_model_and_say_cloud_in_words() {
    for (name, class) in defaults().classes {
        for selector in &class.select {
            assert!(
                selector.model.as_ref().is_none_or(|model| model.contains('*')),
                "{name} pins {:?}",
                selector.model
            );
            assert!(
                class.cloud || selector.provider.as_deref() == Some("mlx-local"),
                "{name} looks beyond the machine"
            );
        }
        assert_eq!(class.select[0].provider.as_deref(), Some("mlx-local"), "{name} does not begin on this machine");
    }
}
