//! The two LaunchAgents as data, and the plists that launchd reads. Source: launchd.plist(5) of macOS 26.
//!
//! `modules/agents.nix` says the same for people with Nix; `tests/launch_agents.rs` holds the two against each other.

use launchd::{KeepAliveOptions, Launchd, ProcessType};
use plist::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// One of Bifrost's LaunchAgents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// The gateway.
    Gateway,
    /// The local model server, under `bifrost supervise`.
    VllmMlx,
}

impl Agent {
    /// Both, in the order they are started.
    pub const ALL: [Self; 2] = [Self::Gateway, Self::VllmMlx];

    /// The name that people and commands use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::VllmMlx => "vllm-mlx",
        }
    }

    /// The name that launchd uses.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Gateway => "dev.bifrost.gateway",
            Self::VllmMlx => "dev.bifrost.vllm-mlx",
        }
    }

    /// Its logs in the log folder, the one that says most first.
    pub const fn logs(self) -> &'static [&'static str] {
        match self {
            Self::Gateway => &["gateway.log"],
            Self::VllmMlx => &["vllm-mlx.log", "vllm-mlx.supervise.log"],
        }
    }

    /// Where its plist belongs.
    pub fn plist_path(self, home: &Path) -> PathBuf {
        home.join("Library/LaunchAgents").join(format!("{}.plist", self.label()))
    }

    /// Seconds between two starts at least. A model takes minutes to load: starting it again at once would help nobody.
    const fn throttle(self) -> u32 {
        match self {
            Self::Gateway => 10,
            Self::VllmMlx => 60,
        }
    }

    /// Seconds from SIGTERM to SIGKILL. launchd allows agents no more than 60.
    pub const fn exit_timeout(self) -> u32 {
        match self {
            Self::Gateway => 20,
            Self::VllmMlx => 60,
        }
    }

    /// launchd's own file: what the program that it starts writes itself.
    const fn own_log(self) -> &'static str {
        match self {
            Self::Gateway => "gateway.log",
            Self::VllmMlx => "vllm-mlx.supervise.log",
        }
    }
}

/// The folder of the logs.
pub fn log_folder(home: &Path) -> PathBuf {
    home.join("Library/Logs/bifrost")
}

/// What both agents need to know.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The `bifrost` they run; absolute.
    pub bifrost: PathBuf,
    /// The configuration file; absolute.
    pub config: PathBuf,
    /// The folder of the logs; absolute.
    pub logs: PathBuf,
    /// Files of `NAME=value` lines for the gateway; absolute. What is in them never comes into a plist.
    pub env_files: Vec<PathBuf>,
    /// The local model server.
    pub server: ModelServer,
}

/// The local model server.
#[derive(Debug, Clone)]
pub struct ModelServer {
    /// Program and arguments before `serve`; the program is absolute.
    pub command: Vec<String>,
    /// A model id or folder (with a slash), or a role of the registry (without).
    pub model: String,
    /// Its port on 127.0.0.1.
    pub port: u16,
    /// GiB that must stay free.
    pub memory_reserve_gb: u32,
    /// `HF_HOME`, where that is not the default.
    pub hugging_face_home: Option<PathBuf>,
    /// Further arguments for `vllm-mlx serve`.
    pub arguments: Vec<String>,
}

impl Setup {
    /// The plist of an agent as XML, keys in alphabetical order.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn plist(&self, agent: Agent) -> Result<Vec<u8>, PlistError> {
        let log = self.logs.join(agent.own_log());
        // `Launchd::new` would write a Program beside the ProgramArguments.
        let mut job = Launchd::default()
            .with_label(agent.label())
            .with_program_arguments(self.arguments(agent)?)
            .with_keep_alive(KeepAliveOptions::new().with_successful_exit(false).into())
            .with_process_type(ProcessType::Interactive)
            .with_throttle_interval(agent.throttle())
            .with_exit_timeout(agent.exit_timeout())
            .with_standard_out_path(&log)?
            .with_standard_error_path(&log)?
            .run_at_load();
        if let (Agent::VllmMlx, Some(home)) = (agent, &self.server.hugging_face_home) {
            job = job.with_environment_variables(HashMap::from([("HF_HOME".to_owned(), utf8(home)?)]));
        }
        let mut value = plist::to_value(&job)?;
        if let Value::Dictionary(keys) = &mut value {
            keys.sort_keys();
        }
        let mut xml = Vec::new();
        value.to_writer_xml(&mut xml)?;
        xml.push(b'\n');
        Ok(xml)
    }

    fn arguments(&self, agent: Agent) -> Result<Vec<String>, PlistError> {
        let mut words = vec![utf8(&self.bifrost)?];
        let config = utf8(&self.config)?;
        match agent {
            Agent::Gateway => {
                words.extend(["serve".to_owned(), "--config".to_owned(), config]);
                for file in &self.env_files {
                    words.extend(["--env-file".to_owned(), utf8(file)?]);
                }
            }
            Agent::VllmMlx => {
                let server = &self.server;
                let port = server.port.to_string();
                let log = utf8(&self.logs.join("vllm-mlx.log"))?;
                let reserve = server.memory_reserve_gb.to_string();
                words.extend(["supervise", "--config", &config, "--model", &server.model].map(str::to_owned));
                words
                    .extend(["--port", &port, "--memory-reserve-gb", &reserve, "--log", &log, "--"].map(str::to_owned));
                words.extend(server.command.iter().cloned());
                words.extend(["serve", "{model}", "--host", "127.0.0.1", "--port", &port].map(str::to_owned));
                words.extend(["--continuous-batching", "--max-num-seqs", "4"].map(str::to_owned));
                words.extend(server.arguments.iter().cloned());
            }
        }
        Ok(words)
    }
}

