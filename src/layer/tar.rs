//! The one canonical form of a layer's tar (POSIX ustar; pax records only where ustar cannot say it).
//!
//! Entries are sorted by their paths' bytes, every parent directory comes once and before its children, owner is 0:0 (but for
//! directories of a foreign base, [`Node::Below`]) without names, time is the epoch, device numbers are left empty, and the archive ends in two zero blocks with no
//! further padding. Of a group of hard-linked paths the first is the file, so that a link never precedes its target.

use std::collections::BTreeMap;

use super::LayerError;
use crate::epoch::Epoch;
use crate::tree::{self, Content, Node, Tree, TreePath};

/// tar's unit: headers are one block, content is padded to whole ones.
pub const BLOCK: u64 = 512;
/// The end of the archive.
pub const END: [u8; 1024] = [0; 1024];
/// The largest value of an 11-digit octal field.
const MAX_OCTAL: u64 = 0o777_7777_7777;
/// The largest value of a 7-digit one.
const MAX_SHORT_OCTAL: u64 = 0o777_7777;
/// Directories that are made because something lies below them, and bytes of their paths: a wheel of torch needs 1,500,
/// and short names may stand for many.
const PARENTS_MAX: usize = 1_000_000;
const PARENT_BYTES_MAX: usize = 128 << 20;
/// Name of the pseudo-entry that holds pax records, as Python's tarfile writes it.
const PAX_NAME: &str = "././@PaxHeader";

/// One entry of the archive, in its place.
#[derive(Debug, Clone)]
pub struct Entry<'a> {
    pub path: TreePath,
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    pub kind: Kind<'a>,
}

#[derive(Debug, Clone)]
pub enum Kind<'a> {
    Dir,
    File(&'a Content),
    Symlink(&'a str),
    Hardlink(TreePath),
}

impl Entry<'_> {
    /// Length of the content behind the header, without padding.
    pub fn size(&self) -> u64 {
        match self.kind {
            Kind::File(content) => content.size(),
            _ => 0,
        }
    }
}

/// Zero bytes that follow `size` bytes of content.
pub const fn padding(size: u64) -> usize {
    ((BLOCK - size % BLOCK) % BLOCK) as usize
}

/// The entries of a tree: parents added (mode 0755), hard links put in order, contradictions refused.
pub fn entries(tree: &Tree) -> Result<Vec<Entry<'_>>, LayerError> {
    entries_within(tree, PARENTS_MAX, PARENT_BYTES_MAX)
}

fn entries_within(tree: &Tree, most: usize, most_bytes: usize) -> Result<Vec<Entry<'_>>, LayerError> {
    let mut parents: Vec<TreePath> = Vec::new();
    let mut bytes = 0;
    for (parent, path) in tree::directories(tree.keys()) {
        match tree.get(&parent) {
            None => {
                bytes += parent.as_str().len();
                if parents.len() == most || bytes > most_bytes {
                    return Err(LayerError::Directories { most, most_bytes });
                }
                parents.push(parent);
            }
            Some(Node::Dir { .. } | Node::Below { .. }) => {}
            Some(_) => return Err(LayerError::NotADirectory { path: parent, below: path.clone() }),
        }
    }
    let links = hard_links(tree)?;
    let mut entries: BTreeMap<TreePath, Entry<'_>> = parents
        .into_iter()
        .map(|path| (path.clone(), Entry { path, mode: 0o755, owner: (0, 0), kind: Kind::Dir }))
        .collect();
    for (path, node) in tree {
        let (mode, kind) = match node {
            Node::Dir { mode } | Node::Below { mode, .. } => (*mode, Kind::Dir),
            Node::Symlink { target } => {
                if target.is_empty() || target.contains('\0') {
                    return Err(LayerError::LinkTarget { path: path.clone() });
                }
                (0o777, Kind::Symlink(target))
            }
            Node::File { .. } | Node::Hardlink { .. } if links.contains_key(path) => {
                let Linked { first, mode, content } = &links[path];
                let kind = if first == path { Kind::File(content) } else { Kind::Hardlink(first.clone()) };
                (*mode, kind)
            }
            Node::File { mode, content } => (*mode, Kind::File(content)),
            Node::Hardlink { target } => {
                return Err(LayerError::HardlinkTarget { path: path.clone(), target: target.clone() });
            }
        };
        if mode & !0o7777 != 0 {
            return Err(LayerError::Mode { path: path.clone(), mode });
        }
        let owner = match node {
            Node::Below { owner, .. } => *owner,
            _ => (0, 0),
        };
        entries.insert(path.clone(), Entry { path: path.clone(), mode, owner, kind });
    }
    Ok(entries.into_values().collect())
}

/// A file that has several names.
struct Linked<'a> {
    first: TreePath,
    mode: u32,
    content: &'a Content,
}

