//! How a simulator is set up.

use std::time::Duration;

/// How a simulator is set up. Its credentials are made up and open nothing outside it.
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// The port on 127.0.0.1; 0 for any free one.
    pub port: u16,
    /// The personal token that is taken; a random one when absent.
    pub token: Option<String>,
    /// The organizations that exist.
    pub orgs: Vec<String>,
    /// The repositories that exist, as `owner/name`. Queueing a job for another one makes it.
    pub repos: Vec<String>,
    /// The enterprises that exist.
    pub enterprises: Vec<String>,
    /// The names of the runner groups beside `Default`; their ids count from 2.
    pub groups: Vec<String>,
    /// After how long without a sign of life a runner is offline and its job lost.
    pub silence: Duration,
    /// How long a runner's poll for a job waits at most. Must be shorter than `silence`.
    pub poll: Duration,
    /// The rate limit of each token.
    pub rate_limit: RateLimit,
    /// The rate limit of each token for registrations, GitHub's resource
    /// `actions_runner_registration`; when absent they count against the other.
    pub registration_limit: Option<RateLimit>,
    /// Which of several fitting idle runners gets a job.
    pub runner_choice: RunnerChoice,
    /// How scale sets behave.
    pub scale_sets: ScaleSetConfig,
    /// The GitHub Apps.
    pub apps: Vec<AppConfig>,
    /// Where the Apps' `workflow_job` events go, if anywhere.
    pub webhook: Option<WebhookConfig>,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            port: 0,
            token: None,
            orgs: vec!["acme".into()],
            repos: vec!["acme/app".into()],
            enterprises: vec!["acme-inc".into()],
            groups: vec!["builders".into()],
            silence: Duration::from_secs(3),
            poll: Duration::from_secs(2),
            rate_limit: RateLimit::default(),
            registration_limit: None,
            runner_choice: RunnerChoice::Oldest,
            scale_sets: ScaleSetConfig::default(),
            apps: Vec::new(),
            webhook: None,
        }
    }
}

/// Which of several fitting idle runners gets a job. GitHub promises nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunnerChoice {
    /// The one that was registered first.
    Oldest,
    /// Any of them.
    Random,
}

/// How jobs come to a scale set, up to the capacity that its listener names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobOffer {
    /// They are assigned to it.
    Assigned,
    /// They are offered and have to be acquired, as older servers do it.
    Available,
    /// Every other job has to be acquired.
    Alternating,
}

/// How scale sets behave.
#[derive(Debug, Clone, Copy)]
pub struct ScaleSetConfig {
    /// How jobs come to a scale set.
    pub offer: JobOffer,
    /// How long the token of the Actions service is good.
    pub token_lifetime: Duration,
    /// How long the token of a queue is good.
    pub queue_token_lifetime: Duration,
    /// How long a question for messages waits at most.
    pub patience: Duration,
    /// How long a session that was not closed is kept, and every other one refused, the same
    /// owner's too. On GitHub about 90 s.
    pub session_silence: Duration,
}

impl Default for ScaleSetConfig {
    fn default() -> Self {
        Self {
            offer: JobOffer::Assigned,
            token_lifetime: Duration::from_secs(3_600),
            queue_token_lifetime: Duration::from_secs(3_600),
            patience: Duration::from_secs(2),
            session_silence: Duration::from_secs(90),
        }
    }
}

/// The primary rate limit of each token.
#[derive(Debug, Clone, Copy)]
pub struct RateLimit {
    /// Calls per window. An unchanged answer (304) costs none.
    pub limit: u32,
    /// The window's length.
    pub window: Duration,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            limit: 15_000,
            window: Duration::from_secs(3_600),
        }
    }
}

/// A GitHub App that is installed in every organization, repository and enterprise.
#[derive(Debug, Clone)]
pub struct AppConfig {
    /// The App's id, the `iss` of its proofs.
    pub id: u64,
    /// The public key of its proofs: an RSA key in PEM.
    pub public_key_pem: String,
    /// How long an installation token is good; GitHub's are good for an hour.
    pub token_lifetime: Duration,
}

/// Where webhooks go.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// The receiver, an `http` or `https` URL.
    pub url: String,
    /// The secret of the signatures.
    pub secret: String,
}
