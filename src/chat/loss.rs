//! What a translation could not carry.

use indexmap::IndexSet;
use std::borrow::Cow;
use std::fmt;

/// What happened to a field on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossKind {
    /// The other side cannot say it; it was left out.
    Dropped,
    /// Said in the nearest words of the other side.
    Approximated,
}

/// One thing that a translation dropped or approximated.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Loss {
    /// The field, in the words of the dialect it was read from, with dots for nesting (`reasoning.budget_tokens`).
    /// Never holds content of the client's.
    pub field: Cow<'static, str>,
    /// What happened to it.
    pub kind: LossKind,
}

/// The losses of one translation; each is kept once.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Losses(IndexSet<Loss>);

impl Losses {
    /// No loss.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `field` was left out.
    pub fn dropped(&mut self, field: impl Into<Cow<'static, str>>) {
        self.add(Loss { field: field.into(), kind: LossKind::Dropped });
    }

    /// Notes that `field` was said in other words.
    pub fn approximated(&mut self, field: impl Into<Cow<'static, str>>) {
        self.add(Loss { field: field.into(), kind: LossKind::Approximated });
    }

    /// Adds a loss unless it is there.
    pub fn add(&mut self, loss: Loss) {
        self.0.insert(loss);
    }

    /// Takes over all of `other`.
    pub fn extend(&mut self, other: &Losses) {
        for loss in &other.0 {
            self.add(loss.clone());
        }
    }

    /// The losses in the order they happened.
    pub fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.0.iter()
    }

    /// True when nothing was lost.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As in the `x-bifrost-loss` header: `seed=dropped, reasoning.effort=approximated`.
impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, loss) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            let kind = match loss.kind {
                LossKind::Dropped => "dropped",
                LossKind::Approximated => "approximated",
            };
            write!(f, "{}={kind}", loss.field)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With a look at all others for each, this takes minutes.
    #[test]
    fn as_many_losses_as_a_body_has_fields_are_each_kept_once() {
        let mut losses = Losses::new();
        for field in (0..200_000).chain(0..200_000) {
            losses.dropped(field.to_string());
        }
        assert!(losses.iter().map(|loss| &*loss.field).eq((0..200_000).map(|field| field.to_string())));
    }
}
