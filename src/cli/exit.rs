//! Exit codes, the same for every command.

use std::process::ExitCode;

/// How a command ended. The numbers are part of the interface: scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked.
    Ok = 0,
    /// It failed for a reason without a number of its own.
    Failure = 1,
    /// The command line is wrong (clap's own number).
    Usage = 2,
    /// The configuration is wrong; what and where stands on standard error.
    ConfigInvalid = 3,
    /// The gateway does not answer.
    Unreachable = 4,
    /// Understood and not done, with the reason: a file that would be overwritten, a switch that may not be turned.
    Refused = 5,
    /// There is no such model, class, exchange or provider.
    NotFound = 6,
    /// Ended by Ctrl-C (128 + SIGINT, as shells say it).
    Interrupted = 130,
}

impl Exit {
    /// Every code with what it means, for the documentation.
    pub const ALL: [(Self, &'static str); 8] = [
        (Self::Ok, "done"),
        (Self::Failure, "failed"),
        (Self::Usage, "wrong command line"),
        (Self::ConfigInvalid, "wrong configuration"),
        (Self::Unreachable, "the gateway does not answer"),
        (Self::Refused, "refused, with the reason"),
        (Self::NotFound, "no such model, class, exchange or provider"),
        (Self::Interrupted, "ended by Ctrl-C"),
    ];
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
