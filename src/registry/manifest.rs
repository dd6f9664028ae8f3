//! Manifests and indexes, by digest and by tag.

use std::fmt;

use serde::Deserialize;

use super::client::Call;
use super::error::At;
use super::repository::{length, same_digest};
use super::{RegistryError, Repository};
use crate::digest::{Digest, Mismatch};
use crate::http::{Head, Method};
use crate::oci::{Descriptor, MAX_DOCUMENT, MediaType, Reference};

/// What is understood, OCI's own first.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// By which name a manifest is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestName {
    Tag(String),
    Digest(Digest),
}

impl fmt::Display for ManifestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => f.write_str(tag),
            Self::Digest(digest) => write!(f, "{digest}"),
        }
    }
}

impl From<Digest> for ManifestName {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

/// By its digest, if the reference has one, and by its tag or `latest` otherwise.
impl From<&Reference> for ManifestName {
    fn from(reference: &Reference) -> Self {
        match reference.digest() {
            Some(digest) => Self::Digest(digest),
            None => Self::Tag(reference.tag_or_default().to_owned()),
        }
    }
}

/// A manifest or an index as the registry stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub media_type: MediaType,
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

impl Repository {
    /// The manifest or index of that name, verified; none if there is none.
    pub async fn manifest(&self, name: &ManifestName) -> Result<Option<Manifest>, RegistryError> {
        let at = self.at(format!("read manifest {name}"));
        let url = self.url(&at, &format!("manifests/{name}")).await?;
        let scopes = self.pull();
        let call = Call { headers: &[("accept", ACCEPT)], ..Call::new(&at, Method::Get, &url, &scopes) };
        let reply = self.registry.send(call, MAX_DOCUMENT as u64).await?;
        match reply.head.status {
            200 => {}
            404 => return Ok(None),
            _ => return Err(reply.refused(&at)),
        }
        let digest = Digest::of(&reply.bytes);
        let promised = match name {
            ManifestName::Digest(digest) => Some(*digest),
            ManifestName::Tag(_) => stored(&reply.head),
        };
        if let Some(expected) = promised.filter(|promised| *promised != digest) {
            let size = reply.bytes.len() as u64;
            let source = Mismatch { expected, expected_size: size, actual: digest, actual_size: size };
            return Err(RegistryError::Integrity { at, source: Box::new(source) });
        }
        let media_type = media_type(&at, &reply.head, &reply.bytes)?;
        Ok(Some(Manifest { media_type, digest, bytes: reply.bytes }))
    }

    /// What the name stands for, without its bytes; none if there is none. Registries that do not say it in a header are asked
    /// for the manifest.
    pub async fn head_manifest(&self, name: &ManifestName) -> Result<Option<Descriptor>, RegistryError> {
        let at = self.at(format!("look for manifest {name}"));
        let url = self.url(&at, &format!("manifests/{name}")).await?;
        let scopes = self.pull();
        let call = Call { headers: &[("accept", ACCEPT)], ..Call::new(&at, Method::Head, &url, &scopes) };
        let reply = self.registry.send(call, 0).await?;
        match reply.head.status {
            200 => {}
            404 => return Ok(None),
            _ => return Err(reply.refused(&at)),
        }
        if let ManifestName::Digest(digest) = name {
            same_digest(&at, &reply.head, digest)?;
        }
        let digest = match name {
            ManifestName::Digest(digest) => Some(*digest),
            ManifestName::Tag(_) => stored(&reply.head),
        };
        match (digest, declared(&reply.head), length(&reply.head)) {
            (Some(digest), Some(media_type), Some(size)) if size > 0 => {
                Ok(Some(Descriptor::new(media_type, digest, size)))
            }
            _ => {
                let whole = self.manifest(name).await?;
                Ok(whole.map(|manifest| {
                    Descriptor::new(manifest.media_type, manifest.digest, manifest.bytes.len() as u64)
                }))
            }
        }
    }

    /// Stores a manifest or an index, whose blobs and manifests are there already. Whether the registry has noted its `subject`
    /// (`OCI-Subject`): where it has not, the fallback tag is the caller's to write. More than [`MAX_DOCUMENT`] bytes are refused
    /// before they are sent.
    pub async fn put_manifest(
        &self,
        name: &ManifestName,
        media_type: &MediaType,
        bytes: &[u8],
    ) -> Result<bool, RegistryError> {
        let at = self.at(format!("write manifest {name}"));
        if bytes.len() > MAX_DOCUMENT {
            // Registries answer this with whatever status, some of them once they have read all of it.
            return Err(RegistryError::TooLarge { at, size: bytes.len() as u64, limit: MAX_DOCUMENT as u64 });
        }
        let url = self.url(&at, &format!("manifests/{name}")).await?;
        let scopes = self.push();
        let body = Some((media_type.as_str(), bytes));
        let reply =
            self.registry.send(Call { body, ..Call::new(&at, Method::Put, &url, &scopes) }, 64 << 10).await?;
        match reply.head.status {
            200..=299 => {}
            _ => return Err(reply.refused(&at)),
        }
        same_digest(&at, &reply.head, &Digest::of(bytes))?;
        Ok(reply.head.header("oci-subject").is_some())
    }
}

/// What the registry says that the digest is.
fn stored(head: &Head) -> Option<Digest> {
    head.header("docker-content-digest")?.trim().parse().ok()
}

/// What the header says, if it says anything of use: proxies put `text/plain` and the like there.
pub(super) fn declared(head: &Head) -> Option<MediaType> {
    let text = head.header("content-type")?.split(';').next()?.trim();
    let media_type = MediaType::from(text);
    (media_type.is_manifest() || media_type.is_index() || text.starts_with("application/vnd."))
        .then_some(media_type)
}

/// One document, one type: a header and a text that differ could be read as either (CVE-2021-41190).
fn media_type(at: &At, head: &Head, bytes: &[u8]) -> Result<MediaType, RegistryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Written {
        media_type: Option<MediaType>,
    }
    let written: Written = serde_json::from_slice(bytes)
        .map_err(|error| RegistryError::protocol(at, format!("it is no manifest: {error}")))?;
    match (declared(head), written.media_type) {
        (Some(declared), Some(written)) if declared != written => Err(RegistryError::protocol(
            at,
            format!(
                "it is a {} by its header and a {} by its text",
                super::error::printable(declared.as_str()),
                super::error::printable(written.as_str())
            ),
        )),
        (Some(media_type), _) | (None, Some(media_type)) => Ok(media_type),
        (None, None) => Err(RegistryError::protocol(at, "neither its header nor its text says what it is")),
    }
}
