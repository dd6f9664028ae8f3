//! Exact .debs to the trees of a base layer and a Python layer.
//!
//! Each package is unpacked ([`super::deb`]), all files are laid over each other, and [`super::emulate`] adds what
//! installing would have. Input order, threads and the machine do not matter: the result is a function of the
//! packages. Rules:
//! - two packages may share a directory, a link of equal text and a file of equal bytes; else the one that says
//!   `Replaces` of the other wins, and without that the composition is refused, naming both;
//! - a path below something that is not a directory (a link of another package) is refused: it would escape;
//! - the base tree does not depend on the packages of the Python layer, so images with and without share it.
//!   What depends on all libraries, `/etc/ld.so.cache`, stands in both, if it differs.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::deb::{Deb, DebError};
use super::emulate::{self, EmulateError, Package, Root, contents_equal};
use super::relation;
use super::spool::Budget;
use crate::blob::BlobSource;
use crate::lock::model::{DebLayer, DebLock};
use crate::oci::Platform;
use crate::spec::model::Suite;
use crate::tree::{self, Node, Tree, TreePath};

/// The layers' trees.
#[derive(Debug)]
pub struct Composition {
    /// A function of the debs of `DebLayer::Base` alone.
    pub base: Tree,
    /// What the debs of `DebLayer::Python` add.
    pub python: Tree,
    /// What a person may want to know of the base.
    pub base_notes: Vec<String>,
    /// What a person may want to know of what Python adds.
    pub python_notes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    #[error("cannot open package {name}")]
    Open { name: String, source: std::io::Error },
    #[error("package {name}")]
    Deb { name: String, source: DebError },
    #[error("package {0} is there twice")]
    Twice(String),
    #[error("package {name} is for {found}, not for {wanted}")]
    Platform { name: String, found: String, wanted: Platform },
    #[error("packages {first} and {second} both bring `{path}`, and neither replaces the other")]
    Clash { path: TreePath, first: String, second: String },
    #[error("package {name} brings `{path}`, but `{parent}` is not a directory")]
    Parent { name: String, path: TreePath, parent: TreePath },
    #[error("comparing `{path}` of packages {first} and {second}")]
    Compare { path: TreePath, first: String, second: String, source: std::io::Error },
    #[error("effects of installing")]
    Emulate(#[from] EmulateError),
}

/// The trees that `debs`, which are found in `blobs`, make for `platform`. What is too much for memory goes to files
/// without a name in `spill`.
pub fn compose(
    debs: &[&DebLock],
    blobs: &dyn BlobSource,
    suite: Suite,
    platform: Platform,
    spill: &Path,
) -> Result<Composition, ComposeError> {
    let budget = Budget::new(spill);
    let mut unpacked: Vec<(&DebLock, Deb)> = debs
        .par_iter()
        .map(|&lock| Ok((lock, unpack(lock, blobs, platform, &budget)?)))
        .collect::<Result<_, ComposeError>>()?;
    unpacked.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    if let Some(pair) = unpacked.windows(2).find(|pair| pair[0].0.name == pair[1].0.name) {
        return Err(ComposeError::Twice(pair[0].0.name.clone()));
    }
    let (base, python): (Vec<_>, Vec<_>) =
        unpacked.iter().map(|(lock, deb)| (*lock, deb)).partition(|(lock, _)| lock.layer == DebLayer::Base);
    let (mut base_notes, mut python_notes) = (Vec::new(), Vec::new());
    let mut owners = Owners::new();
    let mut root = Root { tree: merge(&base, &mut owners)?, below: None };
    if !base.is_empty() {
        emulate::base(&mut root, &list(&base), platform, &mut base_notes)?;
    }
    let base_tree = root.tree;

    let mut root = Root { tree: merge(&python, &mut owners)?, below: Some(&base_tree) };
    if !python.is_empty() {
        emulate::python(&mut root, &list(&python), suite, platform, &mut python_notes)?;
    }
    let mut python_tree = root.tree;
    // The encoder adds parents; those that the base has need no second entry.
    python_tree.retain(|path, node| !matches!((node, base_tree.get(path)), (Node::Dir { .. }, Some(_))));
    Ok(Composition { base: base_tree, python: python_tree, base_notes, python_notes })
}

/// Which package brings a path, and as what.
type Owners<'a> = BTreeMap<TreePath, (&'a str, &'a Deb)>;

fn unpack(
    lock: &DebLock,
    blobs: &dyn BlobSource,
    platform: Platform,
    budget: &Budget,
) -> Result<Deb, ComposeError> {
    if lock.platform != platform || ![platform.architecture(), "all"].contains(&lock.architecture.as_str()) {
        let (name, found) = (lock.name.clone(), lock.architecture.clone());
        return Err(ComposeError::Platform { name, found, wanted: platform });
    }
    let wanted = [
        ("Package", lock.name.as_str()),
        ("Version", lock.version.as_str()),
        ("Architecture", lock.architecture.as_str()),
    ];
    // Closed when it is unpacked: there may be more packages than files that may be open.
    let file =
        blobs.open(&lock.sha256).map_err(|source| ComposeError::Open { name: lock.name.clone(), source })?;
    Deb::read(&*file, budget)
        .and_then(|deb| deb.check_identity(wanted).map(|()| deb))
        .map_err(|source| ComposeError::Deb { name: lock.name.clone(), source })
}

fn list<'a>(debs: &[(&'a DebLock, &'a Deb)]) -> Vec<Package<'a>> {
    debs.iter().map(|(lock, deb)| Package { name: &lock.name, deb }).collect()
}

/// The files of `debs` in one tree, checked against those of `owners`, to which they are added.
fn merge<'a>(debs: &[(&'a DebLock, &'a Deb)], owners: &mut Owners<'a>) -> Result<Tree, ComposeError> {
    let mut tree = Tree::new();
    for &(lock, deb) in debs {
        for (path, node) in &deb.files {
            let name = lock.name.as_str();
            let Some(&(first, other)) = owners.get(path) else {
                owners.insert(path.clone(), (name, deb));
                tree.insert(path.clone(), node.clone());
                continue;
            };
            let there = &other.files[path];
            if let (Node::Dir { mode: a }, Node::Dir { mode: b }) = (there, node) {
                // One that differs from 0755 says so in one package only (`/tmp` of base-files).
                tree.insert(path.clone(), Node::Dir { mode: *a.max(b) });
            } else if replaces(deb, other, first) {
                owners.insert(path.clone(), (name, deb));
                tree.insert(path.clone(), node.clone());
            } else if !replaces(other, deb, name)
                && !equal(there, other, node, deb).map_err(|source| {
                    let (first, second) = (first.to_owned(), name.to_owned());
                    ComposeError::Compare { path: path.clone(), first, second, source }
                })?
            {
                let (first, second) = (first.to_owned(), name.to_owned());
                return Err(ComposeError::Clash { path: path.clone(), first, second });
            }
        }
    }
    for (parent, path) in tree::directories(tree.keys()) {
        if let Some((_, deb)) = owners.get(&parent)
            && !matches!(deb.files[&parent], Node::Dir { .. })
        {
            let name = owners.get(path).map_or("?", |(name, _)| name).to_owned();
            return Err(ComposeError::Parent { name, path: path.clone(), parent });
        }
    }
    Ok(tree)
}

