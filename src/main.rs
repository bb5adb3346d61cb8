//! The `bifrost` command.

#![warn(missing_docs)]
// Here and not in Cargo.toml, so that they hold for the program and not for its tests.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::todo,
    clippy::unimplemented,
    clippy::dbg_macro
)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

use anyhow::Context as _;
use bifrost::cli::{Cli, Exit, Output};
use bifrost::secret::Environment;
use clap::Parser as _;
use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::thread;
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::of_process();
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let mut output = Output::of_process(&mut out, &mut err, &environment);
    match run(cli, environment, &mut output) {
        Ok(exit) => exit.into(),
        // The reader of a pipe has had enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe) => {
            Exit::Ok.into()
        }
        Err(error) => {
            // With standard error closed there is nobody left to tell.
            let _ = output.error(&format!("{error:#}"));
            Exit::Failure.into()
        }
    }
}

fn run(cli: Cli, environment: Environment, output: &mut Output<'_>) -> anyhow::Result<Exit> {
    // On one processor threads would only hand work to each other.
    let is_one = thread::available_parallelism().is_ok_and(|processors| processors.get() == 1);
    let mut builder = if is_one { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let runtime = builder.enable_all().build().context("the threads that serve could not be started")?;
    runtime.block_on(bifrost::cli::run(cli, environment, output)).context("the command ended early")
}
