//! The `process` backend: each runner in a user, a cgroup and a work folder of its own on this machine.
