//! The shell: arguments, settings, progress, words, exit statuses. Results go to standard output, talk to standard
//! error.

mod args;
mod command;
pub mod exit;
mod failure;
mod out;
mod progress;
pub mod report;
mod secrets;
mod signals;
pub mod text;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, ColorWhen};
pub use exit::Exit;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let color = color(cli.global.color);
    match command::run(cli, color) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print(color);
            failure.exit().into()
        }
    }
}

/// The command line's definition, for documents and tests made from it.
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Does standard error take colours? `NO_COLOR` (no-color.org) and the terminal decide unless the user does.
fn color(when: ColorWhen) -> bool {
    match when {
        ColorWhen::Always => true,
        ColorWhen::Never => false,
        ColorWhen::Auto => {
            #[expect(clippy::disallowed_methods, reason = "a convention that only concerns the display")]
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            !refused && std::io::stderr().is_terminal()
        }
    }
}
