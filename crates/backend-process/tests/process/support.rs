//! A runner folder of scripts, and what looks at the machine from outside.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use runner_manager_backend_process::{BACKEND, ProcessCloud, ProcessConfig};
use runner_manager_core::{
    BackendContext, Connected, CreateRunner, GitHubPath, GitHubRunnerConfig, InstanceId, Labels,
    LaunchSpec, NamePrefix, RemoveToken, Result, RunnerCredential, RunnerMetrics, RunnerName,
    Secret, SupportServiceConfig, SystemClock, Timings,
};
use serde_json::{Value, json};

pub(crate) const JIT: &str = "c2VjcmV0LWppdC1jb25maWc=";
pub(crate) const TOKEN: &str = "SECRETREGISTRATIONTOKEN";

const CONFIG_SH: &str = r#"#!/bin/sh
printf '%s\n' "$@" >"$HOME/config-args"
[ -n "$ACTIONS_RUNNER_INPUT_TOKEN" ] || exit 9
echo "$ACTIONS_RUNNER_INPUT_TOKEN" >"$HOME/config-token"
"#;

/// What it does is told by `FAKE`.
const RUN_SH: &str = r#"#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
tr '\0' '\n' </proc/$PPID/cmdline >"$HOME/parent-args"
id -u >"$HOME/uid"
id -un >"$HOME/user" 2>/dev/null
ls "$here/externals/" >"$HOME/externals"
touch "$here/.runner" "${TMPDIR:-/tmp}/of-a-job"
mkdir "$HOME/given"
env >"$HOME/env"
echo "hello from the runner"
case ${FAKE:-idle} in
idle) "$here/bin/Runner.Listener" 600 ;;
busy)
    "$here/bin/Runner.Listener" 600 &
    "$here/bin/Runner.Worker" 600
    ;;
stray)
    setsid sh -c 'setsid sleep 601 & setsid sleep 602 &'
    nohup sleep 603 >/dev/null 2>&1 &
    "$here/bin/Runner.Listener" 600
    ;;
job)
    GITHUB_WORKFLOW='quote " and \ back' GITHUB_RUN_ID=7 GITHUB_REPOSITORY=octo/hello \
        GITHUB_EVENT_NAME=push sh "$ACTIONS_RUNNER_HOOK_JOB_STARTED"
    ;;
fail)
    echo "it went wrong"
    exit 3
    ;;
survivor | forks | killers | named | keys)
    "$here/bin/$FAKE" "$HOME/$FAKE"
    "$here/bin/Runner.Listener" 600
    ;;
leases)
    "$here/bin/leases" "$RUNNER_MANAGER_EXCHANGE" "$HOME/leases" "$PPID"
    "$here/bin/Runner.Listener" 600
    ;;
accomplice)
    name=${RUNNER_MANAGER_INSTANCE%/*}
    "$here/bin/accomplice" take "$name" "$HOME/took" ||
        "$here/bin/accomplice" give "$name" "$HOME/given" "$HOME/gave"
    "$here/bin/Runner.Listener" 600
    ;;
open)
    touch "${TMPDIR:-/tmp}/of-a-job" "$HOME/open"
    [ -n "${TMPDIR:-}" ] || touch /var/tmp/of-a-job
    chmod -R a+rwX "$HOME" "${TMPDIR:-/tmp}" 2>/dev/null
    [ -n "${TMPDIR:-}" ] || chmod a+rwx /var/tmp
    "$here/bin/Runner.Listener" 600
    ;;
share)
    name=${RUNNER_MANAGER_INSTANCE##*/}
    if [ -z "${TMPDIR:-}" ]; then
        for place in /tmp /var/tmp /dev/shm /run/lock /dev/mqueue; do
            touch "$place/of-$name" 2>/dev/null && echo "$place" >>"$HOME/places"
        done
        echo done >>"$HOME/places"
        mv "$HOME/places" "$HOME/shared"
    fi
    "$here/bin/Runner.Listener" 600
    ;;
