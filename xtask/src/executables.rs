//! Test programs: built by cargo, run one after the other.
//!
//! Cargo is not asked to run them. Its build lock would keep one test from running while another
//! part of the checks compiles, and it runs all packages or builds dependencies with the features
//! of some.

use crate::failure::{Failure, Result};
use crate::process::{self, TestTime};
use crate::scope::Scope;
use crate::tools;
use crate::workspace::PROGRAM;
use serde_json::Value;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

/// A test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Executable {
    /// The package, such as `runner-manager-store`.
    pub(crate) package: String,
    /// The library, binary or test of the package.
    pub(crate) target: String,
    path: PathBuf,
    /// The folder of the package, in which cargo runs its tests.
    folder: PathBuf,
}

/// The targets of each package that [`build`] builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Targets<'a> {
    /// The targets that `cargo test` runs.
    Default,
    /// All integration tests, those that need a server too, and binaries and examples.
    Integration,
    /// One integration test.
    One(&'a str),
}

/// Builds the tests of a part of the workspace.
pub(crate) fn build(root: &Path, scope: Scope, targets: Targets<'_>) -> Result<Vec<Executable>> {
    build_selection(root, &selection(root, scope, targets)?)
}

fn selection(root: &Path, scope: Scope, targets: Targets<'_>) -> Result<Vec<String>> {
    tools::for_scope(root, scope)?;
    let mut words = scope.arguments(root)?;
    match targets {
        Targets::Default => {}
        Targets::Integration => {
            words.extend(["--examples", "--bins"].map(str::to_owned));
            words.extend(scope.integration_tests(root)?);
        }
        Targets::One(test) => words.extend(["--test", test].map(str::to_owned)),
    }
    Ok(words)
}

/// Cargo, which builds the tests that these arguments name and tells of each.
fn builder(root: &Path, words: &[String]) -> Command {
    let mut build = process::cargo(root);
    build.args(["test", "--locked", "--no-run"]);
    build.arg("--message-format=json-render-diagnostics");
    build.args(words);
    println!("$ {}", process::line(&build));
    build
}

/// Builds the tests that `cargo test` runs, and runs each while cargo compiles the next.
///
/// Those of the program come last: they start the examples of its package.
pub(crate) fn build_and_run(root: &Path, scope: Scope) -> Result<Vec<TestTime>> {
    let mut build = builder(root, &selection(root, scope, Targets::Default)?);
    let mut building = Building::start(&mut build)?;
    let (mut times, mut last) = (Vec::new(), Vec::new());
    for test in building.executables()? {
        if test.package == PROGRAM {
            last.push(test);
        } else {
            times.extend(run(&[test])?);
        }
    }
    building.end()?;
    if times.is_empty() {
        return Err(Failure::new("cargo built no test"));
    }
    times.extend(run(&last)?);
    Ok(times)
}

/// Cargo at work. Dropped, it is killed.
struct Building(Child);

impl Building {
    fn start(build: &mut Command) -> Result<Self> {
        let child = build.stdout(Stdio::piped()).spawn();
        Ok(Self(child.map_err(Failure::because("cannot start cargo"))?))
    }

    /// The test programs, as they come.
    fn executables(&mut self) -> Result<mpsc::Receiver<Executable>> {
        let output = self.0.stdout.take();
        let output = output.ok_or_else(|| Failure::new("cargo's output is read already"))?;
        let (tell, told) = mpsc::channel();
        // Cargo's output is read while a test runs, or cargo would wait for its reader.
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(io::Result::ok);
            lines
                .filter_map(|line| executable(&line))
                .try_for_each(|test| tell.send(test))
        });
        Ok(told)
    }

    fn end(mut self) -> Result<()> {
        let status = self.0.wait();
        let status = status.map_err(Failure::because("cannot wait for cargo"))?;
        match status.success() {
            true => Ok(()),
            false => Err(Failure::new(format!("cargo ended with {status}"))),
        }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            // Not waited for, its pid is its own.
            let _ = process::kill(self.0.id());
            let _ = self.0.wait();
        }
    }
}

