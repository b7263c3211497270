//! One call of the API, before it is sent.

use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use url::Url;

/// What it means to make a call twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Safety {
    /// Nothing of note: a read, or a token that simply expires.
    Harmless,
    /// The second call changes nothing more than the first.
    Repeatable,
    /// It may make a second thing, or fail because of the first.
    Once,
}

/// Whether an unchanged answer may be taken from the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caching {
    ByEtag,
    None,
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) body: Option<Value>,
    pub(crate) safety: Safety,
    pub(crate) caching: Caching,
    /// Headers in place of those that every call has.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// What one attempt may take, where it is not what every call may.
    pub(crate) deadline: Option<Duration>,
    /// The permission that the credential needs for this.
    pub(crate) needs: &'static str,
}

impl Call {
    pub(crate) fn get(url: Url, needs: &'static str) -> Self {
        Self {
            method: Method::GET,
            url,
            body: None,
            safety: Safety::Harmless,
            caching: Caching::None,
            headers: Vec::new(),
            deadline: None,
            needs,
        }
    }

    pub(crate) fn get_cached(url: Url, needs: &'static str) -> Self {
        Self {
            caching: Caching::ByEtag,
            ..Self::get(url, needs)
        }
    }

    pub(crate) fn post(url: Url, body: Option<Value>, safety: Safety, needs: &'static str) -> Self {
        Self {
            method: Method::POST,
            body,
            safety,
            ..Self::get(url, needs)
        }
    }

    pub(crate) fn patch(url: Url, body: Value, needs: &'static str) -> Self {
        Self {
            method: Method::PATCH,
            ..Self::post(url, Some(body), Safety::Repeatable, needs)
        }
    }

    pub(crate) fn delete(url: Url, needs: &'static str) -> Self {
        Self {
            method: Method::DELETE,
            safety: Safety::Repeatable,
            ..Self::get(url, needs)
        }
    }

    /// Which calls are alike for GitHub's limits: the method, and what the path ends with beside
    /// ids.
    pub(crate) fn kind(&self) -> String {
        let segments = self.url.path_segments().into_iter().flatten();
        let is_word = |segment: &&str| {
            !segment.is_empty() && !segment.bytes().all(|byte| byte.is_ascii_digit())
        };
        let word = segments.rev().find(is_word).unwrap_or_default();
        format!("{} {word}", self.method)
    }

    /// The call as errors show it. The queries of this client hold no secrets.
    pub(crate) fn label(&self) -> String {
        format!("{} {}", self.method, self.url)
    }
}
