//! What the gateway does unasked: it keeps the model lists and the keys up to date, and starts what else runs beside the
//! requests.

use super::Gateway;
use super::attempt::{ANTHROPIC_VERSION, USUAL_VERSION};
use super::directory::now;
use crate::config::Watch;
use crate::provider::listing;
use crate::provider::{Auth, MLX_LOCAL, ModelList, Provider};
use crate::upstream::auth::Credential;
use crate::upstream::{Call, Failure, Phase};
use bytes::Bytes;
use futures_util::future;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Lists are looked through for stale ones this often.
const LISTS: Duration = Duration::from_secs(15);
/// A list that is not there by then has failed.
const LIST_LIMIT: Duration = Duration::from_secs(20);

/// What runs beside the requests.
pub struct Background {
    token: CancellationToken,
    traces: JoinHandle<()>,
}

impl Background {
    /// Ends it; what was still to be told is told.
    pub async fn end(self) {
        self.token.cancel();
        // It fails only if it panicked, and then the log says so.
        let _ = self.traces.await;
    }
}

impl Gateway {
    /// Starts the background work.
    pub fn spawn_background(self: &Arc<Self>, watch: Watch) -> Background {
        let token = CancellationToken::new();
        let (local, lists, reload, traces) = (Arc::clone(self), Arc::clone(self), Arc::clone(self), Arc::clone(self));
        tokio::spawn(token.clone().run_until_cancelled_owned(async move { local.supervise().await }));
        tokio::spawn(token.clone().run_until_cancelled_owned(async move { lists.watch_lists().await }));
        tokio::spawn(token.clone().run_until_cancelled_owned(async move { reload.watch_config(watch).await }));
        let traced = token.clone();
        let traces = tokio::spawn(async move {
            let Some(mut queue) = traces.observer.trace_queue() else { return };
            traced.run_until_cancelled(traces.send_traces(&mut queue)).await;
            traces.send_last_traces(&mut queue).await;
        });
        Background { token, traces }
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
                warn!(provider = &*provider.name, %error, "the provider is inactive: its key could not be had");
            }
            self.directory.key_known(&provider, matches!(key, Ok(Some(_))));
        };
        future::join_all(unknown.into_iter().map(find)).await;
    }

    async fn fetch_lists(&self) {
        let snapshot = self.snapshot();
        let active = self.directory.active();
        let catalogue = self.directory.catalogue();
        let in_cloud = |provider: &Provider| !provider.is_local() && active.contains(&*provider.name);
        let uses_cloud = !self.mode.is_on() && snapshot.providers.iter().any(|provider| in_cloud(provider));
        let due = snapshot.providers.iter().filter(|provider| {
            // OpenRouter's list is public, and what it says of models is worth having for every cloud provider's.
            let wanted = active.contains(&*provider.name) || (uses_cloud && provider.models == ModelList::OpenRouter);
            &*provider.name != MLX_LOCAL
                && wanted
                && (provider.is_local() || !self.mode.is_on())
                && catalogue.is_due(provider, now(), snapshot.catalogue_ttl)
        });
        future::join_all(due.map(|provider| self.fetch_list(provider))).await;
    }

    async fn fetch_list(&self, provider: &Provider) {
        let Some(url) = provider.models_url() else { return };
        let fetched = match self.get(provider, url, LIST_LIMIT).await {
            Ok((status, body)) if status.is_success() => {
                listing::parse(provider.models, &body).map_err(|error| error.to_string())
            }
            Ok((status, _)) => Err(format!("{} answered {status}", provider.name)),
            Err(failure) => Err(failure.error.message),
        };
        match fetched {
            Ok(models) => {
                debug!(provider = &*provider.name, models = models.len(), "the model list was fetched");
                self.directory.listed(provider, models);
            }
            Err(error) => self.directory.failed(provider, &error),
        }
    }

    /// Asks a provider something.
    ///
    /// # Errors
    /// It could not be reached, or did not answer in time. An error status is no error here.
    pub async fn get(&self, provider: &Provider, url: String, limit: Duration) -> Result<(StatusCode, Bytes), Failure> {
        self.call(provider, Method::GET, url, Bytes::new(), Instant::now() + limit).await
    }

    /// Sends a provider a JSON body.
    ///
    /// # Errors
    /// As [`Gateway::get`].
    pub async fn post(
        &self,
        provider: &Provider,
        url: String,
        body: Bytes,
        deadline: Instant,
    ) -> Result<(StatusCode, Bytes), Failure> {
        self.call(provider, Method::POST, url, body, deadline).await
    }

    async fn call(
        &self,
        provider: &Provider,
        method: Method,
        url: String,
        body: Bytes,
        deadline: Instant,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]);
        if let Ok(Some(key)) = self.key_of(provider).await {
            Credential::Own(key).apply(provider.auth, &mut headers);
        }
        if provider.auth == Auth::XApiKey {
            headers.insert(ANTHROPIC_VERSION, USUAL_VERSION);
        }
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let call = Call {
            provider: &provider.name,
            method,
            url: Uri::try_from(url),
            headers: &|| headers.clone(),
            body,
            local_only: false,
            connect: provider.deadlines.connect,
            deadline,
            phase: Phase::WholeAnswer,
        };
        let answer = call.send(&self.clients).await?;
        let status = answer.status;
        let body = answer.body.whole(deadline, Phase::WholeAnswer).await?;
        Ok((status, body))
    }
}
