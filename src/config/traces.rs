//! Where traces go.

use super::Traces;
use super::build::Findings;
use super::file::TracesTable;
use super::providers::{OURS, url};
use crate::provider::is_loopback;
use crate::secret::SecretRef;
use reqwest::header::HeaderName;

/// The path of OTLP over HTTP for traces.
const PATH: &str = "/v1/traces";

/// Checks the table; `None` where no traces are wanted.
pub(super) fn traces(table: TracesTable, port: u16, findings: &mut Findings<'_>) -> Option<Traces> {
    let Some(endpoint) = table.endpoint else {
        if !table.headers.is_empty() {
            findings.wrong(&["traces", "headers"], "there is no `endpoint` to send them to");
        }
        return None;
    };
    let path = ["traces", "endpoint"];
    let url = url(&path, &endpoint, "headers", findings)?;
    let is_local = is_loopback(url.as_str());
    if is_local && port != 0 && url.port_or_known_default() == Some(port) {
        findings.wrong(&path, format!("port {port} is the gateway's own: it would call itself"));
    }
    if !is_local && url.scheme() == "http" && !table.headers.is_empty() {
        findings.odd(&path, "the headers go over the network in the clear; use `https://`");
    }
    let base = url.as_str().trim_end_matches('/');
    let base = base.strip_suffix(PATH).unwrap_or(base);
    let headers = table.headers.into_iter().map(|(name, value)| (checked(name, &value, findings), value));
    Some(Traces { url: format!("{base}{PATH}"), headers: headers.collect(), is_local })
}

fn checked(name: String, value: &SecretRef, findings: &mut Findings<'_>) -> String {
    let path = ["traces", "headers", name.as_str()];
    let lower = name.to_ascii_lowercase();
    if HeaderName::from_bytes(name.as_bytes()).is_err() || OURS.contains(&lower.as_str()) {
        findings.wrong(&path, "not a header that can be set here");
    }
    findings.literal_key(&path, std::slice::from_ref(value));
    lower
}
