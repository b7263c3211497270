//! What belongs to a prefix and has no runner any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use runner_manager_core::{Leftover, NamePrefix, Result, RunnerName};

use crate::end;
use crate::files::{modified, names};
use crate::host::Host;
use crate::lock::Lock;

/// How long another task may hold the runner's lock.
const PATIENCE: Duration = Duration::from_secs(10);

/// Everything of the prefix that has no valid record, and on which nobody works.
pub(crate) fn find(host: &Host, prefix: &NamePrefix) -> Result<Vec<Leftover>> {
    let mut found: BTreeMap<RunnerName, Leftover> = BTreeMap::new();
    for (kind, id, text, created_at) in candidates(host)? {
        let Some(name) = prefix.owned(&text) else {
            continue;
        };
        // One leftover a runner: its removal takes all kinds at once.
        found.entry(name.clone()).or_insert(Leftover {
            kind,
            id,
            name,
            created_at,
        });
    }
    let mut left = Vec::new();
    for (name, leftover) in found {
        // First the lock, then the record: a launch writes its record before it frees the lock.
        let held = Lock::is_held(&host.lock_path(&name))?;
        if !held && host.record(&name)?.is_none() {
            left.push(leftover);
        }
    }
    Ok(left)
}

type Candidate = (&'static str, String, String, Option<Timestamp>);

fn candidates(host: &Host) -> Result<Vec<Candidate>> {
    let mut found = Vec::new();
    for name in host.names()? {
        let path = host.work_dir.join(&name);
        found.push(("folder", path.display().to_string(), name, modified(&path)));
    }
    if let Some(groups) = &host.cgroups {
        for name in groups.names()? {
            let group = groups.of(&name);
            let made = modified(group.path());
            found.push(("cgroup", group.path().display().to_string(), name, made));
        }
    }
    if let Some(users) = &host.users {
        for claim in users.claimed()? {
            found.push(("user", claim.uid.to_string(), claim.name, claim.created_at));
        }
    }
    for name in names(&host.locks())? {
        let path = host.locks().join(&name);
        found.push(("lock", path.display().to_string(), name, modified(&path)));
    }
    if host.users.is_none() {
        found.extend(marked(host)?);
    }
    Ok(found)
}

/// Processes that carry the mark of a runner, where they have no user of their own to be found
/// by.
fn marked(host: &Host) -> Result<Vec<Candidate>> {
    let start = format!("{}/", host.realm);
    let all = crate::scan::all(crate::scan::Markers::Read)?;
    let names = all.iter().filter_map(|seen| {
        let name = seen.marker.as_deref()?.strip_prefix(&start)?;
        Some(("process", seen.id.pid.to_string(), name.to_owned(), None))
    });
    Ok(names.collect())
}

/// Removes what a leftover's runner has left, unless it has a valid record by now.
pub(crate) fn remove(host: &Host, leftover: &Leftover) -> Result<()> {
    let name = &leftover.name;
    let lock = Lock::take(&host.lock_path(name), Instant::now() + PATIENCE)?;
    if host.record(name)?.is_some() {
        return Ok(());
    }
    end::purge(host, name, None)?;
    lock.remove();
    Ok(())
}
