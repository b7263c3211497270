//! The server, and the handle to it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::world::{JobSpec, JobView, RunnerView, World};

pub(crate) struct Shared {
    pub(crate) world: Mutex<World>,
    /// Rings when a job was queued.
    pub(crate) queued: Notify,
    pub(crate) url: String,
    pub(crate) token: String,
}

impl Shared {
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A simulated GitHub. Dropping it stops the server.
pub struct Sim {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sim {
    /// Starts a server on loopback; port 0 is any free port.
    ///
    /// # Errors
    /// When the port is in use.
    pub async fn start(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let shared = Arc::new(Shared {
            world: Mutex::default(),
            queued: Notify::new(),
            url: format!("http://{}", listener.local_addr()?),
            token: format!("ghp_{:032x}", rand::random::<u128>()),
        });
        let router = crate::api::router(shared.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the simulated GitHub stopped: {error}");
            }
        });
        Ok(Self { shared, task })
    }

    /// The base URL, as of a GitHub Enterprise Server.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// The one personal token that is accepted.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.shared.token
    }

    /// Queues a job, and answers its id.
    pub fn queue_job(&self, spec: JobSpec) -> u64 {
        let id = self.shared.world().queue(spec);
        self.shared.queued.notify_waiters();
        id
    }

    /// Cancels a job. One that runs is ended on GitHub's side only.
    pub fn cancel_job(&self, id: u64) {
        self.shared.world().complete(id, "cancelled");
    }

    /// All jobs in the order of their ids.
    #[must_use]
    pub fn jobs(&self) -> Vec<JobView> {
        let mut world = self.shared.world();
        world.settle();
        world.jobs.values().cloned().collect()
    }

    /// All registered runners.
    #[must_use]
    pub fn runners(&self) -> Vec<RunnerView> {
        let mut world = self.shared.world();
        world.settle();
        world.view()
    }

    /// How many runners were ever registered.
    #[must_use]
    pub fn registrations_created(&self) -> u64 {
        self.shared.world().registrations
    }

    /// Waits until `met` holds; `false` after the deadline.
    pub async fn wait_for(&self, deadline: Duration, met: impl Fn(&Self) -> bool) -> bool {
        let began = Instant::now();
        while !met(self) {
            if began.elapsed() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        true
    }
}
