//! Gemini's `Schema` (a subset of OpenAPI 3.0 with upper-case types) as JSON Schema. Only this direction is needed: a
//! JSON Schema is sent as it is (`parametersJsonSchema`, `responseJsonSchema`), so nothing of it is lost.

use super::fields::whole;
use serde_json::{Map, Value, json};

/// The JSON Schema that says the same. What is JSON Schema already stays as it is.
pub(super) fn to_json_schema(schema: Value) -> Value {
    let Value::Object(members) = schema else { return schema };
    let mut out = Map::new();
    let mut nullable = false;
    let mut order = Value::Null;
    for (name, value) in members {
        match (name.as_str(), value) {
            ("nullable", Value::Bool(flag)) => nullable = flag,
            ("type", Value::String(kind)) if kind == "TYPE_UNSPECIFIED" => {}
            ("type", Value::String(kind)) => put(&mut out, "type", kind.to_ascii_lowercase().into()),
            ("type", Value::Array(kinds)) => {
                put(&mut out, "type", kinds.into_iter().map(lower).collect());
            }
            ("properties", value) => put(&mut out, "properties", each_value(value)),
            ("defs" | "$defs", value) => put(&mut out, "$defs", each_value(value)),
            ("ref" | "$ref", value) => put(&mut out, "$ref", value),
            ("items", value) => put(&mut out, "items", to_json_schema(value)),
            ("additionalProperties" | "additional_properties", value) => {
                put(&mut out, "additionalProperties", to_json_schema(value));
            }
            ("anyOf" | "any_of", value) => put(&mut out, "anyOf", each_item(value)),
            ("allOf" | "oneOf" | "prefixItems", value) => put(&mut out, &name, each_item(value)),
            ("example", value) => put(&mut out, "examples", json!([value])),
            ("propertyOrdering" | "property_ordering", value) => order = value,
            (_, value) => match limit(&name) {
                // proto3 JSON writes 64-bit integers as strings.
                Some(limit) => {
                    let value = whole(&value).map_or(value, Value::from);
                    put(&mut out, limit, value);
                }
                None => put(&mut out, &name, value),
            },
        }
    }
    if nullable {
        allow_null(&mut out);
    }
    if let (Some(Value::Object(properties)), Value::Array(order)) = (out.get_mut("properties"), order) {
        sort(properties, &order);
    }
    Value::Object(out)
}

fn limit(name: &str) -> Option<&'static str> {
    Some(match name {
        "maxItems" | "max_items" => "maxItems",
        "minItems" | "min_items" => "minItems",
        "maxLength" | "max_length" => "maxLength",
        "minLength" | "min_length" => "minLength",
        "maxProperties" | "max_properties" => "maxProperties",
        "minProperties" | "min_properties" => "minProperties",
        _ => return None,
    })
}

/// Puts members into the order that `propertyOrdering` names. JSON Schema has no word for it, and models keep to the order
/// in which the members stand.
fn sort(properties: &mut Map<String, Value>, order: &[Value]) {
    let named: Vec<(String, Value)> =
        order.iter().filter_map(|name| properties.shift_remove_entry(name.as_str()?)).collect();
    let rest = std::mem::take(properties);
    properties.extend(named);
    properties.extend(rest);
}

fn allow_null(schema: &mut Map<String, Value>) {
    match schema.get_mut("type") {
        Some(Value::String(kind)) if kind != "null" => {
            let kinds = json!([kind, "null"]);
            schema.insert("type".into(), kinds);
        }
        Some(Value::Array(kinds)) if !kinds.contains(&json!("null")) => kinds.push(json!("null")),
        Some(_) => {}
        None => {
            if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
                choices.push(json!({ "type": "null" }));
            }
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
}

fn put(out: &mut Map<String, Value>, name: &str, value: Value) {
    out.insert(name.to_owned(), value);
}

fn lower(value: Value) -> Value {
    match value {
        Value::String(text) => text.to_ascii_lowercase().into(),
        other => other,
    }
}

fn each_value(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(name, schema)| (name, to_json_schema(schema))).collect(),
        other => other,
    }
}

fn each_item(value: Value) -> Value {
    match value {
        Value::Array(list) => list.into_iter().map(to_json_schema).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_types_nullable_and_string_limits_become_json_schema() {
        let schema = json!({
            "type": "OBJECT",
            "properties": {
                "type": {"type": "STRING", "nullable": true, "enum": ["A", "B"], "example": "A"},
                "list": {"type": "ARRAY", "min_items": "1", "items": {"any_of": [{"type": "INTEGER"}], "nullable": true}},
            },
            "required": ["type"],
            "propertyOrdering": ["list", "type"],
        });
        let ordered: Vec<String> =
            to_json_schema(schema.clone())["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(ordered, ["list", "type"]);
        assert_eq!(
            to_json_schema(schema),
            json!({
                "type": "object",
                "properties": {
                    "type": {"type": ["string", "null"], "enum": ["A", "B", null], "examples": ["A"]},
                    "list": {"type": "array", "minItems": 1, "items": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
                },
                "required": ["type"],
            })
        );
    }

    #[test]
    fn json_schema_stays_as_it_is() {
        let schema = json!({
            "type": ["string", "null"], "$defs": {"A": {"type": "object", "additionalProperties": false}}, "$ref": "#/$defs/A",
            "const": "X", "format": "date-time",
        });
        assert_eq!(to_json_schema(schema.clone()), schema);
    }
}
