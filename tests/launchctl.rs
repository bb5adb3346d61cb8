//! The module that calls `launchctl`, over one that answers what the test says.

use bifrost::local::launchctl::{AgentState, LastExit, Launchctl, LaunchctlError};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

const GONE: &str = "113 Could not find service";
const RUNNING: &str = "0 x = {\\n\\tstate = running\\n\\tpid = 7\\n}\\n";
const LEAVING: &str = "0 x = {\\n\\tstate = SIGTERMed\\n\\tpid = 7\\n}\\n";

struct Scripted {
    folder: TempDir,
    launchctl: Launchctl,
}

impl Scripted {
    fn new(answers: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("launchctl");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/scripted_launchctl");
        symlink(script, &program).unwrap();
        fs::write(folder.path().join("answers"), answers.join("\n") + "\n").unwrap();
        let launchctl = Launchctl::of(&[("BIFROST_LAUNCHCTL", program.to_str().unwrap())].into_iter().collect());
        assert!(launchctl.is_there());
        Self { folder, launchctl }
    }

    /// The first word of each call.
    fn calls(&self) -> String {
        let calls = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        calls.lines().filter_map(|call| call.split(' ').next()).collect::<Vec<_>>().join(" ")
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[tokio::test]
async fn a_bootstrap_waits_for_what_is_leaving() {
    let scripted = Scripted::new(&["5 ", "5 ", "0 "]);
    scripted.launchctl.bootstrap(Path::new("/x.plist"), soon()).await.unwrap();
    assert_eq!(scripted.calls(), "bootstrap bootstrap bootstrap");

    let late = Scripted::new(&["5 ", "0 "]);
    let error = late.launchctl.bootstrap(Path::new("/x.plist"), Instant::now()).await.unwrap_err();
    assert_eq!((error.code(), late.calls().as_str()), (Some(5), "bootstrap"));
    let other = Scripted::new(&["122 ", "0 "]);
    let error = other.launchctl.bootstrap(Path::new("/x.plist"), soon()).await.unwrap_err();
    assert_eq!((error.code(), other.calls().as_str()), (Some(122), "bootstrap"), "only 5 gets better by waiting");
}

#[tokio::test]
async fn a_bootout_is_over_when_print_knows_nothing_more() {
    let scripted = Scripted::new(&["0 ", LEAVING, LEAVING, GONE]);
    assert!(scripted.launchctl.bootout("x", soon()).await.unwrap());
    assert_eq!(scripted.calls(), "bootout print print print");
    for code in ["3 ", "113 "] {
        assert!(!Scripted::new(&[code]).launchctl.bootout("x", soon()).await.unwrap(), "it was not loaded");
    }
    let stuck = Scripted::new(&["0 ", LEAVING]);
    let error = stuck.launchctl.bootout("x", Instant::now()).await.unwrap_err();
    assert!(matches!(error, LaunchctlError::Stuck { .. }));
    assert_eq!(error.to_string(), "x is still stopping pid 7; its log says more");
}

#[tokio::test]
async fn a_kickstart_of_what_runs_is_no_error() {
    let scripted = Scripted::new(&["37 ", "0 ", GONE]);
    assert!(!scripted.launchctl.kickstart("x").await.unwrap());
    assert!(scripted.launchctl.kickstart("x").await.unwrap());
    assert_eq!(scripted.launchctl.kickstart("x").await.unwrap_err().code(), Some(113));
}

#[tokio::test]
async fn an_agent_is_found_by_its_label_or_a_part_of_it() {
    let list =
        "0 PID\\tStatus\\tLabel\\n12\\t0\\tdev.vllm-mlx.server\\n-\\t1\\tdev.bifrost.vllm-mlx\\n-\\t0\\tcom.apple.x\\n";
    let scripted = Scripted::new(&[list, list, list]);
    let labels = |found: Vec<bifrost::local::launchctl::Listed>| -> Vec<String> {
        found.into_iter().map(|job| job.label).collect()
    };
    let found = scripted.launchctl.find("vllm-mlx").await.unwrap();
    assert_eq!((found[0].pid, found[1].last), (Some(12), LastExit::Code(1)));
    assert_eq!(labels(found), ["dev.vllm-mlx.server", "dev.bifrost.vllm-mlx"]);
    assert_eq!(labels(scripted.launchctl.find("dev.bifrost.vllm-mlx").await.unwrap()), ["dev.bifrost.vllm-mlx"]);
    assert!(scripted.launchctl.find("none").await.unwrap().is_empty());
}

#[tokio::test]
async fn not_loaded_is_a_state_and_everything_else_an_error() {
    let scripted = Scripted::new(&[GONE, RUNNING, "112 "]);
    assert_eq!(scripted.launchctl.state("x").await.unwrap(), AgentState::NotLoaded);
    assert_eq!(scripted.launchctl.state("x").await.unwrap(), AgentState::Running { pid: 7 });
    let error = scripted.launchctl.state("x").await.unwrap_err();
    assert!(error.to_string().contains("failed with 112: there is no login session"), "{error}");
    assert!(error.remedy().unwrap().starts_with("Log in at the Mac itself"));
    let nowhere = Launchctl::of(&[("BIFROST_LAUNCHCTL", "/nowhere/launchctl")].into_iter().collect());
    assert!(!nowhere.is_there());
    let error = nowhere.list().await.unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/launchctl cannot be run: "), "{error}");
}
