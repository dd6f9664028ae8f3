//! Results on standard output, talk on standard error. Nothing else writes to either, but for an archive that was asked
//! for; so no text from outside reaches a terminal with a character that the terminal obeys.
//!
//! A reader that has gone away (`mlbuild images | head -1`) ends the program quietly: the work is done by the time its
//! result is printed.

use std::fmt::Arguments;
use std::io::{self, IsTerminal as _, Write as _};

use crate::cli::Exit;
use crate::cli::text::{escaped_json, is_hostile, lines_shortened, on_one_line, printable};

/// The longest line that is said, in characters: a name or a line of a file may have megabytes.
const LINE_MAX: usize = 8_000;

/// Prints a result, made printable.
pub fn print(text: Arguments<'_>) {
    write(printable(&text.to_string()).as_bytes());
}

fn write(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(Exit::Success as i32),
        Err(error) => {
            talk(format_args!("error: cannot write to standard output\n  because: {error}\n"));
            std::process::exit(Exit::Failure as i32);
        }
    }
}

/// Prints a line, and one line only.
pub fn line(text: Arguments<'_>) {
    print(format_args!("{}\n", on_one_line(&text.to_string())));
}

/// Prints a document byte for byte; to a terminal, made printable.
pub fn bytes(bytes: &[u8]) {
    if io::stdout().is_terminal() {
        return print(format_args!("{}\n", String::from_utf8_lossy(bytes)));
    }
    write(bytes);
}

/// Prints a value as JSON.
pub fn json(value: &impl serde::Serialize) {
    let text = serde_json::to_string_pretty(value).expect("what we print has only strings and numbers");
    print(format_args!("{}\n", escaped_json(&text)));
}

/// Says something on standard error, made printable. Nobody can be told that standard error is closed.
pub fn talk(text: Arguments<'_>) {
    let text = text.to_string();
    let _ = io::stderr().write_all(printable(&lines_shortened(&text, LINE_MAX)).as_bytes());
}

/// As [`talk`], with the colours that `text` has. Whoever puts colours between words has made the words printable.
pub fn talk_in_colour(text: &str) {
    let _ = io::stderr().write_all(with_colours(&lines_shortened(text, LINE_MAX)).as_bytes());
}

/// Whether standard error is a terminal.
pub fn talks_to_terminal() -> bool {
    io::stderr().is_terminal()
}

/// `text` made printable but for sequences that do nothing but choose a colour or weight: `ESC [ 1 ; 31 m`.
fn with_colours(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        shown += &printable(&rest[..at]);
        let sequence = &rest[at + 1..];
        let digits = sequence.strip_prefix('[').and_then(|inside| {
            let end = inside.find(|c: char| !c.is_ascii_digit() && c != ';')?;
            inside[end..].starts_with('m').then_some(end)
        });
        match digits {
            Some(len) => {
                let end = at + 1 + 1 + len + 1;
                shown += &rest[at..end];
                rest = &rest[end..];
            }
            None => {
                shown.push('\u{fffd}');
                rest = sequence;
            }
        }
    }
    shown += &printable(rest);
    debug_assert!(!shown.chars().any(|c| c != '\n' && c != '\x1b' && is_hostile(c)));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_pass_and_nothing_else() {
        for text in ["plain\n", "\x1b[1;31merror\x1b[0m: x\n", "\x1b[mé"] {
            assert_eq!(with_colours(text), text);
        }
        for (text, shown) in [
            ("\x1b[2J", "\u{fffd}[2J"),
            ("\x1b]0;title\x07", "\u{fffd}]0;title\u{fffd}"),
            ("\x1b", "\u{fffd}"),
            ("\x1b[1;", "\u{fffd}[1;"),
            ("\x1b[\x1b[1m", "\u{fffd}[\x1b[1m"),
            ("\x1b[1\u{9b}m", "\u{fffd}[1\u{fffd}m"),
        ] {
            assert_eq!(with_colours(text), shown, "{text:?}");
        }
    }
}
