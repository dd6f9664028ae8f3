//! What one layer says of its paths, as far as anybody will ask.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::elf::ElfFacts;

/// Paths are relative to the root, `usr/bin`; of a path that is there twice the last word counts. Names that are not UTF-8 are
/// left out: nothing of ours ever goes there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listing {
    pub entries: BTreeMap<String, Entry>,
    /// Paths of the layers below that are not to be seen any more.
    pub whiteouts: BTreeSet<String>,
    /// Directories of which nothing below is to be seen; the root is empty.
    pub opaque: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    Directory { mode: u32, owner: (u32, u32) },
    File { executable: bool, facts: Option<Box<FileFacts>> },
    Symlink { target: String },
    Other,
}

/// What is known of a file's content.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileFacts {
    pub elf: Option<ElfFacts>,
    /// It is glibc's C library, of this version.
    pub glibc: Option<(u16, u16)>,
    /// Of a file that is called `python3.11` or `libpython3.11…`: the versions of that kind that it names.
    pub python: Vec<String>,
    /// Of Python's `sysconfig`: Debian's own install scheme is in it.
    pub posix_local: bool,
    /// Directories that a file of the linker's configuration names.
    pub library_directories: Vec<String>,
}

impl FileFacts {
    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// About the bytes that it takes to hold.
    pub fn weight(&self) -> usize {
        let of_elf = self
            .elf
            .iter()
            .flat_map(|elf| elf.needed.iter().chain(&elf.runpath).chain(&elf.soname).chain(&elf.interp));
        let texts = of_elf.chain(&self.python).chain(&self.library_directories);
        size_of::<Self>() + texts.map(|text| size_of::<String>() + text.len()).sum::<usize>()
    }
}

impl Listing {
    /// Notes an entry under its path.
    pub fn add(&mut self, path: String, entry: Entry) {
        self.entries.insert(path, entry);
    }

    /// What a hard link to `target` is from now on: what that was when the link was made.
    pub fn hard_link(&self, target: &str) -> Entry {
        self.entries.get(target).cloned().unwrap_or(Entry::Other)
    }
}

impl Entry {
    /// About the bytes that it takes to hold, beside its path.
    pub fn weight(&self) -> usize {
        match self {
            Self::File { facts: Some(facts), .. } => facts.weight(),
            Self::Symlink { target } => target.len(),
            Self::File { facts: None, .. } | Self::Directory { .. } | Self::Other => 0,
        }
    }
}
