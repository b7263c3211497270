//! The keys of runners: made here, kept here.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::Rng as _;
use runner_manager_core::{Error, ErrorKind, NamePrefix, Result, RunnerName, Secret};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::Ed25519Keypair;
use russh::keys::{PrivateKey, PublicKey};

/// The two keys of one runner: the one that the manager logs in with, and the one that the
/// instance proves itself with.
pub struct RunnerKeys {
    client: Arc<PrivateKey>,
    host: PrivateKey,
    file: Option<PathBuf>,
}

impl std::fmt::Debug for RunnerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunnerKeys(***)")
    }
}

fn broken(error: russh::keys::ssh_key::Error) -> Error {
    Error::new(ErrorKind::Local, "cannot encode an SSH key").with_source(error)
}

/// A new ed25519 key.
fn ed25519(comment: &str) -> Result<PrivateKey> {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    PrivateKey::new(Ed25519Keypair::from_seed(&seed).into(), comment).map_err(broken)
}

impl RunnerKeys {
    /// New keys. The comment of the client's is `runner-manager:NAME`: a cloud shows it with the
    /// key pair, as proof of whose it is.
    ///
    /// # Errors
    /// [`ErrorKind::Local`].
    pub fn generate(name: &RunnerName) -> Result<Self> {
        let comment = format!("runner-manager:{name}");
        Ok(Self {
            client: Arc::new(ed25519(&comment)?),
            host: ed25519(&comment)?,
            file: None,
        })
    }

    pub(crate) fn client(&self) -> Arc<PrivateKey> {
        Arc::clone(&self.client)
    }

    /// The file that they were read from, whose first key is the client's.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    pub(crate) fn host_public(&self) -> &PublicKey {
        self.host.public_key()
    }

    /// The client's public key, `ssh-ed25519 AAAA… COMMENT`: what the cloud is given.
    ///
    /// # Errors
    /// [`ErrorKind::Local`].
    pub fn client_public(&self) -> Result<String> {
        self.client.public_key().to_openssh().map_err(broken)
    }

    /// A `#cloud-config` part that places the host key, and takes every other kind off. It
    /// holds the host's private key: who reads it can pose as this one instance, and no more.
    ///
    /// # Errors
    /// [`ErrorKind::Local`].
    pub fn cloud_config(&self) -> Result<Secret> {
        let private = self.host.to_openssh(LineEnding::LF).map_err(broken)?;
        let public = self.host.public_key().to_openssh().map_err(broken)?;
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let (private, public) = (quoted(&private), quoted(&public));
        // JSON strings are YAML strings.
        Ok(Secret::new(format!(
            "#cloud-config\nssh_deletekeys: true\nssh_keys:\n  ed25519_private: {private}\n  ed25519_public: {public}\n"
        )))
    }

    fn to_text(&self) -> Result<String> {
        let text = |key: &PrivateKey| key.to_openssh(LineEnding::LF).map_err(broken);
        Ok(format!("{}{}", *text(&self.client)?, *text(&self.host)?))
    }

    fn from_text(text: &str) -> Result<Self> {
        const END: &str = "-----END OPENSSH PRIVATE KEY-----\n";
        let bad = || Error::new(ErrorKind::Local, "the file does not hold two private keys");
        let middle = text.find(END).ok_or_else(bad)? + END.len();
        let (client, host) = text.split_at(middle);
        let key = |text: &str| PrivateKey::from_openssh(text).map_err(|e| bad().with_source(e));
        Ok(Self {
            client: Arc::new(key(client)?),
            host: key(host)?,
            file: None,
        })
    }
}

/// The turn to make or finish one runner. It ends when it is dropped, or with the process.
#[derive(Debug)]
pub struct Turn {
    _file: std::fs::File,
}

/// The folder of the runners' keys: one file a runner, mode 0600, in a folder of mode 0700.
#[derive(Debug, Clone)]
pub struct KeyFolder {
    path: PathBuf,
}

