//! Our own DEFLATE encoder (RFC 1951), for the few bytes of a pass-through layer that no wheel brings: tar headers,
//! padding, launchers, `RECORD`.
//!
//! Its output is part of the layer format: it is small enough to stay as it is for ever, uses no floating point, no
//! SIMD and no tables of a library, and golden digests pin it. Any change needs a new [`FORMAT`](super::FORMAT).
//!
//! Matching is greedy with one byte of look-ahead over hash chains; each block is written stored, with fixed or with
//! dynamic codes, whichever is shortest.

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
const MIN_MATCH: usize = 3;
const MAX_MATCH: usize = 258;
const WINDOW: usize = 32 * 1024;
const HASH_BITS: u32 = 12;
const CHAIN: usize = 48;
/// A match of three bytes from farther away costs more bits than three literals.
const FAR: usize = 256;

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

#[derive(Clone, Copy)]
enum Token {
    Literal(u8),
    Match { len: u16, distance: u16 },
}

impl Token {
    fn len(self) -> usize {
        match self {
            Self::Literal(_) => 1,
            Self::Match { len, .. } => usize::from(len),
        }
    }
}

/// Finds earlier copies of the bytes at a place.
struct Finder<'a> {
    data: &'a [u8],
    /// Last place of each hash, plus one.
    heads: Vec<u32>,
    /// The place before each place with the same hash, plus one; a ring of one window.
    previous: Vec<u32>,
    inserted: usize,
    /// What looking ahead found at a place.
    ahead: Option<(usize, Option<(usize, usize)>)>,
}

impl<'a> Finder<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            heads: vec![0; 1 << HASH_BITS],
            previous: vec![0; data.len().min(WINDOW)],
            inserted: 0,
            ahead: None,
        }
    }

    fn next(&mut self, at: usize) -> Token {
        let here = match self.ahead.take() {
            Some((place, found)) if place == at => found,
            _ => self.longest(at),
        };
        let Some((len, distance)) = here else { return Token::Literal(self.data[at]) };
        // One byte of look-ahead: a literal and a longer match beat the match at hand.
        if len < 32 {
            let next = self.longest(at + 1);
            if next.is_some_and(|(next, _)| next > len) {
                self.ahead = Some((at + 1, next));
                return Token::Literal(self.data[at]);
            }
        }
        Token::Match { len: len as u16, distance: distance as u16 }
    }

    /// The longest match at `at`, the nearest among equals.
    fn longest(&mut self, at: usize) -> Option<(usize, usize)> {
        let limit = (self.data.len() - at.min(self.data.len())).min(MAX_MATCH);
        if limit < MIN_MATCH {
            return None;
        }
        self.insert_up_to(at);
        let mut best: Option<(usize, usize)> = None;
        let mut candidate = self.heads[self.hash(at)] as usize;
        for _ in 0..CHAIN {
            // A ring entry may be stale: places must fall strictly, within one window.
            if candidate == 0 || candidate > at || at - (candidate - 1) > WINDOW - MAX_MATCH {
                break;
            }
            let place = candidate - 1;
            let least = best.map_or(MIN_MATCH - 1, |(len, _)| len);
            let len = match self.data[place + least] == self.data[at + least] {
                true => common_prefix(&self.data[place..place + limit], &self.data[at..at + limit]),
                false => 0,
            };
            let distance = at - place;
            if len > least && (len > MIN_MATCH || distance <= FAR) {
                best = Some((len, distance));
                if len == limit {
                    break;
                }
            }
            let next = self.previous[place % self.previous.len()] as usize;
            if next >= candidate {
                break;
            }
            candidate = next;
        }
        best
    }

    /// Makes all places before `at` known.
    fn insert_up_to(&mut self, at: usize) {
        while self.inserted < at {
            let place = self.inserted;
            self.inserted += 1;
            if place + MIN_MATCH <= self.data.len() {
                let hash = self.hash(place);
                let ring = self.previous.len();
                self.previous[place % ring] = self.heads[hash];
                self.heads[hash] = place as u32 + 1;
            }
        }
    }

    fn hash(&self, at: usize) -> usize {
        let bytes = &self.data[at..at + MIN_MATCH];
        let value = u32::from(bytes[0]) | u32::from(bytes[1]) << 8 | u32::from(bytes[2]) << 16;
        (value.wrapping_mul(0x9e37_79b1) >> (32 - HASH_BITS)) as usize
    }
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

const END_OF_BLOCK: usize = 256;
const LITERALS: usize = 286;
const DISTANCES: usize = 30;

