//! A value that several tasks watch, woken in the order in which they subscribed.
//!
//! Tokio's own watch channel wakes them in a random order, and a simulation's seed must decide
//! everything.
//!
//! Readers get the value itself and never a lock on it: whoever reads twice while somebody waits
//! to write would otherwise wait for ever.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

struct Shared<T> {
    value: Mutex<Arc<T>>,
    /// Grows with every change.
    version: AtomicU64,
    closed: AtomicBool,
    /// One for each reader, which alone waits on it.
    bells: Mutex<Vec<(u64, Arc<Notify>)>>,
    next_reader: AtomicU64,
}

impl<T> Shared<T> {
    fn get(&self) -> Arc<T> {
        let value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        value.clone()
    }

    fn ring(&self) {
        let bells = self.bells.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, bell) in bells.iter() {
            bell.notify_one();
        }
    }
}

/// The one who writes. Dropped, its readers are told that nothing more comes.
pub(crate) struct Board<T>(Arc<Shared<T>>);

impl<T: Clone> Board<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Shared {
            value: Mutex::new(Arc::new(value)),
            version: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            bells: Mutex::default(),
            next_reader: AtomicU64::new(0),
        }))
    }

    /// The value now.
    pub(crate) fn get(&self) -> Arc<T> {
        self.0.get()
    }

    pub(crate) fn send_replace(&self, value: T) {
        self.send_modify(|old| *old = value);
    }

    pub(crate) fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }

    /// Tells the readers only when `change` says that it changed something.
    pub(crate) fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) {
        let mut value = self.0.value.lock().unwrap_or_else(PoisonError::into_inner);
        if change(Arc::make_mut(&mut value)) {
            self.0.version.fetch_add(1, Ordering::Release);
            drop(value);
            self.0.ring();
        }
    }

    /// A reader that has seen the value as it is now.
    pub(crate) fn subscribe(&self) -> Reader<T> {
        Reader::new(self.0.clone())
    }
}

impl<T> Drop for Board<T> {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::Release);
        self.0.ring();
    }
}

/// One who watches.
pub(crate) struct Reader<T> {
    shared: Arc<Shared<T>>,
    id: u64,
    bell: Arc<Notify>,
    seen: u64,
}

impl<T> Reader<T> {
    fn new(shared: Arc<Shared<T>>) -> Self {
        let id = shared.next_reader.fetch_add(1, Ordering::Relaxed);
        let bell = Arc::new(Notify::new());
        let mut bells = shared.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.push((id, bell.clone()));
        drop(bells);
        let seen = shared.version.load(Ordering::Acquire);
        Self {
            shared,
            id,
            bell,
            seen,
        }
    }

    /// The value now.
    pub(crate) fn get(&self) -> Arc<T> {
        self.shared.get()
    }

    /// The value now, which counts as seen.
    pub(crate) fn get_and_update(&mut self) -> Arc<T> {
        // What changes in between is news.
        self.seen = self.shared.version.load(Ordering::Acquire);
        self.shared.get()
    }

    /// Whether there is news.
    pub(crate) fn has_changed(&self) -> bool {
        self.shared.version.load(Ordering::Acquire) != self.seen
    }

    /// Waits for news, which then counts as seen. False when none will come any more.
    pub(crate) async fn changed(&mut self) -> bool {
        loop {
            if self.has_changed() {
                self.seen = self.shared.version.load(Ordering::Acquire);
                return true;
            }
            if self.shared.closed.load(Ordering::Acquire) {
                return false;
            }
            self.bell.notified().await;
        }
    }
}

impl<T> Clone for Reader<T> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let bells = self.shared.bells.lock();
        let mut bells = bells.unwrap_or_else(PoisonError::into_inner);
        bells.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_hear_of_every_change_and_of_the_end() {
        let board = Board::new(1);
        let mut reader = board.subscribe();
        assert!(!reader.has_changed());
        board.send_replace(2);
        board.send_if_modified(|_| false);
        assert!(reader.changed().await);
        assert_eq!(*reader.get(), 2);
        assert!(!reader.has_changed());
        let mut late = reader.clone();
        let waiting = tokio::spawn(async move { late.changed().await });
        tokio::task::yield_now().await;
        board.send_modify(|value| *value += 1);
        assert!(waiting.await.expect("no panic"));
        assert_eq!(*reader.get_and_update(), 3);
        drop(board);
        assert!(!reader.changed().await);
    }

    #[test]
    fn a_reader_holds_nobody_up() {
        let board = Board::new(1);
        let reader = board.subscribe();
        let before = reader.get();
        board.send_replace(2);
        assert_eq!((*before, *reader.get(), *board.get()), (1, 2, 2));
    }

    #[tokio::test]
    async fn readers_wake_in_the_order_in_which_they_came() {
        let board = Board::new(0);
        let woken = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..20 {
            let (mut reader, woken) = (board.subscribe(), woken.clone());
            tasks.push(tokio::spawn(async move {
                reader.changed().await;
                woken.lock().expect("no panic").push(number);
            }));
        }
        tokio::task::yield_now().await;
        board.send_replace(1);
        for task in tasks {
            task.await.expect("no panic");
        }
        let woken = woken.lock().expect("no panic").clone();
        assert_eq!(woken, (0..20).collect::<Vec<_>>());
    }
}
