//! Bad input and faults: each gives a clear error with what to do, and leaves nothing.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Output};

use crate::support::{PROGRAM, Place, REPO};
use runner_manager_github_sim::{Conclusion, FaultAction, FaultRule, JobSpec, JobStatus};

fn told(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

/// Both `check` and `run` refuse, with these words.
fn refused(place: &Place, code: i32, words: &[&str]) {
    let check = place.command(&["check"]);
    let run = place.command(&["run"]);
    for (command, output) in [("check", check), ("run", run)] {
        let told = told(&output);
        assert!(!output.status.success(), "{command}: {told}");
        for word in words {
            assert!(
                told.contains(word),
                "{command} does not say {word:?}: {told}"
            );
        }
        if command == "run" {
            assert_eq!(output.status.code(), Some(code), "{told}");
        }
    }
    assert!(place.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_a_process_cannot_be_given_are_refused_before_a_launch() {
    let mut place = Place::new("max = 1").await;
    fs::write(place.path("policy"), "a secret").unwrap();
    let policy = format!(
        "repo_policy = {{ url = \"https://policy.example\", token_file = {:?} }}",
        place.path("policy")
    );
    let proxy = "proxy = { http = \"http://proxy.example:3128\", transparent = true }".to_owned();
    for (service, words) in [
        (policy, ["services.repo_policy", "remove `repo_policy`"]),
        (proxy, ["services.proxy", "set `transparent` to false"]),
    ] {
        place.pool = format!("max = 1\nservices.{service}");
        place.configure();
        let file = fs::read_to_string(place.path("config.toml")).unwrap();
        let line = file.lines().position(|line| line.starts_with("services."));
        let line = format!("line: {}", line.unwrap() + 1);
        refused(&place, 2, &[words[0], words[1], &line]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_program_that_cannot_be_used_is_refused() {
    let mut place = Place::new("max = 1").await;
    let good = place.backend.clone();
    for (backend, words) in [
        (
            "runner_dir = \"/nowhere\"".to_owned(),
            ["does not exist", "unpack"],
        ),
        (
            format!("{good}\nrunner_directory = 1"),
            ["runner_directory", "unknown"],
        ),
        (
            format!("{good}\nmin_free_bytes = \"x\""),
            ["min_free_bytes", "line: "],
        ),
    ] {
        place.backend = backend;
        place.configure();
        refused(&place, 2, &words);
    }
    let archive = place.path("runner.tar.gz");
    fs::write(&archive, "this is no archive").unwrap();
    let sum = sha256(&archive);
    let section = |sum: &str| format!("runner_tarball = {archive:?}\nrunner_sha256 = \"{sum}\"");
    place.backend = section(&"0".repeat(64));
    place.configure();
    refused(&place, 2, &["runner_sha256", &sum]);
    place.backend = section(&sum);
    place.configure();
    refused(&place, 2, &["runner.tar.gz"]);
}

fn sha256(path: &std::path::Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_and_names_that_could_do_harm_are_refused() {
    let mut place = Place::new("max = 1").await;
    let text = fs::read_to_string(place.path("config.toml")).unwrap();
    let long = "x".repeat(60);
    for (find, put, word) in [
        ("[\"test\"]", "[\"a;reboot\"]", "labels"),
        ("[\"test\"]", "[\"$(id)\"]", "labels"),
        ("[\"test\"]", "[\"a'b\"]", "labels"),
        ("[\"test\"]", "[\"a\\nb\"]", "labels"),
        ("[\"test\"]", "[\"größe\"]", "labels"),
        ("name = \"test\"", "name = \"a/b\"", "prefix"),
        ("name = \"test\"", &format!("name = \"{long}\""), "prefix"),
        ("name = \"test\"", "name = \"\"", "name"),
        ("max = 1", "max = \"1\"", "invalid type"),
        ("max = 1", "max = 1\nmaximum = 2", "maximum"),
        ("max = 1", "max = -1", "max"),
    ] {
        assert!(text.contains(find), "{find}");
        fs::write(place.path("config.toml"), text.replace(find, put)).unwrap();
        refused(&place, 2, &[word]);
    }
    place.pool.clear();
    place.configure();
    refused(&place, 2, &["missing field `max`"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_that_cannot_be_used_is_named() {
    let place = Place::new("max = 1").await;
    // A file where the folder should be.
    fs::write(place.path("state"), "").unwrap();
    let output = place.command(&["run"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(told(&output).contains("state"), "{}", told(&output));
    // Somebody else's folder.
    fs::remove_file(place.path("state")).unwrap();
    fs::create_dir(place.path("state")).unwrap();
    fs::set_permissions(place.path("state"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new(PROGRAM);
    if rustix::process::geteuid().is_root() {
        chown(place.path("work"), Some(65_534), None).ok();
        command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
        // The build's folder may be closed to others: a copy in the test's own is not.
        // Made by another process: a file that this one wrote could not be run while any of its
        // threads starts a child.
        let copied = Command::new("cp")
            .arg(PROGRAM)
            .arg(place.path("program"))
            .status();
        assert!(copied.unwrap().success());
        command.arg(place.path("program"));
    } else {
        fs::set_permissions(place.path("state"), fs::Permissions::from_mode(0o500)).unwrap();
    }
    command
        .args(["runners", "list", "--config"])
        .arg(place.path("config.toml"));
    let output = command.output().unwrap();
    assert!(!output.status.success());
    assert!(told(&output).contains("state"), "{}", told(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_launches_and_says_so() {
    let mut place = Place::new("max = 1").await;
    place.backend += "\nmin_free_bytes = 1000000000000000";
    place.configure();
    place.sim.queue_job(JobSpec::new(REPO, &["test"])).unwrap();
    let manager = place.start();
    let full = |place: &Place| {
        let up = place.path("state/admin.sock").exists();
        up && place.json(&["pools", "list"])[0]["last_error"]
            .as_str()
            .is_some_and(|error| error.contains("disk") || error.contains("free"))
    };
    place.until("the pool tells of the disk", full).await;
    place.until("nothing is left", Place::is_empty).await;
    place.backend = place.backend.replace("1000000000000000", "1");
    place.configure();
    place.until("the job is done with space again", done).await;
    assert_eq!(manager.terminate(), Some(0));
}

fn done(place: &Place) -> bool {
    let jobs = place.sim.jobs();
    jobs.iter().all(|job| job.status == JobStatus::Completed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_github_that_fails_for_a_while_loses_no_job() {
    let place = Place::new("max = 2").await;
    let manager = place.start();
    let says = |words: &'static str| {
        move |place: &Place| {
            let up = place.path("state/admin.sock").exists();
            up && place.json(&["pools", "list"])[0]["github_error"]
                .as_str()
                .is_some_and(|error| error.contains(words))
        }
    };
    let revoked = FaultAction::status(401);
    let page = FaultAction::Html { status: 200 };
    let gone = FaultAction::DropConnection;
    for (action, words) in [
        (revoked, "credential"),
        (page, "instead of JSON"),
        (gone, "api/v3"),
    ] {
        place
            .sim
            .fault(FaultRule::new("/api/", u32::MAX, action.clone()));
        let check = place.command(&["check"]);
        assert_eq!(check.status.code(), Some(1), "{action:?}: {}", told(&check));
        place
            .until(&format!("the pool tells of {action:?}"), says(words))
            .await;
        let id = place.sim.queue_job(JobSpec::new(REPO, &["test"])).unwrap();
        place.sim.clear_faults();
        place.until("the job is done", done).await;
        assert_eq!(
            place.sim.job(id).unwrap().conclusion,
            Some(Conclusion::Success)
        );
    }
    assert_eq!(manager.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_and_a_port_in_use_are_told() {
    let place = Place::new("max = 1").await;
    // What the clock is compared with: GitHub's, which this answer sets back by years.
    let late = FaultAction::status(200).header("date", "Tue, 01 Jan 2019 00:00:00 GMT");
    place.sim.fault(FaultRule::new("/meta", u32::MAX, late));
    let check = place.command(&["check"]);
    assert!(told(&check).contains("clock"), "{}", told(&check));
    assert_eq!(check.status.code(), Some(1));

    let port = place.sim.url().rsplit(':').next().unwrap().parse().unwrap();
    let config = runner_manager_github_sim::SimConfig {
        port,
        ..Default::default()
    };
    let error = runner_manager_github_sim::Sim::start(config)
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}
