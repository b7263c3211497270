//! What the whole run has to have done.

use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use runner_manager_github_sim::Conclusion;
use runner_manager_store::RunnerState;
use serde_json::{Value, json};

use crate::cloud::Kept;
use crate::fleet::support;
use crate::peers::POLICY_SECRET;
use crate::whole::{Log, NASTY, Outcome, PASSWORD};

/// The one runner of a pool.
pub(crate) fn of<'a>(outcome: &'a Outcome, pool: &str) -> (&'a String, &'a Kept) {
    let prefix = format!("{pool}-");
    let mut found = outcome
        .archive
        .iter()
        .filter(|(name, _)| name.starts_with(&prefix));
    let one = found
        .next()
        .unwrap_or_else(|| panic!("no runner of {pool}"));
    assert_eq!(
        found.next().map(|(name, _)| name),
        None,
        "{pool} needed a second runner: {:?}",
        one.1.files
    );
    one
}

fn event<'a>(outcome: &'a Outcome, pool: &str, kind: &str) -> &'a Value {
    let mut found = outcome
        .events
        .iter()
        .filter(|e| e["flavor"] == pool && e["event"] == kind);
    found.next().unwrap_or_else(|| {
        panic!(
            "no {kind} of {pool}: {:?}\n{:?}",
            outcome.events,
            of(outcome, pool).1.files
        )
    })
}

pub(crate) fn jobs_end_as_the_policy_says(outcome: &Outcome) {
    for (pool, conclusion) in &outcome.conclusions {
        let expected = match pool.as_str() {
            "yes" | "token" => Conclusion::Success,
            _ => Conclusion::Failure,
        };
        assert_eq!(
            *conclusion,
            Some(expected),
            "{pool}: {:?}",
            of(outcome, pool).1.files
        );
        let (_, kept) = of(outcome, pool);
        let post: Value =
            serde_json::from_str(&kept.files["home/ubuntu/metrics-exchange/post-job-metrics.json"])
                .expect("JSON");
        let (status, code) = match pool.as_str() {
            "yes" | "token" => ("normal", Value::Null),
            "no" => ("repo-policy-check-failure", json!({"code": 403})),
            "error" => ("repo-policy-check-failure", json!({"code": 500})),
            _ => ("repo-policy-check-failure", json!({"code": 0})),
        };
        assert_eq!(
            (&post["status"], &post["status_info"]),
            (&json!(status), &code),
            "{pool}"
        );
        let refused = status != "normal";
        assert_eq!(
            kept.files.contains_key("home/ubuntu/seen"),
            !refused,
            "{pool}: the pool's own script"
        );
    }
    // Each asked with its own token, and the one without an answer asked again.
    let asked = |mood: &str| {
        let path = format!("{mood}/push");
        outcome
            .policy
            .iter()
            .filter(|(p, _)| *p == path)
            .map(|(_, token)| token.clone())
            .collect::<Vec<_>>()
    };
    for mood in ["yes", "no", "error"] {
        assert_eq!(asked(mood).len(), 1, "{mood}: {:?}", outcome.policy);
        let token = format!("Bearer one-time-token-{mood}-");
        assert!(asked(mood)[0].starts_with(&token), "{:?}", outcome.policy);
    }
    assert_eq!(asked("silent").len(), 3);
}

pub(crate) fn values_arrive_intact(outcome: &Outcome) {
    for pool in ["yes", "token"] {
        let (_, kept) = of(outcome, pool);
        let seen = &kept.files["home/ubuntu/seen"];
        for (key, value) in NASTY {
            let wanted = format!("{key}={value}");
            assert!(
                seen.split('\0').any(|e| e == wanted),
                "{pool}: {wanted:?} in {seen:?}"
            );
        }
        assert!(
            seen.contains("TMATE_SERVER_RSA_FINGERPRINT=SHA256:r's\"a\0"),
            "{seen:?}"
        );
        assert!(
            !kept.files.contains_key("owned"),
            "something was run: {:?}",
            kept.files
        );
        assert!(
            kept.files["home/ubuntu/who"].contains("(ubuntu)"),
            "{:?}",
            kept.files
        );
        assert_eq!(
            kept.files["home/ubuntu/stolen"], "",
            "a job reads the manager's secrets"
        );
        // The notes of cloud-init as the script of a probe reads them: in its last stage, which is
        // not over, without an error.
        let notes = &kept.files["home/ubuntu/notes"];
        let noted: Value = serde_json::from_str(notes).expect("one file, the one of what runs");
        assert_eq!(noted["v1"]["stage"], "modules-final", "{notes}");
        assert!(notes.contains("\"stage\": \"modules-final\""), "{notes}");
        let mut errors = notes.lines().filter(|line| line.contains("\"errors\""));
        assert!(
            errors.all(|line| line.trim().trim_end_matches(',') == "\"errors\": []"),
            "{notes}"
        );
        let pre: Value =
            serde_json::from_str(&kept.files["home/ubuntu/metrics-exchange/pre-job-metrics.json"])
                .expect("JSON");
        assert_eq!(pre["workflow"], "it's a \"workflow\" $(id) 🦀");
    }
}

