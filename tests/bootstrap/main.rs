//! What runs on an instance, for real: Debian root file systems booted by cloud-init, a manager
//! that they call over TLS, a simulated GitHub, a proxy, and a policy service.
//!
//! It needs root, Debian's packages, and the root file system of `tests/peers/rootfs`:
//! `cargo xtask test --only bootstrap` sees to all of that.

mod cloud;
mod docker;
mod expectations;
mod fleet;
mod machine;
mod peers;
mod static_checks;
mod whole;
