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

/// An attempt that is under way. Dropped before it is settled, it is written down as cancelled: the client has left.
pub struct Asking<'a> {
    exchange: &'a Exchange,
    target: &'a Target,
    key: Option<usize>,
    admitted: Option<Admitted>,
    work: Option<LocalWork>,
    began: Instant,
    retry: bool,
    waited: Duration,
}

/// A target that answers: its attempt ends with its answer. Dropped before that, the client has left.
pub struct Answering {
    target: Target,
    key: Option<usize>,
    admitted: Admitted,
    work: Option<LocalWork>,
}

impl<'a> Asking<'a> {
    /// Begins an attempt. `waited` is what was waited for before it.
    pub fn begin(
        exchange: &'a Exchange,
        target: &'a Target,
        leave: Leave,
        retry: bool,
        waited: Duration,
    ) -> (Credential, Self) {
        let is_local = target.provider.name == MLX_LOCAL && exchange.operation == Operation::Chat;
        let work = is_local.then(|| LocalWork::begin(&exchange.gateway));
        let (key, admitted) = (leave.key, Some(leave.admitted));
        let began = Instant::now();
        (leave.credential, Self { exchange, target, key, admitted, work, began, retry, waited })
    }

    /// It used a key of the provider's.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// It answers.
    pub fn answered(mut self, facts: &AnswerFacts) {
        let Some(admitted) = self.admitted.take() else { return };
        if let Some(key) = self.key {
            self.exchange.keys.works(&self.target.provider.name, key);
        }
        leave::tell(self.exchange, self.target, admitted.answers(Instant::now().into_std()));
        self.settle(Outcome::Ok, None);
        let answering = Answering { target: self.target.clone(), key: self.key, admitted, work: self.work.take() };
        self.exchange.answered(self.target, facts, answering);
    }

    /// It failed; gives the failure as the client may hear of it.
    pub fn failed(mut self, mut failure: Failure) -> Failure {
        let Some(admitted) = self.admitted.take() else { return failure };
        let verdict = judged(self.exchange, self.target, failure.outcome);
        // A throttled key rests by itself, and others of its provider may serve.
        let rest = match self.key {
            Some(_) if failure.outcome == Outcome::RateLimited => None,
            _ if failure.outcome == Outcome::RateLimited => Some(failure.rest().unwrap_or(SHORT_REST)),
            _ => failure.rest(),
        };
        leave::tell(self.exchange, self.target, admitted.judge(verdict, rest, Instant::now().into_std()));
        if let Some(key) = self.key {
            leave::keep_key(self.exchange, self.target, key, &failure);
        }
        if self.work.is_some() {
            report_failure(self.exchange, self.target, &failure);
            if self.exchange.local_only && failure.outcome == Outcome::Unreachable {
                failure.error = self.exchange.gateway.local_trouble();
            }
        }
        self.exchange.was_away(self.began.elapsed());
        self.settle(failure.outcome, Some(&failure.error));
        self.exchange.record().upstream_request_id = super::reply::upstream_id(&failure.headers).map(str::to_owned);
        failure
    }

    fn settle(&self, outcome: Outcome, error: Option<&ChatError>) {
        self.exchange.attempted(AttemptRecord {
            provider: self.target.provider.name.clone(),
            model: self.target.model.clone(),
            outcome: outcome.label(),
            status: error.and_then(|error| error.status),
            retry: self.retry,
            waited: self.waited,
            began: self.began.duration_since(self.exchange.started()),
            millis: self.began.elapsed().as_millis() as u64,
            error: error.map(|error| error.message.clone()),
        });
    }
}

/// What is left alone of a target that is throttled and does not say for how long.
const SHORT_REST: Duration = Duration::from_secs(1);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.admitted.is_some() {
            self.settle(Outcome::Cancelled, None);
        }
    }
}

impl Answering {
    /// The end of the answer.
    pub fn ended(self, exchange: &Exchange, usage: Option<&Usage>, error: Option<&ChatError>) {
        let failure = error.map(|error| Failure::from_error(error.clone()));
        if self.work.is_some() {
            match &failure {
                // An answer without a token proves nothing.
                None if usage.is_some_and(|usage| usage.output > 0) => {
                    exchange.gateway.supervision.traffic(Trial::Served)
                }
                None => {}
                Some(failure) => report_failure(exchange, &self.target, failure),
            }
        }
        let (mut verdict, mut rest) = (Verdict::Alive, None);
        if let Some(failure) = failure {
            // An error in the middle of a stream counts like the status that it names.
            exchange.broke_off(failure.outcome);
            verdict = judged(exchange, &self.target, failure.outcome);
            rest = failure.rest().filter(|_| self.key.is_none() || failure.outcome != Outcome::RateLimited);
            if let Some(key) = self.key {
                leave::keep_key(exchange, &self.target, key, &failure);
            }
        }
        leave::tell(exchange, &self.target, self.admitted.judge(verdict, rest, Instant::now().into_std()));
    }
}

/// What an outcome says of its target. A client that is impatient says nothing.
fn judged(exchange: &Exchange, target: &Target, outcome: Outcome) -> Verdict {
    match outcome {
        Outcome::Timeout(_) if is_impatient(exchange, target) => Verdict::Unknown,
        outcome => outcome.verdict(),
    }
}

/// The client waits for less than the target's own limits.
fn is_impatient(exchange: &Exchange, target: &Target) -> bool {
    let deadlines = &target.provider.deadlines;
    let own = if exchange.stream { deadlines.first_token.min(deadlines.idle) } else { deadlines.whole_answer };
    exchange.timeout.is_some_and(|timeout| timeout < own)
}

/// Tells the supervisor that the local server failed, unless it was the request's own fault or impatience.
fn report_failure(exchange: &Exchange, target: &Target, failure: &Failure) {
    match trial_of(failure) {
        Some(Trial::TimedOut) if is_impatient(exchange, target) => {}
        Some(trial) => exchange.gateway.supervision.traffic(trial),
        None => {}
    }
}
