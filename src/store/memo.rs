//! Small facts derived from content, by a key of the deriver's making: what a wheel's directory says, what a tree
//! hashes to. A memo may vanish at any time; its SHA-256 stands before it, so a torn one is as good as absent.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::SystemTime;

use crate::digest::Digest;

use super::{Store, StoreError, layout};

/// The longest memo read back, in bytes.
const LONGEST: u64 = 64 << 20;

impl Store {
    /// What was remembered under `key`.
    pub fn memo_get(&self, key: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.memo_get_dated(key)?.map(|(memo, _)| memo))
    }

    /// The same with the time at which it was written.
    pub(super) fn memo_get_dated(&self, key: &Digest) -> Result<Option<(Vec<u8>, SystemTime)>, StoreError> {
        let path = self.memo_path(key);
        let read = File::open(&path).and_then(|file| {
            let metadata = file.metadata()?;
            let mut bytes = Vec::with_capacity(metadata.len().min(LONGEST) as usize + 1);
            file.take(LONGEST).read_to_end(&mut bytes)?;
            Ok((bytes, metadata.modified()?))
        });
        let (mut bytes, written) = match read {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::Read { path, source }),
        };
        let Some((checksum, memo)) = bytes.split_first_chunk::<32>() else { return Ok(None) };
        if Digest::of(memo) != Digest::from_bytes(*checksum) {
            return Ok(None);
        }
        bytes.drain(..32);
        Ok(Some((bytes, written)))
    }

    /// A store that cannot be written to remembers nothing new.
    pub fn memo_put(&self, key: &Digest, memo: &[u8]) -> Result<(), StoreError> {
        match self.write_record(&self.memo_path(key), &[Digest::of(memo).as_bytes(), memo], false) {
            Err(error) if error.is_read_only() => Ok(()),
            done => done,
        }
    }

    fn memo_path(&self, key: &Digest) -> PathBuf {
        let hex = key.hex();
        self.root().join(layout::MEMO).join(&hex[..2]).join(hex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::store;

    #[test]
    fn memos_come_back_or_are_absent() {
        let (_home, store) = store();
        let key = Digest::of(b"key");
        assert_eq!(store.memo_get(&key).unwrap(), None);
        for memo in [&b""[..], b"fact", b"newer fact"] {
            store.memo_put(&key, memo).unwrap();
            assert_eq!(store.memo_get(&key).unwrap().as_deref(), Some(memo));
        }
        let good = std::fs::read(store.memo_path(&key)).unwrap();
        for cut in 0..good.len() {
            std::fs::write(store.memo_path(&key), &good[..cut]).unwrap();
            assert_eq!(store.memo_get(&key).unwrap(), None, "cut at {cut}");
        }
    }
}
