//! The targets of a plan are asked in turn, each as often as it makes sense, until one answers: docs/FAILOVER.md.

use super::admission::{self, Held, NoPlace, Place};
use super::asking::{Asking, Before};
use super::attempt::{self, Live, Terms};
use super::count_tokens;
use super::exchange::Exchange;
use super::leave::{Leave, NoLeave};
use super::turns::{Back, Turn, Turns, Unanswered};
use crate::chat::{ChatError, ErrorKind};
use crate::config::classes::Class;
use crate::provider::Deadlines;
use crate::route::{Plan, Rest, Target, balance, without_forbidden_fallbacks};
use crate::upstream::{Disposition, Failure, Outcome, Phase};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// A target's own word on when to come back is waited for so long while there is another target to ask.
const LONGEST_WAIT_BESIDE_OTHERS: Duration = Duration::from_secs(30);

/// Of equal targets one at which a request must wait for a place goes behind one at which it need not.
const MUST_WAIT: f64 = 1e9;

/// Asks the targets of a plan until one answers.
///
/// # Errors
/// The failure that helps the client most, when all have failed.
pub async fn first_answer(exchange: Arc<Exchange>, plan: Plan) -> Result<Live, Failure> {
    let targets = in_order(&exchange, plan.targets);
    let mut failover = Failover::new(&exchange, plan.class.as_deref(), &targets);
    while let Some(mut turn) = failover.turns.next() {
        match failover.ask(&mut turn).await {
            Ok(live) => return Ok(live),
            Err(unanswered) => {
                if !failover.turns.goes_on(turn, unanswered) {
                    break;
                }
            }
        }
    }
    Err(exchange.with_attempts(failover.turns.told()))
}

/// The targets as they are to be asked: equal ones by how busy and quick they are.
fn in_order(exchange: &Exchange, targets: Vec<Target>) -> Vec<Target> {
    if targets.iter().all(|target| target.equals.is_none()) {
        return targets;
    }
    let now = Instant::now().into_std();
    // A target without a number is a group of its own.
    let group = |(place, target): (usize, &Target)| target.equals.ok_or(place);
    let groups: Vec<Result<usize, usize>> = targets.iter().enumerate().map(group).collect();
    let load = |place: usize| {
        let Some(target) = targets.get(place) else { return f64::INFINITY };
        let condition = exchange.gateway.conditions.of(&target.provider.name, &target.model);
        match admission::queued(exchange, target) {
            None => condition.load(0, now),
            Some(waiting) => MUST_WAIT + condition.load(waiting, now),
        }
    };
    let order = balance::order(&groups, load, |below| fastrand::usize(..below));
    let mut ordered = order.into_iter().filter_map(|place| targets.get(place).cloned()).collect();
    // Another one may be the first now.
    without_forbidden_fallbacks(&mut ordered);
    ordered
}

/// One request on its way through the targets.
struct Failover<'a> {
    exchange: &'a Exchange,
    class: Option<&'a Class>,
    turns: Turns<'a>,
    /// The end of the time of all attempts.
    budget_ends: Instant,
}

/// Whether a target that failed is asked again by the same turn.
enum Again {
    No,
    AtOnce,
    At(Instant),
}

impl<'a> Failover<'a> {
    fn new(exchange: &'a Exchange, class: Option<&str>, targets: &'a [Target]) -> Self {
        let class = class.and_then(|name| exchange.snapshot.classes.get(name));
        let of = |target: &Target| deadlines(exchange, class, target).budget;
        let budget = targets.iter().map(of).max().unwrap_or_default();
        let patience =
            exchange.timeout.map(|timeout| timeout.saturating_mul(u32::try_from(targets.len()).unwrap_or(1)));
        let budget = patience.map_or(budget, |patience| patience.min(budget));
        Self { exchange, class, turns: Turns::new(exchange, targets), budget_ends: exchange.started() + budget }
    }

    /// The time of all attempts is over.
    fn is_over(&self) -> bool {
        Instant::now() >= self.budget_ends
    }

    /// The end of the time that the client gives a target that is asked now.
    fn own_end(&self) -> Instant {
        let own = self.exchange.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        own.map_or(self.budget_ends, |own| own.min(self.budget_ends))
    }

