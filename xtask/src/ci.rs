//! The checks of continuous integration: the hermetic tier first, then everything with servers.
//!
//! While the heavy SDK compiles on one core, the suites of the backends that do not need it run on
//! the other.

use crate::executables::{self, Executable, Targets};
use crate::failure::{Failure, Result};
use crate::installation::Installation;
use crate::peers::{self, Peer};
use crate::plan::{self, Report};
use crate::scope::Scope;
use crate::step::{self, Step};
use crate::{checks, conformance, facts, process, workspace};
use rustix::process::{Pid, setpriority_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The nice value of the steps that run beside others.
const LOWEST_PRIORITY: i32 = 19;

/// Runs all checks, and prints facts about the machine and the time of each step.
pub(crate) fn run(root: &Path) -> Result<()> {
    let installation = Installation::of(parts(root)?);
    let mut report = plan::run(root, &step::select(&[]), &[]);
    drop(installation);
    if !report.has_failed() {
        with_servers(root, &mut report);
    }
    println!("\n{}\n{}", facts::table(), report.table());
    report.verdict()
}

/// The root file systems of the peers, and tools: made beside the first steps.
fn parts(root: &Path) -> Result<Vec<crate::installation::Part>> {
    let mut parts = conformance::installations(root)?;
    for name in [checks::SSH, checks::bootstrap::PEER] {
        let peer = Peer::of(root, name);
        parts.push(Box::new(move || peer.install()));
    }
    let root = root.to_owned();
    parts.push(Box::new(move || {
        peers::headers(&root)?;
        checks::deny::provide(&root).map(drop)
    }));
    Ok(parts)
}

/// The steps that start servers.
fn with_servers(root: &Path, report: &mut Report) {
    let mut tests = Vec::new();
    let mut lane = None;
    report.step("build", || {
        tests = executables::build(root, Scope::Hermetic, Targets::Integration)?;
        lane = Some(Lane::start(
            root,
            &[Step::AllFeatures, Step::Features, Step::Schema],
        )?);
        Ok(())
    });
    report.step("servers", || checks::servers(root, &tests));
    report.step("conformance", || suites(root, Scope::Hermetic, &tests));
    if let Some(lane) = lane {
        report.step(
            "all-features, features, schema (beside the two before)",
            || lane.wait(),
        );
    }
    let rest = [Step::Bootstrap, Step::Providers, Step::Deny];
    report.step("conformance of heavy backends", || {
        let tests = executables::build(root, Scope::All, Targets::Integration)?;
        suites(root, Scope::All, &tests)
    });
    for step in rest {
        report.step(step.name(), || checks::run(root, step, &[]));
    }
}

/// The chosen cases of all peers whose backends need this scope.
fn suites(root: &Path, scope: Scope, tests: &[Executable]) -> Result<()> {
    let schemes = conformance::of_scope(root, scope)?;
    conformance::run(root, &schemes, conformance::Page::Part, tests)
}

/// Steps that run in another process beside this one. Dropped, it is killed.
struct Lane {
    /// Until it is waited for.
    child: Option<Child>,
    line: String,
    log: PathBuf,
}

impl Lane {
    fn start(root: &Path, steps: &[Step]) -> Result<Self> {
        let names: Vec<&str> = steps.iter().map(|step| step.name()).collect();
        let folder = workspace::target(root).join("checks");
        let log = folder.join(format!("{}.log", names[0]));
        let failed = || Failure::because(format!("cannot write {}", log.display()));
        fs::create_dir_all(&folder).map_err(failed())?;
        let output = File::create(&log).map_err(failed())?;
        let errors = output.try_clone().map_err(failed())?;
        // The file of this program may be built anew meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.args(["test", "--only", &names.join(",")]);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let line = process::line(&command);
        let child = command
            .spawn()
            .map_err(Failure::because(format!("cannot start `{line}`")))?;
        // The suites beside it wait for boots and have deadlines; a compiler takes what they leave.
        // At the usual priority it is only slower for them.
        let _ = setpriority_process(Some(Pid::from_child(&child)), LOWEST_PRIORITY);
        Ok(Self {
            child: Some(child),
            line,
            log,
        })
    }

    /// Waits for the end, and prints the output.
    ///
    /// Each command of the steps has a deadline of its own.
    fn wait(mut self) -> Result<()> {
        let child = self.child.take();
        let status = child.map(|mut child| child.wait()).transpose();
        let status =
            status.map_err(Failure::because(format!("cannot wait for `{}`", self.line)))?;
        let log = fs::read(&self.log);
        let log = log.map_err(Failure::because(format!(
            "cannot read {}",
            self.log.display()
        )))?;
        let log = String::from_utf8_lossy(&log);
        println!("{log}");
        if status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        let last = log
            .rsplit_once("xtask: ")
            .map_or("", |(_, failure)| failure);
        Err(Failure::new(last.trim_end()))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if let Some(child) = &self.child {
            // It may have ended meanwhile: until it is waited for, its pid is its own.
            let _ = process::kill(child.id());
        }
    }
}
