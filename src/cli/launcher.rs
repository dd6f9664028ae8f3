//! The launcher: `mlbuild run` and `mlbuild shell` as a small program in front of the whole one.
//!
//! A program of 40 MB takes longer to start than a sandbox: it has thousands of addresses that its loader fills in before
//! anything runs, each page of them at the price of a fault. So what is handed out is two files side by side (`.ci/dist`
//! makes them):
//!
//! ```text
//! mlbuild         this, linked statically: starts what is ready to be run
//! mlbuild-core    everything; takes this one's place (execve) for whatever else is asked for
//! ```
//!
//! What both can do is the same code. cargo alone makes the whole program under the name `mlbuild`, which needs no other;
//! the launcher is `mlbuild-launcher` then, and finds it under that name, too. What is typed wrongly is the whole program's to
//! explain, as is a command without `--` before it. The launcher asks no name service, which is what a static program could not do everywhere.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;

use super::args::{Global, Start};
use super::{Exit, color, command, end, out};

/// The whole program's name, beside this one's.
const CORE: &str = "mlbuild-core";
/// What cargo calls it.
const WHOLE: &str = "mlbuild";

/// What this program understands of [`super::args::Cli`].
#[derive(Debug, Parser)]
#[command(name = "mlbuild", disable_help_flag = true, disable_help_subcommand = true)]
struct Quick {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    start: Start,
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(Quick { global, start }) = understood(&arguments) {
        let color = color(global.color);
        return end(command::run_start(global, &start, color), color);
    }
    let error = become_the_core(&arguments);
    out::talk(format_args!(
        "error: cannot start the whole of mlbuild: {error}\n  hint: `mlbuild` and `{CORE}` belong together, in one directory\n"
    ));
    Exit::Failure.into()
}

fn understood(arguments: &[OsString]) -> Option<Quick> {
    // What takes time is not to parse, but to say what can be parsed.
    let starts = |argument: &OsString| argument == "run" || argument == "shell";
    if !arguments.iter().any(starts) {
        return None;
    }
    crate::sandbox::take_memory();
    Quick::try_parse_from(arguments).ok()
}

/// Where the whole program is, for a launcher that is the file `own`.
fn cores(own: &Path) -> Vec<PathBuf> {
    let beside = |name| own.with_file_name(name);
    match own.file_name() == Some(OsStr::new(WHOLE)) {
        true => vec![beside(CORE)],
        false => vec![beside(CORE), beside(WHOLE)],
    }
}

/// Comes back only with a reason.
fn become_the_core(arguments: &[OsString]) -> io::Error {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return error,
    };
    let (name, rest) =
        arguments.split_first().map_or((OsStr::new(WHOLE), &[][..]), |(name, rest)| (name, rest));
    let mut missing = None;
    for core in cores(&own) {
        #[expect(clippy::disallowed_methods, reason = "mlbuild itself")]
        let error = Command::new(&core).arg0(name).args(rest).exec();
        let what = io::Error::new(error.kind(), format!("{}: {error}", core.display()));
        if error.kind() != io::ErrorKind::NotFound {
            return what;
        }
        missing = missing.or(Some(what));
    }
    missing.expect("there is at least one name")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::definition;

    fn of(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn what_starts_a_program_is_understood_and_nothing_else() {
        for line in [
            "mlbuild run",
            "mlbuild --quiet run -e A=b registry.example/x -- python -c pass",
            "mlbuild shell --home /x oci:out",
            "mlbuild run --dry-run --json",
        ] {
            assert!(understood(&of(line)).is_some(), "{line}");
        }
        for line in [
            "mlbuild",
            "mlbuild run --help",
            "mlbuild --version",
            "mlbuild build",
            "mlbuild run --no-such",
            "mlbuild build -f run",
        ] {
            assert!(understood(&of(line)).is_none(), "{line}");
        }
    }

    /// The same arguments with the same meaning: what differs is left to the whole program.
    #[test]
    fn both_programs_take_the_same_arguments() {
        let names = |command: &clap::Command| -> Vec<String> {
            command.get_arguments().map(|argument| format!("{argument:?}")).collect()
        };
        let (mut whole, mut quick) = (definition(), Quick::command());
        whole.build();
        quick.build();
        for verb in ["run", "shell"] {
            let mut all = names(whole.find_subcommand(verb).unwrap());
            let here = names(quick.find_subcommand(verb).unwrap());
            all.retain(|argument| here.contains(argument));
            assert_eq!(all, here, "{verb}");
        }
    }
}
