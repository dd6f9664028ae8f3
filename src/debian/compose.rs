//! Exact .debs to file trees.

use std::sync::Arc;

use crate::blob::ReadAt;
use crate::lock::model::DebLock;
use crate::oci::Platform;
use crate::spec::model::Suite;
use crate::tree::Tree;

/// One .deb and the line of the lock that names it. Whoever hands out `file` has verified its digest.
pub struct DebInput<'a> {
    pub lock: &'a DebLock,
    pub file: Arc<dyn ReadAt>,
}

/// The layers' trees.
#[derive(Debug)]
pub struct Composition {
    /// A function of the debs of `DebLayer::Base` alone.
    pub base: Tree,
    /// What the debs of `DebLayer::Python` add.
    pub python: Tree,
    /// What a person may want to know.
    pub notes: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    #[error("not composed yet")]
    Unfinished,
}

pub fn compose(debs: &[DebInput<'_>], suite: Suite, platform: Platform) -> Result<Composition, ComposeError> {
    let _ = (debs, suite, platform);
    Err(ComposeError::Unfinished)
}
