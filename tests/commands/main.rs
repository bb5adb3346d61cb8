//! The commands against a gateway that says what a test wants it to say.

// Clippy knows helpers of tests for tests only inside of `#[test]` functions.
mod chat;
mod fake_gateway;
mod terminal;

use ::bifrost::cli::tools::{How, TOOLS};
use ::bifrost::config::{Flags, Inputs, Snapshot};
use fake_gateway::{FakeGateway, Reply};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;
use tempfile::TempDir;

/// Where no address is to be taken out.
const NO_URL: &str = "http://no-url.invalid";

/// A home folder with an admin token in its state folder.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let state = home.path().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("admin-token"), "token-of-the-test").unwrap();
    home
}

/// The real binary in an environment of its own.
fn bifrost(home: &Path, arguments: &[&str]) -> assert_cmd::Command {
    let mut command = assert_cmd::cargo::cargo_bin_cmd!("bifrost");
    command.env_clear().env("HOME", home).env("BIFROST_STATE_DIR", home.join("state")).args(arguments);
    command
}

/// What a command printed and how it ended, with the address taken out.
fn shown(output: &Output, url: &str) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap().replace(url, "[url]");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(!out.contains('\x1b') && !err.contains('\x1b'), "no escape codes where no terminal is");
    format!("exit {}\n--- stdout\n{out}--- stderr\n{err}", output.status.code().unwrap())
}

fn run(gateway: &FakeGateway, arguments: &[&str]) -> String {
    let home = home();
    let output = bifrost(home.path(), arguments).env("BIFROST_URL", &gateway.url).output().unwrap();
    shown(&output, &gateway.url)
}

fn models() -> Reply {
    Reply::json(
        200,
        json!({ "object": "list", "data": [
            { "id": "mlx-local/org/tiny", "object": "model", "created": 0, "owned_by": "mlx-local", "bifrost": {
                "kind": "model", "provider": "mlx-local", "loaded": true, "context": 32768, "input_price": null,
                "output_price": null, "tools": true, "vision": null, "reasoning": null } },
            { "id": "openai/gpt-x", "object": "model", "created": 1, "owned_by": "openai", "bifrost": {
                "kind": "model", "provider": "openai", "loaded": null, "context": 1050000, "input_price": 1.25,
                "output_price": 10.0, "tools": true, "vision": true, "reasoning": false } },
            { "id": "coding", "object": "model", "created": 0, "owned_by": "bifrost", "bifrost": {
                "kind": "class", "resolves_to": "mlx-local/org/tiny", "loaded": true, "cloud": false,
                "description": "Writing and changing code" } },
            { "id": "research", "object": "model", "created": 0, "owned_by": "bifrost", "bifrost": {
                "kind": "class", "resolves_to": null, "loaded": null, "cloud": false, "error": "nothing fits",
                "description": "Long questions" } },
            { "id": "quickest", "object": "model", "created": 0, "owned_by": "bifrost", "bifrost": {
                "kind": "alias", "stands_for": "coding", "resolves_to": "mlx-local/org/tiny", "loaded": true } },
        ] }),
    )
}

fn plan() -> Reply {
    Reply::json(
        200,
        json!({ "model": "coding", "class": "coding", "class_reason": "asked for", "substituted": null, "error": null,
            "targets": [
                { "provider": "mlx-local", "model": "org/tiny", "reason": "loaded", "loaded": true },
                { "provider": "groq", "model": "llama", "reason": "second selector", "loaded": null },
            ] }),
    )
}

fn local(only: bool, reason: &str) -> Value {
    json!({ "only": only, "declared": false, "state": only, "reason": reason, "server": {
        "url": "http://127.0.0.1:11434", "healthy": true, "supervisor": "ready",
        "detail": "it has given a token",
        "models": ["org/tiny", "org/noise"], "loaded": ["org/tiny"] } })
}

#[test]
fn listmodels_shows_classes_first() {
    let gateway = FakeGateway::start([("GET /v1/models", models())]);
    insta::assert_snapshot!(run(&gateway, &["listmodels"]));
    assert_eq!(gateway.asked(), ["GET /v1/models"], "no secret is sent that is not asked for");
    assert!(run(&gateway, &["models", "--local"]).contains("CLASS"));
    assert_eq!(gateway.asked()[1], "GET /v1/models x-bifrost-local=true");
}

