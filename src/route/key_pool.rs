//! The keys of one provider: which is used next, which rest, and which are dead. Pure.

use super::breaker::Rest;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A key that may not use a model is not tried with it again for so long.
pub const FORBIDDEN: Duration = Duration::from_secs(600);
/// A key whose quota or credit is used up rests for so long: it may be filled up again.
pub const USED_UP: Duration = Duration::from_secs(600);
/// A key that was throttled without a word on how long rests for so long.
pub const THROTTLED: Duration = Duration::from_secs(5);
/// A key rests for so many models at a time: a provider may throttle names that are no model's, and clients can invent many.
const MOST_RESTS: usize = 256;

/// The keys of one provider.
#[derive(Debug, Clone)]
pub struct KeyPool {
    keys: Vec<Key>,
}

#[derive(Debug, Clone)]
struct Key {
    weight: i64,
    /// Of the smooth weighted round robin.
    credit: i64,
    /// The provider refused it; it is not used until the configuration is read again.
    dead: bool,
    /// Until when it is not used with any model.
    rests: Option<Rest>,
    /// Until when it is not used with a model.
    rests_for: HashMap<String, Rest>,
}

/// A key, or why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The key at this place of the config.
    Use(usize),
    /// All that are alive rest; the first is back then.
    Rest(Rest),
    /// All were refused.
    Dead,
}

impl KeyPool {
    /// Keys with their weights, in the order of the config.
    pub fn new(weights: Vec<u32>) -> Self {
        let key =
            |weight| Key { weight: i64::from(weight), credit: 0, dead: false, rests: None, rests_for: HashMap::new() };
        Self { keys: weights.into_iter().map(key).collect() }
    }

    /// The next key for `model`, in turn by their weights (nginx's smooth weighted round robin).
    pub fn choose(&mut self, model: &str, now: Instant) -> Choice {
        let mut back: Option<Rest> = None;
        let mut total = 0;
        let mut best: Option<(usize, i64)> = None;
        for (place, key) in self.keys.iter_mut().enumerate().filter(|(_, key)| !key.dead) {
            if let Some(rest) = key.rest(model, now) {
                back = Some(back.map_or(rest, |known| known.min(rest)));
                continue;
            }
            key.credit += key.weight;
            total += key.weight;
            if best.is_none_or(|(_, credit)| key.credit > credit) {
                best = Some((place, key.credit));
            }
        }
        match (best, back) {
            (Some((place, _)), _) => {
                if let Some(key) = self.keys.get_mut(place) {
                    key.credit -= total;
                }
                Choice::Use(place)
            }
            (None, Some(rest)) => Choice::Rest(rest),
            (None, None) => Choice::Dead,
        }
    }

    /// When the first of the keys that are alive is back for `model`; `None` if one is good now, or all are dead.
    pub fn all_rest(&self, model: &str, now: Instant) -> Option<Rest> {
        let rests: Option<Vec<Rest>> =
            self.keys.iter().filter(|key| !key.dead).map(|key| key.rest(model, now)).collect();
        rests?.into_iter().min()
    }

    /// A key is not used for a while: with one model, or with any.
    pub fn rest(&mut self, place: usize, model: Option<&str>, rest: Rest, now: Instant) {
        let Some(key) = self.keys.get_mut(place) else { return };
        match model {
            Some(model) => {
                // Nobody else removes rests that are over.
                key.rests_for.retain(|_, rest| rest.until > now);
                key.make_place(model);
                let known = key.rests_for.entry(model.to_owned()).or_insert(rest);
                *known = rest.max(*known);
            }
            None => key.rests = key.rests.max(Some(rest)),
        }
    }

    /// Takes over what the provider asked for of a key that was in another pool before.
    pub fn keep_rests(&mut self, place: usize, before: &Self, place_before: usize, now: Instant) {
        let (Some(key), Some(known)) = (self.keys.get_mut(place), before.keys.get(place_before)) else { return };
        let holds = |rest: &Rest| rest.asked_for && rest.until > now;
        key.rests = known.rests.filter(holds);
        let rests_for = known.rests_for.iter().filter(|(_, rest)| holds(rest));
        key.rests_for = rests_for.map(|(model, rest)| (model.clone(), *rest)).collect();
    }

    /// The places of the keys that are not used now, with the longest rest of each; `None` for a dropped one.
    pub fn out_of_use(&self, now: Instant) -> Vec<(usize, Option<Rest>)> {
        let rest = |key: &Key| {
            let longest = key.rests.max(key.rests_for.values().max().copied()).filter(|rest| rest.until > now);
            if key.dead { Some(None) } else { longest.map(Some) }
        };
        self.keys.iter().enumerate().filter_map(|(place, key)| Some((place, rest(key)?))).collect()
    }

