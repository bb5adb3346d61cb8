//! A changed configuration comes into force whole, or not at all.

use super::{Gateway, registry_of, resolve_client_keys};
use crate::config::{ConfigError, Snapshot, Watch};
use crate::observe::Event;
use crate::secret::Secret;
use std::sync::{Arc, PoisonError};
use tokio::sync::mpsc;
use tracing::{info, warn};

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
        // Heard before anything else, even of a broken file: it fails closed, and keys may take a while to be had.
        if result.as_ref().map_or_else(|error| error.asks_local_only, |snapshot| snapshot.local.only) {
            self.mode.declare(true);
            self.apply_mode();
        }
        let checked = match result {
            Ok(snapshot) => self.check(snapshot).await,
            Err(error) => Err(error.to_string()),
        };
        let (snapshot, keys) = match checked {
            Ok(checked) => checked,
            Err(message) => {
                self.observer.tell(Event::ConfigReloaded { error: Some(&message) });
                self.config_error.store(Some(Arc::new(message.clone())));
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
            self.registry_failed(false);
            // Read at once, so that the log tells of one that cannot be.
            self.roles();
        }
        self.observer.adjust_log(&snapshot.log);
        self.admission.limit(&snapshot.providers);
        self.loaded.store(Arc::new(self.loaded().next(snapshot)));
        self.apply_mode();
        self.config_error.store(None);
        self.observer.tell(Event::ConfigReloaded { error: None });
        Ok(())
    }

    /// Finds the keys that clients must show from now on.
    async fn check(&self, snapshot: Snapshot) -> Result<(Snapshot, Vec<Secret>), String> {
        let before = self.snapshot();
        // An editor may take the file away for a moment, and local-only mode must not go with it.
        if let Some(path) = before.path.as_ref().filter(|_| before.has_text && !snapshot.has_text) {
            let what = if snapshot.path.is_some() { "the file is empty" } else { "the file is gone" };
            let path = snapshot.path.as_ref().unwrap_or(path).display();
            return Err(format!("{path}: {what}; the last good configuration stays. Restart if that is meant"));
        }
        let keys = resolve_client_keys(&snapshot)
            .await
            .map_err(|error| format!("a key of [server] api_keys could not be had: {error}"))?;
        if keys.is_empty() && self.bound.iter().any(|address| !address.is_loopback()) {
            let message = "[server] api_keys is empty, and until the next start other machines can reach this one; restart, or keep a key";
            return Err(message.to_owned());
        }
        Ok((snapshot, keys))
    }

    /// Makes the clients and the directory follow the mode.
    pub fn apply_mode(&self) {
        let _one_at_a_time = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        let on = self.mode.is_on();
        if self.clients.set_local_only(on) {
            info!("local-only mode is {} from now on", if on { "on" } else { "off" });
        }
        self.observer.set_local_only(on);
        self.directory.activate(&self.snapshot(), on);
        self.applied.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::DialectId;
    use crate::config::{Flags, Inputs};
    use crate::dialect::UrlHints;
    use crate::observe::{Log, Observer, Operation};
    use crate::route::key_pool::Choice;
    use crate::secret::Environment;
    use crate::server::exchange::Exchange;
    use http::HeaderMap;
    use std::time::Instant;
    use tempfile::TempDir;

    #[tokio::test]
    async fn what_other_machines_can_reach_never_loses_its_keys() {
        let text = "[server]\nhost = \"0.0.0.0\"\napi_keys = [\"env:K\"]\n";
        let home = TempDir::new().unwrap();
        let inputs = inputs(&home);
        let load = |text: &str| load(&inputs, text);
        let gateway = start(&inputs, load(text)).await;
        // Without `host` the file is right by itself; the sockets of this process are still open to others.
        let refused = gateway.take(Ok(load("# nothing"))).await;
        assert!(refused.is_err_and(|message| message.contains("api_keys")));
        assert_eq!(gateway.client_keys().len(), 1);
        assert!(gateway.take(Ok(load(&text.replace("0.0.0.0", "127.0.0.1")))).await.is_ok());
        assert_eq!(gateway.client_keys().len(), 1);
    }

    #[tokio::test]
    async fn a_file_that_is_gone_or_emptied_does_not_end_local_only_mode() {
        let home = TempDir::new().unwrap();
        let inputs = inputs(&home);
        let text = "localOnlyMode = true\n[server]\nport = 1001\n";
        let gateway = start(&inputs, load(&inputs, text)).await;
        for file in [None, Some(""), Some(" \n")] {
            let file = file.map(|text| (std::path::Path::new("bifrost.toml"), text));
            let refused = gateway.take(Snapshot::of_text(&inputs, file)).await;
            assert!(refused.is_err_and(|message| message.contains("last good")), "{file:?}");
            assert!(gateway.mode.is_on() && gateway.snapshot().server.port == 1001, "{file:?}");
            assert!(gateway.config_error().is_some());
        }
        // Comments are somebody's word.
        assert!(gateway.take(Ok(load(&inputs, "# nothing"))).await.is_ok());
        assert!(!gateway.mode.is_on());
        assert_eq!(gateway.config_error(), None);
    }

    #[tokio::test]
    async fn a_registry_that_is_missing_is_told_at_the_start_and_after_a_reload() {
        let home = TempDir::new().unwrap();
        let inputs = inputs(&home);
        let text = |name: &str| format!("registry = '{}'\n", home.path().join(name).display());
        let gateway = start(&inputs, load(&inputs, &text("none.json"))).await;
        // Only the first failure after a success is logged, so where one was logged this is not the first.
        assert!(!gateway.registry_failed(true), "the start says nothing");
        std::fs::write(home.path().join("roles.json"), "{}").unwrap();
        gateway.take(Ok(load(&inputs, &text("roles.json")))).await.unwrap();
        assert!(gateway.registry_failed(true), "it can be read");
        gateway.registry_failed(false);
        gateway.take(Ok(load(&inputs, &text("gone.json")))).await.unwrap();
        assert!(!gateway.registry_failed(true), "the reload says nothing");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_request_gets_the_providers_and_their_keys_of_one_load() {
        let home = TempDir::new().unwrap();
        let inputs = inputs(&home);
        let provider =
            "[providers.p]\nbase_url = \"http://127.0.0.1:1\"\ndialect = \"openai_chat\"\nmodels = \"none\"\n";
        let with = |keys: &str| load(&inputs, &format!("{provider}keys = [{keys}]\n"));
        let loads = [with("\"env:A\""), with("\"env:A\", \"env:B\"")];
        let gateway = Arc::new(start(&inputs, loads[0].clone()).await);
        let reloading = Arc::clone(&gateway);
        let reloading = tokio::spawn(async move {
            for snapshot in loads.iter().cycle().take(2_000) {
                reloading.take(Ok(snapshot.clone())).await.unwrap();
            }
        });
        while !reloading.is_finished() {
            let (headers, hints) = (HeaderMap::new(), UrlHints::default());
            let exchange =
                Exchange::begin(Arc::clone(&gateway), DialectId::OpenAiChat, Operation::Chat, &headers, hints);
            let provider = exchange.snapshot.providers.iter().find(|provider| &*provider.name == "p").unwrap();
            // Keys of one weight are used in turn.
            let chosen = [(); 2].map(|()| exchange.keys.choose("p", "m", Instant::now()));
            let second = Some(Choice::Use(provider.keys.len() - 1));
            assert!(chosen.contains(&Some(Choice::Use(0))) && chosen.contains(&second), "{chosen:?}");
            assert!(provider.keys.len() == 2 || chosen[0] == chosen[1], "a key of another load: {chosen:?}");
        }
        reloading.await.unwrap();
    }

    /// A home of its own: a gateway writes its token there.
    fn inputs(home: &TempDir) -> Inputs {
        let home = home.path().display().to_string();
        let variables = [("HOME".to_owned(), home), ("K".to_owned(), "k1".to_owned())];
        Inputs::new(Environment::from_iter(variables), Flags::default())
    }

    fn load(inputs: &Inputs, text: &str) -> Snapshot {
        Snapshot::of_text(inputs, Some((std::path::Path::new("bifrost.toml"), text))).unwrap()
    }

    async fn start(inputs: &Inputs, snapshot: Snapshot) -> Gateway {
        let log = Log::start(&snapshot.log, std::io::sink()).unwrap();
        Gateway::new(inputs.clone(), snapshot, Observer::new(&log)).await.unwrap()
    }
}
