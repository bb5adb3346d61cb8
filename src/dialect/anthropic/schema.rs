//! JSON Schemas that the API holds an answer to (`output_config.format`, strict tools): it takes a subset and refuses the rest.
//!
//! What it lacks goes into the description in words, as the official Python SDK does it (`lib/_parse/_transform.py`, August
//! 2026): the model may still keep to it.

use serde_json::{Map, Value, json};

/// Constraints that the API does not know.
const UNKNOWN: [&str; 17] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "pattern",
    "maxItems",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
];

/// The formats of strings that it knows.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// `schema` as the API takes it, and whether anything was changed.
pub(super) fn strict(schema: &Value) -> (Value, bool) {
    let mut strict = schema.clone();
    visit(&mut strict);
    let is_changed = strict != *schema;
    (strict, is_changed)
}

fn visit(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    if let (Some(variants), false) = (map.get("oneOf").cloned(), map.contains_key("anyOf")) {
        map.shift_remove("oneOf");
        map.insert("anyOf".to_owned(), variants);
    }
    let is_object = map.get("type").is_some_and(|kind| kind == "object") || map.contains_key("properties");
    if is_object && map.get("additionalProperties") != Some(&Value::Bool(false)) {
        map.insert("additionalProperties".to_owned(), json!(false));
    }
    describe_unknown(map);
    for name in ["properties", "$defs", "definitions"] {
        if let Some(Value::Object(schemas)) = map.get_mut(name) {
            schemas.values_mut().for_each(visit);
        }
    }
    for name in ["anyOf", "allOf"] {
        if let Some(Value::Array(schemas)) = map.get_mut(name) {
            schemas.iter_mut().for_each(visit);
        }
    }
    if let Some(items) = map.get_mut("items") {
        visit(items);
    }
}

fn describe_unknown(map: &mut Map<String, Value>) {
    let is_unknown = |name: &str, value: &Value| match name {
        "minItems" => value.as_u64().is_none_or(|count| count > 1),
        "format" => value.as_str().is_none_or(|format| !FORMATS.contains(&format)),
        _ => UNKNOWN.contains(&name),
    };
    let unknown: Vec<String> =
        map.iter().filter(|(name, value)| is_unknown(name, value)).map(|(name, _)| name.clone()).collect();
    if unknown.is_empty() {
        return;
    }
    let words: Vec<String> =
        unknown.iter().filter_map(|name| map.shift_remove(name).map(|value| format!("{name}: {value}"))).collect();
    let words = format!("{{{}}}", words.join(", "));
    let description = match map.get("description").and_then(Value::as_str) {
        Some(description) => format!("{description}\n\n{words}"),
        None => words,
    };
    map.insert("description".to_owned(), json!(description));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_does_not_know_is_said_in_words() {
        let (schema, is_changed) = strict(&json!({
            "type": "object",
            "properties": {
                "pattern": {"type": "string", "pattern": "^a", "format": "uuid"},
                "count": {"type": "integer", "minimum": 1, "description": "how many"},
                "list": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "object", "additionalProperties": true}},
                "either": {"oneOf": [{"type": "null"}, {"$ref": "#/$defs/x"}]},
            },
            "$defs": {"x": {"type": "string", "format": "odd"}},
        }));
        assert!(is_changed);
        assert_eq!(
            schema,
            json!({
                "type": "object",
                "properties": {
                    "pattern": {"type": "string", "format": "uuid", "description": "{pattern: \"^a\"}"},
                    "count": {"type": "integer", "description": "how many\n\n{minimum: 1}"},
                    "list": {"type": "array", "minItems": 1, "description": "{maxItems: 3}",
                             "items": {"type": "object", "additionalProperties": false}},
                    "either": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/x"}]},
                },
                "$defs": {"x": {"type": "string", "description": "{format: \"odd\"}"}},
                "additionalProperties": false,
            })
        );
        assert_eq!(strict(&schema), (schema.clone(), false));
    }
}
