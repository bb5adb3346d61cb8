//! Where the file is looked for, and where state and caches live.

use super::env;
use crate::secret::Environment;
use directories::{BaseDirs, ProjectDirs};
use std::path::{Path, PathBuf};

/// The places of this user on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Paths {
    /// Where the configuration file is looked for, in order; the first that exists is taken.
    pub config: Vec<PathBuf>,
    /// The folder for what outlives a restart. `None` without a home folder.
    pub state: Option<PathBuf>,
    /// The folder for what can be fetched again. `None` without a home folder.
    pub cache: Option<PathBuf>,
    /// The home folder: what `~` stands for.
    pub home: Option<PathBuf>,
}

impl Paths {
    /// The places that the environment names: XDG folders where they are set, else `~/.config` and what the platform
    /// uses (`~/Library/Application Support/bifrost` and `~/Library/Caches/bifrost` on macOS).
    pub fn of(environment: &Environment) -> Self {
        let folder = |variable: env::Variable| {
            // The XDG specification has relative paths ignored.
            environment.get(variable.name).map(PathBuf::from).filter(|path| path.is_absolute())
        };
        let home = folder(env::HOME).or_else(|| BaseDirs::new().map(|base| base.home_dir().to_owned()));
        let platform = ProjectDirs::from("", "", "bifrost");
        let in_xdg = |variable, fallback: &str| {
            let base = folder(variable).or_else(|| home.as_ref().map(|home| home.join(fallback)))?;
            Some(base.join("bifrost"))
        };
        let mac = cfg!(target_os = "macos");
        let mut config: Vec<PathBuf> =
            in_xdg(env::XDG_CONFIG_HOME, ".config").into_iter().map(|folder| folder.join("config.toml")).collect();
        if mac {
            config.extend(platform.as_ref().map(|platform| platform.config_dir().join("config.toml")));
        }
        let place = |own, xdg, fallback, platform: Option<&Path>| match folder(own) {
            Some(own) => Some(own),
            None if mac && folder(xdg).is_none() => platform.map(Path::to_owned),
            None => in_xdg(xdg, fallback),
        };
        Self {
            config,
            state: place(
                env::STATE_DIR,
                env::XDG_STATE_HOME,
                ".local/state",
                platform.as_ref().map(ProjectDirs::data_local_dir),
            ),
            cache: place(env::CACHE_DIR, env::XDG_CACHE_HOME, ".cache", platform.as_ref().map(ProjectDirs::cache_dir)),
            home,
        }
    }

    /// `path` with a leading `~/` replaced by the home folder.
    pub fn expand(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path.to_owned(),
        }
    }
}

#[cfg(all(test, not(target_os = "macos")))]
mod tests {
    use super::*;

    fn paths(variables: &[(&str, &str)]) -> Paths {
        Paths::of(&variables.iter().copied().collect())
    }

    #[test]
    fn home_and_xdg_and_our_own_variables_are_followed() {
        let home = paths(&[("HOME", "/h")]);
        assert_eq!(home.config, [PathBuf::from("/h/.config/bifrost/config.toml")]);
        assert_eq!(home.state, Some("/h/.local/state/bifrost".into()));
        assert_eq!(home.cache, Some("/h/.cache/bifrost".into()));
        assert_eq!(home.expand(Path::new("~/a")), Path::new("/h/a"));
        assert_eq!(home.expand(Path::new("/a/~")), Path::new("/a/~"));
        let xdg = paths(&[
            ("HOME", "/h"),
            ("XDG_CONFIG_HOME", "/c"),
            ("XDG_STATE_HOME", "relative"),
            ("XDG_CACHE_HOME", "/k"),
        ]);
        assert_eq!(xdg.config, [PathBuf::from("/c/bifrost/config.toml")]);
        assert_eq!(xdg.state, Some("/h/.local/state/bifrost".into()), "a relative one is ignored");
        assert_eq!(xdg.cache, Some("/k/bifrost".into()));
        let own = paths(&[("HOME", "/h"), ("BIFROST_STATE_DIR", "/s"), ("BIFROST_CACHE_DIR", "/x")]);
        assert_eq!((own.state, own.cache), (Some("/s".into()), Some("/x".into())));
    }
}
