//! What the layers below say about paths that the user's files go to: a link such as `/bin -> usr/bin` must not become
//! a directory, and `/tmp` must keep its mode.
//!
//! These are few facts of a layer ([`passages`], and directories with another mode than 0755), since a seal of the lock
//! has them too ([`crate::lock::seal`]): where files go must not depend on who says what is below.

use std::collections::{BTreeMap, BTreeSet};

use super::EngineError;
use super::form::LayerExtra;
use crate::lock::model::{BaseDirectory, BasePaths};
use crate::tree::{Node, Step, Tree, TreePath, follow};

/// Links and directories of the layers below, as far as they are not what a path would make by itself.
#[derive(Clone, Default, PartialEq)]
pub(super) struct Lower {
    links: BTreeMap<String, String>,
    /// Directories whose mode is not 0755, or whose owner is not root, as they are to be named again.
    directories: BTreeMap<TreePath, BaseDirectory>,
    /// Where user files went so far.
    taken: BTreeSet<TreePath>,
}

impl Lower {
    pub(super) fn add(&mut self, extra: &LayerExtra) {
        self.links.extend(extra.passages.iter().cloned());
        let directory = |(path, mode): &(String, u32)| {
            let directory = BaseDirectory { path: path.clone(), mode: *mode, owner: (0, 0) };
            Some((TreePath::new(path).ok()?, directory))
        };
        self.directories.extend(extra.directories.iter().filter_map(directory));
    }

    /// A base that somebody else has made.
    pub(super) fn add_base(&mut self, paths: &BasePaths) {
        self.links.extend(paths.links.iter().cloned());
        let directory =
            |directory: &BaseDirectory| Some((TreePath::new(&directory.path).ok()?, directory.clone()));
        self.directories.extend(paths.directories.iter().filter_map(directory));
    }

