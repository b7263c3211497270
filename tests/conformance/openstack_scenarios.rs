//! What the suite does not ask for: other ways to log in, a certificate authority of one's own, a
//! token that is refused, all that a server can be given, and boot volumes. The second opinion is OpenStack's
//! own command line.
//!
//! `cargo xtask conformance openstack` runs it after the suite, against the same peer.

#![expect(clippy::expect_used, reason = "a test")]

#[path = "openstack/cli.rs"]
mod cli;
#[path = "openstack/manager.rs"]
mod manager;
#[path = "openstack/proxy.rs"]
#[expect(dead_code, reason = "the suite plants more faults than this")]
mod proxy;
#[path = "openstack/volumes.rs"]
mod volumes;

use std::sync::Arc;

use runner_manager_core::{Connected, InstanceId, Timings};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use cli::{listed, openstack};
use proxy::Proxy;

fn id(shown: &Value) -> String {
    shown["id"].as_str().expect("an id").to_owned()
}

/// The section for a `clouds.yaml`, with more keys.
fn section(folder: &std::path::Path, clouds: &Value, more: Value) -> Value {
    let file = folder.join("clouds.yaml");
    std::fs::write(&file, clouds.to_string()).expect("a file");
    let mut section = json!({
        "cloud": "test", "clouds_file": file, "state_dir": folder.join("state"),
        "image": "blank", "flavor": "nano", "network": "private",
        "security_group": {"ssh_cidr": "172.31.255.1/32"},
        "ssh": {"connect_seconds": 1},
    });
    let Value::Object(more) = more else {
        panic!("a section");
    };
    for (key, value) in more {
        section[key] = value;
    }
    section
}

async fn connect(prefix: &str, section: Value) -> Connected {
    let connected = manager::connect(prefix, Timings::default(), section).await;
    connected.expect("the peer is up")
}

async fn create(manager: &Connected) -> InstanceId {
    let request = manager::request(InstanceId::random());
    manager.create_runner(request).await.expect("a runner")
}

async fn delete(manager: &Connected, id: &InstanceId) {
    let deleted = manager.delete_runner(id, &manager::token()).await;
    assert!(deleted.expect("a deletion").is_some(), "it was there");
}

