//! SHA-256 over bytes handed over piece by piece, for one digest or for two at a time.
//!
//! One SHA-256 leaves half of a core idle: each round waits for the one before. A layer's bytes are needed in two digests
//! (the tar's and that of `RECORD`; the layer's and the wheel's), and two states that advance together cost little more
//! than one: [`update_same`] for two digests of the same bytes, [`update_pair`] for two of different bytes.

use std::io::{self, Write};

use super::{Digest, lanes};

/// Length of SHA-256's blocks in bytes.
pub(super) const BLOCK: usize = 64;

/// The state of FIPS 180-4, 5.3.3.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// SHA-256 of what it was given, and how many bytes there were.
#[derive(Clone)]
pub struct Hasher {
    state: [u32; 8],
    /// The block begun; its first `bytes % BLOCK` bytes are meant.
    block: [u8; BLOCK],
    bytes: u64,
}

impl Default for Hasher {
    fn default() -> Self {
        Self { state: INITIAL, block: [0; BLOCK], bytes: 0 }
    }
}

impl Hasher {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        let (blocks, rest) = self.top_up(bytes).as_chunks();
        lanes::one(&mut self.state, blocks);
        self.bytes += (blocks.len() * BLOCK) as u64;
        self.keep(rest);
    }

    /// Bytes seen so far.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn finish(mut self) -> Digest {
        // One bit, zeros, and the length in bits at the end of a block.
        let bits = self.bytes.wrapping_mul(8);
        let fill = self.filled();
        let mut padding = [0; 2 * BLOCK];
        padding[0] = 0x80;
        let len = if fill < BLOCK - 8 { BLOCK - fill } else { 2 * BLOCK - fill };
        padding[len - 8..len].copy_from_slice(&bits.to_be_bytes());
        self.update(&padding[..len]);
        let mut digest = [0; 32];
        for (bytes, word) in digest.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        Digest::from_bytes(digest)
    }

    /// How much of the block begun is there.
    const fn filled(&self) -> usize {
        (self.bytes % BLOCK as u64) as usize
    }

    /// Completes the block begun; what is left of `bytes`.
    fn top_up<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let filled = self.filled();
        if filled == 0 {
            return bytes;
        }
        let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - filled));
        self.keep(now);
        if self.filled() == 0 && !now.is_empty() {
            lanes::one(&mut self.state, &[self.block]);
        }
        rest
    }

    /// Takes fewer bytes than complete more than the block begun.
    fn keep(&mut self, bytes: &[u8]) {
        let filled = self.filled();
        self.block[filled..filled + bytes.len()].copy_from_slice(bytes);
        self.bytes += bytes.len() as u64;
    }
}

/// As `a.update(bytes)` and `b.update(bytes)`: twice the bytes for little more than the time of once, as long as both
/// have seen the same number of bytes modulo 64.
pub fn update_same(a: &mut Hasher, b: &mut Hasher, bytes: &[u8]) {
    if a.filled() != b.filled() {
        return update_pair(a, bytes, b, bytes);
    }
    let rest = a.top_up(bytes);
    b.top_up(bytes);
    let (blocks, rest) = rest.as_chunks();
    lanes::same(&mut a.state, &mut b.state, blocks);
    for hasher in [a, b] {
        hasher.bytes += (blocks.len() * BLOCK) as u64;
        hasher.keep(rest);
    }
}

/// As `a.update(for_a)` and `b.update(for_b)`, faster where both are long.
pub fn update_pair(a: &mut Hasher, for_a: &[u8], b: &mut Hasher, for_b: &[u8]) {
    let (for_a, for_b) = (a.top_up(for_a), b.top_up(for_b));
    let together = for_a.len().min(for_b.len()) / BLOCK;
    let (now_a, later_a) = for_a.split_at(together * BLOCK);
    let (now_b, later_b) = for_b.split_at(together * BLOCK);
    lanes::two(&mut a.state, now_a.as_chunks().0, &mut b.state, now_b.as_chunks().0);
    a.bytes += now_a.len() as u64;
    b.bytes += now_b.len() as u64;
    a.update(later_a);
    b.update(later_b);
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::Digest as _;

    use super::*;

    fn oracle(bytes: &[u8]) -> Digest {
        Digest::from_bytes(sha2::Sha256::digest(bytes).into())
    }

    fn hashed(bytes: &[u8]) -> Hasher {
        let mut hasher = Hasher::new();
        hasher.update(bytes);
        hasher
    }

    #[test]
    fn every_length_around_the_blocks_is_padded_right() {
        let bytes: Vec<u8> = (0..300_u32).map(|i| (i * 7) as u8).collect();
        for len in 0..bytes.len() {
            assert_eq!(hashed(&bytes[..len]).finish(), oracle(&bytes[..len]), "{len}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let mut hasher = Hasher::new();
            pieces.iter().for_each(|piece| hasher.update(piece));
            let all = pieces.concat();
            prop_assert_eq!(hasher.bytes(), all.len() as u64);
            prop_assert_eq!(hasher.finish(), oracle(&all));
        }

        #[test]
        fn two_at_a_time_are_as_one_after_the_other(
            before in (0..130_usize, 0..130_usize),
            a in prop::collection::vec(any::<u8>(), 0..700),
            b in prop::collection::vec(any::<u8>(), 0..700),
        ) {
            let (before_a, before_b) = (vec![1; before.0], vec![2; before.1]);
            let (mut one, mut two) = (hashed(&before_a), hashed(&before_b));
            update_pair(&mut one, &a, &mut two, &b);
            update_same(&mut one, &mut two, &a);
            // In phase from here on, when the lengths allow it.
            update_same(&mut one, &mut two, &b);
            prop_assert_eq!(one.finish(), oracle(&[&before_a[..], &a, &a, &b].concat()));
            prop_assert_eq!(two.finish(), oracle(&[&before_b[..], &b, &a, &b].concat()));
        }

        #[test]
        fn one_message_for_two_states(
            phase in 0..64_usize,
            more in 0..3_usize,
            bytes in prop::collection::vec(any::<u8>(), 0..700),
        ) {
            let (before_a, before_b) = (vec![1; phase], vec![2; phase + 64 * more]);
            let (mut one, mut two) = (hashed(&before_a), hashed(&before_b));
            update_same(&mut one, &mut two, &bytes);
            prop_assert_eq!(one.finish(), oracle(&[&before_a[..], &bytes].concat()));
            prop_assert_eq!(two.finish(), oracle(&[&before_b[..], &bytes].concat()));
        }
    }
}
