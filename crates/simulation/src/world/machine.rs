//! The machines of a cloud, and what must hold when they come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use runner_manager_core::{Clock, RunnerName};
use tokio::time::Instant;

use super::{Event, State, World};

/// How long before a machine is made its launch may have been decided: GitHub is asked first, and
/// may take its time.
pub(super) const DECIDED_BEFORE: Duration = Duration::from_secs(40);

/// How far a machine has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Booting,
    Listening,
    Working(u64),
    /// Its runner has ended.
    Ended,
    /// It has failed, and nothing runs on it.
    Dead,
}

#[derive(Debug, Clone)]
pub(crate) struct Machine {
    pub(crate) phase: Phase,
    /// GitHub's id of its registration.
    pub(crate) runner: u64,
    pub(crate) created_at: Timestamp,
    born: Instant,
    /// Since when its runner can take a job.
    pub(super) listens_since: Option<Instant>,
    /// GitHub gives it no job.
    pub(super) ghost: bool,
    /// Its maker was told that it failed, or to replace it, and so does not count on it.
    doubted: bool,
}

impl Machine {
    /// Whether its runner has waited for a job at least so long.
    pub(super) fn listens_for(&self, least: Duration) -> bool {
        let listens = self
            .listens_since
            .filter(|_| self.phase == Phase::Listening);
        listens.is_some_and(|since| since.elapsed() >= least)
    }
}

impl World {
    /// Makes a machine, or finds the one of this name.
    pub(crate) fn make_machine(&self, pool: usize, name: &RunnerName, runner: u64) -> Machine {
        let mut state = self.state();
        if let Some(machine) = state.clouds[pool].get(name) {
            return machine.clone();
        }
        self.check_launch(&mut state, pool, name);
        let machine = Machine {
            phase: Phase::Booting,
            runner,
            created_at: self.clock.now(),
            born: Instant::now(),
            listens_since: None,
            ghost: false,
            doubted: false,
        };
        state.clouds[pool].insert(name.clone(), machine.clone());
        state.tally.launches += 1;
        let all = state.clouds.iter().map(BTreeMap::len).sum();
        state.tally.most_machines = state.tally.most_machines.max(all);
        self.note(&mut state, format_args!("machine {name} is made"));
        self.plan_boot(&mut state, pool, name);
        machine
    }

    /// How old what a manager knows may be: as old as its last look, and looks may fail for a
    /// while.
    pub(super) fn old_news(&self) -> Duration {
        if self.plan.faults.is_none() && self.plan.crashes == 0 {
            self.plan.poll * 2 + Duration::from_secs(30)
        } else {
            Duration::from_secs(1_800)
        }
    }

    fn check_launch(&self, state: &mut State, pool: usize, name: &RunnerName) {
        let limits = &self.plan.pools[pool];
        let (there, max) = (state.clouds[pool].len(), limits.max);
        if there >= max {
            self.violate(
                state,
                &format!("{name} makes {} of at most {max}", there + 1),
            );
        }
        if !state.used.insert(name.clone()) {
            self.violate(state, &format!("{name} is made a second time"));
        }
        let deadline = limits.boot_deadline;
        let may_serve = |m: &&Machine| !m.doubted && self.github.has_runner(m.runner);
        let live = state.clouds[pool].values().filter(may_serve);
        let free = live.filter(|m| match m.phase {
            Phase::Booting => m.born.elapsed() < deadline,
            Phase::Listening => !m.ghost,
            _ => false,
        });
        let free: Vec<String> = free.map(|m| m.runner.to_string()).collect();
        state.unheard.retain(|(until, _)| Instant::now() <= *until);
        let fits = |(_, job): &&(Instant, u64)| state.jobs.has_labels(*job, |l| limits.fits(l));
        let unheard = state.unheard.iter().filter(fits).count();
        let needed = state.needs[pool].highest(self.old_news()) + unheard + limits.min_idle;
        // A flush replaces runners before they are gone.
        let flushing = |at: Instant| at.elapsed() < Duration::from_secs(300);
        if free.len() >= needed && !state.excused.is_some_and(flushing) {
            self.violate(
                state,
                &format!(
                    "{name} is launched with {needed} needed while these are free: {}",
                    free.join(", ")
                ),
            );
        }
    }

