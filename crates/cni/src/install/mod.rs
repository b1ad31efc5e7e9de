//! The node agent's first task: the plugin on the node, last in the chain, for as long as this runs.
//!
//! Everything is a file that is replaced by renaming, and each pass looks at what there is: whoever ends this program, at whatever
//! moment, leaves a node on which Pods that are not of the mesh start, and the next pass goes on from there.
//!
//! | step of a pass | a crash after it leaves |
//! |---|---|
//! | the program, by renaming | a program that nobody calls |
//! | the lease | the same |
//! | the entry, by renaming | everything |
//!
//! Taking it away goes the other way round: entry, program, lease. An entry whose program were gone would let no Pod start.

pub mod conflist;
mod files;
mod lease;
mod pace;
pub mod settings;

use conflist::{PLUGIN, Unusable};
use lease::Lease;
use pace::Pace;
use serde_json::{Value, json};
use settings::Settings;
use std::io;
use std::path::{Path, PathBuf};
use tokio::sync::watch;

/// What could not be done on the node.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A file could not be read, written or removed.
    #[error("{what} {}: {source}; check that the directory of the node is mounted writable", path.display())]
    File {
        /// What was to be done, such as `read`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
    },
    /// The runtime's network configuration cannot have the plugin in it.
    #[error(transparent)]
    Configuration(#[from] Unusable),
    /// The node has no network yet.
    #[error("no valid config files found in {}: waiting for the primary network plugin", .0.display())]
    NoConfiguration(PathBuf),
}

/// What a pass has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The plugin's program was put there.
    Program(PathBuf),
    /// The plugin's entry was put into this file.
    Entry(PathBuf),
}

/// The plugin on one node.
pub struct Installation {
    settings: Settings,
    lease: Lease,
}

/// How it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// How often something was put right.
    pub changes: u64,
    /// Another program takes the plugin out again and again.
    pub contested: bool,
}

fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.to_owned();
    move |source| InstallError::File { what, path, source }
}

