//! Looking at processes.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use procfs::process::{Process, Stat};
use runner_manager_core::{Error, ErrorKind, Result};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::record::Identity;

/// The environment variable that marks the processes of a runner: `{realm}/{name}`.
pub(crate) const MARKER: &str = "RUNNER_MANAGER_INSTANCE";

/// One process.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: Identity,
    pub(crate) parent: i32,
    pub(crate) session: i32,
    pub(crate) comm: String,
    pub(crate) state: char,
    pub(crate) uid: u32,
    /// The value of [`MARKER`], where it was asked for and may be read.
    pub(crate) marker: Option<String>,
}

/// Whether a scan reads the marker of each process of this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Markers {
    Read,
    Skip,
}

impl Seen {
    fn read(process: &Process, markers: Option<u32>) -> Option<Self> {
        let stat = process.stat().ok()?;
        if has_ended(&stat) {
            return None;
        }
        let mut uid = process.uid().ok()?;
        // The folder of a process that may not be dumped belongs to root, whoever runs it.
        if uid == 0 && markers.is_none() && stat.ppid != 2 {
            uid = process.status().ok()?.ruid;
        }
        let marker = if markers == Some(uid) {
            marker_of(&stat)
        } else {
            None
        };
        Some(Self {
            id: Identity {
                pid: stat.pid,
                start: stat.starttime,
            },
            parent: stat.ppid,
            session: stat.session,
            state: state_of(&stat),
            comm: stat.comm,
            uid,
            marker,
        })
    }

    /// One process; `None` when it has ended.
    pub(crate) fn one(pid: i32) -> Option<Self> {
        // Nobody's user id: the marker is not read.
        Self::read(&Process::new(pid).ok()?, Some(u32::MAX))
    }
}

/// Whether all threads of a process have ended, and its parent has not waited for it yet.
///
/// The state is that of the first thread, which can end before the others: then the process shows
/// as a zombie (`Z`) and runs.
fn has_ended(stat: &Stat) -> bool {
    is_dead(stat.state) && stat.num_threads <= 1
}

fn is_dead(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

/// The state of the process: that of its first thread, or of another that is not stopped where the
/// first has ended.
fn state_of(stat: &Stat) -> char {
    if !is_dead(stat.state) {
        return stat.state;
    }
    let mut states = threads(stat.pid).filter_map(|thread| {
        let stat = std::fs::read(thread.join("stat")).ok()?;
        // The state follows the name, which may hold anything, and be no text.
        let text = String::from_utf8_lossy(&stat);
        text.rsplit_once(") ")?.1.chars().next()
    });
    let mut last = stat.state;
    for state in states.by_ref().filter(|state| !is_dead(*state)) {
        last = state;
        if !matches!(state, 'T' | 't') {
            break;
        }
    }
    last
}

/// The value of [`MARKER`]. A first thread that has ended has no environment any more; the others
/// still show it.
fn marker_of(stat: &Stat) -> Option<String> {
    threads(stat.pid).find_map(|thread| {
        let environ = std::fs::read(thread.join("environ")).ok()?;
        let mut values = environ
            .split(|byte| *byte == 0)
            .filter_map(|pair| pair.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"="));
        let value = values.next()?;
        std::str::from_utf8(value).ok().map(str::to_owned)
    })
}

/// The folders of a process's threads, the first thread's first.
fn threads(pid: i32) -> impl Iterator<Item = PathBuf> {
    let folder = PathBuf::from(format!("/proc/{pid}/task"));
    let first = folder.join(pid.to_string());
    let others = std::fs::read_dir(&folder).into_iter().flatten().flatten();
    let others = others.map(|entry| entry.path());
    std::iter::once(first.clone()).chain(others.filter(move |path| *path != first))
}

/// Whether this very process lives.
pub(crate) fn is_alive(id: Identity) -> bool {
    Process::new(id.pid)
        .and_then(|process| process.stat())
        .is_ok_and(|stat| stat.starttime == id.start && !has_ended(&stat))
}

/// When a process was started; it may be a zombie already.
pub(crate) fn identity(pid: i32) -> Result<Identity> {
    let stat = Process::new(pid)
        .and_then(|process| process.stat())
        .map_err(|e| Error::new(ErrorKind::Local, "cannot read /proc").with_source(e))?;
    Ok(Identity {
        pid,
        start: stat.starttime,
    })
}

/// All processes. Those that end meanwhile are left out.
pub(crate) fn all(markers: Markers) -> Result<Vec<Seen>> {
    let own = (markers == Markers::Read).then(|| rustix::process::geteuid().as_raw());
    let list = procfs::process::all_processes()
        .map_err(|e| Error::new(ErrorKind::Local, "cannot list /proc").with_source(e))?;
    Ok(list
        .filter_map(|process| Seen::read(&process.ok()?, own))
        .collect())
}

/// Sends a signal to this very process. One that has ended is fine.
pub(crate) fn signal(id: Identity, signal: Signal) {
    let Some(pid) = Pid::from_raw(id.pid) else {
        return;
    };
    // First the handle, then the look: from then on the handle cannot be of another process.
    let Ok(handle) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    if is_alive(id) {
        // The only failure left is that it has ended, or that it is not ours.
        let _ = rustix::process::pidfd_send_signal(handle, signal);
    }
}

/// Scans shared by observations that are made at the same time, so that a list of many runners
/// reads `/proc` once.
#[derive(Debug, Default)]
pub(crate) struct Scanner(Mutex<Option<Scan>>);

#[derive(Debug)]
struct Scan {
    began: Instant,
    markers: Markers,
    seen: Arc<Vec<Seen>>,
}

impl Scanner {
    const FRESH: Duration = Duration::from_millis(100);

    /// A scan of which no part is older than 100 ms. A runner that was started or signalled since
    /// is not shown as it is: this is for hints, which [`Self::since`] confirms.
    pub(crate) fn recent(&self, markers: Markers) -> Result<Arc<Vec<Seen>>> {
        let now = Instant::now();
        self.since(now.checked_sub(Self::FRESH).unwrap_or(now), markers)
    }

    /// A scan of which no part is older than `earliest`.
    pub(crate) fn since(&self, earliest: Instant, markers: Markers) -> Result<Arc<Vec<Seen>>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scan) = &*last
            && scan.began >= earliest
            && scan.markers == markers
        {
            return Ok(Arc::clone(&scan.seen));
        }
        let began = Instant::now();
        let seen = Arc::new(all(markers)?);
        *last = Some(Scan {
            began,
            markers,
            seen: Arc::clone(&seen),
        });
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_with_another_start_time_is_not_the_process() {
        let me = i32::try_from(std::process::id()).unwrap();
        let id = identity(me).unwrap();
        assert!(is_alive(id));
        let other = Identity {
            start: id.start + 1,
            ..id
        };
        assert!(!is_alive(other));
        // Were it sent to the pid alone, this test would end here.
        signal(other, Signal::KILL);
        assert!(all(Markers::Skip).unwrap().iter().any(|seen| seen.id == id));
    }

    #[test]
    fn a_scan_is_shared_by_those_who_asked_before_it_and_for_the_same() {
        let scanner = Scanner::default();
        let before = Instant::now();
        let scan = scanner.since(before, Markers::Skip).unwrap();
        let again = scanner.since(before, Markers::Skip).unwrap();
        assert!(Arc::ptr_eq(&scan, &again));
        let later = scanner.since(Instant::now(), Markers::Skip).unwrap();
        assert!(!Arc::ptr_eq(&scan, &later));
        let marked = scanner.since(before, Markers::Read).unwrap();
        assert!(!Arc::ptr_eq(&later, &marked));
    }
}
