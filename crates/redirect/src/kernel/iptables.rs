//! The iptables programs: which ones to use, running them, and understanding their complaints.

use std::env;
use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::error::ApplyError;
use crate::rules::{ChainSet, Family};

/// A variant of iptables. Both put the same rules into different parts of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// `iptables-nft`: nf_tables.
    Nft,
    /// `iptables-legacy`: x_tables.
    Legacy,
}

impl Variant {
    /// Infix of the program names.
    fn infix(self) -> &'static str {
        match self {
            Self::Nft => "-nft",
            Self::Legacy => "-legacy",
        }
    }

    /// Whether a program that has only the plain name is of this variant, by what it says of itself.
    fn says(self, version: &str) -> bool {
        version.contains("iptables") && version.contains("(nf_tables)") == (self == Self::Nft)
    }
}

/// A variant is a matter of milliseconds; with thousands of rules, seconds.
const DEADLINE: Duration = Duration::from_secs(30);

/// Where to look when there is no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A file that only the started program has to itself. iptables takes a lock for the whole machine unless told otherwise;
/// `kernel::lock` has locked the namespace, which is what matters.
const OWN_LOCK_FILE: &str = "/proc/self/stat";

/// The programs of one variant, with what they found.
#[derive(Debug)]
pub(super) struct Programs {
    restore: Vec<(Family, PathBuf)>,
    save: Vec<(Family, PathBuf)>,
    /// Our rules as they are now.
    pub(super) present: Vec<(Family, ChainSet)>,
    /// Whether there is any rule at all, ours or not.
    any: bool,
}

