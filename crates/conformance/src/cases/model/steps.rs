//! What is done at random.

use std::fmt;

use proptest::prelude::{Just, Strategy, prop_oneof};

use crate::Fault;

/// How long a sequence is at most.
const LENGTH: usize = 24;
/// How many runners there are at most.
pub(super) const SLOTS: usize = 4;

/// One operation; the number says on which of the runners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Creates a runner.
    Create(usize),
    /// Creates a runner while something goes wrong.
    CreateDespite(usize, Fault),
    /// Creates a runner that exists.
    CreateAgain(usize),
    /// Deletes a runner, which may not exist.
    Delete(usize),
    /// Deletes a runner while something goes wrong.
    DeleteDespite(usize, Fault),
    /// Stops an instance behind the manager's back.
    Stop(usize),
    /// Removes an instance behind the manager's back.
    Vanish(usize),
    /// Lets a job begin.
    StartJob(usize),
    /// Flushes.
    Flush { busy: bool },
    /// Cleans up.
    Cleanup,
    /// Cleans up while lists say nothing or too little.
    CleanupDespite(Fault),
    /// Another manager takes over.
    OtherManager,
}

/// Sequences of steps; they shrink to fewer and simpler ones.
pub(super) fn sequences() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..=LENGTH)
}

fn step() -> impl Strategy<Value = Step> {
    let slot = || 0..SLOTS;
    let launch = prop_oneof![
        Just(Fault::Launch),
        Just(Fault::LaunchMidway),
        Just(Fault::LaunchAfterEffect),
    ];
    let terminate = prop_oneof![
        Just(Fault::Terminate),
        Just(Fault::TerminateMidway),
        Just(Fault::TerminateAfterEffect),
    ];
    let list = prop_oneof![
        Just(Fault::List),
        Just(Fault::ListTruncated),
        Just(Fault::Guest),
        Just(Fault::Down),
    ];
    prop_oneof![
        5 => slot().prop_map(Step::Create),
        2 => (slot(), launch).prop_map(|(slot, fault)| Step::CreateDespite(slot, fault)),
        1 => slot().prop_map(Step::CreateAgain),
        1 => slot().prop_map(Step::Delete),
        1 => (slot(), terminate).prop_map(|(slot, fault)| Step::DeleteDespite(slot, fault)),
        1 => slot().prop_map(Step::Stop),
        1 => slot().prop_map(Step::Vanish),
        2 => slot().prop_map(Step::StartJob),
        1 => Just(Step::Flush { busy: false }),
        1 => Just(Step::Flush { busy: true }),
        1 => Just(Step::Cleanup),
        1 => list.prop_map(Step::CleanupDespite),
        1 => Just(Step::OtherManager),
    ]
}

/// Steps for a report, one a line.
pub(super) struct Steps<'a>(pub(super) &'a [Step]);

impl fmt::Display for Steps<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.0 {
            write!(f, "\n  {step:?}")?;
        }
        Ok(())
    }
}
