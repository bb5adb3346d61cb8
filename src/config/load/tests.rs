use super::*;
use proptest::prelude::*;

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
}

#[test]
fn show_probe() {
    let inputs = inputs(&[("OPENAI_API_KEY", "sk-planted"), ("BIFROST_PORT", "1234")]);
    let text = "[providers.mine]\nbase_url='http://127.0.0.1:9/v1'\nkey='sk-planted'\nheaders={x='sk-planted'}\n[facts.'a/b']\ncontext=1";
    let snapshot = Snapshot::of_text(&inputs, Some((Path::new(FILE), text))).unwrap();
    println!("{}", snapshot.show(&inputs));
}
