//! The names of a runner's volumes, which prove whose they are.
//!
//! Each attempt to launch a runner makes volumes of its own, so that two attempts never share
//! one: `{runner name}.{attempt}.{part}`. The attempt is the beginning of its domain's UUID.

use runner_manager_core::{NamePrefix, RunnerName};
use uuid::Uuid;

/// What a volume is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The disk, laid over the image.
    Disk,
    /// The seed of cloud-init.
    Seed,
    /// The variables of UEFI, made by QEMU's driver.
    Variables,
    /// The text of the serial console, written by virtlogd, or an older piece of it.
    Console,
}

impl Part {
    const ALL: [Self; 4] = [Self::Disk, Self::Seed, Self::Variables, Self::Console];

    fn suffix(self) -> &'static str {
        match self {
            Self::Disk => "qcow2",
            Self::Seed => "iso",
            Self::Variables => "fd",
            Self::Console => "log",
        }
    }

    /// The word for it in logs.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Disk => "disk volume",
            Self::Seed => "seed volume",
            Self::Variables => "firmware volume",
            Self::Console => "console log",
        }
    }
}

/// One attempt to launch a runner.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    pub(crate) runner: RunnerName,
    /// Eight hexadecimal digits.
    mark: String,
}

impl Attempt {
    /// The attempt whose domain has this UUID.
    pub(crate) fn of(runner: &RunnerName, domain: Uuid) -> Self {
        let mut mark = domain.simple().to_string();
        mark.truncate(8);
        Self {
            runner: runner.clone(),
            mark,
        }
    }

    /// The name of one of its volumes.
    pub(crate) fn volume(&self, part: Part) -> String {
        format!("{}.{}.{}", self.runner, self.mark, part.suffix())
    }
}

/// The attempt and part that a volume is of, when its name says that it is of this prefix. The
/// pieces of a console log that virtlogd has put aside end in a number.
pub(crate) fn owned(prefix: &NamePrefix, volume: &str) -> Option<(Attempt, Part)> {
    let mut pieces = volume.split('.');
    let runner = prefix.owned(pieces.next()?)?;
    let mark = pieces.next()?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if mark.len() != 8 || !mark.bytes().all(hex) {
        return None;
    }
    let suffix = pieces.next()?;
    let part = Part::ALL.into_iter().find(|part| part.suffix() == suffix)?;
    let rest: Vec<&str> = pieces.collect();
    let is_whole = match rest.as_slice() {
        [] => true,
        [piece] => {
            let number = piece.len() <= 2 && piece.bytes().all(|byte| byte.is_ascii_digit());
            part == Part::Console && !piece.is_empty() && number
        }
        _ => false,
    };
    let mark = mark.to_owned();
    is_whole.then_some((Attempt { runner, mark }, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let runner: RunnerName = "app-1-0123456789ab".parse().expect("a name");
        let attempt = Attempt::of(&runner, Uuid::from_u128(0xfeed_0001 << 96));
        for part in Part::ALL {
            let name = attempt.volume(part);
            let read = owned(runner.prefix(), &name);
            assert_eq!(read, Some((attempt.clone(), part)), "{name}");
        }
        let older = format!("{}.0", attempt.volume(Part::Console));
        assert_eq!(
            owned(runner.prefix(), &older),
            Some((attempt, Part::Console))
        );
    }

    #[test]
    fn what_is_not_whole_is_not_ours() {
        let prefix = NamePrefix::new("app-1").expect("a prefix");
        for foreign in [
            "app-1-0123456789ab.qcow2",
            "app-1-0123456789ab.0123abcd",
            "app-1-0123456789ab.0123abcd.img",
            "app-1-0123456789ab.0123abcd.qcow2.0",
            "app-1-0123456789ab.0123abcd.qcow2.bak",
            "app-1-0123456789ab.0123abcd.log.",
            "app-1-0123456789ab.0123abcd.log.x",
            "app-1-0123456789ab.0123abcd.log.0.0",
            "app-1-0123456789ab.0123ABCD.qcow2",
            "app-1-0123456789ab.0123abc.qcow2",
            "app-10-0123456789ab.0123abcd.qcow2",
            "app-1-x-0123456789ab.0123abcd.qcow2",
            "debian-12.qcow2",
            "",
        ] {
            assert_eq!(owned(&prefix, foreign), None, "{foreign:?} was claimed");
        }
    }
}
