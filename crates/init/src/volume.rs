//! Files for the sidecar, on the volume that it shares with the init container.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context as _;

/// Readable by everyone, the sidecar's user among them; writable by no one.
const MODE: u32 = 0o444;

/// Writes a file whole, replacing one that an earlier run of the init container left, which cannot be written to. `what` says in
/// errors what it holds.
pub(crate) fn write(file: &Path, what: &str, text: &str) -> anyhow::Result<()> {
    let hint = || format!("write {what} to {} (is the volume mounted there?)", file.display());
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    // one that an interrupted run left
    let _ = fs::remove_file(&new);
    fs::write(&new, text).with_context(hint)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(MODE)).with_context(hint)?;
    fs::rename(&new, file).with_context(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_and_read_only() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("proxyid");
        for id in ["web-1-sidecar-proxy", "web-2-sidecar-proxy"] {
            write(&file, "the id", id).expect("written");
            assert_eq!(fs::read_to_string(&file).expect("there"), id);
            assert_eq!(fs::metadata(&file).expect("there").permissions().mode() & 0o777, MODE);
        }
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1, "nothing else stays");
    }

    #[test]
    fn a_missing_volume_is_named() {
        let error = write(Path::new("/nonexistent-volume/proxyid"), "the id", "web").expect_err("no such directory");
        assert!(format!("{error:#}").contains("the id to /nonexistent-volume/proxyid (is the volume mounted there?)"));
    }
}
