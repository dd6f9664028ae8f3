//! Whether the lock says of its base what the base's own documents and layers say.
//!
//! What a lock was given to hold (which layers, which C library, which interpreter, where links lead) decides what a build makes
//! and where it puts files, so that a lock that somebody has edited is to be told from one that `mlbuild lock` wrote.

use super::base::BaseName;
use super::{Engine, EngineError, Project};
use crate::base::{BaseError, Root, manifest};
use crate::lock::Lock;
use crate::lock::model::BaseLock;
use crate::spec::model::PythonProvider;

/// What may be brought for a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bring {
    /// Nothing: what is here is compared.
    Nothing,
    /// The documents.
    Documents,
    /// The documents, and all layers if the lock has something of what is in them.
    All,
}

impl Engine {
    /// Compares the lock with the bases it names, as far as they are here or may be brought.
    pub fn prove_bases(&self, project: &Project, lock: &Lock) -> Result<(), EngineError> {
        self.or_cancelled(self.check_bases(project, lock, Bring::Nothing))
    }

    pub(super) fn check_bases(
        &self,
        project: &Project,
        lock: &Lock,
        bring: Bring,
    ) -> Result<(), EngineError> {
        let Some(name) = BaseName::of(&lock.inputs)? else { return Ok(()) };
        for base in &lock.bases {
            let documents = match self.stored_documents(base)? {
                None if bring != Bring::Nothing => Some(self.base_documents(&name, base)?),
                stored => stored,
            };
            let Some((manifest, config)) = documents else { continue };
            manifest::check(base, &manifest, &config).map_err(name.failed())?;
            let of_base = lock.inputs.python_provider == Some(PythonProvider::Base);
            let said = base.glibc.is_some() || base.paths.is_some() || of_base;
            let root = match bring {
                Bring::All if said => Some(self.look(&name, base)?),
                _ => self.known_root(base)?,
            };
            let Some(root) = root.filter(|_| said) else { continue };
            if let Some(what) = self.otherwise(project, lock, &name, base, &root)? {
                let (platform, manifest) = (base.platform, base.manifest);
                return Err(name.failed()(BaseError::Differs { what, platform, manifest }));
            }
        }
        Ok(())
    }

    /// What the lock says of the base otherwise than its layers do.
    fn otherwise(
        &self,
        project: &Project,
        lock: &Lock,
        name: &BaseName,
        base: &BaseLock,
        root: &Root,
    ) -> Result<Option<&'static str>, EngineError> {
        if base.paths.is_some() && base.paths != root.paths() {
            return Ok(Some("account of links and directories"));
        }
        if base.glibc.is_some() {
            let (major, minor) = root.glibc(base.platform).map_err(name.failed())?;
            if base.glibc() != Some((major, minor)) {
                return Ok(Some("version of glibc"));
            }
        }
        if lock.inputs.python_provider == Some(PythonProvider::Base) && project.spec.python.is_some() {
            let found = self.find_python(project, name, base, root)?;
            if lock.python.as_ref() != Some(&found) {
                return Ok(Some("Python"));
            }
        }
        Ok(None)
    }
}
