//! How each target is doing: its breaker, its latency, the requests it has in flight. Shared by all requests.

use super::balance::{Latency, PENALTY};
use super::breaker::{Breaker, Pass, Rest};
use crate::config::Breaker as Settings;
use crate::observe::BreakerState;
use crate::upstream::Verdict;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// So many targets are remembered; clients may invent model names.
const MAX_TARGETS: usize = 2_048;

/// How every target is doing that was asked.
#[derive(Debug, Default)]
pub struct Conditions(RwLock<HashMap<String, HashMap<String, Arc<Condition>>>>);

/// How one target is doing.
#[derive(Debug, Default)]
pub struct Condition {
    in_flight: AtomicUsize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    breaker: Breaker,
    latency: Latency,
    /// Attempts that wait for an answer, or for its first content.
    unanswered: usize,
    /// Since then some wait and none was answered.
    silent_since: Option<Instant>,
}

/// A breaker went from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: BreakerState,
    /// After.
    pub to: BreakerState,
    /// How long it stays open.
    pub rest: Option<Duration>,
}

/// An attempt that the breaker let through. Dropped without a verdict it says nothing of the target: the client left.
#[derive(Debug)]
pub struct Admitted {
    condition: Arc<Condition>,
    settings: Settings,
    pass: Pass,
    began: Instant,
    answered: bool,
    judged: bool,
}

impl Conditions {
    /// The condition of a target.
    pub fn of(&self, provider: &str, model: &str) -> Arc<Condition> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(condition) = known.get(provider).and_then(|models| models.get(model)) {
            return Arc::clone(condition);
        }
        drop(known);
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.values().map(HashMap::len).sum::<usize>() >= MAX_TARGETS {
            known.values_mut().for_each(|models| models.retain(|_, condition| !condition.is_idle()));
            if known.values().map(HashMap::len).sum::<usize>() >= MAX_TARGETS {
                // Invented names at a provider that fails: what is held against them goes too.
                known.values_mut().for_each(|models| models.retain(|_, condition| condition.is_busy()));
            }
            known.retain(|_, models| !models.is_empty());
        }
        let models = known.entry(provider.to_owned()).or_default();
        Arc::clone(models.entry(model.to_owned()).or_default())
    }

    /// The models of `provider` are well again, as somebody knows who looked; tells whose breakers that closed.
    pub fn forgive(&self, provider: &str, now: Instant) -> Vec<(String, Change)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let models = known.get(provider).into_iter().flatten();
        models.filter_map(|(model, condition)| Some((model.clone(), condition.forgive(now)?))).collect()
    }

    /// Every target that is remembered: provider, model, condition.
    pub fn all(&self) -> Vec<(String, String, Arc<Condition>)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let of = |(provider, models): (&String, &HashMap<String, Arc<Condition>>)| {
            let one = |(model, condition): (&String, &Arc<Condition>)| {
                (provider.clone(), model.clone(), Arc::clone(condition))
            };
            models.iter().map(one).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = known.iter().flat_map(of).collect();
        all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        all
    }
}

impl Condition {
    /// Asks the breaker for leave to call the target, and tells whether that changed its state.
    ///
    /// # Errors
    /// The target is left alone for now.
    pub fn admit(self: Arc<Self>, now: Instant, settings: Settings) -> Result<(Admitted, Option<Change>), Rest> {
        let mut known = self.known();
        // Where the time ran out unseen this request is the first to notice.
        let from = known.breaker.told();
        let pass = known.breaker.admit(now, &settings)?;
        let to = known.breaker.state(now);
        known.unanswered += 1;
        known.silent_since.get_or_insert(now);
        drop(known);
        let change = (from != to).then_some(Change { from, to, rest: None });
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok((Admitted { condition: self, settings, pass, began: now, answered: false, judged: false }, change))
    }

    /// Why a request would not be let through now; `None` if it would.
    pub fn refuses(&self, now: Instant, settings: Settings) -> Option<Rest> {
        self.known().breaker.refuses(now, &settings)
    }

