//! Boot volumes, against a real Cinder: they come and go with their servers, whatever happens.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use runner_manager_conformance::Fault;
use runner_manager_core::{Connected, InstanceId, NamePrefix, Retry, Timings};
use serde_json::{Value, json};

use crate::cli::{listed, openstack, variable};
use crate::manager::{self, token};
use crate::proxy::Proxy;
use crate::{connect, create, delete, section};

/// How long Cinder may take for what it does after its answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// The pause between two looks at that.
const PAUSE: Duration = Duration::from_secs(1);

/// What the project has of a kind, by the beginning of its names.
fn named(kind: &str, prefix: &str) -> Vec<Value> {
    let is = |thing: &Value| {
        let name = thing["Name"].as_str();
        name.is_some_and(|name| name.starts_with(prefix))
    };
    let mut all = listed(kind);
    all.retain(is);
    all
}

fn volumes(prefix: &str) -> Vec<Value> {
    named("volume", prefix)
}

/// Asks until it is so, for as long as the patience lasts.
async fn eventually(prefix: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < end, "still: {:?}", volumes(prefix));
        tokio::time::sleep(PAUSE).await;
    }
}

async fn none_left(prefix: &str) {
    eventually(prefix, async || volumes(prefix).is_empty()).await;
}

async fn sweep(manager: &Connected) {
    let token = token();
    let failed = manager.cleanup(&token).filter_map(async |one| one.err());
    let mut failed: Vec<_> = failed.collect().await;
    // A volume that is still being made goes with the next sweep.
    failed.retain(|error| error.retry() == Retry::Never);
    assert!(failed.is_empty(), "{failed:?}");
}

/// The section for runners that boot from volumes, through a proxy.
fn through(proxy: &Proxy, folder: &Path) -> Value {
    let more = json!({"boot_volume": {"size_gib": 1}});
    section(folder, &proxy.clouds(), more)
}

/// A manager to which nothing is too young to be swept.
async fn impatient(prefix: &str, section: Value) -> Connected {
    let timings = Timings {
        grace: Duration::ZERO,
        ..Timings::default()
    };
    let connected = manager::connect(prefix, timings, section).await;
    connected.expect("the peer is up")
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
    let manager = connect("volume-life", section).await;
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
    let manager = connect("volume-fails", through(&proxy, folder.path())).await;
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
    let manager = impatient("volume-drop", through(&proxy, folder.path())).await;
    let launches = [100, 600, 1_200, 2_500, 4_500].map(|milliseconds| {
        let launch = manager.create_runner(manager::request(InstanceId::random()));
        tokio::time::timeout(Duration::from_millis(milliseconds), launch)
    });
    let ended = futures::future::join_all(launches).await;
    assert!(ended[0].is_err(), "no launch is so fast");
    let prefix = "volume-drop-";
    eventually(prefix, async || {
        for runner in manager.get_runners(None).await.expect("a list") {
            let gone = manager.delete_runner(&runner.instance_id, &token()).await;
            gone.expect("a deletion");
        }
        sweep(&manager).await;
        volumes(prefix).is_empty() && named("server", prefix).is_empty()
    })
    .await;
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
    eventually(prefix.as_str(), async || {
        let all = volumes(prefix.as_str());
        all.iter().all(|volume| volume["Status"] == "available")
    })
    .await;
    let section = through(&proxy, folder.path());

    let patient = connect("volume-sweep", section.clone()).await;
    sweep(&patient).await;
    assert_eq!(volumes(&ours).len(), 1, "it is swept before its time");
    let manager = impatient("volume-sweep", section).await;
    sweep(&manager).await;
    none_left(&ours).await;
    for other in others {
        assert_eq!(volumes(&other).len(), 1, "{other} was another's");
        openstack("demo", &["volume", "delete", &other]);
    }
}