impl Installation {
    /// With these settings; nothing is done yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let lease = Lease::new(settings.lease.clone(), settings.installation_id.clone());
        Self { settings, lease }
    }

    fn program(&self) -> PathBuf {
        self.settings.cni_bin_dir.join(PLUGIN)
    }

    /// The plugin's entry in a chain.
    #[must_use]
    pub fn entry(&self) -> Value {
        let mut entry = json!({
            "type": PLUGIN,
            "name": PLUGIN,
            "capabilities": {"io.kubernetes.cri.pod-annotations": true},
            "lease": self.settings.lease,
            "log_level": self.settings.log_level,
        });
        if !self.settings.node_name.is_empty() {
            entry["agent_socket"] = json!(self.settings.agent_socket);
        }
        entry
    }

    /// One pass: looks at what there is, and puts right what is not as it should be. `contested`: another program takes the entry
    /// out again and again, which the plugin tells the runtime.
    ///
    /// # Errors
    /// The first thing that could not be done; what comes before it is done.
    pub fn bring_about(&self, contested: bool) -> Result<Vec<Change>, InstallError> {
        let mut changes = Vec::new();
        if self.lease.is_superseded() {
            return Ok(changes);
        }
        if self.copy_program()? {
            changes.push(Change::Program(self.program()));
        }
        self.lease.renew(contested)?;
        // as a network of its own it is chosen by the Pod, not chained
        if !self.settings.multus {
            changes.extend(self.put_entry()?.map(Change::Entry));
        }
        Ok(changes)
    }

    /// A program of the same length and time is the same.
    fn copy_program(&self) -> Result<bool, InstallError> {
        let (source, target) = (self.settings.bin_source_dir.join(PLUGIN), self.program());
        let mark =
            |path: &Path| std::fs::metadata(path).and_then(|metadata| Ok((metadata.len(), metadata.modified()?)));
        let wanted = mark(&source).map_err(file("read", &source))?;
        if mark(&target).is_ok_and(|there| there == wanted) {
            return Ok(false);
        }
        let content = std::fs::read(&source).map_err(file("read", &source))?;
        files::replace(&target, &content, 0o755).map_err(file("write", &target))?;
        let opened = std::fs::File::options().write(true).open(&target);
        // a runtime that runs it at this moment keeps us from opening it; the next pass copies once more
        if let Ok(opened) = opened {
            opened.set_modified(wanted.1).map_err(file("set the time of", &target))?;
        }
        Ok(true)
    }

    /// The file that the runtime is to take, and what it must hold; nothing where it holds that.
    fn wanted(&self) -> Result<(PathBuf, Option<String>), InstallError> {
        let directory = &self.settings.cni_net_dir;
        let first = conflist::first_of_others(directory).map_err(file("read", directory))?;
        let (source, text) = first.ok_or_else(|| InstallError::NoConfiguration(directory.clone()))?;
        let is_list = conflist::is_list(&source);
        let content = conflist::with(&text, is_list, &self.entry())
            .map_err(|problem| Unusable { file: source.display().to_string(), problem })?;
        if is_list {
            return Ok((source, content));
        }
        let own = conflist::own(&source);
        let there = std::fs::read_to_string(&own).ok();
        Ok((own, content.filter(|content| there.as_ref() != Some(content))))
    }

    fn put_entry(&self) -> Result<Option<PathBuf>, InstallError> {
        let (target, content) = self.wanted()?;
        if let Some(content) = &content {
            files::replace(&target, content.as_bytes(), 0o600).map_err(file("write", &target))?;
        }
        // one that was made beside another file, which is not taken any more
        for own in self.lists()?.into_iter().filter(|list| conflist::is_own(list) && *list != target) {
            files::remove(&own).map_err(file("remove", &own))?;
        }
        Ok(content.map(|_| target))
    }

    fn lists(&self) -> Result<Vec<PathBuf>, InstallError> {
        let directory = &self.settings.cni_net_dir;
        let entries = std::fs::read_dir(directory).map_err(file("read", directory))?;
        Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| conflist::is_list(path)).collect())
    }

    /// Whether the next Pod of the mesh will be redirected.
    ///
    /// # Errors
    /// What is not as it should be.
    pub fn ready(&self) -> Result<(), String> {
        let program = self.program();
        if !program.is_file() {
            return Err(format!("{} is not there", program.display()));
        }
        if !self.settings.lease.is_file() {
            return Err(format!("{} is not there: pods of the mesh are refused", self.settings.lease.display()));
        }
        if self.settings.multus {
            return Ok(());
        }
        match self.wanted() {
            Ok((_, None)) => Ok(()),
            Ok((target, Some(_))) => Err(format!("{PLUGIN} is not the last plugin of {}", target.display())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Takes the plugin off the node, unless a later installation has taken over. Says whether it did.
    ///
    /// # Errors
    /// The first thing that could not be done.
    pub fn retire(&self) -> Result<bool, InstallError> {
        if !self.lease.is_held() {
            return Ok(false);
        }
        self.remove().map(|()| true)
    }

    /// Takes the plugin off the node, whoever has put it there.
    ///
    /// # Errors
    /// The first thing that could not be done.
    pub fn remove(&self) -> Result<(), InstallError> {
        for path in self.lists()? {
            if conflist::is_own(&path) {
                files::remove(&path).map_err(file("remove", &path))?;
                continue;
            }
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            // what is no configuration has no entry
            if let Ok(Some(changed)) = conflist::without(&text) {
                files::replace(&path, changed.as_bytes(), 0o600).map_err(file("write", &path))?;
            }
        }
        let program = self.program();
        files::remove(&program).map_err(file("remove", &program))?;
        self.lease.remove()
    }
}

/// Passes for as long as `stop` is not complete, then takes the plugin away. Tells how it goes.
///
/// # Errors
/// The plugin could not be taken away.
pub async fn run(
    installation: &Installation,
    progress: &watch::Sender<Progress>,
    stop: impl Future<Output = ()>,
) -> Result<(), InstallError> {
    let mut pace = Pace::default();
    let mut said = String::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let done = installation.bring_about(pace.is_fight());
        let rewritten =
            done.as_ref().is_ok_and(|changes| changes.iter().any(|change| matches!(change, Change::Entry(_))));
        match done {
            Ok(changes) => {
                said.clear();
                let count = changes.len() as u64;
                progress.send_if_modified(|progress| {
                    progress.changes += count;
                    count > 0
                });
                for change in changes {
                    tracing::info!(?change, "the node has been put right");
                }
            }
            // each trouble once, however often it is met
            Err(error) if error.to_string() == said => {}
            Err(error) => {
                said = error.to_string();
                tracing::warn!(%error, "the node is not as it should be");
            }
        }
        let wait = pace.next(rewritten, std::time::Instant::now());
        let contested = pace.is_fight();
        let news =
            progress.send_if_modified(|progress| std::mem::replace(&mut progress.contested, contested) != contested);
        // the runtime is not to wait for the next pass, which comes late now
        if news && let Err(error) = installation.lease.renew(contested) {
            tracing::warn!(%error, "the plugin is not told that the node is contested");
        }
        tokio::select! {
            () = stop.as_mut() => break,
            () = tokio::time::sleep(wait) => {}
        }
    }
    match installation.retire()? {
        true => tracing::info!("the plugin is off the node"),
        false => tracing::info!("a later installation has taken over, nothing is removed"),
    }
    Ok(())
}
