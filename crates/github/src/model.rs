//! What the client's calls take and give.

use jiff::Timestamp;
use runner_manager_core::{Error, GitHubPath, Labels, RemoveToken, Secret};
use url::Url;

/// A token that `config.sh --token` takes. Good for about an hour and any number of runners.
#[derive(Debug, Clone)]
pub struct RegistrationToken {
    /// The token.
    pub token: Secret,
    /// When it stops being taken.
    pub expires_at: Timestamp,
}

/// A token that `config.sh remove --token` takes. Good for about an hour.
#[derive(Debug, Clone)]
pub struct RemovalToken {
    /// The token, as the contract's operations take it.
    pub token: RemoveToken,
    /// When it stops being taken.
    pub expires_at: Timestamp,
}

/// What a just-in-time runner shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JitRequest {
    /// The runner's name: at most 64 characters, unused in the scope.
    pub name: String,
    /// The runner group's name; the scope's own group when absent. Repositories have none.
    pub group: Option<String>,
    /// The labels: 1 to 100.
    pub labels: Labels,
}

/// A runner that is registered and waits to be started.
#[derive(Debug, Clone)]
pub struct JitRunner {
    /// The registration.
    pub runner: RemoteRunner,
    /// What `run.sh --jitconfig` takes. It holds the runner's private key.
    pub config: Secret,
}

/// A runner as GitHub knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRunner {
    /// GitHub's id of the runner, unique in its scope.
    pub id: u64,
    /// The runner's name.
    pub name: String,
    /// Whether the runner is connected.
    pub online: bool,
    /// Whether the runner has a job.
    pub busy: bool,
    /// The labels' names, those that GitHub adds included.
    pub labels: Vec<String>,
    /// Whether the runner serves one job; absent where this GitHub does not say.
    pub ephemeral: Option<bool>,
}

/// All runners of a scope at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Every runner that could be read, each once, in order of id.
    pub runners: Vec<RemoteRunner>,
    /// What is known of the records that could not be read: these runners are not absent.
    pub unread: Vec<Unread>,
    /// When the first page was asked for, by this machine's clock: what was registered or
    /// removed after this may be missing or listed.
    pub taken_at: Timestamp,
}

/// What can be read of a record that lacks a field which decisions go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// GitHub's id of it.
    pub id: Option<u64>,
    /// Its name.
    pub name: Option<String>,
}

/// The runners of a scope, as far as they could be read.
#[derive(Debug)]
pub struct Observed {
    /// The runners: what was read on any page.
    pub listing: Listing,
    /// Why a runner that is not in the listing may be there in spite of that; none for a whole list,
    /// which alone tells that something is absent.
    pub gap: Option<Error>,
}

/// What a delete found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// The runner was there and was removed.
    Deleted,
    /// The runner was not there any more.
    WasGone,
}

/// A job of a workflow run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteJob {
    /// GitHub's id of the job.
    pub id: u64,
    /// The id of the workflow run.
    pub run_id: u64,
    /// The job's name.
    pub name: String,
    /// The repository's owner, as the caller wrote it.
    pub owner: String,
    /// The repository's name, as the caller wrote it.
    pub repo: String,
    /// The labels of `runs-on`.
    pub labels: Vec<String>,
    /// `queued`, `in_progress`, `completed`, `waiting`, `requested` or `pending`.
    pub status: String,
    /// `success`, `failure`, `cancelled` and others, once completed.
    pub conclusion: Option<String>,
    /// The runner that took the job.
    pub runner_name: Option<String>,
    /// When the job was made. Where GitHub does not say: when it started, and else when it was
    /// read.
    pub created_at: Timestamp,
    /// When a runner took the job. GitHub fills it for queued jobs too.
    pub started_at: Option<Timestamp>,
    /// When the job ended.
    pub completed_at: Option<Timestamp>,
}

/// One thing that [`GitHub::check`](crate::GitHub::check) looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was looked at, and what was found.
    pub what: String,
    /// What to do about it; present when not ok.
    pub advice: Option<String>,
}

/// What a webhook shall be: JSON, the event `workflow_job` alone, over verified TLS.
#[derive(Debug, Clone)]
pub struct HookSpec {
    /// Where GitHub sends events.
    pub url: Url,
    /// The secret that signs them.
    pub secret: Secret,
}

/// A webhook on GitHub's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookPlace {
    /// That of a GitHub App, by its place in the credential.
    App(usize),
    /// One of an organization or repository.
    Hook {
        /// The organization or repository.
        path: GitHubPath,
        /// GitHub's id of the webhook.
        id: u64,
    },
}

/// What an installation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookChange {
    /// There was none to this address.
    Made,
    /// It was another address, form, event, or not active.
    Changed,
    /// It was as it should be; only the secret was set.
    SecretOnly,
}

/// A delivery that no attempt has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedDelivery {
    /// The id of its newest attempt.
    pub id: u64,
    /// Its own id, the same in every attempt.
    pub guid: String,
}

/// What GitHub last said about the calls that are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Calls per window.
    pub limit: u64,
    /// Calls left in this window.
    pub remaining: u64,
    /// When the next window begins, by GitHub's clock.
    pub reset_at: Timestamp,
}