    /// A key has worked: it is not dead, whatever was thought.
    pub fn works(&mut self, place: usize) {
        if let Some(key) = self.keys.get_mut(place) {
            key.dead = false;
        }
    }

    /// A key was refused and is not used again.
    pub fn drop_key(&mut self, place: usize) {
        if let Some(key) = self.keys.get_mut(place) {
            key.dead = true;
        }
    }
}

impl Key {
    /// Forgets the rest that ends first where one more would be too many.
    fn make_place(&mut self, model: &str) {
        if self.rests_for.len() < MOST_RESTS || self.rests_for.contains_key(model) {
            return;
        }
        let first = self.rests_for.iter().min_by_key(|(_, rest)| rest.until).map(|(model, _)| model.clone());
        first.map(|model| self.rests_for.remove(&model));
    }

    fn rest(&self, model: &str, now: Instant) -> Option<Rest> {
        let of_model = self.rests_for.get(model).copied();
        self.rests.max(of_model).filter(|rest| rest.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(pool: &mut KeyPool, now: Instant, times: usize) -> Vec<usize> {
        let one = |_| match pool.choose("m", now) {
            Choice::Use(place) => place,
            other => panic!("{other:?}"),
        };
        (0..times).map(one).collect()
    }

    #[test]
    fn keys_are_used_in_turn_by_their_weights() {
        let mut pool = KeyPool::new(vec![3, 1]);
        let mut used = chosen(&mut pool, Instant::now(), 8);
        assert_ne!(used[..4], [0, 0, 0, 1], "the lighter one does not wait for the end");
        used.sort_unstable();
        assert_eq!(used, [0, 0, 0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn a_key_rests_for_one_model_and_serves_the_others() {
        let (mut pool, now) = (KeyPool::new(vec![1, 1]), Instant::now());
        let later = now + Duration::from_secs(9);
        let rest = Rest { until: later, asked_for: true };
        pool.rest(0, Some("m"), rest, now);
        assert_eq!(chosen(&mut pool, now, 3), [1, 1, 1]);
        assert_eq!(pool.out_of_use(now), [(0, Some(rest))]);
        assert_eq!(pool.choose("other", now), Choice::Use(0));
        pool.rest(1, None, Rest { until: later + Duration::from_secs(1), asked_for: false }, now);
        assert_eq!(pool.choose("m", now), Choice::Rest(rest));
        assert_eq!(pool.choose("m", later), Choice::Use(0));
    }

    #[test]
    fn a_dead_key_is_never_used_again() {
        let (mut pool, now) = (KeyPool::new(vec![1, 1]), Instant::now());
        pool.drop_key(1);
        assert_eq!(chosen(&mut pool, now + Duration::from_secs(1_000_000), 2), [0, 0]);
        assert_eq!(pool.out_of_use(now), [(1, None)]);
        pool.drop_key(0);
        assert_eq!(pool.choose("m", now), Choice::Dead);
        pool.works(1);
        assert_eq!(pool.choose("m", now), Choice::Use(1));
    }

    #[test]
    fn names_of_no_model_leave_no_more_rests_than_a_key_may_have() {
        let (mut pool, now) = (KeyPool::new(vec![1]), Instant::now());
        let rest = |seconds| Rest { until: now + Duration::from_secs(seconds), asked_for: true };
        pool.rest(0, Some("last"), rest(90_000), now);
        for index in 0..1_000 {
            pool.rest(0, Some(&format!("m{index}")), rest(80_000 + index), now);
        }
        assert_eq!(pool.keys[0].rests_for.len(), MOST_RESTS);
        assert_eq!(pool.choose("last", now), Choice::Rest(rest(90_000)), "the one that ends first makes place");
        assert_eq!(pool.choose("m999", now), Choice::Rest(rest(80_999)));
        assert_eq!(pool.choose("m0", now), Choice::Use(0));
    }

    #[test]
    fn rests_that_are_over_make_place() {
        let (mut pool, now) = (KeyPool::new(vec![1]), Instant::now());
        for index in 0..1_000_u64 {
            let now = now + Duration::from_secs(index * 60);
            pool.rest(0, Some(&format!("m{index}")), Rest { until: now + FORBIDDEN, asked_for: false }, now);
        }
        assert_eq!(pool.keys[0].rests_for.len(), 10);
    }
}
