//! The iptables programs: which ones to use, running them, and understanding their complaints.

use std::env;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::error::ApplyError;
use crate::rules::{ChainSet, Family};

/// A variant of iptables. Both put the same rules into different parts of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// The first that is installed and that the kernel supports: the system's own choice, nft, legacy.
    Auto,
    /// `iptables-legacy-restore`: the kernel's x_tables.
    IptablesLegacy,
    /// `iptables-nft-restore`: the kernel's nf_tables.
    IptablesNft,
}

impl Backend {
    /// Infixes of the program names, in the order they are tried.
    fn variants(self) -> &'static [&'static str] {
        match self {
            Self::Auto => &["", "-nft", "-legacy"],
            Self::IptablesLegacy => &["-legacy"],
            Self::IptablesNft => &["-nft"],
        }
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
    variant: &'static str,
    restore: Vec<(Family, PathBuf)>,
    /// Our rules as they are now.
    pub(super) present: Vec<(Family, ChainSet)>,
}

impl Programs {
    /// Takes the first variant that is installed and can read table `nat` of every family.
    pub(super) fn choose(backend: Backend, families: &[Family]) -> Result<Self, ApplyError> {
        let path = env::var("PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| DEFAULT_PATH.to_owned());
        require_net_admin(families)?;
        let mut missing = Vec::new();
        let mut unsupported: Option<ApplyError> = None;
        for variant in backend.variants().iter().copied() {
            match Self::of_variant(variant, families, &path) {
                Err(ApplyError::MissingProgram { programs, .. }) => missing.extend(programs),
                Err(ApplyError::KernelLacksTables { family, stderr }) => {
                    unsupported = Some(match unsupported {
                        Some(ApplyError::KernelLacksTables { family, stderr: before }) if !before.contains(&stderr) => {
                            ApplyError::KernelLacksTables { family, stderr: format!("{}\n{stderr}", before.trim()) }
                        }
                        Some(earlier) => earlier,
                        None => ApplyError::KernelLacksTables { family, stderr },
                    });
                }
                other => return other,
            }
        }
        Err(unsupported.unwrap_or(ApplyError::MissingProgram { programs: missing, path }))
    }

    fn of_variant(variant: &'static str, families: &[Family], path: &str) -> Result<Self, ApplyError> {
        let mut found = Self { variant, restore: Vec::new(), present: Vec::new() };
        let mut missing = Vec::new();
        let mut save = Vec::new();
        for family in families {
            for (purpose, list) in [("restore", &mut found.restore), ("save", &mut save)] {
                let name = program_name(*family, variant, purpose);
                match find(&name, path) {
                    Some(program) => list.push((*family, program)),
                    None => missing.push(name),
                }
            }
        }
        if !missing.is_empty() {
            return Err(ApplyError::MissingProgram { programs: missing, path: path.to_owned() });
        }
        for (family, program) in save {
            let output = run(&program, &["-t", "nat"], "")?;
            if !output.success {
                return Err(cannot_read(family, output.stderr));
            }
            if output.stdout.contains(INCOMPATIBLE) {
                let program = program_name(family, variant, "save");
                return Err(ApplyError::ForeignTable { family, program });
            }
            found.present.push((family, ChainSet::parse(&output.stdout)));
        }
        Ok(found)
    }

    /// Name of the program that changes rules, for logs.
    pub(super) fn name(&self, family: Family) -> String {
        program_name(family, self.variant, "restore")
    }

    /// Runs one transaction.
    pub(super) fn restore(&self, family: Family, script: &str) -> Result<(), ApplyError> {
        let name = self.name(family);
        let Some((_, program)) = self.restore.iter().find(|(own, _)| *own == family) else {
            return Err(ApplyError::MissingProgram { programs: vec![name], path: String::new() });
        };
        // -w is for the lock file, which nobody else has; older versions still ask for it
        let output = run(program, &["-w", "5", "--noflush"], script)?;
        if output.success {
            return Ok(());
        }
        if is_permission(&output.stderr) {
            return Err(ApplyError::MissingCapability { family, stderr: output.stderr });
        }
        let line = refused_line(&output.stderr);
        // a kernel that refuses the transaction as a whole is reported at the line of the COMMIT
        let rule = line.and_then(|line| script.lines().nth(line - 1)).map(str::to_owned);
        Err(ApplyError::Refused { family, program: name, line, rule, stderr: output.stderr })
    }
}

/// What the nft variant prints, as a comment and with success, in place of a table it cannot read.
const INCOMPATIBLE: &str = "is incompatible, use 'nft' tool";

fn program_name(family: Family, variant: &str, purpose: &str) -> String {
    let base = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    format!("{base}{variant}-{purpose}")
}

fn find(name: &str, path: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt;
    let executable = |file: &Path| file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    env::split_paths(path).map(|directory| directory.join(name)).find(|file| executable(file))
}

/// Bit of `CAP_NET_ADMIN` in a capability set.
const CAP_NET_ADMIN: u32 = 12;

/// Asked first, because the programs' own words for it are the same as for a missing kernel module.
fn require_net_admin(families: &[Family]) -> Result<(), ApplyError> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    match (effective, families.first()) {
        (Some(set), Some(family)) if set & (1 << CAP_NET_ADMIN) == 0 => {
            Err(ApplyError::MissingCapability { family: *family, stderr: String::new() })
        }
        _ => Ok(()),
    }
}

fn is_permission(stderr: &str) -> bool {
    ["Permission denied", "Operation not permitted", "you must be root"].iter().any(|words| stderr.contains(words))
}

/// Table `nat` exists, empty or not, on every kernel that has it, so that reading it fails only for want of the right or
/// of the table.
fn cannot_read(family: Family, stderr: String) -> ApplyError {
    if is_permission(&stderr) {
        return ApplyError::MissingCapability { family, stderr };
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
    let mut child = Command::new(program)
        .args(arguments)
        .env("XTABLES_LOCKFILE", OWN_LOCK_FILE)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    let finished = exchange(&mut child, input);
    if matches!(finished, Err(mpsc::RecvTimeoutError::Timeout)) {
        // it is waited for either way, so that no zombie stays
        let _ = child.kill();
    }
    let status = child.wait().map_err(fail)?;
    match finished {
        Ok((stdout, stderr)) => Ok(Output { success: status.success(), stdout, stderr }),
        Err(_) => Err(ApplyError::TimedOut { program: name, after: DEADLINE }),
    }
}

/// Feeds the child and collects what it says, until it has closed both of its outputs.
fn exchange(child: &mut Child, input: &str) -> Result<(String, String), mpsc::RecvTimeoutError> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let input = input.to_owned();
    let (told, answers) = mpsc::channel();
    std::thread::spawn(move || {
        // a child that does not read to the end says why on stderr
        let _ = stdin.map(|mut pipe| pipe.write_all(input.as_bytes()));
    });
    std::thread::spawn({
        let told = told.clone();
        move || told.send((0, read_all(stdout)))
    });
    std::thread::spawn(move || told.send((1, read_all(stderr))));
    let mut texts = [String::new(), String::new()];
    for _ in 0..2 {
        let (index, text): (usize, String) = answers.recv_timeout(DEADLINE)?;
        texts[index] = text;
    }
    let [stdout, stderr] = texts;
    Ok((stdout, stderr))
}

fn read_all(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    let _: Option<io::Result<usize>> = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
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
        assert!(error.to_string().contains(if right { "NET_ADMIN" } else { "ip_tables" }));
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
