//! User files: what `[[copy]]` takes from the project's directory, as a [`Tree`] of the image.
//!
//! An edge, since it reads the disk; yet its result is a function of the files alone, the same on every machine and
//! in every checkout of one commit:
//!
//! - Of a directory the contents go to `to`; a file goes to `to`, or into it when it ends in a slash.
//! - `.gitignore` files count from the spec's directory downwards, whether or not there is a git repository. Those
//!   above it, `.git/info/exclude` and the user's own configuration do not: they differ from machine to machine.
//!   `.mlbuildignore` has the same syntax and is stronger, `exclude` of the `[[copy]]` is the strongest.
//!   What `from` names itself is always taken: it has been asked for by name.
//! - `.git` is never taken, nor is a file that mlbuild has not finished writing ([`crate::scratch`]). Hidden files, ignore
//!   files, spec and lock are files like any other.
//! - Directories without any file are not taken: git does not know them, so that they come and go between checkouts.
//! - Mode is 0755 for what its owner may execute and 0644 for the rest, as in git; owners, times and extended
//!   attributes are not looked at.
//! - A symlink is taken as it is when it stays inside what is copied, and refused otherwise. Sockets, FIFOs and
//!   devices are refused by name.
//!
//! Directories are looked at without following a symlink that takes their place meanwhile, see `place`. Files are
//! opened when their bytes are asked for, see [`file`]; a file that is another by then is an error.

pub mod file;
mod place;
mod rules;
mod walk;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::blob::{RangeReader, ReadAt};
use crate::spec::model::Copy;
use crate::tree::{self, Content, Node, PathError, Tree, TreePath};

/// Why the project's files cannot go into the image. Paths are relative to the spec's directory.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error("cannot {operation} {path:?}")]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("{from:?}, named by `from` of a [[copy]], does not exist")]
    Missing { from: String },
    #[error("{from:?}, named by `from` of a [[copy]], leads out of the project, to {target:?}")]
    LeavesProject { from: String, target: PathBuf },
    #[error("{from:?}, named by `from` of a [[copy]], is part of git's own directory")]
    GitDirectory { from: String },
    #[error("{from:?} holds no file")]
    Empty { from: String },
    #[error("{from:?} holds no file but those that ignore files or `exclude` leave out ({left_out})")]
    AllLeftOut { from: String, left_out: u64 },
    #[error("symlink {path:?} -> {target:?} {rule}")]
    Symlink { path: String, target: String, rule: &'static str },
    #[error("{path:?} is {kind}: only files, directories and symlinks go into an image")]
    Special { path: String, kind: &'static str },
    #[error("name of {0:?} is not UTF-8")]
    NotUtf8(PathBuf),
    #[error("target of symlink {0:?} is not UTF-8")]
    TargetNotUtf8(PathBuf),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error("line {line} of {path:?} is not a pattern: {reason}")]
    IgnoreFile { path: PathBuf, line: usize, reason: String },
    #[error("`exclude` of the [[copy]] from {from:?}: {reason}")]
    Exclude { from: String, reason: String },
    #[error("/{path} comes from {first:?} and from {second:?}, which differ")]
    Collision { path: TreePath, first: String, second: String },
    #[error("/{path} is a file from {file:?} and a directory from {directory:?}")]
    FileAndDirectory { path: TreePath, file: String, directory: String },
}

/// What each of `copies` takes from `root`, the directory of the spec, in their order. A path that two of them write
/// with equal bytes stands in the first one's tree. Files and directories named by `own` are passed over: the lock, and
/// what an earlier build exported into the project.
pub fn collect(root: &Path, copies: &[Copy], own: &[PathBuf]) -> Result<Vec<Tree>, ContextError> {
    let own: Vec<_> = own.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let canonical = root.canonicalize().map_err(|source| io_error("open", root.to_owned(), source))?;
    let mut taken = Taken::default();
    let mut budget = file::Budget::default();
    for copy in copies {
        taken.trees.push(Tree::new());
        walk::walk(&canonical, copy, &own, &mut budget, &mut |path, node, source| {
            taken.add(path, node, source)
        })?;
    }
    taken.check_parents()?;
    Ok(taken.trees)
}

/// Whether `from` of `copy` is there, before anything is done for the image.
pub fn exists(root: &Path, copy: &Copy) -> Result<(), ContextError> {
    let canonical = root.canonicalize().map_err(|source| io_error("open", root.to_owned(), source))?;
    walk::find(&canonical, &copy.from).map(drop)
}

fn io_error(operation: &'static str, path: PathBuf, source: io::Error) -> ContextError {
    ContextError::Io { operation, path, source }
}

/// The trees so far; and for each path, which of them has it and which file of the project stands behind it.
#[derive(Default)]
struct Taken {
    trees: Vec<Tree>,
    sources: BTreeMap<TreePath, (usize, String)>,
}

impl Taken {
    fn add(&mut self, path: TreePath, node: Node, source: String) -> Result<(), ContextError> {
        if let Some((at, first)) = self.sources.get(&path) {
            let other = &self.trees[*at][&path];
            let equal = *first == source
                || equal(other, &node).map_err(|error| io_error("read", PathBuf::from(&source), error))?;
            if !equal {
                return Err(ContextError::Collision { path, first: first.clone(), second: source });
            }
            return Ok(());
        }
        let last = self.trees.len() - 1;
        self.sources.insert(path.clone(), (last, source));
        self.trees[last].insert(path, node);
        Ok(())
    }

    fn check_parents(&self) -> Result<(), ContextError> {
        for (parent, path) in tree::directories(self.sources.keys()) {
            if let Some((_, file)) = self.sources.get(&parent) {
                let (file, directory) = (file.clone(), self.sources[path].1.clone());
                return Err(ContextError::FileAndDirectory { path: parent, file, directory });
            }
        }
        Ok(())
    }
}

fn equal(one: &Node, other: &Node) -> io::Result<bool> {
    match (one, other) {
        (Node::File { mode, content }, Node::File { mode: other_mode, content: other }) => {
            Ok(mode == other_mode && content.size() == other.size() && equal_bytes(content, other)?)
        }
        (Node::Symlink { target }, Node::Symlink { target: other }) => Ok(target == other),
        _ => Ok(false),
    }
}

fn equal_bytes(one: &Content, other: &Content) -> io::Result<bool> {
    let (one, other) = (blob(one), blob(other));
    let (mut one, mut other) = (RangeReader::all(one), RangeReader::all(other));
    let (mut a, mut b) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        // Sizes are equal and a range yields all that the buffer holds, so both advance alike.
        let (read, other_read) = (io::Read::read(&mut one, &mut a)?, io::Read::read(&mut other, &mut b)?);
        if a[..read] != b[..other_read] {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

/// The contents that `walk` makes: bytes at hand, or the whole of a file.
fn blob(content: &Content) -> &dyn ReadAt {
    match content {
        Content::Bytes(bytes) => bytes,
        Content::Slice { from, .. } => from.as_ref(),
        Content::Stored { .. } | Content::Deflated { .. } => &[] as &[u8; 0],
    }
}

#[cfg(test)]
mod tests;
