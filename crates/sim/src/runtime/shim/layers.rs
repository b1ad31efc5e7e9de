//! Paths and mounts below a root that is being assembled.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};

use super::{During, Failure};

const NONE: Option<&str> = None;

/// Two directories on one fresh tmpfs: the root that the container will see, and the upper layers that it will not.
pub(super) struct Layers {
    /// Becomes `/`.
    pub(super) root: PathBuf,
    hidden: PathBuf,
    /// Mounts of the image, as opposed to volumes, that may be written: a read-only root includes them.
    pub(super) writable: Vec<PathBuf>,
}

impl Layers {
    /// Mounts the tmpfs at `mountpoint`.
    pub(super) fn new(mountpoint: &Path) -> Result<Self, Failure> {
        mount(Some("tmpfs"), mountpoint, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
            .during(format_args!("mount a root at {}", mountpoint.display()))?;
        let (root, hidden) = (mountpoint.join("root"), mountpoint.join("layers"));
        for directory in [&root, &hidden] {
            fs::create_dir(directory).during("make the root")?;
        }
        // pivot_root wants a mount point.
        mount(Some(&root), &root, NONE, MsFlags::MS_BIND, NONE).during("bind the root")?;
        Ok(Self { writable: vec![root.clone()], root, hidden })
    }

    /// Makes the directory `path` writable and private: an overlay above what is there now, with `files` in it.
    pub(super) fn overlay(&mut self, path: &Path, lower: &Path, files: &[(String, String)]) -> io::Result<()> {
        let number = self.writable.len();
        let (upper, work) = (self.hidden.join(format!("{number}u")), self.hidden.join(format!("{number}w")));
        // A failed attempt may have left them.
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        for (name, text) in files {
            fs::write(upper.join(name), text)?;
        }
        // userxattr: what an overlay mounted in a user namespace must use, and anyone may.
        let layers =
            format!("lowerdir={},upperdir={},workdir={},userxattr", lower.display(), upper.display(), work.display());
        mount(Some("overlay"), path, Some("overlay"), MsFlags::empty(), Some(layers.as_str()))?;
        self.writable.push(path.to_owned());
        Ok(())
    }

    /// Makes the image read-only; volumes stay as they are.
    pub(super) fn freeze(&self) -> Result<(), Failure> {
        for place in &self.writable {
            remount_read_only(place).during(format_args!("make {} read-only", place.display()))?;
        }
        Ok(())
    }

    /// A file outside the root, to be bound over one inside.
    pub(super) fn hidden_file(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.hidden.join(name);
        fs::write(&path, text)?;
        Ok(path)
    }

    /// Where `path` of the container is on this machine now, following the symbolic links of the container's root only.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        let mut done = PathBuf::new();
        let mut todo: Vec<PathBuf> = components(path);
        let mut links = 0;
        while let Some(part) = todo.pop() {
            if part.as_os_str() == ".." {
                done.pop();
                continue;
            }
            let here = self.root.join(done.join(&part));
            match fs::read_link(&here) {
                Ok(target) if links < 40 => {
                    links += 1;
                    if target.is_absolute() {
                        done = PathBuf::new();
                    }
                    todo.extend(components(&target));
                }
                _ => done.push(part),
            }
        }
        self.root.join(done)
    }

    /// Binds `source` at `target` of the container. Parents and the mount point are made; below a read-only directory by
    /// laying an overlay over it.
    /// Returns the mount point.
    pub(super) fn bind(&mut self, source: &Path, target: &Path, read_only: bool) -> Result<PathBuf, Failure> {
        let directory =
            fs::metadata(source).during(format_args!("mount {} at {}", source.display(), target.display()))?.is_dir();
        let place = self.resolve(target);
        if !place.exists() {
            self.mount_point(&place, directory)
                .during(format_args!("make the mount point {} (is its parent a directory?)", target.display()))?;
        }
        bind(source, &place, read_only).during(format_args!("mount {} at {}", source.display(), target.display()))?;
        Ok(place)
    }

    fn mount_point(&mut self, place: &Path, directory: bool) -> io::Result<()> {
        let make = || -> io::Result<()> {
            if directory {
                return fs::create_dir_all(place);
            }
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::File::create(place).map(drop)
        };
        match make() {
            Err(e) if e.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                let above = place.ancestors().skip(1).find(|path| path.is_dir()).unwrap_or(&self.root).to_owned();
                self.overlay(&above, &above, &[])?;
                make()
            }
            made => made,
        }
    }
}

/// The names in a path, last first; no `/`, no `.`.
fn components(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

/// Binds a file or tree, on an existing mount point.
pub(super) fn bind(source: &Path, place: &Path, read_only: bool) -> nix::Result<()> {
    mount(Some(source), place, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
    if read_only { remount_read_only(place) } else { Ok(()) }
}

/// Makes one mount read-only. Flags that a user namespace may not clear are kept.
pub(super) fn remount_read_only(place: &Path) -> nix::Result<()> {
    let has = statvfs(place)?.flags();
    let kept = [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let kept = kept.iter().filter(|(flag, _)| has.contains(*flag)).fold(MsFlags::empty(), |all, (_, flag)| all | *flag);
    mount(NONE, place, NONE, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | kept, NONE)
}

/// Makes a directory with exactly this mode.
pub(super) fn directory(path: &Path, mode: u32) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}
