//! From the text of the file to its types, with errors that say where, which key, and which key was meant.

use super::error::{Problem, Text, dotted};
use super::file::File;
use serde_path_to_error::Segment;

/// Reads the text of a file.
///
/// # Errors
/// It is no TOML, has a key that nothing knows, or a value of the wrong kind.
pub(super) fn parse(text: Text<'_>) -> Result<File, Problem> {
    let deserializer = toml::Deserializer::parse(text.text).map_err(|error| {
        let at = error.span().map(|span| span.start);
        text.problem_at(at, String::new(), without_values(error.message()))
    })?;
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let path: Vec<String> = error.path().iter().filter_map(part).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        describe(text, &path, error.inner())
    })
}

fn part(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Seq { index } => Some(format!("#{index}")),
        Segment::Enum { .. } | Segment::Unknown => None,
    }
}

fn describe(text: Text<'_>, path: &[&str], error: &toml::de::Error) -> Problem {
    let message = error.message();
    let at = error.span().map(|span| span.start);
    if let Some((key, known)) = unknown(message, "unknown field ") {
        let table = match path.strip_suffix(&[key]).unwrap_or(path) {
            [] => "at the top of the file".to_owned(),
            table => format!("in [{}]", dotted(table)),
        };
        let message = format!("unknown key `{key}` {table}; {}", meant(key, &known));
        return Problem { key: String::new(), ..text.problem_at(at, String::new(), message) };
    }
    let message = match unknown(message, "unknown variant ") {
        Some((value, known)) => format!("not one of the values it can have; {}", meant(value, &known)),
        None => without_values(message),
    };
    match at {
        Some(at) => text.problem_at(Some(at), dotted(path), message),
        None => text.problem(path, message),
    }
}

/// Takes apart serde's "unknown field `a`, expected `b` or `c`" (one of, or "there are no fields").
fn unknown<'m>(message: &'m str, start: &str) -> Option<(&'m str, Vec<&'m str>)> {
    let rest = message.strip_prefix(start)?.strip_prefix('`')?;
    let (found, known) = rest.rsplit_once("`, expected ").or_else(|| rest.split_once("`, there are no"))?;
    Some((found, known.split('`').skip(1).step_by(2).collect()))
}

/// "did you mean `x`?", or the whole list when nothing is near.
fn meant(found: &str, known: &[&str]) -> String {
    match nearest(found, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")),
    }
}

/// The one of `known` that `found` is probably a slip of.
pub(super) fn nearest<'k>(found: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let flat = |text: &str| text.to_lowercase().replace(['-', '_'], "");
    let found = flat(found);
    known
        .into_iter()
        .map(|key| (likeness(&found, &flat(key)), key))
        .filter(|(likeness, _)| *likeness >= 0.84)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key)
}

fn likeness(found: &str, key: &str) -> f64 {
    // Jaro and Winkler's measure sees no likeness in a slip of the shortest words, as `kye`.
    let slip = found.chars().count() > 2 && strsim::damerau_levenshtein(found, key) == 1;
    strsim::jaro_winkler(found, key).max(if slip { 0.9 } else { 0.0 })
}

/// serde's message without the value it quotes, which may be a key in the wrong place.
fn without_values(message: &str) -> String {
    let masked = match (message.strip_prefix("invalid type: "), message.strip_prefix("invalid value: ")) {
        (Some(rest), _) | (_, Some(rest)) => match rest.rsplit_once(", expected ") {
            Some((_, expected)) => format!("expected {expected}"),
            None => "a value of the wrong kind".to_owned(),
        },
        (None, None) => message.to_owned(),
    };
    match masked.as_str() {
        "expected u16" => "expected a whole number from 0 to 65535".to_owned(),
        "expected u64" | "expected usize" => "expected a whole number, 0 or more".to_owned(),
        "expected f64" => "expected a number".to_owned(),
        "expected a boolean" => "expected true or false".to_owned(),
        other if other.starts_with("expected struct ") || other == "expected a map" => "expected a table".to_owned(),
        _ => masked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_in_a_short_key_is_understood() {
        let known = ["enabled", "key", "base_url", "kind"];
        assert_eq!(nearest("kye", known), Some("key"));
        assert_eq!(nearest("baseurl", known), Some("base_url"));
        assert_eq!(nearest("xyz", known), None);
    }
}
