//! The shell: arguments, settings, progress, words, exit statuses. Results go to standard output, talk to standard
//! error.

mod args;
mod command;
pub mod exit;
mod failure;
pub mod launcher;
mod out;
mod progress;
mod prompt;
pub mod report;
mod secrets;
mod signals;
pub mod text;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use args::{Cli, ColorWhen};
pub use exit::Exit;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error, std::env::args_os()),
    };
    let color = color(cli.global.color);
    end(command::run(cli, color), color)
}

fn end(done: Result<exit::Ending, failure::Failure>, color: bool) -> ExitCode {
    match done {
        Ok(ending) => ending.into(),
        Err(failure) => {
            failure.print(color);
            failure.ending().into()
        }
    }
}

/// Help and version are ours; what is wrong with an argument repeats it. Of a run it is a failure of ours, as for any other
/// container runtime: 2 is the program's.
fn usage(error: &clap::Error, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    if error.use_stderr() {
        let text = error.render();
        match color(ColorWhen::Auto) {
            true => out::talk_in_colour(&text.ansi().to_string()),
            false => out::talk(format_args!("{text}")),
        }
    } else {
        let _ = error.print();
    }
    let verbs = definition();
    let verb = arguments.skip(1).find_map(|argument| verbs.find_subcommand(argument));
    let of_run = verb.is_some_and(|verb| matches!(verb.get_name(), "run" | "shell"));
    match error.exit_code() {
        0 => Exit::Success.into(),
        _ if of_run => exit::Ending::from(exit::RunStatus(crate::sandbox::FAILED)).into(),
        _ => Exit::Request.into(),
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
            !refused && out::talks_to_terminal()
        }
    }
}
