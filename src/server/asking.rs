//! One attempt that is under way, and the answer that came of it: whoever has to know how it ended is told once.

use super::attempt::AnswerFacts;
use super::exchange::Exchange;
use super::leave::{self, Leave};
use super::supervision::{LocalWork, trial_of};
use crate::chat::{ChatError, Usage};
use crate::local::supervisor::Trial;
use crate::observe::{AttemptRecord, Operation};
use crate::provider::MLX_LOCAL;
use crate::route::{Admitted, Target};
use crate::upstream::auth::Credential;
use crate::upstream::{Failure, Outcome, Verdict};
use std::time::Duration;
use tokio::time::Instant;

/// A target without keys that is throttled and does not say for how long is left alone for so long.
const SHORT_REST: Duration = Duration::from_secs(1);

/// An attempt that is under way. Dropped before it is settled, it is written down as cancelled: the client has left.
pub struct Asking<'a> {
    exchange: &'a Exchange,
    target: &'a Target,
    key: Option<usize>,
    admitted: Option<Admitted>,
    work: Option<LocalWork>,
    began: Instant,
    before: Before,
}

/// What went before an attempt.
pub struct Before {
    /// The same target was asked already.
    pub retry: bool,
    /// What was waited for: a place, a backoff, a rest.
    pub waited: Duration,
    /// The client waits for less than the target's own limits.
    pub is_impatient: bool,
}

/// A target that answers: its attempt ends with its answer. Dropped before that, the client has left.
pub struct Answering {
    target: Target,
    key: Option<usize>,
    admitted: Admitted,
    work: Option<LocalWork>,
    is_impatient: bool,
}

impl<'a> Asking<'a> {
    /// Begins an attempt.
    pub fn begin(exchange: &'a Exchange, target: &'a Target, leave: Leave, before: Before) -> (Credential, Self) {
        let is_local = &*target.provider.name == MLX_LOCAL;
        let work = is_local.then(|| LocalWork::begin(&exchange.gateway));
        let (key, admitted) = (leave.key, Some(leave.admitted));
        let began = Instant::now();
        (leave.credential, Self { exchange, target, key, admitted, work, began, before })
    }

    /// It used a key of the provider's.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// It answers.
    pub fn answered(mut self, facts: &AnswerFacts) {
        let Some(mut admitted) = self.admitted.take() else { return };
        if let Some(key) = self.key {
            self.exchange.keys.works(&self.target.provider.name, key);
        }
        leave::tell(self.exchange, self.target, admitted.answers(Instant::now().into_std()));
        self.settle(Outcome::Ok, facts.status, None);
        let (key, work, is_impatient) = (self.key, self.work.take(), self.before.is_impatient);
        let answering = Answering { target: self.target.clone(), key, admitted, work, is_impatient };
        self.exchange.answered(self.target, facts, Some(answering));
    }

    /// It failed; gives the failure as the client may hear of it.
    pub fn failed(mut self, mut failure: Failure) -> Failure {
        let Some(admitted) = self.admitted.take() else { return failure };
        let impatient = self.before.is_impatient;
        tell_failure(self.exchange, self.target, self.key, admitted, &failure, impatient);
        if self.work.is_some() && self.exchange.operation == Operation::Chat {
            report_failure(self.exchange, &failure, impatient);
            if self.exchange.local_only && failure.outcome == Outcome::Unreachable {
                *failure.error = self.exchange.gateway.local_trouble();
            }
        }
        self.exchange.was_away(self.began.elapsed());
        self.settle(failure.outcome, failure.error.status, Some(&failure.error));
        self.exchange.record().upstream_request_id = super::reply::upstream_id(&failure.headers).map(str::to_owned);
        failure
    }

    fn settle(&self, outcome: Outcome, status: Option<u16>, error: Option<&ChatError>) {
        self.exchange.attempted(AttemptRecord {
            provider: self.target.provider.name.clone(),
            model: self.target.model.clone(),
            outcome: outcome.label(),
            status,
            retry: self.before.retry,
            waited: self.before.waited,
            began: self.began.duration_since(self.exchange.started()),
            millis: self.began.elapsed().as_millis() as u64,
            error: error.map(|error| error.message.clone()),
        });
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.admitted.is_some() {
            self.settle(Outcome::Cancelled, None, None);
        }
    }
}

impl Answering {
    /// The end of the answer.
    pub fn ended(self, exchange: &Exchange, usage: Option<&Usage>, failure: Option<&Failure>) {
        if self.work.is_some() && exchange.operation == Operation::Chat {
            match failure {
                // An answer without a token proves nothing.
                None if usage.is_some_and(|usage| usage.output > 0) => {
                    exchange.gateway.directory.has_chatted(&self.target.model);
                    exchange.gateway.supervision.traffic(Trial::Served);
                }
                None => {}
                Some(failure) => report_failure(exchange, failure, self.is_impatient),
            }
        }
        let Some(failure) = failure else {
            let change = self.admitted.judge(Verdict::Alive, None, Instant::now().into_std());
            return leave::tell(exchange, &self.target, change);
        };
        // An error in the middle of a stream counts like the status that it names.
        exchange.broke_off(failure.outcome);
        tell_failure(exchange, &self.target, self.key, self.admitted, failure, self.is_impatient);
    }
}

/// Tells the breaker and the key what a failure means for them. The limit of an impatient client says nothing of the target.
fn tell_failure(
    exchange: &Exchange,
    target: &Target,
    key: Option<usize>,
    admitted: Admitted,
    failure: &Failure,
    is_impatient: bool,
) {
    let verdict = match failure.outcome {
        Outcome::Timeout(_) if is_impatient => Verdict::Unknown,
        outcome => outcome.verdict(),
    };
    let rest = match key {
        // A throttled key rests by itself, and others of its provider may serve.
        Some(_) if failure.outcome == Outcome::RateLimited => None,
        None if failure.outcome == Outcome::RateLimited => Some(failure.rest().unwrap_or(SHORT_REST)),
        _ => failure.rest(),
    };
    leave::tell(exchange, target, admitted.judge(verdict, rest, Instant::now().into_std()));
    if let Some(key) = key {
        leave::keep_key(exchange, target, key, failure);
    }
}

/// Tells the supervisor that the local server failed, unless it was the request's own fault or impatience.
fn report_failure(exchange: &Exchange, failure: &Failure, is_impatient: bool) {
    match trial_of(failure) {
        Some(Trial::TimedOut) if is_impatient => {}
        Some(trial) => exchange.gateway.supervision.traffic(trial),
        None => {}
    }
}
