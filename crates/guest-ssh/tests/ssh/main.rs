//! The pool of connections against a real OpenSSH server on loopback.

mod detour;
mod sshd;
mod terminal;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_manager_core::{Command, CommandOutput, Effect, ErrorKind, Exec};
use runner_manager_guest_ssh::{SshConfig, SshExec, SshPool, Target};
use sshd::Sshd;

const LIMIT: Duration = Duration::from_secs(20);

fn pool(config: SshConfig) -> SshPool {
    SshPool::new(config).expect("a pool")
}

#[tokio::test]
async fn a_command_has_empty_input_both_outputs_and_a_status() {
    let server = Sshd::start();
    let pool = Arc::new(pool(server.config()));
    let exec = SshExec::new(pool, server.target(1));
    let run = |argv: &[&str]| {
        let argv = argv.iter().map(|word| (*word).to_owned()).collect();
        exec.exec(Command {
            argv,
            timeout: LIMIT,
        })
    };
    let script = "cat; printf %s \"$1\"; echo oops >&2; exit 3";
    let nasty = "a 'b' \"c\" $(id) `id` \\ \n;&|*?";
    let output = run(&["sh", "-c", script, "sh", nasty])
        .await
        .expect("it runs");
    assert_eq!(output.status, Some(3));
    assert_eq!(String::from_utf8_lossy(&output.stdout), nasty);
    assert_eq!(output.stderr, b"oops\n");
    let killed = run(&["sh", "-c", "kill -9 $$"]).await.expect("it runs");
    assert_eq!(killed.status, None);
    let most = run(&["head", "-c", "1000000", "/dev/zero"])
        .await
        .expect("it runs");
    assert_eq!(
        (most.status, most.stdout.len()),
        (Some(0), CommandOutput::MAX_BYTES)
    );
    let nul = run(&["echo", "a\0b"]).await.expect_err("refused");
    assert_eq!(nul.kind(), ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn the_very_first_connection_is_verified() {
    let server = Sshd::start();
    let pool = pool(server.config());
    // The right client key, and another host key than the server has.
    let impostor = Sshd::start_with(sshd::keys(), &server.keys.client_public().expect("a key"));
    let target = Target {
        keys: Arc::clone(&server.keys),
        ..impostor.target(1)
    };
    let config = SshConfig {
        port: impostor.port,
        ..server.config()
    };
    let error = SshPool::new(config)
        .expect("a pool")
        .run(&target, "true", LIMIT)
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error}");
    assert_eq!(impostor.log_ins(), 0, "it was logged in to");
    assert!(pool.run(&server.target(1), "true", LIMIT).await.is_ok());
}

#[tokio::test]
async fn another_client_key_is_refused_and_kept_apart_from_unreachable() {
    let server = Sshd::start_with(sshd::keys(), &sshd::keys().client_public().expect("a key"));
    let pool = pool(server.config());
    let error = pool
        .run(&server.target(1), "true", LIMIT)
        .await
        .expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert_eq!(pool.kept(), 0);
}

#[tokio::test]
async fn a_connection_serves_many_commands_and_is_made_anew_when_it_broke() {
    let server = Sshd::start();
    let pool = pool(server.config());
    let target = server.target(1);
    let runs = (0..20).map(|_| pool.run(&target, "true", LIMIT));
    for output in futures::future::join_all(runs).await {
        assert_eq!(output.expect("it runs").status, Some(0));
    }
    assert_eq!(server.log_ins(), 1, "{}", server.log());
    // The server's end of it is killed, first while a command runs, then in between.
    let error = pool
        .run(&target, "kill -9 $PPID; sleep 5", LIMIT)
        .await
        .expect_err("lost");
    assert_eq!(
        (error.kind(), error.effect()),
        (ErrorKind::Unreachable, Effect::Unknown),
        "{error}"
    );
    pool.run(
        &target,
        "(sleep 0.3; kill -9 $PPID) >/dev/null 2>&1 &",
        LIMIT,
    )
    .await
    .expect("it runs");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        pool.run(&target, "true", LIMIT)
            .await
            .expect("it runs")
            .status,
        Some(0)
    );
    assert_eq!(server.log_ins(), 3, "{}", server.log());
    pool.forget(&target.id);
    assert_eq!(pool.kept(), 0);
}