pub(crate) fn services_are_set_up(outcome: &Outcome) {
    let (_, kept) = of(outcome, "yes");
    let daemon: Value = serde_json::from_str(&kept.files["etc/docker/daemon.json"]).expect("JSON");
    let mirror = format!("http://{}/", outcome.mirror);
    assert_eq!(daemon["registry-mirrors"], json!([mirror]));
    let url = support(1, PASSWORD)
        .proxy_config
        .expect("a proxy")
        .http
        .expect("a URL");
    let password = url.password().expect("a password");
    for file in [
        "etc/systemd/system/docker.service.d/runner-manager-proxy.conf",
        "etc/apt/apt.conf.d/95-runner-manager",
        "home/ubuntu/.docker/config.json",
        "srv/actions-runner/.env",
    ] {
        let text = kept
            .files
            .get(file)
            .unwrap_or_else(|| panic!("no {file}: {:?}", kept.files));
        let text = if file.ends_with("proxy.conf") {
            text.replace("%%", "%")
        } else {
            text.clone()
        };
        assert!(text.contains(password), "{file}: {text}");
    }
    assert!(kept.files["var/log/stubs"].contains("systemctl restart docker"));
    // The runner program came through the proxy, with the password.
    assert!(
        outcome.proxy_log.contains("runner.tar.gz") || outcome.proxy_log.contains("127.0.0.2"),
        "{}",
        outcome.proxy_log
    );
    for pool in ["yes", "no", "error", "silent"] {
        let life = &outcome.steps[pool];
        use RunnerState as S;
        // A job that waits may be taken before anybody sees the runner idle.
        let life: Vec<S> = life.iter().copied().filter(|s| *s != S::Idle).collect();
        let expected = [
            S::Requested,
            S::Launching,
            S::Booting,
            S::Busy,
            S::Finished,
            S::Deleting,
            S::Gone,
        ];
        assert_eq!(life, expected, "{pool}");
        let runner = of(outcome, pool).0;
        for phase in ["Booted", "Installing", "Listening"] {
            let told = format!("an instance reports runner={runner} phase={phase}");
            assert!(outcome.log.contains(&told), "{told}");
        }
    }
    // The look at GitHub may see a job before its instance tells of it, and end the runner.
    for phase in ["JobStarted", "JobCompleted"] {
        let told = format!(" phase={phase}");
        assert!(outcome.log.contains(&told), "no instance reports{told}");
    }
}

/// Every secret of the run, in every form that user-data could hold it in.
fn secrets(outcome: &Outcome) -> Vec<(String, String)> {
    let mut found = vec![
        ("the proxy's password".to_owned(), PASSWORD.to_owned()),
        (
            "the policy service's token".to_owned(),
            POLICY_SECRET.to_owned(),
        ),
        (
            "the manager's token for GitHub".to_owned(),
            outcome.sim_token.clone(),
        ),
    ];
    let url = support(1, PASSWORD)
        .proxy_config
        .expect("a proxy")
        .http
        .expect("a URL");
    found.push((
        "the password in a URL".into(),
        url.password().expect("a password").to_owned(),
    ));
    for (path, token) in &outcome.policy {
        if let Some(token) = token.strip_prefix("Bearer ") {
            found.push((format!("the one-time token of {path}"), token.to_owned()));
        }
    }
    for (name, kept) in &outcome.archive {
        for (key, what) in [
            ("ACTIONS_RUNNER_INPUT_JITCONFIG=", "JIT config"),
            ("ACTIONS_RUNNER_INPUT_TOKEN=", "registration token"),
        ] {
            let listener = kept.files.get("home/ubuntu/listener").map(String::as_str);
            let variables = listener.unwrap_or_default().split('\0');
            let values = variables.filter_map(|variable| variable.strip_prefix(key));
            found.extend(values.map(|value| (format!("the {what} of {name}"), value.to_owned())));
        }
        if let Some(token) = kept.files.get("opt/runner-manager/callback-token") {
            found.push((
                format!("the callback token of {name}"),
                token.trim().to_owned(),
            ));
        }
    }
    let encoded: Vec<_> = found
        .iter()
        .map(|(what, s)| (format!("{what} in base64"), STANDARD.encode(s)))
        .collect();
    found.extend(encoded);
    found
}

