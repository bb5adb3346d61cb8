//! What ends a call from outside: its deadlines, and local-only mode.

use super::outcome::{Failure, Outcome, Phase};
use crate::chat::{ChatError, ErrorKind};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::coop;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Ends a call at its deadlines, or as soon as the cloud is forbidden.
pub struct Limits {
    provider: Arc<str>,
    /// `None` where local-only mode ends nothing: on this machine.
    revoked: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    alarm: Alarm,
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl Limits {
    /// The limits of one call of `provider`; `revoked` ends when the cloud is forbidden. An `alarm` that is set already costs
    /// less than a new one.
    pub fn new(provider: Arc<str>, revoked: Option<&CancellationToken>, alarm: Alarm) -> Self {
        let revoked = revoked.map(|token| Box::pin(token.clone().cancelled_owned()));
        Self { provider, revoked, alarm }
    }

    /// The alarm, for the next call.
    pub fn take_alarm(&mut self) -> Alarm {
        std::mem::take(&mut self.alarm)
    }

    /// The provider's name, for messages.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// Runs `work` until the deadline, or until the cloud is forbidden.
    ///
    /// # Errors
    /// One of them came first.
    pub async fn within<T>(
        &mut self,
        deadline: Instant,
        phase: Phase,
        mut work: impl Future<Output = T> + Unpin,
    ) -> Result<T, Failure> {
        std::future::poll_fn(|cx| self.poll_within(cx, deadline, phase, |cx| Pin::new(&mut work).poll(cx))).await
    }

    /// The failure once the deadline has passed. Of several works under one deadline each is begun after a look: they may
    /// all be done at once, and then no timer rings.
    pub fn passed(&self, deadline: Instant, phase: Phase) -> Option<Failure> {
        (Instant::now() >= deadline).then(|| self.too_late(phase))
    }

    fn too_late(&self, phase: Phase) -> Failure {
        Failure::new(Outcome::Timeout(phase), timed_out(&self.provider, phase))
    }

    /// Polls `work` until the deadline, or until the cloud is forbidden.
    pub fn poll_within<T>(
        &mut self,
        cx: &mut Context<'_>,
        deadline: Instant,
        phase: Phase,
        work: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<Result<T, Failure>> {
        // First, or a provider that always has more to say would never be interrupted.
        if let Some(revoked) = &mut self.revoked
            && revoked.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(switched_off(&self.provider)));
        }
        if let Poll::Ready(done) = work(cx) {
            return Poll::Ready(Ok(done));
        }
        ready!(self.alarm.poll(cx, deadline));
        Poll::Ready(Err(self.too_late(phase)))
    }
}

/// One timer for a row of deadlines. A deadline that moves later costs nothing: the timer rings early and is set again.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `deadline` has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        }
        loop {
            if sleep.as_mut().poll(cx).is_pending() {
                // A task that has had its turn is told of no timer, and who always has more to say uses it up every time.
                let is_told = coop::has_budget_remaining();
                return if is_told || Instant::now() < deadline { Poll::Pending } else { Poll::Ready(()) };
            }
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

fn switched_off(provider: &str) -> Failure {
    let message = format!(
        "Local-only mode was switched on while {provider} was answering; the answer was ended. Ask again: the local server will answer."
    );
    let error = ChatError::new(ErrorKind::Unavailable, message).with_code("local_only_switched_on");
    Failure::new(Outcome::Cancelled, error)
}

/// What the client is told of a deadline that passed.
pub fn timed_out(provider: &str, phase: Phase) -> ChatError {
    let what = match phase {
        Phase::Connect => "did not take the connection in time",
        Phase::FirstToken => "sent no first token in time",
        Phase::Idle => "stopped in the middle of its answer",
        Phase::WholeAnswer => "did not finish its answer in time",
        Phase::Budget => "had not answered when the time of all attempts was used up",
    };
    let message = format!(
        "{provider} {what}. Ask again, ask for a stream, or raise the limit in the config ([providers.{provider}] deadlines)."
    );
    ChatError::new(ErrorKind::Timeout, message).with_code("upstream_timeout")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_provider_that_always_has_more_to_say_is_interrupted_all_the_same() {
        let revoked = CancellationToken::new();
        let mut limits = Limits::new(Arc::from("p"), Some(&revoked), Alarm::default());
        let deadline = Instant::now() + Duration::from_secs(60);
        let said = limits.within(deadline, Phase::Idle, std::future::ready(1)).await;
        assert!(matches!(said, Ok(1)));
        revoked.cancel();
        let said = limits.within(deadline, Phase::Idle, std::future::ready(1)).await;
        assert!(matches!(said, Err(failure) if failure.outcome == Outcome::Cancelled));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_holds_for_who_always_has_more_to_say() {
        let mut limits = Limits::new(Arc::from("p"), None, Alarm::default());
        let deadline = Instant::now() + Duration::from_secs(1);
        tokio::time::advance(Duration::from_secs(2)).await;
        for _ in 0..1_000 {
            // As of a socket that always has bytes: they are there until the task has had its turn.
            let more = std::future::poll_fn(|cx| coop::poll_proceed(cx).map(|turn| turn.made_progress()));
            if let Err(failure) = limits.within(deadline, Phase::FirstToken, more).await {
                return assert_eq!(failure.outcome, Outcome::Timeout(Phase::FirstToken));
            }
        }
        panic!("it was never interrupted");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_may_move_both_ways() {
        let mut limits = Limits::new(Arc::from("p"), None, Alarm::default());
        let start = Instant::now();
        for (after, rings) in [(60, 60), (65, 65), (200, 200), (201, 201)] {
            let deadline = start + Duration::from_secs(after);
            let said = limits.within(deadline, Phase::Idle, std::future::pending::<()>()).await;
            assert!(matches!(said, Err(failure) if failure.outcome == Outcome::Timeout(Phase::Idle)));
            assert_eq!(start.elapsed().as_secs(), rings);
        }
        // Armed for a late one and not waited for, then an early one comes.
        let late = Instant::now() + Duration::from_secs(100);
        let ready = std::future::poll_fn(|cx| {
            let polled = limits.poll_within(cx, late, Phase::Idle, |_| Poll::<()>::Pending);
            Poll::Ready(polled.is_ready())
        });
        assert!(!ready.await);
        let early = Instant::now() + Duration::from_secs(1);
        assert!(limits.within(early, Phase::Idle, std::future::pending::<()>()).await.is_err());
        assert_eq!(start.elapsed().as_secs(), 202);
    }
}
