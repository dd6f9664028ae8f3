//! Layers of the user's files: one for each `[[copy]]`, read anew in each build, encoded only when something changed.

use std::fmt::Write as _;
use std::io;

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::build::BuiltLayer;
use super::cancel::CancellableReader;
use super::form::LayerExtra;
use super::lower::Lower;
use super::{Cancel, Engine, EngineError, Event, Phase, Project};
use crate::blob::RangeReader;
use crate::context;
use crate::digest::{Digest, hash_reader};
use crate::epoch::Epoch;
use crate::export::Target;
use crate::layer::key::KeyBuilder;
use crate::plan::LayerKind;
use crate::store::LayerFacts;
use crate::tree::{Content, Node, Tree, TreePath};

/// Below this number of files one thread reads them faster than several are woken up.
const PARALLEL_FILES: usize = 64;

/// A layer of user files.
#[derive(Clone)]
pub(super) struct FilesLayer {
    pub title: String,
    pub contents: Vec<String>,
    pub facts: LayerFacts,
    pub reused: bool,
}

impl FilesLayer {
    pub(super) fn built(&self) -> BuiltLayer {
        BuiltLayer::new(LayerKind::Files, self.title.clone(), self.contents.clone(), &self.facts, self.reused)
    }
}

impl Engine {
    /// The layers of user files, above each of `lowers`: what lies below decides where files go.
    pub(super) fn files_layers(
        &self,
        project: &Project,
        epoch: Epoch,
        lowers: &[Lower],
        targets: &[Target],
    ) -> Result<Vec<Vec<FilesLayer>>, EngineError> {
        let spec = &project.spec;
        let workdir = spec.image.workdir.as_deref().filter(|workdir| *workdir != "/");
        if spec.copies.is_empty() && workdir.is_none() {
            return Ok(vec![Vec::new(); lowers.len()]);
        }
        self.reporter.event(Event::Phase(Phase::Files));
        // What mlbuild itself writes is no part of what it is made from.
        let mut own = vec![project.lock_path()];
        own.extend(targets.iter().map(|target| target.path.clone()));
        let trees = context::collect(&project.directory, &spec.copies, &own)?;
        let titled = spec
            .copies
            .iter()
            .zip(trees)
            .map(|(copy, tree)| ((format!("{} -> {}", copy.from, copy.to), vec![copy.to.clone()]), tree));
        let mut trees: Vec<_> = titled.filter(|(_, tree)| !tree.is_empty()).collect();
        if let Some(workdir) = workdir.and_then(|workdir| TreePath::from_absolute(workdir).ok()) {
            let below = format!("{workdir}/");
            let has_it = |tree: &Tree| tree.keys().any(|path| path.as_str().starts_with(&below));
            if !trees.iter().any(|(_, tree)| has_it(tree)) {
                let titles = (format!("work directory /{workdir}"), vec![format!("/{workdir}")]);
                trees.push((titles, Tree::from([(workdir, Node::Dir { mode: 0o755 })])));
            }
        }
        let mut all: Vec<Vec<FilesLayer>> = Vec::new();
        for (at, lower) in lowers.iter().enumerate() {
            // Most platforms have the same below, and then the same above.
            if let Some(same) = lowers[..at].iter().position(|before| before == lower) {
                all.push(all[same].clone());
                continue;
            }
            let mut settling = lower.clone();
            let layers = trees.iter().map(|((title, contents), tree)| {
                let tree = settling.settle(tree.clone())?;
                self.files_layer(title, contents.clone(), &tree, epoch)
            });
            all.push(layers.collect::<Result<_, _>>()?);
        }
        Ok(all)
    }

    fn files_layer(
        &self,
        title: &str,
        contents: Vec<String>,
        tree: &Tree,
        epoch: Epoch,
    ) -> Result<FilesLayer, EngineError> {
        let mut key = KeyBuilder::new("files").field("epoch", epoch.0);
        for (path, text) in self.say(tree)? {
            key = key.field("path", path).field("node", text);
        }
        let key = key.finish();
        // One that an older program wrote in another form is made again.
        let usable = |facts: &LayerFacts| self.store.has(&facts.digest) && LayerExtra::parse(facts).is_ok();
        let known = self.store.formed_layer(&key)?.filter(usable);
        let reused = known.is_some();
        let facts = match known {
            Some(facts) => facts,
            None => {
                let facts = self.pool()?.install(|| self.encode(epoch, &key, title, tree, Vec::new()))?;
                self.reporter.event(Event::LayerMade { title: title.to_owned(), bytes: facts.size });
                facts
            }
        };
        Ok(FilesLayer { title: title.to_owned(), contents, facts, reused })
    }

    /// One line for each node that says all that the layer will say of it, the content by digest.
    fn say<'a>(&self, tree: &'a Tree) -> Result<Vec<(&'a TreePath, String)>, EngineError> {
        let say = |(path, node): (&'a TreePath, &Node)| {
            let text = say_node(node, &self.cancel)
                .map_err(|source| EngineError::Read { path: path.as_str().into(), source })?;
            Ok((path, text))
        };
        if tree.len() < PARALLEL_FILES {
            return tree.iter().map(say).collect();
        }
        let nodes: Vec<_> = tree.iter().collect();
        self.pool()?.install(|| nodes.par_iter().map(|&node| say(node)).collect())
    }
}

fn say_node(node: &Node, cancel: &Cancel) -> io::Result<String> {
    let mut text = String::new();
    let written = match node {
        Node::Dir { mode } => write!(text, "dir {mode:o}"),
        Node::Below { mode, owner: (uid, gid) } => write!(text, "below {mode:o} {uid}:{gid}"),
        Node::File { mode, content } => write!(text, "file {mode:o} {}", content_digest(content, cancel)?),
        Node::Symlink { target } => write!(text, "symlink {target}"),
        Node::Hardlink { target } => write!(text, "hardlink {target}"),
    };
    written.expect("writing to a string does not fail");
    Ok(text)
}

fn content_digest(content: &Content, cancel: &Cancel) -> io::Result<Digest> {
    match content {
        Content::Bytes(bytes) => Ok(Digest::of(bytes)),
        Content::Slice { from, offset, size } => {
            let inner = RangeReader::new(&**from, *offset, *size);
            hash_reader(CancellableReader { inner, cancel: cancel.clone() }).map(|(digest, _)| digest)
        }
        Content::Stored { .. } | Content::Deflated { .. } => {
            Err(io::Error::other("user files are never parts of a wheel"))
        }
    }
}
