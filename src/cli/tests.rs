use super::*;
use std::path::Path;
use std::sync::Arc;

struct Ran {
    exit: Exit,
    out: String,
    err: String,
}

async fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Ran {
    let cli = Cli::try_parse_from(std::iter::once(&"bifrost").chain(arguments)).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut output = Output::plain(&mut out, &mut err);
    let exit = run(cli, variables.iter().copied().collect(), &mut output).await.unwrap();
    Ran { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// A home folder with a configuration in it.
fn home(text: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join(".config/bifrost")).unwrap();
    std::fs::write(home.path().join(".config/bifrost/config.toml"), text).unwrap();
    home
}

fn at(home: &Path) -> [(&'static str, &str); 1] {
    [("HOME", home.to_str().unwrap())]
}

#[test]
fn the_arguments_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn flags_reach_the_configuration() {
    let cli = Cli::try_parse_from([
        "bifrost", "serve", "--local", "--port", "0", "--host", "::1", "--config", "/c", "--log", "debug",
    ]);
    let inputs = cli.unwrap().inputs([("A", "1")].into_iter().collect()).unwrap();
    let expected = Flags {
        config: Some("/c".into()),
        local_only: true,
        hosts: vec!["::1".parse().unwrap()],
        port: Some(0),
        log: Some("debug".into()),
    };
    assert_eq!(inputs.flags, expected);
    assert_eq!(Arc::clone(&inputs.environment).get("A"), Some("1"));
}

#[tokio::test]
async fn check_without_a_file_is_fine() {
    let home = tempfile::tempdir().unwrap();
    let ran = run_with(&["config", "check", "--offline"], &at(home.path())).await;
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Ok, ""));
    assert!(ran.out.contains("no file") && ran.out.contains("mlx-local"), "{}", ran.out);
}

#[tokio::test]
async fn check_says_what_is_wrong_and_where() {
    let home = home("[server]\nprot = 1\n");
    let ran = run_with(&["config", "check"], &at(home.path())).await;
    assert_eq!((ran.exit, ran.out.as_str()), (Exit::ConfigInvalid, ""));
    assert!(ran.err.starts_with("error: ") && ran.err.contains("config.toml:2:1: unknown key `prot`"), "{}", ran.err);
    let json: serde_json::Value =
        serde_json::from_str(&run_with(&["config", "check", "--json"], &at(home.path())).await.out).unwrap();
    assert_eq!((&json["ok"], &json["problems"][0]["line"]), (&false.into(), &2.into()));
}

#[tokio::test]
async fn check_resolves_keys_and_tries_local_servers() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let text = format!(
        "[providers.here]\nbase_url = 'http://localhost:{port}'\n\
         [providers.there]\nbase_url = 'https://models.example.com'\nkey = 'cmd:echo sk-planted'\n\
         [providers.unset]\nbase_url = 'https://models.example.com'\nkey = 'env:BIFROST_TEST_UNSET'\n\
         [providers.broken]\nbase_url = 'https://models.example.com'\nkey = 'file:/nowhere/key'\n"
    );
    let home = home(&text);
    let ran = run_with(&["config", "check"], &at(home.path())).await;
    assert_eq!(ran.exit, Exit::Failure);
    assert!(ran.err.contains("broken: file:/nowhere/key: the file cannot be read"), "{}", ran.err);
    assert!(ran.err.contains("unset: env:BIFROST_TEST_UNSET is not set"), "{}", ran.err);
    assert!(!ran.err.contains("OPENAI_API_KEY"), "nobody asked for that one: {}", ran.err);
    let words = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("here listens at http://localhost:{port}")), "{}", ran.out);
    assert!(words.contains("there has a key (cmd:echo sk-planted)"), "{}", ran.out);
}

