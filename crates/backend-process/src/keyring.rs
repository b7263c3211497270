//! The keyrings that the kernel keeps for a process and for a user (`keyrings(7)`).

use std::sync::{Mutex, PoisonError};

use keyutils::{Keyring, SpecialKeyring};
use runner_manager_core::{Error, ErrorKind, Result};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Uid, dumpable_behavior, set_dumpable_behavior};

/// Gives this thread, and what it starts, an empty session keyring: a runner must not hold the
/// manager's keys.
pub(crate) fn leave_session() -> Result<()> {
    supported(Keyring::join_anonymous_session().map(drop))
        .map_err(|error| failed("make a session keyring", error))
}

/// One thread at a time has a runner's user.
static AS_USER: Mutex<()> = Mutex::new(());

/// Empties the keyrings of a user that has no process any more. They stay until the machine is
/// started anew, and the next runner of this user would find the keys.
pub(crate) fn clear_user(uid: u32) -> Result<()> {
    let _one = AS_USER.lock().unwrap_or_else(PoisonError::into_inner);
    // Only that user reaches its keyrings. The kernel keeps user ids by thread, and makes a process
    // undumpable when a thread changes its own, so that no other process can attach to the thread.
    let before = dumpable_behavior();
    let cleared = std::thread::spawn(move || clear_own(uid)).join();
    if let Ok(DumpableBehavior::Dumpable) = before {
        set_dumpable_behavior(DumpableBehavior::Dumpable)
            .map_err(|error| failed("be dumpable again", error.raw_os_error()))?;
    }
    match cleared {
        Ok(outcome) => outcome.map_err(|error| failed("empty the keyrings of a user", error)),
        Err(_) => Err(Error::new(ErrorKind::Unexpected, "a thread failed")),
    }
    .map_err(|error| error.with_context("uid", uid))
}

/// Becomes a user, for good, and empties its keyrings. An error is an error number.
fn clear_own(uid: u32) -> std::result::Result<(), i32> {
    let uid = Uid::from_raw(uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(Errno::raw_os_error)?;
    supported(clear_all())
}

fn clear_all() -> keyutils::Result<()> {
    let mut user = Keyring::attach_or_create(SpecialKeyring::User)?;
    user.clear()?;
    let mut session = Keyring::attach_or_create(SpecialKeyring::UserSession)?;
    session.clear()?;
    // As the kernel makes it.
    session.link_keyring(&user)?;
    let mut process = Keyring::attach_or_create(SpecialKeyring::Process)?;
    match process.attach_persistent() {
        Ok(mut persistent) => persistent.clear(),
        // A kernel without them.
        Err(error) if error.0 == Errno::OPNOTSUPP.raw_os_error() => Ok(()),
        Err(error) => Err(error),
    }
}

/// A kernel without keyrings, or a container that forbids them, leaves no job any key either.
fn supported(outcome: keyutils::Result<()>) -> std::result::Result<(), i32> {
    let without = [Errno::NOSYS.raw_os_error(), Errno::PERM.raw_os_error()];
    match outcome {
        Err(error) if !without.contains(&error.0) => Err(error.0),
        _ => Ok(()),
    }
}

fn failed(action: &str, errno: i32) -> Error {
    Error::new(ErrorKind::Local, format!("cannot {action}"))
        .with_source(std::io::Error::from_raw_os_error(errno))
}
