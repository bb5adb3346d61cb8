//! The targets of a plan are asked in turn, each as often as it makes sense, until one answers: docs/FAILOVER.md.

use super::admission::{self, Held, Place};
use super::asking::{Asking, Before};
use super::attempt::{self, Live, Terms};
use super::exchange::Exchange;
use super::leave::{Leave, NoLeave};
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

/// Asks the targets of a plan until one answers.
///
/// # Errors
/// The failure that helps the client most, when all have failed.
pub async fn first_answer(exchange: Arc<Exchange>, plan: Plan) -> Result<Live, Failure> {
    let targets = in_order(&exchange, plan.targets);
    let mut failover = Failover::new(&exchange, plan.class.as_deref(), &targets);
    let mut told: Option<Failure> = None;
    let mut shut_out = Vec::new();
    for (place, target) in targets.iter().enumerate() {
        if !failover.is_large_enough(target) {
            continue;
        }
        let is_last = place + 1 == targets.len();
        match failover.ask(target, is_last, false).await {
            Ok(live) => return Ok(live),
            Err(Unanswered::ShutOut(failure)) => {
                if !is_last || failover.has_asked {
                    exchange.not_asked(target, Outcome::Resting, Duration::ZERO, &failure.error);
                }
                shut_out.push((target, failure));
            }
            Err(Unanswered::Failed(failure)) => {
                if failure.outcome.disposition() == Disposition::Return {
                    return Err(exchange.with_attempts(Some(failure)));
                }
                told = Some(more_useful(told, failure));
            }
            Err(Unanswered::OutOfTime(failure)) => {
                told = Some(more_useful(told, failure));
                break;
            }
        }
    }
    let is_asked = failover.has_asked;
    for (target, failure) in shut_out {
        // Nobody is turned away on memory alone: a key may be good again.
        let failure = if is_asked {
            failure
        } else {
            match failover.ask(target, true, true).await {
                Ok(live) => return Ok(live),
                Err(Unanswered::Failed(failure) | Unanswered::OutOfTime(failure) | Unanswered::ShutOut(failure)) => {
                    failure
                }
            }
        };
        told = Some(more_useful(told, failure));
    }
    Err(exchange.with_attempts(told))
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
        let condition =
            targets.get(place).map(|target| exchange.gateway.conditions.of(&target.provider.name, &target.model));
        condition.map_or(f64::INFINITY, |condition| condition.load(now))
    };
    let order = balance::order(&groups, load, |below| fastrand::usize(..below));
    let mut ordered = order.into_iter().filter_map(|place| targets.get(place).cloned()).collect();
    // Another one may be the first now.
    without_forbidden_fallbacks(&mut ordered);
    ordered
}

/// Of two failures the one that helps the client more; of equal ones the first.
fn more_useful(told: Option<Failure>, failure: Failure) -> Failure {
    match told {
        Some(told) if told.usefulness() >= failure.usefulness() => told,
        _ => failure,
    }
}

/// Why a target gave no answer.
enum Unanswered {
    /// It was asked, or rests because it failed or asked for it.
    Failed(Failure),
    /// The time of all attempts ran out while it was asked; what it said before that, if it did.
    OutOfTime(Failure),
    /// It was not asked, because none of its keys is thought to be good.
    ShutOut(Failure),
}

/// One request on its way through the targets.
struct Failover<'a> {
    exchange: &'a Exchange,
    class: Option<&'a Class>,
    /// The end of the time of all attempts.
    budget_ends: Instant,
    /// Somebody has been asked.
    has_asked: bool,
    /// The prompt does not fit into so many tokens; 0 when that window is not known.
    too_small: Option<u64>,
}

impl<'a> Failover<'a> {
    fn new(exchange: &'a Exchange, class: Option<&str>, targets: &[Target]) -> Self {
        let class = class.and_then(|name| exchange.snapshot.classes.get(name));
        let of = |target: &Target| deadlines(exchange, class, target).budget;
        let budget = targets.iter().map(of).max().unwrap_or_default();
        let patience =
            exchange.timeout.map(|timeout| timeout.saturating_mul(u32::try_from(targets.len()).unwrap_or(1)));
        let budget = patience.map_or(budget, |patience| patience.min(budget));
        Self { exchange, class, budget_ends: exchange.started() + budget, has_asked: false, too_small: None }
    }

    /// A prompt that was too long for another target may fit into this one.
    fn is_large_enough(&self, target: &Target) -> bool {
        let Some(too_small) = self.too_small else { return true };
        self.exchange.gateway.window(self.exchange, target).is_some_and(|window| window > too_small)
    }