#[test]
fn listmodels_of_a_class_is_its_plan_with_the_facts() {
    let gateway = FakeGateway::start([("GET /v1/models", models()), ("GET /admin/resolve", plan())]);
    insta::assert_snapshot!(run(&gateway, &["listmodels", "--class", "coding"]));
    assert_eq!(
        gateway.asked()[1],
        "GET /admin/resolve?model=class%2Fcoding&local=false authorization=Bearer token-of-the-test"
    );
}

#[test]
fn listmodels_json_is_what_the_gateway_said() {
    let gateway = FakeGateway::start([("GET /v1/models", models())]);
    insta::assert_snapshot!(run(&gateway, &["listmodels", "--json"]));
}

#[test]
fn listmodels_of_nothing_says_what_to_do() {
    let gateway = FakeGateway::start([("GET /v1/models", Reply::json(200, json!({ "object": "list", "data": [] })))]);
    insta::assert_snapshot!(run(&gateway, &["listmodels"]));
}

#[test]
fn resolve_tells_targets_and_reasons() {
    let gateway = FakeGateway::start([("GET /admin/resolve", plan())]);
    insta::assert_snapshot!(run(&gateway, &["resolve", "coding"]));
    insta::assert_snapshot!("resolve_json", run(&gateway, &["resolve", "coding", "--json"]));
}

#[test]
fn resolve_of_an_unknown_name_ends_with_its_own_code() {
    let error = json!({ "code": "model_not_found", "message": "There is no model `codng`. Nearest: coding." });
    let body = json!({ "model": "codng", "class": null, "targets": [], "substituted": null, "error": error });
    let gateway = FakeGateway::start([("GET /admin/resolve", Reply::json(200, body))]);
    insta::assert_snapshot!(run(&gateway, &["resolve", "codng"]));
    assert!(run(&gateway, &["resolve", "codng", "--json"]).starts_with("exit 6\n"));
}

#[test]
fn resolve_says_what_was_substituted() {
    let target =
        json!({ "provider": "mlx-local", "model": "org/tiny", "reason": "the local default", "loaded": false });
    let body = json!({ "model": "openai/gpt-x", "class": null, "targets": [target], "substituted": "openai/gpt-x", "error": null });
    let gateway = FakeGateway::start([("GET /admin/resolve", Reply::json(200, body))]);
    insta::assert_snapshot!(run(&gateway, &["resolve", "--local", "openai/gpt-x"]));
}

#[test]
fn local_is_told_and_switched() {
    let gateway = FakeGateway::start([
        ("GET /admin/local", Reply::json(200, local(false, "not asked for"))),
        ("PUT /admin/local", Reply::json(200, local(true, "switched on at run time"))),
    ]);
    insta::assert_snapshot!("local_status", run(&gateway, &["local", "status"]));
    insta::assert_snapshot!("local_on", run(&gateway, &["local", "on"]));
    run(&gateway, &["local", "off", "--json"]);
    let token = "authorization=Bearer token-of-the-test";
    assert_eq!(
        gateway.asked(),
        [
            format!("GET /admin/local {token}"),
            format!("PUT /admin/local {token} {{\"only\":true}}"),
            format!("PUT /admin/local {token} {{\"only\":false}}"),
        ]
    );
}

#[test]
fn a_refused_switch_gives_reason_and_remedy() {
    let error = json!({ "code": "local_server_not_proven", "message": "Local-only mode stays off: nothing answers.",
        "remedy": "Start the local server and try again." });
    let gateway = FakeGateway::start([("PUT /admin/local", Reply::json(409, json!({ "error": error })))]);
    insta::assert_snapshot!(run(&gateway, &["local", "on"]));
}

#[test]
fn a_token_that_is_not_taken_is_explained() {
    let error = json!({ "error": { "message": "The admin API asks for the token.", "code": "admin_token_needed" } });
    let gateway = FakeGateway::start([("GET /admin/local", Reply::json(401, error))]);
    let home = home();
    let output = bifrost(home.path(), &["local", "status", "--url", &gateway.url]).output().unwrap();
    let home = home.path().to_str().unwrap().to_owned();
    insta::assert_snapshot!(shown(&output, &gateway.url).replace(&home, "[home]"));
}

