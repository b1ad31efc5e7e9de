//! The container's namespaces and its root: this machine's programs, everything else its own.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use super::layers::{Layers, bind, directory};
use super::{During, Failure};
use crate::runtime::spec::ContainerSpec;

/// Where this machine keeps its programs and libraries, whatever its distribution.
const SYSTEM: [&str; 8] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "nix"];
/// Devices of a container.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Directories that are there and empty.
const DIRECTORIES: [(&str, u32); 16] = [
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// Enters the Pod's network namespace and makes the container's others.
pub(super) fn make_namespaces(container: &ContainerSpec) -> Result<(), Failure> {
    netns::NetNs::open(&container.netns)
        .and_then(|network| network.enter())
        .during(format_args!("enter the pod's network {}", container.netns.display()))?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)
        .during("make mount, UTS and IPC namespaces (needs CAP_SYS_ADMIN in the sandbox)")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .during("keep mounts from leaving the container")?;
    nix::unistd::sethostname(&container.hostname).during(format_args!("set host name {:?}", container.hostname))
}

/// Assembles the root and moves into it.
pub(super) fn assemble(container: &ContainerSpec) -> Result<(), Failure> {
    let mut layers = Layers::new(&container.mountpoint)?;
    skeleton(&layers).during("make the root's directories")?;
    system(&layers)?;
    kernel_files(&layers, container.privileged)?;
    devices(&layers)?;
    etc(&mut layers, &container.etc)?;
    own_local_bin(&mut layers)?;
    for (target, source) in &container.files {
        layers.bind(source, target, true)?;
    }
    let mut volumes: Vec<_> = container.mounts.iter().collect();
    volumes.sort_by_key(|mount| mount.target.components().count());
    for volume in volumes {
        let place = layers.bind(&volume.source, &volume.target, volume.read_only)?;
        if !volume.propagates {
            mount(None::<&str>, &place, None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
                .during(format_args!("make the mount {} private", volume.target.display()))?;
        }
    }
    if container.read_only_root {
        layers.freeze()?;
    }
    move_in(&layers.root)
}

fn skeleton(layers: &Layers) -> std::io::Result<()> {
    for (name, mode) in DIRECTORIES {
        directory(&layers.root.join(name), mode)?;
    }
    symlink("../run", layers.root.join("var/run"))
}

fn system(layers: &Layers) -> Result<(), Failure> {
    for name in SYSTEM {
        let (theirs, ours) = (Path::new("/").join(name), layers.root.join(name));
        if let Ok(target) = fs::read_link(&theirs) {
            symlink(target, ours).during(format_args!("link /{name}"))?;
        } else if theirs.is_dir() {
            fs::create_dir(&ours).during(format_args!("make /{name}"))?;
            bind(&theirs, &ours, true).during(format_args!("mount /{name}"))?;
        }
    }
    Ok(())
}

fn kernel_files(layers: &Layers, privileged: bool) -> Result<(), Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let proc = layers.root.join("proc");
    // A fresh one shows the processes of the namespace that the shim was born in.
    mount(Some("proc"), &proc, Some("proc"), flags, None::<&str>)
        .during("mount /proc (its own, beside a /proc of which nothing is hidden)")?;
    if !privileged {
        let sys = proc.join("sys");
        bind(&sys, &sys, true).during("mount /proc/sys read-only")?;
    }
    // Where a user namespace sees a masked /sys the kernel refuses a fresh one; few programs miss it.
    let flags = if privileged { flags } else { flags | MsFlags::MS_RDONLY };
    let _ = mount(Some("sysfs"), &layers.root.join("sys"), Some("sysfs"), flags, None::<&str>);
    Ok(())
}

fn devices(layers: &Layers) -> Result<(), Failure> {
    let dev = layers.root.join("dev");
    for name in DEVICES {
        let (theirs, ours) = (Path::new("/dev").join(name), dev.join(name));
        if theirs.exists() {
            fs::File::create(&ours).during(format_args!("make /dev/{name}"))?;
            bind(&theirs, &ours, false).during(format_args!("mount /dev/{name}"))?;
        }
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in links {
        symlink(target, dev.join(name)).during(format_args!("link /dev/{name}"))?;
    }
    let shm = dev.join("shm");
    fs::create_dir(&shm).during("make /dev/shm")?;
    mount(
        Some("shm"),
        &shm,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=1777"),
    )
    .during("mount /dev/shm")
}

/// This machine's `/etc` with the Pod's own files in it. Where something is mounted below `/etc` (a build container's
/// resolv.conf), a user namespace may not use it as a lower layer: then it is bound read-only, and the Pod's files over it.
fn etc(layers: &mut Layers, files: &[(String, String)]) -> Result<(), Failure> {
    let (theirs, ours) = (Path::new("/etc"), layers.root.join("etc"));
    if layers.overlay(&ours, theirs, files).is_ok() {
        return Ok(());
    }
    bind(theirs, &ours, true).during("mount /etc")?;
    for (name, text) in files {
        let source = layers.hidden_file(name, text).during(format_args!("write /etc/{name}"))?;
        layers.bind(&source, &Path::new("/etc").join(name), false)?;
    }
    Ok(())
}

/// Images put programs into /usr/local/bin; what this machine has there is nobody's business.
fn own_local_bin(layers: &mut Layers) -> Result<(), Failure> {
    let place = layers.resolve(Path::new("/usr/local/bin"));
    if !place.is_dir() {
        return Ok(());
    }
    mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some("mode=0755")).during("mount /usr/local/bin")?;
    layers.writable.push(place);
    Ok(())
}

fn move_in(root: &Path) -> Result<(), Failure> {
    nix::unistd::chdir(root).during("enter the root")?;
    // The old root ends up on top of the new one, and goes.
    nix::unistd::pivot_root(".", ".").during("change the root")?;
    umount2(".", MntFlags::MNT_DETACH).during("leave the old root")?;
    nix::unistd::chdir("/").during("enter the new root")
}