    /// Asks one target when it has a place for the request, unless it needs not be asked.
    async fn ask(&mut self, turn: &mut Turn<'a>) -> Result<Live, Unanswered> {
        let Turn { target, is_last, .. } = *turn;
        if count_tokens::is_estimated(self.exchange, target) {
            return count_tokens::estimate(self.exchange, target).map_err(Unanswered::Failed);
        }
        let rested = match turn.from {
            Some(from) => self.wait(self.spread(from)).await,
            None => Duration::ZERO,
        };
        if self.is_over() {
            return Err(turn.out_of_time());
        }
        let ends = turn.until.map_or(self.budget_ends, |until| until.min(self.budget_ends));
        let admitted = admission::enter(self.exchange, target, self.class, is_last, ends).await;
        let Place { permit, waited } = admitted.map_err(|no_place| match no_place {
            NoPlace::Spilled(failure) => Unanswered::Later(Back::Busy, failure),
            NoPlace::Failed(failure) if turn.until.is_some_and(|until| until <= Instant::now()) => {
                Unanswered::Later(Back::Busy, failure)
            }
            NoPlace::Resting(rest) => self.rests(target, rest, None),
            NoPlace::Failed(failure) => Unanswered::Failed(failure),
        })?;
        let held = Held::new(permit);
        match self.ask_admitted(turn, rested + waited).await {
            Ok(live) => {
                held.keep(self.exchange);
                Ok(live)
            }
            Err(unanswered) => {
                if !turn.tried.is_left_working {
                    held.free();
                }
                Err(unanswered)
            }
        }
    }

    /// Asks one target, and again as long as that may help. `waited`: for its place.
    async fn ask_admitted(&mut self, turn: &mut Turn<'a>, mut waited: Duration) -> Result<Live, Unanswered> {
        let Turn { target, is_last, regardless, .. } = *turn;
        let deadlines = deadlines(self.exchange, self.class, target);
        let is_impatient = self.waits_less(deadlines, own_deadlines(self.class, target));
        let terms = |credential| Terms { credential, deadlines, budget_ends: self.budget_ends };
        let began = Instant::now();
        // It has just said when to come back.
        let mut was_told = false;
        loop {
            // A call that is begun is on its way before anybody looks at the time.
            if self.is_over() {
                return Err(turn.out_of_time());
            }
            let leave = match Leave::of(self.exchange, target, regardless, self.own_end()).await {
                Ok(leave) => leave,
                Err(NoLeave::Resting(rest)) if self.waits_here(rest, is_last, was_told) => {
                    waited += self.wait(self.spread(rest.until.into())).await;
                    continue;
                }
                Err(no_leave) => return Err(self.no_leave(turn, no_leave)),
            };
            self.turns.asked(regardless);
            let retry = std::mem::replace(&mut turn.tried.was_asked, true);
            let before = Before { retry, waited: std::mem::take(&mut waited), is_impatient };
            let (credential, asking) = Asking::begin(self.exchange, target, leave, before);
            let has_key = asking.has_key();
            let failure = match attempt::run(self.exchange, target, &terms(credential)).await {
                Ok(live) => {
                    asking.answered(live.facts());
                    return Ok(live);
                }
                Err(failure) => asking.failed(failure),
            };
            turn.tried.is_left_working = matches!(failure.outcome, Outcome::Timeout(_));
            if failure.outcome == Outcome::Timeout(Phase::Budget) {
                return Err(Unanswered::OutOfTime(turn.tried.says(failure)));
            }
            match failure.outcome.disposition() {
                Disposition::Return => return Err(Unanswered::Failed(failure)),
                Disposition::TryLarger => {
                    self.turns.does_not_fit(target);
                    return Err(Unanswered::Failed(failure));
                }
                _ => {}
            }
            was_told = failure.outcome == Outcome::RateLimited && failure.rest().is_some();
            let again = self.again(turn, &failure, has_key, began);
            let said = turn.tried.says(failure);
            if matches!(again, Again::No) {
                return Err(Unanswered::Failed(said));
            }
            turn.tried.said = Some(said);
            if let Again::At(until) = again {
                waited += self.wait(until).await;
            }
        }
    }

    /// Whether the target of this turn is asked again after `failure`. `has_key`: it was asked with a key of the provider's.
    fn again(&self, turn: &mut Turn<'a>, failure: &Failure, has_key: bool, began: Instant) -> Again {
        let Turn { target, regardless, tried, .. } = turn;
        let retry = self.exchange.snapshot.retry;
        // Another key costs no retry.
        let spare_keys = u32::try_from(target.provider.keys.len().saturating_sub(1)).unwrap_or(u32::MAX);
        match failure.outcome.disposition() {
            Disposition::Retry => {
                let longest = retry.base.saturating_mul(1 << tried.retries.min(16)).min(retry.cap);
                let until = Instant::now() + longest.mul_f64(fastrand::f64());
                tried.retries += 1;
                // The others have a right to as much of the client's time.
                let has_time = self.exchange.timeout.is_none_or(|timeout| began.elapsed() < timeout);
                let may_retry = tried.retries <= retry.attempts && !failure.forbids_retry();
                if may_retry && has_time && until < self.budget_ends { Again::At(until) } else { Again::No }
            }
            // Another key is tried at once; without one the target rests now, and is waited for before it is asked.
            Disposition::Wait => {
                tried.retries += 1;
                let is_one_more = tried.retries <= retry.attempts.saturating_add(spare_keys);
                if is_one_more && !*regardless { Again::AtOnce } else { Again::No }
            }
            // A key that works for others may be thought good again at once; it was shown all the same.
            Disposition::RotateKey => {
                tried.rotations += 1;
                if has_key && !*regardless && tried.rotations <= spare_keys { Again::AtOnce } else { Again::No }
            }
            Disposition::TryLarger | Disposition::TryNext | Disposition::Return => Again::No,
        }
    }

