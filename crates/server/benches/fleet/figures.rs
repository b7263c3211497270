//! What is printed, and what the kernel says of this process.

use std::time::Duration;

/// Prints the median, the 99th percentile and the worst.
pub(crate) fn latencies(what: &str, mut all: Vec<Duration>) {
    all.sort_unstable();
    let at = |percent: usize| all[(all.len() - 1) * percent / 100].as_secs_f64() * 1_000.0;
    println!(
        "{what}: p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms, of {}",
        at(50),
        at(99),
        at(100),
        all.len()
    );
}

/// The most memory that a process had, by its pid or `self`, in MiB.
pub(crate) fn peak_memory(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.unwrap().split_whitespace().next().unwrap();
    kib.parse::<u64>().unwrap() / 1_024
}