impl Programs {
    /// Finds the programs and reads what there is, but for families of which it is known that there is nothing.
    pub(super) fn find(
        variant: Variant,
        families: &[Family],
        is_empty: impl Fn(Family) -> bool,
    ) -> Result<Self, ApplyError> {
        let path = env::var("PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.to_owned());
        let mut found = Self { restore: Vec::new(), save: Vec::new(), present: Vec::new(), any: false };
        let mut missing = Vec::new();
        for family in families {
            for (purpose, list) in [("restore", &mut found.restore), ("save", &mut found.save)] {
                match find(*family, variant, purpose, &path) {
                    Ok(program) => list.push((*family, program)),
                    Err(names) => missing.extend(names),
                }
            }
        }
        if !missing.is_empty() {
            return Err(ApplyError::MissingProgram { programs: missing, path });
        }
        for family in families {
            let present = if is_empty(*family) { ChainSet::default() } else { found.read(*family)? };
            found.present.push((*family, present));
        }
        Ok(found)
    }

    /// Whether there are rules, anybody's.
    pub(super) fn has_rules(&self) -> bool {
        self.any
    }

    fn read(&mut self, family: Family) -> Result<ChainSet, ApplyError> {
        let (set, any) = read(family, program(&self.save, family))?;
        self.any |= any;
        Ok(set)
    }

    /// Brings a family to `wanted`, whatever it holds now.
    pub(super) fn bring_back(&self, family: Family, wanted: &ChainSet) -> Result<(), ApplyError> {
        let (present, _) = read(family, program(&self.save, family))?;
        match wanted.script_from(&present) {
            script if script.is_empty() => Ok(()),
            script => self.restore(family, &script),
        }
    }

    /// Runs one transaction.
    pub(super) fn restore(&self, family: Family, script: &str) -> Result<(), ApplyError> {
        let program = program(&self.restore, family);
        // -w is for the lock file, which nobody else has; older versions still ask for it
        let output = run(program, &["-w", "5", "--noflush"], script)?;
        if output.success {
            return Ok(());
        }
        if is_permission(&output.stderr) {
            return Err(ApplyError::MissingCapability { stderr: output.stderr });
        }
        if is_missing_table(&output.stderr) {
            return Err(ApplyError::KernelLacksTables { family, stderr: output.stderr });
        }
        if belongs_to_another_user_namespace() {
            return Err(ApplyError::ForeignUserNamespace { family, program: shown(program), stderr: output.stderr });
        }
        let line = refused_line(&output.stderr);
        // a kernel that refuses the transaction as a whole is reported at the line of the COMMIT
        let rule = line.and_then(|line| script.lines().nth(line - 1)).map(str::to_owned);
        Err(ApplyError::Refused { family, program: shown(program), line, rule, stderr: output.stderr })
    }
}

/// The program of a family; every family that was asked for has one.
fn program(programs: &[(Family, PathBuf)], family: Family) -> &Path {
    programs.iter().find(|(own, _)| *own == family).map_or(Path::new("iptables"), |(_, program)| program)
}

/// Our rules of a family, and whether there are any at all. All tables that exist are read, and none is made by reading.
fn read(family: Family, program: &Path) -> Result<(ChainSet, bool), ApplyError> {
    let output = run(program, &[], "")?;
    if !output.success {
        return Err(cannot_read(family, output.stderr));
    }
    if output.stdout.lines().any(|line| line.contains(INCOMPATIBLE) && line.contains("`nat'")) {
        return Err(ApplyError::ForeignTable { family, program: shown(program) });
    }
    let any = output.stdout.lines().any(|line| line.contains("-A "));
    Ok((ChainSet::parse(&output.stdout), any))
}

fn shown(program: &Path) -> String {
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

/// What the nft variant prints, as a comment and with success, in place of a table it cannot read.
const INCOMPATIBLE: &str = "is incompatible, use 'nft' tool";

/// The program for a family and purpose; the names that were looked for when there is none.
fn find(family: Family, variant: Variant, purpose: &str, path: &str) -> Result<PathBuf, [String; 1]> {
    let base = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let name = format!("{base}{}-{purpose}", variant.infix());
    let plain = || {
        let program = on_path(&format!("{base}-{purpose}"), path)?;
        let version = run(&program, &["--version"], "").ok()?;
        variant.says(&version.stdout).then_some(program)
    };
    on_path(&name, path).or_else(plain).ok_or([name])
}

fn on_path(name: &str, path: &str) -> Option<PathBuf> {
    let executable = |file: &Path| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    env::split_paths(path).map(|directory| directory.join(name)).find(|file| executable(file))
}

/// Bit of `CAP_NET_ADMIN` in a capability set.
const CAP_NET_ADMIN: u32 = 12;

/// Asked first, because the programs' own words for it are the same as for a missing kernel module.
pub(super) fn require_net_admin() -> Result<(), ApplyError> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    match effective {
        Some(set) if set & (1 << CAP_NET_ADMIN) == 0 => Err(ApplyError::MissingCapability { stderr: String::new() }),
        _ => Ok(()),
    }
}

/// Whether the root user of the namespace's owner is not ours. The kernel gives the settings of a network namespace to him; asking it
/// for the owner itself takes an `ioctl`.
fn belongs_to_another_user_namespace() -> bool {
    std::fs::metadata("/proc/sys/net/ipv4/ip_forward").is_ok_and(|setting| setting.uid() != 0)
}

fn is_permission(stderr: &str) -> bool {
    ["Permission denied", "Operation not permitted", "you must be root"].iter().any(|words| stderr.contains(words))
}

/// How both variants say that the kernel does not have what they need.
fn is_missing_table(stderr: &str) -> bool {
    const WORDS: [&str; 5] = [
        "Protocol not supported",
        "do you need to insmod",
        "Table does not exist",
        "Address family not supported",
        "unable to initialize table",
    ];
    WORDS.iter().any(|words| stderr.contains(words))
}

/// Reading fails only for want of the right or of the tables.
fn cannot_read(family: Family, stderr: String) -> ApplyError {
    if is_permission(&stderr) {
        return ApplyError::MissingCapability { stderr };
    }
    ApplyError::KernelLacksTables { family, stderr }
}

/// The line number in `Error occurred at line: 3`, `line 3: RULE_APPEND failed` and `iptables-restore: line 3 failed`.
fn refused_line(stderr: &str) -> Option<usize> {
    let (_, rest) = stderr.split_once("at line: ").or_else(|| stderr.split_once("line "))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|line| *line > 0)
}

struct Output {
    success: bool,
    stdout: String,
    stderr: String,
}

