//! Bifrost, the AI gateway for a developer's Mac. The map of the house is `docs/ARCHITECTURE.md`.

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

pub mod chat;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod limit;
pub mod local;
pub mod observe;
pub mod provider;
pub mod route;
pub mod secret;
pub mod server;
pub mod upstream;
pub mod wire;
