//! Has GitHub send again what it could not deliver while nobody listened.

use std::collections::HashMap;
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
    hooks: HashMap<String, HookPlace>,
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
            hooks: HashMap::new(),
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
        let mut since = ago(LOOK_BACK);
        loop {
            let began = ago(OVERLAP);
            match self.ask(since).await {
                Ok(0) => since = began,
                Ok(again) => {
                    since = began;
                    tracing::info!(again, "GitHub is asked to send lost webhooks again");
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot ask GitHub for lost webhooks; the poll finds what they told");
                }
            }
            tokio::time::sleep(interval).await;
        }
    }

    /// One round; answers how many deliveries will come again.
    async fn ask(&mut self, since: Timestamp) -> Result<usize> {
        let mut again = 0;
        let mut still = HashMap::new();
        for place in self.places().await? {
            let failed = self.github.failed_deliveries(&place, since).await?;
            for delivery in failed {
                let tried = self.tries.get(&delivery.guid).copied().unwrap_or(0);
                if tried >= TRIES || again >= PER_ROUND {
                    still.insert(delivery.guid, tried);
                    continue;
                }
                match self.github.redeliver(&place, delivery.id).await {
                    Ok(()) => again += 1,
                    // GitHub keeps deliveries for three days only.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                still.insert(delivery.guid, tried + 1);
            }
        }
        // What is listed no more has arrived, or is too old.
        self.tries = still;
        Ok(again)
    }

    async fn places(&mut self) -> Result<Vec<HookPlace>> {
        if self.github.apps() > 0 {
            return Ok((0..self.github.apps()).map(HookPlace::App).collect());
        }
        let Some(url) = &self.url else {
            return Ok(Vec::new());
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
                Err(error) => return Err(error),
            }
        }
        Ok(self.hooks.values().cloned().collect())
    }
}

fn ago(span: SignedDuration) -> Timestamp {
    let now = Timestamp::now();
    now.checked_sub(span).unwrap_or(now)
}
