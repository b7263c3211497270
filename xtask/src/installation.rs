//! What later steps need, installed beside the first ones.

use crate::failure::Result;
use std::thread::JoinHandle;
use std::time::Instant;

/// One thing to install.
pub(crate) type Part = Box<dyn FnOnce() -> Result<()> + Send>;

/// Things that are being installed beside other work. Dropped, it waits for them.
#[derive(Debug)]
pub(crate) struct Installation(Option<JoinHandle<()>>);

impl Installation {
    /// Begins to install these, one after the other.
    ///
    /// What fails is only told of: whoever needs it tries again, and fails loudly.
    pub(crate) fn of(parts: Vec<Part>) -> Self {
        let install = move || {
            let start = Instant::now();
            for failure in parts.into_iter().filter_map(|part| part().err()) {
                println!("{failure}");
            }
            let seconds = start.elapsed().as_secs();
            println!("what later steps need was installed beside the first, in {seconds} s");
        };
        Self(Some(std::thread::spawn(install)))
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some(installing) = self.0.take() {
            // A panic has told of itself.
            let _ = installing.join();
        }
    }
}
