//! The last step: identity, limits, and the container's own program in place of the shim.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};

use super::{During, Failure, identity, seccomp};
use crate::runtime::spec::ProcessSpec;

/// Enough for a proxy, few enough for programs that close every descriptor they might have.
const OPEN_FILES: u64 = 65_536;

/// Becomes the program.
pub(super) fn run(process: &ProcessSpec) -> Result<Infallible, Failure> {
    limits();
    umask(Mode::from_bits_truncate(0o022));
    if !process.cwd.exists() {
        // On a read-only root this fails, and the next line says so.
        let _ = std::fs::create_dir_all(&process.cwd);
    }
    identity::assume(process)?;
    std::env::set_current_dir(&process.cwd).map_err(|e| Failure {
        code: 126,
        message: format!("chdir to cwd ({:?}) set in config.json failed: {}", process.cwd, reason(&e)),
    })?;
    let path = process.env.iter().rev().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value.as_str());
    let Some((program, arguments)) = process.args.split_first() else {
        return Err(Failure { code: 127, message: "process args cannot be empty".into() });
    };
    let file = find(program, path)?;
    if process.lacks_iptables {
        seccomp::hide_iptables()?;
    } else if process.no_new_privileges {
        nix::sys::prctl::set_no_new_privs().during("set no_new_privs")?;
    }
    let error = Command::new(&file)
        .arg0(program)
        .args(arguments)
        .env_clear()
        .envs(process.env.iter().map(|(name, value)| (name, value)))
        .exec();
    Err(Failure { code: 126, message: format!("exec {}: {}", file.display(), reason(&error)) })
}

/// Limits that a runtime sets for everyone. Best effort: a lower hard limit of ours stays.
fn limits() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(OPEN_FILES), hard);
    }
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// Go's words for an error, as runc prints them: without the number.
fn reason(error: &std::io::Error) -> String {
    error
        .raw_os_error()
        .map_or_else(|| error.to_string(), |code| nix::errno::Errno::from_raw(code).desc().to_lowercase())
}

/// Looks a program up as runc does: a name with a slash is a path, any other is looked for in the container's `PATH`.
fn find(program: &str, path: &str) -> Result<PathBuf, Failure> {
    if program.contains('/') {
        return executable(Path::new(program))
            .map(|()| PathBuf::from(program))
            .map_err(|(code, why)| Failure { code, message: format!("exec: {program:?}: stat {program}: {why}") });
    }
    path.split(':')
        .map(|directory| Path::new(if directory.is_empty() { "." } else { directory }).join(program))
        .find(|candidate| executable(candidate).is_ok())
        .ok_or_else(|| Failure { code: 127, message: format!("exec: {program:?}: executable file not found in $PATH") })
}

fn executable(path: &Path) -> Result<(), (i32, String)> {
    let meta = std::fs::metadata(path).map_err(|e| {
        let code = if e.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
        (code, reason(&e))
    })?;
    if meta.is_dir() {
        return Err((126, "is a directory".into()));
    }
    if meta.permissions().mode() & 0o111 == 0 {
        return Err((126, "permission denied".into()));
    }
    Ok(())
}
