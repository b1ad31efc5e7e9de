//! What the image names of the manifests stand for on this machine.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use redirect::Backend;
use sim::{Image, ImageTable};

use crate::settings::Settings;
use crate::suite;
use crate::workload::program::PROGRAM;

/// Directory in front of the init container's PATH, where its iptables programs are chosen.
const BACKEND: &str = "/opt/rule-backend";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// `USER` of the image of consul-k8s-control-plane.
const IMAGE_UID: u32 = 100;
const NFT: &str = "/usr/sbin/xtables-nft-multi";
const LEGACY: &str = "/usr/sbin/xtables-legacy-multi";

/// The table, with the programs that the settings and the saboteur ask for.
pub(super) fn table(suite: &suite::Settings, settings: &Settings, scripts: &Path) -> Result<ImageTable> {
    let program = |name: &str| suite.bin_dir.join(name);
    let mut images = BTreeMap::new();
    images.insert(
        "pellucid/webhook".to_owned(),
        Image {
            files: vec![("/bin/webhook".into(), program("webhook"))],
            entrypoint: vec!["/bin/webhook".to_owned()],
            ..Image::default()
        },
    );
    images.insert(
        "pellucid/cni".to_owned(),
        Image {
            files: vec![
                ("/bin/install-cni".into(), program("install-cni")),
                ("/bin/consul-cni".into(), program("consul-cni")),
            ],
            entrypoint: vec!["/bin/install-cni".to_owned()],
            ..Image::default()
        },
    );
    let mut init = Image {
        files: vec![("/bin/consul-k8s-control-plane".into(), program("connect-init"))],
        entrypoint: vec!["/bin/consul-k8s-control-plane".to_owned()],
        // as the image of consul-k8s has it: the webhook relies on it where there are no rules to install
        user: Some(IMAGE_UID),
        ..Image::default()
    };
    let backend = rule_backend(suite, settings, scripts)?;
    if !backend.is_empty() {
        init.files.extend(backend);
        init.env.push(("PATH".to_owned(), format!("{BACKEND}:{PATH}")));
    }
    images.insert("pellucid/consul-k8s-control-plane".to_owned(), init);
    images.insert(
        "pellucid/consul-dataplane".to_owned(),
        Image {
            files: vec![
                ("/usr/local/bin/consul-dataplane".into(), program("consul-dataplane")),
                ("/usr/local/bin/envoy".into(), suite.envoy.clone()),
            ],
            entrypoint: vec!["/usr/local/bin/consul-dataplane".to_owned()],
            ..Image::default()
        },
    );
    images.insert(
        "pellucid/workload".to_owned(),
        Image {
            files: vec![(PROGRAM.into(), program("workload"))],
            entrypoint: vec![PROGRAM.to_owned()],
            ..Image::default()
        },
    );
    images
        .insert("pellucid/curl".to_owned(), Image { entrypoint: vec!["/usr/bin/curl".to_owned()], ..Image::default() });
    Ok(ImageTable(images))
}

/// Programs that stand in front of the machine's own `iptables-*`, where somebody wants to edit what goes through them.
fn rule_backend(suite: &suite::Settings, settings: &Settings, scripts: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let edit = match (suite.saboteur.and_then(|s| s.rule_edit()), settings.failing_rule()?) {
        (Some(edit), _) => edit.to_owned(),
        // the kernel refuses what names no chain, and the number counts from 1
        (None, Some(rule)) => {
            format!("/^-A/ && ++n == {rule} {{ print \"-A OUTPUT -j PELLUCID_REFUSED\"; next }} {{ print }}")
        }
        (None, None) => return Ok(Vec::new()),
    };
    let (infix, multi) = match settings.backend()? {
        Backend::IptablesLegacy => ("legacy", LEGACY),
        Backend::IptablesNft => ("nft", NFT),
        other => bail!("edit rules on their way to the kernel: with {other} they go through no program"),
    };
    let mut files = Vec::new();
    for base in ["iptables", "ip6tables"] {
        let name = format!("{base}-{infix}-restore");
        std::fs::create_dir_all(scripts).context("make a directory for scripts")?;
        let script = scripts.join(&name);
        std::fs::write(&script, format!("#!/bin/sh\nawk '{edit}' | exec {multi} {name} \"$@\"\n"))
            .and_then(|()| std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("write {}", script.display()))?;
        files.push((PathBuf::from(BACKEND).join(name), script));
    }
    Ok(files)
}
