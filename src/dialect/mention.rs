//! Whether the bytes of a JSON text mention a name at all.
//!
//! A JSON text can spell an ASCII name in its own bytes or with `\\u00XX` escapes, and in no other way (RFC 8259, section 7).
//! So a text with neither the name's bytes nor `\\u00` holds no member and no value of that name, however it is nested.

use memchr::memmem::Finder;
use std::sync::LazyLock;

/// A name that is looked for in every answer; how to look for it is worked out once.
pub type Name = LazyLock<Finder<'static>>;

/// How every escape of an ASCII letter begins.
static ESCAPED_ASCII: Name = LazyLock::new(|| Finder::new("\\u00"));

/// True when `json` may hold one of `names`, or anything that an escape hides.
pub fn mentions_any(json: &[u8], names: &[&Name]) -> bool {
    names.iter().chain(&[&ESCAPED_ASCII]).any(|name| name.find(json).is_some())
}

/// True when `json` may hold a member called `name` whose value is something; `null` is nothing. Text that quotes the name
/// counts as well: the caller then looks closely for nothing, once.
pub fn mentions_value(json: &[u8], name: &Name) -> bool {
    name.find_iter(json).any(|at| !is_null_member(&json[at + name.needle().len()..]))
}

/// True when `json` mentions `name`, and nowhere as a member that is `null`.
pub fn mentions_no_null(json: &[u8], name: &Name) -> bool {
    let mut mentions = name.find_iter(json).map(|at| &json[at + name.needle().len()..]).peekable();
    mentions.peek().is_some() && !mentions.any(is_null_member)
}

/// True when `json` may hold a member called `name` whose value is not the number 0.
pub fn mentions_nonzero(json: &[u8], name: &Name) -> bool {
    name.find_iter(json).any(|at| !is_zero_member(&json[at + name.needle().len()..]))
}

/// What follows a name is its closing quote, a colon and `null`.
fn is_null_member(rest: &[u8]) -> bool {
    value_after(rest).is_some_and(|value| value.starts_with(b"null"))
}

/// The same with 0.
fn is_zero_member(rest: &[u8]) -> bool {
    let end = value_after(rest).and_then(|value| value.strip_prefix(b"0")).map(<[u8]>::trim_ascii_start);
    end.is_some_and(|end| end.starts_with(b",") || end.starts_with(b"}"))
}

/// The value of a member, from what follows the last letter of its name on.
fn value_after(rest: &[u8]) -> Option<&[u8]> {
    let value = rest.strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?;
    Some(value.trim_ascii_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    static USAGE: Name = LazyLock::new(|| Finder::new("usage"));
    static ERROR: Name = LazyLock::new(|| Finder::new("error"));
    static INDEX: Name = LazyLock::new(|| Finder::new("index"));

    #[test]
    fn null_is_nothing_and_an_escape_may_be_anything() {
        assert!(!mentions_value(br#"{"usage":null,"a":1}"#, &USAGE));
        assert!(!mentions_value(br#"{"usage" : null}"#, &USAGE));
        assert!(mentions_value(br#"{"usage":null,"x":{"usage":{}}}"#, &USAGE));
        assert!(mentions_value(br#"{"content":"\"usage\":null"}"#, &USAGE));
        assert!(mentions_no_null(br#"{"usage":{},"x":"usage"}"#, &USAGE));
        assert!(!mentions_no_null(br#"{"usage":{},"x":{"usage": null}}"#, &USAGE));
        assert!(!mentions_no_null(br#"{"a":1}"#, &USAGE));
        assert!(!mentions_nonzero(br#"{"index":0,"a":{"index" : 0 }}"#, &INDEX));
        for other in ["1", "10", "01", "0.5", "0e1", "null", "\"0\"", "-0"] {
            assert!(
                mentions_nonzero(format!("{{\"index\":0,\"a\":{{\"index\":{other}}}}}").as_bytes(), &INDEX),
                "{other}"
            );
        }
        assert!(mentions_any(br#"{"err\u006fr":1}"#, &[&ERROR]));
        assert!(mentions_any(br#"{"a":"an error"}"#, &[&USAGE, &ERROR]));
        assert!(!mentions_any(br#"{"a":"\u4e2d\n"}"#, &[&ERROR]));
    }
}
