//! What is true of mlbuild as a whole: the arrows between its modules, the program as a user meets it, and, in `e2e`,
//! real images under the eyes of other tools.
//!
//! `tests/run` runs everything. `e2e` needs the network and the tools that `tests/run` installs; a check that lacks one
//! is skipped, says so, and fails where `CI` is `true`.

#![expect(clippy::disallowed_methods, reason = "tests run programs, read the environment and measure time")]

mod architecture;
mod cli;
mod e2e;
mod elf;
mod faults;
mod gpu;
mod hostile;
mod login;
mod registry;
mod sandbox;
mod seals;
mod support;
mod trees;
