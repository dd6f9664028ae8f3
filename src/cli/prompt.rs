//! Questions to the person at the terminal, whatever standard input and output are.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::cli::text::on_one_line;

/// The longest answer, in bytes.
pub const MAX_ANSWER: usize = 16 << 10;

/// The terminal of this process.
pub struct Terminal(File);

impl Terminal {
    /// None where there is no terminal, as in CI.
    pub fn open() -> Option<Self> {
        let flags = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
        OpenOptions::new().read(true).write(true).custom_flags(flags).open("/dev/tty").ok().map(Self)
    }

    /// A line that is seen and edited as the terminal does it; none where it ends instead.
    pub fn ask(&self, question: &str) -> io::Result<Option<String>> {
        self.say(&format!("{question}: "))?;
        let mut line = Line::default();
        // Behind the end of a line a terminal hands nothing out.
        while !line.0.ends_with(b"\n") {
            let mut read = [0; 512];
            let length = (&self.0).read(&mut read)?;
            if length == 0 {
                return Ok(None);
            }
            line.push(&read[..length])?;
        }
        line.0.pop();
        line.text().map(Some)
    }

    /// A line that is not seen; none where the person has stopped it.
    ///
    /// Its keys come one by one, and no signal comes from the keyboard: no key leaves the terminal without its echo.
    /// What is killed from elsewhere at that moment does (`stty sane` mends it).
    pub fn ask_secret(&self, question: &str) -> io::Result<Option<String>> {
        let quiet = Quiet::new(&self.0)?;
        self.say(&format!("{question}: "))?;
        let mut line = Line::default();
        let stopped = loop {
            let mut key = [0];
            match (&self.0).read(&mut key)? {
                0 => break true,
                _ => match line.press(key[0])? {
                    Press::More => {}
                    Press::Done => break false,
                    Press::Stop => break true,
                },
            }
        };
        drop(quiet);
        self.say("\n")?;
        if stopped { Ok(None) } else { line.text().map(Some) }
    }

    fn say(&self, text: &str) -> io::Result<()> {
        let text = if text == "\n" { text.to_owned() } else { on_one_line(text) };
        (&self.0).write_all(text.as_bytes())
    }
}

/// A terminal that neither shows keys nor acts on them, until it is dropped.
struct Quiet<'t> {
    terminal: &'t File,
    before: Termios,
}

impl<'t> Quiet<'t> {
    fn new(terminal: &'t File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes &= !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN);
        quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
        quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
        // What was typed before the question is no answer to it.
        tcsetattr(terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// What has been typed of a line.
#[derive(Default)]
struct Line(Vec<u8>);

#[derive(Debug, PartialEq, Eq)]
enum Press {
    More,
    Done,
    Stop,
}

impl Line {
    fn press(&mut self, key: u8) -> io::Result<Press> {
        const CTRL_C: u8 = 3;
        const CTRL_D: u8 = 4;
        const BACKSPACE: u8 = 8;
        const CTRL_U: u8 = 21;
        const DELETE: u8 = 127;
        match key {
            b'\n' | b'\r' => return Ok(Press::Done),
            CTRL_C => return Ok(Press::Stop),
            CTRL_D => return Ok(if self.0.is_empty() { Press::Stop } else { Press::Done }),
            CTRL_U => self.0.clear(),
            // A whole character, whose bytes but the first begin with the bits 10.
            BACKSPACE | DELETE => while self.0.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            key => self.push(&[key])?,
        }
        Ok(Press::More)
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.0.len() + bytes.len() > MAX_ANSWER {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is longer than {MAX_ANSWER} bytes"),
            ));
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn text(self) -> io::Result<String> {
        String::from_utf8(self.0).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_a_line() {
        for (keys, expected, text) in [
            ("abc\n", Press::Done, "abc"),
            ("abc\r", Press::Done, "abc"),
            ("aé日\x7f\x08b\n", Press::Done, "ab"),
            ("\x7f\x7fa\n", Press::Done, "a"),
            ("wrong\x15right\x04", Press::Done, "right"),
            ("\x04", Press::Stop, ""),
            ("abc\x03", Press::Stop, "abc"),
            ("a\x1b[A\x1a", Press::More, "a\x1b[A\x1a"),
        ] {
            let mut line = Line::default();
            let mut last = Press::More;
            for key in keys.bytes() {
                assert_eq!(last, Press::More, "{keys:?}");
                last = line.press(key).unwrap();
            }
            assert_eq!((last, line.text().unwrap().as_str()), (expected, text), "{keys:?}");
        }
        let mut line = Line(vec![b'x'; MAX_ANSWER]);
        assert!(line.press(b'x').is_err());
        assert!(Line(vec![0xff]).text().is_err());
    }
}
