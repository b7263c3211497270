//! Jobs that try to outlive their runner, or to reach another one.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runner_manager_core::RunnerName;

use crate::support::*;

/// Puts a program, compiled from C, into the runner folder.
pub(crate) fn compile(bed: &Bed, name: &str, source: &str) {
    let file = bed.runner_dir().join(format!("bin/{name}.c"));
    fs::write(&file, source).unwrap();
    let program = bed.runner_dir().join("bin").join(name);
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let mut words = compiler.split_whitespace();
    let mut cc = Command::new(words.next().unwrap());
    cc.args(words)
        .arg("-pthread")
        .arg("-o")
        .arg(&program)
        .arg(file);
    assert!(cc.status().unwrap().success(), "{name} does not compile");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The states of a process's threads, as the kernel names them; none once the process is gone.
fn threads(pid: &str) -> Vec<char> {
    let folder = Path::new("/proc").join(pid).join("task");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|thread| {
            let stat = fs::read(thread.path().join("stat")).ok()?;
            let text = String::from_utf8_lossy(&stat);
            text.rsplit_once(") ")?.1.chars().next()
        })
        .collect()
}

pub(crate) fn is_alive(pid: &str) -> bool {
    threads(pid).iter().any(|state| !matches!(state, 'Z' | 'X'))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_first_thread_has_ended_goes_with_its_runner() {
    let bed = Bed::new("survivor");
    compile(&bed, "survivor", include_str!("attacks/survivor.c"));
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    let pid = bed.wait_for(&name, "home/survivor").await;
    let pid = pid.trim();
    eventually("the end of the first thread", async || {
        let states = threads(pid);
        (states.contains(&'Z') && states.len() == 2).then_some(())
    })
    .await;
    delete(&manager, &name).await;
    assert!(
        !is_alive(pid),
        "{pid} outlives its runner: {:?}",
        threads(pid)
    );
    bed.assert_nothing_left();
}

#[tokio::test(flavor = "multi_thread")]
async fn such_a_process_stands_still_while_an_idle_runner_is_stopped() {
    let bed = Bed::new("survivor");
    compile(&bed, "survivor", include_str!("attacks/survivor.c"));
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    let pid = bed.wait_for(&name, "home/survivor").await;
    wait_for_busy(&bed, &manager, &name, false).await;
    assert_eq!(flush(&manager, false).await.len(), 1);
    assert!(!is_alive(pid.trim()), "{pid} outlives its runner");
    bed.assert_nothing_left();
}

/// Without root a job is the manager's user, and may as well kill its manager: nothing holds it,
/// which the documentation of the backend says.
#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_forks_that_change_their_session_goes_with_its_runner() {
    if !is_root() {
        return;
    }
    let bed = Bed::new("forks");
    compile(&bed, "forks", include_str!("attacks/forks.c"));
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    bed.wait_for(&name, "home/forks").await;
    let realm = bed.realm();
    delete(&manager, &name).await;
    assert_eq!(processes(&format!("{realm}/")), Vec::<i32>::new());
    bed.assert_nothing_left();
}

/// The paths of a runner's folder, its own among them.
fn paths(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(paths(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}

/// What a user can do with a path: a word for each thing that succeeds.
fn reach(uid: &str, path: &Path) -> String {
    const TRY: &str = r#"
        [ -f "$0" ] && (exec <"$0") 2>/dev/null && echo read
        [ -d "$0" ] && ls "$0" >/dev/null 2>&1 && echo listed
        [ -d "$0" ] && (: >"$0/of-another") 2>/dev/null && echo written
        [ -f "$0" ] && (: >>"$0") 2>/dev/null && echo changed
        mv "$0" "$0.moved" 2>/dev/null && echo moved
        chmod 0777 "$0" 2>/dev/null && echo opened
        exit 0"#;
    let tried = Command::new("setpriv")
        .args([
            "--reuid",
            uid,
            "--regid",
            uid,
            "--clear-groups",
            "sh",
            "-c",
            TRY,
        ])
        .arg(path)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(tried.stdout).unwrap()
}

/// Without root all runners are one user, which the documentation of the backend says.
#[tokio::test(flavor = "multi_thread")]
async fn no_path_of_a_runner_is_reached_by_another() {
    let bed = Bed::new("open");
    let manager = bed.connect("app").await.unwrap();
    let (a, b) = (create(&manager).await, create(&manager).await);
    for name in [&a, &b] {
        wait_for_busy(&bed, &manager, name, false).await;
    }
    if is_root() {
        let uid = bed.wait_for(&b, "home/uid").await;
        let all = paths(&bed.folder(&a));
        for place in ["tmp/of-a-job", "var-tmp/of-a-job", "home/open"] {
            let place = bed.folder(&a).join(place);
            assert!(all.contains(&place), "{} is missing", place.display());
        }
        for path in all {
            let done = reach(uid.trim(), &path);
            assert!(done.is_empty(), "{}: {done}", path.display());
        }
        // The same tries succeed where the runner's own user makes them.
        let own = bed.wait_for(&a, "home/uid").await;
        let done = reach(own.trim(), &bed.folder(&a).join("tmp"));
        assert!(
            done.contains("listed") && done.contains("written"),
            "{done}"
        );
    }
    for name in [&a, &b] {
        delete(&manager, name).await;
    }
    bed.assert_nothing_left();
}

/// Files in places that every user may write to, and message queues, outlive no runner.
#[tokio::test(flavor = "multi_thread")]
async fn places_that_all_users_share_are_a_runners_own() {
    let bed = Bed::new("share");
    let manager = bed.connect("app").await.unwrap();
    let name = create(&manager).await;
    if is_root() {
        let made = bed.wait_for(&name, "home/shared").await;
        assert!(
            made.ends_with("done\n") && made.lines().count() > 2,
            "{made}"
        );
        let mark = format!("of-{name}");
        for place in ["/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/dev/mqueue"] {
            let path = Path::new(place).join(&mark);
            assert!(!path.exists(), "{}", path.display());
        }
    }
    delete(&manager, &name).await;
    bed.assert_nothing_left();
}

/// A removal that was cut off left folders at the top; the next one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_of_deep_folders_that_was_cut_off_is_finished() {
    let bed = Bed::new("idle");
    let manager = bed.connect("app").await.unwrap();
    let name: RunnerName = create(&manager).await;
    wait_for_busy(&bed, &manager, &name, false).await;
    let mut deep = bed.folder(&name).join("home");
    for _ in 0..40 {
        deep.push("deeper");
    }
    fs::create_dir_all(&deep).unwrap();
    // As a manager leaves it that is killed after it brought folders up.
    for number in 1..=30 {
        let left = bed.folder(&name).join(format!(".deep-{number}/full"));
        fs::create_dir_all(left).unwrap();
    }
    delete(&manager, &name).await;
    bed.assert_nothing_left();
}
