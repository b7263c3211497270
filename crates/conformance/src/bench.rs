//! What a case works with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use runner_manager_core::{
    BackendContext, Budgets, Clock, CloudRunnerInstance, CloudRunnerState, Connected, CreateRunner,
    Error, HealthState, InstanceId, ManualClock, NamePrefix, RemoveToken, RunnerCredential,
    RunnerMetrics, RunnerName, Support, SystemClock, Timings,
};

use crate::canary::CanarySecret;
use crate::{Failure, Harness, JobFate};

const PAUSE: Duration = Duration::from_millis(10);

/// How long to wait before looking again: a twentieth of the time waited so far, so that looking
/// does not slow down what is slow, such as the boot of an emulated machine.
async fn pause(since: Instant) {
    tokio::time::sleep(PAUSE.max(since.elapsed() / 20)).await;
}

/// The surroundings of one case: the harness, and a prefix of its own.
#[derive(Clone)]
pub struct Bench {
    pub(crate) harness: Arc<dyn Harness>,
    pub(crate) prefix: NamePrefix,
    /// The clock of the managers' rules; it stands still but for what cases move it.
    pub(crate) clock: Arc<ManualClock>,
    budgets: Budgets,
}

/// What a stream of removals gave.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    pub(crate) metrics: Vec<RunnerMetrics>,
    pub(crate) errors: Vec<Error>,
}

impl Bench {
    /// How many characters all prefixes of one case begin with, and those of no other.
    pub const STEM: usize = 8;

    /// A bench with a random prefix.
    ///
    /// # Panics
    /// Never: the prefix is made of letters and digits.
    #[must_use]
    pub fn new(harness: Arc<dyn Harness>) -> Self {
        let random = InstanceId::random();
        let prefix = format!("c{}", &random.as_str()[..Self::STEM - 1]);
        #[expect(clippy::expect_used, reason = "letters and digits only")]
        let prefix = NamePrefix::new(prefix).expect("a valid prefix");
        Self {
            harness,
            prefix,
            clock: Arc::new(ManualClock::new(SystemClock.now())),
            budgets: Budgets::default(),
        }
    }

    /// The same bench with another prefix.
    pub(crate) fn with_prefix(&self, prefix: NamePrefix) -> Self {
        Self {
            prefix,
            ..self.clone()
        }
    }

    /// Timings without a grace period.
    pub(crate) fn timings() -> Timings {
        Timings {
            grace: Duration::ZERO,
            ..Timings::default()
        }
    }

    /// A manager without a grace period.
    pub(crate) async fn manager(&self) -> Result<Connected, Failure> {
        self.manager_with(&Self::timings()).await
    }

    pub(crate) async fn manager_with(&self, timings: &Timings) -> Result<Connected, Failure> {
        let context = BackendContext {
            prefix: self.prefix.clone(),
            timings: timings.clone(),
            clock: self.clock.clone(),
            budgets: self.budgets.clone(),
        };
        Ok(self.harness.manager(context).await?)
    }

    /// A manager of another prefix that begins with this one's.
    pub(crate) async fn neighbour(&self) -> Result<Connected, Failure> {
        let prefix = NamePrefix::new(format!("{}0", self.prefix))
            .map_err(|e| Failure::new(e.to_string()))?;
        self.with_prefix(prefix).manager().await
    }

    /// A request with secrets of its own.
    pub(crate) fn request(&self, id: InstanceId) -> CreateRunner {
        self.request_with(&CanarySecret::new(), id)
    }

    /// A request whose credential is this canary, of the kind that the harness prefers.
    pub(crate) fn request_with(&self, canary: &CanarySecret, id: InstanceId) -> CreateRunner {
        let mut request = self.harness.request(id);
        request.credential = match request.credential {
            RunnerCredential::JitConfig(_) => RunnerCredential::JitConfig(canary.jit()),
            RunnerCredential::RegistrationToken { url, .. } => {
                let token = canary.token();
                RunnerCredential::RegistrationToken { url, token }
            }
            claim @ RunnerCredential::Claim { .. } => claim,
        };
        request
    }

