//! The inside of an instance: the stand-in runner, and what the harness does there.

use runner_manager_conformance::{JobFate, Planted, Received};
use runner_manager_core::{CloudInitStatus, ExchangeFile, RunnerName};

use crate::server::Server;

/// The runner's user and its home.
pub(crate) const USER: &str = "runner";
const HOME: &str = "/home/runner";
/// The stand-in runner's folder.
pub(crate) const RUNNER: &str = "/opt/conformance-runner";

/// Lays out the stand-in runner before cloud-init runs the manager's part: it listens until it is
/// killed, and takes any credential; a line in the pipe is a job. `cloud-init status` is answered
/// by a shell script that reads the same files: a look a few milliseconds apart would otherwise
/// start Python each time.
pub(crate) const SETUP: &str = r#"#!/bin/sh
set -e
runner=/opt/conformance-runner
mkdir -p $runner/bin
cat >$runner/run.sh <<'EOF'
#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
mkfifo "$HOME/jobs"
"$here/bin/Runner.Listener" &
wait $!
EOF
cat >$runner/config.sh <<'EOF'
#!/bin/sh
printf '%s\0' "$@" >"$HOME/received"
EOF
cat >$runner/bin/Runner.Listener <<'EOF'
#!/bin/sh
exec 3<>"$HOME/jobs"
while read -r job <&3; do
    "$(dirname "$0")/Runner.Worker" 3<&- &
