use super::*;
use crate::chat::DialectId;
use crate::config::OnCloudModel;
use crate::dialect::{Profile, ReasoningStyle, TokenLimitField};
use crate::provider::{Auth, BodyEdit, Deadlines, ModelList, Provider, ProviderKind};
use proptest::prelude::*;
use std::time::Duration;

const FILE: &str = "/x/bifrost.toml";

fn inputs(variables: &[(&str, &str)]) -> Inputs {
    let environment = Arc::new(variables.iter().copied().collect());
    let paths = Paths { home: Some("/home/me".into()), ..Paths::default() };
    Inputs { environment, paths, flags: Flags::default() }
}

fn load(text: &str) -> Result<Snapshot, ConfigError> {
    Snapshot::of_text(&inputs(&[]), Some((Path::new(FILE), text)))
}

fn error(text: &str) -> String {
    load(text).unwrap_err().to_string()
}

#[test]
fn without_a_file_it_starts() {
    let snapshot = Snapshot::load(&inputs(&[])).unwrap();
    assert_eq!(snapshot.server.port, 30080);
    assert!(snapshot.server.hosts.iter().all(IpAddr::is_loopback));
    assert!(!snapshot.local.only);
    assert_eq!(snapshot.path, None);
    assert_eq!(snapshot.warnings, Vec::<String>::new());
}

#[test]
fn mistakes_say_where_and_what_was_meant() {
    let cases = [
        ("[server]\nprot = 1", "/x/bifrost.toml:2:1: unknown key `prot` in [server]; did you mean `port`?"),
        (
            "\n[provider.openai]",
            "/x/bifrost.toml:2:2: unknown key `provider` at the top of the file; did you mean `providers`?",
        ),
        ("[server]\nport = 70000", "/x/bifrost.toml:2:8: server.port: expected a whole number from 0 to 65535"),
        ("[server]\nport = 'sk-planted'", "/x/bifrost.toml:2:8: server.port: expected a whole number from 0 to 65535"),
        ("server = 'sk-planted'", "/x/bifrost.toml:1:10: server: expected a table"),
        (
            "[local]\nkeep_warm = 1",
            "/x/bifrost.toml:2:1: local.keep_warm: less than 10 s would only take the server's time; leave the key out for never",
        ),
        (
            "[local]\non_cloud_model = 'refuze'",
            "/x/bifrost.toml:2:18: local.on_cloud_model: not one of the values it can have; did you mean `refuse`?",
        ),
        (
            "[providers.x]\nkey = ['evn:X']",
            "/x/bifrost.toml:2:7: providers.x.key[1]: an unknown kind of reference; did you mean `env:`?",
        ),
    ];
    for (text, message) in cases {
        assert_eq!(error(text), message);
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,60}") {
        let _ = load(&text);
    }

    #[test]
    fn a_damaged_file_never_shows_its_secrets(from in 0..DAMAGED.len(), length in 0usize..8, insert in "[\\[\\]{}=\"',.#\n a1]{0,2}") {
        let to = (from + length).min(DAMAGED.len());
        let text = format!("{}{insert}{}", &DAMAGED[..from], &DAMAGED[to..]);
        let shown = match load(&text) {
            Ok(snapshot) => format!("{snapshot:?}{}", snapshot.show(&inputs(&[]))),
            Err(error) => format!("{error}{error:?}"),
        };
        prop_assert!(!shown.contains("sk-planted"), "{text}\n{shown}");
    }
}

const DAMAGED: &str = "[server]\napi_keys = [\"sk-planted\"]\nport = 1\n[providers.openai]\nkey = \"sk-planted\"\n\
                       headers = { x = \"sk-planted\" }\nauth = \"bearer\"\n[log]\njson = true\n";

fn provider(snapshot: &Snapshot, name: &str) -> Arc<Provider> {
    let found = snapshot.providers.iter().find(|provider| *provider.name == *name);
    Arc::clone(found.unwrap_or_else(|| panic!("{name} is in use")))
}