#[test]
fn health_ends_with_the_state() {
    let report = |status: &str, reasons: Value, error: Value| {
        json!({ "status": status, "version": "1.2.3", "reasons": reasons, "local_only": true,
            "local_server": local(true, "")["server"], "config": { "path": "/c/config.toml", "ok": error.is_null(), "error": error } })
    };
    let well = FakeGateway::start([("GET /health", Reply::json(200, report("ok", json!([]), Value::Null)))]);
    insta::assert_snapshot!("health_ok", run(&well, &["health"]));
    let degraded = report("degraded", json!([]), json!("/c/config.toml:3:1: portt: unknown key"));
    let degraded = FakeGateway::start([("GET /health", Reply::json(200, degraded))]);
    insta::assert_snapshot!("health_degraded", run(&degraded, &["health"]));
    let ill = report("unavailable", json!(["local-only mode is on and the local server does not answer"]), Value::Null);
    let ill = FakeGateway::start([("GET /health", Reply::json(503, ill))]);
    insta::assert_snapshot!("health_unavailable", run(&ill, &["health"]));
    assert!(run(&ill, &["health", "--json"]).starts_with("exit 1\n"));
}

#[test]
fn status_shows_everything_at_one_glance() {
    let status = json!({
        "version": "0.1.0", "config": { "path": "/c/config.toml", "error": null, "warnings": [] },
        "local": local(false, "not asked for"),
        "providers": [
            { "name": "mlx-local", "active": true, "local": true, "models": 2, "error": null },
            { "name": "openai", "active": true, "local": false, "models": null, "error": "openai answered 500" },
            { "name": "groq", "active": false, "local": false, "models": null, "error": null },
        ],
        "classes": [
            { "model": "coding", "targets": [{ "provider": "mlx-local", "model": "org/tiny" }, { "provider": "groq", "model": "l" }] },
            { "model": "research", "targets": [] },
        ],
        "queues": [
            { "provider": "mlx-local", "model": "org/tiny", "limit": 4, "in_flight": 4, "waiting": { "interactive": 2, "batch": 0 } },
            { "provider": "openai", "model": "gpt", "limit": null, "in_flight": 7, "waiting": { "interactive": 0, "batch": 0 } },
        ],
    });
    let gateway = FakeGateway::start([("GET /admin/status", Reply::json(200, status))]);
    insta::assert_snapshot!(run(&gateway, &["status"]));
    assert!(run(&gateway, &["status", "--json"]).contains("\"agents\""));
}

#[test]
fn doctor_works_without_a_gateway_and_says_what_to_do() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let home = home();
    let file = home.path().join("config.toml");
    std::fs::write(&file, format!("[providers.mlx-local]\nbase_url = \"http://127.0.0.1:{port}\"\n")).unwrap();
    let url = format!("http://127.0.0.1:{port}");
    let arguments = ["doctor", "--config", file.to_str().unwrap(), "--url", &url];
    let output = bifrost(home.path(), &arguments).env("BIFROST_LAUNCHCTL", "/nowhere/launchctl").output().unwrap();
    let told = shown(&output, &url).replace(home.path().to_str().unwrap(), "[home]");
    insta::assert_snapshot!(told);
}

#[test]
fn every_command_says_how_to_start_a_gateway_that_is_down() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let home = home();
    let commands: [&[&str]; 7] = [
        &["health"],
        &["status"],
        &["listmodels"],
        &["resolve", "coding"],
        &["local", "status"],
        &["local", "on"],
        &["chat", "hello"],
    ];
    for arguments in commands {
        let output = bifrost(home.path(), arguments).env("BIFROST_URL", &url).output().unwrap();
        insta::assert_snapshot!("gateway_is_down", shown(&output, &url));
    }
}

#[test]
fn what_is_no_gateway_is_said_to_be_none() {
    let page = Reply::json(200, Value::Null).header("x-other", "1").ending_after(0);
    let gateway = FakeGateway::start([("GET /health", page)]);
    insta::assert_snapshot!(run(&gateway, &["health"]));
    let home = home();
    let output = bifrost(home.path(), &["health", "--url", "localhost:30080"]).output().unwrap();
    insta::assert_snapshot!("no_url", shown(&output, NO_URL));
}