/// Every path that takes part in a hard link.
fn hard_links(tree: &Tree) -> Result<BTreeMap<TreePath, Linked<'_>>, LayerError> {
    let mut groups: BTreeMap<&TreePath, (u32, &Content, Vec<&TreePath>)> = BTreeMap::new();
    for (path, node) in tree {
        let Node::Hardlink { target } = node else { continue };
        match tree.get_key_value(target) {
            Some((target, Node::File { mode, content })) => {
                groups.entry(target).or_insert_with(|| (*mode, content, vec![target])).2.push(path);
            }
            _ => return Err(LayerError::HardlinkTarget { path: path.clone(), target: target.clone() }),
        }
    }
    let mut linked = BTreeMap::new();
    for (mode, content, names) in groups.into_values() {
        let first = names.iter().min().expect("a group holds its target");
        for name in &names {
            linked.insert((*name).clone(), Linked { first: (*first).clone(), mode, content });
        }
    }
    Ok(linked)
}

/// Appends the entry's header, with pax records in front where they are needed.
pub fn header(out: &mut Vec<u8>, entry: &Entry<'_>, epoch: Epoch) {
    let link = match &entry.kind {
        Kind::Symlink(target) => target,
        Kind::Hardlink(target) => target.as_str(),
        _ => "",
    };
    // Directories are written with a slash, as every archiver does.
    let slash = if matches!(entry.kind, Kind::Dir) { "/" } else { "" };
    let path = format!("{}{slash}", entry.path);
    let mut pax = String::new();
    let (prefix, name) = split(&path).unwrap_or_else(|| {
        pax_record(&mut pax, "path", &path);
        (String::new(), cut(&path))
    });
    let linkname = if link.len() <= 100 && link.is_ascii() {
        link.to_owned()
    } else {
        pax_record(&mut pax, "linkpath", link);
        cut(link)
    };
    let mut fits = |key: &str, value: u64, max: u64| {
        if value > max {
            pax_record(&mut pax, key, &value.to_string());
            return 0;
        }
        value
    };
    let size = fits("size", entry.size(), MAX_OCTAL);
    let time = fits("mtime", epoch.0, MAX_OCTAL);
    let (uid, gid) = entry.owner;
    let owner = (fits("uid", uid.into(), MAX_SHORT_OCTAL), fits("gid", gid.into(), MAX_SHORT_OCTAL));
    if !pax.is_empty() {
        raw(out, ("", PAX_NAME), (0o644, (0, 0)), pax.len() as u64, time, b'x', "");
        out.extend_from_slice(pax.as_bytes());
        out.resize(out.len() + padding(pax.len() as u64), 0);
    }
    let kind = match entry.kind {
        Kind::File(_) => b'0',
        Kind::Hardlink(_) => b'1',
        Kind::Symlink(_) => b'2',
        Kind::Dir => b'5',
    };
    raw(out, (&prefix, &name), (entry.mode, owner), size, time, kind, &linkname);
}

fn raw(
    out: &mut Vec<u8>,
    (prefix, name): (&str, &str),
    (mode, (uid, gid)): (u32, (u64, u64)),
    size: u64,
    time: u64,
    kind: u8,
    link: &str,
) {
    let start = out.len();
    out.resize(start + BLOCK as usize, 0);
    let block = &mut out[start..];
    block[..name.len()].copy_from_slice(name.as_bytes());
    octal(&mut block[100..108], u64::from(mode));
    octal(&mut block[108..116], uid);
    octal(&mut block[116..124], gid);
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], time);
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link.as_bytes());
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[345..345 + prefix.len()].copy_from_slice(prefix.as_bytes());
    // The sum counts its own field as spaces.
    let sum: u64 = block.iter().map(|b| u64::from(*b)).sum::<u64>() + 8 * u64::from(b' ');
    octal(&mut block[148..155], sum);
    block[155] = b' ';
}

/// Octal digits with leading zeros and a final NUL.
fn octal(field: &mut [u8], mut value: u64) {
    let digits = field.len() - 1;
    for digit in field[..digits].iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// Prefix and name of a path that ustar can say: ASCII, the name at most 100 bytes, the prefix at most 155.
fn split(path: &str) -> Option<(String, String)> {
    if !path.is_ascii() {
        return None;
    }
    if path.len() <= 100 {
        return Some((String::new(), path.to_owned()));
    }
    // The longest prefix: the last slash that leaves a name, but not the one that ends a directory's.
    let at = path.as_bytes()[..156.min(path.len() - 1)].iter().rposition(|byte| *byte == b'/')?;
    let (prefix, name) = (&path[..at], &path[at + 1..]);
    (name.len() <= 100).then(|| (prefix.to_owned(), name.to_owned()))
}

/// What stands in a field whose real value is in a pax record: the value's first bytes, beyond ASCII as `_`.
fn cut(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c } else { '_' }).take(100).collect()
}

