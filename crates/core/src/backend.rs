//! What a backend crate exports.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde::de::DeserializeOwned;

use crate::{Budgets, Clock, CloudRunnerManager, Error, ErrorKind, NamePrefix, Result, Timings};

/// A connected backend.
pub type Connected = Arc<dyn CloudRunnerManager>;

/// What every backend gets beside its own section of the configuration.
#[derive(Clone)]
pub struct BackendContext {
    /// The prefix of the pool's runners.
    pub prefix: NamePrefix,
    /// The deadlines of the shared rules.
    pub timings: Timings,
    /// The clock of the shared rules.
    pub clock: Arc<dyn Clock>,
    /// The rate budgets of API accounts, shared by all pools.
    pub budgets: Budgets,
}

/// A backend: the one static item that its crate exports.
pub struct Backend {
    /// The scheme: the word that names it in the configuration, the feature and the crate.
    pub scheme: &'static str,
    /// One line on where it hosts a runner.
    pub summary: &'static str,
    /// Checks the section `[pool.SCHEME]`, and everything that can be checked of the cloud
    /// without changing it, and connects. All that can fail before a launch fails here.
    pub connect: fn(BackendContext, serde_json::Value) -> BoxFuture<'static, Result<Connected>>,
    /// The JSON schema of the section.
    pub schema: fn() -> schemars::Schema,
}

/// Reads a backend's section. The error's context `key` is the path of the offending key within
/// the section, so that the caller can point at the line.
///
/// # Errors
/// [`ErrorKind::InvalidConfig`] for unknown keys, wrong types and missing values.
pub fn parse_section<T: DeserializeOwned>(section: serde_json::Value) -> Result<T> {
    serde_path_to_error::deserialize(section).map_err(|error| {
        let key = error.path().to_string();
        Error::new(ErrorKind::InvalidConfig, error.into_inner().to_string())
            .with_context("key", key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Section {
        #[expect(dead_code, reason = "only its type matters here")]
        limits: std::collections::BTreeMap<String, u32>,
    }

    #[test]
    fn the_error_names_the_key() {
        let bad = serde_json::json!({"limits": {"cpu": "many"}});
        let error = parse_section::<Section>(bad).unwrap_err();
        assert_eq!(error.context("key"), Some("limits.cpu"));
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    }
}
