//! Launching in memory.

use runner_manager_conformance::{Fault, Received};
use runner_manager_core::{CloudInstance, LaunchSpec, Result};

use crate::cloud::{MemoryCloud, refused};
use crate::mutation::Mutation;
use crate::world::{Instance, World};

pub(crate) async fn launch(cloud: &MemoryCloud, spec: &LaunchSpec) -> Result<CloudInstance> {
    let (name, prefix) = (&spec.name, spec.name.prefix());
    cloud.request(prefix).await?;
    if cloud.world().hit(prefix, Fault::Launch) {
        return Err(refused("the launch was refused"));
    }
    if cloud.has(Mutation::DroppedLaunchLeaks) {
        hide(&mut cloud.world(), spec);
    }
    let looked = cloud.world().instance(name).cloned();
    cloud.request(prefix).await?;
    let instance = make(cloud, spec, looked);
    cloud.request(prefix).await?;
    if cloud.world().hit(prefix, Fault::LaunchHangs) {
        std::future::pending::<()>().await;
    }
    let mut world = cloud.world();
    if world.hit(prefix, Fault::LaunchAfterEffect) {
        if cloud.has(Mutation::FailedLaunchLeaks) {
            hide(&mut world, spec);
        }
        return Err(refused("the answer of the launch was lost"));
    }
    if cloud.has(Mutation::DroppedLaunchLeaks) {
        world.belongings.retain(|b| !(b.hidden && b.name == *name));
    }
    if let Some(found) = world.instance(name)
        && found.native == "building"
    {
        found.native = "active";
    }
    Ok(cloud.show(&instance))
}

/// Makes the instance, unless there is one.
fn make(cloud: &MemoryCloud, spec: &LaunchSpec, looked: Option<Instance>) -> Instance {
    let mut world = cloud.world();
    let now = world.instance(&spec.name).cloned();
    let known = if cloud.has(Mutation::LaunchRaces) {
        looked
    } else {
        now
    };
    match known {
        Some(known) if !cloud.has(Mutation::LaunchesTwice) => known,
        _ => world.make(received(spec), &spec.name),
    }
}

fn received(spec: &LaunchSpec) -> Received {
    let labels = spec.github.labels.iter();
    Received {
        name: spec.name.to_string(),
        labels: labels.map(ToString::to_string).collect(),
        group: spec.github.github_path.group().map(str::to_owned),
        traced: false,
    }
}

/// Makes a volume of which nobody knows.
fn hide(world: &mut World, spec: &LaunchSpec) {
    world.belonging(&spec.name, None, "volumes");
    if let Some(volume) = world.belongings.last_mut() {
        volume.hidden = true;
    }
}
