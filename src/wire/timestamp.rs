//! Moments as RFC 3339 writes them: Google's `createTime` (proto3 JSON), Anthropic's `created_at`.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Unix seconds of `2025-08-19T15:18:43.287437Z`; the fraction of the second is cut off. `None` before 1970.
pub fn read(text: &str) -> Option<u64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(moment.unix_timestamp()).ok()
}

/// The moment of Unix `seconds`; one after the year 9999 is written as the epoch.
pub fn write(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
    moment.unwrap_or(OffsetDateTime::UNIX_EPOCH).format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        assert_eq!(read("2025-08-19T15:18:43.287437Z"), Some(1_755_616_723));
        assert_eq!(write(1_755_616_723), "2025-08-19T15:18:43Z");
        assert_eq!(write(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(read("yesterday"), None);
        assert_eq!(read("2025-02-30T00:00:00Z"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(seconds in 0u64..253_402_300_799) {
            prop_assert_eq!(read(&write(seconds)), Some(seconds));
        }
    }
}
