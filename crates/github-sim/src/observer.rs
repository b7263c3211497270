//! What a program that holds a simulator in its own process is told.

use crate::JobView;

/// A webhook delivery on its way to a receiver in this process.
#[derive(Debug, Clone)]
pub struct WebhookDelivery {
    /// The value of `x-github-delivery`: the same when an event is delivered again.
    pub guid: String,
    /// The value of `x-github-event`.
    pub event: &'static str,
    /// The action that its body names, such as `queued`.
    pub action: Option<String>,
    /// The job that a `workflow_job` event is about.
    pub job: Option<u64>,
    /// The body, JSON.
    pub body: String,
}

/// Told of what happens in a simulator, in its order and before the call that caused it returns.
/// It must not call the simulator.
pub trait Observer: Send + Sync {
    /// A job is `queued`, `in_progress` or `completed`.
    fn job(&self, action: &'static str, job: &JobView);

    /// A registration was deleted by a client. One that ends with its job is not told.
    fn runner_deleted(&self, name: &str);

    /// A webhook is sent. The receiver's answer counts as a success.
    fn webhook(&self, delivery: WebhookDelivery);
}
