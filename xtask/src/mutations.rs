//! Bugs planted into a copy of the fleet, each of which the simulation has to find.

use crate::failure::{Failure, Result};
use crate::{process, table};
use std::fs;
use std::path::Path;

/// How many seeds may pass before a planted bug has to be found.
const SEEDS: &str = "400";

/// One planted bug: in this file of `crates`, what stands there, what is put in its place.
struct Mutation {
    what: &'static str,
    file: &'static str,
    find: &'static str,
    put: &'static str,
}

const MUTATIONS: [Mutation; 9] = [
    Mutation {
        what: "the limit `max` is forgotten",
        file: "fleet/src/decide.rs",
        find: ".min(pool.max.saturating_sub(runners.len()))",
        put: ".min(pool.max)",
    },
    Mutation {
        what: "runners that boot are not counted",
        file: "fleet/src/decide.rs",
        find: "RegistrationFirst),\n            _ => Verdict::Free,",
        put: "RegistrationFirst),\n            _ => Verdict::Taken,",
    },
    Mutation {
        what: "excess runners go instance first",
        file: "fleet/src/decide.rs",
        find: "Action::Remove(r.name.clone(), why, Order::RegistrationFirst)",
        put: "Action::Remove(r.name.clone(), why, Order::InstanceFirst)",
    },
    Mutation {
        what: "a failed launch is undone instance first",
        file: "fleet/src/operation.rs",
        find: ".take_away(&name, &note, Order::RegistrationFirst, github_id.into())",
        put: ".take_away(&name, &note, Order::InstanceFirst, github_id.into())",
    },
    Mutation {
        what: "a launch that was cut off is never undone",
        file: "fleet/src/decide.rs",
        find: "Instance::Absent if !r.held => Verdict::Remove(Why::Unfinished, InstanceFirst),",
        put: "Instance::Absent if !r.held => Verdict::Free,",
    },
    Mutation {
        what: "what one list lacks is taken for gone",
        file: "fleet/src/pool/facts.rs",
        find: "None => Instance::Unlisted,",
        put: "None => Instance::Absent,",
    },
    Mutation {
        what: "a planner's number counts beside min idle",
        file: "fleet/src/demand.rs",
        find: "Self::Runners(all) => all.saturating_sub(working + min_idle)",
        put: "Self::Runners(all) => all.saturating_sub(working)",
    },
    Mutation {
        what: "late runners are waited for",
        file: "fleet/src/decide.rs",
        find: "RunnerState::Booting if r.age_when_seen > pool.boot_deadline && !working",
        put: "RunnerState::Booting if false && r.age_when_seen > pool.boot_deadline && !working",
    },
    Mutation {
        what: "late is judged by the clock, looked at or not",
        file: "fleet/src/decide.rs",
        find: "RunnerState::Booting if r.age_when_seen > pool.boot_deadline && !working",
        put: "RunnerState::Booting if r.age > pool.boot_deadline && !working",
    },
];

/// Plants each bug into a copy of the sources, and fails unless seeds fail for all of them.
pub(crate) fn run(root: &Path) -> Result<()> {
    let copy = root.join("target/mutations");
    copy_sources(root, &copy)?;
    if let Some(seed) = first_failure(&copy)? {
        let message = format!("seed {seed} fails without a planted bug");
        return Err(Failure::new(message));
    }
    let mut rows = Vec::new();
    for mutation in &MUTATIONS {
        copy_sources(root, &copy)?;
        plant(&copy, mutation)?;
        let seed = first_failure(&copy)?;
        let shown = seed
            .as_ref()
            .map_or_else(|| "NOT FOUND".to_owned(), |seed| format!("by seed {seed}"));
        println!("{}: {shown}", mutation.what);
        rows.push((mutation.what, seed.is_some(), shown));
    }
    let table: Vec<Vec<String>> = rows
        .iter()
        .map(|(what, _, shown)| vec![(*what).to_owned(), shown.clone()])
        .collect();
    println!("\n{}", table::render(&["planted bug", "found"], &table));
    if rows.iter().all(|(_, found, _)| *found) {
        return Ok(());
    }
    Err(Failure::new("the simulation misses a planted bug"))
}

fn copy_sources(root: &Path, copy: &Path) -> Result<()> {
    let failed = Failure::because("cannot copy the sources");
    fs::create_dir_all(copy).map_err(failed)?;
    let mut command = std::process::Command::new("cp");
    command
        .current_dir(root)
        .args(["--recursive", "--update", "--parents"]);
    command.args([
        "Cargo.toml",
        "Cargo.lock",
        "crates",
        "xtask",
        "docs/example.toml",
    ]);
    process::stream(command.arg(copy))?;
    // What an earlier bug changed is newer than its source.
    for mutation in &MUTATIONS {
        let file = Path::new("crates").join(mutation.file);
        let failed = Failure::because("cannot restore a source");
        fs::copy(root.join(&file), copy.join(&file)).map_err(failed)?;
    }
    Ok(())
}

fn plant(copy: &Path, mutation: &Mutation) -> Result<()> {
    let file = copy.join("crates").join(mutation.file);
    let failed = || Failure::because(format!("cannot change {}", mutation.file));
    let text = fs::read_to_string(&file).map_err(failed())?;
    fs::write(&file, planted(&text, mutation)?).map_err(failed())
}

fn planted(text: &str, mutation: &Mutation) -> Result<String> {
    if text.matches(mutation.find).count() != 1 {
        let message = format!("`{}` is not in {} once", mutation.find, mutation.file);
        return Err(Failure::new(message));
    }
    Ok(text.replace(mutation.find, mutation.put))
}

/// The first seed that fails, if one does.
fn first_failure(copy: &Path) -> Result<Option<String>> {
    let mut command = process::cargo(copy);
    // Of its own: cargo takes a package of the copy for that of the same path in the workspace,
    // and would give what is planted here to later builds there.
    command.env("CARGO_TARGET_DIR", copy.join("target"));
    command.args([
        "run",
        "--quiet",
        "--package",
        "runner-manager-simulation",
        "--",
    ]);
    let output = process::capture(command.args(["--seeds", SEEDS, "--first-failure"]))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words = text.lines().find_map(|line| line.strip_prefix("seed "));
    let seed = words.and_then(|line| line.split_once(" fails"));
    match (seed, output.status.success()) {
        (Some((seed, _)), false) => Ok(Some(seed.to_owned())),
        (None, true) => Ok(None),
        _ => {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Failure::new(format!(
                "the simulation did not run:\n{errors}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_tree_has_the_places_of_all_bugs() {
        let root = crate::workspace::root().expect("the root");
        for mutation in &MUTATIONS {
            let file = root.join("crates").join(mutation.file);
            let text = fs::read_to_string(file).expect("the file");
            assert_ne!(planted(&text, mutation).expect("its place"), text);
        }
    }
}
