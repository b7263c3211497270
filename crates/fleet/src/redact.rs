//! Takes out of a text of a machine what may be a secret.

/// The beginnings of GitHub's tokens.
const TOKENS: [&str; 7] = ["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "eyJ"];
/// Longer words than this are taken for encoded keys: a just-in-time config is one.
const LONGEST_WORD: usize = 80;
/// Registration and remove tokens: so many upper-case letters and digits, or more.
const TOKEN_LENGTH: usize = 26;

/// The text without control characters, and with words that may be secrets left out.
pub(crate) fn redact(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars() {
        if is_of_word(c) {
            word.push(c);
            continue;
        }
        flush(&mut clean, &mut word);
        if !c.is_control() || matches!(c, '\n' | '\t') {
            clean.push(c);
        }
    }
    flush(&mut clean, &mut word);
    clean
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '_' | '-' | '.')
}

fn flush(clean: &mut String, word: &mut String) {
    clean.push_str(if may_be_secret(word) {
        "[redacted]"
    } else {
        word
    });
    word.clear();
}

fn may_be_secret(word: &str) -> bool {
    // An assignment's or a path's value counts by itself.
    let part = |part: &str| {
        let token = TOKENS
            .iter()
            .any(|t| part.starts_with(t) && part.len() > t.len() + 8);
        let upper = part.len() >= TOKEN_LENGTH
            && part
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        token || upper || part.len() > LONGEST_WORD
    };
    word.split(['=', '/']).any(part) || (word.len() > LONGEST_WORD && !word.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_keys_go_and_words_stay() {
        let jit = "eyJydW5uZXIiOiJhYmMifQ".repeat(20);
        for secret in [
            "ghp_0123456789abcdefghijABCDEFGHIJ012345",
            "AABBCCDDEEFF00112233445566778",
            jit.as_str(),
        ] {
            for text in [format!("--token {secret} x"), format!("TOKEN={secret}\n")] {
                let clean = redact(&text);
                assert!(!clean.contains(&secret[..12]), "{clean}");
                assert!(clean.contains("[redacted]"), "{clean}");
            }
        }
        let plain = "[ 1.0] /usr/lib/systemd/systemd-networkd.service failed, exit=1";
        assert_eq!(redact(plain), plain);
        assert_eq!(redact("a\u{1b}[31mb\r\nc\td"), "a[31mb\nc\td");
    }
}