/// RFC 1951, 3.2.5: symbol, extra bits and their value.
fn length_symbol(len: u16) -> (usize, u32, u32) {
    if len == 258 {
        return (285, 0, 0);
    }
    let value = u32::from(len) - 3;
    if value < 8 {
        return (257 + value as usize, 0, 0);
    }
    let extra = value.ilog2() - 2;
    ((257 + 4 * extra + (value >> extra)) as usize, extra, value & ((1 << extra) - 1))
}

fn distance_symbol(distance: u16) -> (usize, u32, u32) {
    let value = u32::from(distance) - 1;
    if value < 4 {
        return (value as usize, 0, 0);
    }
    let extra = value.ilog2() - 1;
    ((2 * extra + (value >> extra)) as usize, extra, value & ((1 << extra) - 1))
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

/// How often each symbol is needed, and the bits that do not depend on codes.
struct Counts {
    literals: Vec<u32>,
    distances: Vec<u32>,
    extra: u64,
}

impl Counts {
    fn of(tokens: &[Token]) -> Self {
        let mut counts = Self { literals: vec![0; LITERALS], distances: vec![0; DISTANCES], extra: 0 };
        for token in tokens {
            match *token {
                Token::Literal(byte) => counts.literals[usize::from(byte)] += 1,
                Token::Match { len, distance } => {
                    let (symbol, extra, _) = length_symbol(len);
                    counts.literals[symbol] += 1;
                    let (symbol, more, _) = distance_symbol(distance);
                    counts.distances[symbol] += 1;
                    counts.extra += u64::from(extra + more);
                }
            }
        }
        counts.literals[END_OF_BLOCK] = 1;
        counts
    }

    fn cost(&self, codes: &Codes) -> u64 {
        let sum = |counts: &[u32], codes: &[(u16, u8)]| -> u64 {
            counts.iter().zip(codes).map(|(count, code)| u64::from(*count) * u64::from(code.1)).sum()
        };
        self.extra + sum(&self.literals, &codes.literals) + sum(&self.distances, &codes.distances)
    }
}

/// Code and length of each symbol.
struct Codes {
    literals: Vec<(u16, u8)>,
    distances: Vec<(u16, u8)>,
}

impl Codes {
    /// RFC 1951, 3.2.6.
    fn fixed() -> Self {
        let lengths: Vec<u8> = (0..288)
            .map(|symbol| match symbol {
                0..=143 => 8,
                144..=255 => 9,
                256..=279 => 7,
                _ => 8,
            })
            .collect();
        Self { literals: canonical(&lengths), distances: canonical(&[5; 32]) }
    }

    fn dynamic(counts: &mut Counts) -> Self {
        // Some decoders refuse a code of a single symbol.
        let used = counts.distances.iter().filter(|count| **count > 0).count();
        let mut distances = counts.distances.clone();
        for count in distances.iter_mut().filter(|count| **count == 0).take(2_usize.saturating_sub(used)) {
            *count = 1;
        }
        Self {
            literals: canonical(&code_lengths(&counts.literals, 15)),
            distances: canonical(&code_lengths(&distances, 15)),
        }
    }
}

/// RFC 1951, 3.2.2: codes from lengths.
fn canonical(lengths: &[u8]) -> Vec<(u16, u8)> {
    let mut next = [0_u16; 17];
    let mut code = 0_u16;
    for len in 1..=15_u8 {
        next[usize::from(len)] = code;
        let count = lengths.iter().filter(|l| **l == len).count() as u16;
        code = code.wrapping_add(count).wrapping_shl(1);
    }
    lengths
        .iter()
        .map(|&len| {
            let code = next[usize::from(len)];
            if len > 0 {
                next[usize::from(len)] = code.wrapping_add(1);
            }
            (if len > 0 { code } else { 0 }, len)
        })
        .collect()
}

/// Huffman's lengths for symbols with a count, none above `limit`. Ties fall to the lower symbol.
fn code_lengths(counts: &[u32], limit: usize) -> Vec<u8> {
    let mut lengths = vec![0; counts.len()];
    let mut symbols: Vec<(u32, usize)> =
        counts.iter().enumerate().filter(|(_, count)| **count > 0).map(|(s, c)| (*c, s)).collect();
    symbols.sort_unstable();
    if symbols.len() < 2 {
        for (_, symbol) in symbols {
            lengths[symbol] = 1;
        }
        return lengths;
    }
    // Two queues: leaves by count, inner nodes in the order they are made, which is by count too.
    let leaves = symbols.len();
    let mut weights: Vec<u64> = symbols.iter().map(|(count, _)| u64::from(*count)).collect();
    let mut parents = vec![0_usize; 2 * leaves - 1];
    let (mut leaf, mut inner) = (0, leaves);
    while weights.len() < 2 * leaves - 1 {
        let node = weights.len();
        let mut weight = 0;
        for _ in 0..2 {
            let take_leaf = leaf < leaves && (inner >= node || weights[leaf] <= weights[inner]);
            let child = if take_leaf { &mut leaf } else { &mut inner };
            weight += weights[*child];
            parents[*child] = node;
            *child += 1;
        }
        weights.push(weight);
    }
    let mut depths = vec![0_usize; 2 * leaves - 1];
    for node in (0..2 * leaves - 2).rev() {
        depths[node] = depths[parents[node]] + 1;
    }
    // Too deep leaves are lifted to the limit, then shallow ones lowered until Kraft's sum is one again.
    let mut per_length = vec![0_usize; limit + 1];
    for depth in &depths[..leaves] {
        per_length[(*depth).min(limit)] += 1;
    }
    let mut kraft: usize = (1..=limit).map(|len| per_length[len] << (limit - len)).sum();
    while kraft > 1 << limit {
        per_length[limit] -= 1;
        let shallow = (1..limit).rev().find(|len| per_length[*len] > 0).expect("a code has a shorter length");
        per_length[shallow] -= 1;
        per_length[shallow + 1] += 2;
        kraft -= 1;
    }
    let mut rarest_first = symbols.iter();
    for len in (1..=limit).rev() {
        for (_, symbol) in rarest_first.by_ref().take(per_length[len]) {
            lengths[*symbol] = len as u8;
        }
    }
    lengths
}

/// The description of dynamic codes that precedes them (RFC 1951, 3.2.7).
struct Table {
    literals: usize,
    distances: usize,
    /// Symbol of the code-length alphabet, extra bits and their value.
    runs: Vec<(usize, u32, u32)>,
    codes: Vec<(u16, u8)>,
    sent: usize,
}

const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

impl Table {
    fn of(codes: &Codes) -> Self {
        let used = |codes: &[(u16, u8)], least: usize| {
            codes.iter().rposition(|code| code.1 > 0).map_or(least, |last| (last + 1).max(least))
        };
        let (literals, distances) = (used(&codes.literals, 257), used(&codes.distances, 1));
        let lengths: Vec<u8> =
            codes.literals[..literals].iter().chain(&codes.distances[..distances]).map(|c| c.1).collect();
        let mut runs = Vec::new();
        let mut rest = lengths.as_slice();
        while let Some(&len) = rest.first() {
            let run = rest.iter().take_while(|l| **l == len).count();
            let taken = match (len, run) {
                (0, 11..) => {
                    let taken = run.min(138);
                    runs.push((18, 7, taken as u32 - 11));
                    taken
                }
                (0, 3..) => {
                    runs.push((17, 3, run as u32 - 3));
                    run
                }
                (1.., 4..) => {
                    let repeated = (run - 1).min(6);
                    runs.push((usize::from(len), 0, 0));
                    runs.push((16, 2, repeated as u32 - 3));
                    repeated + 1
                }
                _ => {
                    runs.push((usize::from(len), 0, 0));
                    1
                }
            };
            rest = &rest[taken..];
        }
        let mut counts = vec![0; 19];
        for (symbol, ..) in &runs {
            counts[*symbol] += 1;
        }
        let codes = canonical(&code_lengths(&counts, 7));
        let sent = ORDER.iter().rposition(|symbol| codes[*symbol].1 > 0).map_or(4, |last| (last + 1).max(4));
        Self { literals, distances, runs, codes, sent }
    }

    fn cost(&self) -> u64 {
        let runs: u64 = self
            .runs
            .iter()
            .map(|(symbol, extra, _)| u64::from(self.codes[*symbol].1) + u64::from(*extra))
            .sum();
        5 + 5 + 4 + 3 * self.sent as u64 + runs
    }

    fn write(&self, bits: &mut Bits<'_>) {
        bits.put(self.literals as u32 - 257, 5);
        bits.put(self.distances as u32 - 1, 5);
        bits.put(self.sent as u32 - 4, 4);
        for symbol in &ORDER[..self.sent] {
            bits.put(u32::from(self.codes[*symbol].1), 3);
        }
        for (symbol, extra, value) in &self.runs {
            bits.code(self.codes[*symbol]);
            bits.put(*value, *extra);
        }
    }
}

#[cfg(test)]
#[path = "deflate_tests.rs"]
mod tests;