    /// A machine that does not come online in time goes soon, once nothing goes wrong any more.
    pub(crate) fn check_late(&self) {
        // Pauses after failures have then ended.
        let settled = self.calm_from + Duration::from_secs(600);
        if Instant::now() < settled {
            return;
        }
        let mut state = self.state();
        for (plan, pool) in self.plan.pools.iter().zip(0..) {
            let most = plan.boot_deadline + self.plan.poll * 2 + Duration::from_secs(120);
            let boots = |m: &Machine| m.phase == Phase::Booting && m.born.elapsed() > most;
            let late = state.clouds[pool]
                .iter()
                .find(|(_, machine)| boots(machine));
            if let Some(name) = late.map(|(name, _)| name.clone()) {
                let text = format!(
                    "{name} is not online after {} s, and still there",
                    most.as_secs()
                );
                self.violate(&mut state, &text);
                return;
            }
        }
    }

    /// A registration goes: not that of a runner that came online in time and has waited for less
    /// than it may. One whose launch was said to fail goes, and so does what is flushed.
    pub(crate) fn check_removal(&self, state: &mut State, name: &str) {
        let flushing = |at: Instant| at.elapsed() < Duration::from_secs(600);
        if state.excused.is_some_and(flushing) {
            return;
        }
        for (plan, cloud) in self.plan.pools.iter().zip(&state.clouds) {
            let found = cloud.iter().find(|(n, _)| n.as_str() == name);
            let Some((_, machine)) = found.filter(|(_, m)| m.phase == Phase::Listening) else {
                continue;
            };
            let Some(since) = machine.listens_since else {
                continue;
            };
            let in_time = since.duration_since(machine.born) + DECIDED_BEFORE <= plan.boot_deadline;
            if in_time && !machine.doubted && !machine.ghost && since.elapsed() < plan.idle_timeout
            {
                let waited = since.elapsed().as_secs();
                let text = format!("{name} came online in time, and is removed after {waited} s");
                self.violate(state, &text);
                return;
            }
        }
    }

    fn plan_boot(&self, state: &mut State, pool: usize, name: &RunnerName) {
        let deadline = self.plan.pools[pool].boot_deadline;
        let boot = self.plan.boot;
        let event = Event::Boot(pool, name.clone());
        if self.strikes(state, |f| f.dead_boot) {
            self.note(state, format_args!("{name} will never boot"));
        } else if self.strikes(state, |f| f.slow_boot) {
            self.schedule(state, deadline + boot, event);
        } else {
            let boot = self.between(state, boot / 2..boot + Duration::from_millis(1));
            self.schedule(state, boot, event);
        }
    }

    /// Ends a machine.
    pub(crate) fn end_machine(&self, pool: usize, name: &RunnerName) {
        let mut state = self.state();
        let Some(machine) = state.clouds[pool].remove(name) else {
            return;
        };
        self.note(
            &mut state,
            format_args!("machine {name} is ended, {:?}", machine.phase),
        );
        match machine.phase {
            Phase::Working(job) => {
                self.violate(&mut state, &format!("{name} is ended while job {job} runs"));
            }
            Phase::Listening => {
                self.github.vanish(machine.runner);
                self.schedule_notice(&mut state, machine.runner);
            }
            Phase::Booting | Phase::Ended | Phase::Dead => {}
        }
    }

    /// All idle runners shall be replaced: whether they work or wait is not looked at any more.
    pub(crate) fn flush(&self) {
        let mut state = self.state();
        state.excused = Some(Instant::now());
        for machine in state.clouds.iter_mut().flat_map(BTreeMap::values_mut) {
            machine.doubted = true;
        }
    }

    /// The call that made a machine answers with an error.
    pub(crate) fn doubt(&self, pool: usize, name: &RunnerName) {
        if let Some(machine) = self.state().clouds[pool].get_mut(name) {
            machine.doubted = true;
        }
    }

    /// The runner on a machine is stopped.
    pub(crate) fn stop_listener(&self, pool: usize, name: &RunnerName) {
        let mut state = self.state();
        let Some(machine) = state.clouds[pool].get_mut(name) else {
            return;
        };
        let (phase, runner) = (machine.phase, machine.runner);
        machine.phase = Phase::Ended;
        if let Phase::Working(job) = phase {
            self.violate(
                &mut state,
                &format!("{name} is stopped while job {job} runs"),
            );
        }
        self.github.vanish(runner);
        self.schedule_notice(&mut state, runner);
    }

    /// A registration was deleted: its listener, if it is idle, ends.
    pub(crate) fn end_listener(&self, state: &mut State, name: &str) {
        for cloud in &mut state.clouds {
            let found = cloud.iter_mut().find(|(n, _)| n.as_str() == name);
            if let Some((_, machine)) = found
                && machine.phase == Phase::Listening
            {
                machine.phase = Phase::Ended;
            }
        }
    }
}
