//! Two HTTP clients. The local one reaches loopback and nothing else; the cloud one does not exist in local-only mode.

use crate::provider::Deadlines;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url, redirect};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use url_host::is_loopback;

/// Idle connections are closed after this, sooner than most servers close theirs.
const POOL_IDLE: Duration = Duration::from_secs(50);

/// Where a call may go, with the client that can go there.
#[derive(Debug, Clone)]
pub struct Destination {
    /// The client to use.
    pub client: Client,
    /// Ends when the client is taken away (local-only mode was switched on); the local client's never does.
    pub revoked: CancellationToken,
}

/// Why a URL is not for the local client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LocalUrlError {
    /// Local-only mode is on and the address is not on this machine.
    #[error("local-only mode is on and {0} is not on this machine")]
    NotLocal(String),
    /// It is no URL.
    #[error("`{0}` is no URL")]
    Invalid(String),
}

/// The two HTTP clients.
#[derive(Debug)]
pub struct Clients {
    local: Destination,
    cloud: RwLock<Cloud>,
}

#[derive(Debug)]
enum Cloud {
    /// Local-only mode: there is none.
    Forbidden,
    /// Allowed, and built at the first use: reading the system's certificates takes a while.
    NotYet,
    Built(Destination),
}

impl Clients {
    /// The clients; without a cloud one if `local_only`.
    ///
    /// # Errors
    /// The local client could not be built (out of file descriptors or the like).
    pub fn new(local_only: bool) -> Result<Self, reqwest::Error> {
        // Both clients take TLS from here; a second call in one process (tests) finds it installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .dns_resolver(Arc::new(LoopbackResolver))
            .tls_certs_only([])
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(Deadlines::LOCAL.connect)
            .pool_idle_timeout(POOL_IDLE)
            .build()?;
        let local = Destination { client, revoked: CancellationToken::new() };
        let cloud = if local_only { Cloud::Forbidden } else { Cloud::NotYet };
        Ok(Self { local, cloud: RwLock::new(cloud) })
    }

    /// The client that may go to `url`; `local_only` is the wish of one request.
    ///
    /// # Errors
    /// The address is not on this machine, and local-only mode is on or wished for.
    pub fn for_url(&self, url: &str, local_only: bool) -> Result<Destination, LocalUrlError> {
        let parsed = Url::parse(url).map_err(|_| LocalUrlError::Invalid(url.to_owned()))?;
        if is_loopback(&parsed) {
            return Ok(self.local.clone());
        }
        let not_local = || LocalUrlError::NotLocal(parsed.host_str().unwrap_or("the address").to_owned());
        if local_only {
            return Err(not_local());
        }
        if let Cloud::Built(destination) = &*self.cloud.read().unwrap_or_else(|poisoned| poisoned.into_inner()) {
            return Ok(destination.clone());
        }
        let mut cloud = self.cloud.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*cloud {
            Cloud::Forbidden => Err(not_local()),
            Cloud::Built(destination) => Ok(destination.clone()),
            Cloud::NotYet => {
                let client = build_cloud().map_err(|error| LocalUrlError::Invalid(error.to_string()))?;
                let destination = Destination { client, revoked: CancellationToken::new() };
                *cloud = Cloud::Built(destination.clone());
                Ok(destination)
            }
        }
    }

    /// Switches local-only mode. On: the cloud client is dropped with its connections and what runs through it ends.
    pub fn set_local_only(&self, on: bool) {
        let mut cloud = self.cloud.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        match (&*cloud, on) {
            (Cloud::Built(destination), true) => {
                destination.revoked.cancel();
                *cloud = Cloud::Forbidden;
            }
            (Cloud::NotYet, true) => *cloud = Cloud::Forbidden,
            (Cloud::Forbidden, false) => *cloud = Cloud::NotYet,
            (Cloud::Forbidden, true) | (Cloud::NotYet | Cloud::Built(_), false) => {}
        }
    }

    /// True while a cloud client exists or may be built.
    pub fn cloud_allowed(&self) -> bool {
        !matches!(&*self.cloud.read().unwrap_or_else(|poisoned| poisoned.into_inner()), Cloud::Forbidden)
    }
}

fn build_cloud() -> Result<Client, reqwest::Error> {
    Client::builder()
        // A redirect could carry a key to another host.
        .redirect(redirect::Policy::none())
        .tcp_nodelay(true)
        .connect_timeout(Deadlines::CLOUD.connect)
        .pool_idle_timeout(POOL_IDLE)
        .build()
}

/// Knows one name.
struct LoopbackResolver;

impl Resolve for LoopbackResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let known = name.as_str().eq_ignore_ascii_case("localhost");
        Box::pin(async move {
            if !known {
                return Err("only localhost can be reached by the local client".into());
            }
            let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

mod url_host {
    use reqwest::Url;

    /// A literal loopback address, or `localhost`.
    pub fn is_loopback(url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let literal = host.trim_start_matches('[').trim_end_matches(']');
        literal.eq_ignore_ascii_case("localhost")
            || literal.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_local() {
        for url in ["http://127.0.0.1:11434", "http://localhost:1/v1", "http://[::1]:8080", "http://127.8.9.1/"] {
            assert!(is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
        for url in ["http://localhost.evil.com", "http://10.0.0.1", "http://[::ffff:10.0.0.1]", "http://example.com"] {
            assert!(!is_loopback(&Url::parse(url).unwrap()), "{url}");
        }
    }

    #[test]
    fn local_only_takes_the_cloud_client_away_and_ends_what_runs_through_it() {
        let clients = Clients::new(false).unwrap();
        let before = clients.for_url("https://192.0.2.1/", false).unwrap();
        assert!(!before.revoked.is_cancelled());
        assert!(matches!(clients.for_url("https://192.0.2.1/", true), Err(LocalUrlError::NotLocal(_))));
        clients.set_local_only(true);
        assert!(before.revoked.is_cancelled());
        assert!(matches!(clients.for_url("https://192.0.2.1/", false), Err(LocalUrlError::NotLocal(_))));
        assert!(clients.for_url("http://127.0.0.1:1/", false).is_ok());
        clients.set_local_only(false);
        assert!(!clients.for_url("https://192.0.2.1/", false).unwrap().revoked.is_cancelled());
    }
}
