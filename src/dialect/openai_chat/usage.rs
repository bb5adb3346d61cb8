//! `usage`, read from the many forms it has and written in OpenAI's.

use super::fields::says_something;
use crate::chat::Usage;
use crate::wire::json::Object;
use serde_json::{Map, Value, json};

/// Counts what a `usage` object holds without building it as a tree. The outer `None`: something is not as in any answer (a
/// count that is no whole number, say), and [`read`] has to look; the inner one: nothing is counted.
pub(super) fn count(raw: &[u8]) -> Option<Option<Usage>> {
    if raw == b"null" {
        return Some(None);
    }
    let mut counted = Counted::default();
    // In the order in which they count where several say the same.
    let (mut prompt, mut cached, mut reasoning) = (None, [None; CACHED_BESIDE_DETAILS.len()], None);
    for (name, value) in Object::scan(raw).ok()?.members() {
        match name {
            b"prompt_tokens" => counted.input = number(value)?,
            b"completion_tokens" => counted.completion = number(value)?,
            b"total_tokens" => counted.total = number(value)?,
            b"prompt_tokens_details" => prompt = details(value)?,
            b"completion_tokens_details" => {
                for (name, value) in details(value)?.iter().flat_map(Object::members) {
                    match name {
                        b"reasoning_tokens" => counted.reasoning = number(value)?,
                        _ => plain(name)?,
                    }
                }
            }
            b"cache_creation_input_tokens" => counted.cache_write = number(value)?,
            b"reasoning_tokens" => reasoning = number(value)?,
            _ => match CACHED_BESIDE_DETAILS.iter().position(|known| known.as_bytes() == name) {
                Some(place) => cached[place] = number(value)?,
                None => plain(name)?,
            },
        }
    }
    for (name, value) in prompt.iter().flat_map(Object::members) {
        match name {
            b"cached_tokens" => counted.cache_read = number(value)?,
            b"cache_write_tokens" => counted.cache_write = number(value)?.or(counted.cache_write),
            b"audio_tokens" => counted.audio = number(value)?,
            _ => plain(name)?,
        }
    }
    counted.cache_read = cached.into_iter().fold(counted.cache_read, Option::or);
    counted.reasoning = counted.reasoning.or(reasoning);
    Some(counted.usage().map(|(usage, _)| usage))
}

/// A count; the outer `None` for what is none, the inner one for `null`.
fn number(value: &[u8]) -> Option<Option<u64>> {
    match value {
        b"null" => Some(None),
        digits => std::str::from_utf8(digits).ok()?.parse().ok().map(Some),
    }
}

/// The counts of a part; the outer `None` for what is no object, the inner one for `null`.
fn details(value: &[u8]) -> Option<Option<Object<'_>>> {
    match value {
        b"null" => Some(None),
        raw => Object::scan(raw).ok().map(Some),
    }
}

/// `None` for a name that is spelled with escapes: it may be any.
fn plain(name: &[u8]) -> Option<()> {
    (!name.contains(&b'\\')).then_some(())
}

/// Where DeepSeek, Together, Mistral and Databricks write cached tokens: beside the details.
const CACHED_BESIDE_DETAILS: [&str; 4] =
    ["prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens", "cache_read_input_tokens"];

/// The counts of a `usage` object, wherever they stood in it.
#[derive(Default)]
struct Counted {
    input: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    reasoning: Option<u64>,
    audio: Option<u64>,
}

impl Counted {
    /// The usage, and the provider's own sum where it counts tokens that nobody else does. `None` when nothing is counted.
    fn usage(self) -> Option<(Usage, Option<u64>)> {
        let Self { input, completion, total, cache_read, cache_write, reasoning, audio } = self;
        if input.is_none() && completion.is_none() && total.is_none() {
            return None;
        }
        let (mut input, mut output) = (input.unwrap_or(0), completion.unwrap_or(0));
        let counted = input.saturating_add(output);
        let mut unclaimed = None;
        if let Some(total) = total.filter(|total| *total > counted) {
            let uncounted = total - counted;
            if reasoning == Some(uncounted) {
                // xAI counts reasoning beside the completion.
                output += uncounted;
            } else if audio == Some(uncounted) {
                // Mistral counts sound beside the prompt.
                input += uncounted;
            } else {
                // Nobody says whose tokens these are (Google's hidden thinking).
                unclaimed = Some(total);
            }
        }
        // A prompt holds what was cached of it; where the provider counts that apart, it is added.
        let cached = cache_read.unwrap_or(0).saturating_add(cache_write.unwrap_or(0));
        if cached > input {
            input = input.saturating_add(cached);
        }
        Some((Usage { input, output, cache_read, cache_write, cache_write_1h: None, reasoning }, unclaimed))
    }
}

