//! What surrounds the runners of all pools: callbacks, repository policy, events.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use runner_manager_core::{Error, ErrorKind, RepoPolicyCompliance, Result, Retry, Secret};
use url::Url;

/// The services of a manager. All are optional.
#[derive(Debug, Clone, Default)]
pub struct ManagerServices {
    /// Where instances claim their secrets and report their phases. Without it the credential
    /// stands in user-data.
    pub callback: Option<CallbackConfig>,
    /// The repository policy compliance service.
    pub repo_policy: Option<RepoPolicyConfig>,
    /// The file of events, one JSON object a line. It is opened for each line, so that log
    /// rotation may move it at any time.
    pub events_file: Option<PathBuf>,
}

/// Where instances reach the manager.
#[derive(Debug, Clone)]
pub struct CallbackConfig {
    /// The manager's address as the instances see it, `https` unless it is this machine.
    pub url: Url,
    /// How long after its launch an instance may claim its secrets.
    pub claim_within: Duration,
    /// The networks that instances come from. Where it is empty, an instance must come from an
    /// address that its backend shows.
    pub networks: Vec<IpNetwork>,
}

/// A network of IPv4 or IPv6, `ADDRESS/LENGTH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpNetwork {
    address: u128,
    length: u32,
}

/// An address as one of IPv6, where IPv4 has its place.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl IpNetwork {
    /// Whether an address is of this network.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let other = 128 - self.length;
        let cut = |bits: u128| bits.checked_shr(other).unwrap_or(0);
        cut(bits(address)) == cut(self.address)
    }
}

impl std::str::FromStr for IpNetwork {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let message = format!("{text:?} is not `ADDRESS/LENGTH`");
            Error::new(ErrorKind::InvalidConfig, message)
        };
        let (address, length) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let length: u32 = length.parse().map_err(|_| wrong())?;
        let (most, before) = match address {
            IpAddr::V4(_) => (32, 96),
            IpAddr::V6(_) => (128, 0),
        };
        if length > most {
            return Err(wrong());
        }
        Ok(Self {
            address: bits(address),
            length: before + length,
        })
    }
}

/// The repository policy compliance service, as the manager asks it.
#[derive(Debug, Clone)]
pub struct RepoPolicyConfig {
    /// Its base URL.
    pub url: Url,
    /// What buys one-time tokens.
    pub token: Secret,
}

/// How long the service may take.
const POLICY_TIMEOUT: Duration = Duration::from_secs(20);
/// The most bytes of a one-time token.
const MAX_TOKEN: usize = 4_096;

impl RepoPolicyConfig {
    /// Buys the one-time token of a runner: `GET {url}/one-time-token`.
    ///
    /// # Errors
    /// When the service cannot be reached, refuses, or answers with what is no token. The
    /// launch then fails and is tried again later: no job runs that was not checked.
    pub async fn buy(&self) -> Result<RepoPolicyCompliance> {
        let failed = |kind, what: &str| {
            Error::new(kind, format!("the repository policy service {what}"))
                .with_retry(Retry::After(Duration::from_secs(10)))
                .with_context("host", self.url.host_str().unwrap_or_default())
        };
        let base = self.url.as_str().trim_end_matches('/');
        let client = reqwest::Client::builder().timeout(POLICY_TIMEOUT);
        let client = client.build().map_err(|e| {
            failed(ErrorKind::Unexpected, "cannot be asked").with_source(e.without_url())
        })?;
        let request = client.get(format!("{base}/one-time-token"));
        let answer = request.bearer_auth(self.token.expose()).send().await;
        let mut answer = answer.map_err(|e| {
            failed(ErrorKind::Unreachable, "gives no answer").with_source(e.without_url())
        })?;
        let status = answer.status();
        if !status.is_success() {
            let kind = match status.as_u16() {
                401 | 403 => ErrorKind::PermissionDenied,
                _ => ErrorKind::BadAnswer,
            };
            return Err(failed(kind, "sells no one-time token").with_context("status", status));
        }
        let mut token = Vec::new();
        while let Some(chunk) = answer
            .chunk()
            .await
            .map_err(|e| failed(ErrorKind::Unreachable, "broke off").with_source(e.without_url()))?
        {
            token.extend_from_slice(&chunk);
            if token.len() > MAX_TOKEN {
                return Err(failed(ErrorKind::BadAnswer, "sent more than a token"));
            }
        }
        let token = String::from_utf8(token)
            .map_err(|_| failed(ErrorKind::BadAnswer, "sent something that is no token"))?;
        Ok(RepoPolicyCompliance {
            url: self.url.clone(),
            token: Secret::new(token.trim()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let network = |text: &str| text.parse::<IpNetwork>().unwrap();
        let has = |text: &str, address: &str| network(text).contains(address.parse().unwrap());
        assert!(has("10.1.0.0/16", "10.1.255.1"));
        assert!(has("10.1.0.0/16", "::ffff:10.1.255.1"));
        assert!(!has("10.1.0.0/16", "10.2.0.1"));
        assert!(has("0.0.0.0/0", "192.0.2.1"));
        assert!(!has("0.0.0.0/0", "2001:db8::1"));
        assert!(has("::/0", "192.0.2.1"));
        assert!(has("2001:db8::/32", "2001:db8:1::1"));
        assert!(!has("192.0.2.1/32", "192.0.2.2"));
        for wrong in ["10.0.0.0", "10.0.0.0/33", "x/1", "::/129", "10.0.0.0/-1"] {
            wrong.parse::<IpNetwork>().unwrap_err();
        }
    }
}
