//! The client of GitHub's runner API.
