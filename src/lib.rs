//! Bifrost, the AI gateway for a developer's Mac. The map of the house is `docs/ARCHITECTURE.md`.

pub mod chat;
pub mod cli;
pub mod config;
pub mod dialect;
pub mod local;
pub mod observe;
pub mod provider;
pub mod route;
pub mod secret;
pub mod server;
pub mod upstream;
pub mod wire;
