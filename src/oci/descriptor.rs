//! Descriptors: what a document says about a blob that it points to.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::{MediaType, Platform};
use crate::digest::Digest;

/// OCI content descriptor (image specification, "descriptor.md").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    pub media_type: MediaType,
    pub digest: Digest,
    /// In bytes, at most [`MAX_SIZE`].
    #[serde(deserialize_with = "size")]
    pub size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Only in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformObject>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<MediaType>,
}

/// The largest blob that a document may promise, in bytes (1 TiB): sums of sizes then do not overflow.
pub const MAX_SIZE: u64 = 1 << 40;

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let size = u64::deserialize(deserializer)?;
    match size <= MAX_SIZE {
        true => Ok(size),
        false => Err(D::Error::custom(format_args!("a size of {size} bytes, more than {MAX_SIZE}"))),
    }
}

impl Descriptor {
    /// A descriptor without annotations and platform.
    pub const fn new(media_type: MediaType, digest: Digest, size: u64) -> Self {
        Self { media_type, digest, size, annotations: BTreeMap::new(), platform: None, artifact_type: None }
    }

    /// The descriptor of `bytes`.
    pub fn of(media_type: MediaType, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// The annotation under `key`.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(String::as_str)
    }
}

/// A platform as an index writes it; it may be one that we do not make images for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlatformObject {
    pub architecture: String,
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
}

impl PlatformObject {
    /// The platform of ours that this is: its variant is absent or the usual one.
    pub fn known(&self) -> Option<Platform> {
        Platform::ALL.into_iter().find(|platform| {
            self.os == platform.os()
                && self.architecture == platform.architecture()
                && (self.variant.is_none() || self.variant.as_deref() == platform.variant())
        })
    }
}

impl From<Platform> for PlatformObject {
    fn from(platform: Platform) -> Self {
        Self {
            architecture: platform.architecture().to_owned(),
            os: platform.os().to_owned(),
            variant: platform.variant().map(str::to_owned),
            os_version: None,
            os_features: Vec::new(),
        }
    }
}

impl std::fmt::Display for PlatformObject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if self.known().is_none() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}
