//! The pressure stream of a planner: `GET {base}/api/v1/flavors/{flavor}/pressure?stream=true`.
//!
//! An answer without end, one JSON object a line: `{"<flavor>": <runners in all>}`. Other lines
//! are skipped. While the planner is away the last number stands, and never less than min idle.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use reqwest::{Client, StatusCode};
use runner_manager_core::{Error, ErrorKind, Result, Secret};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::chance::Chance;
use crate::demand::{Demand, Feed};

/// How long the stream may be silent before it counts as dead.
const SILENCE: Duration = Duration::from_secs(300);
const CONNECT: Duration = Duration::from_secs(10);
/// The longest line that is read.
const MAX_LINE: usize = 64 * 1024;
/// The longest pause after many failures.
const MAX_RETRY: Duration = Duration::from_secs(60);

/// The bytes of a stream as they come.
pub type PressureStream = BoxStream<'static, Result<Vec<u8>>>;

/// The way to planners.
pub trait PlannerCarrier: Debug + Send + Sync {
    /// Opens the stream of a planner.
    ///
    /// # Errors
    /// When the planner cannot be reached, or refuses.
    fn open(&self, planner: PlannerConfig) -> BoxFuture<'static, Result<PressureStream>>;
}

/// Where a planner is.
#[derive(Debug, Clone)]
pub struct PlannerConfig {
    /// The base of its API.
    pub url: reqwest::Url,
    /// The flavor whose pressure is this pool's.
    pub flavor: String,
    /// The Bearer token.
    pub token: Secret,
    /// The pause after the first failure; it doubles up to a minute.
    pub retry: Duration,
    /// The way to it.
    pub carrier: Arc<dyn PlannerCarrier>,
}

impl PlannerConfig {
    /// The pause that deployments of planners expect.
    const RETRY: Duration = Duration::from_secs(5);

    /// A planner that is asked over HTTP.
    #[must_use]
    pub fn new(url: reqwest::Url, flavor: impl Into<String>, token: Secret) -> Self {
        Self {
            url,
            flavor: flavor.into(),
            token,
            retry: Self::RETRY,
            carrier: Arc::new(Http),
        }
    }

    fn stream(&self) -> Result<reqwest::Url> {
        let mut url = self.url.clone();
        let mut path = url.path_segments_mut().map_err(|()| {
            Error::new(
                ErrorKind::InvalidConfig,
                "the planner's address has no path",
            )
        })?;
        path.pop_if_empty();
        path.extend(["api", "v1", "flavors", &self.flavor, "pressure"]);
        drop(path);
        url.set_query(Some("stream=true"));
        Ok(url)
    }
}

/// Follows the stream until dropped.
pub(super) async fn follow(
    pool: String,
    config: PlannerConfig,
    chance: &Chance,
    feed: Arc<watch::Sender<Feed>>,
) {
    let mut failures = 0_u32;
    loop {
        let heard = |pressure: usize| {
            let news = Feed {
                demand: Demand::Runners(pressure),
                error: None,
            };
            if feed.send_replace(news.clone()) != news {
                tracing::info!(pool, pressure, "the planner asks for runners");
            }
        };
        let mut lines = 0_u64;
        let error = match read(&config, |pressure| {
            lines += 1;
            heard(pressure);
        })
        .await
        {
            Ok(()) => Error::new(ErrorKind::Unreachable, "the planner ended the stream"),
            Err(error) => error,
        };
        failures = if lines > 0 { 1 } else { failures + 1 };
        let pause = chance.spread(pause(config.retry, failures));
        tracing::warn!(pool, %error, ?pause, "the planner is away; its last word stands");
        feed.send_modify(|feed| feed.error = Some(error.to_string()));
        tokio::time::sleep(pause).await;
    }
}

fn pause(first: Duration, failures: u32) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)));
    doubled.min(MAX_RETRY)
}

/// Reads one stream to its end.
async fn read(config: &PlannerConfig, mut heard: impl FnMut(usize)) -> Result<()> {
    let mut stream = config.carrier.open(config.clone()).await?;
    let mut line = Vec::new();
    while let Some(chunk) = stream.next().await {
        for byte in chunk? {
            match byte {
                b'\n' => {
                    if let Some(pressure) = parse(&line, &config.flavor) {
                        heard(pressure);
                    }
                    line.clear();
                }
                byte if line.len() < MAX_LINE => line.push(byte),
                _ => {
                    let message = "the planner sent a line of more than 64 KiB";
                    return Err(Error::new(ErrorKind::BadAnswer, message));
                }
            }
        }
    }
    Ok(())
}

/// The planner's own API.
#[derive(Debug)]
struct Http;

impl PlannerCarrier for Http {
    fn open(&self, planner: PlannerConfig) -> BoxFuture<'static, Result<PressureStream>> {
        async move {
            let answer = request(&planner).await?;
            let chunks = stream::try_unfold(answer, |mut answer| async {
                let chunk = answer.chunk().await.map_err(broken)?;
                Ok(chunk.map(|bytes| (bytes.to_vec(), answer)))
            });
            Ok(chunks.boxed())
        }
        .boxed()
    }
}

fn broken(error: reqwest::Error) -> Error {
    let kind = if error.is_timeout() {
        ErrorKind::TimedOut
    } else {
        ErrorKind::Unreachable
    };
    let message = "cannot read the planner's stream; check `planner.url` and the planner";
    Error::new(kind, message).with_source(error.without_url())
}

async fn request(config: &PlannerConfig) -> Result<reqwest::Response> {
    let client = Client::builder()
        .user_agent(concat!("runner-manager/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(broken)?;
    let request = client
        .get(config.stream()?)
        .bearer_auth(config.token.expose());
    let answer = request.send().await.map_err(broken)?;
    match answer.status() {
        StatusCode::OK => Ok(answer),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let message = "the planner does not take the token; check `planner.token_file`";
            Err(Error::new(ErrorKind::Unauthenticated, message))
        }
        StatusCode::NOT_FOUND => {
            let message = "the planner does not know this flavor; check `planner.flavor`";
            Err(Error::new(ErrorKind::NotFound, message).with_context("flavor", &config.flavor))
        }
        other => {
            let message = format!("the planner answered with status {}", other.as_u16());
            Err(Error::new(ErrorKind::Unreachable, message))
        }
    }
}

/// The pressure of a line, if it is one of this flavor.
fn parse(line: &[u8], flavor: &str) -> Option<usize> {
    let fields: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let pressure = fields.get(flavor)?.as_u64()?;
    Some(usize::try_from(pressure).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests;
