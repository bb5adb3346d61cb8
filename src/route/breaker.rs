//! The circuit breaker of one target: after too many failures it is left alone, then one request probes it. Pure.

use crate::config::Breaker as Settings;
use crate::observe::BreakerState;
use crate::upstream::Verdict;
use std::time::{Duration, Instant};

/// The share of failures counts from so many attempts on.
const LEAST_ATTEMPTS: u32 = 40;

/// The breaker of one target.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    state: State,
    /// Failures since the last success.
    consecutive: u32,
    /// Times it opened since it was last closed, which makes each stay longer.
    opened: u32,
    recent: Recent,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Closed,
    /// Nothing is let through until the end of the rest; if it `failed`, one probe goes first then.
    Open { rest: Rest, failed: bool },
    /// A probe is under way since then.
    Probing(Instant),
    /// A probe showed nothing; the next request is one.
    Unproven,
}

/// How a request was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// Like every other.
    Usual,
    /// As the one that probes the target.
    Probe,
}

/// A time of rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rest {
    /// Its end.
    pub until: Instant,
    /// The provider asked for it; otherwise it follows from failures alone.
    pub asked_for: bool,
}

/// Attempts within one to two halves of the window.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    began: Option<Instant>,
    now: Tally,
    before: Tally,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    attempts: u32,
    failures: u32,
}

impl Breaker {
    /// Lets a request go to the target.
    ///
    /// # Errors
    /// It rests.
    pub fn admit(&mut self, now: Instant, settings: &Settings) -> Result<Pass, Rest> {
        match self.state {
            State::Closed => Ok(Pass::Usual),
            State::Open { rest, .. } if now < rest.until => Err(rest),
            State::Open { failed: false, .. } => {
                self.state = State::Closed;
                Ok(Pass::Usual)
            }
            State::Open { failed: true, .. } | State::Unproven => {
                self.state = State::Probing(now);
                Ok(Pass::Probe)
            }
            // A probe that takes so long keeps nobody else out.
            State::Probing(since) if now >= since + settings.max_open => {
                self.state = State::Probing(now);
                Ok(Pass::Probe)
            }
            State::Probing(_) => Err(Rest { until: now + settings.open, asked_for: false }),
        }
    }

    /// Why a request would not be let through now; `None` if it would.
    pub fn refuses(&self, now: Instant, settings: &Settings) -> Option<Rest> {
        self.clone().admit(now, settings).err()
    }

    /// What an attempt that was let through has shown; while a probe is under way only that counts. `rest` is how long the
    /// provider asked to be left alone.
    pub fn judge(&mut self, pass: Pass, verdict: Verdict, rest: Option<Duration>, now: Instant, settings: &Settings) {
        let counts = pass == Pass::Probe || !matches!(self.state, State::Probing(_));
        match verdict {
            _ if !counts => {}
            Verdict::Alive => self.recover(now, settings),
            Verdict::Failed => self.fail(now, settings),
            // A probe that showed nothing leaves its place to the next.
            Verdict::Unknown if matches!(self.state, State::Probing(_)) => self.state = State::Unproven,
            Verdict::Unknown => {}
        }
        let Some(until) = rest.map(|rest| now + rest) else { return };
        let failed = match self.state {
            State::Open { rest, .. } if rest.until >= until => return,
            State::Open { failed, .. } => failed,
            State::Probing(_) | State::Unproven => true,
            State::Closed => false,
        };
        self.state = State::Open { rest: Rest { until, asked_for: true }, failed };
    }

