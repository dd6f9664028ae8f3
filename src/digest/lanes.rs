//! SHA-256's compression function for one state or for two that advance together.
//!
//! On x86-64 with the SHA extensions two states are interleaved by hand; a core that can start a round every two cycles
//! but ends it after four then idles no more (measured on Zen: 3.3 against 1.8 GB/s). Elsewhere blocks alternate between
//! the two, which leaves the interleaving to the core.

use sha2::block_api::compress256;

use super::hasher::BLOCK;

type State = [u32; 8];
type Block = [u8; BLOCK];

/// Blocks handed to one state before it is the other's turn, where they alternate.
const TURN: usize = 2;

pub(super) fn one(state: &mut State, blocks: &[Block]) {
    compress256(state, blocks);
}

/// Both states take the same blocks.
pub(super) fn same(a: &mut State, b: &mut State, blocks: &[Block]) {
    #[cfg(target_arch = "x86_64")]
    if x86::available() {
        return x86::same(a, b, blocks);
    }
    for turn in blocks.chunks(TURN) {
        compress256(a, turn);
        compress256(b, turn);
    }
}

/// Each state takes its own blocks, as many as the other.
pub(super) fn two(a: &mut State, for_a: &[Block], b: &mut State, for_b: &[Block]) {
    assert_eq!(for_a.len(), for_b.len(), "two lanes have the same length");
    #[cfg(target_arch = "x86_64")]
    if x86::available() {
        return x86::two(a, for_a, b, for_b);
    }
    for (turn_a, turn_b) in for_a.chunks(TURN).zip(for_b.chunks(TURN)) {
        compress256(a, turn_a);
        compress256(b, turn_b);
    }
}

