//! The client that was compiled with musl: a static C program inside of this one, which becomes it.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;

use anyhow::{Context, bail};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::fexecve;

use super::HttpOptions;
use super::target::{Scheme, Target};

/// Empty where there was no musl-gcc to compile it.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/musl-client"));

/// Makes one request, if it is one that the other program can make.
pub(super) fn request(options: &HttpOptions) -> anyhow::Result<Infallible> {
    let HttpOptions { url, common, method, body, host_header } = options;
    let target = Target::of_url(url)?;
    if target.scheme != Scheme::Http || method != "GET" || body.is_some() {
        bail!("{method} {url:?} with musl's resolver: it makes GET requests of http:// only");
    }
    let host = host_header.clone().unwrap_or_else(|| target.authority());
    let (port, patience) = (target.port.to_string(), common.timeout_ms.to_string());
    let canary = common.canary.as_deref().unwrap_or_default();
    execute(&["request", &target.host, &port, &target.path, &host, canary, &patience])
}

/// Looks a name up.
pub(super) fn look_up(name: &str) -> anyhow::Result<Infallible> {
    execute(&["lookup", name])
}

fn execute(words: &[&str]) -> anyhow::Result<Infallible> {
    if PROGRAM.is_empty() {
        bail!("resolve by musl: this program was built without musl-gcc; install musl-tools and build it again");
    }
    let file = memfd_create("musl-client", MFdFlags::MFD_CLOEXEC).context("make room for the client with musl")?;
    let mut file = File::from(file);
    file.write_all(PROGRAM).context("write the client with musl")?;
    let words = std::iter::once(&"musl-client").chain(words).map(|word| CString::new(*word));
    let words = words.collect::<Result<Vec<_>, _>>().context("hand over words with a zero byte")?;
    fexecve(&file, &words, &[] as &[CString]).context("become the client with musl")
}
