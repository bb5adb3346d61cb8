//! How a connection is made: by the connector that reaches loopback and nothing else, or by the one of the cloud.

use crate::provider::{is_loopback_host, literal_address};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Between two signs of life of the system's on a silent connection to the cloud.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
/// A silent connection to the cloud has broken after so many signs of life without an answer.
const TCP_KEEPALIVE_RETRIES: u32 = 3;

/// Bytes both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A connection over which nothing has been said yet.
pub struct Connected {
    /// The bytes.
    pub io: Box<dyn Duplex>,
    /// Both sides agreed on HTTP/2 (ALPN).
    pub http2: bool,
    /// Set when a proxy reads the requests itself, and then needs the whole URL in each.
    pub proxy: Option<ForwardProxy>,
}

/// A proxy that requests without TLS are sent to.
#[derive(Debug, Clone)]
pub struct ForwardProxy {
    /// `proxy-authorization`, where the system's settings name a user.
    pub authorization: Option<HeaderValue>,
}

/// Why there is no connection, without the URL: it may hold a key.
#[derive(Debug)]
pub enum ConnectError {
    /// Not within the limit.
    TimedOut,
    /// Refused, no such name, no TLS: the innermost cause, in words.
    Failed(String),
}

/// A connection on its way.
pub type Connecting<'a> = Pin<Box<dyn Future<Output = Result<Connected, String>> + Send + 'a>>;

/// Makes connections.
pub trait Connector: fmt::Debug + Send + Sync {
    /// Connects to an origin; the error is the innermost cause, in words.
    fn connect(&self, scheme: &Scheme, authority: &Authority) -> Connecting<'_>;
}

/// Connects with `connector`, within `limit`.
///
/// # Errors
/// Refused, unknown, without TLS, or not in time.
pub async fn connect(
    connector: &dyn Connector,
    scheme: &Scheme,
    authority: &Authority,
    limit: Duration,
) -> Result<Connected, ConnectError> {
    match tokio::time::timeout(limit, connector.connect(scheme, authority)).await {
        Ok(connected) => connected.map_err(ConnectError::Failed),
        Err(_) => Err(ConnectError::TimedOut),
    }
}

/// Reaches this machine and nothing else: it knows two addresses by name and asks nobody about others.
#[derive(Debug)]
pub struct LoopbackConnector;

impl Connector for LoopbackConnector {
    fn connect(&self, scheme: &Scheme, authority: &Authority) -> Connecting<'_> {
        let is_plain = *scheme == Scheme::HTTP;
        let addresses = loopback_addresses(authority.host());
        let port = authority.port_u16().unwrap_or(80);
        Box::pin(async move {
            if !is_plain {
                return Err("a server on this machine is asked without TLS; write http:// in its address".to_owned());
            }
            let mut failure = "only this machine can be reached by the local client".to_owned();
            for address in addresses {
                match TcpStream::connect(SocketAddr::new(address, port)).await {
                    Ok(stream) => return plain(stream).map_err(|error| error.to_string()),
                    Err(error) => failure = error.to_string(),
                }
            }
            Err(failure)
        })
    }
}

fn plain(stream: TcpStream) -> io::Result<Connected> {
    // Without it small writes wait for the server's delayed acknowledgement, 40 ms.
    stream.set_nodelay(true)?;
    Ok(Connected { io: Box::new(stream), http2: false, proxy: None })
}

/// The addresses of a host on this machine; none of any other.
fn loopback_addresses(host: &str) -> Vec<IpAddr> {
    if !is_loopback_host(host) {
        return Vec::new();
    }
    match literal_address(host) {
        Some(literal) => vec![literal],
        None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
    }
}

/// Reaches the cloud: names from the system, certificates as the system trusts them, HTTP/2 where the server speaks it, and
/// the proxies of the environment or of macOS.
pub struct CloudConnector {
    direct: HttpsConnector<HttpConnector>,
    tls: ClientConfig,
    proxies: Matcher,
}

impl fmt::Debug for CloudConnector {
    /// The proxies' addresses may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloudConnector").finish_non_exhaustive()
    }
}

impl CloudConnector {
    /// Reads the system's certificates and proxies, which takes a while.
    ///
    /// # Errors
    /// The system's certificates are not to be had.
    pub fn new() -> Result<Self, rustls::Error> {
        let tls = ClientConfig::builder().with_platform_verifier()?.with_no_client_auth();
        Ok(Self::with(tls, Matcher::from_system()))
    }

