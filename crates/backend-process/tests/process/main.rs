//! The backend with real processes: a runner folder of small shell scripts, real signals, real
//! cgroups where this machine has them. As root the whole suite runs once more without root.

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod support;
#[cfg(test)]
mod without_root;
