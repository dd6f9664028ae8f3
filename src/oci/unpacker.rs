//! A layer as it is stored, unpacked to nothing but its digest: of gzip all members, of zstd all frames.

use std::io::{self, Write};

use super::media_type::Codec;
use crate::digest::{Digest, Hasher};

/// Takes a layer as stored, hashes the tar in it.
pub struct Unpacker(Decoder);

enum Decoder {
    None(TarHasher),
    Gzip(Box<flate2::write::MultiGzDecoder<TarHasher>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, TarHasher>>),
    Failed(String),
}

/// What was in a layer.
pub struct UnpackedLayer {
    /// Of the whole tar: its diff ID.
    pub digest: Digest,
    /// The tar does not begin with its end marker.
    pub has_entry: bool,
}

impl Unpacker {
    pub fn new(codec: Codec) -> Self {
        let hasher = TarHasher::default();
        Self(match codec {
            Codec::None => Decoder::None(hasher),
            Codec::Gzip => Decoder::Gzip(Box::new(flate2::write::MultiGzDecoder::new(hasher))),
            Codec::Zstd => match zstd::stream::write::Decoder::new(hasher) {
                Ok(decoder) => Decoder::Zstd(Box::new(decoder)),
                Err(error) => Decoder::Failed(error.to_string()),
            },
        })
    }

    /// What was in it, if the last member was whole.
    pub fn finish(self) -> io::Result<UnpackedLayer> {
        let hasher = match self.0 {
            Decoder::None(hasher) => hasher,
            Decoder::Gzip(decoder) => decoder.finish()?,
            Decoder::Zstd(mut decoder) => {
                decoder.flush()?;
                decoder.into_inner()
            }
            Decoder::Failed(error) => return Err(io::Error::other(error)),
        };
        let has_entry = hasher.first.is_some_and(|first| first != 0);
        Ok(UnpackedLayer { digest: hasher.hasher.finish(), has_entry })
    }
}

impl Write for Unpacker {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Decoder::None(hasher) => hasher.write(bytes),
            Decoder::Gzip(decoder) => decoder.write(bytes),
            Decoder::Zstd(decoder) => decoder.write(bytes),
            Decoder::Failed(error) => Err(io::Error::other(error.clone())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes a tar and keeps its first byte: a name's, or the zero of the end marker.
#[derive(Default)]
struct TarHasher {
    hasher: Hasher,
    first: Option<u8>,
}

impl Write for TarHasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.first = self.first.or(bytes.first().copied());
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
