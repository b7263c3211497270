//! What holds all processes of one runner together: its cgroup, its user, its session and mark.

use std::collections::HashSet;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use runner_manager_core::Result;
use rustix::process::Signal;

use crate::api::{file_error, late};
use crate::cgroup::Cgroup;
use crate::end::{LISTENER, WORKER};
use crate::record::Identity;
use crate::scan::{self, Markers, Scanner, Seen};

/// The processes of one runner.
#[derive(Debug, Clone)]
pub(crate) struct Fence {
    pub(crate) cgroup: Option<Cgroup>,
    /// The runner's own user; `None` where it shares the manager's.
    pub(crate) uid: Option<u32>,
    pub(crate) main: Option<Identity>,
    /// The value of [`scan::MARKER`].
    pub(crate) marker: String,
}

impl Fence {
    /// What a scan must read for [`Self::of`].
    pub(crate) fn markers(&self) -> Markers {
        if self.uid.is_some() {
            Markers::Skip
        } else {
            Markers::Read
        }
    }

    /// The runner's processes among all.
    ///
    /// With a user of its own: that user's, and the main process, which is root's at first.
    /// Without: those that carry the mark, and while the main process lives (and carries it)
    /// its session and its descendants. Once it is gone its pid proves nothing.
    fn of<'a>(&self, all: &'a [Seen]) -> Vec<&'a Seen> {
        let main = all.iter().find(|seen| Some(seen.id) == self.main);
        if let Some(uid) = self.uid {
            let ours = |seen: &&Seen| seen.uid == uid || Some(seen.id) == self.main;
            return all.iter().filter(ours).collect();
        }
        let marked = |seen: &Seen| seen.marker.as_deref() == Some(self.marker.as_str());
        let main = main.filter(|main| marked(main)).map(|main| main.id.pid);
        let mut ours: HashSet<i32> = all
            .iter()
            .filter(|seen| marked(seen) || main.is_some_and(|main| main == seen.session))
            .map(|seen| seen.id.pid)
            .collect();
        loop {
            let before = ours.len();
            for seen in all {
                if ours.contains(&seen.parent) {
                    ours.insert(seen.id.pid);
                }
            }
            if ours.len() == before {
                break;
            }
        }
        all.iter()
            .filter(|seen| ours.contains(&seen.id.pid))
            .collect()
    }

    /// The runner's processes, from its cgroup or a scan that begins no earlier than this call.
    pub(crate) fn members(&self, scanner: &Scanner) -> Result<Vec<Seen>> {
        match &self.cgroup {
            Some(group) => self.in_cgroup(group),
            None => {
                let all = scanner.since(Instant::now(), self.markers())?;
                Ok(self.of(&all).into_iter().cloned().collect())
            }
        }
    }

    fn in_cgroup(&self, group: &Cgroup) -> Result<Vec<Seen>> {
        let mut members: Vec<Seen> = group.pids()?.into_iter().filter_map(Seen::one).collect();
        // The main process joins its group a moment after it was started.
        if let Some(main) = self.main
            && !members.iter().any(|seen| seen.id == main)
        {
            members.extend(Seen::one(main.pid).filter(|seen| seen.id == main));
        }
        Ok(members)
    }

    fn members_now(&self) -> Result<Vec<Seen>> {
        match &self.cgroup {
            Some(group) => self.in_cgroup(group),
            None => {
                let all = scan::all(self.markers())?;
                Ok(self.of(&all).into_iter().cloned().collect())
            }
        }
    }

    /// Kills until nothing is left, or the deadline.
    pub(crate) fn kill(&self, deadline: Instant) -> Result<()> {
        let mut pause = Duration::from_micros(500);
        // A scan misses a process that forks meanwhile. An empty cgroup is proof; without one, all
        // processes of the user are killed in one step before each scan, twice.
        let (wanted, plain_rounds) = match &self.cgroup {
            Some(_) => (1, Self::PLAIN_ROUNDS),
            None => (2, 0),
        };
        let (mut clean, mut rounds) = (0, 0_u32);
        loop {
            let mut is_proof = true;
            let mut populated = false;
            if let Some(group) = &self.cgroup {
                populated = group.is_populated()?;
                if populated {
                    group.kill()?;
                }
            }
            if let Some(uid) = self.uid.filter(|_| rounds >= plain_rounds) {
                is_proof = kill_user(uid)?;
            }
            rounds += 1;
            let all = scan::all(self.markers())?;
            let ours = self.of(&all);
            // The main process last: while it lives its session is proven.
            for seen in ours.iter().filter(|seen| Some(seen.id) != self.main) {
                scan::signal(seen.id, Signal::KILL);
            }
            for seen in ours.iter().filter(|seen| Some(seen.id) == self.main) {
                scan::signal(seen.id, Signal::KILL);
            }
            clean = if is_proof && !populated && ours.is_empty() {
                clean + 1
            } else {
                0
            };
            if clean == wanted {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let pids: Vec<i32> = ours.iter().map(|seen| seen.id.pid).collect();
                let error = late("processes of the runner outlive their kill signal");
                return Err(error.with_context("pids", format!("{pids:?}")));
            }
            if clean == 0 {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
        }
    }

    /// How many rounds signal each process by its own before all of a user are signalled at once.
    const PLAIN_ROUNDS: u32 = 3;

    /// Stops all processes where they are and says which they are. They go on when the answer
    /// is dropped.
    pub(crate) fn freeze(&self, deadline: Instant) -> Result<Frozen<'_>> {
        // Made first, so that a failure midway thaws as well.
        let mut frozen = Frozen {
            fence: self,
            members: Vec::new(),
        };
        frozen.members = match &self.cgroup {
            Some(group) => {
                group.freeze(deadline)?;
                self.members_now()?
            }
            None => self.stop_all(deadline)?,
        };
        Ok(frozen)
    }

    /// Sends a stop signal until a look finds every process stopped.
    fn stop_all(&self, deadline: Instant) -> Result<Vec<Seen>> {
        loop {
            let members = self.members_now()?;
            let (stopped, moving): (Vec<&Seen>, Vec<&Seen>) =
                members.iter().partition(|seen| is_stopped(seen));
            if moving.is_empty() {
                return Ok(members);
            }
            for seen in moving {
                scan::signal(seen.id, Signal::STOP);
                // After `vfork` a parent stops only once its child runs another program. The
                // child goes on until then, and the next look finds what it became.
                if seen.state == 'D' {
                    let children = stopped.iter().filter(|child| child.parent == seen.id.pid);
                    children.for_each(|child| scan::signal(child.id, Signal::CONT));
                }
            }
            if Instant::now() >= deadline {
                return Err(late("processes of the runner do not stop"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets everything go on.
    pub(crate) fn thaw(&self) -> Result<()> {
        match &self.cgroup {
            Some(group) => group.thaw(),
            None => {
                for seen in self.members_now()? {
                    scan::signal(seen.id, Signal::CONT);
                }
                Ok(())
            }
        }
    }

    /// Whether the runner may be frozen: by a manager that works on it, or by one that is gone.
    pub(crate) fn may_be_frozen(&self, scanner: &Scanner) -> Result<bool> {
        match &self.cgroup {
            Some(group) => Ok(group.is_freezing()),
            None => Ok(self.has_stopped_program(&self.of(&scanner.recent(self.markers())?))),
        }
    }

    /// Whether a manager that is gone left the runner frozen, or a part of it: without a cgroup it
    /// may have ended between the signals to two processes. The caller holds the runner's lock.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        match &self.cgroup {
            Some(group) => Ok(group.is_freezing()),
            None => Ok(self.has_stopped_program(&self.of(&scan::all(self.markers())?))),
        }
    }

    /// A job may stop processes of its own.
    fn has_stopped_program(&self, members: &[&Seen]) -> bool {
        let is_program = |seen: &Seen| {
            Some(seen.id) == self.main || [LISTENER, WORKER].contains(&seen.comm.as_str())
        };
        members
            .iter()
            .any(|seen| is_stopped(seen) && is_program(seen))
    }
}

/// How long the process of [`kill_user`] may take; its victims may stop it.
const KILL_USER_WITHIN: Duration = Duration::from_secs(2);

/// The exit code of the process of [`kill_user`] when it came to its end.
const KILLED_USER: i32 = 42;

/// Kills all processes of a user in one step of the kernel, which no fork escapes. Only that user
/// can ask for it, so a process of that user does. False when its victims kept it from it; where
/// they stopped it, the next scan finds it.
fn kill_user(uid: u32) -> Result<bool> {
    let uid = uid.to_string();
    let script = format!("kill -s KILL -- -1; exit {KILLED_USER}");
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--reuid", &uid, "--regid", &uid, "--clear-groups"])
        .args(["--no-new-privs", "/bin/sh", "-c", &script])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let fail = |error| file_error("start", Path::new("setpriv"), error);
    let mut child = command.spawn().map_err(fail)?;
    let end = Instant::now() + KILL_USER_WITHIN;
    loop {
        if let Some(status) = child.try_wait().map_err(fail)? {
            return Ok(status.code() == Some(KILLED_USER));
        }
        if Instant::now() >= end {
            // It may have ended meanwhile.
            let _ = child.kill();
            child.wait().map_err(fail)?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_stopped(seen: &Seen) -> bool {
    matches!(seen.state, 'T' | 't')
}

/// A runner that stands still until this is dropped.
#[derive(Debug)]
pub(crate) struct Frozen<'a> {
    fence: &'a Fence,
    pub(crate) members: Vec<Seen>,
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.fence.thaw() {
            // The next list finds it frozen and tries again.
            tracing::warn!(%error, runner = self.fence.marker, "cannot thaw the runner");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(pid: i32, parent: i32, session: i32, marker: Option<&str>) -> Seen {
        Seen {
            id: Identity { pid, start: 100 },
            parent,
            session,
            comm: "x".into(),
            state: 'S',
            uid: 1000,
            marker: marker.map(str::to_owned),
        }
    }

    fn ours(fence: &Fence, all: &[Seen]) -> Vec<i32> {
        fence.of(all).iter().map(|seen| seen.id.pid).collect()
    }

    /// A parent that starts a program by `vfork` cannot stop before its child runs that program,
    /// and the child cannot while it is stopped.
    #[test]
    fn a_parent_that_waits_for_its_child_to_begin_is_stopped_too() {
        const SPAWN: &str = "import os, sys; os.posix_spawn('/bin/sleep', ['sleep', '60'], os.environ, \
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, sys.argv[1], os.O_RDONLY, 0)]); os.wait()";
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&fifo).status();
        assert!(made.unwrap().success());
        let marker = format!("fence/{}", std::process::id());
        let mut child = std::process::Command::new("/usr/bin/python3")
            .args(["-c", SPAWN])
            .arg(&fifo)
            .env(scan::MARKER, &marker)
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let fence = Fence {
            cgroup: None,
            uid: None,
            main: Some(scan::identity(pid).unwrap()),
            marker,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        let begun = || fence.members_now().unwrap().len() == 2;
        while !begun() {
            assert!(Instant::now() < deadline, "it starts no program");
            std::thread::sleep(Duration::from_millis(1));
        }
        // The program can begin only once its process was stopped.
        let look = fence.clone();
        let opener = std::thread::spawn(move || {
            while !look.members_now().unwrap().iter().any(is_stopped) {
                assert!(Instant::now() < deadline, "nothing is stopped");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::fs::File::options().read(true).write(true).open(fifo)
        });
        let stood = fence.freeze(deadline).map(|frozen| {
            let names = frozen.members.iter().map(|seen| seen.comm.clone());
            (
                frozen.members.iter().all(is_stopped),
                names.collect::<Vec<_>>(),
            )
        });
        fence
            .kill(Instant::now() + Duration::from_secs(20))
            .unwrap();
        child.wait().unwrap();
        opener.join().unwrap().unwrap();
        let (stood, names) = stood.unwrap();
        assert!(stood && names.contains(&"sleep".to_owned()), "{names:?}");
    }

    #[test]
    fn without_a_user_only_marks_and_the_living_main_process_prove() {
        let mut fence = Fence {
            cgroup: None,
            uid: None,
            main: Some(Identity {
                pid: 10,
                start: 100,
            }),
            marker: "r/app".into(),
        };
        let all = [
            seen(10, 1, 10, Some("r/app")),
            seen(11, 10, 10, None),
            seen(12, 11, 12, None),
            seen(13, 1, 13, Some("r/app")),
            seen(14, 1, 14, Some("r/other")),
            seen(15, 1, 15, None),
        ];
        assert_eq!(ours(&fence, &all), [10, 11, 12, 13]);
        // The pid is used again by somebody else, who leads a session of the same number.
        fence.main = Some(Identity { pid: 10, start: 99 });
        let again = [seen(10, 1, 10, None), seen(11, 10, 10, None)];
        assert!(ours(&fence, &again).is_empty());
        // A record that points at a process without the mark is not believed.
        fence.main = Some(Identity {
            pid: 15,
            start: 100,
        });
        assert!(!ours(&fence, &all).contains(&15));
    }

    #[test]
    fn a_user_of_its_own_proves_everything_of_that_user() {
        let fence = Fence {
            cgroup: None,
            uid: Some(70_000),
            main: None,
            marker: "r/app".into(),
        };
        let mut stray = seen(9, 1, 9, None);
        stray.uid = 70_000;
        assert_eq!(ours(&fence, &[stray, seen(10, 9, 9, Some("r/app"))]), [9]);
    }
}