/// Builds the tests that these arguments of cargo name.
pub(crate) fn build_selection(root: &Path, words: &[String]) -> Result<Vec<Executable>> {
    let messages = process::stdout(&mut builder(root, words))?;
    let executables = messages.lines().filter_map(executable).collect::<Vec<_>>();
    if executables.is_empty() {
        return Err(Failure::new("cargo built no test"));
    }
    Ok(executables)
}

/// The test program that a message of cargo is about, if it is about one.
fn executable(line: &str) -> Option<Executable> {
    let message: Value = serde_json::from_str(line).ok()?;
    let is_test = message["profile"]["test"] == true;
    let path = message["executable"].as_str().filter(|_| is_test)?;
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    let package = message["package_id"].as_str()?;
    Some(Executable {
        package: package_name(package, folder),
        target: message["target"]["name"].as_str()?.to_owned(),
        path: path.into(),
        folder: folder.to_owned(),
    })
}

/// The name in a package id: `path+file:///x/crates/core#runner-manager-core@0.1.0`, or, where the
/// folder has the package's name, `path+file:///x/xtask#0.1.0`.
fn package_name(id: &str, folder: &Path) -> String {
    let fragment = id.rsplit('#').next().unwrap_or_default();
    match fragment.split_once('@') {
        Some((name, _)) => name.to_owned(),
        None => folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
    }
}

impl Executable {
    /// The program, as cargo would run it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder);
        command.envs(tools::environment());
        command.env("CARGO_MANIFEST_DIR", &self.folder);
        command.env("CARGO_PKG_NAME", &self.package);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a program of Rust's own test harness, which measures each test.
    ///
    /// The times are an unstable option of the harness, which is allowed for this process alone: a
    /// build would take the variable for a wish to use unstable features.
    pub(crate) fn run(&self, environment: &[(String, String)]) -> Result<Vec<TestTime>> {
        let mut command = self.command();
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.env("RUSTC_BOOTSTRAP", "1");
        command.args(["-Zunstable-options", "--report-time"]);
        process::test(&mut command)
    }
}

/// Runs all of them, up to the first that fails.
pub(crate) fn run(executables: &[Executable]) -> Result<Vec<TestTime>> {
    let mut times = Vec::new();
    for executable in executables {
        let Executable {
            package, target, ..
        } = executable;
        println!("\n{package}: {target}");
        let measured = executable
            .run(&[])
            .map_err(|failure| Failure::new(format!("tests of {package}, {target}: {failure}")))?;
        times.extend(measured.into_iter().map(|mut time| {
            time.name = format!("{package} {}", time.name);
            time
        }));
    }
    Ok(times)
}

/// The one test program of a name.
pub(crate) fn find<'a>(executables: &'a [Executable], target: &str) -> Result<&'a Executable> {
    let mut found = executables.iter().filter(|one| one.target == target);
    found
        .next()
        .ok_or_else(|| Failure::new(format!("cargo built no test program `{target}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_among_the_messages_of_cargo() {
        let test = r##"{"reason":"compiler-artifact","package_id":"path+file:///x/crates/core#runner-manager-core@0.1.0","manifest_path":"/x/crates/core/Cargo.toml","target":{"name":"guest"},"profile":{"test":true},"executable":"/x/target/debug/deps/guest-1"}"##;
        let found = executable(test).expect("a test");
        assert_eq!(
            (&*found.package, &*found.target),
            ("runner-manager-core", "guest")
        );
        assert_eq!(found.folder, Path::new("/x/crates/core"));
        for other in [
            test.replace("true", "false"),
            test.replace("\"/x/target/debug/deps/guest-1\"", "null"),
            "words".to_owned(),
        ] {
            assert_eq!(executable(&other), None);
        }
        assert!(find(std::slice::from_ref(&found), "guest").is_ok());
    }

    #[test]
    fn a_package_is_named_by_its_id_or_its_folder() {
        let folder = Path::new("/x/xtask");
        assert_eq!(package_name("path+file:///x/xtask#0.1.0", folder), "xtask");
        assert_eq!(package_name("path+file:///x/y#a@0.1.0", folder), "a");
    }
}