/// The message without the file's name.
fn messages(text: &str) -> Vec<String> {
    let error = load(text).map(|_| "nothing is wrong").unwrap_err();
    error.problems.iter().map(|problem| problem.to_string().replace("/x/bifrost.toml:", "")).collect()
}

#[test]
fn what_is_wrong_in_itself_is_said_at_its_place() {
    let cases = [
        (
            "[server]\nhost = '0.0.0.0'",
            "2:1: server.host: `0.0.0.0` can be reached from other machines, so `[server] api_keys` must name at least one key",
        ),
        ("[server]\nhost = ['::1', 'lan']", "2:16: server.host[2]: expected an IP address"),
        (
            "[server]\nmax_header_bytes = 1",
            "2:1: server.max_header_bytes: expected a whole number from 8192 to 1048576",
        ),
        ("[server]\nbody_timeout = 0", "2:1: server.body_timeout: 0 would leave no time at all"),
        ("[server]\nbody_timeout = '1 fortnight'", "2:16: server.body_timeout: expected a time from 0 to 7 days"),
        ("[server]\nallowed_hosts = ['http://x']", "2:18: server.allowed_hosts[1]: expected a host name alone"),
        ("[server]\nallowed_origins = ['*']", "2:20: server.allowed_origins[1]: expected an origin"),
        ("[providers.openai]\nbase_url = 'api.openai.com'", "2:1: providers.openai.base_url: not a URL"),
        (
            "[providers.openai]\nbase_url = 'ftp://h'",
            "2:1: providers.openai.base_url: expected `http://` or `https://`",
        ),
        (
            "[providers.openai]\nbase_url = 'https://u:planted@h'",
            "2:1: providers.openai.base_url: a key does not belong into the URL; use `key`",
        ),
        (
            "[providers.opnai]\nkey = 'env:X'",
            "1:12: providers.opnai: no shipped provider has this name, so it needs a `base_url`; or did you mean `openai`?",
        ),
        ("[providers.Mine]\nbase_url = 'http://h'", "1:12: providers.Mine: a provider's name has lower-case letters"),
        (
            "[providers.mlx-local]\nbase_url = 'http://192.168.1.7:11434'",
            "2:1: providers.mlx-local.base_url: a local provider needs a loopback address",
        ),
        (
            "[providers.mine]\nbase_url = 'https://localhost:8443'",
            "2:1: providers.mine.base_url: a server on this machine is asked without TLS; write `http://`",
        ),
        ("[providers.mlx-local]\nkind = 'vendor'", "2:1: providers.mlx-local.kind: is always `local`"),
        (
            "[providers.mine]\nbase_url = 'http://mac.local:1'\nkind = 'local'",
            "2:1: providers.mine.base_url: a local provider needs a loopback address",
        ),
        (
            "[providers.mine]\nbase_url = 'http://localhost:30080'",
            "2:1: providers.mine.base_url: port 30080 is the gateway's own: it would call itself",
        ),
        (
            "[providers.openai.deadlines]\nconnect = 0",
            "2:1: providers.openai.deadlines.connect: 0 would leave no time at all",
        ),
        (
            "[providers.openai.limits]\nin_flight = 0",
            "2:1: providers.openai.limits.in_flight: 0 would let nothing through",
        ),
        (
            "[providers.openai.limits]\nin_flight = 1\nqueue = 10001",
            "3:1: providers.openai.limits.queue: expected a whole number from 0 to 10000",
        ),
        ("[providers.mlx-local.limits]\nqueue_timeout = 0", "2:1: providers.mlx-local.limits.queue_timeout: 0 would"),
        (
            "[providers.openai.limits]\nin_flight = 1\nresidency = 5",
            "3:1: providers.openai.limits.residency: only of `mlx-local` is it known",
        ),
        ("[classes.x]\npriority = 'low'", "2:12: classes.x.priority: not one of the values it can have"),
        (
            "[providers.openai]\nheaders = { Host = 'x' }",
            "2:13: providers.openai.headers.Host: not a header that can be set here",
        ),
        ("[providers.openai]\ndialect = []", "2:1: providers.openai.dialect: an empty list"),
        (
            "[classes.x]\nselect = [{ provider = 'opnai' }]",
            "2:13: classes.x.select[1].provider: there is no provider `opnai`; did you mean `openai`?",
        ),
        ("[classes.x]\ndescription = 'y'", "1:10: classes.x.select: a class needs at least one selector"),
        ("[classes.x]\nselect = [{ model = '[a' }]", "2:13: classes.x.select[1].model: not a glob"),
        ("[classes.x]\nselect = [{ model = '{opus,sonnet}-*' }]", "2:13: classes.x.select[1].model: not a glob"),
        ("[classes.x]\nselect = [{ limit = 0 }]", "2:13: classes.x.select[1].limit: 0 would select nothing"),
        ("[aliases]\nx = 'codng'", "2:1: aliases.x: there is no class or alias `codng`; did you mean `coding`?"),
        ("[aliases]\nx = 'opnai/gpt'", "2:1: aliases.x: there is no provider `opnai`; did you mean `openai`?"),
        ("[aliases]\nx = 'y'\ny = 'x'", "2:1: aliases.x: leads back to itself"),
        ("[aliases]\nx = 'x'", "2:1: aliases.x: leads back to itself"),
        ("[aliases]\ncoding = 'review'", "2:1: aliases.coding: a class has this name"),
        (
            "[[auto.rules]]\nclass = 'codign'",
            "2:1: auto.rules[1].class: there is no class `codign`; did you mean `coding`?",
        ),
        ("[facts.'a/b']\ninput_price = -1.0", "2:1: facts.\"a/b\".input_price: expected US dollars"),
        ("registry = 'a'\n[catalogue]\nregistry = 'b'", "3:1: catalogue.registry: stands at the top of the file too"),
        ("[log]\nfilter = 'a=b=c'", "2:1: log.filter: expected a level"),
        ("a = ", "1:5: "),
        ("[server]\nport = 1\nport = 2", "3:1: duplicate key"),
    ];
    for (text, expected) in cases {
        let messages = messages(text);
        assert!(messages[0].starts_with(expected), "{text:?}\nexpected {expected}\ngot      {}", messages[0]);
        assert!(!messages.concat().contains("planted"), "{messages:?}");
    }
}

