//! Where commands write, and whether in colour.

use crate::config::env;
use crate::secret::Environment;
use std::io::{self, IsTerminal as _, Write};

/// Standard output and standard error, or what stands in for them in a test.
pub struct Output<'a> {
    /// The answer.
    pub out: &'a mut (dyn Write + Send),
    /// What a person should know besides.
    pub err: &'a mut (dyn Write + Send),
    /// Colour on standard error.
    pub colour: bool,
}

impl Output<'_> {
    /// Colour belongs on a terminal, and only where `NO_COLOR` is not set (no-color.org).
    pub fn wants_colour(environment: &Environment) -> bool {
        io::stderr().is_terminal() && environment.get(env::NO_COLOR.name).is_none()
    }

    /// Says what went wrong, each line after `error: `.
    ///
    /// # Errors
    /// Standard error is closed.
    pub fn error(&mut self, message: &str) -> io::Result<()> {
        self.said("error", "31", message)
    }

    /// Says what is odd, each line after `warning: `.
    ///
    /// # Errors
    /// Standard error is closed.
    pub fn warning(&mut self, message: &str) -> io::Result<()> {
        self.said("warning", "33", message)
    }

    fn said(&mut self, word: &str, colour: &str, message: &str) -> io::Result<()> {
        for line in message.lines() {
            if self.colour {
                writeln!(self.err, "\x1b[1;{colour}m{word}:\x1b[0m {line}")?;
            } else {
                writeln!(self.err, "{word}: {line}")?;
            }
        }
        Ok(())
    }
}
