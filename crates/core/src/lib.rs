#![doc = include_str!("../README.md")]

mod backend;
mod bootstrap;
mod budget;
mod capability;
mod clock;
mod cloud;
mod cloud_init;
mod credential;
mod error;
mod exec;
mod github;
mod guest;
mod hosted;
mod invalid;
mod labels;
mod manager;
mod metrics;
mod names;
mod runner;
mod secret;
mod support;

pub use backend::{Backend, BackendContext, Connected, parse_section};
pub use bootstrap::{
    Aproxy, BootConfig, BootSecrets, Bootstrap, Compression, ExtraPart, Machine, Network, PartKind,
    RunnerDownload, RunnerFolder, UserData,
};
pub use budget::{Budget, BudgetLimits, Budgets, Permit};
pub use capability::{Capability, Support};
pub use clock::{Clock, ManualClock, SystemClock, age_at};
pub use cloud::{Cloud, CloudInstance, LaunchSpec, Leftover};
pub use cloud_init::CloudInitStatus;
pub use credential::{RemoveToken, RunnerCredential};
pub use error::{Effect, Error, ErrorKind, Result, Retry};
pub use exec::{Command, CommandOutput, Exec, ExecGuest};
pub use github::{GitHubPath, GitHubRunnerConfig};
pub use guest::{ExchangeFile, Guest, GuestFile, GuestProbe, StopMode, StopOutcome};
pub use hosted::{Assessment, HostedRunners, Timings, assess};
pub use invalid::InvalidValue;
pub use labels::{Label, Labels};
pub use manager::{CloudRunnerManager, CreateRunner};
pub use metrics::{JobStatus, PostJobMetrics, PreJobMetrics, RunnerMetrics, SetAside, StatusInfo};
pub use names::{InstanceId, NamePrefix, RunnerName};
pub use runner::{CloudRunnerInstance, CloudRunnerState, HealthState};
pub use secret::{Secret, SecretSource};
pub use support::{ProxyConfig, RepoPolicyCompliance, SshDebugConnection, SupportServiceConfig};
