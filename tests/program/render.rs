//! What an instance would boot with, and a shell on it, as an operator asks for them.

use std::fs;

use crate::support::{Place, REPO};

const PASSWORD: &str = "pass:word-of-the-proxy";

/// Beside the usual pool one whose instances boot by cloud-init, with a proxy that wants a
/// password. Nothing is asked of its cloud.
async fn place() -> Place {
    let mut place = Place::new("max = 1").await;
    fs::write(place.path("proxy"), format!("user:{PASSWORD}")).unwrap();
    let file = place.path("proxy");
    place.more = format!(
        r#"
[[pool]]
name = "containers"
backend = "lxd"
github_path = "{REPO}"
labels = ["blue"]
max = 2
[pool.services.proxy]
http = "http://proxy.example:3128"
no_proxy = ["registry.example"]
credentials_file = {file:?}
[pool.lxd]
image = {{ alias = "runner" }}
[pool.lxd.boot]
user = "worker"
home = "/home/worker"
"#
    );
    place.configure();
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn user_data_is_shown_with_its_secrets_masked() {
    let place = place().await;
    let output = place.command(&["render", "--pool", "containers"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    let compiled = place.json(&["backends"]);
    let mut lxd = compiled.as_array().unwrap().iter();
    let lxd = lxd.find(|b| b["backend"] == "lxd").unwrap();
    if lxd["compiled"] == false {
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains("--features lxd"), "{errors}");
        return;
    }
    assert!(output.status.success(), "{errors}");
    assert!(text.starts_with("#cloud-config\n"), "{text}");
    for shown in ["RM_USER=worker", "proxy.example:3128", "registry.example"] {
        assert!(text.contains(shown), "{shown} is missing in {text}");
    }
    assert!(text.contains("***"), "{text}");
    assert!(!text.contains(PASSWORD), "{text}");
    assert!(!text.contains(place.sim.token()), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_no_user_data_or_no_shell_the_words_say_why() {
    let place = Place::new("max = 1").await;
    let refused = |words: &[&str]| {
        let output = place.command(words);
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), errors)
    };
    let (code, errors) = refused(&["render", "--pool", "test"]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("do not boot by cloud-init"), "{errors}");
    let (code, errors) = refused(&["render", "--pool", "nobody"]);
    assert_eq!(code, Some(3), "{errors}");
    let (code, errors) = refused(&["runners", "shell", "test-000000000000", "--", "true"]);
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("opens no shell"), "{errors}");
}
