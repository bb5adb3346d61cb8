//! Who may ask: local hosts, no foreign web page, JSON bodies, and API keys where they are configured.

use crate::chat::{ChatError, ErrorKind};
use crate::provider::is_loopback_host;
use crate::secret::Secret;
use crate::upstream::auth;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, Method, Uri};
use std::net::IpAddr;

/// The content type of bodies.
const JSON: &str = "application/json";

/// What the guards are told by the config.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Host names accepted besides loopback ones.
    pub allowed_hosts: &'a [String],
    /// Origins accepted besides none.
    pub allowed_origins: &'a [String],
    /// Addresses that are listened on; clients beyond loopback name them in `Host`.
    pub bound: &'a [IpAddr],
}

/// Checks `Host` and `Origin`. A request that a web page caused, by DNS rebinding or by posting to localhost, ends here.
///
/// # Errors
/// 403, with the setting that would open the guard.
pub fn check_source(rules: &Rules<'_>, uri: &Uri, headers: &HeaderMap) -> Result<(), ChatError> {
    // A second Host, or another name in the request line, is how a rebound name hides behind a local one.
    let authority = uri.authority().map(|authority| authority.as_str());
    let hosts = headers.get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default());
    let mut names = hosts.chain(authority).map(host_name).peekable();
    let unnamed = names.peek().is_none();
    if let Some(name) = names.find(|name| !is_allowed_host(rules, name)).or_else(|| unnamed.then_some("")) {
        let message = format!(
            "The Host header `{}` is not local. If this client may use Bifrost, add the name to `allowed_hosts` in [server].",
            readable(name)
        );
        return Err(ChatError::new(ErrorKind::Permission, message).with_code("host_not_allowed"));
    }
    match headers.get(ORIGIN) {
        None => Ok(()),
        Some(origin) if is_allowed_origin(rules, origin.as_bytes()) => Ok(()),
        Some(origin) => {
            let origin = readable(&String::from_utf8_lossy(origin.as_bytes()));
            let message = format!(
                "Requests from web pages are refused (Origin `{origin}`). If this page may use Bifrost, add it to `allowed_origins` in [server]."
            );
            Err(ChatError::new(ErrorKind::Permission, message).with_code("origin_not_allowed"))
        }
    }
}

fn is_allowed_host(rules: &Rules<'_>, name: &str) -> bool {
    let bound =
        |address: &IpAddr| name.parse() == Ok(*address) || address.is_unspecified() && name.parse::<IpAddr>().is_ok();
    is_loopback_host(name)
        || rules.allowed_hosts.iter().any(|allowed| host_name(allowed).eq_ignore_ascii_case(name))
        || rules.bound.iter().any(bound)
}

/// Checks the size of the request head; hyper's own limit is one of its buffer, which holds more than that at times.
///
/// # Errors
/// 431, with the setting that would open the guard.
pub fn check_head(max: usize, uri: &Uri, headers: &HeaderMap) -> Result<(), ChatError> {
    // A line is `name: value` and its end.
    let lines: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let target = uri.path().len() + uri.query().map_or(0, str::len);
    if lines + target <= max {
        return Ok(());
    }
    let message =
        format!("The request head is larger than {max} bytes. Send less, or raise `max_header_bytes` in [server].");
    let mut error = ChatError::new(ErrorKind::InvalidRequest, message).with_code("header_too_large");
    error.status = Some(431);
    Err(error)
}

/// True when the config allows this origin.
pub fn is_allowed_origin(rules: &Rules<'_>, origin: &[u8]) -> bool {
    rules.allowed_origins.iter().any(|allowed| allowed.trim_end_matches('/').as_bytes().eq_ignore_ascii_case(origin))
}

/// Refuses a body that is declared to be something else than JSON: a web page can post forms and plain text unasked.
///
/// # Errors
/// 415 as an invalid request.
pub fn check_content_type(method: &Method, headers: &HeaderMap) -> Result<(), ChatError> {
    if !matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        return Ok(());
    }
    let mut kinds = headers.get_all(CONTENT_TYPE).iter().map(|value| value.to_str().unwrap_or(""));
    let Some(other) = kinds.find(|kind| *kind != JSON && !is_json(&kind.to_ascii_lowercase())) else { return Ok(()) };
    let message = format!(
        "The content type `{}` is not JSON. Send the body as `content-type: {JSON}`.",
        readable(&other.to_ascii_lowercase())
    );
    let mut error = ChatError::new(ErrorKind::InvalidRequest, message).with_code("unsupported_media_type");
    error.status = Some(415);
    Err(error)
}

