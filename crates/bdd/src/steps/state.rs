//! G1-G13: what there is before anything happens.

use anyhow::{Context as _, Result};

use crate::vocabulary::parameters::{Crd, Export, Failover, Link, May, Mechanism, Verdict};
use crate::vocabulary::{Arguments, Phrase};
use crate::world::World;

pub(crate) fn phrases() -> &'static [Phrase] {
    crate::vocabulary::phrases![
        "G1" "a mesh" => a_mesh;
        "G2" "a mesh with:" => a_mesh_with;
        "G3" "redirection by the {mechanism}" => redirection_by;
        "G4" "a default intention of {verdict}" => default_intention;
        "G5" "the namespace {string} labelled {string}" => namespace_labelled;
        "G6" "the workload {string}" => workload;
        "G7" "the workload {string} with:" => workload_with;
        "G8" "the external endpoint {string} at {string}" => external_endpoint;
        "G9" "{string} {may} (now )reach {string}" => may_reach;
        "G10" "{string} {export} to {string}" => exported_to;
        "G11" "the {crd} {string} with:" => resource_with;
        "G12" "clusters {string} and {string} {link}" => clusters;
        "G13" "the sameness group {string} of {string} {failover} over by default" => sameness_group;
    ]
}

async fn a_mesh(_: &mut World, _: Arguments) -> Result<()> {
    // chart defaults are what there is when nothing else is said
    Ok(())
}

async fn a_mesh_with(world: &mut World, arguments: Arguments) -> Result<()> {
    world.set(&arguments.pairs()?).await
}

async fn redirection_by(world: &mut World, mut arguments: Arguments) -> Result<()> {
    world.redirect_by(arguments.get::<Mechanism>()?).await
}

async fn default_intention(world: &mut World, mut arguments: Arguments) -> Result<()> {
    world.default_intention(arguments.get::<Verdict>()?).await
}

async fn namespace_labelled(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (name, label) = (arguments.string()?, arguments.string()?);
    world.namespace(&name, &label).await
}

async fn workload(world: &mut World, mut arguments: Arguments) -> Result<()> {
    world.workload(&arguments.string()?, &[]).await
}

async fn workload_with(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let name = arguments.string()?;
    world.workload(&name, &arguments.pairs()?).await
}

async fn external_endpoint(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (name, address) = (arguments.string()?, arguments.string()?);
    let socket = address.parse().with_context(|| format!("read {address:?} as an address and a port"))?;
    world.external(&name, socket).await
}

async fn may_reach(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (source, may, destination) = (arguments.string()?, arguments.get::<May>()?, arguments.string()?);
    world.intention(&source, &destination, may == May::May).await
}

async fn exported_to(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (service, export, to) = (arguments.string()?, arguments.get::<Export>()?, arguments.string()?);
    world.export(&service, export == Export::Exported, &to).await
}

async fn resource_with(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (kind, name) = (arguments.get::<Crd>()?, arguments.string()?);
    world.resource(kind, &name, &arguments.pairs()?).await
}

async fn clusters(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (a, b, link) = (arguments.string()?, arguments.string()?, arguments.get::<Link>()?);
    world.clusters(&a, &b, link)
}

async fn sameness_group(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let (group, members) = (arguments.string()?, arguments.string()?);
    let failover = arguments.get::<Failover>()?;
    world.group(&group, &members, failover == Failover::Failing).await
}
