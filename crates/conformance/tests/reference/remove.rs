//! Removing in memory.

use runner_manager_conformance::Fault;
use runner_manager_core::{CloudInstance, Leftover, Result};

use crate::cloud::{MemoryCloud, refused};
use crate::mutation::Mutation;

pub(crate) async fn terminate(cloud: &MemoryCloud, instance: &CloudInstance) -> Result<()> {
    let prefix = instance.name.prefix();
    cloud.request(prefix).await?;
    let id: u64 = instance.native_id.parse().unwrap();
    let mut world = cloud.world();
    if world.hit(prefix, Fault::Terminate) {
        if cloud.has(Mutation::TerminateLies) {
            return Ok(());
        }
        return Err(refused("the termination was refused"));
    }
    let before = world.instances.len();
    if let Some(gone) = world.instances.iter().find(|i| i.id == id && i.worker) {
        let name = gone.name.clone();
        world.killed_jobs.insert(name);
    }
    world.instances.retain(|i| i.id != id);
    if before == world.instances.len() && cloud.has(Mutation::TerminateTwiceFails) {
        return Err(refused("it is gone already"));
    }
    if world.hit(prefix, Fault::TerminateMidway) {
        return Err(refused("the volume could not be removed"));
    }
    if cloud.has(Mutation::TerminateLeaks) {
        for belonging in world.belongings.iter_mut().filter(|b| b.of == Some(id)) {
            belonging.hidden = true;
        }
    } else {
        world.belongings.retain(|b| b.of != Some(id));
    }
    if world.hit(prefix, Fault::TerminateAfterEffect) {
        return Err(refused("the answer of the termination was lost"));
    }
    Ok(())
}

pub(crate) async fn leftover(cloud: &MemoryCloud, leftover: &Leftover) -> Result<()> {
    cloud.request(leftover.name.prefix()).await?;
    let id: u64 = leftover.id.parse().unwrap();
    let mut world = cloud.world();
    let found = world.belongings.iter().find(|b| b.id == id);
    // A list may not have shown the instance: look at it, now.
    let of = found.and_then(|b| b.of);
    if of.is_some_and(|of| world.instances.iter().any(|i| i.id == of)) {
        return Ok(());
    }
    world.belongings.retain(|b| b.id != id);
    Ok(())
}
