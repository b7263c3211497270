//! The peers: the real servers that backends are tested against.
//!
//! `tests/peers/SCHEME/up.sh` builds a root file system for the servers, starts them in it and
//! writes `KEY=VALUE` lines to `$PEER_STATE/env`; `down.sh` stops exactly what `up.sh` started.
//! Nothing is installed into the host. Where `$PEER_RUNNER` is set, it is the stand-in runner, built
//! already; where `$PEER_INSTALL_ONLY` is, `up.sh` ends before it starts a server. A backend without
//! an `up.sh` needs no peer.

use crate::failure::{Failure, Result};
use crate::{process, workspace};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How long a peer may take to build and start, and to stop, in seconds.
const UP_WITHIN: u32 = 1_500;
const DOWN_WITHIN: u32 = 300;

/// The peer of one backend.
#[derive(Debug)]
pub(crate) struct Peer {
    scheme: String,
    scripts: PathBuf,
    state: PathBuf,
    /// The stand-in runner, where it is built already.
    runner: Option<PathBuf>,
}

impl Peer {
    /// The peer of a scheme.
    pub(crate) fn of(root: &Path, scheme: &str) -> Self {
        Self {
            scheme: scheme.to_owned(),
            scripts: root.join("tests/peers").join(scheme),
            state: workspace::target(root).join("peers").join(scheme),
            runner: None,
        }
    }

    /// Gives it the stand-in runner (`github-sim`), which it would build by itself.
    pub(crate) fn with_runner(self, program: PathBuf) -> Self {
        Self {
            runner: Some(program),
            ..self
        }
    }

    fn is_needed(&self) -> bool {
        self.scripts.join("up.sh").exists()
    }

    /// Whether somebody started it before, and has not stopped it.
    pub(crate) fn is_up(&self) -> bool {
        self.env_file().exists()
    }

    fn env_file(&self) -> PathBuf {
        self.state.join("env")
    }

    /// Starts the peer, if it is not up; what was started by half is stopped again.
    pub(crate) fn up(&self) -> Result<()> {
        if !self.is_needed() {
            println!("`{}` needs no peer", self.scheme);
            return Ok(());
        }
        let up = fs::create_dir_all(&self.state)
            .map_err(Failure::because("cannot make the peer's folder"))
            .and_then(|()| self.script("up.sh", UP_WITHIN));
        match up {
            Ok(()) if self.is_up() => Ok(()),
            Ok(()) => self.fail("up.sh wrote no `$PEER_STATE/env`"),
            Err(failure) => self.fail(&failure.to_string()),
        }
    }

    fn fail(&self, why: &str) -> Result<()> {
        let scheme = &self.scheme;
        let down = match self.down() {
            Ok(()) => String::new(),
            Err(failure) => format!("; and {failure}"),
        };
        Err(Failure::new(format!(
            "cannot start the peer of `{scheme}`: {why}{down}; its logs are in {}",
            self.state.display()
        )))
    }

