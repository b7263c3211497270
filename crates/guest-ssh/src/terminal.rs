//! A shell on an instance, in the terminal of whoever asks for it, by OpenSSH's client.

use std::path::Path;

use runner_manager_core::{Error, ErrorKind, Result};

use crate::config::SshConfig;
use crate::pool::Target;

/// The words that start it. They hold paths and public keys, and no secret.
pub(crate) fn words(config: &SshConfig, target: &Target) -> Result<Vec<String>> {
    let unsupported = |text: &str| Error::new(ErrorKind::Unsupported, text);
    let no_file = || unsupported("the runner's key is in no file");
    let broken = |e| Error::new(ErrorKind::Local, "cannot encode an SSH key").with_source(e);
    let host_key = target.keys.host_public().to_openssh().map_err(broken)?;
    let mut key = host_key.split_whitespace().take(2);
    let (kind, data) = (
        key.next().unwrap_or_default(),
        key.next().unwrap_or_default(),
    );
    let file = target.keys.file().ok_or_else(no_file)?;
    let mut words = client(file, config.port, &format!("/bin/echo %H {kind} {data}"));
    if let Some(jump) = &config.jump {
        // OpenSSH reads the line with a shell, for which the words are quoted, and replaces `%`.
        let known = format!("/bin/echo %%H {}", jump.host_key);
        let mut through = client(&jump.key_file, jump.port, &known);
        through.extend([
            "-W".into(),
            "[%h]:%p".into(),
            format!("{}@{}", jump.user, jump.host),
        ]);
        words.push("-o".into());
        words.push(format!("ProxyCommand={}", joined(&through)?));
    } else if !config.proxy_command.is_empty() {
        words.push("-o".into());
        words.push(format!("ProxyCommand={}", joined(&config.proxy_command)?));
    }
    words.push(format!("{}@{}", config.user, target.address));
    Ok(words)
}

fn client(key: &Path, port: u16, known: &str) -> Vec<String> {
    let mut words = vec!["ssh".to_owned(), "-F".into(), "none".into()];
    words.extend([
        "-i".into(),
        key.display().to_string(),
        "-p".into(),
        port.to_string(),
    ]);
    for option in [
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=yes",
        "UserKnownHostsFile=/dev/null",
        &format!("KnownHostsCommand={known}"),
    ] {
        words.extend(["-o".into(), option.to_owned()]);
    }
    words
}

fn joined(words: &[String]) -> Result<String> {
    shlex::try_join(words.iter().map(String::as_str)).map_err(|e| {
        Error::new(
            ErrorKind::InvalidConfig,
            "the proxy command cannot be quoted",
        )
        .with_source(e)
    })
}