pub(crate) fn no_secret_is_left_behind(outcome: &Outcome) {
    let secrets = secrets(outcome);
    let kinds = |part: &str| {
        secrets
            .iter()
            .filter(|(what, _)| what.contains(part))
            .count()
    };
    assert!(
        kinds("JIT config of yes") > 0 && kinds("one-time") > 3 && kinds("callback") > 7,
        "{secrets:?}"
    );
    let mut searched = 0;
    for (name, kept) in &outcome.archive {
        let claims = !name.starts_with("token-");
        for (what, secret) in &secrets {
            assert!(
                !outcome.log.contains(secret),
                "{what} stands in the manager's log"
            );
            if claims {
                searched += kept.user_data.len();
                assert!(
                    !kept.user_data.contains(secret),
                    "{what} stands in the user-data of {name}"
                );
            }
        }
        for gone in ["opt/runner-manager/credential", "opt/runner-manager/nonce"] {
            assert!(!kept.files.contains_key(gone), "{name}: {gone}");
        }
    }
    println!(
        "user-data of 4 instances searched for {} secrets ({searched} bytes read): none found",
        secrets.len()
    );
    // The search can find: without a claim the password is there.
    let (_, inline) = of(outcome, "token");
    assert!(
        secrets
            .iter()
            .any(|(_, secret)| inline.user_data.contains(secret))
    );
}

pub(crate) fn events_tell_it_all(outcome: &Outcome) {
    for event in &outcome.events {
        println!("{event}");
    }
    for pool in outcome.conclusions.keys() {
        let installed = event(outcome, pool, "runner_installed");
        assert!(
            installed["duration"].as_f64().expect("a number") > 0.0,
            "{installed}"
        );
        let start = event(outcome, pool, "runner_start");
        assert_eq!(start["workflow"], "it's a \"workflow\" $(id) 🦀");
        assert_eq!(
            (&start["repo"], &start["github_event"]),
            (&json!("acme/app"), &json!("push"))
        );
        assert!(
            start["queue_duration"].as_f64().expect("a number") > 0.0,
            "{start}"
        );
        let stop = event(outcome, pool, "runner_stop");
        let conclusion = match outcome.conclusions[pool] {
            Some(Conclusion::Success) => "success",
            _ => "failure",
        };
        assert_eq!(stop["job_conclusion"], conclusion, "{stop}");
        event(outcome, pool, "reconciliation");
    }
    assert_eq!(
        event(outcome, "no", "runner_stop")["status"],
        "repo-policy-check-failure"
    );
}

/// What another one than the instance gets, with the instance's own secrets.
pub(crate) fn calls_of_others_are_refused(outcome: &Outcome, folder: &Path, log: &Log) {
    std::fs::write(folder.join("ca.pem"), &outcome.authority).expect("a file");
    let ca = folder.join("ca.pem").display().to_string();
    let call = |name: &str, what: &str, secret: &str, body: &str| {
        let url = format!("https://{}/runner/{name}/{what}", outcome.address);
        let header = format!("Authorization: Bearer {secret}");
        let output = Command::new("curl")
            .args([
                "--silent",
                "--noproxy",
                "*",
                "--cacert",
                &ca,
                "--write-out",
                "%{http_code}",
            ])
            .args(["--output", "/dev/null", "--header", &header])
            .args([
                "--header",
                "Content-Type: application/json",
                "--data",
                body,
                &url,
            ])
            .output()
            .expect("curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let (name, kept) = of(outcome, "yes");
    let nonce = kept
        .user_data
        .lines()
        .skip_while(|l| !l.contains("/nonce"))
        .find(|l| {
            let l = l.trim();
            l.len() == 64 && l.bytes().all(|b| b.is_ascii_hexdigit())
        });
    let nonce = nonce.expect("the nonce").trim();
    let token = kept.files["opt/runner-manager/callback-token"].trim();
    let report = r#"{"phase": "listening"}"#;
    assert_eq!(
        call(name, "claim", nonce, "{}"),
        "403",
        "of a deleted runner"
    );
    assert_eq!(
        call(name, "claim", token, "{}"),
        "403",
        "with another secret"
    );
    assert_eq!(
        call("yes-000000000000", "claim", nonce, "{}"),
        "403",
        "of nobody"
    );
    assert_eq!(
        call(name, "phase", token, report),
        "403",
        "of a deleted runner"
    );
    assert_eq!(
        call(name, "phase", nonce, report),
        "403",
        "with another secret"
    );
    assert_eq!(call(name, "phase", token, r#"{"phase": "dancing"}"#), "422");
    let alarms = log
        .text()
        .matches("a call of an instance was refused")
        .count();
    assert_eq!(
        alarms, 4,
        "each refusal but that of a last word is an alarm"
    );
}
