//! The conformance suite, backend by backend.

use crate::failure::{Failure, Result};
use crate::installation::Part;
use crate::peers::Peer;
use crate::{process, workspace};
use std::fs;
use std::path::{Path, PathBuf};

/// A backend outside the workspace that keeps the contract too.
const OUT_OF_TREE: &str = "tests/out-of-tree/Cargo.toml";

/// What becomes of the page of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// It is written.
    Write,
    /// It must be current already.
    Check,
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

/// The installations of the peers that a run of the whole suite needs.
pub(crate) fn installations(root: &Path, without: &[String]) -> Result<Vec<Part>> {
    let schemes = select(root, &["all".to_owned()], without)?;
    let peers = schemes.iter().map(|scheme| Peer::of(root, scheme));
    Ok(peers
        .map(|peer| Box::new(move || peer.install()) as Part)
        .collect())
}

/// Runs the suite for these schemes, each against its peer, and goes on when one fails.
pub(crate) fn run(root: &Path, schemes: &[String], page: Page) -> Result<()> {
    let mut failures = Vec::new();
    for scheme in schemes {
        println!("\n-- conformance of {scheme} --");
        if let Err(failure) = run_one(root, scheme, page) {
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

/// Starts the peer, runs the suite, and stops the peer again if it was not up before.
fn run_one(root: &Path, scheme: &str, page: Page) -> Result<()> {
    let mut peer = Peer::of(root, scheme);
    if page == Page::Check {
        peer = peer.with_runner(workspace::built(root, "github-sim")?);
    }
    let was_up = peer.is_up();
    peer.up()?;
    let cases = match page {
        Page::Write => Vec::new(),
        Page::Check => checked(root, scheme)?,
    };
    let tested = peer
        .environment()
        .and_then(|env| test(root, scheme, page, &cases, &env));
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

/// The committed page of a backend.
fn page_of(root: &Path, scheme: &str) -> PathBuf {
    root.join("docs/conformance").join(format!("{scheme}.md"))
}

/// What cargo builds. A page is written with one package alone. All checks in a row build the
/// whole workspace, as the steps before did: with other features of shared dependencies, the
/// SDK of EC2 would be built once more.
fn selection(page: Page, package: &str, feature: Option<&str>) -> Vec<String> {
    let words: &[&str] = match (page, feature) {
        (Page::Check, _) => &["--workspace", "--all-features"],
        (Page::Write, None) => &["--package", package],
        (Page::Write, Some(feature)) => &["--package", package, "--features", feature],
    };
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Runs the suite, or some cases of it, and gives the page that it wrote if all ran.
fn test(
    root: &Path,
    scheme: &str,
    page: Page,
    cases: &[String],
    env: &[(String, String)],
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
    // What is tested beside the suite is tested once for each backend.
    let beside = if backend == scheme { "*" } else { "" };
    let mut test = process::cargo(root);
    test.arg("test")
        .args(selection(
            page,
            &format!("runner-manager-backend-{backend}"),
            None,
        ))
        .args(["--test", &format!("conformance-{backend}{beside}")])
        .env("CONFORMANCE_CASES", cases.join(","))
        .envs(env.iter().map(|(key, value)| (key, value)))
        .env("CONFORMANCE_REPORT", &written)
        .env("CONFORMANCE_JUNIT", folder.join(format!("{scheme}.xml")));
    process::test(&mut test)?;
    program(root, &backend, page, &of_program, env)?;
    Ok(written)
}

/// Runs the tests of the whole program on this backend, where it has some: these, or all.
fn program(
    root: &Path,
    backend: &str,
    page: Page,
    tests: &[&str],
    env: &[(String, String)],
) -> Result<()> {
    if !root.join(format!("tests/program/{backend}.rs")).exists() {
        return Ok(());
    }
    let mut test = process::cargo(root);
    test.arg("test")
        .args(selection(page, workspace::PROGRAM, Some(backend)))
        .args(["--test", backend, "--"])
        .args(
            tests
                .iter()
                .filter_map(|name| name.strip_prefix(OF_PROGRAM)),
        )
        .envs(env.iter().map(|(key, value)| (key, value)));
    process::test(&mut test)
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
        Page::Check => Err(Failure::new(format!(
            "docs/conformance/{scheme}.md is out of date; `cargo xtask conformance {scheme}` writes it"
        ))),
    }
}

/// Plants every bug in the reference backend, and says which the suite finds.
pub(crate) fn mutations(root: &Path) -> Result<()> {
    let mut test = process::cargo(root);
    test.args(["test", "--quiet", "--package", "runner-manager-conformance"])
        .args(["--test", "reference", "--", "--nocapture"]);
    process::test(&mut test)
}

/// Builds the backend outside the workspace and runs the suite against it.
pub(crate) fn out_of_tree(root: &Path) -> Result<()> {
    println!("\n-- conformance of a backend outside the tree --");
    let mut test = process::cargo(root);
    test.args(["test", "--locked", "--manifest-path", OUT_OF_TREE])
        .arg("--target-dir")
        .arg(workspace::target(root));
    process::test(&mut test)
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
        assert!(publish(Page::Check).is_err());
        publish(Page::Write).expect("it is written");
        publish(Page::Check).expect("it is current");
    }
}