fn is_json(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or("").trim();
    essence == JSON || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// Checks the client's key against the configured ones; without configured ones everybody on this machine may ask.
///
/// # Errors
/// 401, saying how to send the key.
pub fn check_key(keys: &[Secret], uri: &Uri, headers: &HeaderMap) -> Result<(), ChatError> {
    if keys.is_empty() {
        return Ok(());
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(auth::bearer);
    let query = uri.query().and_then(|query| query.split('&').find_map(|pair| pair.strip_prefix("key=")));
    let offered = [bearer, header("x-api-key"), header("x-goog-api-key"), header("api-key"), query];
    if offered
        .into_iter()
        .flatten()
        .any(|offer| keys.iter().any(|key| same(key.expose().as_bytes(), offer.trim().as_bytes())))
    {
        return Ok(());
    }
    let message = "This Bifrost asks for a key. Send one of its `[server] api_keys` as `Authorization: Bearer <key>`.";
    Err(ChatError::new(ErrorKind::Authentication, message).with_code("invalid_api_key"))
}

/// Compares in a time that does not tell where the difference is.
pub fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// A host without its port and brackets.
fn host_name(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// A client's text as it may stand in an error: short, and without control characters.
fn readable(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const STRICT: Rules<'_> = Rules { allowed_hosts: &[], allowed_origins: &[], bound: &[] };

    fn source(host: &str, origin: Option<&str>, rules: &Rules<'_>) -> Result<(), ChatError> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_str(host).unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
        }
        check_source(rules, &Uri::from_static("/v1/models"), &headers)
    }

    #[test]
    fn only_local_hosts_pass() {
        for host in ["localhost", "localhost:30080", "127.0.0.1:30080", "[::1]:30080", "LOCALHOST:1", "127.9.9.9"] {
            assert!(source(host, None, &STRICT).is_ok(), "{host}");
        }
        for host in ["evil.com", "localhost.evil.com:30080", "10.0.0.1:30080", "", "127.0.0.1.evil.com", "[::2]:1"] {
            assert!(source(host, None, &STRICT).is_err(), "{host}");
        }
    }

    #[test]
    fn a_web_page_is_refused_unless_allowed() {
        for origin in ["https://evil.com", "null", "http://localhost:3000", "http://127.0.0.1:30080"] {
            assert!(source("localhost", Some(origin), &STRICT).is_err(), "{origin}");
        }
        let origins = ["http://localhost:3000/".to_owned()];
        let hosts = ["host.docker.internal".to_owned()];
        let open = Rules { allowed_hosts: &hosts, allowed_origins: &origins, bound: &[] };
        assert!(source("host.docker.internal:30080", Some("http://localhost:3000"), &open).is_ok());
        assert!(source("localhost", Some("http://localhost:3001"), &open).is_err());
    }

    #[test]
    fn a_bound_address_may_be_named() {
        let bound = ["192.168.1.5".parse().unwrap()];
        assert!(source("192.168.1.5:30080", None, &Rules { bound: &bound, ..STRICT }).is_ok());
        let any = ["0.0.0.0".parse().unwrap()];
        assert!(source("192.168.1.5:30080", None, &Rules { bound: &any, ..STRICT }).is_ok());
        assert!(source("evil.com", None, &Rules { bound: &any, ..STRICT }).is_err());
    }

    #[test]
    fn forms_and_plain_text_are_refused() {
        for (value, fine) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/vnd.api+json", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("multipart/form-data; boundary=x", false),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_str(value).unwrap())]);
            assert_eq!(check_content_type(&Method::POST, &headers).is_ok(), fine, "{value}");
        }
    }

    #[test]
    fn a_key_may_come_in_every_dialects_header() {
        let keys = [Secret::new("k1"), Secret::new("k2")];
        for (name, value) in [
            ("authorization", "Bearer k2"),
            ("authorization", "bearer  k1"),
            ("x-api-key", "k1"),
            ("x-goog-api-key", "k2"),
        ] {
            let headers =
                HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))]);
            assert!(check_key(&keys, &Uri::from_static("/"), &headers).is_ok(), "{name}");
        }
        assert!(check_key(&keys, &Uri::from_static("/?alt=sse&key=k1"), &HeaderMap::new()).is_ok());
        assert!(check_key(&keys, &Uri::from_static("/?key=k"), &HeaderMap::new()).is_err());
        assert!(check_key(&[], &Uri::from_static("/"), &HeaderMap::new()).is_ok());
    }
}
