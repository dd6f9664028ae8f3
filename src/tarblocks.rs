//! What every reader of a tar has in common: blocks of 512 bytes, numbers, checksums, pax records. What an archive may
//! hold is a matter of who reads it: [`unpack`](crate::unpack) takes anybody's layers as Go does, [`debian`](crate::debian)
//! takes what dpkg-deb writes and nothing else.

use std::io::{self, Read};

pub const BLOCK: usize = 512;

pub type Block = [u8; BLOCK];

/// An archive, block by block; after [`Blocks::content`] the reader yields the content of an entry.
pub struct Blocks<R> {
    reader: R,
    /// Bytes of content not yet read, and of padding behind it.
    left: u64,
    padding: u64,
}

/// What follows the content of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
pub enum Next {
    Header(Block),
    /// The mark of the end: a block of zeros.
    Zeros,
    /// No more bytes.
    End,
    /// The archive ends inside the content or its padding.
    CutContent,
    CutHeader,
}

impl<R: Read> Blocks<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, left: 0, padding: 0 }
    }

    pub fn get_ref(&self) -> &R {
        &self.reader
    }

    /// For what follows the end mark.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.reader
    }

    /// The header at hand has so many bytes of content.
    pub fn content(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    /// The content is not in these bytes; its padding is.
    pub fn content_is_elsewhere(&mut self) {
        self.left = 0;
    }

    /// The content as a whole; None if the archive ends inside it.
    pub fn whole(&mut self, size: u64) -> io::Result<Option<Vec<u8>>> {
        self.content(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok((bytes.len() as u64 == size).then_some(bytes))
    }

    /// Skips what is left of the content.
    pub fn next_block(&mut self) -> io::Result<Next> {
        // A size near 2^64 is no longer than any other that the archive does not have.
        let rest = self.left.saturating_add(self.padding);
        if io::copy(&mut (&mut self.reader).take(rest), &mut io::sink())? != rest {
            return Ok(Next::CutContent);
        }
        (self.left, self.padding) = (0, 0);
        let mut block = Vec::with_capacity(BLOCK);
        (&mut self.reader).take(BLOCK as u64).read_to_end(&mut block)?;
        Ok(match Block::try_from(block) {
            Ok(block) if block == [0; BLOCK] => Next::Zeros,
            Ok(block) => Next::Header(block),
            Err(short) if short.is_empty() => Next::End,
            Err(_) => Next::CutHeader,
        })
    }
}

impl<R: Read> Read for Blocks<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.reader.read(&mut buffer[..len])?;
        self.left -= read as u64;
        Ok(read)
    }
}

/// What the header says its checksum is.
pub fn checksum(header: &Block) -> Option<i128> {
    number(&header[148..156])
}

/// What it is: of the bytes, and of the bytes as signed numbers, which some old archivers have summed.
pub fn sums(header: &Block) -> [i128; 2] {
    let bytes = || header.iter().enumerate().map(|(at, b)| if (148..156).contains(&at) { b' ' } else { *b });
    [bytes().map(i128::from).sum(), bytes().map(|byte| i128::from(byte as i8)).sum()]
}

/// The name that the header itself has.
pub fn name(header: &Block) -> Vec<u8> {
    let short = text(&header[..100]);
    // Only POSIX headers have a prefix; GNU's use that place for other things.
    let prefix = if &header[257..263] == b"ustar\0" { text(&header[345..500]) } else { &[] };
    if prefix.is_empty() { short.to_vec() } else { [prefix, b"/", short].concat() }
}

/// Octal digits between blanks, or GNU's base 256, which may be negative. A field has at most 12 bytes.
pub fn number(field: &[u8]) -> Option<i128> {
    if field[0] & 0x80 != 0 {
        let first = i128::from(field[0] & 0x7f) - if field[0] & 0x40 != 0 { 0x80 } else { 0 };
        return field[1..]
            .iter()
            .try_fold(first, |value, byte| Some(value.checked_mul(256)? + i128::from(*byte)));
    }
    let digits = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if digits.is_empty() {
        return Some(0);
    }
    digits.bytes().all(|b| (b'0'..=b'7').contains(&b)).then(|| i128::from_str_radix(digits, 8).ok()).flatten()
}

