//! The anchors of a page, as GitHub makes them from its headings.

use super::markdown;
use std::collections::BTreeSet;

/// All anchors of a page: its headings, and `id` or `name` attributes written as HTML.
pub(crate) fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in markdown::prose(text) {
        if let Some(heading) = heading(&line) {
            insert_unique(&mut anchors, &slug(heading));
        }
        for attribute in ["id=\"", "name=\""] {
            let values = line.split(attribute).skip(1);
            anchors.extend(
                values
                    .filter_map(|rest| rest.split_once('"'))
                    .map(|(id, _)| id.to_owned()),
            );
        }
    }
    anchors
}

/// Headings of one text get `-1`, `-2`, … from the second on.
fn insert_unique(anchors: &mut BTreeSet<String>, slug: &str) {
    let mut name = slug.to_owned();
    let mut number = 0;
    while !anchors.insert(name) {
        number += 1;
        name = format!("{slug}-{number}");
    }
}

/// The text of a heading line (`## Text ##`).
fn heading(line: &str) -> Option<&str> {
    let rest = line.trim_start_matches('#');
    let level = line.len() - rest.len();
    let is_heading = (1..=6).contains(&level) && rest.starts_with([' ', '\t']);
    is_heading.then(|| rest.trim().trim_end_matches('#').trim_end())
}

/// Lowercase; letters, digits, `_` and `-` are kept, spaces become `-`, the rest goes. Of a link
/// the text counts, not the target.
fn slug(heading: &str) -> String {
    without_targets(heading)
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '_' || c == '-' => Some(c),
            _ => None,
        })
        .flat_map(char::to_lowercase)
        .collect()
}

fn without_targets(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading;
    while let Some((before, after)) = rest.split_once("](") {
        text.push_str(before);
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_made_as_github_makes_them() {
        for (heading, expected) in [
            ("The first hour", "the-first-hour"),
            ("What is `process`?", "what-is-process"),
            ("A & B", "a--b"),
            ("Exit codes (CLI)", "exit-codes-cli"),
            ("min_idle and max-size", "min_idle-and-max-size"),
            ("See [the guide](guide.md) first", "see-the-guide-first"),
            ("Größe", "größe"),
        ] {
            assert_eq!(slug(heading), expected);
        }
    }

    #[test]
    fn equal_headings_are_numbered() {
        let anchors = anchors("# Notes\n## Notes\n### Notes ###\n");
        let expected = ["notes", "notes-1", "notes-2"].map(str::to_owned);
        assert_eq!(anchors, BTreeSet::from(expected));
    }

    #[test]
    fn code_and_plain_lines_are_no_headings() {
        assert!(anchors("```sh\n# comment\n```\n#hashtag\n####### seven\n").is_empty());
    }

    #[test]
    fn html_anchors_count() {
        assert!(anchors("<a id=\"here\"></a> text").contains("here"));
    }
}
