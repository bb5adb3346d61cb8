//! The HTTP status that an error names by itself.

use serde_json::Value;

/// The status that stands in a member of an error, as a number or as its digits. Other numbers are a vendor's own.
pub fn named_status(member: &Value) -> Option<u16> {
    let number = member.as_u64().or_else(|| member.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|status| (400..600).contains(status))
}
