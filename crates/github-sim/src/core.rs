//! What every part of a running simulator shares.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::SimConfig;
use crate::exchanges::Exchanges;
use crate::fault::Faults;
use crate::state::State;
use crate::webhook::Webhooks;

/// A running simulator's shared parts.
pub(crate) struct Core {
    pub(crate) config: SimConfig,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) faults: Faults,
    pub(crate) exchanges: Exchanges,
    pub(crate) webhooks: Arc<Webhooks>,
    changed: watch::Sender<u64>,
    state: Mutex<State>,
}

pub(crate) type Shared = Arc<Core>;

impl Core {
    pub(crate) fn new(config: SimConfig, url: String, webhooks: Arc<Webhooks>) -> Self {
        let token = config.token.clone();
        Self {
            token: token.unwrap_or_else(|| format!("ghp_{}", random(36))),
            state: Mutex::new(State::new(&config)),
            config,
            url,
            faults: Faults::default(),
            exchanges: Exchanges::default(),
            webhooks,
            changed: watch::Sender::new(0),
        }
    }

    pub(crate) fn api_url(&self) -> String {
        format!("{}/api/v3", self.url)
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
            state.offer(self.config.scale_sets.acquire);
            state.assign();
            (value, state.take_events())
        };
        for (action, job) in events {
            self.webhooks.job(&self.url, action, &job);
        }
        self.changed.send_modify(|version| *version += 1);
        value
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// A random text of letters and digits.
pub(crate) fn random(length: usize) -> String {
    const SET: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    (0..length)
        .map(|_| char::from(SET[rand::random_range(0..SET.len())]))
        .collect()
}

/// A random GUID.
pub(crate) fn guid() -> String {
    let n: u128 = rand::random();
    let hex = format!("{n:032x}");
    format!(
        "{}-{}-4{}-a{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[13..16],
        &hex[17..20],
        &hex[20..]
    )
}
