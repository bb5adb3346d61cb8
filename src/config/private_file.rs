//! Files that only their owner may read, in folders that only their owner may enter.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Writes a file anew, whole or not at all. Makes its folder if need be. `is_lasting`: a loss of power does not empty it,
/// which a start does not wait for.
///
/// # Errors
/// It cannot be written; then it is as it was.
pub fn replace(file: &Path, bytes: &[u8], is_lasting: bool) -> io::Result<()> {
    let new = file.with_extension(format!("new.{}", std::process::id()));
    let written = write(&new, bytes, OpenOptions::new().create(true).truncate(true))
        .and_then(|open| if is_lasting { open.sync_all() } else { Ok(()) })
        .and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // What is left of it is of no use to anybody.
        let _ = fs::remove_file(&new);
    }
    written
}

/// Writes a file that must not be there yet. Makes its folder if need be.
///
/// # Errors
/// It is there already, or cannot be written.
pub fn create(file: &Path, bytes: &[u8]) -> io::Result<()> {
    write(file, bytes, OpenOptions::new().create_new(true)).map(drop)
}

fn write(file: &Path, bytes: &[u8], options: &mut OpenOptions) -> io::Result<File> {
    let mut folders = DirBuilder::new();
    folders.recursive(true);
    #[cfg(unix)]
    {
        std::os::unix::fs::DirBuilderExt::mode(&mut folders, 0o700);
        std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    }
    if let Some(folder) = file.parent().filter(|folder| *folder != Path::new("")) {
        folders.create(folder)?;
    }
    let mut file = options.write(true).open(file)?;
    file.write_all(bytes)?;
    Ok(file)
}
