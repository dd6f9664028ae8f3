//! What the layers below say about paths that the user's files go to: a link such as `/bin -> usr/bin` must not become
//! a directory, and `/tmp` must keep its mode.

use std::collections::{BTreeMap, BTreeSet};

use super::EngineError;
use super::form::LayerExtra;
use crate::tree::{Node, Tree, TreePath};

/// Links followed before a path counts as one that leads in circles.
const MOST_LINKS: usize = 16;

/// Links and directories of the layers below, as far as they are not what a path would make by itself.
#[derive(Default)]
pub(super) struct Lower {
    links: BTreeMap<String, String>,
    /// Directories whose mode is not 0755.
    modes: BTreeMap<TreePath, u32>,
    /// Where user files went so far.
    taken: BTreeSet<TreePath>,
}

impl Lower {
    pub(super) fn add(&mut self, extra: &LayerExtra) {
        self.links.extend(extra.links.iter().cloned());
        let path = |(path, mode): &(String, u32)| Some((TreePath::new(path).ok()?, *mode));
        self.modes.extend(extra.directories.iter().filter_map(path));
    }

    /// `tree` with every path where it really goes, and the directories above it as they are below.
    pub(super) fn settle(&mut self, tree: Tree) -> Result<Tree, EngineError> {
        let mut settled = Tree::new();
        for (path, node) in tree {
            let place = self.place(&path)?;
            for parent in place.parents() {
                if let Some(&mode) = self.modes.get(&parent) {
                    settled.entry(parent).or_insert(Node::Dir { mode });
                }
            }
            let node = match (node, self.modes.get(&place)) {
                (Node::Dir { .. }, Some(&mode)) => Node::Dir { mode },
                (node, _) => node,
            };
            if !self.taken.insert(place.clone()) {
                return Err(EngineError::Usage(format!(
                    "two files of [[copy]] go to /{place}, one of them as /{path} through a link of the base"
                )));
            }
            settled.insert(place, node);
        }
        Ok(settled)
    }

    /// `path` with every link above it followed.
    fn place(&self, path: &TreePath) -> Result<TreePath, EngineError> {
        let mut path = path.clone();
        for _ in 0..MOST_LINKS {
            let Some((link, target)) =
                path.parents().find_map(|parent| self.links.get_key_value(parent.as_str()))
            else {
                return Ok(path);
            };
            let rest = &path.as_str()[link.len()..];
            let above = link.rsplit_once('/').map_or("", |(above, _)| above);
            let whole = match target.strip_prefix('/') {
                Some(absolute) => absolute.to_owned(),
                None => format!("{above}/{target}"),
            };
            let mut parts = Vec::new();
            for part in whole.split('/').filter(|part| !part.is_empty() && *part != ".") {
                if part == ".." {
                    parts.pop();
                } else {
                    parts.push(part);
                }
            }
            path = TreePath::new(format!("{}{rest}", parts.join("/")).trim_start_matches('/'))
                .map_err(|error| EngineError::Usage(error.to_string()))?;
        }
        Err(EngineError::Usage(format!("/{path} goes in circles through links of the base")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Content;

    fn lower() -> Lower {
        let pair = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
        let mut lower = Lower::default();
        lower.add(&LayerExtra {
            links: [
                ("bin", "usr/bin"),
                ("var/run", "/run"),
                ("var/spool/mail", "../mail"),
                ("a", "b"),
                ("b", "a"),
            ]
            .map(pair)
            .into(),
            directories: vec![
                ("tmp".into(), 0o1777),
                ("home/nonroot".into(), 0o1777),
                ("root".into(), 0o700),
            ],
            ..LayerExtra::default()
        });
        lower
    }

    fn settled(path: &str, node: Node) -> Vec<(String, Option<u32>)> {
        let tree = Tree::from([(TreePath::new(path).unwrap(), node)]);
        let mode = |node: &Node| match node {
            Node::Dir { mode } => Some(*mode),
            _ => None,
        };
        let tree = lower().settle(tree).unwrap();
        tree.iter().map(|(path, node)| (path.to_string(), mode(node))).collect()
    }

    #[test]
    fn files_go_through_links_and_keep_modes() {
        let file = || Node::File { mode: 0o644, content: Content::bytes(*b"x") };
        for (path, expected) in [
            ("app/x", vec![("app/x", None)]),
            ("bin/x", vec![("usr/bin/x", None)]),
            ("var/run/x/y", vec![("run/x/y", None)]),
            ("var/spool/mail/x", vec![("var/mail/x", None)]),
            ("tmp/x", vec![("tmp", Some(0o1777)), ("tmp/x", None)]),
            ("home/nonroot/a/x", vec![("home/nonroot", Some(0o1777)), ("home/nonroot/a/x", None)]),
            ("bin", vec![("bin", None)]),
        ] {
            let expected: Vec<_> = expected.into_iter().map(|(path, mode)| (path.to_owned(), mode)).collect();
            assert_eq!(settled(path, file()), expected);
        }
        let home = settled("home/nonroot", Node::Dir { mode: 0o755 });
        assert_eq!(home, [("home/nonroot".to_owned(), Some(0o1777))]);
    }

    #[test]
    fn circles_and_meetings_are_refused() {
        let tree =
            |path: &str| Tree::from([(TreePath::new(path).unwrap(), Node::Symlink { target: "x".into() })]);
        assert!(lower().settle(tree("a/x")).is_err());
        let mut lower = lower();
        lower.settle(tree("bin/x")).unwrap();
        assert!(lower.settle(tree("usr/bin/x")).is_err());
    }
}
