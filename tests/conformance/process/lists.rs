//! Counts how often work folders are opened, which is what a list begins with.

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::inotify;

/// One watch for all work folders: the kernel gives a user few of them.
pub(crate) struct Lists {
    watch: OwnedFd,
    opened: BTreeMap<i32, usize>,
}

impl Lists {
    pub(crate) fn new() -> Self {
        Self {
            watch: inotify::init(inotify::CreateFlags::NONBLOCK).unwrap(),
            opened: BTreeMap::new(),
        }
    }

    /// Counts for a folder from now on; the answer is what to ask for.
    pub(crate) fn add(&self, folder: &Path) -> i32 {
        let flags = inotify::WatchFlags::OPEN | inotify::WatchFlags::ONLYDIR;
        inotify::add_watch(&self.watch, folder, flags).unwrap()
    }

    /// How often a folder was opened.
    pub(crate) fn of(&mut self, folder: i32) -> usize {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.watch, &mut buffer);
        while let Ok(event) = reader.next() {
            // A name is that of something within the folder.
            if event.file_name().is_none() {
                *self.opened.entry(event.wd()).or_default() += 1;
            }
        }
        self.opened.get(&folder).copied().unwrap_or(0)
    }
}
