//! The steps of `cargo xtask test`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// One step.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) summary: &'static str,
    run: fn() -> Result<(), String>,
}

/// All steps, cheapest first.
pub(crate) const ALL: &[Step] = &[
    Step {
        name: "fmt",
        summary: "the code is formatted",
        run: format,
    },
    Step {
        name: "links",
        summary: "links in the documents lead somewhere",
        run: links,
    },
    Step {
        name: "clippy",
        summary: "no lint complains, with all features",
        run: clippy,
    },
    Step {
        name: "features",
        summary: "the program builds with each feature alone",
        run: features,
    },
    Step {
        name: "docs",
        summary: "the API documents build without a warning",
        run: docs,
    },
    Step {
        name: "test",
        summary: "all tests pass, with all features",
        run: test,
    },
];

/// Runs the steps of these names, or all, up to the first that fails.
pub(crate) fn run(only: &[String]) -> Result<(), String> {
    if let Some(unknown) = only
        .iter()
        .find(|name| ALL.iter().all(|step| step.name != **name))
    {
        return Err(format!(
            "there is no step `{unknown}`; `cargo xtask test --list` shows them"
        ));
    }
    let chosen = ALL
        .iter()
        .filter(|step| only.is_empty() || only.iter().any(|n| n == step.name));
    let mut times = Vec::new();
    for step in chosen {
        println!("== {}: {}", step.name, step.summary);
        let began = Instant::now();
        (step.run)().map_err(|reason| format!("step `{}` failed: {reason}", step.name))?;
        times.push((step.name, began.elapsed().as_secs()));
    }
    println!("== all steps passed");
    for (name, seconds) in times {
        println!("{name:<10} {seconds:>5} s");
    }
    Ok(())
}

pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

fn cargo(arguments: &[&str]) -> Result<(), String> {
    cargo_with(arguments, &[])
}

/// Cargo's output goes straight to this program's, so that its closing lines are seen.
fn cargo_with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<(), String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root())
        .status()
        .map_err(|e| format!("cannot run cargo: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!(
            "`cargo {}` ended with {status}",
            arguments.join(" ")
        ))
    }
}

fn format() -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"])
}

fn clippy() -> Result<(), String> {
    let lints = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ];
    cargo(&lints)
}

/// None, and each alone.
fn features() -> Result<(), String> {
    for feature in ["", "process", "demo"] {
        println!(
            "-- features: {}",
            if feature.is_empty() { "none" } else { feature }
        );
        let check = [
            "check",
            "-p",
            "runner-manager",
            "--no-default-features",
            "--features",
            feature,
        ];
        cargo(&check)?;
    }
    Ok(())
}

fn test() -> Result<(), String> {
    cargo(&["test", "--workspace", "--all-features"])
}

fn docs() -> Result<(), String> {
    let docs = ["doc", "--workspace", "--no-deps", "--all-features"];
    cargo_with(&docs, &[("RUSTDOCFLAGS", "-D warnings")])
}

fn links() -> Result<(), String> {
    let broken = crate::links::broken(&root())?;
    if broken.is_empty() {
        Ok(())
    } else {
        Err(broken.join("\n"))
    }
}