/// `LEN KEY=VALUE\n`, where LEN counts itself.
fn pax_record(out: &mut String, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.push_str(&format!("{len} {key}={value}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of somebody else's keeps its owner, whatever its number.
    #[test]
    fn owners_below_are_kept() {
        for owner in [(1000, 100), (2_097_151, 0), (2_097_152, u32::MAX - 1)] {
            let home = (path("home/ann"), Node::Below { mode: 0o750, owner });
            let tree = Tree::from([
                home,
                (path("home/ann/x"), Node::File { mode: 0o644, content: Content::bytes(*b"") }),
            ]);
            let mut bytes = Vec::new();
            for entry in entries(&tree).unwrap() {
                header(&mut bytes, &entry, Epoch::default());
            }
            bytes.extend_from_slice(&END);
            let mut archive = ::tar::Archive::new(&bytes[..]);
            let found: Vec<_> = archive
                .entries()
                .unwrap()
                .map(|entry| {
                    let header = entry.unwrap().header().clone();
                    (header.mode().unwrap(), header.uid().unwrap() as u32, header.gid().unwrap() as u32)
                })
                .collect();
            assert_eq!(found, [(0o755, 0, 0), (0o750, owner.0, owner.1), (0o644, 0, 0)]);
        }
    }

    fn path(text: &str) -> TreePath {
        TreePath::new(text).unwrap()
    }

    fn bytes(text: &str) -> Node {
        Node::File { mode: 0o644, content: Content::bytes(text.as_bytes()) }
    }

    #[test]
    fn parents_come_once_and_first() {
        let tree = Tree::from([
            (path("a/b/c"), bytes("c")),
            (path("a-b"), bytes("-")),
            (path("a/b"), Node::Dir { mode: 0o700 }),
            (path("z/y/x"), Node::Symlink { target: "../w".into() }),
        ]);
        let shown: Vec<_> =
            entries(&tree).unwrap().iter().map(|entry| format!("{:o} {}", entry.mode, entry.path)).collect();
        assert_eq!(shown, ["755 a", "644 a-b", "700 a/b", "644 a/b/c", "755 z", "755 z/y", "777 z/y/x"]);
    }

    #[test]
    fn a_hard_link_never_precedes_its_file() {
        let tree = Tree::from([
            (path("a"), Node::Hardlink { target: path("m") }),
            (path("m"), Node::File { mode: 0o755, content: Content::bytes(b"perl".as_slice()) }),
            (path("z"), Node::Hardlink { target: path("m") }),
        ]);
        let shown: Vec<_> = entries(&tree)
            .unwrap()
            .iter()
            .map(|entry| match &entry.kind {
                Kind::File(content) => format!("{} {:o} {}", entry.path, entry.mode, content.size()),
                Kind::Hardlink(target) => format!("{} {:o} -> {target}", entry.path, entry.mode),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(shown, ["a 755 4", "m 755 -> a", "z 755 -> a"]);
    }

    #[test]
    fn refusals() {
        for (nodes, message) in [
            (vec![("a", bytes("")), ("a/b", bytes(""))], "a/b lies below a, which is not a directory"),
            (vec![("a", Node::Hardlink { target: path("b") })], "points to b, which is no file of its layer"),
            (
                vec![("a", Node::Hardlink { target: path("b") }), ("b", Node::Dir { mode: 0o755 })],
                "points to b, which is no file of its layer",
            ),
            (vec![("a", Node::Symlink { target: String::new() })], "a has an empty target"),
            (vec![("a", Node::Dir { mode: 0o40755 })], "a has the mode 40755"),
        ] {
            let tree: Tree = nodes.into_iter().map(|(name, node)| (path(name), node)).collect();
            let error = entries(&tree).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    /// What a few names may make is bounded, whoever brings them; directories that the tree has do not count.
    #[test]
    fn directories_are_bounded_in_number_and_length() {
        let mut tree = Tree::from([(path("a/b/c/d"), bytes("")), (path("a/b/e/f"), bytes(""))]);
        assert_eq!(entries_within(&tree, 4, 14).unwrap().len(), 6);
        for (most, most_bytes) in [(3, 14), (4, 13)] {
            let error = entries_within(&tree, most, most_bytes).unwrap_err().to_string();
            assert!(error.contains(&format!("{most} directories")), "{error}");
        }
        tree.insert(path("a/b"), Node::Dir { mode: 0o755 });
        assert_eq!(entries_within(&tree, 3, 11).unwrap().len(), 6);
    }

    #[test]
    fn names_are_split_as_ustar_allows() {
        let part = "d".repeat(50);
        let long = format!("{part}/{part}/{part}/name");
        assert_eq!(split(&long), Some((format!("{part}/{part}/{part}"), "name".to_owned())));
        assert_eq!(split("short/"), Some((String::new(), "short/".to_owned())));
        assert_eq!(split(&"n".repeat(101)), None);
        assert_eq!(split("żółw"), None);
        // 156 bytes of prefix are one too many; the next slash leaves too long a name.
        assert_eq!(split(&format!("{}/{}", "p".repeat(156), "n".repeat(10))), None);
        let directory = format!("{part}/{}/", "e".repeat(60));
        assert_eq!(split(&directory), Some((part, format!("{}/", "e".repeat(60)))));
    }

    #[test]
    fn pax_lengths_count_themselves() {
        for len in [1, 85, 86, 87, 88, 90, 900, 985, 986, 990] {
            let mut record = String::new();
            pax_record(&mut record, "path", &"x".repeat(len));
            assert!(record.starts_with(&format!("{} path=", record.len())), "{len}");
        }
    }
}
