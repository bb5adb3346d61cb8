//! When a provider wants to be asked again, in the forms that providers say it.
//!
//! `retry-after`: RFC 9110, seconds (Anthropic and others with a fraction) or a date; `retry-after-ms`: OpenAI and Azure;
//! `x-ratelimit-reset-requests`, `-tokens`: OpenAI (`1s`, `6m0s`, `120ms`), Groq, others bare seconds; `x-ratelimit-reset`:
//! OpenRouter (Unix milliseconds); `anthropic-ratelimit-*-reset`: Anthropic (RFC 3339; of a subscription's windows, as
//! `unified-5h`, Unix seconds, with `-status` where others have `-remaining`).

use crate::wire::timestamp;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Numbers above this are moments, in Unix seconds; above a thousand times as much, in Unix milliseconds.
const EPOCH: f64 = 1e9;

/// No provider is left alone for longer than this, whatever it says.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The wait that the headers of an error answer ask for.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let millis = text("retry-after-ms").and_then(|text| seconds(text.parse::<f64>().ok()? / 1_000.0));
    millis.or_else(|| {
        let text = text("retry-after")?;
        let of_date = || until(httpdate::parse_http_date(text).ok()?, now);
        text.parse().ok().and_then(seconds).or_else(of_date)
    })
}

/// True when a `retry-after` or `retry-after-ms` header can be read.
pub fn is_readable(name: &HeaderName, value: &HeaderValue) -> bool {
    let alone = HeaderMap::from_iter([(name.clone(), value.clone())]);
    retry_after(&alone, SystemTime::now()).is_some()
}

/// When the limit that was hit is lifted, by the headers of a 429: the latest reset of what is used up, or, where none says
/// so, of all that may be.
pub fn limit_reset(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let mut of_used_up = None;
    let mut of_any = None;
    for (name, value) in headers {
        let (Some(left), Ok(text)) = (left_of(name.as_str(), headers), value.to_str()) else { continue };
        let Some(reset) = reset(text.trim(), now) else { continue };
        match left {
            Left::Nothing => of_used_up = of_used_up.max(Some(reset)),
            Left::Unknown => of_any = of_any.max(Some(reset)),
            Left::Enough => {}
        }
    }
    of_used_up.or(of_any)
}

/// What is left of a limit, by the headers beside its reset.
enum Left {
    Nothing,
    Enough,
    /// Too little for this request, or nobody says.
    Unknown,
}

/// What is left of the limit whose reset the header `name` tells; `None` for other headers.
fn left_of(name: &str, headers: &HeaderMap) -> Option<Left> {
    let is_zero = |name: String| headers.get(name).is_some_and(|remaining| remaining == "0");
    if let Some(kind) = name.strip_prefix("x-ratelimit-reset") {
        return Some(if is_zero(format!("x-ratelimit-remaining{kind}")) { Left::Nothing } else { Left::Unknown });
    }
    let kind = name.strip_prefix("anthropic-ratelimit-")?.strip_suffix("-reset")?;
    let status = headers.get(format!("anthropic-ratelimit-{kind}-status")).and_then(|status| status.to_str().ok());
    Some(match status {
        Some("allowed" | "allowed_warning") => Left::Enough,
        // Most accounts have no credit beyond their windows, and are served again when the window is.
        Some("rejected") if kind != "unified-overage" => Left::Nothing,
        _ if is_zero(format!("anthropic-ratelimit-{kind}-remaining")) => Left::Nothing,
        _ => Left::Unknown,
    })
}

fn reset(text: &str, now: SystemTime) -> Option<Duration> {
    match text.parse::<f64>() {
        Ok(number) if number >= EPOCH * 1_000.0 => until(moment(number / 1_000.0)?, now),
        Ok(number) if number >= EPOCH => until(moment(number)?, now),
        Ok(number) => seconds(number),
        Err(_) => go_duration(text).or_else(|| until(moment(timestamp::read(text)? as f64)?, now)),
    }
}

/// `1h2m3.5s`, `120ms`, as Go writes durations.
fn go_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let unit_at = rest.find(|letter: char| letter.is_ascii_alphabetic())?;
        let (number, tail) = rest.split_at(unit_at);
        let end = tail.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * scale;
        rest = tail;
    }
    seconds(total)
}

fn seconds(number: f64) -> Option<Duration> {
    Some(Duration::try_from_secs_f64(number).ok()?.min(LONGEST))
}