impl KeyFolder {
    /// Opens the folder, and makes it when absent. Blocking, as all of it.
    ///
    /// # Errors
    /// [`ErrorKind::Local`], with the path.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path);
        made.map_err(|e| local("cannot make the folder of keys", &path, e))?;
        Ok(Self { path })
    }

    fn file(&self, name: &RunnerName) -> PathBuf {
        self.path.join(format!("{name}.key"))
    }

    /// The keys of a runner, made and stored when there are none.
    ///
    /// # Errors
    /// [`ErrorKind::Local`], with the path.
    pub fn obtain(&self, name: &RunnerName) -> Result<RunnerKeys> {
        if let Some(keys) = self.load(name)? {
            return Ok(keys);
        }
        let keys = RunnerKeys::generate(name)?;
        let path = self.file(name);
        // Whole or not at all: a name of its own, then a link, which fails where one is there.
        let mut random = [0; 8];
        rand::rng().fill_bytes(&mut random);
        let draft = self
            .path
            .join(format!("{name}.{:016x}.new", u64::from_ne_bytes(random)));
        let write = || {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(keys.to_text().map_err(std::io::Error::other)?.as_bytes())?;
            file.sync_all()?;
            std::fs::hard_link(&draft, &path)
        };
        let written = write();
        let _ = std::fs::remove_file(&draft);
        match written {
            Ok(()) => Ok(RunnerKeys {
                file: Some(path),
                ..keys
            }),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let there = self.load(name)?;
                there.ok_or_else(|| local("cannot store the runner's keys", &path, e))
            }
            Err(e) => Err(local("cannot store the runner's keys", &path, e)),
        }
    }

    /// The keys of a runner, made when there are none, and the turn to do something with them;
    /// `None` while somebody else has it, in this process or another.
    ///
    /// # Errors
    /// [`ErrorKind::Local`], with the path.
    pub fn try_take(&self, name: &RunnerName) -> Result<Option<(RunnerKeys, Turn)>> {
        let keys = self.obtain(name)?;
        let path = self.file(name);
        let failed = |e| local("cannot lock the runner's keys", &path, e);
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            // It was removed just now.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(e)) => return Err(failed(e)),
        }
        let is_there = match std::fs::metadata(&path) {
            Ok(there) => there.ino() == file.metadata().map_err(failed)?.ino(),
            Err(_) => false,
        };
        Ok(is_there.then_some((keys, Turn { _file: file })))
    }

    /// The keys of a runner, if there are any.
    ///
    /// # Errors
    /// [`ErrorKind::Local`], with the path.
    pub fn load(&self, name: &RunnerName) -> Result<Option<RunnerKeys>> {
        let path = self.file(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => RunnerKeys::from_text(&text)
                .map(|keys| {
                    Some(RunnerKeys {
                        file: Some(path.clone()),
                        ..keys
                    })
                })
                .map_err(|e| e.with_context("file", path.display())),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(local("cannot read the runner's keys", &path, e)),
        }
    }

    /// Removes the keys of a runner. Absent ones are `Ok`.
    ///
    /// # Errors
    /// [`ErrorKind::Local`], with the path.
    pub fn remove(&self, name: &RunnerName) -> Result<()> {
        let path = self.file(name);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(local("cannot remove the runner's keys", &path, e))
            }
            _ => Ok(()),
        }
    }

    /// The runners of a prefix that have keys here.
    ///
    /// # Errors
    /// [`ErrorKind::Local`], with the path.
    pub fn names(&self, prefix: &NamePrefix) -> Result<Vec<RunnerName>> {
        let failed = |e| local("cannot list the folder of keys", &self.path, e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let file = entry.map_err(failed)?.file_name();
            let name = file.to_str().and_then(|name| name.strip_suffix(".key"));
            names.extend(name.and_then(|name| prefix.owned(name)));
        }
        Ok(names)
    }
}

fn local(message: &str, path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Local, message)
        .with_context("path", path.display())
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn name(text: &str) -> RunnerName {
        text.parse().unwrap()
    }

    #[test]
    fn keys_are_kept_for_the_next_time_and_for_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(folder.path().join("keys")).unwrap();
        let runner = name("app-0123456789ab");
        assert!(keys.load(&runner).unwrap().is_none());
        let made = keys.obtain(&runner).unwrap();
        let again = keys.obtain(&runner).unwrap();
        assert_eq!(made.to_text().unwrap(), again.to_text().unwrap());
        let file = folder.path().join("keys/app-0123456789ab.key");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let parent = folder.path().join("keys").metadata().unwrap();
        assert_eq!(parent.permissions().mode() & 0o777, 0o700);
        assert_eq!(
            std::fs::read_dir(folder.path().join("keys"))
                .unwrap()
                .count(),
            1
        );

        let (app, app1) = (
            NamePrefix::new("app").unwrap(),
            NamePrefix::new("app-0").unwrap(),
        );
        assert_eq!(keys.names(&app).unwrap(), std::slice::from_ref(&runner));
        assert!(keys.names(&app1).unwrap().is_empty());
        keys.remove(&runner).unwrap();
        keys.remove(&runner).unwrap();
        assert!(keys.names(&app).unwrap().is_empty());
    }

    #[test]
    fn a_runner_is_made_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(folder.path()).unwrap();
        let runner = name("app-0123456789ab");
        let (_, turn) = keys.try_take(&runner).unwrap().unwrap();
        assert!(keys.try_take(&runner).unwrap().is_none());
        assert!(keys.try_take(&name("app-ffffffffffff")).unwrap().is_some());
        // Who had the turn removed the keys: the next begins with new ones.
        keys.remove(&runner).unwrap();
        assert!(keys.try_take(&runner).unwrap().is_some());
        drop(turn);
        assert!(keys.try_take(&runner).unwrap().is_some());
    }

    #[test]
    fn a_broken_file_is_an_error_with_its_path_and_without_its_content() {
        let folder = tempfile::tempdir().unwrap();
        let keys = KeyFolder::open(folder.path()).unwrap();
        std::fs::write(folder.path().join("app-0123456789ab.key"), "hunter2").unwrap();
        let error = keys
            .obtain(&name("app-0123456789ab"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("app-0123456789ab.key"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn the_host_key_is_placed_as_cloud_init_reads_it() {
        let keys = RunnerKeys::generate(&name("app-0123456789ab")).unwrap();
        let config = keys.cloud_config().unwrap();
        let config = config.expose();
        assert!(config.starts_with("#cloud-config\n"), "{config}");
        let value = |key: &str| -> String {
            let line = config
                .lines()
                .find_map(|l| l.trim().strip_prefix(key))
                .unwrap();
            serde_json::from_str(line).unwrap()
        };
        let private = PrivateKey::from_openssh(value("ed25519_private: ")).unwrap();
        assert_eq!(
            private.public_key().to_openssh().unwrap(),
            value("ed25519_public: ")
        );
        let client = keys.client_public().unwrap();
        assert!(
            client.starts_with("ssh-ed25519 AAAA")
                && client.ends_with(" runner-manager:app-0123456789ab")
        );
        assert_eq!(format!("{keys:?}"), "RunnerKeys(***)");
    }
}
