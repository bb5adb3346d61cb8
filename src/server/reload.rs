//! A changed configuration comes into force whole, or not at all.

use super::{Gateway, registry_of, resolve_client_keys};
use crate::config::{ConfigError, Snapshot, Watch};
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

impl Gateway {
    /// Follows the file.
    pub async fn watch_config(&self, watch: Watch) {
        let (changes, mut changed) = mpsc::unbounded_channel();
        let follow = watch.run(move |result| drop(changes.send(result)));
        let apply = async {
            while let Some(result) = changed.recv().await {
                // The outcome is logged and shown by /health.
                let _ = self.take(result).await;
            }
        };
        tokio::join!(follow, apply);
    }

    /// Reads the file now.
    ///
    /// # Errors
    /// Why it is not in force.
    pub async fn reload(&self) -> Result<(), String> {
        self.take(Snapshot::load(&self.inputs)).await
    }

    async fn take(&self, result: Result<Snapshot, ConfigError>) -> Result<(), String> {
        let checked = match result {
            Ok(snapshot) => match resolve_client_keys(&snapshot).await {
                Ok(keys) => Ok((snapshot, keys)),
                Err(error) => {
                    let message = format!("a key of [server] api_keys could not be had: {error}");
                    Err((message, snapshot.local.only))
                }
            },
            Err(error) => Err((error.to_string(), error.asks_local_only)),
        };
        let (snapshot, keys) = match checked {
            Ok(checked) => checked,
            Err((message, asks_local_only)) => {
                error!("the changed configuration is not in force: {message}");
                self.observer.config_reloaded(None);
                self.config_error.store(Some(Arc::new(message.clone())));
                if asks_local_only {
                    // Of a broken file this one wish is heard: it fails closed.
                    self.mode.declare(true);
                    self.apply_mode();
                }
                return Err(message);
            }
        };
        for warning in &snapshot.warnings {
            warn!("{warning}");
        }
        let before = self.snapshot();
        if (&before.server.hosts, before.server.port) != (&snapshot.server.hosts, snapshot.server.port) {
            warn!("`host` and `port` of [server] take effect at the next start");
        }
        // Local-only first: no request may see the new providers with the old mode.
        self.mode.declare(snapshot.local.only);
        self.client_keys.store(Arc::new(keys));
        if before.registry != snapshot.registry {
            self.registry.store(registry_of(&snapshot));
        }
        self.observer.config_reloaded(Some(&snapshot.log));
        self.snapshot.store(Arc::new(snapshot));
        self.apply_mode();
        self.config_error.store(None);
        info!("the changed configuration is in force");
        Ok(())
    }

    /// Makes the clients and the directory follow the mode.
    pub fn apply_mode(&self) {
        let on = self.mode.is_on();
        self.clients.set_local_only(on);
        self.observer.set_local_only(on);
        self.directory.activate(&self.snapshot(), on);
    }
}
