//! What is shown on a terminal, and how much of it `NO_COLOR` leaves.

use super::chat::{answer, finish, said};
use super::fake_gateway::{FakeGateway, Reply};
use super::{home, plan};
use ::bifrost::cli::{Cli, Output};
use clap::Parser as _;
use std::io::{self, Write};

/// A terminal's end: keeps what is written, and opens the gateway when somebody is told to wait.
struct Screen {
    text: Vec<u8>,
    opens: Box<dyn Fn() + Send>,
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if String::from_utf8_lossy(&self.text).contains("waiting for") {
            (self.opens)();
        }
        Ok(())
    }
}

/// Runs a command in this process as if both outputs were a terminal: standard output and standard error, with escape
/// codes made visible.
fn on_terminal(gateway: &FakeGateway, colour: bool, arguments: &[&str]) -> (String, String) {
    let home = home();
    let cli = Cli::try_parse_from(std::iter::once(&"bifrost").chain(arguments)).unwrap();
    let state = home.path().join("state");
    let environment = [
        ("HOME", home.path().to_str().unwrap()),
        ("BIFROST_STATE_DIR", state.to_str().unwrap()),
        ("BIFROST_URL", gateway.url.as_str()),
    ];
    let mut out = Vec::new();
    let mut err = Screen { text: Vec::new(), opens: Box::new(gateway.opener()) };
    let mut output = Output { out: &mut out, err: &mut err, terminal: true, out_is_terminal: true, colour };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(::bifrost::cli::run(cli, environment.into_iter().collect(), &mut output)).unwrap();
    let visible = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace('\x1b', "␛").replace('\r', "␍");
    (visible(out), visible(err.text))
}

/// Without what depends on how long it took: the lines of the wait, and the last number.
fn timeless(err: &str) -> String {
    let mut kept = String::new();
    for (index, piece) in err.split("␍␛[2K").enumerate() {
        if index > 0 && !piece.starts_with("␛[2mwaiting for") && !kept.is_empty() {
            kept.push_str("␍␛[2K");
        }
        if !piece.starts_with("␛[2mwaiting for") {
            kept.push_str(piece);
        }
    }
    let lines = kept.lines().filter(|line| !line.starts_with("waiting for"));
    lines.map(|line| format!("{}\n", line.rsplit_once(" out, ").map_or(line, |(rest, _)| rest))).collect()
}

fn routes(reply: Reply) -> [(&'static str, Reply); 2] {
    [("POST /v1/chat/completions", reply), ("GET /admin/resolve", plan())]
}

const CHAT: [&str; 4] = ["chat", "-m", "coding", "hello"];

#[test]
fn a_terminal_shows_thoughts_dim_and_who_answered() {
    let (out, err) = on_terminal(&FakeGateway::start(routes(answer())), true, &CHAT);
    insta::assert_snapshot!(format!("--- stdout\n{out}--- stderr\n{}", timeless(&err)));
}

#[test]
fn no_color_leaves_no_escape_codes() {
    let (out, err) = on_terminal(&FakeGateway::start(routes(answer())), false, &CHAT);
    assert!(![&out, &err].iter().any(|text| text.contains(['␛', '␍'])));
    insta::assert_snapshot!(format!("--- stdout\n{out}--- stderr\n{}", timeless(&err)));
}

#[test]
fn a_terminal_shows_who_is_waited_for() {
    let (out, err) = on_terminal(&FakeGateway::start(routes(answer().held())), true, &CHAT);
    assert!(err.starts_with("␍␛[2K␛[2mwaiting for coding -> mlx-local/org/tiny "), "{err}");
    assert!(err.contains(" s␛[0m␍␛[2K␛[2mlet me see"), "the line is taken back: {err}");
    assert_eq!(out, "Hello, world\n");
    let (_, err) = on_terminal(&FakeGateway::start(routes(answer().held())), false, &CHAT);
    assert!(err.starts_with("waiting for coding -> mlx-local/org/tiny\nlet me see"), "{err}");
    let auto = on_terminal(&FakeGateway::start(routes(answer().held())), false, &["chat", "hello"]).1;
    assert!(auto.starts_with("waiting for auto\n"), "the plan of `auto` depends on the question: {auto}");
}

#[test]
fn a_models_escape_codes_do_not_reach_the_terminal() {
    let reply = Reply::stream(&[said("\u{1b}]52;c;ZXZpbA==\u{7}\u{9b}2Jred\n"), finish("stop")]);
    let (out, _) = on_terminal(&FakeGateway::start(routes(reply)), false, &CHAT);
    assert_eq!(out, "]52;c;ZXZpbA==2Jred\n");
}
