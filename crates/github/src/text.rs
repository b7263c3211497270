//! Text for errors: short, on one line, without secrets.

use runner_manager_core::Secret;
use url::Url;

/// A URL without user, password, query and fragment.
pub(crate) fn address(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Both fail only for URLs that cannot have a user.
    let _ = url.set_password(None);
    let _ = url.set_username("");
    url.into()
}

/// The begin of a foreign text, on one line, with the secrets that we know cut out.
pub(crate) fn excerpt(text: &str, longest: usize, secrets: &[&Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        if !secret.expose().is_empty() {
            text = text.replace(secret.expose(), "***");
        }
    }
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    let line = words.join(" ");
    match line.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_hold_no_secrets() {
        let url = Url::parse("http://me:hunter2@proxy:3128/a/b?sig=s3cret#x").unwrap();
        assert_eq!(address(&url), "http://proxy:3128/a/b");
    }

    #[test]
    fn excerpts_are_short_lines_without_secrets() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            excerpt("<p>\n  hi hunter2\u{1b} you\r\n", 40, &[&secret]),
            "<p> hi *** you"
        );
        assert_eq!(excerpt("äöüäöü", 3, &[]), "äöü…");
    }
}
