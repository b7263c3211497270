//! The contract of Runner Manager, its types, and the one implementation of its rules.
