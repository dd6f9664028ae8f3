//! gzip's framing (RFC 1952) in the one form that we write, and a strict reader of just that form.

use flate2::{Decompress, FlushDecompress, Status};

/// No name, no time, no flags, unknown system.
pub(super) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// CRC-32 and length modulo 2^32 of a member's content.
pub(super) fn trailer(crc32: u32, len: u64) -> [u8; 8] {
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&crc32.to_le_bytes());
    trailer[4..].copy_from_slice(&(len as u32).to_le_bytes());
    trailer
}

/// Inflates members one after the other; input comes in pieces, output goes to full buffers.
pub(super) struct Reader {
    inflate: Decompress,
    state: State,
    crc: crc32fast::Hasher,
    len: u64,
}

#[derive(Clone, Copy)]
enum State {
    Header { seen: usize },
    Body,
    Trailer { seen: usize, bytes: [u8; 8] },
}

/// How far [`Reader::read`] came.
pub(super) enum Progress {
    /// All input is used up.
    NeedsInput,
    /// The output is full; there may be more.
    Full,
}

impl Reader {
    pub fn new() -> Self {
        Self {
            inflate: Decompress::new(false),
            state: State::Header { seen: 0 },
            crc: crc32fast::Hasher::new(),
            len: 0,
        }
    }

    /// Moves on through `input`, writing to `output` from `*filled` on. Errors are fragments.
    pub fn read(
        &mut self,
        input: &mut &[u8],
        output: &mut [u8],
        filled: &mut usize,
    ) -> Result<Progress, String> {
        loop {
            match &mut self.state {
                State::Header { seen } => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(Progress::NeedsInput) };
                    if byte != HEADER[*seen] {
                        return Err("its DEFLATE stream ends before its member does".to_owned());
                    }
                    *input = rest;
                    *seen += 1;
                    if *seen == HEADER.len() {
                        self.inflate.reset(false);
                        self.crc = crc32fast::Hasher::new();
                        self.len = 0;
                        self.state = State::Body;
                    }
                }
                State::Body => {
                    if *filled == output.len() {
                        return Ok(Progress::Full);
                    }
                    let (before_in, before_out) = (self.inflate.total_in(), self.inflate.total_out());
                    let result =
                        self.inflate.decompress(input, &mut output[*filled..], FlushDecompress::None);
                    let used = (self.inflate.total_in() - before_in) as usize;
                    let made = (self.inflate.total_out() - before_out) as usize;
                    *input = &input[used..];
                    self.crc.update(&output[*filled..*filled + made]);
                    self.len += made as u64;
                    // Also what came before an error counts: it tells where in the tar the error lies.
                    *filled += made;
                    let status = result.map_err(|error| error.to_string())?;
                    if status == Status::StreamEnd {
                        self.state = State::Trailer { seen: 0, bytes: [0; 8] };
                    } else if used == 0 && made == 0 && input.is_empty() {
                        return Ok(Progress::NeedsInput);
                    } else if used == 0 && made == 0 {
                        return Err("its DEFLATE stream makes no progress".to_owned());
                    }
                }
                State::Trailer { seen, bytes } => {
                    let Some((&byte, rest)) = input.split_first() else { return Ok(Progress::NeedsInput) };
                    *input = rest;
                    bytes[*seen] = byte;
                    *seen += 1;
                    if *seen == bytes.len() {
                        if *bytes != trailer(self.crc.clone().finalize(), self.len) {
                            return Err("its CRC-32 or its length differs".to_owned());
                        }
                        self.state = State::Header { seen: 0 };
                    }
                }
            }
        }
    }

    /// Whether the input may end here.
    pub fn at_end(&self) -> bool {
        matches!(self.state, State::Header { seen: 0 })
    }
}
