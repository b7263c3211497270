//! The inside of a guest, and what the harness does there. `tests/peers/libvirt/guest/runner` is
//! the runner.

use runner_manager_conformance::{JobFate, Planted, Received};
use runner_manager_core::{CloudInitStatus, ExchangeFile, RunnerName};

use crate::site::Site;

const HOME: &str = "/home/ubuntu";

/// One guest, reached by the agent through `virsh`.
pub(crate) struct Inside<'a> {
    site: &'a Site,
    name: String,
}

impl<'a> Inside<'a> {
    pub(crate) fn new(site: &'a Site, name: &RunnerName) -> Self {
        let name = name.to_string();
        Self { site, name }
    }

    async fn script(&self, script: &str, words: &[&str]) -> Option<Vec<u8>> {
        self.site.script(&self.name, script, words, b"").await
    }

    /// Offers a job to a runner that listens; one that does not takes none.
    pub(crate) async fn offer_job(&self) {
        let script = "test -p /home/ubuntu/jobs && exec 3<>/home/ubuntu/jobs && echo job >&3";
        self.script(script, &[]).await;
    }

    pub(crate) async fn job_fate(&self) -> JobFate {
        let script = r#"
            test -s /home/ubuntu/begun || { echo no; exit; }
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
        let bytes = self.script("cat /home/ubuntu/received", &[]).await?;
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
        let script = r#"echo "status: $1" >/run/guest-cloud-init.forced"#;
        self.script(script, &[&status.to_string()]).await.is_some()
    }

    pub(crate) async fn put(&self, file: ExchangeFile, what: Planted) -> bool {
        let path = format!("{HOME}/metrics-exchange/{}", file.file_name());
        let (first, input): (&str, Vec<u8>) = match what {
            Planted::Nothing => ("", Vec::new()),
            Planted::Bytes(bytes) => (r#"install -o ubuntu -g ubuntu /dev/null "$1""#, bytes),
            Planted::Symlink => (
                r#"install -o ubuntu -g ubuntu /dev/null /home/ubuntu/valid
                   ln -s /home/ubuntu/valid "$1""#,
                valid(file).into(),
            ),
            Planted::Endless => (r#"mkfifo "$1"; chown ubuntu: "$1""#, Vec::new()),
        };
        let first = format!(r#"rm -f "$1"; {first}"#);
        let words = [path.as_str()];
        let mut done = self.script(&first, &words).await.is_some();
        // In pieces that fit one argument of `virsh`.
        for piece in input.chunks(88 << 10) {
            let append = r#"cat >>"$1""#;
            let appended = self.site.script(&self.name, append, &words, piece);
            done &= appended.await.is_some();
        }
        done
    }

    /// Files that others than root and the runner's user may read, below what the backend and
    /// the boot write, and its disks, each as `PATH\0CONTENT\0`.
    pub(crate) async fn readable(&self) -> Vec<u8> {
        let script = r#"
            as_nobody() {
                setpriv --reuid nobody --regid nogroup --clear-groups "$@"
            }
            {
                for top in /opt/runner-manager /var/lib/cloud /run /var/log /home/ubuntu /tmp; do
                    as_nobody find "$top" -xdev -type f -readable 2>/dev/null
                done
                as_nobody find /dev/vda /dev/vdb /run/seed -readable 2>/dev/null
            } | while IFS= read -r path; do
                printf '%s\0' "$path"
                as_nobody head -c 262144 "$path" 2>/dev/null | tr '\0' ' '
                printf '\0'
            done"#;
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