    /// A request with a registration token, where the backend takes one.
    pub(crate) fn token_request(
        &self,
        manager: &Connected,
        canary: &CanarySecret,
        id: InstanceId,
    ) -> Result<CreateRunner, Support> {
        let support = manager.capability().registration_token;
        let mut request = self.harness.request(id);
        let url = "https://github.com/octo".parse();
        match (support, url) {
            (Support::Native | Support::Emulated, Ok(url)) => {
                let token = canary.token();
                request.credential = RunnerCredential::RegistrationToken { url, token };
                Ok(request)
            }
            _ => Err(support),
        }
    }

    /// Creates a runner and waits until it listens.
    pub(crate) async fn runner(&self, manager: &Connected) -> Result<RunnerName, Failure> {
        let name = self.instance(manager).await?;
        self.listening(manager, name.instance_id()).await?;
        Ok(name)
    }

    /// Creates an instance, for cases that do not look into it: it is not waited for its boot.
    pub(crate) async fn instance(&self, manager: &Connected) -> Result<RunnerName, Failure> {
        let id = InstanceId::random();
        let made = manager.create_runner(self.request(id.clone())).await?;
        if made != id {
            return Err(Failure::new(
                "the answer names another id than was asked for",
            ));
        }
        Ok(manager.name_prefix().runner_name(&id))
    }

    /// Waits until a runner is active, healthy and installed. A guest that boots cannot be asked
    /// yet.
    pub(crate) async fn listening(
        &self,
        manager: &Connected,
        id: &InstanceId,
    ) -> Result<CloudRunnerInstance, Failure> {
        self.until(manager, id, "active and healthy", listens).await
    }

    /// Waits until a runner is as wanted.
    pub(crate) async fn until(
        &self,
        manager: &Connected,
        id: &InstanceId,
        what: &str,
        met: impl Fn(&CloudRunnerInstance) -> bool,
    ) -> Result<CloudRunnerInstance, Failure> {
        let start = Instant::now();
        let end = start + self.harness.patience();
        loop {
            let found = manager.get_runner(id).await?;
            match found {
                Some(runner) if met(&runner) => return Ok(runner),
                found if Instant::now() > end => {
                    return Err(Failure::new(format!("not {what} in time: {found:?}")));
                }
                _ => pause(start).await,
            }
        }
    }

    /// Lets a job begin on a runner, and waits until it runs.
    pub(crate) async fn start_job(&self, name: &RunnerName) -> Result<(), Failure> {
        self.harness.offer_job(name).await?;
        let start = Instant::now();
        let end = start + self.harness.patience();
        while self.harness.job_fate(name).await != JobFate::Runs {
            if Instant::now() > end {
                let text = format!("the job offered to {name} did not begin in time");
                return Err(Failure::new(text));
            }
            pause(start).await;
        }
        Ok(())
    }

    /// Leaves one thing of each kind that can be left, each of a runner of its own. Answers the
    /// names.
    pub(crate) async fn leave_leftovers(&self) -> Result<Vec<RunnerName>, Failure> {
        let mut names = Vec::new();
        for kind in self.harness.leftover_kinds() {
            let name = self.prefix.runner_name(&InstanceId::random());
            self.harness.leave_leftover(&name, kind).await?;
            names.push(name);
        }
        Ok(names)
    }

    /// Waits for what must have a deadline of its own, which lies within the case's patience.
    pub(crate) async fn ends<T>(
        &self,
        within: Duration,
        call: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let limit = within + self.harness.patience();
        let late = |_| Failure::new(format!("it did not end within {limit:?}"));
        tokio::time::timeout(limit, call).await.map_err(late)
    }

    /// Waits until a runner is unhealthy.
    pub(crate) async fn unhealthy(
        &self,
        manager: &Connected,
        name: &RunnerName,
    ) -> Result<CloudRunnerInstance, Failure> {
        let is_ill = |r: &CloudRunnerInstance| r.health == HealthState::Unhealthy;
        self.until(manager, name.instance_id(), "unhealthy", is_ill)
            .await
    }

