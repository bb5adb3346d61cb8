//! From the types of the file to a [`Snapshot`]: defaults, overlays, and the checks that need to see the whole.

use super::classes::{AutoRule, Class};
use super::error::Text;
use super::file::{File, LogTable, ServerTable};
use super::load::local_only_variable;
use super::parse::nearest;
use super::values::Span;
use super::{Inputs, Local, LogSettings, NamedModels, Problem, Server, Snapshot, env, failover, providers, traces};
use crate::provider::facts::Facts;
use crate::secret::{Resolver, SecretRef};
use indexmap::{IndexMap, IndexSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const PORT: u16 = 30080;
const MAX_BODY: u64 = 100 * 1024 * 1024;
const MAX_HEADER: u64 = 64 * 1024;
const MAX_CONNECTIONS: u64 = 1024;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// launchd waits 1 s by default between SIGTERM and SIGKILL for jobs without `ExitTimeOut` of their own.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(800);
const CATALOGUE_TTL: Duration = Duration::from_secs(600);
/// A model is not asked more often than this to stay warm.
const LEAST_KEEP_WARM: Duration = Duration::from_secs(10);

/// What is found while a snapshot is built.
pub(super) struct Findings<'a> {
    text: Option<Text<'a>>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
}

impl Findings<'_> {
    /// The key at `path` is wrong.
    pub fn wrong(&mut self, path: &[&str], message: impl Into<String>) {
        let problem = self.problem(path, message.into());
        self.problems.push(problem);
    }

    /// The key at `path` is odd, but allowed.
    pub fn odd(&mut self, path: &[&str], message: impl Into<String>) {
        let problem = self.problem(path, message.into());
        self.warnings.push(problem.to_string());
    }

    /// A key that holds the secret itself.
    pub fn literal_key(&mut self, path: &[&str], references: &[SecretRef]) {
        if !references.iter().any(|reference| matches!(reference, SecretRef::Literal(_))) {
            return;
        }
        let advice = "a key stands in the file itself; better a reference: `env:NAME`, `file:/path`, `keychain:service` \
                      or `cmd:program args`";
        let open = self.text.filter(|text| is_open(text.path));
        let mode = open.map(|text| format!("; and others can read the file: chmod 600 {}", text.path.display()));
        self.odd(path, format!("{advice}{}", mode.unwrap_or_default()));
    }

    fn problem(&self, path: &[&str], message: String) -> Problem {
        match self.text {
            Some(text) => text.problem(path, message),
            None => outside(&super::error::dotted(path), message),
        }
    }
}

/// True when others than its owner may read a file.
fn is_open(path: &Path) -> bool {
    #[cfg(unix)]
    return path.metadata().is_ok_and(|file| std::os::unix::fs::MetadataExt::mode(&file) & 0o044 != 0);
    #[cfg(not(unix))]
    return false;
}

/// A problem with a variable or a flag.
fn outside(name: &str, message: impl Into<String>) -> Problem {
    Problem { file: None, position: None, key: name.to_owned(), message: message.into() }
}

/// Builds the snapshot of `file` over what is `shipped`.
pub(super) fn snapshot(
    inputs: &Inputs,
    text: Option<Text<'_>>,
    file: File,
    shipped: File,
) -> Result<Snapshot, Vec<Problem>> {
    let mut findings = Findings { text, problems: Vec::new(), warnings: Vec::new() };
    let server = server(inputs, file.server, &mut findings);
    let only = file.local_only_mode == Some(true) || file.local.only == Some(true) || local_only(inputs, &mut findings);
    let keep_warm = file.local.keep_warm.map(|span| span.0);
    if keep_warm.is_some_and(|every| every < LEAST_KEEP_WARM) {
        findings.wrong(
            &["local", "keep_warm"],
            "less than 10 s would only take the server's time; leave the key out for never",
        );
    }
    let providers = providers::merge(file.providers, server.port, &mut findings);
    let known: Vec<&str> = providers::names(&providers);

    let mut classes = shipped.classes;
    check_classes(&file.classes, &known, &mut findings);
    classes.extend(file.classes);
    check_aliases(&file.aliases, &classes, &shipped.aliases, &known, &mut findings);
    let mut aliases = shipped.aliases;
    aliases.extend(file.aliases);
    aliases.retain(|alias, _| !classes.contains_key(alias));
    check_rules(&file.auto.rules, &classes, &mut findings);
    let auto = file.auto.rules.into_iter().chain(shipped.auto.rules).collect();
    check_facts(&file.facts, &mut findings);

    if file.registry.is_some() && file.catalogue.registry.is_some() {
        findings.wrong(&["catalogue", "registry"], "stands at the top of the file too; keep one of them");
    }
    let registry = file.registry.or(file.catalogue.registry).map(|path| beside(inputs, text, path));
    let retry = failover::retry(&file.retry, &mut findings);
    let breaker = failover::breaker(&file.breaker, &mut findings);
    let log = log(inputs, file.log, &mut findings);
    let traces = traces::traces(file.traces, server.port, &mut findings);
    near_variables(inputs, &mut findings);

    if !findings.problems.is_empty() {
        findings.problems.sort_by_key(|problem| problem.position);
        return Err(findings.problems);
    }
    let named_models = NamedModels::of(&classes, &aliases, &file.facts);
    Ok(Snapshot {
        path: text.map(|text| text.path.to_owned()),
        has_text: text.is_some_and(|text| !text.text.trim().is_empty()),
        server,
        local: Local { only, on_cloud_model: file.local.on_cloud_model.unwrap_or_default(), keep_warm },
        providers: providers.into_iter().filter_map(|(_, provider)| provider).map(Arc::new).collect(),
        classes,
        aliases,
        registry,
        auto,
        facts: file.facts,
        named_models,
        catalogue_ttl: span(file.catalogue.ttl, CATALOGUE_TTL),
        retry,
        breaker,
        log,
        traces,
        secrets: Arc::new(Resolver::new(Arc::clone(&inputs.environment))),
        warnings: findings.warnings,
    })
}