    /// `tree` with every path where it really goes, and the directories above it as they are below.
    pub(super) fn settle(&mut self, tree: Tree) -> Result<Tree, EngineError> {
        let mut settled = Tree::new();
        for (path, node) in tree {
            // A directory may well be there through a link, which stays; a file or a link takes the place of one.
            let place = match node {
                Node::Dir { .. } => end(&self.links, &path)?,
                _ => Some(place(&self.links, &path)?),
            };
            let Some(place) = place else { continue };
            for parent in place.parents() {
                if let Some(directory) = self.directories.get(&parent) {
                    settled.entry(parent).or_insert_with(|| directory.node());
                }
            }
            let node = match (node, self.directories.get(&place)) {
                (Node::Dir { .. }, Some(directory)) => directory.node(),
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
}

/// The symbolic links of a layer that a path may go through, with their targets: all but those that lead to a file of
/// the layer, below which nothing can lie.
pub(super) fn passages(tree: &Tree) -> Vec<(String, String)> {
    let links: BTreeMap<String, String> = tree
        .iter()
        .filter_map(|(path, node)| match node {
            Node::Symlink { target } => Some((path.to_string(), target.clone())),
            Node::Dir { .. } | Node::Below { .. } | Node::File { .. } | Node::Hardlink { .. } => None,
        })
        .collect();
    let leads_to_file = |link: &str| {
        let below = TreePath::new(&format!("{link}/x")).ok().and_then(|below| place(&links, &below).ok());
        let end = below.and_then(|below| below.parents().last());
        end.is_some_and(|end| matches!(tree.get(&end), Some(Node::File { .. } | Node::Hardlink { .. })))
    };
    links.iter().filter(|(link, _)| !leads_to_file(link)).map(|(a, b)| (a.clone(), b.clone())).collect()
}

/// `path` with every link above it followed.
fn place(links: &BTreeMap<String, String>, path: &TreePath) -> Result<TreePath, EngineError> {
    let (above, name) = path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()));
    tree_path(&format!("{}/{name}", through(links, above)?))
}

/// `path` with every link followed, itself as well; none for the root.
fn end(links: &BTreeMap<String, String>, path: &TreePath) -> Result<Option<TreePath>, EngineError> {
    let real = through(links, path.as_str())?;
    if real.is_empty() { Ok(None) } else { tree_path(&real).map(Some) }
}

fn through(links: &BTreeMap<String, String>, path: &str) -> Result<String, EngineError> {
    let at = |at: &str| Some(links.get(at).map_or(Step::Other, |target| Step::Link(target.clone())));
    follow(path, at)
        .ok_or_else(|| EngineError::Usage(format!("/{path} goes in circles through links of the base")))
}

fn tree_path(text: &str) -> Result<TreePath, EngineError> {
    TreePath::new(text.trim_start_matches('/')).map_err(|error| EngineError::Usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::Content;

    fn lower() -> Lower {
        let pair = |(a, b): (&str, &str)| (a.to_owned(), b.to_owned());
        let mut lower = Lower::default();
        lower.add(&LayerExtra {
            passages: [
                ("bin", "usr/bin"),
                ("var/run", "/run"),
                ("var/spool/mail", "../mail"),
                ("a", "b"),
                ("b", "a"),
                ("up", "/"),
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
        // A link that a directory is there through stays a link.
        let run = settled("var/run", Node::Dir { mode: 0o755 });
        assert_eq!(run, [("run".to_owned(), Some(0o755))]);
        assert_eq!(settled("up", Node::Dir { mode: 0o755 }), []);
    }

    #[test]
    fn what_a_base_has_is_left_as_it_is() {
        let mut lower = Lower::default();
        let directory = |path: &str, mode, owner| BaseDirectory { path: path.to_owned(), mode, owner };
        lower.add_base(&BasePaths {
            links: vec![("srv/app".to_owned(), "/home/ann".to_owned())],
            directories: vec![directory("home/ann", 0o755, (1000, 100)), directory("tmp", 0o1777, (0, 0))],
        });
        let mut settled = |path: &str| {
            let tree = Tree::from([(TreePath::new(path).unwrap(), Node::Dir { mode: 0o755 })]);
            format!("{:?}", lower.settle(tree).unwrap())
        };
        assert_eq!(
            settled("srv/app/x"),
            "{\"home/ann\": Below { mode: 493, owner: (1000, 100) }, \"home/ann/x\": Dir { mode: 493 }}"
        );
        assert_eq!(settled("home/ann"), "{\"home/ann\": Below { mode: 493, owner: (1000, 100) }}");
        assert_eq!(settled("tmp"), "{\"tmp\": Dir { mode: 1023 }}");
    }

    #[test]
    fn what_leads_to_a_file_is_no_passage() {
        let link = |target: &str| Node::Symlink { target: target.to_owned() };
        let file = || Node::File { mode: 0o644, content: Content::bytes(*b"x") };
        let tree: Tree = [
            ("bin", link("usr/bin")),
            ("usr/bin/sh", file()),
            ("usr/bin/dash", Node::Hardlink { target: TreePath::new("usr/bin/sh").unwrap() }),
            ("usr/bin/awk", link("/etc/alternatives/awk")),
            ("etc/alternatives/awk", link("/bin/sh")),
            ("etc/alternatives/pager", link("/bin/dash")),
            ("etc/rc", link("../usr/share/rc")),
            ("usr/share/rc/0", file()),
            ("var/run", link("/run")),
            ("usr/share/gone", link("nowhere")),
            ("up", link("/")),
            ("round", link("round")),
        ]
        .into_iter()
        .map(|(path, node)| (TreePath::new(path).unwrap(), node))
        .collect();
        let found: Vec<_> = passages(&tree).into_iter().map(|(path, _)| path).collect();
        assert_eq!(found, ["bin", "etc/rc", "round", "up", "usr/share/gone", "var/run"]);
    }

    proptest! {
        /// Any tree, and any path that does not lie below a file: the passages lead where all links do.
        #[test]
        fn passages_are_all_that_is_needed(
            nodes in prop::collection::btree_map("[ab](/[ab]){0,3}", "f|d|(\\.\\./|/)?[ab](/[ab]){0,2}", 1..12),
            path in "[ab](/[ab]){0,3}/x",
        ) {
            let node = |text: &str| match text {
                "f" => Node::File { mode: 0o644, content: Content::bytes(*b"x") },
                "d" => Node::Dir { mode: 0o755 },
                target => Node::Symlink { target: target.to_owned() },
            };
            // As in a composition: nothing lies below what is no directory.
            let is_dir = |path: &TreePath| nodes.get(path.as_str()).is_none_or(|text| text == "d");
            let tree: Tree = nodes
                .iter()
                .map(|(path, text)| (TreePath::new(path).unwrap(), node(text)))
                .filter(|(path, _)| path.parents().all(|parent| is_dir(&parent)))
                .collect();
            let link = |(path, node): (&TreePath, &Node)| match node {
                Node::Symlink { target } => Some((path.to_string(), target.clone())),
                _ => None,
            };
            let all: BTreeMap<_, _> = tree.iter().filter_map(link).collect();
            let few: BTreeMap<_, _> = passages(&tree).into_iter().collect();
            let path = TreePath::new(&path).unwrap();
            let (place, by_few) = (place(&all, &path).ok(), place(&few, &path).ok());
            let below_file = |place: &TreePath| {
                place.parents().any(|parent| matches!(tree.get(&parent), Some(Node::File { .. })))
            };
            prop_assert!(by_few == place || place.as_ref().is_some_and(below_file), "{place:?} {by_few:?} {tree:?}");
        }
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
