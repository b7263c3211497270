//! The files of an instance that hold no secrets.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::private::BootSecrets;
use super::reveal::Reveal;
use super::{BASE, Bootstrap, aproxy, environment, services};
use crate::{Error, ErrorKind, Result, RunnerCredential};

const SCRIPTS: [(&str, &str); 6] = [
    ("bootstrap.sh", include_str!("scripts/bootstrap.sh")),
    ("services.sh", include_str!("scripts/services.sh")),
    ("exchange.sh", include_str!("scripts/exchange.sh")),
    ("start.sh", include_str!("scripts/start.sh")),
    ("pre-job.sh", include_str!("scripts/pre-job.sh")),
    ("helper.py", include_str!("scripts/helper.py")),
];

/// One file, in the folder [`BASE`].
#[derive(Clone, PartialEq, Eq)]
pub(super) struct BootFile {
    pub(super) name: &'static str,
    pub(super) mode: &'static str,
    pub(super) content: String,
}

pub(super) fn file(name: &'static str, mode: &'static str, content: impl Into<String>) -> BootFile {
    BootFile {
        name,
        mode,
        content: content.into(),
    }
}

/// One shell word that stands for the value, whatever is in it.
fn quote(value: &str) -> Result<String> {
    let quoted = shlex::try_quote(value).map_err(|error| {
        Error::new(ErrorKind::InvalidConfig, "a value holds a NUL character").with_source(error)
    })?;
    Ok(quoted.into_owned())
}

/// Assignments of shell variables, for a file that scripts read.
pub(super) fn assignments<'a>(
    prefix: &str,
    values: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<String> {
    let mut text = String::from("# shellcheck shell=bash disable=SC2016,SC2034,SC2209\n");
    for (key, value) in values {
        let _ = writeln!(text, "{prefix}{key}={}", quote(value)?);
    }
    Ok(text)
}

/// The runner's own file. It has no way to write a line break; such a value reaches the runner
/// by its environment alone.
pub(super) fn dotenv<'a>(values: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    values
        .into_iter()
        .filter(|(_, value)| !value.contains(['\n', '\r']))
        .map(|(key, value)| format!("{key}={value}\n"))
        .collect()
}

/// All files, in the order of writing. The scripts are constants: values come from the files
/// beside them. What holds secrets comes along unless the instance claims it later.
pub(super) fn all(boot: &Bootstrap<'_>, reveal: Reveal) -> Result<Vec<BootFile>> {
    let (spec, config) = (boot.spec, boot.config);
    let mut files: Vec<BootFile> = SCRIPTS.map(|(name, text)| file(name, "0755", text)).into();
    files.push(file("settings.sh", "0644", settings(boot)?));
    let env = environment::public(spec, config);
    let pairs = || {
        env.iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    };
    let exports = assignments("export ", pairs())?;
    files.push(file("environment.sh", "0600", exports));
    files.push(file("dotenv", "0600", dotenv(pairs())));
    if let Some(script) = &config.pre_job_script {
        files.push(file("custom-pre-job", "0755", script));
    }
    files.extend(services::public(&spec.support));
    if let Some(proxy) = spec.support.proxy_config.as_ref().filter(|p| p.transparent)
        && let Some(upstream) = aproxy::upstream(proxy)
    {
        let rules = aproxy::rules(upstream, &config.aproxy);
        files.push(file("aproxy.nft", "0644", rules));
    }
    match &spec.credential {
        RunnerCredential::Claim { nonce, .. } => {
            let nonce = reveal.secret(nonce);
            files.push(file("nonce", "0600", format!("{nonce}\n")));
        }
        _ => files.extend(BootSecrets::shown(spec, reveal)?.into_files()),
    }
    Ok(files)
}

/// What the scripts are told: nothing secret, as a job may read it.
fn settings(boot: &Bootstrap<'_>) -> Result<String> {
    let (spec, config) = (boot.spec, boot.config);
    let text = |value: Option<String>| value.unwrap_or_default();
    let download = config.runner.download.as_ref();
    let proxy = spec.support.proxy_config.as_ref();
    let upstream = proxy.filter(|p| p.transparent).and_then(aproxy::upstream);
    let policy = spec.support.repo_policy_compliance.as_ref();
    let manager = match &spec.credential {
        RunnerCredential::Claim { url, .. } => url.to_string(),
        _ => String::new(),
    };
    let values: BTreeMap<&str, String> = [
        ("MACHINE", config.machine.uname().to_owned()),
        ("USER", config.user.clone()),
        ("HOME", config.home.clone()),
        ("EXCHANGE", config.exchange_folder()),
        ("RUNNER_PATH", config.runner.path.clone()),
        (
            "MINIMUM_VERSION",
            text(config.runner.minimum_version.clone()),
        ),
        ("DOWNLOAD_URL", text(download.map(|d| d.url.to_string()))),
        ("DOWNLOAD_SHA256", text(download.map(|d| d.sha256.clone()))),
        ("NAME", spec.name.to_string()),
        ("LABELS", spec.github.labels.comma_separated()),
        (
            "GROUP",
            text(spec.github.github_path.group().map(str::to_owned)),
        ),
        ("POLICY_URL", text(policy.map(|p| p.url.to_string()))),
        ("APROXY", text(upstream.map(aproxy::authority))),
        ("APROXY_LISTEN", config.aproxy.listen.to_string()),
        ("MANAGER_URL", manager),
        (
            "UPDATE",
            (config.update_packages && services::are_late(spec)).to_string(),
        ),
    ]
    .into();
    assignments(
        "RM_",
        values.iter().map(|(key, value)| (*key, value.as_str())),
    )
}

/// The path of the script that does it all.
pub(super) fn entry() -> String {
    format!("{BASE}/bootstrap.sh")
}
