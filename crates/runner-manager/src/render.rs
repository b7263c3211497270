//! What an instance of a pool would boot with, for people.

use std::path::Path;

use runner_manager_core::{
    BootConfig, Bootstrap, Error, ErrorKind, GitHubRunnerConfig, InstanceId, LaunchSpec,
    RepoPolicyCompliance, Result, RunnerCredential, Secret, parse_section,
};
use runner_manager_fleet::{Registration, offered_labels};

use crate::config::{Config, Pool};

/// Prints the user-data of a new instance, secrets masked. Nothing is asked for and nothing is
/// launched; what a backend adds by itself, such as host keys, is not shown.
pub(crate) fn render(path: &Path, pool: &str) -> Result<()> {
    let config = Config::read(path)?;
    let Some(pool) = config.pools.iter().find(|p| p.name == pool) else {
        let message = "there is no such pool; `pools list` shows them";
        return Err(Error::new(ErrorKind::NotFound, message).with_context("pool", pool));
    };
    let named = |e: Error| e.with_context("pool", &pool.name);
    let boot = boot(pool).map_err(named)?;
    let spec = spec(&config, pool).map_err(named)?;
    let text = Bootstrap::new(&spec, &boot).and_then(|b| b.masked());
    print!("{}", text.map_err(named)?);
    Ok(())
}

/// The part of the backend's section that says how its instances boot.
fn boot(pool: &Pool) -> Result<BootConfig> {
    let section = pool.section()?;
    if let Some(boot) = section.get("boot") {
        return parse_section(boot.clone());
    }
    if pool.boots() {
        return Ok(BootConfig::default());
    }
    let message = "instances of this backend do not boot by cloud-init: there is no user-data";
    Err(Error::new(ErrorKind::Unsupported, message))
}

fn spec(config: &Config, pool: &Pool) -> Result<LaunchSpec> {
    let mask = || Secret::new("***");
    let name = pool.prefix()?.runner_name(&InstanceId::random());
    let github = config.github_url();
    let services = pool.services.of_manager(config.callback.as_ref(), None)?;
    let credential = match (&services.callback, pool.registration) {
        (Some(callback), _) => RunnerCredential::Claim {
            url: callback.runner_url(&name)?,
            nonce: mask(),
        },
        (None, Registration::Jit) => RunnerCredential::JitConfig(mask()),
        (None, Registration::Token) => RunnerCredential::RegistrationToken {
            url: github,
            token: mask(),
        },
    };
    let mut support = pool.services.support()?;
    support.repo_policy_compliance =
        services
            .repo_policy
            .as_ref()
            .map(|policy| RepoPolicyCompliance {
                url: policy.url.clone(),
                token: mask(),
            });
    let labels = offered_labels(&pool.labels, pool.architecture);
    let github_path = pool.github_path()?;
    Ok(LaunchSpec {
        name,
        credential,
        github: GitHubRunnerConfig {
            github_path,
            labels,
        },
        support,
    })
}
