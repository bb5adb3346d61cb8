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
    /// Standard error is a terminal: somebody is looking.
    pub terminal: bool,
    /// Standard output is a terminal.
    pub out_is_terminal: bool,
    /// Colour and other escape codes on standard error.
    pub colour: bool,
}

impl<'a> Output<'a> {
    /// This process's own, with colour on a terminal unless `NO_COLOR` is set (no-color.org).
    pub fn of_process(out: &'a mut io::Stdout, err: &'a mut io::Stderr, environment: &Environment) -> Self {
        let terminal = err.is_terminal();
        let out_is_terminal = out.is_terminal();
        let colour = terminal && environment.get(env::NO_COLOR.name).is_none();
        Self { out, err, terminal, out_is_terminal, colour }
    }

    /// What is neither terminal nor colourful: pipes, files, tests.
    pub fn plain(out: &'a mut (dyn Write + Send), err: &'a mut (dyn Write + Send)) -> Self {
        Self { out, err, terminal: false, out_is_terminal: false, colour: false }
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

    /// Says what to do next, each line after `hint: `.
    ///
    /// # Errors
    /// Standard error is closed.
    pub fn hint(&mut self, message: &str) -> io::Result<()> {
        self.said("hint", "36", message)
    }

    /// Says something beside the point, dim where there is colour.
    ///
    /// # Errors
    /// Standard error is closed.
    pub fn aside(&mut self, message: &str) -> io::Result<()> {
        match self.colour {
            true => writeln!(self.err, "\x1b[2m{message}\x1b[0m"),
            false => writeln!(self.err, "{message}"),
        }
    }

    /// Takes back the line that is being written on standard error, where that can be done.
    ///
    /// # Errors
    /// Standard error is closed.
    pub fn clear_line(&mut self) -> io::Result<()> {
        if self.colour {
            write!(self.err, "\r\x1b[2K")?;
            self.err.flush()?;
        }
        Ok(())
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
