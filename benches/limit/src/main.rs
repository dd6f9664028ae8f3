//! usage: limit WHEEL...
//!
//! What no tool can do without that verifies wheels and knows their layers' diff IDs: inflates every member and hashes
//! what comes out, largest wheel first, on all cores, with libdeflate and AWS-LC. Nothing is parsed beyond the zip
//! directory, nothing compared, nothing written. Prints one line of JSON: wall and CPU seconds, bytes, and the seconds of
//! each part summed over cores. With `--packed` the wheels themselves are hashed as well, as a layer's blob must be.
//!
//! Members are inflated whole, since libdeflate knows no other way: this takes as much memory as the largest members.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use rayon::prelude::*;

#[derive(Default)]
struct Sum {
    packed: u64,
    unpacked: u64,
    inflate: Duration,
    hash: Duration,
}

fn main() {
    let (flags, wheels): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let hash_packed = flags.iter().any(|flag| flag == "--packed");
    let size = |path: &String| fs::metadata(path).map_or(0, |file| file.len());
    let mut wheels: Vec<_> = wheels.iter().map(|path| (size(path), path)).collect();
    wheels.sort_by(|a, b| b.cmp(a));
    let begun = Instant::now();
    let sums: Vec<_> = wheels
        .par_iter()
        .with_max_len(1)
        .map(|(_, path)| wheel(path, hash_packed).unwrap_or_else(|error| panic!("{path}: {error}")))
        .collect();
    let wall = begun.elapsed();
    let mut all = Sum::default();
    for sum in sums {
        all.packed += sum.packed;
        all.unpacked += sum.unpacked;
        all.inflate += sum.inflate;
        all.hash += sum.hash;
    }
    println!(
        r#"{{"seconds": {:.3}, "cpu": {:.3}, "packed": {}, "unpacked": {}, "inflate": {:.3}, "hash": {:.3}}}"#,
        wall.as_secs_f64(),
        cpu_seconds(),
        all.packed,
        all.unpacked,
        all.inflate.as_secs_f64(),
        all.hash.as_secs_f64(),
    );
}

fn wheel(path: &str, hash_packed: bool) -> io::Result<Sum> {
    let bytes = fs::read(path)?;
    let mut sum = Sum { packed: bytes.len() as u64, ..Sum::default() };
    let mut decoder = libdeflater::Decompressor::new();
    let mut output = Vec::new();
    if hash_packed {
        hash(&bytes, &mut sum);
    }
    for (method, packed, unpacked, offset) in directory(&bytes) {
        let data = offset + 30 + u16_at(&bytes, offset + 26) + u16_at(&bytes, offset + 28);
        let data = &bytes[data..data + packed];
        sum.unpacked += unpacked as u64;
        if method == 0 {
            hash(data, &mut sum);
            continue;
        }
        if output.len() < unpacked {
            output.resize(unpacked, 0);
        }
        let begun = Instant::now();
        let made = decoder.deflate_decompress(data, &mut output[..unpacked]).map_err(io::Error::other)?;
        sum.inflate += begun.elapsed();
        hash(&output[..made], &mut sum);
    }
    Ok(sum)
}

fn hash(bytes: &[u8], sum: &mut Sum) {
    let begun = Instant::now();
    let mut context = Context::new(&SHA256);
    context.update(bytes);
    std::hint::black_box(context.finish());
    sum.hash += begun.elapsed();
}

/// Method, packed and unpacked size and offset of the local header of each member. The wheels have been verified.
fn directory(bytes: &[u8]) -> Vec<(usize, usize, usize, usize)> {
    let end = bytes.windows(4).rposition(|four| four == b"PK\x05\x06").expect("an end record");
    let (count, mut at) = (u16_at(bytes, end + 10), u32_at(bytes, end + 16));
    let mut members = Vec::new();
    for _ in 0..count {
        members.push((
            u16_at(bytes, at + 10),
            u32_at(bytes, at + 20),
            u32_at(bytes, at + 24),
            u32_at(bytes, at + 42),
        ));
        at += 46 + u16_at(bytes, at + 28) + u16_at(bytes, at + 30) + u16_at(bytes, at + 32);
    }
    members
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize
}

/// Of the whole process: user and system time, from the kernel.
fn cpu_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("a Linux machine");
    let fields: Vec<_> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    ticks as f64 / 100.0
}
