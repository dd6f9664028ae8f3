//! Two wheels, one path: equal files are shared, differing ones are an error unless the spec names the winner.
//!
//! pip and uv let the last writer win, which in a parallel installer is whoever comes last; a reproducible builder
//! cannot. A path stays with exactly one wheel: the first in order among equals, or the preferred one.

use std::collections::BTreeMap;

use super::install::Installed;
use crate::digest::Digest;
use crate::tree::{Content, Node, TreePath};

/// Two wheels that cannot be in one image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Collision {
    #[error("{first} and {second} both bring {path}, with different content")]
    Content { path: TreePath, first: String, second: String },
    #[error("{file} brings {path} as a file, {directory} as a directory")]
    Kind { path: TreePath, file: String, directory: String },
}

/// Why a wheel's file is taken out. One that is shared stays in both wheels' `RECORD`: it is there, with that content.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    Shared,
    Beaten,
}

/// Takes out what another wheel brings too. Wheels are given with their file names, in the image's order; `prefer`
/// holds normalised project names, the most preferred first.
pub fn merge(installed: Vec<(String, Installed)>, prefer: &[String]) -> Result<Vec<Installed>, Collision> {
    let rank = |index: usize| {
        let name = &installed[index].1.name;
        prefer.iter().position(|preferred| preferred == name).unwrap_or(usize::MAX)
    };
    let mut owners: BTreeMap<TreePath, usize> = BTreeMap::new();
    let mut lost: Vec<Vec<(TreePath, Lost)>> = vec![Vec::new(); installed.len()];
    for (index, (wheel, files)) in installed.iter().enumerate() {
        for path in files.tree.keys() {
            let Some(&owner) = owners.get(path) else {
                owners.insert(path.clone(), index);
                continue;
            };
            let (other, before) = &installed[owner];
            if same(path, before, files) {
                lost[index].push((path.clone(), Lost::Shared));
            } else if rank(index) < rank(owner) {
                lost[owner].push((path.clone(), Lost::Beaten));
                owners.insert(path.clone(), index);
            } else if rank(owner) < rank(index) {
                lost[index].push((path.clone(), Lost::Beaten));
            } else {
                return Err(Collision::Content {
                    path: path.clone(),
                    first: other.clone(),
                    second: wheel.clone(),
                });
            }
        }
    }
    for (path, owner) in &owners {
        if let Some((parent, file)) = path.parents().find_map(|parent| {
            let file = *owners.get(&parent)?;
            Some((parent, file))
        }) {
            return Err(Collision::Kind {
                path: parent,
                file: installed[file].0.clone(),
                directory: installed[*owner].0.clone(),
            });
        }
    }
    let merged = installed.into_iter().zip(lost).map(|((_, mut files), lost)| {
        for (path, how) in &lost {
            files.drop_file(path, *how == Lost::Shared);
        }
        if lost.iter().any(|(_, how)| *how == Lost::Beaten) {
            files.write_record();
        }
        files
    });
    Ok(merged.collect())
}

/// Equal mode and equal bytes, as far as archives and `RECORD` say; what they say is proved when layers are measured.
fn same(path: &TreePath, a: &Installed, b: &Installed) -> bool {
    let (Some(Node::File { mode, content }), Some(Node::File { mode: mode_b, content: content_b })) =
        (a.tree.get(path), b.tree.get(path))
    else {
        return false;
    };
    mode == mode_b
        && content.size() == content_b.size()
        && sha256(path, a, content).is_some_and(|digest| Some(digest) == sha256(path, b, content_b))
}

fn sha256(path: &TreePath, files: &Installed, content: &Content) -> Option<Digest> {
    match content {
        Content::Bytes(bytes) => Some(Digest::of(bytes)),
        _ => files.record.get(path).copied(),
    }
}
