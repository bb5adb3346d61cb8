//! Where a model lies on disk, how large it is, and whether it fits into memory. Source of the layout: the documentation
//! of `huggingface_hub` 1.x, "Understand caching" and "Environment variables".

use crate::config::env;
use crate::secret::Environment;
use std::path::{Path, PathBuf};

/// Bytes of a GiB.
const GIB: u64 = 1 << 30;
/// Links within a model's folder lead to its files; one that leads around in a circle ends here.
const DEEPEST: usize = 8;

/// The folder in which Hugging Face's libraries keep models: `HF_HUB_CACHE`, else `$HF_HOME/hub`, else
/// `huggingface/hub` in `$XDG_CACHE_HOME` or `~/.cache`. `None` without a home folder.
pub fn hub(environment: &Environment, home: Option<&Path>) -> Option<PathBuf> {
    let folder = |variable: env::Variable| environment.get(variable.name).map(PathBuf::from);
    let cache = || folder(env::XDG_CACHE_HOME).or_else(|| home.map(|home| home.join(".cache")));
    folder(env::HF_HUB_CACHE)
        .or_else(|| folder(env::HF_HOME).map(|home| home.join("hub")))
        .or_else(|| cache().map(|cache| cache.join("huggingface/hub")))
}

/// The folder of a model: itself where `model` is one, else its snapshot in the hub: the one that `main` points to, or
/// the only one. `None` when it is not on this disk.
pub fn find(model: &str, hub: Option<&Path>) -> Option<PathBuf> {
    if Path::new(model).is_dir() {
        return Some(model.into());
    }
    let repository = hub?.join(format!("models--{}", model.replace('/', "--")));
    let snapshots = repository.join("snapshots");
    let main = std::fs::read_to_string(repository.join("refs/main")).ok();
    let main = main.map(|commit| snapshots.join(commit.trim())).filter(|folder| folder.is_dir());
    main.or_else(|| {
        let mut folders = std::fs::read_dir(&snapshots).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        folders.find(|folder| folder.is_dir())
    })
}

/// Bytes of all files in a folder, those behind links included.
pub fn size(folder: &Path) -> u64 {
    fn below(folder: &Path, depth: usize) -> u64 {
        let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
        entries
            .map(|entry| match entry.path().metadata() {
                Ok(about) if about.is_dir() && depth < DEEPEST => below(&entry.path(), depth + 1),
                Ok(about) if about.is_file() => about.len(),
                _ => 0,
            })
            .fold(0, u64::saturating_add)
    }
    below(folder, 0)
}

/// The memory of the machine, and what of it is not for a model.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Bytes there are.
    pub total: u64,
    /// GiB that must stay free.
    pub reserve_gb: u32,
}

impl Memory {
    /// Of this machine.
    pub fn of_machine(reserve_gb: u32) -> Self {
        let mut system = sysinfo::System::new();
        system.refresh_memory();
        Self { total: system.total_memory(), reserve_gb }
    }

    /// Says why a model of `size` bytes on disk may not be loaded: 1.3 times that must fit into memory less the reserve.
    ///
    /// # Errors
    /// It does not fit; both sizes are in the words.
    pub fn check(&self, size: u64) -> Result<(), String> {
        let needed = size.saturating_add(size / 10 * 3);
        let free = self.total.saturating_sub(u64::from(self.reserve_gb).saturating_mul(GIB));
        if needed <= free {
            return Ok(());
        }
        Err(format!(
            "it has {} on disk and needs about {} in memory, and there are {} less {} GiB that stay free",
            gib(size),
            gib(needed),
            gib(self.total),
            self.reserve_gb
        ))
    }
}

/// Bytes in GiB, for people.
pub fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10) / GIB;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_hub_is_where_hugging_face_says() {
        let at = |variables: &[(&str, &str)]| {
            hub(&variables.iter().copied().collect(), Some(Path::new("/h"))).unwrap().display().to_string()
        };
        assert_eq!(at(&[]), "/h/.cache/huggingface/hub");
        assert_eq!(at(&[("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(at(&[("HF_HOME", "/Volumes/HF"), ("XDG_CACHE_HOME", "/x")]), "/Volumes/HF/hub");
        assert_eq!(at(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/Volumes/HF")]), "/c");
        assert_eq!(hub(&Environment::default(), None), None);
    }

    #[test]
    fn a_model_is_its_snapshot_with_the_files_behind_the_links() {
        let hub = tempfile::tempdir().unwrap();
        let repository = hub.path().join("models--org--name");
        let (old, new) = (repository.join("snapshots/aaa"), repository.join("snapshots/bbb"));
        for folder in [&old, &new.join("sub"), &repository.join("refs"), &repository.join("blobs")] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(repository.join("blobs/1"), [0; 1000]).unwrap();
        fs::write(old.join("stale.bin"), [0; 7]).unwrap();
        std::os::unix::fs::symlink("../../blobs/1", new.join("model.safetensors")).unwrap();
        std::os::unix::fs::symlink("../nowhere", new.join("gone")).unwrap();
        std::os::unix::fs::symlink("..", new.join("sub/circle")).unwrap();
        fs::write(repository.join("refs/main"), "bbb\n").unwrap();
        let found = find("org/name", Some(hub.path())).unwrap();
        assert_eq!(found, new);
        fs::remove_file(new.join("sub/circle")).unwrap();
        assert_eq!(size(&found), 1000);
        assert_eq!(find("org/other", Some(hub.path())), None);
        assert_eq!(find(old.to_str().unwrap(), None), Some(old.clone()), "a folder is itself");
        fs::remove_dir_all(&new).unwrap();
        assert_eq!(find("org/name", Some(hub.path())), Some(old), "what main points to may be gone");
    }

    #[test]
    fn a_link_in_a_circle_ends() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        fs::write(folder.path().join("file"), [0; 3]).unwrap();
        assert_eq!(size(folder.path()), 3 * (DEEPEST as u64 + 1));
    }

    #[test]
    fn a_model_needs_its_size_and_a_third() {
        let memory = Memory { total: 48 * GIB, reserve_gb: 8 };
        assert_eq!(memory.check(30 * GIB), Ok(()));
        let told = memory.check(31 * GIB).unwrap_err();
        assert_eq!(
            told,
            "it has 31.0 GiB on disk and needs about 40.2 GiB in memory, and there are 48.0 GiB less 8 GiB that stay free"
        );
        assert!(Memory { total: GIB, reserve_gb: u32::MAX }.check(1).is_err());
        assert!(memory.check(u64::MAX).is_err());
    }
}
