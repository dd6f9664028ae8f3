//! Tests of `deflate`.

use super::codes::code_lengths;
use super::*;
use crate::digest::Digest;
use proptest::prelude::*;
use std::io::Read;

fn decode(stream: &[u8]) -> Vec<u8> {
    let mut decoder = flate2::read::DeflateDecoder::new(stream);
    let mut bytes = Vec::new();
    decoder.read_to_end(&mut bytes).unwrap();
    assert_eq!(decoder.total_in(), stream.len() as u64, "bytes behind the final block");
    bytes
}

fn round_trip(data: &[u8]) -> usize {
    let mut stream = Vec::new();
    encode(&mut stream, data, true);
    assert_eq!(decode(&stream), data);
    let len = stream.len();
    // In front of another stream, as a tar header stands in front of a wheel's.
    let mut stream = Vec::new();
    encode(&mut stream, data, false);
    stored(&mut stream, 3, true);
    stream.extend(b"end");
    assert_eq!(decode(&stream), [data, b"end"].concat());
    len
}

/// Bytes with much and with little repetition.
fn noise(seed: u64, len: usize, alphabet: u64) -> Vec<u8> {
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 33) % alphabet) as u8
        })
        .collect()
}

#[test]
fn sizes_and_shapes() {
    assert_eq!(round_trip(b""), 2);
    assert!(round_trip(&[0; 1024]) < 16);
    for len in [1, 2, 3, 4, 257, 258, 259, 65_277, 65_535, 65_536, 300_000] {
        round_trip(&vec![7; len]);
        for alphabet in [2, 17, 64, 256] {
            let data = noise(len as u64, len, alphabet);
            let packed = round_trip(&data);
            let bits = (alphabet as f64).log2() / 8.0;
            assert!(packed as f64 <= data.len() as f64 * bits * 1.35 + 130.0, "{len} {alphabet}: {packed}");
        }
    }
}

#[test]
fn skewed_counts_stay_within_the_limit() {
    // Fibonacci's numbers make the deepest Huffman tree.
    let mut counts = vec![1_u32, 1];
    while counts.len() < 40 {
        counts.push(counts[counts.len() - 1] + counts[counts.len() - 2]);
    }
    for limit in [7, 15] {
        let lengths = code_lengths(&counts, limit);
        let kraft: usize = lengths.iter().map(|len| 1 << (limit - usize::from(*len))).sum();
        assert_eq!(kraft, 1 << limit);
    }
}

#[test]
fn output_is_frozen() {
    let mut all = Vec::new();
    for (seed, len, alphabet) in [(1, 100, 3), (2, 5_000, 64), (3, 70_000, 250), (4, 200_000, 5)] {
        encode(&mut all, &noise(seed, len, alphabet), false);
    }
    encode(&mut all, &b"usr/local/lib/python3.11/dist-packages/".repeat(9), true);
    assert_eq!(Digest::of(&all).hex(), "88901afb85f8f08a64920ad1951feedf32de428ece113f09fdca11fedf1b9513");
}

proptest! {
    #[test]
    fn decoders_give_back_what_went_in(
        parts in proptest::collection::vec((any::<u64>(), 0..3000_usize, 1..=256_u64), 0..8)
    ) {
        let data: Vec<u8> = parts.iter().flat_map(|(seed, len, alphabet)| noise(*seed, *len, *alphabet)).collect();
        round_trip(&data);
    }
}
