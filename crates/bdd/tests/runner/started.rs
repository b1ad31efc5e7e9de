//! Starts `pellucid-e2e` on a feature that a test wrote.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use tempfile::TempDir;

/// A runner that is about to start, with its own feature file and output folder.
pub(crate) struct Runner {
    folder: TempDir,
    command: Command,
}

/// What `cargo xtask test` hands over.
fn required(name: &str) -> OsString {
    std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run these tests by `cargo xtask test`"))
}

/// Where the built programs are.
pub(crate) fn bin_dir() -> PathBuf {
    required("PELLUCID_BIN_DIR").into()
}

impl Runner {
    /// Runs this feature text.
    pub(crate) fn of(feature: &str) -> Self {
        let mut runner = Self::bare(feature);
        runner.command.arg("--envoy").arg(required("PELLUCID_ENVOY"));
        runner
    }

    /// Runs this feature text without being told of an Envoy.
    pub(crate) fn bare(feature: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("it.feature");
        std::fs::write(&file, feature).expect("the feature is written");
        let bin_dir = bin_dir();
        let mut command = Command::new(bin_dir.join("pellucid-e2e"));
        command.arg("--bin-dir").arg(bin_dir);
        command.arg("--out").arg(folder.path().join("out")).arg(file);
        command.env_remove("PELLUCID_ENVOY").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self { folder, command }
    }

    /// Changes how it starts.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Command)) -> Self {
        change(&mut self.command);
        self
    }

    /// Starts it in the background. Nobody reads what it prints.
    pub(crate) fn start(&mut self) -> Child {
        self.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the runner starts")
    }

    /// Starts it in the background, to read what it prints and to answer.
    pub(crate) fn converse(&mut self) -> Child {
        self.command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the runner starts")
    }

    /// Runs it to its end.
    pub(crate) fn finish(self) -> Finished {
        self.finish_and(|_| ()).0
    }

    /// Runs it to its end and looks at the files in its output folder.
    pub(crate) fn finish_and<T>(mut self, look: impl FnOnce(Vec<PathBuf>) -> T) -> (Finished, T) {
        let Output { status, stdout, stderr } = self.command.output().expect("the runner starts");
        let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
        let mut files = Vec::new();
        let mut folders = vec![self.folder.path().join("out")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        (Finished { status: status.code(), text }, look(files))
    }
}

/// A runner that has ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Exit status; `None` after a signal.
    pub(crate) status: Option<i32>,
    /// Standard output, then standard error.
    pub(crate) text: String,
}

impl Finished {
    /// Asserts the status, and that the text holds all of these.
    #[track_caller]
    pub(crate) fn expect(&self, status: i32, all: &[&str]) {
        assert_eq!(self.status, Some(status), "exit status; it said:\n{}", self.text);
        for part in all {
            assert!(self.text.contains(part), "nothing about {part:?} in:\n{}", self.text);
        }
    }
}