fn span(value: Option<Span>, default: Duration) -> Duration {
    value.map_or(default, |span| span.0)
}

fn server(inputs: &Inputs, table: ServerTable, findings: &mut Findings<'_>) -> Server {
    let mut size = |key: &'static str, value: Option<u64>, default: u64, least: u64, most: u64| {
        let value = value.unwrap_or(default);
        if !(least..=most).contains(&value) {
            findings.wrong(&["server", key], format!("expected a whole number from {least} to {most}"));
        }
        usize::try_from(value).unwrap_or(usize::MAX)
    };
    let max_body = size("max_body_bytes", table.max_body_bytes, MAX_BODY, 1024, 1 << 32);
    let max_header = size("max_header_bytes", table.max_header_bytes, MAX_HEADER, 8192, 1 << 20);
    let max_connections = size("max_connections", table.max_connections, MAX_CONNECTIONS, 1, 1 << 20);

    let hosts = hosts(inputs, table.host.map(|hosts| hosts.0), findings);
    findings.literal_key(&["server", "api_keys"], &table.api_keys);
    if let Some(open) = hosts.iter().find(|host| !host.is_loopback())
        && table.api_keys.is_empty()
    {
        let message =
            format!("`{open}` can be reached from other machines, so `[server] api_keys` must name at least one key");
        findings.wrong(&["server", "host"], message);
    }
    let mut allowed_hosts = Vec::new();
    for (index, host) in table.allowed_hosts.into_iter().enumerate() {
        let name = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if name.is_empty() || !name.chars().all(plain) || (name.contains(':') && name.parse::<IpAddr>().is_err()) {
            let index = format!("#{index}");
            findings.wrong(
                &["server", "allowed_hosts", &index],
                "expected a host name alone, without scheme, port or `*`, as in `host.docker.internal`",
            );
        }
        allowed_hosts.push(name);
    }
    for (index, origin) in table.allowed_origins.iter().enumerate() {
        let host = origin.split_once("://").map(|(_, host)| host);
        if origin != "null" && host.is_none_or(|host| host.contains(['/', '*', ' '])) {
            let index = format!("#{index}");
            findings.wrong(
                &["server", "allowed_origins", &index],
                "expected an origin without a path or `*`, as in `https://chat.example.com` or `app://obsidian.md`",
            );
        }
    }
    Server {
        hosts,
        port: port(inputs, table.port, findings),
        api_keys: table.api_keys,
        allowed_hosts,
        allowed_origins: table.allowed_origins,
        max_body,
        max_header,
        max_connections,
        header_timeout: positive(&["server", "header_timeout"], table.header_timeout, HEADER_TIMEOUT, findings),
        body_timeout: positive(&["server", "body_timeout"], table.body_timeout, BODY_TIMEOUT, findings),
        shutdown_grace: span(table.shutdown_grace, SHUTDOWN_GRACE),
    }
}

/// A time that may not be 0.
pub(super) fn positive(path: &[&str], value: Option<Span>, default: Duration, findings: &mut Findings<'_>) -> Duration {
    let value = span(value, default);
    if value.is_zero() {
        findings.wrong(path, "0 would leave no time at all; leave the key out for the default");
    }
    value
}

