use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use runner_manager_core::{ErrorKind, Result};

use super::{Credentials, find};

const CLOUDS: &str = "
clouds:
  one:
    region_name: North
    auth:
      auth_url: https://one.example/v3
      username: robot
      project_name: ci
  two:
    profile: vendor
    auth_type: v3applicationcredential
    auth:
      application_credential_id: 0123
  odd:
    auth_type: v3oidcpassword
    auth: {auth_url: https://odd.example/v3}
";

const SECURE: &str = "clouds: {one: {auth: {password: 12345}}, two: {auth: {application_credential_secret: s3cret}}}";

const PUBLIC: &str = "public-clouds: {vendor: {auth: {auth_url: https://two.example/v3, application_credential_id: no}}}";

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("openstack");
    fs::create_dir(&at).unwrap();
    for (name, text) in [
        ("clouds.yaml", CLOUDS),
        ("secure.yaml", SECURE),
        ("clouds-public.yaml", PUBLIC),
    ] {
        fs::write(at.join(name), text).unwrap();
    }
    folder
}

fn found(
    cloud: Option<&str>,
    file: Option<&Path>,
    variables: &[(&str, &str)],
) -> Result<Credentials> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    find(cloud, file, &|name| {
        variables.get(name).map(|value| (*value).to_owned())
    })
}

/// The credentials as they would be sent; secrets included, so it is for assertions alone.
fn shown(credentials: &Credentials) -> serde_json::Value {
    serde_json::to_value(&credentials.config).unwrap()
}

#[test]
fn an_entry_is_found_on_the_search_path_with_its_secrets() {
    let folder = folder();
    let config = folder.path().to_str().unwrap();
    for variables in [
        vec![("XDG_CONFIG_HOME", config), ("OS_CLOUD", "one")],
        vec![
            ("XDG_CONFIG_HOME", config),
            ("OS_CLOUD", "one"),
            ("OS_AUTH_URL", "https://other/v3"),
        ],
    ] {
        let one = found(None, None, &variables).unwrap();
        assert_eq!(one.label, "one");
        let shown = shown(&one);
        assert_eq!(shown["auth"]["password"], "12345");
        assert_eq!(shown["auth_type"], "password");
        assert_eq!(shown["region_name"], "North");
        assert!(one.account.contains("https://one.example/v3") && one.account.contains("robot"));
        assert!(!one.account.contains("12345") && !format!("{one:?}").contains("12345"));
    }
}

#[test]
fn files_may_be_named_and_profiles_fill_in_what_is_missing() {
    let folder = folder();
    let at = folder.path().join("openstack");
    let file = at.join("clouds.yaml");
    let vendor = at.join("clouds-public.yaml");
    let variables = [("OS_CLIENT_VENDOR_FILE", vendor.to_str().unwrap())];
    let two = shown(&found(Some("two"), Some(&file), &variables).unwrap());
    assert_eq!(two["auth"]["auth_url"], "https://two.example/v3");
    assert_eq!(two["auth"]["application_credential_secret"], "s3cret");
    // A number to YAML, and kept as it was read.
    assert_ne!(two["auth"]["application_credential_id"], "no");
    assert_eq!(two["auth_type"], "v3applicationcredential");
}

#[test]
fn the_environment_is_enough() {
    let variables = [
        ("OS_AUTH_URL", "https://keystone.example:5000"),
        ("OS_USERNAME", "robot"),
        ("OS_PASSWORD", "s3cret"),
        ("OS_PROJECT_NAME", "ci"),
        ("OS_PROJECT_DOMAIN_ID", "default"),
        ("OS_USER_DOMAIN_ID", "default"),
        ("OS_REGION_NAME", "South"),
        ("OS_INTERFACE", "internal"),
        ("OS_CACERT", "/etc/ca.pem"),
    ];
    let shown = shown(&found(None, None, &variables).unwrap());
    assert_eq!(shown["auth"]["user_domain_name"], "Default");
    assert_eq!(shown["auth"]["project_domain_id"], "default");
    assert_eq!(shown["interface"], "internal");
    assert_eq!(shown["cacert"], "/etc/ca.pem");
    let credential = [
        ("OS_AUTH_URL", "https://keystone.example:5000"),
        ("OS_APPLICATION_CREDENTIAL_ID", "abc"),
        ("OS_APPLICATION_CREDENTIAL_SECRET", "s3cret"),
    ];
    let shown = self::shown(&found(None, None, &credential).unwrap());
    assert_eq!(shown["auth_type"], "v3applicationcredential");
}

#[test]
fn what_is_missing_or_wrong_is_named_without_its_secrets() {
    let folder = folder();
    let at = folder.path().join("openstack");
    let file = at.join("clouds.yaml");
    let config = folder.path().to_str().unwrap();
    let message = |outcome: Result<Credentials>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        error.to_string()
    };
    assert!(message(found(None, None, &[("HOME", "/nonexistent")])).contains("no credentials"));
    let unknown = message(found(Some("three"), Some(&file), &[]));
    assert!(
        unknown.contains("there are: odd, one, two") && unknown.contains("clouds.yaml"),
        "{unknown}"
    );
    let several = message(found(None, None, &[("XDG_CONFIG_HOME", config)]));
    assert!(several.contains("one of: odd, one, two"), "{several}");
    assert!(message(found(Some("odd"), Some(&file), &[])).contains("v3oidcpassword"));
    fs::write(
        at.join("secure.yaml"),
        "clouds:\n  one: {auth: {password: hunter2\n",
    )
    .unwrap();
    let broken = message(found(Some("one"), Some(&file), &[]));
    assert!(
        broken.contains("secure.yaml") && !broken.contains("hunter2"),
        "{broken}"
    );
    let domain = [
        ("OS_AUTH_URL", "https://k/v3"),
        ("OS_USERNAME", "u"),
        ("OS_PASSWORD", "p"),
        ("OS_USER_DOMAIN_ID", "a1b2"),
    ];
    assert!(message(found(None, None, &domain)).contains("user_domain_name"));
}