fill)
    head -c 3000000 /dev/zero >"$HOME/big"
    "$here/bin/Runner.Listener" 600
    ;;
attack)
    mv "$RUNNER_MANAGER_EXCHANGE/runner-installed.timestamp" "$HOME/installed"
    ln -s /etc/shadow "$RUNNER_MANAGER_EXCHANGE/runner-installed.timestamp"
    ln -s / "$HOME/everything"
    mkfifo "$RUNNER_MANAGER_EXCHANGE/pre-job-metrics.json"
    mkdir "$HOME/closed" && touch "$HOME/closed/file" && chmod 0 "$HOME/closed"
    "$here/bin/Runner.Listener" 600
    ;;
esac
"#;

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A runner folder and a work folder, gone with the test.
pub(crate) struct Bed {
    base: tempfile::TempDir,
    extra: Value,
}

impl Bed {
    /// `fake` is what `run.sh` does.
    pub(crate) fn new(fake: &str) -> Self {
        let base = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755));
        mode(base.path()).unwrap();
        let runner = base.path().join("actions-runner");
        for folder in ["bin", "externals"] {
            fs::create_dir_all(runner.join(folder)).unwrap();
        }
        fs::write(runner.join("externals/node"), "").unwrap();
        for (file, text) in [("run.sh", RUN_SH), ("config.sh", CONFIG_SH)] {
            fs::write(runner.join(file), text).unwrap();
            mode(&runner.join(file)).unwrap();
        }
        for file in ["Runner.Listener", "Runner.Worker"] {
            fs::copy("/bin/sleep", runner.join("bin").join(file)).unwrap();
        }
        let extra = json!({"env": {"FAKE": fake}, "min_free_bytes": 0});
        Self { base, extra }
    }

    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.extra[key] = value;
        self
    }

    pub(crate) fn runner_dir(&self) -> PathBuf {
        self.base.path().join("actions-runner")
    }

    pub(crate) fn work_dir(&self) -> PathBuf {
        self.base.path().join("work")
    }

    pub(crate) fn folder(&self, name: &RunnerName) -> PathBuf {
        self.work_dir().join(name.to_string())
    }

    /// The mark of this work folder, which its runners' processes carry.
    pub(crate) fn realm(&self) -> String {
        realm(&self.work_dir())
    }

    pub(crate) fn section(&self) -> Value {
        let mut section = self.extra.clone();
        section["work_dir"] = json!(self.work_dir());
        if section.get("runner_tarball").is_none() {
            section["runner_dir"] = json!(self.runner_dir());
        }
        section
    }

    pub(crate) async fn connect(&self, prefix: &str) -> Result<Connected> {
        let context = BackendContext {
            prefix: NamePrefix::new(prefix).unwrap(),
            timings: Timings {
                grace: Duration::ZERO,
                ..Timings::default()
            },
            clock: Arc::new(SystemClock),
            budgets: runner_manager_core::Budgets::default(),
        };
        (BACKEND.connect)(context, self.section()).await
    }

    pub(crate) async fn cloud(&self) -> ProcessCloud {
        let config: ProcessConfig = serde_json::from_value(self.section()).unwrap();
        ProcessCloud::connect(config).await.unwrap()
    }

    pub(crate) fn read(&self, name: &RunnerName, file: &str) -> Option<String> {
        fs::read_to_string(self.folder(name).join(file)).ok()
    }

    /// Waits for a file that the runner writes.
    pub(crate) async fn wait_for(&self, name: &RunnerName, file: &str) -> String {
        eventually(file, async || {
            self.read(name, file).filter(|text| !text.is_empty())
        })
        .await
    }

    /// Proves that nothing of the prefixes is left on this machine.
    pub(crate) fn assert_nothing_left(&self) {
        let names = |folder: &Path| -> Vec<String> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .filter_map(|e| e.file_name().into_string().ok())
                .collect()
        };
        let runners = |folder: &Path| -> Vec<String> {
            let is_runner = |name: &String| name.parse::<RunnerName>().is_ok();
            names(folder).into_iter().filter(is_runner).collect()
        };
        assert_eq!(runners(&self.work_dir()), Vec::<String>::new(), "folders");
        assert_eq!(
            runners(&self.work_dir().join(".locks")),
            Vec::<String>::new(),
            "locks"
        );
        let realm = realm(&self.work_dir());
        assert_eq!(
            processes(&format!("{realm}/")),
            Vec::<i32>::new(),
            "processes"
        );
        let claims = Path::new("/run/runner-manager/users");
        for claim in names(claims) {
            let text = fs::read_to_string(claims.join(claim)).unwrap_or_default();
            assert!(!text.starts_with(&realm), "user of {text}");
        }
        for mount in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            let groups = Path::new(mount).join("runner-manager").join(&realm);
            assert_eq!(runners(&groups), Vec::<String>::new(), "cgroups");
            // The suite's own: removed so that test runs leave nothing either.
            let _ = fs::remove_dir(groups);
        }
    }
}

