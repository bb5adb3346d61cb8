//! `bifrost serve`: the gateway until it is told to stop.

use super::{Exit, Output};
use crate::config::{Inputs, Watch};
use crate::observe::{Log, Observer};
use crate::server::{Gateway, StartError};
use std::io;
use tokio::signal::unix::{SignalKind, signal};

/// Serves until SIGTERM or SIGINT; a second SIGINT ends what still runs at once.
///
/// # Errors
/// Standard error is closed, or no signal can be listened for.
pub async fn run(inputs: Inputs, output: &mut Output<'_>) -> io::Result<Exit> {
    let mut watch = Watch::new(inputs.clone());
    let snapshot = match watch.load() {
        Ok(snapshot) => snapshot,
        Err(error) => {
            output.error(&error.to_string())?;
            return Ok(Exit::ConfigInvalid);
        }
    };
    let log =
        Log::start(&snapshot.log, io::stderr()).and_then(|log| log.install(&snapshot.log, output.colour).map(|()| log));
    let log = match log {
        Ok(log) => log,
        Err(error) => {
            output.error(&error.to_string())?;
            return Ok(Exit::ConfigInvalid);
        }
    };
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: no new requests; what runs may finish within the grace"),
            _ = interrupt.recv() => tracing::info!("interrupted: no new requests; what runs may finish within the grace"),
        }
    };
    let mut interrupts = signal(SignalKind::interrupt())?;
    let impatience = async move {
        interrupts.recv().await;
        interrupts.recv().await
    };
    let observer = Observer::new(&log);
    let served = tokio::select! {
        served = Gateway::serve(inputs, watch, snapshot, observer, stop) => served,
        _ = impatience => return Ok(Exit::Interrupted),
    };
    drop(log);
    match served {
        Ok(()) => Ok(Exit::Ok),
        Err(error) => {
            output.error(&error.to_string())?;
            Ok(match error {
                StartError::Config(_) | StartError::ClientKey(_) => Exit::ConfigInvalid,
                StartError::Bind(_) | StartError::AdminToken(_) => Exit::Failure,
            })
        }
    }
}
