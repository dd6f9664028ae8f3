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

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

use args::{Cli, ColorWhen};
pub use exit::Exit;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments).or_else(|error| as_docker_has_it(&arguments, error)) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, &arguments),
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
fn usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if error.use_stderr() {
        let text = error.render();
        match color(ColorWhen::Auto) {
            true => out::talk_in_colour(&text.ansi().to_string()),
            false => out::talk(format_args!("{text}")),
        }
    } else {
        let _ = error.print();
    }
    let of_run = matches!(verb(arguments).as_deref(), Some("run" | "shell"));
    match error.exit_code() {
        0 => Exit::Success.into(),
        _ if of_run => exit::Ending::from(exit::RunStatus(crate::sandbox::FAILED)).into(),
        _ => Exit::Request.into(),
    }
}

fn verb(arguments: &[OsString]) -> Option<String> {
    let verbs = definition();
    let verb = arguments.iter().skip(1).find_map(|argument| verbs.find_subcommand(argument));
    verb.map(|verb| verb.get_name().to_owned())
}

/// `mlbuild run IMAGE COMMAND...`: a word too many is where the command begins. Asked only when the arguments cannot be
/// understood, so whatever can be means what it says.
fn as_docker_has_it(arguments: &[OsString], error: clap::Error) -> Result<Cli, clap::Error> {
    let word = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(word)) if error.kind() == ErrorKind::UnknownArgument => word.as_str(),
        _ => return Err(error),
    };
    if word.starts_with('-') || verb(arguments).as_deref() != Some("run") {
        return Err(error);
    }
    // The last place at which it works: before an earlier word of the same text the image or an option's value is missing,
    // or taken for the command; behind the right one there still is a word too many.
    let mut places = (0..arguments.len()).rev().filter(|place| arguments[*place] == word);
    let understood = places.find_map(|place| {
        let (before, command) = arguments.split_at(place);
        let dashes = OsString::from("--");
        Cli::try_parse_from(before.iter().chain([&dashes]).chain(command)).ok()
    });
    understood.ok_or(error)
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

#[cfg(test)]
mod tests {
    use super::*;
    use args::Command;

    /// Image, command and host name.
    fn run(line: &str) -> Option<(Option<String>, Vec<String>, Option<String>)> {
        let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let parsed = Cli::try_parse_from(&arguments).or_else(|error| as_docker_has_it(&arguments, error));
        match parsed.ok()?.command {
            Command::Run(run) => Some((run.sandbox.image, run.command, run.sandbox.name)),
            _ => None,
        }
    }

    #[test]
    fn dashes_may_be_left_out_after_an_image() {
        for (line, image, command, name) in [
            ("mlbuild run img python -V", "img", "python -V", ""),
            ("mlbuild run --rm -it --name x img python -c pass -- -q", "img", "python -c pass -- -q", "x"),
            ("mlbuild run img --name x python -V", "img", "python -V", "x"),
            ("mlbuild run img -- python -V", "img", "python -V", ""),
            ("mlbuild run -- python -V", "", "python -V", ""),
            ("mlbuild run python python python", "python", "python python", ""),
            ("mlbuild run --name a img a -c a", "img", "a -c a", "a"),
            ("mlbuild run img run run", "img", "run run", ""),
            ("mlbuild --quiet run img ls --help", "img", "ls --help", ""),
        ] {
            let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let words = command.split(' ').map(str::to_owned).collect();
            assert_eq!(run(line), Some((text(image), words, text(name))), "{line}");
        }
        for line in ["mlbuild run img --bogus", "mlbuild run --bogus img ls", "mlbuild shell img ls"] {
            assert_eq!(run(line), None, "{line}");
        }
    }
}
