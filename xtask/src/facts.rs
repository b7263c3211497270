//! Facts about the machine, so that the times of a run can be compared.

use crate::table;
use std::fs;

/// Cores and memory that this run could use.
pub(crate) fn table() -> String {
    let cores = std::thread::available_parallelism()
        .map_or_else(|_| "unknown".to_owned(), |cores| cores.to_string());
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = |key| gibibytes(&meminfo, key).unwrap_or_else(|| "unknown".to_owned());
    let rows = [
        vec!["cores".to_owned(), cores],
        vec!["memory".to_owned(), memory("MemTotal")],
        vec!["memory available".to_owned(), memory("MemAvailable")],
    ];
    table::render(&["machine", "value"], &rows)
}

fn gibibytes(meminfo: &str, key: &str) -> Option<String> {
    let value = meminfo
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == key)?
        .1;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let tenths = kibibytes * 10 / (1024 * 1024);
    Some(format!("{}.{} GiB", tenths / 10, tenths % 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMINFO: &str = "MemTotal:       24666000 kB\nMemFree:         1000 kB\nOdd: x kB\n";

    #[test]
    fn memory_is_read_in_gibibytes() {
        assert_eq!(gibibytes(MEMINFO, "MemTotal").as_deref(), Some("23.5 GiB"));
    }

    #[test]
    fn what_is_absent_or_odd_is_not_guessed() {
        assert_eq!(gibibytes(MEMINFO, "Mem"), None);
        assert_eq!(gibibytes(MEMINFO, "Odd"), None);
        assert_eq!(gibibytes("", "MemTotal"), None);
    }
}
