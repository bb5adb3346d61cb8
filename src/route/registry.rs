//! A JSON registry of role names (nix-ai's `registry.json`): role to model id of the local MLX server, read live.

use indexmap::IndexMap;
use serde_json::Value;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Which model id each role stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roles(IndexMap<String, String>);

impl Roles {
    /// Reads `{"models": {"<role>": "<id>", ...}, ...}`, or the inner object alone. Roles without a model are left out.
    ///
    /// # Errors
    /// Not a JSON object.
    pub fn parse(text: &[u8]) -> Result<Self, RegistryError> {
        let value: Value = serde_json::from_slice(text).map_err(|error| RegistryError::NotJson(error.to_string()))?;
        let object = value.as_object().ok_or(RegistryError::NotAnObject)?;
        let roles = object.get("models").map_or(Some(object), Value::as_object).ok_or(RegistryError::NotAnObject)?;
        let pairs = roles.iter().filter_map(|(role, id)| Some((role, id.as_str()?.trim())));
        Ok(Self(pairs.filter(|(_, id)| !id.is_empty()).map(|(role, id)| (role.clone(), id.to_owned())).collect()))
    }

    /// The model of `role`, without a leading `mlx-local/`.
    pub fn get(&self, role: &str) -> Option<&str> {
        let id = self.0.get(role)?;
        Some(id.strip_prefix("mlx-local/").unwrap_or(id))
    }

    /// Every role and its model, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.keys().filter_map(|role| Some((&**role, self.get(role)?)))
    }
}

/// Why a registry cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It cannot be read.
    #[error("{path} cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// It is not JSON.
    #[error("the registry is not JSON: {0}")]
    NotJson(String),
    /// It is JSON, but no object of roles.
    #[error("the registry is no JSON object with `models`")]
    NotAnObject,
}

/// What tells one state of a file from the next. Files in Nix's store all have the same age, and often the same length:
/// there only the inode differs.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    modified: SystemTime,
    length: u64,
    place: (u64, u64),
}

impl Version {
    fn of(metadata: &Metadata) -> std::io::Result<Self> {
        Ok(Self { modified: metadata.modified()?, length: metadata.len(), place: (metadata.dev(), metadata.ino()) })
    }
}

/// The registry's file; looked at on every call, read again only when it has changed.
#[derive(Debug)]
pub struct Registry {
    path: PathBuf,
    last: Mutex<Option<(Version, Arc<Roles>)>>,
}

impl Registry {
    /// The registry at `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, last: Mutex::new(None) }
    }

    /// The roles as the file has them now.
    ///
    /// # Errors
    /// The file is gone or is no registry. The last good roles are kept in [`Registry::last_good`].
    pub fn roles(&self) -> Result<Arc<Roles>, RegistryError> {
        let unreadable =
            |error: std::io::Error| RegistryError::Unreadable { path: self.path.clone(), reason: error.to_string() };
        // `metadata` follows symbolic links: Nix swaps them.
        let metadata = std::fs::metadata(&self.path).map_err(unreadable)?;
        let version = Version::of(&metadata).map_err(unreadable)?;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, roles)) = &*last
            && *seen == version
        {
            return Ok(roles.clone());
        }
        let roles = Arc::new(Roles::parse(&std::fs::read(&self.path).map_err(unreadable)?)?);
        *last = Some((version, roles.clone()));
        Ok(roles)
    }

    /// The roles that were read last without an error; none if there never were any.
    pub fn last_good(&self) -> Arc<Roles> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().map(|(_, roles)| roles.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NIX_AI: &str = r#"{"models": {"default": "mlx-community/A-4bit", "coding": "mlx-local/mlx-community/B-8bit",
        "oss": null, "small": " "}, "endpoints": {"mlx": "http://127.0.0.1:11434"}, "nodeports": {"bifrost": 30080}}"#;

    #[test]
    fn roles_are_those_of_models_and_empty_ones_are_none() {
        let roles = Roles::parse(NIX_AI.as_bytes()).unwrap();
        let all: Vec<_> = roles.iter().collect();
        assert_eq!(all, [("default", "mlx-community/A-4bit"), ("coding", "mlx-community/B-8bit")]);
        assert_eq!(roles.get("oss"), None);
        assert_eq!(Roles::parse(br#"{"default": "m"}"#).unwrap().get("default"), Some("m"));
        assert_eq!(Roles::parse(b"[]"), Err(RegistryError::NotAnObject));
        assert_eq!(Roles::parse(br#"{"models": 1}"#), Err(RegistryError::NotAnObject));
    }

    #[test]
    fn a_swapped_link_to_a_file_of_the_same_age_and_length_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("registry.json");
        let registry = Registry::new(link.clone());
        for name in ["one", "two"] {
            let file = folder.path().join(name);
            std::fs::write(&file, format!(r#"{{"default": "{name}"}}"#)).unwrap();
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(&file, &link).unwrap();
            assert_eq!(registry.roles().unwrap().get("default"), Some(name));
        }
    }

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_leaves_the_last_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("registry.json");
        let registry = Registry::new(path.clone());
        assert!(matches!(registry.roles(), Err(RegistryError::Unreadable { .. })));
        std::fs::write(&path, r#"{"models": {"default": "one"}}"#).unwrap();
        assert_eq!(registry.roles().unwrap().get("default"), Some("one"));
        std::fs::write(&path, r#"{"models": {"default": "another"}}"#).unwrap();
        assert_eq!(registry.roles().unwrap().get("default"), Some("another"));
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(registry.roles(), Err(RegistryError::NotJson(_))));
        assert_eq!(registry.last_good().get("default"), Some("another"));
    }

    proptest! {
        #[test]
        fn a_cut_registry_is_an_error_and_no_panic(cut in 0..NIX_AI.len()) {
            prop_assert!(Roles::parse(&NIX_AI.as_bytes()[..cut]).is_err());
        }
    }
}
