//! Reading a repository through its mirrors.
//!
//! What has a digest is asked of the mirrors in their order, then of the registry itself. It counts by its digest alone, so a
//! mirror can withhold it but not change it. A mirror is a registry of its own, with its own settings and its own credential:
//! it never sees that of the registry it stands for. Whatever fails with it is passed over, and it is not asked again.
//!
//! **What a tag means is the registry's to say.** Mirrors are asked for a tag only where the registry itself cannot be reached
//! or is too busy; then the first that has it is believed. containers-registries.conf(5) believes mirrors first, unless they
//! are `digest-only`; but there a reviewed lock does not pin what the tag meant.
//!
//! Nothing is ever written to a mirror: this type cannot.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Manifest, ManifestName, RegistryError, Repository};
use crate::digest::Digest;
use crate::oci::Descriptor;

/// A repository and its mirrors, for reading. Clones share what they know of the mirrors.
#[derive(Clone)]
pub struct Mirrored {
    home: Repository,
    mirrors: Arc<[Mirror]>,
}

struct Mirror {
    repository: Repository,
    /// It has failed, and is not asked any more.
    away: AtomicBool,
}

impl Mirrored {
    pub fn new(home: Repository, mirrors: Vec<Repository>) -> Self {
        let mirror = |repository| Mirror { repository, away: AtomicBool::new(false) };
        Self { home, mirrors: mirrors.into_iter().map(mirror).collect() }
    }

    /// The registry's own.
    pub fn home(&self) -> &Repository {
        &self.home
    }

    /// Where a blob is looked for, in this order.
    pub fn repositories(&self) -> Vec<Repository> {
        let mirrors = self.mirrors.iter().filter(|mirror| !mirror.away.load(Ordering::Relaxed));
        mirrors.map(|mirror| &mirror.repository).chain([&self.home]).cloned().collect()
    }

    /// A mirror has failed and is not asked again; whether that is news. The registry itself is always asked.
    pub fn pass_over(&self, failed: &Repository) -> bool {
        let same = |mirror: &&Mirror| {
            (mirror.repository.host(), mirror.repository.name()) == (failed.host(), failed.name())
        };
        self.mirrors.iter().find(same).is_some_and(|mirror| !mirror.away.swap(true, Ordering::Relaxed))
    }

    /// As [`Repository::manifest`].
    pub async fn manifest(&self, name: &ManifestName) -> Result<Option<Manifest>, RegistryError> {
        let digest = match name {
            ManifestName::Digest(_) => name.clone(),
            ManifestName::Tag(_) if self.mirrors.is_empty() => return self.home.manifest(name).await,
            ManifestName::Tag(_) => match self.home.head_manifest(name).await {
                Ok(Some(meant)) => meant.digest.into(),
                Ok(None) => return Ok(None),
                Err(error) if is_out_of_reach(&error) => {
                    let found = self.of_mirrors(async |mirror| mirror.manifest(name).await).await;
                    return found.map(Some).ok_or(error);
                }
                Err(error) => return Err(error),
            },
        };
        match self.of_mirrors(async |mirror| mirror.manifest(&digest).await).await {
            Some(manifest) => Ok(Some(manifest)),
            None => self.home.manifest(&digest).await,
        }
    }

    /// As [`Repository::head_manifest`].
    pub async fn head_manifest(&self, name: &ManifestName) -> Result<Option<Descriptor>, RegistryError> {
        match self.home.head_manifest(name).await {
            Err(error) if is_out_of_reach(&error) => {
                let found = self.of_mirrors(async |mirror| mirror.head_manifest(name).await).await;
                found.map(Some).ok_or(error)
            }
            answer => answer,
        }
    }

    /// As [`Repository::small_blob`].
    pub async fn small_blob(&self, digest: Digest, size: u64) -> Result<Vec<u8>, RegistryError> {
        let read = async |mirror: &Repository| match mirror.small_blob(digest, size).await {
            Err(RegistryError::Refused { status: 404, .. }) => Ok(None),
            answer => answer.map(Some),
        };
        match self.of_mirrors(read).await {
            Some(bytes) => Ok(bytes),
            None => self.home.small_blob(digest, size).await,
        }
    }

    /// As [`Repository::tags`]: those of the registry itself, where it can be reached.
    pub async fn tags(&self) -> Result<Vec<String>, RegistryError> {
        match self.home.tags().await {
            Err(error) if is_out_of_reach(&error) => {
                let listed = async |mirror: &Repository| mirror.tags().await.map(Some);
                self.of_mirrors(listed).await.ok_or(error)
            }
            answer => answer,
        }
    }

    /// The answer of the first mirror that has one.
    async fn of_mirrors<T>(
        &self,
        ask: impl AsyncFn(&Repository) -> Result<Option<T>, RegistryError>,
    ) -> Option<T> {
        for mirror in self.mirrors.iter() {
            if mirror.away.load(Ordering::Relaxed) {
                continue;
            }
            match ask(&mirror.repository).await {
                Ok(Some(answer)) => return Some(answer),
                Ok(None) => {}
                Err(_) => mirror.away.store(true, Ordering::Relaxed),
            }
        }
        None
    }
}

/// The registry has said nothing of what it was asked.
fn is_out_of_reach(error: &RegistryError) -> bool {
    match error {
        RegistryError::Http { source, .. } => !source.is_foul(),
        RegistryError::Refused { status, .. } => matches!(status, 429 | 500..),
        _ => false,
    }
}
