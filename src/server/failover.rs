//! The targets of a plan are asked in turn, each as often as it makes sense, until one answers: docs/FAILOVER.md.

use super::admission::{self, Held, NoPlace, Place};
use super::asking::{Asking, Before};
use super::attempt::{self, Live, Terms};
use super::count_tokens;
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

/// Of equal targets one at which a request must wait for a place goes behind one at which it need not.
const MUST_WAIT: f64 = 1e9;

/// Asks the targets of a plan until one answers.
///
/// # Errors
/// The failure that helps the client most, when all have failed.
pub async fn first_answer(exchange: Arc<Exchange>, plan: Plan) -> Result<Live, Failure> {
    let targets = in_order(&exchange, plan.targets);
    let mut failover = Failover::new(&exchange, plan.class.as_deref(), &targets);
    while let Some(mut turn) = failover.next_turn() {
        match failover.ask(&mut turn).await {
            Ok(live) => return Ok(live),
            Err(unanswered) => {
                if !failover.goes_on(turn, unanswered) {
                    break;
                }
            }
        }
    }
    Err(exchange.with_attempts(failover.told()))
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

/// Of two failures the one that helps the client more; of equal ones the first.
fn more_useful(told: Option<Failure>, failure: Failure) -> Failure {
    match told {
        Some(told) if told.usefulness() >= failure.usefulness() => told,
        _ => failure,
    }
}

/// One target's turn to answer.
struct Turn<'a> {
    target: &'a Target,
    /// All others have had a turn.
    is_last: bool,
    /// It rests until then.
    from: Option<Instant>,
    /// Another one is back then.
    until: Option<Instant>,
    /// With a key that is thought to be bad.
    regardless: bool,
    tried: Tried,
}

/// What a request has tried at a target, in all of its turns.
#[derive(Default)]
struct Tried {
    was_asked: bool,
    retries: u32,
    /// Keys that were refused.
    rotations: u32,
    /// The most useful of what it said.
    said: Option<Failure>,
}

/// Why a target gave no answer.
enum Unanswered {
    /// It was asked, or rests because it failed or asked for it.
    Failed(Failure),
    /// It may answer later.
    Later(Back, Failure),
    /// The time of all attempts ran out while it was asked, or before it could be; what it said before that, if it did.
    OutOfTime(Failure),
    /// It was not asked, because none of its keys is thought to be good.
    ShutOut(Failure),
}

/// When a target may answer.
#[derive(Clone, Copy)]
enum Back {
    /// When a place comes free.
    Busy,
    /// After a rest that it asked for itself.
    At(Instant),
    /// After a rest that follows from its failures; it is waited for only while another one is.
    Perhaps(Instant),
}

impl Back {
    /// The end of a rest.
    fn at(self) -> Option<Instant> {
        match self {
            Self::Busy => None,
            Self::At(at) | Self::Perhaps(at) => Some(at),
        }
    }
}

