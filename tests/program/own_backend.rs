//! A program of somebody else's, with a backend of its own: the example `instant`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use runner_manager_github_sim::{Conclusion, JobSpec, JobView};
use serde_json::Value;

use crate::support::{PROGRAM, Place, REPO};

/// Cargo builds examples with all tests.
fn program() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let profile = this.parent().and_then(Path::parent).unwrap();
    let program = profile.join("examples/instant");
    assert!(
        program.exists(),
        "build it with `cargo build --example instant`"
    );
    program
}

fn run(program: &Path, place: &Place, words: &[&str]) -> Output {
    let mut command = Command::new(program);
    command
        .args(words)
        .env("RUNNER_MANAGER_CONFIG", place.path("config.toml"));
    command.output().unwrap()
}

fn configure(place: &Place, key: &str) {
    let dir = place.path("").display().to_string();
    let (dir, url) = (dir.trim_end_matches('/'), place.sim.url());
    let text = format!(
        r#"
[manager]
state_dir = "{dir}/state"
poll_interval_ms = 100
[github]
url = "{url}"
token_file = "{dir}/token"
[[pool]]
name = "test"
backend = "instant"
github_path = "{REPO}"
labels = ["own"]
max = 2
[pool.instant]
{key} = "{dir}/launches"
runs_jobs = true
"#
    );
    fs::write(place.path("config.toml"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_of_ones_own_runs_jobs_and_is_known_everywhere() {
    let place = Place::new("").await;
    configure(&place, "launches");
    let own = program();

    let listed = run(&own, &place, &["backends", "--json"]).stdout;
    let listed: Vec<Value> = serde_json::from_slice(&listed).unwrap();
    assert!(
        listed
            .iter()
            .any(|backend| backend["backend"] == "instant" && backend["compiled"] == true)
    );
    let schema: Value = serde_json::from_slice(&run(&own, &place, &["schema"]).stdout).unwrap();
    let section = &schema["$defs"]["Pool"]["properties"]["instant"];
    assert!(section["properties"]["launches"].is_object(), "{section}");
    let checked = run(&own, &place, &["check"]);
    assert!(checked.status.success(), "{checked:?}");

    let manager = place.start_program(&own);
    for _ in 0..3 {
        place.sim.queue_job(JobSpec::new(REPO, &["own"])).unwrap();
    }
    let won = |job: &JobView| job.conclusion == Some(Conclusion::Success);
    place
        .until("all jobs are done", |place| {
            place.sim.jobs().iter().all(won)
        })
        .await;
    assert_eq!(manager.terminate(), Some(0));
    let launches = fs::read_to_string(place.path("launches")).unwrap();
    assert!(launches.lines().count() >= 3, "{launches}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_about_a_backend_of_ones_own_are_named() {
    let place = Place::new("").await;
    configure(&place, "lunches");
    let said = |program: &Path| {
        let output = run(program, &place, &["check"]);
        assert!(!output.status.success());
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let told = said(&program());
    assert!(
        told.contains("unknown field `lunches`") && told.contains("line: 15"),
        "{told}"
    );
    let told = said(Path::new(PROGRAM));
    assert!(told.contains("unknown field `instant`"), "{told}");
}
