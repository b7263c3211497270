//! The runner's files.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The settings, as `.runner` has them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settings {
    pub(super) agent_id: u64,
    pub(super) agent_name: String,
    pub(super) server_url: String,
    pub(super) work_folder: String,
    #[serde(default)]
    pub(super) ephemeral: bool,
}

/// A configured runner.
pub(super) struct Configured {
    pub(super) settings: Settings,
    pub(super) secret: String,
}

/// Reads `.env` and `.path` into the environment that the job gets.
pub(super) fn environment(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in fs::read_to_string(root.join(".env"))
        .unwrap_or_default()
        .lines()
    {
        if let Some((name, value)) = line.split_once('=')
            && !name.is_empty()
        {
            found.push((name.to_owned(), value.to_owned()));
        }
    }
    if let Ok(path) = fs::read_to_string(root.join(".path")) {
        found.push(("PATH".into(), path.trim().to_owned()));
    }
    found
}

/// Writes a JIT config's files.
pub(super) fn unpack(root: &Path, config: &str) -> Result<(), String> {
    let odd = |what: &str| format!("the just-in-time config is not valid: {what}");
    let text = STANDARD
        .decode(config.trim())
        .map_err(|_| odd("no base64"))?;
    let files: serde_json::Map<String, Value> =
        serde_json::from_slice(&text).map_err(|_| odd("no JSON object"))?;
    for (name, value) in &files {
        if !matches!(
            name.as_str(),
            ".runner" | ".credentials" | ".credentials_rsaparams"
        ) {
            return Err(odd("a file of another name"));
        }
        let value = value.as_str().and_then(|text| STANDARD.decode(text).ok());
        let bytes = value.ok_or_else(|| odd("a file that is no base64"))?;
        write(&root.join(name), &bytes).map_err(|e| format!("cannot write {name}: {e}"))?;
    }
    Ok(())
}

/// Writes a file that only its owner may read.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path)?.write_all(bytes)
}

/// Reads what was configured.
pub(super) fn configured(root: &Path) -> Result<Configured, String> {
    let read = |name: &str| {
        fs::read(root.join(name))
            .map_err(|e| format!("the runner is not configured, run config.sh first: {name}: {e}"))
    };
    let settings = serde_json::from_slice(&read(".runner")?)
        .map_err(|e| format!(".runner cannot be understood: {e}"))?;
    let secret: Value = serde_json::from_slice(&read(".credentials_rsaparams")?)
        .map_err(|e| format!(".credentials_rsaparams cannot be understood: {e}"))?;
    let secret = secret["secret"].as_str();
    let secret = secret.ok_or("the credentials are not of this simulator")?;
    Ok(Configured {
        settings,
        secret: secret.to_owned(),
    })
}

/// What tells this folder's listener from that of a copied config. It outlives a restart.
pub(super) fn nonce(root: &Path) -> Result<String, String> {
    let path = root.join(".session");
    if let Ok(known) = fs::read_to_string(&path)
        && known.len() == 32
    {
        return Ok(known);
    }
    let nonce = crate::environment::Environment::default().rng.text(32);
    write(&path, nonce.as_bytes()).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_with_a_foreign_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let pack = |name: &str| {
            let map = serde_json::json!({ name: STANDARD.encode("{}") });
            STANDARD.encode(map.to_string())
        };
        unpack(root.path(), &pack(".runner")).unwrap();
        assert!(root.path().join(".runner").exists());
        assert!(unpack(root.path(), &pack("../evil")).is_err());
        assert!(unpack(root.path(), "***").is_err());
    }

    #[test]
    fn the_environment_file_is_read_line_by_line() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(".env"), "A=1=2\n\nodd\n=x\nB=\n").unwrap();
        fs::write(root.path().join(".path"), "/bin\n").unwrap();
        let pairs = environment(root.path());
        let wanted = [("A", "1=2"), ("B", ""), ("PATH", "/bin")];
        let found: Vec<(&str, &str)> = pairs.iter().map(|(a, b)| (&**a, &**b)).collect();
        assert_eq!(found, wanted);
    }
}
