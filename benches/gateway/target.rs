//! What stands between load and upstream: nothing, nginx, or the gateway, each a process that can be looked at.

use crate::Setting;
use crate::load;
use crate::machine::{Processors, Side};
use anyhow::{Context as _, Result, bail};
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tempfile::TempDir;

/// The configuration that is measured, and the address in it that stands for the upstream's.
const CONFIG: &str = include_str!("../gateway.toml");
const CONFIG_UPSTREAM: &str = "127.0.0.1:30100";

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The load talks to the upstream.
    Direct,
    /// nginx as a plain reverse proxy: about as little as a proxy can cost.
    Nginx,
    /// The gateway.
    Bifrost,
}

impl Kind {
    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Bifrost => "Bifrost",
        }
    }
}

/// Somebody who answers, and the process that does it.
pub struct Target {
    /// Who.
    pub kind: Kind,
    /// Where requests go.
    pub address: SocketAddr,
    /// From exec to the first answer; `None` for the upstream itself.
    pub first_answer: Option<Duration>,
    process: Option<Process>,
}

impl Target {
    /// The upstream itself.
    pub fn direct(setting: &Setting) -> Self {
        Self { kind: Kind::Direct, address: setting.upstream, first_answer: None, process: None }
    }

    /// nginx, which is called `program`, in front of the upstream.
    pub fn nginx(program: &str, setting: &Setting) -> Result<Self> {
        let (home, address) = (TempDir::new()?, free_address()?);
        let config = include_str!("nginx.conf")
            .replace("UPSTREAM", &setting.upstream.to_string())
            .replace("LISTEN", &address.to_string());
        fs::write(home.path().join("nginx.conf"), config)?;
        let mut command = Command::new(program);
        command.arg("-p").arg(home.path()).args(["-e", "stderr", "-c", "nginx.conf"]);
        Self::start(Kind::Nginx, command, home, address, setting.processors)
    }

    /// The gateway in front of the upstream, with no configuration but `benches/gateway.toml` and a provider of Anthropic's
    /// dialect for what is translated.
    pub fn bifrost(setting: &Setting) -> Result<Self> {
        let upstream = setting.upstream;
        let (home, address) = (TempDir::new()?, free_address()?);
        if !CONFIG.contains(CONFIG_UPSTREAM) {
            bail!("benches/gateway.toml does not name {CONFIG_UPSTREAM}");
        }
        let config = CONFIG.replace(CONFIG_UPSTREAM, &upstream.to_string())
            + &format!("\n[providers.mock-anthropic]\nbase_url = \"http://{upstream}\"\ndialect = \"anthropic\"\n");
        fs::write(home.path().join("bifrost.toml"), config)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_bifrost"));
        command
            .args(["serve", "--config", "bifrost.toml"])
            .env_clear()
            .env("HOME", home.path())
            .env("BIFROST_PORT", address.port().to_string());
        Self::start(Kind::Bifrost, command, home, address, setting.processors)
    }

    /// What `load` brings, and the processor time that the process used for it; `None` for the upstream itself.
    pub fn under<T>(&mut self, load: impl FnOnce(SocketAddr) -> T) -> (T, Option<Duration>) {
        let before = self.look();
        let brought = load(self.address);
        let used = self.look().zip(before).map(|((after, _), (before, _))| after.saturating_sub(before));
        (brought, used)
    }

    /// Memory that the process has in RAM, in bytes; `None` for the upstream itself.
    pub fn resident(&mut self) -> Option<u64> {
        self.look().map(|(_, resident)| resident)
    }

    fn look(&mut self) -> Option<(Duration, u64)> {
        self.process.as_mut().map(Process::look)
    }

    fn start(
        kind: Kind,
        mut command: Command,
        home: TempDir,
        address: SocketAddr,
        processors: Option<Processors>,
    ) -> Result<Self> {
        let log = home.path().join("output.log");
        let output = File::create(&log)?;
        command.current_dir(home.path()).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let begun = Instant::now();
        let child = spawn(command, processors).with_context(|| format!("{} cannot be started", kind.name()))?;
        let mut process = Process { child, system: System::new(), _home: home };
        let request = load::whole();
        while !load::is_answered(address, &request) {
            if begun.elapsed() > load::PATIENCE || process.child.try_wait()?.is_some() {
                bail!("{} does not answer: {}", kind.name(), said(&log));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Self { kind, address, first_answer: Some(begun.elapsed()), process: Some(process) })
    }
}

/// A process, ended when dropped.
struct Process {
    child: Child,
    system: System,
    _home: TempDir,
}

impl Process {
    /// Its processor time and its memory in bytes.
    fn look(&mut self) -> (Duration, u64) {
        let pid = Pid::from_u32(self.child.id());
        let what = ProcessRefreshKind::nothing().with_cpu().with_memory();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, what);
        let process = self.system.process(pid).expect("a process that was started and not waited for");
        (Duration::from_millis(process.accumulated_cpu_time()), process.memory())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processors are inherited from the thread that starts a process: one is made for that.
fn spawn(mut command: Command, processors: Option<Processors>) -> io::Result<Child> {
    let starter = thread::spawn(move || {
        if let Some(processors) = processors {
            processors.pin(Side::Gateway)?;
        }
        command.spawn()
    });
    starter.join().expect("a thread that does not panic")
}

fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn said(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_else(|error| error.to_string())
}
