//! As much of Markdown as finding links takes: fences, code spans, links, reference definitions.

/// A link as it stands in a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) target: String,
}

/// The lines outside of fenced code, with their numbers from 1.
pub(crate) fn prose(text: &str) -> Vec<(usize, String)> {
    let mut open: Option<&str> = None;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        match (open, fence(line)) {
            (None, Some(mark)) => open = Some(mark),
            // A fence is closed by its own character, at least as often, and nothing behind it.
            (Some(opening), Some(mark)) if mark.starts_with(opening) && line.trim() == mark => {
                open = None;
            }
            (Some(_), _) => {}
            (None, None) => lines.push((index + 1, line.to_owned())),
        }
    }
    lines
}

/// The run of three or more backticks or tildes that a line starts with.
fn fence(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let mark = line.chars().next().filter(|c| ['`', '~'].contains(c))?;
    let length = line.len() - line.trim_start_matches(mark).len();
    (length >= 3).then(|| &line[..length])
}

/// All inline links, images and reference definitions of a page.
pub(crate) fn links(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (line, text) in prose(text) {
        let text = without_code(&text);
        let targets = inline(&text).into_iter().chain(definition(&text));
        links.extend(targets.map(|target| Link { line, target }));
    }
    links
}

/// The line with its code spans emptied.
fn without_code(line: &str) -> String {
    let mut prose = String::new();
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let span = &rest[start..];
        let ticks = span.len() - span.trim_start_matches('`').len();
        let (mark, inside) = span.split_at(ticks);
        prose.push_str(&rest[..start]);
        prose.push_str(mark);
        rest = match closing(inside, ticks) {
            Some(end) => &inside[end..],
            None => inside,
        };
    }
    prose + rest
}

/// Where the code span ends: behind a run of exactly as many backticks as opened it.
fn closing(text: &str, ticks: usize) -> Option<usize> {
    let mut from = 0;
    while let Some(start) = text[from..].find('`').map(|at| from + at) {
        let run = text.len() - start - text[start..].trim_start_matches('`').len();
        if run == ticks {
            return Some(start + run);
        }
        from = start + run;
    }
    None
}

/// The targets of `[text](target)`; a title and angle brackets are dropped.
fn inline(line: &str) -> Vec<String> {
    line.split("](").skip(1).filter_map(target).collect()
}

fn target(rest: &str) -> Option<String> {
    if let Some(bracketed) = rest.trim_start().strip_prefix('<') {
        return bracketed
            .split_once('>')
            .map(|(target, _)| target.to_owned());
    }
    let mut depth = 0_usize;
    for (at, c) in rest.char_indices() {
        match c {
            '(' => depth += 1,
            ')' if depth == 0 => {
                let inside = rest[..at].trim();
                return Some(inside.split_whitespace().next().unwrap_or("").to_owned());
            }
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The target of a line `[label]: target`.
fn definition(line: &str) -> Option<String> {
    let (label, rest) = line.trim_start().strip_prefix('[')?.split_once("]:")?;
    if label.is_empty() || label.contains(']') || label.starts_with('^') {
        return None;
    }
    let target = rest.split_whitespace().next()?;
    Some(target.trim_matches(['<', '>']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(text: &str) -> Vec<String> {
        links(text).into_iter().map(|link| link.target).collect()
    }

    #[test]
    fn links_and_images_are_found() {
        assert_eq!(
            targets("a [b](c.md) ![d](e.png \"title\") [f](<g h.md>)"),
            ["c.md", "e.png", "g h.md"]
        );
        assert_eq!(targets("[![badge](b.svg)](c.md)"), ["b.svg", "c.md"]);
        assert_eq!(targets("[f](a_(b).md)"), ["a_(b).md"]);
    }

    #[test]
    fn code_holds_no_links() {
        assert_eq!(targets("`[a](b)` ``x ` [c](d)`` [e](f)"), ["f"]);
        assert_eq!(
            targets("```\n[a](b)\n```\n~~~~ md\n~~~\n[c](d)\n~~~~\n[e](f)"),
            ["f"]
        );
        assert_eq!(targets("   ```toml\n   a = [b](c)\n   ```\n[e](f)"), ["f"]);
    }

    #[test]
    fn a_lone_backtick_hides_nothing() {
        assert_eq!(targets("a ` b [c](d)"), ["d"]);
    }

    #[test]
    fn a_link_whose_text_is_code_is_found() {
        assert_eq!(targets("[`a`](b.md)"), ["b.md"]);
    }

    #[test]
    fn definitions_are_found_and_footnotes_are_not() {
        assert_eq!(
            targets("[a]: b.md\n[^1]: note\n[c]: <d.md> \"title\""),
            ["b.md", "d.md"]
        );
    }

    #[test]
    fn lines_are_counted_from_one_with_fences_included() {
        let found = links("```\n```\n[a](b)\n");
        assert_eq!(found.first().map(|link| link.line), Some(3));
    }
}