fn utf8(path: &Path) -> Result<String, PlistError> {
    path.to_str().map(str::to_owned).ok_or_else(|| PlistError::NotUtf8(path.to_owned()))
}

/// Why there is no plist.
#[derive(Debug, thiserror::Error)]
pub enum PlistError {
    /// A plist holds text.
    #[error("{} is not UTF-8, so a plist cannot name it", .0.display())]
    NotUtf8(PathBuf),
    /// The crate that writes it refuses.
    #[error("the plist cannot be written: {0}")]
    Launchd(#[from] launchd::Error),
    /// The crate below that refuses.
    #[error("the plist cannot be written: {0}")]
    Plist(#[from] plist::Error),
}

/// Who looks after the plist of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Owner {
    /// There is none.
    Nobody,
    /// `bifrost service install`, or a person's own hand.
    User,
    /// home-manager or nix-darwin.
    Nix,
}

impl Owner {
    /// Who looks after the plist at `path`: Nix, when it is a link into the store or names the store inside, as the
    /// wait for the store volume that both modules write does.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let absent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
        match std::fs::read_link(path) {
            Ok(target) if in_store(&target) => return Ok(Self::Nix),
            Err(error) if absent(&error) => return Ok(Self::Nobody),
            _ => {}
        }
        match std::fs::read(path) {
            Ok(_) if path.canonicalize().is_ok_and(|real| in_store(&real)) => Ok(Self::Nix),
            Ok(bytes) if names_store(&bytes) => Ok(Self::Nix),
            Ok(_) => Ok(Self::User),
            // A link that leads nowhere is of somebody who is gone.
            Err(error) if absent(&error) => Ok(Self::User),
            Err(error) => Err(error),
        }
    }
}

/// True for what a garbage collection of Nix may take away.
pub fn in_store(path: &Path) -> bool {
    path.starts_with("/nix/store")
}

/// True when the program or an argument of a plist, XML or binary, names the store.
fn names_store(plist: &[u8]) -> bool {
    let Ok(Value::Dictionary(keys)) = plist::from_bytes(plist) else { return false };
    let arguments = keys.get("ProgramArguments").and_then(Value::as_array).into_iter().flatten();
    keys.get("Program")
        .into_iter()
        .chain(arguments)
        .filter_map(Value::as_string)
        .any(|word| word.contains("/nix/store"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup() -> Setup {
        Setup {
            bifrost: "/b/bifrost".into(),
            config: "/c/config.toml".into(),
            logs: "/l".into(),
            env_files: Vec::new(),
            server: ModelServer {
                command: vec!["/u/uvx".to_owned()],
                model: "default".to_owned(),
                port: 11434,
                memory_reserve_gb: 8,
                hugging_face_home: None,
                arguments: Vec::new(),
            },
        }
    }

    #[test]
    fn a_plist_has_no_keys_that_launchd_does_not_know() {
        for agent in Agent::ALL {
            let xml = setup().plist(agent).unwrap();
            // The crate refuses unknown keys.
            Launchd::from_bytes(&xml).unwrap();
        }
    }

    #[test]
    fn what_names_the_store_belongs_to_nix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.plist");
        assert_eq!(Owner::of(&path).unwrap(), Owner::Nobody);
        std::fs::write(&path, setup().plist(Agent::Gateway).unwrap()).unwrap();
        assert_eq!(Owner::of(&path).unwrap(), Owner::User);
        for golden in ["home-manager", "nix-darwin"] {
            let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(format!("nix/tests/golden/{golden}/small/dev.bifrost.gateway.plist"));
            assert_eq!(Owner::of(&golden).unwrap(), Owner::Nix);
        }
        let link = folder.path().join("link.plist");
        std::os::unix::fs::symlink("/nix/store/x/a.plist", &link).unwrap();
        assert_eq!(Owner::of(&link).unwrap(), Owner::Nix, "even before the store is mounted");
        let broken = folder.path().join("broken.plist");
        std::fs::write(&broken, "<plist>").unwrap();
        assert_eq!(Owner::of(&broken).unwrap(), Owner::User);
    }
}
