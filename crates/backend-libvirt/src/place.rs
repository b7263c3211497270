//! Which host a runner goes to.

use std::cmp::Ordering;

use runner_manager_core::{Error, ErrorKind, Result, Retry};
use std::time::Duration;

/// What a host has, and what of it is given away.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Capacity {
    /// Its memory, in MiB, less what is reserved for itself.
    pub(crate) memory_mib: u64,
    /// What of it is free by the host's own account, in MiB. A guest that has just booted uses
    /// less than it may use.
    pub(crate) free_mib: u64,
    /// What its guests may use together, launches under way included, in MiB.
    pub(crate) given_mib: u64,
    /// Its CPUs, times the overcommitment.
    pub(crate) cpus: f64,
    /// The virtual CPUs of its guests, launches under way included.
    pub(crate) given_cpus: u32,
}

/// What a runner needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) memory_mib: u32,
    pub(crate) vcpus: u32,
}

impl Capacity {
    /// How much of the scarcer thing is left with the runner on it, as a share; `None` when it
    /// does not fit.
    fn left_with(&self, need: Need) -> Option<f64> {
        let need_mib = u64::from(need.memory_mib);
        let by_promise = self.memory_mib.checked_sub(self.given_mib + need_mib)?;
        let left_mib = by_promise.min(self.free_mib.checked_sub(need_mib)?);
        let left_cpus = self.cpus - f64::from(self.given_cpus) - f64::from(need.vcpus);
        if left_cpus < 0.0 {
            return None;
        }
        let share = |left: u64, all: u64| {
            let small = |mib: u64| f64::from(u32::try_from(mib).unwrap_or(u32::MAX));
            small(left) / small(all.max(1))
        };
        Some(share(left_mib, self.memory_mib).min(left_cpus / self.cpus))
    }
}

/// The hosts that have room, the best first: where most is left of the scarcer of memory and
/// CPU. Of equals the first configured.
pub(crate) fn order(hosts: &[Capacity], need: Need) -> Vec<usize> {
    let fits = hosts.iter().enumerate();
    let mut fits: Vec<(usize, f64)> = fits
        .filter_map(|(index, host)| Some((index, host.left_with(need)?)))
        .collect();
    // The sort is stable.
    fits.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal));
    fits.into_iter().map(|(index, _)| index).collect()
}

/// The error where no host has room.
pub(crate) fn no_room<T>(need: Need, asked: usize) -> Result<T> {
    let message = "no host has room for the runner; add a host, or lower `memory_mib`, `vcpus` or \
                   the pool's `max`";
    Err(Error::new(ErrorKind::NoCapacity, message)
        .with_retry(Retry::After(Duration::from_secs(30)))
        .with_context("memory MiB", need.memory_mib)
        .with_context("vcpus", need.vcpus)
        .with_context("hosts asked", asked))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need {
        memory_mib: 4096,
        vcpus: 2,
    };

    fn host(free_mib: u64, given_mib: u64, given_cpus: u32) -> Capacity {
        Capacity {
            memory_mib: 65_536,
            free_mib,
            given_mib,
            cpus: 32.0,
            given_cpus,
        }
    }

    #[test]
    fn the_emptier_host_comes_first() {
        let hosts = [host(60_000, 8_192, 4), host(65_000, 0, 0)];
        assert_eq!(order(&hosts, NEED), [1, 0]);
    }

    #[test]
    fn the_scarcer_of_memory_and_cpu_decides() {
        let all_cpus_taken = host(65_000, 0, 28);
        let half_of_both = host(32_768, 32_768, 16);
        assert_eq!(order(&[all_cpus_taken, half_of_both], NEED), [1, 0]);
    }

    #[test]
    fn promises_count_though_guests_have_not_used_them() {
        let fresh_guests = host(65_000, 64_000, 4);
        assert!(order(&[fresh_guests], NEED).is_empty());
    }

    #[test]
    fn what_others_on_the_host_use_counts() {
        assert!(order(&[host(4_095, 0, 0)], NEED).is_empty());
        assert_eq!(order(&[host(4_096, 0, 0)], NEED), [0]);
    }

    #[test]
    fn a_host_without_cpus_left_is_full() {
        assert_eq!(order(&[host(65_000, 0, 30)], NEED), [0]);
        assert!(order(&[host(65_000, 0, 31)], NEED).is_empty());
    }

    #[test]
    fn of_equals_the_first_is_taken() {
        assert_eq!(order(&[host(9_000, 0, 0), host(9_000, 0, 0)], NEED), [0, 1]);
    }
}
