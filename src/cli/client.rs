//! The commands' way to the running gateway: where it listens, what it asks for, and what its refusals mean.

use super::{Exit, Output};
use crate::config::{Inputs, Snapshot, env};
use crate::provider::{self, Deadlines};
use crate::secret::Secret;
use crate::server::TOKEN_FILE;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use http::{Method, StatusCode};
use reqwest::{RequestBuilder, Response, Url};
use serde_json::Value;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A short question (a list, a switch) is answered within this; a chat has the gateway's own deadlines.
const SHORT: Duration = Duration::from_secs(30);

/// Asks for local-only mode, for this request.
const LOCAL: HeaderName = HeaderName::from_static("x-bifrost-local");

/// Where the gateway is.
#[derive(Debug, Clone, Default, Args)]
pub struct GatewayArgs {
    /// Where the gateway listens [default: $BIFROST_URL, then what the configuration says].
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Trouble {
    /// The output is closed.
    Output(io::Error),
    /// Something to tell.
    Told {
        /// How the command ends.
        exit: Exit,
        /// What happened; behind the first line, what to do next.
        message: String,
    },
}

impl Trouble {
    /// Something to tell.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self::Told { exit, message: message.into() }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// The running gateway, seen from a command.
#[derive(Debug)]
pub struct Gateway {
    base: String,
    client: reqwest::Client,
    key: Option<Secret>,
    token: Option<PathBuf>,
}

/// An answer in JSON.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body.
    pub body: Value,
}

/// Where the gateway of this configuration listens, as clients write it: no slash at the end, no `/v1`.
///
/// # Errors
/// The system chooses the port.
pub fn address(snapshot: &Snapshot) -> Result<String, Trouble> {
    let server = &snapshot.server;
    if server.port == 0 {
        let message = "the configuration lets the system choose the port; say where the gateway listens with --url";
        return Err(Trouble::new(Exit::Usage, message));
    }
    let usual =
        |address: &IpAddr| address.is_unspecified() || matches!(address.to_string().as_str(), "127.0.0.1" | "::1");
    let host = match server.hosts.first() {
        Some(IpAddr::V4(address)) if !server.hosts.iter().any(usual) => address.to_string(),
        Some(IpAddr::V6(address)) if !server.hosts.iter().any(usual) => format!("[{address}]"),
        _ => "localhost".to_owned(),
    };
    Ok(format!("http://{host}:{}", server.port))
}

/// The URL that was named, by flag or variable, in the form of [`address`].
pub fn named_address(args: &GatewayArgs, inputs: &Inputs) -> Option<String> {
    let named = args.url.as_deref().or_else(|| inputs.environment.get(env::URL.name))?;
    let named = named.trim().trim_end_matches('/');
    Some(named.strip_suffix("/v1").unwrap_or(named).to_owned())
}

impl Gateway {
    /// Finds out where it is and what it asks for. Sends nothing.
    ///
    /// # Errors
    /// The URL is none, or the key that the gateway asks for cannot be had.
    pub async fn find(args: &GatewayArgs, inputs: &Inputs, output: &mut Output<'_>) -> Result<Self, Trouble> {
        let named = named_address(args, inputs);
        let snapshot = match Snapshot::load(inputs) {
            Ok(snapshot) => Some(snapshot),
            // The gateway may well run with the last good configuration, at an address that was named.
            Err(error) => {
                let fallback = if named.is_some() { "" } else { "; the default address is tried" };
                output.warning(&format!("the configuration is not valid{fallback}: {error}"))?;
                None
            }
        };
        let base = match (named, &snapshot) {
            (Some(named), _) => named,
            (None, Some(snapshot)) => address(snapshot)?,
            (None, None) => "http://localhost:30080".to_owned(),
        };
        let client = client_for(&base)?;
        let mut gateway = Self { base, client, key: None, token: None };
        if gateway.is_ours(snapshot.as_ref()) {
            gateway.token = inputs.paths.state.as_ref().map(|folder| folder.join(TOKEN_FILE));
            if let Some(snapshot) = &snapshot
                && let Some(reference) = snapshot.server.api_keys.first()
            {
                let key = snapshot.secrets.resolve(reference).await;
                let message = |error| format!("the key that the gateway asks for could not be had: {error}");
                gateway.key = Some(key.map_err(|error| Trouble::new(Exit::Failure, message(error)))?);
            }
        }
        Ok(gateway)
    }

    /// Keys and tokens go to this machine and to the configured address, whatever `--url` says.
    fn is_ours(&self, snapshot: Option<&Snapshot>) -> bool {
        let loopback = Url::parse(&self.base).is_ok_and(|url| provider::is_loopback(url.as_str()));
        loopback || snapshot.is_some_and(|snapshot| address(snapshot).is_ok_and(|address| address == self.base))
    }

    /// Where it is; no slash at the end, no `/v1`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Asks a short question of one of the client routes.
    ///
    /// # Errors
    /// It does not answer, or not in JSON.
    pub async fn get(&self, path: &str, local: bool) -> Result<Answer, Trouble> {
        self.within(SHORT, self.request(Method::GET, path, &[], self.key.as_ref())?, local).await
    }