    /// One that trusts whom `tls` trusts.
    pub(super) fn with(tls: ClientConfig, proxies: Matcher) -> Self {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_keepalive(Some(TCP_KEEPALIVE));
        http.set_keepalive_interval(Some(TCP_KEEPALIVE));
        http.set_keepalive_retries(Some(TCP_KEEPALIVE_RETRIES));
        Self { direct: over_tls(tls.clone(), http), tls, proxies }
    }

    async fn reach(&self, destination: Uri) -> Result<Connected, String> {
        let Some(proxy) = self.proxies.intercept(&destination) else {
            return reached(&self.direct, destination, None).await;
        };
        if destination.scheme() == Some(&Scheme::HTTPS) {
            let mut tunnel = Tunnel::new(proxy.uri().clone(), self.direct.clone());
            if let Some(authorization) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(authorization.clone());
            }
            return reached(&over_tls(self.tls.clone(), tunnel), destination, None).await;
        }
        reached(&self.direct, proxy.uri().clone(), Some(&proxy)).await
    }
}

impl Connector for CloudConnector {
    fn connect(&self, scheme: &Scheme, authority: &Authority) -> Connecting<'_> {
        let destination =
            Uri::builder().scheme(scheme.clone()).authority(authority.clone()).path_and_query("/").build();
        Box::pin(async move { self.reach(destination.map_err(|error| error.to_string())?).await })
    }
}

fn over_tls<C>(tls: ClientConfig, inner: C) -> HttpsConnector<C> {
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(inner)
}

/// Connects; `forward` is the proxy that the destination is, if it is one.
async fn reached<C, T, E>(
    connector: &HttpsConnector<C>,
    destination: Uri,
    forward: Option<&Intercept>,
) -> Result<Connected, String>
where
    HttpsConnector<C>: tower_service::Service<Uri, Response = T, Error = E> + Clone,
    T: hyper::rt::Read + hyper::rt::Write + Connection + Send + Unpin + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let connecting = hyper::service::Service::call(&TowerToHyperService::new(connector.clone()), destination);
    let stream = connecting.await.map_err(|error| root_cause(&*error.into()))?;
    let http2 = stream.connected().is_negotiated_h2();
    let proxy = forward.map(|proxy| ForwardProxy { authorization: proxy.basic_auth().cloned() });
    Ok(Connected { io: Box::new(TokioIo::new(stream)), http2, proxy })
}

/// The innermost cause: the outer ones say no more, or repeat the URL.
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::RootCertStore;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn only_loopback_is_local() {
        for host in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.8.9.1"] {
            assert!(!loopback_addresses(host).is_empty(), "{host}");
        }
        for host in ["localhost.evil.com", "10.0.0.1", "[::ffff:10.0.0.1]", "example.com", ""] {
            assert!(loopback_addresses(host).is_empty(), "{host}");
        }
    }

    #[tokio::test]
    async fn the_loopback_connector_asks_nobody_about_a_name() {
        let authority = Authority::from_static("example.com:80");
        let refused = LoopbackConnector.connect(&Scheme::HTTP, &authority).await;
        assert_eq!(refused.err().unwrap(), "only this machine can be reached by the local client");
    }

    /// A proxy that answers the first request head with `answer`, and tells the head.
    async fn proxy(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:secret@{}", listener.local_addr().unwrap());
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head).unwrap()
        });
        (url, asked)
    }

    fn through(url: &str) -> CloudConnector {
        // A second call in one process finds it installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        CloudConnector::with(tls, Matcher::builder().all(url).build())
    }

    #[tokio::test]
    async fn a_proxy_tunnels_what_goes_over_tls() {
        let (url, asked) = proxy("HTTP/1.1 503 No\r\n\r\n").await;
        let authority = Authority::from_static("api.example.com");
        let refused = through(&url).connect(&Scheme::HTTPS, &authority).await.err().unwrap();
        assert!(refused.contains("tunnel"), "{refused}");
        let head = asked.await.unwrap().to_lowercase();
        assert!(head.starts_with("connect api.example.com:443 http/1.1\r\n"), "{head}");
        assert!(head.contains("proxy-authorization: basic "), "{head}");
    }

    #[tokio::test]
    async fn a_proxy_is_sent_what_goes_without_tls() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:secret@{}", listener.local_addr().unwrap());
        let authority = Authority::from_static("api.example.com");
        let connected = through(&url).connect(&Scheme::HTTP, &authority).await.unwrap();
        assert!(connected.proxy.unwrap().authorization.is_some());
        assert!(!connected.http2);
    }
}
