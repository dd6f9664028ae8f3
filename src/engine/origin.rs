//! Whether an image of the store is the one that a spec means: whether a build of it has made it, from the lock that lies beside
//! it now. It is found out from records alone, in the time that it takes to read the lock. Files that were copied into the
//! image may have changed since; who wants to be sure of them builds.

use std::borrow::Cow;
use std::path::PathBuf;

use super::{EngineError, Project};
use crate::digest::Digest;
use crate::lock::{self, Drift, Lock};
use crate::store::{ImageRecord, MadeFrom};

/// What else an image of the store comes from.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtherOrigin {
    #[error("it was built from {0}")]
    OtherSpec(String),
    #[error("it was not built here: it was pulled")]
    Pulled,
    #[error("there is no lock {path} that it could have been built from", path = .0.display())]
    NoLock(PathBuf),
    #[error("{path} does not satisfy the spec any more", path = .0.display())]
    Drift(PathBuf, Vec<Drift>),
    #[error("{path} is another lock than the one that it was built from", path = .0.display())]
    OtherLock(PathBuf),
    #[error("{path} has changed since it was built", path = .0.display())]
    Edited(PathBuf),
}

impl Project {
    /// What a build of this project from `lock` reads.
    pub(super) fn made_from(&self, lock: &Lock) -> MadeFrom {
        // Seals change no image.
        let unsealed = match lock.seals.is_empty() {
            true => Cow::Borrowed(lock),
            false => Cow::Owned(Lock { seals: Vec::new(), ..lock.clone() }),
        };
        MadeFrom { spec: Digest::of(&self.text), lock: Digest::of(lock::write(&unsealed)) }
    }

    /// The spec's path, whatever the working directory.
    pub(super) fn whole_path(&self) -> Option<String> {
        self.spec_path.canonicalize().ok().map(|path| path.display().to_string())
    }

    /// An error if the image of the store is not, or is no more, that of this project.
    pub fn check_origin(&self, image: &ImageRecord) -> Result<(), EngineError> {
        let Some(source) = self.other_origin(image)? else { return Ok(()) };
        Err(EngineError::NotOfSpec {
            image: image.reference.clone(),
            spec: self.spec_path.clone(),
            source: Box::new(source),
        })
    }

    fn other_origin(&self, image: &ImageRecord) -> Result<Option<OtherOrigin>, EngineError> {
        match &image.spec {
            None => return Ok(Some(OtherOrigin::Pulled)),
            Some(spec) if self.whole_path().is_some_and(|own| own != *spec) => {
                return Ok(Some(OtherOrigin::OtherSpec(spec.clone())));
            }
            Some(_) => {}
        }
        let Some((lock, _)) = self.read_lock()? else {
            return Ok(Some(OtherOrigin::NoLock(self.lock_path())));
        };
        let drift = lock::drift(&lock.inputs, &self.inputs());
        if !drift.is_empty() {
            return Ok(Some(OtherOrigin::Drift(self.lock_path(), drift)));
        }
        let now = self.made_from(&lock);
        Ok(match image.made_from {
            Some(then) if then.lock != now.lock => Some(OtherOrigin::OtherLock(self.lock_path())),
            Some(then) if then.spec != now.spec => Some(OtherOrigin::Edited(self.spec_path.clone())),
            _ => None,
        })
    }

    /// What to tell whoever pushes an image of these platforms under `names`, if the spec has more; each as a platform prints
    /// itself.
    pub fn left_out(&self, platforms: &[String], names: &str) -> Option<String> {
        let all = self.spec.image.platforms.iter().map(ToString::to_string);
        let missing: Vec<_> = all.filter(|platform| !platforms.contains(platform)).collect();
        let only = platforms.join(", ");
        let missing = (!missing.is_empty()).then(|| missing.join(", "))?;
        Some(format!("{names} is pushed for {only} alone, without {missing} of the spec"))
    }
}