#[test]
fn everything_wrong_is_said_at_once_in_the_order_of_the_file() {
    let messages = messages("[log]\nfilter = 'a=b=c'\n[server]\nbody_timeout = 0\n[aliases]\nx = 'codng'");
    let lines: Vec<&str> = messages.iter().map(|message| &message[..1]).collect();
    assert_eq!(lines, ["2", "4", "6"]);
}

#[test]
fn what_is_odd_is_a_warning() {
    let cases = [
        ("[providers.openai]\nkey = 'sk-planted'", "2:1: providers.openai.key: a key stands in the file itself"),
        ("[server]\napi_keys = ['sk-planted']", "2:1: server.api_keys: a key stands in the file itself"),
        ("[classes.x]\nselect = [{ model = 'gpt-5' }]", "2:13: classes.x.select[1].model: a pinned model id will rot"),
        ("[aliases]\nx = 'openai/gpt-5'", "2:1: aliases.x: a pinned model id will rot"),
        (
            "[providers.openai]\nheaders = { Authorization = 'planted' }",
            "2:13: providers.openai.headers.Authorization: this header usually",
        ),
        (
            "[providers.mine]\nbase_url = 'http://h'\nkey = 'env:X'",
            "2:1: providers.mine.base_url: the key goes over the network in the clear",
        ),
    ];
    for (text, expected) in cases {
        let warnings = load(text).unwrap().warnings;
        assert_eq!(warnings.len(), 1, "{text:?} {warnings:?}");
        assert!(
            warnings[0].strip_prefix("/x/bifrost.toml:").unwrap().starts_with(expected),
            "{text:?}\n{}",
            warnings[0]
        );
        assert!(!warnings[0].contains("planted"), "{warnings:?}");
    }
    let fine = "[aliases]\na = 'coding'\nb = 'class/review'\nc = 'a'\nd = 'auto'\n[classes.x]\nselect = [{ model = '*coder*' }]";
    assert_eq!(load(fine).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn a_literal_key_in_an_open_file_is_told_twice() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "[providers.openai]\nkey = 'sk-planted'";
    let warning = |mode| {
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        Snapshot::of_text(&inputs(&[]), Some((file.path(), text))).unwrap().warnings.remove(0)
    };
    assert!(warning(0o644).ends_with(&format!("chmod 600 {}", file.path().display())));
    assert!(!warning(0o600).contains("chmod"));
}

#[test]
fn flags_win_over_environment_and_that_over_the_file() {
    let text = "[server]\nport = 1001\nhost = '127.0.0.1'\n[log]\nfilter = 'warn'";
    let mut inputs = inputs(&[("BIFROST_PORT", "1002"), ("BIFROST_HOST", "::1, 127.0.0.2"), ("BIFROST_LOG", "debug")]);
    let of = |inputs: &Inputs| Snapshot::of_text(inputs, Some((Path::new(FILE), text))).unwrap();
    let snapshot = of(&inputs);
    assert_eq!(snapshot.server.port, 1002);
    assert_eq!(snapshot.server.hosts, ["::1", "127.0.0.2"].map(|host| host.parse::<IpAddr>().unwrap()));
    assert_eq!(snapshot.log.filter, "debug");
    inputs.flags = Flags {
        port: Some(1003),
        hosts: vec!["127.0.0.3".parse().unwrap()],
        log: Some("error".into()),
        ..Flags::default()
    };
    let snapshot = of(&inputs);
    assert_eq!((snapshot.server.port, snapshot.log.filter.as_str()), (1003, "error"));
    assert_eq!(snapshot.server.hosts, ["127.0.0.3".parse::<IpAddr>().unwrap()]);
    assert_eq!(load(text).unwrap().server.port, 1001);
}

#[test]
fn a_wrong_variable_is_an_error_that_does_not_quote_it() {
    for variable in ["BIFROST_PORT", "BIFROST_HOST"] {
        let error = Snapshot::load(&inputs(&[(variable, "planted")])).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{variable}: expected ")) && !error.contains("planted"), "{error}");
    }
    let error = Snapshot::load(&inputs(&[("BIFROST_LOG", "a=b=c")])).unwrap_err().to_string();
    assert!(error.starts_with("BIFROST_LOG: expected "), "{error}");
    let near =
        Snapshot::load(&inputs(&[("BIFROST_LOCALONLY", "1"), ("BIFROST_MAX", "1"), ("BIFROST_PORT", "1")])).unwrap();
    assert_eq!(near.warnings, ["BIFROST_LOCALONLY: no such variable; did you mean `BIFROST_LOCAL_ONLY`?"]);
}

#[test]
fn the_strictest_decides_on_local_only() {
    let of = |text: &str, variable: &str, flag: bool| {
        let mut inputs = inputs(&[("BIFROST_LOCAL_ONLY", variable)]);
        inputs.flags.local_only = flag;
        Snapshot::of_text(&inputs, Some((Path::new(FILE), text))).unwrap().local.only
    };
    assert!(!of("", "", false));
    assert!(!of("[local]\nonly = false", "0", false));
    for text in ["[local]\nonly = true", "[local]\nlocalOnlyMode = true", "localOnlyMode = true"] {
        assert!(of(text, "0", false), "{text}");
    }
    for variable in ["1", "true", "YES", "on", "maybe"] {
        assert!(of("[local]\nonly = false", variable, false), "{variable}");
    }
    assert!(of("localOnlyMode = false", "off", true));
}

#[test]
fn a_broken_file_that_asks_for_local_only_is_known_to_ask() {
    let asks = |text: &str| load(text).unwrap_err().asks_local_only;
    assert!(asks("[local]\nonly = true\n[server]\nprot = 1"));
    assert!(asks("localOnlyMode = true\n[server"));
    assert!(asks("[local]\nonly = 'yes'"), "not readable as false");
    assert!(!asks("[local]\nonly = false\n[server]\nprot = 1"));
    assert!(!asks("[server]\nprot = 1"));
}

#[test]
fn shipped_providers_stand_after_those_of_the_file() {
    let names =
        |text: &str| load(text).unwrap().providers.iter().map(|provider| provider.name.to_string()).collect::<Vec<_>>();
    let shipped = names("");
    assert_eq!(shipped[0], "mlx-local");
    let named = names(
        "[providers.openrouter]\n[providers.mine]\nbase_url = 'http://localhost:1'\n[providers.openai]\nenabled = false",
    );
    assert_eq!(named[..2], ["openrouter", "mine"]);
    assert!(!named.contains(&"openai".to_owned()));
    assert_eq!(named.len(), shipped.len(), "one more, one less");
}

#[test]
fn a_shipped_provider_keeps_what_the_file_does_not_say() {
    let text = "[providers.anthropic]\nkey = ['keychain:anthropic', 'env:X']\nbase_url = 'https://proxy.example.com/a/v1/'\n\
                headers = { Anthropic-Version = '2024-01-01', x = 'y' }\n[providers.anthropic.deadlines]\nidle = 7";
    let snapshot = load(text).unwrap();
    let (changed, shipped) = (provider(&snapshot, "anthropic"), provider(&load("").unwrap(), "anthropic"));
    assert_eq!(changed.key_sources().map(ToString::to_string).collect::<Vec<_>>(), ["keychain:anthropic", "env:X"]);
    assert_eq!(changed.endpoints[0].url("/v1/messages"), "https://proxy.example.com/a/v1/messages");
    assert_eq!((changed.auth, changed.models, changed.profile), (shipped.auth, shipped.models, shipped.profile));
    assert_eq!(changed.headers, [("Anthropic-Version".into(), "2024-01-01".into()), ("x".into(), "y".into())]);
    assert_eq!(changed.deadlines.idle, Duration::from_secs(7));
    assert_eq!(changed.deadlines.connect, shipped.deadlines.connect);
}

#[test]
fn a_new_provider_needs_only_its_url() {
    let text = "[providers.near]\nbase_url = 'http://localhost:1/v1'\n\
                [providers.far]\nbase_url = 'https://h/anthropic'\ndialect = 'anthropic'\nkey = 'env:FAR'\n\
                [providers.both]\nbase_url = 'https://h'\ndialect = ['openai_chat', 'anthropic']\n\
                [providers.knobs]\nbase_url = 'https://h'\nreasoning = 'template_switch'\ntoken_limit = 'max_completion_tokens'\n\
                developer_role = true\ncache_markers = true\nreasoning_history = false\njson_schema = false\nedits = ['stop_as_list']\n\
                models = 'none'\nauth = 'api_key'\nkind = 'aggregator'";
    let snapshot = load(text).unwrap();
    let near = provider(&snapshot, "near");
    assert_eq!((near.kind, near.auth, near.deadlines), (ProviderKind::Local, Auth::None, Deadlines::LOCAL));
    assert_eq!(near.endpoints[0].url("/v1/chat/completions"), "http://localhost:1/v1/chat/completions");
    assert_eq!((near.profile, near.edits.as_slice()), (Profile::COMPATIBLE, &[BodyEdit::IncludeUsage][..]));
    let far = provider(&snapshot, "far");
    assert_eq!((far.kind, far.auth, far.models), (ProviderKind::Vendor, Auth::XApiKey, ModelList::Anthropic));
    assert_eq!(far.endpoints[0].url("/v1/messages"), "https://h/anthropic/v1/messages");
    let both = provider(&snapshot, "both");
    assert_eq!(both.endpoint_for(DialectId::Anthropic).url("/v1/messages"), "https://h/v1/messages");
    assert_eq!(both.endpoints[0].dialect, DialectId::OpenAiChat);
    let knobs = provider(&snapshot, "knobs");
    let profile = Profile {
        reasoning: ReasoningStyle::TemplateSwitch,
        token_limit: TokenLimitField::MaxCompletionTokens,
        developer_role: true,
        cache_markers: true,
        reasoning_history: false,
        json_schema: false,
        ..Profile::COMPATIBLE
    };
    assert_eq!((knobs.profile, knobs.edits.as_slice()), (profile, &[BodyEdit::StopAsList][..]));
    assert_eq!((knobs.models, knobs.auth, knobs.kind), (ModelList::None, Auth::ApiKey, ProviderKind::Aggregator));
}

#[test]
fn classes_are_replaced_and_aliases_and_rules_added() {
    let shipped = load("").unwrap();
    let text = "[classes.coding]\ncloud = true\nselect = [{ provider = 'openai', take = 'newest' }]\n[classes.mine]\nselect = [{}]\n\
                [aliases]\nshort = 'mine'\n[[auto.rules]]\nclass = 'mine'\nwords = ['x']\n\
                [facts.'openai/x']\ncontext = 9\n[catalogue]\nttl = '1h'\n[local]\non_cloud_model = 'refuse'\nkeep_warm = '4m'";
    let snapshot = load(text).unwrap();
    assert_eq!(snapshot.classes["coding"].select.len(), 1);
    assert_eq!(snapshot.classes["coding"].description, "", "nothing of the shipped class is left");
    assert_eq!(snapshot.classes["review"], shipped.classes["review"]);
    assert_eq!(snapshot.classes.len(), shipped.classes.len() + 1);
    assert_eq!((snapshot.aliases["short"].as_str(), snapshot.aliases.len()), ("mine", shipped.aliases.len() + 1));
    assert_eq!(snapshot.auto[0].class, "mine");
    assert_eq!(snapshot.auto[1..], shipped.auto);
    assert_eq!(snapshot.facts["openai/x"].context, Some(9));
    assert_eq!(snapshot.catalogue_ttl, Duration::from_secs(3600));
    assert_eq!(snapshot.local.on_cloud_model, OnCloudModel::Refuse);
    assert_eq!(snapshot.local.keep_warm, Some(Duration::from_secs(240)));
}

#[test]
fn the_shipped_defaults_are_right_and_pin_no_model() {
    let shipped = include_str!("../defaults.toml");
    let snapshot = load(shipped).unwrap();
    assert_eq!(snapshot.warnings, Vec::<String>::new(), "a pin would be a warning");
    for class in ["research", "coding", "review", "pre-commit"] {
        assert!(snapshot.classes.contains_key(class), "{class}");
    }
}

#[test]
fn the_registry_is_found_from_home_and_beside_the_file() {
    let registry = |text: &str| load(text).unwrap().registry.unwrap();
    assert_eq!(
        registry("registry = '~/.config/ai-stack/registry.json'"),
        Path::new("/home/me/.config/ai-stack/registry.json")
    );
    assert_eq!(registry("[catalogue]\nregistry = 'roles.json'"), Path::new("/x/roles.json"));
}

#[test]
fn a_file_that_was_named_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    let named = inputs(&[("BIFROST_CONFIG", missing.to_str().unwrap())]);
    let error = Snapshot::load(&named).unwrap_err().to_string();
    assert!(error.starts_with(&missing.display().to_string()) && error.contains("no such file"), "{error}");
    let there = folder.path().join("there.toml");
    std::fs::write(&there, "[server]\nport = 1").unwrap();
    let flags = Flags { config: Some(there.clone()), ..Flags::default() };
    let snapshot = Snapshot::load(&Inputs { flags, ..named }).unwrap();
    assert_eq!((snapshot.path, snapshot.server.port), (Some(there), 1), "the flag wins over the variable");
    std::fs::write(&missing, [0xff]).unwrap();
    let unreadable = Snapshot::load(&inputs(&[("BIFROST_CONFIG", missing.to_str().unwrap())])).unwrap_err();
    assert!(unreadable.to_string().contains("cannot be read"), "{unreadable}");
}

