//! Programs of 64-bit ARM on this machine: the kernel's `binfmt_misc` hands them to QEMU.

use crate::failure::{Failure, Result};
use crate::process;
use std::fs;
use std::path::Path;
use std::process::Command;

const FOLDER: &str = "/proc/sys/fs/binfmt_misc";

/// From its start to its end.
pub(super) struct Translation {
    mounted: bool,
}

impl Translation {
    const NAME: &str = "runner-manager-arm64";
    /// What an ELF file of the machine begins with, and which bits of that count, as QEMU has them.
    /// `F` opens QEMU now, so that it is found in every root; `P` keeps the program's first word;
    /// `C` lets `sudo` be root.
    const RULE: &str = r":runner-manager-arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:";

    /// `qemu` is the program of QEMU's that translates; it needs no library.
    pub(super) fn start(qemu: &Path) -> Result<Self> {
        let register = Path::new(FOLDER).join("register");
        let mut this = Self { mounted: false };
        if !register.exists() {
            process::stream(Command::new("mount").args([
                "-t",
                "binfmt_misc",
                "binfmt_misc",
                FOLDER,
            ]))?;
            this.mounted = true;
        }
        if !Path::new(FOLDER).join(Self::NAME).exists() {
            let rule = format!("{}{}:POCF", Self::RULE, qemu.display());
            fs::write(&register, rule)
                .map_err(Failure::because("cannot have programs of arm64 translated"))?;
        }
        Ok(this)
    }
}

impl Drop for Translation {
    fn drop(&mut self) {
        // What fails here leaves a rule that a next run takes over.
        let _ = fs::write(Path::new(FOLDER).join(Self::NAME), "-1");
        if self.mounted {
            let _ = Command::new("umount").arg(FOLDER).status();
        }
    }
}
