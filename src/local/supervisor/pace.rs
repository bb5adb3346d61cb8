//! How often, and how patiently.

use std::time::Duration;

/// How often the server is looked at, and how long each kind of trouble may last before something follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Between two looks while it answers.
    pub look_up: Duration,
    /// Between two looks while it does not: a refused connection costs nothing.
    pub look_down: Duration,
    /// Least time between two proofs.
    pub proof_interval: Duration,
    /// So many proofs in a row must fail before it counts as down.
    pub proof_failures: u32,
    /// A process that has not opened its port yet is starting for so long: a cold model of 120B takes 60 to 120 s.
    pub start_grace: Duration,
    /// Silence without a sign of load counts as down after this.
    pub silence_grace: Duration,
    /// Silence under load counts as down after this.
    pub busy_grace: Duration,
    /// It must have been down for so long before a remedy: launchd restarts a crashed agent by itself.
    pub down_grace: Duration,
    /// Between two remedies.
    pub cooldown: Duration,
    /// It must have been well for so long before the ladder begins anew.
    pub settle: Duration,
    /// A loaded model without a request for so long gets a tiny one; `None`: never.
    pub keep_warm: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            look_up: Duration::from_secs(5),
            look_down: Duration::from_secs(1),
            proof_interval: Duration::from_secs(60),
            proof_failures: 3,
            start_grace: Duration::from_secs(240),
            silence_grace: Duration::from_secs(120),
            busy_grace: Duration::from_secs(15 * 60),
            down_grace: Duration::from_secs(30),
            cooldown: Duration::from_secs(90),
            settle: Duration::from_secs(10 * 60),
            keep_warm: None,
        }
    }
}
