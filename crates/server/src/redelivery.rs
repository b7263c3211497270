//! Has GitHub send again what it could not deliver while nobody listened.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runner_manager_core::{ErrorKind, GitHubPath, Result};
use runner_manager_github::{GitHub, HookPlace};
use tokio::task::JoinHandle;
use url::Url;

/// How far the first round looks back: GitHub gives up a job that waited for a day.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(24);
/// How far later rounds look back beyond the one before.
const OVERLAP: SignedDuration = SignedDuration::from_mins(10);
/// How often one delivery is asked for again.
const TRIES: u32 = 5;
/// The most deliveries that one round asks for; the next takes the rest.
const PER_ROUND: usize = 200;

/// The task; it ends when this is dropped.
pub struct Redelivery {
    task: JoinHandle<()>,
}

impl Drop for Redelivery {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whose deliveries are asked for.
struct Round {
    github: GitHub,
    url: Option<Url>,
    scopes: Vec<GitHubPath>,
    /// The webhooks of the scopes, once found.
    hooks: BTreeMap<String, HookPlace>,
    /// Since when each webhook is to be asked about, once it was.
    since: HashMap<String, Timestamp>,
    /// How often each delivery was asked for.
    tries: HashMap<String, u32>,
}

impl Redelivery {
    /// Asks now and then once an interval: a GitHub App for the deliveries of its own webhook,
    /// a token for those of the scopes' webhooks to `url`. Without that address a token cannot
    /// tell its webhooks, and nothing is asked.
    #[must_use]
    pub fn start(
        github: GitHub,
        url: Option<Url>,
        scopes: Vec<GitHubPath>,
        interval: Duration,
    ) -> Self {
        let round = Round {
            github,
            url,
            scopes,
            hooks: BTreeMap::new(),
            since: HashMap::new(),
            tries: HashMap::new(),
        };
        Self {
            task: tokio::spawn(round.run(interval)),
        }
    }
}

impl Round {
    async fn run(mut self, interval: Duration) {
        if self.github.apps() == 0 && self.url.is_none() {
            tracing::info!(
                "`webhook.url` is not set: webhooks that get lost are found by the poll alone"
            );
            return;
        }
        loop {
            let again = self.ask().await;
            if again > 0 {
                tracing::info!(again, "GitHub is asked to send lost webhooks again");
            }
            tokio::time::sleep(interval).await;
        }
    }

    /// One round; answers how many deliveries will come again. A webhook that fails is asked about
    /// for the same time in the next round, and holds up no other.
    async fn ask(&mut self) -> usize {
        let mut again = 0;
        let mut still = HashMap::new();
        for (key, place) in self.places().await {
            let began = ago(OVERLAP);
            let since = self
                .since
                .get(&key)
                .copied()
                .unwrap_or_else(|| ago(LOOK_BACK));
            match self.ask_place(&place, since, &mut again, &mut still).await {
                Ok(()) => {
                    self.since.insert(key, began);
                }
                Err(error) => {
                    tracing::warn!(webhook = key, %error, "cannot ask GitHub for lost webhooks; the poll finds what they told");
                }
            }
        }
        // What is listed no more has arrived, or is too old. Those of a webhook that failed are
        // counted anew, which costs a few calls.
        self.tries = still;
        again
    }

    /// Asks for what one webhook lost.
    async fn ask_place(
        &self,
        place: &HookPlace,
        since: Timestamp,
        again: &mut usize,
        still: &mut HashMap<String, u32>,
    ) -> Result<()> {
        let mut failed = Ok(());
        for delivery in self.github.failed_deliveries(place, since).await? {
            let tried = self.tries.get(&delivery.guid).copied().unwrap_or(0);
            if tried >= TRIES || *again >= PER_ROUND {
                still.insert(delivery.guid, tried);
                continue;
            }
            match self.github.redeliver(place, delivery.id).await {
                Ok(()) => *again += 1,
                // GitHub keeps deliveries for three days only.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // The others of this webhook would fail the same way.
                Err(error) if error.kind() == ErrorKind::RateLimited => return Err(error),
                Err(error) => failed = Err(error),
            }
            still.insert(delivery.guid, tried + 1);
        }
        failed
    }

    /// The webhooks to ask about, with a name for each.
    async fn places(&mut self) -> Vec<(String, HookPlace)> {
        if self.github.apps() > 0 {
            let apps = 0..self.github.apps();
            return apps
                .map(|app| (format!("GitHub App {}", app + 1), HookPlace::App(app)))
                .collect();
        }
        let Some(url) = &self.url else {
            return Vec::new();
        };
        for scope in &self.scopes {
            let key = scope.api_path();
            if self.hooks.contains_key(&key) {
                continue;
            }
            match self.github.find_hook(scope, url).await {
                Ok(Some(id)) => {
                    let path = scope.clone();
                    self.hooks.insert(key, HookPlace::Hook { path, id });
                }
                Ok(None) => {
                    tracing::debug!(%scope, "no webhook of it comes here");
                }
                Err(error) if error.kind() == ErrorKind::Unsupported => {}
                Err(error) => {
                    tracing::warn!(%scope, %error, "cannot look for the webhook of a scope; the poll finds what it told");
                }
            }
        }
        let hooks = self.hooks.iter();
        hooks
            .map(|(key, place)| (key.clone(), place.clone()))
            .collect()
    }
}

fn ago(span: SignedDuration) -> Timestamp {
    let now = Timestamp::now();
    now.checked_sub(span).unwrap_or(now)
}
