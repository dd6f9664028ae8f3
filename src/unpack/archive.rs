//! A layer as it lies in a blob: decompressed, read as a tar, and written or looked at. Both digests are found on the way; what
//! was made of it counts only if both are right, which is for the caller to see to.

use std::io::{self, BufReader, Read};
use std::os::fd::OwnedFd;

use flate2::bufread::MultiGzDecoder;

use super::below::Below;
use super::tar::TarReader;
use super::writer::Writer;
use super::{Context, Limits, Summary, UnpackError};
use crate::digest::{DiffId, Digest, Hasher, Mismatch};
use crate::oci::media_type::Codec;

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// A layer's blob, and what it is said to be.
pub struct Packed<'a> {
    pub blob: Box<dyn Read + 'a>,
    pub codec: Codec,
    pub digest: Digest,
    pub size: u64,
    pub diff_id: DiffId,
}

/// Unpacks the layer into `root`, an empty directory.
pub fn unpack(
    packed: Packed<'_>,
    root: OwnedFd,
    below: &dyn Below,
    limits: Limits,
    context: Context<'_>,
) -> Result<Summary, UnpackError> {
    verified(packed, limits, context, |reader| {
        let mut writer = Writer::new(root, below, limits)?;
        while let Some(entry) = reader.next()? {
            writer.entry(&entry, reader, context)?;
        }
        writer.finish()
    })
}

/// What `read` makes of the layer's tar.
pub(super) fn verified<T>(
    packed: Packed<'_>,
    limits: Limits,
    context: Context<'_>,
    read: impl FnOnce(&mut TarReader<&mut dyn Read>) -> Result<T, UnpackError>,
) -> Result<T, UnpackError> {
    let Packed { blob, codec, digest, size, diff_id } = packed;
    let mut blob = Hashed { inner: Progress { inner: blob, context }, hasher: Hasher::new() };
    let limit = limits.free.saturating_add(size.saturating_mul(limits.ratio));
    let done = (|| {
        let packed = BufReader::with_capacity(CHUNK, &mut blob);
        let unpacked: Box<dyn Read + '_> = match codec {
            Codec::None => Box::new(packed),
            Codec::Gzip => Box::new(BufReader::with_capacity(CHUNK, MultiGzDecoder::new(packed))),
            Codec::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
        };
        let mut tar =
            Hashed { inner: Limited { inner: unpacked, left: limit, limit }, hasher: Hasher::new() };
        let made = read(&mut TarReader::new(&mut tar))?;
        // What follows the end of the tar is part of its digest.
        io::copy(&mut tar, &mut io::sink())?;
        Ok((made, tar.hasher))
    })();
    let readable = !matches!(done, Err(UnpackError::File { .. } | UnpackError::Limit { .. }));
    // A damaged blob fails somewhere in the middle; that it is damaged says more than where.
    if readable && (context.go_on)().is_ok() {
        io::copy(&mut blob, &mut io::sink())?;
        let (actual_size, actual) = (blob.hasher.bytes(), blob.hasher.finish());
        if (actual, actual_size) != (digest, size) {
            let source = Mismatch { expected: digest, expected_size: size, actual, actual_size };
            return Err(UnpackError::Mismatch { what: "blob", source });
        }
    }
    let (made, tar) = done?;
    let (actual_size, actual) = (tar.bytes(), tar.finish());
    if actual != diff_id.0 {
        let source = Mismatch { expected: diff_id.0, expected_size: actual_size, actual, actual_size };
        return Err(UnpackError::Mismatch { what: "diff ID", source });
    }
    Ok(made)
}

/// Hashes what is read.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Ends with an error where the limit is.
struct Limited<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => {
                let what = "bytes unpacked, far more than its size explains";
                return Err(io::Error::other(UnpackError::Limit { what, limit: self.limit }));
            }
        }
        Ok(read)
    }
}

/// Tells of what is read, and stops when it is to.
struct Progress<'a, R> {
    inner: R,
    context: Context<'a>,
}

impl<R: Read> Read for Progress<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (self.context.go_on)()?;
        let read = self.inner.read(buffer)?;
        (self.context.progress)(read as u64);
        Ok(read)
    }
}
