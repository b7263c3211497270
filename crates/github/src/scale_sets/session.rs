//! A session: the one listener of a scale set's queue.

use std::fmt;
use std::time::Duration;

use reqwest::StatusCode;
use runner_manager_core::{ErrorKind, GitHubPath, Result, Secret};
use serde_json::json;
use tokio::time::Instant;
use url::Url;

use super::connection::trusted;
use super::model::{ScaleSetMessage, Statistics};
use super::{SETS, wire};
use crate::answer::Answer;
use crate::auth::{Bearer, Identity};
use crate::call::{Call, Safety};
use crate::{GitHub, urls};

/// How long one question for messages may wait: GitHub answers after about 50 s at the latest.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a question for messages takes at least when there is none.
const LEAST_WAIT: Duration = Duration::from_secs(1);

/// An open session. Dropped without [`close`](Self::close) it stays open on GitHub until that
/// notices, which takes it about 90 s, and nobody can open the next one.
pub struct ScaleSetSession {
    github: GitHub,
    path: GitHubPath,
    set: u64,
    id: String,
    queue: Url,
    token: Secret,
    statistics: Statistics,
}

impl fmt::Debug for ScaleSetSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScaleSetSession")
            .field("set", &self.set)
            .field("id", &self.id)
            .field("statistics", &self.statistics)
            .finish_non_exhaustive()
    }
}

impl GitHub {
    /// Opens the session of a scale set.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] while there is one, which GitHub keeps for about 90 s after its
    /// listener has gone without closing it; [`ErrorKind::NotFound`] when
    /// the scale set is gone.
    pub async fn open_session(
        &self,
        path: &GitHubPath,
        set: u64,
        owner: &str,
    ) -> Result<ScaleSetSession> {
        let number = set.to_string();
        let segments = [SETS.as_slice(), &[&number, "sessions"]].concat();
        let body = json!({ "ownerName": owner });
        let answer = self.service(path, |base| {
            let url = base.join(&segments, &[]);
            Call::post(
                url,
                Some(body.clone()),
                Safety::Repeatable,
                urls::needs(path),
            )
        });
        let session: wire::Session = answer.await?.json()?;
        Ok(ScaleSetSession {
            github: self.clone(),
            path: path.clone(),
            set,
            id: session.session_id,
            queue: trusted(&session.message_queue_url)?,
            token: session.message_queue_access_token,
            statistics: session.statistics.unwrap_or_default(),
        })
    }

    /// Ends a session by its id, so that the next listener need not wait. One that is gone is fine.
    ///
    /// # Errors
    /// When GitHub cannot be told.
    pub async fn close_session(&self, path: &GitHubPath, set: u64, session: &str) -> Result<()> {
        let number = set.to_string();
        let segments = [SETS.as_slice(), &[&number, "sessions", session]].concat();
        self.gone(path, &segments).await.map(|_| ())
    }
}

impl ScaleSetSession {
    /// GitHub's id of the session. No secret.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The numbers of when the session was opened.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Waits for the next message after `last`; none when nothing came for a while. A message
    /// comes again until it is [acknowledged](Self::acknowledge).
    ///
    /// `capacity` is how many jobs may be assigned to the set in all.
    ///
    /// # Errors
    /// When GitHub cannot be asked; [`ErrorKind::NotFound`] or
    /// [`ErrorKind::Unauthenticated`] when the session is gone: open another one.
    pub async fn next(&mut self, last: u64, capacity: usize) -> Result<Option<ScaleSetMessage>> {
        let mut url = self.queue.clone();
        if last > 0 {
            url.query_pairs_mut()
                .append_pair("lastMessageId", &last.to_string());
        }
        let call = Call {
            headers: vec![
                ("accept", "application/json; api-version=6.0-preview".into()),
                ("x-scalesetmaxcapacity", capacity.to_string()),
            ],
            deadline: Some(PATIENCE),
            ..Call::get(url, urls::needs(&self.path))
        };
        let asked = Instant::now();
        let answer = self.ask(&call).await?;
        let is_empty = answer.body.iter().all(u8::is_ascii_whitespace);
        if answer.status == StatusCode::ACCEPTED || is_empty {
            // GitHub holds the question while there is nothing; who does not is not flooded.
            tokio::time::sleep_until(asked + LEAST_WAIT).await;
            return Ok(None);
        }
        Ok(Some(answer.json::<wire::Message>()?.read()))
    }

    /// Takes a message off the queue, once it has taken effect. One that is gone is fine.
    ///
    /// # Errors
    /// As [`next`](Self::next); the message comes again then.
    pub async fn acknowledge(&mut self, message: u64) -> Result<()> {
        let mut url = self.queue.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(&message.to_string());
        }
        let call = Call::delete(url, urls::needs(&self.path));
        match self.ask(&call).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Acquires jobs that were offered, and says which ones were got.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn acquire(&mut self, requests: &[u64]) -> Result<Vec<u64>> {
        let number = self.set.to_string();
        let segments = [SETS.as_slice(), &[&number, "acquirejobs"]].concat();
        for renewed in [false, true] {
            let (base, _) = self.github.connected(&self.path).await?;
            let url = base.join(&segments, &[]);
            // Acquired twice is acquired.
            let call = Call::post(
                url,
                Some(json!(requests)),
                Safety::Repeatable,
                urls::needs(&self.path),
            );
            match self.github.0.rest.call(&call, &self.bearer()).await {
                Err(e) if e.kind() == ErrorKind::Unauthenticated && !renewed => {
                    self.renew().await?;
                }
                answer => return Ok(answer?.json::<wire::List<u64>>()?.value),
            }
        }
        Ok(Vec::new())
    }

    /// Ends the session, so that the next listener need not wait.
    ///
    /// # Errors
    /// When GitHub cannot be told.
    pub async fn close(self) -> Result<()> {
        self.github
            .close_session(&self.path, self.set, &self.id)
            .await
    }

    fn bearer(&self) -> Bearer {
        Bearer::new(self.token.clone(), Identity::Service)
    }

    /// Makes a call of the queue; once more with a new token when the old one has expired.
    async fn ask(&mut self, call: &Call) -> Result<Answer> {
        let rest = &self.github.0.rest;
        match rest.call(call, &self.bearer()).await {
            Err(e) if e.kind() == ErrorKind::Unauthenticated => {
                self.renew().await?;
                let rest = &self.github.0.rest;
                rest.call(call, &self.bearer()).await
            }
            other => other,
        }
    }

    async fn renew(&mut self) -> Result<()> {
        let number = self.set.to_string();
        let segments = [SETS.as_slice(), &[&number, "sessions", &self.id]].concat();
        let answer = self.github.service(&self.path, |base| Call {
            body: None,
            ..Call::patch(
                base.join(&segments, &[]),
                serde_json::Value::Null,
                urls::needs(&self.path),
            )
        });
        let session: wire::Session = answer.await?.json()?;
        tracing::debug!(set = self.set, "the queue's token was renewed");
        self.queue = trusted(&session.message_queue_url)?;
        self.token = session.message_queue_access_token;
        Ok(())
    }
}
