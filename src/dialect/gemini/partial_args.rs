//! Arguments of a function call that come in pieces (Vertex AI, `streamFunctionCallArguments`): each piece names the place
//! of a value by a JSONPath such as `$.list[0].name`, and strings may come in several pieces.

use super::fields::Fields;
use serde_json::{Map, Value};

/// Lists longer than this are not made from a path; the place is out of a model's reach and would only take memory.
const MAX_INDEX: usize = 65_536;
/// Paths deeper than this are not followed.
const MAX_STEPS: usize = 64;

enum Step {
    Member(String),
    Item(usize),
}

/// Puts one `PartialArg` into `arguments`; gives false when it cannot be read.
pub(super) fn apply(piece: Value, arguments: &mut Value) -> bool {
    let Some(mut piece) = Fields::of(piece) else { return false };
    let Some(path) = piece.take_string("jsonPath").and_then(|path| steps(&path)) else { return false };
    let value = if let Some(text) = piece.take_string("stringValue") {
        Value::String(text)
    } else if let Some(value) = piece.take("numberValue").or_else(|| piece.take("boolValue")) {
        value
    } else {
        Value::Null
    };
    let Some(slot) = place(arguments, &path) else { return false };
    match (slot, value) {
        (Value::String(text), Value::String(more)) => text.push_str(&more),
        (slot, value) => *slot = value,
    }
    true
}

fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == MAX_STEPS {
            return None;
        }
        if let Some(after) = rest.strip_prefix('.') {
            let end = after.find(['.', '[']).unwrap_or(after.len());
            steps.push(Step::Member(after[..end].to_owned()));
            rest = &after[end..];
        } else {
            let after = rest.strip_prefix('[')?;
            let quote = after.chars().next().filter(|quote| matches!(quote, '\'' | '"'));
            let (step, after) = match quote {
                Some(quote) => {
                    let (name, after) = after[1..].split_once(quote)?;
                    (Step::Member(name.to_owned()), after.strip_prefix(']')?)
                }
                None => {
                    let (index, after) = after.split_once(']')?;
                    (Step::Item(index.parse().ok().filter(|index| *index < MAX_INDEX)?), after)
                }
            };
            steps.push(step);
            rest = after;
        }
    }
    Some(steps)
}

/// The place that `steps` lead to; objects and lists are made where nothing was.
fn place<'v>(mut at: &'v mut Value, steps: &[Step]) -> Option<&'v mut Value> {
    for step in steps {
        at = match step {
            Step::Member(name) => {
                if at.is_null() {
                    *at = Value::Object(Map::new());
                }
                at.as_object_mut()?.entry(name.as_str()).or_insert(Value::Null)
            }
            Step::Item(index) => {
                if at.is_null() {
                    *at = Value::Array(Vec::new());
                }
                let list = at.as_array_mut()?;
                if list.len() <= *index {
                    list.resize(*index + 1, Value::Null);
                }
                list.get_mut(*index)?
            }
        };
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn pieces_become_the_arguments() {
        let mut arguments = json!({});
        for piece in [
            json!({"jsonPath": "$.recipe.steps[0]", "stringValue": "Boil", "willContinue": true}),
            json!({"jsonPath": "$.recipe.steps[0]", "stringValue": " water"}),
            json!({"jsonPath": "$.recipe.steps[1]['it''s']", "stringValue": "bad path"}),
            json!({"jsonPath": "$.recipe.steps[1][\"a.b\"]", "numberValue": 2}),
            json!({"jsonPath": "$.ok", "boolValue": true}),
            json!({"jsonPath": "$.none", "nullValue": "NULL_VALUE"}),
        ] {
            apply(piece, &mut arguments);
        }
        assert_eq!(arguments, json!({"recipe": {"steps": ["Boil water", {"a.b": 2}]}, "ok": true, "none": null}));
    }

    proptest! {
        #[test]
        fn any_path_is_refused_or_followed_without_panic(path in "\\$?([.\\[\\]'\"$a0-9é]|9999999){0,12}") {
            let mut arguments = json!({});
            apply(json!({"jsonPath": path, "stringValue": "x"}), &mut arguments);
        }
    }
}