fn hosts(inputs: &Inputs, table: Option<Vec<String>>, findings: &mut Findings<'_>) -> Vec<IpAddr> {
    const BOTH: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let read = |host: &str| -> Option<Vec<IpAddr>> {
        let host = host.trim();
        if host.eq_ignore_ascii_case("localhost") {
            return Some(BOTH.to_vec());
        }
        Some(vec![host.trim_start_matches('[').trim_end_matches(']').parse().ok()?])
    };
    let wrong = "expected an IP address without port, as in `127.0.0.1`, `::1` or `0.0.0.0`, or `localhost`";
    let mut hosts = IndexSet::new();
    if !inputs.flags.hosts.is_empty() {
        hosts.extend(inputs.flags.hosts.iter().copied());
    } else if let Some(variable) = inputs.environment.get(env::HOST.name) {
        for host in variable.split(',') {
            match read(host) {
                Some(addresses) => hosts.extend(addresses),
                None => findings.problems.push(outside(env::HOST.name, wrong)),
            }
        }
    } else {
        for (index, host) in table.iter().flatten().enumerate() {
            match read(host) {
                Some(addresses) => hosts.extend(addresses),
                None => findings.wrong(&["server", "host", &format!("#{index}")], wrong),
            }
        }
        if table.is_some_and(|hosts| hosts.is_empty()) {
            findings
                .wrong(&["server", "host"], "an empty list would listen nowhere; leave the key out for the default");
        }
    }
    if hosts.is_empty() { BOTH.to_vec() } else { hosts.into_iter().collect() }
}

fn port(inputs: &Inputs, table: Option<u16>, findings: &mut Findings<'_>) -> u16 {
    let variable = inputs.environment.get(env::PORT.name).map(|text| text.trim().parse::<u16>());
    match (inputs.flags.port, variable) {
        (Some(port), _) | (None, Some(Ok(port))) => port,
        (None, Some(Err(_))) => {
            findings.problems.push(outside(env::PORT.name, "expected a whole number from 0 to 65535"));
            PORT
        }
        (None, None) => table.unwrap_or(PORT),
    }
}

fn local_only(inputs: &Inputs, findings: &mut Findings<'_>) -> bool {
    let variable = local_only_variable(&inputs.environment);
    if variable.is_none() {
        let problem = outside(env::LOCAL_ONLY.name, "neither yes nor no, so local-only mode is on; write `1` or `0`");
        findings.warnings.push(problem.to_string());
    }
    inputs.flags.local_only || variable != Some(false)
}

fn check_classes(classes: &IndexMap<String, Class>, providers: &[&str], findings: &mut Findings<'_>) {
    for (name, class) in classes {
        if name.is_empty() || name == "auto" || name.contains(['/', ' ']) {
            findings.wrong(&["classes", name], "a class cannot have this name: no `/`, no space, not `auto`");
        }
        if class.select.is_empty() {
            findings.wrong(
                &["classes", name, "select"],
                "a class needs at least one selector, as in `select = [{ provider = \"mlx-local\" }]`",
            );
        }
        failover::check_deadlines(&["classes", name, "deadlines"], &class.deadlines, findings);
        for (index, selector) in class.select.iter().enumerate() {
            let index = format!("#{index}");
            let path = |key| ["classes", name.as_str(), "select", index.as_str(), key];
            if let Some(provider) = &selector.provider
                && !providers.contains(&provider.as_str())
            {
                findings.wrong(&path("provider"), no_such("provider", provider, providers));
            }
            if let Some(model) = &selector.model {
                // No model is called so: it is meant as a wildcard, and as none it would match nothing in silence.
                if model.contains(['[', '{']) {
                    findings.wrong(&path("model"), "not a glob: `*` (anything) and `?` (one letter) are all there is");
                } else if !model.contains(['*', '?']) {
                    findings.odd(&path("model"), PINNED);
                }
            }
            if selector.limit == Some(0) {
                findings.wrong(&path("limit"), "0 would select nothing; leave the key out for 1");
            }
        }
    }
}

const PINNED: &str =
    "a pinned model id will rot when its vendor retires the model; a glob or a class follows what there is";

fn no_such(what: &str, name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("there is no {what} `{name}`; did you mean `{near}`?"),
        None => format!("there is no {what} `{name}`; known are {}", known.join(", ")),
    }
}

