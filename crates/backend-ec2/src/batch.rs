//! Calls about many instances at once: what is asked for within a moment goes in one call.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use runner_manager_core::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

/// How long a call waits for company.
const MOMENT: Duration = Duration::from_millis(20);
/// How many go in one call. EC2 takes 1,000 instances and 200 values of a filter.
const MOST: usize = 100;

/// What answers for several keys at once, in their order.
type Work<K, V> = dyn Fn(Vec<K>) -> BoxFuture<'static, Vec<Result<V>>> + Send + Sync;
type Waiting<K, V> = Vec<(K, oneshot::Sender<Result<V>>)>;

/// Gathers calls. Work that was begun goes on when who asked for it is gone.
pub(crate) struct Batch<K, V> {
    work: Arc<Work<K, V>>,
    waiting: Arc<Mutex<Waiting<K, V>>>,
}

impl<K: Send + 'static, V: Send + 'static> Batch<K, V> {
    pub(crate) fn new(
        work: impl Fn(Vec<K>) -> BoxFuture<'static, Vec<Result<V>>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            work: Arc::new(work),
            waiting: Arc::default(),
        }
    }

    /// Asks for one key.
    ///
    /// # Errors
    /// What the work says of it.
    pub(crate) async fn ask(&self, key: K) -> Result<V> {
        let (sender, answer) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push((key, sender));
            waiting.len() == 1
        };
        if is_first {
            tokio::spawn(run(Arc::clone(&self.work), Arc::clone(&self.waiting)));
        }
        answer.await.unwrap_or_else(|_| {
            let message = "the call was given up: its task has ended";
            Err(Error::new(ErrorKind::Unexpected, message))
        })
    }
}

/// Takes all that gather within a moment, and works on them side by side.
async fn run<K: Send + 'static, V: Send + 'static>(
    work: Arc<Work<K, V>>,
    waiting: Arc<Mutex<Waiting<K, V>>>,
) {
    tokio::time::sleep(MOMENT).await;
    let mut all = std::mem::take(&mut *waiting.lock().unwrap_or_else(PoisonError::into_inner));
    let mut calls = Vec::new();
    while !all.is_empty() {
        let some = all.split_off(all.len().saturating_sub(MOST));
        let (keys, senders): (Vec<K>, Vec<_>) = some.into_iter().unzip();
        let answers = work(keys);
        calls.push(async move {
            for (sender, answer) in senders.into_iter().zip(answers.await) {
                // Who asked may be gone.
                let _ = sender.send(answer);
            }
        });
    }
    futures::future::join_all(calls).await;
}

/// The same error for one more who asked.
pub(crate) fn again(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.to_string())
        .with_retry(error.retry())
        .with_effect(error.effect());
    match error.context("code") {
        Some(code) => copy.with_context("code", code),
        None => copy,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_is_asked_at_once_is_one_call_and_each_gets_its_own_answer() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let batch: Batch<usize, usize> = Batch::new(move |keys| {
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move { keys.into_iter().map(|key| Ok(key * 2)).collect() })
        });
        let asked = futures::future::join_all((0..250).map(|key| batch.ask(key))).await;
        for (key, answer) in asked.into_iter().enumerate() {
            assert_eq!(answer.expect("an answer"), key * 2);
        }
        assert_eq!(
            calls.load(Ordering::Relaxed),
            3,
            "250 keys are three calls of at most 100"
        );
        assert_eq!(batch.ask(7).await.expect("an answer"), 14);
    }

    #[tokio::test]
    async fn one_who_leaves_spoils_nothing_for_the_others() {
        let batch: Batch<u8, u8> =
            Batch::new(|keys| Box::pin(async move { keys.into_iter().map(Ok).collect() }));
        let (left, stayed) = (batch.ask(1), batch.ask(2));
        let short = Duration::from_millis(1);
        assert!(tokio::time::timeout(short, left).await.is_err());
        assert_eq!(stayed.await.expect("an answer"), 2);
    }
}
