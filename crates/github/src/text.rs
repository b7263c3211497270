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

/// The longest foreign name, in characters: GitHub's own bounds are below it.
const LONGEST_NAME: usize = 255;

/// A foreign name, fit for tables and logs: [`escaped`], and cut where it is too long.
pub(crate) fn plain(name: &str) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => escaped(&name[..end]) + "…",
        None => escaped(name),
    }
}

/// A foreign text in which control characters, and those that change how the text around them is
/// shown, are escaped as `\u{1b}`: no terminal takes it for a command.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) {
            escaped.extend(c.escape_unicode());
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Whether a character shows as nothing, or changes what is shown: controls, line and paragraph
/// separators, invisible and bidirectional marks, tags.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
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
        .split(|c: char| c.is_whitespace() || is_hidden(c))
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
    fn names_are_escaped_and_cut() {
        assert_eq!(plain("build (größe, 🦀)"), "build (größe, 🦀)");
        assert_eq!(
            plain("a\u{1b}[31m\u{7}b\r\n\u{202e}c"),
            "a\\u{1b}[31m\\u{7}b\\u{d}\\u{a}\\u{202e}c"
        );
        let long = plain(&"x".repeat(300_000));
        assert_eq!(long.chars().count(), LONGEST_NAME + 1);
        assert!(long.ends_with('…'));
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
