//! Where an exchange stands in a trace: in the caller's, or in one of its own.

use uuid::Uuid;

/// The place of an exchange in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never 0.
    pub(super) trace: u128,
    /// The caller's span, if the caller began the trace; never 0.
    pub(super) parent: Option<u64>,
    /// Somebody will look at the trace.
    pub(super) sampled: bool,
}

impl TraceContext {
    /// The caller's trace, as its `traceparent` says (www.w3.org/TR/trace-context). A header that cannot be read counts as
    /// none, and the exchange then begins a trace of its own.
    pub fn of(traceparent: Option<&str>) -> Self {
        traceparent.and_then(parse).unwrap_or_else(|| Self {
            trace: Uuid::new_v4().as_u128(),
            parent: None,
            sampled: true,
        })
    }

    /// The trace's id in hexadecimal digits.
    pub fn id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

/// `00-<32 digits>-<16 digits>-<2 digits>`; a later version may add fields, each after a dash.
fn parse(text: &str) -> Option<TraceContext> {
    let mut fields = text.trim().split('-');
    let mut field = |digits: usize| {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        fields.next().filter(|field| field.len() == digits && field.bytes().all(is_digit))
    };
    let (version, trace, parent, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
    if version == "ff" || (version == "00" && fields.next().is_some()) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
    let parent = u64::from_str_radix(parent, 16).ok().filter(|parent| *parent != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some(TraceContext { trace, parent: Some(parent), sampled: flags & 1 == 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn the_callers_trace_is_continued() {
        let context = TraceContext::of(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert_eq!(
            (context.id().as_str(), context.parent, context.sampled),
            (TRACE, Some(0x00f0_67aa_0ba9_02b7), true)
        );
        let later = TraceContext::of(Some("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-more"));
        assert_eq!((later.id().as_str(), later.sampled), (TRACE, false));
    }

    #[test]
    fn a_header_that_cannot_be_read_begins_a_new_trace() {
        for text in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            let context = TraceContext::of(Some(text));
            assert!(context.parent.is_none() && context.sampled && context.id() != TRACE, "{text}");
        }
        assert_ne!(TraceContext::of(None).id(), TraceContext::of(None).id());
    }

    proptest! {
        #[test]
        fn no_header_is_too_strange(text in "\\PC{0,80}|[0-9a-f-]{0,60}") {
            prop_assert_ne!(TraceContext::of(Some(&text)).trace, 0);
        }
    }
}
