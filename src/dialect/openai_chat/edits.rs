//! Edits of a body that stays in OpenAI's dialect, for servers that take less than OpenAI does. Every other byte stays.

use crate::chat::Losses;
use crate::wire::cuts::Cuts;
use crate::wire::json::{Edits, Object};
use crate::wire::json_tree::Node;

/// `max_completion_tokens` is called `max_tokens`; a `max_tokens` that is there already wins.
pub fn max_tokens_name(body: &Object<'_>, edits: &mut Edits<'_, '_>) {
    one_name(body, edits, "max_completion_tokens", "max_tokens");
}

/// `max_tokens` is called `max_completion_tokens`; a `max_completion_tokens` that is there already wins.
pub fn max_completion_tokens_name(body: &Object<'_>, edits: &mut Edits<'_, '_>) {
    one_name(body, edits, "max_tokens", "max_completion_tokens");
}

fn one_name(body: &Object<'_>, edits: &mut Edits<'_, '_>, other: &str, name: &str) {
    if body.member(name).is_some() {
        edits.remove(other);
    } else {
        edits.rename(other, name);
    }
}

/// A `stop` string becomes a list of one.
pub fn stop_as_list(body: &Object<'_>, edits: &mut Edits<'_, '_>) {
    if let Some(stop) = body.raw("stop").filter(|stop| stop.starts_with(b"\"")) {
        edits.set("stop", &[b"[", stop, b"]"].concat());
    }
}

/// The role `developer` becomes `system`.
pub fn developer_as_system(body: &Object<'_>, edits: &mut Edits<'_, '_>) {
    let Some(raw) = body.raw("messages") else { return };
    let Ok(messages) = Node::parse(raw) else { return };
    let mut cuts = Cuts::default();
    for message in messages.items() {
        if let Some(role) = message.member(raw, "role").filter(|role| role.raw(raw) == b"\"developer\"") {
            cuts.replace(role, b"\"system\"");
        }
    }
    if !cuts.is_empty() {
        edits.set("messages", &cuts.apply(raw));
    }
}

/// `reasoning_effort` (OpenAI) and `reasoning` (OpenRouter) become `chat_template_kwargs.enable_thinking`, unless that is
/// set. How hard to think cannot be said so.
pub fn thinking_switch(body: &Object<'_>, edits: &mut Edits<'_, '_>, losses: &mut Losses) {
    let effort = body.string("reasoning_effort");
    let object = body.raw("reasoning").and_then(|raw| Object::scan(raw).ok());
    let nested = object.as_ref().and_then(|reasoning| reasoning.string("effort"));
    let disabled = object.as_ref().and_then(|reasoning| reasoning.boolean("enabled")) == Some(false);
    let Some(thinks) = (match (effort.or(nested), disabled) {
        (_, true) => Some(false),
        (Some(effort), _) => Some(effort != "none"),
        (None, _) => object.is_some().then_some(true),
    }) else {
        return;
    };
    edits.remove("reasoning_effort");
    edits.remove("reasoning");
    if thinks {
        losses.approximated("reasoning_effort");
    }
    let switch: &[u8] = if thinks { b"true" } else { b"false" };
    match body.raw("chat_template_kwargs").and_then(|raw| Object::scan(raw).ok()) {
        Some(arguments) if arguments.member("enable_thinking").is_some() => {}
        Some(arguments) => {
            let mut inner = arguments.edit();
            inner.set("enable_thinking", switch);
            edits.set("chat_template_kwargs", &inner.apply());
        }
        None => edits.set("chat_template_kwargs", &[b"{\"enable_thinking\":", switch, b"}"].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(body: &str, change: impl FnOnce(&Object<'_>, &mut Edits<'_, '_>)) -> String {
        let object = Object::scan(body.as_bytes()).unwrap();
        let mut edits = object.edit();
        change(&object, &mut edits);
        String::from_utf8(edits.apply()).unwrap()
    }

    #[test]
    fn a_limit_has_one_name() {
        assert_eq!(edited(r#"{"max_completion_tokens":5}"#, max_tokens_name), r#"{"max_tokens":5}"#);
        let both = r#"{"max_completion_tokens":5,"max_tokens":6}"#;
        assert_eq!(edited(both, max_tokens_name), r#"{"max_tokens":6}"#);
        assert_eq!(edited("{}", max_tokens_name), "{}");
        assert_eq!(edited(r#"{"max_tokens":5}"#, max_completion_tokens_name), r#"{"max_completion_tokens":5}"#);
        assert_eq!(edited(both, max_completion_tokens_name), r#"{"max_completion_tokens":5}"#);
    }

    #[test]
    fn a_stop_string_is_a_list_of_one() {
        assert_eq!(edited(r#"{"stop":"\n"}"#, stop_as_list), r#"{"stop":["\n"]}"#);
        assert_eq!(edited(r#"{"stop":["a"]}"#, stop_as_list), r#"{"stop":["a"]}"#);
        assert_eq!(edited(r#"{"stop":null}"#, stop_as_list), r#"{"stop":null}"#);
    }

    #[test]
    fn only_the_role_changes() {
        let body = r#"{"messages":[{"role":"developer","content":"the \"role\" of a developer"},{"role":"user","x":"developer"}]}"#;
        let expected = r#"{"messages":[{"role":"system","content":"the \"role\" of a developer"},{"role":"user","x":"developer"}]}"#;
        assert_eq!(edited(body, developer_as_system), expected);
        assert_eq!(edited(expected, developer_as_system), expected);
    }

    #[test]
    fn effort_becomes_a_switch() {
        let switched = |body: &str| {
            let mut losses = Losses::new();
            (edited(body, |object, edits| thinking_switch(object, edits, &mut losses)), losses.to_string())
        };
        let off = r#"{"chat_template_kwargs":{"enable_thinking":false}}"#;
        let on = r#"{"chat_template_kwargs":{"enable_thinking":true}}"#;
        assert_eq!(switched(r#"{"reasoning_effort":"none"}"#), (off.to_owned(), String::new()));
        assert_eq!(switched(r#"{"reasoning":{"enabled":false}}"#), (off.to_owned(), String::new()));
        assert_eq!(
            switched(r#"{"reasoning_effort":"high"}"#),
            (on.to_owned(), "reasoning_effort=approximated".to_owned())
        );
        assert_eq!(switched(off), (off.to_owned(), String::new()));
        let kept = r#"{"reasoning_effort":"high","chat_template_kwargs":{"a":1}}"#;
        assert_eq!(switched(kept).0, r#"{"chat_template_kwargs":{"a":1,"enable_thinking":true}}"#);
        let said = r#"{"reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":true}}"#;
        assert_eq!(switched(said).0, on);
    }
}
