//! What Debian's own tools say of the scripts, the user-data and the rules.

use std::path::Path;
use std::process::Command;

use runner_manager_core::{
    BootConfig, BootSecrets, Bootstrap, LaunchSpec, RunnerCredential, Secret,
};
use serde_json::{Value, json};

use crate::cloud::run;
use crate::fleet::{launch, support};

fn user_data(spec: &LaunchSpec, config: &BootConfig) -> String {
    let bootstrap = Bootstrap::new(spec, config).expect("a fit launch");
    let data = bootstrap.user_data(None).expect("user-data");
    String::from_utf8(data.expose().to_vec()).expect("a text")
}

/// Writes the files of a launch to a folder, as cloud-init does.
fn unpack(folder: &Path, spec: &LaunchSpec, config: &BootConfig) {
    let text = user_data(spec, config);
    let program = "import base64,os,sys,yaml
for f in yaml.safe_load(sys.stdin)['write_files']:
    c = f['content']
    c = base64.b64decode(c) if f.get('encoding') == 'b64' else c.encode()
    open(os.path.join(sys.argv[1], os.path.basename(f['path'])), 'wb').write(c)";
    let file = folder.join("user-data");
    std::fs::write(&file, text).expect("a file");
    let python = Command::new("python3")
        .args(["-c", program])
        .arg(folder)
        .stdin(std::fs::File::open(&file).expect("a file"))
        .status();
    assert!(python.expect("python3").success());
    let answer = BootSecrets::new(&launch().credential, &spec.support).expect("secrets");
    let answer: Value = serde_json::from_str(answer.to_json().expose()).expect("JSON");
    for (name, content) in answer["files"].as_object().expect("files") {
        let content = content.as_str().expect("a text");
        std::fs::write(folder.join(name), content).expect("a file");
    }
}

#[test]
fn shellcheck_finds_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut spec = launch();
    spec.support = support(3128, "p'a\"s$s");
    unpack(folder.path(), &spec, &BootConfig::default());
    let scripts: Vec<String> = std::fs::read_dir(folder.path())
        .expect("files")
        .map(|entry| {
            entry
                .expect("a file")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .filter(|name| name.ends_with(".sh"))
        .collect();
    assert!(scripts.len() >= 9, "{scripts:?}");
    for script in &scripts {
        let checked = Command::new("shellcheck")
            .args(["-x", "-s", "bash", "-e", "SC1091", script])
            .current_dir(folder.path())
            .output()
            .expect("shellcheck");
        let found = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(checked.status.success(), "{script}: {found}");
    }
    let helper = folder.path().join("helper.py").display().to_string();
    run("python3", &["-m", "py_compile", &helper]);
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src/exec/scripts");
    let common = std::fs::read_to_string(guests.join("processes.sh")).expect("a script");
    for (name, common) in [
        ("probe.sh", common.as_str()),
        ("stop.sh", &common),
        ("read.sh", ""),
    ] {
        let text = std::fs::read_to_string(guests.join(name)).expect("a script");
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{common}{text}")).expect("a file");
        run("shellcheck", &["-s", "sh", &path.display().to_string()]);
    }
}

#[test]
fn cloud_init_takes_the_cloud_config() {
    let folder = tempfile::tempdir().expect("a folder");
    let boot: BootConfig = serde_json::from_value(json!({
        "env": {"NASTY": "a\nb: [c]"},
        "ca_certificates": ["-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"],
    }))
    .expect("a section");
    let mut spec = launch();
    let claim = RunnerCredential::Claim {
        url: "https://manager.internal/runner/x".parse().expect("a URL"),
        nonce: Secret::new("A-NONCE"),
    };
    for credential in [spec.credential.clone(), claim] {
        spec.credential = credential;
        spec.support = support(3128, "p'a\"s$s");
        let file = folder.path().join("user-data");
        std::fs::write(&file, user_data(&spec, &boot)).expect("a file");
        let said = run(
            "cloud-init",
            &["schema", "--config-file", &file.display().to_string()],
        );
        assert!(said.contains("Valid"), "{said}");
    }
}

/// Takes one connection on the port, and says which address it was meant for; then tries to
/// connect to the address and port given.
const TRANSPARENT: &str = r#"
import socket, struct, sys
listener = socket.create_server(("0.0.0.0", int(sys.argv[1])))
listener.settimeout(5)
client = socket.socket()
client.settimeout(2)
try:
    client.connect((sys.argv[2], int(sys.argv[3])))
    server, _ = listener.accept()
    meant = server.getsockopt(socket.SOL_IP, 80, 16)
    print(socket.inet_ntoa(meant[4:8]), struct.unpack("!H", meant[2:4])[0])
except OSError as error:
    print("direct", error)
"#;

#[test]
fn connections_reach_the_transparent_proxy() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut spec = launch();
    spec.support = support(3128, "p");
    let proxy = spec.support.proxy_config.as_mut().expect("a proxy");
    proxy.http = "http://10.9.9.9:80".parse().ok();
    proxy.https = None;
    proxy.transparent = true;
    let boot: BootConfig = serde_json::from_value(json!({"aproxy": {"exclude": ["192.0.2.0/24"]}}))
        .expect("a section");
    unpack(folder.path(), &spec, &boot);
    let rules = folder.path().join("aproxy.nft").display().to_string();
    // A network of its own, whose only link leads back to itself.
    let script =
        "ip link set lo up && ip addr add 10.0.0.2/32 dev lo && ip route add default dev lo &&
        nft -f \"$1\" && nft -f \"$1\" &&
        python3 -c \"$2\" 54969 \"$3\" \"$4\"";
    let reach = |address: &str, port: &str| {
        let arguments = [
            "--net",
            "sh",
            "-c",
            script,
            "sh",
            &rules,
            TRANSPARENT,
            address,
            port,
        ];
        run("unshare", &arguments)
    };
    assert_eq!(reach("198.51.100.7", "80"), "198.51.100.7 80\n");
    assert_eq!(reach("198.51.100.7", "443"), "198.51.100.7 443\n");
    for (address, port) in [
        ("198.51.100.7", "22"),
        ("192.0.2.1", "443"),
        ("10.1.2.3", "80"),
    ] {
        let said = reach(address, port);
        assert!(said.starts_with("direct"), "{address}:{port} {said}");
    }
}
