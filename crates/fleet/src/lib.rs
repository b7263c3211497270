//! Keeps each pool of runners at the right size.
