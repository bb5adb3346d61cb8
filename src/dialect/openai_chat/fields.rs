//! Reads a JSON object member by member; what is left over at the end is what the dialect does not know.

use crate::chat::{ChatError, DialectId, Extras};
use serde_json::{Map, Number, Value};

/// An object whose members are taken out one by one. `null` counts as missing.
#[derive(Debug)]
pub(in crate::dialect) struct Fields {
    map: Map<String, Value>,
    path: String,
}

impl Fields {
    /// The object at `path` (empty for the body itself).
    pub(in crate::dialect) fn new(map: Map<String, Value>, path: impl Into<String>) -> Self {
        Self { map, path: path.into() }
    }

    /// The object in `value`, or an error that says what stands there instead.
    pub(in crate::dialect) fn of(value: Value, path: impl Into<String>) -> Result<Self, ChatError> {
        let path = path.into();
        match value {
            Value::Object(map) => Ok(Self { map, path }),
            other => Err(wrong_type(&path, "an object", &other)),
        }
    }

    /// Where the member called `key` stands, in OpenAI's words (`messages[0].content`).
    pub(in crate::dialect) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Takes a member out.
    pub(in crate::dialect) fn take(&mut self, key: &str) -> Option<Value> {
        self.map.shift_remove(key).filter(|value| !value.is_null())
    }

    /// Puts a member back that turned out to be none of this dialect's known forms.
    pub(in crate::dialect) fn put_back(&mut self, key: &str, value: Value) {
        self.map.insert(key.to_owned(), value);
    }

    /// Looks at a member.
    pub(in crate::dialect) fn get(&self, key: &str) -> Option<&Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// Takes a string.
    pub(in crate::dialect) fn string(&mut self, key: &str) -> Result<Option<String>, ChatError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong_type(&self.path_of(key), "a string", &other)),
        }
    }

    /// Takes a boolean.
    pub(in crate::dialect) fn boolean(&mut self, key: &str) -> Result<Option<bool>, ChatError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&self.path_of(key), "a boolean", &other)),
        }
    }

    /// Takes a number.
    pub(in crate::dialect) fn decimal(&mut self, key: &str) -> Result<Option<f64>, ChatError> {
        match self.take(key) {
            None => Ok(None),
            Some(other) => other.as_f64().map(Some).ok_or_else(|| wrong_type(&self.path_of(key), "a decimal", &other)),
        }
    }

    /// Takes a whole number of the type that the caller needs.
    pub(in crate::dialect) fn integer<T: TryFrom<i64>>(&mut self, key: &str) -> Result<Option<T>, ChatError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Number(number)) => match whole(&number).and_then(|value| T::try_from(value).ok()) {
                Some(value) => Ok(Some(value)),
                None => Err(invalid(
                    &self.path_of(key),
                    format!("Invalid value for '{}': {number} is out of range.", self.path_of(key)),
                )),
            },
            Some(other) => Err(wrong_type(&self.path_of(key), "an integer", &other)),
        }
    }

    /// Takes a list.
    pub(in crate::dialect) fn list(&mut self, key: &str) -> Result<Option<Vec<Value>>, ChatError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(wrong_type(&self.path_of(key), "an array", &other)),
        }
    }

    /// Takes an object.
    pub(in crate::dialect) fn object(&mut self, key: &str) -> Result<Option<Fields>, ChatError> {
        match self.take(key) {
            None => Ok(None),
            Some(value) => Fields::of(value, self.path_of(key)).map(Some),
        }
    }

    /// The rest, without `null`s.
    pub(in crate::dialect) fn rest(self) -> Map<String, Value> {
        self.map.into_iter().filter(|(_, value)| !value.is_null()).collect()
    }

    /// The rest as extras of this dialect, without members that say nothing (`null`, `false`, empty).
    pub(in crate::dialect) fn telling_extras(self) -> Extras {
        let telling = self.map.into_iter().filter(|(_, value)| says_something(value)).collect();
        Extras::from_fields(DialectId::OpenAiChat, telling)
    }
}

/// False for `null`, `false`, zero and whatever holds nothing else.
pub(in crate::dialect) fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::Bool(true) => true,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => map.values().any(says_something),
    }
}

/// A request is wrong at `param`; the text is in OpenAI's words.
pub(in crate::dialect) fn invalid(param: &str, message: impl Into<String>) -> ChatError {
    ChatError::invalid(param, message)
}

/// A value is of the wrong type.
pub(in crate::dialect) fn wrong_type(path: &str, expected: &str, found: &Value) -> ChatError {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    let message = if path.is_empty() {
        format!("Invalid type for the request body: expected {expected}, but got {found} instead.")
    } else {
        format!("Invalid type for '{path}': expected {expected}, but got {found} instead.")
    };
    invalid(path, message).with_code("invalid_type")
}

/// A required member is missing.
pub(in crate::dialect) fn missing(path: &str) -> ChatError {
    invalid(path, format!("Missing required parameter: '{path}'.")).with_code("missing_required_parameter")
}

fn whole(number: &Number) -> Option<i64> {
    // JavaScript clients write 100 as 100.0 where they computed it.
    #[allow(clippy::cast_possible_truncation)]
    number
        .as_i64()
        .or_else(|| number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() < 9e15).map(|v| v as i64))
}
