//! What is read from the file's text itself: where a key stands, and whether what runners are made
//! from has changed.

/// Another text when what a pool's runners are made from changes: the backend's section, the
/// labels, the way to register. 32 bits are enough to tell one from the next.
pub(super) fn revision(text: &str, pool: usize, scheme: &str) -> String {
    let file: toml::Table = toml::from_str(text).unwrap_or_default();
    let pool = file.get("pool").and_then(|pools| pools.get(pool));
    let keys = [
        scheme,
        "labels",
        "architecture",
        "github_path",
        "registration",
    ];
    let made_from = keys.map(|key| pool.and_then(|pool| pool.get(key)).map(ToString::to_string));
    // FNV-1a: the same on every machine and in every release.
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let hash = format!("{made_from:?}").bytes().fold(0x811c_9dc5, step);
    format!("{hash:08x}")
}

/// The line of a key in a backend's section, or of the section where it has no such key.
pub(super) fn line_of(text: &str, pool: usize, scheme: &str, key: &str) -> Option<usize> {
    let document = toml_edit::Document::parse(text).ok()?;
    let pool = document.get("pool")?.as_array_of_tables()?.get(pool)?;
    // What backends name stands in their own sections.
    let (mut item, key) = match key.strip_prefix("services.") {
        Some(inner) => (pool.get("services")?, inner),
        None => (pool.get(scheme)?, key),
    };
    let mut span = item.span();
    for part in key.split('.') {
        let Some((name, inner)) = item.as_table_like().and_then(|t| t.get_key_value(part)) else {
            break;
        };
        span = name.span().or_else(|| inner.span());
        item = inner;
    }
    let before = text.get(..span?.start)?;
    Some(before.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = include_str!("../../../../docs/example.toml");

    #[test]
    fn lines_of_a_backends_section_are_found() {
        let text = "[[pool]]\nname = \"a\"\n[pool.process]\nx = 1\n[pool.process.limits]\ny = 2\n";
        for (key, line) in [("x", 4), ("limits.y", 6), ("limits.z", 5), ("z", 3)] {
            assert_eq!(line_of(text, 0, "process", key), Some(line), "{key}");
        }
        assert_eq!(line_of(text, 1, "process", "x"), None);
    }

    #[test]
    fn what_runners_are_made_from_decides_their_revision() {
        let of = |text: &str| revision(text, 0, "process");
        assert_eq!(of(GOOD), of(&GOOD.replace("max = 8", "max = 9")));
        assert_ne!(of(GOOD), of(&GOOD.replace("[\"small\"]", "[\"large\"]")));
        assert_ne!(of(GOOD), of(&format!("{GOOD}\nx = 1")));
    }
}
