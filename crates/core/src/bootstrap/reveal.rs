//! Secrets, shown or masked.

use url::Url;

use crate::Secret;

/// What stands in the place of a secret in a rendering for people.
const MASK: &str = "***";

/// Whether a rendering holds its secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reveal {
    Secrets,
    Masks,
}

impl Reveal {
    pub(super) fn secret(self, secret: &Secret) -> String {
        match self {
            Self::Secrets => secret.expose().to_owned(),
            Self::Masks => MASK.to_owned(),
        }
    }

    /// A URL, with its password masked. One with a user name alone is masked there: some
    /// services take a token in its place.
    pub(super) fn url(self, url: &Url) -> String {
        let mut url = url.clone();
        if self == Self::Masks && has_credentials(&url) {
            // Both fail only for URLs that can have no credentials.
            let _ = url.set_password(Some(MASK));
            let _ = url.set_username(MASK);
        }
        url.to_string()
    }
}

pub(super) fn has_credentials(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}
