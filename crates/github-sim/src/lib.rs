//! A GitHub that runs on loopback, with a stand-in runner program.
