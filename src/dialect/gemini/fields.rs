//! Members of a proto3 JSON object, found under either of their names.

use serde_json::{Map, Value};

/// The members of an object that have not been read yet.
#[derive(Debug, Default)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    /// The members of `value`; none when it is no object.
    pub(super) fn of(value: Value) -> Option<Self> {
        match value {
            Value::Object(map) => Some(Self(map)),
            _ => None,
        }
    }

    /// Takes the member called `camel` or by its snake_case name. Null is the same as absent.
    pub(super) fn take(&mut self, camel: &str) -> Option<Value> {
        let value = self.0.shift_remove(camel).filter(|value| !value.is_null());
        let other = self.0.shift_remove(&snake(camel)).filter(|value| !value.is_null());
        value.or(other)
    }

    /// The member called `camel`, by either name.
    fn get(&self, camel: &str) -> Option<&Value> {
        self.0.get(camel).or_else(|| self.0.get(&snake(camel))).filter(|value| !value.is_null())
    }

    /// True when the member called `camel` is there, by either name.
    pub(super) fn has(&self, camel: &str) -> bool {
        self.get(camel).is_some()
    }

    /// True when the member called `camel` is `true`.
    pub(super) fn is_true(&self, camel: &str) -> bool {
        self.get(camel) == Some(&Value::Bool(true))
    }

    /// The member called `camel` if it is an object.
    pub(super) fn object(&self, camel: &str) -> Option<&Map<String, Value>> {
        self.get(camel)?.as_object()
    }

    /// True when there is something, and nothing but members of these names.
    pub(super) fn holds_only(&self, names: &[&str]) -> bool {
        !self.0.is_empty() && self.0.keys().all(|key| names.iter().any(|name| key == name || *key == snake(name)))
    }

    /// Takes a string; another type is left where it is.
    pub(super) fn take_string(&mut self, camel: &str) -> Option<String> {
        match self.take(camel)? {
            Value::String(text) => Some(text),
            other => {
                self.0.insert(camel.to_owned(), other);
                None
            }
        }
    }

    /// Takes a whole number that is not negative (proto3 JSON also writes it as a string); another type is left where it is.
    pub(super) fn take_count(&mut self, camel: &str) -> Option<u64> {
        let value = self.take(camel)?;
        let count = whole(&value).and_then(|number| u64::try_from(number).ok());
        if count.is_none() {
            self.0.insert(camel.to_owned(), value);
        }
        count
    }

    /// Takes an object; another type is left where it is.
    pub(super) fn take_object(&mut self, camel: &str) -> Option<Fields> {
        match self.take(camel)? {
            Value::Object(map) => Some(Fields(map)),
            other => {
                self.0.insert(camel.to_owned(), other);
                None
            }
        }
    }

    /// Puts a member back.
    pub(super) fn put(&mut self, name: &str, value: Value) {
        self.0.insert(name.to_owned(), value);
    }

    /// What was not taken, without nulls.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.0.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }

    /// What was not taken, with `prefix.` before each name, added to `into`.
    pub(super) fn rest_into(self, prefix: &str, into: &mut Map<String, Value>) {
        into.extend(self.rest().into_iter().map(|(name, value)| (format!("{prefix}.{name}"), value)));
    }
}

/// A whole number, also as a string and as a float without fraction.
pub(super) fn whole(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?;
            #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and in range")]
            (float.fract() == 0.0 && float.abs() < 9.0e15).then_some(float as i64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A number, also as a string.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn snake(camel: &str) -> String {
    let mut name = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Puts `value` at a dotted path of objects, which are made where they are missing.
pub(super) fn put_at(object: &mut Map<String, Value>, path: &str, value: Value) {
    let Some((first, rest)) = path.split_once('.') else {
        object.insert(path.to_owned(), value);
        return;
    };
    let slot = object.entry(first).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(inner) = slot {
        put_at(inner, rest, value);
    }
}