    /// Stops what `up` started. Nothing to stop is fine.
    pub(crate) fn down(&self) -> Result<()> {
        if !self.is_needed() || !self.state.exists() {
            return Ok(());
        }
        self.script("down.sh", DOWN_WITHIN)?;
        match fs::remove_file(self.env_file()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Failure::because("cannot forget the peer")(error))
            }
            _ => Ok(()),
        }
    }

    /// What a test of the backend gets into its environment.
    pub(crate) fn environment(&self) -> Result<Vec<(String, String)>> {
        if !self.is_needed() {
            return Ok(Vec::new());
        }
        let file = self.env_file();
        let text = fs::read_to_string(&file)
            .map_err(Failure::because(format!("cannot read {}", file.display())))?;
        parse(&text)
    }

    /// Does something while the peer is up, with its environment.
    pub(crate) fn during(
        &self,
        work: impl FnOnce(&[(String, String)]) -> Result<()>,
    ) -> Result<()> {
        let was_up = self.is_up();
        self.up()?;
        let done = self
            .environment()
            .and_then(|environment| work(&environment));
        let stopped = if was_up { Ok(()) } else { self.down() };
        done.and(stopped)
    }

    /// Builds its root file system, without a word unless it fails, and starts nothing.
    pub(crate) fn install(&self) -> Result<()> {
        if !self.is_needed() {
            return Ok(());
        }
        fs::create_dir_all(&self.state)
            .map_err(Failure::because("cannot make the peer's folder"))?;
        let mut script = self.command("up.sh", UP_WITHIN);
        let output = process::capture(script.env("PEER_INSTALL_ONLY", "yes"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(Failure::new(format!(
            "the root file system of the peer of `{}` is not built ({}): {}",
            self.scheme,
            output.status,
            said.trim_end()
        )))
    }

    fn script(&self, name: &str, seconds: u32) -> Result<()> {
        process::stream(&mut self.command(name, seconds))
    }

    fn command(&self, name: &str, seconds: u32) -> Command {
        // `timeout` kills what hangs, with all of its children.
        let mut command = Command::new("timeout");
        command
            .args(["--kill-after=30", &seconds.to_string()])
            .arg(self.scripts.join(name))
            .current_dir(&self.scripts)
            .env("PEER_STATE", &self.state)
            .envs(self.runner.iter().map(|program| ("PEER_RUNNER", program)))
            .stdin(Stdio::null());
        command
    }
}

/// The folder that a package of Debian is unpacked to, without what it depends on.
pub(crate) fn unpacked(root: &Path, package: &str) -> Result<PathBuf> {
    let mut script = Command::new(root.join("tests/peers/chroot/unpack.sh"));
    script
        .arg(workspace::target(root).join("peers"))
        .arg(package);
    Ok(process::stdout(&mut script)?.trim().into())
}

/// What a build of the backend `libvirt` needs in its environment: nothing where the host has
/// libvirt's headers, and else those that are unpacked below `target`. Every build with the feature
/// needs the same, or cargo builds what uses `pkg-config` anew.
pub(crate) fn headers(root: &Path) -> Result<Vec<(String, OsString)>> {
    let mut ask = Command::new("pkg-config");
    if process::capture(ask.args(["--exists", "libvirt"])).is_ok_and(|o| o.status.success()) {
        return Ok(Vec::new());
    }
    let mut script = Command::new(root.join("tests/peers/chroot/headers.sh"));
    let script = script.arg(workspace::target(root).join("peers"));
    let folder = PathBuf::from(process::stdout(script)?.trim());
    let before = |name: &str, part: &str| {
        let rest = std::env::var_os(name).unwrap_or_default();
        let rest = std::env::split_paths(&rest).filter(|path| !path.as_os_str().is_empty());
        let paths = std::env::join_paths(std::iter::once(folder.join(part)).chain(rest))
            .map_err(Failure::because("the path of the headers holds a `:`"))?;
        Ok((name.to_owned(), paths))
    };
    Ok(vec![
        before("PKG_CONFIG_PATH", "pkgconfig")?,
        // For the linker, and for what it links.
        before("LD_LIBRARY_PATH", "lib")?,
        (
            "PKG_CONFIG".to_owned(),
            folder.join("bin/pkg-config").into(),
        ),
    ])
}

/// Reads `KEY=VALUE` lines; empty lines and `#` comments are left out.
fn parse(text: &str) -> Result<Vec<(String, String)>> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| match line.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Failure::new(format!(
                "the peer's env holds {line:?}, which is not `KEY=VALUE`"
            ))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn peer(up: Option<&str>, down: &str) -> (tempfile::TempDir, Peer) {
        let root = tempfile::tempdir().expect("a temporary folder");
        let peer = Peer {
            scheme: "x".into(),
            scripts: root.path().join("scripts"),
            state: root.path().join("state"),
            runner: None,
        };
        fs::create_dir(&peer.scripts).expect("a folder");
        for (name, text) in [("up.sh", up), ("down.sh", Some(down))] {
            if let Some(text) = text {
                let path = peer.scripts.join(name);
                fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
                fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
            }
        }
        (root, peer)
    }

    #[test]
    fn a_peer_that_starts_gives_its_environment_until_it_is_stopped() {
        let (_root, peer) = peer(
            Some("printf '# x\\n\\nA=1\\nB=c=d\\n' >\"$PEER_STATE/env\""),
            "echo stopped >\"$PEER_STATE/down\"",
        );
        peer.down().expect("nothing to stop");
        peer.up().expect("it starts");
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = vec![pair("A", "1"), pair("B", "c=d")];
        assert_eq!(peer.environment(), Ok(expected));
        peer.down().expect("it stops");
        assert!(!peer.is_up() && peer.state.join("down").exists());
    }

    #[test]
    fn a_peer_that_fails_to_start_is_stopped_and_is_an_error() {
        for (up, word) in [("exit 3", "3"), ("true", "wrote no")] {
            let (_root, peer) = peer(Some(up), "echo stopped >\"$PEER_STATE/down\"");
            let failure = peer.up().expect_err("it fails").to_string();
            assert!(failure.contains(word), "{failure}");
            assert!(peer.state.join("down").exists());
        }
    }

    #[test]
    fn a_backend_without_a_script_needs_no_peer() {
        let (_root, peer) = peer(None, "exit 1");
        peer.up().expect("nothing to start");
        assert_eq!(peer.environment(), Ok(Vec::new()));
        peer.down().expect("nothing to stop");
    }

    #[test]
    fn lines_that_are_no_pairs_are_refused() {
        assert!(parse("A").is_err() && parse("=1").is_err());
    }
}