    /// The state of its breaker.
    pub fn state(&self, now: Instant) -> BreakerState {
        self.known().breaker.state(now)
    }

    /// The rest that it has; `None` unless its breaker is open.
    pub fn rest(&self, now: Instant) -> Option<Rest> {
        self.known().breaker.rest(now)
    }

    /// Forgets what was held against it: somebody knows that it is well.
    fn forgive(&self, now: Instant) -> Option<Change> {
        let mut known = self.known();
        let from = known.breaker.state(now);
        known.breaker = Breaker::default();
        (from != BreakerState::Closed).then_some(Change { from, to: BreakerState::Closed, rest: None })
    }

    /// How busy and slow it is, for comparison only; `waiting` are the requests in its queue.
    pub fn load(&self, waiting: usize, now: Instant) -> f64 {
        let known = self.known();
        let silent = known.silent_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        known.latency.load(self.in_flight.load(Ordering::Relaxed) + waiting, silent, now)
    }

    fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    fn is_idle(&self) -> bool {
        !self.is_busy() && self.known().breaker.is_pristine()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// An attempt waits no longer. `heard`: since when the others wait anew, because the target has just said something.
    fn waits_no_longer(&mut self, heard: Option<Instant>) {
        self.unanswered = self.unanswered.saturating_sub(1);
        self.silent_since = if self.unanswered > 0 { heard.or(self.silent_since) } else { None };
    }
}

impl Admitted {
    /// The answer (the first content of a stream) is there. A probe is over with that; the rest of a stream is judged by
    /// [`Admitted::judge`].
    pub fn answers(&mut self, now: Instant) -> Option<Change> {
        let mut known = self.condition.known();
        self.answered = true;
        known.waits_no_longer(Some(now));
        known.latency.observe(now.saturating_duration_since(self.began), now);
        (self.pass == Pass::Probe && known.breaker.state(now) == BreakerState::HalfOpen)
            .then(|| self.tell(&mut known, Verdict::Alive, None, now))
            .flatten()
    }

    /// The end of the attempt. `rest` is how long the provider asked to be left alone.
    pub fn judge(mut self, verdict: Verdict, rest: Option<Duration>, now: Instant) -> Option<Change> {
        self.judged = true;
        let mut known = self.condition.known();
        if !std::mem::replace(&mut self.answered, true) {
            known.waits_no_longer(Some(now));
        }
        if verdict == Verdict::Failed {
            known.latency.observe(PENALTY, now);
        }
        self.tell(&mut known, verdict, rest, now)
    }

