//! New specs for `mlbuild init`.
