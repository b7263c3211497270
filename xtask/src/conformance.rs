//! The conformance suite, backend by backend.

use crate::executables::{self, Executable, Targets};
use crate::failure::{Failure, Result};
use crate::installation::Part;
use crate::peers::Peer;
use crate::scope::Scope;
use crate::workspace::{self, PROGRAM};
use crate::{process, tools};
use std::fs;
use std::path::{Path, PathBuf};

/// The backend whose peer is the kernel of this machine.
const PROCESS: &str = "process";

/// A backend outside the workspace that keeps the contract too.
const OUT_OF_TREE: &str = "tests/out-of-tree/Cargo.toml";

/// The cases that run, and the use of the page that a whole run writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// All cases run, and the committed page is written.
    Write,
    /// All cases run, and the committed page must be current.
    Compare,
    /// The cases run that the peer's file `checks` names. Without that file, as `Compare`.
    Part,
}

/// The schemes of the backends in this tree, and the peers that are another server for one of
/// them.
fn schemes(root: &Path) -> Result<Vec<String>> {
    let backend = |name: &str| name.strip_prefix("backend-").map(str::to_owned);
    let mut schemes = names(&root.join("crates"), backend)?;
    schemes.extend(names(&root.join("tests/peers"), |name| {
        let file = root.join("tests/peers").join(name).join("backend");
        file.exists().then(|| name.to_owned())
    })?);
    schemes.sort();
    Ok(schemes)
}

fn names(folder: &Path, pick: impl Fn(&str) -> Option<String>) -> Result<Vec<String>> {
    let because = Failure::because(format!("cannot list {}", folder.display()));
    let entries = fs::read_dir(folder).map_err(because)?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter_map(|name| pick(&name)).collect())
}

/// The backend that a peer is for: the one of its name, unless its file `backend` names another.
fn backend_of(root: &Path, scheme: &str) -> String {
    let file = root.join("tests/peers").join(scheme).join("backend");
    fs::read_to_string(file).map_or_else(|_| scheme.to_owned(), |name| name.trim().to_owned())
}

/// What in the file `checks` of a peer begins so is a test of the whole program.
const OF_PROGRAM: &str = "program::";

/// The cases that the checks run where the whole suite takes too long for them, each a name or the
/// beginning of some, from the file `checks` of the peer; and in the same way tests of the whole
/// program. Nothing stands for all.
fn checked(root: &Path, scheme: &str) -> Result<Vec<String>> {
    let file = root.join("tests/peers").join(scheme).join("checks");
    if !file.exists() {
        return Ok(Vec::new());
    }
    let failed = Failure::because(format!("cannot read {}", file.display()));
    let text = fs::read_to_string(&file).map_err(failed)?;
    let lines = text.lines().map(str::trim);
    let names: Vec<String> = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    if names.is_empty() {
        return Err(Failure::new(format!("{} names no case", file.display())));
    }
    Ok(names)
}

/// The schemes that are meant: those named, or all, less those left out. Unknown ones and
/// nothing at all are errors.
pub(crate) fn select(root: &Path, wanted: &[String], without: &[String]) -> Result<Vec<String>> {
    let known = schemes(root)?;
    let named = wanted.iter().filter(|w| *w != "all").chain(without);
    for name in named {
        if !known.contains(name) {
            let known = known.join(", ");
            return Err(Failure::new(format!(
                "there is no backend `{name}`; known: {known}, all"
            )));
        }
    }
    let all = wanted.iter().any(|w| w == "all");
    let mut schemes = known;
    schemes.retain(|s| (all || wanted.contains(s)) && !without.contains(s));
    if schemes.is_empty() {
        return Err(Failure::new("no backend is left to run the suite against"));
    }
    Ok(schemes)
}

/// All schemes but `process`, which has no peer, whose backends are built in this scope.
pub(crate) fn of_scope(root: &Path, scope: Scope) -> Result<Vec<String>> {
    let mut schemes = schemes(root)?;
    schemes.retain(|scheme| {
        scheme != PROCESS && Scope::of_backend(&backend_of(root, scheme)) == scope
    });
    Ok(schemes)
}

/// The installations of all peers.
pub(crate) fn installations(root: &Path) -> Result<Vec<Part>> {
    let schemes = schemes(root)?;
    let peers = schemes.iter().map(|scheme| Peer::of(root, scheme));
    Ok(peers
        .map(|peer| Box::new(move || peer.install()) as Part)
        .collect())
}

/// Runs the whole suite for these schemes, each against its peer, and writes their pages.
pub(crate) fn write(root: &Path, schemes: &[String]) -> Result<()> {
    let mut selection = Vec::new();
    for scheme in schemes {
        let backend = backend_of(root, scheme);
        selection.extend(["--package".to_owned(), package(&backend)]);
        selection.extend(["--features".to_owned(), format!("{PROGRAM}/{backend}")]);
    }
    selection.extend(["--package".to_owned(), PROGRAM.to_owned()]);
    for scheme in schemes {
        let backend = backend_of(root, scheme);
        let mut wanted = vec![format!("conformance-{backend}*")];
        if root.join(format!("tests/program/{backend}.rs")).exists() {
            wanted.push(backend);
        }
        let named = |name| ["--test".to_owned(), name];
        selection.extend(wanted.into_iter().flat_map(named));
    }
    selection.push("--bins".to_owned());
    tools::for_scope(root, scope(root, schemes))?;
    let tests = executables::build_selection(root, &selection)?;
    run(root, schemes, Page::Write, &tests)
}