done
EOF
cat >$runner/bin/Runner.Worker <<'EOF'
#!/bin/sh
echo begun >>"$HOME/begun"
sleep 6000 &
wait $!
EOF
chmod 755 $runner/*.sh $runner/bin/*
cat >/usr/local/bin/cloud-init <<'EOF'
#!/bin/sh
if [ "$1" != status ]; then exec /usr/bin/cloud-init "$@"; fi
if [ -e /run/forced-status ]; then exec cat /run/forced-status; fi
if [ ! -e /run/cloud-init/result.json ]; then echo 'status: running'; exit 0; fi
if grep -q '"errors": \[\]' /run/cloud-init/result.json; then echo 'status: done'; else echo 'status: error'; fi
EOF
chmod 755 /usr/local/bin/cloud-init
"#;

/// One instance, reached by the server's client.
pub(crate) struct Inside<'a> {
    pub(crate) server: &'a Server,
    pub(crate) project: &'a str,
    pub(crate) name: String,
}

impl Inside<'_> {
    /// Runs a script as root, with words for it; its output, or nothing when it failed or the
    /// instance does not run.
    pub(crate) async fn script(&self, script: &str, words: &[&str]) -> Option<Vec<u8>> {
        self.fed(script, words, b"").await
    }

    async fn fed(&self, script: &str, words: &[&str], input: &[u8]) -> Option<Vec<u8>> {
        let mut all = vec![
            "exec",
            "--project",
            self.project,
            "--mode",
            "non-interactive",
        ];
        all.extend([
            self.name.as_str(),
            "--",
            "/bin/sh",
            "-c",
            script,
            "conformance",
        ]);
        all.extend(words);
        self.server.exec(&all, input).await.ok()
    }

    /// Offers a job to a runner that listens; one that does not takes none.
    pub(crate) async fn offer_job(&self) {
        let script = r#"test -p /home/runner/jobs && exec 3<>/home/runner/jobs && echo job >&3"#;
        self.script(script, &[]).await;
    }

    pub(crate) async fn job_fate(&self) -> JobFate {
        let script = r#"
            test -s /home/runner/begun || { echo no; exit; }
            for comm in /proc/[0-9]*/comm; do
                read -r name 2>/dev/null <"$comm" || continue
                if [ "$name" = Runner.Worker ]; then echo runs; exit; fi
            done
            echo killed"#;
        match self.script(script, &[]).await.as_deref() {
            Some(b"runs\n") => JobFate::Runs,
            Some(b"killed\n") => JobFate::Killed,
            _ => JobFate::NotBegun,
        }
    }

    /// Ends the listener, and with it the runner program.
    pub(crate) async fn end_runner(&self) {
        let script = r#"
            for stat in /proc/[0-9]*/stat; do
                read -r line 2>/dev/null <"$stat" || continue
                case $line in *"(Runner.Listener)"*) kill -9 "${line%% *}" ;; esac
            done"#;
        self.script(script, &[]).await;
    }

    /// What `config.sh` was called with.
    pub(crate) async fn received(&self, trace: &str) -> Option<Received> {
        let bytes = self.script("cat /home/runner/received", &[]).await?;
        let traced = self.script(r#"test -e "$1""#, &[trace]).await.is_some();
        let text = String::from_utf8_lossy(&bytes);
        let words: Vec<&str> = text.split_terminator('\0').collect();
        let after = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            words.get(at + 1).copied()
        };
        Some(Received {
            name: after("--name")?.to_owned(),
            labels: after("--labels")?.split(',').map(str::to_owned).collect(),
            group: after("--runnergroup").map(str::to_owned),
            traced: traced || std::path::Path::new(trace).exists(),
        })
    }

    pub(crate) async fn set_cloud_init(&self, status: CloudInitStatus) -> bool {
        // What its own notes say would not be asked for.
        let script = r#"rm -f /run/cloud-init/status.json; echo "status: $1" >/run/forced-status"#;
        self.script(script, &[&status.to_string()]).await.is_some()
    }

    pub(crate) async fn put(&self, file: ExchangeFile, what: Planted) -> bool {
        let path = format!("{HOME}/metrics-exchange/{}", file.file_name());
        let place = r#"rm -f "$1"; "#;
        let (script, input): (&str, Vec<u8>) = match what {
            Planted::Nothing => ("", Vec::new()),
            Planted::Bytes(bytes) => (r#"cat >"$1"; chown runner: "$1""#, bytes),
            Planted::Symlink => (
                r#"cat >/home/runner/valid; chown runner: /home/runner/valid; ln -s /home/runner/valid "$1""#,
                valid(file).into(),
            ),
            Planted::Endless => (r#"mkfifo "$1"; chown runner: "$1""#, Vec::new()),
        };
        self.fed(&format!("{place}{script}"), &[&path], &input)
            .await
            .is_some()
    }

    /// Files that others than root and the runner's user may read, below what the backend and
    /// the boot write, each as `PATH\0CONTENT\0`; and what the guest API tells another user.
    pub(crate) async fn readable(&self) -> Vec<u8> {
        let script = r#"
            for top in /opt/runner-manager /var/lib/cloud /run/cloud-init /var/log /home/runner /tmp /dev/lxd; do
                setpriv --reuid nobody --regid nogroup --clear-groups \
                    find "$top" -xdev -type f -readable 2>/dev/null
            done | while IFS= read -r path; do
                printf '%s\0' "$path"
                setpriv --reuid nobody --regid nogroup --clear-groups head -c 262144 "$path" | tr '\0' ' '
                printf '\0'
            done"#;
        self.script(script, &[]).await.unwrap_or_default()
    }

    pub(crate) async fn guest_api(&self) -> Vec<u8> {
        let script = r#"setpriv --reuid nobody --regid nogroup --clear-groups python3 -c '
import socket
s = socket.socket(socket.AF_UNIX)
s.connect("/dev/lxd/sock" if __import__("os").path.exists("/dev/lxd/sock") else "/dev/incus/sock")
s.sendall(b"GET /1.0/config/user.user-data HTTP/1.0\r\nHost: x\r\n\r\n")
while True:
    b = s.recv(65536)
    if not b: break
    print(b.decode(errors="replace"), end="")
' 2>&1 || true"#;
        self.script(script, &[]).await.unwrap_or_default()
    }

    pub(crate) async fn arguments(&self) -> Vec<u8> {
        let script =
            r#"for p in /proc/[0-9]*; do tr '\0' ' ' <"$p/cmdline"; echo; done 2>/dev/null"#;
        self.script(script, &[]).await.unwrap_or_default()
    }
}

/// Valid metrics of every kind of file, behind a link.
fn valid(file: ExchangeFile) -> &'static str {
    match file {
        ExchangeFile::Installed => "1700000000\n",
        ExchangeFile::PreJob => {
            r#"{"timestamp":1700000000,"workflow":"a","workflow_run_id":"1","repository":"o/r","event":"push"}"#
        }
        ExchangeFile::PostJob => r#"{"timestamp":1700000000,"status":"normal"}"#,
    }
}

/// The instance's name as a path segment.
pub(crate) fn inside<'a>(server: &'a Server, project: &'a str, name: &RunnerName) -> Inside<'a> {
    Inside {
        server,
        project,
        name: name.to_string(),
    }
}
