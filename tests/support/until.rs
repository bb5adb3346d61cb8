//! Waiting for what other processes do, of which nothing tells.

use std::thread;
use std::time::{Duration, Instant};

/// Generous: how long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Looks again and again until there is something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
