//! Finds a word in text, plain or in base64 of base64.
//!
//! The conformance suite searches every log line, file and argument for the secrets that it gave
//! out. The scan is a crate of its own because the workspace optimizes it in development builds
//! too: unoptimized, it takes longer than the rest of the suite.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;

/// Decodes base64 that was cut out of a text, without its end.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The length of the shortest run of base64 that is decoded.
const RUN: usize = 16;
/// How many layers of base64 are decoded.
const DEPTH: usize = 4;

/// Whether a word stands in a text, plain or in up to four layers of base64.
#[must_use]
pub fn contains(text: &[u8], word: &str) -> bool {
    contains_within(text, &memmem::Finder::new(word), DEPTH)
}

fn contains_within(text: &[u8], word: &memmem::Finder<'_>, depth: usize) -> bool {
    if word.find(text).is_some() {
        return true;
    }
    if depth == 0 {
        return false;
    }
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    let runs = text.split(|byte| !is_base64(byte));
    let mut long = runs.filter(|run| run.len() >= RUN);
    long.any(|run| {
        // Where a run begins with a few letters that are not part of it, the rest is shifted.
        (0..4).any(|shift| {
            let run = &run[shift..];
            let whole = run.len() - usize::from(run.len() % 4 == 1);
            let decoded = LENIENT.decode(&run[..whole]).unwrap_or_default();
            !decoded.is_empty() && contains_within(&decoded, word, depth - 1)
        })
    }) || (text.contains(&b'\n') && contains_within(&joined(text), word, depth - 1))
}

/// The text without the line breaks that base64 is often wrapped with.
fn joined(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    text.retain(|byte| !byte.is_ascii_whitespace());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    const WORD: &str = "cfsecret0123456789ab";

    #[test]
    fn a_word_is_found_in_every_wrapping() {
        let inner = STANDARD.encode(WORD);
        let json = STANDARD.encode(format!(r#"{{".credentials":"{inner}"}}"#));
        let user_data = STANDARD.encode(format!("#cloud-config\nrun: x {json} y\n"));
        let lines = user_data.as_bytes().chunks(76);
        let wrapped: String = lines
            .map(|line| format!("{}\n", String::from_utf8_lossy(line)))
            .collect();
        for text in [format!("--token {WORD}"), json, user_data, wrapped] {
            assert!(contains(text.as_bytes(), WORD), "{text}");
            assert!(contains(text.as_bytes(), "cfsecret"), "{text}");
            assert!(!contains(text.as_bytes(), "cfsecret0123456789ac"), "{text}");
        }
    }
}