/// The only `unsafe` of this crate's own: calls of functions that are compiled for the SHA extensions, each behind a look
/// at the processor. The functions themselves are safe code.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::is_x86_feature_detected;
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_setr_epi32, _mm_sha256msg1_epu32,
        _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi32,
    };

    use super::{Block, State};

    /// The constants of FIPS 180-4, 4.2.2, four a row as four rounds take them.
    #[rustfmt::skip]
    const K: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5], [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3], [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc], [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7], [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13], [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3], [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5], [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208], [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    pub(super) fn available() -> bool {
        is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1")
    }

    pub(super) fn same(a: &mut State, b: &mut State, blocks: &[Block]) {
        assert!(available());
        // SAFETY: the processor has the features that the function is compiled for.
        unsafe { same_message(a, b, blocks) }
    }

    pub(super) fn two(a: &mut State, for_a: &[Block], b: &mut State, for_b: &[Block]) {
        assert!(available());
        // SAFETY: the processor has the features that the function is compiled for.
        unsafe { two_messages(a, for_a, b, for_b) }
    }

    /// A state as the instructions want it: words A, B, E, F and C, D, G, H, the first uppermost.
    #[derive(Clone, Copy)]
    struct Lane {
        abef: __m128i,
        cdgh: __m128i,
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn words([a, b, c, d]: [u32; 4]) -> __m128i {
        _mm_setr_epi32(a as i32, b as i32, c as i32, d as i32)
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn unpack(&[a, b, c, d, e, f, g, h]: &State) -> Lane {
        Lane { abef: words([f, e, b, a]), cdgh: words([h, g, d, c]) }
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn pack(lane: Lane) -> State {
        let Lane { abef: x, cdgh: y } = lane;
        [
            _mm_extract_epi32::<3>(x) as u32,
            _mm_extract_epi32::<2>(x) as u32,
            _mm_extract_epi32::<3>(y) as u32,
            _mm_extract_epi32::<2>(y) as u32,
            _mm_extract_epi32::<1>(x) as u32,
            _mm_extract_epi32::<0>(x) as u32,
            _mm_extract_epi32::<1>(y) as u32,
            _mm_extract_epi32::<0>(y) as u32,
        ]
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn add(x: Lane, y: Lane) -> Lane {
        Lane { abef: _mm_add_epi32(x.abef, y.abef), cdgh: _mm_add_epi32(x.cdgh, y.cdgh) }
    }

    /// The 16 words of a block, four a vector.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn message(block: &Block) -> [__m128i; 4] {
        let word = |at: usize| u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        let four = |at: usize| [word(at), word(at + 4), word(at + 8), word(at + 12)];
        [words(four(0)), words(four(16)), words(four(32)), words(four(48))]
    }

    /// The words that rounds `4 * ROW` to `4 * ROW + 3` take, without the constants; `message` holds those of the last 16
    /// rounds.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    #[inline]
    fn scheduled<const ROW: usize>(message: &mut [__m128i; 4]) -> __m128i {
        if ROW >= 4 {
            let [v0, v1, v2, v3] = [0, 1, 2, 3].map(|before| message[(ROW + before) % 4]);
            let sum = _mm_add_epi32(_mm_sha256msg1_epu32(v0, v1), _mm_alignr_epi8::<4>(v3, v2));
            message[ROW % 4] = _mm_sha256msg2_epu32(sum, v3);
        }
        message[ROW % 4]
    }

    /// Two rounds; the lane's halves have changed their roles.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    #[inline]
    fn rounds(lane: Lane, words: __m128i) -> Lane {
        Lane { abef: _mm_sha256rnds2_epu32(lane.cdgh, lane.abef, words), cdgh: lane.abef }
    }

    /// All 64 rounds; `$row` is run with `ROW` from 0 to 15.
    macro_rules! each_row {
        ($row:ident) => {
            $row!(0);
            $row!(1);
            $row!(2);
            $row!(3);
            $row!(4);
            $row!(5);
            $row!(6);
            $row!(7);
            $row!(8);
            $row!(9);
            $row!(10);
            $row!(11);
            $row!(12);
            $row!(13);
            $row!(14);
            $row!(15);
        };
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn same_message(a: &mut State, b: &mut State, blocks: &[Block]) {
        let (mut x, mut y) = (unpack(a), unpack(b));
        for block in blocks {
            let (before_x, before_y) = (x, y);
            let mut message = message(block);
            macro_rules! row {
                ($row:literal) => {
                    let low = _mm_add_epi32(scheduled::<$row>(&mut message), words(K[$row]));
                    let high = _mm_shuffle_epi32::<0b1110>(low);
                    x = rounds(x, low);
                    y = rounds(y, low);
                    x = rounds(x, high);
                    y = rounds(y, high);
                };
            }
            each_row!(row);
            (x, y) = (add(x, before_x), add(y, before_y));
        }
        (*a, *b) = (pack(x), pack(y));
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    fn two_messages(a: &mut State, for_a: &[Block], b: &mut State, for_b: &[Block]) {
        let (mut x, mut y) = (unpack(a), unpack(b));
        for (block_x, block_y) in for_a.iter().zip(for_b) {
            let (before_x, before_y) = (x, y);
            let (mut message_x, mut message_y) = (message(block_x), message(block_y));
            macro_rules! row {
                ($row:literal) => {
                    let low_x = _mm_add_epi32(scheduled::<$row>(&mut message_x), words(K[$row]));
                    let low_y = _mm_add_epi32(scheduled::<$row>(&mut message_y), words(K[$row]));
                    x = rounds(x, low_x);
                    y = rounds(y, low_y);
                    x = rounds(x, _mm_shuffle_epi32::<0b1110>(low_x));
                    y = rounds(y, _mm_shuffle_epi32::<0b1110>(low_y));
                };
            }
            each_row!(row);
            (x, y) = (add(x, before_x), add(y, before_y));
        }
        (*a, *b) = (pack(x), pack(y));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The way of machines without the extensions, whatever this one has.
    #[test]
    fn alternating_blocks_give_what_interleaving_gives() {
        let blocks: Vec<Block> = (0..7_u8).map(|i| [i.wrapping_mul(31); BLOCK]).collect();
        let others: Vec<Block> = (0..7_u8).map(|i| [!i; BLOCK]).collect();
        let start: (State, State) = ([1; 8], [2; 8]);
        let (mut a, mut b) = start;
        one(&mut a, &blocks);
        one(&mut b, &others);
        let (mut x, mut y) = start;
        two(&mut x, &blocks, &mut y, &others);
        assert_eq!((x, y), (a, b));
        let (mut x, mut y) = start;
        same(&mut x, &mut y, &blocks);
        let (mut a, mut b) = start;
        one(&mut a, &blocks);
        one(&mut b, &blocks);
        assert_eq!((x, y), (a, b));
    }
}
