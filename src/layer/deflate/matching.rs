//! Matching: earlier copies of the bytes at a place.

const MIN_MATCH: usize = 3;
pub(super) const MAX_MATCH: usize = 258;
const WINDOW: usize = 32 * 1024;
const HASH_BITS: u32 = 12;
const CHAIN: usize = 48;
/// A match of three bytes from farther away costs more bits than three literals.
const FAR: usize = 256;

#[derive(Clone, Copy)]
pub(super) enum Token {
    Literal(u8),
    Match { len: u16, distance: u16 },
}

impl Token {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Literal(_) => 1,
            Self::Match { len, .. } => usize::from(len),
        }
    }
}

/// Finds earlier copies of the bytes at a place.
pub(super) struct Finder<'a> {
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
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            heads: vec![0; 1 << HASH_BITS],
            previous: vec![0; data.len().min(WINDOW)],
            inserted: 0,
            ahead: None,
        }
    }

    pub(super) fn next(&mut self, at: usize) -> Token {
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
