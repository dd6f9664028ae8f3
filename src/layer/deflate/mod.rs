//! Our own DEFLATE encoder (RFC 1951), for the few bytes of a pass-through layer that no wheel brings: tar headers,
//! padding, launchers, `RECORD`.
//!
//! Its output is part of the layer format: it is small enough to stay as it is for ever, uses no floating point, no
//! SIMD and no tables of a library, and golden digests pin it. Any change needs a new [`FORMAT`](super::FORMAT).
//!
//! Matching is greedy with one byte of look-ahead over hash chains; each block is written stored, with fixed or with
//! dynamic codes, whichever is shortest.

mod codes;
mod matching;
#[cfg(test)]
mod tests;

use codes::{Codes, Counts, END_OF_BLOCK, Table, distance_symbol, length_symbol};
use matching::{Finder, MAX_MATCH, Token};

/// Appends `data` to `out` as whole DEFLATE blocks that end on a byte. With `last` the final block says so; otherwise
/// another DEFLATE stream may follow at once.
pub fn encode(out: &mut Vec<u8>, data: &[u8], last: bool) {
    let mut bits = Bits { out, pending: 0, count: 0 };
    let mut finder = Finder::new(data);
    let mut at = 0;
    let mut tokens = Vec::new();
    while at < data.len() {
        let start = at;
        tokens.clear();
        while at < data.len() && tokens.len() < BLOCK_TOKENS && at - start < BLOCK_BYTES {
            let token = finder.next(at);
            at += token.len();
            tokens.push(token);
        }
        write_block(&mut bits, &tokens, &data[start..at], last && at == data.len());
    }
    match (last, data.is_empty()) {
        (true, true) => fixed_empty(&mut bits),
        (true, false) => {}
        // An empty stored block is the shortest way to the next byte boundary that every decoder knows.
        (false, _) => stored_header(&mut bits, 0, false),
    }
    bits.align();
}

/// Appends the header of a stored block for `len` bytes that the caller puts behind it. Byte-aligned.
pub fn stored(out: &mut Vec<u8>, len: u16, last: bool) {
    stored_header(&mut Bits { out, pending: 0, count: 0 }, len, last);
}

const BLOCK_TOKENS: usize = 1 << 14;
/// So that a block can always be stored: 65,535, less the longest match that may overshoot.
const BLOCK_BYTES: usize = 0xffff - MAX_MATCH;
/// Bits, least significant first.
struct Bits<'a> {
    out: &'a mut Vec<u8>,
    pending: u64,
    count: u32,
}

impl Bits<'_> {
    fn put(&mut self, value: u32, count: u32) {
        self.pending |= u64::from(value) << self.count;
        self.count += count;
        while self.count >= 8 {
            self.out.push(self.pending as u8);
            self.pending >>= 8;
            self.count -= 8;
        }
    }

    /// A Huffman code, which is sent from its most significant bit.
    fn code(&mut self, (code, len): (u16, u8)) {
        if len > 0 {
            self.put(u32::from(code.reverse_bits() >> (16 - len)), u32::from(len));
        }
    }

    fn align(&mut self) {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
    }
}

fn stored_header(bits: &mut Bits<'_>, len: u16, last: bool) {
    bits.put(u32::from(last), 3);
    bits.align();
    bits.put(u32::from(len), 16);
    bits.put(u32::from(!len), 16);
}

/// The shortest final block: fixed codes, end at once.
fn fixed_empty(bits: &mut Bits<'_>) {
    bits.put(1, 1);
    bits.put(1, 2);
    bits.put(0, 7);
}

fn write_block(bits: &mut Bits<'_>, tokens: &[Token], data: &[u8], last: bool) {
    let fixed = Codes::fixed();
    let mut counts = Counts::of(tokens);
    let fixed_cost = 3 + counts.cost(&fixed);
    let stored_cost = 8 + 32 + 8 * data.len() as u64;
    // The table of dynamic codes takes some 500 bits: not worth the work for a header or two.
    let dynamic = (fixed_cost > 2500).then(|| {
        let codes = Codes::dynamic(&mut counts);
        let table = Table::of(&codes);
        let cost = 3 + table.cost() + counts.cost(&codes);
        (cost, codes, table)
    });
    if let Some((cost, codes, table)) = &dynamic
        && *cost < fixed_cost.min(stored_cost)
    {
        bits.put(u32::from(last), 1);
        bits.put(2, 2);
        table.write(bits);
        write_tokens(bits, tokens, codes);
    } else if fixed_cost <= stored_cost {
        bits.put(u32::from(last), 1);
        bits.put(1, 2);
        write_tokens(bits, tokens, &fixed);
    } else {
        stored_header(bits, data.len() as u16, last);
        bits.out.extend_from_slice(data);
    }
}

fn write_tokens(bits: &mut Bits<'_>, tokens: &[Token], codes: &Codes) {
    for token in tokens {
        match *token {
            Token::Literal(byte) => bits.code(codes.literals[usize::from(byte)]),
            Token::Match { len, distance } => {
                let (symbol, extra, value) = length_symbol(len);
                bits.code(codes.literals[symbol]);
                bits.put(value, extra);
                let (symbol, extra, value) = distance_symbol(distance);
                bits.code(codes.distances[symbol]);
                bits.put(value, extra);
            }
        }
    }
    bits.code(codes.literals[END_OF_BLOCK]);
}