#[test]
fn no_secret_is_in_what_is_shown() {
    let variables = [("OPENAI_API_KEY", "planted-env"), ("BIFROST_PORT", "1234")];
    let text = "[server]\napi_keys = ['planted-client']\n[providers.openai]\nkey = 'planted-key'\nheaders = { x = 'planted-header' }\n\
                [providers.mine]\nbase_url = 'https://h'\nkey = ['env:OPENAI_API_KEY', 'planted-second']";
    let inputs = inputs(&variables);
    let snapshot = Snapshot::of_text(&inputs, Some((Path::new(FILE), text))).unwrap();
    let shown = format!("{snapshot:?}\n{inputs:?}\n{}\n{}", snapshot.show(&inputs), snapshot.effective());
    assert!(shown.contains("env:OPENAI_API_KEY") && shown.contains("***"));
    assert!(!shown.contains("planted"), "{shown}");
    assert_eq!(provider(&snapshot, "openai").headers[0].1, "planted-header", "it is there all the same");
}

#[test]
fn what_is_shown_can_be_read_back() {
    let text = "registry = '/r.json'\n[server]\nport = 1001\nshutdown_grace = 1.25\n[local]\nonly = true\n\
                [providers.mine]\nbase_url = 'https://h/api/v4'\nkey = \"cmd:pass show 'a b'\"\n[providers.anthropic]\nbase_url = 'http://localhost:5'\n\
                [providers.mine.limits]\nin_flight = 2\nqueue = 0\n[providers.mlx-local.limits]\nresidency = 0\n\
                [classes.x]\npriority = 'batch'\nspill = true\nselect = [{ needs = { tools = true, context = 5 }, take = 'cheapest', limit = 3 }]\n\
                [facts.'a/b']\ninput_price = 0.5\n[log]\njson = true";
    let first = load(text).unwrap();
    let shown = first.show(&inputs(&[]));
    let second = load(&shown).unwrap_or_else(|error| panic!("{error}\n{shown}"));
    let comparable = |snapshot: &Snapshot| {
        let mut table = snapshot.effective();
        table.remove("auto");
        let providers = table["providers"].as_table_mut().unwrap();
        providers.iter_mut().for_each(|(_, provider)| drop(provider.as_table_mut().unwrap().remove("headers")));
        table.to_string()
    };
    assert_eq!(comparable(&first), comparable(&second));
}

#[test]
fn where_it_came_from_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bifrost.toml");
    std::fs::write(&file, "localOnlyMode = true\n[providers.openai]\nkey = 'env:KEY'\n[server]\nmax_connections = 5")
        .unwrap();
    let mut inputs = inputs(&[("BIFROST_PORT", "1234"), ("KEY", "planted")]);
    inputs.flags = Flags { config: Some(file), log: Some("debug".into()), ..Flags::default() };
    let shown = Snapshot::load(&inputs).unwrap().show(&inputs);
    for line in [
        "port = 1234  # BIFROST_PORT",
        "max_connections = 5  # bifrost.toml:5",
        "only = true  # bifrost.toml:1",
        "key = [\"env:KEY\"]  # bifrost.toml:3; there",
        "filter = \"debug\"  # --log",
        "max_body_bytes = 104857600\n",
    ] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
}
