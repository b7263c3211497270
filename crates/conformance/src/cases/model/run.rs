//! Doing the steps, on the backend and in the model.

use std::collections::BTreeMap;

use runner_manager_core::{
    CloudRunnerInstance, Connected, HealthState, InstanceId, RunnerName, Support,
};

use super::steps::{SLOTS, Step};
use crate::bench::{cleanup, flush, token};
use crate::case::check;
use crate::{Bench, Failure, Fault};

/// What the model knows of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Listening,
    Busy,
    Stopped,
}

/// Does the steps with a prefix of its own.
pub(super) async fn replay(b: &Bench, steps: &[Step]) -> Result<(), Failure> {
    let bench = Bench::new(b.harness.clone());
    let manager = bench.manager().await?;
    let mut run = Run {
        bench: bench.clone(),
        manager,
        model: BTreeMap::new(),
        slots: Default::default(),
    };
    let mut outcome = Ok(());
    for step in steps {
        outcome = run.step(*step).await;
        if outcome.is_err() {
            break;
        }
    }
    bench.harness.mend(&bench.prefix).await;
    flush(&run.manager, true).await;
    outcome.and(bench.cleaned(&run.manager).await)
}

struct Run {
    bench: Bench,
    manager: Connected,
    model: BTreeMap<RunnerName, State>,
    slots: [Option<RunnerName>; SLOTS],
}

impl Run {
    /// The runner of a slot, and what the model knows of it.
    fn known(&self, slot: usize) -> Option<(RunnerName, State)> {
        let name = self.slots[slot].clone()?;
        let state = *self.model.get(&name)?;
        Some((name, state))
    }

    async fn step(&mut self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Create(slot) => self.create(slot, None).await?,
            Step::CreateDespite(slot, fault) => self.create(slot, Some(fault)).await?,
            Step::CreateAgain(slot) => {
                if let Some((name, State::Listening | State::Busy)) = self.known(slot) {
                    let id = name.instance_id().clone();
                    self.manager.create_runner(self.bench.request(id)).await?;
                }
            }
            Step::Delete(slot) => self.delete(slot).await?,
            Step::DeleteDespite(slot, fault) => self.delete_despite(slot, fault).await?,
            Step::Stop(slot) => self.stop(slot).await?,
            Step::Vanish(slot) => self.vanish(slot).await?,
            Step::StartJob(slot) => self.start_job(slot).await?,
            Step::Flush { busy } => self.flush(busy).await?,
            Step::Cleanup => {
                let removed = cleanup(&self.manager).await;
                check!(removed.errors.is_empty(), "{:?}", removed.errors);
                self.model.retain(|_, state| *state != State::Stopped);
            }
            Step::CleanupDespite(fault) => self.cleanup_despite(fault).await?,
            Step::OtherManager => self.manager = self.bench.manager().await?,
        }
        self.compare().await
    }

    /// Plants a fault, where the harness can; otherwise the step goes well.
    async fn fault(&self, fault: Fault) -> bool {
        let (harness, prefix) = (&self.bench.harness, &self.bench.prefix);
        harness.fail(prefix, fault).await.is_ok()
    }

    async fn mend(&self) {
        self.bench.harness.mend(&self.bench.prefix).await;
    }

    async fn create(&mut self, slot: usize, fault: Option<Fault>) -> Result<(), Failure> {
        if self.known(slot).is_some() {
            return Ok(());
        }
        let id = InstanceId::random();
        let name = self.bench.prefix.runner_name(&id);
        let fails = match fault {
            Some(fault) => self.fault(fault).await,
            None => false,
        };
        let created = self.manager.create_runner(self.bench.request(id.clone()));
        let created = created.await;
        self.mend().await;
        match created {
            Ok(_) => {
                self.bench.listening(&self.manager, &id).await?;
                self.model.insert(name.clone(), State::Listening);
                self.slots[slot] = Some(name);
            }
            // What must not be left of it is seen by the comparison.
            Err(_) if fails => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn delete(&mut self, slot: usize) -> Result<(), Failure> {
        let known = self.known(slot).map(|(name, _)| name);
        let id = known.as_ref().map(|name| name.instance_id().clone());
        let id = id.unwrap_or_else(InstanceId::random);
        let gone = self.manager.delete_runner(&id, &token()).await?;
        check!(
            gone.is_some() == known.is_some(),
            "deleting {id} gave {gone:?}"
        );
        self.model.retain(|name, _| Some(name) != known.as_ref());
        Ok(())
    }

    async fn delete_despite(&mut self, slot: usize, fault: Fault) -> Result<(), Failure> {
        let Some((name, _)) = self.known(slot) else {
            return Ok(());
        };
        let fails = self.fault(fault).await;
        let (id, token) = (name.instance_id(), token());
        let deleted = self.manager.delete_runner(id, &token).await;
        self.mend().await;
        if let Err(error) = deleted {
            check!(
                fails,
                "nothing went wrong, and the deletion failed: {error}"
            );
            self.manager.delete_runner(id, &token).await?;
        }
        self.model.remove(&name);
        Ok(())
    }

    async fn stop(&mut self, slot: usize) -> Result<(), Failure> {
        if let Some((name, State::Listening | State::Busy)) = self.known(slot) {
            self.bench.harness.stop(&name).await?;
            self.model.insert(name, State::Stopped);
        }
        Ok(())
    }

    async fn vanish(&mut self, slot: usize) -> Result<(), Failure> {
        if let Some((name, _)) = self.known(slot) {
            self.bench.harness.vanish(&name).await?;
            self.model.remove(&name);
        }
        Ok(())
    }

    async fn start_job(&mut self, slot: usize) -> Result<(), Failure> {
        if let Some((name, State::Listening)) = self.known(slot) {
            self.bench.start_job(&name).await?;
            self.model.insert(name, State::Busy);
        }
        Ok(())
    }

    async fn flush(&mut self, busy: bool) -> Result<(), Failure> {
        let flushed = flush(&self.manager, busy).await;
        check!(flushed.errors.is_empty(), "{:?}", flushed.errors);
        let idle_stop = self.manager.capability().idle_stop;
        let spares_idle = matches!(idle_stop, Support::Unsupported(_));
        self.model.retain(|_, state| match state {
            State::Busy => !busy,
            State::Listening => !busy && spares_idle,
            State::Stopped => false,
        });
        Ok(())
    }

    /// Nothing that lives may go; what is stopped may.
    async fn cleanup_despite(&mut self, fault: Fault) -> Result<(), Failure> {
        self.fault(fault).await;
        cleanup(&self.manager).await;
        self.mend().await;
        let left = self.bench.names(&self.manager).await?;
        let gone = |name: &RunnerName| !left.contains(name);
        self.model
            .retain(|name, state| *state != State::Stopped || !gone(name));
        Ok(())
    }

    /// What is shown is what the model knows, at the latest after a while.
    async fn compare(&self) -> Result<(), Failure> {
        let names = self.bench.names(&self.manager).await?;
        let same = names.iter().eq(self.model.keys());
        check!(same, "listed are {names:?}, and should be {:?}", self.model);
        for (name, state) in &self.model {
            let is_so = |runner: &CloudRunnerInstance| match state {
                State::Listening => {
                    runner.health == HealthState::Healthy && runner.busy != Some(true)
                }
                State::Busy => runner.health == HealthState::Healthy && runner.busy != Some(false),
                State::Stopped => runner.health == HealthState::Unhealthy,
            };
            let (id, what) = (name.instance_id(), format!("{state:?}"));
            self.bench.until(&self.manager, id, &what, is_so).await?;
        }
        Ok(())
    }
}
