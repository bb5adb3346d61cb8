//! The timer of one connection's limit for request heads: set anew before each request, and hardly ever needed. hyper makes
//! and drops one each time; here they share an alarm, which stays set.

use crate::upstream::Alarm;
use hyper::rt::{Sleep, Timer};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// The timer of one connection.
#[derive(Debug, Default)]
pub struct HeaderTimer(Arc<Mutex<Alarm>>);

#[derive(Debug)]
struct Limit {
    alarm: Arc<Mutex<Alarm>>,
    deadline: Instant,
}

impl Timer for HeaderTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Limit { alarm: Arc::clone(&self.0), deadline })
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

impl Sleep for Limit {}

impl Future for Limit {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.alarm.lock().unwrap_or_else(PoisonError::into_inner).poll(cx, self.deadline.into())
    }
}
