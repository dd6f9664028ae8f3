//! Names of layers before they exist: the digest of everything that decides a layer's bytes.

use std::fmt::Display;

use super::FORMAT;
use crate::digest::{Digest, Hasher};

/// The digest of a canonical text: one line for the format and the kind, then `name length:value` for each field, in
/// the order given. Equal keys mean equal layers.
#[derive(Clone)]
pub struct KeyBuilder {
    hasher: Hasher,
}

impl KeyBuilder {
    /// `kind` tells apart layers that have the same fields.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(format!("mlbuild layer {FORMAT}\nkind {}:{kind}\n", kind.len()).as_bytes());
        Self { hasher }
    }

    /// Adds a field. Lengths keep values with line breaks apart.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl Display) -> Self {
        let value = value.to_string();
        self.hasher.update(format!("{name} {}:{value}\n", value.len()).as_bytes());
        self
    }

    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_digest_of_a_text() {
        let key = KeyBuilder::new("wheels").field("epoch", 0).field("file", "a\nb").finish();
        assert_eq!(key, Digest::of("mlbuild layer g1\nkind 6:wheels\nepoch 1:0\nfile 3:a\nb\n"));
    }
}