/// A runner's life by a manager of this prefix.
async fn lives(prefix: &str, section: Value) {
    let manager = connect(prefix, section).await;
    let id = create(&manager).await;
    let listed = manager.get_runners(None).await.expect("a list");
    assert_eq!(listed.len(), 1, "{listed:?}");
    delete(&manager, &id).await;
    let left = manager.get_runners(None).await.expect("a list");
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_credential_is_enough() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = openstack(
        "demo",
        &[
            "application",
            "credential",
            "create",
            "scenario",
            "-f",
            "json",
        ],
    );
    let proxy = Proxy::start().await;
    let mut clouds = proxy.clouds();
    let cloud = &mut clouds["clouds"]["test"];
    cloud["auth_type"] = "v3applicationcredential".into();
    cloud["auth"] = json!({
        "auth_url": cloud["auth"]["auth_url"],
        "application_credential_id": made["id"],
        "application_credential_secret": made["secret"],
    });
    lives("appcred", section(folder.path(), &clouds, json!({}))).await;
    openstack("demo", &["application", "credential", "delete", &id(&made)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_is_renewed_in_flight() {
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = Proxy::start().await;
    let section = section(folder.path(), &proxy.clouds(), json!({}));
    let manager = connect("renew", section).await;
    let logins = || {
        let calls = proxy.calls();
        calls.get("POST /identity/v3/auth/tokens").copied()
    };
    let before = logins().expect("it has logged in");
    let id = create(&manager).await;
    assert_eq!(logins(), Some(before), "one token serves for all calls");
    proxy.forget_token();
    let found = manager.get_runner(&id).await.expect("a look");
    assert!(found.is_some(), "the runner is there");
    assert_eq!(logins(), Some(before + 1), "the token is renewed once");
    proxy.forget_token();
    delete(&manager, &id).await;
    assert_eq!(logins(), Some(before + 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_authority_of_ones_own_is_trusted_where_it_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = Proxy::start().await;
    let (port, certificate) = tls(proxy.port()).await;
    let mut clouds = proxy.clouds_at(&format!("https://localhost:{port}"));
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, certificate).expect("a file");

    let untrusted = section(folder.path(), &clouds, json!({}));
    let refused = manager::connect("tls", Timings::default(), untrusted).await;
    assert!(refused.is_err(), "a stranger's certificate is taken");
    clouds["clouds"]["test"]["cacert"] = file.display().to_string().into();
    lives("tls", section(folder.path(), &clouds, json!({}))).await;
}

/// Speaks TLS before a port: its own port, and its certificate.
async fn tls(to: u16) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]);
    let made = made.expect("a certificate");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // Whoever does not trust the certificate hangs up.
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    return;
                };
                let onward = tokio::net::TcpStream::connect(("127.0.0.1", to)).await;
                let mut onward = onward.expect("the proxy");
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
            });
        }
    });
    (port, made.cert.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_gets_all_that_the_pool_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let words = [
        "server",
        "group",
        "create",
        "--policy",
        "soft-anti-affinity",
        "scenario",
        "-f",
        "json",
    ];
    let group = id(&openstack("demo", &words));
    let proxy = Proxy::start().await;
    let more = json!({
        "availability_zone": "nova",
        "server_group": group,
        "metadata": {"team": "build"},
        "tags": ["nightly"],
    });
    let manager = connect("given", section(folder.path(), &proxy.clouds(), more)).await;
    let runner = create(&manager).await;
    let name = manager.name_prefix().runner_name(&runner).to_string();
    // The first version of Nova's API in which a server is shown with its tags.
    let tagged = ["--os-compute-api-version", "2.26"];
    let show = [&tagged[..], &["server", "show", &name, "-f", "json"]].concat();
    let server = openstack("demo", &show);
    assert_eq!(server["OS-EXT-AZ:availability_zone"], "nova", "{server}");
    assert_eq!(server["properties"]["team"], "build", "{server}");
    let tags = server["tags"].to_string();
    assert!(tags.contains("nightly"), "{server}");
    let members = openstack("demo", &["server", "group", "show", &group, "-f", "json"]);
    let members = members["members"].to_string();
    assert!(members.contains(&id(&server)), "{members}");
    delete(&manager, &runner).await;
    openstack("demo", &["server", "group", "delete", &group]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_floating_address_comes_and_goes_with_its_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let proxy = Proxy::start().await;
    let more = json!({"floating_network": "public"});
    let manager = connect("float", section(folder.path(), &proxy.clouds(), more)).await;
    let addresses = || listed("floating ip");
    assert!(addresses().is_empty(), "{:?}", addresses());
    let runner = create(&manager).await;
    let given = addresses();
    assert_eq!(given.len(), 1, "{given:?}");
    assert!(given[0]["Fixed IP Address"].is_string(), "{given:?}");
    let found = manager.get_runner(&runner).await.expect("a look");
    assert!(found.is_some());
    delete(&manager, &runner).await;
    assert!(addresses().is_empty(), "{:?}", addresses());
}

/// Neutron takes a name twice: managers that start in the same moment may each make a group, and
/// must all start again afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn managers_that_start_at_once_agree_on_a_security_group() {
    let proxy = Proxy::start().await;
    let folders: Vec<_> = (0..4)
        .map(|_| tempfile::tempdir().expect("a folder"))
        .collect();
    let name = "scenario-group";
    let start = |at: usize| {
        let more = json!({"security_group": {"name": name, "ssh_cidr": "172.31.255.1/32"}});
        let section = section(folders[at].path(), &proxy.clouds(), more);
        async move { connect(&format!("group{at}"), section).await }
    };
    futures::future::join_all((0..4).map(start)).await;
    let managers = futures::future::join_all((0..4).map(start)).await;
    let runner = create(&managers[0]).await;
    delete(&managers[0], &runner).await;
    let groups = listed("security group");
    let ids: Vec<&str> = groups
        .iter()
        .filter(|group| group["Name"] == name)
        .filter_map(|group| group["ID"].as_str())
        .collect();
    assert!(!ids.is_empty());
    for id in ids {
        openstack("demo", &["security", "group", "delete", id]);
    }
}
