//! A shell in a terminal, as an operator types into it: OpenSSH's client in a pty of util-linux.

use std::io::{Read as _, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use runner_manager_core::RunnerName;
use runner_manager_guest_ssh::{KeyFolder, RunnerKeys, Target};

use crate::pool;
use crate::sshd::{self, Sshd};

/// Keys in a file, where OpenSSH's client finds them.
fn keys(folder: &tempfile::TempDir) -> Arc<RunnerKeys> {
    let name: RunnerName = "app-0123456789ab".parse().expect("a name");
    let folder = KeyFolder::open(folder.path()).expect("a folder");
    Arc::new(folder.obtain(&name).expect("keys"))
}

/// Runs a program in a terminal of its own and types; how it ended, and what the terminal showed.
fn in_a_terminal(words: &[String], typed: &str) -> (ExitStatus, String) {
    let line = shlex::try_join(words.iter().map(String::as_str)).expect("words");
    let mut child = Command::new("timeout")
        .args(["60", "script", "-q", "-e", "-c", &line, "/dev/null"])
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("util-linux has it");
    // It stays open: its end would be one of the shell's input, before the shell is there.
    let mut keyboard = child.stdin.take().expect("a pipe");
    keyboard.write_all(typed.as_bytes()).expect("typed");
    let mut shown = String::new();
    let mut screen = child.stdout.take().expect("a pipe");
    screen.read_to_string(&mut shown).expect("text");
    (child.wait().expect("a child"), shown)
}

#[tokio::test]
async fn a_shell_is_interactive_and_ends_with_the_code_of_its_exit() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = keys(&folder);
    let client = keys.client_public().expect("a key");
    let server = Sshd::start_with(keys, &client);
    let words = pool(server.config())
        .terminal(&server.target(3))
        .expect("words");
    // What is typed is shown too, but not its result. A shell that has no terminal says nothing.
    let typed = "test -t 0 && echo at-${SSH_CONNECTION#* * }-$((40 + 2))\nexit 7\n";
    let (status, shown) = in_a_terminal(&words, typed);
    let expected = format!("at-{} {}-42", server.target(3).address, server.port);
    assert!(shown.contains(&expected), "{shown}\n{}", server.log());
    assert_eq!(status.code(), Some(7), "{shown}");
    assert_eq!(server.log_ins(), 1, "{}", server.log());
}

#[tokio::test]
async fn a_shell_opens_on_no_host_but_the_runners_and_asks_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = keys(&folder);
    // The right client key, and another host key than the runner's.
    let impostor = Sshd::start_with(sshd::keys(), &keys.client_public().expect("a key"));
    let target = Target {
        keys,
        ..impostor.target(1)
    };
    let words = pool(impostor.config()).terminal(&target).expect("words");
    let (status, shown) = in_a_terminal(&words, "yes\nexit 0\n");
    assert_eq!(status.code(), Some(255), "{shown}");
    assert!(shown.contains("Host key verification failed"), "{shown}");
    assert_eq!(impostor.log_ins(), 0, "{}", impostor.log());
}