/// One request on its way through the targets.
struct Failover<'a> {
    exchange: &'a Exchange,
    class: Option<&'a Class>,
    /// Those that have not had their turn.
    targets: std::slice::Iter<'a, Target>,
    /// Those that may answer later, and what is told of them if they get no other turn.
    later: Vec<(Back, Turn<'a>, Failure)>,
    /// Those that were not asked because of their keys.
    shut_out: Vec<(&'a Target, Failure)>,
    /// The most useful failure of the others.
    told: Option<Failure>,
    /// The end of the time of all attempts.
    budget_ends: Instant,
    /// Somebody has been asked whose key is not thought to be bad.
    has_asked: bool,
    /// The last attempt ran into a limit of time: its target still works on what nobody waits for any more.
    is_left_working: bool,
    /// The prompt does not fit into so many tokens; 0 when that window is not known.
    too_small: Option<u64>,
}

impl<'a> Failover<'a> {
    fn new(exchange: &'a Exchange, class: Option<&str>, targets: &'a [Target]) -> Self {
        let class = class.and_then(|name| exchange.snapshot.classes.get(name));
        let of = |target: &Target| deadlines(exchange, class, target).budget;
        let budget = targets.iter().map(of).max().unwrap_or_default();
        let patience =
            exchange.timeout.map(|timeout| timeout.saturating_mul(u32::try_from(targets.len()).unwrap_or(1)));
        let budget = patience.map_or(budget, |patience| patience.min(budget));
        Self {
            exchange,
            class,
            targets: targets.iter(),
            later: Vec::new(),
            shut_out: Vec::new(),
            told: None,
            budget_ends: exchange.started() + budget,
            has_asked: false,
            is_left_working: false,
            too_small: None,
        }
    }

    /// Whose turn it is: each target once in the order of the plan, then those that may answer later, then, if nobody has been
    /// asked, those whose keys are thought to be bad.
    fn next_turn(&mut self) -> Option<Turn<'a>> {
        let turn = |target, is_last, until, regardless| {
            let tried = Tried::default();
            Some(Turn { target, is_last, from: None, until, regardless, tried })
        };
        while let Some(target) = self.targets.next() {
            if self.is_large_enough(target) {
                let is_last = self.targets.len() == 0;
                return turn(target, is_last, self.first_back().filter(|_| is_last), false);
            }
        }
        if let Some(turn) = self.next_later() {
            return Some(turn);
        }
        // Nobody is turned away on memory alone: a key may be good again.
        while !self.has_asked && !self.shut_out.is_empty() {
            let (target, failure) = self.shut_out.remove(0);
            if self.is_large_enough(target) {
                return turn(target, true, None, true);
            }
            self.tell(failure);
        }
        None
    }

    /// Who is back first; a place may come free at any moment.
    fn next_later(&mut self) -> Option<Turn<'a>> {
        while self.later.iter().any(|(back, ..)| !matches!(back, Back::Perhaps(_))) {
            let now = Instant::now();
            let first = (0..self.later.len()).min_by_key(|place| self.later[*place].0.at().unwrap_or(now))?;
            let (back, mut turn, failure) = self.later.remove(first);
            if self.is_large_enough(turn.target) {
                // That it rested or was busy is nothing to tell any more.
                turn.tried.said = turn.tried.was_asked.then_some(failure);
                return Some(Turn { is_last: true, from: back.at(), until: self.first_back(), ..turn });
            }
            self.tell(failure);
        }
        None
    }

    /// When the first of those is back that rest.
    fn first_back(&self) -> Option<Instant> {
        self.later.iter().filter_map(|(back, ..)| back.at()).min()
    }

    /// Keeps in mind why a target gave no answer; false if no other is to be asked.
    fn goes_on(&mut self, turn: Turn<'a>, unanswered: Unanswered) -> bool {
        let Turn { target, is_last, regardless, .. } = turn;
        match unanswered {
            Unanswered::Failed(failure) if failure.outcome.disposition() == Disposition::Return => {
                self.told = Some(failure);
                self.later.clear();
                self.shut_out.clear();
                return false;
            }
            Unanswered::Failed(failure) => self.tell(failure),
            Unanswered::Later(back, failure) => self.later.push((back, turn, failure)),
            Unanswered::OutOfTime(failure) => {
                self.tell(failure);
                return false;
            }
            Unanswered::ShutOut(failure) if regardless => self.tell(failure),
            Unanswered::ShutOut(failure) => {
                if !is_last || self.has_asked {
                    self.exchange.not_asked(target, Outcome::Resting, Duration::ZERO, &failure.error);
                }
                self.shut_out.push((target, failure));
            }
        }
        true
    }

    fn tell(&mut self, failure: Failure) {
        self.told = Some(more_useful(self.told.take(), failure));
    }

    /// What the client is to hear when nobody has answered.
    fn told(mut self) -> Option<Failure> {
        let unasked = std::mem::take(&mut self.later).into_iter().map(|(_, _, failure)| failure);
        let shut_out = std::mem::take(&mut self.shut_out).into_iter().map(|(_, failure)| failure);
        unasked.chain(shut_out).for_each(|failure| self.tell(failure));
        self.told
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

    /// A prompt that was too long for another target may fit into this one.
    fn is_large_enough(&self, target: &Target) -> bool {
        let Some(too_small) = self.too_small else { return true };
        self.exchange.gateway.window(self.exchange, target).is_some_and(|window| window > too_small)
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
            return Err(Unanswered::OutOfTime(turn.tried.said.take().unwrap_or_else(|| out_of_time(target))));
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
        self.is_left_working = false;
        let asked = self.ask_admitted(turn, rested + waited).await;
        if self.is_left_working {
            drop(held);
            return asked;
        }
        let permit = held.answered();
        let live = asked?;
        if let Some(permit) = permit {
            self.exchange.keep_place(permit);
        }
        Ok(live)
    }

    /// Asks one target, and again as long as that may help. `waited`: for its place.
    async fn ask_admitted(&mut self, turn: &mut Turn<'a>, mut waited: Duration) -> Result<Live, Unanswered> {
        let Turn { target, is_last, regardless, tried, .. } = turn;
        let (target, is_last, regardless) = (*target, *is_last, *regardless);
        let retry = self.exchange.snapshot.retry;
        let deadlines = deadlines(self.exchange, self.class, target);
        let is_impatient = self.waits_less(deadlines, own_deadlines(self.class, target));
        let terms = |credential| Terms { credential, deadlines, budget_ends: self.budget_ends };
        // Another key costs no retry.
        let spare_keys = u32::try_from(target.provider.keys.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let throttles = retry.attempts.saturating_add(spare_keys);
        let began = Instant::now();
        // It has just said when to come back.
        let mut was_told = false;
        loop {
            // A call that is begun is on its way before anybody looks at the time.
            if self.is_over() {
                return Err(Unanswered::OutOfTime(tried.said.take().unwrap_or_else(|| out_of_time(target))));
            }
            let leave = match Leave::of(self.exchange, target, regardless, self.own_end()).await {
                Ok(leave) => leave,
                Err(NoLeave::Resting(rest)) if self.waits_here(rest, is_last, was_told) => {
                    waited += self.wait(self.spread(rest.until.into())).await;
                    continue;
                }
                // What it said itself tells more than that it rests since.
                Err(no_leave) => {
                    return Err(match (tried.said.take(), no_leave) {
                        (said, NoLeave::Resting(rest)) => self.rests(target, rest, said),
                        (Some(failure), _) => Unanswered::Failed(failure),
                        (None, NoLeave::Failed(failure)) => {
                            self.exchange.not_asked(target, Outcome::Resting, Duration::ZERO, &failure.error);
                            Unanswered::Failed(failure)
                        }
                        (None, NoLeave::ShutOut(failure)) => Unanswered::ShutOut(failure),
                    });
                }
            };
            self.has_asked |= !regardless;
            let retry_it = std::mem::replace(&mut tried.was_asked, true);
            let before = Before { retry: retry_it, waited: std::mem::take(&mut waited), is_impatient };
            let (credential, asking) = Asking::begin(self.exchange, target, leave, before);
            let has_key = asking.has_key();
            let failure = match attempt::run(self.exchange, target, &terms(credential)).await {
                Ok(live) => {
                    asking.answered(live.facts());
                    self.is_left_working = false;
                    return Ok(live);
                }
                Err(failure) => asking.failed(failure),
            };
            self.is_left_working = matches!(failure.outcome, Outcome::Timeout(_));
            if failure.outcome == Outcome::Timeout(Phase::Budget) {
                return Err(Unanswered::OutOfTime(more_useful(tried.said.take(), failure)));
            }
            was_told = failure.outcome == Outcome::RateLimited && failure.rest().is_some();
            let mut backoff = None;
            let is_asked_again = match failure.outcome.disposition() {
                Disposition::Retry => {
                    let longest = retry.base.saturating_mul(1 << tried.retries.min(16)).min(retry.cap);
                    let until = Instant::now() + longest.mul_f64(fastrand::f64());
                    backoff = Some(until);
                    tried.retries += 1;
                    // The others have a right to as much of the client's time.
                    let has_time = self.exchange.timeout.is_none_or(|timeout| began.elapsed() < timeout);
                    let may_retry = tried.retries <= retry.attempts && !failure.forbids_retry();
                    may_retry && has_time && until < self.budget_ends
                }
                // Another key is tried at once; without one the target rests now, and is waited for above.
                Disposition::Wait => {
                    tried.retries += 1;
                    tried.retries <= throttles && !regardless
                }
                // A key that works for others may be thought good again at once; it was shown all the same.
                Disposition::RotateKey => {
                    tried.rotations += 1;
                    has_key && !regardless && tried.rotations <= spare_keys
                }
                Disposition::TryLarger => {
                    let window = self.exchange.gateway.window(self.exchange, target).unwrap_or(0);
                    self.too_small = self.too_small.max(Some(window));
                    return Err(Unanswered::Failed(failure));
                }
                Disposition::Return => return Err(Unanswered::Failed(failure)),
                Disposition::TryNext => false,
            };
            let said = more_useful(tried.said.take(), failure);
            if !is_asked_again {
                return Err(Unanswered::Failed(said));
            }
            tried.said = Some(said);
            if let Some(until) = backoff {
                waited += self.wait(until).await;
            }
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
        let is_first = self.first_back().is_none_or(|back| back >= until);
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

/// The failure of a target for which no time was left. It tells less than any other.
fn out_of_time(target: &Target) -> Failure {
    let message = format!(
        "{target} was not asked: the time of all attempts was used up before. Ask again with more time: `budget` in [providers.{}.deadlines] or in the task class, and `x-bifrost-timeout-ms` where the request has it.",
        target.provider.name
    );
    Failure::new(Outcome::Busy, ChatError::new(ErrorKind::Timeout, message).with_code("budget_used_up"))
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
