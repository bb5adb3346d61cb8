//! Token counts: `input_tokens` here leaves out what was read from or written to the cache, the neutral count holds it.

use crate::chat::Usage;
use serde_json::{Map, Value, json};

/// The counts of one answer as they add up over its frames; a later frame replaces an earlier one field by field.
#[derive(Debug, Default)]
pub(super) struct Tally {
    input: Option<u64>,
    cache_read: Option<u64>,
    cache_write: Option<u64>,
    cache_write_1h: Option<u64>,
    output: Option<u64>,
    reasoning: Option<u64>,
    /// What only this dialect counts (`service_tier`, `server_tool_use`, `cache_creation`, ...).
    pub(super) rest: Map<String, Value>,
}

impl Tally {
    /// Takes over one `usage` object.
    pub(super) fn absorb(&mut self, usage: Value) {
        let Value::Object(usage) = usage else { return };
        for (name, value) in usage {
            let count = value.as_u64();
            // It stays in the rest as well: what it counts need not be all that was written.
            if name == "cache_creation" {
                let for_an_hour = value.get("ephemeral_1h_input_tokens").and_then(Value::as_u64);
                self.cache_write_1h = for_an_hour.filter(|count| *count > 0).or(self.cache_write_1h);
            }
            match name.as_str() {
                "input_tokens" => self.input = count.or(self.input),
                "cache_read_input_tokens" => self.cache_read = count.or(self.cache_read),
                "cache_creation_input_tokens" => self.cache_write = count.or(self.cache_write),
                "output_tokens" => self.output = count.or(self.output),
                "output_tokens_details" => self.details(value),
                _ if is_nothing(&value) => {}
                _ => {
                    self.rest.insert(name, value);
                }
            }
        }
    }

    /// The neutral counts; `None` while nothing was counted.
    pub(super) fn usage(&self) -> Option<Usage> {
        self.input.or(self.output)?;
        let parts = [self.input, self.cache_read, self.cache_write];
        Some(Usage {
            input: parts.into_iter().flatten().fold(0, u64::saturating_add),
            output: self.output.unwrap_or(0),
            cache_read: self.cache_read,
            cache_write: self.cache_write,
            cache_write_1h: self.cache_write_1h,
            reasoning: self.reasoning,
        })
    }

    fn details(&mut self, value: Value) {
        let Value::Object(mut details) = value else { return };
        if let Some(count) = details.shift_remove("thinking_tokens") {
            self.reasoning = count.as_u64().or(self.reasoning);
        }
        details.retain(|_, value| !is_nothing(value));
        if !details.is_empty() {
            self.rest.insert("output_tokens_details".to_owned(), Value::Object(details));
        }
    }
}

/// True for a count of nothing: none of the server's tools used, no cache written.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Number(count) => count.as_u64() == Some(0),
        Value::Object(counts) => counts.values().all(is_nothing),
        _ => false,
    }
}

/// The `usage` object for a client. A count that is not known is null: the SDKs type the cache counts as nullable.
pub(super) fn write(usage: &Usage) -> Map<String, Value> {
    let cached = usage.cache_read.unwrap_or(0).saturating_add(usage.cache_write.unwrap_or(0));
    let mut map = Map::new();
    map.insert("input_tokens".to_owned(), json!(usage.input.saturating_sub(cached)));
    map.insert("cache_creation_input_tokens".to_owned(), json!(usage.cache_write));
    map.insert("cache_read_input_tokens".to_owned(), json!(usage.cache_read));
    map.insert("output_tokens".to_owned(), json!(usage.output));
    if let Some(reasoning) = usage.reasoning {
        map.insert("output_tokens_details".to_owned(), json!({ "thinking_tokens": reasoning }));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_tokens_are_inside_the_neutral_count_and_outside_the_wires() {
        let mut tally = Tally::default();
        tally.absorb(json!({"input_tokens": 3, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 5, "output_tokens": 1}));
        tally.absorb(
            json!({"output_tokens": 20, "output_tokens_details": {"thinking_tokens": 7}, "service_tier": "standard"}),
        );
        let usage = tally.usage().unwrap();
        assert_eq!((usage.input, usage.output, usage.reasoning), (18, 20, Some(7)));
        let wire = write(&usage);
        assert_eq!((&wire["input_tokens"], &wire["cache_read_input_tokens"]), (&json!(3), &json!(10)));
        assert_eq!(tally.rest["service_tier"], "standard");
    }

    #[test]
    fn what_is_kept_for_an_hour_is_told_apart() {
        let mut tally = Tally::default();
        let kept = json!({"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3});
        tally.absorb(json!({"input_tokens": 1, "cache_creation_input_tokens": 5, "cache_creation": kept}));
        // The end of a stream counts anew what it counts, and leaves the rest out.
        tally.absorb(json!({"output_tokens": 20, "cache_creation": null}));
        let usage = tally.usage().unwrap();
        assert_eq!((usage.input, usage.cache_write, usage.cache_write_1h), (6, Some(5), Some(3)));
        assert_eq!(tally.rest["cache_creation"], kept);
    }

    #[test]
    fn counts_that_do_not_add_up_are_no_overflow() {
        let usage = Usage { input: 1, cache_read: Some(u64::MAX), cache_write: Some(2), ..Usage::default() };
        assert_eq!(write(&usage)["input_tokens"], 0);
    }
}