/// Checks these schemes, each against its peer, with the cases that the checks run.
pub(crate) fn check(root: &Path, schemes: &[String]) -> Result<()> {
    let tests = executables::build(root, scope(root, schemes), Targets::Integration)?;
    run(root, schemes, Page::Part, &tests)
}

/// The part of the workspace that the suites of these schemes need.
fn scope(root: &Path, schemes: &[String]) -> Scope {
    let is_heavy = |scheme: &String| Scope::of_backend(&backend_of(root, scheme)) == Scope::All;
    match schemes.iter().any(is_heavy) {
        true => Scope::All,
        false => Scope::Hermetic,
    }
}

/// Runs the whole suite on all peers, whose committed pages must be current.
pub(crate) fn compare_all(root: &Path) -> Result<()> {
    let tests = executables::build(root, Scope::All, Targets::Integration)?;
    run(root, &schemes(root)?, Page::Compare, &tests)
}

/// Checks `process`, whose peer is the kernel. Its page is of a run as root; other users run the
/// suite without it.
pub(crate) fn check_process(root: &Path) -> Result<()> {
    let scheme = PROCESS.to_owned();
    let tests = Targets::One("conformance-process");
    let tests = executables::build(root, Scope::Hermetic, tests)?;
    if rustix::process::geteuid().is_root() {
        return run(root, &[scheme], Page::Compare, &tests);
    }
    println!(
        "as this user the suite runs without users and cgroups; docs/conformance/process.md is of root"
    );
    test(root, &scheme, &[], &[], &tests).map(drop)
}

/// Runs the suite for these schemes, each against its peer, and goes on when one fails.
pub(crate) fn run(root: &Path, schemes: &[String], page: Page, tests: &[Executable]) -> Result<()> {
    let mut failures = Vec::new();
    for scheme in schemes {
        println!("\n-- conformance of {scheme} --");
        if let Err(failure) = run_one(root, scheme, page, tests) {
            eprintln!("{failure}");
            failures.push(format!("`{scheme}`: {failure}"));
        }
    }
    if failures.is_empty() {
        return Ok(());
    }
    let failures = failures.join("\n");
    Err(Failure::new(format!("conformance of {failures}")))
}

fn peer(root: &Path, scheme: &str, page: Page) -> Peer {
    let peer = Peer::of(root, scheme);
    match page {
        // Built with the tests of the workspace.
        Page::Compare | Page::Part => {
            peer.with_runner(workspace::target(root).join("debug/github-sim"))
        }
        Page::Write => peer,
    }
}

/// Starts the peer, runs the suite, and stops the peer again if it was not up before.
///
/// Peers start one after the other: those of LXD and Incus share a limit of the kernel, which each
/// of them raises for its time.
fn run_one(root: &Path, scheme: &str, page: Page, tests: &[Executable]) -> Result<()> {
    let peer = peer(root, scheme, page);
    let cases = match page {
        Page::Write | Page::Compare => Vec::new(),
        Page::Part => checked(root, scheme)?,
    };
    let was_up = peer.is_up();
    peer.up()?;
    let tested = peer
        .environment()
        .and_then(|env| test(root, scheme, &cases, &env, tests));
    let stopped = if was_up { Ok(()) } else { peer.down() };
    let written = tested?;
    stopped?;
    if cases.is_empty() {
        return publish(root, scheme, &written, page);
    }
    let (cases, whole) = (cases.join(", "), page_of(root, scheme));
    if !whole.exists() {
        let message = format!("{} is missing: no whole run is known", whole.display());
        return Err(Failure::new(message));
    }
    println!(
        "PARTLY: `{scheme}` is held to {cases} here, and to all by `cargo xtask conformance {scheme}`"
    );
    Ok(())
}

fn package(backend: &str) -> String {
    format!("runner-manager-backend-{backend}")
}

/// The committed page of a backend.
fn page_of(root: &Path, scheme: &str) -> PathBuf {
    root.join("docs/conformance").join(format!("{scheme}.md"))
}

