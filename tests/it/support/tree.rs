//! Directory trees as values, to compare what two installers wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mlbuild::digest::hash_reader;

/// What stands at a path.
#[derive(Clone, PartialEq, Eq)]
pub enum Entry {
    /// Executable by anyone, and the content's digest.
    File(bool, String),
    Link(String),
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(executable, digest) => {
                write!(f, "{}{}", if *executable { "x " } else { "" }, &digest[7..19])
            }
            Self::Link(target) => write!(f, "-> {target}"),
        }
    }
}

/// All files and links below `root` that `keep` admits, by relative path.
pub fn read(root: &Path, keep: &dyn Fn(&str) -> bool) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    walk(root, "", keep, &mut entries);
    entries
}

fn walk(at: &Path, prefix: &str, keep: &dyn Fn(&str) -> bool, into: &mut BTreeMap<String, Entry>) {
    let directory = fs::read_dir(at).unwrap_or_else(|error| panic!("{}: {error}", at.display()));
    for entry in directory {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().expect("names are UTF-8"));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            walk(&entry.path(), &format!("{name}/"), keep, into);
        } else if !keep(&name) {
        } else if kind.is_symlink() {
            into.insert(name, Entry::Link(fs::read_link(entry.path()).unwrap().to_str().unwrap().to_owned()));
        } else {
            let executable = entry.metadata().unwrap().permissions().mode() & 0o111 != 0;
            let digest = hash_reader(fs::File::open(entry.path()).unwrap()).unwrap().0.to_string();
            into.insert(name, Entry::File(executable, digest));
        }
    }
}

/// The differences, one a line; empty when there are none.
pub fn differences(ours: &BTreeMap<String, Entry>, theirs: &BTreeMap<String, Entry>) -> Vec<String> {
    let mut lines = Vec::new();
    for name in ours.keys().chain(theirs.keys().filter(|name| !ours.contains_key(*name))) {
        match (ours.get(name), theirs.get(name)) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => lines.push(format!("{name}: ours {a:?}, theirs {b:?}")),
        }
    }
    lines
}
