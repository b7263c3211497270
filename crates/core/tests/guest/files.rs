//! Exchange files, as a hostile job leaves them.

use std::os::unix::fs::symlink;
use std::process::Command;

use runner_manager_core::{ExchangeFile, Guest, GuestFile};

use crate::instance::{Instance, shells};

const NAME: &str = "pre-job-metrics.json";

#[tokio::test]
async fn only_small_regular_files_are_read() {
    for shell in shells() {
        let instance = Instance::start();
        let guest = instance.guest(&shell);
        let file = instance.exchange(NAME);
        let read = async || guest.read_file(ExchangeFile::PreJob).await.expect("read");
        let refused = async |what: &str| {
            let found = read().await;
            assert!(matches!(found, GuestFile::Refused(_)), "{what}: {found:?}");
            // Folders and files alike.
            let _ = std::fs::remove_file(&file).or_else(|_| std::fs::remove_dir(&file));
        };
        assert_eq!(read().await, GuestFile::Absent, "{shell:?}");

        let nasty: Vec<u8> = (0..=255).cycle().take(1024).collect();
        std::fs::write(&file, &nasty).expect("a file");
        assert_eq!(read().await, GuestFile::Bytes(nasty), "{shell:?}");
        std::fs::write(&file, "").expect("a file");
        assert_eq!(read().await, GuestFile::Bytes(Vec::new()), "{shell:?}");
        std::fs::write(&file, "x".repeat(1025)).expect("a file");
        refused("too large").await;

        let endless = std::fs::File::create(&file).expect("a file");
        endless.set_len(1 << 40).expect("a file with a hole");
        refused("endless").await;
        symlink("/etc/passwd", &file).expect("a link");
        refused("a link").await;
        symlink("/dev/zero", &file).expect("a link");
        refused("a link to a device").await;
        symlink("nowhere", &file).expect("a link");
        refused("a link to nothing").await;
        std::fs::create_dir(&file).expect("a folder");
        refused("a folder").await;
        let mkfifo = Command::new("mkfifo").arg(&file).status();
        assert!(mkfifo.expect("mkfifo").success());
        refused("a pipe").await;
        let socket = std::os::unix::net::UnixListener::bind(&file).expect("a socket");
        refused("a socket").await;
        drop(socket);

        let (real, moved) = (instance.path("exchange"), instance.path("moved"));
        std::fs::rename(&real, &moved).expect("a move");
        std::fs::write(moved.join(NAME), "{}").expect("a file");
        symlink(&moved, &real).expect("a link");
        refused("a folder that is a link").await;
        std::fs::remove_file(&real).expect("no link");
        assert_eq!(read().await, GuestFile::Absent, "no folder: {shell:?}");
    }
}
