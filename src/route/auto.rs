//! `auto`: from the features of a request to a task class, by rules that are data.

use crate::chat::{MediaKind, Part, Request, Role};
use crate::config::classes::AutoRule;

/// What the rules look at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Features {
    /// The client's `User-Agent`.
    pub user_agent: String,
    /// It offers tools.
    pub tools: bool,
    /// It has images.
    pub images: bool,
    /// It asks for reasoning.
    pub reasoning: bool,
    /// Estimated tokens of the prompt, four bytes each, tools included.
    pub tokens: u64,
    /// The text of the last user message.
    pub user: String,
    /// The text of the system prompts.
    pub system: String,
}

impl Features {
    /// The features of a request; `bytes` is the length of its body, the measure of its size.
    pub fn of(request: &Request, user_agent: &str, bytes: usize) -> Self {
        let system = request.messages.iter().filter(|message| matches!(message.role, Role::System | Role::Developer));
        let user = request.messages.iter().rev().find(|message| {
            message.role == Role::User && message.parts.iter().any(|part| matches!(part, Part::Text { .. }))
        });
        let is_image = |part: &Part| matches!(part, Part::Media(media) if media.kind == MediaKind::Image);
        Self {
            user_agent: user_agent.to_owned(),
            tools: !request.tools.is_empty(),
            images: request.messages.iter().flat_map(|message| &message.parts).any(is_image),
            reasoning: request.reasoning.is_some(),
            tokens: bytes as u64 / 4,
            user: user.map(|message| text(&message.parts)).unwrap_or_default(),
            system: system.map(|message| text(&message.parts)).collect::<Vec<_>>().join("\n"),
        }
    }
}

fn text(parts: &[Part]) -> String {
    let texts = parts.iter().filter_map(|part| match part {
        Part::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

/// The class of the first rule whose every condition holds, and why. `None` only if no rule holds.
pub fn choose<'a>(rules: &'a [AutoRule], features: &Features) -> Option<(&'a str, String)> {
    let agent = features.user_agent.to_lowercase();
    let user = features.user.to_lowercase();
    let system = features.system.to_lowercase();
    rules.iter().enumerate().find_map(|(position, rule)| {
        let reasons = holds(rule, features, &agent, &user, &system)?;
        let why = if reasons.is_empty() { "nothing said otherwise".to_owned() } else { reasons.join(", ") };
        Some((&*rule.class, format!("rule {}: {why}", position + 1)))
    })
}

/// The conditions that hold, in words; `None` as soon as one does not.
fn holds(rule: &AutoRule, features: &Features, agent: &str, user: &str, system: &str) -> Option<Vec<String>> {
    let AutoRule { class: _, user_agent, tools, images, reasoning, min_tokens, max_tokens, words, system_words } = rule;
    let mut reasons = Vec::new();
    if !user_agent.is_empty() {
        let name = user_agent.iter().find(|name| agent.contains(&name.to_lowercase()))?;
        reasons.push(format!("client {name}"));
    }
    let flags = [
        (tools, features.tools, "tools"),
        (images, features.images, "images"),
        (reasoning, features.reasoning, "reasoning"),
    ];
    for (wanted, is, name) in flags {
        if let Some(wanted) = *wanted {
            if wanted != is {
                return None;
            }
            reasons.push(if is { name.to_owned() } else { format!("no {name}") });
        }
    }
    if let Some(least) = *min_tokens {
        if features.tokens < least {
            return None;
        }
        reasons.push(format!("at least {least} tokens"));
    }
    if let Some(most) = *max_tokens {
        if features.tokens > most {
            return None;
        }
        reasons.push(format!("at most {most} tokens"));
    }
    if !words.is_empty() {
        let word = words.iter().find(|word| has_word(user, &word.to_lowercase()))?;
        reasons.push(format!("the word {word}"));
    }
    if !system_words.is_empty() {
        let word = system_words.iter().find(|word| has_word(system, &word.to_lowercase()))?;
        reasons.push(format!("the word {word} in the system prompt"));
    }
    Some(reasons)
}

/// True if `text` holds `word` between word borders. Scripts without spaces have none, so there any place will do.
fn has_word(text: &str, word: &str) -> bool {
    let joins = |letter: char| letter.is_alphanumeric() && !is_unspaced(letter);
    text.match_indices(word).any(|(start, found)| {
        let before = text.get(..start).and_then(|head| head.chars().next_back());
        let after = text.get(start + found.len()..).and_then(|tail| tail.chars().next());
        let starts_free = !found.starts_with(joins) || !before.is_some_and(joins);
        let ends_free = !found.ends_with(joins) || !after.is_some_and(joins);
        !found.is_empty() && starts_free && ends_free
    })
}

/// Chinese and Japanese letters, which stand without spaces between words.
fn is_unspaced(letter: char) -> bool {
    matches!(letter, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Message;
    use proptest::prelude::*;

    #[test]
    fn features_are_those_of_the_last_user_text_and_of_all_system_prompts() {
        let message = |role, text: &str| Message::new(role, vec![Part::text(text)]);
        let request = Request {
            messages: vec![
                message(Role::System, "one"),
                message(Role::Developer, "two"),
                message(Role::User, "first"),
                message(Role::Assistant, "answer"),
                message(Role::User, "second"),
                Message::new(Role::Tool, Vec::new()),
            ],
            ..Request::default()
        };
        let features = Features::of(&request, "aider/1", 4000);
        assert_eq!((features.user.as_str(), features.system.as_str()), ("second", "one\ntwo"));
        assert_eq!((features.tokens, features.tools, features.images, features.reasoning), (1000, false, false, false));
    }

    #[test]
    fn words_end_where_words_end() {
        for (text, word, has) in [
            ("please review this", "review", true),
            ("/review 4", "/review", true),
            ("the reviewer", "review", false),
            ("a preview", "review", false),
            ("preview or review", "review", true),
            ("code, please", "code", true),
            ("c++ and rust", "c++", true),
            ("+ x\n```go", "```", true),
            ("这是提交信息吗", "提交信息", true),
            ("größe", "größ", false),
            ("anything", "", false),
        ] {
            assert_eq!(has_word(text, word), has, "{word} in {text}");
        }
    }

    #[test]
    fn no_rule_is_no_class() {
        let rule =
            AutoRule { class: "c".to_owned(), min_tokens: Some(10), max_tokens: Some(20), ..AutoRule::default() };
        let of = |tokens| choose(std::slice::from_ref(&rule), &Features { tokens, ..Features::default() });
        assert_eq!(of(9), None);
        assert_eq!(of(10).unwrap().1, "rule 1: at least 10 tokens, at most 20 tokens");
        assert_eq!(of(21), None);
    }

    proptest! {
        #[test]
        fn a_word_between_spaces_is_found(head in "\\PC{0,10}", word in "[a-zäß提]{1,6}", tail in "\\PC{0,10}") {
            let text = format!("{head} {word} {tail}");
            prop_assert!(has_word(&text, &word));
        }
    }
}