#[tokio::test]
async fn offline_and_local_only_run_no_program_of_a_cloud_provider() {
    let home = home("");
    let ran_file = home.path().join("ran");
    let text = format!(
        "[providers.there]\nbase_url = 'https://models.example.com'\nkey = 'cmd:touch {}'\n",
        ran_file.display()
    );
    let file = home.path().join(".config/bifrost/config.toml");
    std::fs::write(&file, &text).unwrap();
    let offline = run_with(&["config", "check", "--offline"], &at(home.path())).await;
    assert_eq!(offline.exit, Exit::Ok);
    std::fs::write(&file, format!("localOnlyMode = true\n{text}")).unwrap();
    let local = run_with(&["config", "check"], &at(home.path())).await;
    assert_eq!(local.exit, Exit::Ok);
    assert!(local.out.contains("there") && local.out.contains("not used in local-only mode"), "{}", local.out);
    assert!(!ran_file.exists());
    std::fs::write(&file, text).unwrap();
    run_with(&["config", "check"], &at(home.path())).await;
    assert!(ran_file.exists(), "otherwise this test proves nothing");
}

#[tokio::test]
async fn an_env_file_is_heard_and_an_open_one_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = home("[providers.there]\nbase_url = 'https://models.example.com'\nkey = 'env:BIFROST_TEST_KEY'\n");
    let file = home.path().join("env");
    std::fs::write(&file, "BIFROST_TEST_KEY=sk-planted\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let arguments = ["config", "check", "--env-file", file.to_str().unwrap()];
    let ran = run_with(&arguments, &at(home.path())).await;
    assert!(ran.out.contains("has a key (env:BIFROST_TEST_KEY)"), "{}{}", ran.out, ran.err);
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = run_with(&arguments, &at(home.path())).await;
    assert_eq!(ran.exit, Exit::ConfigInvalid);
    assert!(ran.err.contains("chmod 600"), "{}", ran.err);
}

#[tokio::test]
async fn no_command_shows_a_secret() {
    let home = home(concat!(
        "[server]\napi_keys = ['planted-client-key']\n",
        "[providers.openai]\nkey = ['planted-literal', 'env:PLANTED_ENV']\nheaders = { x-secret = 'planted-header' }\n",
    ));
    let variables = [("HOME", home.path().to_str().unwrap()), ("PLANTED_ENV", "planted-env")];
    for arguments in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["config", "check"],
        &["config", "check", "--json"],
        &["config", "check", "--offline"],
        &["config", "schema"],
    ] {
        let ran = run_with(arguments, &variables).await;
        assert!(!ran.out.is_empty(), "{arguments:?} says something");
        assert!(!format!("{}{}", ran.out, ran.err).contains("planted-"), "{arguments:?}: {}{}", ran.out, ran.err);
    }
}

#[tokio::test]
async fn init_writes_once_and_for_the_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let ran = run_with(&["config", "init"], &at(home.path())).await;
    let file = home.path().join(".config/bifrost/config.toml");
    assert_eq!((ran.exit, ran.out.trim_end()), (Exit::Ok, file.to_str().unwrap()));
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(run_with(&["config", "check", "--offline"], &at(home.path())).await.exit, Exit::Ok);
    std::fs::write(&file, "# mine\n").unwrap();
    let again = run_with(&["config", "init"], &at(home.path())).await;
    assert_eq!(again.exit, Exit::Refused);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "# mine\n");
}

#[tokio::test]
async fn the_template_is_right_with_every_comment_taken_off() {
    let uncommented: String = config::TEMPLATE
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(|line| {
            line.starts_with('[') || line.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '.']))
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(uncommented.contains("[providers.openrouter]"), "{uncommented}");
    let home = home(&uncommented);
    let registry = home.path().join(".config/ai-stack/registry.json");
    let missing = run_with(&["config", "check", "--offline"], &at(home.path())).await;
    assert!(missing.exit == Exit::Ok && missing.err.contains("warning: registry: "), "{}", missing.err);
    std::fs::create_dir_all(registry.parent().unwrap()).unwrap();
    std::fs::write(&registry, "{}").unwrap();
    let ran = run_with(&["config", "check", "--offline"], &at(home.path())).await;
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Ok, ""), "{uncommented}");
}