    /// Its state, as others are to see it.
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { rest, .. } if now < rest.until => BreakerState::Open,
            State::Open { failed: false, .. } => BreakerState::Closed,
            State::Open { failed: true, .. } | State::Probing(_) | State::Unproven => BreakerState::HalfOpen,
        }
    }

    /// Its state as it was last told: an open one whose time ran out is open until a request notices.
    pub fn told(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing(_) | State::Unproven => BreakerState::HalfOpen,
        }
    }

    /// The rest that the target has; `None` unless it is open.
    pub fn rest(&self, now: Instant) -> Option<Rest> {
        match self.state {
            State::Open { rest, .. } if now < rest.until => Some(rest),
            _ => None,
        }
    }

    /// Nothing is held against the target.
    pub fn is_pristine(&self) -> bool {
        matches!(self.state, State::Closed) && self.consecutive == 0
    }

    fn recover(&mut self, now: Instant, settings: &Settings) {
        self.consecutive = 0;
        match self.state {
            State::Closed => self.recent.count(false, now, settings.window),
            // What failed before says nothing of a target that is back.
            State::Probing(_) => *self = Self::default(),
            // A request that began before it opened; the probe decides.
            State::Open { .. } | State::Unproven => {}
        }
    }

    fn fail(&mut self, now: Instant, settings: &Settings) {
        self.consecutive = self.consecutive.saturating_add(1);
        self.recent.count(true, now, settings.window);
        let opens = match self.state {
            State::Closed => self.consecutive >= settings.failures || self.recent.is_bad(settings.rate),
            State::Probing(_) => true,
            State::Open { .. } | State::Unproven => false,
        };
        if opens {
            let stay = settings.open.saturating_mul(1 << self.opened.min(16)).min(settings.max_open);
            self.opened = self.opened.saturating_add(1);
            self.state = State::Open { rest: Rest { until: now + stay, asked_for: false }, failed: true };
            self.recent = Recent::default();
        }
    }
}

impl Recent {
    fn count(&mut self, failed: bool, now: Instant, window: Duration) {
        let began = *self.began.get_or_insert(now);
        let half = window / 2;
        let age = now.saturating_duration_since(began);
        if age >= half {
            self.before = if age < window { self.now } else { Tally::default() };
            self.now = Tally::default();
            self.began = Some(now);
        }
        self.now.attempts = self.now.attempts.saturating_add(1);
        self.now.failures = self.now.failures.saturating_add(u32::from(failed));
    }

