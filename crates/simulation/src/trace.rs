//! What happened, as a number to compare runs by, and as text for whoever looks into a failure.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// How many of the last lines a failure shows.
const SHOWN: usize = 80;

#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: DefaultHasher,
    last: VecDeque<String>,
    /// Whether every line is printed.
    pub(crate) print: bool,
    /// Whether lines are kept: a large run keeps none.
    pub(crate) keep: bool,
}

impl Trace {
    pub(crate) fn note(&mut self, at: Duration, what: std::fmt::Arguments<'_>) {
        if !self.keep && !self.print {
            return;
        }
        let line = format!("{:>10.3} {what}", at.as_secs_f64());
        line.hash(&mut self.hash);
        if self.print {
            eprintln!("{line}");
        }
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(line);
    }

    /// The same for runs in which the same things happened at the same times.
    pub(crate) fn digest(&self) -> u64 {
        self.hash.finish()
    }

    pub(crate) fn last(&self) -> String {
        self.last.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}