/// Up to the first NUL.
pub fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

/// Decimal digits and nothing else, as in pax records.
pub fn decimal(digits: &[u8]) -> Option<u64> {
    let all = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    all.then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

/// Key and value of a pax header's records, `LENGTH KEY=VALUE\n`; none for one that cannot be read, and then no more.
pub fn records(bytes: &[u8]) -> impl Iterator<Item = Option<(&[u8], &[u8])>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = record(rest);
        rest = record.map_or(&[], |(_, _, rest)| rest);
        Some(record.map(|(key, value, _)| (key, value)))
    })
}

/// The first record, and what follows it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    if length <= space + 2 || length > bytes.len() || bytes[length - 1] != b'\n' {
        return None;
    }
    let (record, rest) = (&bytes[space + 1..length - 1], &bytes[length..]);
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::testing::{entry, pax};

    #[test]
    fn numbers_of_every_form() {
        for (field, value) in [
            (&b"0000755\0"[..], Some(0o755)),
            (b"    755 ", Some(0o755)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"8\0\0\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", Some(i128::from(u64::MAX))),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some((1 << 94) - 1)),
        ] {
            assert_eq!(number(field), value, "{field:?}");
        }
    }

    #[test]
    fn blocks_up_to_an_end_of_any_kind() {
        let five = entry("a", b'0', 0o644, "", b"hello");
        let all = |bytes: &[u8]| {
            let mut blocks = Blocks::new(bytes);
            let mut found = Vec::new();
            loop {
                match blocks.next_block().unwrap() {
                    Next::Header(header) => {
                        assert!(checksum(&header).is_some_and(|sum| sum == sums(&header)[0]));
                        found.push(name(&header));
                        blocks.content(number(&header[124..136]).unwrap() as u64);
                    }
                    end => return (found.len(), end),
                }
            }
        };
        assert_eq!(all(&[&five[..], &five, &[0; BLOCK], b"more"].concat()), (2, Next::Zeros));
        assert_eq!(all(&five), (1, Next::End));
        for cut in [512, 515, 517, 1023] {
            assert_eq!(all(&five[..cut]), (1, Next::CutContent), "{cut}");
        }
        assert_eq!(all(&five[..511]), (0, Next::CutHeader));
    }

    #[test]
    fn content_is_read_in_part_as_a_whole_or_not_at_all() {
        let bytes = [entry("a", b'0', 0, "", b"hello"), entry("b", b'0', 0, "", b"")].concat();
        let mut blocks = Blocks::new(&bytes[..]);
        assert!(matches!(blocks.next_block(), Ok(Next::Header(_))));
        blocks.content(5);
        let mut part = [0; 2];
        blocks.read_exact(&mut part).unwrap();
        assert!(matches!(blocks.next_block(), Ok(Next::Header(header)) if name(&header) == b"b"));
        assert_eq!(Blocks::new(&b"hello"[..]).whole(5).unwrap().as_deref(), Some(&b"hello"[..]));
        assert_eq!(Blocks::new(&b"hell"[..]).whole(5).unwrap(), None);
    }

    #[test]
    fn names_have_a_prefix_in_posix_headers_only() {
        let mut header = Block::try_from(entry("name", b'0', 0, "", b"")).unwrap();
        header[345..348].copy_from_slice(b"dir");
        assert_eq!(name(&header), b"name");
        header[257..265].copy_from_slice(b"ustar\x0000");
        assert_eq!(name(&header), b"dir/name");
    }

    #[test]
    fn records_end_with_the_first_that_cannot_be_read() {
        let good = [pax("path", b"a=b\n"), pax("size", b"")].concat();
        let read: Vec<_> = records(&good).collect();
        assert_eq!(read, [Some((&b"path"[..], &b"a=b\n"[..])), Some((b"size", b""))]);
        for bad in [&b"99 path=x\n"[..], b"9 path=x", b"x path=x\n", b"3 \n", b"7 path\n", b"000000001 a=b\n"]
        {
            let bytes = [&good[..], bad, &good].concat();
            assert_eq!(
                records(&bytes).map(|record| record.is_some()).collect::<Vec<_>>(),
                [true, true, false]
            );
        }
    }
}
