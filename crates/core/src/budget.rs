//! The rate budget of one API account: it shrinks on throttling and grows back.
//!
//! A token bucket whose rate is adaptive: additive increase, multiplicative decrease, as TCP
//! shares a line. All pools of one account draw from one bucket, so that what one pool learns
//! of the account's limit holds for all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::{Error, ErrorKind, Result, Retry};

/// The limits of a [`Budget`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetLimits {
    /// The most requests a second. Default: 20.
    pub rate: f64,
    /// The fewest requests a second that throttling leaves. Default: 0.2.
    pub floor: f64,
    /// How many requests may be made at once after a pause. Default: 20.
    pub burst: u32,
    /// How long requests that succeed take to bring the rate from the floor back to the most.
    /// Default: 60 s.
    pub recovery: Duration,
    /// How long a request may wait for its turn. Default: 30 s.
    pub max_wait: Duration,
}

impl Default for BudgetLimits {
    fn default() -> Self {
        Self {
            rate: 20.0,
            floor: 0.2,
            burst: 20,
            recovery: Duration::from_secs(60),
            max_wait: Duration::from_secs(30),
        }
    }
}

impl BudgetLimits {
    /// The limits with what makes no sense replaced by the nearest that does: a rate that is not
    /// a positive number, a floor above the rate, an empty burst.
    fn sane(self) -> Self {
        let positive = |value: f64, other: f64| if value > 0.0 { value } else { other };
        let rate = positive(self.rate, Self::default().rate).min(1e6);
        Self {
            rate,
            floor: positive(self.floor, rate / 100.0).clamp(rate / 1000.0, rate),
            burst: self.burst.max(1),
            ..self
        }
    }
}

#[derive(Debug)]
struct State {
    rate: f64,
    /// What may be spent at once; below zero it is promised to those who wait already.
    tokens: f64,
    /// When `tokens` was right.
    at: Instant,
    /// Nothing is spent before this: the other side said so.
    closed_until: Instant,
    /// Counts decreases: an answer to a request of before the last one says nothing new.
    decreases: u64,
    /// When the rate last changed.
    changed: Instant,
}

/// The rate budget of one API account, shared by everything that asks it.
///
/// Time is tokio's, so that paused time drives it in tests and simulations. A future of this
/// type that is dropped gives its place back.
#[derive(Debug)]
pub struct Budget {
    limits: BudgetLimits,
    state: Mutex<State>,
    /// The head of the queue; the lock is fair.
    turn: tokio::sync::Mutex<()>,
    /// How many are in the queue, its head included.
    waiting: AtomicUsize,
}

/// The leave to send one request, and the way to say what became of it. Dropped without a word
/// it changes nothing.
#[derive(Debug)]
#[must_use = "report what became of the request"]
pub struct Permit<'a> {
    budget: &'a Budget,
    decreases: u64,
}

/// The longest pause that the other side may ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

impl State {
    /// Takes a token, or says when to look again.
    fn take(&mut self, now: Instant, burst: f64) -> Result<(), Instant> {
        self.refill(now, burst);
        if now < self.closed_until {
            return Err(self.closed_until);
        }
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(now + Duration::from_secs_f64((1.0 - self.tokens) / self.rate))
    }

    fn refill(&mut self, now: Instant, burst: f64) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * self.rate).min(burst);
        self.at = now;
    }
}

