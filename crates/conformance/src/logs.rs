//! Everything that is logged while the suite runs, at the finest level, searched for secrets.

use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, Once, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

use runner_manager_secret_scan::contains;

use crate::canary::MARK;

/// How many lines with secrets are kept, the latest.
const KEPT: usize = 1_000;

static INSTALL: Once = Once::new();
static FOUND: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
/// Why logs cannot be watched.
static BROKEN: Mutex<Option<String>> = Mutex::new(None);

/// Watches all logs from now on.
pub(crate) fn watch() {
    INSTALL.call_once(|| {
        let installed = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::NEW)
            .with_ansi(false)
            .with_writer(Watch)
            .try_init();
        if let Err(error) = installed {
            let mut broken = BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
            *broken = Some(error.to_string());
        }
    });
}

/// The lines that hold a word.
///
/// # Errors
/// When something else has taken the logs.
pub(crate) fn lines_with(word: &str) -> Result<Vec<String>, String> {
    let broken = BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(why) = &*broken {
        return Err(why.clone());
    }
    let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lines: Vec<String> = found.iter().cloned().collect();
    lines.retain(|line| contains(line.as_bytes(), word));
    Ok(lines)
}

#[derive(Clone, Copy)]
struct Watch;

impl io::Write for Watch {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if contains(line, MARK) {
            let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
            if found.len() == KEPT {
                found.pop_front();
            }
            found.push_back(String::from_utf8_lossy(line).into_owned());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Watch {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}