    fn is_bad(&self, rate: f64) -> bool {
        let attempts = self.now.attempts.saturating_add(self.before.attempts);
        let failures = self.now.failures.saturating_add(self.before.failures);
        attempts >= LEAST_ATTEMPTS && f64::from(failures) >= rate * f64::from(attempts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SETTINGS: Settings = Settings {
        failures: 3,
        rate: 0.5,
        window: Duration::from_secs(30),
        open: Duration::from_secs(2),
        max_open: Duration::from_secs(10),
    };

    fn after(breaker: &mut Breaker, at: Instant, verdicts: &[Verdict]) {
        for verdict in verdicts {
            let pass = breaker.admit(at, &SETTINGS).unwrap();
            breaker.judge(pass, *verdict, None, at, &SETTINGS);
        }
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_probe_closes_it() {
        let (mut breaker, begin) = (Breaker::default(), Instant::now());
        after(
            &mut breaker,
            begin,
            &[Verdict::Failed, Verdict::Failed, Verdict::Alive, Verdict::Failed, Verdict::Failed],
        );
        assert_eq!(breaker.state(begin), BreakerState::Closed);
        after(&mut breaker, begin, &[Verdict::Failed]);
        assert_eq!(breaker.rest(begin).map(|rest| rest.until), Some(begin + SETTINGS.open));
        assert_eq!(breaker.admit(begin, &SETTINGS), Err(breaker.rest(begin).unwrap()));
        let later = begin + SETTINGS.open;
        assert_eq!(breaker.state(later), BreakerState::HalfOpen);
        assert_eq!(breaker.admit(later, &SETTINGS), Ok(Pass::Probe));
        // One probe is enough.
        assert!(breaker.admit(later, &SETTINGS).is_err());
        // What began before it opened decides nothing, whatever it shows.
        for verdict in [Verdict::Alive, Verdict::Unknown, Verdict::Failed] {
            breaker.judge(Pass::Usual, verdict, None, later, &SETTINGS);
            assert!(breaker.admit(later, &SETTINGS).is_err());
        }
        breaker.judge(Pass::Probe, Verdict::Alive, None, later, &SETTINGS);
        assert_eq!(breaker.state(later), BreakerState::Closed);
        assert!(breaker.is_pristine());
    }

    #[test]
    fn each_probe_that_fails_doubles_the_stay_up_to_its_limit() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        after(&mut breaker, now, &[Verdict::Failed; 3]);
        for seconds in [2, 4, 8, 10, 10] {
            assert_eq!(breaker.rest(now).unwrap().until, now + Duration::from_secs(seconds));
            now += Duration::from_secs(seconds);
            after(&mut breaker, now, &[Verdict::Failed]);
        }
    }

    #[test]
    fn half_of_many_attempts_open_it_without_three_in_a_row() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..19 {
            after(&mut breaker, now, &[Verdict::Failed, Verdict::Alive]);
        }
        assert_eq!(breaker.state(now), BreakerState::Closed);
        after(&mut breaker, now, &[Verdict::Alive, Verdict::Failed]);
        assert_eq!(breaker.state(now), BreakerState::Open);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        for _ in 0..19 {
            after(&mut breaker, now, &[Verdict::Failed, Verdict::Alive]);
        }
        let later = now + SETTINGS.window;
        after(&mut breaker, later, &[Verdict::Alive, Verdict::Failed]);
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    #[test]
    fn the_providers_own_word_keeps_it_open() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.judge(Pass::Usual, Verdict::Unknown, Some(Duration::from_secs(7)), now, &SETTINGS);
        let rest = Rest { until: now + Duration::from_secs(7), asked_for: true };
        assert_eq!(breaker.admit(now, &SETTINGS), Err(rest));
        // A shorter word from a request that ends later does not open it sooner.
        breaker.judge(Pass::Usual, Verdict::Unknown, Some(Duration::from_secs(1)), now, &SETTINGS);
        assert_eq!(breaker.rest(now), Some(rest));
        // It needs no probe.
        assert_eq!(
            (breaker.state(rest.until), breaker.admit(rest.until, &SETTINGS)),
            (BreakerState::Closed, Ok(Pass::Usual))
        );
    }

    #[test]
    fn one_probe_ends_the_opening_of_a_target_that_failed_and_asked_for_a_rest() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        after(&mut breaker, now, &[Verdict::Failed; 2]);
        let long = Duration::from_secs(7);
        let pass = breaker.admit(now, &SETTINGS).unwrap();
        breaker.judge(pass, Verdict::Failed, Some(long), now, &SETTINGS);
        assert_eq!(breaker.rest(now), Some(Rest { until: now + long, asked_for: true }));
        let later = now + long;
        assert_eq!((breaker.state(later), breaker.admit(later, &SETTINGS)), (BreakerState::HalfOpen, Ok(Pass::Probe)));
        assert!(breaker.admit(later, &SETTINGS).is_err(), "one is enough");
        breaker.judge(Pass::Probe, Verdict::Unknown, Some(long), later, &SETTINGS);
        assert_eq!(
            breaker.admit(later + long, &SETTINGS),
            Ok(Pass::Probe),
            "a probe that was throttled showed nothing"
        );
    }

    #[test]
    fn a_probe_whose_client_left_gives_its_place_to_the_next() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        after(&mut breaker, now, &[Verdict::Failed; 3]);
        let later = now + SETTINGS.open;
        after(&mut breaker, later, &[Verdict::Unknown, Verdict::Alive]);
        assert_eq!(breaker.state(later), BreakerState::Closed);
    }

    proptest! {
        /// Whatever happens, an open breaker lets a request through again after the longest stay.
        #[test]
        fn nobody_is_left_alone_for_ever(verdicts in prop::collection::vec(0..3_u8, 0..200), millis in prop::collection::vec(0..3_000_u64, 200)) {
            let (mut breaker, mut now) = (Breaker::default(), Instant::now());
            for (verdict, millis) in verdicts.into_iter().zip(millis) {
                now += Duration::from_millis(millis);
                if let Ok(pass) = breaker.admit(now, &SETTINGS) {
                    let verdict = [Verdict::Alive, Verdict::Failed, Verdict::Unknown][usize::from(verdict)];
                    breaker.judge(pass, verdict, None, now, &SETTINGS);
                }
            }
            prop_assert!(breaker.admit(now + SETTINGS.max_open, &SETTINGS).is_ok());
        }
    }
}