    /// How a runner is, which must be there.
    pub(crate) async fn look(
        &self,
        manager: &Connected,
        name: &RunnerName,
    ) -> Result<CloudRunnerInstance, Failure> {
        let found = manager.get_runner(name.instance_id()).await?;
        found.ok_or_else(|| Failure::new(format!("{name} is gone")))
    }

    /// The names of all runners that are shown, sorted.
    pub(crate) async fn names(&self, manager: &Connected) -> Result<Vec<RunnerName>, Failure> {
        let listed = manager.get_runners(None).await?;
        let mut names: Vec<RunnerName> = listed.into_iter().map(|r| r.name).collect();
        names.sort();
        Ok(names)
    }

    /// How many things of the prefix exist, by the harness's count.
    pub(crate) async fn left(&self) -> usize {
        self.harness.count(&self.prefix).await.values().sum()
    }

    /// Fails when anything of the prefix exists.
    pub(crate) async fn nothing_left(&self) -> Result<(), Failure> {
        let counts = self.harness.count(&self.prefix).await;
        if counts.values().all(|count| *count == 0) {
            return Ok(());
        }
        Err(Failure::new(format!("something is left: {counts:?}")))
    }

    /// Cleans up again and again, until nothing is left or the time is up.
    pub(crate) async fn cleaned(&self, manager: &Connected) -> Result<(), Failure> {
        self.cleaned_with(manager, None).await
    }

    /// Deletes a runner that may still come to life, and cleans up, until nothing is left.
    pub(crate) async fn deleted_and_cleaned(
        &self,
        manager: &Connected,
        id: &InstanceId,
    ) -> Result<(), Failure> {
        self.cleaned_with(manager, Some(id)).await
    }

    async fn cleaned_with(
        &self,
        manager: &Connected,
        late: Option<&InstanceId>,
    ) -> Result<(), Failure> {
        let start = Instant::now();
        let end = start + self.harness.patience();
        loop {
            let mut errors = Vec::new();
            if let Some(id) = late {
                errors.extend(manager.delete_runner(id, &token()).await.err());
            }
            errors.extend(cleanup(manager).await.errors);
            match self.nothing_left().await {
                Ok(()) => return Ok(()),
                Err(left) if Instant::now() > end => {
                    return Err(Failure::new(format!("after cleanup {left}; {errors:?}")));
                }
                Err(_) => pause(start).await,
            }
        }
    }
}

/// Whether a runner is active, healthy and installed.
pub(crate) fn listens(runner: &CloudRunnerInstance) -> bool {
    let waits = [
        "the runner is being installed",
        "the guest cannot be reached yet",
    ];
    runner.state == CloudRunnerState::Active
        && runner.health == HealthState::Healthy
        && !waits.contains(&runner.health_reason.as_str())
}

pub(crate) fn token() -> RemoveToken {
    RemoveToken::new(CanarySecret::new().token())
}

pub(crate) async fn cleanup(manager: &Connected) -> Removed {
    let token = token();
    collect(manager.cleanup(&token)).await
}

pub(crate) async fn flush(manager: &Connected, busy: bool) -> Removed {
    let token = token();
    collect(manager.flush_runners(&token, busy)).await
}

async fn collect(
    mut stream: futures::stream::BoxStream<'_, runner_manager_core::Result<RunnerMetrics>>,
) -> Removed {
    let mut removed = Removed::default();
    while let Some(item) = stream.next().await {
        match item {
            Ok(metrics) => removed.metrics.push(metrics),
            Err(error) => removed.errors.push(error),
        }
    }
    removed
}

/// Polls a future so many times, each when it asks for it, and drops it. Answers whether it was
/// done before.
pub(crate) async fn poll_times<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut polls = 0;
    std::future::poll_fn(|context| {
        if polls == times {
            return std::task::Poll::Ready(None);
        }
        polls += 1;
        match future.as_mut().poll(context) {
            std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
            // The last poll is dropped at once, the others wait for their wake-up.
            std::task::Poll::Pending if polls == times => std::task::Poll::Ready(None),
            std::task::Poll::Pending => std::task::Poll::Pending,
        }
    })
    .await
}
