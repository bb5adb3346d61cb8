use super::*;
use crate::config::{Flags, Paths};
use std::fs;
use std::os::unix::fs::symlink;
use tokio::sync::mpsc::UnboundedReceiver;

/// Generous: it is only waited out when something is broken.
const BOUND: Duration = Duration::from_secs(20);

struct Running {
    seen: UnboundedReceiver<Result<Snapshot, ConfigError>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn inputs(file: &Path) -> Inputs {
    Inputs { paths: Paths { config: vec![file.to_owned()], ..Paths::default() }, ..Inputs::default() }
}

fn start(inputs: Inputs) -> (Result<Snapshot, ConfigError>, Running) {
    let (sender, seen) = mpsc::unbounded_channel();
    let mut watch = Watch::new(inputs);
    assert!(watch.complete, "everything can be watched here");
    let first = watch.load();
    let task = tokio::spawn(watch.run(move |result| drop(sender.send(result))));
    (first, Running { seen, task })
}

impl Running {
    /// Waits for a result that fits; others on the way (half-written files, a neighbour test's SIGHUP) are let pass.
    async fn until(&mut self, what: &str, fits: impl Fn(&Result<Snapshot, ConfigError>) -> bool) {
        let wait = async {
            loop {
                let result = self.seen.recv().await.expect("the watch runs");
                if fits(&result) {
                    return;
                }
            }
        };
        tokio::time::timeout(BOUND, wait).await.unwrap_or_else(|_| panic!("never saw {what}"));
    }

    async fn until_port(&mut self, port: u16) {
        self.until(&format!("port {port}"), |result| result.as_ref().is_ok_and(|now| now.server.port == port)).await;
    }
}

fn text(port: u16) -> String {
    format!("[server]\nport = {port}\n")
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

#[tokio::test]
async fn a_change_in_place_is_seen_and_a_mistake_said() {
    let (_keep, folder) = folder();
    let file = folder.join("config.toml");
    fs::write(&file, text(1001)).unwrap();
    let (first, mut running) = start(inputs(&file));
    assert_eq!(first.unwrap().server.port, 1001);
    fs::write(&file, text(1002)).unwrap();
    running.until_port(1002).await;
    fs::write(&file, "[server]\nprot = 1\n").unwrap();
    running
        .until("the mistake", |result| result.as_ref().is_err_and(|error| error.to_string().contains("`prot`")))
        .await;
    fs::write(&file, text(1003)).unwrap();
    running.until_port(1003).await;
}

#[tokio::test]
async fn a_file_may_go_and_come_back_and_its_folder_too() {
    let (_keep, folder) = folder();
    let inner = folder.join("bifrost");
    let file = inner.join("config.toml");
    let (first, mut running) = start(inputs(&file));
    assert_eq!(first.unwrap().path, None);
    fs::create_dir(&inner).unwrap();
    fs::write(&file, text(1001)).unwrap();
    running.until_port(1001).await;
    fs::remove_file(&file).unwrap();
    running.until("no file", |result| result.as_ref().is_ok_and(|now| now.path.is_none())).await;
    fs::write(folder.join("new"), text(1002)).unwrap();
    fs::rename(folder.join("new"), &file).unwrap();
    running.until_port(1002).await;
    fs::rename(&inner, folder.join("old")).unwrap();
    running.until("no file", |result| result.as_ref().is_ok_and(|now| now.path.is_none())).await;
    fs::create_dir(&inner).unwrap();
    fs::write(&file, text(1003)).unwrap();
    running.until_port(1003).await;
}

#[tokio::test]
async fn a_named_file_that_goes_is_a_mistake() {
    let (_keep, folder) = folder();
    let file = folder.join("config.toml");
    fs::write(&file, text(1001)).unwrap();
    let flags = Flags { config: Some(file.clone()), ..Flags::default() };
    let (first, mut running) = start(Inputs { flags, ..Inputs::default() });
    assert_eq!(first.unwrap().server.port, 1001);
    fs::remove_file(&file).unwrap();
    running
        .until("no such file", |result| result.as_ref().is_err_and(|e| e.to_string().contains("no such file")))
        .await;
    fs::write(&file, text(1002)).unwrap();
    running.until_port(1002).await;
}

/// As home-manager does it: the file is a symlink into the store, and the symlink is swapped.
#[tokio::test]
async fn a_swapped_symlink_of_the_file_is_seen() {
    let (_keep, folder) = folder();
    let (store, home) = (folder.join("store"), folder.join("home"));
    fs::create_dir(&store).unwrap();
    fs::create_dir(&home).unwrap();
    let file = home.join("config.toml");
    let swap = |port: u16| {
        let stored = store.join(format!("{port}-config.toml"));
        fs::write(&stored, text(port)).unwrap();
        let link = home.join("new-link");
        symlink(&stored, &link).unwrap();
        fs::rename(&link, &file).unwrap();
    };
    swap(1001);
    let (first, mut running) = start(inputs(&file));
    assert_eq!(first.unwrap().server.port, 1001);
    for port in 1002..1005 {
        swap(port);
        running.until_port(port).await;
    }
    fs::write(store.join("1004-config.toml"), text(1005)).unwrap();
    running.until_port(1005).await;
}

/// As nix-darwin profiles and Kubernetes do it: a folder above the file is the symlink.
#[tokio::test]
async fn a_swapped_symlink_of_a_folder_is_seen() {
    let (_keep, folder) = folder();
    let swap = |port: u16| {
        let generation = folder.join(format!("generation-{port}"));
        fs::create_dir(&generation).unwrap();
        fs::write(generation.join("config.toml"), text(port)).unwrap();
        symlink(format!("generation-{port}"), folder.join("new-link")).unwrap();
        fs::rename(folder.join("new-link"), folder.join("current")).unwrap();
    };
    swap(1001);
    let (first, mut running) = start(inputs(&folder.join("current/config.toml")));
    assert_eq!(first.unwrap().server.port, 1001);
    for port in 1002..1004 {
        swap(port);
        running.until_port(port).await;
    }
}

#[tokio::test]
async fn hangup_reads_anew_though_nothing_changed() {
    let (_keep, folder) = folder();
    let file = folder.join("config.toml");
    fs::write(&file, text(1001)).unwrap();
    let (first, mut running) = start(inputs(&file));
    let first = first.unwrap();
    let sent = tokio::process::Command::new("kill").args(["-HUP", &std::process::id().to_string()]).status().await;
    assert!(sent.unwrap().success());
    let anew = |result: &Result<Snapshot, ConfigError>| {
        result.as_ref().is_ok_and(|now| !std::sync::Arc::ptr_eq(&now.secrets, &first.secrets))
    };
    running.until("the same anew", anew).await;
}

/// The watch woke itself for ever if its own reading counted as a change.
#[test]
fn reading_is_no_change() {
    assert!(!is_change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
    assert!(!is_change(EventKind::Access(AccessKind::Close(AccessMode::Read))));
    assert!(is_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
    assert!(is_change(EventKind::Any));
}

#[test]
fn links_in_a_circle_end() {
    let (_keep, folder) = folder();
    symlink(folder.join("b"), folder.join("a")).unwrap();
    symlink(folder.join("a"), folder.join("b")).unwrap();
    assert!(places(&folder.join("a")).contains(&folder));
    assert!(places(Path::new("/nowhere/at/all")).contains(Path::new("/")));
}
