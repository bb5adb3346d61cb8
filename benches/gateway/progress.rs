//! Where the measurement stands.

use std::io::{self, IsTerminal as _, Write as _};

/// Tells on standard error what is being measured: one line that changes on a terminal, a line each elsewhere.
pub struct Progress {
    rounds: u32,
    round: u32,
    terminal: bool,
}

impl Progress {
    /// Before the first of `rounds`.
    pub fn new(rounds: u32) -> Self {
        Self { rounds, round: 0, terminal: io::stderr().is_terminal() }
    }

    /// The next round begins.
    pub fn next_round(&mut self) {
        self.round += 1;
    }

    /// `target` comes under the load called `name`.
    pub fn phase(&mut self, name: &str, target: &str) {
        let line = format!("round {} of {}: {name}: {target}", self.round, self.rounds);
        if self.terminal {
            // Back to the start, dim, and without what is left of a longer line.
            eprint!("\r\x1b[2m{line}\x1b[0m\x1b[K");
            let _ = io::stderr().flush();
        } else {
            eprintln!("{line}");
        }
    }

    /// All is measured.
    pub fn end(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
