//! The order of stages: the order in which a job goes through them.

/// A job's way, by the first words of the stages' names.
const WAY: [&str; 5] = ["queued", "launched", "online", "picked", "done"];

/// Sorts by the stage a name starts with, then by the one it ends with; the whole way and
/// unknown names come last.
pub(crate) fn rank(name: &str) -> (bool, usize, usize) {
    let words: Vec<&str> = name.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    let mut places = words
        .iter()
        .filter_map(|word| WAY.iter().position(|stage| stage == word));
    let first = places.next().unwrap_or(WAY.len());
    let last = places.next_back().unwrap_or(first);
    (is_whole(name), first, last)
}

/// Whether a name means all of the way, so that it is no part of the sum.
pub(crate) fn is_whole(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("total") || (name.starts_with("queued") && name.ends_with("done"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_stand_in_the_order_of_a_job() {
        let mut names = [
            "total",
            "online_to_picked_up",
            "zzz",
            "queued_to_done",
            "picked_up_to_done",
            "queued_to_launched",
            "launched_to_online",
        ];
        names.sort_by_key(|name| rank(name));
        let expected = [
            "queued_to_launched",
            "launched_to_online",
            "online_to_picked_up",
            "picked_up_to_done",
            "zzz",
            "queued_to_done",
            "total",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn the_whole_way_is_known_by_its_name() {
        assert!(is_whole("queued_to_done") && is_whole("total"));
        assert!(!is_whole("queued_to_launched") && !is_whole("picked_up_to_done"));
    }
}