fn realm(work_dir: &Path) -> String {
    use sha2::Digest;
    let path = work_dir.canonicalize().unwrap();
    let digest = sha2::Sha256::digest(path.to_str().unwrap().as_bytes());
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The live processes that carry a mark that holds this text.
pub(crate) fn processes(mark: &str) -> Vec<i32> {
    let needle = format!("RUNNER_MANAGER_INSTANCE={mark}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        if String::from_utf8_lossy(&environ).contains(&needle) {
            found.push(pid);
        }
    }
    found
}

/// Polls until there is an answer.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = look().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn github() -> GitHubRunnerConfig {
    GitHubRunnerConfig {
        github_path: GitHubPath::parse("octo", Some("my group; $(id)")).unwrap(),
        labels: Labels::parse(["linux", "x64", "a@b=c"]).unwrap(),
    }
}

pub(crate) fn token_credential() -> RunnerCredential {
    RunnerCredential::RegistrationToken {
        url: "https://github.com/octo".parse().unwrap(),
        token: Secret::new(TOKEN),
    }
}

pub(crate) fn request() -> CreateRunner {
    CreateRunner {
        id: InstanceId::random(),
        credential: RunnerCredential::JitConfig(Secret::new(JIT)),
        github: github(),
        support: SupportServiceConfig::default(),
    }
}

pub(crate) fn spec(prefix: &str) -> LaunchSpec {
    let request = request();
    LaunchSpec {
        name: NamePrefix::new(prefix).unwrap().runner_name(&request.id),
        credential: request.credential,
        github: request.github,
        support: request.support,
    }
}

pub(crate) fn remove_token() -> RemoveToken {
    RemoveToken::new(Secret::new("remove"))
}

/// Creates one runner and says its name.
pub(crate) async fn create(manager: &Connected) -> RunnerName {
    let id = manager.create_runner(request()).await.unwrap();
    manager.name_prefix().runner_name(&id)
}

pub(crate) async fn delete(manager: &Connected, name: &RunnerName) -> RunnerMetrics {
    let gone = manager
        .delete_runner(name.instance_id(), &remove_token())
        .await;
    gone.unwrap().unwrap()
}

pub(crate) async fn flush(manager: &Connected, busy: bool) -> Vec<RunnerMetrics> {
    let token = remove_token();
    manager
        .flush_runners(&token, busy)
        .try_collect()
        .await
        .unwrap()
}

pub(crate) async fn cleanup(manager: &Connected) -> Vec<RunnerMetrics> {
    let token = remove_token();
    manager.cleanup(&token).try_collect().await.unwrap()
}

/// Waits until the runner's program shows itself: busy or not.
pub(crate) async fn wait_for_busy(bed: &Bed, manager: &Connected, name: &RunnerName, busy: bool) {
    bed.wait_for(name, "home/env").await;
    eventually("the runner's process", async || {
        let id = name.instance_id();
        let runner = manager.get_runner(id).await.unwrap().unwrap();
        (runner.busy == Some(busy)).then_some(())
    })
    .await;
}
