//! A storm: a hundred runners are created and deleted, and nothing is left.
//!
//! `cargo xtask peers up openstack`, then with the variables of its `env` file
//! `cargo test -p runner-manager-backend-openstack --test storm`. The counts are those of
//! OpenStack's own command line. `STORM` is the number of runners, `STORM_AT_ONCE` how many are
//! worked on at once, `STORM_VOLUMES` the GiB of the volumes that they boot from, if any.

#![expect(clippy::expect_used, reason = "a test")]

#[path = "openstack/cli.rs"]
mod cli;
#[path = "openstack/manager.rs"]
mod manager;
#[path = "openstack/proxy.rs"]
#[expect(dead_code, reason = "the suite plants faults, and this does not")]
mod proxy;

use std::collections::BTreeMap;
use std::time::Instant;

use futures::StreamExt as _;
use runner_manager_core::{Connected, InstanceId, Timings};
use serde_json::json;

use cli::listed;
use manager::{request, token};
use proxy::Proxy;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What the command line counts of each kind, in the whole project.
fn counts() -> BTreeMap<&'static str, usize> {
    let kinds = [
        ("servers", "server"),
        ("ports", "port"),
        ("key pairs", "keypair"),
        ("volumes", "volume"),
    ];
    let count = |(name, kind)| (name, listed(kind).len());
    kinds.into_iter().map(count).collect()
}

async fn connect(proxy: &Proxy, folder: &std::path::Path) -> Connected {
    let clouds = folder.join("clouds.yaml");
    std::fs::write(&clouds, proxy.clouds().to_string()).expect("a file");
    let mut section = json!({
        "cloud": "test", "clouds_file": clouds, "state_dir": folder.join("state"),
        "image": "blank", "flavor": "nano", "network": "private",
        "security_group": {"ssh_cidr": "172.31.255.1/32"},
        "requests_per_second": 50,
        "ssh": {"connect_seconds": 1},
    });
    let gib = number("STORM_VOLUMES", 0);
    if gib > 0 {
        section["boot_volume"] = json!({"size_gib": gib});
    }
    let timings = Timings {
        launch_timeout: std::time::Duration::from_secs(900),
        ..Timings::default()
    };
    let connected = manager::connect("storm", timings, section).await;
    connected.expect("the peer is up")
}

#[tokio::main]
async fn main() {
    let (runners, at_once) = (number("STORM", 100), number("STORM_AT_ONCE", 16));
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = Proxy::start().await;
    let manager = connect(&proxy, folder.path()).await;
    let connecting = proxy.calls();
    let before = counts();
    println!("before: {before:?}");
    let start = Instant::now();
    let creates = (0..runners).map(|_| manager.create_runner(request(InstanceId::random())));
    let made: Vec<_> = futures::stream::iter(creates)
        .buffer_unordered(at_once)
        .collect()
        .await;
    let created = start.elapsed();
    println!("all created: {:?}", counts());
    let (made, failed): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    for error in &failed {
        println!("a create failed: {error:?}");
    }
    let start = Instant::now();
    let token = token();
    let deletes = made
        .iter()
        .flatten()
        .map(|id| manager.delete_runner(id, &token));
    let gone: Vec<_> = futures::stream::iter(deletes)
        .buffer_unordered(at_once)
        .collect()
        .await;
    let deleted = start.elapsed();
    let after = counts();
    let rate = |took: std::time::Duration| made.len() as f64 / took.as_secs_f64();
    println!("after: {after:?}");
    println!(
        "storm: {} of {runners} created in {:.0} s ({:.2}/s), deleted in {:.0} s ({:.2}/s), {at_once} at once",
        made.len(),
        created.as_secs_f64(),
        rate(created),
        deleted.as_secs_f64(),
        rate(deleted)
    );
    println!("calls in a runner's life:");
    let mut all = 0.0;
    for (call, count) in proxy.calls() {
        let own = count - connecting.get(&call).copied().unwrap_or(0);
        let each = own as f64 / runners as f64;
        all += each;
        println!("  {each:.2} {call}");
    }
    println!(
        "  {all:.2} in all; and {} to connect",
        connecting.values().sum::<usize>()
    );
    assert!(
        failed.is_empty() && gone.iter().all(|gone| matches!(gone, Ok(Some(_)))),
        "{gone:?}"
    );
    assert_eq!(before, after, "something is left");
    let keys = std::fs::read_dir(folder.path().join("state/keys"))
        .expect("a folder")
        .count();
    assert_eq!(keys, 0, "key files are left");
}
