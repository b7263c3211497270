//! Running other programs.

use crate::failure::{Failure, Result};
use crate::tools;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// What `cargo run` sets for this program and would make the builds below it differ from a
/// build started by hand.
const OF_THIS_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// Cargo, in the root of the workspace.
pub(crate) fn cargo(root: &Path) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root).stdin(Stdio::null());
    command.envs(tools::environment());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if OF_THIS_PACKAGE.iter().any(|start| name.starts_with(start)) {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// How long a command may take whose output goes to the terminal. All checks together take less:
/// one that takes longer hangs, and would hide what the others say.
const DEADLINE: Duration = Duration::from_secs(45 * 60);

/// Runs a command whose output goes to the terminal as it comes, and fails unless it ends well.
pub(crate) fn stream(command: &mut Command) -> Result<()> {
    within(DEADLINE, command)
}

fn within(deadline: Duration, command: &mut Command) -> Result<()> {
    let line = line(command);
    println!("$ {line}");
    let mut child = command
        .spawn()
        .map_err(Failure::because(format!("cannot start `{line}`")))?;
    let pid = child.id();
    let (tell, ended) = mpsc::channel();
    // Nobody listens any more when it is killed.
    std::thread::spawn(move || tell.send(child.wait()));
    let Ok(status) = ended.recv_timeout(deadline) else {
        kill(pid)?;
        let minutes = deadline.as_secs() / 60;
        let message = format!("`{line}` did not end within {minutes} minutes, and was killed");
        return Err(Failure::new(message));
    };
    let status = status.map_err(Failure::because(format!("cannot wait for `{line}`")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("`{line}` ended with {status}")))
}

/// How long the last output of a command may take after its end.
const DRAIN: Duration = Duration::from_secs(10);

/// How long one test took.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TestTime {
    pub(crate) name: String,
    pub(crate) seconds: f64,
}

/// Runs tests as [`stream`] runs a command, and gives the times that the harness printed. The
/// failure repeats the output of the tests that failed: thousands of lines may come after it, and a
/// reader of the end must find it there.
pub(crate) fn test(command: &mut Command) -> Result<Vec<TestTime>> {
    let (output, end) = io::pipe().map_err(Failure::because("cannot make a pipe"))?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(pass_on(output, io::stdout())));
    let ended = stream(command.stdout(end));
    // Else this end of the pipe would stay open, and the reader would wait for more.
    command.stdout(Stdio::null());
    let report = told.recv_timeout(DRAIN).unwrap_or_default();
    match ended {
        Ok(()) => Ok(report.times),
        Err(failure) => {
            let message = format!("{failure}\n{}", report.words());
            Err(Failure::new(message.trim_end()))
        }
    }
}

/// Writes the output of tests to another place as it comes, and reads it.
fn pass_on(output: impl Read, mut to: impl Write) -> Report {
    let mut report = Report::default();
    for line in BufReader::new(output)
        .split(b'\n')
        .map_while(io::Result::ok)
    {
        let line = String::from_utf8_lossy(&line);
        // Where nobody reads any more, the end of the tests still counts.
        let _ = writeln!(to, "{line}");
        report.read(&line);
    }
    report
}

/// The failures and times in the output of tests.
#[derive(Debug, Default)]
struct Report {
    times: Vec<TestTime>,
    is_inside: bool,
    /// What the tests said, and then their names: each part begins with `failures:`.
    parts: Vec<Vec<String>>,
}

impl Report {
    /// How much of a part is kept.
    const LINES: usize = 80;

    fn read(&mut self, line: &str) {
        self.times.extend(test_time(line));
        match line {
            "failures:" => {
                self.is_inside = true;
                self.parts.push(Vec::new());
            }
            end if end.starts_with("test result: ") => self.is_inside = false,
            _ => {}
        }
        let Some(part) = self.parts.last_mut().filter(|_| self.is_inside) else {
            return;
        };
        if part.len() < Self::LINES && !is_of_backtrace(line) {
            part.push(line.to_owned());
        }
    }

    fn words(&self) -> String {
        self.parts.concat().join("\n")
    }
}

/// The time in a line such as `test a::b ... ok <1.234s>`.
fn test_time(line: &str) -> Option<TestTime> {
    let (name, outcome) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let (_, time) = outcome.rsplit_once('<')?;
    Some(TestTime {
        name: name.to_owned(),
        seconds: time.strip_suffix("s>")?.parse().ok()?,
    })
}

/// Whether a line is one of those two that a backtrace has for each call.
fn is_of_backtrace(line: &str) -> bool {
    let number = line.trim_start().split(": ").next().unwrap_or_default();
    line.starts_with("             at ") || (line.starts_with(' ') && number.parse::<u32>().is_ok())
}

/// Kills a process, and all that it and its children started.
pub(crate) fn kill(pid: u32) -> Result<()> {
    // Some may have ended meanwhile.
    capture(Command::new("kill").arg("-KILL").args(stop(pid)?)).map(drop)
}

