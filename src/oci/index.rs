//! The index: images for several platforms under one digest, and the entry document of an OCI layout.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Descriptor, DocumentError, MediaType, parse};

/// OCI image index (image specification, "image-index.md"); Docker's manifest list reads the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageIndex {
    pub schema_version: u32,
    /// May be absent in what others write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<MediaType>,
    pub manifests: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// How deep indexes may lie in indexes.
pub const DEEPEST: usize = 4;

impl ImageIndex {
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        let media_type = Some(MediaType::Index);
        Self { schema_version: 2, media_type, manifests, annotations: BTreeMap::new() }
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        parse("the image index", bytes)
    }
}
