//! Which models of a server that swaps them are in its memory, and how long they stay: pure, the clock is a parameter.

use std::sync::Arc;
use std::time::{Duration, Instant};

/// A model that has just answered is not swapped out for so long, in case its client goes on: loading another one and
/// this one again would take far longer.
const LINGER: Duration = Duration::from_secs(2);

/// The models that may be asked at the same time, because they are in memory or on their way into it.
#[derive(Debug, Default)]
pub(super) struct Residency {
    resident: Vec<Arc<str>>,
    /// Since when their time counts: from the first answer's end, because the load itself is nobody's gain.
    since: Option<Instant>,
    /// Nothing has ended since the last swap: they may still be on their way.
    is_new: bool,
    /// When the last of their requests ended; `None` before the first.
    idle_since: Option<Instant>,
}

impl Residency {
    /// The model may be asked without a swap.
    pub(super) fn holds(&self, model: &str) -> bool {
        self.resident.iter().any(|resident| &**resident == model)
    }

    /// The memory is given to a model, whose request is about to be sent.
    pub(super) fn swap_to(&mut self, model: Arc<str>, now: Instant) {
        *self = Self { resident: vec![model], since: Some(now), is_new: true, idle_since: None };
    }

    /// A request has ended; `is_idle`: the last one.
    pub(super) fn ended(&mut self, is_idle: bool, now: Instant) {
        if std::mem::take(&mut self.is_new) {
            self.since = Some(now);
        }
        if is_idle {
            self.idle_since = Some(now);
        }
    }

    /// The server says what is in its memory, and what it loads. While requests are in flight that only counts where it is
    /// more than what is known: a model that is missing is on its way.
    pub(super) fn observed(&mut self, loaded: &[String], starting: &[String], is_idle: bool, now: Instant) {
        let is_in = |models: &[String], model: &Arc<str>| models.iter().any(|other| **other == **model);
        let has_all = self.resident.iter().all(|model| is_in(loaded, model));
        if !has_all && self.resident.iter().all(|model| is_in(loaded, model) || is_in(starting, model)) {
            // Models are stopped before the new one is started: those that are still there stay beside it.
            let beside = loaded.iter().filter(|model| !self.holds(model)).map(|model| Arc::from(model.as_str()));
            let beside: Vec<Arc<str>> = beside.collect();
            self.resident.extend(beside);
            return;
        }
        if has_all && loaded.len() == self.resident.len() || !has_all && !is_idle {
            return;
        }
        // Those that were there keep their time; others came without a request of ours, and are not waited for.
        let known = std::mem::take(self);
        *self = if has_all { known } else { Self::default() };
        self.since.get_or_insert(now);
        self.resident = loaded.iter().map(|model| Arc::from(model.as_str())).collect();
    }

    /// They have had their time.
    pub(super) fn is_over(&self, least: Duration, now: Instant) -> bool {
        !self.is_new && self.over_at(least).is_none_or(|at| at <= now)
    }

    /// They had nothing to do for long enough.
    pub(super) fn is_left(&self, least: Duration, now: Instant) -> bool {
        self.left_at(least).is_none_or(|at| at <= now)
    }

    /// When they have had their time, as far as that is known now.
    pub(super) fn over_at(&self, least: Duration) -> Option<Instant> {
        self.since.map(|since| since + least)
    }

    /// When they will have had nothing to do for long enough.
    pub(super) fn left_at(&self, least: Duration) -> Option<Instant> {
        self.idle_since.map(|since| since + LINGER.min(least))
    }
}
