//! Two HTTP clients. The local one reaches loopback and nothing else; the cloud one does not exist in local-only mode.

use crate::provider::Deadlines;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, Url, redirect};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use url_host::is_loopback;

/// Idle connections are closed after this, sooner than most servers close theirs.
const POOL_IDLE: Duration = Duration::from_secs(50);

/// Who asks; some hosts refuse whoever does not say.
const USER_AGENT: &str = concat!("bifrost/", env!("CARGO_PKG_VERSION"));

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

/// The two HTTP clients. Each is kept once per limit for connecting, because that is a property of a client.
#[derive(Debug)]
pub struct Clients {
    local: RwLock<BTreeMap<Duration, Client>>,
    never: CancellationToken,
    /// `None` in local-only mode: then there is none, and nothing that could make one.
    cloud: RwLock<Option<Cloud>>,
}

#[derive(Debug, Default)]
struct Cloud {
    /// Built at the first use: reading the system's certificates takes a while.
    clients: BTreeMap<Duration, Client>,
    revoked: CancellationToken,
}

impl Clients {
    /// The clients; without a cloud one if `local_only`.
    ///
    /// # Errors
    /// The local client could not be built (out of file descriptors or the like).
    pub fn new(local_only: bool) -> Result<Self, reqwest::Error> {
        // Both clients take TLS from here; a second call in one process (tests) finds it installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let connect = Deadlines::LOCAL.connect;
        Ok(Self {
            local: RwLock::new(BTreeMap::from([(connect, build_local(connect)?)])),
            never: CancellationToken::new(),
            cloud: RwLock::new((!local_only).then(Cloud::default)),
        })
    }

    /// The client that may go to `url` and gives up connecting after `connect`; `local_only` is the wish of one request.
    ///
    /// # Errors
    /// The address is not on this machine, and local-only mode is on or wished for.
    pub fn for_url(&self, url: &str, connect: Duration, local_only: bool) -> Result<Destination, LocalUrlError> {
        let parsed = Url::parse(url).map_err(|_| LocalUrlError::Invalid(url.to_owned()))?;
        let failed = |error: reqwest::Error| LocalUrlError::Invalid(error.to_string());
        if is_loopback(&parsed) {
            let known = self.local.read().unwrap_or_else(PoisonError::into_inner).get(&connect).cloned();
            let client = match known {
                Some(client) => client,
                None => {
                    let mut clients = self.local.write().unwrap_or_else(PoisonError::into_inner);
                    get_or_build(&mut clients, connect, build_local).map_err(failed)?
                }
            };
            return Ok(Destination { client, revoked: self.never.clone() });
        }
        let not_local = || LocalUrlError::NotLocal(parsed.host_str().unwrap_or("the address").to_owned());
        if local_only {
            return Err(not_local());
        }
        if let Some(cloud) = &*self.cloud.read().unwrap_or_else(PoisonError::into_inner)
            && let Some(client) = cloud.clients.get(&connect)
        {
            return Ok(Destination { client: client.clone(), revoked: cloud.revoked.clone() });
        }
        let mut cloud = self.cloud.write().unwrap_or_else(PoisonError::into_inner);
        let cloud = cloud.as_mut().ok_or_else(not_local)?;
        let client = get_or_build(&mut cloud.clients, connect, build_cloud).map_err(failed)?;
        Ok(Destination { client, revoked: cloud.revoked.clone() })
    }

    /// Switches local-only mode. On: the cloud client is dropped with its connections and what runs through it ends.
    pub fn set_local_only(&self, on: bool) {
        let mut cloud = self.cloud.write().unwrap_or_else(PoisonError::into_inner);
        if on {
            if let Some(cloud) = cloud.take() {
                cloud.revoked.cancel();
            }
        } else {
            cloud.get_or_insert_default();
        }
    }
}

fn get_or_build(
    clients: &mut BTreeMap<Duration, Client>,
    connect: Duration,
    build: fn(Duration) -> Result<Client, reqwest::Error>,
) -> Result<Client, reqwest::Error> {
    match clients.entry(connect) {
        Entry::Occupied(known) => Ok(known.get().clone()),
        Entry::Vacant(place) => Ok(place.insert(build(connect)?).clone()),
    }
}

fn build_local(connect: Duration) -> Result<Client, reqwest::Error> {
    Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .user_agent(USER_AGENT)
        .dns_resolver(Arc::new(LoopbackResolver))
        .tls_certs_only([])
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(connect)
        .pool_idle_timeout(POOL_IDLE)
        .build()
}

fn build_cloud(connect: Duration) -> Result<Client, reqwest::Error> {
    Client::builder()
        // A redirect could carry a key to another host.
        .redirect(redirect::Policy::none())
        .user_agent(USER_AGENT)
        .tcp_nodelay(true)
        .connect_timeout(connect)
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

    fn cloud(clients: &Clients, local_only: bool) -> Result<Destination, LocalUrlError> {
        clients.for_url("https://192.0.2.1/", Deadlines::CLOUD.connect, local_only)
    }

    #[test]
    fn local_only_takes_the_cloud_client_away_and_ends_what_runs_through_it() {
        let clients = Clients::new(false).unwrap();
        let before = cloud(&clients, false).unwrap();
        assert!(!before.revoked.is_cancelled());
        assert!(matches!(cloud(&clients, true), Err(LocalUrlError::NotLocal(_))));
        clients.set_local_only(true);
        assert!(before.revoked.is_cancelled());
        assert!(matches!(cloud(&clients, false), Err(LocalUrlError::NotLocal(_))));
        assert!(clients.for_url("http://127.0.0.1:1/", Deadlines::LOCAL.connect, false).is_ok());
        clients.set_local_only(false);
        assert!(!cloud(&clients, false).unwrap().revoked.is_cancelled());
    }
}
