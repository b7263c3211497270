//! The proofs of a GitHub App.

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde_json::Value;

use super::reply::Failure;
use crate::AppConfig;
use crate::core::Core;

/// The most that two clocks may differ, in seconds.
const SKEW: i64 = 60;
/// The longest life of a proof, in seconds.
const MAX_LIFE: i64 = 600;

/// Checks a proof: RS256 by the App's key, `iss` the App's id, `iat` past, `exp` within ten minutes.
/// Gives the App's place among those of the simulator.
pub(crate) fn check(core: &Core, proof: &str) -> Result<usize, Failure> {
    let mut refused = Failure::unauthorized("Integration not found");
    for (place, app) in core.config.apps.iter().enumerate() {
        match check_of(app, proof, core.now()) {
            Ok(()) => return Ok(place),
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

fn check_of(app: &AppConfig, proof: &str, now: Timestamp) -> Result<(), Failure> {
    let key = DecodingKey::from_rsa_pem(app.public_key_pem.as_bytes()).map_err(|_| {
        Failure::unauthorized("the simulator's public key is not an RSA key in PEM")
    })?;
    let mut rules = Validation::new(Algorithm::RS256);
    // Their words differ from GitHub's; they are checked below.
    rules.validate_exp = false;
    rules.validate_aud = false;
    rules.required_spec_claims.clear();
    let claims = decode::<Value>(proof, &key, &rules)
        .map_err(|_| Failure::unauthorized("A JSON web token could not be decoded"))?
        .claims;
    judge(&claims, app.id, now.as_second()).map_err(Failure::unauthorized)
}

fn judge(claims: &Value, app: u64, now: i64) -> Result<(), &'static str> {
    let issuer = match &claims["iss"] {
        Value::String(text) => text.parse().ok(),
        other => other.as_u64(),
    };
    if issuer != Some(app) {
        return Err("Integration not found");
    }
    let (issued, expires) = (claims["iat"].as_i64(), claims["exp"].as_i64());
    let (Some(issued), Some(expires)) = (issued, expires) else {
        return Err("'Expiration time' claim ('exp') and 'Issued at' claim ('iat') are required");
    };
    if issued > now + SKEW {
        return Err(
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        );
    }
    if expires <= now {
        return Err(
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the assertion expires",
        );
    }
    if expires > now + MAX_LIFE + SKEW || expires - issued > MAX_LIFE + 2 * SKEW {
        return Err("'Expiration time' claim ('exp') is too far in the future");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn proofs_are_judged_by_issuer_and_times() {
        let claims = |iss: Value, iat: i64, exp: i64| json!({"iss": iss, "iat": iat, "exp": exp});
        let ok = |claims: Value| judge(&claims, 7, 1_000).is_ok();
        assert!(ok(claims(json!("7"), 940, 1_540)));
        assert!(ok(claims(json!(7), 1_000, 1_600)));
        assert!(!ok(claims(json!("8"), 940, 1_540)));
        assert!(!ok(claims(json!("7"), 1_100, 1_540)));
        assert!(!ok(claims(json!("7"), 300, 1_000)));
        assert!(!ok(claims(json!("7"), 1_000, 2_000)));
        assert!(!ok(json!({"iss": "7"})));
    }
}
