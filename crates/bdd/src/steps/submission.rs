//! W12, W13: a workload is handed to the API server, which may refuse it.

use anyhow::Result;

use crate::vocabulary::Arguments;
use crate::world::World;

pub(super) async fn submitted(world: &mut World, mut arguments: Arguments) -> Result<()> {
    world.submit(&arguments.string()?, &[]).await
}

pub(super) async fn submitted_with(world: &mut World, mut arguments: Arguments) -> Result<()> {
    let name = arguments.string()?;
    world.submit(&name, &arguments.pairs()?).await
}
