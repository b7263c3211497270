//! Tokens that GitHub gives out, and what each has spent.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

use super::{Scope, State};
use crate::RateLimit;

/// The most tokens that are remembered; the oldest go first.
const MAX_TOKENS: usize = 20_000;

/// What a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    Register(Scope),
    Remove(Scope),
    Installation(u64),
    /// The Actions service of a scope.
    Service(Scope),
    /// The queue of a scale set, in a session.
    Queue(u64, String),
}

pub(super) struct Issued {
    purpose: Purpose,
    expires: Instant,
}

pub(super) struct Spending {
    since: Instant,
    reset_at: Timestamp,
    used: u32,
}

/// What a token has spent of its rate limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    pub(crate) limit: u32,
    pub(crate) used: u32,
    pub(crate) reset: i64,
    pub(crate) exceeded: bool,
}

impl State {
    /// Makes a token and says when it ends.
    pub(crate) fn issue(&mut self, purpose: Purpose, good_for: Duration) -> (String, Timestamp) {
        let now = Instant::now();
        self.tokens.retain(|_, issued| issued.expires > now);
        if self.tokens.len() >= MAX_TOKENS {
            let oldest = self.tokens.iter().min_by_key(|(_, issued)| issued.expires);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.tokens.remove(&name);
            }
        }
        let rng = &self.environment.rng;
        let token = match purpose {
            Purpose::Installation(_) => format!("ghs_{}", rng.text(36)),
            Purpose::Register(_) | Purpose::Remove(_) => rng.text(29).to_uppercase(),
            Purpose::Service(_) | Purpose::Queue(..) => self.proof(good_for),
        };
        let expires = now + good_for;
        self.tokens
            .insert(token.clone(), Issued { purpose, expires });
        let ends = SignedDuration::try_from(good_for)
            .ok()
            .and_then(|span| self.now().checked_add(span).ok());
        (token, ends.unwrap_or(Timestamp::MAX))
    }

    /// What a token is good for now.
    pub(crate) fn purpose(&self, token: &str) -> Option<&Purpose> {
        let issued = self.tokens.get(token)?;
        (issued.expires > Instant::now()).then_some(&issued.purpose)
    }

    /// Takes this many calls (0 or 1) from a token's limit.
    pub(crate) fn spend(&mut self, token: &str, calls: u32, limit: RateLimit) -> Spent {
        let (now, wall) = (Instant::now(), self.now());
        if self.spending.len() >= MAX_TOKENS {
            self.spending
                .retain(|_, spending| now.duration_since(spending.since) < limit.window);
        }
        let fresh = || {
            let span = SignedDuration::try_from(limit.window).unwrap_or(SignedDuration::ZERO);
            let end = wall.checked_add(span);
            Spending {
                since: now,
                reset_at: end.unwrap_or(Timestamp::MAX),
                used: 0,
            }
        };
        let spending = self.spending.entry(token.to_owned()).or_insert_with(fresh);
        if now.duration_since(spending.since) >= limit.window {
            *spending = fresh();
        }
        let exceeded = spending.used + calls > limit.limit;
        if !exceeded {
            spending.used += calls;
        }
        Spent {
            limit: limit.limit,
            used: spending.used,
            reset: spending.reset_at.as_second(),
            exceeded,
        }
    }

    /// Gives a call back: an unchanged answer is free.
    pub(crate) fn refund(&mut self, token: &str) {
        if let Some(spending) = self.spending.get_mut(token) {
            spending.used = spending.used.saturating_sub(1);
        }
    }

    /// A token in the form of a JWT that says when it ends. Nobody checks its signature: it is
    /// known by its text.
    fn proof(&self, good_for: Duration) -> String {
        let life = SignedDuration::try_from(good_for).unwrap_or(SignedDuration::ZERO);
        let end = self.now().checked_add(life).unwrap_or(Timestamp::MAX);
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(serde_json::json!({ "alg": "RS256", "typ": "JWT" }));
        let claims = part(serde_json::json!({ "exp": end.as_second() }));
        format!("{head}.{claims}.{}", self.environment.rng.text(43))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimConfig;
    use crate::environment::Environment;

    #[test]
    fn tokens_end_and_limits_are_kept_per_token() {
        let mut state = State::new(&SimConfig::default(), Environment::default());
        let (token, _) = state.issue(Purpose::Installation(1), Duration::from_secs(9));
        assert_eq!(state.purpose(&token), Some(&Purpose::Installation(1)));
        let (dead, _) = state.issue(Purpose::Installation(1), Duration::ZERO);
        assert_eq!(state.purpose(&dead), None);
        let limit = RateLimit {
            limit: 2,
            window: Duration::from_secs(100),
        };
        assert!(!state.spend("a", 1, limit).exceeded);
        assert_eq!(state.spend("a", 1, limit).used, 2);
        assert!(state.spend("a", 1, limit).exceeded);
        assert!(!state.spend("a", 0, limit).exceeded);
        assert!(!state.spend("b", 1, limit).exceeded);
        state.refund("a");
        assert!(!state.spend("a", 1, limit).exceeded);
    }
}