#[tokio::test]
async fn a_pass_over_many_takes_as_long_as_the_slowest_not_as_their_sum() {
    let server = Sshd::start();
    let pool = pool(server.config());
    let targets: Vec<Target> = (1..=16).map(|n| server.target(n)).collect();
    let pass = |command: &'static str| {
        let runs: Vec<_> = targets
            .iter()
            .map(|t| pool.run(t, command, LIMIT))
            .collect();
        futures::future::join_all(runs)
    };
    assert!(pass("true").await.iter().all(Result::is_ok));
    let start = Instant::now();
    assert!(pass("sleep 1").await.iter().all(Result::is_ok));
    let took = start.elapsed();
    assert!(
        took < Duration::from_secs(8),
        "16 guests of 1 s each took {took:?}"
    );
    assert_eq!(server.log_ins(), 16);
}

#[tokio::test]
async fn bounds_hold_for_commands_at_once_and_for_connections_kept() {
    let server = Sshd::start();
    let config = SshConfig {
        concurrency: 2,
        max_connections: 3,
        ..server.config()
    };
    let pool = pool(config);
    let dir = server.folder();
    let count = format!(
        "d={}/on.$$; : >$d; ls {}/on.* | wc -l; sleep 0.3; rm $d",
        dir.display(),
        dir.display()
    );
    let targets: Vec<Target> = (1..=8).map(|n| server.target(n)).collect();
    let runs = targets.iter().map(|t| pool.run(t, &count, LIMIT));
    for output in futures::future::join_all(runs).await {
        let output = output.expect("it runs");
        let at_once: usize = String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .expect("a number");
        assert!(at_once <= 2, "{at_once} commands ran at once");
    }
    assert!(pool.kept() <= 3, "{} connections are kept", pool.kept());
}

#[tokio::test]
async fn what_takes_too_long_is_cut_off() {
    let server = Sshd::start();
    let pool = pool(server.config());
    let target = server.target(1);
    for command in ["sleep 60", "exec yes"] {
        let cut = pool.run(&target, command, Duration::from_secs(1)).await;
        let error = cut.expect_err("cut off");
        assert_eq!(
            (error.kind(), error.effect()),
            (ErrorKind::TimedOut, Effect::Unknown),
            "{error}"
        );
        assert_eq!(pool.kept(), 0, "a cut connection is kept");
    }
    assert!(pool.run(&target, "true", LIMIT).await.is_ok());
}

#[tokio::test]
async fn a_dropped_command_takes_its_connection_with_it() {
    let server = Sshd::start();
    let pool = pool(server.config());
    let target = server.target(1);
    let run = pool.run(&target, "sleep 60", LIMIT);
    assert!(
        tokio::time::timeout(Duration::from_secs(2), run)
            .await
            .is_err()
    );
    assert_eq!(pool.kept(), 0);
    let end = Instant::now() + Duration::from_secs(20);
    while !server.log().contains("Connection closed") && !server.log().contains("disconnect") {
        assert!(Instant::now() < end, "still connected: {}", server.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_closed_port_is_unreachable_and_a_silent_host_is_late() {
    let server = Sshd::start();
    let mute = TcpListener::bind((server.target(1).address, 0)).expect("a port");
    let port = mute.local_addr().expect("an address").port();
    let config = SshConfig {
        port,
        connect_seconds: 1,
        ..server.config()
    };
    let silent = pool(config);
    let target = server.target(1);
    let error = silent
        .run(&target, "true", LIMIT)
        .await
        .expect_err("silent");
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    drop(mute);
    let error = silent
        .run(&target, "true", LIMIT)
        .await
        .expect_err("closed");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}