#[test]
fn the_address_comes_from_the_configuration_and_its_key_is_shown() {
    let gateway = FakeGateway::start([("GET /v1/models", models())]);
    let home = home();
    let port = gateway.url.rsplit(':').next().unwrap();
    let file = home.path().join("config.toml");
    std::fs::write(&file, format!("[server]\nport = {port}\napi_keys = [\"env:GATEWAY_KEY\"]\n")).unwrap();
    let arguments = ["listmodels", "--config", file.to_str().unwrap()];
    let output = bifrost(home.path(), &arguments).env("GATEWAY_KEY", "key-of-the-test").output().unwrap();
    assert!(output.status.success(), "{}", shown(&output, &gateway.url));
    assert_eq!(gateway.asked(), ["GET /v1/models authorization=Bearer key-of-the-test"]);
}

#[test]
fn completions_know_the_commands() {
    let home = home();
    for shell in ["bash", "zsh", "fish"] {
        let output = bifrost(home.path(), &["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("listmodels") && script.contains("resolve"), "{shell}");
    }
}

#[test]
fn each_tool_is_told_what_it_needs() {
    let home = home();
    let mut all = String::new();
    for tool in TOOLS {
        let output = bifrost(home.path(), &["env", tool.name]).output().unwrap();
        all.push_str(&format!("=== {}\n{}", tool.name, shown(&output, NO_URL)));
    }
    insta::assert_snapshot!(all);
}

#[test]
fn env_without_a_tool_lists_them() {
    let home = home();
    insta::assert_snapshot!(shown(&bifrost(home.path(), &["env"]).output().unwrap(), NO_URL));
    insta::assert_snapshot!("env_unknown", shown(&bifrost(home.path(), &["env", "claude"]).output().unwrap(), NO_URL));
    insta::assert_snapshot!("env_other", shown(&bifrost(home.path(), &["env", "xyz"]).output().unwrap(), NO_URL));
}

#[test]
fn env_is_written_for_the_shell_and_survives_its_quotes() {
    let home = home();
    let nasty = "http://h/a'b\\c\"d $(touch x)";
    let mut all = String::new();
    for shell in ["sh", "fish", "nu"] {
        let output = bifrost(home.path(), &["env", "anthropic", "--shell", shell, "--url", nasty]).output().unwrap();
        all.push_str(&String::from_utf8(output.stdout).unwrap());
    }
    insta::assert_snapshot!(all);
    let script = bifrost(home.path(), &["env", "anthropic", "--url", nasty]).output().unwrap().stdout;
    let script = format!("{}printf %s \"$ANTHROPIC_BASE_URL\"", String::from_utf8(script).unwrap());
    let taken = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(taken.stdout).unwrap(), nasty);
}

#[test]
fn the_models_that_tools_are_told_of_are_shipped() {
    let shipped = Snapshot::load(&Inputs::new([("HOME", "/nowhere")].into_iter().collect(), Flags::default())).unwrap();
    let mut named = 0;
    let mut check = |model: &str, tool: &str| {
        named += 1;
        let known = model == "auto" || shipped.classes.contains_key(model) || shipped.aliases.contains_key(model);
        assert!(known, "{tool} is told of {model}");
    };
    for tool in TOOLS {
        match tool.how {
            How::Variables(variables) => {
                for (_, model) in variables.iter().filter(|(variable, _)| variable.ends_with("MODEL")) {
                    check(model.trim_start_matches("openai/"), tool.name);
                }
            }
            How::File { text, .. } => {
                let words = ["auto", "coding", "research", "review"].into_iter().filter(|word| text.contains(word));
                words.for_each(|word| check(word, tool.name));
            }
            How::Impossible => {}
        }
    }
    assert!(named > 10);
}

#[test]
fn files_for_tools_are_what_they_say() {
    for tool in TOOLS {
        if let How::File { path, text } = tool.how
            && path.contains(".json")
        {
            assert!(serde_json::from_str::<Value>(text).is_ok(), "{}", tool.name);
        }
    }
}