/// Whether `deb` says that its files take the place of those of `other`, which is called `name`.
fn replaces(deb: &Deb, other: &Deb, name: &str) -> bool {
    let version = other.control.get("Version").unwrap_or_default();
    let field = deb.control.get("Replaces").unwrap_or_default();
    relation::parse(field).unwrap_or_default().iter().flatten().any(|relation| {
        relation.name == name
            && relation.version.is_none_or(|(operator, wanted)| operator.admits(version, wanted))
    })
}

fn equal(a: &Node, of_a: &Deb, b: &Node, of_b: &Deb) -> std::io::Result<bool> {
    let content = |node: &Node, deb: &Deb| match node {
        Node::File { mode, content } => Some((*mode, content.clone())),
        Node::Hardlink { target } => match deb.files.get(target) {
            Some(Node::File { mode, content }) => Some((*mode, content.clone())),
            _ => None,
        },
        _ => None,
    };
    match (a, b) {
        (Node::Symlink { target: a }, Node::Symlink { target: b }) => Ok(a == b),
        _ => match (content(a, of_a), content(b, of_b)) {
            (Some((mode_a, a)), Some((mode_b, b))) => Ok(mode_a == mode_b && contents_equal(&a, &b)?),
            _ => Ok(false),
        },
    }
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
