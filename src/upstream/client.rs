//! Two HTTP clients. The local one reaches loopback and nothing else; the cloud one does not exist in local-only mode.

use super::connect::{CloudConnector, Connector, LoopbackConnector};
use super::origin::Origin;
use crate::provider::is_loopback_host;
use http::Uri;
use http::uri::{Authority, Scheme};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;

/// Why a URL is not to be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalUrlError {
    /// Nothing may leave the machine and the address is not on it.
    #[error("nothing may leave this machine now, and {0} is not on it")]
    NotLocal(String),
    /// It is no URL.
    #[error("`{0}` is no URL")]
    Invalid(String),
    /// The cloud client could not be built.
    #[error("the HTTP client could not be built: {0}")]
    NoClient(String),
}

/// The two HTTP clients.
#[derive(Debug)]
pub struct Clients {
    local: Client,
    /// `None` in local-only mode: then there is none, and nothing that could make one.
    cloud: RwLock<Option<Arc<Cloud>>>,
}

/// By host and port as they are spelled.
type Origins = RwLock<HashMap<Box<str>, Arc<Origin>>>;

/// The origins that one connector reaches.
#[derive(Debug)]
struct Client {
    connector: Arc<dyn Connector>,
    revoked: Option<CancellationToken>,
    http: Origins,
    https: Origins,
}

#[derive(Debug, Default)]
struct Cloud {
    /// Built at the first use: reading the system's certificates takes a while.
    client: OnceLock<Result<Client, String>>,
    revoked: CancellationToken,
}

impl Clients {
    /// The clients; without a cloud one if `local_only`.
    pub fn new(local_only: bool) -> Self {
        // TLS takes its ciphers from here; a second call in one process (tests) finds it installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            local: Client::new(Arc::new(LoopbackConnector), None),
            cloud: RwLock::new((!local_only).then(Arc::default)),
        }
    }

    /// The clients with a connector of a test's own for the cloud.
    #[cfg(test)]
    pub(super) fn through(connector: Arc<dyn Connector>) -> Self {
        let cloud = Cloud::default();
        let client = Client::new(connector, Some(cloud.revoked.clone()));
        cloud.client.set(Ok(client)).expect("it is new");
        Self { cloud: RwLock::new(Some(Arc::new(cloud))), ..Self::new(true) }
    }

    /// The origin of `uri`, with the client that can go there; `local_only` is the wish of one request.
    ///
    /// # Errors
    /// The address is not on this machine, and local-only mode is on or wished for; or it is none.
    pub fn origin(&self, uri: &Uri, local_only: bool) -> Result<Arc<Origin>, LocalUrlError> {
        let invalid = || LocalUrlError::Invalid(uri.to_string());
        let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else { return Err(invalid()) };
        if let Some(known) = self.local.known(scheme, authority) {
            return Ok(known);
        }
        if is_loopback_host(authority.host()) {
            return self.local.learn(scheme, authority).ok_or_else(invalid);
        }
        let not_local = || LocalUrlError::NotLocal(authority.host().to_owned());
        if local_only {
            return Err(not_local());
        }
        let cloud = self.cloud.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(not_local)?;
        let client = cloud.client().map_err(|cause| LocalUrlError::NoClient(cause.clone()))?;
        client.known(scheme, authority).or_else(|| client.learn(scheme, authority)).ok_or_else(invalid)
    }

    /// Switches local-only mode. On: the cloud client is dropped with its connections and what runs through it ends.
    /// True when it was the other way before.
    pub fn set_local_only(&self, on: bool) -> bool {
        let mut cloud = self.cloud.write().unwrap_or_else(PoisonError::into_inner);
        let changes = cloud.is_some() == on;
        if on {
            if let Some(cloud) = cloud.take() {
                cloud.revoked.cancel();
            }
        } else {
            cloud.get_or_insert_default();
        }
        changes
    }
}

impl Cloud {
    fn client(&self) -> Result<&Client, &String> {
        let build = || {
            let connector = CloudConnector::new().map_err(|error| error.to_string())?;
            Ok(Client::new(Arc::new(connector), Some(self.revoked.clone())))
        };
        self.client.get_or_init(build).as_ref()
    }
}

impl Client {
    fn new(connector: Arc<dyn Connector>, revoked: Option<CancellationToken>) -> Self {
        Self { connector, revoked, http: RwLock::default(), https: RwLock::default() }
    }

    fn known(&self, scheme: &Scheme, authority: &Authority) -> Option<Arc<Origin>> {
        let origins = self.origins(scheme)?.read().unwrap_or_else(PoisonError::into_inner);
        origins.get(authority.as_str()).cloned()
    }

    /// `None` for a URL that is not HTTP's.
    fn learn(&self, scheme: &Scheme, authority: &Authority) -> Option<Arc<Origin>> {
        let mut origins = self.origins(scheme)?.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = origins.get(authority.as_str()) {
            return Some(Arc::clone(known));
        }
        let connector = Arc::clone(&self.connector);
        let origin = Arc::new(Origin::new(scheme.clone(), authority.clone(), connector, self.revoked.clone())?);
        origins.insert(authority.as_str().into(), Arc::clone(&origin));
        Some(origin)
    }

    fn origins(&self, scheme: &Scheme) -> Option<&Origins> {
        match scheme.as_str() {
            "http" => Some(&self.http),
            "https" => Some(&self.https),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cloud(clients: &Clients, local_only: bool) -> Result<Arc<Origin>, LocalUrlError> {
        clients.origin(&Uri::from_static("https://192.0.2.1/"), local_only)
    }

    fn is_revoked(origin: &Origin) -> bool {
        origin.revoked().unwrap().is_cancelled()
    }

    #[test]
    fn local_only_takes_the_cloud_client_away_and_ends_what_runs_through_it() {
        let clients = Clients::new(false);
        let before = cloud(&clients, false).unwrap();
        assert!(!is_revoked(&before));
        assert!(matches!(cloud(&clients, true), Err(LocalUrlError::NotLocal(_))));
        assert!(clients.set_local_only(true) && !clients.set_local_only(true));
        assert!(is_revoked(&before));
        assert!(matches!(cloud(&clients, false), Err(LocalUrlError::NotLocal(_))));
        let local = clients.origin(&Uri::from_static("http://127.0.0.1:1/"), true).unwrap();
        assert!(local.revoked().is_none());
        assert!(clients.set_local_only(false) && !clients.set_local_only(false));
        assert!(!is_revoked(&cloud(&clients, false).unwrap()));
    }

    #[test]
    fn an_origin_is_kept_once() {
        let clients = Clients::new(true);
        let origin = |url: &'static str| clients.origin(&Uri::from_static(url), true);
        assert!(Arc::ptr_eq(&origin("http://localhost:1/a").unwrap(), &origin("http://localhost:1/b?c").unwrap()));
        assert!(!Arc::ptr_eq(&origin("http://localhost:1/a").unwrap(), &origin("http://localhost:2/a").unwrap()));
        assert!(matches!(origin("ftp://localhost/"), Err(LocalUrlError::Invalid(_))));
        assert!(matches!(origin("/v1"), Err(LocalUrlError::Invalid(_))));
    }
}
