//! What a source asks of a pool, in one small value.

/// The demand of a pool whose jobs are not counted here but told by a source of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Demand {
    /// The source has not spoken yet: what is there stays, and only min idle is filled up.
    #[default]
    Unknown,
    /// So many jobs in all, those that run included; min idle comes on top.
    Jobs(usize),
    /// So many runners in all, those with a job included; min idle is part of it.
    Runners(usize),
}

/// The runners of a pool, as far as demand is measured against them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Supply {
    /// Runners that take a job, now or soon.
    pub(crate) ready: usize,
    /// Runners with a job that goes on.
    pub(crate) working: usize,
    pub(crate) min_idle: usize,
}

impl Demand {
    /// How many jobs wait for a runner, beside min idle: what the decision goes by.
    pub(crate) fn waiting(self, supply: Supply) -> usize {
        let Supply {
            ready,
            working,
            min_idle,
        } = supply;
        match self {
            Self::Unknown => ready.saturating_sub(min_idle),
            Self::Jobs(all) => all.saturating_sub(working),
            Self::Runners(all) => all.saturating_sub(working + min_idle),
        }
    }
}

/// What a source last told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Feed {
    pub(crate) demand: Demand,
    /// Why the source could not be asked the last time; the demand is then what it told before.
    pub(crate) error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn min_idle_is_on_top_of_jobs_and_part_of_a_total() {
        let supply = |ready, working, min_idle| Supply {
            ready,
            working,
            min_idle,
        };
        for (demand, supply, waiting) in [
            (Demand::Jobs(5), supply(0, 0, 2), 5),
            (Demand::Jobs(5), supply(1, 4, 2), 1),
            (Demand::Jobs(3), supply(0, 4, 2), 0),
            (Demand::Runners(5), supply(0, 0, 2), 3),
            (Demand::Runners(5), supply(2, 3, 0), 2),
            (Demand::Runners(1), supply(0, 0, 2), 0),
            // Nothing is removed, and min idle is still filled up.
            (Demand::Unknown, supply(4, 1, 2), 2),
            (Demand::Unknown, supply(0, 1, 2), 0),
        ] {
            assert_eq!(demand.waiting(supply), waiting, "{demand:?} {supply:?}");
        }
    }
}
