//! One repository, and whether it has a blob.

use url::Url;

use super::auth::Scopes;
use super::client::{Call, Registry};
use super::error::At;
use super::{Host, RegistryError};
use crate::digest::Digest;
use crate::http::{Head, Method};
use crate::oci::Reference;

/// A repository of a registry: blobs by digest, manifests by digest and by tag. Cheap to clone.
#[derive(Clone)]
pub struct Repository {
    pub(super) registry: Registry,
    pub(super) name: String,
}

impl Repository {
    pub(super) fn new(registry: Registry, name: &str) -> Result<Self, RegistryError> {
        // The grammar of references, of which this is the middle part.
        let valid = format!("registry.example/{name}")
            .parse::<Reference>()
            .is_ok_and(|reference| reference.repository() == name && reference.tag().is_none());
        match valid {
            true => Ok(Self { registry, name: name.to_owned() }),
            false => Err(RegistryError::Name {
                host: registry.host().clone(),
                name: super::error::printable(name),
            }),
        }
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub fn host(&self) -> &Host {
        self.registry.host()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the repository has this blob. One that is there with another size is an error: such a registry cannot be relied on.
    pub async fn exists(&self, digest: &Digest, size: u64) -> Result<bool, RegistryError> {
        let at = self.at(format!("look for blob {digest}"));
        let url = self.url(&at, &format!("blobs/{digest}")).await?;
        let reply = self.registry.send(Call::new(&at, Method::Head, &url, &self.pull()), 0).await?;
        match reply.head.status {
            404 => Ok(false),
            200 => {
                same_digest(&at, &reply.head, digest)?;
                match length(&reply.head) {
                    Some(announced) if announced != size => Err(RegistryError::protocol(
                        &at,
                        format!("it has {announced} bytes under that digest, which has {size}"),
                    )),
                    _ => Ok(true),
                }
            }
            _ => Err(reply.refused(&at)),
        }
    }

    pub(super) fn at(&self, asked: impl Into<String>) -> At {
        self.registry.at(&self.name, asked)
    }

    pub(super) async fn url(&self, at: &At, path: &str) -> Result<Url, RegistryError> {
        self.registry.url(at, &format!("{}/{path}", self.name)).await
    }

    pub(super) fn pull(&self) -> Scopes {
        Scopes::pull(&self.name)
    }

    pub(super) fn push(&self) -> Scopes {
        Scopes::push(&self.name)
    }
}

pub(super) fn length(head: &Head) -> Option<u64> {
    head.header("content-length")?.trim().parse().ok()
}

/// What a registry says that it stores must be what is meant. Digests of other algorithms say nothing to us.
pub(super) fn same_digest(at: &At, head: &Head, expected: &Digest) -> Result<(), RegistryError> {
    match head.header("docker-content-digest").and_then(|text| text.trim().parse::<Digest>().ok()) {
        Some(stored) if stored != *expected => {
            Err(RegistryError::protocol(at, format!("it names {stored} where {expected} is meant")))
        }
        _ => Ok(()),
    }
}
