//! One host: its connection, kept and renewed, and bounded blocking work on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use runner_manager_core::{CloudInstance, Effect, Error, ErrorKind, Result, Retry};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;
use uuid::Uuid;
use virt::connect::Connect;
use virt::event;

use crate::api::{self, failed};
use crate::config::HostConfig;
use crate::domain::Mark;
use crate::names::Attempt;
use crate::native::{Listener, Session};
use crate::place::Need;

/// How long a call waits for a connection. A host that takes longer is out of reach until it has
/// answered.
const OPEN: Duration = Duration::from_secs(10);

/// How long a host that could not be reached is left alone.
const REST: Duration = Duration::from_secs(2);

/// A connection that is silent for this many seconds, this often, is dead.
const KEEPALIVE: (i32, u32) = (5, 3);

/// How many calls of each lane may be under way on one host.
const CALLS: usize = 8;

/// The calls that wait for one another: a guest that does not answer holds up no launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// Calls that the host answers.
    Host,
    /// Calls that a guest answers.
    Guest,
}

/// What is remembered of a host.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// The mark of each domain, which never changes; `None` for one of somebody else's.
    pub(crate) marks: HashMap<Uuid, Option<Mark>>,
    /// The instances that the last list showed.
    pub(crate) seen: Vec<CloudInstance>,
    /// The launches under way, and what each needs.
    pub(crate) under_way: HashMap<Attempt, Need>,
}

/// An open connection, and what its host said once.
pub(crate) struct Opened {
    pub(crate) session: Session,
    pub(crate) facts: api::Facts,
}

#[derive(Clone)]
enum Link {
    Closed,
    /// With why the attempt before failed, if it did: then nobody waits for this one.
    Opening(Option<String>),
    Up(Arc<Opened>),
    Down {
        until: Instant,
        why: String,
    },
}

/// One host.
pub(crate) struct Host {
    pub(crate) config: HostConfig,
    listener: Arc<Listener>,
    link: Arc<watch::Sender<Link>>,
    lanes: [Arc<Semaphore>; 2],
    call_timeout: Duration,
    memory: Mutex<Memory>,
}

/// Starts libvirt's event loop, on a thread of its own that ends with the process.
fn start_event_loop() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // What fails is told by the calls themselves.
        virt::error::clear_error_callback();
        if let Err(error) = event::event_register_default_impl() {
            tracing::warn!(%error, "libvirt has no event loop; dead hosts are noticed late");
            return;
        }
        let run = || {
            loop {
                if let Err(error) = event::event_run_default_impl() {
                    tracing::warn!(%error, "libvirt's event loop failed");
                    std::thread::sleep(Duration::from_secs(1));
                }
            }
        };
        let thread = std::thread::Builder::new().name("libvirt events".into());
        if let Err(error) = thread.spawn(run) {
            tracing::warn!(%error, "libvirt's event loop cannot start");
        }
    });
}

fn open(uri: &str, listener: &Arc<Listener>) -> Result<Opened> {
    let connection = Connect::open(Some(uri)).map_err(failed("connect"))?;
    let keepalive = connection.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1);
    if let Err(error) = keepalive {
        tracing::debug!(uri, %error, "the connection has no keepalive");
    }
    let capabilities = connection
        .get_capabilities()
        .map_err(failed("read the host's capabilities"))?;
    let facts = api::Facts::parse(&capabilities)?;
    let session = Session::new(connection, listener).map_err(failed("listen to events"))?;
    Ok(Opened { session, facts })
}

impl Host {
    /// A host, not connected yet. `listener` hears that something changed on it.
    pub(crate) fn new(config: HostConfig, call_timeout: Duration, listener: Arc<Listener>) -> Self {
        start_event_loop();
        let lane = || Arc::new(Semaphore::new(CALLS));
        Self {
            config,
            listener,
            link: Arc::new(watch::Sender::new(Link::Closed)),
            lanes: [lane(), lane()],
            call_timeout,
            memory: Mutex::default(),
        }
    }

    /// What is remembered of the host.
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unreachable(&self, why: &str) -> Error {
        Error::new(ErrorKind::Unreachable, why)
            .with_retry(Retry::After(REST))
            .with_context("host", &self.config.uri)
    }

    /// The connection, opened where it is not.
    async fn opened(&self) -> Result<Arc<Opened>> {
        let mut link = self.link.subscribe();
        let now = link.borrow_and_update().clone();
        match now {
            // What the library knows of its socket; no question to the host.
            Link::Up(opened) if opened.session.connection.is_alive().unwrap_or(false) => {
                return Ok(opened);
            }
            Link::Opening(None) => {}
            Link::Up(_) | Link::Closed => self.begin(None),
            Link::Opening(Some(why)) => return Err(self.unreachable(&why)),
            Link::Down { until, why } => {
                if until < Instant::now() {
                    self.begin(Some(why.clone()));
                }
                return Err(self.unreachable(&why));
            }
        }
        let settled = link.wait_for(|link| !matches!(link, Link::Opening(_)));
        let state = match timeout(OPEN, settled).await {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) | Err(_) => Link::Closed,
        };
        match state {
            Link::Up(opened) => Ok(opened),
            Link::Down { why, .. } => Err(self.unreachable(&why)),
            Link::Closed | Link::Opening(_) => {
                Err(self.unreachable("the host gave no answer in time"))
            }
        }
    }

    /// Begins to open the connection, unless that is under way: a dead host holds one thread.
    fn begin(&self, why: Option<String>) {
        let begun = self.link.send_if_modified(|link| {
            let begin = !matches!(link, Link::Opening(_));
            if begin {
                let last = std::mem::replace(link, Link::Opening(why));
                // Closing may ask the host.
                drop(spawn_blocking(move || drop(last)));
            }
            begin
        });
        if !begun {
            return;
        }
        let (uri, listener) = (self.config.uri.clone(), Arc::clone(&self.listener));
        let link = Arc::clone(&self.link);
        tokio::spawn(async move {
            let mut open = spawn_blocking(move || open(&uri, &listener));
            let outcome = match timeout(OPEN, &mut open).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let why = "the host gave no answer in time";
                    link.send_replace(Link::Opening(Some(why.into())));
                    open.await
                }
            };
            let down = |why: String| Link::Down {
                until: Instant::now() + REST,
                why,
            };
            link.send_replace(match outcome {
                Ok(Ok(opened)) => Link::Up(Arc::new(opened)),
                Ok(Err(error)) => down(error.message().to_owned()),
                Err(error) => down(broken(error).to_string()),
            });
        });
    }

    /// Runs blocking work on the host, off the async threads and with a deadline. Work that was
    /// begun goes on when nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        work: impl FnOnce(&Opened) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let opened = self.opened().await?;
        let lane = Arc::clone(&self.lanes[lane as usize]);
        let Ok(Ok(permit)) = timeout(self.call_timeout, lane.acquire_owned()).await else {
            return Err(self.unreachable("too many calls to the host are under way"));
        };
        let work = spawn_blocking(move || {
            let _permit = permit;
            work(&opened)
        });
        let outcome = match timeout(self.call_timeout, work).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Err(broken(error)),
            Err(_) => {
                let error = Error::new(ErrorKind::TimedOut, "the host gave no answer in time");
                Err(error
                    .with_retry(Retry::After(REST))
                    .with_effect(Effect::Unknown))
            }
        };
        outcome.map_err(|error| error.with_context("host", &self.config.uri))
    }
}

fn broken(error: JoinError) -> Error {
    Error::new(ErrorKind::Unexpected, "a worker thread failed").with_source(error)
}
