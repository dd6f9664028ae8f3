//! Huffman codes: symbols, how long their codes are, and how a block describes them (RFC 1951, 3.2).

use super::Bits;
use super::matching::Token;

pub(super) const END_OF_BLOCK: usize = 256;
const LITERALS: usize = 286;
const DISTANCES: usize = 30;

/// RFC 1951, 3.2.5: symbol, extra bits and their value.
pub(super) fn length_symbol(len: u16) -> (usize, u32, u32) {
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

pub(super) fn distance_symbol(distance: u16) -> (usize, u32, u32) {
    let value = u32::from(distance) - 1;
    if value < 4 {
        return (value as usize, 0, 0);
    }
    let extra = value.ilog2() - 1;
    ((2 * extra + (value >> extra)) as usize, extra, value & ((1 << extra) - 1))
}

/// How often each symbol is needed, and the bits that do not depend on codes.
pub(super) struct Counts {
    literals: Vec<u32>,
    distances: Vec<u32>,
    extra: u64,
}

impl Counts {
    pub(super) fn of(tokens: &[Token]) -> Self {
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

    pub(super) fn cost(&self, codes: &Codes) -> u64 {
        let sum = |counts: &[u32], codes: &[(u16, u8)]| -> u64 {
            counts.iter().zip(codes).map(|(count, code)| u64::from(*count) * u64::from(code.1)).sum()
        };
        self.extra + sum(&self.literals, &codes.literals) + sum(&self.distances, &codes.distances)
    }
}

/// Code and length of each symbol.
pub(super) struct Codes {
    pub(super) literals: Vec<(u16, u8)>,
    pub(super) distances: Vec<(u16, u8)>,
}

impl Codes {
    /// RFC 1951, 3.2.6.
    pub(super) fn fixed() -> Self {
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

    pub(super) fn dynamic(counts: &mut Counts) -> Self {
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
pub(super) fn code_lengths(counts: &[u32], limit: usize) -> Vec<u8> {
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
pub(super) struct Table {
    literals: usize,
    distances: usize,
    /// Symbol of the code-length alphabet, extra bits and their value.
    runs: Vec<(usize, u32, u32)>,
    codes: Vec<(u16, u8)>,
    sent: usize,
}

const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

impl Table {
    pub(super) fn of(codes: &Codes) -> Self {
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

    pub(super) fn cost(&self) -> u64 {
        let runs: u64 = self
            .runs
            .iter()
            .map(|(symbol, extra, _)| u64::from(self.codes[*symbol].1) + u64::from(*extra))
            .sum();
        5 + 5 + 4 + 3 * self.sent as u64 + runs
    }

    pub(super) fn write(&self, bits: &mut Bits<'_>) {
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