    /// Asks one target when it has a place for the request. `regardless`: with a key that is thought to be bad.
    async fn ask(&mut self, target: &Target, is_last: bool, regardless: bool) -> Result<Live, Unanswered> {
        let admitted = admission::enter(self.exchange, target, self.class, is_last, self.budget_ends).await;
        let Place { permit, waited } = admitted.map_err(Unanswered::Failed)?;
        let held = Held::new(permit);
        let asked = self.ask_admitted(target, is_last, regardless, waited).await;
        if let Err(Unanswered::Failed(failure) | Unanswered::OutOfTime(failure)) = &asked
            && matches!(failure.outcome, Outcome::Timeout(_))
        {
            // It still works on what nobody waits for any more.
            drop(held);
            return asked;
        }
        let permit = held.answered();
        let live = asked?;
        self.exchange.keep_place(permit);
        Ok(live)
    }

    /// Asks one target, and again as long as that may help. `waited`: for its place.
    async fn ask_admitted(
        &mut self,
        target: &Target,
        is_last: bool,
        regardless: bool,
        mut waited: Duration,
    ) -> Result<Live, Unanswered> {
        let retry = self.exchange.snapshot.retry;
        let deadlines = deadlines(self.exchange, self.class, target);
        let is_impatient = self.waits_less(deadlines, own_deadlines(self.class, target));
        let terms = |credential| Terms { credential, deadlines, budget_ends: self.budget_ends };
        // Another key costs no retry.
        let spare_keys = u32::try_from(target.provider.keys.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let throttles = retry.attempts.saturating_add(spare_keys);
        let mut retries = 0;
        let mut last: Option<Failure> = None;
        loop {
            let leave = match Leave::of(self.exchange, target, regardless).await {
                Ok(leave) => leave,
                Err(NoLeave::Resting(rest)) if self.may_wait(rest, is_last, last.as_ref()) => {
                    // Not all who wait come back at the same instant.
                    waited += self.wait(Instant::from(rest.until) + retry.base.mul_f64(fastrand::f64())).await;
                    continue;
                }
                // What it said itself tells more than that it rests since.
                Err(no_leave) => {
                    return Err(match (last, no_leave) {
                        (Some(failure), _) | (None, NoLeave::Failed(failure)) => Unanswered::Failed(failure),
                        (None, NoLeave::ShutOut(failure)) => Unanswered::ShutOut(failure),
                        (None, NoLeave::Resting(rest)) => Unanswered::Failed(self.resting(target, rest)),
                    });
                }
            };
            self.has_asked = true;
            let before =
                Before { retry: last.is_some() || regardless, waited: std::mem::take(&mut waited), is_impatient };
            let (credential, asking) = Asking::begin(self.exchange, target, leave, before);
            let has_key = asking.has_key();
            let failure = match attempt::run(self.exchange, target, &terms(credential)).await {
                Ok(live) => {
                    asking.answered(live.facts());
                    return Ok(live);
                }
                Err(failure) => asking.failed(failure),
            };
            if failure.outcome == Outcome::Timeout(Phase::Budget) {
                return Err(Unanswered::OutOfTime(more_useful(last, failure)));
            }
            match failure.outcome.disposition() {
                Disposition::Retry if retries < retry.attempts && !failure.forbids_retry() => {
                    let backoff = retry.base.saturating_mul(1 << retries.min(16)).min(retry.cap);
                    let until = Instant::now() + backoff.mul_f64(fastrand::f64());
                    if until >= self.budget_ends {
                        return Err(Unanswered::Failed(failure));
                    }
                    retries += 1;
                    waited += self.wait(until).await;
                }
                // Another key is tried at once; without one the target rests now, and is waited for above.
                Disposition::Wait if retries < throttles && !regardless => retries += 1,
                Disposition::RotateKey if has_key && !regardless => {}
                Disposition::TryLarger => {
                    let window = self.exchange.gateway.window(self.exchange, target).unwrap_or(0);
                    self.too_small = self.too_small.max(Some(window));
                    return Err(Unanswered::Failed(failure));
                }
                Disposition::Return
                | Disposition::Retry
                | Disposition::Wait
                | Disposition::RotateKey
                | Disposition::TryNext => return Err(Unanswered::Failed(failure)),
            }
            last = Some(failure);
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

    /// Whether the end of a rest is waited for: the provider named it, it fits, and nobody else could answer sooner.
    fn may_wait(&self, rest: Rest, is_last: bool, own: Option<&Failure>) -> bool {
        let until: Instant = rest.until.into();
        if !rest.asked_for || until >= self.budget_ends {
            return false;
        }
        let was_told = own.is_some_and(|failure| failure.rest().is_some());
        is_last || (was_told && until <= Instant::now() + LONGEST_WAIT_BESIDE_OTHERS)
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
