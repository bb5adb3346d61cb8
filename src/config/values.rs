//! Values that the file lets be written in more than one way.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{SeqAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// The longest time that can be said: a week.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// A length of time: seconds as a number (`2`, `0.8`), or a number with a unit (`"800ms"`, `"5s"`, `"10m"`, `"1h"`, `"1d"`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    fn of_seconds(seconds: f64) -> Option<Self> {
        let duration = Duration::try_from_secs_f64(seconds).ok()?;
        (duration <= LONGEST).then_some(Self(duration))
    }

    fn of_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let scale = match unit {
            "ms" => 0.001,
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        Self::of_seconds(number.trim().parse::<f64>().ok()? * scale)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0.as_secs(), self.0.subsec_millis());
        match (seconds, millis) {
            (_, 1..) => write!(f, "{}ms", self.0.as_millis()),
            (1.., 0) if seconds.is_multiple_of(86400) => write!(f, "{}d", seconds / 86400),
            (1.., 0) if seconds.is_multiple_of(3600) => write!(f, "{}h", seconds / 3600),
            (1.., 0) if seconds.is_multiple_of(60) => write!(f, "{}m", seconds / 60),
            (_, 0) => write!(f, "{seconds}s"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;

        const WRONG: &str =
            "a time from 0 to 7 days, as seconds (`0.8`) or with a unit (`\"800ms\"`, `\"5s\"`, `\"10m\"`)";

        impl Visitor<'_> for SpanVisitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(WRONG)
            }

            fn visit_i64<E: Error>(self, seconds: i64) -> Result<Span, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<Span, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_f64<E: Error>(self, seconds: f64) -> Result<Span, E> {
                Span::of_seconds(seconds).ok_or_else(|| E::custom(format_args!("expected {WRONG}")))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                Span::of_text(text).ok_or_else(|| E::custom(format_args!("expected {WRONG}")))
            }
        }

        deserializer.deserialize_any(SpanVisitor)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "Seconds as a number, or a number with a unit: `\"800ms\"`, `\"5s\"`, `\"10m\"`, `\"1h\"`, `\"1d\"`. At most 7 days.",
            "anyOf": [
                { "type": "number", "minimum": 0, "maximum": LONGEST.as_secs() },
                { "type": "string", "pattern": "^\\s*[0-9.]+\\s*(ms|s|m|min|h|d)?\\s*$" },
            ],
            "examples": [0.8, "800ms", "10m"],
        })
    }
}

/// One value, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneOrMany<T>(pub Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrManyVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OneOrManyVisitor<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a list of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany(vec![T::deserialize(StrDeserializer::new(text))?]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
                Ok(OneOrMany(Vec::deserialize(SeqAccessDeserializer::new(list))?))
            }
        }

        deserializer.deserialize_any(OneOrManyVisitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMany<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMany_{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        schemars::json_schema!({ "anyOf": [one, { "type": "array", "items": one }] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn span(value: serde_json::Value) -> Option<Duration> {
        serde_json::from_value::<Span>(value).ok().map(|span| span.0)
    }

    #[test]
    fn times_are_numbers_or_have_units() {
        for (value, milliseconds) in [
            (serde_json::json!(2), 2000),
            (serde_json::json!(0.8), 800),
            (serde_json::json!("800ms"), 800),
            (serde_json::json!("5 s"), 5000),
            (serde_json::json!("1.5"), 1500),
            (serde_json::json!("10m"), 600_000),
            (serde_json::json!("2min"), 120_000),
            (serde_json::json!("1h"), 3_600_000),
            (serde_json::json!("7d"), 604_800_000),
        ] {
            assert_eq!(span(value.clone()), Some(Duration::from_millis(milliseconds)), "{value}");
        }
        for value in ["-1s", "1 fortnight", "", "ms", "8d", "nan", "inf", "1e99"] {
            assert_eq!(span(value.into()), None, "{value}");
        }
        assert_eq!(span(serde_json::json!(-1)), None);
        assert_eq!(span(serde_json::json!(1e300)), None);
    }

    proptest! {
        #[test]
        fn a_time_that_is_shown_is_read_back(milliseconds in 0u64..604_800_000) {
            let original = Duration::from_millis(milliseconds);
            prop_assert_eq!(span(Span(original).to_string().into()), Some(original));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = span(text.into());
        }
    }
}
