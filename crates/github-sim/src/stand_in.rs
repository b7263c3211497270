//! The stand-in runner: one program with two names, as GitHub's runner has them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

const RUN: &str =
    "#!/bin/sh\ncd \"$(dirname \"$0\")\" || exit 1\n./bin/Runner.Listener run \"$@\"\n";
const CONFIG: &str =
    "#!/bin/sh\ncd \"$(dirname \"$0\")\" || exit 1\n./bin/Runner.Listener configure \"$@\"\n";

/// Writes a folder laid out like an unpacked `actions-runner`. `program` calls
/// [`stand_in_main`] before anything else.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_runner_folder(folder: &Path, program: &Path) -> io::Result<()> {
    let bin = folder.join("bin");
    fs::create_dir_all(&bin)?;
    fs::copy(program, bin.join("Runner.Listener"))?;
    fs::hard_link(bin.join("Runner.Listener"), bin.join("Runner.Worker"))?;
    for (name, script) in [("run.sh", RUN), ("config.sh", CONFIG)] {
        let path = folder.join(name);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    for path in [folder, &bin] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// Acts as the stand-in runner where this program was started under one of its names. The exit
/// code is the real runner's: 0 after a job, 1 when it cannot go on, 2 when it may be tried
/// again.
#[must_use]
pub fn stand_in_main() -> Option<ExitCode> {
    let mut arguments = std::env::args();
    let program = PathBuf::from(arguments.next()?);
    let rest: Vec<String> = arguments.collect();
    let outcome = match program.file_name()?.to_str()? {
        "Runner.Listener" if rest.first().is_some_and(|a| a == "configure") => configure(&rest),
        "Runner.Listener" => listen(&rest),
        "Runner.Worker" => work(&rest),
        _ => return None,
    };
    Some(outcome.unwrap_or_else(|error| {
        eprintln!("the stand-in runner failed: {error}");
        ExitCode::from(1)
    }))
}

fn option(arguments: &[String], name: &str) -> Option<String> {
    let at = arguments.iter().position(|a| a == &format!("--{name}"));
    let given = at.and_then(|at| arguments.get(at + 1)).cloned();
    given.or_else(|| std::env::var(format!("ACTIONS_RUNNER_INPUT_{}", name.to_uppercase())).ok())
}

fn needed(arguments: &[String], name: &str) -> io::Result<String> {
    option(arguments, name).ok_or_else(|| io::Error::other(format!("--{name} is missing")))
}

fn configure(arguments: &[String]) -> io::Result<ExitCode> {
    let url = needed(arguments, "url")?;
    let address = url.strip_prefix("http://").unwrap_or(&url);
    let (host, path) = address.split_once('/').unwrap_or((address, ""));
    let scope = match path.split('/').collect::<Vec<_>>().as_slice() {
        ["enterprises", slug] => format!("enterprises/{slug}"),
        [org] => format!("orgs/{org}"),
        _ => format!("repos/{path}"),
    };
    let mut labels = vec![
        "self-hosted".to_owned(),
        "linux".to_owned(),
        "x64".to_owned(),
    ];
    let own = option(arguments, "labels").unwrap_or_default();
    labels.extend(own.split(',').filter(|l| !l.is_empty()).map(str::to_owned));
    let request = json!({
        "token": needed(arguments, "token")?,
        "scope": scope,
        "name": needed(arguments, "name")?,
        "labels": labels,
    });
    let base = format!("http://{host}");
    let (status, answer) = post(&base, "register", &request)?;
    if status != 200 {
        return Err(io::Error::other(format!(
            "the registration was refused: {status}"
        )));
    }
    let config = json!({ "url": base, "secret": answer["secret"] });
    fs::write(".runner", config.to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn listen(arguments: &[String]) -> io::Result<ExitCode> {
    let config: Value = match option(arguments, "jitconfig") {
        Some(encoded) => {
            let decoded = STANDARD.decode(encoded.trim()).map_err(io::Error::other)?;
            serde_json::from_slice(&decoded)?
        }
        None => serde_json::from_slice(&fs::read(".runner")?)?,
    };
    let base = config["url"].as_str().unwrap_or_default().to_owned();
    let me = json!({ "secret": config["secret"] });
    let mut failures = 0_u32;
    loop {
        match post(&base, "poll", &me) {
            Ok((200, job)) => return serve(&base, &config, &job),
            Ok((204, _)) => failures = 0,
            // Taken off GitHub.
            Ok((404, _)) => return Ok(ExitCode::from(1)),
            Ok(_) | Err(_) if failures < 30 => {
                failures += 1;
                std::thread::sleep(Duration::from_millis(200));
            }
            Ok(_) | Err(_) => return Ok(ExitCode::from(2)),
        }
    }
}

/// Lets a worker do the job, and keeps in touch meanwhile.
fn serve(base: &str, config: &Value, job: &Value) -> io::Result<ExitCode> {
    let me = json!({ "secret": config["secret"] });
    let worker = std::env::current_exe()?.with_file_name("Runner.Worker");
    let mut worker = Command::new(worker).arg(job.to_string()).spawn()?;
    let mut rounds = 0_u32;
    let status = loop {
        if let Some(status) = worker.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
        rounds += 1;
        if rounds.is_multiple_of(50) {
            // GitHub counts the silence; nothing to do about one that is lost.
            let _ = post(base, "alive", &me);
        }
    };
    let exit_code = status.code().unwrap_or(137);
    let done = json!({ "secret": config["secret"], "exit_code": exit_code });
    post(base, "done", &done)?;
    Ok(ExitCode::SUCCESS)
}

fn work(arguments: &[String]) -> io::Result<ExitCode> {
    let job: Value = serde_json::from_str(arguments.first().map_or("null", String::as_str))?;
    if let Some(hook) = std::env::var_os("ACTIONS_RUNNER_HOOK_JOB_STARTED") {
        let hook = Command::new(hook)
            .env("GITHUB_WORKFLOW", "demo")
            .env("GITHUB_RUN_ID", job["id"].to_string())
            .env(
                "GITHUB_REPOSITORY",
                job["repository"].as_str().unwrap_or_default(),
            )
            .env("GITHUB_EVENT_NAME", "workflow_dispatch")
            .status()?;
        if !hook.success() {
            return Ok(ExitCode::from(1));
        }
    }
    std::thread::sleep(Duration::from_millis(
        job["milliseconds"].as_u64().unwrap_or(0),
    ));
    let code = job["exit_code"]
        .as_u64()
        .and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// One request over a connection of its own.
fn post(base: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
    let host = base.strip_prefix("http://").unwrap_or(base);
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let body = body.to_string();
    write!(
        stream,
        "POST /_runner/{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.take(65_536).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("the answer is not HTTP"))?;
    Ok((status, serde_json::from_str(body).unwrap_or(Value::Null)))
}