/// The moment of Unix `seconds`.
fn moment(seconds: f64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

fn until(moment: SystemTime, now: SystemTime) -> Option<Duration> {
    // A moment that has passed means that there is nothing to wait for.
    Some(moment.duration_since(now).unwrap_or_default().min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: Duration = Duration::from_secs(784_111_777);
    /// 2026-08-19T14:34:01Z.
    const LATER: Duration = Duration::from_secs(1_787_150_041);

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn every_form_of_a_wait_is_understood() {
        for (name, text, millis) in [
            ("retry-after", "7", Some(7_000)),
            ("retry-after", "0.5", Some(500)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT", Some(10_000)),
            ("retry-after", "Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("retry-after", "soon", None),
            ("retry-after", "-1", None),
            ("retry-after", "1e300", None),
            ("retry-after", "1e19", Some(86_400_000)),
            ("retry-after", "1000000000", Some(86_400_000)),
            ("retry-after-ms", "250", Some(250)),
            ("x-other", "7", None),
        ] {
            let found = retry_after(&headers(&[(name, text)]), UNIX_EPOCH + NOW);
            assert_eq!(found, millis.map(Duration::from_millis), "{name}: {text}");
        }
        let both = headers(&[("retry-after", "1"), ("retry-after-ms", "1250")]);
        assert_eq!(retry_after(&both, UNIX_EPOCH), Some(Duration::from_millis(1_250)));
    }

    #[test]
    fn every_form_of_a_reset_is_understood() {
        for (name, text, millis) in [
            ("x-ratelimit-reset-requests", "120ms", Some(120)),
            ("x-ratelimit-reset-tokens", "6m0s", Some(360_000)),
            ("x-ratelimit-reset-tokens", "1h0m2.5s", Some(3_602_500)),
            ("x-ratelimit-reset-tokens", "7", Some(7_000)),
            ("x-ratelimit-reset", "1787150043000", Some(2_000)),
            ("x-ratelimit-reset", "1787150042", Some(1_000)),
            ("anthropic-ratelimit-requests-reset", "2026-08-19T14:34:11Z", Some(10_000)),
            ("x-ratelimit-reset", "9999999999999999999999", None),
            ("x-ratelimit-reset-requests", "soon", None),
            ("x-ratelimit-remaining-requests", "7", None),
        ] {
            let found = limit_reset(&headers(&[(name, text)]), UNIX_EPOCH + LATER);
            assert_eq!(found, millis.map(Duration::from_millis), "{name}: {text}");
        }
    }

    #[test]
    fn the_limit_that_was_hit_counts() {
        let both = headers(&[
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "2s"),
            ("x-ratelimit-remaining-tokens", "9000"),
            ("x-ratelimit-reset-tokens", "40s"),
        ]);
        assert_eq!(limit_reset(&both, UNIX_EPOCH), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_window_that_is_allowed_is_not_waited_for() {
        for (of_hours, of_days, seconds) in [
            ("rejected", "allowed", Some(60)),
            ("allowed", "rejected", Some(3_600)),
            ("rejected", "allowed_warning", Some(60)),
            ("rejected", "a new word", Some(60)),
            // Another limit was hit, and nobody says which.
            ("allowed", "allowed", None),
        ] {
            let windows = headers(&[
                ("anthropic-ratelimit-unified-5h-status", of_hours),
                ("anthropic-ratelimit-unified-5h-reset", "1787150101"),
                ("anthropic-ratelimit-unified-7d-status", of_days),
                ("anthropic-ratelimit-unified-7d-reset", "1787153641"),
            ]);
            let found = limit_reset(&windows, UNIX_EPOCH + LATER);
            assert_eq!(found, seconds.map(Duration::from_secs), "{of_hours}, {of_days}");
        }
    }

    #[test]
    fn credit_beyond_the_windows_is_not_waited_for_when_a_window_says_when() {
        let both = headers(&[
            ("anthropic-ratelimit-unified-5h-status", "rejected"),
            ("anthropic-ratelimit-unified-5h-reset", "1787150101"),
            ("anthropic-ratelimit-unified-overage-status", "rejected"),
            ("anthropic-ratelimit-unified-overage-reset", "1787153641"),
        ]);
        assert_eq!(limit_reset(&both, UNIX_EPOCH + LATER), Some(Duration::from_secs(60)));
    }

    proptest! {
        #[test]
        fn whatever_a_header_says_is_no_panic(text in "[ -~]{0,24}|[0-9]{1,24}|[0-9]{1,3}e[0-9]{1,3}") {
            let some = headers(&[("retry-after", &text), ("x-ratelimit-reset", &text), ("anthropic-ratelimit-tokens-reset", &text)]);
            let _ = (retry_after(&some, SystemTime::now()), limit_reset(&some, SystemTime::now()));
        }
    }
}
