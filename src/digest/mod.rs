//! Names of content: [`Digest`] of stored bytes, [`DiffId`] of a layer's uncompressed tar, [`ChainId`] of a stack of layers.
//!
//! Only SHA-256 is known: the lock, the store and the image format name content by it, and an OCI digest of any
//! other algorithm is refused when it is parsed. The three are types of their own because mixing them up is the
//! classic mistake of the field (OCI image specification, "Layer DiffID" and "Layer ChainID").

mod hasher;
mod lanes;

use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use hasher::{Hasher, update_pair, update_same};

/// SHA-256 of a blob's bytes as they are stored; written `sha256:<64 lower-case hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits")]
pub struct DigestError(String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(bytes.as_ref());
        hasher.finish()
    }

    /// The digest whose value is already known, e.g. read from a binary file of ours.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From 64 lower-case hexadecimal digits without the algorithm, as indexes and Debian write them.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let refused = || DigestError(hex.chars().take(100).collect());
        if hex.len() != 64 || hex.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refused());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(hex, &mut bytes).map_err(|_| refused())?;
        Ok(Self(bytes))
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hexadecimal digits without the algorithm.
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let hex =
            text.strip_prefix("sha256:").ok_or_else(|| DigestError(text.chars().take(100).collect()))?;
        Self::from_hex(hex).map_err(|_| DigestError(text.chars().take(100).collect()))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 of a layer's uncompressed tar. Two codecs of one tar share it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiffId(pub Digest);

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The name of a stack of layers applied in order (OCI image specification, "Layer ChainID").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// `None` for an empty stack.
    pub fn of(layers: &[DiffId]) -> Option<Self> {
        let (first, rest) = layers.split_first()?;
        Some(
            rest.iter()
                .fold(Self(first.0), |below, layer| Self(Digest::of(format!("{} {}", below.0, layer.0)))),
        )
    }
}

/// Passes bytes on to `inner` and hashes them on the way.
pub struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> HashingWriter<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new() }
    }

    /// The inner writer, the digest and the number of bytes written.
    pub fn finish(self) -> (W, Digest, u64) {
        let bytes = self.hasher.bytes();
        (self.inner, self.hasher.finish(), bytes)
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What was promised about some bytes, and what they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} ({expected_size} bytes), got {actual} ({actual_size} bytes)")]
pub struct Mismatch {
    pub expected: Digest,
    pub expected_size: u64,
    pub actual: Digest,
    pub actual_size: u64,
}

/// The digest and the length of everything `reader` yields.
pub fn hash_reader(mut reader: impl Read) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let bytes = hasher.bytes();
    Ok((hasher.finish(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn text_form_is_canonical() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>().unwrap(), Digest::of(b""));
        for wrong in ["", "sha256:", "sha512:00", &EMPTY[7..], &EMPTY.to_uppercase(), &EMPTY[..70]] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn chain_id_follows_the_specification() {
        let (a, b) = (DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b")));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&[a]), Some(ChainId(a.0)));
        assert_eq!(ChainId::of(&[a, b]), Some(ChainId(Digest::of(format!("{a} {b}")))));
    }

    #[test]
    fn writer_hashes_what_it_passes_on() {
        let mut writer = HashingWriter::new(Vec::new());
        writer.write_all(b"layer").unwrap();
        assert_eq!(writer.finish(), (b"layer".to_vec(), Digest::of(b"layer"), 5));
    }
}