/// Runs the suite, or some cases of it, and gives the page that it wrote if all ran.
fn test(
    root: &Path,
    scheme: &str,
    cases: &[String],
    env: &[(String, String)],
    tests: &[Executable],
) -> Result<PathBuf> {
    let folder = workspace::target(root).join("conformance");
    fs::create_dir_all(&folder).map_err(Failure::because("cannot make the folder of reports"))?;
    let written = folder.join(format!("{scheme}.md"));
    // A page of an earlier run must not be taken for this one's.
    let _ = fs::remove_file(&written);
    let (of_program, cases): (Vec<&str>, Vec<&str>) = cases
        .iter()
        .map(String::as_str)
        .partition(|case| case.starts_with(OF_PROGRAM));
    let backend = backend_of(root, scheme);
    let suite = format!("conformance-{backend}");
    // Scenarios are tested once for each backend, and not for each of its peers.
    let beside = tests
        .iter()
        .filter(|test| backend == scheme && test.target.starts_with(&format!("{suite}-")));
    for executable in std::iter::once(executables::find(tests, &suite)?).chain(beside) {
        let mut test = executable.command();
        test.env("CONFORMANCE_CASES", cases.join(","))
            .envs(env.iter().map(|(key, value)| (key, value)))
            .env("CONFORMANCE_REPORT", &written)
            .env("CONFORMANCE_JUNIT", folder.join(format!("{scheme}.xml")));
        process::test(&mut test)?;
    }
    program(root, &backend, &of_program, env, tests)?;
    Ok(written)
}

/// Runs the tests of the whole program on this backend, where it has some: these, or all.
fn program(
    root: &Path,
    backend: &str,
    names: &[&str],
    env: &[(String, String)],
    tests: &[Executable],
) -> Result<()> {
    if !root.join(format!("tests/program/{backend}.rs")).exists() {
        return Ok(());
    }
    let mut test = executables::find(tests, backend)?.command();
    let names = names
        .iter()
        .filter_map(|name| name.strip_prefix(OF_PROGRAM));
    test.args(names)
        .envs(env.iter().map(|(key, value)| (key, value)));
    process::test(&mut test).map(drop)
}

/// Writes the committed page of a backend, or checks that it is current.
fn publish(root: &Path, scheme: &str, written: &Path, page: Page) -> Result<()> {
    let new = fs::read_to_string(written).map_err(Failure::because(
        "the suite wrote no page: some case did not run",
    ))?;
    let committed = page_of(root, scheme);
    if fs::read_to_string(&committed).is_ok_and(|old| old == new) {
        return Ok(());
    }
    match page {
        Page::Write => fs::write(&committed, new).map_err(Failure::because(format!(
            "cannot write {}",
            committed.display()
        ))),
        Page::Compare | Page::Part => Err(Failure::new(format!(
            "docs/conformance/{scheme}.md is out of date; `cargo xtask conformance {scheme}` writes it"
        ))),
    }
}

/// Plants every bug in the reference backend, and says which the suite finds.
pub(crate) fn mutations(root: &Path) -> Result<()> {
    let mut test = process::cargo(root);
    test.args(["test", "--quiet", "--package", "runner-manager-conformance"])
        .args(["--test", "reference", "--", "--nocapture"]);
    process::test(&mut test).map(drop)
}

/// Builds the backend outside the workspace and runs the suite against it.
pub(crate) fn out_of_tree(root: &Path) -> Result<()> {
    println!("\n-- conformance of a backend outside the tree --");
    let mut test = process::cargo(root);
    test.args(["test", "--locked", "--manifest-path", OUT_OF_TREE])
        .arg("--target-dir")
        .arg(workspace::target(root));
    process::test(&mut test).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_selected_by_name_and_left_out_by_name() {
        let root = workspace::root().expect("the root");
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let all = select(&root, &words(&["all"]), &[]).expect("there are some");
        assert!(all.contains(&"process".to_owned()));
        assert!(all.contains(&"incus".to_owned()) && backend_of(&root, "incus") == "lxd");
        assert_eq!(backend_of(&root, "process"), "process");
        let others = select(&root, &words(&["all"]), &words(&["process"]));
        assert!(others.map_or(true, |others| !others.contains(&"process".to_owned())));
        for (wanted, without) in [("zzz", "process"), ("all", "zzz"), ("process", "process")] {
            let refused = select(&root, &words(&[wanted]), &words(&[without]));
            assert!(
                refused.is_err(),
                "{wanted} without {without} gave {refused:?}"
            );
        }
    }

    #[test]
    fn the_checks_run_the_cases_that_a_peer_names_or_all() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join("tests/peers/x");
        fs::create_dir_all(&folder).expect("a folder");
        let checked = || checked(root.path(), "x");
        assert!(checked().expect("no file is fine").is_empty());
        let write = |text| fs::write(folder.join("checks"), text).expect("a file");
        write("# Why.\n\ncreate::\n  list::all\n");
        assert_eq!(checked().expect("two names"), ["create::", "list::all"]);
        write("# Nothing.\n");
        assert!(checked().is_err());
    }

    #[test]
    fn a_page_that_is_out_of_date_is_an_error_until_it_is_written() {
        let root = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(root.path().join("docs/conformance")).expect("a folder");
        let written = root.path().join("new.md");
        let publish = |page| publish(root.path(), "x", &written, page);
        assert!(publish(Page::Write).is_err(), "there is no page");
        fs::write(&written, "new").expect("a page");
        assert!(publish(Page::Compare).is_err());
        publish(Page::Write).expect("it is written");
        publish(Page::Compare).expect("it is current");
    }
}
