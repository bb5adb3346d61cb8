//! A JSON object while it is read: known members are taken out, what is left belongs to the dialect alone.

use super::ID;
use crate::chat::{ChatError, Extras, Losses};
use serde_json::{Map, Value, json};

/// A JSON object on its way into the neutral form.
#[derive(Debug)]
pub(super) struct Fields {
    map: Map<String, Value>,
    path: String,
}

impl Fields {
    /// The members of `value`, which stands at `path` (empty for the body itself).
    pub(super) fn new(value: Value, path: impl Into<String>) -> Result<Self, ChatError> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            _ => Err(ChatError::invalid(&path, format!("`{path}` must be a JSON object"))),
        }
    }

    /// Where a member stands, in dots.
    pub(super) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Takes a member out; `null` counts as missing.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.shift_remove(name).filter(|value| !value.is_null())
    }

    /// Looks at a member.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.map.get(name)
    }

    /// Puts a member back that could not be read into neutral words.
    pub(super) fn put_back(&mut self, name: &str, value: Value) {
        self.map.insert(name.to_owned(), value);
    }

    pub(super) fn string(&mut self, name: &str) -> Result<Option<String>, ChatError> {
        self.typed(name, "a string", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    pub(super) fn required_string(&mut self, name: &str) -> Result<String, ChatError> {
        self.string(name)?.ok_or_else(|| self.missing(name))
    }

    pub(super) fn count(&mut self, name: &str) -> Result<Option<u64>, ChatError> {
        self.typed(name, "a whole number that is not negative", |value| value.as_u64())
    }

    pub(super) fn number(&mut self, name: &str) -> Result<Option<f64>, ChatError> {
        self.typed(name, "a number", |value| value.as_f64())
    }

    pub(super) fn boolean(&mut self, name: &str) -> Result<Option<bool>, ChatError> {
        self.typed(name, "true or false", |value| value.as_bool())
    }

    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<Value>>, ChatError> {
        self.typed(name, "a list", |value| match value {
            Value::Array(list) => Some(list),
            _ => None,
        })
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Option<Fields>, ChatError> {
        let path = self.at(name);
        self.take(name).map(|value| Fields::new(value, path)).transpose()
    }

    pub(super) fn missing(&self, name: &str) -> ChatError {
        let at = self.at(name);
        ChatError::invalid(&at, format!("`{at}` is missing"))
    }

    /// What was not taken, without nulls.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.map.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }

    /// What was not taken, as extras of this dialect.
    pub(super) fn extras(self) -> Extras {
        Extras::from_fields(ID, self.rest())
    }

    fn typed<T>(
        &mut self,
        name: &str,
        what: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Result<Option<T>, ChatError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match read(value) {
            Some(value) => Ok(Some(value)),
            None => {
                let at = self.at(name);
                Err(ChatError::invalid(&at, format!("`{at}` must be {what}")))
            }
        }
    }
}

/// Adds fields that only this dialect knows to `map`: `usage.service_tier` stands for a member of the object `usage`, and a
/// null for "not written". Fields of other dialects are losses, named after `prefix`.
pub(super) fn put_extras(map: &mut Map<String, Value>, extras: &Extras, prefix: &str, losses: &mut Losses) {
    let Some(fields) = extras.for_dialect(ID) else {
        for (name, _) in extras.fields.iter().filter(|(_, value)| !value.is_null()) {
            losses.dropped(format!("{prefix}{name}"));
        }
        return;
    };
    for (name, value) in fields {
        match name.split_once('.') {
            Some((outer, inner)) => merge(map, outer, &json!({ inner: value })),
            None => merge(map, name, value),
        }
    }
}

/// The members that were left of the object `outer`, under the names that [`put_extras`] and losses know them by.
pub(super) fn dotted(outer: &str, members: Map<String, Value>) -> impl Iterator<Item = (String, Value)> {
    members.into_iter().map(move |(name, value)| (format!("{outer}.{name}"), value))
}

/// Adds `value` as `name` unless it is there; of two objects the members are merged.
pub(super) fn merge(map: &mut Map<String, Value>, name: &str, value: &Value) {
    match (map.get_mut(name), value) {
        (_, Value::Null) => {}
        (None, value) => {
            map.insert(name.to_owned(), value.clone());
        }
        (Some(Value::Object(inner)), Value::Object(more)) => {
            for (name, value) in more {
                merge(inner, name, value);
            }
        }
        (Some(_), _) => {}
    }
}
