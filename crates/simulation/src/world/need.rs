//! How many waiting jobs a pool may have believed in lately.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The numbers of waiting jobs for one pool over time.
#[derive(Debug, Default)]
pub(crate) struct Need(VecDeque<(Instant, usize)>);

impl Need {
    pub(crate) fn note(&mut self, waiting: usize) {
        if self.0.back().is_none_or(|(_, last)| *last != waiting) {
            self.0.push_back((Instant::now(), waiting));
        }
    }

    /// The highest number within this time: what a manager may know now, and no more.
    pub(crate) fn highest(&mut self, within: Duration) -> usize {
        let now = Instant::now();
        // The number before the first within the time still stood when the time began.
        while self.0.len() > 1 && now.duration_since(self.0[1].0) > within {
            self.0.pop_front();
        }
        self.0
            .iter()
            .map(|(_, waiting)| *waiting)
            .max()
            .unwrap_or(0)
    }
}
