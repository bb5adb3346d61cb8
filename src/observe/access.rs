//! One log line per finished exchange, readable or JSON.

use super::ExchangeRecord;
use serde::Serialize;
use std::fmt;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// Appends the line of `record`, its end included.
///
/// # Errors
/// None but those of `out`.
pub(super) fn write_line(out: &mut Vec<u8>, record: &ExchangeRecord, json: bool) -> io::Result<()> {
    if json { write_json(out, record) } else { writeln!(out, "{}", Readable(record)) }
}

/// In the frame of tracing-subscriber's JSON events, so that one reader takes both.
fn write_json(out: &mut Vec<u8>, record: &ExchangeRecord) -> io::Result<()> {
    #[derive(Serialize)]
    struct Line<'a> {
        timestamp: String,
        level: &'static str,
        target: &'static str,
        exchange: &'a ExchangeRecord,
    }
    let line = Line {
        timestamp: Rfc3339(ended(record)).to_string(),
        level: level(record),
        target: "bifrost::access",
        exchange: record,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

fn ended(record: &ExchangeRecord) -> SystemTime {
    record.started.checked_add(record.total).unwrap_or(record.started)
}

fn level(record: &ExchangeRecord) -> &'static str {
    if record.status >= 500 { "WARN" } else { "INFO" }
}

struct Readable<'a>(&'a ExchangeRecord);

impl fmt::Display for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = self.0;
        write!(f, "{} {:>5} exchange: ", Rfc3339(ended(record)), level(record))?;
        match record.status {
            0 => f.write_str("---")?,
            status => write!(f, "{status}")?,
        }
        write!(f, " {} {}", record.ingress, record.operation.name())?;
        if !record.requested_model.is_empty() {
            write!(f, " {}", Plain(&record.requested_model))?;
        }
        if let (Some(provider), Some(model)) = (&record.provider, &record.model) {
            write!(f, " -> {}/{}", Plain(provider), Plain(model))?;
        }
        write!(f, " {}", Short(record.total))?;
        if let Some(first) = record.first_token {
            write!(f, " first={}", Short(first))?;
        }
        if let Some(overhead) = record.overhead {
            write!(f, " overhead={}us", overhead.as_micros())?;
        }
        if let Some(usage) = &record.usage {
            write!(f, " tokens={}/{}", usage.input, usage.output)?;
        }
        if let Some(class) = record.class.as_ref().filter(|class| **class != record.requested_model) {
            write!(f, " class={}", Plain(class))?;
        }
        if let Some(cost) = record.cost_usd().filter(|cost| *cost > 0.0) {
            write!(f, " cost=${cost:.6}")?;
        }
        if record.attempts.len() > 1 {
            write!(f, " attempts={}", record.attempts.len())?;
        }
        for (name, count) in [("retries", record.retries()), ("skipped", record.skipped)] {
            if count > 0 {
                write!(f, " {name}={count}")?;
            }
        }
        let waited: Duration = record.attempts.iter().map(|attempt| attempt.waited).sum();
        if !waited.is_zero() {
            write!(f, " waited={}", Short(waited))?;
        }
        if let Some(model) = &record.substituted {
            write!(f, " substituted={}", Plain(model))?;
        }
        if !record.losses.is_empty() {
            write!(f, " loss=\"{}\"", record.losses.to_string().escape_debug())?;
        }
        if let Some(error) = &record.error {
            write!(f, " error={}", error.label())?;
            if let Some(code) = &error.code {
                write!(f, "/{}", Plain(code))?;
            }
        }
        for (on, word) in [(record.local_only, " local-only"), (record.cancelled, " cancelled")] {
            if on {
                f.write_str(word)?;
            }
        }
        write!(f, " id={}", Plain(&record.id))
    }
}

/// A word that somebody else chose: quoted unless it is plain, so that it can neither end the line nor pass for another
/// field.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@+".contains(c);
        if !self.0.is_empty() && self.0.chars().all(plain) {
            f.write_str(self.0)
        } else {
            write!(f, "\"{}\"", self.0.escape_debug())
        }
    }
}

/// A duration with three digits or so.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs_f64();
        if seconds < 1.0 { write!(f, "{:.1}ms", seconds * 1_000.0) } else { write!(f, "{seconds:.2}s") }
    }
}

/// A time in UTC as RFC 3339 writes it, with milliseconds.
pub(super) struct Rfc3339(pub SystemTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = OffsetDateTime::from(self.0);
        let (year, month, day) = moment.to_calendar_date();
        let (hour, minute, second, milli) = moment.to_hms_milli();
        write!(f, "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", u8::from(month))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn times_are_written_in_utc() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_001, "2024-02-29T23:59:59.001Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_798_761_599_000, "2026-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(Rfc3339(UNIX_EPOCH + Duration::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn a_hostile_name_neither_ends_the_line_nor_makes_a_field() {
        let record = ExchangeRecord {
            requested_model: "m\n2026-01-01T00:00:00.000Z ERROR forged status=200\u{1b}[31m\"".to_owned(),
            ..ExchangeRecord::default()
        };
        let line = Readable(&record).to_string();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.contains(r#""m\n2026-01-01T00:00:00.000Z ERROR forged status=200\u{1b}[31m\"""#), "{line}");
    }
}