/// One who waits, for as long as it does.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Budget {
    /// A full budget.
    #[must_use]
    pub fn new(limits: BudgetLimits) -> Self {
        let (limits, now) = (limits.sane(), Instant::now());
        Self {
            limits,
            state: Mutex::new(State {
                rate: limits.rate,
                tokens: f64::from(limits.burst),
                at: now,
                closed_until: now,
                decreases: 0,
                changed: now,
            }),
            turn: tokio::sync::Mutex::new(()),
            waiting: AtomicUsize::new(0),
        }
    }

    /// The rate that holds just now, in requests a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.state().rate
    }

    /// Waits for the leave to send one request, in the order of the calls.
    ///
    /// # Errors
    /// [`ErrorKind::RateLimited`] with [`Retry::After`] when the turn does not come within
    /// [`BudgetLimits::max_wait`]; at once when that can be told beforehand, which also bounds
    /// the queue.
    pub async fn permit(&self) -> Result<Permit<'_>> {
        let ahead = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waits = Waits(&self.waiting);
        let estimate = self.estimate(ahead);
        if estimate > self.limits.max_wait {
            return Err(used_up(estimate));
        }
        let turn = tokio::time::timeout(self.limits.max_wait, self.wait());
        match turn.await {
            Ok(decreases) => Ok(Permit {
                budget: self,
                decreases,
            }),
            Err(_) => Err(used_up(self.estimate(0))),
        }
    }

    /// Sends one request when its turn comes, and learns from its outcome: it was throttled when
    /// it fails with [`ErrorKind::RateLimited`].
    ///
    /// # Errors
    /// Those of [`permit`](Self::permit), and those of the request.
    pub async fn spend<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let permit = self.permit().await?;
        let outcome = request.await;
        match &outcome {
            Ok(_) => permit.succeeded(),
            Err(error) if error.kind() == ErrorKind::RateLimited => {
                permit.throttled(match error.retry() {
                    Retry::After(pause) => Some(pause),
                    Retry::Never | Retry::Exhausted { .. } => None,
                });
            }
            Err(_) => {}
        }
        outcome
    }

    async fn wait(&self) -> u64 {
        let _turn = self.turn.lock().await;
        loop {
            let until = {
                let mut state = self.state();
                match state.take(Instant::now(), f64::from(self.limits.burst)) {
                    Ok(()) => return state.decreases,
                    Err(until) => until,
                }
            };
            tokio::time::sleep_until(until).await;
        }
    }

    /// How long a request waits with so many ahead of it, if the rate stays as it is.
    fn estimate(&self, ahead: usize) -> Duration {
        let mut state = self.state();
        let now = Instant::now();
        state.refill(now, f64::from(self.limits.burst));
        #[expect(
            clippy::cast_precision_loss,
            reason = "queues are far shorter than 2^52"
        )]
        let missing = (ahead as f64 + 1.0 - state.tokens).max(0.0);
        let queue = Duration::from_secs_f64(missing / state.rate);
        queue.max(state.closed_until.saturating_duration_since(now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn used_up(after: Duration) -> Error {
    Error::new(
        ErrorKind::RateLimited,
        "the budget of requests to this account is used up",
    )
    .with_retry(Retry::After(after))
}

impl Permit<'_> {
    /// The request succeeded: the rate may grow a little.
    pub fn succeeded(self) {
        let limits = self.budget.limits;
        let mut state = self.budget.state();
        if self.decreases != state.decreases || state.rate >= limits.rate {
            return;
        }
        let now = Instant::now();
        // A pause teaches nothing: it counts as one step of eight at most.
        let passed = now.saturating_duration_since(state.changed);
        let share = passed.as_secs_f64() / limits.recovery.as_secs_f64().max(1e-3);
        let grown = state.rate + (limits.rate - limits.floor) * share.min(0.125);
        state.rate = grown.min(limits.rate);
        state.changed = now;
    }

    /// The other side asked for fewer requests, and not before `retry_after` if it said so: the
    /// rate is halved, once for all requests that were under way together.
    pub fn throttled(self, retry_after: Option<Duration>) {
        let limits = self.budget.limits;
        let mut state = self.budget.state();
        let now = Instant::now();
        if let Some(pause) = retry_after {
            state.closed_until = state.closed_until.max(now + pause.min(LONGEST_PAUSE));
        }
        if self.decreases != state.decreases {
            return;
        }
        state.refill(now, f64::from(limits.burst));
        state.rate = (state.rate / 2.0).max(limits.floor);
        state.tokens = state.tokens.min(0.0);
        state.decreases += 1;
        state.changed = now;
    }
}

/// The budgets of all API accounts of one manager, so that pools of one account share theirs.
#[derive(Debug, Clone, Default)]
pub struct Budgets(Arc<Mutex<HashMap<String, Weak<Budget>>>>);

impl Budgets {
    /// The budget of an account, which lives for as long as somebody holds it. `account` names
    /// the scheme, the endpoint and the account, and holds no secret. The limits are those of
    /// the first who asks.
    #[must_use]
    pub fn of(&self, account: &str, limits: BudgetLimits) -> Arc<Budget> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(budget) = all.get(account).and_then(Weak::upgrade) {
            return budget;
        }
        all.retain(|_, budget| budget.strong_count() > 0);
        let budget = Arc::new(Budget::new(limits));
        all.insert(account.to_owned(), Arc::downgrade(&budget));
        budget
    }
}

#[cfg(test)]
mod tests;
