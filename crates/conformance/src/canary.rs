//! Canary secrets: credentials that a search finds again wherever they turn up.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runner_manager_core::{InstanceId, Secret};

/// The word that every secret of a case contains.
pub const MARK: &str = "cfsecret";

/// A secret, and the word in it that a search looks for.
#[derive(Debug, Clone)]
pub(crate) struct CanarySecret {
    pub(crate) word: String,
}

impl CanarySecret {
    pub(crate) fn new() -> Self {
        let (one, two) = (InstanceId::random(), InstanceId::random());
        Self {
            word: format!("{MARK}{one}{two}"),
        }
    }

    /// A token.
    pub(crate) fn token(&self) -> Secret {
        Secret::new(self.word.clone())
    }

    /// A just-in-time config of the form of GitHub's: base64 of a JSON map from file name to
    /// base64.
    pub(crate) fn jit(&self) -> Secret {
        let inner = STANDARD.encode(&self.word);
        let runner = STANDARD.encode("{}");
        let json = format!(
            r#"{{".runner":"{runner}",".credentials":"{inner}",".credentials_rsaparams":"{inner}"}}"#
        );
        Secret::new(STANDARD.encode(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_manager_secret_scan::contains;

    #[test]
    fn a_canary_is_found_as_a_token_and_in_a_just_in_time_config() {
        let canary = CanarySecret::new();
        for secret in [canary.token(), canary.jit()] {
            let text = secret.expose().as_bytes();
            assert!(contains(text, &canary.word) && contains(text, MARK));
            assert!(!contains(text, &CanarySecret::new().word));
        }
    }
}
