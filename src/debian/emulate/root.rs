//! A tree being made, on top of one that is done: look-ups see both, additions go to the upper one.

use std::io;
use std::sync::Arc;

use super::EmulateError;
use crate::blob::{ReadAt, Slice};
use crate::tree::{Content, Node, Tree, TreePath};

/// Text files that emulations read have some kilobytes.
const FILE_MAX: u64 = 16 << 20;
/// As the kernel's.
const LINKS_MAX: usize = 40;

pub struct Root<'a> {
    pub tree: Tree,
    pub below: Option<&'a Tree>,
}

impl Root<'_> {
    pub fn get(&self, path: &str) -> Option<&Node> {
        let path = TreePath::new(path).ok()?;
        self.tree.get(&path).or_else(|| self.below?.get(&path))
    }

    /// Paths of both trees below `directory` (which ends in a slash), sorted.
    pub fn below(&self, directory: &str) -> Vec<TreePath> {
        let stem = directory.trim_end_matches('/');
        let Ok(from) = TreePath::new(stem) else { return Vec::new() };
        let trees = std::iter::once(&self.tree).chain(self.below);
        let mut paths: Vec<TreePath> = trees
            // Names like `directory-x` sort between the directory and what is in it, hence the stem.
            .flat_map(|tree| {
                tree.range(from.clone()..).take_while(|(path, _)| path.as_str().starts_with(stem))
            })
            .filter(|(path, _)| path.as_str()[stem.len()..].starts_with('/'))
            .map(|(path, _)| path.clone())
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// The file, and its path, that `path` leads to through links of the tree.
    pub fn file(&self, path: &str) -> Option<(TreePath, &Content)> {
        let mut left: Vec<String> = parts(path);
        let mut at: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            match part.as_str() {
                "." => continue,
                ".." => {
                    at.pop();
                    continue;
                }
                _ => at.push(part),
            }
            let here = TreePath::new(&at.join("/")).ok()?;
            let node = self.tree.get(&here).or_else(|| self.below.and_then(|below| below.get(&here)));
            match node {
                Some(Node::Symlink { target }) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return None;
                    }
                    at.pop();
                    if target.starts_with('/') {
                        at.clear();
                    }
                    left.extend(parts(target));
                }
                Some(Node::File { content, .. }) => return left.is_empty().then_some((here, content)),
                Some(Node::Hardlink { target }) if left.is_empty() => {
                    let target = target.clone();
                    let node =
                        self.tree.get(&target).or_else(|| self.below.and_then(|below| below.get(&target)));
                    return match node {
                        Some(Node::File { content, .. }) => Some((here, content)),
                        _ => None,
                    };
                }
                Some(Node::Hardlink { .. }) => return None,
                // Directories need not be in the tree.
                Some(Node::Dir { .. } | Node::Below { .. }) | None => {}
            }
        }
        None
    }

    /// The bytes of the file at `path`, if there is one.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, EmulateError> {
        let Some((_, content)) = self.file(path) else { return Ok(None) };
        if content.size() > FILE_MAX {
            return Err(EmulateError::Large { path: path.to_owned() });
        }
        let bytes = view(content).and_then(|view| view.read_vec_at(0, content.size() as usize));
        bytes.map(Some).map_err(|source| EmulateError::Read { path: path.to_owned(), source })
    }

    /// Adds a node unless something stands there already.
    pub fn add(&mut self, path: &str, node: Node) -> Result<(), EmulateError> {
        let path = TreePath::new(path)?;
        if self.below.is_none_or(|below| !below.contains_key(&path)) {
            self.tree.entry(path).or_insert(node);
        }
        Ok(())
    }

    pub fn add_file(&mut self, path: &str, bytes: impl Into<Arc<[u8]>>) -> Result<(), EmulateError> {
        self.add(path, Node::File { mode: 0o644, content: Content::bytes(bytes) })
    }

    pub fn add_link(&mut self, path: &str, target: &str) -> Result<(), EmulateError> {
        self.add(path, Node::Symlink { target: target.to_owned() })
    }

    pub fn add_directory(&mut self, path: &str, mode: u32) -> Result<(), EmulateError> {
        self.add(path, Node::Dir { mode })
    }
}

/// Parts of a path, the last first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// The bytes of a content that is at hand; packed content of wheels never is in a Debian tree.
pub fn view(content: &Content) -> io::Result<Arc<dyn ReadAt>> {
    match content {
        Content::Bytes(bytes) => Ok(Arc::new(Arc::clone(bytes))),
        Content::Slice { from, offset, size } => {
            Ok(Arc::new(Slice { from: Arc::clone(from), offset: *offset, size: *size }))
        }
        Content::Stored { .. } | Content::Deflated { .. } => {
            Err(io::Error::new(io::ErrorKind::Unsupported, "content of a blob"))
        }
    }
}

/// Whether two contents hold the same bytes.
pub fn contents_equal(a: &Content, b: &Content) -> io::Result<bool> {
    if a.size() != b.size() {
        return Ok(false);
    }
    let (size, a, b) = (a.size(), view(a)?, view(b)?);
    let mut at = 0;
    while at < size {
        let len = (size - at).min(64 << 10) as usize;
        if a.read_vec_at(at, len)? != b.read_vec_at(at, len)? {
            return Ok(false);
        }
        at += len as u64;
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn root(files: &[(&str, &str)]) -> Root<'static> {
        let mut root = Root { tree: Tree::new(), below: None };
        for (path, content) in files {
            match content.strip_prefix("-> ") {
                Some(target) => root.add_link(path, target).unwrap(),
                None => root.add_file(path, content.as_bytes()).unwrap(),
            }
        }
        root
    }

    #[test]
    fn links_are_followed_within_the_root() {
        let root = root(&[
            ("usr/lib/x/liba.so.1.2", "elf"),
            ("usr/lib/x/liba.so", "-> ../../../../../lib/x/liba.so.1"),
            ("usr/lib/x/liba.so.1", "-> liba.so.1.2"),
            ("lib", "-> usr/lib"),
            ("loop", "-> /loop"),
        ]);
        for (path, wanted) in [
            ("usr/lib/x/liba.so", Some("usr/lib/x/liba.so.1.2")),
            ("lib/x/liba.so", Some("usr/lib/x/liba.so.1.2")),
            ("loop", None),
            ("usr/lib/x", None),
            ("usr/lib/x/liba.so.1.2/more", None),
        ] {
            let found = root.file(path).map(|(path, _)| path.to_string());
            assert_eq!(found.as_deref(), wanted, "{path}");
        }
    }

    #[test]
    fn what_is_there_stays() {
        let below = root(&[("etc/motd", "theirs")]).tree;
        let mut root = Root { tree: Tree::new(), below: Some(&below) };
        root.add_file("etc/motd", *b"ours").unwrap();
        root.add_file("etc/new", *b"ours").unwrap();
        assert_eq!(root.read("etc/motd").unwrap().unwrap(), b"theirs");
        assert_eq!(root.below("etc/").len(), 2);
        assert_eq!(root.tree.len(), 1);
    }
}
