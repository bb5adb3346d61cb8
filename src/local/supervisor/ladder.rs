//! The remedies, gentle ones first, each tried once until the server has been well for a while.

use std::time::{Duration, Instant};

/// A remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `launchctl kickstart -k`: ends the process and starts it again, throttled or not.
    Kickstart,
    /// `launchctl bootout`, wait until the agent is gone, `launchctl bootstrap`.
    Bootstrap,
}

impl Step {
    const ALL: [Self; 2] = [Self::Kickstart, Self::Bootstrap];

    /// What it is called in logs and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kickstart => "kickstart",
            Self::Bootstrap => "bootout and bootstrap",
        }
    }
}

/// How far up the remedies have gone.
#[derive(Debug, Default)]
pub(super) struct Ladder {
    taken: usize,
    last: Option<Instant>,
    well_since: Option<Instant>,
    failures: Vec<String>,
}

impl Ladder {
    /// The remedy whose turn it is, unless the last one has not had its time yet.
    pub(super) fn next(&self, now: Instant, cooldown: Duration) -> Option<Step> {
        let rested = self.last.is_none_or(|last| now >= last + cooldown);
        Step::ALL.get(self.taken).copied().filter(|_| rested)
    }

    /// The remedy is being applied.
    pub(super) fn climb(&mut self, now: Instant) {
        self.taken += 1;
        self.last = Some(now);
    }

    /// The remedy has been applied; its time counts from here.
    pub(super) fn applied(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// The remedy could not be applied.
    pub(super) fn failed(&mut self, step: Step, reason: String) {
        self.failures.push(format!("{} failed: {reason}", step.name()));
    }

    /// Starts anew when the server has been well for long enough; one good look is no cure.
    pub(super) fn judged(&mut self, well: bool, now: Instant, settle: Duration) {
        if !well {
            self.well_since = None;
        } else if now >= *self.well_since.get_or_insert(now) + settle {
            *self = Self { well_since: self.well_since, ..Self::default() };
        }
    }

    /// Every remedy was tried, and the last one has had its time.
    pub(super) fn is_spent(&self, now: Instant, cooldown: Duration) -> bool {
        self.taken == Step::ALL.len() && self.last.is_some_and(|last| now >= last + cooldown)
    }

    /// What to tell when it is spent.
    pub(super) fn exhausted(&self) -> String {
        let failures = self.failures.join("; ");
        let because = if failures.is_empty() { String::new() } else { format!(" ({failures})") };
        format!("a kickstart and a new bootstrap did not help{because}, so nothing more is tried")
    }
}
