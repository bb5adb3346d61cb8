//! What the gateway does unasked: it looks after the local server, the model lists and the configuration.

use super::Gateway;
use super::directory::now;
use crate::chat::ChatError;
use crate::config::Watch;
use crate::local::{LocalServer, health::Bodies};
use crate::provider::listing::{self, ListedModel};
use crate::provider::{Auth, MLX_LOCAL, ModelList, Provider};
use crate::upstream::auth::Credential;
use crate::upstream::{Call, Phase};
use bytes::Bytes;
use futures_util::future;
use http::{HeaderMap, HeaderValue, Method};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// The local server is looked at this often while it answers, and while it does not: a refused connection costs nothing.
const LOCAL_UP: Duration = Duration::from_secs(5);
const LOCAL_DOWN: Duration = Duration::from_secs(1);
/// Lists are looked through for stale ones this often.
const LISTS: Duration = Duration::from_secs(15);
/// A list that is not there by then has failed.
const LIST_LIMIT: Duration = Duration::from_secs(20);
/// The local server answers these questions from memory.
const LOCAL_LIMIT: Duration = Duration::from_secs(3);

impl Gateway {
    /// Starts the background work; it ends with the token.
    pub fn spawn_background(self: &Arc<Self>, watch: Watch) -> CancellationToken {
        let token = CancellationToken::new();
        let (local, lists, reload) = (Arc::clone(self), Arc::clone(self), Arc::clone(self));
        tokio::spawn(token.clone().run_until_cancelled_owned(async move { local.watch_local_server().await }));
        tokio::spawn(token.clone().run_until_cancelled_owned(async move { lists.watch_lists().await }));
        tokio::spawn(token.clone().run_until_cancelled_owned(async move { reload.watch_config(watch).await }));
        token
    }

    /// Asks the local server once.
    pub async fn probe_local(&self) {
        let snapshot = self.snapshot();
        let Some(provider) = snapshot.providers.iter().find(|provider| provider.name == MLX_LOCAL) else {
            return self.directory.local_gone();
        };
        let answer = self.ask_local(provider).await;
        self.directory.local_answered(provider, answer);
    }

    async fn watch_local_server(&self) {
        loop {
            let was_up = self.directory.local_server().is_some();
            self.probe_local().await;
            let is_up = self.directory.local_server().is_some();
            if was_up != is_up {
                let url = self.local_url();
                if is_up {
                    info!(url, "the local server answers")
                } else {
                    warn!(url, "the local server does not answer any more")
                }
            }
            tokio::time::sleep(if is_up { LOCAL_UP } else { LOCAL_DOWN }).await;
        }
    }

    async fn ask_local(&self, provider: &Provider) -> Result<(LocalServer, Vec<ListedModel>), String> {
        let get = |path: &'static str| async move {
            let url = format!("{}{path}", provider.endpoints[0].base_url);
            self.get(provider, url, LOCAL_LIMIT).await
        };
        // The list decides whether anybody is there; the rest is asked only then.
        let models = get("/v1/models").await.map_err(|error| error.message)?;
        let (health, running) = future::join(get("/health"), get("/running")).await;
        let (health, running) = (health.ok(), running.ok());
        let status = if running.is_none() { get("/v1/status").await.ok() } else { None };
        let bodies = Bodies {
            health: health.as_deref(),
            models: Some(&models),
            running: running.as_deref(),
            status: status.as_deref(),
        };
        let server = LocalServer::read(&bodies);
        let listed = listing::parse(ModelList::OpenAi, &models).map_err(|error| error.to_string())?;
        Ok((server, listed))
    }

    async fn watch_lists(&self) {
        loop {
            // A program that asks for a password keeps nobody else's list waiting.
            future::join(self.find_keys(), self.fetch_lists()).await;
            self.fetch_lists().await;
            // A new configuration, or a mode that was switched, changes who is active at once.
            let _ = tokio::time::timeout(LISTS, self.applied.notified()).await;
        }
    }

    /// Runs the programs that keys come from, unless the cloud is forbidden.
    async fn find_keys(&self) {
        let snapshot = self.snapshot();
        let unknown = self.directory.activate(&snapshot, self.mode.is_on());
        let find = |provider: Arc<Provider>| async move {
            let key = self.key_of(&provider).await;
            if let Err(error) = &key {
                warn!(provider = provider.name, %error, "the provider is inactive: its key could not be had");
            }
            self.directory.key_known(&provider, matches!(key, Ok(Some(_))));
        };
        future::join_all(unknown.into_iter().map(find)).await;
    }

    async fn fetch_lists(&self) {
        let snapshot = self.snapshot();
        let active = self.directory.active();
        let catalogue = self.directory.catalogue();
        let in_cloud = |provider: &Provider| !provider.is_local() && active.contains(&provider.name);
        let uses_cloud = !self.mode.is_on() && snapshot.providers.iter().any(|provider| in_cloud(provider));
        let due = snapshot.providers.iter().filter(|provider| {
            // OpenRouter's list is public, and what it says of models is worth having for every cloud provider's.
            let wanted = active.contains(&provider.name) || (uses_cloud && provider.models == ModelList::OpenRouter);
            provider.name != MLX_LOCAL
                && wanted
                && (provider.is_local() || !self.mode.is_on())
                && catalogue.is_due(provider, now(), snapshot.catalogue_ttl)
        });
        future::join_all(due.map(|provider| self.fetch_list(provider))).await;
    }

    async fn fetch_list(&self, provider: &Provider) {
        let Some(url) = provider.models_url() else { return };
        let fetched = match self.get(provider, url, LIST_LIMIT).await {
            Ok(body) => listing::parse(provider.models, &body).map_err(|error| error.to_string()),
            Err(error) => Err(error.message),
        };
        match fetched {
            Ok(models) => {
                debug!(provider = provider.name, models = models.len(), "the model list was fetched");
                self.directory.listed(provider, models);
            }
            Err(error) => self.directory.failed(provider, &error),
        }
    }

    async fn get(&self, provider: &Provider, url: String, limit: Duration) -> Result<Bytes, ChatError> {
        let mut headers = HeaderMap::new();
        if let Ok(Some(key)) = self.key_of(provider).await {
            Credential::Own(key).apply(provider.auth, &mut headers);
        }
        if provider.auth == Auth::XApiKey {
            headers.insert("anthropic-version", HeaderValue::from_static("2023-06-01"));
        }
        let deadline = Instant::now() + limit;
        let call = Call {
            provider: provider.name.clone(),
            method: Method::GET,
            url,
            headers,
            body: Bytes::new(),
            local_only: false,
            connect: provider.deadlines.connect,
            deadline,
            phase: Phase::WholeAnswer,
        };
        let answer = call.send(&self.clients).await.map_err(|failure| failure.error)?;
        let status = answer.status;
        let body = answer.body.whole(deadline, Phase::WholeAnswer).await.map_err(|failure| failure.error)?;
        if status.is_success() {
            return Ok(body);
        }
        let message = format!("{} answered {status}", provider.name);
        Err(ChatError::new(crate::chat::ErrorKind::from_status(status.as_u16()), message))
    }
}