    /// Why a target gave no answer that may not be called now. What it said itself tells more than that it rests since.
    fn no_leave(&self, turn: &mut Turn<'a>, no_leave: NoLeave) -> Unanswered {
        match (turn.tried.said.take(), no_leave) {
            (said, NoLeave::Resting(rest)) => self.rests(turn.target, rest, said),
            (Some(failure), _) => Unanswered::Failed(failure),
            (None, NoLeave::Failed(failure)) => {
                self.exchange.not_asked(turn.target, Outcome::Resting, Duration::ZERO, &failure.error);
                Unanswered::Failed(failure)
            }
            (None, NoLeave::ShutOut(failure)) => Unanswered::ShutOut(failure),
        }
    }

    /// The client has shortened what an answer of its kind may take.
    fn waits_less(&self, limits: Deadlines, own: Deadlines) -> bool {
        if self.exchange.stream {
            limits.first_token < own.first_token || limits.idle < own.idle
        } else {
            limits.whole_answer < own.whole_answer
        }
    }

    /// The end of a rest may be waited for: the provider named it, and it fits.
    fn may_wait(&self, rest: Rest) -> bool {
        rest.asked_for && Instant::from(rest.until) < self.budget_ends
    }

    /// Whether the end of a rest is waited for now: nobody else could answer sooner, or the target has just said when it can.
    fn waits_here(&self, rest: Rest, is_last: bool, was_told: bool) -> bool {
        let until = Instant::from(rest.until);
        let is_soon = until <= Instant::now() + LONGEST_WAIT_BESIDE_OTHERS;
        let is_first = self.turns.first_back().is_none_or(|back| back >= until);
        self.may_wait(rest) && is_first && (is_last || (was_told && is_soon))
    }

    /// A target that rests and is not waited for now. `said`: what it answered, if it was asked.
    fn rests(&self, target: &Target, rest: Rest, said: Option<Failure>) -> Unanswered {
        let failure = said.unwrap_or_else(|| self.resting(target, rest));
        let until = Instant::from(rest.until);
        match rest.asked_for {
            _ if until >= self.budget_ends => Unanswered::Failed(failure),
            true => Unanswered::Later(Back::At(until), failure),
            false => Unanswered::Later(Back::Perhaps(until), failure),
        }
    }

    /// When whoever waits for the end of a rest comes back: not all at the same instant, and none after its time.
    fn spread(&self, until: Instant) -> Instant {
        let longest = self.exchange.snapshot.retry.base;
        let spread = longest.min(self.budget_ends.saturating_duration_since(until) / 2);
        until + spread.mul_f64(fastrand::f64())
    }

    /// Waits, and tells how long.
    async fn wait(&self, until: Instant) -> Duration {
        let began = Instant::now();
        sleep_until(until).await;
        let waited = began.elapsed();
        self.exchange.was_away(waited);
        waited
    }

    /// The failure of a target that is not asked because it rests.
    fn resting(&self, target: &Target, rest: Rest) -> Failure {
        let wait = rest.until.saturating_duration_since(Instant::now().into_std());
        let (kind, why) = if rest.asked_for {
            (ErrorKind::RateLimited, "asked for a rest")
        } else {
            (ErrorKind::Unavailable, "has failed too often")
        };
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        let message = format!(
            "{target} {why} and is left alone for {seconds} s. Ask again then, or name `fallbacks`; `bifrost status` shows what rests."
        );
        let error = ChatError { retry_after: Some(wait), ..ChatError::new(kind, message).with_code("target_resting") };
        self.exchange.not_asked(target, Outcome::Resting, Duration::ZERO, &error);
        Failure::new(Outcome::Resting, error)
    }
}

/// The limits of time of a target for this request: its own, which the client may shorten.
fn deadlines(exchange: &Exchange, class: Option<&Class>, target: &Target) -> Deadlines {
    let own = own_deadlines(class, target);
    exchange.timeout.map_or(own, |timeout| own.at_most(timeout))
}

/// The limits of time of a target, before which the class's word goes.
fn own_deadlines(class: Option<&Class>, target: &Target) -> Deadlines {
    let own = target.provider.deadlines;
    class.map_or(own, |class| class.deadlines.over(own))
}