/// Reads a `usage` object; `None` when it counts nothing. What has no place in [`Usage`] is left in the second value.
pub(in crate::dialect) fn read(value: Value) -> Option<(Usage, Map<String, Value>)> {
    let Value::Object(mut map) = value else { return None };
    let input = take(&mut map, "prompt_tokens");
    let completion = take(&mut map, "completion_tokens");
    let total = take(&mut map, "total_tokens");
    let mut prompt = take_object(&mut map, "prompt_tokens_details");
    let mut output = take_object(&mut map, "completion_tokens_details");
    let cache_read = CACHED_BESIDE_DETAILS
        .into_iter()
        .fold(take(&mut prompt, "cached_tokens"), |found, key| found.or(take(&mut map, key)));
    map.shift_remove("prompt_cache_miss_tokens");
    let cache_write = take(&mut prompt, "cache_write_tokens").or(take(&mut map, "cache_creation_input_tokens"));
    let reasoning = take(&mut output, "reasoning_tokens").or(take(&mut map, "reasoning_tokens"));

    let audio = prompt.get("audio_tokens").and_then(Value::as_u64);
    let (usage, unclaimed) = Counted { input, completion, total, cache_read, cache_write, reasoning, audio }.usage()?;
    if let Some(total) = unclaimed {
        map.insert("total_tokens".into(), json!(total));
    }
    for (key, details) in [("prompt_tokens_details", prompt), ("completion_tokens_details", output)] {
        let telling: Map<String, Value> = details.into_iter().filter(|(_, value)| says_something(value)).collect();
        if !telling.is_empty() {
            map.insert(key.into(), Value::Object(telling));
        }
    }
    map.retain(|_, value| says_something(value));
    Some((usage, map))
}

/// Writes a `usage` object. `rest` is what [`read`] left over.
pub(super) fn write(usage: &Usage, rest: Option<&Map<String, Value>>) -> Value {
    let mut map = Map::new();
    map.insert("prompt_tokens".into(), json!(usage.input));
    map.insert("completion_tokens".into(), json!(usage.output));
    map.insert("total_tokens".into(), json!(usage.input.saturating_add(usage.output)));
    let mut prompt = Map::new();
    if let Some(tokens) = usage.cache_read {
        prompt.insert("cached_tokens".into(), json!(tokens));
    }
    if let Some(tokens) = usage.cache_write {
        prompt.insert("cache_write_tokens".into(), json!(tokens));
    }
    let mut output = Map::new();
    if let Some(tokens) = usage.reasoning {
        output.insert("reasoning_tokens".into(), json!(tokens));
    }
    for (key, mut details) in [("prompt_tokens_details", prompt), ("completion_tokens_details", output)] {
        if let Some(Value::Object(more)) = rest.and_then(|rest| rest.get(key)) {
            details.extend(more.clone());
        }
        if !details.is_empty() {
            map.insert(key.into(), Value::Object(details));
        }
    }
    for (key, value) in rest.into_iter().flatten() {
        if key == "total_tokens" {
            map.insert(key.clone(), value.clone());
        } else {
            map.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    Value::Object(map)
}

fn take(map: &mut Map<String, Value>, key: &str) -> Option<u64> {
    let value = map.shift_remove(key)?;
    // Some servers write counts as decimals.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    value.as_u64().or_else(|| value.as_f64().filter(|count| *count >= 0.0 && *count < 9e15).map(|count| count as u64))
}

fn take_object(map: &mut Map<String, Value>, key: &str) -> Map<String, Value> {
    match map.shift_remove(key) {
        Some(Value::Object(details)) => details,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(value: Value) -> Usage {
        let whole = read(value.clone()).unwrap().0;
        // Where the short way understands a form, it counts the same.
        if let Some(counted) = count(value.to_string().as_bytes()) {
            assert_eq!(counted, Some(whole));
        }
        whole
    }

    #[test]
    fn reasoning_that_xai_counts_beside_the_completion_is_added() {
        let counted = usage(json!({"prompt_tokens": 12, "completion_tokens": 1, "total_tokens": 241,
            "prompt_tokens_details": {"cached_tokens": 2}, "completion_tokens_details": {"reasoning_tokens": 228}}));
        assert_eq!(
            counted,
            Usage { input: 12, output: 229, cache_read: Some(2), reasoning: Some(228), ..Usage::default() }
        );
        assert_eq!(usage(write(&counted, None)), counted);
    }

    #[test]
    fn a_sum_that_nobody_explains_is_kept_and_not_guessed_at() {
        let (counted, rest) = read(json!({"completion_tokens": 12, "prompt_tokens": 35, "total_tokens": 109})).unwrap();
        assert_eq!((counted.input, counted.output, counted.reasoning), (35, 12, None));
        let written = write(&counted, Some(&rest));
        assert_eq!(written["total_tokens"], 109);
        assert_eq!(read(written).unwrap(), (counted, rest));
    }

    #[test]
    fn cached_tokens_are_found_wherever_vendors_write_them() {
        for key in ["prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens", "cache_read_input_tokens"] {
            assert_eq!(usage(json!({"prompt_tokens": 9, "completion_tokens": 1, key: 4})).cache_read, Some(4), "{key}");
        }
    }

    #[test]
    fn what_is_no_whole_number_is_left_to_the_long_way() {
        for usage in [r#"{"prompt_tokens":1.0}"#, r#"{"prompt_tokens":"1"}"#, r#"{"prompt_tokens_details":[]}"#, "[]"] {
            assert_eq!(count(usage.as_bytes()), None, "{usage}");
        }
        assert_eq!(count(b"null"), Some(None));
        assert_eq!(count(br#"{"prompt_tokens":null}"#), Some(None));
    }

    #[test]
    fn counts_that_are_all_null_count_nothing() {
        assert_eq!(read(json!({"prompt_tokens": null, "completion_tokens": null})), None);
        assert_eq!(read(Value::Null), None);
    }
}
