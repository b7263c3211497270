//! Through a jump host, and through a program.

use runner_manager_core::{ErrorKind, RunnerName};
use runner_manager_guest_ssh::{JumpHost, KeyFolder, SshConfig, SshPool};

use crate::sshd::{self, Sshd, write_private};
use crate::{LIMIT, pool};

/// The server as a jump host, and the file of a key that it lets in.
fn jump() -> (Sshd, JumpHost) {
    let folder = tempfile::tempdir().expect("a folder");
    let name: RunnerName = "jump-0123456789ab".parse().expect("a name");
    let keys = KeyFolder::open(folder.path())
        .expect("a folder")
        .obtain(&name)
        .expect("keys");
    // The file holds two keys; the first is the client's.
    let text = std::fs::read_to_string(folder.path().join(format!("{name}.key"))).expect("a file");
    let client = text
        .split_inclusive("-----END OPENSSH PRIVATE KEY-----\n")
        .next()
        .expect("a key");
    let server = Sshd::start_with(sshd::keys(), &keys.client_public().expect("a key"));
    let key_file = server.folder().join("jump.key");
    write_private(&key_file, client);
    let part = server.keys.cloud_config().expect("a part");
    let host_key = part
        .expose()
        .lines()
        .find_map(|l| l.trim().strip_prefix("ed25519_public: "));
    let jump = JumpHost {
        host: server.target(1).address.to_string(),
        port: server.port,
        user: sshd::user(),
        key_file,
        host_key: serde_json::from_str(host_key.expect("a key")).expect("a string"),
    };
    (server, jump)
}

#[tokio::test]
async fn a_jump_host_carries_all_connections_over_one_of_its_own() {
    let server = Sshd::start();
    let (bastion, jump) = jump();
    let pool = pool(SshConfig {
        jump: Some(jump),
        ..server.config()
    });
    for n in 1..=4 {
        let output = pool
            .run(&server.target(n), "echo here", LIMIT)
            .await
            .expect("it runs");
        assert_eq!(output.stdout, b"here\n");
    }
    assert_eq!(
        (bastion.log_ins(), server.log_ins()),
        (1, 4),
        "{}",
        bastion.log()
    );
}

#[tokio::test]
async fn a_jump_host_with_another_key_is_refused() {
    let server = Sshd::start();
    let (bastion, jump) = jump();
    let (_other, other_jump) = self::jump();
    let jump = JumpHost {
        host_key: other_jump.host_key,
        ..jump
    };
    let pool = pool(SshConfig {
        jump: Some(jump),
        ..server.config()
    });
    let error = pool
        .run(&server.target(1), "true", LIMIT)
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    assert_eq!(bastion.log_ins(), 0);
}

#[tokio::test]
async fn a_jump_host_that_is_away_says_nothing_about_the_instance() {
    let server = Sshd::start();
    let (bastion, mut jump) = jump();
    jump.port = 1;
    let pool = pool(SshConfig {
        jump: Some(jump),
        ..server.config()
    });
    let error = pool
        .run(&server.target(1), "true", LIMIT)
        .await
        .expect_err("no way");
    assert_eq!(error.kind(), ErrorKind::Unexpected, "{error}");
    drop(bastion);
}

#[tokio::test]
async fn behind_a_jump_host_a_closed_port_is_unreachable() {
    let server = Sshd::start();
    let (_bastion, jump) = jump();
    let config = SshConfig {
        jump: Some(jump),
        port: 1,
        ..server.config()
    };
    let error = pool(config)
        .run(&server.target(1), "true", LIMIT)
        .await
        .expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
}

#[tokio::test]
async fn a_proxy_command_carries_the_connection_and_ends_with_it() {
    let server = Sshd::start();
    let (bastion, jump) = jump();
    let words = format!(
        "ssh -q -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -i {} -p {} -W %h:%p {}@{}",
        jump.key_file.display(),
        jump.port,
        jump.user,
        jump.host
    );
    let proxy_command = words.split(' ').map(str::to_owned).collect();
    let pool = pool(SshConfig {
        proxy_command,
        ..server.config()
    });
    let output = pool
        .run(&server.target(2), "echo here", LIMIT)
        .await
        .expect("it runs");
    assert_eq!(output.stdout, b"here\n");
    assert_eq!((bastion.log_ins(), server.log_ins()), (1, 1));
    pool.forget(&server.target(2).id);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !bastion.log().contains("Connection closed") && !bastion.log().contains("disconnect") {
        assert!(std::time::Instant::now() < end, "{}", bastion.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_words_of_a_terminal_lead_to_the_same_host_by_the_same_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let name: RunnerName = "app-0123456789ab".parse().expect("a name");
    let keys = KeyFolder::open(folder.path())
        .expect("a folder")
        .obtain(&name)
        .expect("keys");
    let client = keys.client_public().expect("a key");
    let server = Sshd::start_with(std::sync::Arc::new(keys), &client);
    let (bastion, jump) = jump();
    for jump in [None, Some(jump)] {
        let pool = pool(SshConfig {
            jump,
            ..server.config()
        });
        let mut words = pool.terminal(&server.target(3)).expect("words");
        words.push("echo here".into());
        let run = std::process::Command::new(&words[0])
            .args(&words[1..])
            .output()
            .expect("it runs");
        assert_eq!(
            run.stdout,
            b"here\n",
            "{words:?} {}",
            String::from_utf8_lossy(&run.stderr)
        );
    }
    assert_eq!((bastion.log_ins(), server.log_ins()), (1, 2));
}

#[tokio::test]
async fn a_proxy_command_that_cannot_start_says_so() {
    let server = Sshd::start();
    let proxy_command = vec!["/nonexistent/proxy".to_owned(), "%h".to_owned()];
    let pool = SshPool::new(SshConfig {
        proxy_command,
        ..server.config()
    })
    .expect("a pool");
    let error = pool
        .run(&server.target(1), "true", LIMIT)
        .await
        .expect_err("no program");
    assert_eq!(error.kind(), ErrorKind::Local, "{error}");
    assert!(error.to_string().contains("/nonexistent/proxy"), "{error}");
}
