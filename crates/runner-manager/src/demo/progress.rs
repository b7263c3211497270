//! What the demo shows while it runs: bars on a terminal, lines otherwise, nothing with `--json`.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use runner_manager_github_sim::{JobStatus, JobView};

pub(crate) enum Progress {
    Bars {
        done: ProgressBar,
        running: ProgressBar,
        /// Draws the bars; gone with them.
        _screen: MultiProgress,
    },
    Lines {
        last: Option<usize>,
    },
    Silent,
}

impl Progress {
    /// `places` is how many jobs can run at once.
    pub(crate) fn new(jobs: usize, places: usize, json: bool) -> Self {
        if json {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Lines { last: None };
        }
        let screen = MultiProgress::new();
        let bar = |length: usize, template: &str| {
            let style = ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            let length = u64::try_from(length).unwrap_or(u64::MAX);
            screen.add(ProgressBar::new(length).with_style(style))
        };
        Self::Bars {
            done: bar(jobs, "   done {bar:40.green} {pos:>5} of {len}  {elapsed}"),
            running: bar(places, "running {bar:40.cyan} {pos:>5} of {len}  {msg}"),
            _screen: screen,
        }
    }

    pub(crate) fn show(&mut self, jobs: &[JobView]) {
        let count = |status| jobs.iter().filter(|job| job.status == status).count();
        let (over, busy) = (count(JobStatus::Completed), count(JobStatus::InProgress));
        let queued = count(JobStatus::Queued);
        match self {
            Self::Bars { done, running, .. } => {
                done.set_position(u64::try_from(over).unwrap_or(u64::MAX));
                running.set_position(u64::try_from(busy).unwrap_or(u64::MAX));
                running.set_message(format!("{queued} queued"));
            }
            Self::Lines { last } if *last != Some(over) => {
                *last = Some(over);
                let all = jobs.len();
                eprintln!("{over:>5} of {all} jobs done, {busy} running, {queued} queued");
            }
            Self::Lines { .. } | Self::Silent => {}
        }
    }

    pub(crate) fn finish(self) {
        if let Self::Bars { done, running, .. } = self {
            running.finish_and_clear();
            done.finish();
        }
    }
}
