//! Edits of a text that keep every other byte.

use std::ops::Range;

/// A set of edits, in any order.
#[derive(Debug, Default)]
pub struct Cuts(Vec<(Range<usize>, Vec<u8>)>);

impl Cuts {
    /// Puts `new` in the place of `range`; an empty range is a place between two bytes.
    pub fn put(&mut self, range: Range<usize>, new: Vec<u8>) {
        self.0.push((range, new));
    }

    /// Takes out those `spans` of one JSON list or object that are marked with true, each with one comma. All that go must be
    /// marked in one call: which comma goes depends on who stays.
    pub fn remove(&mut self, spans: impl IntoIterator<Item = (Range<usize>, bool)>) {
        let mut last_kept: Option<usize> = None;
        let mut spans = spans.into_iter().peekable();
        while let Some((span, gone)) = spans.next() {
            if !gone {
                last_kept = Some(span.end);
                continue;
            }
            let range = match (spans.peek(), last_kept) {
                (Some((next, _)), _) => span.start..next.start,
                (None, Some(kept)) => kept..span.end,
                (None, None) => span,
            };
            self.put(range, Vec::new());
        }
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The edited text.
    pub fn apply(mut self, bytes: &[u8]) -> Vec<u8> {
        self.0.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        let new: usize = self.0.iter().map(|(_, new)| new.len()).sum();
        let mut out = Vec::with_capacity(bytes.len() + new);
        let mut at = 0;
        for (range, new) in &self.0 {
            // An edit inside of what is already cut out is cut out with it.
            if range.start < at && range.end <= at {
                continue;
            }
            if range.start > at {
                out.extend_from_slice(&bytes[at..range.start]);
            }
            out.extend_from_slice(new);
            at = range.end;
        }
        out.extend_from_slice(&bytes[at..]);
        out
    }
}
