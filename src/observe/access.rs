//! One log line per finished exchange, readable or JSON.

use super::ExchangeRecord;
use serde::Serialize;
use std::fmt;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;

/// Writes the lines of finished exchanges, one after the other.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// A moment's second and how it is written: most lines have that of the line before.
    second: Option<(u64, String)>,
}

impl Lines {
    /// Appends the line of `record`, its end included.
    ///
    /// # Errors
    /// None but those of JSON.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, record: &ExchangeRecord, json: bool) -> io::Result<()> {
        if json {
            return write_json(out, record);
        }
        let mut line = Line(out);
        self.write_time(&mut line, ended(record));
        line.write_exchange(record);
        line.text("\n");
        Ok(())
    }

    fn write_time(&mut self, line: &mut Line<'_>, moment: SystemTime) {
        let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second.as_ref().is_none_or(|(second, _)| *second != since.as_secs()) {
            let whole = UNIX_EPOCH + Duration::from_secs(since.as_secs());
            let mut text = Rfc3339(whole).to_string();
            text.truncate("2026-11-29T00:00:00.".len());
            self.second = Some((since.as_secs(), text));
        }
        let millis = u64::from(since.subsec_millis());
        line.text(self.second.as_ref().map_or("", |(_, text)| text));
        line.text(if millis < 10 { "00" } else { ["", "0"][usize::from(millis < 100)] });
        line.number(millis).text("Z ");
    }
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
    out.push(b'\n');
    Ok(())
}

fn ended(record: &ExchangeRecord) -> SystemTime {
    record.started.checked_add(record.total).unwrap_or(record.started)
}

fn level(record: &ExchangeRecord) -> &'static str {
    if record.status >= 500 { "WARN" } else { "INFO" }
}

/// What stands in a line without quotes.
static IS_PLAIN: [bool; 256] = {
    let mut is_plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        is_plain[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(byte as u8, b'-' | b'_' | b'.' | b'/' | b':' | b'@' | b'+');
        byte += 1;
    }
    is_plain
};

/// A line that is being written.
struct Line<'a>(&'a mut Vec<u8>);

impl Line<'_> {
    fn write_exchange(&mut self, record: &ExchangeRecord) {
        self.text(if level(record) == "WARN" { " WARN exchange: " } else { " INFO exchange: " });
        match record.status {
            0 => self.text("---"),
            status => self.number(u64::from(status)),
        };
        self.text(" ").text(record.ingress.name()).text(" ").text(record.operation.name());
        if !record.requested_model.is_empty() {
            self.text(" ").name(&record.requested_model);
        }
        if let (Some(provider), Some(model)) = (&record.provider, &record.model) {
            self.text(" -> ").name(provider).text("/").name(model);
        }
        self.text(" ").time(record.total);
        if let Some(first) = record.first_token {
            self.text(" first=").time(first);
        }
        if let Some(overhead) = record.overhead {
            self.text(" overhead=").number(overhead.as_micros() as u64).text("us");
        }
        if let Some(usage) = &record.usage {
            self.text(" tokens=").number(usage.input).text("/").number(usage.output);
        }
        if let Some(class) = record.class.as_ref().filter(|class| **class != record.requested_model) {
            self.text(" class=").name(class);
        }
        if let Some(cost) = record.cost_usd().filter(|cost| *cost > 0.0) {
            self.text(&format!(" cost=${cost:.6}"));
        }
        if record.attempts.len() > 1 {
            self.text(" attempts=").number(record.attempts.len() as u64);
        }
        for (name, count) in [(" retries=", record.retries()), (" skipped=", record.skipped)] {
            if count > 0 {
                self.text(name).number(count);
            }
        }
        let waited: Duration = record.attempts.iter().map(|attempt| attempt.waited).sum();
        // Who leaves a queue has made no attempt.
        let waited = waited.max(record.queue.as_ref().map_or(Duration::ZERO, |queue| queue.waited));
        if !waited.is_zero() {
            self.text(" waited=").time(waited);
        }
        if let Some(model) = &record.substituted {
            self.text(" substituted=").name(model);
        }
        if !record.losses.is_empty() {
            self.text(&format!(" loss=\"{}\"", record.losses.to_string().escape_debug()));
        }
        if let Some(error) = &record.error {
            self.text(" error=").text(error.label());
            if let Some(code) = &error.code {
                self.text("/").name(code);
            }
        }
        for (on, word) in [(record.local_only, " local-only"), (record.cancelled, " cancelled")] {
            if on {
                self.text(word);
            }
        }
        self.text(" id=").name(&record.id);
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn number(&mut self, number: u64) -> &mut Self {
        self.text(itoa::Buffer::new().format(number))
    }

    /// A word that somebody else chose: quoted unless it is plain, so that it can neither end the line nor pass for another
    /// field.
    fn name(&mut self, name: &str) -> &mut Self {
        if !name.is_empty() && name.bytes().all(|byte| IS_PLAIN[usize::from(byte)]) {
            self.text(name)
        } else {
            self.text(&format!("\"{}\"", name.escape_debug()))
        }
    }

    /// A duration with three digits or so.
    fn time(&mut self, time: Duration) -> &mut Self {
        let micros = time.as_micros() as u64;
        if micros < 1_000_000 {
            let tenths = (micros + 50) / 100;
            self.number(tenths / 10).text(".").number(tenths % 10).text("ms")
        } else {
            let hundredths = (micros + 5_000) / 10_000;
            self.number(hundredths / 100).text(if hundredths % 100 < 10 { ".0" } else { "." });
            self.number(hundredths % 100).text("s")
        }
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
    fn a_line_begins_with_the_time_of_its_exchanges_end() {
        let mut lines = Lines::default();
        for (millis, start) in [
            (1_709_251_199_001, "2024-02-29T23:59:59.001Z  INFO exchange: --- "),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z  INFO "),
            (1_709_251_200_050, "2024-03-01T00:00:00.050Z  INFO "),
        ] {
            let record =
                ExchangeRecord { started: UNIX_EPOCH + Duration::from_millis(millis), ..ExchangeRecord::default() };
            let mut line = Vec::new();
            lines.write(&mut line, &record, false).unwrap();
            let line = String::from_utf8(line).unwrap();
            assert!(line.starts_with(start) && line.ends_with('\n'), "{line}");
        }
    }

    #[test]
    fn durations_have_three_digits_or_so() {
        for (micros, text) in [
            (0, "0.0ms"),
            (49, "0.0ms"),
            (17_250, "17.3ms"),
            (999_900, "999.9ms"),
            (1_000_000, "1.00s"),
            (1_054_999, "1.05s"),
            (83_500_000, "83.50s"),
        ] {
            let mut line = Vec::new();
            Line(&mut line).time(Duration::from_micros(micros));
            assert_eq!(String::from_utf8(line).unwrap(), text);
        }
    }

    #[test]
    fn a_hostile_name_neither_ends_the_line_nor_makes_a_field() {
        let record = ExchangeRecord {
            requested_model: "m\n2026-01-01T00:00:00.000Z ERROR forged status=200\u{1b}[31m\"".to_owned(),
            ..ExchangeRecord::default()
        };
        let mut line = Vec::new();
        Line(&mut line).write_exchange(&record);
        let line = String::from_utf8(line).unwrap();
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.contains(r#""m\n2026-01-01T00:00:00.000Z ERROR forged status=200\u{1b}[31m\"""#), "{line}");
    }
}
