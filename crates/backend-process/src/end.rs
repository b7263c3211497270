//! Stopping and removing runners.

use std::time::{Duration, Instant};

use runner_manager_core::{Effect, Error, ExchangeFile, Result, RunnerName, StopMode, StopOutcome};

use crate::api::Native;
use crate::fence::Fence;
use crate::host::Host;
use crate::lock::Lock;
use crate::record::Record;
use crate::remove::remove_tree;
use crate::{exchange, keyring, logs};

/// How long another task may hold the runner's lock.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long processes may take to freeze, and to end.
const KILL_WITHIN: Duration = Duration::from_secs(10);
/// How long one deletion of a folder may take.
const REMOVE_WITHIN: Duration = Duration::from_secs(45);

/// The process names that the runner program shows.
pub(crate) const LISTENER: &str = "Runner.Listener";
pub(crate) const WORKER: &str = "Runner.Worker";

/// Ends a runner, with all that belongs to it.
pub(crate) fn terminate(host: &Host, name: &RunnerName) -> Result<()> {
    let lock = Lock::take(&host.lock_path(name), Instant::now() + PATIENCE)?;
    let record = host.record(name)?;
    if let Some(record) = &record
        && let Some(reason) = failure(host, record)?
    {
        keep_log(host, record, &reason);
    }
    purge(host, name, record.as_ref())?;
    lock.remove();
    Ok(())
}

/// Why a runner counts as failed; `None` when it does not.
///
/// An ephemeral runner ends well only after a job, and the runner's own scripts turn fatal
/// errors into the exit code 0: without the pre-job file its end is a failure.
fn failure(host: &Host, record: &Record) -> Result<Option<String>> {
    let native = host.look(record)?;
    let folder = host.folder(&record.name);
    let owner = host.owner(record);
    Ok(match native {
        Native::Exited if record.phase != crate::record::Phase::Stopped => {
            match exchange::exit_code(&folder, owner)? {
                Some(0) if exchange::has(&folder, ExchangeFile::PreJob, owner)? => None,
                Some(0) => Some("ended with code 0 and without a job".into()),
                Some(code) => Some(format!("ended with code {code}")),
                None => Some("ended".into()),
            }
        }
        Native::Vanished | Native::OverDisk | Native::Rebooted => Some(native.as_str().into()),
        _ => None,
    })
}

fn keep_log(host: &Host, record: &Record, reason: &str) {
    let headline = format!(
        "# runner {}, made {}, {reason}",
        record.name, record.created_at
    );
    let (name, rules) = (&record.name, &host.config.failed_logs);
    // A log that cannot be kept must not keep the runner.
    if let Err(error) = logs::keep(&host.failed(), &host.folder(name), name, &headline, rules) {
        tracing::warn!(runner = %name, %error, "cannot keep the log of a failed runner");
    }
}

/// Removes all that carries a runner's name. The caller holds its lock.
pub(crate) fn purge(host: &Host, name: &RunnerName, record: Option<&Record>) -> Result<()> {
    // A failed launch does not know how far it came.
    let found = match record {
        Some(_) => None,
        None => host.record(name)?,
    };
    let record = record.or(found.as_ref());
    let partial = |error: Error| error.with_effect(Effect::Partial);
    let uids = claimed(host, name, record)?;
    for fence in fences(host, name, record, &uids) {
        fence.kill(Instant::now() + KILL_WITHIN).map_err(partial)?;
    }
    if let Some(groups) = &host.cgroups {
        let group = groups.of(&name.to_string());
        group
            .remove(Instant::now() + KILL_WITHIN)
            .map_err(partial)?;
    }
    let deadline = Instant::now() + REMOVE_WITHIN;
    remove_tree(&host.folder(name), Record::file_name(), deadline)?;
    // The number goes last, when nothing of its user is left.
    if let Some(users) = &host.users {
        for uid in uids {
            // Where its last job forbids that, the keys are of its own choice.
            if let Err(error) = keyring::clear_user(uid) {
                tracing::warn!(runner = %name, %error, "keys may be left to the user's next runner");
            }
            users.release(uid, name).map_err(partial)?;
        }
    }
    host.disk.forget(name);
    Ok(())
}

/// Whether a launch of this name would find its places taken.
pub(crate) fn has_remains(host: &Host, name: &RunnerName) -> bool {
    let group = host.cgroups.as_ref().map(|g| g.of(&name.to_string()));
    std::fs::symlink_metadata(host.folder(name)).is_ok()
        || group.is_some_and(|group| group.path().exists())
}

/// The users that a runner has: by its record, or by the claims in its name.
fn claimed(host: &Host, name: &RunnerName, record: Option<&Record>) -> Result<Vec<u32>> {
    let Some(users) = &host.users else {
        return Ok(Vec::new());
    };
    if let Some(record) = record
        && record.boot_id == host.boot_id
    {
        return Ok(record.uid.into_iter().collect());
    }
    // A claim proves more than a record of another start of the machine.
    let name = name.to_string();
    let claims = users.claimed()?.into_iter();
    Ok(claims.filter(|c| c.name == name).map(|c| c.uid).collect())
}

/// Everything that may hold processes of the runner.
fn fences(host: &Host, name: &RunnerName, record: Option<&Record>, uids: &[u32]) -> Vec<Fence> {
    let text = name.to_string();
    let base = Fence {
        cgroup: host.cgroups.as_ref().map(|groups| groups.of(&text)),
        uid: None,
        main: record.and_then(|record| host.fence(record).main),
        marker: host.marker(name),
    };
    if host.users.is_none() || uids.is_empty() {
        return vec![base];
    }
    let with = |uid: &u32| Fence {
        uid: Some(*uid),
        ..base.clone()
    };
    uids.iter().map(with).collect()
}

/// Stops a runner where the mode allows; check and stop are one step, for the runner stands
/// still in between.
pub(crate) fn stop(host: &Host, name: &RunnerName, mode: StopMode) -> Result<StopOutcome> {
    let _lock = Lock::take(&host.lock_path(name), Instant::now() + PATIENCE)?;
    let Some(record) = host.record(name)? else {
        return Ok(StopOutcome::NotRunning);
    };
    let fence = host.fence(&record);
    let deadline = Instant::now() + KILL_WITHIN;
    if mode == StopMode::Idle {
        let frozen = fence.freeze(deadline)?;
        if frozen.members.iter().any(|seen| seen.comm == WORKER) {
            return Ok(StopOutcome::Busy);
        }
        if !is_running(&record, &frozen.members) {
            return Ok(StopOutcome::NotRunning);
        }
        host.note_stopped(&record)?;
        // Still frozen: a kill signal ends what stands still, and nothing else moves.
        fence.kill(deadline)?;
        return Ok(StopOutcome::Stopped);
    }
    if !is_running(&record, &fence.members(&host.scanner)?) {
        return Ok(StopOutcome::NotRunning);
    }
    host.note_stopped(&record)?;
    fence.kill(deadline)?;
    Ok(StopOutcome::Stopped)
}

/// Whether the runner program is among the processes.
fn is_running(record: &Record, members: &[crate::scan::Seen]) -> bool {
    let runs = |seen: &crate::scan::Seen| {
        Some(seen.id) == record.main || seen.comm == LISTENER || seen.comm == WORKER
    };
    members.iter().any(runs)
}