fn check_aliases(
    aliases: &IndexMap<String, String>,
    classes: &IndexMap<String, Class>,
    shipped: &IndexMap<String, String>,
    providers: &[&str],
    findings: &mut Findings<'_>,
) {
    for (alias, target) in aliases {
        let path = ["aliases", alias.as_str()];
        if classes.contains_key(alias) {
            findings.wrong(&path, "a class has this name, and it would hide the alias");
        }
        if alias.is_empty() || alias == "auto" || target.is_empty() {
            findings.wrong(&path, "an alias needs a name other than `auto`, and a class or a model");
            continue;
        }
        let next = |name: &str| aliases.get(name).or_else(|| shipped.get(name));
        let mut end = target.as_str();
        let mut seen = IndexSet::from([alias.as_str()]);
        while let Some(further) = next(end).filter(|_| !classes.contains_key(end)) {
            if !seen.insert(end) {
                break;
            }
            end = further;
        }
        if seen.contains(end) {
            findings.wrong(&path, "leads back to itself");
            continue;
        }
        let class = end.strip_prefix("class/").unwrap_or(end);
        if classes.contains_key(class) || end == "auto" {
            continue;
        }
        let names: Vec<&str> = classes.keys().chain(aliases.keys()).chain(shipped.keys()).map(String::as_str).collect();
        match end.split_once('/') {
            Some(("class", _)) => findings.wrong(&path, no_such("class", class, &names)),
            Some((provider, _))
                if !providers.contains(&provider) && nearest(provider, providers.iter().copied()).is_some() =>
            {
                findings.wrong(&path, no_such("provider", provider, providers));
            }
            None if nearest(end, names.iter().copied().filter(|name| *name != alias)).is_some() => {
                let names: Vec<&str> = names.into_iter().filter(|name| *name != alias).collect();
                findings.wrong(&path, no_such("class or alias", end, &names));
            }
            _ => findings.odd(&path, PINNED),
        }
    }
}

fn check_rules(rules: &[AutoRule], classes: &IndexMap<String, Class>, findings: &mut Findings<'_>) {
    let names: Vec<&str> = classes.keys().map(String::as_str).collect();
    for (index, rule) in rules.iter().enumerate() {
        if !classes.contains_key(&rule.class) {
            let index = format!("#{index}");
            findings.wrong(&["auto", "rules", &index, "class"], no_such("class", &rule.class, &names));
        }
    }
}

fn check_facts(facts: &IndexMap<String, Facts>, findings: &mut Findings<'_>) {
    for (model, facts) in facts {
        let prices = [
            ("input_price", facts.input_price),
            ("output_price", facts.output_price),
            ("cache_read_price", facts.cache_read_price),
            ("cache_write_price", facts.cache_write_price),
            ("cache_write_1h_price", facts.cache_write_1h_price),
        ];
        for (key, price) in prices {
            if price.is_some_and(|price| !price.is_finite() || price < 0.0) {
                findings.wrong(&["facts", model, key], "expected US dollars per million tokens, 0 or more");
            }
        }
    }
}

fn log(inputs: &Inputs, table: LogTable, findings: &mut Findings<'_>) -> LogSettings {
    let valid = |filter: &str| tracing_subscriber::EnvFilter::try_new(filter).is_ok();
    let wrong = "expected a level (`error`, `warn`, `info`, `debug`, `trace`, `off`), or several as in `info,bifrost::route=debug`";
    let outer = inputs.flags.log.as_deref().map(|filter| ("--log", filter));
    let outer = outer.or_else(|| inputs.environment.get(env::LOG.name).map(|filter| (env::LOG.name, filter)));
    if let Some((name, _)) = outer.filter(|(_, filter)| !valid(filter)) {
        findings.problems.push(outside(name, wrong));
    }
    if table.filter.as_deref().is_some_and(|filter| !valid(filter)) {
        findings.wrong(&["log", "filter"], wrong);
    }
    let filter = outer.map(|(_, filter)| filter.to_owned()).or(table.filter).unwrap_or_else(|| "info".to_owned());
    LogSettings { filter, json: table.json.unwrap_or(false), access: table.access.unwrap_or(true) }
}

/// A relative path starts at the folder of the file.
fn beside(inputs: &Inputs, text: Option<Text<'_>>, path: PathBuf) -> PathBuf {
    let path = inputs.paths.expand(&path);
    match text.and_then(|text| text.path.parent()) {
        Some(folder) => folder.join(path),
        None => path,
    }
}

/// Warns of variables that look like ours and are not.
fn near_variables(inputs: &Inputs, findings: &mut Findings<'_>) {
    let ours = || env::VARIABLES.iter().filter_map(|variable| variable.name.strip_prefix("BIFROST_"));
    for name in inputs.environment.names().filter_map(|name| name.strip_prefix("BIFROST_")) {
        let near = |known: &&str| strsim::damerau_levenshtein(known, name) <= (name.len() / 3).max(1);
        if !ours().any(|known| known == name)
            && let Some(near) = ours().find(near)
        {
            let message = format!("no such variable; did you mean `BIFROST_{near}`?");
            findings.warnings.push(outside(&format!("BIFROST_{name}"), message).to_string());
        }
    }
}
