//! The lines of a backend in files that all backends share.

use crate::failure::{Failure, Result};
use std::fs;
use std::path::Path;

const ROOT: &str = "Cargo.toml";
const PROGRAM: &str = "crates/runner-manager/Cargo.toml";
const TABLE: &str = "crates/runner-manager/src/backends.rs";
const CAPABILITY: &str = "crates/core/src/capability.rs";

/// One more line in a file, before the first that the marker begins, and indented like it.
struct Line {
    file: &'static str,
    before: &'static str,
    text: String,
}

/// Adds the crate to the workspace's dependencies, the feature and the dependency to the
/// program, and the line to the table and to its test.
pub(super) fn wire(root: &Path, scheme: &str) -> Result<()> {
    let lines = lines(scheme);
    // All are looked for before any is written.
    for line in &lines {
        inserted(&read(root, line.file)?, line)?;
    }
    for line in &lines {
        let text = inserted(&read(root, line.file)?, line)?;
        let path = root.join(line.file);
        fs::write(path, text).map_err(Failure::because(format!("cannot write {}", line.file)))?;
        println!("{}: {}", line.file, line.text.trim());
    }
    extend_test(root, scheme)
}

fn lines(scheme: &str) -> [Line; 4] {
    let krate = format!("runner-manager-backend-{scheme}");
    [
        Line {
            file: ROOT,
            before: "runner-manager-backend-process = ",
            text: format!("{krate} = {{ path = \"crates/backend-{scheme}\" }}"),
        },
        Line {
            file: PROGRAM,
            before: "process = [",
            text: format!("{scheme} = [\"dep:{krate}\"]"),
        },
        Line {
            file: PROGRAM,
            before: "runner-manager-backend-process = ",
            text: format!("{krate} = {{ workspace = true, optional = true }}"),
        },
        Line {
            file: TABLE,
            before: "\"process\" => ",
            text: format!("\"{scheme}\" => runner_manager_backend_{scheme};"),
        },
    ]
}

/// The test of the table names all schemes.
fn extend_test(root: &Path, scheme: &str) -> Result<()> {
    let text = read(root, TABLE)?;
    let new = text.replacen(", process\")", &format!(", {scheme}, process\")"), 1);
    if new == text {
        let message = format!("the test in {TABLE} does not name all schemes");
        return Err(Failure::new(message));
    }
    fs::write(root.join(TABLE), new).map_err(Failure::because(format!("cannot write {TABLE}")))
}

fn inserted(text: &str, line: &Line) -> Result<String> {
    let mut out = String::new();
    let mut found = false;
    for old in text.lines() {
        if !found && old.trim_start().starts_with(line.before) {
            found = true;
            let indent = &old[..old.len() - old.trim_start().len()];
            for new in line.text.lines() {
                out += &format!("{indent}{new}\n");
            }
        }
        out += old;
        out.push('\n');
    }
    if found {
        return Ok(out);
    }
    Err(Failure::new(format!(
        "{} has no line that begins with `{}`",
        line.file,
        line.before.trim()
    )))
}

fn read(root: &Path, file: &str) -> Result<String> {
    fs::read_to_string(root.join(file)).map_err(Failure::because(format!("cannot read {file}")))
}

/// The lines that answer every capability but those of credentials, as not written yet.
pub(super) fn capabilities(root: &Path) -> Result<String> {
    let text = read(root, CAPABILITY)?;
    let fields = text.lines().filter_map(|line| {
        let field = line.trim().strip_prefix("pub ")?;
        field.strip_suffix(": Support,")
    });
    let asked = fields.filter(|field| !["jit_config", "registration_token"].contains(field));
    let answer = |field| format!("        {field}: Support::Unsupported(\"not written yet\"),");
    let answers: Vec<String> = asked.map(answer).collect();
    if answers.is_empty() {
        return Err(Failure::new(format!("{CAPABILITY} shows no capabilities")));
    }
    Ok(answers.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_before_its_marker_once() {
        let line = Line {
            file: "x",
            before: "b = ",
            text: "a = 1".into(),
        };
        let text = inserted("z\n  b = 2\nb = 3\n", &line).expect("it is found");
        assert_eq!(text, "z\n  a = 1\n  b = 2\nb = 3\n");
        assert!(inserted("z\n", &line).is_err());
    }

    #[test]
    fn this_tree_has_the_lines_that_are_looked_for() {
        let root = crate::workspace::root().expect("the root");
        let answers = capabilities(&root).expect("capabilities");
        assert!(answers.contains("guest: Support::Unsupported"), "{answers}");
        for line in lines("acme") {
            let text = read(&root, line.file).expect("the file");
            inserted(&text, &line).expect("its place is found");
        }
    }
}
