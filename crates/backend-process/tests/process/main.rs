//! The backend with real processes: a runner folder of small shell scripts, real signals, real
//! cgroups where this machine has them. As root the whole suite runs once more without root.

mod faults;
mod isolation;
mod lifecycle;
mod support;
mod without_root;