    fn tell(&self, known: &mut Known, verdict: Verdict, rest: Option<Duration>, now: Instant) -> Option<Change> {
        let from = known.breaker.state(now);
        known.breaker.judge(self.pass, verdict, rest, now, &self.settings);
        let to = known.breaker.state(now);
        let rest = known.breaker.rest(now).map(|rest| rest.until.saturating_duration_since(now));
        (from != to).then_some(Change { from, to, rest })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.condition.in_flight.fetch_sub(1, Ordering::Relaxed);
        if !self.judged {
            let mut known = self.condition.known();
            let now = Instant::now();
            if !self.answered {
                known.waits_no_longer(None);
                known.latency.at_least(now.saturating_duration_since(self.began), now);
            }
            // Nothing to tell: a probe gives its place to the next.
            let _ = self.tell(&mut known, Verdict::Unknown, None, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        failures: 1,
        rate: 1.0,
        window: Duration::from_secs(30),
        open: Duration::from_secs(2),
        max_open: Duration::from_secs(10),
    };

    #[test]
    fn names_that_clients_invent_are_forgotten_and_what_is_known_is_kept() {
        let (conditions, now) = (Conditions::default(), Instant::now());
        let (bad, _) = conditions.of("p", "bad").admit(now, SETTINGS).unwrap();
        assert!(bad.judge(Verdict::Failed, None, now).is_some());
        let busy = conditions.of("p", "busy").admit(now, SETTINGS).unwrap();
        for index in 0..2 * MAX_TARGETS {
            conditions.of("p", &format!("m{index}"));
        }
        let all = conditions.all();
        assert!(all.len() <= MAX_TARGETS);
        assert!(["bad", "busy"].iter().all(|model| all.iter().any(|(_, known, _)| known == model)));
        drop(busy);
    }

    #[test]
    fn the_end_of_a_rest_that_was_asked_for_is_told() {
        let (conditions, now) = (Conditions::default(), Instant::now());
        let (first, _) = conditions.of("p", "m").admit(now, SETTINGS).unwrap();
        let rest = Duration::from_secs(5);
        let opened = first.judge(Verdict::Unknown, Some(rest), now).unwrap();
        assert_eq!((opened.to, opened.rest), (BreakerState::Open, Some(rest)));
        let (_, change) = conditions.of("p", "m").admit(now + rest, SETTINGS).unwrap();
        assert_eq!(change.map(|change| (change.from, change.to)), Some((BreakerState::Open, BreakerState::Closed)));
    }

    #[test]
    fn who_gives_up_waiting_teaches_how_long_nothing_came() {
        let (conditions, now) = (Conditions::default(), Instant::now());
        let target = || conditions.of("p", "m");
        let (mut quick, _) = target().admit(now, SETTINGS).unwrap();
        quick.answers(now);
        quick.judge(Verdict::Alive, None, now);
        let (hanging, _) = target().admit(now, SETTINGS).unwrap();
        let later = now + Duration::from_secs(3);
        assert!((target().load(0, later) - 6.0).abs() < 0.01, "one waits since 3 s, and one would come");
        let _second = target().admit(later, SETTINGS).unwrap();
        drop(hanging);
        assert!((target().load(0, later) - 6.0).abs() < 0.01, "the other has not been answered either");
    }

    #[test]
    fn a_change_is_told_once() {
        let (conditions, now) = (Conditions::default(), Instant::now());
        let target = || conditions.of("p", "m");
        let (first, change) = target().admit(now, SETTINGS).unwrap();
        assert_eq!(change, None);
        let (second, _) = target().admit(now, SETTINGS).unwrap();
        let opened = first.judge(Verdict::Failed, None, now).unwrap();
        assert_eq!((opened.to, opened.rest), (BreakerState::Open, Some(SETTINGS.open)));
        assert_eq!(second.judge(Verdict::Failed, None, now), None);
        assert_eq!(target().admit(now, SETTINGS).unwrap_err().until, now + SETTINGS.open);
        let (mut probe, change) = target().admit(now + SETTINGS.open, SETTINGS).unwrap();
        assert_eq!(change.map(|change| change.to), Some(BreakerState::HalfOpen));
        let closed = probe.answers(now + SETTINGS.open).unwrap();
        assert_eq!((closed.from, closed.to), (BreakerState::HalfOpen, BreakerState::Closed));
        assert_eq!(probe.judge(Verdict::Alive, None, now + SETTINGS.open), None);
    }

    #[test]
    fn a_probe_that_takes_the_place_of_another_changes_nothing() {
        let (conditions, now) = (Conditions::default(), Instant::now());
        let admit = |at| conditions.of("p", "m").admit(at, SETTINGS).unwrap();
        let (first, _) = admit(now);
        assert!(first.judge(Verdict::Failed, None, now).is_some());
        let opens = now + SETTINGS.open;
        let (stuck, change) = admit(opens);
        assert_eq!(change.map(|change| change.to), Some(BreakerState::HalfOpen));
        // After one that never ends,
        let late = opens + SETTINGS.max_open;
        let (left, change) = admit(late);
        assert_eq!(change, None);
        // and after one whose client left.
        drop((stuck, left));
        let (mut probe, change) = admit(late);
        assert_eq!(change, None);
        assert_eq!(probe.answers(late).map(|change| change.from), Some(BreakerState::HalfOpen));
    }
}
