//! Launching in memory.

use runner_manager_conformance::{Fault, Place, Received};
use runner_manager_core::{
    CloudInstance, Effect, Error, ErrorKind, LaunchSpec, Result, RunnerCredential,
};

use crate::cloud::{MemoryCloud, refused};
use crate::mutation::Mutation;
use crate::world::{Instance, World};

pub(crate) async fn launch(cloud: &MemoryCloud, spec: &LaunchSpec) -> Result<CloudInstance> {
    let (name, prefix) = (&spec.name, spec.name.prefix());
    expose(cloud, spec);
    cloud.request(prefix).await?;
    begin(cloud, spec)?;
    if cloud.has(Mutation::DroppedLaunchLeaks) {
        hide(&mut cloud.world(), spec);
    }
    let looked = cloud.world().instance(name).cloned();
    cloud.request(prefix).await?;
    let instance = make(cloud, spec, looked);
    cloud.known.lock().unwrap().push(instance.clone());
    // It comes up.
    for _ in 0..8 {
        tokio::task::yield_now().await;
    }
    cloud.request(prefix).await?;
    if cloud.world().hit(prefix, Fault::LaunchHangs) {
        std::future::pending::<()>().await;
    }
    end(cloud, spec, &instance)
}

/// What can be refused before anything is made, and what is made before the instance.
fn begin(cloud: &MemoryCloud, spec: &LaunchSpec) -> Result<()> {
    let (name, prefix) = (&spec.name, spec.name.prefix());
    let mut world = cloud.world();
    if cloud.has(Mutation::LongNamesRefused) && name.to_string().len() > 40 {
        return Err(refused("the name is too long"));
    }
    let takes_token = matches!(spec.credential, RunnerCredential::RegistrationToken { .. });
    if cloud.has(Mutation::TokensFail) && takes_token {
        return Err(refused("no tokens after all"));
    }
    if cloud.has(Mutation::FailedIdIsSpent) && world.spent.contains(name) {
        return Err(refused("this id was used before"));
    }
    if world.hit(prefix, Fault::Quota) {
        let kind = if cloud.has(Mutation::QuotaIsUnknown) {
            ErrorKind::BadAnswer
        } else {
            ErrorKind::QuotaExceeded
        };
        return Err(Error::new(kind, "no more instances"));
    }
    if world.hit(prefix, Fault::Launch) {
        world.spent.insert(name.clone());
        if cloud.has(Mutation::RefusedLaunchLeaks) {
            hide(&mut world, spec);
        }
        return Err(refused("the launch was refused"));
    }
    if world.hit(prefix, Fault::LaunchMidway) {
        // The parts that were made are removed again, where they are looked for.
        if cloud.has(Mutation::MidwayLaunchLeaks) {
            hide(&mut world, spec);
        }
        return Err(refused("the launch was refused midway"));
    }
    Ok(())
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
        _ => world.make(received(cloud, spec), &spec.name),
    }
}

/// The answer, or what is lost of it.
fn end(cloud: &MemoryCloud, spec: &LaunchSpec, instance: &Instance) -> Result<CloudInstance> {
    let name = &spec.name;
    let mut world = cloud.world();
    if world.hit(name.prefix(), Fault::LaunchAfterEffect) {
        if cloud.has(Mutation::FailedLaunchLeaks) {
            hide(&mut world, spec);
        }
        let error = refused("the answer of the launch was lost").with_effect(Effect::Unknown);
        return Err(if cloud.has(Mutation::SecretInErrors) {
            error.with_context("request", secret(spec))
        } else {
            error
        });
    }
    if cloud.has(Mutation::DroppedLaunchLeaks) {
        world.belongings.retain(|b| !(b.hidden && b.name == *name));
    }
    match world.instance(name) {
        Some(found) if found.native == "building" => found.native = "active",
        None if cloud.has(Mutation::LaunchOutlivesDelete) => hide(&mut world, spec),
        _ => {}
    }
    Ok(cloud.show(instance))
}

/// What the runner on the instance is given.
fn received(cloud: &MemoryCloud, spec: &LaunchSpec) -> Received {
    let escape = |text: String| {
        if cloud.has(Mutation::EscapesHtml) {
            text.replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('"', "&quot;")
        } else {
            text
        }
    };
    let labels = spec.github.labels.iter();
    let group = spec.github.github_path.group();
    let runs = group.is_some_and(|group| group.contains("$("));
    Received {
        name: spec.name.to_string(),
        labels: labels.map(|label| escape(label.to_string())).collect(),
        group: group.map(|group| escape(group.to_owned())),
        traced: runs && cloud.has(Mutation::RunsInput),
    }
}

fn secret(spec: &LaunchSpec) -> String {
    match &spec.credential {
        RunnerCredential::JitConfig(secret)
        | RunnerCredential::RegistrationToken { token: secret, .. }
        | RunnerCredential::Claim { nonce: secret, .. } => secret.expose().to_owned(),
    }
}

/// Shows the credential where a planted bug does.
fn expose(cloud: &MemoryCloud, spec: &LaunchSpec) {
    let place = match cloud.mutation {
        Some(Mutation::SecretInArguments) => Place::Arguments,
        Some(Mutation::SecretInFiles) => Place::Files,
        Some(Mutation::SecretInMetadata) => Place::Metadata,
        Some(Mutation::SecretInLogs) => {
            tracing::trace!(credential = secret(spec), "launch");
            return;
        }
        _ => return,
    };
    let text = format!("--token {}", secret(spec));
    cloud.world().expose(&spec.name, place, &text);
}

/// Makes a volume of which nobody knows.
fn hide(world: &mut World, spec: &LaunchSpec) {
    world.belonging(&spec.name, None, "volumes");
    if let Some(volume) = world.belongings.last_mut() {
        volume.hidden = true;
    }
}
