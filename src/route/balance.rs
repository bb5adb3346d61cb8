//! Which of several equal targets is asked: of two picked at random the one with the lower load. Pure.
//!
//! Load is the target's latency, weighted exponentially and quick to rise ("peak EWMA", as in Finagle and linkerd), times
//! the requests it has in flight. Silence counts as latency while it lasts.

use std::time::{Duration, Instant};

/// A latency counts half after about 7 s.
const DECAY: Duration = Duration::from_secs(10);

/// What a failure counts as: slower than nearly any answer, so that a target that fails fast does not look quick.
pub const PENALTY: Duration = Duration::from_secs(10);

/// The latency of a target, as last seen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Latency {
    /// Seconds; `None` before the first answer.
    seen: Option<(f64, Instant)>,
}

impl Latency {
    /// Takes a latency into account. A higher one counts at once, a lower one by and by.
    pub fn observe(&mut self, latency: Duration, now: Instant) {
        let new = latency.as_secs_f64();
        let mean = match self.seen {
            Some((old, at)) if new < old => {
                let weight = weight(at, now);
                old * weight + new * (1.0 - weight)
            }
            _ => new,
        };
        self.seen = Some((mean, now));
    }

    /// No answer came in this time: takes that into account if it is worse than what is known.
    pub fn at_least(&mut self, latency: Duration, now: Instant) {
        if self.seen.is_none_or(|(mean, at)| latency.as_secs_f64() > mean * weight(at, now)) {
            self.observe(latency, now);
        }
    }

    /// How much a further request would add, for comparison only. A target that has nothing to do and was not asked yet has
    /// none; the latency of one that was not asked for long is half forgotten, so that it gets a chance again. `silent` is
    /// how long those who wait for an answer have waited while none came.
    pub fn load(&self, in_flight: usize, silent: Duration, now: Instant) -> f64 {
        let expected = match self.seen {
            Some((mean, at)) => mean * weight(at, now),
            None if in_flight == 0 => 0.0,
            // Nobody knows yet what becomes of the first ones; the others go elsewhere meanwhile.
            None => PENALTY.as_secs_f64(),
        };
        expected.max(silent.as_secs_f64()) * (in_flight + 1) as f64
    }
}

/// How much of what was seen then still counts.
fn weight(seen: Instant, now: Instant) -> f64 {
    (-now.saturating_duration_since(seen).as_secs_f64() / DECAY.as_secs_f64()).exp()
}

/// The places of the targets in the order in which they are asked. Neighbours of one group are equal; `random(n)` is a number
/// below `n`.
pub fn order<G: PartialEq>(
    groups: &[G],
    load: impl Fn(usize) -> f64,
    mut random: impl FnMut(usize) -> usize,
) -> Vec<usize> {
    let mut places: Vec<usize> = (0..groups.len()).collect();
    for run in places.chunk_by_mut(|a, b| groups.get(*a) == groups.get(*b)) {
        if run.len() < 2 {
            continue;
        }
        let first = random(run.len());
        let second = (first + 1 + random(run.len() - 1)) % run.len();
        let loads = (run.get(first).map(|place| load(*place)), run.get(second).map(|place| load(*place)));
        let chosen = if loads.1 < loads.0 { second } else { first };
        // The others follow by their load, in case the chosen one fails.
        run.swap(0, chosen);
        if let Some(rest) = run.get_mut(1..) {
            rest.sort_by(|a, b| load(*a).total_cmp(&load(*b)));
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONE: Duration = Duration::ZERO;

    #[test]
    fn a_target_of_which_nothing_was_heard_yet_gets_one_request_and_not_all() {
        let (mut quick, now) = (Latency::default(), Instant::now());
        quick.observe(Duration::from_millis(5), now);
        let new = Latency::default();
        assert!(new.load(0, NONE, now) < quick.load(0, NONE, now));
        assert!(new.load(1, NONE, now) > quick.load(20, NONE, now));
    }

    #[test]
    fn a_target_that_has_fallen_silent_is_slow_though_it_was_quick() {
        let (mut latency, now) = (Latency::default(), Instant::now());
        latency.observe(Duration::from_millis(5), now);
        assert!((latency.load(1, Duration::from_secs(3), now) - 6.0).abs() < 1e-9);
        latency.at_least(Duration::from_millis(1), now);
        assert!((latency.load(0, NONE, now) - 0.005).abs() < 1e-9, "a client that left at once teaches nothing");
        latency.at_least(Duration::from_secs(5), now);
        assert!((latency.load(0, NONE, now) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_slowly() {
        let (mut latency, begin) = (Latency::default(), Instant::now());
        assert!(latency.load(0, NONE, begin).abs() < f64::EPSILON);
        latency.observe(Duration::from_millis(100), begin);
        latency.observe(Duration::from_secs(2), begin);
        assert!((latency.load(0, NONE, begin) - 2.0).abs() < 1e-9);
        let soon = begin + Duration::from_secs(1);
        latency.observe(Duration::from_millis(100), soon);
        assert!((1.7..2.0).contains(&latency.load(0, NONE, soon)));
        let later = soon + Duration::from_secs(60);
        latency.observe(Duration::from_millis(100), later);
        assert!((0.1..0.2).contains(&latency.load(0, NONE, later)));
    }

    #[test]
    fn requests_in_flight_weigh() {
        let (mut latency, now) = (Latency::default(), Instant::now());
        latency.observe(Duration::from_secs(1), now);
        assert!((latency.load(3, NONE, now) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn of_two_picked_at_random_the_less_loaded_goes_first() {
        let loads = [5.0, 1.0, 3.0];
        let pick = |numbers: [usize; 2]| {
            let mut numbers = numbers.into_iter();
            order(&[0, 0, 0], |place| loads[place], |_| numbers.next().unwrap())
        };
        assert_eq!(pick([0, 0]), [1, 2, 0]);
        assert_eq!(pick([0, 1]), [2, 1, 0]);
        assert_eq!(pick([2, 1]), [1, 2, 0]);
    }

    proptest! {
        #[test]
        fn only_equals_change_places(groups in prop::collection::vec(0..4_usize, 0..8), seed in any::<u64>()) {
            let mut groups = groups;
            groups.sort_unstable();
            let mut state = seed;
            let random = |below: usize| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as usize % below
            };
            let places = order(&groups, |place| place as f64, random);
            let moved: Vec<usize> = places.iter().map(|place| groups[*place]).collect();
            prop_assert_eq!(&moved, &groups);
            let mut sorted = places;
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (0..groups.len()).collect::<Vec<_>>());
        }
    }
}
