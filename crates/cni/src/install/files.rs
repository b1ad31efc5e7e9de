//! Files of the node, changed so that no reader ever sees half of one, and a crash leaves the old one or the new one.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Beginning of the names of files that are being written; one that a crash has left is written over.
const FRESH: &str = ".consul-cni.";

/// Replaces a file by renaming. One that is there keeps its mode and owner; a new one gets `mode`.
///
/// # Errors
/// The file system refuses; the file is as it was.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let fresh = fresh(path);
    let written = write(path, &fresh, content, mode).and_then(|()| std::fs::rename(&fresh, path));
    if written.is_err() {
        // it may not be there
        std::fs::remove_file(&fresh).ok();
    }
    written?;
    sync_directory(path)
}

/// Removes a file, if it is there.
///
/// # Errors
/// The file system refuses.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => sync_directory(path),
    }
}

/// Beside the file, with a name that no runtime takes for a configuration or a plugin.
fn fresh(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    path.with_file_name(format!("{FRESH}{name}.tmp"))
}

fn write(path: &Path, fresh: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = File::create(fresh)?;
    file.write_all(content)?;
    match std::fs::metadata(path) {
        Ok(there) => {
            fchown(&file, Some(there.uid()), Some(there.gid()))?;
            file.set_permissions(Permissions::from_mode(there.mode() & 0o7777))?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => file.set_permissions(Permissions::from_mode(mode))?,
        Err(error) => return Err(error),
    }
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if directory.is_dir() => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mode_and_content() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("10-net.conflist");
        let mode = || std::fs::metadata(&path).map(|metadata| metadata.mode() & 0o7777);
        replace(&path, b"one", 0o600)?;
        assert_eq!(mode()?, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o640))?;
        replace(&path, b"two", 0o600)?;
        assert_eq!((mode()?, std::fs::read(&path)?.as_slice()), (0o640, b"two".as_slice()));
        assert_eq!(std::fs::read_dir(directory.path())?.count(), 1, "nothing is left beside it");
        remove(&path)?;
        remove(&path)
    }

    #[test]
    fn readers_see_one_or_the_other() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("file");
        let (old, new) = (vec![b'a'; 64 * 1024], vec![b'b'; 64 * 1024]);
        replace(&path, &old, 0o644)?;
        std::thread::scope(|scope| {
            let writer =
                scope.spawn(|| (0..200).try_for_each(|n| replace(&path, if n % 2 == 0 { &new } else { &old }, 0o644)));
            while !writer.is_finished() {
                let seen = std::fs::read(&path)?;
                assert!(seen == old || seen == new, "{} bytes of a mixture", seen.len());
            }
            writer.join().map_err(|_| io::Error::other("the writer panicked"))?
        })
    }
}
