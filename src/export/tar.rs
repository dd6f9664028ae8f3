//! Tar as archives of images need it: regular files and directories with short names, nothing of the machine in
//! the headers. Layers have their own writer (`layer::tar`), which is part of the layer format; this one is not.

use crate::epoch::Epoch;

/// Bytes of a header; contents fill whole blocks.
pub(super) const BLOCK: usize = 512;
/// Two empty blocks.
pub(super) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];
/// The largest size that eleven octal digits say; above, GNU's base-256 form stands in the field, which Go, Python,
/// bsdtar and GNU tar all read.
const MAX_OCTAL: u64 = 0o77_777_777_777;

/// The header of a regular file. `name` is at most 100 bytes.
pub(super) fn file_header(name: &str, size: u64) -> [u8; BLOCK] {
    header(name, b'0', 0o644, size)
}

/// The header of a directory. `name` is at most 99 bytes, without trailing slash.
pub(super) fn directory_header(name: &str) -> [u8; BLOCK] {
    header(&format!("{name}/"), b'5', 0o755, 0)
}

fn header(name: &str, kind: u8, mode: u32, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name.as_bytes());
    octal(&mut block[100..108], mode.into());
    octal(&mut block[108..116], 0);
    octal(&mut block[116..124], 0);
    match size <= MAX_OCTAL {
        true => octal(&mut block[124..136], size),
        false => {
            block[124] = 0x80;
            block[128..136].copy_from_slice(&size.to_be_bytes());
        }
    }
    octal(&mut block[136..148], Epoch::default().0);
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut block[329..337], 0);
    octal(&mut block[337..345], 0);
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

/// Zero-padded digits and a final NUL.
fn octal(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    field[..digits.len()].copy_from_slice(digits.as_bytes());
    field[digits.len()] = 0;
}

/// How many zeros fill the last block of a file of `size` bytes.
pub(super) fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).expect("less than a block");
    (BLOCK - over) % BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back() {
        for size in [0, 1, MAX_OCTAL, MAX_OCTAL + 1, 1 << 40] {
            let block = file_header("blobs/sha256/x", size);
            let header = ::tar::Header::from_byte_slice(&block);
            assert_eq!(header.entry_size().unwrap(), size);
            assert_eq!(header.path_bytes().as_ref(), b"blobs/sha256/x");
            assert_eq!((header.mode().unwrap(), header.uid().unwrap()), (0o644, 0));
            assert_eq!(header.mtime().unwrap(), Epoch::default().0);
            let sum: u32 = block
                .iter()
                .enumerate()
                .map(|(at, b)| if (148..156).contains(&at) { 32 } else { u32::from(*b) })
                .sum();
            assert_eq!(header.cksum().unwrap(), sum);
        }
        assert!(::tar::Header::from_byte_slice(&directory_header("blobs")).entry_type().is_dir());
    }
}
