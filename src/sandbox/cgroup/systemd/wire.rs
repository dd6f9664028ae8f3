//! As much of D-Bus as three calls and a signal need: one connection to a bus over a Unix socket, one call at a time.
//!
//! The bus is the caller's own, and the answers are from systemd; still they are read with bounds, and whatever is not
//! understood is an error. Little-endian only, as all machines that we run on.

use std::collections::VecDeque;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Of a message; what we ask for is answered in hundreds of bytes.
const MAX_MESSAGE: usize = 1 << 20;
/// Of the lines before the first message.
const MAX_LINE: u64 = 1_000;

/// Who, where and what.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
}

pub const BUS: Target<'static> = Target {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "Hello",
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Call,
    Return,
    Error,
    Signal,
}

/// One that has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    pub serial: u32,
    pub reply_to: Option<u32>,
    pub member: String,
    pub sender: String,
    /// Name of the error.
    pub error: String,
    pub body: Vec<u8>,
}

pub struct Connection {
    stream: BufReader<UnixStream>,
    serial: u32,
    /// What came while an answer was waited for.
    inbox: VecDeque<Message>,
}

impl Connection {
    /// Connects as `uid`, by the socket's own word for it, and greets the bus.
    pub fn open(socket: &Path, uid: u32) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut connection = Self { stream: BufReader::new(stream), serial: 0, inbox: VecDeque::new() };
        let name: String = uid.to_string().bytes().map(|digit| format!("{digit:02x}")).collect();
        connection.send(format!("\0AUTH EXTERNAL {name}\r\n").as_bytes())?;
        let mut line = String::new();
        (&mut connection.stream).take(MAX_LINE).read_line(&mut line)?;
        if !line.starts_with("OK ") {
            return Err(strange(&format!("the bus does not know us: {}", line.trim())));
        }
        connection.send(b"BEGIN\r\n")?;
        connection.call(BUS, "", &[])?;
        Ok(connection)
    }

    /// Calls and waits for the answer.
    pub fn call(&mut self, target: Target<'_>, signature: &str, body: &[u8]) -> io::Result<Message> {
        self.serial += 1;
        let serial = self.serial;
        let fields = [
            (PATH, "o", target.path),
            (DESTINATION, "s", target.destination),
            (INTERFACE, "s", target.interface),
            (MEMBER, "s", target.member),
        ];
        self.send(&message(Kind::Call, serial, &fields, None, signature, body))?;
        let mut others = VecDeque::new();
        loop {
            let message = self.read()?;
            if message.reply_to != Some(serial) {
                others.push_back(message);
                continue;
            }
            self.inbox.append(&mut others);
            return match message.kind {
                Kind::Error => {
                    let words = Reader::new(&message.body).string().unwrap_or_default();
                    Err(io::Error::other(format!("{}: {words}", message.error)))
                }
                _ => Ok(message),
            };
        }
    }

    /// What comes next that is no answer.
    pub fn receive(&mut self) -> io::Result<Message> {
        match self.inbox.pop_front() {
            Some(message) => Ok(message),
            None => self.read(),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn read(&mut self) -> io::Result<Message> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head)?;
        if head[0] != b'l' || head[3] != 1 {
            return Err(strange("a message of another version or byte order"));
        }
        let length = |at: usize| {
            let bytes: [u8; 4] = head[at..at + 4].try_into().expect("four bytes");
            usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX)
        };
        let (body, fields) = (length(4), length(12));
        let padded = fields.checked_next_multiple_of(8).unwrap_or(usize::MAX);
        if body > MAX_MESSAGE || padded > MAX_MESSAGE {
            return Err(strange("too long a message"));
        }
        let mut rest = vec![0; padded + body];
        self.stream.read_exact(&mut rest)?;
        let body = rest.split_off(padded);
        let serial = u32::from_le_bytes(head[8..12].try_into().expect("four bytes"));
        parse(head[1], serial, &rest[..fields], body).ok_or_else(|| strange("a broken message"))
    }
}

// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SENDER: u8 = 7;
const SIGNATURE: u8 = 8;

