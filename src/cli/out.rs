//! Results on standard output.
//!
//! A reader that has gone away (`mlbuild images | head -1`) ends the program quietly: the work is done by the time its
//! result is printed.

use std::fmt::Arguments;
use std::io::{self, Write as _};

use crate::cli::Exit;

/// Prints as it is.
pub fn print(text: Arguments<'_>) {
    let mut out = io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(Exit::Success as i32),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: cannot write to standard output\n  because: {error}");
            std::process::exit(Exit::Failure as i32);
        }
    }
}

/// Prints a line.
pub fn line(text: Arguments<'_>) {
    print(format_args!("{text}\n"));
}
