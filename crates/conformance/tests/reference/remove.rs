//! Removing in memory.

use runner_manager_conformance::Fault;
use runner_manager_core::{CloudInstance, Leftover, Result};

use crate::cloud::{MemoryCloud, refused};
use crate::mutation::Mutation;

pub(crate) async fn terminate(cloud: &MemoryCloud, instance: &CloudInstance) -> Result<()> {
    let prefix = instance.name.prefix();
    let id: u64 = instance.native_id.parse().unwrap();
    cloud.request(prefix).await?;
    if cloud.has(Mutation::DroppedTerminateLeaks) {
        forget(cloud, id);
        cloud.request(prefix).await?;
    }
    let mut world = cloud.world();
    if world.hit(prefix, Fault::Terminate) {
        if cloud.has(Mutation::TerminateLies) {
            return Ok(());
        }
        return Err(refused("the termination was refused"));
    }
    let found = world.instances.iter().find(|i| i.id == id).cloned();
    match &found {
        None if id == 0 => world.lose_odd(&instance.name),
        None if cloud.has(Mutation::TerminateTwiceFails) => {
            return Err(refused("it is gone already"));
        }
        Some(found) if found.native == "stopped" && cloud.has(Mutation::StoppedStays) => {
            return Ok(());
        }
        Some(found) if found.worker => {
            world.killed_jobs.insert(found.name.clone());
        }
        _ => {}
    }
    world.instances.retain(|i| i.id != id);
    if world.hit(prefix, Fault::TerminateMidway) {
        let of = world.belongings.iter_mut().filter(|b| b.of == Some(id));
        of.for_each(|b| b.hidden = cloud.has(Mutation::MidwayForgets));
        if cloud.has(Mutation::MidwayLies) {
            return Ok(());
        }
        return Err(refused("the volume could not be removed"));
    }
    if cloud.has(Mutation::TerminateLeaks) {
        let of = world.belongings.iter_mut().filter(|b| b.of == Some(id));
        of.for_each(|b| b.hidden = true);
    } else {
        world.belongings.retain(|b| b.of != Some(id));
    }
    if world.hit(prefix, Fault::TerminateAfterEffect) {
        return Err(refused("the answer of the termination was lost"));
    }
    Ok(())
}

/// Removes the instance, and hides what belongs to it from everybody.
fn forget(cloud: &MemoryCloud, id: u64) {
    let mut world = cloud.world();
    world.instances.retain(|i| i.id != id);
    let of = world.belongings.iter_mut().filter(|b| b.of == Some(id));
    of.for_each(|b| b.hidden = true);
}

pub(crate) async fn leftover(cloud: &MemoryCloud, leftover: &Leftover) -> Result<()> {
    cloud.request(leftover.name.prefix()).await?;
    let id: u64 = leftover.id.parse().unwrap();
    let mut world = cloud.world();
    let found = world.belongings.iter().find(|b| b.id == id);
    // A list may not have shown the instance: look at it, now.
    let of = found.and_then(|b| b.of);
    let lives = of.is_some_and(|of| world.instances.iter().any(|i| i.id == of));
    let looks = !cloud.has(Mutation::OrphansByList) && !cloud.has(Mutation::OrphansWithoutList);
    if lives && looks {
        return Ok(());
    }
    world.belongings.retain(|b| b.id != id);
    Ok(())
}