/// Stops a process, and all that it and its children started, as far as the parents still live,
/// and gives their pids. Parents first: what is stopped starts no more children, of which one that
/// nobody knows would outlive its parent.
fn stop(pid: u32) -> Result<Vec<String>> {
    let mut all = vec![pid.to_string()];
    let mut at = 0;
    while at < all.len() {
        capture(Command::new("kill").args(["-STOP", &all[at]]))?;
        for _ in 0..STOP_TRIES {
            if is_still(&all[at]) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        for thread in fs::read_dir(format!("/proc/{}/task", all[at]))
            .into_iter()
            .flatten()
        {
            let file = thread.map(|thread| thread.path().join("children"));
            // What has ended meanwhile has no children any more.
            let children = file.and_then(fs::read_to_string).unwrap_or_default();
            all.extend(children.split_whitespace().map(str::to_owned));
        }
        at += 1;
    }
    Ok(all)
}

/// How often is looked, a millisecond apart, whether a process has stopped.
const STOP_TRIES: u32 = 1_000;

/// Whether a process does nothing any more: it is stopped, waits in the kernel where no signal
/// reaches it (for a child that is just starting a program, which is stopped in turn), or has ended.
fn is_still(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which may hold anything.
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_none_or(|rest| !rest.starts_with(['R', 'S']))
}

/// Runs a command and gives all of its output, whether it ends well or not.
pub(crate) fn capture(command: &mut Command) -> Result<Output> {
    let line = line(command);
    command
        .output()
        .map_err(Failure::because(format!("cannot start `{line}`")))
}

/// Runs a command and gives what it prints. Its errors go to the terminal as they come.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let output = capture(command.stderr(Stdio::inherit()))?;
    let line = line(command);
    if !output.status.success() {
        return Err(Failure::new(format!(
            "`{line}` ended with {}",
            output.status
        )));
    }
    String::from_utf8(output.stdout).map_err(Failure::because(format!(
        "`{line}` printed what is not UTF-8"
    )))
}

/// A command as one would type it, with the program's name in place of its path.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_failed_command_is_named_with_its_exit_code() {
        let failure = stream(&mut shell("exit 7"))
            .expect_err("7 is a failure")
            .to_string();
        assert!(failure.contains("sh -c exit 7"), "{failure}");
        assert!(failure.contains('7'), "{failure}");
    }

    #[test]
    fn what_failed_in_tests_is_told_again() {
        let long = "c\n".repeat(Report::LINES);
        let output = format!(
            "test a ... ok\nfailures:\n\n---- b ----\n1 is not 2\n   3: main\n             at \
             ./a.rs:1\n{long}failures:\n    b\ntest result: FAILED\nafter\n"
        );
        let mut passed_on = Vec::new();
        let failed = pass_on(output.as_bytes(), &mut passed_on).words();
        let told = "failures:\n\n---- b ----\n1 is not 2\nc\n";
        assert!(
            failed.starts_with(told) && failed.ends_with("c\nfailures:\n    b"),
            "{failed}"
        );
        assert_eq!(String::from_utf8_lossy(&passed_on), output);
        let failure = test(&mut shell("echo one; exit 3")).expect_err("3 is a failure");
        assert!(failure.to_string().ends_with("3"), "{failure}");
        test(&mut shell("echo two")).expect("it ends well");
    }

    #[test]
    fn the_time_of_a_test_is_read() {
        let time = test_time("test a::b ... ok <1.250s>").expect("a time");
        assert_eq!((&*time.name, time.seconds), ("a::b", 1.25));
        for other in [
            "test a ... ok",
            "test result: ok. 1 passed",
            "a <1s>",
            "test a ... ok <xs>",
        ] {
            assert_eq!(test_time(other), None, "{other}");
        }
        let times = test(&mut shell("echo 'test c ... ok <0.001s>'")).expect("it ends well");
        assert_eq!(times.len(), 1);
    }

    #[test]
    fn what_does_not_end_is_told() {
        let failure = within(Duration::ZERO, &mut shell("exec sleep 600"));
        let failure = failure.expect_err("it was killed").to_string();
        assert!(failure.contains("did not end"), "{failure}");
    }

    #[test]
    fn a_process_is_killed_with_all_that_it_started() {
        let mut first = shell("sh -c 'echo ready; sleep 600; true' & wait");
        let mut first = first.stdout(Stdio::piped()).spawn().expect("a shell");
        let mut output = BufReader::new(first.stdout.take().expect("a pipe"));
        let mut line = String::new();
        output
            .read_line(&mut line)
            .expect("its second process speaks");
        assert_eq!(line, "ready\n");
        kill(first.id()).expect("they can be killed");
        // The pipe ends with the last of them.
        output.read_line(&mut line).expect("an end");
        assert_eq!(line, "ready\n");
        first.wait().expect("it has ended");
    }

    #[test]
    fn a_missing_program_is_named() {
        let failure = stream(&mut Command::new("/nowhere/zzz")).expect_err("no such program");
        assert!(
            failure.to_string().contains("cannot start `zzz`"),
            "{failure}"
        );
    }

    #[test]
    fn output_is_given_only_by_a_command_that_ends_well() {
        assert_eq!(stdout(&mut shell("echo a")).as_deref(), Ok("a\n"));
        assert!(stdout(&mut shell("echo a; exit 1")).is_err());
    }
}
