//! Two wheels, one path: equal files are shared, differing ones are an error unless the spec names the winner.
//!
//! pip and uv let the last writer win, which in a parallel installer is whoever comes last; a reproducible builder
//! cannot. So differing content is an error that names both, or stays with the preferred wheel alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::install::Installed;
use crate::digest::Digest;
use crate::tree::{self, Content, Node, TreePath};

/// Two wheels that cannot be in one image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Collision {
    #[error("{first} and {second} both bring {path}, with different content")]
    Content { path: TreePath, first: String, second: String },
    #[error("{file} brings {path} as a file, {directory} as a directory")]
    Kind { path: TreePath, file: String, directory: String },
}

/// Takes out what a preferred wheel brings too, with other content. Wheels are given with their file names, in the
/// image's order; `prefer` holds normalised project names, the most preferred first.
///
/// Equal files stay in every wheel that brings them, so that a wheel's layer does not depend on its neighbours; whoever
/// joins several wheels into one layer keeps one of them.
pub fn merge(
    installed: Vec<(String, Arc<Installed>)>,
    prefer: &[String],
) -> Result<Vec<Arc<Installed>>, Collision> {
    let rank = |index: usize| {
        let name = &installed[index].1.name;
        prefer.iter().position(|preferred| preferred == name).unwrap_or(usize::MAX)
    };
    let mut owners: BTreeMap<&TreePath, Vec<usize>> = BTreeMap::new();
    for (index, (_, files)) in installed.iter().enumerate() {
        for path in files.tree.keys() {
            owners.entry(path).or_default().push(index);
        }
    }
    let mut lost: Vec<Vec<TreePath>> = vec![Vec::new(); installed.len()];
    for (path, owners) in &mut owners {
        let winner = owners.iter().copied().min_by_key(|index| rank(*index)).expect("a path has an owner");
        for loser in owners.iter().copied().filter(|index| *index != winner) {
            if same(path, &installed[winner].1, &installed[loser].1) {
                continue;
            }
            if rank(winner) == rank(loser) {
                let (first, second) = (winner.min(loser), winner.max(loser));
                return Err(Collision::Content {
                    path: (*path).clone(),
                    first: installed[first].0.clone(),
                    second: installed[second].0.clone(),
                });
            }
            lost[loser].push((*path).clone());
        }
        owners.clear();
        owners.push(winner);
    }
    for (parent, path) in tree::directories(owners.keys().copied()) {
        if let Some(file) = owners.get(&parent) {
            return Err(Collision::Kind {
                path: parent,
                file: installed[file[0]].0.clone(),
                directory: installed[owners[path][0]].0.clone(),
            });
        }
    }
    drop(owners);
    let merged = installed.into_iter().zip(lost).map(|((_, mut files), lost)| {
        if !lost.is_empty() {
            let files = Arc::make_mut(&mut files);
            lost.iter().for_each(|path| files.drop_file(path));
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

#[cfg(test)]
mod tests {
    use super::super::testing::{file, wheel_files, zip};
    use super::super::{Scheme, Waivers, install, open};
    use super::*;
    use crate::spec::model::Prune;

    fn wheel(name: &str, files: &[(&str, &str)]) -> (String, Arc<Installed>) {
        let files: Vec<_> = files.iter().map(|(path, text)| file(path, text)).collect();
        let archive = zip(&wheel_files(name, "1", &files));
        let file_name = format!("{name}-1-py3-none-any.whl");
        let opened = open(&file_name, Digest::of(&archive), &archive, Waivers::default()).unwrap();
        let scheme = Scheme {
            site_packages: TreePath::new("site").unwrap(),
            scripts: TreePath::new("bin").unwrap(),
            prefix: TreePath::new("prefix").unwrap(),
            executable: "/bin/python3".to_owned(),
            python: (3, 11),
        };
        (file_name, Arc::new(install(&opened, &archive, &scheme, Prune::default()).unwrap()))
    }

    fn has(files: &Installed, path: &str) -> bool {
        files.tree.contains_key(&TreePath::new(path).unwrap())
    }

    #[test]
    fn equal_files_are_shared_and_differing_ones_named() {
        let a = || wheel("a", &[("nvidia/__init__.py", ""), ("cv2/x.py", "one")]);
        let b = || wheel("b", &[("nvidia/__init__.py", ""), ("b.py", "b")]);
        let c = || wheel("c", &[("cv2/x.py", "two")]);
        let both = merge(vec![a(), b()], &[]).unwrap();
        assert!(both.iter().all(|files| has(files, "site/nvidia/__init__.py") && files.dropped.is_empty()));
        let error = merge(vec![a(), b(), c()], &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a-1-py3-none-any.whl and c-1-py3-none-any.whl both bring site/cv2/x.py, with different content"
        );
        for (order, loser) in [(vec![a(), c()], 0), (vec![c(), a()], 1)] {
            let merged = merge(order, &["c".to_owned()]).unwrap();
            assert!(!has(&merged[loser], "site/cv2/x.py") && has(&merged[1 - loser], "site/cv2/x.py"));
            assert_eq!(merged[loser].dropped, [TreePath::new("site/cv2/x.py").unwrap()]);
            let record = TreePath::new("site/a-1.dist-info/RECORD").unwrap();
            let Node::File { content: Content::Bytes(text), .. } = &merged[loser].tree[&record] else {
                panic!()
            };
            assert!(!String::from_utf8_lossy(text).contains("cv2"), "the row of the dropped file is gone");
        }
        // Two equal losers both lose.
        let d = wheel("d", &[("cv2/x.py", "one")]);
        let merged = merge(vec![a(), d, c()], &["c".to_owned()]).unwrap();
        assert_eq!(merged.iter().filter(|files| has(files, "site/cv2/x.py")).count(), 1);
    }

    #[test]
    fn a_file_is_no_directory() {
        let (a, b) = (wheel("a", &[("x", "file")]), wheel("b", &[("x/y", "below")]));
        assert_eq!(
            merge(vec![b, a], &["a".to_owned()]).unwrap_err().to_string(),
            "a-1-py3-none-any.whl brings site/x as a file, b-1-py3-none-any.whl as a directory"
        );
    }
}