fn run(program: &Path, arguments: &[&str], input: &str) -> Result<Output, ApplyError> {
    let name = program.display().to_string();
    let fail = |source| ApplyError::Run { program: name.clone(), source };
    let input = in_memory(input).map_err(fail)?;
    let mut child = Command::new(program)
        .args(arguments)
        .env("XTABLES_LOCKFILE", OWN_LOCK_FILE)
        .env("LC_ALL", "C")
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let heard = listen(&mut child);
    if !matches!(heard, Ok(Some(_))) {
        // it is waited for either way, so that no zombie stays
        let _ = child.kill();
    }
    let status = child.wait().map_err(fail)?;
    match heard.map_err(fail)? {
        Some([stdout, stderr]) => Ok(Output { success: status.success(), stdout, stderr }),
        None => Err(ApplyError::TimedOut { program: name, after: DEADLINE }),
    }
}

/// A file to read from. Unlike a pipe it is all there when the program starts: were this process killed while it writes to a
/// pipe, the program would act on a part.
fn in_memory(text: &str) -> io::Result<Stdio> {
    let mut file = File::from(memfd_create(c"rules", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

/// Collects what the child says, until it has closed both of its outputs; nothing when it does not do so in time.
fn listen(child: &mut Child) -> io::Result<Option<[String; 2]>> {
    let deadline = Instant::now() + DEADLINE;
    let pipes = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
    let mut open: Vec<(usize, File)> =
        pipes.into_iter().enumerate().filter_map(|(index, pipe)| Some((index, File::from(pipe?)))).collect();
    let mut heard = [Vec::new(), Vec::new()];
    let mut buffer = [0; 16 * 1024];
    while !open.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut polled: Vec<_> = open.iter().map(|(_, pipe)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        // an end that the child has closed is ready too, to say so
        let ready: Vec<bool> = polled.iter().map(|pipe| pipe.any() != Some(false)).collect();
        let mut ready = ready.into_iter();
        open.retain_mut(|(index, pipe)| {
            if ready.next() != Some(true) {
                return true;
            }
            let count = pipe.read(&mut buffer).unwrap_or(0);
            heard[*index].extend_from_slice(&buffer[..count]);
            count > 0
        });
    }
    Ok(Some(heard.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(
        "iptables-restore v1.8.9 (legacy): invalid port/service `foo' specified\nError occurred at line: 3\n",
        Some(3)
    )]
    #[case(
        "iptables-nft-restore v1.8.9 (nf_tables): \nline 12: RULE_APPEND failed (Invalid argument): rule in chain X\n",
        Some(12)
    )]
    #[case("iptables-restore: line 5 failed\n", Some(5))]
    #[case("iptables-nft-restore: line 2 failed: Bad rule (does a matching rule exist in that chain?).\n", Some(2))]
    #[case("Another app is currently holding the xtables lock.\n", None)]
    #[case("at line: x", None)]
    fn the_line_that_was_refused(#[case] stderr: &str, #[case] line: Option<usize>) {
        assert_eq!(refused_line(stderr), line);
    }

    #[rstest]
    #[case("iptables-save v1.8.9 (legacy): Cannot initialize: Permission denied (you must be root)", true)]
    #[case("Could not fetch rule set generation id: Permission denied (you must be root)", true)]
    #[case("iptables-save v1.8.9 (legacy): Cannot initialize: iptables who? (do you need to insmod?)", false)]
    #[case("iptables-nft-save: Failed to initialize nft: Protocol not supported", false)]
    fn a_missing_right_is_told_from_a_missing_table(#[case] stderr: &str, #[case] right: bool) {
        let error = cannot_read(Family::V4, stderr.to_owned());
        assert_eq!(matches!(error, ApplyError::MissingCapability { .. }), right, "{error}");
        assert_eq!(error.is_unsupported(), !right);
    }

    #[test]
    fn a_program_that_does_not_read_its_input_is_heard_all_the_same() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("refuses");
        std::fs::write(&program, "#!/bin/sh\nexec 0<&-; echo no >&2; exit 3\n").expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("executable");
        let output = run(&program, &[], &"x".repeat(1 << 20)).expect("runs");
        assert_eq!((output.success, output.stderr.as_str()), (false, "no\n"));
    }
}