    /// Asks something of the admin API.
    ///
    /// # Errors
    /// It does not answer, or not in JSON, or knows another token.
    pub async fn admin(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Answer, Trouble> {
        self.admin_within(SHORT, method, path, query, body).await
    }

    /// The same for what takes its time.
    ///
    /// # Errors
    /// As [`Gateway::admin`].
    pub async fn admin_within(
        &self,
        limit: Duration,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Answer, Trouble> {
        let token = self.token.as_ref().and_then(|file| std::fs::read_to_string(file).ok());
        let token = token.map(|token| Secret::new(token.trim()));
        let mut request = self.request(method, path, query, token.as_ref())?;
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        }
        let answer = self.within(limit, request, false).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        let message = match &self.token {
            None => format!("the admin token is only sent to this machine, and {} is another", self.base),
            Some(file) => format!(
                "the gateway at {} does not take the admin token in {}\nit writes a new one at each start: is it run by \
                 another user, or with another BIFROST_STATE_DIR?",
                self.base,
                file.display()
            ),
        };
        Err(Trouble::new(Exit::Failure, message))
    }

    /// Sends a chat request; the answer comes as it comes.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn chat(&self, body: &Value, local: bool) -> Result<Response, Trouble> {
        let mut request = self.request(Method::POST, "/v1/chat/completions", &[], self.key.as_ref())?;
        request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
        if local {
            request = request.header(LOCAL, "true");
        }
        request.send().await.map_err(|error| self.unreachable(&error))
    }

    /// Reads an answer to its end.
    ///
    /// # Errors
    /// It broke off, or is not JSON.
    pub async fn read(&self, response: Response) -> Result<Answer, Trouble> {
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| self.unreachable(&error))?;
        let body = serde_json::from_slice(&bytes).map_err(|_| {
            let message = format!("what answers at {} is no Bifrost: status {status}, and no JSON", self.base);
            Trouble::new(Exit::Failure, message)
        })?;
        Ok(Answer { status, body })
    }

    async fn within(&self, limit: Duration, mut request: RequestBuilder, local: bool) -> Result<Answer, Trouble> {
        if local {
            request = request.header(LOCAL, "true");
        }
        let response = request.timeout(limit).send().await.map_err(|error| self.unreachable(&error))?;
        self.read(response).await
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        secret: Option<&Secret>,
    ) -> Result<RequestBuilder, Trouble> {
        let mut url = Url::parse(&format!("{}{path}", self.base)).map_err(|_| no_url(&self.base))?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.client.request(method, url);
        Ok(match secret {
            Some(secret) => request.header(AUTHORIZATION, format!("Bearer {}", secret.expose())),
            None => request,
        })
    }

    /// What the failure of a connection means, without the URL that reqwest puts into its words.
    pub fn unreachable(&self, error: &reqwest::Error) -> Trouble {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        // The kind reads the same on every system; the whole text carries the system's own number.
        let cause = match cause.downcast_ref::<io::Error>() {
            Some(error) if error.kind() != io::ErrorKind::Other => error.kind().to_string(),
            _ => cause.to_string(),
        };
        let message = format!(
            "the gateway at {} does not answer ({cause})\nstart it with `bifrost serve`, or say where it listens with \
             --url or BIFROST_URL",
            self.base
        );
        Trouble::new(Exit::Unreachable, message)
    }
}

fn client_for(base: &str) -> Result<reqwest::Client, Trouble> {
    let url = Url::parse(base).map_err(|_| no_url(base))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(no_url(base));
    }
    http_client(&url, Deadlines::CLOUD.connect)
        .map_err(|error| Trouble::new(Exit::Failure, format!("no HTTP client: {error}")))
}

/// A client for `url` that gives up connecting after `connect`; to this machine it goes past every proxy.
///
/// # Errors
/// The system's certificates are not to be had.
pub fn http_client(url: &Url, connect: Duration) -> Result<reqwest::Client, reqwest::Error> {
    // TLS takes its ciphers from here; a second call in one process finds it installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // A redirect could carry a key to another host.
    let builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).connect_timeout(connect);
    if provider::is_loopback(url.as_str()) { builder.no_proxy().tls_certs_only([]).build() } else { builder.build() }
}

fn no_url(text: &str) -> Trouble {
    Trouble::new(Exit::Usage, format!("`{text}` is no URL of a gateway; write it like http://localhost:30080"))
}

impl Answer {
    /// The body of a good answer.
    ///
    /// # Errors
    /// The gateway refused; its words and its remedy become the message.
    pub fn good(self) -> Result<Value, Trouble> {
        if self.status.is_success() { Ok(self.body) } else { Err(refusal(self.status, &self.body)) }
    }
}

/// A refusal of the gateway's, in its own words.
fn refusal(status: StatusCode, body: &Value) -> Trouble {
    let word = |pointer| body.pointer(pointer).and_then(Value::as_str);
    let mut message = word("/error/message").map_or_else(|| format!("the gateway answered {status}"), str::to_owned);
    if let Some(remedy) = word("/error/remedy") {
        message = format!("{message}\n{remedy}");
    }
    let exit = match status {
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::CONFLICT => Exit::Refused,
        _ => Exit::Failure,
    };
    Trouble::new(exit, message)
}

/// The text of a JSON field; empty when there is none.
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
