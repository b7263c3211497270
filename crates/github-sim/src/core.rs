//! What every part of a running simulator shares.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::environment::Environment;
use crate::exchanges::Exchanges;
use crate::fault::Faults;
use crate::state::{Event, State};
use crate::webhook::Webhooks;
use crate::{Observer, SimConfig};

/// A running simulator's shared parts.
pub(crate) struct Core {
    pub(crate) config: SimConfig,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) environment: Environment,
    pub(crate) faults: Arc<Faults>,
    pub(crate) exchanges: Exchanges,
    pub(crate) webhooks: Arc<Webhooks>,
    observer: Option<Arc<dyn Observer>>,
    /// Unlike a watch channel, it wakes its waiters in order.
    changed: Notify,
    state: Mutex<State>,
}

pub(crate) type Shared = Arc<Core>;

/// What a simulator is made of beside its configuration.
pub(crate) struct Parts {
    pub(crate) url: String,
    pub(crate) environment: Environment,
    pub(crate) faults: Arc<Faults>,
    pub(crate) webhooks: Arc<Webhooks>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl Core {
    pub(crate) fn new(config: SimConfig, parts: Parts) -> Self {
        let token = config.token.clone();
        let rng = &parts.environment.rng;
        Self {
            token: token.unwrap_or_else(|| format!("ghp_{}", rng.text(36))),
            state: Mutex::new(State::new(&config, parts.environment.clone())),
            config,
            url: parts.url,
            environment: parts.environment,
            faults: parts.faults,
            exchanges: Exchanges::default(),
            webhooks: parts.webhooks,
            observer: parts.observer,
            changed: Notify::new(),
        }
    }

    pub(crate) fn api_url(&self) -> String {
        format!("{}/api/v3", self.url)
    }

    pub(crate) fn now(&self) -> jiff::Timestamp {
        self.environment.clock.now()
    }

    /// Reads the state.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state: waiting jobs then go to idle runners, events go out, waiters look again.
    pub(crate) fn change<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let (value, events) = {
            let mut state = self.state();
            let value = act(&mut state);
            state.offer(self.config.scale_sets.offer);
            state.assign(self.config.runner_choice);
            (value, state.take_events())
        };
        for event in events {
            self.publish(&event);
        }
        self.changed.notify_waiters();
        value
    }

    fn publish(&self, event: &Event) {
        match event {
            Event::Job(action, job) => {
                if let Some(observer) = &self.observer {
                    observer.job(action, &job.view());
                }
                self.webhooks.job(&self.url, action, job);
            }
            Event::RunnerDeleted(name) => {
                if let Some(observer) = &self.observer {
                    observer.runner_deleted(name);
                }
            }
        }
    }

    /// The next change. It counts from the first poll of the future on, or from `enable`.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}