fn strange(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A whole message; of `fields` number, type and text.
fn message(
    kind: Kind,
    serial: u32,
    fields: &[(u8, &str, &str)],
    reply_to: Option<u32>,
    signature: &str,
    body: &[u8],
) -> Vec<u8> {
    let number = match kind {
        Kind::Call => 1,
        Kind::Return => 2,
        Kind::Error => 3,
        Kind::Signal => 4,
    };
    let mut head = Writer::default();
    head.bytes(&[b'l', number, 0, 1]);
    head.u32(u32::try_from(body.len()).expect("our bodies are short"));
    head.u32(serial);
    head.array(8, |array| {
        for (number, of, text) in fields {
            array.align(8);
            array.bytes(&[*number]);
            array.signature(of);
            array.string(text);
        }
        if let Some(serial) = reply_to {
            array.align(8);
            array.bytes(&[REPLY_SERIAL]);
            array.signature("u");
            array.u32(serial);
        }
        if !signature.is_empty() {
            array.align(8);
            array.bytes(&[SIGNATURE]);
            array.signature("g");
            array.signature(signature);
        }
    });
    head.align(8);
    head.bytes(body);
    head.0
}

fn parse(kind: u8, serial: u32, fields: &[u8], body: Vec<u8>) -> Option<Message> {
    let kind = match kind {
        1 => Kind::Call,
        2 => Kind::Return,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => return None,
    };
    let text = String::new;
    let mut message =
        Message { kind, serial, reply_to: None, member: text(), sender: text(), error: text(), body };
    let mut reader = Reader::new(fields);
    while !reader.is_empty() {
        reader.align(8)?;
        let field = reader.byte()?;
        // Each is of one of these types; the bus has seen to it.
        match reader.signature()? {
            "u" => {
                let value = reader.u32()?;
                if field == REPLY_SERIAL {
                    message.reply_to = Some(value);
                }
            }
            "g" => {
                reader.signature()?;
            }
            "s" | "o" => {
                let value = reader.string()?.to_owned();
                match field {
                    MEMBER => message.member = value,
                    SENDER => message.sender = value,
                    ERROR_NAME => message.error = value,
                    _ => {}
                }
            }
            _ => return None,
        }
    }
    Some(message)
}

/// Values one after the other, each at a multiple of its size.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    pub fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub fn u32(&mut self, value: u32) {
        self.align(4);
        self.bytes(&value.to_le_bytes());
    }

    pub fn string(&mut self, text: &str) {
        self.u32(u32::try_from(text.len()).expect("our texts are short"));
        self.bytes(text.as_bytes());
        self.bytes(&[0]);
    }

    pub fn signature(&mut self, text: &str) {
        self.bytes(&[u8::try_from(text.len()).expect("our signatures are short")]);
        self.bytes(text.as_bytes());
        self.bytes(&[0]);
    }

    /// The length counts neither itself nor the gap before the first of its elements, which stand at multiples of `align`.
    pub fn array(&mut self, align: usize, elements: impl FnOnce(&mut Self)) {
        self.u32(0);
        let length = self.0.len() - 4;
        self.align(align);
        let start = self.0.len();
        elements(self);
        let bytes = u32::try_from(self.0.len() - start).expect("our arrays are short").to_le_bytes();
        self.0[length..length + 4].copy_from_slice(&bytes);
    }
}

/// None where there is no such value any more.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    fn align(&mut self, to: usize) -> Option<()> {
        self.take(self.at.next_multiple_of(to) - self.at).map(drop)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub fn string(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.u32()?).ok()?;
        self.text(len)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let len = usize::from(self.byte()?);
        self.text(len)
    }

    fn text(&mut self, len: usize) -> Option<&'a str> {
        let text = self.take(len)?;
        self.take(1)?;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
impl Connection {
    /// The other side's part, for tests.
    pub fn answer(&mut self, to: &Message, signature: &str, body: &[u8]) {
        self.serial += 1;
        let fields = [(DESTINATION, "s", to.sender.as_str())];
        let bytes = message(Kind::Return, self.serial, &fields, Some(to.serial), signature, body);
        self.send(&bytes).unwrap();
    }

    pub fn signal(&mut self, from: Target<'_>, signature: &str, body: &[u8]) {
        self.serial += 1;
        let fields = [(PATH, "o", from.path), (INTERFACE, "s", from.interface), (MEMBER, "s", from.member)];
        self.send(&message(Kind::Signal, self.serial, &fields, None, signature, body)).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_as_the_specification_has_it() {
        let fields = [(PATH, "o", "/a"), (MEMBER, "s", "Go")];
        let mut body = Writer::default();
        body.u32(7);
        let bytes = message(Kind::Call, 2, &fields, None, "u", &body.0);
        let expected: Vec<u8> = [
            &b"l\x01\0\x01\x04\0\0\0\x02\0\0\0\x27\0\0\0"[..],
            b"\x01\x01o\0\x02\0\0\0/a\0\0\0\0\0\0",
            b"\x03\x01s\0\x02\0\0\0Go\0\0\0\0\0\0",
            b"\x08\x01g\0\x01u\0\0",
            b"\x07\0\0\0",
        ]
        .concat();
        assert_eq!(bytes, expected);
        let parsed = parse(1, 2, &bytes[16..16 + 0x27], body.0.clone()).unwrap();
        assert_eq!((parsed.member.as_str(), parsed.body), ("Go", body.0));
    }

    #[test]
    fn whatever_is_cut_off_is_no_message() {
        let fields = [(PATH, "o", "/a"), (MEMBER, "s", "Go")];
        let bytes = message(Kind::Signal, 2, &fields, Some(9), "", &[]);
        let fields = &bytes[16..];
        assert_eq!(parse(4, 2, fields, Vec::new()).unwrap().reply_to, Some(9));
        for len in 1..fields.len() {
            let cut = parse(4, 2, &fields[..len], Vec::new());
            assert!(cut.is_none_or(|message| message.reply_to.is_none()), "{len}");
        }
        assert_eq!(parse(9, 2, fields, Vec::new()), None);
        let mut long = Reader::new(b"\xff\xff\xff\xff....");
        assert_eq!(long.string(), None);
    }
}
