//! Boot volumes, against a real Cinder: they come and go with their servers, whatever happens.

use std::time::Duration;

use futures::StreamExt as _;
use runner_manager_conformance::Fault;
use runner_manager_core::{Connected, InstanceId, NamePrefix, RemoveToken, Retry, Secret, Timings};
use serde_json::{Value, json};

use crate::cli::{listed, openstack, variable};
use crate::manager;
use crate::proxy::Proxy;
use crate::{create, delete, section};

/// The volumes whose names begin like this.
fn volumes(prefix: &str) -> Vec<Value> {
    let mut all = listed("volume");
    all.retain(|volume| {
        volume["Name"]
            .as_str()
            .is_some_and(|n| n.starts_with(prefix))
    });
    all
}

/// Waits until no volume has such a name: Cinder deletes after its answer.
async fn none_left(prefix: &str) {
    for _ in 0..60 {
        if volumes(prefix).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("volumes are left: {:?}", volumes(prefix));
}

fn token() -> RemoveToken {
    RemoveToken::new(Secret::new("x"))
}

async fn sweep(manager: &Connected) {
    let token = token();
    let failed = manager.cleanup(&token).filter_map(async |one| one.err());
    let mut failed: Vec<_> = failed.collect().await;
    // A volume that is still being made goes with the next sweep.
    failed.retain(|error| error.retry() == Retry::Never);
    assert!(failed.is_empty(), "{failed:?}");
}

/// Nothing has to be older than this to be swept.
fn no_grace() -> Timings {
    Timings {
        grace: Duration::ZERO,
        ..Timings::default()
    }
}

/// The catalogue of the peer lists Cinder as most clouds do; nothing overrides that here.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_boots_from_a_volume_that_goes_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = json!({
        "cloud": "demo",
        "clouds_file": variable("OPENSTACK_CLOUDS"),
        "image": "plain",
        "boot_volume": {"size_gib": 2, "volume_type": "fast"},
    });
    let section = section(folder.path(), &json!({}), more);
    let manager = manager::connect("volume-life", Timings::default(), section).await;
    let manager = manager.expect("the peer is up");
    let runner = create(&manager).await;
    let name = manager.name_prefix().runner_name(&runner).to_string();

    let found = volumes(&name);
    assert_eq!(found.len(), 1, "{found:?}");
    let volume = openstack("demo", &["volume", "show", &name, "-f", "json"]);
    let server = openstack("demo", &["server", "show", &name, "-f", "json"]);
    assert_eq!(volume["size"], 2, "{volume}");
    assert_eq!(volume["type"], "fast", "{volume}");
    assert_eq!(volume["status"], "in-use", "{volume}");
    let attached = volume["attachments"].to_string();
    let id = server["id"].as_str().expect("an id");
    assert!(attached.contains(id), "{volume}");
    let image = server["image"].to_string();
    assert!(image.contains("booted from volume"), "{server}");
    // What the server runs was read from the volume.
    let machine = variable("OPENSTACK_STATE").join("machines").join(id);
    let machine = std::fs::read_to_string(machine.join("metadata.json")).expect("a machine");
    assert!(machine.contains("runners/plain"), "{machine}");

    delete(&manager, &runner).await;
    none_left(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_fails_after_its_volume_leaves_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = Proxy::start().await;
    let more = json!({"boot_volume": {"size_gib": 1}});
    let section = section(folder.path(), &proxy.clouds(), more);
    let manager = manager::connect("volume-fails", Timings::default(), section).await;
    let manager = manager.expect("the peer is up");
    proxy.plant(Fault::LaunchMidway);
    let failed = manager
        .create_runner(manager::request(InstanceId::random()))
        .await;
    let error = failed.expect_err("Nova refused");
    assert!(
        error.to_string().contains("refused for the test"),
        "{error}"
    );
    let made = proxy.calls().into_iter();
    let made: usize = made
        .filter(|(call, _)| call == "POST /volume/v3/volumes")
        .map(|(_, count)| count)
        .sum();
    assert_eq!(made, 1, "a volume was made: {:?}", proxy.calls());
    none_left("volume-fails-").await;
}

/// The manager may be ended at any time: what it made by then is found and removed afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_launch_leaves_no_volume_after_a_cleanup() {
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = Proxy::start().await;
    let more = json!({"boot_volume": {"size_gib": 1}});
    let section = section(folder.path(), &proxy.clouds(), more);
    let manager = manager::connect("volume-drop", no_grace(), section).await;
    let manager = manager.expect("the peer is up");
    let launches = [100, 600, 1_200, 2_500, 4_500].map(|milliseconds| {
        let launch = manager.create_runner(manager::request(InstanceId::random()));
        tokio::time::timeout(Duration::from_millis(milliseconds), launch)
    });
    let ended = futures::future::join_all(launches).await;
    assert!(ended[0].is_err(), "no launch is so fast");
    let prefix = "volume-drop-";
    for _ in 0..30 {
        for runner in manager.get_runners(None).await.expect("a list") {
            let gone = manager.delete_runner(&runner.instance_id, &token()).await;
            gone.expect("a deletion");
        }
        sweep(&manager).await;
        if volumes(prefix).is_empty() && servers(prefix) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    panic!(
        "{:?} and {} servers are left",
        volumes(prefix),
        servers(prefix)
    );
}

fn servers(prefix: &str) -> usize {
    let named = |server: &&Value| {
        server["Name"]
            .as_str()
            .is_some_and(|n| n.starts_with(prefix))
    };
    listed("server").iter().filter(named).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_without_a_server_is_swept_and_that_of_another_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = Proxy::start().await;
    let prefix = NamePrefix::new("volume-sweep").expect("a prefix");
    let make = |marked: Option<&str>| {
        let name = prefix.runner_name(&InstanceId::random()).to_string();
        let mark = marked.map(|of| format!("runner-manager={of}"));
        let mut words = vec!["volume", "create", "--size", "1"];
        words.extend(mark.iter().flat_map(|mark| ["--property", mark.as_str()]));
        words.push(&name);
        openstack("demo", &words);
        name
    };
    let ours = make(Some(prefix.as_str()));
    let others = [make(None), make(Some("volume-sweep-2"))];
    let more = json!({"boot_volume": {"size_gib": 1}});
    let section = section(folder.path(), &proxy.clouds(), more);

    let patient = manager::connect("volume-sweep", Timings::default(), section.clone()).await;
    sweep(&patient.expect("the peer is up")).await;
    assert_eq!(volumes(&ours).len(), 1, "it is swept before its time");
    let manager = manager::connect("volume-sweep", no_grace(), section).await;
    let manager = manager.expect("the peer is up");
    sweep(&manager).await;
    none_left(&ours).await;
    for other in others {
        assert_eq!(volumes(&other).len(), 1, "{other} was another's");
        openstack("demo", &["volume", "delete", &other]);
    }
}
