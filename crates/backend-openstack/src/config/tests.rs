use runner_manager_core::{ErrorKind, parse_section};
use serde_json::{Value, json};

use super::{OpenstackConfig, SecurityGroup};

fn section() -> Value {
    json!({
        "state_dir": "/s", "image": "noble", "flavor": "m1", "network": "private",
        "security_group": {"ssh_cidr": "10.0.0.5/32"}
    })
}

fn key(change: impl FnOnce(&mut Value)) -> String {
    let mut section = section();
    change(&mut section);
    let config = parse_section::<OpenstackConfig>(section);
    let error = config.and_then(|config| config.validate()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    error.context("key").unwrap_or_default().to_owned()
}

#[test]
fn a_small_section_is_enough() {
    let config: OpenstackConfig = parse_section(section()).unwrap();
    config.validate().unwrap();
    assert!(config.config_drive);
    assert_eq!(config.security_group.name, "github-runner-v1");
}

#[test]
fn ssh_comes_in_from_the_configured_network_alone() {
    let group: SecurityGroup = serde_json::from_value(json!({"ssh_cidr": "10.0.0.5/32"})).unwrap();
    let bodies: Vec<Value> = group.all_rules().iter().map(super::Rule::body).collect();
    let ssh: Vec<&Value> = bodies
        .iter()
        .filter(|rule| rule["port_range_min"] == 22)
        .collect();
    assert_eq!(ssh.len(), 1);
    assert_eq!(ssh[0]["remote_ip_prefix"], "10.0.0.5/32");
    assert_eq!(bodies.len(), 3);
}

#[test]
fn what_cannot_work_is_refused_with_its_key() {
    assert_eq!(key(|s| s["image"] = "".into()), "image");
    assert_eq!(key(|s| s["imge"] = "x".into()), "imge");
    assert_eq!(
        key(|s| s["security_group"]["ssh_cidr"] = "here".into()),
        "security_group.ssh_cidr"
    );
    assert_eq!(
        key(|s| s["boot_volume"] = json!({"size_gib": 0})),
        "boot_volume.size_gib"
    );
    assert_eq!(
        key(|s| s["requests_per_second"] = 0.into()),
        "requests_per_second"
    );
    assert_eq!(
        key(|s| s["metadata"] = json!({"runner-manager": "x"})),
        "metadata.runner-manager"
    );
    assert_eq!(key(|s| s["tags"] = json!(["a,b"])), "tags");
    let rule = json!([{"direction": "egress", "ports": [9, 8]}]);
    assert_eq!(
        key(|s| s["security_group"]["rules"] = rule),
        "security_group.rules.0.ports"
    );
}
