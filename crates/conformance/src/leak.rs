//! Secrets that are known again wherever they turn up.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use runner_manager_core::{InstanceId, Secret};

/// What every secret of a case holds, so that it is known again wherever it turns up.
pub const MARK: &str = "cfsecret";

/// Takes what was cut out of a text, without its end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The shortest run of base64 that is looked into, and how deeply.
const RUN: usize = 16;
const DEPTH: usize = 4;

/// A secret, and the word in it by which it is known again.
#[derive(Debug, Clone)]
pub(crate) struct Bait {
    pub(crate) word: String,
}

impl Bait {
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

/// Whether a word stands in a text, as it is or in base64 of base64.
pub(crate) fn holds(text: &[u8], word: &str) -> bool {
    holds_within(text, word.as_bytes(), DEPTH)
}

fn holds_within(text: &[u8], word: &[u8], depth: usize) -> bool {
    if text.windows(word.len()).any(|window| window == word) {
        return true;
    }
    if depth == 0 {
        return false;
    }
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    let runs = text.split(|byte| !is_base64(byte));
    let long = runs.filter(|run| run.len() >= RUN);
    long.into_iter().any(|run| {
        // Where a run begins with a few letters that are not part of it, the rest is shifted.
        (0..4).any(|shift| {
            let run = &run[shift..];
            let whole = run.len() - usize::from(run.len() % 4 == 1);
            let decoded = LENIENT.decode(&run[..whole]).unwrap_or_default();
            !decoded.is_empty() && holds_within(&decoded, word, depth - 1)
        })
    }) || (text.contains(&b'\n') && holds_within(&joined(text), word, depth - 1))
}

/// The text without the breaks that base64 is often wrapped with.
fn joined(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    text.retain(|byte| !byte.is_ascii_whitespace());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_known_again_in_every_wrapping() {
        let bait = Bait::new();
        let jit = bait.jit();
        let user_data = STANDARD.encode(format!("#cloud-config\nrun: x {} y\n", jit.expose()));
        let wrapped: String = user_data
            .as_bytes()
            .chunks(76)
            .map(|line| format!("{}\n", String::from_utf8_lossy(line)))
            .collect();
        for text in [
            format!("--token {}", bait.word),
            format!("jit={}", jit.expose()),
            user_data,
            wrapped,
        ] {
            assert!(holds(text.as_bytes(), &bait.word), "{text}");
            assert!(holds(text.as_bytes(), MARK), "{text}");
            assert!(!holds(text.as_bytes(), &Bait::new().word), "{text}");
        }
    }
}
