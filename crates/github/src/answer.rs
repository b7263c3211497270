//! What came back, and how it is read.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName};
use runner_manager_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;

/// An answer whose body has been read in full.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The call that it answers, for errors.
    pub(crate) label: String,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// GitHub's clock when it answered.
    pub(crate) fn date(&self) -> Option<Timestamp> {
        http_date(self.header(DATE)?)
    }

    /// The content type, for errors.
    pub(crate) fn content_type(&self) -> &str {
        self.header(CONTENT_TYPE).unwrap_or("no content type")
    }

    /// Whether this can be an answer of GitHub's API: empty, or JSON.
    pub(crate) fn may_be_api(&self) -> bool {
        let first = self.body.iter().find(|byte| !byte.is_ascii_whitespace());
        let json = self.content_type().contains("json");
        match first {
            None => true,
            Some(byte) => matches!(byte, b'{' | b'[') || json,
        }
    }

    /// Reads the body. The error holds nothing of it: it may be a secret.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|e| {
            let what = match e.classify() {
                serde_json::error::Category::Eof => "an answer that breaks off",
                serde_json::error::Category::Data => "JSON of another shape than its API has",
                _ => "something that is not JSON",
            };
            Error::new(
                ErrorKind::BadAnswer,
                format!(
                    "GitHub gave {what}, at line {} column {}; check `url` and any proxy between",
                    e.line(),
                    e.column()
                ),
            )
            .with_context("request", &self.label)
            .with_context("status", self.status.as_u16())
            .with_context("type", self.content_type())
            .with_context("bytes", self.body.len())
        })
    }
}

/// Parses the date of an HTTP header.
pub(crate) fn http_date(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

/// How far `then` lies ahead of `now`; zero when it is past.
pub(crate) fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}
