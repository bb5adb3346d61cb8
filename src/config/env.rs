//! Every environment variable the gateway reads, in one place (the keys of providers stand in the provider table).

/// A variable, and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it does, for the documentation.
    pub about: &'static str,
}

const fn variable(name: &'static str, about: &'static str) -> Variable {
    Variable { name, about }
}

/// The configuration file; `--config` wins.
pub const CONFIG: Variable = variable("BIFROST_CONFIG", "The configuration file. `--config` wins over it.");
/// Local-only mode.
pub const LOCAL_ONLY: Variable = variable(
    "BIFROST_LOCAL_ONLY",
    "`1`, `true`, `yes` or `on`: local-only mode, whatever the file says. `0`, `false`, `no`, `off` or empty: says \
     nothing. Anything else counts as on, with a warning.",
);
/// The addresses to bind.
pub const HOST: Variable =
    variable("BIFROST_HOST", "The addresses to bind, with commas between. Wins over `[server] host`.");
/// The port.
pub const PORT: Variable = variable("BIFROST_PORT", "The port. Wins over `[server] port`.");
/// The log's filter.
pub const LOG: Variable = variable("BIFROST_LOG", "The log's filter, as in `debug`. Wins over `[log] filter`.");
/// The folder for what outlives a restart.
pub const STATE_DIR: Variable = variable(
    "BIFROST_STATE_DIR",
    "The folder for what outlives a restart: the run-time local switch and the admin token.",
);
/// The folder for what can be fetched again.
pub const CACHE_DIR: Variable =
    variable("BIFROST_CACHE_DIR", "The folder for what can be fetched again: model lists and facts.");
/// Where the commands find the gateway.
pub const URL: Variable = variable(
    "BIFROST_URL",
    "Where the commands find the running gateway, as in `http://localhost:30080`. `--url` wins over it.",
);
/// What is called for `launchctl`.
pub const LAUNCHCTL: Variable =
    variable("BIFROST_LAUNCHCTL", "The program that is called for `launchctl`; `/bin/launchctl` if unset.");
/// Where models are, for Hugging Face's libraries.
pub const HF_HOME: Variable =
    variable("HF_HOME", "Hugging Face's folder: models are in `hub` there; `~/.cache/huggingface` if unset.");
/// Where models are, more exactly.
pub const HF_HUB_CACHE: Variable =
    variable("HF_HUB_CACHE", "Hugging Face's folder of models; `$HF_HOME/hub` if unset.");
/// The home folder.
pub const HOME: Variable = variable("HOME", "The home folder: what `~` stands for.");
/// Where configuration lives.
pub const XDG_CONFIG_HOME: Variable =
    variable("XDG_CONFIG_HOME", "`$XDG_CONFIG_HOME/bifrost/config.toml` is looked for first; `~/.config` if unset.");
/// Where state lives.
pub const XDG_STATE_HOME: Variable =
    variable("XDG_STATE_HOME", "`$XDG_STATE_HOME/bifrost` is the state folder, unless `BIFROST_STATE_DIR` is set.");
/// Where caches live.
pub const XDG_CACHE_HOME: Variable =
    variable("XDG_CACHE_HOME", "`$XDG_CACHE_HOME/bifrost` is the cache folder, unless `BIFROST_CACHE_DIR` is set.");
/// No colour.
pub const NO_COLOR: Variable = variable("NO_COLOR", "Set to anything: no colour in the output (no-color.org).");

/// All of them.
pub const VARIABLES: [Variable; 16] = [
    CONFIG,
    LOCAL_ONLY,
    HOST,
    PORT,
    LOG,
    STATE_DIR,
    CACHE_DIR,
    URL,
    LAUNCHCTL,
    HF_HOME,
    HF_HUB_CACHE,
    HOME,
    XDG_CONFIG_HOME,
    XDG_STATE_HOME,
    XDG_CACHE_HOME,
    NO_COLOR,
];
