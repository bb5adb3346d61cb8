//! What Google says in the `details` of an error: in its own API and in its compatible one.

use serde_json::Value;
use std::time::Duration;

/// What the type of each detail begins with.
pub const TYPE: &str = "type.googleapis.com/google.rpc.";

/// The detail of the type `kind`.
pub fn detail<'a>(details: Option<&'a Value>, kind: &str) -> Option<&'a Value> {
    details?.as_array()?.iter().find(|detail| {
        detail.get("@type").and_then(Value::as_str).and_then(|name| name.strip_prefix(TYPE)) == Some(kind)
    })
}

/// `RetryInfo.retryDelay` (`48s`), or what the message says (`Please retry in 48.9s.`).
pub fn retry_after(details: Option<&Value>, message: &str) -> Option<Duration> {
    let said = detail(details, "RetryInfo").and_then(|info| info.get("retryDelay")).and_then(Value::as_str);
    let text = said.or_else(|| {
        let (_, after) = message.split_once("retry in ")?;
        after.split_whitespace().next().map(|word| word.trim_end_matches('.'))
    })?;
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s')?, 1.0),
    };
    // Nobody is left alone for longer than a day.
    let seconds = (number.parse::<f64>().ok()? * unit).min(86_400.0);
    Duration::try_from_secs_f64(seconds).ok()
}
