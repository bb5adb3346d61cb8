//! The configuration commands as a script sees them: exit codes, standard output and error of the real program.

use assert_cmd::Command;
use std::path::Path;

/// The program with nothing of this machine's environment but a home folder.
fn bifrost(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("bifrost"));
    command.env_clear().env("HOME", home).args(arguments);
    command
}

fn home(text: &str) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join(".config/bifrost")).unwrap();
    std::fs::write(home.path().join(".config/bifrost/config.toml"), text).unwrap();
    home
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_right_file_is_0_and_a_wrong_one_3_without_colour_in_a_pipe() {
    let home = home("[server]\nport = 1\n");
    bifrost(home.path(), &["config", "check", "--offline"]).assert().code(0);
    std::fs::write(home.path().join(".config/bifrost/config.toml"), "[server]\nprot = 1\n").unwrap();
    for command in [&["config", "check"][..], &["config", "show"], &["serve"], &[]] {
        let output = bifrost(home.path(), command).assert().code(3).get_output().clone();
        let error = text(&output.stderr);
        assert!(error.starts_with("error: ") && error.contains("did you mean `port`?"), "{command:?}: {error}");
        assert!(output.stdout.is_empty() && !error.contains('\x1b'), "{command:?}");
    }
}

#[test]
fn a_wrong_command_line_is_2_and_a_file_that_is_there_5() {
    let home = home("# mine\n");
    bifrost(home.path(), &["config", "chek"]).assert().code(2);
    bifrost(home.path(), &["config", "init"]).assert().code(5);
}

#[test]
fn what_is_shown_is_a_file_that_is_right() {
    let home = home("[server]\nport = 1001\n");
    let shown = bifrost(home.path(), &["config", "show"]).assert().code(0).get_output().stdout.clone();
    let copy = home.path().join("copy.toml");
    std::fs::write(&copy, &shown).unwrap();
    let again = bifrost(home.path(), &["--config", copy.to_str().unwrap(), "config", "show", "--json"]);
    let again = { again }.assert().code(0).get_output().stdout.clone();
    let json: serde_json::Value = serde_json::from_slice(&again).unwrap();
    assert_eq!(json["server"]["port"], 1001);
}
